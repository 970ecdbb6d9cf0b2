/** Handles, atomic and shared. */
import { expect } from 'vitest'
import type { HandleId, OpenFlags } from '../../../namespace/file-server.ts'
import { limits } from '../../../namespace/limits.ts'
import { bytesOf, expectBytes, fails, group, matchOf, pattern, readAll, textOf, type Group, type Tools } from './tools.ts'

/** A handle with its verbs. */
class Open {
  readonly id: HandleId
  readonly #t: Tools

  constructor(t: Tools, id: HandleId) {
    this.#t = t
    this.id = id
  }

  async read(offset = 0, length = 1000): Promise<string> {
    return textOf((await this.#t.server.readHandle(this.#t.context, this.id, offset, length)).bytes)
  }

  write(text: string | Uint8Array, offset: number | 'append' = 0): ReturnType<Tools['server']['writeHandle']> {
    return this.#t.server.writeHandle(this.#t.context, this.id, bytesOf(text), offset)
  }

  truncate(size: number): Promise<void> {
    return this.#t.server.truncateHandle(this.#t.context, this.id, size)
  }

  async size(): Promise<number | undefined> {
    return (await this.#t.server.statHandle(this.#t.context, this.id)).stat.size
  }

  sync(): ReturnType<Tools['server']['syncHandle']> {
    return this.#t.server.syncHandle(this.#t.context, this.id)
  }

  close(discard = false): ReturnType<Tools['server']['closeHandle']> {
    return this.#t.server.closeHandle(this.#t.context, this.id, { discard })
  }
}

async function open(t: Tools, name: string, flags: OpenFlags): Promise<Open> {
  return new Open(t, (await t.server.open(t.context, t.at(name), flags)).handle)
}

const both: OpenFlags = { read: true, write: true }
const making: OpenFlags = { ...both, create: true }
const shared: OpenFlags = { ...making, mode: 'shared' }

export const handleGroups: readonly Group[] = [
  group('handles', {
    'open and read': async (t) => {
      const { qid } = await t.put('f', '0123456789')
      const opened = await t.server.open(t.context, t.at('f'), { read: true })
      expect(opened.stat).toMatchObject({ name: 'f', size: 10, qid })
      const file = new Open(t, opened.handle)
      expect(await file.read(2, 3)).toBe('234')
      expect(await t.server.readHandle(t.context, file.id, 0, 5)).toMatchObject({ end: false })
      expect(await t.server.readHandle(t.context, file.id, 5, 5)).toMatchObject({ end: true })
      expect(await t.server.readHandle(t.context, file.id, 0, 100)).toMatchObject({ end: true })
      expect(await file.close()).toMatchObject({ qid, created: false, size: 10 })
      expect((await t.stat('f')).version).toBe(1)
    },
    'read past the end': async (t) => {
      await t.put('f', 'abc')
      const file = await open(t, 'f', { read: true })
      for (const offset of [3, 100, 2 ** 40]) {
        const { bytes, end } = await t.server.readHandle(t.context, file.id, offset, 10)
        expect([bytes.length, end]).toEqual([0, true])
      }
      await fails(t.server.readHandle(t.context, file.id, -1, 10), 'invalid')
      await fails(t.server.readHandle(t.context, file.id, 0, -1), 'invalid')
      await file.close()
    },
    'open what is missing, or no file': async (t) => {
      await fails(t.server.open(t.context, t.at('none'), { read: true }), 'not_found', t.at('none'))
      await fails(t.server.open(t.context, t.at('none'), both), 'not_found')
      await fails(t.server.open(t.context, t.at('none/below'), making), 'not_found')
      await fails(t.server.open(t.context, t.at(), both), 'is_directory')
      await t.put('f', 'x')
      await fails(t.server.open(t.context, t.at('f/below'), making), 'not_directory')
      expect(await t.names()).toEqual(['f'])
    },
    'a handle does what it was opened for': async (t) => {
      await t.put('f', 'x')
      const reader = await open(t, 'f', { read: true })
      await fails(reader.write('y'), ['invalid', 'denied'])
      await fails(reader.truncate(0), ['invalid', 'denied'])
      await reader.close()
      const writer = await open(t, 'f', { write: true })
      await fails(writer.read(), ['invalid', 'denied'])
      await writer.close()
      expect(await t.text('f')).toBe('x')
    },
    'a closed handle is gone': async (t) => {
      await t.put('f', 'x')
      const file = await open(t, 'f', both)
      await file.close()
      for (const use of [file.read(), file.write('y'), file.size(), file.sync(), file.close()]) await fails(use, ['invalid', 'not_found'])
      await fails(t.server.readHandle(t.context, 2 ** 40, 0, 1), ['invalid', 'not_found'])
    },
    'exclusive makes, and only once': async (t) => {
      const file = await open(t, 'f', { ...making, exclusive: true })
      await file.write('mine')
      await file.close()
      await fails(t.server.open(t.context, t.at('f'), { ...making, exclusive: true }), 'exists', t.at('f'))
      expect(await t.text('f')).toBe('mine')
    },
    'a handle follows rename': async (t) => {
      await t.put('d/f', 'x', { parents: true })
      const file = await open(t, 'd/f', both)
      await t.server.rename(t.context, t.at('d/f'), t.at('d/g'))
      await t.server.rename(t.context, t.at('d'), t.at('e'))
      await t.put('d/f', 'another', { parents: true })
      expect(await file.read()).toBe('x')
      await file.write('yy')
      await file.close()
      expect(await t.text('e/g')).toBe('yy')
      expect(await t.text('d/f')).toBe('another')
    },
    'a handle outlives unlink': async (t) => {
      await t.put('f', 'x')
      const file = await open(t, 'f', { read: true })
      await t.server.remove(t.context, t.at('f'))
      expect(await file.read()).toBe('x')
      await t.put('f', 'another')
      expect(await file.read()).toBe('x')
      await file.close()
      expect(await t.text('f')).toBe('another')
    },
    'attributes of a file made by open': async (t) => {
      const file = await open(t, 'a/f', { ...making, parents: true, contentType: 'text/x', permissions: 0o600, modifiedAt: 1_000_000_007 })
      await file.write('x')
      await file.close()
      expect(await t.stat('a/f')).toMatchObject({ contentType: 'text/x', mode: 0o600, modifiedAt: 1_000_000_007, size: 1 })
    },
  }),
  group('atomic handles', {
    'staged is seen by the handle alone': async (t) => {
      await t.put('f', 'before')
      const file = await open(t, 'f', both)
      const other = await open(t, 'f', { read: true })
      expect(await file.write('AFTER', 1)).toEqual({ written: 5, size: 6 })
      expect(await file.read()).toBe('bAFTER')
      expect(await t.text('f')).toBe('before')
      expect(await other.read()).toBe('before')
      expect((await t.stat('f')).version).toBe(1)
      await file.close()
      expect(await t.text('f')).toBe('bAFTER')
      await other.close()
    },
    'close is one change': async (t) => {
      await t.put('f', 'start')
      const watch = await t.watch('')
      const file = await open(t, 'f', both)
      for (let i = 0; i < 10; i++) await file.write(`${i}`, 'append')
      await file.truncate(8)
      await file.write('S')
      const done = await file.close()
      expect(done).toMatchObject({ created: false, size: 8 })
      expect(done.qid.version).toBe(2)
      expect(await t.text('f')).toBe('Start012')
      await t.put('marker', 'x')
      expect((await watch.events(2)).map((event) => [event.type, event.path])).toEqual([
        ['change', t.at('f')],
        ['create', t.at('marker')],
      ])
      await watch.close()
    },
    'sync publishes and goes on': async (t) => {
      const file = await open(t, 'f', making)
      await file.write('one')
      expect(await file.sync()).toMatchObject({ created: true, size: 3 })
      expect(await t.text('f')).toBe('one')
      await file.write(' two', 'append')
      expect(await t.text('f')).toBe('one')
      const done = await file.sync()
      expect(done).toMatchObject({ created: false, size: 7 })
      expect((await file.sync()).qid).toEqual(done.qid)
      expect((await file.close()).qid).toEqual(done.qid)
      expect((await t.stat('f')).version).toBe(2)
    },
    'a new file appears when it is published': async (t) => {
      const file = await open(t, 'f', making)
      await file.write('x')
      expect(await file.size()).toBe(1)
      expect(await t.names()).toEqual([])
      expect(await file.close()).toMatchObject({ created: true })
      expect(await t.text('f')).toBe('x')
    },
    'a new file without a write is empty': async (t) => {
      const file = await open(t, 'f', making)
      expect(await file.close()).toMatchObject({ created: true, size: 0 })
      expect((await t.stat('f')).size).toBe(0)
    },
    'discard leaves nothing': async (t) => {
      await t.put('f', 'kept')
      const [file, made] = [await open(t, 'f', both), await open(t, 'new', making)]
      await file.write('lost')
      await made.write('lost')
      await file.close(true)
      await made.close(true)
      expect(await t.names()).toEqual(['f'])
      expect(await t.text('f')).toBe('kept')
      expect((await t.stat('f')).version).toBe(1)
    },
    'truncate at open replaces the value': async (t) => {
      await t.put('f', 'a long value')
      const file = await open(t, 'f', { ...both, truncate: true })
      expect(await t.text('f')).toBe('a long value')
      expect(await file.size()).toBe(0)
      await file.write('short')
      await file.close()
      expect(await t.text('f')).toBe('short')
      await (await open(t, 'f', { write: true, truncate: true })).close()
      expect((await t.stat('f')).size).toBe(0)
    },
    'gaps and truncation within what is staged': async (t) => {
      const file = await open(t, 'f', making)
      await file.write('end', 5)
      expect(await file.read()).toBe('\0\0\0\0\0end')
      await file.truncate(2)
      await file.truncate(4)
      expect(await file.size()).toBe(4)
      await file.write('x', 'append')
      await file.close()
      expect(await t.text('f')).toBe('\0\0\0\0x')
    },
    'a conflict shows at close': async (t) => {
      const first = await t.put('f', '1')
      const file = await open(t, 'f', { ...both, ifMatch: matchOf(first) })
      await file.write('mine')
      await t.put('f', 'theirs')
      await fails(file.close(), 'conflict')
      expect(await t.text('f')).toBe('theirs')
      await fails(file.read(), ['invalid', 'not_found'])
    },
    'ifMatch is looked at when it is opened, and follows sync': async (t) => {
      const first = await t.put('f', '1')
      await t.put('f', '2')
      await fails(t.server.open(t.context, t.at('f'), { ...both, ifMatch: matchOf(first) }), 'conflict')
      const file = await open(t, 'f', { ...both, ifMatch: matchOf(await t.stat('f')) })
      await file.write('3')
      await file.sync()
      await file.write('4')
      await file.close()
      expect(await t.text('f')).toBe('4')
    },
    'ifMatch none': async (t) => {
      const file = await open(t, 'f', { ...making, ifMatch: 'none' })
      await file.write('mine')
      await t.put('f', 'theirs')
      await fails(file.close(), ['conflict', 'exists'])
      expect(await t.text('f')).toBe('theirs')
    },
    'exclusive is looked at again when published': async (t) => {
      const file = await open(t, 'f', { ...making, exclusive: true })
      await file.write('mine')
      await t.put('f', 'theirs')
      await fails(file.close(), ['conflict', 'exists'])
      expect(await t.text('f')).toBe('theirs')
    },
    'of two that replace, the later wins whole': async (t) => {
      await t.put('f', 'start')
      const [a, b] = [await open(t, 'f', { write: true, truncate: true }), await open(t, 'f', { write: true, truncate: true })]
      await a.write('aaaaaaaaaa')
      await b.write('bb')
      await a.close()
      await b.close()
      expect(await t.text('f')).toBe('bb')
    },
    'a large value through a handle': async (t) => {
      const part = pattern(limits.write_bytes_max)
      const file = await open(t, 'f', making)
      for (let i = 0; i < 3; i++)
        expect(await file.write(part, i * part.length)).toEqual({ written: part.length, size: (i + 1) * part.length })
      await file.write('XYZ', part.length - 1)
      expect(await file.read(part.length - 2, 5)).toHaveLength(5)
      await file.close()
      const expected = Buffer.concat([part, part, part])
      expected.write('XYZ', part.length - 1)
      expectBytes(await readAll(t.server, t.context, t.at('f')), expected)
      await fails(t.server.open(t.context, t.at('none'), { read: true }), 'not_found')
    },
    'writes at the same time all land': async (t) => {
      const file = await open(t, 'f', making)
      await Promise.all(Array.from({ length: 50 }, (_, i) => file.write(`${String(i).padStart(3, '0')};`, i * 4)))
      await file.close()
      expect(await t.text('f')).toBe(Array.from({ length: 50 }, (_, i) => `${String(i).padStart(3, '0')};`).join(''))
    },
    'appends go to the end of what is staged': async (t) => {
      await t.put('f', 'ab')
      const file = await open(t, 'f', both)
      expect(await file.write('c', 'append')).toEqual({ written: 1, size: 3 })
      expect(await file.write('d', 'append')).toEqual({ written: 1, size: 4 })
      await file.close()
      expect(await t.text('f')).toBe('abcd')
    },
    'bad writes are refused': async (t) => {
      const file = await open(t, 'f', making)
      await fails(file.write('x', -1), 'invalid')
      await fails(file.write('x', 0.5), 'invalid')
      await fails(file.truncate(-1), 'invalid')
      await fails(file.truncate(limits.file_bytes_max + 1), 'too_large')
      await fails(file.write(new Uint8Array(limits.write_bytes_max + 1)), 'too_large')
      await file.close(true)
    },
    'a leased file through a handle': async (t) => {
      const { lease } = await t.server.grantLease(t.context, 60_000, t.at())
      const file = await open(t, 'f', { ...making, lease })
      await file.write('x')
      await file.close()
      expect((await t.stat('f')).lease).toBe(lease)
      await t.server.revokeLease(t.context, lease)
      expect(await t.names()).toEqual([])
    },
  }),
  group('shared handles', {
    'writes are seen at once by handles and stat': async (t) => {
      const [a, b] = [await open(t, 'f', shared), await open(t, 'f', { ...both, mode: 'shared' })]
      expect((await t.stat('f')).size).toBe(0)
      await a.write('hello')
      expect(await b.read()).toBe('hello')
      expect(await b.size()).toBe(5)
      expect((await t.stat('f')).size).toBe(5)
      await b.write('J')
      expect(await a.read()).toBe('Jello')
      await b.truncate(2)
      expect(await a.read()).toBe('Je')
      expect((await t.stat('f')).size).toBe(2)
      await a.close()
      await b.close()
      expect(await t.text('f')).toBe('Je')
    },
    'sync publishes': async (t) => {
      const file = await open(t, 'f', shared)
      await file.write('one')
      const synced = await file.sync()
      expect(synced.size).toBe(3)
      expect(await t.text('f')).toBe('one')
      const watch = await t.watch('')
      await file.write(' two', 'append')
      await file.sync()
      expect(await watch.event()).toMatchObject({ type: 'change', path: t.at('f') })
      await file.close()
      expect(await t.text('f')).toBe('one two')
      await watch.close()
    },
    'what is not synced is published soon': async (t) => {
      const watch = await t.watch('')
      const file = await open(t, 'f', shared)
      await file.write('soon')
      for (;;) {
        const event = await watch.event()
        if (event.stat.size === 4) break
      }
      await file.close()
      await watch.close()
    },
    'appends of two handles interleave': async (t) => {
      const [a, b] = [await open(t, 'f', shared), await open(t, 'f', shared)]
      await a.write('a', 'append')
      await b.write('b', 'append')
      await a.write('c', 'append')
      await a.close()
      await b.close()
      expect(await t.text('f')).toBe('abc')
    },
    'parts of two handles both land': async (t) => {
      await t.put('f', '..........')
      const flags: OpenFlags = { ...both, mode: 'shared' }
      const [a, b] = [await open(t, 'f', flags), await open(t, 'f', flags)]
      await Promise.all([a.write('aa', 1), b.write('bb', 6)])
      await Promise.all([a.close(), b.close()])
      expect(await t.text('f')).toBe('.aa...bb..')
    },
    'truncate at open is seen at once': async (t) => {
      await t.put('f', 'value')
      const file = await open(t, 'f', { ...both, mode: 'shared', truncate: true })
      expect((await t.stat('f')).size).toBe(0)
      await file.close()
      expect((await t.stat('f')).size).toBe(0)
    },
    'a shared handle follows rename and unlink': async (t) => {
      const file = await open(t, 'f', shared)
      await file.write('x')
      await t.server.rename(t.context, t.at('f'), t.at('g'))
      await file.write('y', 'append')
      expect((await t.stat('g')).size).toBe(2)
      await file.sync()
      expect(await t.text('g')).toBe('xy')
      await t.server.remove(t.context, t.at('g'))
      expect(await file.read()).toBe('xy')
      await file.write('z', 'append')
      expect(await file.read()).toBe('xyz')
      await file.close()
      expect(await t.names()).toEqual([])
    },
    'a large value in parts': async (t) => {
      const value = pattern(limits.chunk_bytes * 3 + 11)
      const file = await open(t, 'f', shared)
      for (let at = 0; at < value.length; at += 100_000) await file.write(value.subarray(at, at + 100_000), at)
      await file.close()
      expectBytes(await readAll(t.server, t.context, t.at('f')), value)
    },
    'exclusive create of a shared handle': async (t) => {
      const flags = { ...shared, exclusive: true }
      const tries = await Promise.allSettled(Array.from({ length: 5 }, () => t.server.open(t.context, t.at('f'), flags)))
      const won = tries.filter((result) => result.status === 'fulfilled')
      expect(won.length).toBe(1)
      for (const { value } of won) await t.server.closeHandle(t.context, value.handle)
    },
  }),
]
