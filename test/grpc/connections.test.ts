/** Connections that never become sessions, sessions whose peer is gone, and very many of either. */
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import type { IncomingHttpHeaders } from 'node:http2'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { frameType, sessionMagic } from '../../proto/frames.ts'
import { systemClock } from '../../namespace/clock.ts'
import { contextFor } from '../../namespace/context.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import type { GrpcEdgeOptions } from '../../services/grpc/edge.ts'
import { overriding, owner, startNode, tokenOf } from './node.ts'
import type { TestNode } from './node.ts'
import { RawClient } from './raw-client.ts'

const context = (): ReturnType<typeof contextFor> => contextFor(owner)
const file = parsePath('/file')
const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

let memory: MemoryServer
let node: TestNode
const sockets: Socket[] = []
/** Milliseconds by which the node's clock is ahead. */
let ahead = 0

beforeEach(async () => {
  ahead = 0
  memory = new MemoryServer({ owner: owner.name })
  await memory.write(context(), file, Buffer.from('value'))
})

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await node.close()
  memory.close()
})

async function start(options: Partial<GrpcEdgeOptions> = {}, server: FileServer = memory): Promise<void> {
  const clock = { now: () => systemClock.now() + ahead * 1000, monotonic: () => systemClock.monotonic() + ahead }
  node = await startNode(server, { clock, ...options })
}

async function dial(): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: Number(node.edge.address.split(':')[1]), allowHalfOpen: true })
  sockets.push(socket)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

/** Resolves with what came when the other end has closed. */
async function untilEnded(socket: Socket): Promise<Buffer> {
  const parts: Buffer[] = []
  socket.on('data', (part: Buffer) => parts.push(part))
  await new Promise<void>((resolve) => socket.once('end', () => resolve()).once('close', () => resolve()))
  return Buffer.concat(parts)
}

async function openRaw(): Promise<RawClient> {
  const raw = new RawClient(node.edge.address)
  sockets.push(raw.socket)
  await raw.open()
  return raw
}

/** That the node still works for others. */
async function expectServed(): Promise<void> {
  const session = await node.connect()
  expect((await session.server.read(context(), file)).bytes.length).toBe(5)
  await session.close()
}

describe('a connection', () => {
  it.each([
    ['says nothing', ''],
    ['sends half of the magic', sessionMagic.slice(0, 3)],
    ['sends the magic alone', sessionMagic],
    ['sends half of a hello', Buffer.concat([Buffer.from(sessionMagic), Buffer.from('40000000020000', 'hex')])],
    ['sends half of the preface of HTTP/2', preface.slice(0, 11)],
    ['sends one byte', preface.slice(0, 1)],
  ])('that %s is closed in time', async (_name, bytes) => {
    await start({ limits: { handshake_ms: 200 } })
    const socket = await dial()
    const begun = performance.now()
    socket.write(bytes)
    await untilEnded(socket)
    expect(performance.now() - begun).toBeGreaterThan(150)
    await expectServed()
  })

  it('that dribbles its hello is closed by the same time', async () => {
    await start({ limits: { handshake_ms: 300 } })
    const socket = await dial()
    socket.write(Buffer.concat([Buffer.from(sessionMagic), Buffer.from('4000000002', 'hex')]))
    const timer = setInterval(() => socket.write(Buffer.of(0)), 20)
    await untilEnded(socket)
    clearInterval(timer)
    expect(node.log.map(({ error }) => error.kind)).toEqual(['deadline'])
  })

  it.each([
    ['garbage', Buffer.from('00ff8037deadbeef'.repeat(200), 'hex')],
    ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')],
    ['a preface that goes wrong', Buffer.from(preface.slice(0, 20) + 'no')],
  ])('that sends %s is closed at once', async (_name, bytes) => {
    await start({ limits: { handshake_ms: 60_000 } })
    const socket = await dial()
    socket.write(bytes)
    await untilEnded(socket)
    await expectServed()
  })

  it.each([
    ['nothing', ''],
    ['half of the magic', sessionMagic.slice(0, 3)],
    ['the magic', sessionMagic],
    ['half of the preface', preface.slice(0, 11)],
  ])('that closes its half after %s is closed at once', async (_name, bytes) => {
    await start({ limits: { handshake_ms: 60_000 } })
    const socket = await dial()
    socket.end(bytes)
    await untilEnded(socket)
    await expectServed()
  })

  it('whose gRPC message claims 2 GiB fails that call alone', async () => {
    await start()
    const client = connectHttp2(`http://${node.edge.address}`)
    const ask = async (bytes: Buffer): Promise<string | undefined> => {
      const headers = { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers', authorization: `Bearer ${tokenOf(owner)}` }
      const stream = client.request({ ...headers, ':path': '/nine.v1.Namespace/Stat' })
      let status: string | undefined
      stream.on('response', (head) => (status ??= statusOf(head)))
      stream.on('trailers', (trailers: IncomingHttpHeaders) => (status ??= statusOf(trailers)))
      stream.on('error', () => undefined)
      stream.resume().end(bytes)
      await once(stream, 'close')
      return status
    }
    expect(await ask(Buffer.from('007fffffff0000', 'hex'))).toBe('8')
    expect(await ask(Buffer.concat([Buffer.of(0, 0, 0, 0, 7, 0x12, 5), Buffer.from('/file')]))).toBe('0')
    client.close()
  })
})

describe('a session', () => {
  it('whose peer closes its half ends, and lets go of what it held', async () => {
    let isAborted = false
    const server = overriding(memory, {
      read: (given) =>
        new Promise((_resolve, reject) =>
          given.signal?.addEventListener('abort', () => reject(new Error((isAborted = true) && 'aborted'))),
        ),
    })
    await start({}, server)
    const raw = await openRaw()
    raw.frame(frameType.read, 1, (writer) => writer.string(2, '/file'))
    raw.frame(frameType.ping, 2)
    expect((await raw.next())?.type).toBe(frameType.pong)
    raw.socket.end()
    expect(await raw.next()).toBeUndefined()
    expect(node.edge.sessions).toBe(0)
    expect(isAborted).toBe(true)
  })

  it('whose peer is silent is asked, then ended', async () => {
    await start()
    const raw = await openRaw()
    const other = await openRaw()
    ahead += limits.session_ping_ms + 1
    expect((await raw.next())?.type).toBe(frameType.ping)
    expect((await other.next())?.type).toBe(frameType.ping)
    other.frame(frameType.pong, 0)
    other.frame(frameType.ping, 7)
    expect((await other.next())?.type).toBe(frameType.pong)
    ahead += limits.session_silent_ms_max - limits.session_ping_ms
    let frame = await raw.next()
    while (frame?.type === frameType.ping) frame = await raw.next()
    expect(frame).toBeUndefined()
    expect(node.log.at(-1)).toMatchObject({ event: 'ended', error: { kind: 'unavailable', op: 'session.ping' } })
    expect(node.edge.sessions).toBe(1)
  })

  it('whose peer stops reading ends', async () => {
    const big = 2 * 1024 * 1024
    await memory.write(context(), parsePath('/big'), Buffer.alloc(big))
    await start()
    const raw = await openRaw()
    raw.socket.pause()
    for (let tag = 1; tag <= 400; tag++) {
      raw.writer.beginFrame(frameType.read, tag)
      raw.writer.string(2, '/big')
      raw.writer.endFrame()
    }
    raw.flush()
    // The others' answers come after all that the first one could have.
    const other = await node.connect()
    for (let index = 0; index < 50; index++) await other.server.read(context(), file)
    ahead += limits.session_stalled_ms + 1
    const stalled = (): unknown => node.log.find(({ error }) => error.op === 'session.send')
    await expect.poll(stalled, { timeout: 20_000 }).toMatchObject({ event: 'ended', error: { kind: 'overloaded' } })
    raw.socket.resume()
    let bytes = 0
    for (let frame = await raw.next(); frame !== undefined; frame = await raw.next()) bytes += frame.payload.length
    // What the system had taken; nothing of the queue.
    expect(bytes).toBeLessThan(2 * limits.session_send_bytes_max)
  })
})

describe('very many connections', () => {
  it('idle ones do not slow a client down, and all are released', async () => {
    const count = 2_000
    await start({ limits: { handshake_ms: 600_000 } })
    const client = await node.connect()
    const work = async (): Promise<number> => {
      const begun = performance.now()
      for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 100 }, () => client.server.read(context(), file)))
      return performance.now() - begun
    }
    await work()
    const alone = await work()
    const idle: Socket[] = []
    while (idle.length < count) idle.push(...(await Promise.all(Array.from({ length: 100 }, dial))))
    const beside = Math.min(await work(), await work(), await work())
    expect(beside).toBeLessThan(alone * 5 + 500)
    const ends = idle.map((socket) => untilEnded(socket))
    await node.edge.close(200)
    await Promise.all(ends)
  })

  it('idle sessions are all released', async () => {
    await start()
    const raws: RawClient[] = []
    while (raws.length < 500) raws.push(...(await Promise.all(Array.from({ length: 50 }, openRaw))))
    expect(node.edge.sessions).toBe(500)
    await expectServed()
    for (const raw of raws) raw.socket.destroy()
    const { edge } = node
    await expect.poll(() => edge.sessions, { timeout: 20_000 }).toBe(0)
  })

  it('past the bound are closed at once and told of, and room that comes is given', async () => {
    await start({ limits: { connections_max: 3, handshake_ms: 600_000 } })
    const held = [await dial(), await dial(), await dial()]
    await expect(node.connect()).rejects.toMatchObject({ kind: 'unavailable', retryable: true })
    const late = await dial()
    expect((await untilEnded(late)).length).toBe(0)
    const closed = untilEnded(held[0]!)
    held[0]!.end()
    await closed
    await expectServed()
    await expect
      .poll(() => node.log.some(({ event, error }) => event === 'refused' && error.kind === 'overloaded'), { timeout: 5_000 })
      .toBe(true)
  })
})

function statusOf(headers: IncomingHttpHeaders): string | undefined {
  return headers['grpc-status'] as string | undefined
}
