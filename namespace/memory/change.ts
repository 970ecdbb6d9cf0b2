/**
 * One revision being made: its changes are in the tree at once, and are all taken back when it fails.
 *
 * C1 rollback() leaves the tree, its history and its leases exactly as they were.
 * C2 A node changed twice by one revision counts two versions; every step is an event, in order.
 */
import type { Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type { Path } from '../path.ts'
import type { Micros } from '../stat.ts'
import type { History, MemoryEvent, Revision } from './history.ts'
import type { Leases } from './leases.ts'
import {
  Children,
  denied,
  find,
  missing,
  newest,
  noBytes,
  rightsAt,
  type Link,
  type MemoryKind,
  type Node,
  type NodeState,
  type Slot,
} from './tree.ts'
import type { RightsMask } from '../rights.ts'

/** What changes act on. */
export interface MemoryState {
  readonly root: Node
  readonly owner: string
  readonly history: History
  readonly leases: Leases
  nextIno: number
}

export type NewState = Omit<Partial<NodeState>, 'since' | 'revision' | 'version' | 'createdRevision' | 'before'> & {
  /** Without a lease of its own the new state has none, rather than the one before. */
  readonly leavesLease?: boolean
}

export class Change {
  readonly revision: number
  readonly context: Context
  readonly op: string
  readonly time: Micros
  readonly memory: MemoryState
  readonly #events: MemoryEvent[] = []
  readonly #states: NodeState[] = []
  readonly #links: { directory: Node; slot: Slot; link: Link }[] = []
  readonly #removed: Node[] = []
  readonly #undo: (() => void)[] = []

  constructor(memory: MemoryState, context: Context, op: string, time: Micros) {
    this.memory = memory
    this.revision = memory.history.revision + 1
    this.context = context
    this.op = op
    this.time = time
  }

  get isEmpty(): boolean {
    return this.#states.length === 0 && this.#links.length === 0
  }

  /** What this revision did, to be added to history. */
  done(): Revision {
    const { revision, time } = this
    const { cause, principal } = this.context
    return {
      revision,
      time,
      actor: principal.name,
      cause,
      events: this.#events,
      states: this.#states,
      links: this.#links,
      removed: this.#removed,
    }
  }

  /** C1 */
  rollback(): void {
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) undo()
    for (const made of [this.#events, this.#states, this.#links]) made.length = 0
  }

  onRollback(undo: () => void): void {
    this.#undo.push(undo)
  }

  find(path: Path): Node | undefined {
    return find(this.memory.root, path, newest)
  }

  rights(node: Node): RightsMask {
    return rightsAt(node, this.context.principal, this.memory.owner)
  }

  /** @throws NineError `denied` */
  need(node: Node, bit: RightsMask, path: Path): void {
    if ((this.rights(node) & bit) === 0) throw denied(this.op, path)
  }

  /** Why there is nothing at `path`, as the principal may know it. */
  missing(path: Path): NineError {
    return missing(this.memory.root, path, newest, this.context.principal, this.memory.owner, this.op)
  }

  error(kind: NineError['kind'], path: string, message: string): NineError {
    return new NineError({ kind, op: this.op, path, message })
  }

  event(type: MemoryEvent['type'], path: Path, node: Node, previous: NodeState | undefined, from?: Path, fromParent?: Node): void {
    const subtree = node.kind === 'directory' && (type === 'remove' || type === 'rename')
    this.#events.push({ type, path, from, fromParent, subtree, node, state: node.head, previous })
  }

  /** A new node under a free name. */
  make(parent: Node, name: string, kind: MemoryKind, fields: NewState): Node {
    const { history } = this.memory
    const bytes = fields.bytes ?? noBytes
    history.reserve(bytes.length, 1, this.op, name)
    const { name: actor } = this.context.principal
    const head: NodeState = {
      since: this.revision,
      version: 1,
      revision: this.revision,
      createdRevision: this.revision,
      mode: fields.mode ?? (kind === 'directory' ? 0o755 : kind === 'symlink' ? 0o777 : 0o644),
      owner: actor,
      group: '',
      modifiedBy: actor,
      createdAt: this.time,
      modifiedAt: fields.modifiedAt ?? this.time,
      contentType: fields.contentType,
      lease: fields.lease,
      rights: undefined,
      bytes,
      before: undefined,
    }
    const children = kind === 'directory' ? new Children() : undefined
    const node: Node = { ino: this.memory.nextIno++, kind, children, head, parent, name, isRemoved: false, isReleased: false }
    history.nodes++
    history.liveBytes += bytes.length
    this.#states.push(head)
    this.#undo.push(() => {
      history.nodes--
      history.liveBytes -= bytes.length
    })
    this.#link(parent, name, node)
    if (head.lease !== undefined) this.#bind(head.lease, node)
    return node
  }

  /** The next state of a node: one version more. */
  set(node: Node, fields: NewState): void {
    const { history } = this.memory
    const before = node.head
    const bytes = fields.bytes ?? before.bytes
    const isValueNew = fields.bytes !== undefined && fields.bytes !== before.bytes
    if (isValueNew) history.reserve(bytes.length, 0, this.op, node.name)
    const head: NodeState = {
      since: this.revision,
      version: before.version + 1,
      revision: this.revision,
      createdRevision: before.createdRevision,
      mode: fields.mode ?? before.mode,
      owner: fields.owner ?? before.owner,
      group: fields.group ?? before.group,
      modifiedBy: this.context.principal.name,
      createdAt: before.createdAt,
      modifiedAt: fields.modifiedAt ?? before.modifiedAt,
      contentType: fields.contentType ?? before.contentType,
      lease: fields.lease ?? (fields.leavesLease === true ? undefined : before.lease),
      rights: 'rights' in fields ? fields.rights : before.rights,
      bytes,
      before,
    }
    node.head = head
    this.#states.push(head)
    const past = before.bytes.length
    const grown = node.isReleased ? 0 : bytes.length - past
    history.pastBytes += past
    history.liveBytes += grown
    this.#undo.push(() => {
      node.head = before
      history.pastBytes -= past
      history.liveBytes -= grown
    })
    if (head.lease !== before.lease) {
      if (before.lease !== undefined) this.#unbind(before.lease, node)
      if (head.lease !== undefined) this.#bind(head.lease, node)
    }
  }

  /** Take away a name; what hangs below goes with it. */
  unlink(node: Node): void {
    this.#link(node.parent!, node.name, undefined)
    node.isRemoved = true
    this.#removed.push(node)
    this.#undo.push(() => {
      this.#removed.pop()
      node.isRemoved = false
    })
    if (node.head.lease !== undefined) this.#unbind(node.head.lease, node)
  }

  /** Give a node another name, which is free. */
  move(node: Node, parent: Node, name: string): void {
    const { parent: oldParent, name: oldName } = node
    this.#link(oldParent!, oldName, undefined)
    node.parent = parent
    node.name = name
    this.#undo.push(() => {
      node.parent = oldParent
      node.name = oldName
    })
    this.#link(parent, name, node)
  }

  #link(directory: Node, name: string, node: Node | undefined): void {
    const children = directory.children!
    const known = children.get(name)
    const before = known?.head
    const link: Link = { since: this.revision, node, before }
    const slot = known ?? { name, head: link, isGone: false }
    slot.head = link
    if (known === undefined) children.add(slot)
    const counted = (node === undefined ? 0 : 1) - (before?.node === undefined ? 0 : 1)
    children.live += counted
    this.#links.push({ directory, slot, link })
    this.#undo.push(() => {
      children.live -= counted
      if (before === undefined) children.delete(slot)
      else slot.head = before
    })
  }

  #bind(lease: string, node: Node): void {
    const { leases } = this.memory
    leases.bind(lease, node)
    this.#undo.push(() => leases.unbind(lease, node))
  }

  #unbind(lease: string, node: Node): void {
    const { leases } = this.memory
    leases.unbind(lease, node)
    this.#undo.push(() => leases.bind(lease, node))
  }
}
