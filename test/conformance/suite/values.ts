/** Names, large values, depth, many at once, errors' paths, deadlines. */
import { expect } from 'vitest'
import { limits } from '../../../namespace/limits.ts'
import { parsePath } from '../../../namespace/path.ts'
import { expectBytes, fails, group, pattern, readAll, type Group } from './tools.ts'

const chunk = limits.chunk_bytes
const mebibyte = 1024 * 1024

export const valueGroups: readonly Group[] = [
  group('names', {
    'a name of 255 bytes, and one of 256': async (t) => {
      for (const name of ['x'.repeat(255), 'é'.repeat(127) + 'x', '\u{1F600}'.repeat(63) + 'xyz']) {
        expect(Buffer.byteLength(name)).toBe(255)
        await t.put(name, name)
        expect(await t.text(name)).toBe(name)
        expect(await t.names()).toContain(name)
        await fails((async () => t.put(`${name}x`, ''))(), 'name_too_long')
      }
    },
    'unicode names stay as they are': async (t) => {
      const names = [
        'ä',
        'a\u0308',
        '日本語',
        '\u{1F469}\u200D\u{1F680}',
        ' leading',
        'trailing ',
        'a\tb',
        'new\nline',
        '%2F',
        '?x=1',
        '#',
        '\\',
        '"',
        '\x01',
        '\u007f',
      ]
      for (const name of names) await t.put(name, name)
      for (const name of names) {
        expect(await t.text(name)).toBe(name)
        expect((await t.stat(name)).name).toBe(name)
      }
      expect((await t.names()).sort()).toEqual([...names].sort())
      await t.server.rename(t.context, t.at('日本語'), t.at('new\nline2'))
      expect(await t.text('new\nline2')).toBe('日本語')
    },
    'names that look special are ordinary': async (t) => {
      for (const name of ['...', '.hidden', 'constructor', '__proto__', 'toString', 'null', '0']) {
        await fails(t.stat(name), 'not_found')
        await t.put(name, name)
        expect(await t.text(name)).toBe(name)
      }
    },
    'deep directories': async (t) => {
      const room = limits.path_bytes_max - t.at().length - 2
      const deep = Array.from({ length: Math.floor(room / 2) - 1 }, () => 'd').join('/')
      await t.put(`${deep}/f`, 'deep', { parents: true })
      expect(await t.text(`${deep}/f`)).toBe('deep')
      const { entries } = await t.server.list(t.context, t.at(), { recursive: true, limit: 10_000 })
      expect(entries.length).toBe(deep.split('/').length + 1)
      await t.server.rename(t.context, t.at('d'), t.at('e'))
      expect(await t.text(`e${deep.slice(1)}/f`)).toBe('deep')
      await t.server.remove(t.context, t.at('e'), { recursive: true })
      expect(await t.names()).toEqual([])
    },
  }),
  group('large values', {
    'one mebibyte, whole and in ranges': async (t) => {
      const value = pattern(mebibyte + 17)
      expect(await t.put('f', value)).toMatchObject({ size: value.length })
      expectBytes((await t.server.read(t.context, t.at('f'))).bytes, value)
      const ranges = [
        [chunk - 1, 2],
        [chunk - 10, chunk + 20],
        [0, 1],
        [chunk, chunk],
        [value.length - 3, 10],
        [3 * chunk - 5, 11],
      ] as const
      for (const [offset, length] of ranges) {
        expectBytes((await t.server.read(t.context, t.at('f'), { offset, length })).bytes, value.subarray(offset, offset + length))
      }
    },
    'values around the inline limit': async (t) => {
      for (const size of [limits.inline_bytes_max - 1, limits.inline_bytes_max, limits.inline_bytes_max + 1, chunk, chunk + 1]) {
        const value = pattern(size, size)
        await t.put(`f${size}`, value)
        expectBytes((await t.server.read(t.context, t.at(`f${size}`))).bytes, value)
        expect((await t.stat(`f${size}`)).size).toBe(size)
      }
    },
    'overwriting a part': async (t) => {
      const value = pattern(3 * chunk)
      await t.put('f', value)
      const part = pattern(1000, 7)
      for (const at of [chunk - 500, 0, 2 * chunk, value.length - 1000]) {
        expect(await t.put('f', part, { at })).toMatchObject({ size: value.length })
        value.set(part, at)
      }
      expectBytes(await readAll(t.server, t.context, t.at('f')), value)
      expect((await t.stat('f')).version).toBe(5)
    },
    'appending, past the inline limit and on': async (t) => {
      const part = pattern(100_000)
      for (let i = 1; i <= 6; i++) expect(await t.put('f', part, { at: 'append' })).toMatchObject({ size: i * part.length })
      expectBytes(await readAll(t.server, t.context, t.at('f')), Buffer.concat(Array.from({ length: 6 }, () => part)))
    },
    'truncating and extending': async (t) => {
      const value = pattern(2 * chunk + 100)
      await t.put('f', value)
      await t.server.setStat(t.context, t.at('f'), { size: chunk + 5 })
      expectBytes(await readAll(t.server, t.context, t.at('f')), value.subarray(0, chunk + 5))
      await t.server.setStat(t.context, t.at('f'), { size: 2 * chunk })
      const extended = new Uint8Array(2 * chunk)
      extended.set(value.subarray(0, chunk + 5))
      expectBytes(await readAll(t.server, t.context, t.at('f')), extended)
      await t.server.setStat(t.context, t.at('f'), { size: 10 })
      expectBytes(await readAll(t.server, t.context, t.at('f')), value.subarray(0, 10))
    },
    'replacing by a small value and back': async (t) => {
      const value = pattern(chunk + 1)
      await t.put('f', value)
      await t.put('f', 'small')
      expect(await t.text('f')).toBe('small')
      await t.put('f', value)
      expectBytes(await readAll(t.server, t.context, t.at('f')), value)
    },
    'a gap in a large value': async (t) => {
      await t.put('f', 'start')
      await t.put('f', 'end', { at: chunk * 2 })
      const expected = new Uint8Array(chunk * 2 + 3)
      expected.set(Buffer.from('start'))
      expected.set(Buffer.from('end'), chunk * 2)
      expectBytes(await readAll(t.server, t.context, t.at('f')), expected)
    },
    'one write of 4 MiB, and one byte more': async (t) => {
      const value = pattern(limits.write_bytes_max)
      await t.put('f', value)
      expectBytes(await readAll(t.server, t.context, t.at('f')), value)
      await fails(t.put('f', new Uint8Array(limits.write_bytes_max + 1)), 'too_large')
      expect((await t.stat('f')).version).toBe(1)
    },
    'a large value survives rename': async (t) => {
      const value = pattern(chunk * 2 + 9)
      await t.put('f', value)
      await t.server.rename(t.context, t.at('f'), t.at('g'))
      expectBytes(await readAll(t.server, t.context, t.at('g')), value)
    },
  }),
  group('many at once', {
    'writes of many files': async (t) => {
      const results = await Promise.all(Array.from({ length: 300 }, (_, i) => t.put(`f${i}`, `value ${i}`)))
      expect(new Set(results.map((result) => result.qid.path)).size).toBe(300)
      expect(new Set(results.map((result) => result.revision)).size).toBe(300)
      const texts = await Promise.all(Array.from({ length: 300 }, (_, i) => t.text(`f${i}`)))
      expect(texts).toEqual(Array.from({ length: 300 }, (_, i) => `value ${i}`))
    },
    'writes of one file are in some order': async (t) => {
      const results = await Promise.all(Array.from({ length: 100 }, (_, i) => t.put('f', `${i}`)))
      const versions = results.map((result) => result.qid.version).sort((a, b) => a - b)
      expect(versions).toEqual(Array.from({ length: 100 }, (_, i) => i + 1))
      const last = results.findIndex((result) => result.qid.version === 100)
      expect(await t.text('f')).toBe(`${last}`)
    },
    'a write that was answered is read': async (t) => {
      await Promise.all(
        Array.from({ length: 30 }, async (_, i) => {
          for (let n = 0; n < 5; n++) {
            await t.put(`f${i}`, `${n}`)
            expect(await t.text(`f${i}`)).toBe(`${n}`)
          }
        }),
      )
    },
    'reads see whole values while they are replaced': async (t) => {
      const values = [pattern(70_000, 1), pattern(300_000, 2)]
      await t.put('f', values[0]!)
      let isDone = false
      const writing = (async () => {
        for (let i = 0; i < 20; i++) await t.put('f', values[i % 2]!)
        isDone = true
      })()
      while (!isDone) {
        const { bytes, stat } = await t.server.read(t.context, t.at('f'))
        expect(bytes.length).toBe(stat.size)
        expectBytes(bytes, bytes.length === 70_000 ? values[0]! : values[1]!)
      }
      await writing
    },
  }),
  group('errors', {
    'every operation names the path it was given': async (t) => {
      const { server, context } = t
      const none = t.at('none/at/all')
      const operations: readonly Promise<unknown>[] = [
        server.stat(context, none),
        server.list(context, none),
        server.read(context, none),
        server.readlink(context, none),
        server.write(context, none, new Uint8Array(1)),
        server.create(context, none),
        server.mkdir(context, none),
        server.symlink(context, none, 'x'),
        server.remove(context, none),
        server.rename(context, none, t.at('x')),
        server.setStat(context, none, { mode: 0o600 }),
      ]
      for (const operation of operations) {
        const error = await fails(operation, 'not_found', none)
        expect(error.op).toMatch(/^[a-z0-9-]+\.[a-zA-Z]+$/)
        expect(error.message).not.toBe('')
        expect(error.outcome).toBe('none')
        expect(error.retryable).toBe(false)
      }
    },
    'a deadline that has passed': async (t) => {
      const late = { ...t.context, deadline: performance.now() - 1 }
      await fails(t.server.stat(late, t.at()), 'deadline')
      await fails(t.server.read(late, t.at('f')), 'deadline')
      await fails(t.server.write(late, t.at('f'), new Uint8Array(1)), 'deadline')
      expect(await t.names()).toEqual([])
    },
    'a signal that was aborted': async (t) => {
      const gone = { ...t.context, signal: AbortSignal.abort() }
      await fails(t.server.stat(gone, t.at()), 'deadline')
      await fails(t.server.write(gone, t.at('f'), new Uint8Array(1)), 'deadline')
      expect(await t.names()).toEqual([])
    },
    'the root is a directory like any other': async (t) => {
      await fails(t.server.mkdir(t.context, parsePath('/')), 'exists')
      await fails(t.server.read(t.context, parsePath('/')), 'is_directory')
    },
  }),
]
