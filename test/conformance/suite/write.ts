/** write, create, mkdir, and what must hold for them. */
import { expect } from 'vitest'
import { limits } from '../../../namespace/limits.ts'
import { parsePath } from '../../../namespace/path.ts'
import { bytesOf, expectKind, fails, group, matchOf, textOf, type Group } from './tools.ts'

export const writeGroups: readonly Group[] = [
  group('write', {
    'write makes and replaces': async (t) => {
      const made = await t.put('f', 'one')
      expect(made).toMatchObject({ created: true, size: 3 })
      expect(made.qid.version).toBe(1)
      const replaced = await t.put('f', 'longer value')
      expect(replaced).toMatchObject({ created: false, size: 12 })
      expect(replaced.qid).toMatchObject({ path: made.qid.path, version: 2 })
      expect(replaced.revision).toBeGreaterThan(made.revision)
      expect(await t.text('f')).toBe('longer value')
      await t.put('f', '')
      expect((await t.stat('f')).size).toBe(0)
    },
    'append at the end': async (t) => {
      expect(await t.put('f', 'a', { at: 'append' })).toMatchObject({ created: true, size: 1 })
      expect(await t.put('f', 'bc', { at: 'append' })).toMatchObject({ created: false, size: 3 })
      expect(await t.text('f')).toBe('abc')
    },
    'appends at the same time all arrive': async (t) => {
      await Promise.all(Array.from({ length: 50 }, (_, i) => t.put('f', `${String(i).padStart(2, '0')}\n`, { at: 'append' })))
      const lines = (await t.text('f')).split('\n').filter((line) => line !== '')
      expect(lines.sort()).toEqual(Array.from({ length: 50 }, (_, i) => String(i).padStart(2, '0')))
      expect((await t.stat('f')).version).toBe(50)
    },
    'write at an offset does not truncate': async (t) => {
      await t.put('f', '0123456789')
      expect(await t.put('f', 'AB', { at: 3 })).toMatchObject({ size: 10 })
      expect(await t.text('f')).toBe('012AB56789')
      expect(await t.put('f', 'XYZ', { at: 9 })).toMatchObject({ size: 12 })
      expect(await t.text('f')).toBe('012AB5678XYZ')
      await t.put('f', '', { at: 2 })
      expect(await t.text('f')).toBe('012AB5678XYZ')
    },
    'a gap is filled with zeros': async (t) => {
      await t.put('f', 'ab')
      await t.put('f', 'z', { at: 5 })
      expect(await t.text('f')).toBe('ab\0\0\0z')
      await t.put('g', 'z', { at: 2 })
      expect(await t.text('g')).toBe('\0\0z')
    },
    'a bad offset is invalid': async (t) => {
      await t.put('f', 'x')
      for (const at of [-1, 0.5, Number.NaN, Number.MAX_SAFE_INTEGER + 1]) await fails(t.put('f', 'x', { at }), 'invalid')
      await fails(t.put('f', 'x', { at: limits.file_bytes_max }), 'too_large')
      expect(await t.text('f')).toBe('x')
    },
    'write below a missing directory': async (t) => {
      await fails(t.put('a/b/f', 'x'), 'not_found', t.at('a/b/f'))
      expect(await t.put('a/b/f', 'x', { parents: true })).toMatchObject({ created: true })
      expect(await t.names()).toEqual(['a'])
      expect(await t.text('a/b/f')).toBe('x')
    },
    'write to a directory is is_directory': async (t) => {
      await fails(t.server.write(t.context, t.at(), bytesOf('x')), 'is_directory', t.at())
      await fails(t.server.write(t.context, parsePath('/'), bytesOf('x')), ['is_directory', 'exists', 'invalid'])
    },
    'mustExist does not make': async (t) => {
      await fails(t.put('f', 'x', { mustExist: true }), 'not_found')
      expect(await t.names()).toEqual([])
      await t.put('f', 'x')
      await t.put('f', 'y', { mustExist: true })
      expect(await t.text('f')).toBe('y')
    },
    'write keeps metadata it does not name': async (t) => {
      await t.put('f', 'x', { mode: 0o600, contentType: 'text/x' })
      await t.put('f', 'y')
      expect(await t.stat('f')).toMatchObject({ mode: 0o600, contentType: 'text/x' })
      await t.put('f', 'z', { contentType: 'text/z' })
      expect(await t.stat('f')).toMatchObject({ mode: 0o600, contentType: 'text/z' })
    },
    'write takes the time of modification': async (t) => {
      await t.put('f', 'x', { modifiedAt: 1_000_000_123 })
      expect((await t.stat('f')).modifiedAt).toBe(1_000_000_123)
    },
    'bad attributes are invalid': async (t) => {
      await fails(t.put('f', 'x', { mode: 0o10000 }), 'invalid')
      await fails(t.put('f', 'x', { mode: -1 }), 'invalid')
      await fails(t.put('f', 'x', { contentType: 'x'.repeat(limits.attribute_bytes_max + 1) }), 'invalid')
      await fails(t.put('f', 'x', { modifiedAt: 0.5 }), 'invalid')
      expect(await t.names()).toEqual([])
    },
  }),
  group('ifMatch', {
    'none makes only what is missing': async (t) => {
      await t.put('f', 'x', { ifMatch: 'none' })
      await fails(t.put('f', 'y', { ifMatch: 'none' }), 'conflict', t.at('f'))
      expect(await t.text('f')).toBe('x')
    },
    'the version seen': async (t) => {
      const first = await t.put('f', '1')
      const second = await t.put('f', '2', { ifMatch: matchOf(first) })
      const error = await fails(t.put('f', '3', { ifMatch: matchOf(first) }), 'conflict')
      expect(error.outcome).toBe('none')
      expect(await t.text('f')).toBe('2')
      await t.put('f', '3', { ifMatch: matchOf(second) })
      expect((await t.stat('f')).version).toBe(3)
    },
    'nothing there matches no version': async (t) => {
      const { qid } = await t.put('f', 'x')
      await t.server.remove(t.context, t.at('f'))
      await fails(t.put('f', 'y', { ifMatch: matchOf({ qid }) }), 'conflict')
      expect(await t.names()).toEqual([])
    },
    'a file made again never matches': async (t) => {
      const first = await t.put('f', 'x')
      await t.server.remove(t.context, t.at('f'))
      const again = await t.put('f', 'x')
      expect(again.qid.version).toBe(first.qid.version)
      expect(again.qid.path).not.toBe(first.qid.path)
      await fails(t.put('f', 'y', { ifMatch: matchOf(first) }), 'conflict')
      await fails(t.server.remove(t.context, t.at('f'), { ifMatch: matchOf(first) }), 'conflict')
    },
    'on create, mkdir and symlink': async (t) => {
      await t.server.create(t.context, t.at('f'), { ifMatch: 'none' })
      await fails(t.server.create(t.context, t.at('f'), { ifMatch: 'none' }), 'conflict')
      await t.server.mkdir(t.context, t.at('d'), { ifMatch: 'none' })
      await fails(t.server.mkdir(t.context, t.at('d'), { ifMatch: 'none' }), 'conflict')
      await t.server.symlink(t.context, t.at('l'), 'x', { ifMatch: 'none' })
      await fails(t.server.symlink(t.context, t.at('l'), 'x', { ifMatch: 'none' }), 'conflict')
    },
    'on remove': async (t) => {
      const first = await t.put('f', '1')
      const second = await t.put('f', '2')
      await fails(t.server.remove(t.context, t.at('f'), { ifMatch: matchOf(first) }), 'conflict')
      await t.server.remove(t.context, t.at('f'), { ifMatch: matchOf(second) })
      expect(await t.names()).toEqual([])
    },
    'on rename': async (t) => {
      const first = await t.put('f', '1')
      const second = await t.put('f', '2')
      await fails(t.server.rename(t.context, t.at('f'), t.at('g'), { ifMatch: matchOf(first) }), 'conflict')
      await t.server.rename(t.context, t.at('f'), t.at('g'), { ifMatch: matchOf(second) })
      expect(await t.names()).toEqual(['g'])
    },
    'on setStat': async (t) => {
      const first = await t.put('f', '1')
      await t.server.setStat(t.context, t.at('f'), { mode: 0o600 }, { ifMatch: matchOf(first) })
      await fails(t.server.setStat(t.context, t.at('f'), { mode: 0o644 }, { ifMatch: matchOf(first) }), 'conflict')
      expect((await t.stat('f')).mode).toBe(0o600)
    },
    'of many that compare and set, one wins': async (t) => {
      const { qid } = await t.put('f', 'start')
      const tries = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => t.put('f', `${i}`, { ifMatch: matchOf({ qid }) })))
      expect(tries.filter((result) => result.status === 'fulfilled').length).toBe(1)
      expect((await t.stat('f')).version).toBe(2)
    },
    'of many that make, one wins': async (t) => {
      const tries = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => t.put('f', `${i}`, { ifMatch: 'none' })))
      const winner = tries.findIndex((result) => result.status === 'fulfilled')
      expect(tries.filter((result) => result.status === 'fulfilled').length).toBe(1)
      expect(await t.text('f')).toBe(`${winner}`)
    },
    'a counter loses no increment': async (t) => {
      await t.put('n', '0')
      const increment = async (): Promise<void> => {
        for (;;) {
          const { bytes, stat } = await t.server.read(t.context, t.at('n'))
          try {
            await t.put('n', `${Number(textOf(bytes)) + 1}`, { ifMatch: matchOf(stat) })
            return
          } catch (error) {
            expectKind(error, 'conflict')
          }
        }
      }
      await Promise.all(Array.from({ length: 12 }, increment))
      expect(await t.text('n')).toBe('12')
    },
  }),
  group('create', {
    'create makes an empty file': async (t) => {
      expect(await t.server.create(t.context, t.at('f'), { mode: 0o600 })).toMatchObject({ created: true, size: 0 })
      expect(await t.stat('f')).toMatchObject({ kind: 'file', size: 0, version: 1, mode: 0o600 })
    },
    'create of what exists': async (t) => {
      await t.put('f', 'kept')
      await fails(t.server.create(t.context, t.at('f')), 'exists', t.at('f'))
      await fails(t.server.create(t.context, t.at()), 'exists')
      expect(await t.text('f')).toBe('kept')
    },
    'create makes parents when asked': async (t) => {
      await fails(t.server.create(t.context, t.at('a/b')), 'not_found')
      await t.server.create(t.context, t.at('a/b'), { parents: true })
      expect(await t.names('a')).toEqual(['b'])
    },
    'mkdir makes a directory': async (t) => {
      expect(await t.server.mkdir(t.context, t.at('d'))).toMatchObject({ created: true })
      expect(await t.names('d')).toEqual([])
    },
    'mkdir of what exists': async (t) => {
      await t.server.mkdir(t.context, t.at('d'))
      await t.put('f', 'x')
      await fails(t.server.mkdir(t.context, t.at('d')), 'exists', t.at('d'))
      await fails(t.server.mkdir(t.context, t.at('f')), 'exists')
      await fails(t.server.mkdir(t.context, t.at('d'), { parents: true }), 'exists')
    },
    'mkdir makes parents when asked': async (t) => {
      await fails(t.server.mkdir(t.context, t.at('a/b/c')), 'not_found')
      await t.server.mkdir(t.context, t.at('a/b/c'), { parents: true })
      expect(await t.names('a/b')).toEqual(['c'])
    },
    'qids are never reused': async (t) => {
      const seen = new Set<number>()
      for (let i = 0; i < 20; i++) {
        const { qid } = await t.server.create(t.context, t.at('f'))
        expect(seen.has(qid.path)).toBe(false)
        seen.add(qid.path)
        await t.server.remove(t.context, t.at('f'))
      }
    },
  }),
]
