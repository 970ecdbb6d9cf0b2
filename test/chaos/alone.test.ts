/** One node alone, killed, paused and stopped under clients: what it answered is linearizable, its watches are whole. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ChaosRun, scenario_ms_max } from './run.ts'
import { aloneScenarios } from './scenarios.ts'

let run: ChaosRun
beforeAll(async () => void (run = await ChaosRun.start(1)))
afterAll(() => run?.close())

const seed = Number(process.env['NINE_CHAOS_SEED'] ?? 1)

for (const scenario of aloneScenarios) {
  it(
    scenario.name,
    async () => {
      const played = await run.play(scenario, seed)
      console.log(JSON.stringify(played))
      expect(played.operations).toBeGreaterThan(20)
    },
    scenario_ms_max,
  )
}
