/** Where nodes listen for clients, on a real store of three replicas. */
import { afterEach, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { ClientAddresses } from '../../services/cluster/client-addresses.ts'
import { startCluster, type LocalCluster, type LocalNode } from '../replica/cluster.ts'

let cluster: LocalCluster
afterEach(() => cluster.close())

const minute_ms = 60_000

function addressesOf({ store }: LocalNode): ClientAddresses {
  return new ClientAddresses({ sys: store, context: () => contextFor({ name: 'glenda', groups: [] }, minute_ms), warn: () => undefined })
}

it('of a node that cannot reach a majority end at once when it closes', async () => {
  cluster = await startCluster()
  const leader = await cluster.leader()
  cluster.isolate(leader.id)
  const addresses = addressesOf(leader)
  addresses.start({ name: leader.id, address: '127.0.0.1:1' })
  // Without its abort it would wait for what only a majority could answer.
  const late = AbortSignal.timeout(4000)
  await addresses.close()
  expect(late.aborted).toBe(false)
  expect(addresses.all).toEqual([])
})
