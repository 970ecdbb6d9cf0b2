/** Under which identity a session's mutations go: further ones beside a mutation that takes long, new ones after long pauses. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../namespace/clock.ts'
import type { Clock } from '../../namespace/clock.ts'
import type { Context } from '../../namespace/context.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import type { RemoteSession } from '../../namespace/remote/connect.ts'
import { overriding, owner, startNode } from './node.ts'
import type { TestNode } from './node.ts'
import { startProxy } from './proxy.ts'
import type { Proxy } from './proxy.ts'

const context: Context = { principal: owner, deadline: Infinity }
const file = parsePath('/file')
const slow = parsePath('/slow')

let memory: MemoryServer
let node: TestNode
let proxy: Proxy
let session: RemoteSession
/** Milliseconds by which all clocks are ahead. */
let ahead = 0
/** Where the node's clock stays, if it does. */
let nodeStoodAt: number | undefined
/** Clients of the writes that arrived. */
let clients: string[] = []
let release: () => void = () => undefined
let sessions = 0

beforeEach(async () => {
  ahead = 0
  clients = []
  sessions = 0
  nodeStoodAt = undefined
  const clockOf = (time: () => number): Clock => ({
    now: () => systemClock.now() + time() * 1000,
    monotonic: () => systemClock.monotonic() + time(),
  })
  const clock = clockOf(() => ahead)
  memory = new MemoryServer({ owner: owner.name, clock })
  const held = new Promise<void>((resolve) => (release = resolve))
  const server: FileServer = overriding(memory, {
    write: async (...args) => {
      clients.push(args[0].client?.id ?? '')
      if (args[1] === slow) await held
      return memory.write(...args)
    },
  })
  node = await startNode(server, { clock: clockOf(() => nodeStoodAt ?? ahead), openSession: () => ({ server, session: ++sessions }) })
  proxy = await startProxy(node.edge.address)
  session = await node.connect({ address: proxy.address, clock, random: () => 0 })
  await memory.write(context, file, Buffer.from(''))
})

afterEach(async () => {
  release()
  await node.close()
  await proxy.close()
  memory.close()
})

/** Time passes in which the client only reads. */
async function pause(): Promise<void> {
  for (let left = Number(limits.client_idle_ms); left >= 0; left -= 9_000) {
    ahead += 9_000
    await session.server.stat(context, file)
  }
}

function append(text: string): Promise<unknown> {
  return session.server.write(context, file, Buffer.from(text), { at: 'append' })
}

async function size(): Promise<number> {
  return (await memory.stat(context, file)).stat.size ?? -1
}

/** As many other clients as make a server forget whom it has not seen for longer. */
async function crowd(): Promise<void> {
  const born = systemClock.now() + ahead * 1000
  for (let index = 0; index <= limits.clients_max; index++) {
    await memory.write({ ...context, client: { id: `other-${index}`, born, settled: 0 }, seq: 1 }, parsePath('/other'), Buffer.from(''))
  }
}

describe('beside a mutation that takes long', () => {
  it('thousands go on under further identities, each once over cuts', async () => {
    const long = session.server.write(context, slow, Buffer.from('x'))
    const count = limits.client_results_max * 2
    let done = 0
    while (done < count) {
      if (done % 4_000 === 2_000) proxy.cutAfter('toClient', 5_000)
      await Promise.all(Array.from({ length: 200 }, () => append('x')))
      done += 200
    }
    expect(await size()).toBe(done)
    // The one it began with is held up; another is as good as new whenever its answers have come.
    expect(new Set(clients).size).toBe(2)
    expect(sessions).toBeGreaterThan(2)
    release()
    await long
    expect(Buffer.from((await memory.read(context, slow)).bytes).toString()).toBe('x')
  })
})

describe('after a long pause', () => {
  it('the first change goes under a new identity, those beside it under the same', async () => {
    await append('a')
    await pause()
    await Promise.all(['b', 'c', 'd'].map(append))
    await append('e')
    expect(new Set(clients.slice(1)).size).toBe(1)
    expect(clients[1]).not.toBe(clients[0])
    expect(Buffer.from((await memory.read(context, file)).bytes).toString()).toBe('abcde')
  })

  it.each([
    ['the first one', 0],
    ['one after others', 1],
  ] as const)('a change is done although its client was forgotten meanwhile: %s', async (_name, before) => {
    for (let index = 0; index < before; index++) await append('x')
    await pause()
    await crowd()
    await append('x')
    expect(await size()).toBe(before + 1)
  })

  it('more pauses than a session has identities at once', async () => {
    const pauses = limits.session_clients_max + 6
    for (let index = 0; index < pauses; index++) {
      await append('x')
      await pause()
    }
    expect(new Set(clients).size).toBe(pauses)
    expect(sessions).toBe(1)
  })

  it('changes go on when the node gives no more identities', async () => {
    nodeStoodAt = ahead
    const pauses = limits.session_clients_max + 6
    for (let index = 0; index < pauses; index++) {
      await append('x')
      await pause()
    }
    expect(await size()).toBe(pauses)
    expect(new Set(clients).size).toBe(limits.session_clients_max + 1)
  })

  it('a change takes effect once, wherever the connection is cut meanwhile', async () => {
    for (let bytes = 0; bytes < 100; bytes += 9) {
      await pause()
      proxy.cutAfter(bytes % 2 === 0 ? 'toClient' : 'toServer', bytes)
      await append('x')
      expect(await size()).toBe(bytes / 9 + 1)
      proxy.cutAfter('toClient', Infinity)
      proxy.cutAfter('toServer', Infinity)
    }
  })

  it('who waits for an identity waits no longer than its deadline or signal, and nothing happened', async () => {
    await append('x')
    await pause()
    proxy.refuse(true)
    proxy.cut()
    const soon = { ...context, deadline: systemClock.monotonic() + ahead + 150 }
    const controller = new AbortController()
    const late = session.server.write(soon, file, Buffer.from('late'))
    const cancelled = session.server.write({ ...context, signal: controller.signal }, file, Buffer.from('cancelled'))
    controller.abort()
    await expect(cancelled).rejects.toMatchObject({ kind: 'deadline', outcome: 'none' })
    await expect(late).rejects.toMatchObject({ kind: 'deadline', outcome: 'none' })
    proxy.refuse(false)
    await append('y')
    expect(Buffer.from((await memory.read(context, file)).bytes).toString()).toBe('xy')
  })

  it('closing the client ends who waits for an identity', async () => {
    await pause()
    proxy.refuse(true)
    proxy.cut()
    const write = append('x')
    await session.close()
    await expect(write).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
  })
})
