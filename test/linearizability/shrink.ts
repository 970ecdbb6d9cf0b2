/**
 * The part of a bad history that is enough to see what is wrong. Each step only takes promises away, so that what is left is
 * bad for a reason the whole is bad for:
 *
 * X1 cut off what came later: operations under way at the cut become unanswered;
 * X2 leave out answered operations that changed nothing.
 */
import { stepsTaken } from './history.ts'
import type { Operation } from './history.ts'
import { search } from './search.ts'
import type { Found } from './search.ts'

type Violation = Extract<Found, { verdict: 'violation' }>

export interface Counterexample {
  readonly operations: readonly Operation[]
  /** How far an order of them gets. */
  readonly found: Violation
}

const limits = { configurations_max: 20_000, ms_max: 1_000 }

/** @param operations a history that `search` refutes, with what it found */
export function shrink(operations: readonly Operation[], found: Violation, ms_max: number): Counterexample {
  const until = performance.now() + ms_max
  let current = operations.toSorted((a, b) => a.start - b.start)
  let why = found
  const accept = (candidate: readonly Operation[]): boolean => {
    if (performance.now() > until) return false
    const next = search(candidate, limits)
    if (next.verdict !== 'violation') return false
    current = [...candidate]
    why = next
    return true
  }
  // X1
  const all = current
  const ends = all.flatMap(({ end, result }) => (result === undefined ? [] : [end])).sort((a, b) => a - b)
  let low = 0
  let high = ends.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (accept(cutAt(all, ends[middle]!))) high = middle
    else low = middle + 1
  }
  // X2: in ever smaller groups, oldest first.
  for (let size = Math.ceil(current.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let start = 0; start < current.length;) {
      const quiet = new Set(current.slice(start, start + size).filter(isQuiet))
      const isGone = quiet.size > 0 && accept(current.filter((one) => !quiet.has(one)))
      start += isGone ? size - quiet.size : size
    }
  }
  return { operations: current, found: why }
}

function cutAt(operations: readonly Operation[], tick: number): Operation[] {
  return operations
    .filter(({ start }) => start < tick)
    .flatMap((operation) => {
      if (operation.end <= tick || operation.result === undefined) return [operation]
      return operation.request.do === 'read' ? [] : [{ ...operation, end: Infinity, result: undefined, note: 'under way at the end' }]
    })
}

function isQuiet(operation: Operation): boolean {
  return operation.result !== undefined && stepsTaken(operation).every(({ step }) => step.do === 'read')
}
