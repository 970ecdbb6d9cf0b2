/**
 * Environment: the one LMDB database that all stores of a node share, and the folders of their history.
 *
 * E1 One write transaction at a time, over all stores. What is put inside `write` becomes durable as a whole or not at all.
 * E2 Transactions are never awaited put by put: a batch goes to LMDB's own write thread, the event loop goes on. That it
 *    failed is told once, by `write`.
 */
import { mkdirSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import { NineError, type ErrorKind } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import { folderError } from '../engine/folder.ts'
import { checkDatabaseFile } from './database-file.ts'
import { rowKeyEncoder, type RangeOptions, type ReadTransaction, type RowKey, type Rows, type Tables } from './rows.ts'
import { Slots } from './slots.ts'
import { dropSlot, Staged } from './staged.ts'
import { openTree, type Tree, type TreeOptions } from './tree.ts'

export interface EnvironmentOptions {
  readonly dir: string
  /** Default: `history` beside `dir`. */
  readonly historyDir?: string | undefined
  /** Address space reserved at first, bytes; it grows as needed. */
  readonly mapBytes?: number | undefined
}

/**
 * Open the database, which is made if it is missing.
 * @throws NineError `corrupt`, `denied`, `read_only`, `no_space`, `not_directory`, `internal`
 */
export async function openEnvironment(options: EnvironmentOptions): Promise<Environment> {
  try {
    mkdirSync(options.dir, { recursive: true, mode: 0o700 })
    const path = join(options.dir, 'tree.mdb')
    checkDatabaseFile(path)
    const root = open({
      path,
      maxDbs: 8,
      mapSize: options.mapBytes ?? limits.tree_map_bytes,
      // A checkpoint is durable when its commit answers; there is nothing to overlap it with.
      overlappingSync: false,
      // Writes are batches already; what this adds are promises that nobody can handle when a commit fails.
      eventTurnBatching: false,
    })
    const environment = new Environment(root, options.dir, options.historyDir ?? join(options.dir, '..', 'history'))
    environment.sweep()
    return environment
  } catch (error) {
    throw databaseError(error, options.dir)
  }
}

/** Less free space than this is none. */
const full_bytes = 1024 * 1024

export class Environment {
  readonly tables: Tables
  readonly #root: RootDatabase
  readonly #dir: string
  readonly #historyDir: string
  readonly #trees = new Map<number, Tree>()
  readonly #slots: Slots
  /** Slots being put together. */
  readonly #staged = new Set<number>()
  #writing: Promise<unknown> = Promise.resolve()
  /** Loads under way, which do not wait for each other. */
  readonly #loading = new Set<Promise<void>>()
  #sweeping: Promise<void> | undefined
  #sweepAgain = false
  #isClosed = false

  /** Use openEnvironment. */
  constructor(root: RootDatabase, dir: string, historyDir: string) {
    this.#root = root
    this.#dir = dir
    this.#historyDir = historyDir
    this.tables = {
      nodes: this.#table('nodes'),
      contents: this.#table('contents'),
      entries: this.#table('entries'),
      tombs: this.#table('tombs'),
      fallen: this.#table('fallen'),
      meta: this.#table('meta'),
    }
    this.#slots = new Slots(this.tables)
  }

  /**
   * The tree of a group, made if it is new. Each group once.
   * @throws NineError `corrupt`, `no_space`, `denied`, `read_only`
   */
  async tree(group: number, options: TreeOptions): Promise<Tree> {
    if (this.#trees.has(group)) throw new NineError({ kind: 'internal', op: 'tree.open', message: `group ${group} is open already` })
    const tree = openTree(this, group, options)
    this.#trees.set(group, tree)
    return tree
  }

  /**
   * Run `puts` and make what it puts and removes durable as one transaction. E1
   * @throws NineError `no_space`, `internal`: then nothing of it happened
   */
  write(puts: () => void): Promise<void> {
    const written = this.#writing.then(() => this.#write(puts))
    this.#writing = written.catch(() => undefined)
    return written
  }

  /** As write, without waiting for the writes before: for rows that nothing else puts. Several may become one transaction. */
  load(puts: () => void): Promise<void> {
    const written = this.#write(puts)
    const ended: Promise<void> = written.catch(() => undefined).finally(() => this.#loading.delete(ended))
    this.#loading.add(ended)
    return written
  }

  /** Reads from here on see everything committed. */
  refresh(): void {
    this.#root.resetReadTxn()
  }

  /** The newest committed state, held until `done`: what is overwritten meanwhile takes room in the file. */
  reading(): ReadTransaction {
    this.refresh()
    return this.#root.useReadTransaction()
  }

  /** Under which number the rows of a group stand. */
  slotOf(group: number): number {
    return this.#slots.of(group)
  }

  historyDirOf(slot: number): string {
    return join(this.#historyDir, String(slot))
  }

  /** Begin to put together a state that is to replace a group's. @throws NineError as write */
  async stage(group: number): Promise<Staged> {
    const { slot, run } = this.#slots.begin()
    this.#staged.add(slot)
    try {
      await this.write(run)
      return new Staged(this, group, slot, this.historyDirOf(slot))
    } catch (error) {
      this.#staged.delete(slot)
      throw error
    }
  }

  /** For Staged only. */
  async take({ group, slot }: Staged, puts: () => void): Promise<void> {
    const { run, done } = this.#slots.take(group, slot)
    await this.write(() => {
      puts()
      run()
    })
    done()
    this.#staged.delete(slot)
    await this.#trees.get(group)?.reload()
    this.sweep()
  }

  /** For Staged only: what was put there goes. */
  abandon(slot: number): void {
    this.#staged.delete(slot)
    this.sweep()
  }

  /** Take away, in the background, what no group's slot holds. What fails is tried again after the next opening. */
  sweep(): void {
    this.#sweepAgain = true
    this.#sweeping ??= this.#sweep()
      .catch(() => undefined)
      .finally(() => (this.#sweeping = undefined))
  }

  /** Nothing is left to take away. */
  async swept(): Promise<void> {
    await this.#sweeping
  }

  /** Does not checkpoint: the log has what the trees have not written. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.#sweeping
    await Promise.all(this.#loading)
    await this.#writing
    for (const tree of this.#trees.values()) await tree.history.close()
    await this.#root.close()
  }

  async #sweep(): Promise<void> {
    while (this.#sweepAgain && !this.#isClosed) {
      this.#sweepAgain = false
      for (const slot of this.#slots.dropped) {
        if (this.#staged.has(slot)) continue
        if (!(await dropSlot(this, slot, this.historyDirOf(slot), () => this.#isClosed))) return
        const { run, done } = this.#slots.forget(slot)
        await this.write(run)
        done()
      }
    }
  }

  async #write(puts: () => void): Promise<void> {
    if (this.#isClosed) throw new NineError({ kind: 'unavailable', op: 'tree.write', message: 'the database is closed' })
    try {
      failpoint('tree.write')
      await this.#root.batch(puts)
    } catch (error) {
      throw this.#writeError(await reasonOf(error))
    } finally {
      this.refresh()
    }
  }

  /** LMDB calls a write that the disk had room for in part an I/O error. */
  #writeError(reason: unknown): NineError {
    const failure = databaseError(reason, this.#dir)
    if (failure.kind !== 'internal' || !/Input\/output error/i.test(failure.message)) return failure
    const { bavail, bsize } = statfsSync(this.#dir)
    if (bavail * bsize >= full_bytes) return failure
    const message = `no space is left for the tree in ${this.#dir}`
    return new NineError({ kind: 'no_space', op: 'tree.write', path: this.#dir, message, cause: reason })
  }

  #table(name: string): Rows {
    const options = { encoding: 'binary' as const, keyEncoder: rowKeyEncoder, cache: false }
    return new CheckedRows(this.#root.openDB(name, options) as unknown as Rows)
  }
}

/** A table whose failures are NineErrors. */
class CheckedRows implements Rows {
  readonly #rows: Rows

  constructor(rows: Rows) {
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
    this.#rows.put(key, value)
  }

  remove(key: RowKey | Uint8Array): void {
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
function databaseError(error: unknown, dir: string): NineError {
  const text = error instanceof Error ? error.message : String(error)
  const kind: ErrorKind | undefined = /MDB_CORRUPTED|MDB_PAGE_NOTFOUND|MDB_INVALID|MDB_VERSION_MISMATCH|not an LMDB file/i.test(text)
    ? 'corrupt'
    : /MDB_MAP_FULL|No space left/i.test(text)
      ? 'no_space'
      : undefined
  if (kind === undefined) return folderError(error, dir)
  const advice = kind === 'corrupt' ? '. Restore the data folder from a backup' : ''
  return new NineError({ kind, op: 'tree.open', path: dir, message: `the tree's database in ${dir}: ${text}${advice}`, cause: error })
}
