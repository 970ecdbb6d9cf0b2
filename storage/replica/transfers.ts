/**
 * Snapshots between the nodes of a cluster: made for a member that is too far behind for the log, received as such a member, and put in
 * place of a lane's state when the core says so.
 *
 *   DATA/snapshots/out-GROUP-INDEX.snap            being sent; removed with the last who reads it
 *   DATA/snapshots/in-GROUP-ID.part                being received; what is there of the same ID is not sent again
 *   DATA/snapshots/in-GROUP-INDEX-TERM.snap        received and whole; stays until a checkpoint of the lane is at it, or behind it
 *
 * T1 A snapshot is told to the core only when all of it was read and its hash held, and its name is on stable storage. So installing
 *    one cannot fail for what is in it.
 * T2 From then on the log may have its install: the file goes only when that is not needed any more. Whatever crashes or fails before,
 *    and whatever is received meanwhile, `install` finds it and loads it anew.
 * T3 While one is sent, the log behind it stays in memory for whoever gets it (`raft_transfer_kept_entries_max`).
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { open, readdir, rename, rm, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import type { Random } from '../../namespace/random.ts'
import type { Configuration, Install, SnapshotMeta } from '../../raft/index.ts'
import type { StoreRow } from '../engine/folder.ts'
import type { Lane } from '../engine/lane.ts'
import { fileError, openSource, syncFolder } from '../snapshot/files.ts'
import { installSnapshot } from '../snapshot/install.ts'
import { loadSnapshot, type LoadedSnapshot } from '../snapshot/load.ts'
import { writeSnapshotFile } from '../snapshot/write.ts'
import type { Environment } from '../tree/environment.ts'
import { isPlaceRow, placeOf } from './place.ts'

/** What of a snapshot is told before its bytes. */
export interface TransferredSnapshot {
  /** Names these very bytes. */
  readonly id: string
  readonly meta: SnapshotMeta
  readonly size: number
}

export interface TransferParts {
  readonly dir: string
  readonly environment: () => Environment
  readonly lane: (group: number) => Lane | undefined
  readonly row: (group: number) => StoreRow | undefined
  readonly clock: Clock
  readonly random: Random
  readonly warn: (error: unknown) => void
}

/** A snapshot file that is being sent, by one or more. */
interface Outgoing extends TransferredSnapshot {
  readonly path: string
  readers: number
}

/** Received, read to its end and ready to take a lane's place. */
interface Ready {
  readonly meta: SnapshotMeta
  readonly loaded: LoadedSnapshot
}

const op = 'replica.snapshot'

export class Transfers {
  readonly #parts: TransferParts
  readonly #dir: string
  readonly #outgoing = new Map<number, Promise<Outgoing>>()
  /** The newest of each group. */
  readonly #ready = new Map<number, Ready>()
  /** What is received of a group is taken in one by one. */
  readonly #receiving = new Map<number, Promise<void>>()
  /** Index as of which the snapshot is, or will be, that is being sent. */
  readonly #sending = new Map<number, number>()

  constructor(parts: TransferParts) {
    this.#parts = parts
    this.#dir = join(parts.dir, 'snapshots')
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
    for (const name of readdirSync(this.#dir)) if (name.startsWith('out-')) rmSync(join(this.#dir, name))
  }

  /** All groups are open: what was received before is the state of one, or nobody was told of it. */
  async opened(): Promise<void> {
    for (const name of await readdir(this.#dir)) if (name.endsWith('.snap')) await rm(join(this.#dir, name))
  }

  /** A checkpoint of the group is at `index`: snapshots up to there are not installed any more. T2 */
  saved(group: number, index: number): void {
    const ready = this.#ready.get(group)
    if (ready === undefined || ready.meta.index > index) return
    this.#ready.delete(group)
    ready.loaded.drop().then(() => this.#clear(group, index), this.#parts.warn)
  }

  /** Index of the snapshot of a group that is being sent; Infinity: none is. T3 */
  sendingFrom(group: number): number {
    return this.#sending.get(group) ?? Infinity
  }

  /** A snapshot to send to a member. @throws NineError */
  async open(group: number, message: Install): Promise<OutgoingSource> {
    let outgoing = this.#outgoing.get(group)
    if (outgoing !== undefined && (await outgoing).meta.index < message.meta.index) outgoing = undefined
    if (outgoing === undefined) {
      outgoing = this.#write(group)
      this.#outgoing.set(group, outgoing)
    }
    const file = await outgoing.catch((error: unknown) => {
      if (this.#outgoing.get(group) === outgoing) {
        this.#outgoing.delete(group)
        this.#sending.delete(group)
      }
      this.#parts.warn(error)
      throw error
    })
    file.readers++
    const handle = await open(file.path, 'r').catch(async (error: unknown) => {
      await this.#leave(group, file)
      throw fileError(error, op, file.path)
    })
    return new OutgoingSource(file, handle, () => this.#leave(group, file))
  }

  async #write(group: number): Promise<Outgoing> {
    const { lane, row } = this.#known(group)
    if (lane.isReplaced) throw new NineError({ kind: 'unavailable', op, message: `store ${row.name} is being replaced` })
    this.#sending.set(group, lane.appliedIndex) // T3
    await lane.save()
    failpoint('snapshot.write.before')
    const path = join(this.#dir, `out-${group}-${lane.appliedIndex}.snap`)
    const { id: store, incarnation, name, owner } = row
    const { header, bytes } = await writeSnapshotFile(lane.tree, { store, incarnation, name, owner, group }, path, {
      describe: (rowOf) => {
        const { term, configuration } = placeOf(rowOf, name)
        return { term, configuration: Buffer.from(JSON.stringify(configuration)) }
      },
      isLocal: (key) => key === 'log' || key === 'logId' || isPlaceRow(key),
      isDurable: false, // gone after a crash, as who reads it is
      clock: this.#parts.clock,
    })
    failpoint('snapshot.write.after')
    const meta = { index: header.index, term: header.term, configuration: JSON.parse(header.configuration.toString()) as Configuration }
    this.#sending.set(group, meta.index)
    return { id: `${meta.index}-${meta.term}-${this.#parts.random.id()}`, meta, size: bytes, path, readers: 0 }
  }

  async #leave(group: number, file: Outgoing): Promise<void> {
    if (--file.readers > 0) return
    const current = this.#outgoing.get(group)
    if (current !== undefined && (await current.catch(() => undefined)) === file) {
      this.#outgoing.delete(group)
      this.#sending.delete(group)
    }
    await rm(file.path, { force: true })
  }

  /** Where a snapshot from another member goes. @throws NineError */
  async receive(group: number, transfer: TransferredSnapshot): Promise<IncomingSink> {
    this.#known(group)
    if (!/^[0-9a-z-]{1,64}$/.test(transfer.id)) throw new NineError({ kind: 'invalid', op, message: 'the id of a snapshot is damaged' })
    const part = join(this.#dir, `in-${group}-${transfer.id}.part`)
    for (const name of readdirSync(this.#dir)) {
      if (name.startsWith(`in-${group}-`) && name.endsWith('.part') && join(this.#dir, name) !== part) await rm(join(this.#dir, name))
    }
    try {
      const file = await open(part, 'a+', 0o600)
      const { size } = await file.stat()
      if (size > transfer.size) await file.truncate(0)
      return new IncomingSink(file, size > transfer.size ? 0 : size, part, () => this.#received(group, transfer, part))
    } catch (error) {
      throw fileError(error, op, part)
    }
  }

  #received(group: number, transfer: TransferredSnapshot, part: string): Promise<void> {
    const before = this.#receiving.get(group) ?? Promise.resolve()
    const received = before.then(() => this.#take(group, transfer, part))
    this.#receiving.set(
      group,
      received.catch(() => undefined),
    )
    return received
  }

  /** T1 */
  async #take(group: number, { meta }: TransferredSnapshot, part: string): Promise<void> {
    const { lane } = this.#known(group)
    if (meta.index <= lane.appliedIndex) return void (await rm(part, { force: true }))
    failpoint('snapshot.finish')
    let loaded: LoadedSnapshot | undefined
    try {
      loaded = await this.#load(group, meta, part)
      await rename(part, this.#pathOf(group, meta))
      await syncFolder(this.#dir)
    } catch (error) {
      this.#parts.warn(error)
      await loaded?.drop()
      await rm(part, { force: true })
      throw fileError(error, op, part)
    }
    const before = this.#ready.get(group)
    this.#ready.set(group, { meta, loaded })
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

  async #load(group: number, meta: SnapshotMeta, path: string): Promise<LoadedSnapshot> {
    const { row } = this.#known(group)
    const source = await openSource(path)
    try {
      const loaded = await loadSnapshot(this.#parts.environment(), source, { group, owner: row.owner })
      const { header } = loaded
      const what =
        header.store !== row.id || header.incarnation !== row.incarnation
          ? `of store ${header.name}, incarnation ${header.incarnation}`
          : header.index !== meta.index || header.term !== meta.term
            ? `as of entry ${header.index} of term ${header.term}`
            : undefined
      if (what !== undefined) {
        await loaded.drop()
        throw new NineError({ kind: 'invalid', op, message: `a snapshot of store ${row.name} as of entry ${meta.index} is one ${what}` })
      }
      return loaded
    } finally {
      await source.close()
    }
  }

  /** Make the lane what the snapshot of this meta says. `rows`: of its checkpoint, about this node. T2 */
  async install(lane: Lane, meta: SnapshotMeta, rows: Iterable<readonly [string, Uint8Array]>): Promise<void> {
    const { group } = lane
    const ready = this.#ready.get(group)
    const isReady = ready?.meta.index === meta.index && ready.meta.term === meta.term
    if (isReady) this.#ready.delete(group)
    const loaded = isReady ? ready.loaded : await this.#load(group, meta, this.#pathOf(group, meta))
    failpoint('install.before')
    try {
      await installSnapshot(lane, loaded, { meta: rows })
    } catch (error) {
      await loaded.drop()
      throw error
    }
    failpoint('install.taken')
    lane.store?.replaced(lane.tree, lane.machine.leases, lane.revision)
    await this.#clear(group, meta.index)
    failpoint('install.done')
  }

  async close(): Promise<void> {
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

/** Reads what is being sent. */
export class OutgoingSource implements TransferredSnapshot {
  readonly id: string
  readonly meta: SnapshotMeta
  readonly size: number
  readonly #path: string
  readonly #file: FileHandle
  readonly #leave: () => Promise<void>

  constructor({ id, meta, size, path }: Outgoing, file: FileHandle, leave: () => Promise<void>) {
    this.id = id
    this.meta = meta
    this.size = size
    this.#path = path
    this.#file = file
    this.#leave = leave
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    failpoint('snapshot.send')
    const bytes = Buffer.allocUnsafeSlow(Math.min(length, this.size - offset))
    for (let done = 0; done < bytes.length;) {
      const { bytesRead } = await this.#file.read(bytes, done, bytes.length - done, offset + done)
      if (bytesRead === 0) throw new NineError({ kind: 'corrupt', op, message: `${this.#path} has become shorter` })
      done += bytesRead
    }
    return bytes
  }

  async close(): Promise<void> {
    await this.#file.close()
    await this.#leave()
  }
}

/** Writes what is received, one call at a time. */
export class IncomingSink {
  offset: number
  readonly #file: FileHandle
  readonly #path: string
  readonly #received: () => Promise<void>
  /** Bytes that are not known to be on stable storage. */
  #unsynced = 0

  constructor(file: FileHandle, offset: number, path: string, received: () => Promise<void>) {
    this.#file = file
    this.offset = offset
    this.#path = path
    this.#received = received
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      await this.#file.appendFile(bytes)
      failpoint('snapshot.part')
      this.offset += bytes.length
      this.#unsynced += bytes.length
      // So that what the disk has to do at the end is little.
      if (this.#unsynced < limits.replica_snapshot_sync_bytes) return
      this.#unsynced = 0
      await this.#file.datasync()
    } catch (error) {
      throw fileError(error, op, this.#path)
    }
  }

  async finish(): Promise<void> {
    try {
      await this.#file.datasync()
    } catch (error) {
      throw fileError(error, op, this.#path)
    } finally {
      await this.#file.close()
    }
    await this.#received()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}
