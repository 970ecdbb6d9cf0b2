/**
 * The versioned tree of a memory server: nodes, the names that lead to them, and what both were before.
 *
 * T1 Every state of a node and every link of a name knows the revision it stands `since` and the one it superseded, so the
 *    tree as of a revision is found by following `before`. States and links never change once their revision is done.
 * T2 A name taken away stays as a link to nothing until history forgets it.
 * T3 Removing or moving a tree changes one link, whatever hangs below it.
 */
import { NineError } from '../errors.ts'
import type { Path } from '../path.ts'
import { compareNames } from '../path.ts'
import { everyRight, grantedBy, rightBit, type Principal, type RightsMask, type RightsRecord } from '../rights.ts'
import { qidTypeOf, type FileKind, type Micros, type Qid, type Stat } from '../stat.ts'

/** One state of a node. */
export interface NodeState {
  readonly since: number
  readonly version: number
  readonly revision: number
  readonly createdRevision: number
  readonly mode: number
  readonly owner: string
  readonly group: string
  readonly modifiedBy: string
  readonly createdAt: Micros
  readonly modifiedAt: Micros
  readonly contentType: string | undefined
  readonly lease: string | undefined
  readonly rights: RightsRecord | undefined
  /** Value of a file, target of a symlink. */
  readonly bytes: Uint8Array
  /** Cut when history forgets it. */
  before: NodeState | undefined
}

export type MemoryKind = Extract<FileKind, 'file' | 'directory' | 'symlink'>

/** A file's life. Found by name through its directory; `parent` and `name` are where it is, or was when it was removed. */
export interface Node {
  readonly ino: number
  readonly kind: MemoryKind
  readonly children: Children | undefined
  head: NodeState
  parent: Node | undefined
  name: string
  isRemoved: boolean
  /** No longer counted in the server's memory: removed, and forgotten by history. */
  isReleased: boolean
}

export interface Link {
  readonly since: number
  /** undefined: taken away (T2). */
  readonly node: Node | undefined
  before: Link | undefined
}

/** A name of a directory and what it leads to over time. */
export interface Slot {
  readonly name: string
  head: Link
  isGone: boolean
}

/** As `revision` of a read: the newest state. */
export const newest = Infinity

export const noBytes = new Uint8Array(0)

export const readBit = rightBit('read')
export const listBit = rightBit('list')
/** Either lets its holder see that something exists, and its Stat. */
export const seeBits = readBit | listBit

/** Names of one directory, by name and in order. */
export class Children {
  /** Names that lead somewhere now. */
  live = 0
  readonly #slots = new Map<string, Slot>()
  #order: Slot[] = []
  #isOrdered = true
  #gone = 0

  get(name: string): Slot | undefined {
    return this.#slots.get(name)
  }

  add(slot: Slot): void {
    const last = this.#order.at(-1)
    if (last !== undefined && compareNames(last.name, slot.name) > 0) this.#isOrdered = false
    this.#slots.set(slot.name, slot)
    this.#order.push(slot)
  }

  delete(slot: Slot): void {
    this.#slots.delete(slot.name)
    slot.isGone = true
    if (++this.#gone * 2 <= this.#order.length) return
    this.#order = this.#order.filter((kept) => !kept.isGone)
    this.#gone = 0
  }

  /** All slots in compareNames order, those gone included. The same array until a name is added. */
  ordered(): readonly Slot[] {
    if (!this.#isOrdered) {
      this.#order.sort((a, b) => compareNames(a.name, b.name))
      this.#isOrdered = true
    }
    return this.#order
  }

  /** Index of the first name after `name`, or not before it when `inclusive`. */
  indexAfter(name: string, inclusive: boolean): number {
    const order = this.ordered()
    let low = 0
    let high = order.length
    while (low < high) {
      const middle = (low + high) >> 1
      const compared = compareNames(order[middle]!.name, name)
      if (compared < 0 || (compared === 0 && !inclusive)) low = middle + 1
      else high = middle
    }
    return low
  }

  slots(): IterableIterator<Slot> {
    return this.#slots.values()
  }
}

/** What a slot led to at `revision`. */
export function nodeAt(slot: Slot, revision: number): Node | undefined {
  let link: Link | undefined = slot.head
  while (link !== undefined && link.since > revision) link = link.before
  return link?.node
}

/** The state of a node at `revision`; undefined before it was made. */
export function stateAt(node: Node, revision: number): NodeState | undefined {
  let state: NodeState | undefined = node.head
  while (state !== undefined && state.since > revision) state = state.before
  return state
}

/** The node at `path` as of `revision`, or undefined. */
export function find(root: Node, path: Path, revision: number): Node | undefined {
  if (path.length === 1) return root
  let node = root
  let start = 1
  for (;;) {
    const slash = path.indexOf('/', start)
    const slot = node.children?.get(slash < 0 ? path.slice(start) : path.slice(start, slash))
    if (slot === undefined) return undefined
    const next = revision === newest ? slot.head.node : nodeAt(slot, revision)
    if (next === undefined || slash < 0) return next
    node = next
    start = slash + 1
  }
}

/** The deepest node on the way to `path` that exists, and its path. */
export function deepest(root: Node, path: Path, revision: number): { readonly node: Node; readonly path: Path } {
  let node = root
  let end = 0
  while (path.length > 1 && end < path.length) {
    const slash = path.indexOf('/', end + 1)
    const stop = slash < 0 ? path.length : slash
    const slot = node.children?.get(path.slice(end + 1, stop))
    const next = slot === undefined ? undefined : nodeAt(slot, revision)
    if (next === undefined) break
    node = next
    end = stop
  }
  return { node, path: (end === 0 ? '/' : path.slice(0, end)) as Path }
}

/** Why there is nothing at `path`, as the principal may know it: `denied`, `not_found` or `not_directory`. */
export function missing(root: Node, path: Path, revision: number, principal: Principal, owner: string, op: string): NineError {
  const { node, path: at } = deepest(root, path, revision)
  if ((rightsAt(node, principal, owner) & seeBits) === 0) return denied(op, path)
  if (node.kind === 'directory') return new NineError({ kind: 'not_found', op, path, message: `${path} does not exist` })
  return new NineError({ kind: 'not_directory', op, path, message: `${at} is a ${node.kind}, not a directory` })
}

export function denied(op: string, path: string): NineError {
  return new NineError({ kind: 'denied', op, path, message: `this is not allowed at ${path}` })
}

/** The newest path of a node, or the last it had. */
export function pathOf(node: Node): Path {
  let path = ''
  for (let at = node; at.parent !== undefined; at = at.parent) path = `/${at.name}${path}`
  return (path === '' ? '/' : path) as Path
}

/** Whether the node can still be reached from the root. */
export function isReachable(node: Node): boolean {
  for (let at: Node | undefined = node; at !== undefined; at = at.parent) if (at.isRemoved) return false
  return true
}

/** The directory whose record decides at `node`, or undefined where none stands on the way up. */
export function deciding(node: Node): Node | undefined {
  for (let at: Node | undefined = node; at !== undefined; at = at.parent) if (at.head.rights !== undefined) return at
  return undefined
}

/** What a principal may do at `node`, which may have been removed. */
export function rightsAt(node: Node, principal: Principal, owner: string): RightsMask {
  if (principal.name === owner) return everyRight
  const record = deciding(node)?.head.rights
  return record === undefined ? 0 : grantedBy(record, principal)
}

export function qidOf(node: Node, state: NodeState = node.head): Qid {
  return { type: qidTypeOf(node.kind), path: node.ino, version: state.version }
}

export function statOf(node: Node, state: NodeState, name: string): Stat {
  return {
    name,
    kind: node.kind,
    qid: { type: qidTypeOf(node.kind), path: node.ino, version: state.version },
    size: state.bytes.length,
    version: state.version,
    revision: state.revision,
    createdRevision: state.createdRevision,
    mode: state.mode,
    owner: state.owner,
    group: state.group,
    modifiedBy: state.modifiedBy,
    createdAt: state.createdAt,
    modifiedAt: state.modifiedAt,
    contentType: state.contentType,
    blob: undefined,
    lease: state.lease,
    target: node.kind === 'symlink' ? targetOf(state) : undefined,
  }
}

export function targetOf(state: NodeState): string {
  return Buffer.from(state.bytes.buffer, state.bytes.byteOffset, state.bytes.length).toString()
}
