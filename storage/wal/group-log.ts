/**
 * The log of all groups of a node: hard state and entries of each, over the one write-ahead log.
 *
 *   write -> queue -> wal.enqueue ... durable -> what each group needs of the log (group-needs.ts) -> done
 *
 * L1 Records go into the log in the order of the writes, and in one write: hard state, install, entries. `done` is called once for each
 *    write, in that order, never within `write`; without an error only when its last record is durable.
 * L2 What the log surely did not write (a full disk) and what it has no room for in its queue is not lost: it is given again, in order,
 *    after `wal_no_space_retry_ms` or when the queue has drained. `blocked` says so meanwhile.
 * L3 After a write of which nobody knows whether it is on disk, every waiting and later write ends with an error.
 * L4 A write that cannot be (a gap, a hard state that goes back, a record too large) ends its group: of that one nothing is written any
 *    more, the others go on. Damage of the log itself is no such: it is refused at the start.
 * L5 The log may be cut up to `firstNeeded`, never further.
 */
import { NineError, isNineError, toNineError } from '../../namespace/errors.ts'
import { failpoint, hasFailpoints } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import type { Entry, HardState, Persist, SnapshotMeta } from '../../raft/model.ts'
import type { GroupId, LogStorage, WriteDone } from '../../raft/driver/ports.ts'
import { GroupNeeds } from './group-needs.ts'
import { encodeGroupEntry, encodeHard, encodeInstall } from './group-records.ts'
import { recoverGroups, type AloneEntry, type GroupCheckpoint, type RecoveredGroup } from './group-recovery.ts'
import type { Wal } from './wal.ts'

export interface GroupLogOptions {
  /** Run `turn` after all that this turn of the event loop brings; default: setImmediate. */
  readonly defer?: ((turn: () => void) => void) | undefined
  /** Run `turn` once after `ms`; what is returned takes it back. Default: setTimeout. */
  readonly after?: ((ms: number, turn: () => void) => () => void) | undefined
  readonly waitingBytesMax?: number | undefined
}

/** A group that keeps the log from being cut. */
export interface Laggard {
  readonly group: GroupId
  /** Size of the files that are kept for it. */
  readonly bytes: number
  /** Its entries that are to be written again: `from` to `to`, none where `to` is less. */
  readonly from: number
  readonly to: number
}

interface Write {
  readonly needs: GroupNeeds
  readonly hard: HardState | null
  readonly install: SnapshotMeta | null
  readonly entries: readonly Entry[]
  /** Of what is in the log already. */
  readonly again: boolean
  readonly done: WriteDone
  /** Records given to the log; lsn of the first and of the last one. */
  given: number
  firstLsn: number
  lastLsn: number
  error: NineError | undefined
}

export class GroupLog implements LogStorage {
  readonly #defer: (turn: () => void) => void
  readonly #after: (ms: number, turn: () => void) => () => void
  readonly #waitingBytesMax: number
  readonly #groups = new Map<GroupId, GroupNeeds>()
  #wal: Wal | undefined
  /** In order: done up to `#head`, given to the log up to `#given`. */
  #writes: Write[] = []
  #head = 0
  #given = 0
  /** Bytes of entries behind `#given`. */
  #waitingBytes = 0
  /** Set while nothing is given because the disk is full. */
  #stopRetry: (() => void) | undefined
  #blocked: NineError | undefined
  #failure: NineError | undefined
  #settleScheduled = false

  constructor(options: GroupLogOptions = {}) {
    this.#defer = options.defer ?? setImmediate
    this.#after = options.after ?? afterTimeout
    this.#waitingBytesMax = options.waitingBytesMax ?? limits.group_log_waiting_bytes_max
  }

  /**
   * Take over the log and what it holds. Before it, nothing can be written; `wal` was opened with `durable` and `failed`.
   * @throws NineError `corrupt`
   */
  recover(wal: Wal, checkpoints: ReadonlyMap<GroupId, GroupCheckpoint>, aloneEntry: AloneEntry, keptMax = 0): Map<GroupId, RecoveredGroup> {
    const recovered = recoverGroups(wal, checkpoints, aloneEntry, keptMax)
    for (const [group, { hard, hardLsn, install, installLsn, entries, lsns }] of recovered) {
      const needs = this.#needsOf(group)
      const checkpoint = checkpoints.get(group)
      needs.hard = needs.givenHard = hard
      needs.hardLsn = hardLsn
      needs.install = needs.givenInstall = install
      needs.installLsn = installLsn
      if (checkpoint !== undefined) needs.saved(checkpoint.appliedIndex, checkpoint.hardLsn)
      needs.restore(entries[0]?.index ?? 0, lsns)
    }
    this.#wal = wal
    return recovered
  }

  /** L1 */
  write(group: GroupId, persist: Persist, done: WriteDone): void {
    const { hard, install, entries } = persist
    this.#put(this.#needsOf(group), hard, install, entries, false, done)
  }

  flush(hasSent: boolean): void {
    this.#wal!.flush(!hasSent)
  }

  /** Why writes wait for room on the disk, or in the log's queue since then; undefined when they do not. */
  get blocked(): NineError | undefined {
    return this.#blocked
  }

  /** Set when nothing is written any more. */
  get failure(): NineError | undefined {
    return this.#failure
  }

  /** Writes that are not done. */
  get waiting(): number {
    return this.#writes.length - this.#head
  }

  /** The newest durable hard state of a group, and the number of its record: for its checkpoint. */
  hardStateOf(group: GroupId): { readonly hard: HardState; readonly lsn: number } {
    const { hard, hardLsn } = this.#needsOf(group)
    return { hard, lsn: hardLsn }
  }

  /** A checkpoint of the group is durable: it holds entries up to `appliedIndex` and what `hardStateOf` said when it was taken. */
  saved(group: GroupId, { appliedIndex, hardLsn }: { readonly appliedIndex: number; readonly hardLsn: number }): void {
    this.#needsOf(group).saved(appliedIndex, hardLsn)
  }

  /** Lowest record that any group needs: the log may be cut up to the one before. L5 */
  firstNeeded(): number {
    let first = this.#wal!.durableLsn + 1
    const oldest = this.#writes[this.#head]
    if (oldest !== undefined && oldest.given > 0) first = Math.min(first, oldest.firstLsn)
    for (const needs of this.#groups.values()) first = Math.min(first, needs.first)
    return first
  }

  /** Groups for which more of the log is kept than `bytesMax`: `rewrite` what they need, or save them. */
  laggards(bytesMax: number = limits.group_log_behind_bytes_max): Laggard[] {
    const laggards: Laggard[] = []
    for (const needs of this.#groups.values()) {
      const { first } = needs
      const bytes = first === Infinity ? 0 : this.#wal!.bytesFrom(first)
      if (bytes > bytesMax) laggards.push({ group: needs.group, bytes, ...needs.range })
    }
    return laggards
  }

  /**
   * Write again what a group needs of the log: `entries`, those that `laggards` named, and what no checkpoint holds of its hard state
   * and install. Then the log can be cut behind the first copies.
   * @throws NineError `invalid` for entries that are not in the log; else as `write` ends
   */
  rewrite(group: GroupId, entries: readonly Entry[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const needs = this.#needsOf(group)
      const { from } = needs.range
      const needed = entries.filter((entry) => entry.index >= from)
      if (needed.some((entry, i) => entry.index >= needs.next || entry.index !== needed[0]!.index + i)) {
        throw new NineError({
          kind: 'invalid',
          op: 'wal.rewrite',
          message: `entries that group ${group} does not have cannot be written again`,
        })
      }
      const hard = needs.hardLsn > needs.savedHardLsn ? needs.givenHard : null
      const done = (error?: unknown): void => (error === undefined ? resolve() : reject(toNineError(error, op)))
      this.#put(needs, hard, needs.givenInstall, needed, true, done)
    })
  }

  /** Give nothing more to the log. Writes that it has are done when they are durable; those that wait, and later ones, end with an error. */
  stop(): void {
    this.#fail(new NineError({ kind: 'unavailable', op, message: 'the log is closed', retryable: false }))
  }

  /** The log's onDurable. */
  readonly durable = (): void => {
    if (this.#stopRetry === undefined) this.#blocked = undefined
    this.#settle()
    this.#give()
  }

  /** The log's onFailed. L2, L3 */
  readonly failed = (_from: number, _to: number, error: NineError): void => {
    if (this.#failure !== undefined || error.outcome === 'unknown' || error.kind === 'unavailable') {
      for (let i = this.#head; i < this.#writes.length; i++) this.#writes[i]!.error ??= error // L3
      this.#fail(error)
      this.#settle()
      return
    }
    this.#blocked = error
    for (let i = this.#head; i < this.#writes.length; i++) {
      const write = this.#writes[i]!
      if (i < this.#given) this.#waitingBytes += bytesOf(write)
      write.given = 0
    }
    this.#given = this.#head
    if (this.#waitingBytes > this.#waitingBytesMax) this.#fail(tooMuch(this.#waitingBytesMax))
    else this.#retryLater()
  }

  #needsOf(group: GroupId): GroupNeeds {
    let needs = this.#groups.get(group)
    if (needs === undefined) {
      needs = new GroupNeeds(group)
      this.#groups.set(group, needs)
    }
    return needs
  }

  #put(
    needs: GroupNeeds,
    hard: HardState | null,
    install: SnapshotMeta | null,
    entries: readonly Entry[],
    again: boolean,
    done: WriteDone,
  ): void {
    const error = this.#failure ?? needs.refusal(hard, install, entries, again)
    if (hasFailpoints) passWrite(hard, entries, 'before')
    const write: Write = { needs, hard, install, entries, again, done, given: 0, firstLsn: 0, lastLsn: 0, error }
    this.#writes.push(write)
    if (this.#given < this.#writes.length - 1 || this.#stopRetry !== undefined) {
      this.#wait(write)
      return
    }
    if (this.#giveOne(write)) this.#given++
    else this.#wait(write)
  }

  #wait(write: Write): void {
    this.#waitingBytes += bytesOf(write)
    if (this.#waitingBytes > this.#waitingBytesMax) this.#fail(tooMuch(this.#waitingBytesMax))
  }

  /** Give what waits, as far as the log takes it. */
  #give(): void {
    if (this.#stopRetry !== undefined) return
    while (this.#given < this.#writes.length) {
      const write = this.#writes[this.#given]!
      if (!this.#giveOne(write)) return
      this.#waitingBytes -= bytesOf(write)
      this.#given++
    }
  }

  /** Whether the log took all of it. What ends it, or leaves nothing to write, is told in a later turn. */
  #giveOne(write: Write): boolean {
    const { needs, hard, install, entries, again } = write
    const group = needs.group
    const wal = this.#wal!
    const before = (hard === null ? 0 : 1) + (install === null ? 0 : 1)
    const count = before + entries.length
    if (!again) write.error ??= needs.failure // L4: it waited
    try {
      for (; write.error === undefined && write.given < count; write.given++) {
        const { given } = write
        if (given === 0 && hard !== null) this.#enqueue(write, encodeHard(group, hard))
        else if (given < before) this.#enqueue(write, encodeInstall(group, install!, again))
        else this.#enqueue(write, encodeGroupEntry(group, entries[given - before]!, again))
      }
    } catch (error) {
      if (isNineError(error, 'overloaded') && wal.queuedBytes > 0) return false // L2
      const failure = toNineError(error, op)
      if (failure.kind === 'unavailable') {
        this.#fail(failure) // L3: `write` with all behind it
        return false
      }
      write.error = failure
      needs.fail(failure, entries) // L4
    }
    if (write.given === 0) write.lastLsn = wal.lastLsn
    if (write.error !== undefined || write.lastLsn <= wal.durableLsn) this.#settleLater()
    return true
  }

  #enqueue(write: Write, record: Uint8Array): void {
    const lsn = this.#wal!.enqueue(record)
    if (write.given === 0) write.firstLsn = lsn
    write.lastLsn = lsn
  }

  /** Ends every write that the log has come to, in order. */
  #settle(): void {
    const durableLsn = this.#wal?.durableLsn ?? 0
    while (this.#head < this.#given) {
      const write = this.#writes[this.#head]!
      if (write.error === undefined) {
        if (write.lastLsn > durableLsn) break
        if (hasFailpoints) passWrite(write.hard, write.entries, 'after')
        account(write)
        failpoint('log.done')
      }
      this.#head++
      if (write.error === undefined) write.done()
      else if (write.error === write.needs.failure)
        write.done(write.error, 'group') // L4
      else write.done(write.error)
    }
    if (this.#head === this.#writes.length) {
      this.#writes = []
      this.#head = this.#given = 0
    } else if (this.#head > 4096) {
      this.#writes = this.#writes.slice(this.#head)
      this.#given -= this.#head
      this.#head = 0
    }
  }

  #settleLater(): void {
    if (this.#settleScheduled) return
    this.#settleScheduled = true
    this.#defer(() => {
      this.#settleScheduled = false
      this.#settle()
    })
  }

  #retryLater(): void {
    this.#stopRetry?.()
    this.#stopRetry = this.#after(limits.wal_no_space_retry_ms, () => {
      this.#stopRetry = undefined
      this.#give()
    })
  }

  /** Nothing more is given to the log: what was not given whole ends with the error. */
  #fail(error: NineError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#stopRetry?.()
    this.#stopRetry = undefined
    for (let i = this.#given; i < this.#writes.length; i++) this.#writes[i]!.error ??= error
    this.#given = this.#writes.length
    this.#waitingBytes = 0
    this.#settleLater()
  }
}

const op = 'wal.write'

function passWrite(hard: HardState | null, entries: readonly Entry[], when: 'before' | 'after'): void {
  if (hard !== null) failpoint(`vote.${when}`)
  if (entries.some(({ configuration }) => configuration !== null)) failpoint(`configuration.${when}`)
}

function account({ needs, hard, install, entries, again, firstLsn }: Write): void {
  if (hard !== null) needs.hardDurable(hard, firstLsn)
  if (install !== null) needs.installDurable(install, firstLsn, again)
  if (entries.length > 0) needs.entriesDurable(entries, firstLsn, again)
}

function bytesOf({ entries }: Write): number {
  let bytes = 64
  for (const { data } of entries) bytes += 64 + (data === null ? 0 : data.length)
  return bytes
}

function tooMuch(bytesMax: number): NineError {
  const message = `more than ${bytesMax} bytes wait for the log: the groups of this node have stopped until it is restarted`
  return new NineError({ kind: 'overloaded', op, message, retryable: false, outcome: 'unknown' })
}

function afterTimeout(ms: number, turn: () => void): () => void {
  const timer = setTimeout(turn, ms)
  return () => clearTimeout(timer)
}
