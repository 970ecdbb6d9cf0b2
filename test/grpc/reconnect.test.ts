/** Connections that are lost at the worst moments, through a proxy that cuts them. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer, WatchBatch, WatchEvent } from '../../namespace/file-server.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import type { RemoteSession } from '../../namespace/remote/connect.ts'
import { overriding, owner, startNode } from './node.ts'
import type { TestNode } from './node.ts'
import { startProxy } from './proxy.ts'
import type { Proxy } from './proxy.ts'

const context = (ms?: number): ReturnType<typeof contextFor> => contextFor(owner, ms)
const file = parsePath('/file')

let memory: MemoryServer
let node: TestNode
let proxy: Proxy
let session: RemoteSession

beforeEach(async () => {
  memory = new MemoryServer({ owner: owner.name })
  node = await startNode(memory)
  proxy = await startProxy(node.edge.address)
  session = await node.connect({ address: proxy.address, random: () => 0 })
})

afterEach(async () => {
  await node.close()
  await proxy.close()
  memory.close()
})

async function textAt(server: FileServer, path = file): Promise<string> {
  return Buffer.from((await server.read(context(), path)).bytes).toString()
}

describe('reconnection', () => {
  it('appends once, wherever the answer is cut off', async () => {
    await session.server.write(context(), file, Buffer.from(''))
    let expected = ''
    for (let bytes = 0; bytes < 60; bytes += 7) {
      proxy.cutAfter('toClient', bytes)
      const letter = String.fromCharCode(97 + bytes / 7)
      await session.server.write(context(), file, Buffer.from(letter), { at: 'append' })
      expected += letter
    }
    expect(await textAt(memory)).toBe(expected)
    expect(proxy.accepted).toBeGreaterThan(5)
  })

  it('appends once, wherever the request is cut off', async () => {
    await session.server.write(context(), file, Buffer.from(''))
    let expected = ''
    for (let bytes = 0; bytes < 60; bytes += 7) {
      proxy.cutAfter('toServer', bytes)
      const letter = String.fromCharCode(97 + bytes / 7)
      await session.server.write(context(), file, Buffer.from(letter), { at: 'append' })
      expected += letter
    }
    expect(await textAt(memory)).toBe(expected)
  })

  it('answers each of many pipelined appends once over many cuts', async () => {
    await session.server.write(context(), file, Buffer.from(''))
    const count = 400
    const letters = Array.from({ length: count }, (_, index) => String.fromCharCode(33 + (index % 90)))
    proxy.cutAfter('toClient', 3_000)
    const results = letters.map((letter) => session.server.write(context(), file, Buffer.from(letter), { at: 'append' }))
    await proxy.nextCut()
    proxy.cutAfter('toClient', 5_001)
    await Promise.all(results)
    const text = await textAt(memory)
    expect(text.length).toBe(count)
    expect([...text].sort().join('')).toBe([...letters].sort().join(''))
  })

  it('continues a watch without loss or repetition', async () => {
    const events: WatchEvent[] = []
    const count = 200
    const stop = new AbortController()
    const watch = session.server.watch({ ...context(), signal: stop.signal }, parsePath('/'), { from: 1, recursive: true })
    const watched = (async () => {
      for await (const batch of watch) {
        events.push(...batch.events)
        if (events.length >= count) break
      }
    })()
    for (let index = 0; index < count; index++) {
      if (index % 23 === 5) proxy.cutAfter('toClient', index * 3)
      await memory.write(context(), parsePath(`/f${index}`), Buffer.from('x'))
      if (index % 40 !== 39) continue
      proxy.cut()
      await session.server.stat(context(), file).catch(() => undefined)
    }
    await watched
    expect(events.map(({ path }) => path)).toEqual(Array.from({ length: count }, (_, index) => `/f${index}`))
    expect(proxy.accepted).toBeGreaterThan(3)
  })

  it('continues a watch that has seen no event yet', async () => {
    const watch = session.server.watch(context(), parsePath('/'), { recursive: true })[Symbol.asyncIterator]()
    expect((await watch.next()).value).toMatchObject({ events: [] })
    const next = watch.next()
    proxy.refuse(true)
    proxy.cut()
    await memory.write(context(), file, Buffer.from('meanwhile'))
    proxy.refuse(false)
    let step = await next
    while (step.done !== true && step.value.events.length === 0) step = await watch.next()
    expect((step.value as WatchBatch).events.map(({ path }) => path)).toEqual(['/file'])
    await watch.return?.()
  })

  it('a handle ends with its connection, and is not another one afterwards', async () => {
    await session.server.write(context(), file, Buffer.from('value'))
    const { handle } = await session.server.open(context(), file, { read: true })
    expect((await session.server.readHandle(context(), handle, 0, 10)).bytes.length).toBe(5)
    proxy.cut()
    await session.server.stat(context(), file)
    await session.server.open(context(), file, { read: true })
    await expect(session.server.readHandle(context(), handle, 0, 10)).rejects.toMatchObject({ kind: 'unavailable' })
  })

  it('drops what an atomic handle staged when the connection goes', async () => {
    await session.server.write(context(), file, Buffer.from('old'))
    const { handle } = await session.server.open(context(), file, { write: true, truncate: true })
    await session.server.writeHandle(context(), handle, Buffer.from('new'), 0)
    proxy.cut()
    await session.server.stat(context(), file)
    expect(await textAt(memory)).toBe('old')
  })

  it('what was sent and cannot be asked again ends with outcome unknown, what was not sent with none', async () => {
    const held = new Promise<never>(() => undefined)
    const slow: FileServer = overriding(memory, { write: () => held, stat: () => held })
    const slowNode = await startNode(slow)
    const client = await slowNode.connect()
    const write = client.server.write(context(200), file, Buffer.from('x'))
    const stat = client.server.stat(context(200), file)
    await expect(write).rejects.toMatchObject({ kind: 'deadline', outcome: 'unknown' })
    await expect(stat).rejects.toMatchObject({ kind: 'deadline', outcome: 'none' })
    await slowNode.close()
    const late = client.server.write(context(), file, Buffer.from('x'))
    await expect(late).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
  })

  it('reads that wait for a connection end with their deadline or signal', async () => {
    proxy.refuse(true)
    proxy.cut()
    await expect(session.server.stat(context(150), file)).rejects.toMatchObject({ kind: 'deadline' })
    const controller = new AbortController()
    const stat = session.server.stat({ ...context(), signal: controller.signal }, file)
    controller.abort()
    await expect(stat).rejects.toMatchObject({ kind: 'deadline' })
    proxy.refuse(false)
    await session.server.write(context(), file, Buffer.from('back'))
    expect(await textAt(memory)).toBe('back')
  })

  it('does again what made the session: its services and its table', async () => {
    const served = new MemoryServer({ owner: owner.name })
    await served.write(context(), file, Buffer.from('from the service'))
    const registered: { service: string; instance: string | undefined; server: FileServer }[] = []
    const bound: string[] = []
    const other = await startNode(memory, {
      control: {
        register: async (_context, { service, instance }, server) => {
          registered.push({ service, instance, server })
          return instance ?? 'one'
        },
        bind: async (_context, { path }) => void bound.push(path),
      },
    })
    const through = await startProxy(other.edge.address)
    const client = await other.connect({ address: through.address, random: () => 0 })
    const offer = await client.offer({ service: 'clock', names: ['now'] }, served)
    await client.bind({ source: '/a', path: parsePath('/b'), order: 'replace', create: false })
    expect(offer.instance).toBe('one')
    expect(await textAt(registered[0]!.server)).toBe('from the service')
    through.cut()
    await client.server.stat(context(), parsePath('/'))
    expect(registered.map(({ service, instance }) => `${service}@${instance ?? ''}`)).toEqual(['clock@', 'clock@one'])
    expect(bound).toEqual(['/b', '/b'])
    expect(await textAt(registered[1]!.server)).toBe('from the service')
    await expect(textAt(registered[0]!.server)).rejects.toBeInstanceOf(NineError)
    await other.close()
    await through.close()
    served.close()
  })

  it('a new token is asked for on each connection, and a refusal is told', async () => {
    let token = 'token-owner-'
    const client = await node.connect({ address: proxy.address, token: () => token, random: () => 0 })
    token = 'wrong'
    proxy.cut()
    await expect(client.server.stat(context(), file)).rejects.toMatchObject({ kind: 'unauthenticated' })
    token = 'token-owner-'
    await client.close()
  })

  it('a lock is had once, wherever its answer is cut off', async () => {
    const { lease } = await session.server.grantLease(context(), 60_000)
    for (let bytes = 0; bytes < 40; bytes += 7) {
      const path = parsePath(`/lock${bytes}`)
      proxy.cutAfter('toClient', bytes)
      const { token } = await session.server.lock(context(), path, lease)
      expect(token).toBe((await memory.stat(context(), path)).stat.createdRevision)
      proxy.cutAfter('toClient', Infinity)
    }
    expect(proxy.accepted).toBeGreaterThan(4)
  })

  it('who waits for a lock when the connection is lost goes on waiting for it', async () => {
    const path = parsePath('/lock')
    const held = await memory.grantLease(context(), 60_000)
    await memory.lock(context(), path, held.lease)
    const { lease } = await session.server.grantLease(context(), 60_000)
    const waiting = session.server.lock(context(), path, lease)
    await session.server.stat(context(), parsePath('/'))
    proxy.cut()
    await session.server.stat(context(), parsePath('/'))
    await memory.revokeLease(context(), held.lease)
    const { token } = await waiting
    expect(token).toBe((await memory.stat(context(), path)).stat.createdRevision)
  })

  it('a lock or an open that was not answered may have happened', async () => {
    const { lease } = await session.server.grantLease(context(), 60_000)
    proxy.freeze()
    const unknown = { kind: 'deadline', outcome: 'unknown' }
    await Promise.all([
      expect(session.server.lock(context(100), file, lease)).rejects.toMatchObject(unknown),
      expect(session.server.open(context(100), file, { write: true, create: true })).rejects.toMatchObject(unknown),
      expect(session.server.stat(context(100), file)).rejects.toMatchObject({ kind: 'deadline', outcome: 'none' }),
    ])
    proxy.refuse(true)
    const lock = session.server.lock(context(300), file, lease)
    await new Promise((resolve) => setImmediate(resolve))
    proxy.cut()
    await expect(lock).rejects.toMatchObject(unknown)
  })
})

describe('a service that is stopped', () => {
  it('does not hold a caller past its deadline or signal, at the node or behind it, and others are served', async () => {
    const served = new MemoryServer({ owner: owner.name })
    const offered: FileServer[] = []
    const other = await startNode(memory, {
      control: { register: async (_context, _request, server) => (offered.push(server), 'one') },
    })
    const through = await startProxy(other.edge.address)
    const service = await other.connect({ address: through.address })
    await service.offer({ service: 'clock', names: ['now'] }, served)
    const behind = await startNode(offered[0]!)
    const caller = await behind.connect()
    expect((await caller.server.list(context(), parsePath('/'))).entries).toEqual([])
    through.freeze()
    for (const server of [offered[0]!, caller.server]) {
      const begun = performance.now()
      await expect(server.stat(context(100), file)).rejects.toMatchObject({ kind: 'deadline', outcome: 'none' })
      await expect(server.write(context(100), file, Buffer.from('x'))).rejects.toMatchObject({ kind: 'deadline', outcome: 'unknown' })
      const controller = new AbortController()
      const given = { ...context(), signal: controller.signal }
      const ended = [server.read(given, file), server.write(given, file, Buffer.from('x')), server.readHandle(given, 1, 0, 1)]
      const told = Promise.allSettled(ended)
      await new Promise((resolve) => setTimeout(resolve, 20))
      const aborted = performance.now()
      controller.abort()
      const kinds = (await told).map((end) => (end.status === 'rejected' ? (end.reason as NineError).kind : 'answered'))
      expect(performance.now() - aborted).toBeLessThan(500)
      expect(kinds.slice(0, 2)).toEqual(['deadline', 'deadline'])
      expect(performance.now() - begun).toBeLessThan(3_000)
    }
    const another = await other.connect()
    expect((await another.server.list(context(), parsePath('/'))).entries).toEqual([])
    await behind.close()
    await other.close()
    await through.close()
    served.close()
  })
})
