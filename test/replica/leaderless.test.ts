/** A member that knows no leader: what waits for one ends soon, with the reason, and goes on where one is found in time. */
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../namespace/clock.ts'
import { contextFor } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { reachText } from '../../storage/replica/reach.ts'
import { startCluster, type LocalCluster, type LocalNode } from './cluster.ts'

let cluster: LocalCluster
afterEach(() => cluster?.close())

const path = parsePath('/file')
const context = contextFor({ name: 'glenda', groups: [] }, 600_000)
const caught = (error: unknown): unknown => error

/** A cluster whose leader was cut off and knows it; `pass` lets time go by for that node. */
async function withoutMajority(): Promise<{ node: LocalNode; others: string[]; pass: (ms: number) => void }> {
  let passed = 0
  const clock = { now: () => systemClock.now(), monotonic: () => systemClock.monotonic() + passed }
  cluster = await startCluster({ clock: () => clock })
  const node = await cluster.leader()
  await node.store.write(context, path, Buffer.from('kept'))
  cluster.isolate(node.id)
  while (node.engine!.member!.replica(1)!.leader !== null) await new Promise((resolve) => setTimeout(resolve, 5))
  const others = [...cluster.nodes.keys()].filter((id) => id !== node.id)
  return { node, others, pass: (ms) => (passed += ms) }
}

describe('a member that lost the majority', () => {
  it('refuses changes that no leader was given, and reads, with the reason, and serves what is stale', async () => {
    const { node, others, pass } = await withoutMajority()
    const wrote = node.store.write(context, path, Buffer.from('lost')).catch(caught)
    const read = node.store.read(context, path).catch(caught)
    pass(limits.raft_leaderless_ms_max + 1)
    const reason = { kind: 'unavailable', message: `store data has no leader: 1 of 3 members is reachable (${others.join(', ')} are not)` }
    expect(await wrote).toMatchObject({ ...reason, path, outcome: 'none', retryable: true })
    expect(await read).toMatchObject({ ...reason, path })
    const { bytes } = await node.store.read(context, path, { consistency: 'stale' })
    expect(Buffer.from(bytes).toString()).toBe('kept')
  })

  it('says of a change that its leader may have passed on that nobody knows what becomes of it', async () => {
    let passed = 0
    cluster = await startCluster({ clock: () => ({ now: () => systemClock.now(), monotonic: () => systemClock.monotonic() + passed }) })
    const node = await cluster.leader()
    cluster.isolate(node.id)
    const wrote = node.store.write(context, path, Buffer.from('in the log of one')).catch(caught)
    while (node.engine!.member!.replica(1)!.leader !== null) await new Promise((resolve) => setTimeout(resolve, 5))
    passed += limits.raft_leaderless_ms_max + 1
    expect(await wrote).toMatchObject({ kind: 'unavailable', outcome: 'unknown' })
  })

  it('does what waits when the others are back in time, and what comes later', async () => {
    const { node, pass } = await withoutMajority()
    const early = node.store.write(context, path, Buffer.from('early'))
    pass(limits.raft_leaderless_ms_max / 2)
    cluster.heal()
    await early
    pass(limits.raft_leaderless_ms_max)
    expect(Buffer.from((await node.store.read(context, path)).bytes).toString()).toBe('early')
  })
})

describe('a member that hears its leader and is not heard by it', () => {
  it('counts as one without, refuses what waits, and goes on when it is heard again', async () => {
    let passed = 0
    const clock = { now: () => systemClock.now(), monotonic: () => systemClock.monotonic() + passed }
    cluster = await startCluster({ clock: () => clock })
    const leader = await cluster.leader()
    const [node, third] = [...cluster.nodes.values()].filter(({ id }) => id !== leader.id) as [LocalNode, LocalNode]
    await node.store.write(context, path, Buffer.from('kept'))
    cluster.cut(node.id, leader.id)
    const replica = node.engine!.member!.replica(1)!
    const wrote = node.store.write(context, path, Buffer.from('lost')).catch(caught)
    const read = node.store.read(context, path).catch(caught)
    while (replica.standing.leaderlessSince === Infinity) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(replica.leader).toBe(leader.id)
    expect(replica.standing.leaderAtHand).toBe(null)
    expect(third.engine!.member!.replica(1)!.standing.leaderAtHand).toBe(leader.id)
    passed += limits.raft_leaderless_ms_max + 1
    const why = `store data is led by ${leader.id}, which this node hears and does not reach: 2 of 3 members are reachable (${leader.id} is not)`
    expect(await wrote).toMatchObject({ kind: 'unavailable', message: why, path, outcome: 'none', retryable: true })
    expect(await read).toMatchObject({ kind: 'unavailable', message: why, path })
    cluster.heal()
    await node.store.write(context, path, Buffer.from('heard again'))
    expect(Buffer.from((await node.store.read(context, path)).bytes).toString()).toBe('heard again')
    expect(replica.standing.leaderAtHand).toBe(leader.id)
  })
})

describe('the words for it', () => {
  const configuration = { voters: ['n1.a', 'n2.b', 'n3.c'], outgoing: [], learners: ['n4.d'], demoted: [] }
  const reaching = (...ids: string[]) => reachText(configuration, (id) => ids.includes(id))

  it.each([
    [['n1.a', 'n3.c'], '2 of 3 members are reachable (n2 is not)'],
    [['n1.a', 'n2.b', 'n3.c'], '3 of 3 members are reachable'],
    [[], '0 of 3 members are reachable (n1, n2, n3 are not)'],
  ])('of %j', (ids, text) => {
    expect(reaching(...ids)).toBe(text)
  })

  it('of a change of members', () => {
    const both = { ...configuration, voters: ['n1.a', 'n2.b', 'n5.e'], outgoing: ['n1.a', 'n2.b', 'n3.c'] }
    expect(reachText(both, () => true)).toBe('4 of 4 members are reachable')
  })
})
