/**
 * A union of file servers as a file server of its own: a namespace in which the members are mounted at '/' one behind the
 * other. All rules of unions are the namespace's (choose.ts, listing.ts, watching.ts).
 */
import { emptyServer } from '../empty-server.ts'
import { NineError } from '../errors.ts'
import type { FileServer } from '../file-server.ts'
import { MountTable } from '../mount-table.ts'
import type { Member } from '../mount-table.ts'
import { Namespace } from '../namespace.ts'
import { rootPath } from '../path.ts'

export interface UnionMember {
  readonly server: FileServer
  /** New names may be made in it; they are made in the first member that says so. Default false. */
  readonly create?: boolean | undefined
}

/**
 * The first member that has a name has it; a listing shows all names once.
 * @throws NineError `invalid` without members, `too_large` past limits.union_members_max
 */
export function unionServer(members: readonly UnionMember[]): FileServer {
  if (members.length === 0) throw new NineError({ kind: 'invalid', op: 'union.make', message: 'a union has a member' })
  const root = emptyServer()
  const covering = members.map(({ server, create = false }, i): Member => {
    const entry = {
      verb: 'mount',
      source: `member ${i + 1}`,
      at: rootPath,
      order: i === 0 ? 'replace' : 'after',
      create,
      number: i + 1,
    } as const
    return { server, path: rootPath, create, original: false, entry }
  })
  return new Namespace(new MountTable(root).mount({ server: root, path: rootPath }, covering, 'replace'))
}
