/**
 * Database: one open file of LMDB with the tables of all stores of a node.
 *
 * D1 A file is closed when nobody reads a state of it any more: until then its pages stay where they are.
 * D2 What a table throws is a NineError.
 */
import { statSync } from 'node:fs'
import { open, type RootDatabase } from 'lmdb'
import { NineError, textOf, type ErrorKind } from '../../namespace/errors.ts'
import { folderError } from '../engine/folder.ts'
import { checkDatabaseFile } from './database-file.ts'
import type { KeySet } from './key-set.ts'
import { RowScan, type ScannedRow } from './row-scan.ts'
import { rowKeyEncoder, type RangeOptions, type ReadTransaction, type RowKey, type Rows } from './rows.ts'

export const tableNames = ['nodes', 'contents', 'entries', 'tombs', 'fallen', 'meta'] as const
export type TableName = (typeof tableNames)[number]

export type TableMap<T> = { readonly [name in TableName]: T }

export function tablesOf<T>(make: (name: TableName) => T): TableMap<T> {
  return Object.fromEntries(tableNames.map((name) => [name, make(name)])) as TableMap<T>
}

/** One state of a file, which stays readable until `done`: through these tables, with this transaction. */
export interface Reading {
  readonly tables: TableMap<Table>
  readonly transaction: ReadTransaction
  /** Calls `found` with each row of a table between two keys, in order, until it returns false. @returns rows looked at (row-scan.ts) */
  scan(name: TableName, range: Pick<RangeOptions, 'start' | 'end' | 'exclusiveStart'>, found: (row: ScannedRow) => boolean): number
  done(): void
}

/** What is used of a table of LMDB's binding. */
interface OpenTable extends Rows {
  getStats(): { readonly entryCount: number }
}

/** The file is made if it is missing. @throws as LMDB; NineError `corrupt` */
export function openDatabase(path: string, mapBytes: number): Database {
  checkDatabaseFile(path)
  const root = open({
    path,
    maxDbs: 8,
    mapSize: mapBytes,
    // A checkpoint is durable when its commit answers; there is nothing to overlap it with.
    overlappingSync: false,
    // Writes are batches already; what this adds are promises that nobody can handle when a commit fails.
    eventTurnBatching: false,
  })
  return new Database(path, root)
}

export class Database {
  readonly #root: RootDatabase
  readonly #path: string
  readonly #open: TableMap<OpenTable>
  readonly #scans: TableMap<RowScan>
  #readings = 0
  #unread: (() => void) | undefined

  /** Use openDatabase. */
  constructor(path: string, root: RootDatabase) {
    this.#path = path
    this.#root = root
    this.#open = tablesOf((name) => {
      const options = { encoding: 'binary' as const, keyEncoder: rowKeyEncoder, cache: false }
      return root.openDB(name, options) as unknown as OpenTable
    })
    this.#scans = tablesOf((name) => new RowScan(root, name))
  }

  table(name: TableName): Table {
    return new Table(this.#open[name])
  }

  /** Let a table of the environment be the one of this file. */
  give(name: TableName, table: Table): void {
    table.use(this.#open[name])
  }

  /** Rows of each table. */
  counts(): TableMap<number> {
    this.refresh()
    return tablesOf((name) => this.#open[name].getStats().entryCount)
  }

  /** Bytes of the file under its name. */
  fileBytes(path = this.#path): number {
    return statSync(path, { throwIfNoEntry: false })?.size ?? 0
  }

  /** What `puts` puts and removes, as one durable transaction. */
  async batch(puts: () => void): Promise<void> {
    try {
      await this.#root.batch(puts)
    } catch (error) {
      throw await reasonOf(error)
    }
  }

  refresh(): void {
    this.#root.resetReadTxn()
  }

  /** D1 */
  reading(): Reading {
    this.refresh()
    const transaction = this.#root.useReadTransaction()
    this.#readings++
    let isOpen = true
    const done = (): void => {
      if (!isOpen) return
      isOpen = false
      transaction.done()
      if (--this.#readings === 0) this.#unread?.()
    }
    const scan: Reading['scan'] = (name, range, found) => {
      try {
        return this.#scans[name].run({ ...range, limit: Infinity, transaction }, found)
      } catch (error) {
        throw databaseError(error, 'the tree')
      }
    }
    return { tables: tablesOf((name) => this.table(name)), transaction, scan, done }
  }

  /** Nothing is being written. D1 */
  async close(): Promise<void> {
    if (this.#readings > 0) await new Promise<void>((resolve) => (this.#unread = resolve))
    await this.#root.close()
  }
}

/** A table whose failures are NineErrors. D2 */
export class Table implements Rows {
  #rows: Rows
  /** Keys of what is put and removed, where somebody wants to know. */
  changed: KeySet | undefined

  constructor(rows: Rows) {
    this.#rows = rows
  }

  use(rows: Rows): void {
    this.#rows = rows
  }

  getBinary(key: RowKey | Uint8Array): Buffer | undefined {
    try {
      return this.#rows.getBinary(key)
    } catch (error) {
      throw databaseError(error, 'the tree')
    }
  }

  getRange(options: RangeOptions): { readonly key: Uint8Array; readonly value: Buffer }[] {
    try {
      return Array.from(this.#rows.getRange(options))
    } catch (error) {
      throw databaseError(error, 'the tree')
    }
  }

  getKeys(options: RangeOptions): Uint8Array[] {
    try {
      return Array.from(this.#rows.getKeys(options) as Iterable<Uint8Array>)
    } catch (error) {
      throw databaseError(error, 'the tree')
    }
  }

  put(key: RowKey | Uint8Array, value: Uint8Array): void {
    if (this.changed !== undefined) this.changed.add(key)
    this.#rows.put(key, value)
  }

  remove(key: RowKey | Uint8Array): void {
    if (this.changed !== undefined) this.changed.add(key)
    this.#rows.remove(key)
  }
}

/** LMDB's binding rejects with a wrapper whose `commitError` promises the reason. */
async function reasonOf(error: unknown): Promise<unknown> {
  const reason = (error as { commitError?: Promise<unknown> } | undefined)?.commitError
  if (reason === undefined) return error
  return Promise.race([reason.then(undefined, (cause: unknown) => cause), new Promise((resolve) => setImmediate(resolve, error))])
}

/** https://www.symas.com/mdb: return codes of LMDB, by their texts. */
export function databaseError(error: unknown, dir: string): NineError {
  const text = textOf(error)
  const kind: ErrorKind | undefined = /MDB_CORRUPTED|MDB_PAGE_NOTFOUND|MDB_INVALID|MDB_VERSION_MISMATCH|not an LMDB file/i.test(text)
    ? 'corrupt'
    : /MDB_MAP_FULL|No space left/i.test(text)
      ? 'no_space'
      : undefined
  if (kind === undefined) return folderError(error, dir)
  const advice = kind === 'corrupt' ? '. Restore the data folder from a backup' : ''
  return new NineError({ kind, op: 'tree.open', path: dir, message: `the tree's database in ${dir}: ${text}${advice}`, cause: error })
}
