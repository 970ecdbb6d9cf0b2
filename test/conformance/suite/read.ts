/** stat, read, and which state they show. */
import { expect } from 'vitest'
import { parsePath } from '../../../namespace/path.ts'
import type { Position } from '../../../namespace/position.ts'
import { bytesOf, fails, group, textOf, type Group } from './tools.ts'

export const readGroups: readonly Group[] = [
  group('stat', {
    'stat of a file': async (t) => {
      await t.put('a.txt', 'hello', { contentType: 'text/plain', mode: 0o640 })
      const stat = await t.stat('a.txt')
      expect(stat).toMatchObject({ name: 'a.txt', kind: 'file', size: 5, version: 1, mode: 0o640, contentType: 'text/plain' })
      expect(stat.qid.version).toBe(stat.version)
      expect(stat.qid.type).toBe(0)
      expect(stat.modifiedBy).toBe(t.context.principal.name)
      expect(stat.revision).toBe(stat.createdRevision)
    },
    'stat of a directory': async (t) => {
      await t.server.mkdir(t.context, t.at('d'))
      const stat = await t.stat('d')
      expect(stat).toMatchObject({ name: 'd', kind: 'directory', size: 0 })
      expect(stat.qid.type & 0x80).toBe(0x80)
    },
    'stat of the root': async (t) => {
      const { stat } = await t.server.stat(t.context, parsePath('/'))
      expect(stat).toMatchObject({ name: '', kind: 'directory' })
    },
    'stat counts versions and keeps createdRevision': async (t) => {
      await t.put('f', '1')
      const first = await t.stat('f')
      await t.put('f', '2')
      await t.put('f', '3')
      const third = await t.stat('f')
      expect(third.version).toBe(3)
      expect(third.qid.path).toBe(first.qid.path)
      expect(third.createdRevision).toBe(first.createdRevision)
      expect(third.revision).toBeGreaterThan(first.revision)
      expect(third.createdAt).toBe(first.createdAt)
    },
    'times grow with every change': async (t) => {
      let last = 0
      for (let i = 0; i < 20; i++) {
        await t.put('f', `${i}`)
        const { modifiedAt } = await t.stat('f')
        expect(modifiedAt).toBeGreaterThan(last)
        expect(Number.isSafeInteger(modifiedAt)).toBe(true)
        last = modifiedAt
      }
    },
    'stat of what is missing': async (t) => {
      await fails(t.server.stat(t.context, t.at('none')), 'not_found', t.at('none'))
      await fails(t.server.stat(t.context, t.at('none/below')), 'not_found', t.at('none/below'))
    },
    'a path through a file is not_directory': async (t) => {
      await t.put('f', 'x')
      await fails(t.server.stat(t.context, t.at('f/below')), 'not_directory', t.at('f/below'))
      await fails(t.server.read(t.context, t.at('f/below')), 'not_directory')
      await fails(t.put('f/below', 'x'), 'not_directory')
      await fails(t.server.mkdir(t.context, t.at('f/below/more'), { parents: true }), 'not_directory')
    },
  }),
  group('read', {
    'read the whole': async (t) => {
      const done = await t.put('f', 'some bytes')
      const { bytes, stat, position } = await t.server.read(t.context, t.at('f'))
      expect(textOf(bytes)).toBe('some bytes')
      expect(stat).toMatchObject({ name: 'f', kind: 'file', size: 10 })
      expect(stat.qid).toEqual(done.qid)
      expect(position.length).toBeGreaterThan(0)
    },
    'read a range': async (t) => {
      await t.put('f', '0123456789')
      const read = async (offset?: number, length?: number): Promise<string> =>
        textOf((await t.server.read(t.context, t.at('f'), { offset, length })).bytes)
      expect(await read(3, 4)).toBe('3456')
      expect(await read(3)).toBe('3456789')
      expect(await read(undefined, 2)).toBe('01')
      expect(await read(8, 100)).toBe('89')
      expect(await read(4, 0)).toBe('')
    },
    'read past the end gives no bytes': async (t) => {
      await t.put('f', 'abc')
      for (const offset of [3, 4, 1_000_000, 2 ** 40]) {
        const { bytes, stat } = await t.server.read(t.context, t.at('f'), { offset })
        expect(bytes.length).toBe(0)
        expect(stat.size).toBe(3)
      }
    },
    'read of an empty file': async (t) => {
      await t.server.create(t.context, t.at('f'))
      const { bytes, stat } = await t.server.read(t.context, t.at('f'))
      expect(bytes.length).toBe(0)
      expect(stat).toMatchObject({ size: 0, version: 1 })
    },
    'read with a bad range is invalid': async (t) => {
      await t.put('f', 'abc')
      for (const range of [{ offset: -1 }, { length: -1 }, { offset: 0.5 }, { offset: Number.NaN }]) {
        await fails(t.server.read(t.context, t.at('f'), range), 'invalid')
      }
    },
    'read of a directory is is_directory': async (t) => {
      await fails(t.server.read(t.context, t.at()), 'is_directory', t.at())
    },
    'bytes given out never change': async (t) => {
      await t.put('f', 'first')
      const { bytes } = await t.server.read(t.context, t.at('f'))
      await t.put('f', 'other')
      await t.put('f', 'X', { at: 0 })
      expect(textOf(bytes)).toBe('first')
    },
    'bytes given in may be changed afterwards': async (t) => {
      const mine = bytesOf('mine')
      await t.put('f', mine)
      mine.fill(0)
      expect(await t.text('f')).toBe('mine')
    },
  }),
  group('consistency', {
    'positions of answers grow': async (t) => {
      const first = (await t.put('a', '1')).position
      const second = (await t.put('b', '2')).position
      expect(first.length).toBeGreaterThan(0)
      const { store } = first[0]!
      const later = second.find((element) => element.store === store)!
      expect(later.incarnation).toBe(first[0]!.incarnation)
      expect(later.revision).toBeGreaterThan(first[0]!.revision)
    },
    'minPosition gives read-your-writes': async (t) => {
      for (let i = 0; i < 20; i++) {
        const { position } = await t.put('f', `${i}`)
        const options = { minPosition: position, consistency: 'stale' } as const
        const { bytes } = await t.server.read(t.context, t.at('f'), options)
        expect(textOf(bytes)).toBe(`${i}`)
        expect((await t.server.stat(t.context, t.at('f'), options)).stat.version).toBe(i + 1)
      }
    },
    'minPosition waits until the deadline': async (t) => {
      const { position } = await t.put('f', '1')
      const future: Position = position.map((element) => ({ ...element, revision: element.revision + 1_000_000 }))
      const context = { ...t.context, deadline: performance.now() + 50 }
      await fails(t.server.read(context, t.at('f'), { minPosition: future }), 'deadline')
    },
    'minPosition waits for a change to come': async (t) => {
      const { position } = await t.put('f', '1')
      const next: Position = position.map((element) => ({ ...element, revision: element.revision + 1 }))
      const waiting = t.server.read(t.context, t.at('f'), { minPosition: next })
      await t.put('f', '2')
      expect(textOf((await waiting).bytes)).toBe('2')
    },
    'at a position shows the past': async (t) => {
      const one = await t.put('f', 'one')
      const two = await t.put('f', 'two')
      await t.put('g', 'new')
      const gone = await t.server.remove(t.context, t.at('f'))
      const read = async (at: Position): Promise<string> => textOf((await t.server.read(t.context, t.at('f'), { at })).bytes)
      expect(await read(one.position)).toBe('one')
      expect(await read(two.position)).toBe('two')
      await fails(read(gone.position), 'not_found')
      const then = await t.server.list(t.context, t.at(), { at: two.position })
      expect(then.entries.map((entry) => [entry.name, entry.version])).toEqual([['f', 2]])
      expect((await t.server.stat(t.context, t.at('f'), { at: one.position })).stat.version).toBe(1)
    },
    'at a position shows a tree where it was': async (t) => {
      await t.put('old/deep/f', 'x', { parents: true })
      const before = await t.server.stat(t.context, t.at('old'))
      const moved = await t.server.rename(t.context, t.at('old'), t.at('new'))
      expect(textOf((await t.server.read(t.context, t.at('old/deep/f'), { at: before.position })).bytes)).toBe('x')
      await fails(t.server.read(t.context, t.at('new/deep/f'), { at: before.position }), 'not_found')
      expect(textOf((await t.server.read(t.context, t.at('new/deep/f'), { at: moved.position })).bytes)).toBe('x')
      await fails(t.server.read(t.context, t.at('old/deep/f'), { at: moved.position }), 'not_found')
    },
    'at a time shows the last change not after it': async (t) => {
      await t.put('f', 'one')
      const one = (await t.stat('f')).modifiedAt
      await t.put('f', 'two')
      const two = (await t.stat('f')).modifiedAt
      const read = async (at: number): Promise<string> => textOf((await t.server.read(t.context, t.at('f'), { at })).bytes)
      expect(await read(one)).toBe('one')
      expect(await read(two - 1)).toBe('one')
      expect(await read(two)).toBe('two')
    },
    'at a position of another store is compacted': async (t) => {
      await t.put('f', 'x')
      const foreign: Position = [{ store: 'someone-elses', incarnation: 'i', revision: 1, ordinal: 0 }]
      await fails(t.server.read(t.context, t.at('f'), { at: foreign }), 'compacted')
    },
    'a restored-over position is compacted': async (t) => {
      const { position } = await t.put('f', 'x')
      const other: Position = position.map((element) => ({ ...element, incarnation: `${element.incarnation}x` }))
      await fails(t.server.read(t.context, t.at('f'), { at: other }), 'compacted')
    },
  }),
]
