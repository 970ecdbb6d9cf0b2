/**
 * A snapshot that is being received: its bytes go to a file, and from there, while more come, into a state beside the group's own.
 *
 * R1 What was received of the same id is neither sent nor, in the life of this process, loaded again: of a file that is left of a crash
 *    the bytes are loaded from it.
 * R2 One sink at a time is heard; when it is closed the load waits for the next.
 * R3 What cannot be loaded is known to the sink with its next bytes, and leaves no file.
 */
import { rm } from 'node:fs/promises'
import { NineError, toNineError } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import type { SnapshotMeta } from '../../raft/index.ts'
import type { StoreRow } from '../engine/folder.ts'
import type { SnapshotHeader } from '../snapshot/format.ts'
import { GrowingFile } from '../snapshot/growing-file.ts'
import { loadSnapshot, type LoadedSnapshot } from '../snapshot/load.ts'
import type { Environment } from '../tree/environment.ts'

/** What of a snapshot is told before its bytes. */
export interface TransferredSnapshot {
  /** Names these very bytes. */
  readonly id: string
  readonly meta: SnapshotMeta
}

export interface ReceivingParts {
  readonly environment: Environment
  readonly row: StoreRow
  readonly transfer: TransferredSnapshot
  /** Its file, which may hold the beginning already. */
  readonly path: string
  /** All of it was received, and is loaded: see to it. */
  readonly take: (loaded: LoadedSnapshot) => Promise<void>
  /** It is over: taken, failed or given up. */
  readonly ended: () => void
  readonly warn: (error: unknown) => void
}

const op = 'replica.snapshot'

export class Receiving {
  readonly transfer: TransferredSnapshot
  /** Bytes of the whole, once the sender knows. */
  total: number | undefined
  readonly #parts: ReceivingParts
  readonly #file: GrowingFile
  readonly #loading: Promise<LoadedSnapshot>
  #progress = 0
  #holder: IncomingSink | undefined
  #finishing: Promise<void> | undefined
  #ending: Promise<void> | undefined

  /** @throws NineError `no_space`, `denied`, `internal` */
  static async open(parts: ReceivingParts): Promise<Receiving> {
    return new Receiving(parts, await GrowingFile.open(parts.path))
  }

  private constructor(parts: ReceivingParts, file: GrowingFile) {
    this.transfer = parts.transfer
    this.#parts = parts
    this.#file = file
    this.#loading = this.#load()
    this.#loading.catch((error: unknown) => this.#failed(error)) // R3
  }

  get isOver(): boolean {
    return this.#ending !== undefined
  }

  /** All of it was received. */
  get isFinishing(): boolean {
    return this.#finishing !== undefined
  }

  /** Grows as long as something gets done. */
  get progress(): number {
    return this.#progress
  }

  /** Bytes that are here. */
  get length(): number {
    return this.#file.length
  }

  get isHeld(): boolean {
    return this.#holder !== undefined || this.#finishing !== undefined
  }

  /** R2 */
  sink(): IncomingSink {
    this.#holder = new IncomingSink(this, this.#file.length)
    return this.#holder
  }

  async write(sink: IncomingSink, bytes: Uint8Array): Promise<void> {
    if (this.#holder !== sink || this.#finishing !== undefined) throw over()
    await this.#file.write(bytes)
    this.#progress += bytes.length
    failpoint('snapshot.part')
  }

  leave(sink: IncomingSink): void {
    if (this.#holder === sink) this.#holder = undefined
  }

  /** All of it was given. Once taken, later calls resolve as the first does. */
  finish(): Promise<void> {
    if (this.#ending !== undefined && this.#finishing === undefined) return Promise.reject(over())
    this.#finishing ??= this.#finish()
    return this.#finishing
  }

  /** What is there of the file stays if `isKept`, for the next life of this node. */
  async giveUp(isKept = false): Promise<void> {
    if (this.#finishing !== undefined) {
      await this.#finishing.catch(() => undefined)
      return
    }
    await this.#end(over(), isKept)
  }

  async #load(): Promise<LoadedSnapshot> {
    const { environment, row, transfer } = this.#parts
    return loadSnapshot(environment, this.#file.follow(), {
      group: row.group,
      owner: row.owner,
      onHeader: (header) => checkHeader(header, row, transfer.meta),
      progress: () => {
        this.#progress++
        failpoint('snapshot.load')
      },
    })
  }

  async #finish(): Promise<void> {
    failpoint('snapshot.finish')
    try {
      await this.#file.end()
      const loaded = await this.#loading
      failpoint('snapshot.loaded')
      await this.#parts.take(loaded)
    } catch (error) {
      const failure = toNineError(error, op)
      this.#file.fail(failure)
      await this.#loading.then((loaded) => loaded.drop()).catch(() => undefined)
      await this.#failed(failure)
      throw failure
    }
    await this.#end(over(), true)
  }

  async #failed(error: unknown): Promise<void> {
    if (this.#ending === undefined) this.#parts.warn(error)
    await this.#end(error as Error, false)
  }

  #end(error: Error, isKept: boolean): Promise<void> {
    this.#ending ??= this.#ended(error, isKept)
    return this.#ending
  }

  async #ended(error: Error, isKept: boolean): Promise<void> {
    this.#parts.ended()
    this.#file.fail(error)
    if (this.#finishing === undefined) await this.#loading.then((loaded) => loaded.drop()).catch(() => undefined)
    await this.#file.close()
    if (!isKept) await rm(this.#parts.path, { force: true })
  }
}

/** Takes what is received, one call at a time. */
export class IncomingSink {
  /** Bytes that are here. */
  offset: number
  readonly #receiving: Receiving

  constructor(receiving: Receiving, offset: number) {
    this.#receiving = receiving
    this.offset = offset
  }

  set total(bytes: number) {
    this.#receiving.total = bytes
  }

  /** Grows as long as something gets done, after `finish` too. */
  get progress(): number {
    return this.#receiving.progress
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#receiving.write(this, bytes)
    this.offset += bytes.length
  }

  finish(): Promise<void> {
    return this.#receiving.finish()
  }

  async close(): Promise<void> {
    this.#receiving.leave(this)
  }
}

/** Of a snapshot that is of no use: this store is further already, or has it. */
export class PassedSink {
  offset: number
  progress = 0

  constructor(offset: number) {
    this.offset = offset
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.offset += bytes.length
    this.progress += bytes.length
  }

  async finish(): Promise<void> {}

  async close(): Promise<void> {}
}

/** @throws NineError `invalid` */
export function checkHeader(header: SnapshotHeader, row: StoreRow, meta: SnapshotMeta): void {
  const what =
    header.store !== row.id || header.incarnation !== row.incarnation
      ? `of store ${header.name}, incarnation ${header.incarnation}`
      : header.index !== meta.index || header.term !== meta.term
        ? `as of entry ${header.index} of term ${header.term}`
        : undefined
  if (what === undefined) return
  throw new NineError({ kind: 'invalid', op, message: `a snapshot of store ${row.name} as of entry ${meta.index} is one ${what}` })
}

function over(): NineError {
  return new NineError({ kind: 'unavailable', op, message: 'this snapshot is not received any more' })
}
