/** Members that are too far behind for the log, and new ones. */
import { rmSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { startCluster, type LocalCluster, type LocalNode } from './cluster.ts'

let cluster: LocalCluster
afterEach(() => cluster.close())

const glenda = { name: 'glenda', groups: [] }
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()

async function fill(node: LocalNode, from: number, to: number): Promise<void> {
  for (let i = from; i < to; i++) await node.store.write(contextFor(glenda), parsePath(`/f${i}`), Buffer.from(`${i}`))
}

async function check(node: LocalNode, to: number): Promise<void> {
  for (let i = 0; i < to; i++) {
    expect(text((await node.store.read(contextFor(glenda), parsePath(`/f${i}`))).bytes)).toBe(`${i}`)
  }
}

describe('a member that is too far behind for the log', () => {
  it('is brought a snapshot, and goes on from there', async () => {
    cluster = await startCluster({ keptEntriesMax: 10 })
    const leader = await cluster.leader()
    const away = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    await fill(leader, 0, 10)
    await cluster.stop(away.id)
    await fill(leader, 10, 60)
    await leader.engine!.save()
    await fill(leader, 60, 70)
    await cluster.start(away.id)
    await check(away, 70)
    expect(cluster.snapshots).toBe(1)
    await fill(away, 70, 75)
    await cluster.stop(away.id)
    await cluster.start(away.id)
    await check(away, 75)
  })

  it('with a watch goes on with the watch', async () => {
    cluster = await startCluster({ keptEntriesMax: 10 })
    const leader = await cluster.leader()
    const away = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    await fill(leader, 0, 5)
    const seen: string[] = []
    const context = { ...contextFor(glenda, Infinity), signal: new AbortController().signal }
    const watch = away.store.watch(context, parsePath('/'), { recursive: true })[Symbol.asyncIterator]()
    await watch.next()
    cluster.isolate(away.id)
    await fill(leader, 5, 40)
    await leader.engine!.save()
    cluster.heal()
    while (seen.length < 35) {
      const next = await watch.next()
      if (next.done === true) break
      for (const event of next.value.events) seen.push(event.path)
    }
    expect(seen).toEqual(Array.from({ length: 35 }, (_, i) => `/f${i + 5}`))
    expect(cluster.snapshots).toBe(1)
    await watch.return?.()
  })
})

describe('a new member', () => {
  it('with an empty disk takes the place of one that is lost', async () => {
    cluster = await startCluster({ keptEntriesMax: 10 })
    await fill(await cluster.leader(), 0, 40)
    const lost = [...cluster.nodes.values()].find(({ id }) => (cluster.node(id).engine!.member!.replica(1)!.term ?? 0) === 0)!
    await cluster.stop(lost.id)
    rmSync(lost.dir, { recursive: true })
    cluster.nodes.delete(lost.id)
    const leader = await cluster.leader()
    await leader.engine!.save()
    const fresh = cluster.add('n4')
    await cluster.start('n4')
    const { group } = leader.engine!.member!.replica(1)!
    await group.change([{ do: 'add_learner', id: 'n4' }])
    await check(fresh, 40)
    await group.change([
      { do: 'promote', id: 'n4' },
      { do: 'remove', id: lost.id },
    ])
    const other = [...cluster.nodes.values()].find(({ id }) => id !== leader.id && id !== 'n4')!
    await cluster.stop(other.id)
    await fill(fresh, 40, 45)
    await check(fresh, 45)
  })
})
