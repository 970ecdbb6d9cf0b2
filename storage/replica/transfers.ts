/**
 * Snapshots between the nodes of a cluster: made for a member that is too far behind for the log, received as such a member, and put in
 * place of a lane's state when the core says so.
 *
 *   DATA/snapshots/out-GROUP-ID.snap               being sent, while it is written; removed with the last who reads it
 *   DATA/snapshots/in-GROUP-ID.part                being received; what is there of the same ID is not sent again
 *   DATA/snapshots/in-GROUP-INDEX-TERM.snap        received and whole; stays until a checkpoint of the lane is at it, or behind it
 *
 * T1 A snapshot is told to the core only when all of it was read and its hash held, and its name is on stable storage. So installing
 *    one cannot fail for what is in it.
 * T2 From then on the log may have its install: the file goes only when that is not needed any more. Whatever crashes or fails before,
 *    and whatever is received meanwhile, `install` finds it and loads it anew.
 *    Bytes are sent as soon as they are written, and loaded as soon as they are received (sending.ts, receiving.ts): what is loaded
 *    stands beside the state of the store until all of it counts.
 * T3 While one is sent, the log behind it stays in memory for whoever gets it, up to a bound in entries and bytes; past it a newer one is sent.
 * T4 One that cannot take the place of the state, as on a full disk, ends nothing: it is tried again until it does.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Clock } from '../../namespace/clock.ts'
import { NineError, type ErrorKind } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import type { Random } from '../../namespace/random.ts'
import type { Group, Install, SnapshotMeta } from '../../raft/index.ts'
import { folderError, type StoreRow } from '../engine/folder.ts'
import type { Lane } from '../engine/lane.ts'
import { openSource, syncFolder } from '../snapshot/files.ts'
import type { SnapshotHeader } from '../snapshot/format.ts'
import { installSnapshot } from '../snapshot/install.ts'
import { loadSnapshot, type LoadedSnapshot } from '../snapshot/load.ts'
import type { Environment } from '../tree/environment.ts'
import { checkHeader, PassedSink, Receiving, type IncomingSink, type TransferredSnapshot } from './receiving.ts'
import { Sending, type OutgoingSource } from './sending.ts'

export interface TransferParts {
  readonly dir: string
  readonly environment: () => Environment
  readonly lane: (group: number) => Lane | undefined
  readonly row: (group: number) => StoreRow | undefined
  readonly clock: Clock
  readonly random: Random
  readonly warn: (error: unknown) => void
  /** T3; the limit where undefined. */
  readonly transferKeptBytesMax?: number | undefined
  /** Aborted when the node ends. */
  readonly signal: AbortSignal
}

/** Asked for at each try. */
export type RowsOf = () => Iterable<readonly [string, Uint8Array]>

/** What does not pass by itself. */
const lasting: ReadonlySet<ErrorKind> = new Set(['corrupt', 'unsupported', 'invalid', 'not_found', 'unavailable'])

/** Received, read to its end and ready to take a lane's place. */
interface Ready {
  readonly id: string
  /** Bytes. */
  readonly size: number
  readonly meta: SnapshotMeta
  readonly loaded: LoadedSnapshot
}

const op = 'replica.snapshot'

export class Transfers {
  readonly #parts: TransferParts
  readonly #dir: string
  readonly #outgoing = new Map<number, Sending>()
  /** Those that are written, or may be read: older ones too. */
  readonly #sendings = new Set<Sending>()
  readonly #incoming = new Map<number, Receiving>()
  /** What the life before this one had begun to receive. */
  readonly #left = new Map<number, { readonly path: string; readonly index: number }>()
  /** The newest of each group. */
  readonly #ready = new Map<number, Ready>()
  /** Index as of which the snapshot is, or will be, that is being sent. */
  readonly #sendingFrom = new Map<number, number>()

  constructor(parts: TransferParts) {
    this.#parts = parts
    this.#dir = join(parts.dir, 'snapshots')
    parts.signal.addEventListener('abort', () => this.#sendings.forEach((sending) => void sending.end()))
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
    for (const name of readdirSync(this.#dir)) if (name.startsWith('out-')) rmSync(join(this.#dir, name))
  }

  /** All groups are open: what was received before is the state of one, or nobody was told of it. */
  async opened(): Promise<void> {
    for (const name of await readdir(this.#dir)) {
      const [, group, index] = /^in-(\d+)-(\d+)-.*\.part$/.exec(name) ?? []
      if (index !== undefined) this.#left.set(Number(group), { path: join(this.#dir, name), index: Number(index) })
      else if (name.endsWith('.snap')) await rm(join(this.#dir, name))
    }
  }

  /** A checkpoint of the group is at `index`: snapshots up to there are not installed any more. T2 */
  saved(group: number, index: number): void {
    const left = this.#left.get(group)
    if (left !== undefined && left.index <= index) {
      this.#left.delete(group)
      rm(left.path, { force: true }).catch(this.#parts.warn)
    }
    const receiving = this.#incoming.get(group)
    // Nobody sends it any more.
    if (receiving?.isHeld === false && receiving.transfer.meta.index <= index) receiving.giveUp().catch(this.#parts.warn)
    const ready = this.#ready.get(group)
    if (ready === undefined || ready.meta.index > index) return
    this.#ready.delete(group)
    ready.loaded.drop().then(() => this.#clear(group, index), this.#parts.warn)
  }

  /** Index of the snapshot of a group that is being sent; Infinity: none is. T3 */
  sendingFrom(group: number): number {
    return this.#sendingFrom.get(group) ?? Infinity
  }

  /** Up to where a group's log may go that a checkpoint as of `applied` holds. T3 */
  keptFrom(group: Group<unknown>, applied: number): number {
    const from = this.sendingFrom(group.id)
    if (from >= applied || applied - from >= limits.raft_transfer_kept_entries_max) return applied
    let bytes = 0
    for (const { data } of group.entries(from + 1, applied)) bytes += 64 + (data?.length ?? 0)
    return bytes <= (this.#parts.transferKeptBytesMax ?? limits.raft_transfer_kept_bytes_max) ? from : applied
  }

  /** What a group's state is being received of: bytes. */
  receiving(group: number): { readonly length: number; readonly total: number | undefined } | undefined {
    return this.#incoming.get(group)
  }

  /** A snapshot to send to a member, which may still be written. @throws NineError */
  async open(group: number, message: Install): Promise<OutgoingSource> {
    for (;;) {
      const known = this.#outgoing.get(group)
      const sending = known ?? this.#send(group)
      const source = await sending.open().catch((error: unknown) => {
        this.#parts.warn(error)
        throw error
      })
      if (known === undefined || source.meta.index >= message.meta.index) return source
      this.#forget(group, sending)
      await source.close()
    }
  }

  #send(group: number): Sending {
    const { lane, row } = this.#known(group)
    if (this.#parts.signal.aborted) throw new NineError({ kind: 'unavailable', op, message: 'this node is ending' })
    if (lane.isReplaced) throw new NineError({ kind: 'unavailable', op, message: `store ${row.name} is being replaced` })
    const { clock, random } = this.#parts
    this.#sendingFrom.set(group, lane.appliedIndex) // T3
    const sending: Sending = new Sending({
      lane,
      row,
      path: join(this.#dir, `out-${group}-${random.id()}.snap`),
      clock,
      random,
      begun: (index) => {
        if (this.#outgoing.get(group) === sending) this.#sendingFrom.set(group, index)
      },
      ended: () => {
        this.#sendings.delete(sending)
        this.#forget(group, sending)
      },
    })
    this.#outgoing.set(group, sending)
    this.#sendings.add(sending)
    return sending
  }

  /** It is given to nobody any more, and no log is kept for it. */
  #forget(group: number, sending: Sending): void {
    if (this.#outgoing.get(group) !== sending) return
    this.#outgoing.delete(group)
    this.#sendingFrom.delete(group)
  }

  /** Where a snapshot from another member goes. @throws NineError */
  async receive(group: number, transfer: TransferredSnapshot): Promise<IncomingSink | PassedSink> {
    const { lane, row } = this.#known(group)
    const { id, meta } = transfer
    if (!/^[0-9a-z-]{1,64}$/.test(id)) throw new NineError({ kind: 'invalid', op, message: 'the id of a snapshot is damaged' })
    const current = this.#incoming.get(group)
    if (current?.transfer.id === id && !current.isOver) return current.sink()
    await current?.giveUp()
    const ready = this.#ready.get(group)
    if (ready?.id === id) return new PassedSink(ready.size)
    if (meta.index <= lane.appliedIndex) return new PassedSink(0)
    this.#left.delete(group)
    const path = join(this.#dir, `in-${group}-${id}.part`)
    for (const name of await readdir(this.#dir)) {
      if (name.startsWith(`in-${group}-`) && name.endsWith('.part') && join(this.#dir, name) !== path) await rm(join(this.#dir, name))
    }
    const receiving: Receiving = await Receiving.open({
      environment: this.#parts.environment(),
      row,
      transfer,
      path,
      take: (loaded) => this.#take(group, transfer, path, loaded),
      ended: () => void (this.#incoming.get(group) === receiving && this.#incoming.delete(group)),
      warn: this.#parts.warn,
    })
    this.#incoming.set(group, receiving)
    return receiving.sink()
  }

  /** T1 */
  async #take(group: number, { id, meta }: TransferredSnapshot, part: string, loaded: LoadedSnapshot): Promise<void> {
    const { lane } = this.#known(group)
    if (meta.index <= lane.appliedIndex) {
      await loaded.drop()
      await rm(part, { force: true })
      return
    }
    const { size } = await stat(part)
    await rename(part, this.#pathOf(group, meta))
    await syncFolder(this.#dir)
    const before = this.#ready.get(group)
    this.#ready.set(group, { id, meta, size, loaded })
    await before?.loaded.drop()
    await this.#clear(group, lane.tree.appliedIndex)
    failpoint('snapshot.received')
  }

  /** Remove what was received of a group up to an index. T2 */
  async #clear(group: number, index: number): Promise<void> {
    for (const name of await readdir(this.#dir)) {
      const [, of, at] = /^in-(\d+)-(\d+)-\d+\.snap$/.exec(name) ?? []
      if (Number(of) === group && Number(at) <= index) await rm(join(this.#dir, name), { force: true })
    }
  }

  async #load(group: number, meta: SnapshotMeta): Promise<LoadedSnapshot> {
    const { row } = this.#known(group)
    const source = await openSource(this.#pathOf(group, meta))
    try {
      const onHeader = (header: SnapshotHeader): void => checkHeader(header, row, meta)
      return await loadSnapshot(this.#parts.environment(), source, { group, owner: row.owner, onHeader })
    } finally {
      await source.close()
    }
  }

  /**
   * As install, which is tried again while what fails may pass: a full disk, an error of the disk. T4
   * @throws NineError `corrupt`, `unsupported`, `invalid`; as install when this ends
   */
  async installInTime(lane: Lane, meta: SnapshotMeta, rows: RowsOf): Promise<void> {
    const { signal, warn } = this.#parts
    for (let again_ms: number = limits.replica_install_again_ms; ; again_ms = Math.min(2 * again_ms, limits.replica_install_again_ms_max)) {
      try {
        await this.install(lane, meta, rows)
        lane.trouble = undefined
        return
      } catch (error) {
        const { kind, message: why } = folderError(error, this.#dir)
        if (signal.aborted || lasting.has(kind)) throw error
        const message = `the snapshot of store ${lane.name} as of entry ${meta.index} could not be put in the place of its state: ${why}`
        lane.trouble = message
        warn(new NineError({ kind, op: 'replica.install', message: `${message}. Again in ${again_ms} ms`, cause: error }))
        await pause(again_ms, undefined, { signal })
      }
    }
  }

  /** Make the lane what the snapshot of this meta says. `rows`: of its checkpoint, about this node. T2 */
  async install(lane: Lane, meta: SnapshotMeta, rows: RowsOf): Promise<void> {
    const { group } = lane
    const ready = this.#ready.get(group)
    const isReady = ready?.meta.index === meta.index && ready.meta.term === meta.term
    if (isReady) this.#ready.delete(group)
    const loaded = isReady ? ready.loaded : await this.#load(group, meta)
    failpoint('install.before')
    try {
      failpoint('install.take')
      const taken = (): void => lane.store?.replaced(lane.tree, lane.machine.leases, lane.revision, lane.machine.incarnation)
      await installSnapshot(lane, loaded, { meta: rows(), taken })
    } catch (error) {
      // It may be taken yet, and needs no more room then.
      if (isReady && !this.#ready.has(group)) this.#ready.set(group, ready)
      else await loaded.drop()
      throw error
    }
    failpoint('install.taken')
    await this.#clear(group, meta.index)
    failpoint('install.done')
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sendings].map((sending) => sending.end()))
    for (const receiving of this.#incoming.values()) await receiving.giveUp(true)
    for (const { loaded } of this.#ready.values()) await loaded.drop()
    this.#ready.clear()
  }

  #pathOf(group: number, { index, term }: SnapshotMeta): string {
    return join(this.#dir, `in-${group}-${index}-${term}.snap`)
  }

  #known(group: number): { lane: Lane; row: StoreRow } {
    const lane = this.#parts.lane(group)
    const row = this.#parts.row(group)
    if (lane !== undefined && row !== undefined) return { lane, row }
    throw new NineError({ kind: 'unavailable', op, message: `this node has no store ${group} yet` })
  }
}
