/**
 * Chaos for as long as one likes: NINE_CHAOS_MINUTES=60 plays scenarios in an order that NINE_CHAOS_SEED decides, on three
 * and on five nodes in turn, each cluster for some scenarios. What fails says its seed.
 */
import { it } from 'vitest'
import { randomOf } from '../raft/simulation.ts'
import { ChaosRun } from './run.ts'
import { clusterScenarios } from './scenarios.ts'

const minutes = Number(process.env['NINE_CHAOS_MINUTES'] ?? 0)
const scenarios_a_cluster = 12

it.skipIf(minutes === 0)(
  `${minutes} minutes of chaos`,
  async () => {
    const first = Number(process.env['NINE_CHAOS_SEED'] ?? Date.now() % 1_000_000)
    const until = performance.now() + minutes * 60_000
    const random = randomOf(first)
    console.log(`NINE_CHAOS_SEED=${first}`)
    for (let round = 0; performance.now() < until; round++) {
      const run = await ChaosRun.start(round % 2 === 0 ? 3 : 5)
      try {
        for (let index = 0; index < scenarios_a_cluster && performance.now() < until; index++) {
          const scenario = clusterScenarios[Math.floor(random() * clusterScenarios.length)]!
          console.log(JSON.stringify(await run.play(scenario, first + round * scenarios_a_cluster + index)))
        }
      } finally {
        await run.close()
      }
    }
  },
  (minutes + 5) * 60_000,
)
