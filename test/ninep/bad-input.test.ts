/** What no client should send: each gets the right error or is cut off, nothing is left of it, and others do not notice. */
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { messageType, noFid, noUid, untouched32, untouched64 } from '../../proto/ninep/messages.ts'
import type { RequestBody, WireStat } from '../../proto/ninep/messages.ts'
import { encode } from './arbitraries.ts'
import { attach, attached, dial, edge, gone, start, version } from './watched-edge.ts'
import type { RawClient } from './raw-client.ts'
import { sampleRequests } from './sample-requests.ts'

const [ENOENT, EBUSY, EINVAL, EFBIG, ENAMETOOLONG] = [2, 16, 22, 27, 36]
const dialects = ['9P2000', '9P2000.L'] as const

describe('bytes', () => {
  beforeEach(() => start())

  it.each(dialects)('every message of %s cut at every byte, then ended', { timeout: 120_000 }, async (dialect) => {
    for (const { name, setup, request } of sampleRequests(dialect)) {
      const opening = Buffer.concat([
        version(dialect),
        attach(dialect),
        ...setup.map((body, i) => encode({ ...body, tag: 10 + i }, dialect)),
      ])
      const message = encode({ ...request, tag: 100 }, dialect)
      const sockets: Promise<unknown>[] = []
      for (let cut = 1; cut <= message.length; cut++) {
        const socket = await dial()
        socket.end(Buffer.concat([opening, message.subarray(0, cut)]))
        sockets.push(gone(socket))
        if (sockets.length === 32) await Promise.all(sockets.splice(0))
      }
      await Promise.all(sockets)
      await expect.poll(() => edge.edge.connections, { message: name }).toBe(0)
      await expect.poll(() => edge.store.openHandles, { message: name }).toBe(0)
    }
    await edge.store.write(edge.context(), parsePath('/file'), Buffer.from('content'))
  })

  it.each(dialects)(
    'every message of %s too short by every byte, its size told right, is refused and the connection goes on',
    async (dialect) => {
      const client = await attached(dialect)
      for (const { name, request } of sampleRequests(dialect)) {
        const message = encode({ ...request, tag: 100 }, dialect)
        for (let cut = 7; cut < message.length; cut++) {
          const short = Buffer.from(message.subarray(0, cut))
          short.writeUInt32LE(cut, 0)
          // Tfsync may do without its last field.
          if (name === 'Tfsync' && cut === 11) continue
          expect(await client.refusedBytes(short), `${name} cut at ${cut}`).toSatisfy(
            (error) => error === EINVAL || error === 'Invalid argument',
          )
        }
      }
      await client.close()
    },
  )

  it.each([0, 1, 6, 65_537, 2 ** 31, 2 ** 32 - 1])('a size of %d ends the connection', async (size) => {
    const client = await attached('9P2000.L')
    const bytes = Buffer.alloc(64)
    bytes.writeUInt32LE(size, 0)
    client.socket.write(bytes)
    await client.closed
    expect(edge.log).toHaveLength(1)
  })

  it.each(dialects)('types that %s does not have are refused', async (dialect) => {
    const client = await attached(dialect)
    const own = new Set(sampleRequests(dialect).map(({ request }) => messageType[request.type]))
    for (let type = 0; type < 256; type++) {
      if ((own as Set<number>).has(type) || type === messageType.Tversion) continue
      const message = Buffer.from([11, 0, 0, 0, type, 5, 0, 0, 0, 0, 0])
      expect(await client.refusedBytes(message), `type ${type}`).toSatisfy((error) => error === EINVAL || error === 'Invalid argument')
    }
    await client.close()
  })

  it('one byte at a time is understood', async () => {
    const socket = await dial()
    socket.setNoDelay(true)
    const answered = once(socket, 'close')
    const came: Buffer[] = []
    socket.on('data', (chunk: Buffer) => came.push(chunk))
    for (const byte of Buffer.concat([version('9P2000'), attach('9P2000'), encode({ tag: 2, type: 'Tstat', fid: 0 }, '9P2000')])) {
      socket.write(Buffer.from([byte]))
      await new Promise(setImmediate)
    }
    socket.end()
    await answered
    const bytes = Buffer.concat(came)
    expect([bytes[4], bytes[bytes.readUInt32LE(0) + 4]]).toEqual([messageType.Tversion + 1, messageType.Tattach + 1])
  })
})

describe('fields', () => {
  let client: RawClient
  let plan9: RawClient
  beforeEach(async () => {
    await start({ ninep_locks_max: 100 })
    client = await attached('9P2000.L')
    plan9 = await attached('9P2000')
    for (const each of [client, plan9]) await each.walk(0, 1, 'data')
  })
  afterEach(() => Promise.all([client.close(), plan9.close()]))

  const badNames: [string, string, number][] = [
    ['with /', 'a/b', EINVAL],
    ['.', '.', EINVAL],
    ['..', '..', EINVAL],
    ['empty', '', EINVAL],
    ['of 256 bytes', 'n'.repeat(256), ENAMETOOLONG],
    ['of 256 bytes in 128 letters', 'ä'.repeat(128), ENAMETOOLONG],
    ['of 65,535 bytes', 'n'.repeat(65_000), ENAMETOOLONG],
  ]
  it.each(badNames)('a name %s makes nothing', async (_, name, errno) => {
    await client.walk(1, 2, 'file')
    const requests: RequestBody[] = [
      { type: 'Tlcreate', fid: 1, name, flags: 2, mode: 0o644, gid: 0 },
      { type: 'Tmkdir', dirFid: 1, name, mode: 0o755, gid: 0 },
      { type: 'Tsymlink', dirFid: 1, name, target: 'x', gid: 0 },
      { type: 'Tmknod', dirFid: 1, name, mode: 0o100644, major: 0, minor: 0, gid: 0 },
      { type: 'Tlink', dirFid: 1, fid: 2, name },
      { type: 'Trename', fid: 2, dirFid: 1, name },
      { type: 'Trenameat', oldDirFid: 1, oldName: 'file', newDirFid: 1, newName: name },
      { type: 'Trenameat', oldDirFid: 1, oldName: name, newDirFid: 1, newName: 'x' },
      { type: 'Tunlinkat', dirFid: 1, name, flags: 0 },
    ]
    for (const request of requests) {
      // A name that the message's size leaves no room for.
      if (encode({ ...request, tag: 1 }, '9P2000.L').length > 65_536) continue
      expect(await client.refused(request), request.type).toBe(errno)
    }
    const text = errno === EINVAL ? 'Invalid argument' : 'File name too long'
    expect(await plan9.refused({ type: 'Tcreate', fid: 1, name, perm: 0o644, mode: 2 })).toBe(text)
    expect(await plan9.refused({ type: 'Tcreate', fid: 1, name, perm: 0x8000_01ed, mode: 0 })).toBe(text)
    if (name !== '.' && name !== '..') expect(await client.refused({ type: 'Twalk', fid: 1, newFid: 9, names: [name] })).toBe(errno)
    expect((await edge.store.list(edge.context(), parsePath('/'))).entries.map((entry) => entry.name)).toEqual(['dir', 'file'])
  })

  it.each([
    ['with NUL', [0x61, 0, 0x62]],
    ['that is no UTF-8', [0xff, 0xfe, 0x61]],
    ['with half a surrogate pair', [0xed, 0xa0, 0x80]],
    ['in more bytes than it needs', [0xc0, 0xaf, 0x61]],
  ])('a name %s is refused', async (_, bytes) => {
    const message = encode({ tag: 100, type: 'Tmkdir', dirFid: 1, name: 'xxx', mode: 0, gid: 0 }, '9P2000.L')
    Buffer.from(bytes).copy(message, 13)
    expect(await client.refusedBytes(message)).toBe(EINVAL)
  })

  it('more than 16 names are refused, and .. goes no further than the root of the attach', async () => {
    const message = encode({ tag: 100, type: 'Twalk', fid: 0, newFid: 9, names: Array.from({ length: 16 }, () => '..') }, '9P2000.L')
    const more = Buffer.concat([message, Buffer.from([2, 0, 0x2e, 0x2e])])
    more.writeUInt32LE(more.length, 0)
    more.writeUInt16LE(17, 15)
    expect(await client.refusedBytes(more)).toBe(EINVAL)
    const root = (await client.attach(5, '/data/dir')).qid
    const { qids } = await client.ask({ type: 'Twalk', fid: 5, newFid: 6, names: Array.from({ length: 16 }, () => '..') }, 'Rwalk')
    expect(qids).toEqual(Array.from({ length: 16 }, () => root))
    expect(await client.refused({ type: 'Twalk', fid: 6, newFid: 7, names: ['file'] })).toBe(ENOENT)
  })

  it('fids: unknown, in use, of nobody, of another kind', async () => {
    const refused = async (request: RequestBody): Promise<void> => expect(await client.refused(request), request.type).toBe(EINVAL)
    for (const { request } of sampleRequests('9P2000.L')) {
      if (request.type === 'Tattach' || request.type === 'Tauth' || request.type === 'Tversion' || request.type === 'Tflush') continue
      const strange = Object.fromEntries(
        Object.entries(request).map(([key, value]) => [key, /fid$/i.test(key) ? 4711 : (value as unknown)]),
      )
      await refused(strange as RequestBody)
    }
    for (const fid of [0, 1, noFid]) {
      await refused({ type: 'Tattach', fid, afid: noFid, uname: '', aname: '/', nUname: noUid })
      await refused({ type: 'Twalk', fid: 0, newFid: fid === 0 ? 1 : fid, names: [] })
      await refused({ type: 'Txattrwalk', fid: 0, newFid: fid, name: '' })
    }
    // Not open.
    await refused({ type: 'Tread', fid: 1, offset: 0, count: 1 })
    await refused({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('x') })
    await refused({ type: 'Tlock', fid: 1, flags: 0, lock: { type: 1, start: 0, length: 0, procId: 0, clientId: '' } })
    expect(await client.refused({ type: 'Treaddir', fid: 1, offset: 0n, count: 100 })).toBe(20)
  })

  it('counts past msize get what fits, offsets past what files have are refused', async () => {
    await edge.store.write(edge.context(), parsePath('/large'), Buffer.alloc(200_000, 1))
    await client.walk(1, 2, 'large')
    await client.ask({ type: 'Tlopen', fid: 2, flags: 2 }, 'Rlopen')
    for (const count of [65_536, 2 ** 32 - 1]) {
      expect((await client.ask({ type: 'Tread', fid: 2, offset: 0, count }, 'Rread')).data.length).toBe(65_536 - 11)
    }
    for (const offset of [2 ** 53, 2 ** 63, 2 ** 64 - 2048, untouched64]) {
      expect(await client.refused({ type: 'Tread', fid: 2, offset, count: 1 })).toBe(EINVAL)
      expect(await client.refused({ type: 'Twrite', fid: 2, offset, data: Buffer.from('x') })).toBe(EINVAL)
      expect(await client.refused({ type: 'Twrite', fid: 2, offset, data: Buffer.alloc(0) })).toBe(EINVAL)
    }
    expect(await client.refused({ type: 'Twrite', fid: 2, offset: 2 ** 53 - 1, data: Buffer.from('xy') })).toBe(EFBIG)
    expect((await client.ask({ type: 'Tread', fid: 2, offset: 2 ** 53 - 1, count: 9 }, 'Rread')).data.length).toBe(0)
    await client.ask({ type: 'Tlopen', fid: 1, flags: 0 }, 'Rlopen')
    for (const offset of [4711n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
      expect(await client.refused({ type: 'Treaddir', fid: 1, offset, count: 4096 })).toBe(EINVAL)
    }
    for (const count of [0, 1, 23]) expect(await client.refused({ type: 'Treaddir', fid: 1, offset: 0n, count })).toBe(EINVAL)
    expect((await client.ask({ type: 'Treaddir', fid: 1, offset: 0n, count: 2 ** 32 - 1 }, 'Rreaddir')).data.length).toBeGreaterThan(80)
  })

  it('masks of all ones and numbers past every range in setattr change nothing or are refused', async () => {
    await client.walk(1, 2, 'file')
    const ones = { atimeSec: untouched64, atimeNsec: untouched64, mtimeSec: untouched64, mtimeNsec: untouched64 }
    const all = {
      type: 'Tsetattr',
      fid: 2,
      valid: untouched32,
      mode: untouched32,
      uid: noUid,
      gid: noUid,
      size: untouched64,
      ...ones,
    } as const
    expect(await client.refused(all)).toBe(EINVAL)
    expect(await client.refused({ ...all, size: 2 ** 53 - 1 })).toSatisfy((errno) => errno === EINVAL || errno === EFBIG)
    expect(await client.refused({ ...all, valid: 0x120 })).toBe(EINVAL)
    await client.ask({ type: 'Tlopen', fid: 2, flags: 2 }, 'Rlopen')
    expect(await client.refused({ ...all, valid: 0x8 })).toBe(EINVAL)
    expect(await client.refused({ ...all, valid: 0x8, size: 2 ** 53 - 1 })).toBe(EFBIG)
    const { attributes } = await client.ask({ type: 'Tgetattr', fid: 2, mask: untouched32 }, 'Rgetattr')
    expect(attributes.size).toBe(7)
  })

  it('nonsense in wstat changes nothing', async () => {
    await plan9.walk(1, 2, 'file')
    const untouched: WireStat = {
      type: 0xffff,
      dev: untouched32,
      qid: { type: 0xff, version: untouched32, path: untouched64 },
      mode: untouched32,
      atime: untouched32,
      mtime: untouched32,
      length: untouched64,
      name: '',
      uid: '',
      gid: '',
      muid: '',
    }
    const before = (await plan9.ask({ type: 'Tstat', fid: 2 }, 'Rstat')).stat
    const changes: Partial<WireStat>[] = [
      { type: 5 },
      { dev: 5 },
      { qid: { type: 0x80, version: untouched32, path: untouched64 } },
      { qid: { type: 0xff, version: untouched32, path: 5 } },
      { mode: 0x8000_01ff },
      { mode: 0xffff_fffe },
      { length: 2 ** 63 },
      { length: 2 ** 53 - 1 },
      { name: '..' },
      { name: 'a/b' },
      { name: 'n'.repeat(300) },
      { name: 'dir' },
      { uid: 'somebody' },
      { gid: 'g'.repeat(300) },
      { length: 3, name: 'dir' },
    ]
    for (const change of changes)
      expect(await plan9.refused({ type: 'Twstat', fid: 2, stat: { ...untouched, ...change } })).toBeTypeOf('string')
    expect(await plan9.refused({ type: 'Twstat', fid: 1, stat: { ...untouched, length: 5 } })).toBeTypeOf('string')
    expect(await plan9.refused({ type: 'Twstat', fid: 0, stat: { ...untouched, name: 'x' } })).toBe('permission denied')
    expect((await plan9.ask({ type: 'Tstat', fid: 2 }, 'Rstat')).stat).toEqual(before)
    // The inner size of the stat and the outer one disagree.
    const message = encode({ tag: 100, type: 'Twstat', fid: 2, stat: untouched }, '9P2000')
    message[13] = message[13]! + 1
    expect(await plan9.refusedBytes(message)).toBe('Invalid argument')
  })

  it('locks of no type, past every offset, of long-named clients and in thousands are refused', async () => {
    await client.walk(1, 2, 'file')
    await client.ask({ type: 'Tlopen', fid: 2, flags: 2 }, 'Rlopen')
    const lock = { type: 1, start: 0, length: 0, procId: 1, clientId: 'host' }
    const refused = (changes: object) => client.refused({ type: 'Tlock', fid: 2, flags: 0, lock: { ...lock, ...changes } })
    for (const type of [3, 255]) expect(await refused({ type })).toBe(EINVAL)
    for (const start of [2 ** 53, 2 ** 63, untouched64]) expect(await refused({ start })).toBe(EINVAL)
    expect(await refused({ clientId: 'c'.repeat(60_000) })).toBe(ENAMETOOLONG)
    expect((await client.ask({ type: 'Tlock', fid: 2, flags: 0, lock: { ...lock, length: untouched64 } }, 'Rlock')).status).toBe(0)
    // One lock, with a hole in it after another: each makes one more.
    let holes = 0
    for (let start = 1; start < 1000; start += 2) {
      const answer = await client.send({ type: 'Tlock', fid: 2, flags: 0, lock: { ...lock, type: 2, start, length: 1 } }).answer
      if (answer.type === 'Rlock') holes++
      else expect(answer).toMatchObject({ type: 'Rlerror', errno: EBUSY })
    }
    expect(holes).toBe(99)
    await client.clunk(2)
  })

  it('attributes of sizes that lie are refused', async () => {
    await client.walk(1, 2, 'file')
    const create = (size: number, name = 'user.nine.contentType'): RequestBody => ({ type: 'Txattrcreate', fid: 2, name, size, flags: 0 })
    for (const size of [256, 2 ** 32, 2 ** 63, untouched64]) expect(await client.refused(create(size))).toBe(EFBIG)
    for (const name of ['', 'user.other', 'user.nine.version', '__proto__', 'n'.repeat(1000)]) await client.refused(create(3, name))
    await client.ask(create(3), 'Rxattrcreate')
    expect(await client.refused({ type: 'Twrite', fid: 2, offset: 0, data: Buffer.from('more') })).toBe(EINVAL)
    expect(await client.refused({ type: 'Twrite', fid: 2, offset: 2 ** 52, data: Buffer.from('x') })).toBe(EINVAL)
    expect(await client.refused({ type: 'Tclunk', fid: 2 })).toBe(EINVAL)
    await client.walk(1, 2, 'file')
    await client.ask(create(3), 'Rxattrcreate')
    await client.ask({ type: 'Twrite', fid: 2, offset: 0, data: Buffer.from([0x61, 0xff, 0x62]) }, 'Rwrite')
    expect(await client.refused({ type: 'Tclunk', fid: 2 })).toBe(EINVAL)
    await client.walk(1, 2, 'file')
    expect(await client.refused({ type: 'Txattrwalk', fid: 2, newFid: 3, name: 'n'.repeat(60_000) })).toBe(95)
  })
})
