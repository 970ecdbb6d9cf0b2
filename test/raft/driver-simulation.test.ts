/**
 * Seeds of the simulation of whole nodes. One seed again: `NINE_DRIVER_SEED=123 npx vitest run test/raft/driver-simulation.test.ts`; more:
 * NINE_DRIVER_SEEDS=20000, from NINE_DRIVER_FIRST_SEED.
 */
import { describe, expect, it } from 'vitest'
import type { DriverOutcome } from './driver-checks.ts'
import { simulateDrivers } from './driver-simulation.ts'

const seeds = Number(process.env.NINE_DRIVER_SEEDS ?? 1000)
const first = Number(process.env.NINE_DRIVER_FIRST_SEED ?? 1)

describe('nodes in simulation', () => {
  const seed = process.env.NINE_DRIVER_SEED
  if (seed !== undefined) {
    it(`seed ${seed}`, async () => console.log(await simulateDrivers(Number(seed))))
    return
  }

  it(`keep their promises under ${seeds} seeds`, { timeout: 3_600_000 }, async () => {
    const sum: Record<string, number> = {}
    for (let at = first; at < first + seeds; at++) {
      const outcome = await simulateDrivers(at)
      for (const key of Object.keys(outcome) as (keyof DriverOutcome)[]) sum[key] = (sum[key] ?? 0) + outcome[key]
    }
    console.log(`simulation of nodes: ${seeds} seeds, in sum ${JSON.stringify(sum)}`)
    // A simulation in which nothing happens shows nothing.
    for (const [key, count] of Object.entries(sum)) expect(count, key).toBeGreaterThan(seeds / 20)
  })

  it('give the same run for the same seed', async () => {
    expect(await simulateDrivers(7)).toEqual(await simulateDrivers(7))
  })
})
