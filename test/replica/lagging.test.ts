/** A group that cannot go on, beside one that does, in one log. */
import { afterEach, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { startCluster, type LocalCluster } from './cluster.ts'

let cluster: LocalCluster
afterEach(() => cluster.close())

const glenda = { name: 'glenda', groups: [] }

it('does not keep the log from being cut, and loses nothing by it', async () => {
  cluster = await startCluster({ behindBytesMax: 300_000, tuning: { walSegmentBytes: 128 * 1024, checkpointMs: 1_000_000 } })
  const node = await cluster.leader()
  const own = { group: 2, name: 'own', id: 'own', incarnation: 'first', owner: 'glenda', voters: [node.id] }
  const other = await node.engine!.openStore(own)
  await other.write(contextFor(glenda), parsePath('/first'), Buffer.from('x'))
  cluster.isolate(node.id)
  // In the log here, and not agreed on.
  const open = node.store.write(contextFor(glenda), parsePath('/open'), Buffer.from('open'))
  const value = Buffer.alloc(50_000, 1)
  let bytes = 0
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 20; i++) await other.write(contextFor(glenda), parsePath(`/f${i}`), value)
    await node.engine!.save()
    bytes = node.engine!.status().wal.bytes
  }
  // Of 6 MB that were written.
  expect(bytes).toBeLessThan(3_000_000)
  cluster.heal()
  await open
  expect(Buffer.from((await node.store.read(contextFor(glenda), parsePath('/open'))).bytes).toString()).toBe('open')
})

it('nor does one that ended alone, whose state machine failed', async () => {
  cluster = await startCluster({ behindBytesMax: 300_000, tuning: { walSegmentBytes: 128 * 1024, checkpointMs: 1_000_000 } })
  const node = await cluster.leader()
  const own = { group: 2, name: 'own', id: 'own', incarnation: 'first', owner: 'glenda', voters: [node.id] }
  const other = await node.engine!.openStore(own)
  await node.store.write(contextFor(glenda), parsePath('/before'), Buffer.from('before'))
  const replica = node.engine!.member!.replica(1)!
  const fault = (): never => {
    throw new Error('a fault')
  }
  Object.assign(replica, { apply: fault })
  await expect(node.store.write(contextFor(glenda), parsePath('/open'), Buffer.from('open'))).rejects.toMatchObject({ outcome: 'unknown' })
  const value = Buffer.alloc(50_000, 1)
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 20; i++) await other.write(contextFor(glenda), parsePath(`/f${i}`), value)
    await node.engine!.save()
  }
  expect(node.engine!.status().wal.bytes).toBeLessThan(3_000_000)
  await cluster.stop(node.id)
  const again = await cluster.start(node.id)
  for (const name of ['before', 'open']) {
    expect(Buffer.from((await again.store.read(contextFor(glenda), parsePath(`/${name}`))).bytes).toString()).toBe(name)
  }
})
