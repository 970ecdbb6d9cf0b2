/**
 * What the log holds of each group, read once when a node starts.
 *
 * R1 Records are taken in the order of the log, from its first: an entry drops what its group had at its index and after, an install
 *    drops all of it. So where the log was cut, what is left of a tail that was dropped later is dropped here too.
 * R2 A record that was written again takes the place of its copy and drops nothing: of several, any that is left will do.
 * R3 At the end a group's entries are without a gap from behind what its checkpoint holds, and their terms do not fall; the hard
 *    state never goes back. Anything else is `corrupt`.
 * R4 What is dropped is not held: of an entry that is kept the bytes are copied out of what was read.
 */
import { NineError, isNineError } from '../../namespace/errors.ts'
import type { Entry, HardState, SnapshotMeta } from '../../raft/model.ts'
import { alone_format, decodeGroupRecord } from './group-records.ts'
import type { Wal } from './wal.ts'

/** What a group's last checkpoint holds. */
export interface GroupCheckpoint {
  readonly appliedIndex: number
  readonly hard: HardState
  /** Number in this log of the record of that hard state; 0 where it never was in this log. */
  readonly hardLsn: number
  /** Entries up to here are kept for nobody. */
  readonly forgotten?: number | undefined
}

export interface RecoveredGroup {
  readonly hard: HardState
  readonly hardLsn: number
  /** A snapshot that the state machine has yet to take over: it is newer than the checkpoint. */
  readonly install: SnapshotMeta | null
  readonly installLsn: number
  /** Without a gap. The first is at or below the one behind the checkpoint (or `install`); none where there are none behind it. */
  readonly entries: readonly Entry[]
  /** Number in the log of each of `entries`. */
  readonly lsns: readonly number[]
}

/** Reads an entry that this node wrote while it was alone; `data` may be a view of `record`. @throws NineError `corrupt` */
export type AloneEntry = (record: Uint8Array) => {
  readonly group: number
  readonly term: number
  readonly index: number
  readonly data: Uint8Array
}

/**
 * All groups of `checkpoints` and all that the log knows. `keptMax`: applied entries that are kept all the same, for those who lag.
 * @throws NineError `corrupt`; the message says what can be done
 */
export function recoverGroups(
  wal: Wal,
  checkpoints: ReadonlyMap<number, GroupCheckpoint>,
  aloneEntry: AloneEntry,
  keptMax = 0,
): Map<number, RecoveredGroup> {
  const slab = new Slab()
  const histories = new Map<number, History>()
  const historyOf = (group: number): History => {
    let history = histories.get(group)
    if (history === undefined) {
      history = new History(group, checkpoints.get(group) ?? emptyCheckpoint, keptMax, slab)
      histories.set(group, history)
    }
    return history
  }
  for (const [group, { hardLsn }] of checkpoints) {
    historyOf(group)
    if (hardLsn <= wal.lastLsn) continue
    throw damaged(group, `the log ends with record ${wal.lastLsn}, but its checkpoint knows record ${hardLsn}`)
  }
  for (const { lsn, bytes } of wal.replay(wal.firstLsn)) {
    try {
      takeRecord(bytes, lsn, historyOf, aloneEntry)
    } catch (error) {
      if (!isNineError(error, 'corrupt') || error.op === op) throw error
      throw new NineError({ kind: 'corrupt', op, message: `record ${lsn} of the log: ${error.message}. ${advice}`, cause: error })
    }
  }
  const recovered = new Map<number, RecoveredGroup>()
  for (const [group, history] of histories) recovered.set(group, history.recovered())
  return recovered
}

const op = 'wal.recover'
const advice = 'Restore the data folder from a backup, or begin with an empty one, which the other nodes of a cluster fill'
/** No array has more elements. */
const span_max = 2 ** 31
const slab_bytes = 64 * 1024

const emptyCheckpoint: GroupCheckpoint = { appliedIndex: 0, hard: { term: 0, vote: null }, hardLsn: 0 }

function damaged(group: number, what: string): NineError {
  return new NineError({ kind: 'corrupt', op, message: `the log of group ${group} is damaged: ${what}. ${advice}` })
}

function takeRecord(bytes: Uint8Array, lsn: number, historyOf: (group: number) => History, aloneEntry: AloneEntry): void {
  if (bytes[0] === alone_format) {
    const { group, term, index, data } = aloneEntry(bytes)
    historyOf(group).entry({ term, index, data, configuration: null }, false, lsn)
    return
  }
  const record = decodeGroupRecord(bytes)
  const history = historyOf(record.group)
  if (record.kind === 'entry') history.entry(record.entry, record.again, lsn)
  else if (record.kind === 'hard') history.hardState(record.hard, lsn)
  else history.install(record.meta, record.again, lsn)
}

/** One group, as far as the log was read. */
class History {
  readonly #group: number
  readonly #keptMax: number
  readonly #slab: Slab
  readonly #savedHardLsn: number
  #hard: HardState
  #hardLsn: number
  #install: SnapshotMeta | null = null
  #installLsn = 0
  /** The state machine holds this, or will once it took over `#install`. */
  #floor: number
  /** Index of the first slot. */
  #base: number
  /** Holes where nothing was seen yet, or nothing is any more. */
  #slots: (Entry | undefined)[] = []
  #lsns: number[] = []

  constructor(group: number, { appliedIndex, hard, hardLsn, forgotten = 0 }: GroupCheckpoint, keptMax: number, slab: Slab) {
    this.#group = group
    this.#keptMax = keptMax
    this.#slab = slab
    this.#hard = hard
    this.#hardLsn = this.#savedHardLsn = hardLsn
    this.#floor = appliedIndex
    this.#base = Math.max(1, appliedIndex + 1 - keptMax, Math.min(forgotten, appliedIndex) + 1)
  }

  hardState(hard: HardState, lsn: number): void {
    if (lsn <= this.#savedHardLsn) return
    const { term, vote } = this.#hard
    if (hard.term < term || (hard.term === term && vote !== null && hard.vote !== vote)) {
      throw damaged(this.#group, `its term goes from ${term} to ${hard.term} at record ${lsn}, or its vote changes`)
    }
    this.#hard = hard
    this.#hardLsn = lsn
  }

  entry(entry: Entry, again: boolean, lsn: number): void {
    const at = entry.index - this.#base
    if (at >= span_max) throw damaged(this.#group, `it goes on with entry ${entry.index}, the store is at ${this.#floor}`)
    if (!again) this.#cutAt(Math.max(0, at)) // R1
    if (at < 0) return
    const { index, term, data, configuration } = entry
    this.#slots[at] = data === null ? entry : { index, term, data: this.#slab.copy(data), configuration } // R4
    this.#lsns[at] = lsn
  }

  install(meta: SnapshotMeta, again: boolean, lsn: number): void {
    if (!again) this.#cutAt(0) // R1
    if (meta.index < this.#floor || (meta.index === this.#floor && this.#install === null)) return
    this.#install = meta
    this.#installLsn = lsn
    this.#floor = meta.index
    const base = Math.max(this.#base, meta.index + 1 - this.#keptMax)
    this.#slots.splice(0, base - this.#base)
    this.#lsns.splice(0, base - this.#base)
    this.#base = base
  }

  /** R3 */
  recovered(): RecoveredGroup {
    const slots = this.#slots
    const above = this.#floor + 1 - this.#base
    let from = above
    while (from > 0 && from <= slots.length && slots[from - 1] !== undefined) from--
    const entries: Entry[] = []
    let term = 0
    for (let at = from; at < slots.length; at++) {
      const entry = slots[at]
      const index = this.#base + at
      if (entry === undefined) {
        throw damaged(this.#group, `entry ${index} is missing, later ones are there, and the store is at ${this.#floor}`)
      }
      if (entry.index !== index) throw damaged(this.#group, `entry ${entry.index} stands in the place of entry ${index}`)
      if (entry.term < term) throw damaged(this.#group, `its terms fall from ${term} to ${entry.term} at entry ${index}`)
      term = entry.term
      entries.push(entry)
    }
    const lsns = this.#lsns.slice(from, slots.length)
    return { hard: this.#hard, hardLsn: this.#hardLsn, install: this.#install, installLsn: this.#installLsn, entries, lsns }
  }

  #cutAt(at: number): void {
    if (this.#slots.length <= at) return
    this.#slots.length = at
    this.#lsns.length = at
  }
}

/** Copies small pieces into shared memory: one by one they would cost more than they hold. */
class Slab {
  #bytes = Buffer.alloc(0)
  #used = 0

  copy(data: Uint8Array): Uint8Array {
    if (data.length > slab_bytes / 4) return new Uint8Array(data)
    if (this.#used + data.length > this.#bytes.length) {
      this.#bytes = Buffer.allocUnsafeSlow(slab_bytes)
      this.#used = 0
    }
    const from = this.#used
    this.#used += data.length
    this.#bytes.set(data, from)
    return this.#bytes.subarray(from, this.#used)
  }
}
