/** Lease timers against a plain table, on a clock that moves when told; and the queue of a lock. */
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { LeaseTimers, LockQueue } from '../../storage/store/lease-timers.ts'

let now = 0
const clock = { now: () => now * 1000, monotonic: () => now }

beforeEach(() => {
  now = 0
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})

afterEach(() => {
  vi.useRealTimers()
})

function advance(ms: number): void {
  for (let i = 0; i < ms; i++) {
    now++
    vi.advanceTimersByTime(1)
  }
}

const lease = fc.constantFrom('a', 'b', 'c', 'd', 'e')
const step = fc.oneof(
  fc.record({ op: fc.constant('start' as const), lease, ttlMs: fc.integer({ min: 1, max: 60 }) }),
  fc.record({ op: fc.constant('renew' as const), lease }),
  fc.record({ op: fc.constant('stop' as const), lease }),
  fc.record({ op: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 40 }) }),
)

describe('lease timers', () => {
  it('ring for each lease at its time, once, whatever was renewed, stopped and started again', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        now = 0
        const rung: string[] = []
        const timers = new LeaseTimers(clock, (id) => rung.push(`${id}@${now}`))
        const table = new Map<string, { ttlMs: number; ends: number }>()
        const expected: string[] = []
        for (const one of steps) {
          if (one.op === 'start') {
            timers.start(one.lease, one.ttlMs)
            table.set(one.lease, { ttlMs: one.ttlMs, ends: now + one.ttlMs })
          } else if (one.op === 'renew') {
            const known = table.get(one.lease)
            expect(timers.renew(one.lease)).toBe(known?.ttlMs)
            if (known !== undefined) known.ends = now + known.ttlMs
          } else if (one.op === 'stop') {
            timers.stop(one.lease)
            table.delete(one.lease)
          } else {
            for (let at = now + 1; at <= now + one.ms; at++) {
              for (const [id, { ends }] of table) {
                if (ends > at) continue
                expected.push(`${id}@${at}`)
                table.delete(id)
              }
            }
            advance(one.ms)
          }
          expect([...rung].sort()).toEqual([...expected].sort())
          expect(timers.count).toBe(table.size)
        }
        timers.clear()
        expect(vi.getTimerCount()).toBe(0)
      }),
      { numRuns: 500 },
    )
  })

  it('need one timer for a hundred thousand leases', () => {
    const timers = new LeaseTimers(clock, () => undefined)
    for (let i = 0; i < 100_000; i++) timers.start(`lease ${i}`, 1000 + (i % 7))
    expect(vi.getTimerCount()).toBe(1)
    advance(1006)
    expect(timers.count).toBe(0)
  })
})

describe('the queue of a lock', () => {
  it('is served in turn, and goes on when the first leaves', async () => {
    const queue = new LockQueue()
    const turns = [queue.enter('/lock'), queue.enter('/lock'), queue.enter('/lock')]
    expect(turns.map((turn) => turn.isFirst)).toEqual([true, false, false])
    const woken: number[] = []
    const waits = turns.map((turn, i) => turn.wait(Infinity, undefined).then(() => woken.push(i)))
    queue.changed('/lock', false)
    await waits[0]
    expect(woken).toEqual([0])
    turns[0]!.leave()
    await waits[1]
    expect(woken).toEqual([0, 1])
    expect(turns[1]!.isFirst).toBe(true)
    queue.wakeAll()
    await Promise.all(waits)
    for (const turn of turns) turn.leave()
    expect(queue.isEmpty).toBe(true)
  })
})
