/**
 * The next segment, made ready in the background, so that writing to the log changes no metadata and never waits for
 * room: the file has its length, its blocks and zeros in them before its first frame.
 *
 * U1 At most one segment is ready and one is being made; at most one old file is kept to be used again.
 * U2 A segment appears under its name only when it is whole and durable; what fails is taken away again.
 * U3 An old file is filled with zeros again before it is used. It costs one more write of its bytes, in the
 *    background, and buys that a torn write is always told from a damaged one (frame.ts I2).
 */
import { join } from 'node:path'
import { limits } from '../../namespace/limits.ts'
import type { Clock } from '../../namespace/clock.ts'
import { NineError, isNineError } from '../../namespace/errors.ts'
import type { WalFile, WalFiles } from './files.ts'
import { segmentHeader, segmentPath, segment_header_bytes, walError } from './segment.ts'

export interface ReadySegment {
  readonly number: number
  readonly capacity: number
  readonly file: WalFile
}

/** Zeros are written and synced this many at a time: a larger burst would hold up the syncs of the log itself. */
const fill_bytes = 1024 * 1024
const page_bytes = 4096
const zeros = Buffer.alloc(fill_bytes)

export class SegmentSupply {
  /** Segments filled again instead of made, since the log was opened. */
  recycled = 0
  readonly #files: WalFiles
  readonly #dir: string
  readonly #logId: string
  readonly #clock: Clock
  #ready: ReadySegment | undefined
  #making: Promise<void> | undefined
  /** Capacity of spare.tmp, 0 when there is none. */
  #spareBytes = 0
  #lastFull: { readonly at: number; readonly error: NineError } | undefined

  constructor(files: WalFiles, dir: string, logId: string, clock: Clock) {
    this.#files = files
    this.#dir = dir
    this.#logId = logId
    this.#clock = clock
  }

  /** Segment `number` when it is ready and has `capacity`, at once. */
  take(number: number, capacity: number): ReadySegment | undefined {
    const ready = this.#ready
    if (ready?.number !== number || ready.capacity < capacity) return undefined
    this.#ready = undefined
    return ready
  }

  /** Begin to make segment `number`, if nothing is ready or being made. A failure shows in `make`. */
  prepare(number: number, capacity: number): void {
    if (this.#ready !== undefined || this.#making !== undefined || this.#fullLately()) return
    this.#begin(number, capacity, capacity).catch(() => undefined)
  }

  /**
   * Segment `number` with at least `least` bytes, `capacity` if that can be had.
   * @throws NineError `no_space`, `internal`; the log is as it was
   */
  async make(number: number, capacity: number, least: number): Promise<ReadySegment> {
    while (this.#making !== undefined) await this.#making.catch(() => undefined)
    if (this.#ready === undefined || this.#ready.capacity < least) await this.#begin(number, Math.max(capacity, least), least)
    const made = this.take(number, least)
    if (made === undefined) throw new NineError({ kind: 'internal', op: 'wal.append', message: `segment ${number} was taken twice` })
    return made
  }

  /** Use the file of a segment that is no longer needed again, or remove it. */
  async give(number: number, capacity: number, mayReuse: boolean): Promise<void> {
    const path = segmentPath(this.#dir, number)
    // Of several the largest is kept: the first segments of a log are smaller than those to come.
    if (!mayReuse || this.#spareBytes >= capacity) return this.#files.unlink(path)
    this.#spareBytes = capacity
    await this.#files.rename(path, this.#sparePath)
  }

  /** Waits for what is being made. What is ready stays for the next time, as an empty segment that is made anew. */
  async close(): Promise<void> {
    await this.#making?.catch(() => undefined)
    this.#ready?.file.close()
    this.#ready = undefined
  }

  get #sparePath(): string {
    return join(this.#dir, 'spare.tmp')
  }

  #fullLately(): boolean {
    return this.#lastFull !== undefined && this.#clock.monotonic() - this.#lastFull.at < limits.wal_no_space_retry_ms
  }

  #begin(number: number, capacity: number, least: number): Promise<void> {
    const making = this.#make(number, capacity, least).finally(() => (this.#making = undefined))
    this.#making = making
    return making
  }

  /** Puts a segment into `#ready`, in place of one that is too small. */
  async #make(number: number, capacity: number, least: number): Promise<void> {
    const full = this.#lastFull
    if (full !== undefined && this.#spareBytes < least && this.#fullLately()) throw full.error
    const tooSmall = this.#ready
    this.#ready = undefined
    const path = segmentPath(this.#dir, number)
    const making = join(this.#dir, 'prepare.tmp')
    try {
      if (tooSmall !== undefined) {
        tooSmall.file.close()
        await this.#files.unlink(segmentPath(this.#dir, tooSmall.number))
      }
      // While the disk is full, an old file of another size is better than none.
      const reuse = this.#spareBytes === capacity || (full !== undefined && this.#spareBytes >= least)
      const bytes = reuse ? this.#spareBytes : pages(capacity)
      if (this.#spareBytes > 0) {
        this.#spareBytes = 0
        if (reuse) await this.#files.rename(this.#sparePath, making)
        else await this.#files.unlink(this.#sparePath)
      }
      await this.#fill(making, reuse ? 'edit' : 'create', number, bytes)
      await this.#files.rename(making, path)
      await this.#files.syncDir(this.#dir)
      if (reuse) this.recycled += 1
      this.#lastFull = undefined
      this.#ready = { number, capacity: bytes, file: this.#files.open(path, 'log') }
    } catch (error) {
      await this.#files.unlink(making).catch(() => undefined)
      const failure = walError(error, 'wal.append', this.#dir)
      if (isNineError(failure, 'no_space')) this.#lastFull = { at: this.#clock.monotonic(), error: failure }
      throw failure
    }
  }

  async #fill(path: string, mode: 'create' | 'edit', number: number, capacity: number): Promise<void> {
    const file = this.#files.open(path, mode)
    try {
      for (let at = 0; at < capacity; at += fill_bytes) {
        await file.write(zeros.subarray(0, Math.min(fill_bytes, capacity - at)), at)
        await file.sync()
      }
      await file.write(segmentHeader(number, capacity, this.#logId), 0)
      await file.sync()
    } finally {
      file.close()
    }
  }
}

function pages(bytes: number): number {
  return Math.ceil(bytes / page_bytes) * page_bytes
}

/** Capacity of segment `number`: small at first, so that a new node starts at once, then growing to `segmentBytes`. */
export function plannedCapacity(number: number, segmentBytes: number): number {
  const grown = limits.wal_first_segment_bytes * 4 ** Math.min(number - 1, 16)
  return Math.max(segment_header_bytes * 4, Math.min(segmentBytes, grown))
}
