/** A member that is closed while what it asked of the others is not answered. */
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { startCluster, type LocalCluster } from './cluster.ts'

let cluster: LocalCluster
afterEach(() => cluster.close())

const glenda = { name: 'glenda', groups: [] }

describe('a member without a majority', () => {
  it('closes while a collection waits for the others', async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    const follower = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    cluster.isolate(follower.id)
    const collected = follower.engine!.collect()
    const ended = expect(collected).rejects.toMatchObject({ kind: 'unavailable' })
    await cluster.stop(follower.id)
    await ended
  })

  it('closes soon though files are open that have changes nobody can agree on', { timeout: 20_000 }, async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    const follower = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    for (const session of [1, 2, 3]) {
      const context = { ...contextFor(glenda, Infinity), session }
      const flags = { mode: 'shared', write: true, create: true } as const
      const { handle } = await follower.store.open(context, parsePath(`/f${session}`), flags)
      await follower.store.writeHandle(context, handle, Buffer.from('changed'), 0)
    }
    cluster.isolate(follower.id)
    await cluster.stop(follower.id)
  })

  it('ends what waits for the log when it is closed', async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    const follower = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    const replica = follower.engine!.member!.replica(1)!
    cluster.isolate(follower.id)
    const read = replica.linearize(contextFor(glenda), 'store.read', '/')
    const write = replica.propose(contextFor(glenda), 'store.remove', '/f', {
      op: 'remove',
      target: { path: parsePath('/f') },
      recursive: false,
    } as never)
    const ended = Promise.all([
      expect(read).rejects.toMatchObject({ kind: 'unavailable' }),
      expect(write).rejects.toMatchObject({ kind: 'unavailable' }),
    ])
    await cluster.stop(follower.id)
    await ended
  })
})
