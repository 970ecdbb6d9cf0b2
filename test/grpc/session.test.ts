/** What a session does with peers that misbehave, spoken to byte by byte. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { frameType, sessionMagic } from '../../proto/frames.ts'
import { Reader } from '../../proto/protobuf.ts'
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { parsePath } from '../../namespace/path.ts'
import { readError } from '../../namespace/wire/fields.ts'
import { ownLimits, readWelcome, writeHello } from '../../namespace/wire/session.ts'
import { overriding, owner, startNode, tokenOf } from './node.ts'
import type { TestNode } from './node.ts'
import { RawClient } from './raw-client.ts'

const context = (ms?: number): Context => contextFor(owner, ms)
const file = parsePath('/file')

let memory: MemoryServer
let node: TestNode
let raw: RawClient

beforeEach(async () => {
  memory = new MemoryServer({ owner: owner.name })
  await memory.write(context(), file, Buffer.from('value'))
  node = await startNode(memory)
  raw = new RawClient(node.edge.address)
})

afterEach(async () => {
  raw.socket.destroy()
  await node.close()
  memory.close()
})

describe('opening', () => {
  it('welcomes with an identity that is kept when it is named again', async () => {
    raw.hello()
    const welcome = readWelcome(new Reader((await raw.next())!.payload))
    expect(welcome).toMatchObject({ version: 1, principal: { name: 'owner' }, name: 'test-node', limits: ownLimits })
    const again = new RawClient(node.edge.address)
    again.hello({ client: welcome.client })
    expect(readWelcome(new Reader((await again.next())!.payload)).client).toEqual(welcome.client)
    again.socket.destroy()
  })

  it.each([
    ['a wrong token', (client: RawClient) => client.hello({ token: 'wrong' }), 'unauthenticated'],
    ['a version from before', (client: RawClient) => client.hello({ version: 0 }), 'unsupported'],
    ['a request before hello', (client: RawClient) => (client.socket.write(sessionMagic), client.frame(frameType.stat, 1)), 'invalid'],
    ['a hello that is too large', (client: RawClient) => client.hello({ name: 'x'.repeat(20_000) }), 'too_large'],
    [
      'a frame of 2 GiB',
      (client: RawClient) => client.socket.write(Buffer.concat([Buffer.from(sessionMagic), Buffer.from('ffffff7f0000000000', 'hex')])),
      'too_large',
    ],
  ] as const)('refuses %s, and closes', async (_name, act, kind) => {
    act(raw)
    expect((await raw.failure()).kind).toBe(kind)
    expect(await raw.next()).toBeUndefined()
    expect(node.edge.sessions).toBe(0)
  })

  it('a connection that sends its magic byte by byte is served', async () => {
    for (const byte of Buffer.from(sessionMagic)) {
      raw.socket.write(Buffer.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    raw.frame(frameType.hello, 0, (writer) => {
      writeHello(writer, { version: 1, features: [], limits: ownLimits, token: tokenOf(owner), name: '', client: undefined })
    })
    expect((await raw.next())?.type).toBe(frameType.welcome)
  })

  it('a connection that closes its half before hello is closed', async () => {
    raw.socket.write(sessionMagic)
    raw.socket.end()
    expect(await raw.next()).toBeUndefined()
  })
})

describe('an open session', () => {
  beforeEach(() => raw.open())

  it('answers a type it does not know with unsupported, and goes on', async () => {
    for (const type of [0x7f, 0x3e, 0x0e]) {
      raw.frame(type, 5)
      expect((await raw.failure()).kind).toBe('unsupported')
    }
    raw.frame(frameType.stat, 6, (writer) => writer.string(2, '/file'))
    expect(await raw.next()).toMatchObject({ type: frameType.stat | 0x80, tag: 6 })
  })

  it('answers a request it cannot read with invalid, and goes on', async () => {
    raw.frame(frameType.stat, 1, (writer) => writer.optionalUint(77, 1))
    expect(await raw.failure()).toMatchObject({ kind: 'invalid', op: 'wire.stat' })
    raw.frame(frameType.stat, 2, (writer) => writer.string(2, 'relative'))
    expect((await raw.failure()).kind).toBe('invalid')
    raw.frame(frameType.stat, 3)
    expect((await raw.failure()).kind).toBe('invalid')
    raw.frame(frameType.stat, 4, (writer) => writer.string(2, '/file'))
    expect((await raw.next())?.tag).toBe(4)
  })

  it('ends with too_large at a frame of 2 GiB, and other sessions go on', async () => {
    const other = await node.connect()
    raw.socket.write(Buffer.from('ffffff7f0000000000', 'hex'))
    expect((await raw.failure()).kind).toBe('too_large')
    expect(await raw.next()).toBeUndefined()
    expect((await other.server.read(context(), file)).bytes.length).toBe(5)
  })

  it('ends with invalid when a tag is used twice at once, or is 0', async () => {
    raw.frame(frameType.stat, 0, (writer) => writer.string(2, '/file'))
    expect((await raw.failure()).kind).toBe('invalid')
    expect(await raw.next()).toBeUndefined()
  })

  it('answers ping, and leaves alone answers, cancels and credits for what it never asked', async () => {
    raw.frame(frameType.stat | 0x80, 9)
    raw.frame(frameType.failure, 9)
    raw.frame(frameType.cancel, 9)
    raw.frame(frameType.credit, 9, (writer) => writer.uint(1, 5))
    raw.frame(frameType.ping, 3)
    expect(await raw.next()).toMatchObject({ type: frameType.pong, tag: 3 })
  })

  it('does not reach the handles of another session', async () => {
    const other = await node.connect()
    await other.server.open(context(), file, { read: true })
    for (let handle = 0; handle < 5; handle++) {
      raw.frame(frameType.readHandle, 1, (writer) => {
        writer.uint(2, handle)
        writer.uint(4, 10)
      })
      expect((await raw.failure()).kind).toBe('not_found')
    }
  })

  it('sends no more of a watch than it was given credit for', async () => {
    for (let index = 0; index < 50; index++) await memory.write(context(), parsePath(`/many${index}`), Buffer.alloc(20_000))
    raw.frame(frameType.watch, 1, (writer) => {
      writer.string(2, '/')
      writer.optionalUint(5, 1)
      writer.uint(8, 1)
    })
    const first = await raw.next()
    expect(first?.type).toBe(frameType.batch)
    expect(first!.payload.length).toBeLessThan(limits.watch_frame_bytes + 64 * 1024)
    raw.frame(frameType.ping, 1)
    expect((await raw.next())?.type).toBe(frameType.pong)
    raw.frame(frameType.credit, 1, (writer) => writer.uint(1, 10_000_000))
    expect((await raw.next())?.type).toBe(frameType.batch)
    raw.frame(frameType.cancel, 1)
    let frame = await raw.next()
    while (frame?.type === frameType.batch) frame = await raw.next()
    expect(frame).toMatchObject({ type: frameType.watch | 0x80, tag: 1 })
  })

  it('a slow reader of a watch ends with overloaded and where to go on, and memory stays bounded', async () => {
    raw.frame(frameType.watch, 1, (writer) => {
      writer.string(2, '/')
      writer.bool(3, true)
      writer.uint(8, 1)
    })
    raw.frame(frameType.ping, 2)
    // Whatever the watch tells first, it is in place when the ping behind it is answered.
    let before = await raw.next()
    while (before?.type === frameType.batch) before = await raw.next()
    expect(before?.type).toBe(frameType.pong)
    for (let index = 0; index < limits.watch_queue_events_max + 500; index++) await memory.write(context(), file, Buffer.from('x'))
    raw.frame(frameType.credit, 1, (writer) => writer.uint(1, 100_000_000))
    let frame = await raw.next()
    while (frame?.type === frameType.batch) frame = await raw.next()
    expect(frame?.type).toBe(frameType.failure)
    const error = readError(new Reader(frame!.payload))
    expect(error.kind).toBe('overloaded')
    expect(error.resume).toBeDefined()
  })

  it('a client that asks and never reads costs a bounded queue', async () => {
    await memory.write(context(), parsePath('/big'), Buffer.alloc(2 * 1024 * 1024))
    raw.socket.pause()
    for (let tag = 1; tag <= 500; tag++) {
      raw.writer.beginFrame(frameType.read, tag)
      raw.writer.string(2, '/big')
      raw.writer.endFrame()
    }
    raw.flush()
    const other = await node.connect()
    for (let index = 0; index < 20; index++) await other.server.read(context(), file)
    raw.socket.resume()
    let answers = 0
    for (let index = 0; index < 500; index++) {
      const frame = await raw.next()
      if (frame?.type === frameType.failure) expect(readError(new Reader(frame.payload)).kind).toBe('overloaded')
      else answers++
    }
    expect(answers).toBeGreaterThan(0)
    // Twice the queue, one answer, and what the system holds.
    expect(answers * 2 * 1024 * 1024).toBeLessThan(2 * limits.session_send_bytes_max + 24 * 1024 * 1024)
  })
})

describe('requests', () => {
  it('past the most that may be under way are overloaded, and the others are answered', async () => {
    let release: () => void = () => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    const slow: FileServer = overriding(memory, {
      stat: async (...args: Parameters<FileServer['stat']>) => {
        await held
        return memory.stat(...args)
      },
    })
    const slowNode = await startNode(slow)
    const client = new RawClient(slowNode.edge.address)
    await client.open()
    for (let tag = 1; tag <= limits.session_requests_max + 1; tag++) {
      client.writer.beginFrame(frameType.stat, tag)
      client.writer.string(2, '/file')
      client.writer.endFrame()
    }
    client.flush()
    expect((await client.failure()).kind).toBe('overloaded')
    release()
    for (let index = 0; index < limits.session_requests_max; index++) expect((await client.next())?.type).toBe(frameType.stat | 0x80)
    client.socket.destroy()
    await slowNode.close()
  })

  it('a cancel reaches the file server, and a lost connection too', async () => {
    const aborted: string[] = []
    let began: () => void = () => undefined
    const waiting: FileServer = overriding(memory, {
      read: (given: Context) =>
        new Promise((_resolve, reject) => {
          given.signal?.addEventListener('abort', () => {
            aborted.push('aborted')
            reject(new Error('aborted'))
          })
          began()
        }),
    })
    const other = await startNode(waiting)
    const session = await other.connect()
    const controller = new AbortController()
    let begun = new Promise<void>((resolve) => (began = resolve))
    const read = session.server.read({ ...context(), signal: controller.signal }, file)
    await begun
    controller.abort()
    await expect(read).rejects.toMatchObject({ kind: 'deadline' })
    begun = new Promise<void>((resolve) => (began = resolve))
    const second = session.server.read(context(), file).catch((error: unknown) => error)
    await begun
    await session.close()
    await second
    await other.close()
    expect(aborted.length).toBe(2)
  })

  it('draining answers what is under way, refuses what comes, and ends watches with where to go on', async () => {
    let release: () => void = () => undefined
    const held = new Promise<void>((resolve) => (release = resolve))
    let began: () => void = () => undefined
    const begun = new Promise<void>((resolve) => (began = resolve))
    const slow: FileServer = overriding(memory, {
      read: async (...args: Parameters<FileServer['read']>) => {
        began()
        await held
        return memory.read(...args)
      },
    })
    const other = await startNode(slow)
    const session = await other.connect()
    const read = session.server.read(context(), file)
    await begun
    const closed = other.edge.close(5_000)
    release()
    expect((await read).bytes.length).toBe(5)
    await closed
    await session.close()
  })

  it('control, services and the table reach the node', async () => {
    const said: string[] = []
    const other = await startNode(memory, {
      control: {
        control: async (_context, name, body) => Buffer.from(`${name}:${Buffer.from(body).toString()}`),
        mount: async (_context, { source, path, order, create }) => void said.push(`mount ${source} ${path} ${order} ${create}`),
        entries: async () => ['mount a /b'],
      },
    })
    const session = await other.connect()
    expect(Buffer.from(await session.control('echo', Buffer.from('{}'))).toString()).toBe('echo:{}')
    await session.mount({ source: 'clock', path: parsePath('/c'), order: 'after', create: true })
    expect(said).toEqual(['mount clock /c after true'])
    expect(await session.entries()).toEqual(['mount a /b'])
    await expect(session.fork()).rejects.toMatchObject({ kind: 'unsupported' })
    await other.close()
  })
})
