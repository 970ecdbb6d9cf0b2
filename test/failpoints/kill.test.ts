/**
 * kill -9 at every point of the way of a write: what three nodes answered meanwhile is linearizable, every acknowledged write is there
 * on every node, nothing that was surely not done is, and all three trees are the same.
 *
 * NINE_FAILPOINT_ROUNDS=8 plays every point in every role, each time at another passing; one round by default.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failpointNames } from '../../namespace/failpoint.ts'
import { connect } from '../../sdk/connect.ts'
import type { Client } from '../../sdk/client-api.ts'
import type { Session } from '../../sdk/session.ts'
import type { NodeProcess } from '../chaos/node-process.ts'
import { ChaosRun } from '../chaos/run.ts'
import { Killer, oftenFailpoints, setEnvironment } from './killer.ts'
import { LargeValues } from './large-values.ts'
import { elsewhere, ofRestores, ofRound, stepGroups } from './steps.ts'
import { positionNow, treeAt } from './trees.ts'

const rounds = Number(process.env['NINE_FAILPOINT_ROUNDS'] ?? 1)
const seed = Number(process.env['NINE_CHAOS_SEED'] ?? 1)
const step_ms_max = 60_000

it('every failpoint is one at which a node is killed, or one for errors, or a number', () => {
  const killedAt = new Set([...ofRestores, ...stepGroups.flatMap(({ steps }) => steps.map(({ point }) => point))])
  const numbers = ['kept.entries', 'segment.bytes', 'checkpoint.ms', 'overlay.bytes', 'uncommitted.bytes']
  expect(failpointNames.filter((name) => !killedAt.has(name) && !elsewhere.includes(name) && !numbers.includes(name))).toEqual([])
})

describe('killed', () => {
  let run: ChaosRun
  let sessions: Map<NodeProcess, Session>
  const clientOf = (node: NodeProcess): Client => sessions.get(node)!.client

  beforeAll(async () => {
    setEnvironment(oftenFailpoints)
    run = await ChaosRun.start(3)
    sessions = new Map()
    for (const node of run.cluster.nodes) sessions.set(node, await connect({ address: node.setup.grpc, token: run.cluster.token }))
  })

  afterAll(async () => {
    await Promise.all([...(sessions?.values() ?? [])].map((session) => session.close()))
    await run?.close()
    setEnvironment(undefined)
  })

  for (let round = 0; round < rounds; round++) {
    for (const [at, { name, steps }] of stepGroups.entries()) {
      const played = ofRound(steps, round).map((step, index) => ({ step, times: 1 + ((7 * index + 11 * round + seed) % step.timesMax) }))
      it(
        `${name}: ${played.length} points, round ${round}`,
        async () => {
          const { nodes } = run.cluster
          const victim = nodes[(at + round) % nodes.length]!
          const values = new LargeValues(`/data/large-${round}-${at}`)
          const done: string[] = []
          const scenario = {
            name,
            run: async ({ leader }: { readonly leader: () => Promise<NodeProcess> }): Promise<void> => {
              const killer = new Killer({ cluster: run.cluster, clientOf, leader, values })
              await killer.play(victim, played).finally(() => done.push(...killer.done))
            },
          }
          const { operations, unknown, healedMs } = await run.play(scenario, seed + round).finally(() => console.log(done.join('\n')))
          console.log(JSON.stringify({ name, operations, unknown, healedMs, values: values.acknowledged }))
          expect(operations).toBeGreaterThan(20)
          // The check of so many answers stops this process for seconds, and with it the proxies between the nodes: they elect anew.
          const patient = await connect({ addresses: nodes.map(({ setup }) => setup.grpc), token: run.cluster.token })
          const position = await positionNow(patient.client, '/data').finally(() => patient.close())
          const [first, ...others] = await Promise.all(nodes.map((node) => treeAt(clientOf(node), '/data', position)))
          expect(first!.length).toBeGreaterThan(1)
          for (const other of others) expect(other).toEqual(first)
          for (const node of nodes) expect(await values.problems(clientOf(node))).toEqual([])
        },
        played.length * step_ms_max,
      )
    }
  }
})
