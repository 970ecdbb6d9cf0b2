/** The checker against histories that are linearizable by the way they were made, against the same with one answer changed, and against brute force. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isExplained } from './brute-force.ts'
import { check } from './check.ts'
import { carryOut, plans } from './generate.ts'
import type { History, Operation, Result, StepResult } from './history.ts'
import { fromLines, toLines } from './history.ts'
import { search } from './search.ts'

const runs = Number(process.env['NINE_CHECKER_RUNS'] ?? 1)
const limits = { configurations_max: 200_000, ms_max: 10_000 }

for (const isTold of [true, false]) {
  const told = isTold ? 'told of versions and revisions' : 'told of values alone'
  describe(told, () => {
    it.each([
      ['', 3000, undefined],
      [' with renames', 2000, ['read', 'read', 'write', 'append', 'delete', 'rename', 'rename', 'rename']],
    ] as const)('agrees with brute force on small histories%s, also with an answer changed', { timeout: 300_000 }, (_, numRuns, verbs) => {
      const small = plans({ operations_max: 7, keys: 2, isTold, span: 5, verbs })
      let bad = 0
      fc.assert(
        fc.property(small, fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 2 }), (plan, changes) => {
          const { operations } = changes.reduce(changed, carryOut(plan, { isTold }))
          const found = search(operations, limits)
          const isGood = isExplained(operations)
          if (!isGood) bad++
          expect(found.verdict, toLines({ operations, watches: [] })).toBe(isGood ? 'ok' : 'violation')
        }),
        { numRuns: numRuns * runs },
      )
      // Otherwise this would show nothing.
      expect(bad).toBeGreaterThan(200)
    })

    it('takes what is linearizable', () => {
      const long = plans({ operations_max: 150, keys: 4, isTold, verbs: ['read', 'write', 'append', 'delete', 'txn', 'stale'] })
      const roaming = plans({ operations_max: 120, keys: 3, isTold, verbs: ['read', 'write', 'delete', 'rename', 'rename', 'stale'] })
      fc.assert(
        fc.property(fc.oneof(long, roaming), (plan) => {
          const history = carryOut(plan, { isTold })
          expect(check(history).problems, toLines(history)).toEqual([])
        }),
        { numRuns: 200 * runs },
      )
    }, 300_000)

    it('refuses a read of what another file holds, or of what was never written', () => {
      const long = plans({ operations_max: 80, keys: 3, isTold, verbs: ['read', 'read', 'write', 'write', 'txn'] })
      fc.assert(
        fc.property(long, fc.nat(), (plan, pick) => {
          const history = carryOut(plan, { isTold })
          const reads = history.operations.filter(({ request, result }) => request.do === 'read' && result?.was === 'read')
          const read = reads[pick % Math.max(1, reads.length)]
          fc.pre(read !== undefined)
          const value = pick % 2 === 0 ? 'never' : `v${plan.length}`
          const bad = { ...history, operations: history.operations.map((one) => (one === read ? withValue(one, value) : one)) }
          expect(check(bad, { shrink_ms_max: 0 }).verdict).toBe('violation')
        }),
        { numRuns: 100 * runs },
      )
    }, 300_000)

    it('refuses a last read that shows what was overwritten long before it', () => {
      const long = plans({ operations_max: 60, keys: 1, isTold, verbs: ['read', 'write', 'write'], lossOneIn: 1000 })
      fc.assert(
        fc.property(long, (plan) => {
          const history = carryOut(plan, { isTold })
          const writes = history.operations.filter(({ result }) => result?.was === 'done').sort((a, b) => a.end - b.end)
          const first = writes[0]
          const second = writes.find(({ start }) => first !== undefined && start > first.end)
          fc.pre(first !== undefined && second !== undefined && first.request.do === 'write')
          const tick = history.operations.length * 10
          const value = first.request.do === 'write' ? first.request.value : ''
          const read: Operation = {
            ...first,
            id: 9999,
            request: { do: 'read', key: 'k0' },
            start: tick,
            end: tick + 1,
            result: { was: 'read', value },
          }
          const bad = { ...history, operations: [...history.operations, read] }
          expect(check(bad, { shrink_ms_max: 0 }).verdict).toBe('violation')
        }),
        { numRuns: 100 * runs },
      )
    }, 300_000)
  })
}

it('a history is the same after it was saved and read again', () => {
  fc.assert(
    fc.property(plans({ operations_max: 30, keys: 3, isTold: true }), (plan) => {
      const history = carryOut(plan, { isTold: true })
      expect(fromLines(toLines(history))).toEqual(
        JSON.parse(JSON.stringify(history), (name, value: unknown) => (name === 'end' ? (value ?? Infinity) : value)),
      )
    }),
    { numRuns: 50 },
  )
})

/** One answer, told otherwise: with the answer of another operation of its kind, or with another value, version or refusal. */
function changed({ operations, watches }: History, [pick, how]: readonly [number, number]): History {
  const answered = operations.filter(({ result }) => result !== undefined)
  const one = answered[pick % Math.max(1, answered.length)]
  if (one === undefined) return { operations, watches }
  const same = answered.filter(({ request }) => request.do === one.request.do)
  const other = same[how % same.length]!
  const result = how % 3 === 0 ? other.result! : otherwise(one, how)
  return { operations: operations.map((operation) => (operation === one ? { ...one, result } : operation)), watches }
}

function otherwise({ request, result }: Operation, how: number): Result {
  if (request.do === 'txn') {
    const known = result?.was === 'branch' ? result : undefined
    if (how % 4 === 0) return { was: 'refused', kind: 'conflict' }
    const branch = how % 4 === 1 ? 'else' : (known?.branch ?? 'then')
    const results = request[branch].map(
      (one, index): StepResult => known?.results[index] ?? { was: one.do === 'read' ? 'missing' : 'done' },
    )
    return { was: 'branch', branch, results: how % 4 === 2 ? results.map((one) => step(one, how)) : results }
  }
  if (result === undefined || result.was === 'branch') return { was: 'missing' }
  if (result.was === 'refused')
    return how % 2 === 0
      ? { was: 'done' }
      : how % 3 === 0
        ? { was: 'refused', kind: 'exists' }
        : { was: 'refused', kind: result.kind === 'conflict' ? 'not_found' : 'conflict' }
  return how % 5 === 0 ? { was: 'refused', kind: 'conflict' } : { ...step(result, how), revision: result.revision }
}

function step(result: StepResult, how: number): StepResult {
  if (result.was === 'missing') return { was: 'read', value: `v${how % 7}` }
  const at =
    result.at === undefined ? undefined : { life: result.at.life + (how % 2), version: Math.max(1, result.at.version + ((how % 3) - 1)) }
  if (result.was === 'done') return { was: 'done', at }
  return how % 4 === 0 ? { was: 'missing' } : how % 4 === 1 ? { ...result, value: `v${how % 7}` } : { ...result, at }
}

function withValue(operation: Operation, value: string): Operation {
  return operation.result?.was === 'read' ? { ...operation, result: { ...operation.result, value } } : operation
}
