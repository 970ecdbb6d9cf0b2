/**
 * Environment: the one LMDB database that all stores of a node share, and the folders of their history.
 *
 * E1 One write transaction at a time, over all stores. What is put inside `write` becomes durable as a whole or not at all.
 * E2 Transactions are never awaited put by put: a batch goes to LMDB's own write thread, the event loop goes on. That it
 *    failed is told once, by `write`.
 * E3 What may fail of going over to another state of a group comes before its commit, and the tree shows it in the turn in which that is
 *    known: what a tree shows is never swept.
 * E4 The database is written anew (compaction.ts) while others read and write; which file is behind the tables then is nobody else's matter.
 */
import { mkdirSync, statfsSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { NineError } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import { compact, removeUnfinished, type Compacted, type CompactProgress } from './compaction.ts'
import { databaseError, openDatabase, tableNames, tablesOf, type Database, type Reading, type Table, type TableName } from './database.ts'
import type { TreeMeta } from './meta.ts'
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

export interface TakeSlotOptions {
  /** The tree's own row, where it is to differ from what was put. */
  readonly tree?: TreeMeta | undefined
  /** Called in the turn in which the group's tree has become this state. */
  readonly taken?: (() => void) | undefined
}

/**
 * Open the database, which is made if it is missing.
 * @throws NineError `corrupt`, `denied`, `read_only`, `no_space`, `not_directory`, `internal`
 */
export async function openEnvironment(options: EnvironmentOptions): Promise<Environment> {
  const { dir, mapBytes = limits.tree_map_bytes } = options
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    await removeUnfinished(join(dir, nextFile))
    await syncFolder(dir) // C2 of compaction.ts
    const database = openDatabase(join(dir, databaseFile), mapBytes)
    const environment = new Environment(database, dir, options.historyDir ?? join(dir, '..', 'history'), mapBytes)
    environment.sweep()
    return environment
  } catch (error) {
    throw databaseError(error, dir)
  }
}

const databaseFile = 'tree.mdb'
/** A database that is to become that one. */
const nextFile = 'compact.mdb'

/** Less free space than this is none. */
const full_bytes = 1024 * 1024

export class Environment {
  readonly tables: { readonly [name in TableName]: Table }
  readonly #dir: string
  readonly #historyDir: string
  readonly #mapBytes: number
  #database: Database
  #compacting: Promise<Compacted> | undefined
  /** Files that it went over from, and that are still read. */
  readonly #retired = new Set<Promise<void>>()
  /** Loads wait for it. */
  #gate: Promise<void> | undefined
  /** Why nothing is written any more. */
  #failure: NineError | undefined
  readonly #trees = new Map<number, Tree>()
  readonly #slots: Slots
  /** Slots being put together. */
  readonly #staged = new Set<number>()
  #writing: Promise<unknown> = Promise.resolve()
  /** Loads under way, which do not wait for each other. */
  readonly #loading = new Set<Promise<void>>()
  #sweeping: Promise<void> | undefined
  #sweepAgain = false
  #taken = 0
  #isClosed = false

  /** Use openEnvironment. */
  constructor(database: Database, dir: string, historyDir: string, mapBytes: number) {
    this.#database = database
    this.#dir = dir
    this.#historyDir = historyDir
    this.#mapBytes = mapBytes
    this.tables = tablesOf((name) => database.table(name))
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
    const written = this.#gate?.then(() => this.#write(puts)) ?? this.#write(puts)
    const ended: Promise<void> = written.catch(() => undefined).finally(() => this.#loading.delete(ended))
    this.#loading.add(ended)
    return written
  }

  /** Reads from here on see everything committed. */
  refresh(): void {
    this.#database.refresh()
  }

  /** The newest committed state, held until `done`: what is overwritten meanwhile takes room in the file. */
  reading(): Reading {
    return this.#database.reading()
  }

  /** Bytes of the database's file. */
  get fileBytes(): number {
    return this.#database.fileBytes(join(this.#dir, databaseFile))
  }

  /**
   * Write the database anew, so that its file is as large as what it holds. One at a time: who comes meanwhile gets what the first gets. E4
   * Needs room on the disk for what it holds.
   * @throws NineError `no_space`, `overloaded` (much is written meanwhile), `unavailable`, `internal`: the database is as it was
   */
  compact(progress?: CompactProgress): Promise<Compacted> {
    this.#compacting ??= this.#compact(progress).finally(() => (this.#compacting = undefined))
    return this.#compacting
  }

  /** How many states have taken the place of others since it was opened. */
  get taken(): number {
    return this.#taken
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
  async take({ group, slot }: Staged, puts: () => void, { tree, taken }: TakeSlotOptions): Promise<void> {
    const shown = this.#trees.get(group)
    const next = shown?.prepare(slot, tree) // E3
    const { run, done } = this.#slots.take(group, slot)
    try {
      await this.write(() => {
        puts()
        run()
      })
    } catch (error) {
      await next?.history.close()
      throw error
    }
    done()
    this.#taken++
    this.#staged.delete(slot)
    const before = next === undefined ? undefined : shown?.adopt(next)
    taken?.()
    // What it did not write nobody asks for any more.
    await before?.close().catch(() => undefined)
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
    await this.#compacting?.catch(() => undefined)
    await this.#sweeping
    await Promise.all(this.#loading)
    await this.#writing
    for (const tree of this.#trees.values()) await tree.history.close()
    await this.#database.close()
    await Promise.all(this.#retired)
  }

  async #compact(progress: CompactProgress | undefined): Promise<Compacted> {
    if (this.#isClosed) throw new NineError({ kind: 'unavailable', op: 'tree.compact', message: 'the database is closed' })
    try {
      return await compact(
        {
          path: join(this.#dir, databaseFile),
          nextPath: join(this.#dir, nextFile),
          mapBytes: this.#mapBytes,
          database: this.#database,
          tables: this.tables,
          isClosed: () => this.#isClosed,
          settled: async () => void (await Promise.all([this.#writing, ...this.#loading])),
          alone: (run) => this.#whileNothingIsWritten(run),
          syncFolder: () => syncFolder(this.#dir),
          goOver: (next) => this.#goOver(next),
          fail: (error) => (this.#failure ??= databaseError(error, this.#dir)),
        },
        progress,
      )
    } catch (error) {
      throw this.#writeError(error)
    }
  }

  /** As write: behind the writes before, and before those that come later. */
  #whileNothingIsWritten(run: () => Promise<void>): Promise<void> {
    const done = this.#writing.then(async () => {
      let open!: () => void
      const loading = [...this.#loading]
      this.#gate = new Promise((resolve) => (open = resolve))
      try {
        await Promise.all(loading)
        await run()
      } finally {
        this.#gate = undefined
        open()
      }
    })
    this.#writing = done.catch(() => undefined)
    return done
  }

  #goOver(next: Database): void {
    const before = this.#database
    this.#database = next
    for (const name of tableNames) next.give(name, this.tables[name])
    next.refresh()
    const closed: Promise<void> = before
      .close()
      .catch(() => undefined)
      .finally(() => this.#retired.delete(closed))
    this.#retired.add(closed)
  }

  async #sweep(): Promise<void> {
    while (this.#sweepAgain && !this.#isClosed) {
      this.#sweepAgain = false
      for (const slot of this.#slots.dropped) {
        if (this.#staged.has(slot) || this.#isShown(slot)) continue
        if (!(await dropSlot(this, slot, this.historyDirOf(slot), () => this.#isClosed))) return
        const { run, done } = this.#slots.forget(slot)
        await this.write(run)
        done()
      }
    }
  }

  /** E3 */
  #isShown(slot: number): boolean {
    for (const tree of this.#trees.values()) if (tree.slot === slot) return true
    return false
  }

  async #write(puts: () => void): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#isClosed) throw new NineError({ kind: 'unavailable', op: 'tree.write', message: 'the database is closed' })
    try {
      failpoint('tree.write')
      await this.#database.batch(puts)
    } catch (error) {
      throw this.#writeError(error)
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
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  await folder.sync().finally(() => folder.close())
}
