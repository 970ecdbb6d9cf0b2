/** Seeds of the simulation. One seed again: `NINE_RAFT_SEED=123 npx vitest run test/raft/simulation.test.ts`; more: NINE_RAFT_SEEDS=20000. */
import { describe, expect, it } from 'vitest'
import { simulate } from './simulation.ts'
import type { Outcome } from './simulation.ts'

const seeds = Number(process.env.NINE_RAFT_SEEDS ?? 2000)
const first = Number(process.env.NINE_RAFT_FIRST_SEED ?? 1)

describe('raft in simulation', () => {
  const seed = process.env.NINE_RAFT_SEED
  if (seed !== undefined) {
    it(`seed ${seed}`, () => void simulate(Number(seed)))
    return
  }

  it(`keeps its promises under ${seeds} seeds`, { timeout: 3_600_000 }, () => {
    const sum: Record<keyof Outcome, number> = {
      committed: 0,
      acknowledged: 0,
      reads: 0,
      elections: 0,
      lostNever: 0,
      installs: 0,
      changes: 0,
    }
    for (let at = first; at < first + seeds; at++) {
      const outcome = simulate(at)
      for (const key of Object.keys(sum) as (keyof Outcome)[]) sum[key] += outcome[key]
    }
    console.log(`raft simulation: ${seeds} seeds, in sum ${JSON.stringify(sum)}`)
    // A simulation in which nothing happens shows nothing.
    for (const key of Object.keys(sum) as (keyof Outcome)[]) expect(sum[key], key).toBeGreaterThan(seeds / 20)
  })

  it('gives the same run for the same seed', () => {
    expect(simulate(7)).toEqual(simulate(7))
  })
})
