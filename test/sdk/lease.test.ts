/** Leases that renew themselves and locks between clients, against a real node. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import type { Session } from '../../sdk/session.ts'
import { eventually, failure, TestNode } from '../node/running.ts'

let node: TestNode
let ann: Session
let bob: Session

beforeAll(async () => {
  node = await TestNode.start()
  ann = await node.connect()
  bob = await node.connect()
}, 60_000)

afterAll(() => node.close())

describe('a lease', () => {
  it('renews itself for longer than it lasts; when it ends its files go', async () => {
    const lease = await ann.client.lease(300, { path: '/data' })
    await ann.client.write('/data/bound', 'x', { lease: lease.id })
    const from = performance.now()
    await eventually(async () => (performance.now() - from > 1_500 ? true : undefined))
    expect(await ann.client.exists('/data/bound')).toBe(true)
    await lease.revoke()
    await lease.ended
    expect(await ann.client.exists('/data/bound')).toBe(false)
    await lease[Symbol.asyncDispose]()
  })

  it('ends with its process: nothing renews it when the session is gone', async () => {
    const gone = await node.connect()
    const lease = await gone.client.lease(300, { path: '/data' })
    await gone.client.write('/data/left', 'x', { lease: lease.id })
    await gone.close()
    await lease.ended
    await eventually(async () => ((await ann.client.exists('/data/left')) ? undefined : true), 300 + limits.lease_expiry_ms_max + 5_000)
  })

  it('says that it has ended when another ended it', async () => {
    const lease = await ann.client.lease(300, { path: '/data' })
    await ann.client.server.revokeLease(ann.client.context(), lease.id)
    await lease.ended
  })

  it('is refused outside the bounds', async () => {
    await failure(ann.client.lease(limits.lease_ttl_ms_min - 1, { path: '/data' }), 'invalid')
    await failure(ann.client.lease(Infinity, { path: '/data' }), 'invalid')
  })
})

describe('a lock', () => {
  it('is one client’s at a time, in turn, with tokens that grow', async () => {
    const first = await ann.client.lock('/data/lock')
    const order: string[] = []
    const second = bob.client.lock('/data/lock').then((lock) => (order.push('bob'), lock))
    await failure(ann.client.lock('/data/lock', { timeoutMs: 100 }), 'deadline')
    order.push('released')
    await first.release()
    const taken = await second
    expect(order).toEqual(['released', 'bob'])
    expect(taken.token).toBeGreaterThan(first.token)
    await taken.release()
    await taken.release()
  })

  it('keeps two clients from losing an update', async () => {
    await ann.client.write('/data/count', '0')
    const tokens: number[] = []
    const add = async ({ client }: Session): Promise<void> => {
      for (let i = 0; i < 20; i++) {
        await using lock = await client.lock('/data/count.lock')
        tokens.push(lock.token)
        await client.write('/data/count', String(Number(await client.readText('/data/count')) + 1))
      }
    }
    await Promise.all([add(ann), add(bob)])
    expect(await ann.client.readText('/data/count')).toBe('40')
    expect(tokens).toEqual([...tokens].sort((a, b) => a - b))
    expect(new Set(tokens).size).toBe(40)
  })

  it('goes to who waits when the one that holds it is gone, and tells the one that lost it', async () => {
    const gone = await node.connect()
    const held = await gone.client.lock('/data/lost', { ttlMs: 300 })
    const waiting = bob.client.lock('/data/lost', { timeoutMs: 10_000 })
    await gone.close()
    const taken = await waiting
    expect(taken.token).toBeGreaterThan(held.token)
    await held.lost
    await taken.release()
  })

  it('is lost when its file is removed, and says so', async () => {
    const held = await ann.client.lock('/data/removed', { ttlMs: 300 })
    await bob.client.remove('/data/removed')
    await held.lost
    const next = await bob.client.lock('/data/removed')
    expect(next.token).toBeGreaterThan(held.token)
    await next.release()
  })
})
