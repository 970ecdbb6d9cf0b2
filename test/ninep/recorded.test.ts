/**
 * Sessions of real clients, changed at random: bytes flipped, messages cut, doubled, left out, moved. Whatever comes of it, what the server
 * answers is 9P, connections end, nothing is left of them and others are served.
 *
 * recorded/*.hex are what diod's tools and our own tests' client sent, one message a line; NINE_TEST_RECORD=1 records them anew.
 */
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Namespace } from '../../namespace/namespace.ts'
import { parsePath } from '../../namespace/path.ts'
import { stream } from '../../namespace/serve/entries.ts'
import type { Output } from '../../namespace/serve/entries.ts'
import { Feed } from '../../namespace/serve/feed.ts'
import { MessageFramer } from '../../proto/ninep/framer.ts'
import { messageType } from '../../proto/ninep/messages.ts'
import { seed } from './arbitraries.ts'
import { runTool } from './diod-tools.ts'
import { startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'
import { RawClient } from './raw-client.ts'
import { sampleRequests } from './sample-requests.ts'

const folder = join(import.meta.dirname, 'recorded')
/** Messages of one recording; diodload would go on for as long as it runs. */
const messages_max = 120

let edge: TestEdge
const failures: unknown[] = []
const onFailure = (error: unknown): void => void failures.push(error)

beforeAll(async () => {
  process.on('uncaughtException', onFailure)
  process.on('unhandledRejection', onFailure)
  edge = await startEdge({ table: { events: stream(new Feed<Output>()) } })
  await edge.store.write(edge.context(), parsePath('/file'), Buffer.from('content'))
  // Where diodload looks for its files.
  await (edge.namespace as Namespace).mount(edge.context(), edge.store, parsePath('/ctl'))
  for (const name of ['null', 'zero']) await edge.store.write(edge.context(), parsePath(`/${name}`), Buffer.alloc(65_536))
})
afterAll(async () => {
  await edge.close()
  process.off('uncaughtException', onFailure)
  process.off('unhandledRejection', onFailure)
})

function dial(): Socket {
  const at = edge.address.lastIndexOf(':')
  const socket = connect(Number(edge.address.slice(at + 1)), edge.address.slice(0, at))
  return socket.on('error', () => undefined)
}

describe.runIf(process.env['NINE_TEST_RECORD'] === '1')('record', () => {
  it.each<[string, (address: string) => Promise<unknown>]>([
    ['diodls', (address) => runTool('diodls', ['-s', address, '-a', '/data', '-l'])],
    ['diodcat', (address) => runTool('diodcat', ['-s', address, '-a', '/data', '-m', '8192', 'file'])],
    ['diodload', (address) => runTool('diodload', ['-s', address, '-r', '1', '-n', '4', '-g'])],
    ['requests-9P2000', (address) => allRequests(address, '9P2000')],
    ['requests-9P2000.L', (address) => allRequests(address, '9P2000.L')],
  ])('%s', async (name, run) => {
    const messages: string[] = []
    const proxy = createServer((client) => {
      const server = dial()
      const framer = new MessageFramer(2 ** 20)
      client.on('data', (chunk: Buffer) => framer.push(Buffer.from(chunk), (message) => messages.push(message.toString('hex')) > 0))
      client.on('error', () => server.destroy())
      client.pipe(server).pipe(client)
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
    await run(`127.0.0.1:${(proxy.address() as AddressInfo).port}`)
    await new Promise((resolve) => proxy.close(resolve))
    writeFileSync(join(folder, `${name}.hex`), `${messages.slice(0, messages_max).join('\n')}\n`)
  })
})

async function allRequests(address: string, dialect: '9P2000' | '9P2000.L'): Promise<void> {
  const client = await RawClient.open(address, dialect, 8192)
  await client.attach(0, '/data')
  for (const { setup, request } of sampleRequests(dialect)) {
    if (request.type === 'Tversion') continue
    for (const body of [...setup, request]) await client.send(body).answer
    for (const fid of [1, 2]) await client.send({ type: 'Tclunk', fid }).answer
  }
  await client.close()
}

const recordings = readdirSync(folder)
  .filter((name) => name.endsWith('.hex'))
  .map((name) =>
    readFileSync(join(folder, name), 'utf8')
      .trim()
      .split('\n')
      .map((line) => Buffer.from(line, 'hex')),
  )

type Change = (messages: Buffer[], at: number, value: number) => void
const changes: Record<string, Change> = {
  flip: (messages, at, value) => flipped(messages, at, 4 + (value % 60), 1 << (value & 7)),
  flipSize: (messages, at, value) => flipped(messages, at, value % 4, 1 << (value & 7)),
  byte: (messages, at, value) => flipped(messages, at, 4 + (value % 40), value >>> 8),
  cut: (messages, at, value) => void messages.splice(at, 1, messages[at]!.subarray(0, value % messages[at]!.length)),
  insert: (messages, at, value) => void messages.splice(at, 0, Buffer.alloc(value % 40, value >>> 8)),
  duplicate: (messages, at) => void messages.splice(at, 0, messages[at]!),
  leaveOut: (messages, at) => void messages.splice(at, 1),
  swap: (messages, at, value) => {
    const other = value % messages.length
    ;[messages[at], messages[other]] = [messages[other]!, messages[at]!]
  },
  fromAnother: (messages, at, value) => {
    const recording = recordings[value % recordings.length]!
    messages.splice(at, 0, recording[(value >>> 8) % recording.length]!)
  },
  retag: (messages, at, value) => flipped(messages, at, 5, value & 3),
}

function flipped(messages: Buffer[], at: number, offset: number, bits: number): void {
  const changed = Buffer.from(messages[at]!)
  const index = Math.min(offset, changed.length - 1)
  changed[index] = changed[index]! ^ bits
  messages[at] = changed
}

const anyChange = fc.record({ name: fc.constantFrom(...Object.keys(changes)), at: fc.nat(), value: fc.integer({ min: 0, max: 2 ** 24 }) })
const session = fc.record({
  recording: fc.nat(),
  changed: fc.array(anyChange, { minLength: 1, maxLength: 6 }),
  /** Bytes of one write to the socket. */
  piece: fc.constantFrom(1, 7, 100, 100_000),
})

async function play({ recording, changed, piece }: typeof session extends fc.Arbitrary<infer T> ? T : never): Promise<void> {
  const messages = [...recordings[recording % recordings.length]!]
  for (const { name, at, value } of changed) if (messages.length > 0) changes[name]!(messages, at % messages.length, value)
  const bytes = Buffer.concat(messages)
  const socket = dial().setNoDelay(true)
  const framer = new MessageFramer(2 ** 20)
  // Answers, whole: of types that are ones.
  socket.on('data', (chunk: Buffer) => framer.push(chunk, (message) => void expect(message[4]! % 2, message.toString('hex')).toBe(1)))
  const closed = once(socket, 'close')
  const most = Math.ceil(bytes.length / Math.max(piece, Math.ceil(bytes.length / 200)))
  for (let part = 0; part < most; part++) {
    socket.write(bytes.subarray(Math.floor((part * bytes.length) / most), Math.floor(((part + 1) * bytes.length) / most)))
  }
  socket.end()
  await closed
}

describe(`recorded sessions, NINE_TEST_SEED=${seed}`, () => {
  it('are there, and small', () => {
    expect(recordings.map((messages) => messages.length > 3)).toEqual([true, true, true, true, true])
    expect(recordings.flat().every((message) => message.readUInt32LE(0) === message.length)).toBe(true)
    expect(recordings.every(([first]) => first![4] === messageType.Tversion)).toBe(true)
  })

  it('changed at random', { timeout: 240_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(session, { minLength: 20, maxLength: 20 }), async (sessions) => {
        await Promise.all(sessions.map(play))
        await expect.poll(() => edge.edge.connections, { timeout: 10_000, interval: 5 }).toBe(0)
        expect({ handles: edge.store.openHandles, locks: edge.edge.locks, failures }).toEqual({ handles: 0, locks: 0, failures: [] })
        const other = await RawClient.open(edge.address, '9P2000.L')
        await other.attach(0)
        await other.close()
      }),
      { numRuns: 150, seed, endOnFailure: true },
    )
  })
})
