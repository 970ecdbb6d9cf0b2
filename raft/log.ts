/**
 * The log as the core sees it: the entries since the last compaction, in memory, and the configurations among them.
 * Thesis sections 3.5 (log), 4.1 (a configuration is in force from the moment it is in the log) and 5.1 (compaction).
 *
 * L1 `entries[i]` has index `base.index + 1 + i`; terms never fall.
 * L2 `configurations` is never empty, rises by index, and its last is the one in force; its first stands at or below `base.index`.
 * L3 `base.index <= snapshot.index`: what was compacted is in a snapshot.
 */
import { assert } from './assert.ts'
import type { Configuration, Entry, SnapshotMeta } from './model.ts'

export interface Log {
  /** The last entry that was dropped by compaction, or the snapshot's. */
  base: { index: number; term: number }
  entries: Entry[]
  configurations: { readonly index: number; readonly configuration: Configuration }[]
  /** The newest snapshot that this node could send. */
  snapshot: SnapshotMeta
  /** The last range that was cut out: a turn's entries go to the disk and to each peer as one array. */
  shared: readonly Entry[]
}

export function makeLog(snapshot: SnapshotMeta): Log {
  return {
    base: { index: snapshot.index, term: snapshot.term },
    entries: [],
    configurations: [{ index: snapshot.index, configuration: snapshot.configuration }],
    snapshot,
    shared: [],
  }
}

/** Of `entries`, those that the snapshot of a new log holds too: they are kept for members that are a little behind. */
export function restoreBefore(log: Log, entries: readonly Entry[]): void {
  const { index, term } = log.snapshot
  const first = entries[0]
  if (first === undefined || first.index >= index) return
  const kept = entries.slice(0, index - first.index + 1)
  const last = kept[kept.length - 1]!
  if (last.index !== index || last.term !== term) return // they do not lead to it
  log.base = { index: first.index, term: first.term }
  log.entries = kept.slice(1)
  log.configurations = [{ index: first.index, configuration: log.snapshot.configuration }]
}

export function lastIndex(log: Log): number {
  return log.base.index + log.entries.length
}

export function lastTerm(log: Log): number {
  return log.entries.length === 0 ? log.base.term : log.entries[log.entries.length - 1]!.term
}

/** The term at `index`, or -1 where the log does not reach (compacted, or past its end). */
export function termAt(log: Log, index: number): number {
  if (index === log.base.index) return log.base.term
  return log.entries[index - log.base.index - 1]?.term ?? -1
}

export function entryAt(log: Log, index: number): Entry {
  const entry = log.entries[index - log.base.index - 1]
  assert(entry !== undefined && entry.index === index, 'L1 an entry stands at its index')
  return entry
}

export function currentConfiguration(log: Log): Configuration {
  return log.configurations[log.configurations.length - 1]!.configuration
}

export function currentConfigurationIndex(log: Log): number {
  return log.configurations[log.configurations.length - 1]!.index
}

/** The configuration that was in force at `index`, which is not compacted. */
export function configurationAt(log: Log, index: number): Configuration {
  let at = log.configurations.length - 1
  while (at > 0 && log.configurations[at]!.index > index) at--
  return log.configurations[at]!.configuration
}

export function append(log: Log, entry: Entry): void {
  assert(entry.index === lastIndex(log) + 1, 'L1 an entry follows the last one')
  assert(entry.term >= lastTerm(log), 'L1 terms never fall')
  log.entries.push(entry)
  if (entry.configuration !== null) log.configurations.push({ index: entry.index, configuration: entry.configuration }) // L2
}

/** Drop everything at `index` and after; configurations among it are no longer in force (section 4.1). */
export function truncateFrom(log: Log, index: number): void {
  assert(index > log.base.index, 'L3 what is compacted is not truncated')
  log.entries.length = index - log.base.index - 1
  while (log.configurations.length > 1 && currentConfigurationIndex(log) >= index) log.configurations.pop()
  log.shared = []
}

/** Entries `first` to `last`. The array is shared: nobody changes it. */
export function range(log: Log, first: number, last: number): readonly Entry[] {
  if (last < first) return []
  const shared = log.shared
  if (shared.length === last - first + 1 && shared[0]!.index === first) return shared
  const from = first - log.base.index - 1
  assert(from >= 0 && last <= lastIndex(log), 'L1 a range lies in the log')
  log.shared = log.entries.slice(from, last - log.base.index)
  return log.shared
}

/** The last index in `first..index` at which up to `bytes` of data are reached; at least `first`. */
export function lastWithin(log: Log, first: number, bytes: number): number {
  let index = first
  let total = bytesOf(entryAt(log, first))
  const last = lastIndex(log)
  while (index < last) {
    total += bytesOf(log.entries[index - log.base.index]!)
    if (total > bytes) break
    index++
  }
  return index
}

/** Size of an entry in every bound of the core; what frames it on the wire is the transport's. */
export function bytesOf(entry: Entry): number {
  return entry.data === null ? 64 : entry.data.length
}

/**
 * The last index at or before `index` whose term is at most `term`: the next place where two logs may agree. Terms never fall,
 * so it is found by halving (section 3.5, "conflicting term"). At least the base.
 */
export function lastAtOrBelowTerm(log: Log, index: number, term: number): number {
  let low = log.base.index
  let high = Math.min(index, lastIndex(log))
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (termAt(log, middle) <= term) low = middle
    else high = middle - 1
  }
  return low
}

/** Section 3.6.1: whose log is at least as up to date as this one. */
export function isUpToDate(log: Log, otherLastIndex: number, otherLastTerm: number): boolean {
  const term = lastTerm(log)
  return otherLastTerm > term || (otherLastTerm === term && otherLastIndex >= lastIndex(log))
}

export function compact(log: Log, index: number): void {
  assert(index <= log.snapshot.index, 'L3 what is compacted is in a snapshot')
  if (index <= log.base.index) return
  const term = termAt(log, index)
  log.entries = log.entries.slice(index - log.base.index)
  log.base = { index, term }
  while (log.configurations.length > 1 && log.configurations[1]!.index <= index) log.configurations.shift() // L2
}
