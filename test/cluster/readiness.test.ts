/** When a node says that it is ready, as a function of what it knows of its stores. */
import { afterEach, expect, it, vi } from 'vitest'
import type { ClusterStores } from '../../services/cluster/ports.ts'
import { awaitReady } from '../../services/cluster/readiness.ts'
import type { RosterView } from '../../services/cluster/roster-view.ts'
import type { Role } from '../../services/cluster/plan.ts'

const others = ['n1.a', 'n2.b']

afterEach(() => void vi.useRealTimers())

/** Whether n3 is ready where it is to have `role` and takes part in its store so. */
async function isReady(role: Role, voters: readonly string[], learners: readonly string[]): Promise<boolean> {
  const signal = AbortSignal.timeout(200)
  await waitReady(role, voters, learners, signal)
  return !signal.aborted
}

async function waitReady(
  role: Role,
  voters: readonly string[],
  learners: readonly string[],
  signal: AbortSignal,
  filling: () => string | undefined = () => undefined,
  waiting: (text: string) => void = () => undefined,
): Promise<void> {
  const configuration = { voters, outgoing: [], learners, demoted: [] }
  const stores = { standing: () => ({ leader: 'n1.a' }), group: () => ({ status: () => ({ configuration }) }), filling }
  const names = new Map(['n1', 'n2', 'n3'].map((name) => [name, { value: { role: name === 'n3' ? role : 'voter' } }]))
  await awaitReady(
    {
      member: 'n3.c',
      stores: stores as unknown as ClusterStores,
      names: ['data'],
      view: { members: { names } } as unknown as RosterView,
      peer: undefined as never,
      peers: () => [],
      waiting,
    },
    signal,
  )
}

it('a node that is to vote is ready when it does, not when it is still being filled', async () => {
  expect(await isReady('voter', others, ['n3.c'])).toBe(false)
  expect(await isReady('voter', [...others, 'n3.c'], [])).toBe(true)
})

it('a node that is to learn is ready as it is', async () => {
  expect(await isReady('learner', others, ['n3.c'])).toBe(true)
  expect(await isReady('learner', others, [])).toBe(false)
})

it('a node that is being filled says now and then how far it is', async () => {
  vi.useFakeTimers()
  const stop = new AbortController()
  const said: string[] = []
  let filling: string | undefined
  const waits = waitReady('voter', others, ['n3.c'], stop.signal, () => filling, (text) => said.push(text)) // prettier-ignore
  await vi.advanceTimersByTimeAsync(1_500)
  const why = 'waiting until it has all of data, to vote on it'
  expect(said).toEqual([why])
  for (let i = 1; i <= 30; i++) {
    filling = `${i} MiB received so far`
    await vi.advanceTimersByTimeAsync(1_000)
  }
  expect(said.slice(1).every((text) => text.startsWith(`${why}: `))).toBe(true)
  expect(new Set(said).size).toBe(said.length)
  expect(said.length).toBeGreaterThanOrEqual(3)
  expect(said.length).toBeLessThanOrEqual(5)
  stop.abort()
  await waits
})
