/** 9P2000.L on a real store, message by message. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { computed } from '../../namespace/serve/entries.ts'
import { decodeDirents } from '../../proto/ninep/records.ts'
import type { RequestBody, WireDirent } from '../../proto/ninep/messages.ts'
import { startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'
import { RawClient } from './raw-client.ts'

const O_RDWR = 2
const O_WRONLY = 1
const O_EXCL = 0o200
const O_TRUNC = 0o1000
const O_APPEND = 0o2000
const errno = { ENOENT: 2, EBUSY: 16, EEXIST: 17, EXDEV: 18, ENOTDIR: 20, EISDIR: 21, EINVAL: 22, ENAMETOOLONG: 36, ENOTEMPTY: 39, ELOOP: 40, EOPNOTSUPP: 95, EACCES: 13, EROFS: 30 } // prettier-ignore

let edge: TestEdge
let client: RawClient
let directory: string
let count = 0
/** Fid of the test's own directory; the tests take numbers from 10. */
const DIR = 1

beforeAll(async () => {
  edge = await startEdge({ table: { now: computed(() => 'computed text') } })
})

afterAll(() => edge.close())

beforeEach(async () => {
  directory = `/test-${++count}`
  await edge.store.mkdir(edge.context(), parsePath(directory))
  client = await RawClient.open(edge.address, '9P2000.L')
  await client.attach(0)
  await client.walk(0, DIR, `data${directory}`)
})

afterEach(() => client.close())

async function make(fid: number, name: string, text = '', flags = O_RDWR): Promise<void> {
  await client.walk(DIR, fid, '')
  await client.ask({ type: 'Tlcreate', fid, name, flags, mode: 0o640, gid: 0 }, 'Rlcreate')
  if (text !== '') await put(fid, text)
}

async function put(fid: number, text: string, offset = 0): Promise<number> {
  return (await client.ask({ type: 'Twrite', fid, offset, data: Buffer.from(text) }, 'Rwrite')).count
}

async function get(fid: number, offset = 0, count = 10_000): Promise<string> {
  return Buffer.from((await client.ask({ type: 'Tread', fid, offset, count }, 'Rread')).data).toString()
}

async function attributes(fid: number) {
  return (await client.ask({ type: 'Tgetattr', fid, mask: 0x7ff }, 'Rgetattr')).attributes
}

function setattr(fid: number, fields: Partial<Extract<RequestBody, { type: 'Tsetattr' }>>): RequestBody {
  return { type: 'Tsetattr', fid, valid: 0, mode: 0, uid: 0, gid: 0, size: 0, atimeSec: 0, atimeNsec: 0, mtimeSec: 0, mtimeNsec: 0, ...fields } // prettier-ignore
}

async function readdir(fid: number, offset = 0n, count = 8_000): Promise<WireDirent[]> {
  const { data } = await client.ask({ type: 'Treaddir', fid, offset, count }, 'Rreaddir')
  return decodeDirents(Buffer.from(data))
}

async function namesAfter(fid: number, offset = 0n, count?: number): Promise<string[]> {
  return (await readdir(fid, offset, count)).map((entry) => entry.name)
}

describe('walk', () => {
  it('gives the qids up to the first name that is missing, and makes no fid of part of a path', async () => {
    await client.ask({ type: 'Tmkdir', dirFid: DIR, name: 'a', mode: 0o755, gid: 0 }, 'Rmkdir')
    const { qids } = await client.walk(DIR, 10, 'a/missing/b')
    expect(qids).toHaveLength(1)
    expect(qids[0]!.type).toBe(0x80)
    expect(await client.refused({ type: 'Tgetattr', fid: 10, mask: 1 })).toBe(errno.EINVAL)
    expect(await client.refused({ type: 'Twalk', fid: DIR, newFid: 10, names: ['missing'] })).toBe(errno.ENOENT)
    expect((await client.walk(DIR, 10, 'a')).qids).toEqual(qids)
    await client.clunk(10)
  })

  it('goes no further up than what was attached', async () => {
    await client.attach(20, `/data${directory}`)
    const root = await attributes(20)
    expect(root.qid).toEqual((await attributes(DIR)).qid)
    const { qids } = await client.walk(20, 21, '../../..')
    expect(qids).toEqual([root.qid, root.qid, root.qid])
    expect(await client.refused({ type: 'Twalk', fid: 21, newFid: 22, names: ['usr'] })).toBe(errno.ENOENT)
    await client.clunk(20)
    await client.clunk(21)
  })

  it.each([
    ['a/b', errno.EINVAL],
    ['', errno.EINVAL],
    ['n'.repeat(256), errno.ENAMETOOLONG],
  ])('refuses the name %j', async (name, expected) => {
    expect(await client.refused({ type: 'Twalk', fid: DIR, newFid: 10, names: [name] })).toBe(expected)
    expect(await client.refused({ type: 'Tmkdir', dirFid: DIR, name, mode: 0o755, gid: 0 })).toBe(expected)
  })

  it('refuses paths past 1,024 bytes, and does not go through files', async () => {
    const name = 'n'.repeat(250)
    let fid = DIR
    for (let depth = 0; depth < 4; depth++) {
      await client.ask({ type: 'Tmkdir', dirFid: fid, name, mode: 0o755, gid: 0 }, 'Rmkdir')
      await client.walk(fid, 30 + depth, name)
      fid = 30 + depth
    }
    expect(await client.refused({ type: 'Tmkdir', dirFid: fid, name: 'n'.repeat(255), mode: 0o755, gid: 0 })).toBe(errno.ENAMETOOLONG)
    for (const each of [30, 31, 32, 33]) await client.clunk(each)
    await make(10, 'file')
    await client.clunk(10)
    await client.walk(DIR, 10, 'file')
    expect(await client.refused({ type: 'Twalk', fid: 10, newFid: 11, names: ['x'] })).toBe(errno.ENOTDIR)
    await client.clunk(10)
  })

  it('tells files of different stores and services apart', async () => {
    const found = new Set<number>()
    for (const [fid, path] of [
      [10, ''],
      [11, 'data'],
      [12, 'svc'],
      [13, 'svc/test'],
      [14, 'svc/test/now'],
      [15, 'svc/twin/now'],
    ] as const) // prettier-ignore
    {
      await client.walk(0, fid, path)
      found.add((await attributes(fid)).qid.path)
      await client.clunk(fid)
    }
    expect(found.size).toBe(6)
  })
})

describe('files', () => {
  it('are made, written, read and found again by others at once', async () => {
    await make(10, 'file', 'hello')
    expect(await edge.text(`${directory}/file`)).toBe('hello')
    expect(await put(10, 'HE')).toBe(2)
    expect(await get(10)).toBe('HEllo')
    expect(await get(10, 3)).toBe('lo')
    expect(await get(10, 5)).toBe('')
    await client.walk(DIR, 11, 'file')
    const found = await attributes(11)
    expect(found).toMatchObject({ size: 5, mode: 0o100640, nlink: 1, blocks: 1 })
    expect(found.qid.path).toBe((await attributes(10)).qid.path)
    await client.clunk(10)
    await client.clunk(11)
  })

  it('are opened as asked: exclusive, truncated, appending, and not against their mode', async () => {
    await make(10, 'file', 'one')
    await client.clunk(10)
    await client.walk(DIR, 10, '')
    expect(await client.refused({ type: 'Tlcreate', fid: 10, name: 'file', flags: O_RDWR | O_EXCL, mode: 0o644, gid: 0 })).toBe(
      errno.EEXIST,
    )
    await client.ask({ type: 'Tlcreate', fid: 10, name: 'file', flags: O_WRONLY | O_APPEND, mode: 0o644, gid: 0 }, 'Rlcreate')
    await put(10, '-two', 0)
    expect(await client.refused({ type: 'Tread', fid: 10, offset: 0, count: 10 })).toBe(errno.EINVAL)
    await client.clunk(10)
    expect(await edge.text(`${directory}/file`)).toBe('one-two')
    await client.walk(DIR, 10, 'file')
    await client.ask({ type: 'Tlopen', fid: 10, flags: O_WRONLY | O_TRUNC }, 'Rlopen')
    expect(await client.refused({ type: 'Tlopen', fid: 10, flags: 0 })).toBe(errno.EINVAL)
    await client.clunk(10)
    expect(await edge.text(`${directory}/file`)).toBe('')
    await client.walk(DIR, 10, 'file')
    await client.ask({ type: 'Tlopen', fid: 10, flags: 0 }, 'Rlopen')
    expect(await client.refused({ type: 'Twrite', fid: 10, offset: 0, data: Buffer.from('x') })).toBe(errno.EINVAL)
    await client.clunk(10)
  })

  it('are durable when fsync and clunk are answered, and whole after a truncation over an open handle', async () => {
    await make(10, 'file', 'abcdef')
    const before = edge.store.stat(edge.context(), parsePath(`${directory}/file`))
    expect((await before).stat.version).toBe(1)
    await client.ask({ type: 'Tfsync', fid: 10, datasync: 0 }, 'Rfsync')
    const { stat } = await edge.store.stat(edge.context(), parsePath(`${directory}/file`))
    expect(stat.version).toBeGreaterThan(1)
    await put(10, 'xyz', 6)
    // Another fid of the same file, by path: what was written and not yet published is cut too.
    await client.walk(DIR, 11, 'file')
    await client.ask(setattr(11, { valid: 0x8, size: 7 }), 'Rsetattr')
    expect(await get(10)).toBe('abcdefx')
    await client.clunk(10)
    await client.clunk(11)
    expect(await edge.text(`${directory}/file`)).toBe('abcdefx')
  })

  it('stay usable through removal and renaming while they are open', async () => {
    await make(10, 'file', 'content')
    await client.ask({ type: 'Tmkdir', dirFid: DIR, name: 'sub', mode: 0o755, gid: 0 }, 'Rmkdir')
    await client.walk(DIR, 11, 'sub')
    await client.ask({ type: 'Trenameat', oldDirFid: DIR, oldName: 'file', newDirFid: 11, newName: 'moved' }, 'Rrenameat')
    await put(10, 'C')
    expect((await attributes(10)).size).toBe(7)
    await client.ask({ type: 'Tunlinkat', dirFid: 11, name: 'moved', flags: 0 }, 'Runlinkat')
    expect(await get(10)).toBe('Content')
    await client.clunk(10)
    await client.clunk(11)
  })

  it('have no offsets past what a file can have', async () => {
    await make(10, 'file', 'x')
    for (const offset of [2 ** 53, 2 ** 63, 2 ** 64]) {
      expect(await client.refused({ type: 'Tread', fid: 10, offset, count: 1 })).toBe(errno.EINVAL)
      expect(await client.refused({ type: 'Twrite', fid: 10, offset, data: Buffer.from('y') })).toBe(errno.EINVAL)
      expect(await client.refused(setattr(10, { valid: 0x8, size: offset }))).toBe(errno.EINVAL)
    }
    expect(await get(10)).toBe('x')
    await client.clunk(10)
  })

  it('of functions read as what the function gives', async () => {
    await client.walk(0, 10, 'svc/test/now')
    await client.ask({ type: 'Tlopen', fid: 10, flags: 0 }, 'Rlopen')
    expect(await get(10)).toBe('computed text')
    expect(await get(10, 9)).toBe('text')
    await client.clunk(10)
  })

  it('count past the size of a message is answered with what fits', async () => {
    await make(10, 'file')
    const part = Buffer.alloc(60_000, 'x')
    for (const offset of [0, 60_000]) await client.ask({ type: 'Twrite', fid: 10, offset, data: part }, 'Rwrite')
    const { data } = await client.ask({ type: 'Tread', fid: 10, offset: 0, count: 0xffff_ffff }, 'Rread')
    expect(data.length).toBe(65_536 - 11)
    await client.clunk(10)
  })
})

describe('attributes', () => {
  it('are set by mask, each alone, and times as given', async () => {
    await make(10, 'file', 'abc')
    await client.ask(setattr(10, { valid: 0x1, mode: 0o100600, size: 99 }), 'Rsetattr')
    expect(await attributes(10)).toMatchObject({ mode: 0o100600, size: 3 })
    await client.ask(setattr(10, { valid: 0x120, mtimeSec: 1_000_000_000, mtimeNsec: 123_456_000 }), 'Rsetattr')
    expect(await attributes(10)).toMatchObject({ mtimeSec: 1_000_000_000, mtimeNsec: 123_456_000, mode: 0o100600 })
    await client.clunk(10)
    await client.walk(DIR, 10, 'file')
    expect(await attributes(10)).toMatchObject({ mtimeSec: 1_000_000_000, mtimeNsec: 123_456_000, size: 3 })
    await client.ask(setattr(10, { valid: 0x20 }), 'Rsetattr')
    expect((await attributes(10)).mtimeSec).toBeGreaterThan(1_700_000_000)
    await client.ask(setattr(10, { valid: 0x6, uid: 4321, gid: 8765 }), 'Rsetattr')
    expect(await attributes(10)).toMatchObject({ uid: 4321, gid: 8765 })
    await client.ask(setattr(10, { valid: 0x90, atimeSec: 5 }), 'Rsetattr')
    await client.clunk(10)
  })

  it('name the attached principal by the number its client gave', async () => {
    await client.attach(20, `/data${directory}`, { nUname: 1234 })
    await make(10, 'file')
    await client.walk(20, 21, 'file')
    expect((await attributes(21)).uid).toBe(1234)
    await client.ask(setattr(21, { valid: 0x2, uid: 77 }), 'Rsetattr')
    await client.ask(setattr(21, { valid: 0x2, uid: 1234 }), 'Rsetattr')
    expect((await edge.store.stat(edge.context(), parsePath(`${directory}/file`))).stat.owner).toBe('owner')
    for (const fid of [10, 20, 21]) await client.clunk(fid)
  })

  it('of the system are extended attributes, of which the content type can be set', async () => {
    await make(10, 'file', 'abc')
    await client.ask({ type: 'Tfsync', fid: 10, datasync: 0 }, 'Rfsync')
    const { size } = await client.ask({ type: 'Txattrwalk', fid: 10, newFid: 11, name: '' }, 'Rxattrwalk')
    const names = (await get(11)).split('\0')
    expect(size).toBe((await get(11)).length)
    expect(names).toEqual(['user.nine.version', 'user.nine.revision', 'user.nine.modifiedBy', ''])
    await client.clunk(11)
    await client.ask({ type: 'Txattrwalk', fid: 10, newFid: 11, name: 'user.nine.modifiedBy' }, 'Rxattrwalk')
    expect(await get(11)).toBe('owner')
    await client.clunk(11)
    expect(await client.refused({ type: 'Txattrwalk', fid: 10, newFid: 11, name: 'user.other' })).toBe(errno.EOPNOTSUPP)
    await client.walk(DIR, 11, 'file')
    expect(await client.refused({ type: 'Txattrcreate', fid: 11, name: 'user.nine.version', size: 1, flags: 0 })).toBe(errno.EOPNOTSUPP)
    await client.ask({ type: 'Txattrcreate', fid: 11, name: 'user.nine.contentType', size: 10, flags: 0 }, 'Rxattrcreate')
    await put(11, 'text/plain')
    await client.clunk(11)
    expect((await edge.store.stat(edge.context(), parsePath(`${directory}/file`))).stat.contentType).toBe('text/plain')
    await client.clunk(10)
  })

  it('of the disk are told', async () => {
    const { statfs } = await client.ask({ type: 'Tstatfs', fid: DIR }, 'Rstatfs')
    expect(statfs).toMatchObject({ bsize: 4096, blocks: 100, bavail: 40, namelen: 255 })
  })
})

describe('directories', () => {
  const names = Array.from({ length: 300 }, (_, i) => `entry-${String(i).padStart(3, '0')}`)

  beforeEach(async () => {
    for (const name of names) await edge.store.create(edge.context(), parsePath(`${directory}/${name}`))
    await client.walk(DIR, 10, '')
    await client.ask({ type: 'Tlopen', fid: 10, flags: 0 }, 'Rlopen')
  })

  it('are read in parts, whole entries only, each once', async () => {
    const seen: string[] = []
    let offset = 0n
    for (;;) {
      const entries = await readdir(10, offset, 700)
      if (entries.length === 0) break
      expect(entries.length).toBeLessThan(30)
      seen.push(...entries.map((entry) => entry.name))
      offset = entries.at(-1)!.offset
    }
    expect(seen).toEqual(['.', '..', ...names])
    expect(await client.refused({ type: 'Treaddir', fid: 10, offset, count: 5 }).catch(() => 'empty')).toBe('empty')
    expect(await client.refused({ type: 'Treaddir', fid: 10, offset: 5n, count: 5 })).toBe(errno.EINVAL)
    expect(await client.refused({ type: 'Treaddir', fid: 10, offset: 2n ** 64n - 1n, count: 5000 })).toBe(errno.EINVAL)
  })

  it('go on where a cookie says, whatever was made and removed meanwhile', async () => {
    const first = await readdir(10, 0n, 2000)
    const middle = first[20]!
    const rest = await namesAfter(10, middle.offset)
    expect(rest[0]).toBe(first[21]!.name)
    for (const entry of first.slice(2, 30)) await client.ask({ type: 'Tunlinkat', dirFid: DIR, name: entry.name, flags: 0 }, 'Runlinkat')
    await edge.store.create(edge.context(), parsePath(`${directory}/entry-000-new`))
    // The entry of the cookie is gone; those after it are neither skipped nor repeated.
    expect((await namesAfter(10, middle.offset)).slice(0, 2)).toEqual([names[28], names[29]])
    expect((await namesAfter(10, first.at(-1)!.offset))[0]).toBe(names[names.indexOf(first.at(-1)!.name) + 1])
    expect((await namesAfter(10)).slice(0, 4)).toEqual(['.', '..', 'entry-000-new', names[28]])
  })

  it('are removed empty, by the flag that says so', async () => {
    await client.ask({ type: 'Tmkdir', dirFid: DIR, name: 'sub', mode: 0o700, gid: 0 }, 'Rmkdir')
    await client.walk(DIR, 11, 'sub')
    expect((await attributes(11)).mode).toBe(0o040700)
    await client.ask({ type: 'Tmkdir', dirFid: 11, name: 'inner', mode: 0o700, gid: 0 }, 'Rmkdir')
    expect(await client.refused({ type: 'Tunlinkat', dirFid: DIR, name: 'sub', flags: 0 })).toBe(errno.EISDIR)
    expect(await client.refused({ type: 'Tunlinkat', dirFid: DIR, name: 'sub', flags: 0x200 })).toBe(errno.ENOTEMPTY)
    expect(await client.refused({ type: 'Tunlinkat', dirFid: DIR, name: names[0]!, flags: 0x200 })).toBe(errno.ENOTDIR)
    await client.ask({ type: 'Tunlinkat', dirFid: 11, name: 'inner', flags: 0x200 }, 'Runlinkat')
    await client.ask({ type: 'Tremove', fid: 11 }, 'Rremove')
    expect(await client.refused({ type: 'Tclunk', fid: 11 })).toBe(errno.EINVAL)
    expect(await client.refused({ type: 'Twalk', fid: DIR, newFid: 12, names: ['sub'] })).toBe(errno.ENOENT)
  })
})

describe('names', () => {
  it('move over what is there, with the fids that stand for them', async () => {
    await make(10, 'old', 'new content')
    await client.clunk(10)
    await make(11, 'target', 'to be replaced')
    await client.clunk(11)
    await client.walk(DIR, 10, 'old')
    await client.walk(DIR, 11, 'target')
    await client.ask({ type: 'Trename', fid: 10, dirFid: DIR, name: 'target' }, 'Rrename')
    expect((await attributes(10)).size).toBe(11)
    // The fid of the replaced file does not become one of its successor.
    expect(await client.refused({ type: 'Tgetattr', fid: 11, mask: 1 })).toBe(errno.ENOENT)
    expect(await client.refused({ type: 'Tlopen', fid: 11, flags: 0 })).toBe(errno.ENOENT)
    expect(await client.refused({ type: 'Tremove', fid: 11 })).toBe(errno.ENOENT)
    expect(await edge.text(`${directory}/target`)).toBe('new content')
    await client.clunk(10)
  })

  it('of directories take the fids below along, and do not move into themselves or other stores', async () => {
    await client.ask({ type: 'Tmkdir', dirFid: DIR, name: 'a', mode: 0o755, gid: 0 }, 'Rmkdir')
    await client.walk(DIR, 10, 'a')
    await client.ask({ type: 'Tmkdir', dirFid: 10, name: 'b', mode: 0o755, gid: 0 }, 'Rmkdir')
    await client.walk(10, 11, 'b')
    await client.ask({ type: 'Trenameat', oldDirFid: DIR, oldName: 'a', newDirFid: DIR, newName: 'z' }, 'Rrenameat')
    await client.ask({ type: 'Tmkdir', dirFid: 11, name: 'c', mode: 0o755, gid: 0 }, 'Rmkdir')
    await client.walk(DIR, 12, 'z/b/c')
    expect(await client.refused({ type: 'Trename', fid: 10, dirFid: 11, name: 'inside' })).toBe(errno.EINVAL)
    await client.walk(0, 13, 'svc/test')
    expect(await client.refused({ type: 'Trename', fid: 12, dirFid: 13, name: 'c' })).toBe(errno.EXDEV)
    for (const fid of [10, 11, 12, 13]) await client.clunk(fid)
  })

  it('are links that are made and read, not followed', async () => {
    const { qid } = await client.ask({ type: 'Tsymlink', dirFid: DIR, name: 'link', target: '/etc/../x', gid: 0 }, 'Rsymlink')
    expect(qid.type).toBe(0x02)
    await client.walk(DIR, 10, 'link')
    expect((await client.ask({ type: 'Treadlink', fid: 10 }, 'Rreadlink')).target).toBe('/etc/../x')
    expect((await attributes(10)).mode & 0o170000).toBe(0o120000)
    expect(await client.refused({ type: 'Tlopen', fid: 10, flags: 0 })).toBe(errno.ELOOP)
    expect(await client.refused({ type: 'Treadlink', fid: DIR })).toBe(errno.EINVAL)
    await client.clunk(10)
  })

  it('are one a file: hard links, devices and pipes are refused, regular files made', async () => {
    await make(10, 'file')
    expect(await client.refused({ type: 'Tlink', dirFid: DIR, fid: 10, name: 'other' })).toBe(errno.EOPNOTSUPP)
    const mknod = { type: 'Tmknod', dirFid: DIR, name: 'node', major: 1, minor: 3, gid: 0 } as const
    for (const type of [0o010000, 0o020000, 0o060000, 0o140000]) {
      expect(await client.refused({ ...mknod, mode: type | 0o644 })).toBe(errno.EOPNOTSUPP)
    }
    await client.ask({ ...mknod, mode: 0o100644 }, 'Rmknod')
    expect(await client.refused({ ...mknod, mode: 0o100644 })).toBe(errno.EEXIST)
    await client.clunk(10)
  })
})

describe('locks of byte ranges', () => {
  const lock = (fid: number, type: number, start: number, length: number, procId: number): RequestBody => ({
    type: 'Tlock',
    fid,
    flags: 0,
    lock: { type, start, length, procId, clientId: 'host' },
  })

  async function status(request: RequestBody): Promise<number> {
    return (await client.ask(request, 'Rlock')).status
  }

  it('shut others out where they overlap, are split, told, and end with their fid', async () => {
    await make(10, 'file', 'x'.repeat(100))
    await client.walk(DIR, 11, 'file')
    await client.ask({ type: 'Tlopen', fid: 11, flags: O_RDWR }, 'Rlopen')
    expect(await status(lock(10, 1, 0, 100, 1))).toBe(0)
    expect(await status(lock(11, 1, 50, 1, 2))).toBe(1)
    expect(await status(lock(11, 0, 50, 1, 2))).toBe(1)
    expect(await status(lock(11, 1, 100, 0, 2))).toBe(0)
    // The middle given back is anybody's; both ends are still held.
    expect(await status(lock(10, 2, 40, 20, 1))).toBe(0)
    expect(await status(lock(11, 1, 50, 1, 2))).toBe(0)
    expect(await status(lock(11, 1, 39, 1, 2))).toBe(1)
    expect(await status(lock(11, 1, 60, 1, 2))).toBe(1)
    const asked = { type: 1, start: 0, length: 10, procId: 2, clientId: 'host' }
    const found = await client.ask({ type: 'Tgetlock', fid: 11, lock: asked }, 'Rgetlock')
    expect(found.lock).toEqual({ type: 1, start: 0, length: 40, procId: 1, clientId: 'host' })
    await client.clunk(10)
    expect((await client.ask({ type: 'Tgetlock', fid: 11, lock: asked }, 'Rgetlock')).lock.type).toBe(2)
    expect(await status(lock(11, 0, 0, 10, 2))).toBe(0)
    await client.clunk(11)
  })

  it('of one owner replace each other where they overlap', async () => {
    await make(10, 'file', 'x')
    expect(await status(lock(10, 1, 0, 100, 1))).toBe(0)
    expect(await status(lock(10, 0, 0, 50, 1))).toBe(0)
    expect(await status(lock(10, 0, 10, 10, 2))).toBe(0)
    expect(await status(lock(10, 0, 60, 10, 2))).toBe(1)
  })

  it('of reading are shared, over connections, and end with the connection', async () => {
    await make(10, 'file', 'x')
    const other = await RawClient.open(edge.address, '9P2000.L')
    await other.attach(0, `/data${directory}`)
    await other.walk(0, 1, 'file')
    await other.ask({ type: 'Tlopen', fid: 1, flags: 0 }, 'Rlopen')
    expect((await other.ask(lock(1, 0, 0, 0, 1), 'Rlock')).status).toBe(0)
    expect(await status(lock(10, 0, 0, 0, 1))).toBe(0)
    // The same process number on another connection is another process.
    expect(await status(lock(10, 1, 0, 0, 1))).toBe(1)
    const gone = edge.edge.connections - 1
    await other.close()
    await expect.poll(() => edge.edge.connections).toBe(gone)
    expect(await status(lock(10, 1, 0, 0, 1))).toBe(0)
    await client.clunk(10)
  })
})
