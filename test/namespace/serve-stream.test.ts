/** Streams of tables of functions, and feeds. */
import { describe, expect, it } from 'vitest'
import { contextFor, type Context } from '../../namespace/context.ts'
import type { HandleId } from '../../namespace/file-server.ts'
import { parsePath } from '../../namespace/path.ts'
import { stream, type Output } from '../../namespace/serve/entries.ts'
import { Feed } from '../../namespace/serve/feed.ts'
import { serveTable, type ServedTable } from '../../namespace/serve/table-server.ts'
import { fails, textOf } from '../conformance/suite/tools.ts'

const ann = { name: 'ann', groups: [] }

function context(more: Partial<Context> = {}): Context {
  return { ...contextFor(ann), ...more }
}

async function text(server: ServedTable, path: string): Promise<string> {
  return textOf((await server.read(context(), parsePath(path))).bytes)
}

async function next(server: ServedTable, handle: HandleId, more: Partial<Context> = {}, length = 1000): Promise<string> {
  const { bytes, end } = await server.readHandle(context(more), handle, 0, length)
  return end ? 'end' : textOf(bytes)
}

/** A promise and how to settle it. */
function later<T = void>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void
  const promise = new Promise<T>((settle) => (resolve = settle))
  return { promise, resolve }
}

describe('stream', () => {
  it('gives a record a read, each handle from the beginning', async () => {
    const server = serveTable({
      s: stream(async function* () {
        yield 'one'
        yield { two: 2 }
      }),
    })
    const [a, b] = [
      await server.open(context(), parsePath('/s'), { read: true }),
      await server.open(context(), parsePath('/s'), { read: true }),
    ]
    expect(await next(server, a.handle)).toBe('one')
    expect(await next(server, a.handle)).toBe('{"two":2}\n')
    expect(await next(server, b.handle)).toBe('one')
    expect(await next(server, a.handle)).toBe('end')
    expect(await next(server, a.handle)).toBe('end')
    await server.closeHandle(context(), a.handle)
    await server.closeHandle(context(), b.handle)
  })

  it('waits for a record; one that nobody took goes to the next read', async () => {
    const feed = new Feed<Output>()
    const server = serveTable({ s: stream(feed) })
    const { handle } = await server.open(context(), parsePath('/s'), { read: true })
    const controller = new AbortController()
    const givenUp = next(server, handle, { signal: controller.signal })
    const late = next(server, handle, { deadline: performance.now() + 20 })
    controller.abort()
    await fails(givenUp, 'deadline')
    await fails(late, 'deadline')
    feed.publish('kept')
    expect(await next(server, handle)).toBe('kept')
    await server.closeHandle(context(), handle)
    expect(feed.readers).toBe(0)
  })

  it.each(Array.from({ length: 24 }, (_, i) => i))(
    'a record that comes as the reader gives up is not lost (%i steps apart)',
    async (steps) => {
      const feed = new Feed<Output>()
      const server = serveTable({ s: stream(feed) })
      const { handle } = await server.open(context(), parsePath('/s'), { read: true })
      const controller = new AbortController()
      const first = next(server, handle, { signal: controller.signal }).catch(() => 'given up')
      await new Promise(setImmediate)
      feed.publish('one')
      for (let i = 0; i < steps; i++) await Promise.resolve()
      controller.abort()
      feed.publish('two')
      const got = [await first, await next(server, handle)]
      expect(got.includes('given up') ? got.at(-1) : got.join()).toBe(got.includes('given up') ? 'one' : 'one,two')
      await server.closeHandle(context(), handle)
    },
  )

  it('gives a long record in parts', async () => {
    const server = serveTable({
      s: stream(async function* () {
        yield '0123456789'
        yield ''
        yield 'next'
      }),
    })
    const { handle } = await server.open(context(), parsePath('/s'), { read: true })
    expect([await next(server, handle, {}, 4), await next(server, handle, {}, 4), await next(server, handle, {}, 4)]).toEqual([
      '0123',
      '4567',
      '89',
    ])
    expect(await next(server, handle)).toBe('next')
    await server.closeHandle(context(), handle)
  })

  it('without a handle a read waits for the next record', async () => {
    const feed = new Feed<Output>()
    const server = serveTable({ s: stream(feed) })
    const reading = text(server, '/s')
    while (feed.readers === 0) await new Promise(setImmediate)
    feed.publish('a record')
    expect(await reading).toBe('a record')
    expect(feed.readers).toBe(0)
  })

  it('is stopped by close, also while a read waits', async () => {
    const stopped = later()
    const server = serveTable({
      s: stream(async function* ({ signal }) {
        try {
          yield 'first'
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
        } finally {
          stopped.resolve()
        }
      }),
    })
    const { handle } = await server.open(context(), parsePath('/s'), { read: true })
    expect(await next(server, handle)).toBe('first')
    const waiting = next(server, handle)
    await server.closeHandle(context(), handle)
    await fails(waiting, ['deadline', 'invalid'])
    await stopped.promise
  })

  it('is stopped when its session ends', async () => {
    const feed = new Feed<Output>()
    const server = serveTable({ s: stream(feed) })
    await server.open(context({ session: 7 }), parsePath('/s'), { read: true })
    const other = await server.open(context({ session: 8 }), parsePath('/s'), { read: true })
    expect(feed.readers).toBe(2)
    server.closeSession(7)
    expect(feed.readers).toBe(1)
    feed.publish('x')
    expect(await next(server, other.handle, { session: 8 })).toBe('x')
    server.close()
    expect(feed.readers).toBe(0)
  })

  it('is held back by a slow reader', async () => {
    let made = 0
    const server = serveTable({
      s: stream(async function* () {
        for (;;) yield `${++made}`
      }),
    })
    const { handle } = await server.open(context(), parsePath('/s'), { read: true })
    for (let i = 1; i <= 10; i++) expect(await next(server, handle)).toBe(`${i}`)
    expect(made).toBeLessThanOrEqual(11)
    await server.closeHandle(context(), handle)
  })

  it('shows what its function throws, at open or later', async () => {
    const server = serveTable({
      open: stream(() => {
        throw new Error('not now')
      }),
      later: stream(async function* () {
        yield 'fine'
        throw new Error('then not')
      }),
    })
    await fails(server.open(context(), parsePath('/open'), { read: true }), 'internal', '/open')
    await fails(server.read(context(), parsePath('/open')), 'internal', '/open')
    const { handle } = await server.open(context(), parsePath('/later'), { read: true })
    expect(await next(server, handle)).toBe('fine')
    await fails(next(server, handle), 'internal', '/later')
    await server.closeHandle(context(), handle)
  })
})

describe('Feed', () => {
  it('gives all readers all records from their start', async () => {
    const feed = new Feed<number>()
    const early = feed.read()
    feed.publish(1)
    const late = feed.read()
    feed.publish(2)
    feed.end()
    const all = async (records: AsyncIterable<number>): Promise<number[]> => {
      const seen: number[] = []
      for await (const record of records) seen.push(record)
      return seen
    }
    expect(await all(early)).toEqual([1, 2])
    expect(await all(late)).toEqual([2])
    expect(await all(feed.read())).toEqual([])
  })

  it('ends a reader that is too slow with overloaded, and holds nobody else up', async () => {
    const feed = new Feed<number>(3)
    const [slow, quick] = [feed.read(), feed.read()]
    const seen: number[] = []
    for (let i = 1; i <= 5; i++) {
      feed.publish(i)
      seen.push((await quick.next()).value as number)
    }
    expect(seen).toEqual([1, 2, 3, 4, 5])
    expect(feed.readers).toBe(1)
    for (const expected of [1, 2, 3]) expect((await slow.next()).value).toBe(expected)
    await fails(slow.next(), 'overloaded')
    expect((await slow.next()).done).toBe(true)
  })

  it('forgets a reader whose signal aborts', async () => {
    const feed = new Feed<number>()
    const controller = new AbortController()
    const reader = feed.read(controller.signal)
    const waiting = reader.next()
    controller.abort()
    expect((await waiting).done).toBe(true)
    expect(feed.readers).toBe(0)
    expect((await feed.read(controller.signal).next()).done).toBe(true)
  })
})
