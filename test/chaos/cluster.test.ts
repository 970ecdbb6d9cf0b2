/**
 * Clusters of real processes under faults: what they answered is linearizable, stale reads and watches keep their promises, and
 * after healing they go on. NINE_CHAOS_SEED=N plays other chances, NINE_CHAOS_FULL=1 also the scenarios left to long runs.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ChaosRun, scenario_ms_max } from './run.ts'
import { clusterScenarios } from './scenarios.ts'
import type { Scenario } from './scenarios.ts'

const seed = Number(process.env['NINE_CHAOS_SEED'] ?? 1)
const isFull = process.env['NINE_CHAOS_FULL'] === '1'

/** Those that five nodes fail in other ways than three. */
const ofFive = new Set(['a minority is cut off', 'one node is the bridge between two sides'])

describe('three nodes', () =>
  play(
    3,
    clusterScenarios.filter(({ isLong }) => isFull || isLong !== true),
  ))
describe('five nodes', () => play(5, clusterScenarios.filter(({ name }) => ofFive.has(name)))) // prettier-ignore

function play(size: number, scenarios: readonly Scenario[]): void {
  let run: ChaosRun | undefined
  beforeAll(async () => void (run = await ChaosRun.start(size)))
  afterAll(() => run?.close())

  for (const scenario of scenarios) {
    it(
      scenario.name,
      async () => {
        const played = await run!.play(scenario, seed)
        console.log(JSON.stringify(played))
        expect(played.operations).toBeGreaterThan(20)
      },
      scenario_ms_max,
    )
  }
}
