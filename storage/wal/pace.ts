/**
 * Whether the next write to the log blocks the event loop or goes through the thread pool.
 *
 * One client that waits for each write is served fastest by a blocking write: 9,000-9,700/s against 6,600-6,950/s through
 * the pool (300 B, see files.ts), for the loop has nothing else to do. With company the loop has: while the disk works
 * it reads requests, and they fill the next frame. So a write blocks only when
 * P1 its frame holds one record and the frames before it hardly held more, and
 * P2 the disk has lately been quick: after one slow write the next ones go through the pool until enough are quick again.
 */
import { limits } from '../../namespace/limits.ts'

/** Weight of the newest frame in the average number of records. */
const weight = 0.25
const records_mean_max = 1.2
/** Quick writes in a row before the first that blocks, and after a slow one. */
const quick_writes_min = 32

export class Pace {
  /** Starts crowded: the first writes go through the pool. */
  #mean = 4
  #quick = 0

  mayBlock(records: number): boolean {
    return records === 1 && this.#mean <= records_mean_max && this.#quick >= quick_writes_min
  }

  /** What a finished write held and how long it took, in the way that it was made. */
  note(records: number, ms: number): void {
    this.#mean += (records - this.#mean) * weight
    this.#quick = ms > limits.wal_blocking_ms_max ? 0 : this.#quick + 1
  }
}
