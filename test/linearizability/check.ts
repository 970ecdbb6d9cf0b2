/** One verdict on a whole history: linearizable file by file, revisions in order, watches complete, locks one holder's at a time. */
import type { History, Key } from './history.ts'
import { checkLocks } from './locks.ts'
import { partsOf } from './partition.ts'
import { printCounterexample } from './print.ts'
import { search } from './search.ts'
import type { SearchLimits } from './search.ts'
import { shrink } from './shrink.ts'
import { checkRevisions } from './stale.ts'
import { checkWatches } from './watch.ts'

export interface Report {
  /** `unknown`: nothing is wrong as far as could be seen, but the search gave up on some part. */
  readonly verdict: 'ok' | 'violation' | 'unknown'
  /** For people. */
  readonly problems: readonly string[]
}

export interface CheckOptions {
  /** What reads showed at the end, for the watches. */
  readonly final?: ReadonlyMap<Key, string> | undefined
  /** Of each part. */
  readonly limits?: Partial<SearchLimits> | undefined
  readonly shrink_ms_max?: number | undefined
}

const limits_default: SearchLimits = { configurations_max: 1_000_000, ms_max: 20_000 }
const shrink_ms_default = 10_000
const problems_max = 20

export function check(history: History, options: CheckOptions = {}): Report {
  const problems: string[] = []
  const unknown: string[] = []
  for (const { keys, operations } of partsOf(history.operations)) {
    const found = search(operations, { ...limits_default, ...options.limits })
    if (found.verdict === 'unknown') unknown.push(`${keys.slice(0, 8).join(', ')}: ${found.why}`)
    if (found.verdict !== 'violation') continue
    problems.push(printCounterexample(keys, operations.length, shrink(operations, found, options.shrink_ms_max ?? shrink_ms_default)))
  }
  problems.push(...checkRevisions(history), ...checkWatches(history, options.final), ...checkLocks(history.locks ?? []))
  const left = problems.length - problems_max
  const shown = left > 0 ? [...problems.slice(0, problems_max), `and ${left} more`] : problems
  if (problems.length > 0) return { verdict: 'violation', problems: [...shown, ...unknown] }
  return unknown.length > 0 ? { verdict: 'unknown', problems: unknown } : { verdict: 'ok', problems: [] }
}
