/**
 * The write-ahead log of a node, shared by all its stores. Records are opaque bytes with dense numbers (lsn) from 1.
 *
 * W1 A record is reported durable only after its frame and all before it are on stable storage.
 * W2 Everything that waits while a write is under way, or is given in one turn of the event loop or until `flush`, becomes one frame: one
 *    write and one sync (as far as `append_bytes_max` goes).
 * W3 After a write failed in a way that leaves unknown what is on disk, nothing is acknowledged ever again: the log has
 *    failed, and only opening it anew, which reads what is there, goes on.
 * W4 A full disk fails what waits, surely not written (`no_space`, outcome none), and the log goes on when there is room.
 * W5 What waits is bounded by `proposal_bytes_max`; past it: `overloaded`.
 * W6 What a log shows when it is opened is durable, also what was never acknowledged.
 */
import { systemClock, type Clock } from '../../namespace/clock.ts'
import { limits } from '../../namespace/limits.ts'
import { systemRandom, type Random } from '../../namespace/random.ts'
import type { NineError } from '../../namespace/errors.ts'
import { nodeFiles, type WalFile, type WalFiles } from './files.ts'
import { WalLog } from './log.ts'
import { recover, type Recovered, type SegmentInfo } from './recovery.ts'
import { damaged, segmentPath, segment_header_bytes, walError } from './segment.ts'
import { SegmentSupply, plannedCapacity } from './supply.ts'

export interface WalRecord {
  readonly lsn: number
  readonly bytes: Uint8Array
}

export interface Wal {
  /** Identity of this log, made with it. */
  readonly id: string
  /** lsn of the last record given, durable or not; 0 in an empty log. */
  readonly lastLsn: number
  readonly durableLsn: number
  /** lsn of the oldest record kept; one past the last where there is none. */
  readonly firstLsn: number
  /** Bytes given and not durable yet. */
  readonly queuedBytes: number
  readonly report: WalReport
  /**
   * Give one record to be written with the next frame; its lsn. `bytes` are copied. `onDurable` or `onFailed` tells the end.
   * @throws NineError `overloaded` (W5), `too_large` (over `append_bytes_max`), `unavailable` (closed, or failed: W3)
   */
  enqueue(bytes: Uint8Array): number
  /**
   * Write what waits now, unless a write is under way; `onDurable` may be called within. A write that would block the event loop (pace.ts)
   * is made now only with `mayBlock`, else in the next turn.
   */
  flush(mayBlock: boolean): void
  /**
   * Give records, all or none; resolves with the lsn of the last one when they are durable. Each record is whole after a
   * crash or not there at all, a list of them can be cut short.
   * @throws NineError as `enqueue`, and `no_space` (outcome none), `internal` (outcome unknown), `unavailable`
   */
  append(records: readonly Uint8Array[]): Promise<number>
  /**
   * The durable records from `fromLsn` to the last one at the time of the call, read from disk about 1 MiB at a time; their
   * bytes are views into what was read. Holding an iteration open keeps disk space.
   * @throws NineError `compacted` (records from there on were cut), `corrupt`
   */
  replay(fromLsn: number): Iterable<WalRecord>
  /** Size of the files that are kept as long as record `lsn` is needed, bytes. */
  bytesFrom(lsn: number): number
  /** Records up to `lsn` are no longer needed: segments that hold nothing else are used again or removed. Durable. */
  cut(lsn: number): Promise<void>
  /** Writes what waits, marks the end, releases the files. Nothing can be given from the call on. */
  close(): Promise<void>
}

export interface WalOptions {
  readonly dir: string
  readonly files?: WalFiles | undefined
  /** Largest size of a segment, bytes; a record that needs more gets a segment of its size. Below 2 GiB. */
  readonly segmentBytes?: number | undefined
  /** Whether what uses the log has been here before: then a log that is not there is `corrupt`, not new. */
  readonly mustExist?: boolean | undefined
  /** Bytes that may wait. */
  readonly queueBytes?: number | undefined
  /** Idle time after which the end is marked, milliseconds; Infinity: at `close` only. */
  readonly sealMs?: number | undefined
  readonly clock?: Clock | undefined
  readonly random?: Random | undefined
  /** Run `flush` after all that this turn of the event loop brings (W2); default: setImmediate. */
  readonly defer?: ((flush: () => void) => void) | undefined
  /** Every record up to `lsn` is durable. Once for each frame, in order, never within `enqueue`. */
  readonly onDurable?: ((lsn: number) => void) | undefined
  /**
   * Records `from` to `to` are not acknowledged and never will be. Their numbers are given again, to the next records.
   * `error.outcome` is `none` where they are surely not in the log, else `unknown`.
   */
  readonly onFailed?: ((from: number, to: number, error: NineError) => void) | undefined
}

export interface WalReport {
  /** What was cut at open: bytes of an interrupted write, and where. 0 and '' when the end was clean. */
  readonly tornBytes: number
  readonly tornFile: string
  readonly tornOffset: number
  /** Segment files that were no longer needed, or never finished, and were removed at open. */
  readonly removedFiles: number
  readonly segments: number
  /** Size of the segments. */
  readonly bytes: number
  /** Since open: */
  readonly records: number
  readonly frames: number
  /** Frames written with the event loop waiting (see pace.ts). */
  readonly blockingFrames: number
  readonly recycledSegments: number
}

/**
 * Open the log in `dir`, which is made if it is missing. The caller sees to it that no other process has it open.
 * @throws NineError `corrupt` (damage before the end, or a missing segment; the message names file and offset), `unsupported`
 *   (a newer format), `denied`, `read_only`, `not_directory`, `no_space`, `internal`
 */
export async function openWal(options: WalOptions): Promise<Wal> {
  const { dir, files = nodeFiles, segmentBytes = limits.wal_segment_bytes, clock = systemClock, random = systemRandom } = options
  let file: WalFile | undefined
  try {
    files.makeDir(dir)
    const recovered = recover(files, dir)
    if (options.mustExist === true && recovered.segments.length === 0) throw damaged(dir, 0, 'its segments are missing')
    const logId = recovered.logId ?? random.id()
    const supply = new SegmentSupply(files, dir, logId, clock)
    let segments = recovered.segments
    let end = recovered.end
    const active = segments.at(-1)
    if (active === undefined) {
      const capacity = plannedCapacity(1, segmentBytes)
      const first = await supply.make(1, capacity, capacity)
      file = first.file
      segments = [{ number: 1, capacity: first.capacity, firstLsn: 1, lastLsn: 0 }]
      end = segment_header_bytes
    } else {
      file = files.open(segmentPath(dir, active.number), 'log')
      eraseTorn(file, recovered)
      await file.sync() // W6, and R2: before what a durable cut allows to remove is removed
      await files.syncDir(dir)
    }
    for (const path of recovered.unneeded) await files.unlink(path)
    const opened = openingReport(dir, recovered, active)
    return new WalLog(options, {
      id: logId,
      file,
      segments,
      end,
      supply,
      firstSegment: recovered.firstSegment,
      sealed: recovered.sealed,
      opened,
    })
  } catch (error) {
    file?.close()
    throw walError(error, 'wal.open', dir)
  }
}

/** Make what an interrupted write left zeros again, so that the next frame has only zeros behind it (segment.ts S2). */
function eraseTorn(file: WalFile, { end, tornTo }: Recovered): void {
  const zeros = Buffer.alloc(Math.min(tornTo - end, 1024 * 1024))
  // Backwards: the beginning, which tells that there was something, goes last.
  for (let to = tornTo; to > end;) {
    const from = Math.max(end, to - zeros.length)
    file.writeDurableSync(zeros.subarray(0, to - from), from)
    to = from
  }
}

function openingReport(dir: string, recovered: Recovered, active: SegmentInfo | undefined) {
  const { end, tornTo, unneeded } = recovered
  const torn = active !== undefined && tornTo > end
  return {
    tornBytes: torn ? tornTo - end : 0,
    tornFile: torn ? segmentPath(dir, active.number) : '',
    tornOffset: torn ? end : 0,
    removedFiles: unneeded.length,
  }
}
