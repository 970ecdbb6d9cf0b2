/** When a node says that it is ready, as a function of what it knows of its stores. */
import { expect, it } from 'vitest'
import type { ClusterStores } from '../../services/cluster/ports.ts'
import { awaitReady } from '../../services/cluster/readiness.ts'
import type { RosterView } from '../../services/cluster/roster-view.ts'
import type { Role } from '../../services/cluster/plan.ts'

const others = ['n1.a', 'n2.b']

/** Whether n3 is ready where it is to have `role` and takes part in its store so. */
async function isReady(role: Role, voters: readonly string[], learners: readonly string[]): Promise<boolean> {
  const configuration = { voters, outgoing: [], learners, demoted: [] }
  const stores = { standing: () => ({ leader: 'n1.a' }), group: () => ({ status: () => ({ configuration }) }) }
  const names = new Map(['n1', 'n2', 'n3'].map((name) => [name, { value: { role: name === 'n3' ? role : 'voter' } }]))
  const signal = AbortSignal.timeout(200)
  await awaitReady(
    {
      member: 'n3.c',
      stores: stores as unknown as ClusterStores,
      names: ['data'],
      view: { members: { names } } as unknown as RosterView,
      peer: undefined as never,
      peers: () => [],
      waiting: () => undefined,
    },
    signal,
  )
  return !signal.aborted
}

it('a node that is to vote is ready when it does, not when it is still being filled', async () => {
  expect(await isReady('voter', others, ['n3.c'])).toBe(false)
  expect(await isReady('voter', [...others, 'n3.c'], [])).toBe(true)
})

it('a node that is to learn is ready as it is', async () => {
  expect(await isReady('learner', others, ['n3.c'])).toBe(true)
  expect(await isReady('learner', others, [])).toBe(false)
})
