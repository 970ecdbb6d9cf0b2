/** Leases and locks of a store on two nodes: time runs where it is led, by the monotonic clock, and is handed over whole. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import { at, bytes, contextOf, isSettled, Pair, type Replica } from './cluster-pair.ts'

let pair: Pair
let a: Replica
let b: Replica
const context = contextOf()
const ttl = 10_000

beforeEach(async () => {
  pair = await new Pair().open()
  a = pair.a
  b = pair.b
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})

afterEach(async () => {
  vi.useRealTimers()
  await pair.close()
})

/** Both nodes' time goes on. */
async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 50) {
    pair.now += Math.min(50, left)
    vi.advanceTimersByTime(Math.min(50, left))
  }
  await isSettled(Promise.resolve())
}

async function leased(by: Replica, path = '/f'): Promise<string> {
  const { lease } = await by.store.grantLease(context, ttl)
  await by.store.write(context, at(path), bytes('x'), { lease })
  return lease
}

async function exists(node: Replica, path = '/f'): Promise<boolean> {
  const { entries } = await node.store.list(context, at('/'), { consistency: 'stale' })
  return entries.some(({ name }) => `/${name}` === path)
}

describe('a lease', () => {
  it('is granted wherever it is asked for, ends by the time of the leader, and its end is proposed by the leader alone', async () => {
    await leased(b)
    const ending = vi.spyOn(b, 'proposeAsLeader')
    await pass(ttl - 50)
    expect(await exists(b)).toBe(true)
    const proposed = b.proposals
    await pass(100)
    expect(await exists(a)).toBe(false)
    expect(await exists(b)).toBe(false)
    expect(b.proposals).toBe(proposed)
    expect(ending).not.toHaveBeenCalled()
  })

  it('is renewed through any node', async () => {
    const lease = await leased(b)
    for (let i = 0; i < 4; i++) {
      await pass(ttl - 100)
      expect((await (i % 2 === 0 ? b : a).store.renewLease(context, lease)).ttlMs).toBe(ttl)
    }
    expect(await exists(a)).toBe(true)
    await pass(ttl + 100)
    expect(await exists(a)).toBe(false)
    for (const node of [a, b]) await expect(node.store.renewLease(context, lease)).rejects.toMatchObject({ kind: 'not_found' })
  })

  it('belongs to its owner, whichever node is asked', async () => {
    const lease = await leased(a)
    for (const node of [a, b]) await expect(node.store.renewLease(contextOf('ann'), lease)).rejects.toMatchObject({ kind: 'denied' })
    await expect(b.store.revokeLease(contextOf('ann'), lease)).rejects.toMatchObject({ kind: 'denied' })
  })

  it('granted through one node is revoked and renewed through one that has not heard of it', async () => {
    b.isLagging = true
    const lease = await leased(a)
    expect((await b.store.renewLease(context, lease)).ttlMs).toBe(ttl)
    const revoked = b.store.revokeLease(context, lease)
    expect(await isSettled(revoked)).toBe(false)
    b.isLagging = false
    b.catchUp()
    await revoked
    expect(await exists(a)).toBe(false)
  })

  it('that the leader itself has not heard of yet is renewed by it', async () => {
    a.isLagging = true
    const grant = b.store.grantLease(context, ttl)
    const { lease } = await grant
    const renewed = b.store.renewLease(context, lease)
    expect(await isSettled(renewed)).toBe(false)
    a.isLagging = false
    a.catchUp()
    expect((await renewed).ttlMs).toBe(ttl)
  })

  it('gets its whole time from a new leader, and none from the old one', async () => {
    const lease = await leased(a)
    await pass(ttl - 100)
    pair.elect(b)
    await pass(ttl - 100)
    expect(await exists(b)).toBe(true)
    expect(a.proposals).toBe(2)
    await pass(200)
    expect(await exists(b)).toBe(false)
    await expect(b.store.renewLease(context, lease)).rejects.toMatchObject({ kind: 'not_found' })
  })

  it('is not confirmed by a leader that was deposed and does not know', async () => {
    const lease = await leased(a)
    a.isCut = true
    pair.elect(b, { tellOld: false })
    const renewed = a.store.renewLease(context, lease)
    expect(await isSettled(renewed)).toBe(false)
    await pass(ttl + 100)
    // The old one's time is over as well: what it wants to propose is of its own term.
    expect(await exists(b)).toBe(false)
    expect(pair.log.filter(({ command }) => command.op === 'endLease')).toHaveLength(1)
    a.told(0)
    a.heal()
    await expect(renewed).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
  })

  it('is not ended by a leader that was deposed and does not know', async () => {
    const lease = await leased(a)
    await pass(ttl - 1_000)
    a.isCut = true
    pair.elect(b, { tellOld: false })
    await pass(2_000)
    a.heal()
    await isSettled(Promise.resolve())
    expect(await exists(b)).toBe(true)
    expect(pair.log.some(({ command }) => command.op === 'endLease')).toBe(false)
    expect((await b.store.renewLease(context, lease)).ttlMs).toBe(ttl)
  })

  it('whose time was over before the majority answered is not confirmed', async () => {
    const lease = await leased(a)
    a.isCut = true
    const renewed = a.store.renewLease(context, lease)
    await pass(ttl + 100)
    a.heal()
    await expect(renewed).rejects.toMatchObject({ kind: 'not_found' })
    await isSettled(Promise.resolve())
    expect(await exists(a)).toBe(false)
  })

  it('whose end may have been proposed is not renewed, and ends; one whose end was refused is', async () => {
    for (const outcome of ['unknown', 'none'] as const) {
      const lease = await leased(a, `/${outcome}`)
      const failing = vi
        .spyOn(a, 'proposeAsLeader')
        .mockRejectedValueOnce(new NineError({ kind: 'unavailable', op: 'x', message: 'x', outcome }))
      await pass(ttl + 50)
      const renewed = a.store.renewLease(context, lease)
      if (outcome === 'unknown') {
        await expect(renewed).rejects.toMatchObject({ kind: 'not_found' })
        await pass(1_000)
        expect(await exists(a, '/unknown')).toBe(false)
      } else {
        await renewed
        await pass(1_000)
        expect(await exists(a, '/none')).toBe(true)
      }
      failing.mockRestore()
    }
  })

  it('knows nothing of the wall clock', async () => {
    const lease = await leased(a)
    for (const jump of [3_600_000, -7_200_000]) {
      pair.wall += jump
      vi.setSystemTime(pair.wall)
      await pass(ttl - 100)
      expect(await exists(a)).toBe(true)
      await a.store.renewLease(context, lease)
    }
    pair.wall += 3_600_000
    await pass(ttl + 50)
    expect(await exists(a)).toBe(false)
  })

  it('of a snapshot is timed by whoever leads after it', async () => {
    b.isLagging = true
    const lease = await leased(a)
    await b.install()
    b.isLagging = false
    pair.elect(b)
    await pass(ttl - 100)
    expect((await a.store.renewLease(context, lease)).ttlMs).toBe(ttl)
    await pass(ttl + 50)
    expect(await exists(b)).toBe(false)
  })
})

describe('a lock', () => {
  it('is held once over all nodes, handed on when its lease ends, with tokens that grow', async () => {
    const leases = await Promise.all([a, b, a, b].map((node) => node.store.grantLease(context, ttl)))
    const tokens: number[] = []
    const locks = [a, b, a, b].map(async (node, i) => {
      const { lease } = leases[i]!
      const { token } = await node.store.lock(context, at('/lock'), lease)
      tokens.push(token)
      return lease
    })
    let held = await Promise.race(locks)
    for (let i = 1; i <= 4; i++) {
      await isSettled(Promise.resolve())
      expect(tokens).toHaveLength(i)
      await b.store.revokeLease(context, held)
      const others = locks.slice()
      if (i === 4) break
      const ended = held
      held = await Promise.race(
        others.map(async (lock) => ((await lock) === ended || !tokensOf(await lock) ? new Promise<string>(() => undefined) : lock)),
      )
    }
    expect([...tokens].sort((x, y) => x - y)).toEqual(tokens)

    function tokensOf(lease: string): boolean {
      return a.machine.leases.ownerOf(lease) !== undefined
    }
  })

  it('waits through a change of leader, and asks again under its lease for the token it has', async () => {
    const first = await a.store.grantLease(context, ttl)
    const second = await b.store.grantLease(context, 3 * ttl)
    const { token } = await a.store.lock(context, at('/lock'), first.lease)
    expect((await b.store.lock(context, at('/lock'), first.lease)).token).toBe(token)
    const waiting = b.store.lock(context, at('/lock'), second.lease)
    pair.elect(b)
    await pass(ttl - 100)
    expect(await isSettled(waiting)).toBe(false)
    await pass(200)
    expect((await waiting).token).toBeGreaterThan(token)
  })
})
