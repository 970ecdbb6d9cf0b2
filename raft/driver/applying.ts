/**
 * Entries on their way to the state machine of a group: in order, each once, as much at a time as the turn has room for.
 *
 * A1 Only what the core handed out is applied, and it hands out only what is committed and durable here.
 * A2 A snapshot takes the place of everything before it that still waits.
 * A3 Nothing is applied while the machine is busy, installs a snapshot, or takes its time over an entry.
 * A4 `bytes` is the data that waits.
 */
import { bytesOf } from '../log.ts'
import type { Apply, Entry, SnapshotMeta } from '../model.ts'

/** What one turn may still apply, over all groups. */
export interface Room {
  entries: number
  bytes: number
}

export interface Sink {
  readonly isBusy: boolean
  /** False: it is under way. */
  apply(entry: Entry): boolean
  install(meta: SnapshotMeta): void
}

export class Applying {
  /** The last entry given to the machine, or its snapshot. */
  index: number
  isUnderWay = false
  bytes = 0
  #waiting: Apply[] = []
  /** Entries of the first that are done. */
  #at = 0

  constructor(applied: number) {
    this.index = applied
  }

  /** From the effects of a step. */
  add(apply: Apply): void {
    if (apply.install !== null) this.#drop() // A2
    this.#waiting.push(apply)
    for (const entry of apply.entries) this.bytes += bytesOf(entry) // A4
  }

  get isDone(): boolean {
    return this.#waiting.length === 0
  }

  /** Whether there is anything that could be done now. */
  mayGoOn(sink: Sink): boolean {
    return !this.isDone && !this.isUnderWay && !sink.isBusy // A3
  }

  /** Give the machine what there is room for. */
  run(sink: Sink, room: Room): void {
    while (room.entries > 0 && room.bytes > 0 && this.mayGoOn(sink)) {
      const next = this.#waiting[0]!
      if (next.install !== null && this.#at === 0 && this.index < next.install.index) {
        this.isUnderWay = true
        sink.install(next.install)
        return
      }
      const entry = next.entries[this.#at]
      if (entry === undefined) {
        this.#waiting.shift()
        this.#at = 0
        continue
      }
      this.#at++
      room.entries--
      const bytes = bytesOf(entry)
      room.bytes -= bytes
      this.bytes -= bytes // A4
      this.index = entry.index
      if (sink.apply(entry)) continue
      this.isUnderWay = true
      this.index-- // Indexes have no gaps.
    }
  }

  /** What was under way is done: the machine holds the snapshot, or the entry, of this index. */
  done(index: number): void {
    this.isUnderWay = false
    this.index = index
  }

  #drop(): void {
    this.#waiting.length = 0
    this.#at = 0
    this.bytes = 0
  }
}
