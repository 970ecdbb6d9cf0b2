/** The table of live instances, on a clock of the test's own. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { EmbeddedRegistry } from '../../discovery/embedded.ts'
import type { RegistryEvent, ServiceInstance } from '../../discovery/registry.ts'
import { limits } from '../../namespace/limits.ts'
import { failure } from './running.ts'

let registry: EmbeddedRegistry
let events: string[]

beforeEach(() => {
  vi.useFakeTimers()
  registry = new EmbeddedRegistry({ now: () => Date.now() * 1000, monotonic: () => Date.now() })
  events = []
  registry.onChange((event: RegistryEvent) => {
    const isListed = registry.resolve(event.instance.service).includes(event.instance)
    expect(isListed).toBe(event.type === 'up')
    events.push(event.type === 'up' ? `+${event.instance.instance}` : `-${event.instance.instance} ${event.reason}`)
  })
})

afterEach(async () => {
  await registry.close()
  vi.useRealTimers()
})

function of(instance: string, service = 'clock'): ServiceInstance {
  return { service, instance, names: ['now'], node: 'local' }
}

describe('EmbeddedRegistry', () => {
  it('lists an instance until its lease lapses, to the millisecond', async () => {
    await registry.register(of('a'), 1_000)
    vi.advanceTimersByTime(999)
    expect(registry.resolve('clock').map((row) => row.instance)).toEqual(['a'])
    vi.advanceTimersByTime(1)
    expect(registry.resolve('clock')).toEqual([])
    expect(registry.services()).toEqual([])
    expect(events).toEqual(['+a', '-a lapsed'])
  })

  it('starts the lease anew with each renewal, and tells who lapsed', async () => {
    const a = await registry.register(of('a'), 1_000)
    const b = await registry.register(of('b'), 5_000)
    for (let i = 0; i < 10; i++) {
      vi.advanceTimersByTime(900)
      expect(await a.renew()).toBe(true)
      if (i < 4) expect(await b.renew()).toBe(true)
    }
    expect(await b.renew()).toBe(false)
    vi.advanceTimersByTime(1_001)
    expect(await a.renew()).toBe(false)
    expect(events).toEqual(['+a', '+b', '-b lapsed', '-a lapsed'])
    await a.deregister()
    expect(events).toHaveLength(4)
  })

  it('lets a name be had again once it is free; the old one cannot renew or end the new', async () => {
    const old = await registry.register(of('a'), 1_000)
    await failure(registry.register(of('a'), 1_000), 'exists')
    vi.advanceTimersByTime(1_000)
    await registry.register(of('a'), 1_000)
    expect(await old.renew()).toBe(false)
    await old.deregister()
    expect(registry.resolve('clock')).toHaveLength(1)
  })

  it('lapses a short lease in time that came after a long one', async () => {
    await registry.register(of('long'), 60_000)
    await registry.register(of('short'), 200)
    vi.advanceTimersByTime(200)
    expect(registry.resolve('clock').map((row) => row.instance)).toEqual(['long'])
  })

  it('is bounded, and refuses names that cannot stand in a path, and leases without bounds', async () => {
    for (const name of ['', 'a/b', 'a@b', '.hidden', '-x', 'x'.repeat(64), 'ä']) {
      await failure(registry.register(of(name), 1_000), 'invalid')
      await failure(registry.register(of('a', name), 1_000), 'invalid')
    }
    for (const ttl of [0, -1, NaN, Infinity, limits.lease_ttl_ms_max + 1]) await failure(registry.register(of('a'), ttl), 'invalid')
    vi.useRealTimers()
    const large = new EmbeddedRegistry({ now: () => 0, monotonic: () => 0 })
    for (let i = 0; i < limits.service_instances_max; i++) await large.register(of(`i${i}`, `s${i}`), 1_000_000)
    await failure(large.register(of('more'), 1_000), 'overloaded')
    await large.close()
  })
})
