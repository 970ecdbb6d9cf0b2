/** Watches: every event, in order, once, from any position on. */
import { expect } from 'vitest'
import type { WatchBatch, WatchEvent } from '../../../namespace/file-server.ts'
import { limits } from '../../../namespace/limits.ts'
import type { Position } from '../../../namespace/position.ts'
import { expectKind, fails, group, textOf, Watching, type Group, type Tools } from './tools.ts'

/** Type and name of each event, from the test's directory. */
function told(t: Tools, events: readonly WatchEvent[]): string[] {
  const relative = (path: string): string => path.slice(t.at().length + 1)
  return events.map((event) =>
    event.from === undefined ? `${event.type} ${relative(event.path)}` : `${event.type} ${relative(event.from)} > ${relative(event.path)}`,
  )
}

export const watchGroups: readonly Group[] = [
  group('watch', {
    'a watch sees every kind of change': async (t) => {
      const watch = await t.watch('', { recursive: true })
      await t.put('f', '1')
      await t.put('f', '2')
      await t.server.setStat(t.context, t.at('f'), { mode: 0o600 })
      await t.server.mkdir(t.context, t.at('d'))
      await t.server.symlink(t.context, t.at('l'), 'f')
      await t.server.rename(t.context, t.at('f'), t.at('g'))
      await t.server.remove(t.context, t.at('g'))
      expect(told(t, await watch.events(7))).toEqual([
        'create f',
        'change f',
        'change f',
        'create d',
        'create l',
        'rename f > g',
        'remove g',
      ])
      await watch.close()
    },
    'a watch tells at once where it begins': async (t) => {
      const stop = new AbortController()
      const batches = t.server.watch({ ...t.context, signal: stop.signal }, t.at(), { recursive: true })[Symbol.asyncIterator]()
      const begun = performance.now()
      const first = await batches.next()
      // Not with the first news of how far it has seen.
      expect(performance.now() - begun).toBeLessThan(limits.watch_progress_ms / 2)
      expect(first.value).toMatchObject({ events: [] })
      await batches.return?.()
      await t.put('f', '1')
      const { position: from } = first.value as WatchBatch
      for await (const { events } of t.server.watch({ ...t.context, signal: stop.signal }, t.at(), { recursive: true, from })) {
        if (events.length === 0) continue
        expect(told(t, events)).toEqual(['create f'])
        break
      }
    },
    'events tell all of a change': async (t) => {
      const watch = await t.watch('', { previous: true })
      const context = { ...t.context, cause: 'the reason' }
      const first = await t.server.write(context, t.at('f'), new TextEncoder().encode('1'))
      await t.put('f', '22')
      const [made, changed] = await watch.events(2)
      expect(made).toMatchObject({ type: 'create', path: t.at('f'), subtree: false, actor: context.principal.name, cause: 'the reason' })
      expect(made!.previous).toBeUndefined()
      expect(made!.stat.qid).toEqual(first.qid)
      expect(changed!.stat).toMatchObject({ name: 'f', version: 2, size: 2 })
      expect(changed!.previous).toMatchObject({ version: 1, size: 1 })
      expect(changed!.time).toBeGreaterThan(made!.time)
      expect(changed!.cause).toBeUndefined()
      expect(changed!.stat).toEqual(await t.stat('f'))
      await watch.close()
    },
    'events carry small values': async (t) => {
      const watch = await t.watch('')
      await t.put('f', 'value')
      await t.server.create(t.context, t.at('empty'))
      await t.server.mkdir(t.context, t.at('d'))
      const [f, empty, d] = await watch.events(3)
      expect(f!.bytes === undefined ? undefined : textOf(f!.bytes)).toBe('value')
      expect(empty!.bytes?.length).toBe(0)
      expect(d!.bytes).toBeUndefined()
      await watch.close()
    },
    'statsOnly leaves the bytes out': async (t) => {
      const watch = await t.watch('', { statsOnly: true })
      await t.put('f', 'value')
      const event = await watch.event()
      expect(event.bytes).toBeUndefined()
      expect(event.stat.size).toBe(5)
      await watch.close()
    },
    'without previous there is none': async (t) => {
      await t.put('f', '1')
      const watch = await t.watch('')
      await t.put('f', '2')
      expect((await watch.event()).previous).toBeUndefined()
      await watch.close()
    },
    'a plain watch sees the path and its direct children': async (t) => {
      await t.server.mkdir(t.context, t.at('d'))
      const watch = await t.watch('d')
      await t.put('d/f', 'x')
      await t.put('d/e/below', 'x', { parents: true })
      await t.put('beside', 'x')
      await t.put('d-too', 'x')
      await t.server.setStat(t.context, t.at('d'), { mode: 0o700 })
      await t.put('d/last', 'x')
      expect(told(t, await watch.events(4))).toEqual(['create d/f', 'create d/e', 'change d', 'create d/last'])
      await watch.close()
    },
    'a recursive watch sees all below': async (t) => {
      const watch = await t.watch('d', { recursive: true })
      await t.put('d/e/f', 'x', { parents: true })
      await t.put('d-too', 'x')
      await t.put('d/e/g', 'x')
      expect(told(t, await watch.events(4))).toEqual(['create d', 'create d/e', 'create d/e/f', 'create d/e/g'])
      await watch.close()
    },
    'a file is watched': async (t) => {
      await t.put('f', '1')
      const watch = await t.watch('f')
      await t.put('g', 'x')
      await t.put('f', '2')
      await t.server.remove(t.context, t.at('f'))
      await t.put('f', '3')
      expect(told(t, await watch.events(3))).toEqual(['change f', 'remove f', 'create f'])
      await watch.close()
    },
    'what does not exist is watched': async (t) => {
      const watch = await t.watch('none/yet')
      await t.put('none/yet', 'x', { parents: true })
      expect(told(t, await watch.events(1))).toEqual(['create none/yet'])
      await watch.close()
    },
    'removing a tree is one event': async (t) => {
      for (const name of ['d/a/f', 'd/g', 'd/b/h']) await t.put(name, 'x', { parents: true })
      const all = await t.watch('', { recursive: true })
      const below = await t.watch('d/a')
      await t.server.remove(t.context, t.at('d'), { recursive: true })
      await t.put('marker', 'x')
      const events = await all.events(2)
      expect(told(t, events)).toEqual(['remove d', 'create marker'])
      expect(events[0]).toMatchObject({ subtree: true })
      const seenBelow = await below.event()
      expect(seenBelow).toMatchObject({ type: 'remove', path: t.at('d'), subtree: true })
      await all.close()
      await below.close()
    },
    'moving a tree is one event at both ends': async (t) => {
      await t.put('a/b/f', 'x', { parents: true })
      await t.server.mkdir(t.context, t.at('to'))
      const old = await t.watch('a', { recursive: true })
      const target = await t.watch('to')
      const arriving = await t.watch('to/z/b')
      await t.server.rename(t.context, t.at('a'), t.at('to/z'))
      for (const watch of [old, target, arriving]) {
        const event = await watch.event()
        expect(event).toMatchObject({ type: 'rename', from: t.at('a'), path: t.at('to/z'), subtree: true })
        expect(event.stat.name).toBe('z')
      }
      await t.put('to/z/b/f', 'y')
      expect(told(t, await arriving.events(1))).toEqual(['change to/z/b/f'])
      for (const watch of [old, target, arriving]) await watch.close()
    },
    'a rename that replaces': async (t) => {
      await t.put('f', 'f')
      await t.put('g', 'g')
      const watch = await t.watch('')
      await t.server.rename(t.context, t.at('f'), t.at('g'), { replace: true })
      await t.put('marker', 'x')
      const events = await watch.events(2)
      const seen = told(t, events[0]!.type === 'rename' ? events : [...events, ...(await watch.events(1))])
      expect(seen.filter((line) => line !== 'remove g')).toEqual(['rename f > g', 'create marker'])
      await watch.close()
    },
    'a transaction is seen in order, at one revision': async (t) => {
      const watch = await t.watch('', { recursive: true })
      await t.server.txn(t.context, {
        if: [],
        then: [
          { op: 'mkdir', path: t.at('d') },
          { op: 'write', path: t.at('d/f'), bytes: new Uint8Array(1) },
          { op: 'rename', path: t.at('d/f'), to: t.at('g') },
        ],
        else: [],
      })
      const events = await watch.events(3)
      expect(told(t, events)).toEqual(['create d', 'create d/f', 'rename d/f > g'])
      expect(new Set(events.map((event) => event.position[0]!.revision)).size).toBe(1)
      const ordinals = events.map((event) => event.position[0]!.ordinal)
      expect(ordinals).toEqual([...ordinals].sort((a, b) => a - b))
      expect(new Set(ordinals).size).toBe(3)
      await watch.close()
    },
    'a failed change is no event': async (t) => {
      const watch = await t.watch('')
      await fails(t.server.remove(t.context, t.at('none')), 'not_found')
      const then = [
        { op: 'create', path: t.at('x') },
        { op: 'remove', path: t.at('none') },
      ] as const
      await fails(t.server.txn(t.context, { if: [], then, else: [] }), 'not_found')
      await t.put('marker', 'x')
      expect(told(t, await watch.events(1))).toEqual(['create marker'])
      await watch.close()
    },
    'events come once, in order, under load': async (t) => {
      const watch = await t.watch('')
      const count = 500
      await Promise.all(Array.from({ length: count }, (_, i) => t.put(`f${i % 20}`, `${i}`)))
      const events = await watch.events(count)
      const revisions = events.map((event) => event.position[0]!.revision)
      expect(revisions).toEqual([...revisions].sort((a, b) => a - b))
      expect(new Set(revisions).size).toBe(count)
      for (let i = 0; i < 20; i++) {
        const versions = events.filter((event) => event.path === t.at(`f${i}`)).map((event) => event.stat.version)
        expect(versions).toEqual(Array.from({ length: count / 20 }, (_, n) => n + 1))
      }
      await watch.close()
    },
  }),
  group('watch positions', {
    'a watch without from begins now': async (t) => {
      await t.put('before', 'x')
      const watching = t.server.watch({ ...t.context, deadline: Infinity }, t.at())[Symbol.asyncIterator]()
      const next = watching.next()
      await t.server.stat(t.context, t.at())
      await t.put('after', 'x')
      let step = await next
      // Progress is no event.
      while (step.done !== true && step.value.events.length === 0) step = await watching.next()
      expect(step.done === true ? [] : told(t, step.value.events)).toEqual(['create after'])
      await watching.return?.()
    },
    'from a position, inclusive': async (t) => {
      const first = await t.put('a', '1')
      await t.put('b', '2')
      await t.put('c', '3')
      const watch = new Watching(t.server.watch({ ...t.context, deadline: Infinity }, t.at(), { from: first.position }), [])
      expect(told(t, await watch.events(3))).toEqual(['create a', 'create b', 'create c'])
      await t.put('d', '4')
      expect(told(t, await watch.events(1))).toEqual(['create d'])
      await watch.close()
    },
    'from the position of an event': async (t) => {
      const watch = await t.watch('')
      for (const name of ['a', 'b', 'c']) await t.put(name, 'x')
      const events = await watch.events(3)
      await watch.close()
      const again = new Watching(t.server.watch({ ...t.context, deadline: Infinity }, t.at(), { from: events[1]!.position }), [])
      expect(told(t, await again.events(2))).toEqual(['create b', 'create c'])
      await again.close()
    },
    'from inside a transaction': async (t) => {
      const watch = await t.watch('')
      const then = ['a', 'b', 'c'].map((name) => ({ op: 'create', path: t.at(name) }) as const)
      await t.server.txn(t.context, { if: [], then, else: [] })
      const events = await watch.events(3)
      await watch.close()
      const again = new Watching(t.server.watch({ ...t.context, deadline: Infinity }, t.at(), { from: events[1]!.position }), [])
      expect(told(t, await again.events(2))).toEqual(['create b', 'create c'])
      await again.close()
    },
    'going on from a batch misses and repeats nothing': async (t) => {
      const watch = await t.watch('')
      await t.put('a', 'x')
      await t.put('b', 'x')
      await watch.events(2)
      await watch.close()
      await t.put('c', 'x')
      const again = new Watching(t.server.watch({ ...t.context, deadline: Infinity }, t.at(), { from: watch.position }), [])
      await t.put('d', 'x')
      expect(told(t, await again.events(2))).toEqual(['create c', 'create d'])
      await again.close()
    },
    'from a revision by its number': async (t) => {
      const first = await t.put('a', '1')
      await t.put('b', '2')
      const watch = new Watching(t.server.watch({ ...t.context, deadline: Infinity }, t.at(), { from: first.revision }), [])
      expect(told(t, await watch.events(2))).toEqual(['create a', 'create b'])
      await watch.close()
    },
    'list, then watch, misses nothing': async (t) => {
      const total = 60
      const writing = (async () => {
        for (let i = 0; i < total; i++) await t.put(`f${String(i).padStart(2, '0')}`, `${i}`)
      })()
      await t.put('f00', 'again')
      const { entries, position } = await t.server.list(t.context, t.at())
      const known = new Set(entries.map((entry) => entry.name))
      const watch = new Watching(t.server.watch({ ...t.context, deadline: Infinity }, t.at(), { from: position }), [])
      while (known.size < total) known.add((await watch.event()).stat.name)
      await writing
      await watch.close()
      expect([...known].sort()).toEqual(await t.names())
    },
    'history keeps the path as it was': async (t) => {
      const { position } = await t.put('old/f', '1', { parents: true })
      await t.put('old/f', '2')
      await t.server.rename(t.context, t.at('old'), t.at('new'))
      await t.put('new/f', '3')
      const options = { from: position, recursive: true }
      const watch = new Watching(t.server.watch({ ...t.context, deadline: Infinity }, t.at(), options), [])
      const seen = told(t, await watch.events(5))
      expect(seen).toEqual(['create old', 'create old/f', 'change old/f', 'rename old > new', 'change new/f'])
      await watch.close()
    },
    'a position of another store is compacted': async (t) => {
      const foreign: Position = [{ store: 'someone-elses', incarnation: 'i', revision: 1, ordinal: 0 }]
      const watching = t.server.watch(t.context, t.at(), { from: foreign })[Symbol.asyncIterator]()
      const error = await fails(watching.next(), 'compacted', t.at())
      expect(error.resume).toBeDefined()
    },
    'several watchers see the same': async (t) => {
      const watches = await Promise.all(Array.from({ length: 10 }, () => t.watch('')))
      for (let i = 0; i < 10; i++) await t.put(`f${i}`, 'x')
      const seen = await Promise.all(watches.map(async (watch) => told(t, await watch.events(10))))
      for (const events of seen) expect(events).toEqual(seen[0])
      expect(seen[0]!.length).toBe(10)
      await Promise.all(watches.map((watch) => watch.close()))
    },
  }),
  group('watch ends', {
    'return ends a watch': async (t) => {
      const watch = await t.watch('')
      await t.put('f', 'x')
      await watch.event()
      const waiting = watch.batches.next()
      await watch.close()
      expect((await waiting).done).toBe(true)
      expect((await watch.batches.next()).done).toBe(true)
    },
    'the signal ends a watch': async (t) => {
      const controller = new AbortController()
      const watch = await t.watch('', {}, { ...t.context, signal: controller.signal })
      await t.put('f', 'x')
      await watch.event()
      const waiting = watch.batches.next()
      controller.abort()
      expect((await waiting).done).toBe(true)
    },
    'a watch outlives the removal of its path': async (t) => {
      await t.server.mkdir(t.context, t.at('d'))
      const watch = await t.watch('d')
      await t.server.remove(t.context, t.at('d'))
      await t.server.mkdir(t.context, t.at('d'))
      await t.put('d/f', 'x')
      expect(told(t, await watch.events(3))).toEqual(['remove d', 'create d', 'create d/f'])
      await watch.close()
    },
    'an idle watch tells progress': async (t) => {
      await t.server.mkdir(t.context, t.at('quiet'))
      const watch = await t.watch('quiet')
      const { position } = await t.put('beside', 'x')
      // Whatever was told before, in the end the idle watch has seen the other change.
      for (;;) {
        const step = await watch.batches.next()
        if (step.done === true) expect.fail('the watch ended')
        expect(step.value.events.filter((event) => event.path !== t.at('quiet'))).toEqual([])
        const told = step.value.position.find((element) => element.store === position[0]!.store)
        if (told !== undefined && told.revision > position[0]!.revision) break
      }
      await watch.close()
    },
    'a slow reader may end with overloaded, and misses nothing': async (t) => {
      const watch = await t.watch('')
      const first = watch.events(1)
      await t.put('first', 'x')
      expect(told(t, await first)).toEqual(['create first'])
      const total = 9_000
      for (let i = 0; i < total; i += 500) {
        const then = Array.from({ length: 500 }, (_, n) => ({ op: 'create', path: t.at(`f${i + n}`) }) as const)
        await t.server.txn(t.context, { if: [], then, else: [] })
      }
      await goOn(t, watch, total)
    },
  }),
]

/** Read `total` creations in order, going on where an overloaded watch says. */
async function goOn(t: Tools, first: Watching, total: number): Promise<void> {
  const { decodePosition } = await import('../../../namespace/position.ts')
  let watch = first
  const seen: string[] = []
  while (seen.length < total) {
    try {
      seen.push(...told(t, await watch.events(1)))
    } catch (error) {
      const end = expectKind(error, 'overloaded', t.at())
      watch = new Watching(t.server.watch({ ...t.context, deadline: Infinity }, t.at(), { from: decodePosition(end.resume!) }), [])
    }
  }
  expect(seen).toEqual(Array.from({ length: total }, (_, i) => `create f${i}`))
  await watch.close()
}
