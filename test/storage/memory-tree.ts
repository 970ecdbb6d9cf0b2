/** A store's tree as plain maps: what the tree on disk has to be equal to, and what apply is tested on. */
import { compareNames } from '../../namespace/path.ts'
import type { OpenTransaction, TreeTransactionFactory } from '../../storage/apply/machine.ts'
import { noContent, rootIno, type DirectoryEntry, type Image, type Ino, type NodeRecord, type TreeView } from '../../storage/model.ts'

export function rootRecord(owner: string): NodeRecord {
  return {
    ino: rootIno,
    since: 0,
    kind: 'directory',
    parent: rootIno,
    name: '',
    version: 1,
    revision: 0,
    createdRevision: 0,
    mode: 0o755,
    owner,
    group: '',
    modifiedBy: owner,
    createdAt: 0,
    modifiedAt: 0,
    contentType: undefined,
    lease: undefined,
    rights: undefined,
    content: noContent,
  }
}

export class MemoryTree implements TreeTransactionFactory, TreeView {
  readonly nodes = new Map<Ino, NodeRecord>()
  /** Tombstones included. */
  readonly entries = new Map<Ino, Map<string, DirectoryEntry>>()
  nextIno = rootIno + 1
  isOpen = false

  constructor(owner: string) {
    this.nodes.set(rootIno, rootRecord(owner))
  }

  get newest(): TreeView {
    return this
  }

  node(ino: Ino): NodeRecord | undefined {
    return this.nodes.get(ino)
  }

  child(parent: Ino, name: string): Ino | undefined {
    const ino = this.entries.get(parent)?.get(name)?.ino
    return ino === 0 ? undefined : ino
  }

  children(parent: Ino, after: string, limit: number): DirectoryEntry[] {
    const all = [...(this.entries.get(parent)?.values() ?? [])].filter(
      (entry) => entry.ino !== 0 && (after === '' || compareNames(entry.name, after) > 0),
    )
    return all.sort((a, b) => compareNames(a.name, b.name)).slice(0, limit)
  }

  entry(parent: Ino, name: string): DirectoryEntry | undefined {
    return this.entries.get(parent)?.get(name)
  }

  setEntry(parent: Ino, name: string, entry: DirectoryEntry | undefined): void {
    let names = this.entries.get(parent)
    if (names === undefined) this.entries.set(parent, (names = new Map<string, DirectoryEntry>()))
    if (entry === undefined) names.delete(name)
    else names.set(name, entry)
  }

  begin(revision: number): OpenTransaction {
    if (this.isOpen) throw new Error('a transaction is open already')
    this.isOpen = true
    return new MemoryTransaction(this, revision)
  }
}

class MemoryTransaction implements OpenTransaction {
  readonly revision: number
  readonly #tree: MemoryTree
  readonly #firstIno: Ino
  readonly #nodesBefore = new Map<Ino, NodeRecord | undefined>()
  readonly #entriesBefore = new Map<Ino, Map<string, DirectoryEntry | undefined>>()

  constructor(tree: MemoryTree, revision: number) {
    this.#tree = tree
    this.revision = revision
    this.#firstIno = tree.nextIno
  }

  node(ino: Ino): NodeRecord | undefined {
    return this.#tree.node(ino)
  }

  child(parent: Ino, name: string): Ino | undefined {
    return this.#tree.child(parent, name)
  }

  children(parent: Ino, after: string, limit: number): DirectoryEntry[] {
    return this.#tree.children(parent, after, limit)
  }

  nextIno(): Ino {
    return this.#tree.nextIno++
  }

  put(node: NodeRecord): void {
    if (!this.#nodesBefore.has(node.ino)) this.#nodesBefore.set(node.ino, this.#tree.node(node.ino))
    this.#tree.nodes.set(node.ino, node)
  }

  link(parent: Ino, name: string, ino: Ino): void {
    this.#set({ parent, name, ino, since: this.revision })
  }

  unlink(parent: Ino, name: string): void {
    this.#set({ parent, name, ino: 0, since: this.revision })
  }

  #set(entry: DirectoryEntry): void {
    const { parent, name } = entry
    let before = this.#entriesBefore.get(parent)
    if (before === undefined) this.#entriesBefore.set(parent, (before = new Map<string, DirectoryEntry | undefined>()))
    if (!before.has(name)) before.set(name, this.#tree.entry(parent, name))
    this.#tree.setEntry(parent, name, entry)
  }

  commit(): readonly Image[] {
    this.#tree.isOpen = false
    const images: Image[] = []
    for (const [ino, before] of this.#nodesBefore) images.push({ kind: 'node', after: this.#tree.node(ino)!, before })
    for (const [parent, names] of this.#entriesBefore) {
      for (const [name, before] of names) images.push({ kind: 'entry', after: this.#tree.entry(parent, name)!, before })
    }
    return images
  }

  rollback(): void {
    this.#tree.isOpen = false
    this.#tree.nextIno = this.#firstIno
    for (const [ino, before] of this.#nodesBefore) {
      if (before === undefined) this.#tree.nodes.delete(ino)
      else this.#tree.nodes.set(ino, before)
    }
    for (const [parent, names] of this.#entriesBefore) for (const [name, before] of names) this.#tree.setEntry(parent, name, before)
  }
}
