/**
 * What of the log one group still needs, and what of it is durable.
 *
 * N1 Needed are: entries above the saved applied index, whether applied or not; the newest durable hard state, and a snapshot that
 *    was installed, while no checkpoint holds them. The number kept for an entry is that of its write's first record: at most its own.
 * N2 `next` and `givenHard` count what was given, durable or not: a write is checked against them when it comes.
 * N3 What a group has in the log is needed after its end too, and may be written again: without the entries that its last write was to
 *    put in the place of others.
 */
import { NineError } from '../../namespace/errors.ts'
import type { Entry, HardState, SnapshotMeta } from '../../raft/model.ts'

const noHard: HardState = { term: 0, vote: null }

export class GroupNeeds {
  readonly group: number
  /** Durable. */
  hard: HardState = noHard
  hardLsn = 0
  /** Installed, and in no checkpoint. */
  install: SnapshotMeta | null = null
  installLsn = 0
  /** Of the last checkpoint. */
  savedIndex = 0
  savedHardLsn = 0
  /** Index of the next entry, and newest hard state and snapshot, as given (N2). */
  next = 1
  givenHard: HardState = noHard
  givenInstall: SnapshotMeta | null = null
  /** Why nothing of this group is written any more. */
  failure: NineError | undefined
  /** First entry of the write that failed. N3 */
  #failedFrom = Infinity
  /** Index of the first of `#lsns`. */
  #base = 1
  #lsns: number[] = []
  /** Whether `#lsns` may fall: entries were written again. */
  #mayFall = false

  constructor(group: number) {
    this.group = group
  }

  /** Lowest record that is needed; Infinity when none is. N1 */
  get first(): number {
    let first = this.hardLsn > this.savedHardLsn ? this.hardLsn : Infinity
    if (this.install !== null && this.installLsn < first) first = this.installLsn
    const lsns = this.#lsns
    if (!this.#mayFall) return lsns.length > 0 && lsns[0]! < first ? lsns[0]! : first
    for (const lsn of lsns) if (lsn < first) first = lsn
    return first
  }

  /** First and last index of the entries that are needed; the last is before the first where none are. */
  get range(): { readonly from: number; readonly to: number } {
    return { from: this.#base, to: this.#base + this.#lsns.length - 1 }
  }

  /** Takes a write in, or says why it cannot be. N2 */
  refusal(hard: HardState | null, install: SnapshotMeta | null, entries: readonly Entry[], again: boolean): NineError | undefined {
    const first = entries[0]?.index ?? 0
    if (again && (entries.at(-1)?.index ?? 0) < this.#failedFrom) return undefined
    if (again || this.failure !== undefined) return this.failure
    const { term, vote } = this.givenHard
    if (hard !== null && (hard.term < term || (hard.term === term && vote !== null && hard.vote !== vote))) {
      this.fail(this.#impossible(`its term goes from ${term} to ${hard.term}, or its vote changes`), entries)
    } else if (entries.some((entry, i) => entry.index !== first + i) || first > (install === null ? this.next : install.index + 1)) {
      this.fail(this.#impossible(`entry ${this.next} was to be the next, ${first} came, or a gap after it`), entries)
    } else {
      if (hard !== null) this.givenHard = hard
      if (install !== null) this.givenInstall = install
      if (entries.length > 0) this.next = first + entries.length
      else if (install !== null) this.next = install.index + 1
    }
    return this.failure
  }

  /** A write cannot be, and so none after it. */
  fail(error: NineError, entries: readonly Entry[]): void {
    this.failure = error
    this.#failedFrom = entries[0]?.index ?? Infinity
  }

  hardDurable(hard: HardState, lsn: number): void {
    this.hard = hard
    this.hardLsn = lsn
  }

  installDurable(meta: SnapshotMeta, lsn: number, again: boolean): void {
    if (meta.index <= this.savedIndex) return
    this.install = meta
    this.installLsn = lsn
    if (again) return
    this.#base = meta.index + 1
    this.#lsns = []
  }

  /** They follow one another. */
  entriesDurable(entries: readonly Entry[], lsn: number, again: boolean): void {
    const lsns = this.#lsns
    for (const { index } of entries) {
      const at = index - this.#base
      if (again) {
        if (at < 0 || at >= lsns.length) continue
        lsns[at] = lsn
        this.#mayFall = true
        continue
      }
      if (at < lsns.length) lsns.length = Math.max(0, at)
      if (at >= 0) lsns.push(lsn)
    }
  }

  /** From recovery: entries from `first` on. */
  restore(first: number, lsns: readonly number[]): void {
    const from = Math.max(first, this.savedIndex + 1, (this.install?.index ?? 0) + 1)
    this.#base = from
    this.#lsns = lsns.slice(Math.max(0, from - first))
    this.#mayFall = true
    this.next = from + this.#lsns.length
  }

  saved(appliedIndex: number, hardLsn: number): void {
    this.savedHardLsn = Math.max(this.savedHardLsn, hardLsn)
    if (appliedIndex <= this.savedIndex) return
    this.savedIndex = appliedIndex
    this.next = Math.max(this.next, appliedIndex + 1)
    if (this.install !== null && this.install.index <= appliedIndex) this.install = null
    if (this.givenInstall !== null && this.givenInstall.index <= appliedIndex) this.givenInstall = null
    if (appliedIndex < this.#base) return
    this.#lsns.splice(0, appliedIndex + 1 - this.#base)
    this.#base = appliedIndex + 1
    if (this.#lsns.length === 0) this.#mayFall = false
  }

  #impossible(what: string): NineError {
    const message = `group ${this.group} of this node has stopped, a write of it cannot be: ${what}`
    return new NineError({ kind: 'internal', op: 'wal.write', message, retryable: false })
  }
}
