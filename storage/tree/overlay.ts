/**
 * The changes of a tree that LMDB does not have yet: the newest record of every node and entry that changed.
 *
 * V1 What a generation holds hides everything below it (an older generation, the cache, LMDB).
 * V2 A slot knows what the levels below hold of its entry (`base`), so that writing it knows which row to clear.
 */
import { contentSize, type DirectoryEntry, type Ino, type NodeRecord } from '../model.ts'
import { SortedNames } from './sorted-names.ts'

/** What the levels below hold of an entry. */
export type Base = 'nothing' | 'entry' | 'tomb'

export interface Slot {
  entry: DirectoryEntry
  base: Base
}

export interface Directory {
  readonly slots: Map<string, Slot>
  readonly names: SortedNames
}

/** An entry taken away or replaced at `since`; `ino` is the node that lost its name by it, 0 for none. */
export interface Fallen {
  readonly since: number
  readonly ino: Ino
  readonly parent: Ino
  readonly name: string
}

/** Rows of contents that a newer record has made obsolete. */
export interface StaleContent {
  readonly ino: Ino
  readonly since: number
}

/** What a record and a slot cost in memory besides their texts and bytes. */
const node_bytes = 400
const slot_bytes = 250

export class Generation {
  readonly nodes = new Map<Ino, NodeRecord>()
  readonly directories = new Map<Ino, Directory>()
  stale: StaleContent[] = []
  fallen: Fallen[] = []
  /** Memory it takes, about. */
  bytes = 0

  get isEmpty(): boolean {
    return this.nodes.size === 0 && this.directories.size === 0
  }

  entry(parent: Ino, name: string): DirectoryEntry | undefined {
    return this.directories.get(parent)?.slots.get(name)?.entry
  }

  slot(parent: Ino, name: string): Slot | undefined {
    return this.directories.get(parent)?.slots.get(name)
  }

  putNode(node: NodeRecord, known: NodeRecord | undefined): void {
    this.nodes.set(node.ino, node)
    this.bytes += costOf(node) - (known === undefined ? 0 : costOf(known))
  }

  dropNode(node: NodeRecord): void {
    this.nodes.delete(node.ino)
    this.bytes -= costOf(node)
  }

  addSlot(entry: DirectoryEntry, base: Base): void {
    let directory = this.directories.get(entry.parent)
    if (directory === undefined) this.directories.set(entry.parent, (directory = { slots: new Map(), names: new SortedNames() }))
    directory.slots.set(entry.name, { entry, base })
    directory.names.add(entry.name)
    this.bytes += slot_bytes + entry.name.length
  }

  dropSlot(parent: Ino, name: string): void {
    const directory = this.directories.get(parent)
    if (directory === undefined) return
    directory.slots.delete(name)
    directory.names.delete(name)
    this.bytes -= slot_bytes + name.length
    if (directory.slots.size === 0) this.directories.delete(parent)
  }

  /** Take over what an older generation, which could not be written, holds and this one does not. */
  mergeOlder(older: Generation): void {
    for (const node of older.nodes.values()) if (!this.nodes.has(node.ino)) this.putNode(node, undefined)
    for (const [parent, { slots }] of older.directories) {
      for (const [name, { entry, base }] of slots) {
        const slot = this.slot(parent, name)
        if (slot === undefined) this.addSlot(entry, base)
        else slot.base = base // V2
      }
    }
    this.stale = older.stale.concat(this.stale)
    this.fallen = older.fallen.concat(this.fallen)
  }
}

function costOf(node: NodeRecord): number {
  return node_bytes + (node.content.kind === 'inline' ? contentSize(node.content) : 0)
}
