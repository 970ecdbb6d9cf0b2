/** The Namespace over real memory servers: paths in failures and events, unions, handles, leases, transactions, limits. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { emptyServer } from '../../namespace/empty-server.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { MemoryServer } from '../../namespace/memory/memory-server.ts'
import { applyNamespaceFile, parseNamespaceFile, printNamespaceFile } from '../../namespace/namespace-file.ts'
import { Namespace } from '../../namespace/namespace.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'

const context = contextFor({ name: 'someone', groups: [] }, Infinity)
const p = (text: string): Path => parsePath(text)
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const failing = (kind: string, path?: string): unknown => expect.objectContaining(path === undefined ? { kind } : { kind, path })

let servers: MemoryServer[]
beforeEach(() => (servers = []))
afterEach(() => servers.forEach((server) => server.close()))

/** A memory server with these files; a name that ends with '/' is a directory. */
async function tree(files: Readonly<Record<string, string>> = {}): Promise<MemoryServer> {
  const server = new MemoryServer({ owner: 'someone' })
  servers.push(server)
  for (const [name, text] of Object.entries(files)) {
    if (name.endsWith('/')) await server.mkdir(context, p(name), { parents: true })
    else await server.write(context, p(name), bytes(text), { parents: true })
  }
  return server
}

/** A server that cannot be reached. */
function away(): FileServer {
  const fail = (_context: unknown, path: string): Promise<never> =>
    Promise.reject(new NineError({ kind: 'unavailable', op: 'test.away', path, message: 'away' }))
  return { ...emptyServer(), stat: fail, list: fail, read: fail, write: fail }
}

async function text(server: FileServer, path: string): Promise<string> {
  return new TextDecoder().decode((await server.read(context, p(path))).bytes)
}

async function names(server: FileServer, path: string, recursive = false): Promise<string[]> {
  return (await server.list(context, p(path), { recursive })).entries.map((entry) => entry.name)
}

describe('a namespace without a root', () => {
  it('is made of its mounts, and shows the directories on the way to them', async () => {
    const namespace = new Namespace()
    await namespace.mount(context, await tree({ '/f': 'one' }), p('/data'))
    await namespace.mount(context, await tree({ '/g': 'two' }), p('/usr/me/bin'))
    expect(await names(namespace, '/')).toEqual(['data', 'usr'])
    expect(await names(namespace, '/usr')).toEqual(['me'])
    expect(await names(namespace, '/', true)).toEqual(['data', 'data/f', 'usr', 'usr/me', 'usr/me/bin', 'usr/me/bin/g'])
    expect((await namespace.stat(context, p('/usr/me'))).stat).toMatchObject({ kind: 'directory', name: 'me' })
    expect((await namespace.stat(context, p('/data'))).stat).toMatchObject({ kind: 'directory', name: 'data' })
    expect(await text(namespace, '/usr/me/bin/g')).toBe('two')
    await expect(namespace.write(context, p('/x'), bytes(''))).rejects.toEqual(failing('read_only', '/x'))
    await expect(namespace.write(context, p('/usr'), bytes(''))).rejects.toEqual(failing('is_directory', '/usr'))
    await expect(namespace.create(context, p('/usr/me'))).rejects.toEqual(failing('exists', '/usr/me'))
    await expect(namespace.read(context, p('/usr'))).rejects.toEqual(failing('is_directory', '/usr'))
    await expect(namespace.setStat(context, p('/usr'), { mode: 0 })).rejects.toEqual(failing('read_only', '/usr'))
    expect(await namespace.getRights(context, p('/usr'))).toMatchObject({ record: undefined, on: '/usr' })
  })

  it('keeps inside its root whatever dots a path has', async () => {
    const namespace = new Namespace()
    await namespace.mount(context, await tree({ '/secret': 'no', '/home/f': 'yes' }), p('/all'))
    const jail = new Namespace()
    await jail.mount(context, { server: servers[0]!, path: p('/home') }, p('/'))
    expect(await text(jail, '/../../f')).toBe('yes')
    await expect(text(jail, '/../secret')).rejects.toEqual(failing('not_found', '/secret'))
    await expect(jail.remove(context, p('/'), { recursive: true })).rejects.toEqual(failing('conflict', '/'))
  })
})

describe('paths of the caller', () => {
  it('are in every failure, whichever server fails', async () => {
    const namespace = new Namespace(await tree({ '/plain': '' }))
    await namespace.mount(context, { server: await tree({ '/in/d/f': '', '/in/e': '' }), path: p('/in') }, p('/mnt/x'))
    const at = async (run: Promise<unknown>, kind: string, path: string): Promise<void> => {
      await expect(run).rejects.toEqual(failing(kind, path))
    }
    await at(namespace.read(context, p('/mnt/x/none')), 'not_found', '/mnt/x/none')
    await at(namespace.stat(context, p('/mnt/x/e/f')), 'not_directory', '/mnt/x/e/f')
    await at(namespace.list(context, p('/mnt/x/e')), 'not_directory', '/mnt/x/e')
    await at(namespace.read(context, p('/mnt/x')), 'is_directory', '/mnt/x')
    await at(namespace.write(context, p('/mnt/x/d'), bytes('')), 'is_directory', '/mnt/x/d')
    await at(namespace.create(context, p('/mnt/x/e')), 'exists', '/mnt/x/e')
    await at(namespace.mkdir(context, p('/mnt/x/e')), 'exists', '/mnt/x/e')
    await at(namespace.symlink(context, p('/mnt/x/e'), 't'), 'exists', '/mnt/x/e')
    await at(namespace.readlink(context, p('/mnt/x/e')), 'invalid', '/mnt/x/e')
    await at(namespace.remove(context, p('/mnt/x/d')), 'not_empty', '/mnt/x/d')
    await at(namespace.rename(context, p('/mnt/x/none'), p('/mnt/x/n')), 'not_found', '/mnt/x/none')
    await at(namespace.rename(context, p('/mnt/x/e'), p('/mnt/x/d')), 'exists', '/mnt/x/d')
    await at(namespace.setStat(context, p('/mnt/x/none'), { mode: 0o600 }), 'not_found', '/mnt/x/none')
    await at(namespace.open(context, p('/mnt/x/none'), { read: true }), 'not_found', '/mnt/x/none')
    await at(namespace.getRights(context, p('/mnt/x/none')), 'not_found', '/mnt/x/none')
    await at(namespace.lock(context, p('/mnt/x/l'), 'no-lease'), 'not_found', '/mnt/x/l')
    await at(namespace.txn(context, { if: [], then: [{ op: 'stat', path: p('/mnt/x/none') }], else: [] }), 'not_found', '/mnt/x/none')
    await at(namespace.read(context, p('/none')), 'not_found', '/none')
  })

  it('are in rights, and a record above a mounted tree is told at its mount point', async () => {
    const server = await tree({ '/top/in/f': '' })
    await server.setRights(context, p('/top'), [{ who: '*', rights: ['read'] }])
    const namespace = new Namespace()
    await namespace.mount(context, { server, path: p('/top/in') }, p('/m'))
    expect(await namespace.getRights(context, p('/m/f'))).toMatchObject({ on: '/m' })
    await namespace.setRights(context, p('/m'), [{ who: '*', rights: ['list'] }])
    expect(await server.getRights(context, p('/top/in/f'))).toMatchObject({ on: '/top/in' })
  })

  it('are in names of stats where a file is mounted under another name', async () => {
    const namespace = new Namespace(await tree({ '/a': 'text', '/b': '' }))
    await namespace.bind(context, p('/a'), p('/b'))
    expect((await namespace.read(context, p('/b'))).stat.name).toBe('b')
    expect((await namespace.stat(context, p('/b'))).stat.name).toBe('b')
    const { handle, stat } = await namespace.open(context, p('/b'), { read: true, write: true })
    expect(stat.name).toBe('b')
    expect((await namespace.statHandle(context, handle)).stat.name).toBe('b')
  })
})

describe('mount points', () => {
  it('are neither removed nor renamed, nor is what they stand in', async () => {
    const namespace = new Namespace(await tree({ '/a/b/': '', '/c': '' }))
    await namespace.mount(context, await tree({ '/f': '' }), p('/a/b'))
    for (const path of ['/a', '/a/b']) {
      await expect(namespace.remove(context, p(path), { recursive: true })).rejects.toEqual(failing('conflict', path))
      await expect(namespace.rename(context, p(path), p('/z'))).rejects.toEqual(failing('conflict', path))
      await expect(namespace.rename(context, p('/c'), p(path), { replace: true })).rejects.toEqual(failing('conflict', path))
      const then = [{ op: 'remove', path: p(path), options: { recursive: true } }] as const
      await expect(namespace.txn(context, { if: [], then, else: [] })).rejects.toEqual(failing('conflict', path))
    }
    await namespace.unmount(context, p('/a/b'))
    await namespace.remove(context, p('/a'), { recursive: true })
    expect(await names(namespace, '/')).toEqual(['c'])
  })

  it('list as directories when their server is away, and a recursive list fails rather than leave files out', async () => {
    const namespace = new Namespace(await tree({ '/a': '' }))
    await namespace.mount(context, away(), p('/gone'))
    const page = await namespace.list(context, p('/'))
    expect(page.entries.map((entry) => [entry.name, entry.kind])).toEqual([
      ['a', 'file'],
      ['gone', 'directory'],
    ])
    await expect(namespace.list(context, p('/'), { recursive: true })).rejects.toEqual(failing('unavailable', '/gone'))
  })

  it('cover a file with a file, and are refused below one', async () => {
    const namespace = new Namespace(await tree({ '/f': '' }))
    await expect(namespace.mount(context, await tree(), p('/f/x'))).rejects.toEqual(failing('not_directory', '/f/x'))
    await expect(namespace.mount(context, await tree(), p('/f'), { order: 'after' })).rejects.toEqual(failing('not_directory', '/f'))
    await expect(namespace.bind(context, p('/f'), p('/u'), { order: 'after' })).rejects.toEqual(failing('not_directory'))
    await expect(namespace.bind(context, p('/none'), p('/u'))).rejects.toEqual(failing('not_found', '/none'))
    await expect(namespace.unmount(context, p('/u'))).rejects.toEqual(failing('not_found', '/u'))
  })

  it('page a recursive list from any place, with a prefix, and through mounts', async () => {
    const namespace = new Namespace(await tree({ '/a/1': '', '/b/c/2': '', '/b.d': '', '/e': '' }))
    await namespace.mount(context, await tree({ '/x/3': '', '/y': '' }), p('/b/c'))
    await namespace.mount(context, await tree({ '/z': '' }), p('/b/c/x/deep'))
    const all = ['a', 'a/1', 'b', 'b/c', 'b/c/x', 'b/c/x/3', 'b/c/x/deep', 'b/c/x/deep/z', 'b/c/y', 'b.d', 'e']
    expect(await names(namespace, '/', true)).toEqual(all)
    for (const [i, after] of all.entries()) {
      const { entries } = await namespace.list(context, p('/'), { recursive: true, after, limit: 3 })
      expect([after, entries.map((entry) => entry.name)]).toEqual([after, all.slice(i + 1, i + 4)])
    }
    for (const prefix of ['b', 'b/', 'b/c/x', 'b/c/x/d', 'c']) {
      const { entries } = await namespace.list(context, p('/'), { recursive: true, prefix })
      expect([prefix, entries.map((entry) => entry.name)]).toEqual([prefix, all.filter((name) => name.startsWith(prefix))])
    }
    const bad = { recursive: true, cursor: Buffer.from('["a",0,"-",[["x"],1]]').toString('base64url') }
    await expect(namespace.list(context, p('/'), bad)).rejects.toEqual(failing('invalid'))
    await expect(namespace.list(context, p('/'), { cursor: '%' })).rejects.toEqual(failing('invalid'))
  })
})

describe('unions', () => {
  it('merge in order, make in the member bound with create, change where the name is', async () => {
    const [one, two] = [await tree({ '/both': '1', '/one': '1' }), await tree({ '/both': '2', '/two': '2' })]
    const namespace = new Namespace()
    await namespace.mount(context, one, p('/u'))
    await expect(namespace.write(context, p('/u/new'), bytes('x'))).resolves.toMatchObject({ created: true })
    await namespace.mount(context, two, p('/u'), { order: 'after', create: true })
    expect(await names(namespace, '/u')).toEqual(['both', 'new', 'one', 'two'])
    expect(await text(namespace, '/u/both')).toBe('1')
    await namespace.write(context, p('/u/made'), bytes('y'))
    await namespace.write(context, p('/u/one'), bytes('z'))
    await namespace.create(context, p('/u/d/e/f'), { parents: true })
    expect([await names(one, '/'), await names(two, '/')]).toEqual([
      ['both', 'new', 'one'],
      ['both', 'd', 'made', 'two'],
    ])
    expect(await text(one, '/one')).toBe('z')
    await expect(namespace.create(context, p('/u/both'))).rejects.toEqual(failing('exists', '/u/both'))
    await expect(namespace.create(context, p('/u/no/f'))).rejects.toEqual(failing('not_found', '/u/no/f'))
    await namespace.remove(context, p('/u/both'))
    expect(await text(namespace, '/u/both')).toBe('2')
    await namespace.rename(context, p('/u/one'), p('/u/uno'))
    expect(await names(one, '/')).toEqual(['new', 'uno'])
    await expect(namespace.rename(context, p('/u/uno'), p('/u/two'))).rejects.toEqual(failing('exists', '/u/two'))
    await expect(namespace.rename(context, p('/u/uno'), p('/u/two'), { replace: true })).rejects.toEqual(failing('cross_store', '/u/uno'))
  })

  it('take no creates when no member was bound with create', async () => {
    const namespace = new Namespace(await tree({ '/d/': '' }))
    await namespace.mount(context, await tree(), p('/d'), { order: 'before' })
    await expect(namespace.write(context, p('/d/f'), bytes(''))).rejects.toEqual(failing('read_only', '/d/f'))
    await expect(namespace.mkdir(context, p('/d/f'))).rejects.toEqual(failing('read_only', '/d/f'))
    await expect(namespace.read(context, p('/d/f'))).rejects.toEqual(failing('not_found', '/d/f'))
  })

  it('fail when a member before the name cannot be reached, and never fall through', async () => {
    const namespace = new Namespace()
    await namespace.mount(context, await tree({ '/first': '' }), p('/u'))
    await namespace.mount(context, away(), p('/u'), { order: 'after' })
    await namespace.mount(context, await tree({ '/last': '' }), p('/u'), { order: 'after', create: true })
    expect(await text(namespace, '/u/first')).toBe('')
    for (const run of [
      namespace.read(context, p('/u/last')),
      namespace.stat(context, p('/u/last/x')),
      namespace.write(context, p('/u/new'), bytes('')),
      namespace.list(context, p('/u')),
    ]) {
      await expect(run).rejects.toEqual(failing('unavailable'))
    }
  })

  it('list recursively the first member that has a name, and nothing of the others below it', async () => {
    const namespace = new Namespace()
    await namespace.mount(context, await tree({ '/a/1': '', '/c': '' }), p('/u'))
    await namespace.mount(context, await tree({ '/a/2': '', '/b/3': '', '/c/4': '' }), p('/u'), { order: 'after' })
    const all = ['a', 'a/1', 'b', 'b/3', 'c']
    expect(await names(namespace, '/u', true)).toEqual(all)
    for (const [i, after] of all.entries()) {
      const { entries } = await namespace.list(context, p('/u'), { recursive: true, after })
      expect([after, entries.map((entry) => entry.name)]).toEqual([after, all.slice(i + 1)])
    }
    const { entries } = await namespace.list(context, p('/u'), { recursive: true, prefix: 'a/' })
    expect(entries.map((entry) => entry.name)).toEqual(['a/1'])
  })

  it('show one revision of every member on all pages', async () => {
    const [one, two] = [await tree({ '/a': '', '/c': '', '/e': '' }), await tree({ '/b': '', '/x': '', '/y': '' })]
    const namespace = new Namespace(one)
    await namespace.mount(context, two, p('/'), { order: 'after' })
    const first = await namespace.list(context, p('/'), { limit: 2 })
    for (const name of ['/d', '/w', '/z']) {
      await one.create(context, p(name))
      await two.create(context, p(`${name}2`))
    }
    await one.remove(context, p('/e'))
    const found = [...first.entries]
    for (let cursor = first.next; cursor !== undefined;) {
      const page = await namespace.list(context, p('/'), { limit: 2, cursor })
      found.push(...page.entries)
      cursor = page.next
      expect(page.position).toEqual(first.position)
    }
    expect(found.map((entry) => entry.name)).toEqual(['a', 'b', 'c', 'e', 'x', 'y'])
    expect(first.position).toHaveLength(2)
  })
})

describe('what spans servers', () => {
  it('is refused for renames and transactions, and works within one server under several mounts', async () => {
    const server = await tree({ '/x/f': 'f', '/y/': '' })
    const namespace = new Namespace(await tree({ '/r': '' }))
    await namespace.mount(context, { server, path: p('/x') }, p('/mx'))
    await namespace.mount(context, { server, path: p('/y') }, p('/my'))
    await namespace.rename(context, p('/mx/f'), p('/my/g'))
    expect(await text(server, '/y/g')).toBe('f')
    await expect(namespace.rename(context, p('/my/g'), p('/g'))).rejects.toEqual(failing('cross_store', '/my/g'))
    const then = (path: string) => ({ op: 'create', path: p(path) }) as const
    const across = { if: [], then: [then('/mx/1'), then('/1')], else: [] }
    await expect(namespace.txn(context, across)).rejects.toEqual(failing('cross_store', '/1'))
    expect(await names(server, '/x')).toEqual([])
    const within = {
      if: [{ path: p('/my/g'), is: 'exists' as const }],
      then: [then('/mx/1'), then('/my/2'), { op: 'stat', path: p('/my') } as const],
      else: [],
    }
    const result = await namespace.txn(context, within)
    expect(result).toMatchObject({
      branch: 'then',
      results: [{ op: 'mutation' }, { op: 'mutation' }, { op: 'stat', stat: { name: 'my' } }],
    })
    expect([await names(server, '/x'), await names(server, '/y')]).toEqual([['1'], ['2', 'g']])
  })

  it('leases belong to one server and are found again by any namespace that mounts it', async () => {
    const [one, two] = [await tree(), await tree()]
    const namespace = new Namespace(one)
    await namespace.mount(context, two, p('/two'))
    const { lease } = await namespace.grantLease(context, 60_000, p('/two/some'))
    await namespace.write(context, p('/two/f'), bytes('x'), { lease })
    await expect(namespace.write(context, p('/f'), bytes('x'), { lease })).rejects.toEqual(failing('not_found', '/f'))
    await expect(namespace.renewLease(context, lease)).resolves.toMatchObject({ lease })
    const other = namespace.fork()
    await expect(other.renewLease(context, lease)).resolves.toMatchObject({ lease })
    await other.revokeLease(context, lease)
    expect(await names(namespace, '/two')).toEqual([])
    await expect(namespace.renewLease(context, lease)).rejects.toEqual(failing('not_found'))
  })

  it('handles keep their server through changes of the table, and are dropped with their session', async () => {
    const server = await tree({ '/d/f': 'text' })
    const namespace = new Namespace(await tree())
    await namespace.mount(context, server, p('/m'))
    const { handle } = await namespace.open(context, p('/m/d/f'), { read: true, write: true })
    const other = await namespace.open(context, p('/m/d/f'), { write: true })
    expect(other.handle).not.toBe(handle)
    await namespace.unmount(context, p('/m'))
    expect(await namespace.readHandle(context, handle, 0, 10)).toMatchObject({ end: true })
    await namespace.writeHandle(context, handle, bytes('more'), 'append')
    await namespace.closeHandle(context, handle)
    expect(await text(server, '/d/f')).toBe('textmore')
    await expect(namespace.readHandle(context, handle, 0, 1)).rejects.toEqual(failing('not_found'))
    await namespace.writeHandle(context, other.handle, bytes('lost'), 0)
    await namespace.dropHandles(context)
    await expect(namespace.syncHandle(context, other.handle)).rejects.toEqual(failing('not_found'))
    expect(await text(server, '/d/f')).toBe('textmore')
    expect(() => namespace.fork()).not.toThrow()
  })

  it('ends with loop after too many hops, and where a tree has no end', async () => {
    const namespace = new Namespace(await tree({ '/d/f': 'f' }))
    await namespace.bind(context, p('/'), p('/d/all'))
    expect(await text(namespace, `${'/d/all'.repeat(50)}/d/f`)).toBe('f')
    expect(await names(namespace, '/d/all/d/all/d')).toEqual(['all', 'f'])
    await expect(namespace.list(context, p('/'), { recursive: true })).rejects.toEqual(failing('loop', '/'))
    await expect(namespace.watch(context, p('/'), { recursive: true })[Symbol.asyncIterator]().next()).rejects.toEqual(failing('loop', '/'))
    const far = { ...context, hops: limits.hops_max + 1 }
    await expect(namespace.read(far, p('/d/f'))).rejects.toEqual(failing('loop', '/d/f'))
    await expect(namespace.list(far, p('/d'))).rejects.toEqual(failing('loop', '/d'))
    await expect(namespace.read({ ...context, hops: limits.hops_max }, p('/d/f'))).resolves.toBeDefined()
  })
})

describe('lines of a namespace', () => {
  it('make the same namespace again', async () => {
    const sources: Record<string, FileServer> = { one: await tree({ '/a/x': '' }), two: await tree({ '/b': '' }) }
    const root = await tree({ '/data/': '' })
    const resolve = (source: string): FileServer => sources[source] ?? raise(source)
    const text = `mount one /data
bind -a /data/a /data
mount -b -c two /data
bind /data /n/all
unmount two /data
`
    const first = new Namespace(root)
    await applyNamespaceFile(context, parseNamespaceFile(text), first, resolve)
    expect(await names(first, '/', true)).toEqual([
      'data',
      'data/a',
      'data/a/x',
      'data/x',
      'n',
      'n/all',
      'n/all/a',
      'n/all/a/x',
      'n/all/b',
      'n/all/x',
    ])
    const again = new Namespace(root)
    const printed = printNamespaceFile(first.entries())
    expect(printed).toBe('mount one /data\nbind -a /data/a /data\nbind /data /n/all\n')
    await applyNamespaceFile(context, parseNamespaceFile(printed), again, resolve)
    expect(await names(again, '/data', true)).toEqual(await names(first, '/data', true))
  })

  it('name the line that fails, and go on when asked to', async () => {
    const lines = parseNamespaceFile('# first\nmount none /a\nbind /b /c\nmount some /d\n')
    const namespace = new Namespace(await tree())
    const some = await tree()
    const resolve = (source: string): FileServer => (source === 'some' ? some : raise(source))
    const run = applyNamespaceFile(context, lines, namespace, resolve)
    await expect(run).rejects.toMatchObject({ kind: 'not_found', message: 'line 2 (mount none /a): no none' })
    const failed: number[] = []
    await applyNamespaceFile(context, lines, namespace, resolve, (_error, line) => failed.push(line.line))
    expect(failed).toEqual([2, 3])
    expect(await names(namespace, '/')).toEqual(['d'])
  })
})

function raise(source: string): never {
  throw new NineError({ kind: 'not_found', op: 'test.resolve', message: `no ${source}` })
}
