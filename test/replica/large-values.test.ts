/** Values of many chunks: on a majority's disks before they are agreed on, at every node after. */
import { createHash } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { startCluster, type LocalCluster, type LocalNode } from './cluster.ts'

let cluster: LocalCluster
afterEach(() => cluster.close())

const glenda = { name: 'glenda', groups: [] }
const path = parsePath('/large')
const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

function valueOf(seed: number): Buffer {
  const value = Buffer.alloc(1_500_000)
  for (let i = 0; i < value.length; i += 4) value.writeUInt32LE(Math.imul(i + seed, 2654435761) >>> 0, i)
  return value
}

async function chunksAt(node: LocalNode): Promise<number> {
  let chunks = 0
  for await (const { hash: _hash } of node.engine!.member!.chunks.list()) chunks++
  return chunks
}

const chunksAtAll = (): Promise<number[]> => Promise.all([...cluster.nodes.values()].map(chunksAt))

describe('a large value', () => {
  it('is on a majority of disks when its writer has its answer, and is read at each node', async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    const follower = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    for (const [seed, node] of [leader, follower].entries()) {
      const value = valueOf(seed)
      const before = await chunksAtAll()
      await node.store.write(contextFor(glenda), path, value)
      const after = await chunksAtAll()
      expect(after.filter((chunks, i) => chunks === before[i]! + 7).length).toBeGreaterThanOrEqual(2)
      for (const { store } of cluster.nodes.values()) {
        expect(hash((await store.read(contextFor(glenda), path)).bytes)).toBe(hash(value))
      }
    }
  })

  it('is on a majority of those who vote when it is agreed on, where they are others than before', async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    const [replaced, silent] = [...cluster.nodes.values()].filter(({ id }) => id !== leader.id)
    const fourth = cluster.add('n4')
    cluster.chunkless.add('n4')
    await cluster.start('n4')
    const replica = leader.engine!.member!.replica(1)!
    await replica.group.change([{ do: 'add_learner', id: 'n4' }])
    await fourth.store.stat(contextFor(glenda), parsePath('/'))
    cluster.isolate(silent!.id)
    const propose = replica.propose.bind(replica)
    replica.propose = async (...args) => {
      await replica.group.change([
        { do: 'promote', id: 'n4' },
        { do: 'remove', id: replaced!.id },
      ])
      return propose(...args)
    }
    await leader.store.write(contextFor(glenda), path, valueOf(1))
    expect(await Promise.all([leader, silent!, fourth].map(chunksAt))).toEqual([7, 0, 7])
  })

  it('is refused while no majority can hold it', async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    cluster.isolate(leader.id)
    const refused = leader.store.write(contextFor(glenda, 2_000), path, valueOf(1))
    await expect(refused).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
  })

  it('that no node has any more is damaged, and nobody goes on looking for it', async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    await leader.store.write(contextFor(glenda), path, valueOf(1))
    for (const node of cluster.nodes.values()) {
      await node.store.stat(contextFor(glenda), path)
      await filled(node)
      for await (const { hash } of node.engine!.member!.chunks.list()) await node.engine!.member!.chunks.delete(hash)
    }
    await expect(leader.store.read(contextFor(glenda), path)).rejects.toMatchObject({ kind: 'corrupt' })
    const { fill } = leader.engine!.member!
    fill.scan()
    await filled(leader)
    expect(fill.status).toMatchObject({ waiting: 0, failure: { kind: 'corrupt' } })
  })

  it('comes to a node that was away, with the log or with a snapshot', async () => {
    cluster = await startCluster({ keptEntriesMax: 10 })
    const leader = await cluster.leader()
    const away = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    await cluster.stop(away.id)
    await leader.store.write(contextFor(glenda), path, valueOf(1))
    await cluster.start(away.id)
    await away.store.stat(contextFor(glenda), path)
    await filled(away)
    expect(await chunksAt(away)).toBe(7)
    await cluster.stop(away.id)
    await leader.store.write(contextFor(glenda), path, valueOf(2))
    for (let i = 0; i < 40; i++) await leader.store.write(contextFor(glenda), parsePath(`/f${i}`), Buffer.from('x'))
    await leader.engine!.save()
    await cluster.start(away.id)
    await away.store.stat(contextFor(glenda), path)
    expect(cluster.snapshots).toBe(1)
    await filled(away)
    expect(await chunksAt(away)).toBe(14)
    cluster.isolate(away.id)
    expect(hash((await away.store.read(contextFor(glenda), path, { consistency: 'stale' })).bytes)).toBe(hash(valueOf(2)))
  })
})

describe('a member that is asked whether it has all chunks', () => {
  it('says so only when it has them', async () => {
    cluster = await startCluster()
    const leader = await cluster.leader()
    const away = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    await cluster.stop(away.id)
    await leader.store.write(contextFor(glenda), path, valueOf(1))
    cluster.chunkless.add(away.id)
    await cluster.start(away.id)
    const isFilled = async (): Promise<boolean> =>
      (await away.engine!.member!.answer(1, 'filled', new Uint8Array(0), performance.now() + 10_000))[0] === 1
    expect(await isFilled()).toBe(false)
    cluster.chunkless.clear()
    while (!(await isFilled())) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(await chunksAt(away)).toBe(7)
  })
})

/** Until it has every chunk. */
async function filled(node: LocalNode): Promise<void> {
  for (;;) {
    const { waiting, isScanning } = node.engine!.member!.fill.status
    if (waiting === 0 && !isScanning) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
