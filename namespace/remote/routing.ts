/**
 * Which node a request goes to, as a function of the request and of what nodes tell of their cluster.
 *
 * G1 Only what is found in a store that all nodes have, at one path, may go to another node than the session's home: all else is the
 *    home's own, and so are handles, leases, locks and watches.
 * G2 Of two nodes that name different leaders, the one that knows of the later term is right.
 */
import { frameType } from '../../proto/frames.ts'
import type { ReadOptions, TxnCondition, TxnOperation } from '../file-server.ts'
import type { Path } from '../path.ts'
import type { ClusterState } from '../wire/session.ts'

/** What any node can serve alike: `write` goes to whoever leads, `read` to whoever may. */
export type RouteKind = 'write' | 'read'

const kinds: readonly (RouteKind | undefined)[] = kindsByType()

function kindsByType(): (RouteKind | undefined)[] {
  const { stat, list, read, readlink, getRights, write, create, mkdir, symlink, remove, rename, setStat, txn, setRights } = frameType
  const table = new Array<RouteKind | undefined>(0x80).fill(undefined)
  for (const type of [stat, list, read, readlink, getRights]) table[type] = 'read'
  for (const type of [write, create, mkdir, symlink, remove, rename, setStat, txn, setRights]) table[type] = 'write'
  return table
}

export function routeKind(type: number): RouteKind | undefined {
  return kinds[type]
}

/** Arguments of the operations that have a kind. */
interface RoutedArgs {
  readonly path?: Path
  readonly to?: Path
  readonly options?: ReadOptions
  readonly if?: readonly TxnCondition[]
  readonly then?: readonly TxnOperation[]
  readonly else?: readonly TxnOperation[]
}

export function isStale(args: unknown): boolean {
  return (args as RoutedArgs).options?.consistency === 'stale'
}

/** The place in `roots` of the one that all paths of a request stand in; -1 when there is none. G1 */
export function rootOf(roots: readonly Path[], args: unknown): number {
  const request = args as RoutedArgs
  if (request.path !== undefined) {
    const found = indexOf(roots, request.path)
    return request.to === undefined || found === indexOf(roots, request.to) ? found : -1
  }
  let found: number | undefined
  for (const part of [request.if ?? [], request.then ?? [], request.else ?? []]) {
    for (const { path, to } of part as readonly { readonly path: Path; readonly to?: Path }[]) {
      const at = indexOf(roots, path)
      if (at < 0 || (found !== undefined && at !== found) || (to !== undefined && indexOf(roots, to) !== at)) return -1
      found = at
    }
  }
  return found ?? -1
}

function indexOf(roots: readonly Path[], path: Path): number {
  for (let index = 0; index < roots.length; index++) {
    const root = roots[index]!
    if (path.startsWith(root) && (path.length === root.length || path.charCodeAt(root.length) === slash)) return index
  }
  return -1
}

const slash = 0x2f

/** Name of the node that leads what stands at `root`, of all that is told; '': nobody knows one. G2 */
export function leaderOf(root: Path, told: Iterable<ClusterState>): string {
  let leader = ''
  let latest = -1
  for (const { roots } of told) {
    const found = roots.find(({ path }) => path === root)
    if (found === undefined || found.leader === '' || found.term <= latest) continue
    leader = found.leader
    latest = found.term
  }
  return leader
}

/** Whether the node knows who leads all that its clients share. */
export function isReady(state: ClusterState): boolean {
  return state.roots.every(({ leader }) => leader !== '')
}
