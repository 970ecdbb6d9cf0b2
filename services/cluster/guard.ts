/** Whether a group could go on without a node. */
import type { Configuration } from '../../raft/index.ts'
import { nameOfMember } from './cluster-file.ts'

export interface RemovalRefusal {
  readonly message: string
  /** Not even force makes it right: nobody would be left. */
  readonly isFinal: boolean
}

/** Why `name` should not be taken out of a group. @param alive members that this node can reach, itself among them */
export function removalRefusal({ voters }: Configuration, name: string, alive: ReadonlySet<string>): RemovalRefusal | undefined {
  const left = voters.filter((id) => nameOfMember(id) !== name)
  if (left.length === voters.length) return undefined
  if (left.length === 0) return { message: `${name} is its last voter: nobody would be left`, isFinal: true }
  const up = left.filter((id) => alive.has(id))
  const needed = Math.floor(left.length / 2) + 1
  if (up.length >= needed) return undefined
  const down = left.filter((id) => !alive.has(id)).map(nameOfMember)
  const message = `without ${name} it has ${left.length} voters and needs ${needed} of them, but ${down.join(', ')} cannot be reached: --force removes it all the same`
  return { message, isFinal: false }
}
