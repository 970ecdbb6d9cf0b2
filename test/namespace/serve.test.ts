/** File servers made of tables of functions. */
import { describe, expect, it } from 'vitest'
import { contextFor, type Context } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { call, computed, ctl, directory, file, type Output, type Table } from '../../namespace/serve/entries.ts'
import { serveTable, type ServedTable } from '../../namespace/serve/table-server.ts'
import { NineError } from '../../namespace/errors.ts'
import { fails, textOf } from '../conformance/suite/tools.ts'

const ann = { name: 'ann', groups: [] }

function context(more: Partial<Context> = {}): Context {
  return { ...contextFor(ann), ...more }
}

async function text(server: ServedTable, path: string): Promise<string> {
  return textOf((await server.read(context(), parsePath(path))).bytes)
}

function write(server: ServedTable, path: string, value: string, more: Partial<Context> = {}): Promise<unknown> {
  return server.write(context(more), parsePath(path), Buffer.from(value))
}

/** A promise and how to settle it. */
function later<T = void>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void
  const promise = new Promise<T>((settle) => (resolve = settle))
  return { promise, resolve }
}

describe('computed', () => {
  it('runs at every read, with who asks and where', async () => {
    let count = 0
    const server = serveTable({ n: computed(({ principal, path }) => `${principal.name} ${path} ${++count}`) })
    expect(await text(server, '/n')).toBe('ann /n 1')
    expect(await text(server, '/n')).toBe('ann /n 2')
    const { stat } = await server.stat(context(), parsePath('/n'))
    expect(stat).toMatchObject({ name: 'n', kind: 'computed', size: undefined, version: 0 })
    expect(count).toBe(2)
  })

  it.each<[string, Output, string]>([
    ['text', 'plain', 'plain'],
    ['bytes', new Uint8Array([65, 66]), 'AB'],
    ['an object', { a: [1, null] }, '{"a":[1,null]}\n'],
    ['a number', 7, '7\n'],
    ['nothing', undefined, ''],
  ])('shows %s', async (_name, output, shown) => {
    expect(await text(serveTable({ f: computed(() => output) }), '/f')).toBe(shown)
    expect(await text(serveTable({ f: computed(async () => output) }), '/f')).toBe(shown)
  })

  it('is read in ranges, with its size', async () => {
    const server = serveTable({ f: computed(() => '0123456789') })
    const { bytes, stat } = await server.read(context(), parsePath('/f'), { offset: 3, length: 4 })
    expect(textOf(bytes)).toBe('3456')
    expect(stat.size).toBe(10)
    expect((await server.read(context(), parsePath('/f'), { offset: 99 })).bytes.length).toBe(0)
    await fails(server.read(context(), parsePath('/f'), { offset: -1 }), 'invalid')
  })

  it('is computed once a handle', async () => {
    let count = 0
    const server = serveTable({ f: computed(() => `value ${++count}`) })
    const { handle } = await server.open(context(), parsePath('/f'), { read: true })
    const parts = [await server.readHandle(context(), handle, 0, 3), await server.readHandle(context(), handle, 3, 100)]
    expect(parts.map(({ bytes, end }) => [textOf(bytes), end])).toEqual([
      ['val', false],
      ['ue 1', true],
    ])
    await server.closeHandle(context(), handle)
    await fails(server.readHandle(context(), handle, 0, 1), 'invalid')
  })

  it('says that it takes no writes', async () => {
    const server = serveTable({ f: computed(() => 'x') })
    const refused = { kind: 'read_only', message: 'a computed file takes no writes' }
    await expect(write(server, '/f', 'x')).rejects.toMatchObject(refused)
    await expect(server.open(context(), parsePath('/f'), { write: true })).rejects.toMatchObject(refused)
  })

  it('shows what its function throws', async () => {
    const server = serveTable({
      plain: computed(() => {
        throw new TypeError('broken')
      }),
      later: computed(() => Promise.reject(new Error('later'))),
      known: computed(() => {
        throw new NineError({ kind: 'no_space', op: 'disk.write', path: '/else/where', message: 'full' })
      }),
      cyclic: computed(() => {
        const value: Record<string, unknown> = {}
        value['self'] = value
        return value
      }),
    })
    const plain = await fails(server.read(context(), parsePath('/plain')), 'internal', '/plain')
    expect(plain).toMatchObject({ op: 'serve.read', message: 'broken' })
    await fails(server.read(context(), parsePath('/later')), 'internal', '/later')
    await fails(server.read(context(), parsePath('/known')), 'no_space', '/known')
    await fails(server.read(context(), parsePath('/cyclic')), 'internal', '/cyclic')
  })

  it('ends at the deadline, and tells its function', async () => {
    const told = later<string>()
    const server = serveTable({
      slow: computed(({ signal }) => {
        signal.addEventListener('abort', () => told.resolve('told'))
        return new Promise<string>(() => undefined)
      }),
    })
    await fails(server.read(context({ deadline: performance.now() + 30 }), parsePath('/slow')), 'deadline', '/slow')
    expect(await told.promise).toBe('told')
  })

  it('ends when the caller goes, and tells its function', async () => {
    const [begun, told] = [later(), later()]
    const server = serveTable({
      slow: computed(({ signal }) => {
        begun.resolve()
        signal.addEventListener('abort', () => told.resolve())
        return new Promise<string>(() => undefined)
      }),
    })
    const controller = new AbortController()
    const reading = server.read(context({ signal: controller.signal }), parsePath('/slow'))
    await begun.promise
    controller.abort()
    await fails(reading, 'deadline')
    await told.promise
  })

  it('runs for many at once', async () => {
    const gate = later()
    let running = 0
    const server = serveTable({ f: computed(async () => (running++, await gate.promise, 'x')) })
    const reads = Array.from({ length: 100 }, () => text(server, '/f'))
    await text(serveTable({ f: computed(async () => 'y') }), '/f')
    expect(running).toBe(100)
    gate.resolve()
    expect(new Set(await Promise.all(reads))).toEqual(new Set(['x']))
  })

  it('gives at most so many bytes', async () => {
    const server = serveTable({ f: computed(() => new Uint8Array(limits.served_value_bytes_max + 1)) })
    await fails(server.read(context(), parsePath('/f')), 'too_large', '/f')
  })
})

describe('file', () => {
  it('has a value and a size, and cannot be written', async () => {
    const server = serveTable({ motd: file('hello\n') })
    expect(await text(server, '/motd')).toBe('hello\n')
    expect((await server.stat(context(), parsePath('/motd'))).stat).toMatchObject({ kind: 'file', size: 6, mode: 0o444 })
    await fails(write(server, '/motd', 'x'), 'read_only', '/motd')
    await fails(server.open(context(), parsePath('/motd'), { write: true }), 'read_only')
  })

  it('is written through its function, which may refuse', async () => {
    const seen: string[] = []
    const server = serveTable({
      f: file('one', (_call, bytes) => {
        if (bytes.length > 5) throw new NineError({ kind: 'invalid', op: 'test.write', message: 'too long for me' })
        seen.push(textOf(bytes))
      }),
    })
    await write(server, '/f', 'two')
    expect(await text(server, '/f')).toBe('two')
    await fails(write(server, '/f', 'far too long'), 'invalid', '/f')
    await server.write(context(), parsePath('/f'), Buffer.from('2'), { at: 'append' })
    await server.write(context(), parsePath('/f'), Buffer.from('T'), { at: 0 })
    expect(seen).toEqual(['two', 'two2', 'Two2'])
    expect((await server.stat(context(), parsePath('/f'))).stat.size).toBe(4)
  })

  it('is published once, at close of a handle', async () => {
    const seen: string[] = []
    const server = serveTable({ f: file('abc', (_call, bytes) => void seen.push(textOf(bytes))) })
    const { handle } = await server.open(context(), parsePath('/f'), { read: true, write: true })
    await server.writeHandle(context(), handle, Buffer.from('X'), 1)
    expect(textOf((await server.readHandle(context(), handle, 0, 9)).bytes)).toBe('aXc')
    expect(await text(server, '/f')).toBe('abc')
    await server.syncHandle(context(), handle)
    await server.closeHandle(context(), handle)
    expect(seen).toEqual(['aXc'])
    const dropped = await server.open(context(), parsePath('/f'), { write: true, truncate: true })
    await server.closeHandle(context(), dropped.handle, { discard: true })
    const emptied = await server.open(context(), parsePath('/f'), { write: true, truncate: true })
    await server.closeHandle(context(), emptied.handle)
    expect(seen).toEqual(['aXc', ''])
  })

  it('refuses bad offsets on a handle', async () => {
    const server = serveTable({ f: file('abc', () => undefined) })
    const { handle } = await server.open(context(), parsePath('/f'), { read: true, write: true })
    for (const bad of [-1, 0.5, Number.NaN]) {
      await fails(server.writeHandle(context(), handle, Buffer.from('x'), bad), 'invalid')
      await fails(server.readHandle(context(), handle, bad, 1), 'invalid')
      await fails(server.truncateHandle(context(), handle, bad), 'invalid')
    }
    await fails(server.truncateHandle(context(), handle, limits.write_bytes_max + 1), 'too_large')
    await server.closeHandle(context(), handle, { discard: true })
  })
})

describe('ctl', () => {
  function counter(): { server: ServedTable; value: () => number } {
    let value = 0
    const server = serveTable({
      ctl: ctl({
        add: (_call, [n = '1']) => void (value += Number(n)),
        fail: () => {
          throw new Error('no luck')
        },
        later: async () => void (value = await Promise.resolve(100)),
      }),
      value: computed(() => value),
    })
    return { server, value: () => value }
  }

  it('runs a line a command, in order', async () => {
    const { server, value } = counter()
    await write(server, '/ctl', 'add 5\n\n  add   2  \nlater\nadd')
    expect(value()).toBe(101)
    expect(await text(server, '/value')).toBe('101\n')
  })

  it('shows its verbs', async () => {
    expect(await text(counter().server, '/ctl')).toBe('add\nfail\nlater\n')
  })

  it('refuses what it does not know, and stops at the first that fails', async () => {
    const { server, value } = counter()
    for (const verb of ['nope', 'constructor', '__proto__', 'toString']) {
      const error = await fails(write(server, '/ctl', `add 1\n${verb} x\nadd 1\n`), 'invalid', '/ctl')
      expect(error.message).toContain('add, fail, later')
    }
    expect(value()).toBe(4)
    const error = await fails(write(server, '/ctl', 'fail\nadd 1'), 'internal', '/ctl')
    expect((await fails(write(server, '/ctl', 'none\nadd 1'), 'invalid', '/ctl')).outcome).toBe('none')
    // What stood before the line that failed was done.
    for (const lines of ['add 0\nnone', 'add 0\n\nnone\nadd 1']) {
      expect((await fails(write(server, '/ctl', lines), 'invalid', '/ctl')).outcome).toBe('unknown')
    }
    expect(error.message).toBe('no luck')
    expect(value()).toBe(4)
  })

  it('takes lines in parts through a handle', async () => {
    const { server, value } = counter()
    const { handle } = await server.open(context(), parsePath('/ctl'), { write: true, truncate: true, create: true })
    await server.writeHandle(context(), handle, Buffer.from('add 1'), 0)
    expect(value()).toBe(0)
    await server.writeHandle(context(), handle, Buffer.from('0\nadd 5'), 'append')
    expect(value()).toBe(10)
    await fails(server.writeHandle(context(), handle, Buffer.from('\nnope\n'), 0), 'invalid')
    expect(value()).toBe(15)
    await server.writeHandle(context(), handle, Buffer.from('add 1'), 0)
    await server.closeHandle(context(), handle)
    expect(value()).toBe(16)
  })

  it('puts together a character that came in two writes', async () => {
    const words: string[] = []
    const server = serveTable({ ctl: ctl((_call, line) => void words.push(...line)) })
    const { handle } = await server.open(context(), parsePath('/ctl'), { write: true })
    const bytes = Buffer.from('grüße 😀\n')
    for (const byte of bytes) await server.writeHandle(context(), handle, Uint8Array.of(byte), 'append')
    await server.closeHandle(context(), handle)
    expect(words).toEqual(['grüße', '😀'])
  })

  it('acts once for a client and number', async () => {
    const { server, value } = counter()
    const once = { client: { id: 'c', born: 1, settled: 0 }, seq: 1 }
    await Promise.all([write(server, '/ctl', 'add 5', once), write(server, '/ctl', 'add 5', once)])
    await write(server, '/ctl', 'add 5', once)
    expect(value()).toBe(5)
    const failing = { client: { id: 'c', born: 1, settled: 0 }, seq: 2 }
    await fails(write(server, '/ctl', 'fail', failing), 'internal')
    await fails(write(server, '/ctl', 'fail', failing), 'internal')
  })

  it('takes so many bytes at once', async () => {
    const { server } = counter()
    await fails(write(server, '/ctl', 'x'.repeat(limits.ctl_bytes_max + 1)), 'too_large', '/ctl')
    const { handle } = await server.open(context(), parsePath('/ctl'), { write: true })
    await server.writeHandle(context(), handle, Buffer.alloc(limits.ctl_bytes_max, 'x'), 0)
    await fails(server.writeHandle(context(), handle, Buffer.from('x'), 0), 'too_large')
    await server.closeHandle(context(), handle, { discard: true })
  })
})

describe('call', () => {
  const echo = serveTable({ upper: call((_call, request) => textOf(request).toUpperCase()) })

  it('answers on the handle the request came on', async () => {
    const { handle } = await echo.open(context(), parsePath('/upper'), { read: true, write: true })
    await echo.writeHandle(context(), handle, Buffer.from('hello '), 0)
    await echo.writeHandle(context(), handle, Buffer.from('world'), 'append')
    expect(textOf((await echo.readHandle(context(), handle, 0, 5)).bytes)).toBe('HELLO')
    expect(await echo.readHandle(context(), handle, 5, 100)).toMatchObject({ end: true })
    await echo.writeHandle(context(), handle, Buffer.from('again'), 0)
    expect(textOf((await echo.readHandle(context(), handle, 0, 100)).bytes)).toBe('AGAIN')
    await echo.closeHandle(context(), handle)
  })

  it('keeps callers apart', async () => {
    const answers = Array.from({ length: 50 }, async (_, i) => {
      const { handle } = await echo.open(context(), parsePath('/upper'), { read: true, write: true })
      await echo.writeHandle(context(), handle, Buffer.from(`caller ${i}`), 0)
      const { bytes } = await echo.readHandle(context(), handle, 0, 100)
      await echo.closeHandle(context(), handle)
      return textOf(bytes)
    })
    expect(await Promise.all(answers)).toEqual(Array.from({ length: 50 }, (_, i) => `CALLER ${i}`))
  })

  it('needs a handle', async () => {
    await fails(echo.read(context(), parsePath('/upper')), 'invalid')
    await fails(write(echo, '/upper', 'x'), 'invalid')
  })

  it('takes a bounded request', async () => {
    const { handle } = await echo.open(context(), parsePath('/upper'), { read: true, write: true })
    await echo.writeHandle(context(), handle, new Uint8Array(limits.write_bytes_max), 0)
    await fails(echo.writeHandle(context(), handle, Buffer.from('x'), 'append'), 'too_large', '/upper')
    await echo.closeHandle(context(), handle, { discard: true })
  })
})

describe('directories', () => {
  const users = new Map([
    ['bob', 'Bob'],
    ['ann', 'Ann'],
  ])
  const table: Table = {
    users: directory({
      list: async () => users.keys(),
      lookup: (_call, name) =>
        users.has(name) ? { full: computed(({ params }) => `${users.get(params[0]!)} of ${params.join()}`) } : undefined,
    }),
    fixed: { inner: { f: file('x') } },
    z: file(''),
  }
  const server = serveTable(table)
  const names = async (path: string, options = {}): Promise<string[]> =>
    (await server.list(context(), parsePath(path), options)).entries.map((entry) => entry.name)

  it('are listed in order, fixed and generated', async () => {
    expect(await names('/')).toEqual(['fixed', 'users', 'z'])
    expect(await names('/users')).toEqual(['ann', 'bob'])
    expect(await names('/fixed', { recursive: true })).toEqual(['inner', 'inner/f'])
    const all = ['fixed', 'fixed/inner', 'fixed/inner/f', 'users', 'users/ann', 'users/ann/full', 'users/bob', 'users/bob/full', 'z']
    expect(await names('/', { recursive: true })).toEqual(all)
    expect(await names('/', { recursive: true, prefix: 'users/a' })).toEqual(['users/ann', 'users/ann/full'])
    await fails(server.list(context(), parsePath('/z')), 'not_directory', '/z')
  })

  it.each([1, 2, 3, 4])('page by %i', async (limit) => {
    const seen: string[] = []
    for (let cursor: string | undefined; ;) {
      const page = await server.list(context(), parsePath('/'), { recursive: true, limit, cursor })
      seen.push(...page.entries.map((entry) => entry.name))
      if (page.next === undefined) break
      cursor = page.next
    }
    expect(seen).toEqual(await names('/', { recursive: true }))
  })

  it('give their names to functions below', async () => {
    expect(await text(server, '/users/bob/full')).toBe('Bob of bob')
    await fails(server.stat(context(), parsePath('/users/eve')), 'not_found', '/users/eve')
    await fails(server.stat(context(), parsePath('/users/eve/full')), 'not_found', '/users/eve/full')
    await fails(server.stat(context(), parsePath('/users/bob/full/more')), 'not_directory')
  })

  it('do not show what is no name, or too much', async () => {
    const odd = serveTable({
      d: directory({ list: () => ['ok', 'a/b', '..', '', 'x'.repeat(256), 'ok'], lookup: () => file('') }),
      endless: directory({
        list: function* () {
          for (let i = 0; ; i++) yield `${i}`
        },
        lookup: () => file(''),
      }),
    })
    const listed = await odd.list(context(), parsePath('/d'))
    expect(listed.entries.map((entry) => entry.name)).toEqual(['ok'])
    await fails(odd.list(context(), parsePath('/endless')), 'too_large', '/endless')
    expect(() => serveTable({ 'a/b': file('') })).toThrow(NineError)
  })

  it('that hold themselves end where paths end', async () => {
    const self: Table = { again: directory({ list: () => ['down'], lookup: () => self }) }
    const { entries } = await serveTable(self).list(context(), parsePath('/'), { recursive: true, limit: 10_000 })
    expect(entries.length).toBeGreaterThan(50)
    expect(Math.max(...entries.map((entry) => entry.name.length))).toBeLessThan(limits.path_bytes_max)
  })

  it('show errors of their functions', async () => {
    const broken = serveTable({
      d: directory({
        list: () => Promise.reject(new Error('no list')),
        lookup: () => {
          throw new NineError({ kind: 'unavailable', op: 'db.get', message: 'away' })
        },
      }),
    })
    await fails(broken.list(context(), parsePath('/d')), 'internal', '/d')
    await fails(broken.read(context(), parsePath('/d/x/y')), 'unavailable', '/d/x/y')
  })

  it('are not found by names of objects', async () => {
    for (const name of ['constructor', '__proto__', 'toString', 'hasOwnProperty']) {
      await fails(server.stat(context(), parsePath(`/${name}`)), 'not_found')
    }
  })
})

describe('what a table cannot do', () => {
  const server = serveTable({ f: file('x'), c: ctl({ go: () => undefined }), d: { g: file('y') } })
  const at = parsePath

  it('changes of the tree are read_only, or exist', async () => {
    await fails(server.write(context(), at('/new'), Buffer.from('x')), 'read_only', '/new')
    await fails(server.write(context(), at('/nowhere/new'), Buffer.from('x')), 'not_found')
    await fails(server.create(context(), at('/nowhere/new')), 'not_found')
    await fails(server.open(context(), at('/nowhere/new'), { write: true, create: true }), 'not_found')
    await fails(server.create(context(), at('/new')), 'read_only')
    await fails(server.create(context(), at('/f')), 'exists')
    await fails(server.mkdir(context(), at('/new')), 'read_only')
    await fails(server.symlink(context(), at('/new'), 'x'), 'read_only')
    await fails(server.remove(context(), at('/f')), 'read_only')
    await fails(server.rename(context(), at('/f'), at('/g')), 'read_only')
    await fails(server.setStat(context(), at('/f'), { mode: 0o600 }), 'read_only')
    await fails(server.write(context(), at('/d'), Buffer.from('x')), 'is_directory')
    await fails(server.read(context(), at('/d')), 'is_directory')
    await fails(server.open(context(), at('/d'), { read: true }), 'is_directory')
    await fails(server.open(context(), at('/new'), { write: true, create: true }), 'read_only')
    await fails(server.readlink(context(), at('/f')), 'invalid')
  })

  it('leases, locks, transactions, rights and the past are unsupported', async () => {
    await fails(server.grantLease(context(), 1000), 'unsupported')
    await fails(server.lock(context(), at('/l'), 'x'), 'unsupported')
    await fails(server.txn(context(), { if: [], then: [], else: [] }), 'unsupported')
    await fails(server.setRights(context(), at('/'), []), 'unsupported')
    await fails(server.read(context(), at('/f'), { at: 1 }), 'unsupported')
    await fails(server.write(context(), at('/c'), Buffer.from('go'), { ttlMs: 1000 }), 'unsupported')
  })

  it('a truncation of a ctl file is let pass, and ifMatch is looked at', async () => {
    await server.setStat(context(), at('/c'), { size: 0 })
    const { stat } = await server.stat(context(), at('/c'))
    await server.write(context(), at('/c'), Buffer.from('go'), { ifMatch: { path: stat.qid.path, version: stat.version } })
    await fails(server.write(context(), at('/c'), Buffer.from('go'), { ifMatch: 'none' }), 'conflict')
    await fails(server.write(context(), at('/c'), Buffer.from('go'), { ifMatch: { path: 1, version: 1 } }), 'conflict')
  })

  it('a handle is of who opened it', async () => {
    const { handle } = await server.open(context({ session: 1 }), at('/f'), { read: true })
    await fails(server.readHandle(context({ session: 2 }), handle, 0, 1), 'invalid')
    await fails(server.readHandle({ ...context({ session: 1 }), principal: { name: 'bob', groups: [] } }, handle, 0, 1), 'invalid')
    await fails(server.writeHandle(context({ session: 1 }), handle, Buffer.from('x'), 0), 'invalid')
    expect(textOf((await server.readHandle(context({ session: 1 }), handle, 0, 1)).bytes)).toBe('x')
    await server.closeHandle(context({ session: 1 }), handle)
  })
})
