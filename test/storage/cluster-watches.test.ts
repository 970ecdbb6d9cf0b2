/** Watches on a replica: where they begin, and what a snapshot does to them. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { WatchBatch, WatchOptions } from '../../namespace/file-server.ts'
import { decodePosition } from '../../namespace/position.ts'
import { isNineError, type NineError } from '../../namespace/errors.ts'
import { at, bytes, contextOf, isSettled, Pair, type Replica } from './cluster-pair.ts'

let pair: Pair
let a: Replica
let b: Replica
const context = contextOf()

beforeEach(async () => {
  pair = await new Pair().open()
  a = pair.a
  b = pair.b
  b.isLagging = true
})

afterEach(() => pair.close())

function watch(node: Replica, options: WatchOptions = {}): AsyncIterator<WatchBatch> {
  return node.store.watch(context, at('/'), { recursive: true, ...options })[Symbol.asyncIterator]()
}

async function write(name: string): Promise<void> {
  await a.store.write(context, at(`/${name}`), bytes(name))
}

function names(result: IteratorResult<WatchBatch>): string {
  return result.done === true ? 'done' : result.value.events.map(({ path }) => path).join()
}

async function failure(promise: Promise<unknown>): Promise<NineError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!isNineError(error)) throw new Error('it did not fail')
  return error
}

describe('a watch', () => {
  it('without from tells nothing of what was acknowledged before it was asked for, and everything after its first batch', async () => {
    await write('before')
    const watching = watch(b)
    const first = watching.next()
    expect(await isSettled(first)).toBe(false)
    b.catchUp()
    expect(names(await first)).toBe('')
    await write('after')
    b.catchUp()
    expect(names(await watching.next())).toBe('/after')
    await watching.return!()
  })

  it('is placed when it is asked for, though it is iterated later', async () => {
    const watched = b.store.watch(context, at('/'), { recursive: true })
    await isSettled(Promise.resolve())
    await write('after')
    const watching = watched[Symbol.asyncIterator]()
    b.catchUp()
    // The state was the newest when it was asked for: nothing that came later is left out.
    const told = [names(await watching.next())]
    await write('more')
    b.catchUp()
    while (!told.join().includes('/more')) told.push(names(await watching.next()))
    expect(told.filter(Boolean).join()).toMatch(/^(\/after,)?\/more$/)
    await watching.return!()
  })

  it('from a revision that is not here yet waits for it; one that the cluster has not is invalid', async () => {
    await write('1')
    await write('2')
    await write('3')
    const from = (await a.store.stat(context, at('/3'))).position
    const watchings = [watch(b, { from: 3 }), watch(b, { from })]
    const batches = watchings.map((watching) => watching.next())
    const none = failure(watch(b, { from: 9 }).next())
    for (const batch of batches) expect(await isSettled(batch)).toBe(false)
    b.catchUp()
    for (const batch of batches) expect(names(await batch)).toBe('/3')
    expect(await none).toMatchObject({ kind: 'invalid', message: 'revision 9 is not one of this store, which is at 3' })
    for (const watching of watchings) await watching.return!()
    expect(b.store.watchers).toBe(0)
  })

  it('from what is here needs nobody', async () => {
    await write('1')
    b.catchUp()
    b.hasLeader = false
    const watching = watch(b, { from: 1 })
    expect(names(await watching.next())).toBe('/1')
    await watching.return!()
    expect((await failure(watch(b).next())).kind).toBe('unavailable')
    expect(b.store.watchers).toBe(0)
  })

  it('that waits to begin can be ended', async () => {
    b.isCut = true
    const watching = watch(b)
    const next = watching.next()
    const controller = new AbortController()
    const other = b.store.watch({ ...context, signal: controller.signal }, at('/'))[Symbol.asyncIterator]()
    const another = other.next()
    expect(await isSettled(next)).toBe(false)
    await watching.return!()
    controller.abort()
    expect((await next).done).toBe(true)
    expect((await another).done).toBe(true)
    expect(b.store.watchers).toBe(0)
    b.heal()
  })
})

describe('a snapshot that takes the place of the state', () => {
  /** Two live watches: one is waiting in next(), one is not. */
  async function live(): Promise<{
    waiting: AsyncIterator<WatchBatch>
    next: Promise<IteratorResult<WatchBatch>>
    idle: AsyncIterator<WatchBatch>
  }> {
    await write('0')
    b.catchUp()
    const waiting = watch(b)
    const idle = watch(b)
    expect(names(await waiting.next())).toBe('')
    expect(names(await idle.next())).toBe('')
    const next = waiting.next()
    expect(await isSettled(next)).toBe(false)
    return { waiting, next, idle }
  }

  it('leaves watches going on from history, in order, each event once', async () => {
    const { waiting, next, idle } = await live()
    for (let i = 1; i <= 300; i++) await write(String(i))
    await b.install()
    await write('301')
    b.catchUp()
    await write('302')
    b.catchUp()
    const all = Array.from({ length: 302 }, (_, i) => `/${i + 1}`).join()
    const told = [names(await next)]
    while (!told.join().endsWith('/302')) told.push(names(await waiting.next()))
    expect(told.filter(Boolean).join()).toBe(all)
    const others: string[] = []
    while (!others.join().endsWith('/302')) others.push(names(await idle.next()))
    expect(others.filter(Boolean).join()).toBe(all)
    for (const watching of [waiting, idle]) await watching.return!()
  })

  it('wakes a watch that waits since it had read all of history', async () => {
    await write('0')
    b.catchUp()
    const watching = watch(b, { from: 1 })
    expect(names(await watching.next())).toBe('/0')
    const next = watching.next()
    expect(await isSettled(next)).toBe(false)
    await write('1')
    await b.install()
    expect(names(await next)).toBe('/1')
    await watching.return!()
  })

  it('ends those whose next event is gone with compacted, and where to begin', async () => {
    const { next, idle, waiting } = await live()
    for (let i = 1; i <= 100; i++) await write(String(i))
    await a.collect()
    await b.install()
    const { floor } = a.tree.history
    expect(floor).toBeGreaterThan(1)
    for (const ended of [await failure(next), await failure(idle.next())]) {
      expect(ended.kind).toBe('compacted')
      expect(decodePosition(ended.resume!)[0]!.revision).toBe(floor + 1)
    }
    expect((await waiting.next()).done).toBe(true)
    expect(b.store.watchers).toBe(0)
    const again = watch(b, { from: floor + 1 })
    expect(names(await again.next())).toContain('/100')
    await again.return!()
  })

  it('wakes who waits for a revision of it, and is what is read from then on', async () => {
    await write('1')
    const { position } = await a.store.write(context, at('/1'), bytes('new'))
    const read = b.store.read(context, at('/1'), { consistency: 'stale', minPosition: position })
    expect(await isSettled(read)).toBe(false)
    await b.install()
    expect(Buffer.from((await read).bytes).toString()).toBe('new')
    expect(b.store.revision).toBe(2)
    expect((await b.store.list(context, at('/'), { consistency: 'stale' })).entries).toHaveLength(1)
  })
})
