/** Whether a group could go on without a node. */
import type { Configuration, MembershipChange, NodeId } from '../../raft/index.ts'
import { nameOfMember } from './cluster-file.ts'

export interface RemovalRefusal {
  readonly message: string
  /** Not even force makes it right: nobody would be left. */
  readonly isFinal: boolean
}

/**
 * Why `name` should not be taken out of a group.
 * @param alive members that this node can reach, itself among them
 * @param staying nodes that are members: a voter of another is on its way out already
 */
export function removalRefusal(
  { voters }: Configuration,
  name: string,
  alive: ReadonlySet<NodeId>,
  staying: ReadonlySet<string>,
): RemovalRefusal | undefined {
  if (!voters.some((id) => nameOfMember(id) === name)) return undefined
  const left = voters.filter((id) => nameOfMember(id) !== name && staying.has(nameOfMember(id)))
  if (left.length === 0) return { message: `${name} is its last voter: nobody would be left`, isFinal: true }
  const short = shortfall(left, alive)
  return short === undefined ? undefined : { message: `without ${name} ${short}: --force removes it all the same`, isFinal: false }
}

/** Why a step that takes voters out of a group should wait: most of those that it leads to cannot be reached. */
export function stepRefusal(
  { voters }: Configuration,
  changes: readonly MembershipChange[],
  alive: ReadonlySet<NodeId>,
): string | undefined {
  const taken = takenBy(changes)
  return voters.some((id) => taken.has(id)) ? shortfall(votersAfter(voters, changes), alive) : undefined
}

/** Who votes once these changes are made. */
export function votersAfter(voters: readonly NodeId[], changes: readonly MembershipChange[]): NodeId[] {
  const taken = takenBy(changes)
  const promoted = changes.filter((change) => change.do === 'promote').map(({ id }) => id)
  return [...voters.filter((id) => !taken.has(id)), ...promoted]
}

/** Those that vote no more after these changes, if they did. */
export function takenBy(changes: readonly MembershipChange[]): Set<NodeId> {
  return new Set(changes.filter((change) => change.do === 'remove' || change.do === 'demote').map(({ id }) => id))
}

function shortfall(voters: readonly NodeId[], alive: ReadonlySet<NodeId>): string | undefined {
  const needed = Math.floor(voters.length / 2) + 1
  const down = voters.filter((id) => !alive.has(id)).map(nameOfMember)
  if (voters.length - down.length >= needed) return undefined
  return `it has ${voters.length} voters and needs ${needed} of them, but ${down.join(', ')} cannot be reached`
}
