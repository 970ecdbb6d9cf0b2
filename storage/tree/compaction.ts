/**
 * Writing the database anew, without the pages that nothing uses any more: LMDB itself never makes its file smaller.
 *
 * Row by row, through the binding: its own compacting copy (`backup`, in lmdb 3.5.6) gives a file into which the first transaction that
 * frees many pages ends the process with a segmentation fault.
 *
 *   copy, while changes go on -> what changed meanwhile, again -> writers wait: the rest, rename, go over to the new file
 *
 * C1 Under its name stands a whole database at every moment. The new one has that name only when all of it is on stable storage and it
 *    holds every row of the old one, as of a moment when nothing is being written; nothing is written to the old one from then on.
 * C2 Nothing is written to the new one before its name is on stable storage: a crash may still bring the old one back until then, and
 *    both hold the same. After a crash the folder is synced when it is opened.
 * C3 Readers never wait: they go over from one file to the other within a turn. A state that is held (Database.reading) stays that of
 *    the old file, whose room on the disk comes back when it is let go.
 * C4 What fails before the rename leaves the old file as it is; what fails after it, before the folder was synced, ends writing.
 * C5 The event loop has a turn after each page of rows; memory is one batch of rows, and the keys of those that changed meanwhile.
 */
import { open, rename, rm } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { NineError } from '../../namespace/errors.ts'
import { failpoint, failpointLater } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import { openDatabase, tableNames, type Database, type Reading, type Table, type TableName } from './database.ts'
import { KeySet } from './key-set.ts'

export interface Compacted {
  /** Bytes of the database's file. */
  readonly before: number
  readonly after: number
}

/** Rows copied so far, and all of them. */
export type CompactProgress = (done: number, of: number) => void

/** What it needs of the environment. */
export interface CompactionHost {
  readonly path: string
  /** For the new file until it has its name. */
  readonly nextPath: string
  readonly mapBytes: number
  readonly database: Database
  readonly tables: { readonly [name in TableName]: Table }
  readonly isClosed: () => boolean
  /** Everything that was put so far is committed, or failed. */
  settled(): Promise<void>
  /** Run `run` while nothing else is being written. */
  alone(run: () => Promise<void>): Promise<void>
  syncFolder(): Promise<void>
  /** Read and write the new file from now on. C3 */
  goOver(next: Database): void
  /** Nothing may be written any more. C4 */
  fail(error: unknown): void
}

const batch_rows = 1_000
const batch_bytes = 2 * 1024 * 1024
/** Rows fetched at once, by what they may take. */
const page_rows: { readonly [name in TableName]: number } = { nodes: 256, contents: 8, entries: 512, tombs: 512, fallen: 512, meta: 8 }
/** Keys before and behind those of all rows. */
const before_all: Uint8Array = Uint8Array.of(0)
const after_all = Uint8Array.of(255, 255, 255, 255, 255)
/** What is changed again after so many rounds is taken over while writers wait. */
const rounds_max = 8
const few_rows = 2_000

interface Row {
  readonly key: Uint8Array
  readonly value: Uint8Array
}

export async function compact(host: CompactionHost, progress: CompactProgress = () => undefined): Promise<Compacted> {
  const before = host.database.fileBytes(host.path)
  const compaction = new Compaction(host)
  try {
    await compaction.copy(progress)
    await compaction.follow()
    await host.alone(() => compaction.end())
  } catch (error) {
    await compaction.abandon()
    throw error
  }
  return { before, after: host.database.fileBytes(host.path) }
}

/** What a compaction left that did not come to its end. */
export async function removeUnfinished(nextPath: string): Promise<void> {
  await rm(nextPath, { force: true })
  await rm(lockOf(nextPath), { force: true })
}

class Compaction {
  readonly #host: CompactionHost
  #next: Database | undefined
  #hasName = false

  constructor(host: CompactionHost) {
    this.#host = host
  }

  async copy(progress: CompactProgress): Promise<void> {
    const { nextPath, tables, database } = this.#host
    await removeUnfinished(nextPath)
    // From here on, before the state to be copied is taken: a row is in the copy, or among these, or both.
    for (const name of tableNames) tables[name].changed = new KeySet(limits.compact_changed_rows_max)
    await failpointLater('compact.copy')
    const next = (this.#next = openDatabase(nextPath, this.#host.mapBytes))
    const reading = database.reading()
    try {
      const counts = Object.values(database.counts())
      const all = counts.reduce((sum, count) => sum + count, 0)
      let done = 0
      for (const name of tableNames) {
        await this.#copyTable(reading, name, next, (rows) => progress(Math.min((done += rows), all), all))
      }
    } finally {
      reading.done()
    }
    await failpointLater('compact.copied')
    this.#goOn()
  }

  async #copyTable({ tables, transaction }: Reading, name: TableName, next: Database, copied: (rows: number) => void): Promise<void> {
    const to = next.table(name)
    const limit = page_rows[name]
    let start = before_all
    let batch: Row[] = []
    let bytes = 0
    const put = async (): Promise<void> => {
      const rows = batch
      batch = []
      bytes = 0
      await next.batch(() => {
        for (const { key, value } of rows) to.put(key, value)
      })
      copied(rows.length)
    }
    for (;;) {
      this.#goOn()
      const page = tables[name].getRange({ start, end: after_all, limit, exclusiveStart: true, transaction })
      for (const row of page) bytes += row.key.length + row.value.length
      batch.push(...page)
      if (page.length < limit) break
      start = page[page.length - 1]!.key
      if (bytes >= batch_bytes) await put()
      else await nextTurn()
    }
    if (batch.length > 0) await put()
  }

  /** Take over what has changed since, as long as that is much. */
  async follow(): Promise<void> {
    for (let round = 0; round < rounds_max; round++) {
      if ((await this.#round(() => this.#host.settled())) < few_rows) return
      this.#goOn()
    }
  }

  /** Nothing is being written. C1, C2 */
  async end(): Promise<void> {
    const { database, nextPath, path } = this.#host
    const next = this.#next!
    this.#goOn()
    await this.#round(() => Promise.resolve())
    this.#compare(database.counts(), next.counts())
    await syncFile(nextPath)
    failpoint('compact.before')
    await rename(nextPath, path)
    this.#hasName = true
    try {
      failpoint('compact.renamed')
      await this.#host.syncFolder()
    } catch (error) {
      this.#host.fail(error) // C4
      throw error
    }
    failpoint('compact.synced')
    this.#stopWatching()
    this.#host.goOver(next)
    await rm(lockOf(nextPath), { force: true })
  }

  async abandon(): Promise<void> {
    this.#stopWatching()
    await this.#next?.close().catch(() => undefined)
    if (!this.#hasName) await removeUnfinished(this.#host.nextPath).catch(() => undefined)
  }

  /** Rows taken over. `settled`: everything that was put so far is committed, or failed. */
  async #round(settled: () => Promise<void>): Promise<number> {
    const { tables } = this.#host
    let rows = 0
    for (const name of tableNames) {
      const keys = tables[name].changed!.take()
      rows += keys.length
      if (keys.length === 0) continue
      // Those of keys taken here that are not committed yet would be seen as they were before.
      await settled()
      for (let at = 0; at < keys.length; at += batch_rows) {
        await this.#take(name, keys.slice(at, at + batch_rows))
        await nextTurn()
      }
    }
    return rows
  }

  async #take(name: TableName, keys: readonly Buffer[]): Promise<void> {
    const from = this.#host.tables[name]
    const to = this.#next!.table(name)
    await this.#next!.batch(() => {
      for (const key of keys) {
        const value = from.getBinary(key)
        if (value === undefined) to.remove(key)
        else to.put(key, value)
      }
    })
  }

  #compare(old: Readonly<Record<TableName, number>>, next: Readonly<Record<TableName, number>>): void {
    const wrong = tableNames.find((name) => old[name] !== next[name])
    if (wrong === undefined) return
    const message = `the new database has ${next[wrong]} rows of ${wrong}, the one there is ${old[wrong]}: it stays`
    throw new NineError({ kind: 'internal', op: 'tree.compact', message })
  }

  #stopWatching(): void {
    for (const name of tableNames) this.#host.tables[name].changed = undefined
  }

  #goOn(): void {
    if (this.#host.isClosed()) throw new NineError({ kind: 'unavailable', op: 'tree.compact', message: 'the database is being closed' })
  }
}

/** Where LMDB keeps who reads a file, beside it. */
function lockOf(path: string): string {
  return `${path}-lock`
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r+')
  await file.sync().finally(() => file.close())
}
