/** 9P2000 on a real store, message by message. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { untouched16, untouched32, untouched64 } from '../../proto/ninep/messages.ts'
import type { RequestBody, WireStat } from '../../proto/ninep/messages.ts'
import { decodeStats } from '../../proto/ninep/records.ts'
import { startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'
import { RawClient } from './raw-client.ts'

const OREAD = 0
const OWRITE = 1
const ORDWR = 2
const OTRUNC = 0x10
const ORCLOSE = 0x40
const DMDIR = 0x8000_0000
const DMAPPEND = 0x4000_0000
const DMEXCL = 0x2000_0000

let edge: TestEdge
let client: RawClient
let directory: string
let count = 0
const DIR = 1

beforeAll(async () => {
  edge = await startEdge()
})

afterAll(() => edge.close())

beforeEach(async () => {
  directory = `/test-${++count}`
  await edge.store.mkdir(edge.context(), parsePath(directory))
  client = await RawClient.open(edge.address, '9P2000')
  await client.attach(0)
  await client.walk(0, DIR, `data${directory}`)
})

afterEach(() => client.close())

async function create(fid: number, name: string, text = '', perm = 0o644, mode = ORDWR): Promise<void> {
  await client.walk(DIR, fid, '')
  await client.ask({ type: 'Tcreate', fid, name, perm, mode }, 'Rcreate')
  if (text !== '') await put(fid, text)
}

async function put(fid: number, text: string, offset = 0): Promise<number> {
  return (await client.ask({ type: 'Twrite', fid, offset, data: Buffer.from(text) }, 'Rwrite')).count
}

async function get(fid: number, offset = 0, count = 10_000): Promise<string> {
  return Buffer.from((await client.ask({ type: 'Tread', fid, offset, count }, 'Rread')).data).toString()
}

async function statOf(fid: number): Promise<WireStat> {
  return (await client.ask({ type: 'Tstat', fid }, 'Rstat')).stat
}

/** "Don't touch" everywhere but where said. */
function wstat(fid: number, changed: Partial<WireStat>): RequestBody {
  const ones = { type: 0xff, version: untouched32, path: untouched64 }
  const times = { atime: untouched32, mtime: untouched32, length: untouched64 }
  const untouched = { type: untouched16, dev: untouched32, qid: ones, mode: untouched32, ...times, name: '', uid: '', gid: '', muid: '' }
  return { type: 'Twstat', fid, stat: { ...untouched, ...changed } }
}

describe('9P2000', () => {
  it('creates, writes, reads and tells of files', async () => {
    await create(10, 'file', 'hello')
    expect(await get(10)).toBe('hello')
    const stat = await statOf(10)
    expect(stat).toMatchObject({ name: 'file', length: 5, mode: 0o644, uid: 'owner', muid: 'owner', type: 0, dev: 0 })
    expect(Math.abs(stat.mtime - Date.now() / 1000)).toBeLessThan(100)
    await client.clunk(10)
    expect(await edge.text(`${directory}/file`)).toBe('hello')
    await client.walk(DIR, 10, '')
    expect(await client.refused({ type: 'Tcreate', fid: 10, name: 'file', perm: 0o644, mode: ORDWR })).toBe('file already exists')
    // The fid is the directory's still.
    expect((await statOf(10)).mode).toBe((DMDIR | 0o755) >>> 0)
  })

  it('opens by mode: truncating, removed on close, and for what was asked alone', async () => {
    await create(10, 'file', 'hello')
    await client.clunk(10)
    await client.walk(DIR, 10, 'file')
    await client.ask({ type: 'Topen', fid: 10, mode: OREAD }, 'Ropen')
    expect(await client.refused({ type: 'Twrite', fid: 10, offset: 0, data: Buffer.from('x') })).toBe('Invalid argument')
    expect(await client.refused({ type: 'Topen', fid: 10, mode: OREAD })).toBe('Invalid argument')
    await client.clunk(10)
    await client.walk(DIR, 10, 'file')
    await client.ask({ type: 'Topen', fid: 10, mode: OWRITE | OTRUNC | ORCLOSE }, 'Ropen')
    expect(await client.refused({ type: 'Tread', fid: 10, offset: 0, count: 1 })).toBe('Invalid argument')
    expect((await statOf(10)).length).toBe(0)
    await client.clunk(10)
    expect(await client.refused({ type: 'Twalk', fid: DIR, newFid: 10, names: ['file'] })).toBe('file does not exist')
  })

  it('takes permissions from the directory above, and appends where asked at creation', async () => {
    await edge.store.setStat(edge.context(), parsePath(directory), { mode: 0o750 })
    await create(10, 'file', 'one', (DMAPPEND | 0o666) >>> 0, OWRITE)
    expect((await statOf(10)).mode).toBe(0o640)
    await put(10, '-two', 0)
    await client.clunk(10)
    expect(await edge.text(`${directory}/file`)).toBe('one-two')
    await client.walk(DIR, 10, '')
    await client.ask({ type: 'Tcreate', fid: 10, name: 'sub', perm: (DMDIR | 0o777) >>> 0, mode: OREAD }, 'Rcreate')
    expect((await statOf(10)).mode).toBe((DMDIR | 0o750) >>> 0)
    expect(await get(10)).toBe('')
    await client.walk(DIR, 11, '')
    expect(await client.refused({ type: 'Tcreate', fid: 11, name: 'x', perm: DMEXCL, mode: OREAD })).toBe('Operation not supported')
  })

  it('reads directories as whole stats, from the start or on from the last read', async () => {
    const names = Array.from({ length: 100 }, (_, i) => `entry-${String(i).padStart(3, '0')}`)
    for (const name of names) await edge.store.create(edge.context(), parsePath(`${directory}/${name}`))
    await client.walk(DIR, 10, '')
    await client.ask({ type: 'Topen', fid: 10, mode: OREAD }, 'Ropen')
    const seen: WireStat[] = []
    let offset = 0
    for (;;) {
      const { data } = await client.ask({ type: 'Tread', fid: 10, offset, count: 500 }, 'Rread')
      if (data.length === 0) break
      seen.push(...decodeStats(Buffer.from(data)))
      offset += data.length
    }
    expect(seen.map((stat) => stat.name)).toEqual(names)
    await client.walk(DIR, 11, names[7]!)
    expect(await statOf(11)).toEqual(seen[7])
    expect(await client.refused({ type: 'Tread', fid: 10, offset: 17, count: 500 })).toBe('Invalid argument')
    expect(await client.refused({ type: 'Tread', fid: 10, offset: 0, count: 20 })).toBe('Invalid argument')
    expect(decodeStats(Buffer.from((await client.ask({ type: 'Tread', fid: 10, offset: 0, count: 500 }, 'Rread')).data))[0]!.name).toBe(names[0]) // prettier-ignore
    await client.walk(DIR, 12, '')
    expect(await client.refused({ type: 'Topen', fid: 12, mode: ORDWR })).toBe('Is a directory')
  })

  it('changes by wstat what may be changed, all of it or nothing', async () => {
    await create(10, 'file', 'hello world')
    await client.ask(wstat(10, { length: 5, mode: 0o600, mtime: 1_000_000_000 }), 'Rwstat')
    expect(await statOf(10)).toMatchObject({ length: 5, mode: 0o600, mtime: 1_000_000_000 })
    await client.ask(wstat(10, { name: 'renamed', gid: 'staff' }), 'Rwstat')
    expect(await edge.text(`${directory}/renamed`)).toBe('hello')
    await client.clunk(10)
    await create(11, 'taken')
    await client.walk(DIR, 10, 'renamed')
    // Renaming never replaces; the length must not have changed then.
    expect(await client.refused(wstat(10, { name: 'taken', length: 1 }))).toBe('file already exists')
    expect((await statOf(10)).length).toBe(5)
    for (const changed of [{ uid: 'other' }, { dev: 3 }, { type: 3 }, { qid: { type: 0, version: 0, path: 1 } }]) {
      expect(await client.refused(wstat(10, { ...changed, length: 1 }))).toBe('permission denied')
    }
    expect(await client.refused(wstat(10, { mode: (DMDIR | 0o600) >>> 0 }))).toBe('Operation not supported')
    expect(await client.refused(wstat(10, { name: '../x' }))).toBe('Invalid argument')
    expect(await statOf(10)).toMatchObject({ length: 5, name: 'renamed', gid: 'staff' })
    await client.ask(wstat(10, { muid: 'other' }), 'Rwstat')
    expect((await statOf(10)).muid).toBe('owner')
    // As it is: every field given and none different.
    const now = await statOf(10)
    await client.ask(wstat(10, now), 'Rwstat')
    expect(await statOf(10)).toEqual(now)
  })

  it('publishes an open file when nothing is to be changed', async () => {
    await create(10, 'file', 'x')
    const version = async (): Promise<number> => (await edge.store.stat(edge.context(), parsePath(`${directory}/file`))).stat.version
    const before = await version()
    await client.ask(wstat(10, {}), 'Rwstat')
    expect(await version()).toBeGreaterThan(before)
  })

  it('shows links as files that read as their target', async () => {
    await edge.store.symlink(edge.context(), parsePath(`${directory}/link`), '../elsewhere')
    const { qids } = await client.walk(DIR, 10, 'link')
    expect(qids[0]!.type).toBe(0)
    await client.ask({ type: 'Topen', fid: 10, mode: OREAD }, 'Ropen')
    expect(await get(10)).toBe('../elsewhere')
    expect(await get(10, 3, 4)).toBe('else')
  })

  it('takes the n_uname of 9P2000.u without speaking it', async () => {
    const other = await RawClient.connect(edge.address, '9P2000')
    const { version } = await other.ask({ type: 'Tversion', msize: 8192, version: '9P2000.u' }, 'Rversion', 0xffff)
    expect(version).toBe('9P2000')
    await other.attach(0, '/data', { nUname: 1000 })
    expect((await other.ask({ type: 'Tstat', fid: 0 }, 'Rstat')).stat.name).toBe('/')
    await other.close()
  })
})
