/**
 * Records and entries read from LMDB lately, in two generations: what is used again moves to the young one, and when
 * that is full it becomes the old one and what was old is forgotten.
 *
 * A generation of changes that has been written becomes the old one as a whole (`adopt`): what was just written is what
 * is read next.
 *
 * A1 Everything in here is the newest state: whoever changes a node or entry takes it out (`forget…`).
 */
import type { DirectoryEntry, Ino, NodeRecord } from '../model.ts'
import type { Generation } from './overlay.ts'

export class LookupCache {
  readonly #itemsMax: number
  #young = new Level()
  #old = new Level()
  #adopted: Generation | undefined

  constructor(itemsMax: number) {
    this.#itemsMax = itemsMax
  }

  node(ino: Ino): NodeRecord | undefined {
    const young = this.#young.nodes.get(ino)
    if (young !== undefined) return young
    const old = this.#old.nodes.get(ino) ?? this.#adopted?.nodes.get(ino)
    if (old !== undefined) this.addNode(old)
    return old
  }

  /** Tombs are not kept. */
  entry(parent: Ino, name: string): DirectoryEntry | undefined {
    const young = this.#young.directories.get(parent)?.get(name)
    if (young !== undefined) return young
    const old = this.#old.directories.get(parent)?.get(name) ?? this.#adopted?.entry(parent, name)
    if (old === undefined || old.ino === 0) return undefined
    this.addEntry(old)
    return old
  }

  addNode(node: NodeRecord): void {
    this.#young.nodes.set(node.ino, node)
    if (++this.#young.items > this.#itemsMax) this.#turn()
  }

  addEntry(entry: DirectoryEntry): void {
    const { directories } = this.#young
    const known = directories.get(entry.parent)
    if (known === undefined) directories.set(entry.parent, new Map([[entry.name, entry]]))
    else known.set(entry.name, entry)
    if (++this.#young.items > this.#itemsMax) this.#turn()
  }

  /** A1 */
  forgetNode(ino: Ino): void {
    this.#young.nodes.delete(ino)
    this.#old.nodes.delete(ino)
    this.#adopted?.nodes.delete(ino)
  }

  /** A1 */
  forgetEntry(parent: Ino, name: string): void {
    this.#young.directories.get(parent)?.delete(name)
    this.#old.directories.get(parent)?.delete(name)
    this.#adopted?.directories.get(parent)?.slots.delete(name)
  }

  /** A generation that is in LMDB now and hidden by nothing but what `above` holds. */
  adopt(written: Generation, above: Generation): void {
    for (const ino of above.nodes.keys()) written.nodes.delete(ino)
    for (const [parent, { slots }] of above.directories) {
      const older = written.directories.get(parent)?.slots
      if (older !== undefined) for (const name of slots.keys()) older.delete(name)
    }
    this.#adopted = written
  }

  clear(): void {
    this.#young = new Level()
    this.#old = new Level()
    this.#adopted = undefined
  }

  #turn(): void {
    this.#old = this.#young
    this.#young = new Level()
    this.#adopted = undefined
  }
}

class Level {
  readonly nodes = new Map<Ino, NodeRecord>()
  readonly directories = new Map<Ino, Map<string, DirectoryEntry>>()
  items = 0
}
