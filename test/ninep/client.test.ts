/** Our 9P client at our own server in both dialects and, where there is one, at diod: what the conformance suite does not look at. */
import { rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { ErrorKind } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { connectNinep } from '../../namespace/ninep/connect.ts'
import type { NinepMount } from '../../namespace/ninep/connect.ts'
import { parseNinepAddress } from '../../namespace/ninep/dial.ts'
import { kindOfErrno, kindOfText } from '../../namespace/ninep/failures.ts'
import { parsePath } from '../../namespace/path.ts'
import { stream } from '../../namespace/serve/entries.ts'
import { diodUid, hasDiod, startDiod } from './diod.ts'
import { owner, startEdge } from './edge.ts'

const context = (): Context => contextFor(owner, 20_000)

async function failure(promise: Promise<unknown>, kind: ErrorKind): Promise<NineError> {
  const error: unknown = await promise.then(
    (value) => expect.fail(`expected ${kind}, got ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  if (!(error instanceof NineError)) throw error
  expect(`${error.kind}: ${error.message}`).toContain(`${kind}: `)
  return error
}

interface Opened {
  readonly mount: NinepMount
  close(): Promise<void>
}

const servers: Record<string, (msize: number) => Promise<Opened>> = {
  'services/9p in 9P2000.L': (msize) => atEdge('9P2000.L', msize),
  'services/9p in 9P2000': (msize) => atEdge('9P2000', msize),
  ...(hasDiod ? { diod: atDiod } : {}),
}

async function atEdge(dialect: '9P2000' | '9P2000.L', msize: number): Promise<Opened> {
  const edge = await startEdge()
  return { mount: await connectNinep({ address: edge.address, aname: '/data', dialect, msize }), close: () => edge.close() }
}

async function atDiod(msize: number): Promise<Opened> {
  const diod = await startDiod()
  return { mount: await connectNinep({ address: diod.address, aname: diod.folder, uid: diodUid, msize }), close: () => diod.close() }
}

for (const [name, open] of Object.entries(servers)) {
  describe(name, () => {
    let opened: Opened
    let tree: FileServer
    let count = 0
    let path = parsePath('/')
    beforeAll(async () => {
      opened = await open(8192)
      tree = opened.mount.server
    })
    afterAll(async () => {
      await opened.mount.close()
      await opened.close()
    })
    const fresh = (): typeof path => (path = parsePath(`/f${++count}`))
    const put = (text: string | Uint8Array, options = {}): Promise<unknown> => tree.write(context(), path, Buffer.from(text), options)
    const get = async (): Promise<string> => Buffer.from((await tree.read(context(), path)).bytes).toString()

    it('replaces, appends at the same time and cuts', async () => {
      fresh()
      await put('a long value')
      await put('short')
      expect(await get()).toBe('short')
      await Promise.all(Array.from({ length: 30 }, (_, i) => put(String.fromCharCode(65 + i), { at: 'append' })))
      const text = await get()
      expect(text.slice(0, 5)).toBe('short')
      expect([...text.slice(5)].sort().join('')).toBe(Array.from({ length: 30 }, (_, i) => String.fromCharCode(65 + i)).join(''))
      await tree.setStat(context(), path, { size: 3, mode: 0o600 })
      expect(await get()).toBe('sho')
      expect((await tree.stat(context(), path)).stat).toMatchObject({ size: 3, mode: 0o600 })
    })

    it('values many messages long, in both directions', async () => {
      fresh()
      const value = Buffer.alloc(1_000_003, 'some bytes that are no power of two long; ')
      await put(value)
      expect(Buffer.compare((await tree.read(context(), path)).bytes, value)).toBe(0)
      const { bytes } = await tree.read(context(), path, { offset: 8_000, length: 300_001 })
      expect(Buffer.compare(bytes, value.subarray(8_000, 308_001))).toBe(0)
    })

    it('atomic handles show nothing before they are closed, and nothing at all when discarded', async () => {
      fresh()
      await put('before')
      const { handle } = await tree.open(context(), path, { read: true, write: true })
      await tree.writeHandle(context(), handle, Buffer.from('AFTER'), 1)
      await tree.writeHandle(context(), handle, Buffer.from('!'), 'append')
      expect(Buffer.from((await tree.readHandle(context(), handle, 0, 100)).bytes).toString()).toBe('bAFTER!')
      expect(await get()).toBe('before')
      await tree.closeHandle(context(), handle, { discard: true })
      expect(await get()).toBe('before')
      const again = await tree.open(context(), path, { write: true, truncate: true })
      await tree.writeHandle(context(), again.handle, Buffer.from('new'), 0)
      expect(await get()).toBe('before')
      await tree.closeHandle(context(), again.handle)
      expect(await get()).toBe('new')
    })

    it('pages go on after their names were forgotten, and a page can be asked for twice', async () => {
      const directory = parsePath('/pages')
      await tree.mkdir(context(), directory)
      const names = ['a', 'b', 'c', 'd']
      for (const each of names) await tree.create(context(), parsePath(`/pages/${each}`))
      const page = async (cursor?: string): Promise<{ names: string[]; next: string | undefined }> => {
        const { entries, next } = await tree.list(context(), directory, { limit: 2, cursor })
        return { names: entries.map((entry) => entry.name), next }
      }
      const first = await page()
      expect(first.names).toEqual(['a', 'b'])
      for (let i = 0; i <= limits.ninep_client_listings_max; i++) await page()
      expect((await page(first.next)).names).toEqual(['c', 'd'])
      expect((await page(first.next)).names).toEqual(['c', 'd'])
      await failure(tree.list(context(), parsePath('/'), { cursor: first.next }), 'invalid')
    })

    it('handles of others are none', async () => {
      fresh()
      await put('x')
      const { handle } = await tree.open({ ...context(), session: 1 }, path, { read: true })
      await failure(tree.readHandle({ ...context(), session: 2 }, handle, 0, 1), 'invalid')
      await failure(tree.readHandle({ ...contextFor({ name: 'guest', groups: [] }), session: 1 }, handle, 0, 1), 'invalid')
      await tree.closeHandle({ ...context(), session: 1 }, handle)
    })

    it('what 9P cannot do is unsupported, and says so', async () => {
      fresh()
      await put('kept')
      const qid = { path: 1, version: 1 }
      const refused: Record<string, () => Promise<unknown>> = {
        txn: () => tree.txn(context(), { if: [], then: [], else: [] }),
        watch: () => tree.watch(context(), path)[Symbol.asyncIterator]().next(),
        lease: () => tree.grantLease(context(), 1000),
        lock: () => tree.lock(context(), path, 'lease'),
        rights: () => tree.getRights(context(), path),
        past: () => tree.read(context(), path, { at: 1 }),
        version: () => put('x', { ifMatch: qid }),
        'a lease for a file': () => put('x', { ttlMs: 1000 }),
        'a content type': () => put('x', { contentType: 'text/plain' }),
        'a condition on a handle': () => tree.open(context(), path, { write: true, ifMatch: qid }),
        'a condition on a removal': () => tree.remove(context(), path, { ifMatch: qid }),
      }
      for (const refuse of Object.values(refused)) expect((await failure(refuse(), 'unsupported')).message).not.toBe('')
      expect(await get()).toBe('kept')
    })

    it('holds one fid when nothing is open', async () => {
      fresh()
      await put('x')
      await Promise.all(Array.from({ length: 50 }, () => get()))
      await tree.list(context(), parsePath('/'), { recursive: true, limit: 2 })
      const { handle } = await tree.open(context(), path, { read: true, write: true, mode: 'shared' })
      await tree.writeHandle(context(), handle, Buffer.from('y'), 'append')
      await tree.closeHandle(context(), handle)
      await failure(tree.read(context(), parsePath('/none/at/all')), 'not_found')
      await expect.poll(() => opened.mount.fids).toBe(1)
    })
  })
}

describe.skipIf(!hasDiod)('a folder of Linux', () => {
  it('shows what a path can name; what else is in it hides nothing', async () => {
    const diod = await startDiod()
    const odd = Buffer.concat([Buffer.from(`${diod.folder}/`), Buffer.from([0x6f, 0x64, 0x64, 0xff, 0xfe])])
    await writeFile(odd, 'x')
    await writeFile(join(diod.folder, 'plain'), 'from outside')
    await symlink('/etc', join(diod.folder, 'link'))
    const mount = await connectNinep({ address: diod.address, aname: diod.folder, uid: diodUid })
    const { entries } = await mount.server.list(context(), parsePath('/'))
    expect(entries.map(({ name, kind, target }) => [name, kind, target])).toEqual([
      ['link', 'symlink', '/etc'],
      ['plain', 'file', undefined],
    ])
    expect(Buffer.from((await mount.server.read(context(), parsePath('/plain'))).bytes).toString()).toBe('from outside')
    await failure(mount.server.read(context(), parsePath('/link/passwd')), 'not_directory')
    await failure(mount.server.read(context(), parsePath('/link')), 'invalid')
    await mount.close()
    await diod.close()
  })
})

describe.skipIf(!hasDiod)('a handle whose file was renamed under a server that goes by names', () => {
  it('reads and writes its own file, and leaves the other alone', async () => {
    const diod = await startDiod()
    const mount = await connectNinep({ address: diod.address, aname: diod.folder, uid: diodUid })
    const tree = mount.server
    const [f, g] = [parsePath('/f'), parsePath('/g')]
    await tree.write(context(), f, Buffer.from('a long value'))
    const flags = { read: true, write: true, mode: 'shared' } as const
    const { handle } = await tree.open(context(), f, flags)
    await tree.rename(context(), f, g)
    await tree.write(context(), f, Buffer.from('another'))
    await tree.writeHandle(context(), handle, Buffer.from('A'), 0)
    await tree.writeHandle(context(), handle, Buffer.from('!'), 'append')
    expect(Buffer.from((await tree.readHandle(context(), handle, 0, 100)).bytes).toString()).toBe('A long value!')
    await failure(tree.truncateHandle(context(), handle, 2), 'not_found')
    await tree.closeHandle(context(), handle)
    expect(Buffer.from((await tree.read(context(), f)).bytes).toString()).toBe('another')
    expect(Buffer.from((await tree.read(context(), g)).bytes).toString()).toBe('A long value!')
    await mount.close()
    await diod.close()
  })
})

describe('who we are', () => {
  it('a token goes by the file of Tauth, or in the attach name; a wrong one does not get in', async () => {
    const edge = await startEdge({ listeners: [{ address: { host: '127.0.0.1', port: 0 } }] })
    const { address } = edge
    for (const dialect of ['9P2000.L', '9P2000'] as const) {
      for (const tokenIn of ['afid', 'aname'] as const) {
        const mount = await connectNinep({ address, aname: '/data', dialect, tokenIn, token: () => 'owners-token' })
        await mount.server.write(context(), parsePath('/f'), Buffer.from(tokenIn))
        expect(await edge.text('/f')).toBe(tokenIn)
        await mount.close()
        await failure(connectNinep({ address, aname: '/data', dialect, tokenIn, token: 'wrong' }), 'unauthenticated')
      }
      await failure(connectNinep({ address, aname: '/data', dialect }), 'unauthenticated')
    }
    await edge.close()
  })

  it('a server that wants no token is shown none', async () => {
    const edge = await startEdge()
    const mount = await connectNinep({ address: edge.address, aname: '/data', token: 'owners-token' })
    await mount.server.write(context(), parsePath('/f'), Buffer.from('x'))
    await mount.close()
    await edge.close()
  })

  it('a Unix socket is an address too', async () => {
    const socket = join(tmpdir(), `nine-9p-${randomUUID()}.sock`)
    const edge = await startEdge({ listeners: [{ address: { socket }, trusted: owner }] })
    const mount = await connectNinep({ address: socket, aname: '/data' })
    await mount.server.write(context(), parsePath('/f'), Buffer.from('x'))
    expect(await edge.text('/f')).toBe('x')
    await mount.close()
    await edge.close()
    await rm(socket, { force: true })
  })
})

describe('streams', () => {
  it('give what comes; a read that waits is cancelled, and others go on meanwhile', async () => {
    const records = stream(async function* ({ signal }) {
      yield 'one'
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    })
    const edge = await startEdge({ table: { records } })
    const mount = await connectNinep({ address: edge.address })
    const path = parsePath('/svc/test/records')
    const { handle } = await mount.server.open(context(), path, { read: true })
    const first = await mount.server.readHandle(context(), handle, 0, 100)
    expect([Buffer.from(first.bytes).toString(), first.end]).toEqual(['one', false])
    const controller = new AbortController()
    const second = failure(mount.server.readHandle({ ...context(), signal: controller.signal }, handle, 3, 100), 'deadline')
    await mount.server.stat(context(), path)
    controller.abort()
    await second
    await mount.server.closeHandle(context(), handle)
    await mount.close()
    await failure(mount.server.stat(context(), path), 'unavailable')
    await edge.close()
  })
})

describe('words', () => {
  it('of Linux, Plan 9 and u9fs are kinds', () => {
    expect([2, 17, 1, 13, 39, 95, 38, 28, 122, 30, 18, 116, 9999].map(kindOfErrno)).toEqual([
      'not_found',
      'exists',
      'denied',
      'denied',
      'not_empty',
      'unsupported',
      'unsupported',
      'no_space',
      'no_space',
      'read_only',
      'cross_store',
      'not_found',
      'internal',
    ])
    const texts: Record<string, ErrorKind> = {
      'file does not exist': 'not_found',
      "'x' file does not exist": 'not_found',
      'No such file or directory': 'not_found',
      'file already exists': 'exists',
      'Permission denied': 'denied',
      'permission denied: x': 'denied',
      'Not a directory': 'not_directory',
      'directory not empty': 'not_empty',
      'directory is not empty': 'not_empty',
      'Read-only file system': 'read_only',
      'file is a directory': 'is_directory',
      'Is a directory': 'is_directory',
      'authentication failed': 'unauthenticated',
      'No space left on device': 'no_space',
      'Operation not supported': 'unsupported',
      'something of its own': 'internal',
    }
    for (const [text, kind] of Object.entries(texts)) expect([text, kindOfText(text)]).toEqual([text, kind])
  })

  it('that are addresses', () => {
    expect(parseNinepAddress('host')).toEqual({ host: 'host', port: 564 })
    expect(parseNinepAddress('[::1]:9564')).toEqual({ host: '::1', port: 9564 })
    expect(parseNinepAddress('/run/9p.sock')).toEqual({ socket: '/run/9p.sock' })
    for (const text of ['', 'a b', 'host:0', 'host:70000', '::1', 'host:x']) expect(() => parseNinepAddress(text)).toThrow(NineError)
  })
})
