/**
 * The mount table: which channels of a namespace are covered by what. Pure and persistent: a change makes a new table
 * that shares all it did not touch, so forking a namespace is keeping a reference.
 *
 * A channel is (server, server's own path), what a qid is to Plan 9's kernel. Mounts are keyed by the channel they
 * cover, not by the name that led there, so a mount below a tree is seen through every name of that tree.
 *
 * Invariants:
 * M1 A table never changes. `walks` is a cache of what is computed from the table alone.
 * M2 The members of a head are final: a walk that enters one does not look for a mount at the member itself (as in
 *    Plan 9, where the original directory is a member of the union that covers it). Mounts below a member are looked up.
 * M3 Binds are static: what is bound was resolved when it was bound. A union that is bound is copied flat, so heads
 *    never nest and no chain of mounts has to be followed.
 * M4 A path that does not exist can be mounted on. Its missing directories then appear in walks and listings (unlike
 *    Plan 9, which needs a directory to mount on): a saved namespace file loads while a server it covers is away, and a
 *    node composes its root from mounts alone, without a store for the names in between.
 */
import { NineError } from './errors.ts'
import type { FileServer } from './file-server.ts'
import { limits } from './limits.ts'
import type { Path } from './path.ts'
import type { Walked } from './walk.ts'

export interface Channel {
  readonly server: FileServer
  /** The server's own path. */
  readonly path: Path
}

/** Where a new member goes among those that cover a channel. */
export type MountOrder = 'replace' | 'before' | 'after'

export interface Member extends Channel {
  /** Whether the union may create in it. Only asked where there are several members. */
  readonly create: boolean
  /** The covered directory itself, kept as a member by the first `before` or `after`. */
  readonly original: boolean
  /** What entries() tells of it. Members copied from one bound union share it. */
  readonly entry: MountEntry
}

/** One line of a namespace, as it was asked for. */
export interface MountEntry {
  readonly verb: 'mount' | 'bind'
  /** A source as the mounter named it, or the path that was bound. */
  readonly source: string
  readonly at: Path
  readonly order: MountOrder
  readonly create: boolean
  /** Order in which they were made; replaying them in this order makes the table again. */
  readonly number: number
}

/** What covers one channel: its members in the order of the union. Never empty. */
export interface Head {
  readonly members: readonly Member[]
}

/** A name on the way to mounts: one node for each component of each covered path of a server. */
export interface MountNode {
  readonly head: Head | undefined
  readonly children: ReadonlyMap<string, MountNode>
}

const bareNode: MountNode = { head: undefined, children: new Map() }

export class MountTable {
  /** The server at '/'. */
  readonly root: FileServer
  readonly #tries: ReadonlyMap<FileServer, MountNode>
  /** Members of all heads, originals not counted. */
  readonly size: number
  /** What paths resolve to in this table: at most limits.walk_cache_entries_max. */ // M1
  readonly walks = new Map<Path, Walked>()

  constructor(root: FileServer, tries: ReadonlyMap<FileServer, MountNode> = new Map(), size = 0) {
    this.root = root
    this.#tries = tries
    this.size = size
  }

  /** The node of a channel, undefined when nothing is mounted on or below it. */
  nodeAt(server: FileServer, path: Path): MountNode | undefined {
    let node = this.#tries.get(server)
    let at = 0
    while (node !== undefined && at < path.length && path.length > 1) {
      const next = nextSlash(path, at)
      node = node.children.get(path.slice(at + 1, next))
      at = next
    }
    return node
  }

  /** Every server that is mounted, the root first. */
  servers(): FileServer[] {
    const found = new Set<FileServer>([this.root])
    for (const trie of this.#tries.values()) forEachHead(trie, (head) => head.members.forEach((member) => found.add(member.server)))
    return [...found]
  }

  /** The lines that make this table, in order. */
  entries(): MountEntry[] {
    const found = new Map<number, MountEntry>()
    for (const trie of this.#tries.values()) forEachHead(trie, (head) => noteEntries(head, found))
    return [...found.values()].sort((a, b) => a.number - b.number)
  }

  /**
   * A table in which `members` cover `key` too, in place of what did or before or after it.
   * @throws NineError `too_large` past limits.mounts_max or limits.union_members_max
   */
  mount(key: Channel, members: readonly Member[], order: MountOrder): MountTable {
    const old = this.nodeAt(key.server, key.path)?.head?.members ?? [originalOf(key, members[0]!.entry)]
    const next = order === 'replace' ? members : order === 'before' ? [...members, ...old] : [...old, ...members]
    if (next.length > limits.union_members_max) {
      throw tooLarge(key.path, `a union has at most ${limits.union_members_max} members`)
    }
    const table = this.#with(key, { members: next })
    if (table.size > limits.mounts_max) throw tooLarge(key.path, `a namespace has at most ${limits.mounts_max} mounts and binds`)
    return table
  }

  /** A table in which the members of `key` that `isGone` names cover it no longer; undefined when there is none. */
  unmount(key: Channel, isGone: (member: Member) => boolean): MountTable | undefined {
    const head = this.nodeAt(key.server, key.path)?.head
    if (head === undefined) return undefined
    const left = head.members.filter((member) => member.original || !isGone(member))
    if (left.length === head.members.length) return undefined
    const isBare = left.every((member) => member.original)
    return this.#with(key, isBare ? undefined : { members: left })
  }

  #with(key: Channel, head: Head | undefined): MountTable {
    const trie = this.#tries.get(key.server) ?? bareNode
    const size = this.size - sizeOf(this.nodeAt(key.server, key.path)?.head) + sizeOf(head)
    const changed = replaceHead(trie, key.path === '/' ? '' : key.path, 0, head)
    const tries = new Map(this.#tries)
    if (changed === undefined) tries.delete(key.server)
    else tries.set(key.server, changed)
    return new MountTable(this.root, tries, size)
  }
}

/** Index of the first '/' after `from`, or the length of the path. */
export function nextSlash(path: string, from: number): number {
  const next = path.indexOf('/', from + 1)
  return next < 0 ? path.length : next
}

/** Heads at and below a node, each once, in no particular order. */
export function forEachHead(node: MountNode, visit: (head: Head) => void): void {
  if (node.head !== undefined) visit(node.head)
  for (const child of node.children.values()) forEachHead(child, visit)
}

/** Like any member it takes creates only when bound with create: bind it onto itself to say so (bind(1)). */
function originalOf(key: Channel, entry: MountEntry): Member {
  return { server: key.server, path: key.path, create: false, original: true, entry }
}

function noteEntries(head: Head, found: Map<number, MountEntry>): void {
  const made = head.members.filter((member) => !member.original)
  const first = made.reduce((a, b) => (b.entry.number < a.entry.number ? b : a))
  const hasOriginal = made.length < head.members.length
  for (const { entry } of made) {
    // What was there first may be gone: then the oldest member left takes its place.
    const isFirst = entry === first.entry && !hasOriginal && entry.order !== 'replace'
    if (!found.has(entry.number)) found.set(entry.number, isFirst ? { ...entry, order: 'replace' } : entry)
  }
}

function sizeOf(head: Head | undefined): number {
  let size = 0
  if (head !== undefined) for (const member of head.members) if (!member.original) size++
  return size
}

/** The trie with another head at `path`; undefined when nothing is left of it. Copies the nodes on the way only. */
function replaceHead(node: MountNode, path: string, at: number, head: Head | undefined): MountNode | undefined {
  let changed: MountNode
  if (at >= path.length) {
    changed = { head, children: node.children }
  } else {
    const next = nextSlash(path, at)
    const name = path.slice(at + 1, next)
    const child = replaceHead(node.children.get(name) ?? bareNode, path, next, head)
    const children = new Map(node.children)
    if (child === undefined) children.delete(name)
    else children.set(name, child)
    changed = { head: node.head, children }
  }
  return changed.head === undefined && changed.children.size === 0 ? undefined : changed
}

function tooLarge(path: Path, message: string): NineError {
  return new NineError({ kind: 'too_large', op: 'namespace.mount', path, message })
}
