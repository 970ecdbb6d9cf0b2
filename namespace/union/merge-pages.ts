/**
 * One listing out of several: pages of pages, merged by name, the first source that has a name wins.
 *
 * L1 Memory is bounded by one page a source, whatever the sizes of the directories.
 * L2 All pages show one revision of each source. A source's own cursor pins it, so its first page is asked with one entry:
 *    until that entry is shown it travels in our cursor, and from there on the source goes on by its own. A page of which
 *    not everything was shown is asked for again by the cursor it came by.
 * L3 Nothing is kept between pages: the cursor is all there is, and it is checked like any input.
 * L4 Shallow (unions, recursive): a top name and all below it come from the first source that has the name.
 */
import { NineError } from '../errors.ts'
import type { ListResult } from '../file-server.ts'
import { limits } from '../limits.ts'
import { compareNames } from '../path.ts'
import { decodePosition, encodePosition, mergePositions, noPosition } from '../position.ts'
import type { Position } from '../position.ts'
import type { Stat } from '../stat.ts'

export interface PageSource {
  /** At most `limit` entries, from the start or by the `next` of the page before. */
  page(cursor: string | undefined, limit: number): Promise<ListResult>
}

export interface MergeOptions {
  readonly cursor?: string | undefined
  readonly limit?: number | undefined
  readonly maxBytes?: number | undefined
  readonly shallow: boolean
  /** The source that has the top name in which the listing starts, when it starts inside of one. */
  readonly top?: { readonly name: string; readonly source: number } | undefined
}

/** What is known of a source between pages, as the cursor carries it. */
type SourceState =
  | { readonly kind: 'start' }
  | { readonly kind: 'held'; readonly entry: Stat; readonly next: string | undefined }
  | { readonly kind: 'cursor'; readonly cursor: string }
  | { readonly kind: 'done' }

interface MergeState {
  readonly last: string
  readonly top: { readonly name: string; readonly source: number } | undefined
  readonly position: Position
  readonly sources: readonly SourceState[]
}

/** @throws NineError as the sources do, and `invalid` for a cursor that is not of this listing */
export async function mergePages(sources: readonly PageSource[], options: MergeOptions): Promise<ListResult> {
  const limit = Math.min(Math.max(1, options.limit ?? limits.list_page_entries_default), limits.list_page_entries_max)
  const bytes_max = Math.min(options.maxBytes ?? limits.list_page_bytes_max, limits.list_page_bytes_max)
  const state = options.cursor === undefined ? startOf(sources.length, options) : decodeCursor(options.cursor, sources.length)
  const readers = sources.map((source, i) => new Reader(source, state.sources[i]!, state.last, limit))
  const entries: Stat[] = []
  let { last, top } = state
  let bytes = 0
  for (;;) {
    await fillAll(readers)
    const first = firstReader(readers)
    if (first < 0 || entries.length >= limit || (bytes >= bytes_max && entries.length > 0)) break
    const entry = readers[first]!.head()!
    for (const reader of readers) if (reader.head()?.name === entry.name) reader.shift()
    if (options.shallow) {
      const name = topOf(entry.name)
      if (top?.name !== name) top = { name, source: first }
      else if (top.source !== first) continue // L4
    }
    entries.push(entry)
    last = entry.name
    bytes += entryBytes(entry)
  }
  const position = readers.reduce((sum, reader) => mergePositions(sum, reader.position), state.position)
  if (readers.every((reader) => reader.isDone)) return { entries, position }
  const next = encodeCursor({ last, top, position, sources: readers.map((reader) => reader.state()) })
  return { entries, next, position }
}

/** Entries of one source that were not shown yet, a page at a time. */
class Reader {
  readonly #source: PageSource
  readonly #limit: number
  readonly #last: string
  #page: readonly Stat[] = []
  #index = 0
  /** The cursor the page in hand came by, and the one of the page after it. */
  #start: string | undefined
  #next: string | undefined
  #isStarted: boolean
  position: Position = noPosition
  isDone: boolean

  constructor(source: PageSource, state: SourceState, last: string, limit: number) {
    this.#source = source
    this.#limit = limit
    this.#last = last
    this.#isStarted = state.kind !== 'start'
    this.isDone = state.kind === 'done'
    if (state.kind === 'cursor') this.#next = state.cursor
    if (state.kind === 'held') {
      this.#page = [state.entry]
      this.#next = state.next
    }
  }

  head(): Stat | undefined {
    return this.#page[this.#index]
  }

  shift(): void {
    this.#index++
    if (this.head() === undefined && this.#isStarted && this.#next === undefined) this.isDone = true
  }

  /** Undefined when there is a head or an end already. */
  fill(): Promise<void> | undefined {
    return this.head() !== undefined || this.isDone ? undefined : this.#fetch()
  }

  async #fetch(): Promise<void> {
    while (this.head() === undefined && !this.isDone) {
      const result = await this.#source.page(this.#next, this.#isStarted ? this.#limit : 1) // L2
      this.#start = this.#next
      this.#next = result.next
      this.#isStarted = true
      this.#page = result.entries
      this.#index = 0
      this.position = mergePositions(this.position, result.position)
      while (this.head() !== undefined && this.#isShown(this.head()!)) this.#index++
      if (this.head() === undefined && this.#next === undefined) this.isDone = true
    }
  }

  #isShown(entry: Stat): boolean {
    return this.#last !== '' && compareRelative(entry.name, this.#last) <= 0
  }

  state(): SourceState {
    if (this.isDone) return { kind: 'done' }
    if (this.head() === undefined) return this.#next === undefined ? { kind: 'start' } : { kind: 'cursor', cursor: this.#next }
    if (this.#start !== undefined) return { kind: 'cursor', cursor: this.#start } // L2
    return { kind: 'held', entry: this.head()!, next: this.#next }
  }
}

async function fillAll(readers: readonly Reader[]): Promise<void> {
  let waits: Promise<void>[] | undefined
  for (const reader of readers) {
    const wait = reader.fill()
    if (wait !== undefined) (waits ??= []).push(wait)
  }
  if (waits !== undefined) await Promise.all(waits)
}

function firstReader(readers: readonly Reader[]): number {
  let first = -1
  for (let i = 0; i < readers.length; i++) {
    const head = readers[i]!.head()
    if (head !== undefined && (first < 0 || compareRelative(head.name, readers[first]!.head()!.name) < 0)) first = i
  }
  return first
}

/** Order of relative paths in a recursive listing: pre-order, names by compareNames. Single names: compareNames. */
export function compareRelative(a: string, b: string): number {
  let i = 0
  while (i < a.length && a.charCodeAt(i) === b.charCodeAt(i)) i++
  if (i === a.length || i === b.length) return a.length - b.length
  if (a[i] === '/') return -1
  if (b[i] === '/') return 1
  return compareNames(a.slice(i), b.slice(i))
}

export function topOf(relative: string): string {
  const slash = relative.indexOf('/')
  return slash < 0 ? relative : relative.slice(0, slash)
}

/** What an entry takes in an answer, about. */
function entryBytes(entry: Stat): number {
  return 128 + 2 * entry.name.length + (entry.target?.length ?? 0)
}

function startOf(count: number, options: MergeOptions): MergeState {
  const sources = new Array<SourceState>(count).fill({ kind: 'start' })
  return { last: '', top: options.top, position: noPosition, sources }
}

function encodeCursor(state: MergeState): string {
  const { last, top, position, sources } = state
  const rows = sources.map((source) =>
    source.kind === 'done' ? 0 : source.kind === 'start' ? 1 : source.kind === 'cursor' ? source.cursor : [source.entry, source.next],
  )
  const row = [last, top === undefined ? 0 : [top.name, top.source], encodePosition(position), rows]
  return Buffer.from(JSON.stringify(row)).toString('base64url')
}

function decodeCursor(cursor: string, count: number): MergeState {
  try {
    const row: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    if (!Array.isArray(row)) throw new TypeError('no list')
    const [last, top, position, sources] = row as unknown[]
    if (typeof last !== 'string' || typeof position !== 'string') throw new TypeError('no text')
    if (!Array.isArray(sources) || sources.length !== count) throw new TypeError('other sources')
    return { last, top: toTop(top, count), position: decodePosition(position), sources: sources.map(toSourceState) }
  } catch (cause) {
    throw new NineError({ kind: 'invalid', op: 'namespace.list', message: 'the cursor is not of this listing', cause })
  }
}

function toTop(value: unknown, count: number): MergeState['top'] {
  if (value === 0) return undefined
  const [name, source] = value as [unknown, unknown]
  if (typeof name !== 'string' || !Number.isInteger(source)) throw new TypeError('no top')
  if ((source as number) < 0 || (source as number) >= count) throw new TypeError('no source')
  return { name, source: source as number }
}

function toSourceState(value: unknown): SourceState {
  if (value === 0) return { kind: 'done' }
  if (value === 1) return { kind: 'start' }
  if (typeof value === 'string') return { kind: 'cursor', cursor: value }
  const [entry, next] = value as [unknown, unknown]
  if (typeof entry !== 'object' || entry === null || typeof (entry as Stat).name !== 'string') throw new TypeError('no entry')
  return { kind: 'held', entry: entry as Stat, next: typeof next === 'string' ? next : undefined }
}
