/** What the conformance suite does not reach of the memory server: its bounds, its clock, its end. */
import { afterEach, describe, expect, it } from 'vitest'
import type { Clock } from '../../namespace/clock.ts'
import { contextFor, type Context } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer, type MemoryServerOptions } from '../../namespace/memory/memory-server.ts'
import { parsePath, type Path } from '../../namespace/path.ts'
import { decodePosition } from '../../namespace/position.ts'
import { bytesOf, fails, textOf } from '../conformance/suite/tools.ts'

const owner = { name: 'owner', groups: [] }
const at = parsePath
const servers: MemoryServer[] = []

function make(options: Partial<MemoryServerOptions> = {}): MemoryServer {
  const server = new MemoryServer({ owner: owner.name, ...options })
  servers.push(server)
  return server
}

function context(more: Partial<Context> = {}): Context {
  return { ...contextFor(owner), ...more }
}

function put(server: MemoryServer, path: string, value: string | Uint8Array): ReturnType<MemoryServer['write']> {
  return server.write(context(), at(path), bytesOf(value))
}

afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

describe('history of a memory server', () => {
  it('forgets the oldest revisions, and says where to go on', async () => {
    const server = make({ historyRevisionsMax: 10 })
    const first = await put(server, '/f', '0')
    const old = await server.list(context(), at('/'), { limit: 1 })
    for (let i = 1; i <= 30; i++) await put(server, `/f${i % 3}`, `${i}`)
    await fails(server.read(context(), at('/f'), { at: first.position }), 'compacted', '/f')
    await fails(server.stat(context(), at('/f'), { at: 1 }), 'compacted')
    expect(old.next).toBeUndefined()
    const watching = server.watch(context(), at('/'), { from: first.position })[Symbol.asyncIterator]()
    const end = await fails(watching.next(), 'compacted', '/')
    expect((await watching.next()).done).toBe(true)
    const again = server.watch(context(), at('/'), { from: decodePosition(end.resume!) })[Symbol.asyncIterator]()
    const step = await again.next()
    expect(step.done === true ? [] : step.value.events.map((event) => event.position[0]!.revision)).toEqual(
      Array.from({ length: 10 }, (_, i) => 22 + i),
    )
    await again.return?.()
  })

  it('shows every kept revision as it was', async () => {
    const server = make({ historyRevisionsMax: 20 })
    const positions = []
    for (let i = 0; i < 50; i++) positions.push((await put(server, '/f', `${i}`)).position)
    for (let i = 30; i < 50; i++) {
      expect(textOf((await server.read(context(), at('/f'), { at: positions[i]! })).bytes)).toBe(`${i}`)
    }
    await fails(server.read(context(), at('/f'), { at: positions[28]! }), 'compacted')
  })

  it('a cursor whose revision is gone is compacted', async () => {
    const server = make({ historyRevisionsMax: 5 })
    for (let i = 0; i < 5; i++) await put(server, `/f${i}`, '')
    const page = await server.list(context(), at('/'), { limit: 2 })
    for (let i = 0; i < 10; i++) await put(server, '/g', `${i}`)
    await fails(server.list(context(), at('/'), { limit: 2, cursor: page.next }), 'compacted')
  })

  it('names taken away are forgotten with it, and made again', async () => {
    const server = make({ historyRevisionsMax: 4 })
    for (let i = 0; i < 100; i++) {
      await put(server, `/d${i}`, 'x')
      await server.remove(context(), at(`/d${i}`))
    }
    await put(server, '/d5', 'again')
    const { entries } = await server.list(context(), at('/'))
    expect(entries.map((entry) => entry.name)).toEqual(['d5'])
  })
})

describe('bounds of a memory server', () => {
  const big = new Uint8Array(limits.write_bytes_max)

  it('a full server answers no_space, goes on, and takes more when something was removed', async () => {
    const server = make()
    const fits = Math.floor(limits.memory_bytes_max / big.length)
    for (let i = 0; i < fits; i++) await put(server, `/f${i}`, big)
    await fails(put(server, '/more', big), 'no_space')
    expect((await server.stat(context(), at('/f0'))).stat.size).toBe(big.length)
    await server.remove(context(), at('/f0'))
    await put(server, '/more', big)
    await fails(
      put(server, '/f1', new Uint8Array(big.length)).then(() => put(server, '/again', big)),
      'no_space',
    )
  })

  it('values that were replaced make room for new ones', async () => {
    const server = make()
    for (let i = 0; i < 200; i++) await put(server, '/f', big)
    expect((await server.stat(context(), at('/f'))).stat.version).toBe(200)
  })

  it('a removed tree makes room', async () => {
    const server = make()
    const half = Math.floor(limits.memory_bytes_max / big.length / 2) + 1
    for (let round = 0; round < 4; round++) {
      await server.mkdir(context(), at('/d'))
      for (let i = 0; i < half; i++) await put(server, `/d/f${i}`, big)
      await server.remove(context(), at('/d'), { recursive: true })
    }
  })

  it('offsets far out do not take memory', async () => {
    const server = make()
    await fails(server.write(context(), at('/f'), bytesOf('x'), { at: limits.file_bytes_max - 1 }), 'no_space')
    await put(server, '/f', 'x')
    await fails(server.setStat(context(), at('/f'), { size: limits.file_bytes_max }), 'no_space')
    const { handle } = await server.open(context(), at('/f'), { write: true })
    await fails(server.truncateHandle(context(), handle, 2 ** 40), 'no_space')
    await fails(server.writeHandle(context(), handle, bytesOf('x'), 2 ** 40), 'no_space')
    await server.closeHandle(context(), handle)
    expect((await server.stat(context(), at('/f'))).stat.size).toBe(1)
  })

  it('what a dropped handle staged is given back', async () => {
    const server = make()
    for (let i = 0; i < 200; i++) {
      const { handle } = await server.open(context({ session: i }), at('/f'), { write: true, create: true })
      await server.writeHandle(context({ session: i }), handle, big, 0)
      if (i % 2 === 0) server.closeSession(i)
      else await server.closeHandle(context({ session: i }), handle, { discard: true })
      if (i % 2 === 0) await fails(server.statHandle(context({ session: i }), handle), 'invalid')
    }
    expect((await server.list(context(), at('/'))).entries).toEqual([])
  })

  it('handles of one session are bounded', async () => {
    const server = make()
    await put(server, '/f', 'x')
    const mine = context({ session: 1 })
    for (let i = 0; i < limits.session_handles_max; i++) await server.open(mine, at('/f'), { read: true })
    await fails(server.open(mine, at('/f'), { read: true }), 'overloaded')
    await server.open(context({ session: 2 }), at('/f'), { read: true })
    server.closeSession(1)
    await server.open(mine, at('/f'), { read: true })
  })

  it('a slow watcher ends with overloaded exactly where its queue was full', async () => {
    const server = make()
    const watching = server.watch(context(), at('/'))[Symbol.asyncIterator]()
    // Where it begins; from then on it waits for what comes.
    await watching.next()
    const first = watching.next()
    await put(server, '/first', '')
    await first
    const total = limits.watch_queue_events_max + 10
    for (let i = 0; i < total; i++) await server.create(context(), at(`/f${i}`))
    const rest = await watching.next()
    expect(rest.done === true ? 0 : rest.value.events.length).toBe(limits.watch_queue_events_max)
    const end = await fails(watching.next(), 'overloaded', '/')
    expect(rest.done === true ? [] : rest.value.position).toEqual(decodePosition(end.resume!))
    const again = server.watch(context(), at('/'), { from: decodePosition(end.resume!) })[Symbol.asyncIterator]()
    const left = await again.next()
    expect(left.done === true ? [] : left.value.events.map((event) => event.path)).toEqual(
      Array.from({ length: 10 }, (_, i) => `/f${limits.watch_queue_events_max + i}`),
    )
    await again.return?.()
  })
})

describe('time of a memory server', () => {
  it('grows by its own, whatever the clock does, and is later than what the caller saw', async () => {
    let now = 1_000_000_000_000_000
    const clock: Clock = { now: () => now, monotonic: () => 0 }
    const server = make({ clock })
    const times: number[] = []
    const modified = async (path: Path = at('/f')): Promise<void> => {
      times.push((await server.stat(context(), path)).stat.modifiedAt)
    }
    for (const step of [0, 5, -1_000_000, 0, 10]) {
      now += step
      await put(server, '/f', 'x')
      await modified()
    }
    expect(times).toEqual([...times].sort((a, b) => a - b))
    expect(new Set(times).size).toBe(times.length)
    const seen = now + 2_000_000
    await server.write(context({ time: seen }), at('/f'), bytesOf('x'))
    await modified()
    expect(times.at(-1)).toBe(seen + 1)
    const ahead = now + limits.clock_ahead_ms_max * 1000 + 1
    await fails(server.write(context({ time: ahead }), at('/f'), bytesOf('x')), 'invalid')
  })
})

describe('the end of a memory server', () => {
  it('ends watches and waits, and refuses changes', async () => {
    const server = make()
    const { lease } = await server.grantLease(context(), 60_000)
    const other = await server.grantLease(context(), 60_000)
    await server.lock(context(), at('/lock'), lease)
    const waiting = server.lock(context(), at('/lock'), other.lease)
    const watching = server.watch(context(), at('/'))[Symbol.asyncIterator]()
    await watching.next()
    const next = watching.next()
    server.close()
    await fails(waiting, ['unavailable', 'not_found'])
    await fails(next, 'unavailable')
    await fails(put(server, '/f', 'x'), 'unavailable')
  })

  it('a lease is used by who it was granted to', async () => {
    const server = make()
    const { lease } = await server.grantLease(context(), 60_000)
    const stranger = { ...context(), principal: { name: 'eve', groups: [] } }
    await fails(server.renewLease(stranger, lease), 'denied')
    await fails(server.revokeLease(stranger, lease), 'denied')
    await server.setRights(context(), at('/'), [{ who: '*', rights: ['create', 'write', 'list'] }])
    await fails(server.create(stranger, at('/f'), { lease }), 'denied')
    await fails(server.lock(stranger, at('/l'), lease), 'denied')
    expect((await server.list(context(), at('/'))).entries).toEqual([])
    await server.renewLease(context(), lease)
  })
})
