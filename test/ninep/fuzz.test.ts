/**
 * Thousands of sequences of valid requests over few fids, tags and names, so that they meet: every request is answered once with its own
 * type or an error, or its connection ends; and when connections have ended, nothing of them is left.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { call, stream } from '../../namespace/serve/entries.ts'
import type { Output } from '../../namespace/serve/entries.ts'
import { Feed } from '../../namespace/serve/feed.ts'
import { decodeAnswer } from '../../proto/ninep/decode.ts'
import { MessageFramer } from '../../proto/ninep/framer.ts'
import { noFid, noTag, noUid, untouched32, untouched64 } from '../../proto/ninep/messages.ts'
import type { Answer, Dialect, RequestBody } from '../../proto/ninep/messages.ts'
import { encode, seed } from './arbitraries.ts'
import { startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'

let edge: TestEdge
const failures: unknown[] = []
const onFailure = (error: unknown): void => void failures.push(error)

beforeAll(async () => {
  process.on('uncaughtException', onFailure)
  process.on('unhandledRejection', onFailure)
  const waits = call(
    ({ signal }) => new Promise<string>((_, reject) => signal.addEventListener('abort', () => reject(new Error('given up')))),
  )
  edge = await startEdge({ table: { events: stream(new Feed<Output>()), ask: waits } })
})
afterAll(async () => {
  await edge.close()
  process.off('uncaughtException', onFailure)
  process.off('unhandledRejection', onFailure)
})

const fid = fc.integer({ min: 0, max: 4 })
const name = fc.constantFrom('a', 'b', 'c', '..', '.', 'data', 'svc', 'test', 'events', 'ask', 'x/y', '')
const names = fc.oneof(
  fc.array(name, { maxLength: 4 }),
  fc.constantFrom(['data'], ['data', 'a'], ['data', 'b'], ['data', 'c'], ['svc', 'test', 'events'], ['svc', 'test', 'ask']),
)
const offset = fc.constantFrom(0, 0, 1, 100, 2 ** 40, 2 ** 53)
const count = fc.constantFrom(0, 10, 100, 5_000, untouched32)
const data = fc.integer({ min: 0, max: 300 }).map((bytes) => Buffer.alloc(bytes, 'x'))
const mode = fc.constantFrom(0o644, 0o755, 0, 0o777)
const lock = fc.record({
  type: fc.integer({ min: 0, max: 3 }),
  start: fc.integer({ min: 0, max: 20 }),
  length: fc.integer({ min: 0, max: 20 }),
  procId: fc.integer({ min: 0, max: 2 }),
  clientId: fc.constant('host'),
})
const stat = fc.record({
  type: fc.constant(0xffff),
  dev: fc.constant(untouched32),
  qid: fc.constant({ type: 0xff, version: untouched32, path: untouched64 }),
  mode: fc.constantFrom(untouched32, 0o600),
  atime: fc.constant(untouched32),
  mtime: fc.constantFrom(untouched32, 5),
  length: fc.constantFrom(untouched64, untouched64, 0, 50),
  name: fc.constantFrom('', '', 'a', 'b', 'c'),
  uid: fc.constant(''),
  gid: fc.constant(''),
  muid: fc.constant(''),
})

type Fields<T> = { [K in keyof T]: fc.Arbitrary<T[K]> }
function of<T extends RequestBody['type']>(
  type: T,
  fields: Omit<Fields<Extract<RequestBody, { readonly type: T }>>, 'type'>,
): fc.Arbitrary<RequestBody> {
  return fc.record({ type: fc.constant(type), ...fields }) as unknown as fc.Arbitrary<RequestBody>
}

/** By their number: flushes name a tag, which the run chooses. */
const tag = fc.integer({ min: 0, max: 30 })
const common = [
  {
    weight: 1,
    arbitrary: of('Tattach', {
      fid,
      afid: fc.constant(noFid),
      uname: fc.constant('u'),
      aname: fc.constantFrom('/', '/data', '/data/b'),
      nUname: fc.constant(noUid),
    }),
  },
  { weight: 8, arbitrary: of('Twalk', { fid, newFid: fid, names }) },
  { weight: 4, arbitrary: of('Tread', { fid, offset, count }) },
  { weight: 4, arbitrary: of('Twrite', { fid, offset, data }) },
  { weight: 3, arbitrary: of('Tclunk', { fid }) },
  { weight: 1, arbitrary: of('Tremove', { fid }) },
  { weight: 4, arbitrary: of('Tflush', { oldTag: tag }) },
]
const requests: Record<Dialect, fc.Arbitrary<RequestBody>> = {
  '9P2000': fc.oneof(
    ...common,
    { weight: 6, arbitrary: of('Topen', { fid, mode: fc.constantFrom(0, 1, 2, 0x11, 0x40, 0x42) }) },
    {
      weight: 4,
      arbitrary: of('Tcreate', { fid, name, perm: fc.constantFrom(0o644, 0x8000_01ed, 0x4000_01a4), mode: fc.constantFrom(0, 1, 2, 0x42) }),
    },
    { weight: 2, arbitrary: of('Tstat', { fid }) },
    { weight: 3, arbitrary: of('Twstat', { fid, stat }) },
  ),
  '9P2000.L': fc.oneof(
    ...common,
    { weight: 6, arbitrary: of('Tlopen', { fid, flags: fc.constantFrom(0, 1, 2, 0o1001, 0o2001) }) },
    { weight: 4, arbitrary: of('Tlcreate', { fid, name, flags: fc.constantFrom(0, 2, 0o202), mode, gid: fc.constant(0) }) },
    of('Tstatfs', { fid }),
    of('Tsymlink', { dirFid: fid, name, target: name, gid: fc.constant(0) }),
    of('Tmknod', { dirFid: fid, name, mode, major: fc.constant(0), minor: fc.constant(0), gid: fc.constant(0) }),
    of('Trename', { fid, dirFid: fid, name }),
    of('Treadlink', { fid }),
    { weight: 2, arbitrary: of('Tgetattr', { fid, mask: fc.constant(0x3fff) }) },
    of('Tsetattr', {
      fid,
      valid: fc.integer({ min: 0, max: 0x1ff }),
      mode,
      uid: fc.constant(noUid),
      gid: fc.constant(noUid),
      size: fc.constantFrom(0, 10, 1000),
      atimeSec: fc.constant(0),
      atimeNsec: fc.constant(0),
      mtimeSec: fc.constant(7),
      mtimeNsec: fc.constant(0),
    }),
    of('Txattrwalk', { fid, newFid: fid, name: fc.constantFrom('', 'user.nine.version', 'user.x') }),
    of('Txattrcreate', { fid, name: fc.constant('user.nine.contentType'), size: fc.constantFrom(0, 3, 1000), flags: fc.constant(0) }),
    { weight: 2, arbitrary: of('Treaddir', { fid, offset: fc.constantFrom(0n, 1n, 3n, 99n), count }) },
    of('Tfsync', { fid, datasync: fc.constant(0) }),
    { weight: 2, arbitrary: of('Tlock', { fid, flags: fc.constant(0), lock }) },
    of('Tgetlock', { fid, lock }),
    of('Tlink', { dirFid: fid, fid, name }),
    of('Tmkdir', { dirFid: fid, name, mode, gid: fc.constant(0) }),
    of('Trenameat', { oldDirFid: fid, oldName: name, newDirFid: fid, newName: name }),
    of('Tunlinkat', { dirFid: fid, name, flags: fc.constantFrom(0, 0x200) }),
  ),
}

/** How a run ends: cut at once; all fids clunked and all answers awaited; the same after a new version; by the client's half. */
const ending = fc.constantFrom('cut', 'clunk', 'version', 'half')
const run = fc.constantFrom<Dialect>('9P2000', '9P2000.L').chain((dialect) =>
  fc.record({
    dialect: fc.constant(dialect),
    // Each with whether to let answers come before it, and whether to use a tag that may be in use (then the connection may end).
    steps: fc.array(fc.record({ request: requests[dialect], isCalm: fc.boolean() }), { minLength: 5, maxLength: 60 }),
    ending,
  }),
)

class Session {
  readonly #socket: Socket
  readonly #dialect: Dialect
  /** Requests that have no answer yet. */
  readonly #pending = new Map<number, RequestBody>()
  readonly broken: string[] = []
  #changed: () => void = () => undefined
  isClosed = false

  constructor(socket: Socket, dialect: Dialect) {
    this.#socket = socket
    this.#dialect = dialect
    const framer = new MessageFramer(2 ** 20)
    socket.on('data', (chunk: Buffer) => framer.push(chunk, (message) => this.#came(decodeAnswer(message, dialect))))
    socket.on('error', () => undefined)
    socket.once('close', () => {
      this.isClosed = true
      this.#changed()
    })
  }

  /** flush(5): a tag that a flush names is not used again before its answer. */
  freeTag(): number {
    const taken = new Set(this.#pending.keys())
    for (const body of this.#pending.values()) if (body.type === 'Tflush') taken.add(body.oldTag)
    for (let free = 0; ; free++) if (!taken.has(free)) return free
  }

  send(body: RequestBody, tag: number): void {
    this.#pending.set(tag, body)
    this.#socket.write(encode({ ...body, tag }, this.#dialect))
  }

  /** All that was asked is answered, or the connection has ended. */
  async settled(): Promise<void> {
    while (this.#pending.size > 0 && !this.isClosed) {
      await new Promise<void>((resolve, reject) => {
        const late = setTimeout(
          () => reject(new Error(`never answered: ${[...this.#pending.values()].map(({ type }) => type).join()}`)),
          20_000,
        )
        this.#changed = () => (clearTimeout(late), resolve())
      })
    }
  }

  #came(answer: Answer): void {
    const asked = this.#pending.get(answer.tag)
    this.#pending.delete(answer.tag)
    if (asked === undefined) this.broken.push(`${answer.type} to nothing`)
    else if (answer.type !== 'Rerror' && answer.type !== 'Rlerror' && answer.type !== `R${asked.type.slice(1)}`) {
      this.broken.push(`${answer.type} to ${asked.type}`)
    }
    // A flushed request has no answer after this one; nothing of a session before a new version has.
    if (asked?.type === 'Tflush') this.#pending.delete(asked.oldTag)
    if (answer.type === 'Rversion') this.#pending.clear()
    this.#changed()
  }
}

async function play({ dialect, steps, ending: how }: typeof run extends fc.Arbitrary<infer T> ? T : never): Promise<void> {
  const at = edge.address.lastIndexOf(':')
  const socket = connect(Number(edge.address.slice(at + 1)), edge.address.slice(0, at))
  await once(socket, 'connect')
  const session = new Session(socket, dialect)
  session.send({ type: 'Tversion', msize: 8192, version: dialect }, noTag)
  await session.settled()
  session.send({ type: 'Tattach', fid: 0, afid: noFid, uname: 'u', aname: '/', nUname: noUid }, 0)
  session.send({ type: 'Twalk', fid: 0, newFid: 1, names: ['data'] }, 1)
  for (const { request, isCalm } of steps) {
    session.send(request, session.freeTag())
    if (isCalm) await new Promise(setImmediate)
  }
  if (how === 'clunk') {
    for (let id = 0; id <= 4; id++) session.send({ type: 'Tclunk', fid: id }, session.freeTag())
    await session.settled()
    expect(session.isClosed).toBe(false)
  } else if (how === 'version') {
    session.send({ type: 'Tversion', msize: 8192, version: dialect }, noTag)
    await session.settled()
    session.send({ type: 'Tattach', fid: 0, afid: noFid, uname: 'u', aname: '/', nUname: noUid }, session.freeTag())
    await session.settled()
    expect(session.isClosed).toBe(false)
  } else if (how === 'half') {
    socket.end()
    await session.settled()
    if (!session.isClosed) await once(socket, 'close')
  }
  socket.destroy()
  expect(session.broken).toEqual([])
}

describe(`fuzz, NINE_TEST_SEED=${seed}`, () => {
  it('sequences of requests that meet', { timeout: 240_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(run, { minLength: 20, maxLength: 20 }), async (runs) => {
        await edge.store.write(edge.context(), parsePath('/a'), Buffer.from('content')).catch(() => undefined)
        await edge.store.mkdir(edge.context(), parsePath('/b')).catch(() => undefined)
        await Promise.all(runs.map(play))
        await expect.poll(() => edge.edge.connections, { timeout: 10_000, interval: 5 }).toBe(0)
        expect({ handles: edge.store.openHandles, locks: edge.edge.locks, failures }).toEqual({ handles: 0, locks: 0, failures: [] })
        for (const { kind, message } of edge.log) expect.soft(kind, message).not.toBe('internal')
      }),
      { numRuns: 300, seed, endOnFailure: true },
    )
  })
})
