/**
 * An open log: the queue, the writing of frames, rolling to the next segment, cutting and reading. Invariants: wal.ts.
 *
 *   enqueue -> #open frame (and #full ones before it) -> #flush -> #write -> #written -> onDurable, promises
 *                                                           '-> #roll when the segment is full
 * One frame is under way at a time (`#busy`); the next gathers meanwhile.
 */
import { systemClock, type Clock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import { nodeFiles, type WalFile, type WalFiles } from './files.ts'
import { FrameBuffer, frame_header_bytes, record_header_bytes } from './frame.ts'
import { Pace } from './pace.ts'
import type { SegmentInfo } from './recovery.ts'
import { readRecords } from './replay.ts'
import { segmentPath, segment_header_bytes, walError } from './segment.ts'
import { plannedCapacity, type ReadySegment, type SegmentSupply } from './supply.ts'
import type { Wal, WalOptions, WalRecord, WalReport } from './wal.ts'

/** What openWal found and made ready. `file`: the last of `segments`, in which the next frame goes to `end`. */
export interface OpenedLog {
  readonly id: string
  readonly file: WalFile
  readonly segments: SegmentInfo[]
  readonly end: number
  readonly supply: SegmentSupply
  readonly firstSegment: number
  readonly sealed: boolean
  readonly opened: Pick<WalReport, 'tornBytes' | 'tornFile' | 'tornOffset' | 'removedFiles'>
}

/** End of a segment kept for seals, so that a full disk does not keep the log from being cut, which makes room. */
const reserve_bytes = 16 * frame_header_bytes
/** Buffers kept for further frames. */
const idle_buffers_max = 4

interface Waiter {
  readonly from: number
  readonly to: number
  readonly resolve: (lsn: number) => void
  readonly reject: (error: NineError) => void
}

export class WalLog implements Wal {
  readonly id: string
  lastLsn: number
  durableLsn: number
  queuedBytes = 0
  readonly #dir: string
  readonly #files: WalFiles
  readonly #clock: Clock
  readonly #segmentBytes: number
  readonly #queueBytes: number
  readonly #sealMs: number
  readonly #defer: (flush: () => void) => void
  readonly #onDurable: ((lsn: number) => void) | undefined
  readonly #onFailed: ((from: number, to: number, error: NineError) => void) | undefined
  readonly #opened: OpenedLog['opened']
  readonly #supply: SegmentSupply
  readonly #pace = new Pace()

  #file: WalFile
  readonly #segments: SegmentInfo[]
  /** Where the next frame goes in the last segment. */
  #end: number
  /** First segment needed; what is durable of it is in every frame. */
  #firstSegment: number
  /** Segment of the last durable frame; it and later ones are never cut. */
  #durableSegment: number

  #open = new FrameBuffer()
  readonly #full: FrameBuffer[] = []
  readonly #idleBuffers: FrameBuffer[] = []
  #busy = false
  #scheduled = false
  #closed = false
  #closing: Promise<void> | undefined
  /** Set when the log has failed (W3). */
  #failure: NineError | undefined
  /** An empty frame is to be written: a seal, or a cut made durable. */
  #sealDue = false
  #sealed: boolean
  #sealTimer: NodeJS.Timeout | undefined

  readonly #waiters: Waiter[] = []
  readonly #cutWaiters: { readonly segment: number; readonly resolve: () => void; readonly reject: (error: NineError) => void }[] = []
  readonly #idleWaiters: (() => void)[] = []
  #cutting: Promise<void> = Promise.resolve()
  readonly #replays = { active: 0 }
  #records = 0
  #frames = 0
  #blockingFrames = 0

  constructor(options: WalOptions, { id, file, segments, end, supply, firstSegment, sealed, opened }: OpenedLog) {
    this.id = id
    this.#dir = options.dir
    this.#files = options.files ?? nodeFiles
    this.#clock = options.clock ?? systemClock
    this.#segmentBytes = options.segmentBytes ?? limits.wal_segment_bytes
    this.#queueBytes = options.queueBytes ?? limits.proposal_bytes_max
    this.#sealMs = options.sealMs ?? limits.wal_seal_ms
    this.#defer = options.defer ?? setImmediate
    this.#onDurable = options.onDurable
    this.#onFailed = options.onFailed
    this.#file = file
    this.#segments = segments
    this.#end = end
    this.#supply = supply
    this.#firstSegment = firstSegment
    this.#opened = opened
    this.#sealed = sealed
    const active = segments.at(-1)!
    this.lastLsn = this.durableLsn = active.lastLsn
    this.#durableSegment = end > segment_header_bytes ? active.number : active.number - 1
    if (!sealed) this.#armSeal()
  }

  get firstLsn(): number {
    return Math.min(this.#segments[0]!.firstLsn, this.durableLsn + 1)
  }

  get report(): WalReport {
    let bytes = 0
    for (const segment of this.#segments) bytes += segment.capacity
    return {
      ...this.#opened,
      segments: this.#segments.length,
      bytes,
      records: this.#records,
      frames: this.#frames,
      blockingFrames: this.#blockingFrames,
      recycledSegments: this.#supply.recycled,
    }
  }

  enqueue(bytes: Uint8Array): number {
    this.#admit(bytes.length, bytes.length + record_header_bytes)
    return this.#put(bytes)
  }

  append(records: readonly Uint8Array[]): Promise<number> {
    return new Promise((resolve, reject) => {
      let longest = 0
      let total = 0
      for (const record of records) {
        longest = Math.max(longest, record.length)
        total += record.length + record_header_bytes
      }
      this.#admit(longest, total) // A throw in here rejects the promise.
      const from = this.lastLsn + 1
      for (const record of records) this.#put(record)
      const to = this.lastLsn
      if (to <= this.durableLsn) resolve(to)
      else this.#waiters.push({ from, to, resolve, reject })
    })
  }

  flush(mayBlock: boolean): void {
    if (mayBlock || !this.#pace.mayBlock(this.#open.count)) this.#flush()
  }

  replay(fromLsn: number): Iterable<WalRecord> {
    if (fromLsn < this.firstLsn) {
      const message = `the log begins with record ${this.firstLsn}, record ${fromLsn} was cut`
      throw new NineError({ kind: 'compacted', op: 'wal.replay', path: this.#dir, message })
    }
    return readRecords(this.#files, this.#dir, this.#segments, fromLsn, this.durableLsn, this.#replays)
  }

  bytesFrom(lsn: number): number {
    let bytes = 0
    for (let i = this.#segments.length - 1; i >= 0 && (bytes === 0 || this.#segments[i]!.lastLsn >= lsn); i--) {
      bytes += this.#segments[i]!.capacity
    }
    return bytes
  }

  cut(lsn: number): Promise<void> {
    const cutting = this.#cutting.then(() => this.#cut(lsn))
    this.#cutting = cutting.catch(() => undefined)
    return cutting
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#sealTimer)
    await this.#cutting
    await this.#drained()
    if (!this.#sealed && this.#failure === undefined) {
      this.#sealDue = true
      this.#flush()
      await this.#drained()
    }
    await this.#supply.close()
    this.#file.close()
  }

  // Giving

  #admit(longest: number, total: number): void {
    if (this.#failure !== undefined || this.#closed) throw this.#refusal()
    if (longest > limits.append_bytes_max) {
      const message = `a record of ${longest} bytes is over the limit of ${limits.append_bytes_max}`
      throw new NineError({ kind: 'too_large', op: 'wal.append', message })
    }
    if (this.queuedBytes + total > this.#queueBytes) {
      const message = `${this.queuedBytes} bytes wait for the log, the limit is ${this.#queueBytes}`
      throw new NineError({ kind: 'overloaded', op: 'wal.append', message })
    }
  }

  #refusal(): NineError {
    const failure = this.#failure
    const why =
      failure === undefined ? 'the log is closed' : `the log has failed and takes nothing until the node is restarted: ${failure.message}`
    return new NineError({ kind: 'unavailable', op: 'wal.append', path: this.#dir, message: why, retryable: false, cause: failure })
  }

  #put(bytes: Uint8Array): number {
    let frame = this.#open
    if (frame.count > 0 && frame.bodyBytes + record_header_bytes + bytes.length > limits.append_bytes_max) {
      this.#full.push(frame)
      frame = this.#open = this.#idleBuffers.pop() ?? new FrameBuffer()
    }
    if (frame.count === 0) frame.lsn = this.lastLsn + 1
    frame.add(bytes)
    this.queuedBytes += record_header_bytes + bytes.length
    this.lastLsn += 1
    if (!this.#busy && !this.#scheduled) this.#schedule()
    return this.lastLsn
  }

  /** W2: after all that this turn of the event loop brings. */
  #schedule(): void {
    this.#scheduled = true
    this.#defer(this.#flushScheduled)
  }

  readonly #flushScheduled = (): void => {
    this.#scheduled = false
    this.#flush()
  }

  // Writing

  #flush(): void {
    if (this.#busy || this.#failure !== undefined) return
    const frame = this.#nextFrame()
    if (frame === undefined) {
      for (const resolve of this.#idleWaiters.splice(0)) resolve()
      return
    }
    this.#sealDue = false
    const reserve = frame.count > 0 ? reserve_bytes : 0
    if (this.#end + frame.size + reserve <= this.#segments.at(-1)!.capacity) this.#write(frame)
    else this.#roll(frame)
  }

  #nextFrame(): FrameBuffer | undefined {
    const full = this.#full.shift()
    if (full !== undefined) return full
    const frame = this.#open
    if (frame.count === 0 && !this.#sealDue) return undefined
    if (frame.count === 0) frame.lsn = this.lastLsn + 1
    this.#open = this.#idleBuffers.pop() ?? new FrameBuffer()
    return frame
  }

  #roll(frame: FrameBuffer): void {
    const number = this.#segments.at(-1)!.number + 1
    const least = segment_header_bytes + frame.size + reserve_bytes
    const ready = this.#supply.take(number, least)
    if (ready !== undefined) {
      this.#activate(ready, frame)
      return
    }
    this.#busy = true
    this.#supply.make(number, plannedCapacity(number, this.#segmentBytes), least).then(
      (made) => this.#activate(made, frame),
      (error: unknown) => this.#failWaiting(frame, walError(error, 'wal.append', this.#dir)), // W4: nothing was written
    )
  }

  #activate({ number, capacity, file }: ReadySegment, frame: FrameBuffer): void {
    this.#file.close()
    this.#file = file
    this.#segments.push({ number, capacity, firstLsn: frame.lsn, lastLsn: frame.lsn - 1 })
    this.#end = segment_header_bytes
    failpoint('wal.rolled')
    this.#write(frame)
  }

  #write(frame: FrameBuffer): void {
    const bytes = frame.finish(this.#segments.at(-1)!.number, this.#firstSegment, this.#end)
    const started = this.#clock.monotonic()
    this.#busy = true
    failpoint('wal.frame.before')
    if (!this.#pace.mayBlock(frame.count)) {
      this.#file.writeDurable(bytes, this.#end, (error) => this.#written(frame, started, error))
      return
    }
    let failure: Error | null = null
    try {
      this.#file.writeDurableSync(bytes, this.#end)
      this.#blockingFrames += 1
    } catch (error) {
      failure = error as Error
    }
    this.#written(frame, started, failure)
  }

  #written(frame: FrameBuffer, started: number, error: Error | null): void {
    if (error !== null) {
      this.#writeFailed(frame, error)
      return
    }
    failpoint('wal.frame.after')
    this.#busy = false
    this.#pace.note(frame.count, this.#clock.monotonic() - started)
    const segment = this.#segments.at(-1)!
    const lsn = frame.lsn + frame.count - 1
    this.#end += frame.size
    this.#durableSegment = segment.number
    this.durableLsn = segment.lastLsn = lsn
    this.queuedBytes -= frame.bodyBytes
    this.#sealed = frame.count === 0
    this.#frames += 1
    this.#records += frame.count
    const { count, firstSegment } = frame
    this.#release(frame)
    if (this.#end > segment.capacity / 4) {
      this.#supply.prepare(segment.number + 1, plannedCapacity(segment.number + 1, this.#segmentBytes))
    }
    this.#armSeal()
    // The disk goes on before anyone is told, unless the next write would block and hold up those who wait.
    if (this.#full.length === 0 && this.#pace.mayBlock(this.#open.count)) this.#schedule()
    else this.#flush()
    this.#tell(count, lsn, firstSegment)
  }

  #tell(count: number, lsn: number, firstSegment: number): void {
    if (count > 0) {
      this.#onDurable?.(lsn)
      let done = 0
      while (done < this.#waiters.length && this.#waiters[done]!.to <= lsn) done += 1
      for (const waiter of this.#waiters.splice(0, done)) waiter.resolve(waiter.to)
    }
    while (this.#cutWaiters.length > 0 && this.#cutWaiters[0]!.segment <= firstSegment) this.#cutWaiters.shift()!.resolve()
  }

  #release(frame: FrameBuffer): void {
    frame.clear()
    if (frame.reusable && this.#idleBuffers.length < idle_buffers_max) this.#idleBuffers.push(frame)
  }

  // Failing

  #writeFailed(frame: FrameBuffer, cause: Error): void {
    const error = walError(cause, 'wal.append', segmentPath(this.#dir, this.#segments.at(-1)!.number), 'unknown')
    if (error.kind !== 'no_space') {
      this.#failForGood(frame, error)
      return
    }
    // W4: on a file system that copies on write even zeros can find no room. Only when what was written is durably
    // zeros again is it known that nothing of it will be seen.
    this.#file.writeDurable(new Uint8Array(frame.size), this.#end, (failure) => {
      if (failure !== null) this.#failForGood(frame, error)
      else this.#failWaiting(frame, new NineError({ ...error.fields, outcome: 'none', cause }))
    })
  }

  /** Fail `frame` and all that waits behind it; the log goes on. */
  #failWaiting(frame: FrameBuffer, error: NineError): void {
    this.#busy = false
    const to = this.lastLsn
    // A cut is not given up for the sake of records: it makes room.
    const cuts = frame.count > 0 ? this.#cutWaiters.splice(0) : []
    this.#drop(frame)
    this.#tellFailed(this.lastLsn + 1, to, error, error, to)
    this.#cutWaiters.push(...cuts)
    this.#sealDue = cuts.length > 0
    this.#flush()
  }

  /** W3 */
  #failForGood(frame: FrameBuffer, error: NineError): void {
    const unknown = new NineError({ ...error.fields, kind: error.kind === 'no_space' ? 'no_space' : 'internal', cause: error.cause })
    this.#failure = unknown
    this.#busy = false
    clearTimeout(this.#sealTimer)
    const to = this.lastLsn
    const unknownTo = frame.lsn + frame.count - 1
    this.#drop(frame)
    this.#tellFailed(this.lastLsn + 1, to, unknown, this.#refusal(), unknownTo)
    for (const resolve of this.#idleWaiters.splice(0)) resolve()
  }

  #drop(frame: FrameBuffer): void {
    this.#release(frame)
    for (const waiting of this.#full.splice(0)) this.#release(waiting)
    this.#open.clear()
    this.queuedBytes = 0
    this.lastLsn = this.durableLsn
    this.#sealDue = false
  }

  /** `first` for the records up to `firstTo`, `second` for those behind. */
  #tellFailed(from: number, to: number, first: NineError, second: NineError, firstTo: number): void {
    const waiters = this.#waiters.splice(0)
    const cuts = this.#cutWaiters.splice(0)
    if (from <= firstTo) this.#onFailed?.(from, Math.min(firstTo, to), first)
    if (firstTo < to) this.#onFailed?.(Math.max(from, firstTo + 1), to, second)
    for (const waiter of waiters) waiter.reject(waiter.from <= firstTo ? first : second)
    for (const cut of cuts) cut.reject(first)
  }

  // Sealing, cutting, ending

  /** Frames hold a seal behind them once the log is idle: then the last record, too, has something after it (recovery.ts R1). */
  #armSeal(): void {
    if (this.#sealed || this.#closed || this.#sealTimer !== undefined || this.#sealMs === Infinity) return
    const lsn = this.lastLsn
    this.#sealTimer = setTimeout(() => {
      this.#sealTimer = undefined
      if (this.#sealed || this.#closed || this.#failure !== undefined) return
      const fits = this.#end + frame_header_bytes + reserve_bytes <= this.#segments.at(-1)!.capacity
      if (this.#busy || this.lastLsn !== lsn) return this.#armSeal()
      this.#sealDue = fits
      this.#flush()
    }, this.#sealMs)
    this.#sealTimer.unref()
  }

  async #cut(lsn: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#refusal()
    let keep = 0
    while (this.#segments[keep]!.number < this.#durableSegment && this.#segments[keep]!.lastLsn <= lsn) keep += 1
    if (keep === 0) return
    const before = this.#firstSegment
    const segment = (this.#firstSegment = this.#segments[keep]!.number)
    try {
      await new Promise<void>((resolve, reject) => {
        this.#cutWaiters.push({ segment, resolve, reject })
        this.#sealDue = true
        this.#flush()
      })
    } catch (error) {
      this.#firstSegment = before
      throw error
    }
    failpoint('cut.durable')
    // recovery.ts R2: the cut is durable, now the files can go.
    for (const { number, capacity } of this.#segments.splice(0, keep)) {
      try {
        await this.#supply.give(number, capacity, this.#replays.active === 0)
      } catch (error) {
        throw walError(error, 'wal.cut', segmentPath(this.#dir, number))
      }
    }
  }

  /** Resolves when nothing waits and nothing is under way. */
  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#idleWaiters.push(resolve)
      if (this.#failure !== undefined) for (const idle of this.#idleWaiters.splice(0)) idle()
      else if (!this.#scheduled) this.#flush()
    })
  }
}
