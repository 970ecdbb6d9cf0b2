/**
 * Entries of one directory, merged from the levels of a tree in compareNames order; where two levels have a name, the
 * upper one counts.
 */
import { compareNames } from '../../namespace/path.ts'
import type { DirectoryEntry, Ino } from '../model.ts'
import type { Directory } from './overlay.ts'
import { decodeEntry, nameOfKey, rowKey, type Rows } from './rows.ts'
import type { NameCursor } from './sorted-names.ts'

/** One level's entries from some name on, in order. Tombs have ino 0. */
export interface EntrySource {
  current: DirectoryEntry | undefined
  advance(): void
}

/** Entries and tombs from sources, the uppermost first. Sources with nothing left may be given. */
export class MergedEntries {
  readonly #sources: EntrySource[]

  constructor(sources: readonly EntrySource[]) {
    this.#sources = sources.filter((source) => source.current !== undefined)
  }

  next(): DirectoryEntry | undefined {
    const sources = this.#sources
    let first: DirectoryEntry | undefined
    for (const { current } of sources) {
      if (first === undefined || compareNames(current!.name, first.name) < 0) first = current
    }
    if (first === undefined) return undefined
    for (let i = sources.length - 1; i >= 0; i--) {
      const source = sources[i]!
      if (source.current!.name !== first.name) continue
      source.advance()
      if (source.current === undefined) sources.splice(i, 1)
    }
    return first
  }
}

export class OverlaySource implements EntrySource {
  current: DirectoryEntry | undefined
  readonly #directory: Directory
  readonly #names: NameCursor

  constructor(directory: Directory, after: string) {
    this.#directory = directory
    this.#names = directory.names.cursor(after)
    this.advance()
  }

  advance(): void {
    const name = this.#names.next()
    this.current = name === undefined ? undefined : this.#directory.slots.get(name)!.entry
  }
}

/** Rows of a table, fetched some at a time. */
export class RowSource implements EntrySource {
  current: DirectoryEntry | undefined
  readonly #rows: Rows
  readonly #group: number
  readonly #parent: Ino
  readonly #batchMax: number
  #batch: DirectoryEntry[] = []
  #at = 0
  #after: string
  #isLast = false

  constructor(rows: Rows, group: number, parent: Ino, after: string, batchMax: number) {
    this.#rows = rows
    this.#group = group
    this.#parent = parent
    this.#after = after
    this.#batchMax = batchMax
    this.advance()
  }

  /** @throws NineError `corrupt` */
  advance(): void {
    if (this.#at === this.#batch.length) this.#fetch()
    this.current = this.#batch[this.#at++]
  }

  #fetch(): void {
    this.#batch = []
    this.#at = 0
    if (this.#isLast) return
    const start = rowKey(this.#group, this.#parent, -1, this.#after)
    const end = rowKey(this.#group, this.#parent + 1)
    for (const { key, value } of this.#rows.getRange({ start, end, limit: this.#batchMax, exclusiveStart: true })) {
      this.#batch.push(decodeEntry(key, value, this.#parent, nameOfKey(key)))
    }
    this.#isLast = this.#batch.length < this.#batchMax
    this.#after = this.#batch[this.#batch.length - 1]?.name ?? this.#after
  }
}
