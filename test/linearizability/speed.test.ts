/** Long histories take seconds, whatever is wrong with them. */
import { expect, it } from 'vitest'
import { randomOf } from '../raft/simulation.ts'
import { check } from './check.ts'
import { carryOut } from './generate.ts'
import type { Planned } from './generate.ts'
import type { History } from './history.ts'

const operations_count = 10_000
const clients = 20
const keys = 50

/** Some 20 operations under way at any time. */
function longPlan(seed: number, verbs: readonly Planned['do'][], others: (key: number, pick: number) => number): Planned[] {
  const random = randomOf(seed)
  const nat = (below: number): number => Math.floor(random() * below)
  return Array.from({ length: operations_count }, () => {
    const key = nat(keys)
    const fate = nat(100) === 0 ? nat(2) : 2
    return {
      do: verbs[nat(verbs.length)]!,
      key,
      other: others(key, nat(keys)),
      match: nat(4),
      lead: nat(clients * 10),
      lag: nat(clients * 10),
      fate,
    }
  })
}

/** Of the processor: the machine may be busy with other things. */
function timed(history: History): { verdict: string; ms: number; problems: readonly string[] } {
  const began = process.cpuUsage()
  const { verdict, problems } = check(history)
  const { user, system } = process.cpuUsage(began)
  return { verdict, problems, ms: Math.round((user + system) / 1000) }
}

const single = ['read', 'read', 'write', 'append', 'delete', 'stale'] as const
const withTxns = [...single, 'txn'] as const

for (const isTold of [true, false]) {
  const told = isTold ? 'versions told' : 'values alone'
  it(`10,000 operations of 20 clients on 50 keys, ${told}`, () => {
    const { verdict, ms, problems } = timed(
      carryOut(
        longPlan(1, single, (key) => key),
        { isTold },
      ),
    )
    console.log(`${told}: ${ms} ms`)
    expect(problems).toEqual([])
    expect(verdict).toBe('ok')
    expect(ms).toBeLessThan(5_000)
  })
}

it('10,000 operations with transactions between pairs of keys', () => {
  const { ms, problems } = timed(
    carryOut(
      longPlan(2, withTxns, (key) => key ^ 1),
      { isTold: true },
    ),
  )
  console.log(`pairs: ${ms} ms`)
  expect(problems).toEqual([])
  expect(ms).toBeLessThan(5_000)
})

it('10,000 operations with transactions that make all keys one part', () => {
  const { ms, problems } = timed(
    carryOut(
      longPlan(3, withTxns, (_, pick) => pick),
      { isTold: true },
    ),
  )
  console.log(`all keys: ${ms} ms`)
  expect(problems).toEqual([])
  expect(ms).toBeLessThan(5_000)
})

for (const isTold of [true, false]) {
  it(`a wrong answer among 10,000 operations, ${isTold ? 'versions told' : 'values alone'}`, () => {
    const history = carryOut(
      longPlan(4, single, (key) => key),
      { isTold },
    )
    const reads = history.operations.filter(({ request, result }) => request.do === 'read' && result?.was === 'read')
    const read = reads[5 * Math.floor(reads.length / 10)]!
    // What the file held a good while ago.
    const before = reads.filter(
      ({ request, end }) => request.do === 'read' && read.request.do === 'read' && request.key === read.request.key && end < read.start,
    )
    const old = before[Math.floor(before.length / 2)]!
    const operations = history.operations.map((one) => (one === read ? { ...read, result: old.result! } : one))
    const { verdict, ms, problems } = timed({ operations, watches: history.watches })
    console.log(`found in ${ms} ms:\n${problems[0]}`)
    expect(verdict).toBe('violation')
    expect(ms).toBeLessThan(20_000)
  })
}
