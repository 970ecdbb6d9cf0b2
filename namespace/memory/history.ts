/**
 * What a memory server remembers: the revisions of late, with their events, and how much memory all of it takes.
 *
 * H1 Revisions are kept without gaps up to the newest; the oldest are forgotten first, when there are too many or their
 *    superseded values take too much.
 * H2 Forgetting a revision cuts what it superseded: the tree can be shown as of the last forgotten revision and later.
 */
import { NineError } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Path } from '../path.ts'
import type { Micros } from '../stat.ts'
import type { Link, Node, NodeState, Slot } from './tree.ts'

/** An event as history keeps it: any watcher can be served from it. */
export interface MemoryEvent {
  readonly type: 'create' | 'change' | 'remove' | 'rename'
  readonly path: Path
  readonly from: Path | undefined
  /** Directory a rename took the node from. */
  readonly fromParent: Node | undefined
  readonly subtree: boolean
  readonly node: Node
  readonly state: NodeState
  readonly previous: NodeState | undefined
}

/** Everything one revision did. */
export interface Revision {
  readonly revision: number
  readonly time: Micros
  readonly actor: string
  readonly cause: string | undefined
  readonly events: readonly MemoryEvent[]
  readonly states: readonly NodeState[]
  readonly links: readonly { readonly directory: Node; readonly slot: Slot; readonly link: Link }[]
  /** Nodes that lost their name. */
  readonly removed: readonly Node[]
}

export class History {
  /** Bytes of newest values, and of trees removed but still kept. */
  liveBytes = 0
  /** Bytes of values that were superseded. */
  pastBytes = 0
  nodes = 1
  readonly #keptMax: number
  #kept: Revision[] = []
  #start = 0
  /** Newest revision. */
  #revision = 0
  #time: Micros = 0

  constructor(keptMax: number = limits.memory_history_revisions_max) {
    this.#keptMax = keptMax
  }

  get revision(): number {
    return this.#revision
  }

  /** Oldest revision whose events are kept; one after the newest when there is none. */
  get firstKept(): number {
    return this.#kept[this.#start]?.revision ?? this.#revision + 1
  }

  /** Time of the newest revision; 0 without any. */
  get time(): Micros {
    return this.#time
  }

  get(revision: number): Revision | undefined {
    return this.#kept[this.#start + revision - this.firstKept]
  }

  /** The last revision not after `time`; undefined when it is no longer kept. */
  revisionAt(time: Micros): number | undefined {
    if (time >= this.#time) return this.#revision
    let low = this.#start
    let high = this.#kept.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#kept[middle]!.time <= time) low = middle + 1
      else high = middle
    }
    if (low > this.#start) return this.#kept[low - 1]!.revision
    return this.firstKept === 1 ? 0 : undefined
  }

  add(revision: Revision): void {
    this.#revision = revision.revision
    this.#time = revision.time
    this.#kept.push(revision)
    while (this.#kept.length - this.#start > this.#keptMax || this.pastBytes > limits.memory_history_bytes_max) {
      if (!this.#forgetFirst()) break
    }
  }

  /**
   * Make sure that `bytes` and `nodes` more fit, forgetting the past where that helps.
   * @throws NineError `no_space`
   */
  reserve(bytes: number, nodes: number, op: string, path: string): void {
    while (this.liveBytes + this.pastBytes + bytes > limits.memory_bytes_max || this.nodes + nodes > limits.memory_nodes_max) {
      if (this.#forgetFirst()) continue
      throw new NineError({ kind: 'no_space', op, path, message: `a memory server holds at most ${limits.memory_bytes_max} bytes` })
    }
  }

  /** H2 */
  #forgetFirst(): boolean {
    const first = this.#kept[this.#start]
    if (first === undefined) return false
    for (const state of first.states) {
      this.pastBytes -= state.before?.bytes.length ?? 0
      state.before = undefined
    }
    for (const { directory, slot, link } of first.links) {
      link.before = undefined
      if (link.node === undefined && slot.head === link) directory.children!.delete(slot)
    }
    for (const node of first.removed) this.#release(node)
    if (++this.#start * 2 > this.#kept.length) {
      this.#kept = this.#kept.slice(this.#start)
      this.#start = 0
    }
    return true
  }

  /** A removed tree that nothing shows any more takes no memory, as soon as its last handle is closed. */
  #release(top: Node): void {
    const pending = [top]
    for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
      if (node.isReleased) continue
      node.isReleased = true
      this.nodes--
      this.liveBytes -= node.head.bytes.length
      if (node.children === undefined) continue
      for (const slot of node.children.slots()) if (slot.head.node !== undefined) pending.push(slot.head.node)
    }
  }
}
