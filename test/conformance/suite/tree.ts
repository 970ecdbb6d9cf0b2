/** Links, removal, renames, and changes of metadata. */
import { expect } from 'vitest'
import { limits } from '../../../namespace/limits.ts'
import { parsePath } from '../../../namespace/path.ts'
import { bytesOf, fails, group, type Group } from './tools.ts'

export const treeGroups: readonly Group[] = [
  group('symlink', {
    'a link keeps its target as it is': async (t) => {
      for (const [name, target] of Object.entries({ a: '../x/./y//', b: '/absolute', c: 'dangling', d: 'ünïcode \u{1F600}' })) {
        await t.server.symlink(t.context, t.at(name), target)
        expect((await t.server.readlink(t.context, t.at(name))).target).toBe(target)
        expect(await t.stat(name)).toMatchObject({ kind: 'symlink', size: Buffer.byteLength(target), target })
      }
    },
    'readlink of what is no link is invalid': async (t) => {
      await t.put('f', 'x')
      await fails(t.server.readlink(t.context, t.at('f')), 'invalid')
      await fails(t.server.readlink(t.context, t.at()), 'invalid')
      await fails(t.server.readlink(t.context, t.at('none')), 'not_found')
    },
    'nothing follows a link': async (t) => {
      await t.put('d/f', 'target', { parents: true })
      await t.server.symlink(t.context, t.at('dir'), 'd')
      await t.server.symlink(t.context, t.at('file'), 'd/f')
      await fails(t.server.read(t.context, t.at('dir/f')), 'not_directory')
      await fails(t.server.list(t.context, t.at('dir')), 'not_directory')
      await fails(t.put('dir/new', 'x'), 'not_directory')
      await fails(t.put('file', 'changed'), 'invalid')
      expect(await t.text('d/f')).toBe('target')
      expect(await t.names('d')).toEqual(['f'])
    },
    'rename and remove act on the link itself': async (t) => {
      await t.put('f', 'x')
      await t.server.symlink(t.context, t.at('l'), 'f')
      await t.server.rename(t.context, t.at('l'), t.at('m'))
      expect((await t.server.readlink(t.context, t.at('m'))).target).toBe('f')
      await t.server.remove(t.context, t.at('m'))
      expect(await t.names()).toEqual(['f'])
    },
    'a link over what exists': async (t) => {
      await t.put('f', 'x')
      await fails(t.server.symlink(t.context, t.at('f'), 'y'), 'exists')
    },
    'a target of 4,096 bytes and one more': async (t) => {
      const longest = 'x'.repeat(limits.symlink_bytes_max)
      await t.server.symlink(t.context, t.at('l'), longest)
      expect((await t.server.readlink(t.context, t.at('l'))).target).toBe(longest)
      await fails(t.server.symlink(t.context, t.at('m'), `${longest}x`), 'name_too_long')
    },
  }),
  group('remove', {
    'remove a file': async (t) => {
      const { qid } = await t.put('f', 'x')
      const removed = await t.server.remove(t.context, t.at('f'))
      expect(removed.qid).toEqual(qid)
      expect(removed.created).toBe(false)
      await fails(t.stat('f'), 'not_found')
      await fails(t.server.remove(t.context, t.at('f')), 'not_found', t.at('f'))
    },
    'remove a directory that is empty, or not': async (t) => {
      await t.put('d/f', 'x', { parents: true })
      await fails(t.server.remove(t.context, t.at('d')), 'not_empty', t.at('d'))
      await t.server.remove(t.context, t.at('d/f'))
      await t.server.remove(t.context, t.at('d'))
      expect(await t.names()).toEqual([])
    },
    'remove a whole tree': async (t) => {
      for (const name of ['d/a/b/f', 'd/g', 'd/a/h', 'kept']) await t.put(name, name, { parents: true })
      await t.server.remove(t.context, t.at('d'), { recursive: true })
      expect(await t.names()).toEqual(['kept'])
      await fails(t.stat('d/a/b/f'), 'not_found')
      await fails(t.put('d/a/new', 'x'), 'not_found')
    },
    'a tree made again is empty': async (t) => {
      await t.put('d/a/f', 'x', { parents: true })
      await t.server.remove(t.context, t.at('d'), { recursive: true })
      await t.server.mkdir(t.context, t.at('d'))
      expect(await t.names('d')).toEqual([])
    },
    'the root cannot be removed': async (t) => {
      await fails(t.server.remove(t.context, parsePath('/'), { recursive: true }), ['invalid', 'denied', 'read_only'])
    },
  }),
  group('rename', {
    'rename keeps the file and its version': async (t) => {
      await t.put('f', '1')
      await t.put('f', '2')
      const before = await t.stat('f')
      const moved = await t.server.rename(t.context, t.at('f'), t.at('g'))
      expect(moved.qid).toEqual(before.qid)
      const after = await t.stat('g')
      expect(after).toEqual({ ...before, name: 'g' })
      expect(await t.names()).toEqual(['g'])
    },
    'rename into another directory': async (t) => {
      await t.put('f', 'x')
      await t.server.mkdir(t.context, t.at('d'))
      await t.server.rename(t.context, t.at('f'), t.at('d/g'))
      expect(await t.text('d/g')).toBe('x')
      await fails(t.server.rename(t.context, t.at('d/g'), t.at('none/g')), 'not_found')
      await t.server.rename(t.context, t.at('d/g'), t.at('made/here/g'), { parents: true })
      expect(await t.text('made/here/g')).toBe('x')
    },
    'rename moves a whole tree': async (t) => {
      for (const name of ['a/b/f', 'a/g', 'a/b/c/h']) await t.put(name, name, { parents: true })
      const { qid } = await t.stat('a/b/f')
      await t.server.mkdir(t.context, t.at('to'))
      await t.server.rename(t.context, t.at('a'), t.at('to/z'))
      expect(await t.text('to/z/b/f')).toBe('a/b/f')
      expect(await t.text('to/z/b/c/h')).toBe('a/b/c/h')
      expect((await t.stat('to/z/b/f')).qid).toEqual(qid)
      await fails(t.stat('a/b/f'), 'not_found')
      expect(await t.names()).toEqual(['to'])
    },
    'rename refuses what exists': async (t) => {
      await t.put('f', 'f')
      await t.put('g', 'g')
      await fails(t.server.rename(t.context, t.at('f'), t.at('g')), 'exists')
      expect(await t.text('g')).toBe('g')
    },
    'rename replaces': async (t) => {
      const f = await t.put('f', 'f')
      await t.put('g', 'g')
      await t.server.rename(t.context, t.at('f'), t.at('g'), { replace: true })
      expect(await t.text('g')).toBe('f')
      expect((await t.stat('g')).qid).toEqual(f.qid)
      expect(await t.names()).toEqual(['g'])
    },
    'rename replaces an empty directory by a directory only': async (t) => {
      await t.put('d/f', 'x', { parents: true })
      await t.server.mkdir(t.context, t.at('empty'))
      await t.put('full/g', 'x', { parents: true })
      await t.put('file', 'x')
      const rename = (from: string, to: string): Promise<unknown> => t.server.rename(t.context, t.at(from), t.at(to), { replace: true })
      await fails(rename('d', 'full'), 'not_empty')
      await fails(rename('d', 'file'), 'not_directory')
      await fails(rename('file', 'empty'), 'is_directory')
      await rename('d', 'empty')
      expect(await t.names('empty')).toEqual(['f'])
      expect(await t.names()).toEqual(['empty', 'file', 'full'])
    },
    'rename into itself is invalid': async (t) => {
      await t.put('d/e/f', 'x', { parents: true })
      await fails(t.server.rename(t.context, t.at('d'), t.at('d/e/d')), 'invalid')
      await fails(t.server.rename(t.context, t.at('d'), t.at('d/x')), 'invalid')
      expect(await t.text('d/e/f')).toBe('x')
      await t.server.rename(t.context, t.at('d'), t.at('d-more'))
      expect(await t.text('d-more/e/f')).toBe('x')
    },
    'rename of what is missing': async (t) => {
      await fails(t.server.rename(t.context, t.at('none'), t.at('g')), 'not_found', t.at('none'))
    },
    'of renames to one name, one wins': async (t) => {
      await Promise.all(Array.from({ length: 8 }, (_, i) => t.put(`f${i}`, `${i}`)))
      const tries = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => t.server.rename(t.context, t.at(`f${i}`), t.at('to'))))
      expect(tries.filter((result) => result.status === 'fulfilled').length).toBe(1)
      expect((await t.names()).length).toBe(8)
    },
    'directories cannot be moved into each other at once': async (t) => {
      await t.server.mkdir(t.context, t.at('a'))
      await t.server.mkdir(t.context, t.at('b'))
      const tries = await Promise.allSettled([
        t.server.rename(t.context, t.at('a'), t.at('b/a')),
        t.server.rename(t.context, t.at('b'), t.at('a/b')),
      ])
      expect(tries.filter((result) => result.status === 'fulfilled').length).toBe(1)
      expect((await t.server.list(t.context, t.at(), { recursive: true })).entries.length).toBe(2)
    },
  }),
  group('setStat', {
    'setStat changes metadata': async (t) => {
      const { position, ...made } = await t.put('f', 'abc')
      expect(position.length).toBeGreaterThan(0)
      const changes = { mode: 0o600, owner: 'ann', group: 'staff', modifiedAt: 1_234_567_890_123, contentType: 'text/x' }
      const done = await t.server.setStat(t.context, t.at('f'), changes)
      expect(done).toMatchObject({ created: false, size: 3 })
      expect(await t.stat('f')).toMatchObject({ ...changes, size: 3, version: made.qid.version + 1 })
      expect(await t.text('f')).toBe('abc')
    },
    'setStat of a directory': async (t) => {
      await t.server.setStat(t.context, t.at(), { mode: 0o700 })
      expect((await t.stat()).mode).toBe(0o700)
      await fails(t.server.setStat(t.context, t.at(), { size: 0 }), 'is_directory')
    },
    'setStat truncates and extends': async (t) => {
      await t.put('f', '0123456789')
      expect(await t.server.setStat(t.context, t.at('f'), { size: 4 })).toMatchObject({ size: 4 })
      expect(await t.text('f')).toBe('0123')
      await t.server.setStat(t.context, t.at('f'), { size: 6 })
      expect(await t.text('f')).toBe('0123\0\0')
      await t.server.setStat(t.context, t.at('f'), { size: 0 })
      expect((await t.stat('f')).size).toBe(0)
    },
    'setStat takes care of bad values': async (t) => {
      await t.put('f', 'x')
      await fails(t.server.setStat(t.context, t.at('f'), { mode: 0o10000 }), 'invalid')
      await fails(t.server.setStat(t.context, t.at('f'), { size: -1 }), 'invalid')
      // Times are told as whole microseconds since 1970 everywhere.
      await fails(t.server.setStat(t.context, t.at('f'), { modifiedAt: -1 }), 'invalid')
      await fails(t.server.setStat(t.context, t.at('f'), { size: limits.file_bytes_max + 1 }), 'too_large')
      await fails(t.server.setStat(t.context, t.at('f'), { owner: 'x'.repeat(256) }), 'invalid')
      await fails(t.server.setStat(t.context, t.at('none'), { mode: 0o600 }), 'not_found')
      expect(await t.stat('f')).toMatchObject({ version: 1, size: 1 })
    },
    'setStat with nothing to change': async (t) => {
      await t.put('f', 'x')
      await t.server.setStat(t.context, t.at('f'), {})
      expect(await t.text('f')).toBe('x')
    },
    'setStat of a link': async (t) => {
      await t.put('f', 'x')
      await t.server.symlink(t.context, t.at('l'), 'f')
      await t.server.setStat(t.context, t.at('l'), { owner: 'ann' })
      expect((await t.stat('l')).owner).toBe('ann')
      expect((await t.stat('f')).owner).not.toBe('ann')
      await fails(t.server.setStat(t.context, t.at('l'), { size: 0 }), 'invalid')
      await t.server.write(t.context, t.at('f'), bytesOf('y'))
    },
  }),
]
