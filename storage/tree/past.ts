/**
 * The state of a tree at an earlier revision: the newest records, followed back through history.
 *
 * A record that stands `since` a later revision is replaced by what that revision superseded, and so on; history's
 * shortcuts (history/chains.ts) keep that short for what changes often.
 */
import { NineError } from '../../namespace/errors.ts'
import type { History } from '../history/history.ts'
import type { StoredImage } from '../history/format.ts'
import type { DirectoryEntry, Ino, NodeRecord, TreeView } from '../model.ts'
import type { MergedEntries } from './merge.ts'

/** What the past needs of the newest state: records as they are, tombs included. */
export interface PresentState {
  readonly history: History
  newestNode(ino: Ino): NodeRecord | undefined
  newestEntry(parent: Ino, name: string): DirectoryEntry | undefined
  entriesAndTombs(parent: Ino, after: string, limit: number): MergedEntries
}

export class PastView implements TreeView {
  readonly #present: PresentState
  readonly #revision: number

  constructor(present: PresentState, revision: number) {
    this.#present = present
    this.#revision = revision
  }

  node(ino: Ino): NodeRecord | undefined {
    this.#check()
    const node = this.#present.newestNode(ino)
    return node === undefined || node.since <= this.#revision ? node : nodeAt(this.#present.history, ino, node.since, this.#revision)
  }

  child(parent: Ino, name: string): Ino | undefined {
    this.#check()
    const entry = this.#present.newestEntry(parent, name)
    const then = entry === undefined ? undefined : this.#entryThen(entry)
    return then === undefined || then.ino === 0 ? undefined : then.ino
  }

  children(parent: Ino, after: string, limit: number): DirectoryEntry[] {
    this.#check()
    const found: DirectoryEntry[] = []
    const entries = this.#present.entriesAndTombs(parent, after, limit)
    while (found.length < limit) {
      const entry = entries.next()
      if (entry === undefined) break
      const then = this.#entryThen(entry)
      if (then !== undefined && then.ino !== 0) found.push(then)
    }
    return found
  }

  #entryThen(entry: DirectoryEntry): DirectoryEntry | undefined {
    if (entry.since <= this.#revision) return entry
    const image = lastAfter(this.#present.history, entry.parent, entry.name, entry.since, this.#revision)
    return image.kind === 'entry' ? image.before : undefined
  }

  /** History may have moved on since this view was made. */
  #check(): void {
    const { floor } = this.#present.history
    if (this.#revision >= floor) return
    throw new NineError({
      kind: 'compacted',
      op: 'tree.at',
      message: `revision ${this.#revision} is no longer kept; the oldest is ${floor}`,
    })
  }
}

/** The record of a node that stood at `revision`, which is before `since`, a revision that changed it. */
export function nodeAt(history: History, ino: Ino, since: number, revision: number): NodeRecord | undefined {
  const image = lastAfter(history, ino, undefined, since, revision)
  return image.kind === 'node' ? image.before : undefined
}

/** The image of the first change after `revision`. */
function lastAfter(history: History, ino: Ino, name: string | undefined, since: number, revision: number): StoredImage {
  for (let at = since; ;) {
    const image = history.image(at, ino, name)
    if (image.jump > revision) at = image.jump
    else if (image.beforeSince !== undefined && image.beforeSince > revision) at = image.beforeSince
    else return image
  }
}
