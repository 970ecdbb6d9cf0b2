/**
 * Walking a path through a mount table: pure, no I/O, one step a component and none past the last mount.
 *
 * W1 A walk ends at a channel, or at a union when the path ends there or goes on below it: which member has the next
 *    name is I/O, so the namespace asks the members (choose.ts) and walks on from the one that has it.
 * W2 What a walk finds depends on the table and the path alone, so it is cached with the table. No cache holds what a
 *    member of a union answered.
 * W3 Walks end: members are final (mount-table M2), each step uses up a component. A bind that makes a path infinitely
 *    deep is only a problem to what descends by itself; findLoop tells it before it starts.
 */
import { NineError, toNineError } from './errors.ts'
import type { FileServer } from './file-server.ts'
import { limits } from './limits.ts'
import { nextSlash } from './mount-table.ts'
import type { Channel, Head, MountNode, MountTable } from './mount-table.ts'
import { baseName, isWithin, joinPath, relativePath } from './path.ts'
import type { Path } from './path.ts'

/** Where a path leads. */
export interface Walked {
  /** The server and its own path; where `union` is set, those of its first member. */
  readonly server: FileServer
  readonly path: Path
  /** The union the walk came to; then `at` is where in the caller's path the rest begins. */
  readonly union: Head | undefined
  readonly at: number
  /** The table's node of the channel when something is mounted below it. */
  readonly node: MountNode | undefined
  /** The path is a mount point itself (also '/', at which the root is mounted). */
  readonly isMountPoint: boolean
  /** The last crossing: the caller's path and the server's path that are the same place. */
  readonly outer: Path
  readonly inner: Path
  /** The name the caller used, where the server has another for it. */
  readonly name: string | undefined
  /** Rethrows a failure under the caller's path; undefined where paths are the same. */
  readonly reject: ((error: unknown) => never) | undefined
}

/** Where `path` leads in `table`. Cached. */ // W2
export function walk(table: MountTable, path: Path): Walked {
  const known = table.walks.get(path)
  if (known !== undefined) return known
  const walked = walkFromRoot(table, path)
  if (table.walks.size >= limits.walk_cache_entries_max) table.walks.clear()
  table.walks.set(path, walked)
  return walked
}

/** The same, but a mount on the last component is not crossed: the channel that a mount at `path` covers. */
export function walkToCovered(table: MountTable, path: Path): Walked {
  if (path === '/') return channelAt({ server: table.root, path }, path, 0, path.length)
  return walkFromRoot(table, path, true)
}

function walkFromRoot(table: MountTable, path: Path, stopBeforeLast = false): Walked {
  const head = table.nodeAt(table.root, '/' as Path)?.head
  if (head === undefined) return walkFrom(table, { server: table.root, path: '/' as Path }, path, 0, stopBeforeLast)
  if (head.members.length > 1) return atUnion(head, path, 0)
  return walkFrom(table, head.members[0]!, path, 0, stopBeforeLast)
}

/**
 * Go on from `from`, which is the caller's `path` up to index `at`. A mount at `from` itself is not looked for.
 */
export function walkFrom(table: MountTable, from: Channel, path: Path, at: number, stopBeforeLast = false): Walked {
  const end = path === '/' ? 0 : path.length
  let channel = from
  let crossed = at
  let node = table.nodeAt(from.server, from.path)
  while (at < end && node !== undefined) {
    const next = nextSlash(path, at)
    node = node.children.get(path.slice(at + 1, next))
    at = next
    const head = stopBeforeLast && at >= end ? undefined : node?.head
    if (head !== undefined) {
      if (head.members.length > 1) return atUnion(head, path, at) // W1
      channel = head.members[0]!
      crossed = at
      node = table.nodeAt(channel.server, channel.path)
    }
  }
  return channelAt(channel, path, crossed, end, node)
}

function channelAt(channel: Channel, path: Path, crossed: number, end: number, node?: MountNode): Walked {
  const rest = path.slice(crossed, end)
  const serverPath = rest === '' ? channel.path : joinPath(channel.path, rest as Path)
  const outer = crossed === 0 ? ('/' as Path) : (path.slice(0, crossed) as Path)
  const inner = channel.path
  const name = baseName(path)
  return {
    server: channel.server,
    path: serverPath,
    union: undefined,
    at: end,
    node: node !== undefined && node.children.size > 0 ? node : undefined,
    isMountPoint: crossed >= end,
    outer,
    inner,
    name: name === baseName(serverPath) ? undefined : name,
    reject: outer === inner ? undefined : rejectorOf(outer, inner),
  }
}

function atUnion(head: Head, path: Path, at: number): Walked {
  const first = head.members[0]!
  const outer = at === 0 ? ('/' as Path) : (path.slice(0, at) as Path)
  const isMountPoint = at >= (path === '/' ? 0 : path.length)
  const { server, path: inner } = first
  return { server, path: inner, union: head, at, node: undefined, isMountPoint, outer, inner, name: undefined, reject: undefined }
}

/** `path` of the server below `inner`, as the caller knows it; undefined when it stands elsewhere. */
export function toOuter(path: Path, outer: Path, inner: Path): Path | undefined {
  if (outer === inner) return path
  return isWithin(path, inner) ? joinPath(outer, relativePath(path, inner)) : undefined
}

/** The same failure under the caller's path. A path that is not below `inner` is not shown: the mount point is. */
export function outerError(error: unknown, outer: Path, inner: Path): NineError {
  const failure = toNineError(error, 'namespace.walk', inner)
  return failure.path === '' ? failure : failure.at(toOuter(failure.path as Path, outer, inner) ?? outer)
}

function rejectorOf(outer: Path, inner: Path): (error: unknown) => never {
  return (error) => {
    throw outerError(error, outer, inner)
  }
}

/** The channels a walk stands for: one, or the members of the union it ended at. */
export function channelsOf(walked: Walked): readonly Channel[] {
  return walked.union === undefined ? [walked] : walked.union.members
}

/**
 * The mount points that stand below a node, by path relative to it, in the order of a listing. What is covered by one of
 * them is not looked into.
 */
export function mountsBelow(node: MountNode): { readonly relative: string; readonly head: Head }[] {
  const found: { relative: string; head: Head }[] = []
  collect(node, '', found)
  return found
}

function collect(node: MountNode, prefix: string, found: { relative: string; head: Head }[]): void {
  for (const [name, child] of node.children) {
    if (child.head !== undefined) found.push({ relative: prefix + name, head: child.head })
    else collect(child, `${prefix}${name}/`, found)
  }
}

/**
 * Fails when something below `channels` is mounted in a way that makes the tree infinitely deep, so that what is about
 * to descend it would never end.
 * @throws NineError `loop`
 */
export function findLoop(table: MountTable, channels: readonly Channel[], path: Path): void {
  const state = new Map<Head, 'open' | 'done'>()
  const descend = (channel: Channel): void => {
    const node = table.nodeAt(channel.server, channel.path)
    if (node === undefined) return
    for (const { relative, head } of mountsBelow(node)) {
      if (state.get(head) === 'open') {
        const message = `${JSON.stringify(relative)} is mounted below itself: the tree has no end`
        throw new NineError({ kind: 'loop', op: 'namespace.walk', path, message })
      }
      if (state.has(head)) continue
      state.set(head, 'open')
      head.members.forEach(descend)
      state.set(head, 'done')
    }
  }
  channels.forEach(descend)
}
