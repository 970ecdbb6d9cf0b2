/**
 * One entry's changes, made straight in the newest generation, with what it takes to undo them and to tell what they
 * superseded. Applying is synchronous, so nobody reads between begin and commit.
 *
 * T1 Each node and entry is noted once, with the record it had before: what it is at commit is its image.
 * T2 rollback leaves the generation, and the next ino, as they were.
 * T3 A record that takes over the value of the one before it holds the bytes: the row they stand in goes when this one is saved.
 */
import { NineError } from '../../namespace/errors.ts'
import type { DirectoryEntry, Image, Ino, NodeRecord, TreeTransaction, TreeView } from '../model.ts'
import type { Base, Fallen, Generation } from './overlay.ts'
import { ApartContent, isApart } from './record.ts'

/** What a transaction needs of its tree. */
export interface TransactionTree {
  readonly newest: TreeView
  active: Generation
  nextIno: number
  readonly apartOver: number
  /** The record below the active generation. */
  nodeBelow(ino: Ino): NodeRecord | undefined
  /** The entry or tomb below the active generation. */
  entryBelow(parent: Ino, name: string): DirectoryEntry | undefined
  /** They changed: drop what is cached of them. */
  forgetNode(ino: Ino): void
  forgetEntry(parent: Ino, name: string): void
  /** `revision` is the newest now. */
  advance(revision: number): void
}

interface TouchedNode {
  readonly kind: 'node'
  readonly ino: Ino
  /** What the active generation held. */
  readonly known: NodeRecord | undefined
  readonly before: NodeRecord | undefined
}

interface TouchedEntry {
  readonly kind: 'entry'
  readonly parent: Ino
  readonly name: string
  readonly known: DirectoryEntry | undefined
  readonly before: DirectoryEntry | undefined
}

export class Transaction implements TreeTransaction {
  readonly revision: number
  readonly #tree: TransactionTree
  readonly #generation: Generation
  #touched: (TouchedNode | TouchedEntry)[] = []
  /** Nodes that lost a name, as they lost it. */
  #fallen: Fallen[] | undefined
  readonly #firstIno: number
  readonly #staleBefore: number
  #isOpen = true
  /** The node looked for last, and what the active generation holds of it: most transactions are about one. */
  #sought: Ino = -1
  #found: NodeRecord | undefined

  constructor(tree: TransactionTree, revision: number) {
    this.#tree = tree
    this.#generation = tree.active
    this.#firstIno = tree.nextIno
    this.#staleBefore = tree.active.stale.length
    this.revision = revision
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  node(ino: Ino): NodeRecord | undefined {
    return this.#known(ino) ?? this.#tree.nodeBelow(ino)
  }

  child(parent: Ino, name: string): Ino | undefined {
    return this.#tree.newest.child(parent, name)
  }

  children(parent: Ino, after: string, limit: number): DirectoryEntry[] {
    return this.#tree.newest.children(parent, after, limit)
  }

  nextIno(): Ino {
    return this.#tree.nextIno++
  }

  put(node: NodeRecord): void {
    this.#check(node.since)
    const generation = this.#generation
    const known = this.#known(node.ino)
    if (known?.since !== this.revision) {
      // T1
      const before = known ?? (node.ino >= this.#firstIno ? undefined : this.#tree.nodeBelow(node.ino))
      this.#touch({ kind: 'node', ino: node.ino, known, before })
      if (known === undefined) {
        if (before !== undefined && isApart(before.content, this.#tree.apartOver))
          generation.stale.push({ ino: before.ino, since: before.since })
        this.#tree.forgetNode(node.ino)
      }
    }
    this.#found = withOwnBytes(node)
    generation.putNode(this.#found, known)
  }

  link(parent: Ino, name: string, ino: Ino): void {
    this.#setEntry({ parent, name, ino, since: this.revision })
  }

  unlink(parent: Ino, name: string): void {
    this.#setEntry({ parent, name, ino: 0, since: this.revision })
  }

  /** Ends it; the changes stand. */
  commit(): readonly Image[] {
    this.#check(this.revision)
    this.#isOpen = false
    const generation = this.#generation
    const images = this.#touched.map((touched): Image => {
      if (touched.kind === 'node') return { kind: 'node', after: this.#known(touched.ino)!, before: touched.before }
      return { kind: 'entry', after: generation.entry(touched.parent, touched.name)!, before: touched.before }
    })
    if (this.#fallen !== undefined) generation.fallen.push(...this.#fallen)
    if (images.length > 0) this.#tree.advance(this.revision)
    return images
  }

  /** Ends it; nothing of it is left. T2 */
  rollback(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    const generation = this.#generation
    for (let i = this.#touched.length - 1; i >= 0; i--) {
      const touched = this.#touched[i]!
      if (touched.kind === 'node') {
        const now = generation.nodes.get(touched.ino)!
        if (touched.known === undefined) generation.dropNode(now)
        else generation.putNode(touched.known, now)
      } else if (touched.known === undefined) generation.dropSlot(touched.parent, touched.name)
      else generation.slot(touched.parent, touched.name)!.entry = touched.known
    }
    this.#sought = -1
    generation.stale.length = this.#staleBefore
    this.#tree.nextIno = this.#firstIno
  }

  #setEntry(entry: DirectoryEntry): void {
    this.#check(entry.since)
    const { parent, name } = entry
    const slot = this.#generation.slot(parent, name)
    const was = slot?.entry
    let replaced = was
    if (was?.since !== this.revision) {
      // T1
      const before = was ?? (parent >= this.#firstIno ? undefined : this.#tree.entryBelow(parent, name))
      replaced = before
      this.#touch({ kind: 'entry', parent, name, known: was, before })
      if (slot === undefined) {
        this.#generation.addSlot(entry, baseOf(before))
        this.#tree.forgetEntry(parent, name)
      }
    }
    if (slot !== undefined) slot.entry = entry
    const lost = replaced === undefined || replaced.ino === entry.ino ? 0 : replaced.ino
    if (entry.ino === 0 || lost !== 0) (this.#fallen ??= []).push({ since: this.revision, ino: lost, parent, name })
  }

  /** What the active generation holds of a node. */
  #known(ino: Ino): NodeRecord | undefined {
    if (this.#sought !== ino) {
      this.#sought = ino
      this.#found = this.#generation.nodes.get(ino)
    }
    return this.#found
  }

  /** Most touch one thing, and an array that grows takes room for many. */
  #touch(touched: TouchedNode | TouchedEntry): void {
    if (this.#touched.length === 0) this.#touched = [touched]
    else this.#touched.push(touched)
  }

  #check(since: number): void {
    if (this.#isOpen && since === this.revision && this.#tree.active === this.#generation) return
    const message = this.#isOpen ? `a record since ${since} was put at revision ${this.revision}` : 'the transaction has ended'
    throw new NineError({ kind: 'internal', op: 'tree.put', message })
  }
}

/** T3 */
function withOwnBytes(node: NodeRecord): NodeRecord {
  const { content } = node
  return content instanceof ApartContent ? { ...node, content: { kind: 'inline', bytes: content.bytes } } : node
}

function baseOf(before: DirectoryEntry | undefined): Base {
  return before === undefined ? 'nothing' : before.ino === 0 ? 'tomb' : 'entry'
}
