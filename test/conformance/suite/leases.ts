/** Leases and locks. Time is real here, and is waited for by its events. */
import { expect } from 'vitest'
import { limits } from '../../../namespace/limits.ts'
import { fails, group, type Group, type Tools } from './tools.ts'

const long_ms = 60_000
const short_ms = 300

/** A lease bound to a fresh file of this test, which is how a server spanning stores knows where it belongs. */
async function grant(t: Tools, ttlMs: number): Promise<string> {
  const { lease } = await t.server.grantLease(t.context, ttlMs, t.at())
  return lease
}

export const leaseGroups: readonly Group[] = [
  group('leases', {
    'a lease is granted and revoked': async (t) => {
      const granted = await t.server.grantLease(t.context, long_ms, t.at())
      expect(granted).toMatchObject({ ttlMs: long_ms })
      expect(granted.lease).not.toBe('')
      await t.put('a', 'x', { lease: granted.lease })
      await t.server.create(t.context, t.at('b'), { lease: granted.lease })
      await t.put('free', 'x')
      expect((await t.stat('a')).lease).toBe(granted.lease)
      expect((await t.stat('free')).lease).toBeUndefined()
      await t.server.revokeLease(t.context, granted.lease)
      expect(await t.names()).toEqual(['free'])
      await fails(t.server.renewLease(t.context, granted.lease), 'not_found')
      await fails(t.server.revokeLease(t.context, granted.lease), 'not_found')
    },
    'renewing changes no file': async (t) => {
      const lease = await grant(t, long_ms)
      await t.put('f', 'x', { lease })
      const before = await t.stat('f')
      expect(await t.server.renewLease(t.context, lease)).toMatchObject({ lease, ttlMs: long_ms })
      expect(await t.stat('f')).toEqual(before)
    },
    'a lease ends by itself, seen by a watcher': async (t) => {
      const watch = await t.watch('')
      const began = performance.now()
      const lease = await grant(t, short_ms)
      await t.put('f', 'x', { lease })
      const [made, removed] = await watch.events(2)
      expect(made!.type).toBe('create')
      expect(removed).toMatchObject({ type: 'remove', path: t.at('f') })
      const lasted = performance.now() - began
      expect(lasted).toBeGreaterThanOrEqual(short_ms - 5)
      expect(lasted).toBeLessThan(short_ms + limits.lease_expiry_ms_max + 1000)
      await fails(t.server.renewLease(t.context, lease), 'not_found')
      expect(await t.names()).toEqual([])
      await watch.close()
    },
    'a renewed lease lasts longer than one that is not': async (t) => {
      const watch = await t.watch('')
      const renewed = await grant(t, 3 * short_ms)
      const left = await grant(t, short_ms)
      const marker = await grant(t, 2 * short_ms)
      await t.put('renewed', 'x', { lease: renewed })
      await t.put('left', 'x', { lease: left })
      await t.put('marker', 'x', { lease: marker })
      const seen: string[] = (await watch.events(3)).map((event) => event.type)
      expect(seen).toEqual(['create', 'create', 'create'])
      // Each removal that is seen renews the one lease: it ends last, after three times its time.
      for (const name of ['left', 'marker']) {
        expect((await watch.event()).path).toBe(t.at(name))
        await t.server.renewLease(t.context, renewed)
      }
      const since = performance.now()
      expect((await watch.event()).path).toBe(t.at('renewed'))
      expect(performance.now() - since).toBeGreaterThan(2 * short_ms)
      await watch.close()
    },
    'ttlMs is a lease of its own': async (t) => {
      const watch = await t.watch('')
      await t.put('f', 'x', { ttlMs: short_ms })
      await t.put('g', 'x')
      const events = await watch.events(3)
      expect(events.map((event) => [event.type, event.path])).toEqual([
        ['create', t.at('f')],
        ['create', t.at('g')],
        ['remove', t.at('f')],
      ])
      expect(await t.names()).toEqual(['g'])
      await watch.close()
    },
    'a lease takes a whole tree': async (t) => {
      const lease = await grant(t, long_ms)
      await t.server.mkdir(t.context, t.at('d'), { lease })
      await t.put('d/f', 'x')
      await t.server.revokeLease(t.context, lease)
      expect(await t.names()).toEqual([])
    },
    'a leased file follows rename': async (t) => {
      const lease = await grant(t, long_ms)
      await t.put('f', 'x', { lease })
      await t.server.rename(t.context, t.at('f'), t.at('g'))
      await t.put('f', 'another')
      await t.server.revokeLease(t.context, lease)
      expect(await t.names()).toEqual(['f'])
    },
    'a file made again is not of the lease': async (t) => {
      const lease = await grant(t, long_ms)
      await t.put('f', 'x', { lease })
      await t.server.remove(t.context, t.at('f'))
      await t.put('f', 'y')
      await t.server.revokeLease(t.context, lease)
      expect(await t.text('f')).toBe('y')
    },
    'part of a value without lease keeps it': async (t) => {
      const lease = await grant(t, long_ms)
      await t.put('f', 'x', { lease })
      await t.put('f', 'y', { at: 'append' })
      expect((await t.stat('f')).lease).toBe(lease)
      await t.server.revokeLease(t.context, lease)
      expect(await t.names()).toEqual([])
    },
    'a whole value without lease is there to stay': async (t) => {
      const lease = await grant(t, long_ms)
      await t.put('f', 'x', { lease })
      await t.put('f', 'y')
      expect((await t.stat('f')).lease).toBe(undefined)
      await t.server.revokeLease(t.context, lease)
      expect(await t.text('f')).toBe('y')
    },
    'a lease that does not exist': async (t) => {
      await fails(t.put('f', 'x', { lease: 'no-such-lease' }), 'not_found', t.at('f'))
      await fails(t.server.renewLease(t.context, 'no-such-lease'), 'not_found')
      await fails(t.server.revokeLease(t.context, 'no-such-lease'), 'not_found')
      expect(await t.names()).toEqual([])
    },
    'a bad time to live is invalid': async (t) => {
      for (const ttlMs of [0, -1, Number.NaN, 0.5, limits.lease_ttl_ms_max + 1]) {
        await fails(t.server.grantLease(t.context, ttlMs, t.at()), 'invalid')
        await fails(t.put('f', 'x', { ttlMs }), 'invalid')
      }
    },
    'a failed transaction binds nothing': async (t) => {
      const lease = await grant(t, long_ms)
      await t.put('f', 'x')
      const then = [
        { op: 'write', path: t.at('f'), bytes: new Uint8Array(1), options: { lease } },
        { op: 'remove', path: t.at('none') },
      ] as const
      await fails(t.server.txn(t.context, { if: [], then, else: [] }), 'not_found')
      await t.server.revokeLease(t.context, lease)
      expect(await t.text('f')).toBe('x')
    },
  }),
  group('locks', {
    'a lock excludes others until it is removed': async (t) => {
      const [mine, yours] = [await grant(t, long_ms), await grant(t, long_ms)]
      const first = await t.server.lock(t.context, t.at('lock'), mine)
      expect(await t.stat('lock')).toMatchObject({ lease: mine, createdRevision: first.token })
      let isLocked = false
      const waiting = t.server.lock(t.context, t.at('lock'), yours).then((result) => {
        isLocked = true
        return result
      })
      await t.put('something', 'else')
      await t.stat()
      expect(isLocked).toBe(false)
      await t.server.remove(t.context, t.at('lock'))
      const second = await waiting
      expect(second.token).toBeGreaterThan(first.token)
      expect((await t.stat('lock')).lease).toBe(yours)
    },
    'a lock ends with its lease': async (t) => {
      const mine = await grant(t, short_ms)
      const yours = await grant(t, long_ms)
      const first = await t.server.lock(t.context, t.at('lock'), mine)
      const second = await t.server.lock(t.context, t.at('lock'), yours)
      expect(second.token).toBeGreaterThan(first.token)
    },
    'who waits is served in turn': async (t) => {
      const holder = await grant(t, long_ms)
      await t.server.lock(t.context, t.at('lock'), holder)
      const order: number[] = []
      const tokens: number[] = []
      const waiters: Promise<void>[] = []
      for (let i = 0; i < 5; i++) {
        const lease = await grant(t, long_ms)
        waiters.push(
          t.server.lock(t.context, t.at('lock'), lease).then(async ({ token }) => {
            order.push(i)
            tokens.push(token)
            await t.server.remove(t.context, t.at('lock'))
          }),
        )
        // The next one asks after this one stands in line.
        await t.stat('lock')
      }
      await t.server.revokeLease(t.context, holder)
      await Promise.all(waiters)
      expect(order).toEqual([0, 1, 2, 3, 4])
      expect(tokens).toEqual([...tokens].sort((a, b) => a - b))
      expect(new Set(tokens).size).toBe(5)
    },
    'who comes when it is freed stands behind who waits': async (t) => {
      const leases = [await grant(t, long_ms), await grant(t, long_ms), await grant(t, long_ms)] as const
      await t.server.lock(t.context, t.at('lock'), leases[0])
      const waiting = t.server.lock(t.context, t.at('lock'), leases[1])
      await t.stat('lock')
      const freed = t.server.remove(t.context, t.at('lock'))
      const late = t.server.lock(t.context, t.at('lock'), leases[2])
      await freed
      const { token } = await waiting
      await t.server.remove(t.context, t.at('lock'))
      expect((await late).token).toBeGreaterThan(token)
    },
    'who gives up as it is freed passes it on': async (t) => {
      const leases = [await grant(t, long_ms), await grant(t, long_ms), await grant(t, long_ms)] as const
      await t.server.lock(t.context, t.at('lock'), leases[0])
      const controller = new AbortController()
      const givingUp = t.server.lock({ ...t.context, signal: controller.signal }, t.at('lock'), leases[1])
      await t.stat('lock')
      const next = t.server.lock(t.context, t.at('lock'), leases[2])
      await t.stat('lock')
      const freed = t.server.remove(t.context, t.at('lock'))
      controller.abort()
      await Promise.allSettled([givingUp.then(() => t.server.remove(t.context, t.at('lock')))])
      await freed
      await next
      expect((await t.stat('lock')).lease).toBe(leases[2])
    },
    'waiting ends at the deadline': async (t) => {
      const [mine, yours] = [await grant(t, long_ms), await grant(t, long_ms)]
      await t.server.lock(t.context, t.at('lock'), mine)
      await fails(t.server.lock({ ...t.context, deadline: performance.now() + 100 }, t.at('lock'), yours), 'deadline')
      await t.server.remove(t.context, t.at('lock'))
      // Who gave up left no place in the line behind.
      const third = await t.server.lock(t.context, t.at('lock'), mine)
      expect((await t.stat('lock')).createdRevision).toBe(third.token)
    },
    'waiting ends with the signal': async (t) => {
      const [mine, yours] = [await grant(t, long_ms), await grant(t, long_ms)]
      await t.server.lock(t.context, t.at('lock'), mine)
      const controller = new AbortController()
      const waiting = t.server.lock({ ...t.context, signal: controller.signal }, t.at('lock'), yours)
      await t.stat()
      controller.abort()
      await fails(waiting, 'deadline')
    },
    'waiting ends with the lease of who waits': async (t) => {
      const mine = await grant(t, long_ms)
      const yours = await grant(t, short_ms)
      await t.server.lock(t.context, t.at('lock'), mine)
      await fails(t.server.lock(t.context, t.at('lock'), yours), 'not_found')
    },
    'a lock needs a lease': async (t) => {
      await fails(t.server.lock(t.context, t.at('lock'), 'no-such-lease'), 'not_found')
      expect(await t.names()).toEqual([])
    },
    'ten that count under one lock lose nothing': async (t) => {
      await t.put('n', '0')
      await Promise.all(
        Array.from({ length: 10 }, async () => {
          const lease = await grant(t, long_ms)
          await t.server.lock(t.context, t.at('lock'), lease)
          await t.put('n', `${Number(await t.text('n')) + 1}`)
          await t.server.revokeLease(t.context, lease)
        }),
      )
      expect(await t.text('n')).toBe('10')
    },
  }),
]
