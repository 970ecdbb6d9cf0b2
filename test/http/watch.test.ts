/** Server-sent events: every change once and in order, over any number of cuts. */
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer, TxnOperation, WatchBatch } from '../../namespace/file-server.ts'
import { parsePath } from '../../namespace/path.ts'
import { dial } from './raw.ts'
import { EventStream } from './event-stream.ts'
import { startEdge } from './start.ts'
import type { StartOptions, Started } from './start.ts'

let http: Started
afterEach(() => http.close())
const start = async (options?: StartOptions): Promise<void> => {
  http = await startEdge(options)
}
const open = (target: string, lastEventId?: string): Promise<EventStream> => EventStream.open(http.origin, http.owner, target, lastEventId)
const put = (path: string, body = 'x'): Promise<Response> => http.fetch(path, { method: 'PUT', body })

describe('a watch', () => {
  it('tells each change as one event', async () => {
    await start()
    await put('/d/before')
    const stream = await open('/d?watch')
    expect([stream.status, stream.response.headers['content-type']]).toEqual([200, 'text/event-stream'])
    const made = await put('/d/f')
    await put('/d/f', 'yy')
    await put('/elsewhere')
    await put('/d/sub/deep')
    await http.fetch('/d/f?rename=/d/g', { method: 'POST' })
    await http.fetch('/d/sub?recursive', { method: 'DELETE' })
    const events = await stream.take(5)
    expect(events.map(({ event, data }) => [event, data['type'], data['path'], data['from']])).toEqual([
      ['message', 'create', '/d/f', undefined],
      ['message', 'change', '/d/f', undefined],
      ['message', 'create', '/d/sub', undefined],
      ['message', 'rename', '/d/g', '/d/f'],
      ['message', 'remove', '/d/sub', undefined],
    ])
    const { data } = events[0]!
    expect(data['revision']).toBe(Number(made.headers.get('nine-revision')))
    expect(typeof data['position']).toBe('string')
    expect(data['stat']).toMatchObject({ name: 'f', size: 1, qid: { type: 0 }, modifiedBy: 'owner' })
    expect(events[4]!.data['subtree']).toBe(true)
    stream.cut()
  })

  it('is recursive when asked, and begins with its head', async () => {
    await start()
    await put('/d/sub/f')
    const stream = await open('/d?watch=recursive&previous')
    await put('/d/sub/f', 'yy')
    const [event] = await stream.take(1)
    expect(event!.data).toMatchObject({ type: 'change', path: '/d/sub/f', stat: { size: 2 }, previous: { size: 1 } })
    stream.cut()
  })

  it('begins at a position or a revision, inclusive', async () => {
    await start()
    const answers = [await put('/f', '1'), await put('/f', '22'), await put('/f', '333')]
    for (const header of ['nine-revision', 'nine-position']) {
      const stream = await open(`/f?watch&from=${answers[1]!.headers.get(header)}`)
      expect((await stream.take(2)).map(({ data }) => (data['stat'] as { size: number }).size)).toEqual([2, 3])
      stream.cut()
    }
    const whole = await open('/f?watch&from=0')
    const events = await whole.take(3)
    expect(events.map(({ data }) => data['type'])).toEqual(['create', 'change', 'change'])
    whole.cut()
    // An event's own position begins with that event.
    const own = await open(`/f?watch&from=${String(events[1]!.data['position'])}`)
    expect((await own.take(1))[0]!.data).toEqual(events[1]!.data)
    own.cut()
    // A list, and then a watch from its position, misses nothing.
    const { position } = (await (await http.fetch('/')).json()) as { position: string }
    await put('/later')
    const after = await open(`/?watch&from=${position}`)
    const [first] = await after.take(1)
    expect(['/f', '/later']).toContain(first!.data['path'])
    after.cut()
  })

  it('has an id on the last event of a position, which resumes after it', async () => {
    await start()
    const stream = await open('/?watch')
    const then: TxnOperation[] = ['a', 'b', 'c'].map((name) => ({ op: 'write', path: parsePath(`/${name}`), bytes: new Uint8Array(1) }))
    await http.memory.txn(http.context(), { if: [], then, else: [] })
    await put('/d')
    const events = await stream.take(4)
    expect(events.map(({ hasId }) => hasId)).toEqual([false, false, true, true])
    expect(new Set(events.slice(0, 3).map(({ data }) => data['revision'])).size).toBe(1)
    stream.cut()
    const resumed = await open('/?watch', events[2]!.lastEventId)
    expect((await resumed.take(1))[0]!.data['path']).toBe('/d')
    resumed.cut()
    const overridden = await open('/?watch&from=0', events[2]!.lastEventId)
    expect((await overridden.take(1))[0]!.data['path']).toBe('/d')
    overridden.cut()
  })

  it('misses and doubles nothing, wherever it is cut', async () => {
    await start()
    const paths = ['/r/a', '/r/b', '/r/c', '/r/d/e', '/r/d/f']
    const step = fc.oneof(
      fc.record({ op: fc.constant('put' as const), path: fc.constantFrom(...paths) }),
      fc.record({ op: fc.constant('txn' as const), count: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ op: fc.constant('remove' as const), path: fc.constantFrom(...paths, '/r/d') }),
    )
    const act = async (one: { op: string; path?: string; count?: number }): Promise<void> => {
      const context = http.context()
      try {
        if (one.op === 'put') await http.memory.write(context, parsePath(one.path!), new Uint8Array(2), { parents: true })
        else if (one.op === 'remove') await http.memory.remove(context, parsePath(one.path!), { recursive: true })
        else {
          const then = paths
            .slice(0, one.count)
            .map((path): TxnOperation => ({ op: 'write', path: parsePath(path), bytes: new Uint8Array(1), options: { parents: true } }))
          await http.memory.txn(context, { if: [], then, else: [] })
        }
      } catch (error) {
        if (!(error instanceof NineError && error.kind === 'not_found')) throw error
      }
    }
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 25 }),
        fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 8 }),
        async (steps, cuts) => {
          const from = (await http.memory.stat(http.context(), parsePath('/'))).position[0]!.revision + 1
          const half = Math.ceil(steps.length / 2)
          for (const one of steps.slice(0, half)) await act(one)
          const changing = (async () => {
            for (const one of steps.slice(half)) await act(one)
            await act({ op: 'put', path: '/r/end' })
          })()
          let lastEventId = ''
          let seen: Record<string, unknown>[] = []
          let isEnd = false
          for (let cut = 0; !isEnd; cut++) {
            const stream = await open(`/r?watch=recursive&from=${from}`, lastEventId)
            const limit = cuts[cut] ?? Infinity
            let unsettled = 0
            for (let count = 0; count < limit && !isEnd; count++) {
              const [event] = await stream.take(1)
              seen.push(event!.data)
              lastEventId = event!.lastEventId
              unsettled = event!.hasId ? 0 : unsettled + 1
              isEnd = event!.data['path'] === '/r/end'
            }
            stream.cut()
            // What a client holds of a position without its end, it sees again.
            if (!isEnd) seen = seen.slice(0, seen.length - unsettled)
            if (cut > 50) throw new Error('no end')
          }
          await changing
          expect(seen.map((data) => data['position'])).toEqual(await everyPosition(from))
        },
      ),
      { numRuns: 40 },
    )
  })

  async function everyPosition(from: number): Promise<unknown[]> {
    const positions: unknown[] = []
    const stream = await open(`/r?watch=recursive&from=${from}`)
    for (let isEnd = false; !isEnd;) {
      const [event] = await stream.take(1)
      positions.push(event!.data['position'])
      isEnd = event!.data['path'] === '/r/end'
    }
    stream.cut()
    expect(new Set(positions).size).toBe(positions.length)
    return positions
  }
})

describe('a watch ends', () => {
  it('with a refusal before its head where it can', async () => {
    await start({ memory: { historyRevisionsMax: 4 } })
    for (let i = 0; i < 10; i++) await put('/f', String(i))
    const refused = async (target: string, lastEventId?: string): Promise<unknown[]> => {
      const response = await http.fetch(target, lastEventId === undefined ? {} : { headers: { 'last-event-id': lastEventId } })
      const problem = (await response.json()) as Record<string, unknown>
      return [response.status, problem['kind'], typeof problem['resume']]
    }
    expect(await refused('/f?watch&from=1')).toEqual([410, 'compacted', 'string'])
    const { resume } = (await (await http.fetch('/f?watch&from=1')).json()) as { resume: string }
    const stream = await open(`/f?watch&from=${resume}`)
    expect((await stream.take(4)).length).toBe(4)
    stream.cut()
    const foreign = Buffer.from(JSON.stringify([['other', 'i', 1, 0]])).toString('base64url')
    expect((await refused(`/f?watch&from=${foreign}`))[0]).toBe(410)
    expect((await refused('/f?watch&from=999999'))[0]).toBe(400)
    for (const query of ['watch=all', 'watch&from=nope', 'watch&from=2026-01-01T00:00:00Z', 'watch&from=-1', 'watch&watch']) {
      expect([query, ...(await refused(`/f?${query}`)).slice(0, 2)]).toEqual([query, 400, 'invalid'])
    }
    expect((await refused('/f?watch', 'nope')).slice(0, 2)).toEqual([400, 'invalid'])
    expect((await http.fetch('/f?watch', { method: 'HEAD' })).status).toBe(400)
    expect(http.openWatches()).toBe(0)
  })

  it('with an event where it is under way', async () => {
    const failing = async function* (): AsyncGenerator<WatchBatch, void> {
      yield { events: [], position: [{ store: 's', incarnation: 'i', revision: 3, ordinal: 0 }] }
      throw new NineError({ kind: 'overloaded', op: 'test.watch', message: 'too slow', resume: 'here' })
    }
    const wrap = (server: FileServer): FileServer =>
      new Proxy(server, { get: (target, name) => (name === 'watch' ? failing : (Reflect.get(target, name, target) as unknown)) })
    await start({ wrap })
    const stream = await open('/f?watch')
    const event = await stream.next()
    expect(event).toMatchObject({ event: 'error', data: { kind: 'overloaded', resume: 'here', status: 429 } })
    expect(event!.lastEventId).not.toBe('')
    expect(await stream.next()).toBeUndefined()
  })

  it('on the server when its client leaves', async () => {
    await start()
    const streams = await Promise.all(Array.from({ length: 50 }, () => open('/?watch=recursive')))
    expect(http.openWatches()).toBe(50)
    for (const stream of streams) stream.cut()
    await expect.poll(() => http.openWatches()).toBe(0)
    // Also before its head has gone out.
    const socket = await dial(http.port)
    socket.write(`GET /v1/fs/?watch HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${http.owner}\r\n\r\n`)
    await expect.poll(() => http.openWatches()).toBe(1)
    socket.destroy()
    await expect.poll(() => http.openWatches()).toBe(0)
  })

  it('for a slow reader, who can go on, while others are served', async () => {
    await start({ limits: { session_stalled_ms: 1_000 } })
    const socket = await dial(http.port)
    socket.write(`GET /v1/fs/?watch&from=0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${http.owner}\r\n\r\n`)
    socket.pause()
    await expect.poll(() => http.openWatches()).toBe(1)
    const other = await open('/?watch')
    for (let i = 0; i < 40_000; i++) await http.memory.write(http.context(), parsePath('/f'), new Uint8Array(1))
    // The queue of the tree is full and the kernel's buffers too: it is cut off.
    await expect.poll(() => http.openWatches(), { timeout: 10_000 }).toBeLessThanOrEqual(1)
    expect((await put('/g')).status).toBe(201)
    socket.destroy()
    other.cut()
  })

  it('when the edge closes, without an error', async () => {
    await start()
    const stream = await open('/?watch')
    await put('/f')
    await stream.take(1)
    await http.edge.close(10_000)
    expect(await stream.next()).toBeUndefined()
    expect(stream.response.complete).toBe(true)
    expect(http.openWatches()).toBe(0)
  })
})
