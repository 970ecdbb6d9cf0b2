/**
 * A client of several nodes, in this process: three edges over one file server that stands for their store, each with a proxy before it,
 * and what they tell of their leader in the test's hands.
 */
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../namespace/clock.ts'
import type { Context } from '../../namespace/context.ts'
import { contextFor } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer, WatchEvent } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import type { ConnectOptions, RemoteSession } from '../../namespace/remote/connect.ts'
import { connectRemote } from '../../namespace/remote/connect.ts'
import type { Tell } from '../../namespace/remote/handshake.ts'
import type { GrpcEdgeOptions } from '../../services/grpc/edge.ts'
import { until } from '../cluster/processes.ts'
import { overriding, owner, startNode, tokenOf } from '../grpc/node.ts'
import type { TestNode } from '../grpc/node.ts'
import { startProxy } from '../grpc/proxy.ts'
import type { Proxy } from '../grpc/proxy.ts'
import { failure } from '../node/running.ts'

const file = parsePath('/data/file')
const context = (ms?: number): Context => contextFor(owner, ms)

/** One node and what it does with requests. */
class Station {
  readonly name: string
  readonly asked: string[] = []
  readonly clients = new Set<string>()
  node!: TestNode
  proxy!: Proxy
  /** Instead of the append to the store. */
  append: ((then: () => Promise<unknown>) => Promise<unknown>) | undefined
  leader = 'n1'
  term = 1
  server!: FileServer
  readonly #tells: Tell[] = []
  #sessions = 0

  constructor(name: string) {
    this.name = name
  }

  async start(memory: MemoryServer, options: Partial<GrpcEdgeOptions> = {}): Promise<void> {
    const server = (this.server = overriding(memory, {
      write: async (...args) => {
        this.asked.push('write')
        this.clients.add(`${args[0].client?.id ?? ''} ${args[0].client?.born ?? ''}`)
        const then = (): ReturnType<MemoryServer['write']> => memory.write(...args)
        return (await (this.append === undefined ? then() : this.append(then))) as Awaited<ReturnType<MemoryServer['write']>>
      },
      stat: (...args) => {
        this.asked.push('stat')
        return memory.stat(...args)
      },
    }))
    this.node = await startNode(server, {
      name: this.name,
      cluster: 'c1',
      openSession: () => ({ server, session: ++this.#sessions, follow: (tell) => this.follow(tell) }),
      ...options,
    })
    this.proxy = await startProxy(this.node.edge.address)
  }

  /** What it says of its leader from now on. */
  tell(leader: string, term = this.term): void {
    Object.assign(this, { leader, term })
    for (const tell of this.#tells) this.#say(tell)
  }

  follow(tell: Tell): void {
    this.#tells.push(tell)
    this.#say(tell)
  }

  #say(tell: Tell): void {
    tell({ roots: [{ path: parsePath('/data'), leader: this.leader, term: this.term }], nodes: [] })
  }

  async close(): Promise<void> {
    await this.node.close()
    await this.proxy.close()
  }
}

let memory: MemoryServer
let stations: [Station, Station, Station]
const sessions: RemoteSession[] = []

beforeEach(async () => {
  memory = new MemoryServer({ owner: owner.name })
  await memory.mkdir(context(), parsePath('/data'))
  await memory.write(context(), file, Buffer.from(''))
  stations = [new Station('n1'), new Station('n2'), new Station('n3')]
  for (const station of stations) await station.start(memory)
})

afterEach(async () => {
  for (const session of sessions.splice(0)) await session.close()
  for (const station of stations) await station.close()
  memory.close()
})

/** At home at n1, in the order of the nodes. */
async function connect(options: Partial<ConnectOptions> = {}): Promise<RemoteSession> {
  const address = stations.map(({ proxy }) => proxy.address)
  const session = await connectRemote({ address, token: tokenOf(owner), isInOrder: true, random: () => 0, ...options })
  sessions.push(session)
  return session
}

function append(session: RemoteSession, text: string, ms?: number): Promise<unknown> {
  return session.server.write(context(ms), file, Buffer.from(text), { at: 'append' })
}

async function text(): Promise<string> {
  return Buffer.from((await memory.read(context(), file)).bytes).toString()
}

function refusing(kind: 'unavailable' | 'overloaded', outcome: 'none' | 'unknown' = 'none'): () => Promise<unknown> {
  return () => Promise.reject(new NineError({ kind, op: 'store.write', message: 'not now', outcome }))
}

describe('one node that is away for long', () => {
  const away = async (options: Partial<ConnectOptions>) => {
    let passed = 0
    const clock = { now: () => systemClock.now(), monotonic: () => systemClock.monotonic() + passed }
    const [{ proxy }] = stations
    const session = await connect({ address: proxy.address, clock, ...options })
    proxy.refuse(true)
    proxy.cut()
    await until('it is lost', 5_000, () => session.status().nodes[0]!.state !== 'open')
    return { proxy, session, pass: (ms: number) => (passed += ms) }
  }

  it('is waited for by what has a deadline until then, by what has none as long as a connection is made again', async () => {
    const { proxy, session, pass } = await away({ isPatient: true })
    const appended = append(session, 'early', 60_000)
    const short = failure(append(session, 'x', 2 * limits.reconnect_ms_max), 'deadline')
    const endless = session.server.stat({ principal: owner, deadline: Infinity }, file)
    pass(1.5 * limits.reconnect_ms_max)
    await failure(endless, 'unavailable')
    const late = append(session, ',late', 60_000)
    await failure(session.server.stat({ principal: owner, deadline: Infinity }, file), 'unavailable')
    pass(limits.reconnect_ms_max)
    const { message, outcome } = await short
    expect([message, outcome]).toEqual([expect.stringMatching(/^it waited for the node until its deadline: ./), 'none'])
    proxy.refuse(false)
    await Promise.all([appended, late])
    expect(await text()).toBe('early,late')
  })

  it('is not waited for where a mount is to answer soon', async () => {
    const { session, pass } = await away({})
    const appended = append(session, 'x', 60_000)
    pass(limits.reconnect_ms_max)
    await failure(appended, 'unavailable')
  })
})

describe('a node that goes away', () => {
  it.each([
    ['in what all have', file],
    ['in what is its own', parsePath('/own')],
  ])('fails none of the requests %s that cross its goodbye, of those that are under way or that come', async (_, path) => {
    await memory.write(context(), path, Buffer.from(''))
    const session = await connect()
    const count = 600
    const letters = Array.from({ length: count }, (_, index) => `${index};`)
    const results: Promise<unknown>[] = []
    const closed: Promise<void>[] = []
    for (const [index, letter] of letters.entries()) {
      results.push(session.server.write(context(), path, Buffer.from(letter), { at: 'append' }))
      if (index === 200 || index === 400) closed.push(stations[index / 200 - 1]!.node.edge.close(1_000))
      if (index % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await Promise.all(results)
    await Promise.all(closed)
    const written = Buffer.from((await memory.read(context(), path)).bytes).toString()
    const parts = written.split(';').slice(0, -1)
    expect(parts.length).toBe(count)
    expect(new Set(parts).size).toBe(count)
    expect(session.status().nodes.find(({ isHome }) => isHome)?.node).toBe('n3')
    expect(session.status().nodes[0]!.left).toContain('shutting down')
  })

  it('hands its watches on without a gap', async () => {
    const session = await connect()
    const events: WatchEvent[] = []
    const stop = new AbortController()
    const watching = (async () => {
      for await (const batch of session.server.watch({ ...context(), signal: stop.signal }, parsePath('/data'), { recursive: true })) {
        events.push(...batch.events)
        if (events.length >= 100) return
      }
    })()
    await append(session, 'first')
    // While something is under way the node tells its watchers that it leaves.
    let release: () => void = () => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    stations[0].append = (then) => {
      stations[0].append = undefined
      return held.then(then)
    }
    const waiting = append(session, 'held')
    for (let index = 1; index < 100; index++) {
      if (index === 30) void stations[0].node.edge.close(1_000)
      if (index === 50) release()
      if (index === 60) stations[1].proxy.cut()
      await memory.write(context(), parsePath(`/data/${index}`), Buffer.from('x'))
      if (index % 10 === 0) await append(session, '').then(() => undefined)
    }
    await waiting
    await watching
    const paths = events.map(({ path }) => path).filter((path) => path !== '/data/file')
    expect(paths).toEqual(paths.map((_, index) => `/data/${index + 1}`))
    expect(paths.length).toBeGreaterThan(80)
    stop.abort()
  })
})

describe('a change that a node cannot take', () => {
  it('is asked of another, with the same number', async () => {
    const session = await connect()
    stations[0].append = refusing('unavailable')
    for (let turn = 0; turn < 10; turn++) await append(session, `${turn};`)
    expect(await text()).toBe('0;1;2;3;4;5;6;7;8;9;')
    expect(stations[0].asked.filter((what) => what === 'write').length).toBe(10)
    expect(new Set(stations.flatMap(({ clients }) => [...clients])).size).toBe(1)
  })

  it('fails with what was refused when none can until the deadline: did not happen', async () => {
    const session = await connect()
    for (const station of stations) station.append = refusing('unavailable')
    const error = await failure(append(session, 'x', 700), 'unavailable')
    expect(error.outcome).toBe('none')
    expect(await text()).toBe('')
  })

  it('is asked again for as long as its caller waits, not as long as a connection is made again', async () => {
    let passed = 0
    const session = await connect({ clock: { now: () => systemClock.now(), monotonic: () => systemClock.monotonic() + passed } })
    for (const station of stations) station.append = refusing('unavailable')
    const appended = append(session, 'late', 600_000)
    await until('all were asked', 5_000, () => stations.every(({ asked }) => asked.includes('write')))
    passed += 2 * limits.reconnect_ms_max
    const tries = (): number => stations.reduce((sum, { asked }) => sum + asked.length, 0)
    const before = tries()
    await until('all are asked on', 5_000, () => tries() > before + 3)
    for (const station of stations) station.append = undefined
    await appended
    expect(await text()).toBe('late')
  })

  it('is unknown for ever once one node does not know, whatever the others say afterwards', async () => {
    const session = await connect()
    stations[0].append = () => {
      stations[0].append = refusing('overloaded')
      return refusing('unavailable', 'unknown')()
    }
    stations[1].append = refusing('overloaded')
    stations[2].append = refusing('overloaded')
    const error = await failure(append(session, 'x', 700), 'overloaded')
    expect(error.outcome).toBe('unknown')
  })

  it('that happened and was not answered is not said to have failed because the next node is too busy', async () => {
    const session = await connect()
    const [first, second, third] = stations
    first.append = async (then) => {
      await then()
      first.proxy.cut()
      first.proxy.refuse(true)
      return new Promise(() => undefined)
    }
    second.append = refusing('overloaded')
    third.append = refusing('overloaded')
    const error = await failure(append(session, 'x', 1_000), 'overloaded')
    expect(error.outcome).toBe('unknown')
    expect(await text()).toBe('x')
    // And where one takes it after all, it was one.
    second.append = undefined
    first.append = undefined
    await append(session, 'y')
    expect(await text()).toBe('xy')
  })

  it('is overloaded at once when it was never sent elsewhere', async () => {
    const session = await connect()
    for (const station of stations) station.append = refusing('overloaded')
    const error = await failure(append(session, 'x'), 'overloaded')
    expect(error.outcome).toBe('none')
    expect(stations.flatMap(({ asked }) => asked)).toEqual(['write'])
  })

  it('takes effect once through a node whose clock is behind', async () => {
    const behind = new Station('n2')
    await stations[1].close()
    const clock = { now: () => systemClock.now() - 3_600_000_000, monotonic: () => systemClock.monotonic() }
    await behind.start(memory, { clock })
    stations[1] = behind
    const session = await connect()
    stations[0].append = async (then) => {
      await then()
      stations[0].proxy.cut()
      stations[0].proxy.refuse(true)
      return new Promise(() => undefined)
    }
    stations[2].proxy.refuse(true)
    stations[2].proxy.cut()
    await append(session, 'once;')
    expect(behind.asked).toContain('write')
    expect(new Set([...stations[0].clients, ...behind.clients]).size).toBe(1)
    expect(await text()).toBe('once;')
  })
})

describe('a node that stands apart', () => {
  it('knows no leader for long, and is left for one that does; what waited there is answered elsewhere', async () => {
    const session = await connect({ route: 'any' })
    stations[0].append = () => new Promise(() => undefined)
    const waiting = append(session, 'x')
    stations[0].tell('')
    for (const station of stations.slice(1)) station.tell('n2', 2)
    await waiting
    expect(await text()).toBe('x')
    expect(session.status().nodes[0]!.left).toContain('knew no leader')
    expect(session.status().nodes.find(({ isHome }) => isHome)!.node).not.toBe('n1')
  })

  it('and believes in a leader of an earlier term is not believed', async () => {
    const session = await connect()
    await append(session, 'a')
    expect(stations[0].asked.filter((what) => what === 'write').length).toBe(1)
    stations[1].tell('n2', 3)
    stations[2].tell('n2', 3)
    await until('n2 is followed', 1_000, () => session.status().nodes[1]!.leads.length > 0)
    stations[0].tell('n1', 2)
    for (let turn = 0; turn < 5; turn++) await append(session, 'b')
    expect(stations[0].asked.filter((what) => what === 'write').length).toBe(1)
    expect(stations[1].asked.filter((what) => what === 'write').length).toBe(5)
  })

  it('says nothing any more: what waits there is asked again elsewhere, once', async () => {
    const session = await connect()
    await append(session, 'a')
    stations[0].proxy.freeze()
    const began = performance.now()
    await append(session, 'b')
    expect(performance.now() - began).toBeLessThan(limits.nodes_silent_ms_max + 5_000)
    expect(await text()).toBe('ab')
  })
})

describe('connecting', () => {
  it('goes on to the next when one does not answer soon, under one identity', async () => {
    const [first] = stations
    await first.close()
    const silent = await startProxy(stations[1].node.edge.address)
    const address = [silent.address, stations[1].proxy.address, stations[2].proxy.address]
    const freezing = setInterval(() => silent.freeze(), 1)
    const began = performance.now()
    const session = await connect({ address })
    clearInterval(freezing)
    expect(performance.now() - began).toBeLessThan(limits.nodes_stagger_ms + limits.nodes_check_ms + 2_000)
    stations[1].tell('n2', 2)
    stations[2].tell('n3', 3)
    await until('n3 is followed', 1_000, () => session.status().nodes[2]!.leads.length > 0)
    await append(session, 'x')
    stations[2].tell('n2', 4)
    await until('n2 is followed', 1_000, () => session.status().nodes.some(({ node, leads }) => node === 'n2' && leads.length > 0))
    await append(session, 'y')
    expect(new Set([...stations[1].clients, ...stations[2].clients]).size).toBe(1)
    await silent.close()
    await first.start(memory)
  })

  it('gives one that answers late the identity that it has by then', async () => {
    const [first, second] = stations
    await first.close()
    let wait = 2 * limits.nodes_stagger_ms
    await first.start(memory, {
      authenticate: () => owner,
      openSession: async () => {
        await new Promise((resolve) => setTimeout(resolve, wait))
        wait = 0
        return { server: first.server, session: 1, follow: (tell) => first.follow(tell) }
      },
    })
    const session = await connect()
    expect(session.status().nodes.find(({ isHome }) => isHome)?.node).toBe('n2')
    await until('n1 is followed', 5_000, () => session.status().nodes[0]!.leads.length > 0)
    second.append = refusing('unavailable')
    await append(session, 'x')
    first.append = refusing('unavailable')
    second.append = undefined
    await append(session, 'y')
    expect(await text()).toBe('xy')
    expect(new Set([...first.clients, ...second.clients]).size).toBe(1)
  })

  it('leaves nothing of a node that does not answer behind when it is closed', { timeout: limits.handshake_ms / 2 }, async () => {
    const silent = createServer().listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const taken = once(silent, 'connection') as Promise<[Socket]>
    const { port } = silent.address() as AddressInfo
    const session = await connect({ address: [`127.0.0.1:${port}`, stations[1].proxy.address], route: 'any' })
    const [socket] = await taken
    socket.resume()
    const ended = once(socket, 'close')
    await session.close()
    await ended
    silent.close()
  })

  it('says which node opens no session, after the time that it is given', async () => {
    const silent = createServer((socket) => void socket.resume()).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    const error = await failure(connect({ address: `127.0.0.1:${port}`, openMs: 20 }), 'deadline')
    expect(error.message).toBe(`127.0.0.1:${port} took the connection, and opened no session in time`)
    silent.close()
  })

  it('says of each node why, when none can be used', async () => {
    const addresses = ['127.0.0.1:1', stations[0].proxy.address]
    const error = await failure(connect({ address: addresses, token: 'nobody' }), 'unavailable')
    expect(error.message).toMatch(/127\.0\.0\.1:1: .*refused.*; .*token/i)
    await failure(connect({ address: stations.map(({ proxy }) => proxy.address), token: 'nobody' }), 'unauthenticated')
  })

  it('refuses nodes that do not say of which cluster they are, and one that takes it for somebody else', async () => {
    const [first, second] = stations
    await second.close()
    await second.start(memory, { cluster: undefined })
    expect((await failure(connect(), 'invalid')).message).toContain('does not name')
    await second.close()
    await second.start(memory, { authenticate: () => ({ name: 'somebody', groups: [] }) })
    const error = await failure(connect(), 'invalid')
    expect(error.message).toContain('somebody')
    expect(error.message).toContain(first.proxy.address)
  })

  it('with one address is told nothing, and asks nobody else', async () => {
    const session = await connect({ address: stations[1].proxy.address })
    await append(session, 'x')
    await session.server.stat(context(), file, { consistency: 'stale' })
    expect(stations[1].asked).toEqual(['write', 'stat'])
    expect(session.status().nodes).toMatchObject([{ state: 'open', isHome: true, leads: [] }])
    expect(stations[0].asked).toEqual([])
  })
})
