/** The newest state of a tree: every committed change shows in it at once (R1 of tree.ts). */
import type { DirectoryEntry, Ino, NodeRecord, TreeView } from '../model.ts'
import type { MergedEntries } from './merge.ts'

/** What it needs of the tree. */
export interface NewestState {
  newestNode(ino: Ino): NodeRecord | undefined
  liveEntry(parent: Ino, name: string): DirectoryEntry | undefined
  entriesOnly(parent: Ino, after: string, limit: number): MergedEntries
}

export class NewestView implements TreeView {
  readonly #tree: NewestState

  constructor(tree: NewestState) {
    this.#tree = tree
  }

  node(ino: Ino): NodeRecord | undefined {
    return this.#tree.newestNode(ino)
  }

  child(parent: Ino, name: string): Ino | undefined {
    const ino = this.#tree.liveEntry(parent, name)?.ino
    return ino === 0 ? undefined : ino
  }

  children(parent: Ino, after: string, limit: number): DirectoryEntry[] {
    const found: DirectoryEntry[] = []
    const entries = this.#tree.entriesOnly(parent, after, limit)
    while (found.length < limit) {
      const entry = entries.next()
      if (entry === undefined) break
      if (entry.ino !== 0) found.push(entry)
    }
    return found
  }
}
