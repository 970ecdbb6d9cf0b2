/** What peers do when the network between them, or a process behind it, fails. */
import { afterEach, describe, expect, it } from 'vitest'
import type { PeerItem } from '../../raft/driver/ports.ts'
import { startProxy } from '../faults/proxy.ts'
import type { FaultProxy } from '../faults/proxy.ts'
import { closeNodes, connected, introduce, startNode } from './nodes.ts'
import type { NodeChanges, TestNode } from './nodes.ts'

const proxies: FaultProxy[] = []

afterEach(async () => {
  await closeNodes()
  for (const proxy of proxies.splice(0)) await proxy.close()
})

const beat = (life: number): PeerItem => ({ kind: 'beat', life })
const quick = { peer_dial_ms: 1_000, peer_tick_ms: 10, peer_ping_ms: 50, peer_silent_ms_max: 200, peer_backoff_ms_max: 50 }

/** a dials b through a proxy, and is connected. */
async function pair(changes: NodeChanges = {}): Promise<{ a: TestNode; b: TestNode; proxy: FaultProxy }> {
  const a = await startNode('n1.a', { limits: quick, ...changes })
  const b = await startNode('n2.b', { limits: quick, ...changes })
  const proxy = await startProxy(b.peer.address)
  proxies.push(proxy)
  a.addresses.set('n2.b', proxy.address)
  await connected(a, b)
  return { a, b, proxy }
}

function connects(node: TestNode): number {
  return node.events.filter(({ event }) => event === 'connected').length
}

describe('peers when things fail', () => {
  it('tell of a cut connection, come back, and lose only what was on its way', async () => {
    const { a, b, proxy } = await pair()
    for (let round = 1; round <= 5; round++) {
      proxy.cut()
      await a.until(() => connects(a) === round + 1)
      expect(a.lost.length).toBe(round)
      a.peer.send('n2.b', beat(round))
      await b.until(() => b.received.length === round)
    }
    expect(a.lost.every(({ peer, gone }) => peer === 'n2.b' && !gone)).toBe(true)
  })

  it('know that a process has ended when nobody listens, and say so once', async () => {
    const b = await startNode('n2.b')
    const proxy = await startProxy(b.peer.address)
    proxies.push(proxy)
    let dialled = 0
    const addressOf = (): string => {
      dialled++
      return proxy.address
    }
    const a = await startNode('n1.a', { limits: quick, addressOf })
    await connected(a, b)
    await proxy.refuse()
    while (dialled < 6) await new Promise(setImmediate)
    expect(a.lost).toEqual([
      { peer: 'n2.b', gone: false },
      { peer: 'n2.b', gone: true },
    ])
    await proxy.resume()
    await a.until(() => connects(a) === 2)
    expect(a.lost.length).toBe(2)
    a.peer.send('n2.b', beat(1))
    await b.until(() => b.received.length === 1)
    await proxy.refuse()
    await a.until(() => a.lost.length === 4)
    expect(a.lost[3]).toEqual({ peer: 'n2.b', gone: true })
  })

  it('dial a peer at once that has dialled them', async () => {
    const a = await startNode('n1.a', { limits: { peer_backoff_ms_min: 3_600_000, peer_backoff_ms_max: 3_600_000 } })
    a.peer.send('n2.b', beat(1))
    expect(a.peer.status().peers[0]!.state).toBe('waiting')
    const b = await startNode('n2.b')
    introduce(a, b)
    await connected(b, a)
    await a.until(() => connects(a) === 1)
  })

  it('do not take a peer for gone that they still hear', async () => {
    const { a, b, proxy } = await pair()
    introduce(b, a)
    a.addresses.set('n2.b', proxy.address)
    await connected(b, a)
    await proxy.refuse()
    await a.until(() => a.events.some(({ event }) => event === 'unreachable'))
    expect(a.lost).toEqual([{ peer: 'n2.b', gone: false }])
    await b.close()
    await a.until(() => a.lost.length === 2)
    expect(a.lost[1]).toEqual({ peer: 'n2.b', gone: true })
  })

  it.each(['toTarget', 'fromTarget', 'both'] as const)(
    'notice a link that stalls (%s), and come back when it goes on',
    async (direction) => {
      const { a, b, proxy } = await pair()
      proxy.stall(direction)
      a.peer.send('n2.b', beat(1))
      await a.until(() => a.lost.length === 1)
      expect(a.lost).toEqual([{ peer: 'n2.b', gone: false }])
      await proxy.resume()
      await a.until(() => connects(a) >= 2)
      a.peer.send('n2.b', beat(2))
      await b.until(() => b.received.some(({ item }) => item.kind === 'beat' && item.life === 2))
    },
  )

  it('notice a blackhole', async () => {
    const { a, proxy } = await pair()
    proxy.blackhole()
    await a.until(() => a.lost.length === 1)
    expect(a.lost).toEqual([{ peer: 'n2.b', gone: false }])
  })

  it('keep a connection that is only slow', async () => {
    const { a, b, proxy } = await pair()
    proxy.delay(60, 'both')
    for (let life = 1; life <= 10; life++) {
      a.peer.send('n2.b', beat(life))
      await b.until(() => b.received.length === life)
    }
    await a.peer.request('n2.b', 1, 'hello', Buffer.alloc(0))
    expect(a.lost).toEqual([])
  })

  it('let a newer connection in beside one that looks alive, and hear nothing of the older any more', async () => {
    const b = await startNode('n2.b')
    const proxy = await startProxy(b.peer.address)
    proxies.push(proxy)
    const older = await startNode('n1.a')
    older.addresses.set('n2.b', proxy.address)
    await connected(older, b)
    // What it sends from here on waits in the network.
    proxy.stall('toTarget')
    older.peer.send('n2.b', beat(1))
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    const newer = await startNode('n1.a')
    newer.addresses.set('n2.b', b.peer.address)
    await connected(newer, b)
    newer.peer.send('n2.b', beat(2))
    await b.until(() => b.received.length === 1)
    await proxy.resume()
    await older.until(() => older.lost.length === 1)
    newer.peer.send('n2.b', beat(3))
    await b.until(() => b.received.length === 2)
    expect(b.received.map(({ item }) => item)).toEqual([beat(2), beat(3)])
  })

  it('come back through a new connection when the old one is half-open', async () => {
    const { a, b, proxy } = await pair()
    // b sees the end, a does not: it finds the silence.
    proxy.cut('target')
    await a.until(() => connects(a) === 2)
    a.peer.send('n2.b', beat(1))
    await b.until(() => b.received.length === 1)
    // a sees the end, b does not: what was there makes room.
    proxy.cut('client')
    await a.until(() => connects(a) === 3)
    a.peer.send('n2.b', beat(2))
    await b.until(() => b.received.length === 2)
    while (b.peer.status().connections > 1) await new Promise(setImmediate)
  })

  it('bound what waits for a peer that does not read', async () => {
    const { a, b, proxy } = await pair({ limits: { ...quick, peer_silent_ms_max: 60_000, peer_send_bytes_max: 1024 * 1024 } })
    proxy.stall('toTarget')
    const data = Buffer.alloc(100_000, 1)
    const append = (index: number): PeerItem => ({
      kind: 'raft',
      group: 1,
      message: {
        kind: 'append',
        from: 'n1.a',
        to: 'n2.b',
        term: 1,
        prevIndex: index,
        prevTerm: 1,
        commit: 0,
        entries: [{ index: index + 1, term: 1, data, configuration: null }],
      },
    })
    let most = 0
    for (let index = 0; index < 500; index++) {
      a.peer.send('n2.b', append(index))
      if (index % 10 === 0) await new Promise(setImmediate)
      most = Math.max(most, a.peer.status().peers[0]!.waitingBytes)
    }
    const { droppedItems } = a.peer.status().peers[0]!
    expect(droppedItems).toBeGreaterThan(200)
    expect(most).toBeLessThan(1024 * 1024 + 2 * data.length)
    await expect(a.peer.request('n2.b', 1, 'ask', data)).rejects.toMatchObject({ kind: 'overloaded', outcome: 'none' })
    await proxy.resume()
    await b.until(() => b.received.length === 500 - droppedItems)
    expect(a.lost).toEqual([])
  })

  it('refuse requests while what they serve is large, and take items all the same', async () => {
    const held: (() => void)[] = []
    const b = await startNode('n2.b', {
      limits: { peer_serving_bytes_max: 300_000 },
      onAsk: (_from, _group, verb) =>
        verb === 'hello' ? Promise.resolve(Buffer.alloc(0)) : new Promise((resolve) => held.push(() => resolve(Buffer.from('done')))),
    })
    const a = await startNode('n1.a')
    introduce(a, b)
    await connected(a, b)
    const asked = Array.from({ length: 10 }, () => a.peer.request('n2.b', 1, 'hold', Buffer.alloc(100_000)))
    const refused = await Promise.all(asked.slice(4).map((one) => one.catch((error: unknown) => error)))
    expect(refused).toEqual(refused.map(() => expect.objectContaining({ kind: 'overloaded', outcome: 'none' }) as unknown))
    a.peer.send('n2.b', beat(1))
    await b.until(() => b.received.length === 1)
    for (const answer of held) answer()
    expect((await Promise.all(asked.slice(0, 4))).map(String)).toEqual(['done', 'done', 'done', 'done'])
  })
})
