/** Several stores of one node: opening them, and commands that come to them without an identity. */
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Store } from '../../storage/store/store.ts'
import { startCluster, type LocalCluster } from './cluster.ts'

let cluster: LocalCluster
afterEach(() => cluster.close())

const glenda = { name: 'glenda', groups: [] }
const path = parsePath('/file')

describe('a store of the cluster', () => {
  it('can be opened by several at once', async () => {
    cluster = await startCluster({ names: ['n1'] })
    const { engine } = await cluster.leader()
    const row = { ...cluster.row, group: 2, name: 'second', id: 'other' }
    const [first, again] = await Promise.all([engine!.openStore(row), engine!.openStore(row)])
    expect(again).toBe(first)
  })
})

describe('a command without an identity', () => {
  it('is done in a store that has forgotten more clients than it remembers, though others were before in other stores', async () => {
    cluster = await startCluster({ names: ['n1'] })
    const node = await cluster.leader()
    const crowded = await node.engine!.openStore({ ...cluster.row, group: 2, name: 'crowded', id: 'other' })
    await node.store.write(contextFor(glenda), path, Buffer.from('first'))
    await crowd(crowded)
    await crowded.write(contextFor(glenda), path, Buffer.from('last'))
    await crowded.write(contextFor(glenda), path, Buffer.from('last but one'))
  })

  it('is done once where the store has forgotten the client as which its node proposed before', async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    const follower = [...cluster.nodes.values()].find((node) => node !== leader)!
    const appended = (text: string): Promise<unknown>[] =>
      [leader, follower].map((node) => node.store.write(contextFor(glenda), path, Buffer.from(text), { at: 'append' }))
    await Promise.all(appended('a'))
    await crowd(leader.store, parsePath('/crowd'))
    await Promise.all([...appended('b'), ...appended('c')])
    await crowd(leader.store, parsePath('/crowd'))
    await Promise.all(appended('d'))
    for (const { store } of [leader, follower]) {
      const { bytes } = await store.read(contextFor(glenda), path)
      expect([...Buffer.from(bytes).toString()].sort().join('')).toBe('aabbccdd')
    }
  })
})

/** More clients than a store remembers, each of which changes something once. */
async function crowd(store: Store, at = path): Promise<void> {
  const left = Array.from({ length: limits.clients_max + 10 }, (_, i) => i)
  while (left.length > 0) {
    const born = Date.now() * 1000
    await Promise.all(
      left.splice(0, 1000).map((i) => {
        const client = { id: `client${born}.${i}`, born, settled: 0 }
        return store.write({ ...contextFor(glenda), client, seq: 1, digest: 'x' }, at, Buffer.from(`${i}`))
      }),
    )
  }
}
