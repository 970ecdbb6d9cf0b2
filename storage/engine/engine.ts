/**
 * Engine: everything that the stores of one node share. One log, one LMDB environment, one folder of chunks, one lock.
 *
 * G1 Opening brings every store to the end of the log, through the same apply that serves, and only then answers.
 * G2 Stores are saved in the background, and the log is cut behind what is saved (upkeep.ts).
 * G3 A log that has failed stops mutations; reads go on, and `status` says why.
 */
import { join } from 'node:path'
import type { Collected } from '../blob/collect.ts'
import { openFileBlobs } from '../blob/files.ts'
import { BlobPins } from '../blob/pins.ts'
import type { BlobStore } from '../blob/store.ts'
import type { Context } from '../../namespace/context.ts'
import { systemClock, type Clock } from '../../namespace/clock.ts'
import { NineError, textOf } from '../../namespace/errors.ts'
import { failpointValue } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import { parseName } from '../../namespace/path.ts'
import { systemRandom, type Random } from '../../namespace/random.ts'
import type { Micros } from '../../namespace/stat.ts'
import { Machine } from '../apply/machine.ts'
import type { Ino, Outcome, RestoreCommand } from '../model.ts'
import { Member, type MemberOptions } from '../replica/member.ts'
import type { BackupParts } from '../snapshot/backup.ts'
import { tryBackup } from '../snapshot/replace.ts'
import { Store } from '../store/store.ts'
import type { Compacted } from '../tree/compaction.ts'
import { openEnvironment, type Environment } from '../tree/environment.ts'
import type { WalFiles } from '../wal/files.ts'
import { openWal, type Wal } from '../wal/wal.ts'
import { folderError, prepareFolder, readStores, writeStores, type StoreRow } from './folder.ts'
import { Lane } from './lane.ts'
import { lockFolder, type FolderLock } from './lock.ts'
import { Pipeline } from './pipeline.ts'
import type { EngineStatus } from './status.ts'
import { blobRoots, Upkeep, type DefragStep } from './upkeep.ts'
import type { Writer } from './writer.ts'

/** What the engine tells an operator; pino fits. */
export interface Logger {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface EngineOptions {
  readonly dir: string
  /** Principal that has every right in stores made from now on. */
  readonly owner: string
  readonly clock?: Clock | undefined
  readonly random?: Random | undefined
  readonly logger?: Logger | undefined
  /** Open the folder as a member of a cluster: its stores are those in stores.json, each with its group. */
  readonly member?: MemberOptions | undefined
  /** For tests: another disk under the log. */
  readonly walFiles?: WalFiles | undefined
  /** For tests: sizes and times at which the background work begins. */
  readonly tuning?: Partial<Tuning> | undefined
}

export interface Tuning {
  readonly overlayBytesMax: number
  readonly checkpointMs: number
  readonly collectMs: number
  readonly walSegmentBytes: number
  readonly blobGraceMs: number
  readonly historyBytesMax: number
  readonly historyMsMax: number
}

/**
 * Open the data folder, which is made if it is missing.
 * @throws NineError `unavailable` (another process has it: the message names the pid), `corrupt`, `unsupported` (newer
 *   format), `denied`, `read_only`, `not_directory`, `no_space`, `invalid` (a folder with other things in it), `internal`
 */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  const { dir } = options
  prepareFolder(dir)
  const lock = await lockFolder(dir)
  const opened: { close(): Promise<void> }[] = []
  try {
    const engine = new Engine(options, lock, opened)
    await engine.start()
    return engine
  } catch (error) {
    for (const part of opened.reverse()) await part.close().catch(() => undefined)
    await lock.release()
    throw error
  }
}

export class Engine {
  readonly dir: string
  readonly owner: string
  /** As the node's clock, but after every change of a store: what is born by it now is younger than any client a store has forgotten. */
  readonly clock: Clock = { now: () => this.#now(), monotonic: () => this.#clock.monotonic() }
  /** Of a folder that belongs to a cluster: the node's part in it. */
  readonly member: Member | undefined
  readonly #options: EngineOptions
  readonly #clock: Clock
  readonly #random: Random
  readonly #logger: Logger | undefined
  readonly #tuning: Tuning
  readonly #lock: FolderLock
  readonly #opened: { close(): Promise<void> }[]
  readonly #writer: Writer
  readonly #pins = new BlobPins()
  readonly #lanes = new Map<number, Lane>()
  readonly #stores = new Map<string, Store>()
  #rows: StoreRow[] = []
  #wal!: Wal
  #environment!: Environment
  #blobs!: BlobStore
  #replayed = 0
  #warning: string | undefined
  #upkeep!: Upkeep
  #closing: Promise<void> | undefined
  /** The store of a cluster that is being opened. */
  #making: Promise<Store> | undefined

  /** Use openEngine. `opened`: parts to close should `start` fail. */
  constructor(options: EngineOptions, lock: FolderLock, opened: { close(): Promise<void> }[]) {
    this.#options = options
    this.dir = options.dir
    this.owner = options.owner
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? systemRandom
    this.#logger = options.logger
    this.#lock = lock
    this.#opened = opened
    this.#tuning = {
      overlayBytesMax: failpointValue('overlay.bytes', limits.overlay_bytes_max),
      checkpointMs: failpointValue('checkpoint.ms', limits.checkpoint_ms),
      collectMs: limits.collect_ms,
      walSegmentBytes: failpointValue('segment.bytes', limits.wal_segment_bytes),
      blobGraceMs: limits.blob_grace_ms,
      historyBytesMax: limits.history_bytes_max,
      historyMsMax: limits.history_ms_max,
      ...options.tuning,
    }
    const progressed = (): void => this.#upkeep.watchOverlay()
    if (options.member === undefined) this.#writer = new Pipeline(this.#clock, () => this.#now(), options.dir, progressed)
    else {
      this.#writer = this.member = new Member(options.member, {
        dir: this.dir,
        clock: this.clock,
        nodeClock: this.#clock,
        random: this.#random,
        pins: this.#pins,
        environment: () => this.#environment,
        row: (group) => this.#rows.find((row) => row.group === group),
        progressed,
        warn: this.#warn,
        note: (text) => this.#logger?.warn({}, text),
      })
    }
  }

  /** G1 */
  async start(): Promise<void> {
    const { dir } = this
    this.#rows = readStores(dir)
    const files = await openFileBlobs({ folder: join(dir, 'blobs'), clock: this.#clock })
    this.#blobs = this.member?.blobsOver(files, () => blobRoots(this.#lanes)) ?? files
    this.#opened.push(this.#blobs)
    this.#environment = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history') })
    this.#opened.push(this.#environment)
    this.#wal = await openWal({
      dir: join(dir, 'wal'),
      files: this.#options.walFiles,
      segmentBytes: this.#tuning.walSegmentBytes,
      clock: this.#clock,
      random: this.#random,
      mustExist: this.#rows.length > 0,
      onDurable: this.#writer.durable,
      onFailed: this.#failed,
    })
    this.#opened.push(this.#wal)
    this.#upkeep = this.#makeUpkeep()
    for (const row of this.#rows) this.#lanes.set(row.group, await this.#openLane(row))
    this.#replayed = await this.#writer.start(this.#wal, this.#lanes)
    for (const row of this.#rows) this.#serve(row)
    this.#upkeep.start()
    const { tornBytes, tornFile } = this.#wal.report
    if (tornBytes > 0) this.#logger?.warn({ tornBytes, tornFile }, 'the log ended in an interrupted write, which was cut off')
    this.#logger?.info({ dir, stores: this.#rows.length, replayed: this.#replayed }, 'data folder opened')
  }

  /** The store of this name. @throws NineError `not_found` */
  store(name: string): Store {
    const store = this.#stores.get(name)
    if (store !== undefined) return store
    throw new NineError({ kind: 'not_found', op: 'storage.store', message: `this node has no store ${name}` })
  }

  hasStore(name: string): boolean {
    return this.#stores.has(name)
  }

  stores(): readonly Store[] {
    return [...this.#stores.values()]
  }

  /** The stores of this folder, as it lists them. */
  rows(): readonly StoreRow[] {
    return this.#rows
  }

  /**
   * Make a store; durable when it answers.
   * @throws NineError `exists`, `invalid` (name), `overloaded` (limits.stores_max), `unavailable`, `no_space`
   */
  async createStore(name: string, owner: string = this.owner): Promise<Store> {
    const op = 'storage.createStore'
    parseName(name, op)
    if (this.#closing !== undefined) throw new NineError({ kind: 'unavailable', op, message: 'the data folder is being closed' })
    if (this.member !== undefined) {
      throw new NineError({ kind: 'unsupported', op, message: 'a store of a cluster is made by the cluster' })
    }
    if (this.#rows.some((row) => row.name === name)) throw new NineError({ kind: 'exists', op, message: `there is a store ${name}` })
    if (this.#rows.length >= limits.stores_max) {
      throw new NineError({ kind: 'overloaded', op, message: `a node keeps at most ${limits.stores_max} stores` })
    }
    const group = 1 + Math.max(0, ...this.#rows.map((row) => row.group))
    return this.#make({ group, name, id: this.#random.id(), incarnation: this.#random.id(), owner })
  }

  #make(row: StoreRow): Promise<Store> {
    const making = this.#makeStore(row).finally(() => (this.#making = undefined))
    this.#making = making
    return making
  }

  async #makeStore(row: StoreRow): Promise<Store> {
    this.#rows = [...this.#rows, row]
    try {
      writeStores(this.dir, this.#rows)
      const lane = await this.#openLane(row)
      this.#lanes.set(row.group, lane)
      await this.#writer.add(lane)
    } catch (error) {
      // At worst the list names an empty store until it is written again.
      this.#rows = this.#rows.filter((known) => known !== row)
      throw folderError(error, this.dir)
    }
    return this.#serve(row)
  }

  /**
   * Open a store of the cluster that this node does not serve yet; durable when it answers. One it has is given as it is.
   * @throws NineError `exists` (another store has its name or number), as createStore
   */
  async openStore(row: StoreRow): Promise<Store> {
    const op = 'storage.openStore'
    while (this.#making !== undefined) await this.#making.catch(() => undefined)
    const known = this.#rows.find(({ name, group }) => name === row.name || group === row.group)
    if (known?.id === row.id && known.group === row.group && known.name === row.name) return this.store(row.name)
    if (known !== undefined) {
      const message = `store ${row.name} of the cluster is group ${row.group}, but this node has store ${known.name} as group ${known.group}`
      throw new NineError({ kind: 'exists', op, message })
    }
    if (this.#closing !== undefined) throw new NineError({ kind: 'unavailable', op, message: 'the data folder is being closed' })
    return this.#make(row)
  }

  /** What a backup of a store is made of, saved up to now: see snapshot/backup.ts. @throws NineError `not_found`, as save */
  async backupParts(name: string): Promise<BackupParts> {
    const row = this.#rows.find((known) => known.name === name)
    const lane = row === undefined ? undefined : this.#lanes.get(row.group)
    if (row === undefined || lane === undefined) {
      throw new NineError({ kind: 'not_found', op: 'storage.backup', message: `this node has no store ${name}` })
    }
    // One that is under way may have begun before the last change.
    await lane.save()
    await lane.save()
    const { group, id: store, owner } = row
    const incarnation = lane.machine.incarnation ?? row.incarnation
    return { tree: lane.tree, blobs: this.#blobs, identity: { store, incarnation, name, owner, group } }
  }

  /**
   * Put the state of a backup in the place of a store's while it serves: one change, made once for each id (apply/restores.ts). The chunks
   * that the command names are there, and stay until every member has made it.
   * @throws NineError `not_found`, as a change
   */
  restore(context: Context, name: string, command: RestoreCommand): Promise<Outcome> {
    const lane = this.#lanes.get(this.store(name).group)!
    return this.#writer.restore(lane, context, command, { environment: this.#environment, blobs: this.#blobs, pins: this.#pins })
  }

  /**
   * Read a backup as `restore` does, and give it up: what this rejects with would keep a cluster's store from going on, for good where it
   * is `corrupt` or `unsupported`. @returns the last time in it: the restore's must be later
   * @throws NineError `not_found`, `corrupt`, `unsupported`, `no_space`, `unavailable`, `internal`; the signal's reason
   */
  tryBackup(name: string, backup: NonNullable<RestoreCommand['backup']>, source: string, signal: AbortSignal): Promise<Micros> {
    const lane = this.#lanes.get(this.store(name).group)!
    return tryBackup(lane, this.#environment, this.#blobs, { name: source, backup }, signal)
  }

  /** Restores of a store that this node has made or seen given up. @throws NineError `not_found` */
  restores(name: string): Machine['restores'] {
    return this.#lanes.get(this.store(name).group)!.machine.restores
  }

  /** Chunks of large values of all stores. */
  get blobs(): BlobStore {
    return this.#blobs
  }

  status(): EngineStatus {
    const { waiting, failure, refused } = this.#writer.status
    const unsaved = this.#upkeep.saveFailure
    const stores = this.#rows.flatMap(({ group, name, id }) => {
      const lane = this.#lanes.get(group)
      const store = this.#stores.get(name)
      if (lane === undefined || store === undefined) return []
      const { revision, appliedIndex, tree } = lane
      const { openHandles: handles, watchers, incarnation } = store
      return [
        {
          name,
          id,
          incarnation,
          revision,
          appliedIndex,
          overlayBytes: tree.overlayBytes,
          handles,
          watchers,
          trouble: lane.failure?.message ?? lane.trouble ?? refused?.message ?? unsaved?.message ?? this.member?.fill.trouble,
        },
      ]
    })
    return {
      isWritable: failure === undefined && this.#closing === undefined,
      failure: failure?.message,
      warning: this.#warning,
      waiting,
      replayed: this.#replayed,
      wal: this.#wal.report,
      blobs: this.#blobs.stats(),
      stores,
    }
  }

  /** @see Upkeep.save */
  save(): Promise<void> {
    return this.#upkeep.save()
  }

  /** @see Upkeep.collect */
  collect(): Promise<Collected> {
    return this.#upkeep.collect()
  }

  /** @see Upkeep.defrag */
  defrag(progress?: (step: DefragStep) => void): Promise<Compacted> {
    return this.#upkeep.defrag(progress)
  }

  /** Take no more changes, finish those under way, save everything. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  #now(): Micros {
    let now = this.#clock.now()
    for (const { machine } of this.#lanes.values()) now = Math.max(now, machine.time + 1, machine.horizon + 1)
    return now
  }

  async #openLane(row: StoreRow): Promise<Lane> {
    const isHeld = (ino: Ino): boolean => this.#stores.get(row.name)?.isOpen(ino) === true
    const tree = await this.#environment.tree(row.group, { owner: row.owner, isHeld })
    const { appliedIndex, revision, meta } = tree.meta()
    const machine = new Machine({ owner: row.owner })
    machine.import(meta)
    const lane = new Lane(row.group, row.name, machine, tree, this.#wal.id, appliedIndex, revision)
    lane.importLog(meta)
    this.#writer.opened(lane, row, meta)
    const { savedLogId = this.#wal.id } = lane
    if (lane.appliedLsn <= this.#wal.lastLsn && savedLogId === this.#wal.id) return lane
    const message = `the log ends with record ${this.#wal.lastLsn}, but store ${row.name} holds record ${lane.appliedLsn}: the log is not the one of this folder, or was cut short`
    throw new NineError({ kind: 'corrupt', op: 'storage.open', path: this.dir, message })
  }

  #serve(row: StoreRow): Store {
    const lane = this.#lanes.get(row.group)!
    const store = new Store(
      {
        ...row,
        incarnation: lane.machine.incarnation ?? row.incarnation,
        tree: lane.tree,
        blobs: this.#blobs,
        pins: this.#pins,
        clock: this.#clock,
        random: this.#random,
        proposer: this.#writer.proposerFor(lane),
        restoredAt: () => lane.machine.restoredAt,
        replication: this.#writer.replicationFor(lane),
        fill: this.member?.fill,
        leaseTable: lane.machine.leases,
      },
      lane.revision,
    )
    lane.store = store
    this.#stores.set(row.name, store)
    return store
  }

  #makeUpkeep(): Upkeep {
    const { member } = this
    return new Upkeep({
      dir: this.dir,
      clock: this.#clock,
      tuning: this.#tuning,
      lanes: this.#lanes,
      writer: this.#writer,
      wal: this.#wal,
      environment: this.#environment,
      blobs: this.#blobs,
      pins: this.#pins,
      linearizeAll: member === undefined ? undefined : (op) => member.linearizeAll(op),
      warn: this.#warn,
    })
  }

  readonly #failed = (from: number, to: number, error: NineError): void => {
    this.#logger?.error({ from, to, kind: error.kind, outcome: error.outcome }, `the log could not be written: ${error.message}`)
    this.#writer.failed(from, to, error)
  }

  readonly #warn = (error: unknown): void => {
    if (this.#closing !== undefined) return
    this.#warning = textOf(error)
    this.#logger?.warn({ error }, `background work of the storage failed and will be tried again: ${this.#warning}`)
  }

  /** Publish what open files hold. A member without a majority does not wait for one. */
  async #drain(): Promise<void> {
    const drained = Promise.all(this.stores().map((store) => store.drain()))
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      if (this.member !== undefined) timer = setTimeout(resolve, limits.replica_drain_ms)
    })
    await Promise.race([drained, late]).finally(() => clearTimeout(timer))
  }

  async #close(): Promise<void> {
    this.#upkeep.ending()
    await this.#drain()
    this.#writer.close()
    await this.#upkeep.ended()
    let failure: unknown
    try {
      await this.#wal.close()
      this.#writer.settleAll()
      for (const lane of this.#lanes.values()) if (lane.failure === undefined) await lane.save()
    } catch (error) {
      failure = error // The log still has it: opening again replays it.
    }
    for (const store of this.stores()) store.close()
    await this.#writer.ended()
    await this.#environment.close()
    await this.#blobs.close()
    await this.#lock.release()
    if (failure !== undefined) this.#logger?.warn({ error: failure }, 'the stores could not be saved at close; the log has their changes')
  }
}
