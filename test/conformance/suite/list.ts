/** list: order, pages, and one revision over all of them. */
import { expect } from 'vitest'
import type { ListOptions } from '../../../namespace/file-server.ts'
import { compareNames } from '../../../namespace/path.ts'
import { fails, group, type Group, type Tools } from './tools.ts'

/** Names of all pages, and how many there were. */
async function pages(
  t: Tools,
  options: ListOptions,
  between?: (page: number) => Promise<void>,
): Promise<{ names: string[]; pages: number }> {
  const names: string[] = []
  let cursor: string | undefined
  for (let count = 1; ; count++) {
    const page = await t.server.list(t.context, t.at(), { ...options, cursor })
    names.push(...page.entries.map((entry) => entry.name))
    if (page.next === undefined) return { names, pages: count }
    cursor = page.next
    await between?.(count)
  }
}

async function fill(t: Tools, names: readonly string[]): Promise<void> {
  await Promise.all(names.map((name) => t.put(name, name, { parents: true })))
}

export const listGroups: readonly Group[] = [
  group('list', {
    'list gives stats of the children': async (t) => {
      await t.put('f', 'abc')
      await t.server.mkdir(t.context, t.at('d'))
      await t.put('d/below', 'x')
      await t.server.symlink(t.context, t.at('l'), 'target')
      const { entries, next, position } = await t.server.list(t.context, t.at())
      expect(entries.map(({ name, kind, size }) => [name, kind, size])).toEqual([
        ['d', 'directory', 0],
        ['f', 'file', 3],
        ['l', 'symlink', 6],
      ])
      expect(next).toBeUndefined()
      expect(position.length).toBeGreaterThan(0)
      expect(entries[1]).toEqual(await t.stat('f'))
    },
    'list of an empty directory': async (t) => {
      expect((await t.server.list(t.context, t.at())).entries).toEqual([])
    },
    'list is in order of code points': async (t) => {
      const names = ['b', 'a', 'B', 'é', '10', '9', '~', '\u{1F600}', '\uFF21', 'Z', 'a-b', 'a.b', 'ab', '😀x']
      await fill(t, names)
      const listed = await t.names()
      expect(listed).toEqual([...names].sort(compareNames))
      const byBytes = [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      expect(listed).toEqual(byBytes)
    },
    'list of a file is not_directory': async (t) => {
      await t.put('f', 'x')
      await fails(t.server.list(t.context, t.at('f')), 'not_directory', t.at('f'))
      await fails(t.server.list(t.context, t.at('none')), 'not_found', t.at('none'))
    },
    'pages by limit': async (t) => {
      const names = Array.from({ length: 25 }, (_, i) => `n${String(i).padStart(3, '0')}`)
      await fill(t, names)
      expect(await pages(t, { limit: 10 })).toEqual({ names, pages: 3 })
      expect(await pages(t, { limit: 25 })).toEqual({ names, pages: 1 })
      expect(await pages(t, { limit: 1 })).toEqual({ names, pages: 25 })
    },
    'pages by bytes': async (t) => {
      const names = Array.from({ length: 40 }, (_, i) => `${String(i).padStart(3, '0')}-${'x'.repeat(100)}`)
      await fill(t, names)
      const result = await pages(t, { maxBytes: 2000 })
      expect(result.names).toEqual(names)
      expect(result.pages).toBeGreaterThan(3)
      expect((await pages(t, { maxBytes: 1 })).names).toEqual(names)
    },
    'list after a name': async (t) => {
      await fill(t, ['a', 'b', 'd'])
      const after = async (name: string): Promise<string[]> =>
        (await t.server.list(t.context, t.at(), { after: name })).entries.map((entry) => entry.name)
      expect(await after('a')).toEqual(['b', 'd'])
      expect(await after('c')).toEqual(['d'])
      expect(await after('d')).toEqual([])
    },
    'list by prefix': async (t) => {
      await fill(t, ['aa', 'ab', 'abc', 'b', 'ac'])
      expect((await pages(t, { prefix: 'ab' })).names).toEqual(['ab', 'abc'])
      expect((await pages(t, { prefix: 'a', limit: 2 })).names).toEqual(['aa', 'ab', 'abc', 'ac'])
      expect((await pages(t, { prefix: 'zz' })).names).toEqual([])
      expect((await pages(t, { prefix: 'a', after: 'ab' })).names).toEqual(['abc', 'ac'])
    },
    'list recursively in pre-order': async (t) => {
      await fill(t, ['a/x', 'a/y/z', 'a-b', 'b/c', 'c'])
      const expected = ['a', 'a/x', 'a/y', 'a/y/z', 'a-b', 'b', 'b/c', 'c']
      expect((await pages(t, { recursive: true })).names).toEqual(expected)
      for (const limit of [1, 2, 3, 5]) expect((await pages(t, { recursive: true, limit })).names).toEqual(expected)
    },
    'list recursively after a relative path': async (t) => {
      await fill(t, ['a/x', 'a/y/z', 'b/c'])
      const after = async (name: string): Promise<string[]> =>
        (await t.server.list(t.context, t.at(), { recursive: true, after: name })).entries.map((entry) => entry.name)
      expect(await after('a/x')).toEqual(['a/y', 'a/y/z', 'b', 'b/c'])
      expect(await after('a/y')).toEqual(['a/y/z', 'b', 'b/c'])
      expect(await after('a/xx')).toEqual(['a/y', 'a/y/z', 'b', 'b/c'])
      expect(await after('aa')).toEqual(['b', 'b/c'])
    },
    'list recursively by prefix': async (t) => {
      await fill(t, ['a/x', 'a/xy/z', 'a/b', 'ab/x', 'b/c'])
      expect((await pages(t, { recursive: true, prefix: 'a/x' })).names).toEqual(['a/x', 'a/xy', 'a/xy/z'])
      expect((await pages(t, { recursive: true, prefix: 'a', limit: 2 })).names).toEqual([
        'a',
        'a/b',
        'a/x',
        'a/xy',
        'a/xy/z',
        'ab',
        'ab/x',
      ])
      expect((await pages(t, { recursive: true, prefix: 'none/x' })).names).toEqual([])
    },
    'list does not enter links': async (t) => {
      await fill(t, ['d/f'])
      await t.server.symlink(t.context, t.at('l'), t.at('d'))
      expect((await pages(t, { recursive: true })).names).toEqual(['d', 'd/f', 'l'])
    },
    'pages show one revision while others write': async (t) => {
      const names = Array.from({ length: 12 }, (_, i) => `n${String(i).padStart(2, '0')}`)
      await fill(t, names)
      const seen = await pages(t, { limit: 3 }, async (page) => {
        await t.put(`n${String(page * 3).padStart(2, '0')}-new`, 'x')
        await t.server.remove(t.context, t.at(names[11 - page]))
        await t.server.rename(t.context, t.at(names[page]), t.at(`zz${page}`))
      })
      expect(seen.names).toEqual(names)
    },
    'pages of a recursive list show one revision': async (t) => {
      await fill(t, ['a/1', 'a/2', 'b/1', 'b/2', 'c/1'])
      const expected = ['a', 'a/1', 'a/2', 'b', 'b/1', 'b/2', 'c', 'c/1']
      const seen = await pages(t, { recursive: true, limit: 2 }, async (page) => {
        if (page === 1) await t.server.remove(t.context, t.at('b'), { recursive: true })
        if (page === 2) await t.put('c/2', 'x')
      })
      expect(seen.names).toEqual(expected)
    },
    'all pages carry the same position': async (t) => {
      await fill(t, ['a', 'b', 'c'])
      const first = await t.server.list(t.context, t.at(), { limit: 1 })
      await t.put('d', 'x')
      const second = await t.server.list(t.context, t.at(), { limit: 1, cursor: first.next })
      expect(second.position).toEqual(first.position)
      expect(second.entries.map((entry) => entry.name)).toEqual(['b'])
    },
    'a bad cursor is invalid': async (t) => {
      await fails(t.server.list(t.context, t.at(), { cursor: 'no cursor at all' }), 'invalid')
    },
    'a directory of 3,000 names': async (t) => {
      const names = Array.from({ length: 3000 }, (_, i) => `f${i}`)
      for (let i = 0; i < names.length; i += 500) await fill(t, names.slice(i, i + 500))
      const result = await pages(t, {})
      expect(result.names).toEqual([...names].sort(compareNames))
      expect(result.pages).toBeGreaterThan(1)
    },
  }),
]
