/** Watches through a namespace: paths of the caller, unions, mounts below, positions to resume from, and ends. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { emptyServer } from '../../namespace/empty-server.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer, WatchBatch, WatchEvent, WatchOptions } from '../../namespace/file-server.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { Namespace } from '../../namespace/namespace.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Position } from '../../namespace/position.ts'
import { decodePosition, encodePosition } from '../../namespace/position.ts'
import { mergeWatches } from '../../namespace/union/merge-watch.ts'

const context = contextFor({ name: 'someone', groups: [] }, Infinity)
const p = (text: string): Path => parsePath(text)
let servers: MemoryServer[]
beforeEach(() => (servers = []))
afterEach(() => servers.forEach((server) => server.close()))

function memory(): MemoryServer {
  const server = new MemoryServer({ owner: 'someone' })
  servers.push(server)
  return server
}

const write = (server: FileServer, path: string): Promise<unknown> =>
  server.write(context, p(path), new TextEncoder().encode(path), { parents: true })

/** Events of a watch from a position on, until one of `last` is told. */
class Watcher {
  readonly #iterator: AsyncIterator<WatchBatch>
  readonly seen: WatchEvent[] = []
  position: Position = []

  constructor(server: FileServer, path: string, options: WatchOptions) {
    this.#iterator = server.watch(context, p(path), options)[Symbol.asyncIterator]()
  }

  /** Go on until an event of `path` has been told; gives `type path` of all since the last call. */
  async until(path: string): Promise<string[]> {
    const start = this.seen.length
    while (!this.seen.slice(start).some((event) => event.path === path)) {
      const result = await this.#iterator.next()
      if (result.done === true) throw new Error('the watch has ended')
      this.seen.push(...result.value.events)
      this.position = result.value.position
    }
    return this.seen.slice(start).map((event) => `${event.type} ${event.path}`)
  }

  async end(): Promise<void> {
    await this.#iterator.return?.()
  }
}

describe('a watch through a namespace', () => {
  it('tells events of a mounted tree under the caller’s paths, and renames over its edge as what is seen of them', async () => {
    const server = memory()
    await write(server, '/in/a')
    await write(server, '/out/b')
    const namespace = new Namespace()
    await namespace.mount(context, { server, path: p('/in') }, p('/m/n'))
    const { position } = await namespace.list(context, p('/m/n'))
    const watcher = new Watcher(namespace, '/m/n', { recursive: true, from: position })
    await server.rename(context, p('/out/b'), p('/in/b'))
    await server.rename(context, p('/in/a'), p('/out/a'))
    await server.rename(context, p('/in/b'), p('/in/c'))
    await write(server, '/in/end')
    const events = await watcher.until('/m/n/end')
    expect(events.slice(-4)).toEqual(['create /m/n/b', 'remove /m/n/a', 'rename /m/n/c', 'create /m/n/end'])
    const renamed = watcher.seen.at(-2)!
    expect(renamed).toMatchObject({ from: '/m/n/b', stat: { name: 'c' } })
    await server.remove(context, p('/in'), { recursive: true })
    expect(await watcher.until('/m/n')).toEqual(['remove /m/n'])
    await watcher.end()
  })

  it('follows the mounts below a recursive watch, hides what they cover, and resumes from its position', async () => {
    const [root, inner] = [memory(), memory()]
    await write(root, '/d/m/covered')
    await write(inner, '/first')
    const namespace = new Namespace(root)
    await namespace.mount(context, inner, p('/d/m'))
    const { position } = await namespace.list(context, p('/d'), { recursive: true })
    expect(position).toHaveLength(2)
    const watcher = new Watcher(namespace, '/d', { recursive: true, from: position })
    await watcher.until('/d/m/first')
    await write(root, '/d/m/hidden')
    await write(inner, '/x')
    await write(root, '/d/y')
    await watcher.until('/d/m/x')
    if (!watcher.seen.some((event) => event.path === '/d/y')) await watcher.until('/d/y')
    expect(watcher.seen.filter((event) => event.path.includes('hidden'))).toEqual([])
    expect(watcher.position).toHaveLength(2)
    await watcher.end()
    await write(inner, '/later')
    await write(root, '/d/last')
    const resumed = new Watcher(namespace, '/d', { recursive: true, from: watcher.position })
    await resumed.until('/d/last')
    if (!resumed.seen.some((event) => event.path === '/d/m/later')) await resumed.until('/d/m/later')
    expect(resumed.seen.map((event) => event.path).sort()).toEqual(['/d/last', '/d/m/later'])
    // Resuming after one event of a merged watch goes on with the others where they were.
    const event = resumed.seen.find((each) => each.path === '/d/last')!
    expect(event.position).toHaveLength(2)
    await resumed.end()
  })

  it('tells events of all members of a union, but none of a name that an earlier member has', async () => {
    const [one, two] = [memory(), memory()]
    await write(one, '/both')
    const namespace = new Namespace()
    await namespace.mount(context, one, p('/u'))
    await namespace.mount(context, two, p('/u'), { order: 'after' })
    const watcher = new Watcher(namespace, '/u', {})
    const first = watcher.until('/u/a')
    // The watch of several servers begins once each has told its position: what is written after that is told.
    await namespace.list(context, p('/u'))
    await write(one, '/a')
    expect(await first).toEqual(['create /u/a'])
    await write(two, '/both')
    await write(two, '/b')
    expect(await watcher.until('/u/b')).toEqual(['create /u/b'])
    await watcher.end()
    const numbered = namespace.watch(context, p('/u'), { from: 1 })[Symbol.asyncIterator]()
    await expect(numbered.next()).rejects.toMatchObject({ kind: 'invalid', path: '/u' })
  })

  it('ends with the failure of one member, with where to resume all of them, and ends the others', async () => {
    const at = (store: string, revision: number): Position => [{ store, incarnation: 'i', revision, ordinal: 0 }]
    let returned = 0
    const quiet: AsyncIterable<WatchBatch> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise(() => undefined),
        return: () => Promise.resolve({ done: true, value: (returned++, undefined) }),
      }),
    }
    const error = new NineError({ kind: 'overloaded', op: 'test', path: '/x', message: 'slow', resume: encodePosition(at('b', 7)) })
    const fails: AsyncIterable<WatchBatch> = {
      [Symbol.asyncIterator]: () => ({
        next: () => Promise.reject(error),
        return: () => Promise.resolve({ done: true, value: undefined }),
      }),
    }
    const merged = mergeWatches([
      { position: at('a', 3), batches: quiet },
      { position: at('b', 5), batches: fails },
    ])
    const failure: unknown = await merged.next().catch((caught: unknown) => caught)
    expect(failure).toMatchObject({ kind: 'overloaded', path: '/x' })
    expect(decodePosition((failure as NineError).resume!)).toEqual([...at('a', 3), ...at('b', 7)])
    expect(returned).toBe(1)
    expect(await merged.next()).toEqual({ done: true, value: undefined })
  })

  it('is ended by return() while it waits', async () => {
    const namespace = new Namespace()
    for (const name of ['/u/a', '/u/b']) await namespace.mount(context, memory(), p(name))
    const iterator = namespace.watch(context, p('/u'), { recursive: true })[Symbol.asyncIterator]()
    const waiting = iterator.next()
    await iterator.return!()
    expect((await waiting).done).toBe(true)
    const silent = new Namespace(emptyServer()).watch(context, p('/'))[Symbol.asyncIterator]()
    const silence = silent.next()
    await silent.return!()
    expect((await silence).done).toBe(true)
  })
})

describe('a merged watch', () => {
  it('tells the earlier position where two members are of one store, so that none is skipped', async () => {
    const at = (revision: number): Position => [{ store: 's', incarnation: 'i', revision, ordinal: 0 }]
    const never = new Promise<IteratorResult<WatchBatch>>(() => undefined)
    const told = (...revisions: number[]): AsyncIterable<WatchBatch> => ({
      [Symbol.asyncIterator]: () => ({
        next: () => {
          const revision = revisions.shift()
          return revision === undefined ? never : Promise.resolve({ done: false, value: { events: [], position: at(revision) } })
        },
      }),
    })
    const merged = mergeWatches([
      { position: at(3), batches: told(9) },
      { position: at(3), batches: told(5) },
    ])
    const positions = [await merged.next(), await merged.next()].map((result) => (result.value as WatchBatch).position)
    expect(positions).toEqual([at(3), at(5)])
  })
})
