/** Requests of one connection that meet: what each of them leaves behind, and what a connection's end leaves of them. */
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { call, stream } from '../../namespace/serve/entries.ts'
import type { Output } from '../../namespace/serve/entries.ts'
import { Feed } from '../../namespace/serve/feed.ts'
import { noFid, noTag, noUid, untouched32, untouched64 } from '../../proto/ninep/messages.ts'
import type { RequestBody } from '../../proto/ninep/messages.ts'
import { startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'
import { Gate } from './gate.ts'
import { RawClient } from './raw-client.ts'

const ENOENT = 2
const EINVAL = 22

let gate: Gate
let edge: TestEdge
let client: RawClient

beforeEach(async () => {
  gate = new Gate()
  const waits = call(
    ({ signal }) => new Promise<string>((_, reject) => signal.addEventListener('abort', () => reject(new Error('given up')))),
  )
  edge = await startEdge({ gate, table: { events: stream(new Feed<Output>()), ask: waits } })
  await put('/file', 'own')
  await put('/other', 'another')
  client = await RawClient.open(edge.address, '9P2000.L')
  await client.attach(0)
})

afterEach(async () => {
  await client.close()
  await expect.poll(() => edge.edge.connections).toBe(0)
  expect(edge.store.openHandles).toBe(0)
  await edge.close()
})

const put = (path: string, text: string) => edge.store.write(edge.context(), parsePath(path), Buffer.from(text))
const replaceByOther = () => edge.store.rename(edge.context(), parsePath('/other'), parsePath('/file'), { replace: true })
const attachRequest = (fid: number): RequestBody => ({ type: 'Tattach', fid, afid: noFid, uname: '', aname: '/', nUname: noUid })

describe('an attach under way', () => {
  it('makes no fid when it is flushed', async () => {
    const held = gate.hold('namespaceOf')
    const attach = client.send(attachRequest(5))
    await held.reached
    await client.ask({ type: 'Tflush', oldTag: attach.tag }, 'Rflush')
    // Its number is free, and what is made of it now stays.
    await client.attach(5, '/data')
    const { qid } = await client.ask({ type: 'Tgetattr', fid: 5, mask: 1 }, 'Rgetattr').then(({ attributes }) => attributes)
    held.release()
    await client.walk(0, 6, 'data')
    expect((await client.ask({ type: 'Tgetattr', fid: 5, mask: 1 }, 'Rgetattr')).attributes.qid.path).toBe(qid.path)
    expect(client.came.some(({ tag }) => tag === attach.tag)).toBe(false)
  })

  it('makes no fid of the session that a new version begins', async () => {
    const held = gate.hold('namespaceOf')
    client.send(attachRequest(5))
    await held.reached
    await client.ask({ type: 'Tversion', msize: 65_536, version: '9P2000.L' }, 'Rversion', noTag)
    held.release()
    await client.attach(0)
    expect(await client.refused({ type: 'Tgetattr', fid: 5, mask: 1 })).toBe(EINVAL)
  })
})

describe('a walk under way', () => {
  it('to its own fid, flushed, leaves a number alone that another walk has taken meanwhile', async () => {
    await client.walk(0, 1, 'data')
    const first = gate.hold('stat')
    const inPlace = client.send({ type: 'Twalk', fid: 1, newFid: 1, names: ['file'] })
    await first.reached
    await client.clunk(1)
    const second = gate.hold('stat')
    const walk = client.send({ type: 'Twalk', fid: 0, newFid: 1, names: ['data'] })
    await second.reached
    await client.ask({ type: 'Tflush', oldTag: inPlace.tag }, 'Rflush')
    expect(await client.refused({ type: 'Twalk', fid: 0, newFid: 1, names: ['svc'] })).toBe(EINVAL)
    first.release()
    second.release()
    expect((await walk.answer).type).toBe('Rwalk')
  })
})

describe('a removal under way', () => {
  it('leaves alone what its number stands for by then', async () => {
    await client.walk(0, 5, 'data/file')
    const held = gate.hold('remove')
    const remove = client.send({ type: 'Tremove', fid: 5 })
    await held.reached
    await client.walk(0, 5, 'data/other')
    await client.ask({ type: 'Tlopen', fid: 5, flags: 2 }, 'Rlopen')
    held.release()
    expect((await remove.answer).type).toBe('Rremove')
    await client.ask({ type: 'Twrite', fid: 5, offset: 0, data: Buffer.from('A') }, 'Rwrite')
    await client.clunk(5)
    expect(await edge.text('/other')).toBe('Another')
  })
})

describe('an open under way', () => {
  it('leaves no handle when the connection ends, is begun anew or its fid clunked', async () => {
    for (const end of ['clunk', 'version', 'close'] as const) {
      await client.walk(0, 1, 'data/file')
      const held = gate.hold('open')
      client.send({ type: 'Tlopen', fid: 1, flags: 2 })
      await held.reached
      if (end === 'close') client.socket.destroy()
      else if (end === 'clunk') client.send({ type: 'Tclunk', fid: 1 })
      else client.send({ type: 'Tversion', msize: 65_536, version: '9P2000.L' }, noTag)
      const other = await RawClient.open(edge.address, '9P2000')
      await other.close()
      held.release()
      await expect.poll(() => edge.store.openHandles).toBe(0)
      if (end === 'version') await client.attach(0)
    }
  })

  it('keeps the fid a directory until the file in it is made', async () => {
    await client.walk(0, 1, 'data')
    const held = gate.hold('open')
    const create = client.send({ type: 'Tlcreate', fid: 1, name: 'new', flags: 2, mode: 0o644, gid: 0 })
    await held.reached
    await client.walk(1, 2, 'file')
    held.release()
    expect((await create.answer).type).toBe('Rlcreate')
    expect(await client.refused({ type: 'Twalk', fid: 1, newFid: 3, names: ['file'] })).toBe(20)
  })
})

describe('a connection that ends', () => {
  it.each<[string, RequestBody]>([
    ['a clunk', { type: 'Tclunk', fid: 1 }],
    ['a removal', { type: 'Tremove', fid: 1 }],
  ])('is not over before %s under way is', async (_, request) => {
    await client.walk(0, 1, 'data/file')
    await client.ask({ type: 'Tlopen', fid: 1, flags: 2 }, 'Rlopen')
    const held = gate.hold(request.type === 'Tclunk' ? 'closeHandle' : 'remove')
    client.send(request)
    await held.reached
    // A reset, not an end: after that one answers are still owed.
    client.socket.resetAndDestroy()
    const other = await RawClient.open(edge.address, '9P2000.L')
    await other.attach(0)
    for (let i = 0; i < 50; i++) await other.ask({ type: 'Tstatfs', fid: 0 }, 'Rstatfs')
    expect(edge.edge.connections).toBe(2)
    held.release()
    await other.close()
    await expect.poll(() => edge.edge.connections).toBe(0)
    expect(edge.store.openHandles).toBe(0)
  })
})

describe('a create of what is there', () => {
  it('opens a stream as one: its clunk gives up a read that waits', async () => {
    await client.walk(0, 1, 'svc/test')
    await client.ask({ type: 'Tlcreate', fid: 1, name: 'events', flags: 0, mode: 0o644, gid: 0 }, 'Rlcreate')
    const read = client.send({ type: 'Tread', fid: 1, offset: 0, count: 100 })
    await client.clunk(1)
    expect((await read.answer).type).toBe('Rlerror')
  })
})

describe('a file that another stands for by now', () => {
  let plan9: RawClient
  beforeEach(async () => {
    plan9 = await RawClient.open(edge.address, '9P2000')
    await plan9.attach(0, '/data')
    await plan9.walk(0, 1, 'file')
  })
  afterEach(() => plan9.close())

  it('is not removed by ORCLOSE', async () => {
    await plan9.ask({ type: 'Topen', fid: 1, mode: 0x40 }, 'Ropen')
    await replaceByOther()
    expect(await plan9.refused({ type: 'Tclunk', fid: 1 })).toBe('file does not exist')
    expect(await edge.text('/file')).toBe('another')
  })

  it('is not changed by wstat through an open fid', async () => {
    await plan9.ask({ type: 'Topen', fid: 1, mode: 2 }, 'Ropen')
    await replaceByOther()
    const stat = {
      type: 0xffff,
      dev: untouched32,
      mode: untouched32,
      atime: untouched32,
      mtime: untouched32,
      name: '',
      uid: '',
      gid: '',
      muid: '',
    }
    const qid = { type: 0xff, version: untouched32, path: untouched64 }
    expect(await plan9.refused({ type: 'Twstat', fid: 1, stat: { ...stat, qid, length: 0 } })).toBe('file does not exist')
    expect(await edge.text('/file')).toBe('another')
  })

  it('is not given an attribute', async () => {
    await client.walk(0, 1, 'data/file')
    await client.ask({ type: 'Txattrcreate', fid: 1, name: 'user.nine.contentType', size: 3, flags: 0 }, 'Rxattrcreate')
    await client.ask({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('a/b') }, 'Rwrite')
    await replaceByOther()
    expect(await client.refused({ type: 'Tclunk', fid: 1 })).toBe(ENOENT)
    expect((await edge.store.stat(edge.context(), parsePath('/file'))).stat.contentType).not.toBe('a/b')
  })
})

describe('locks', () => {
  it('are let go after what was written under them', async () => {
    await client.walk(0, 1, 'data/file')
    await client.ask({ type: 'Tlopen', fid: 1, flags: 2 }, 'Rlopen')
    const other = await RawClient.open(edge.address, '9P2000.L')
    await other.attach(0)
    await other.walk(0, 1, 'data/file')
    await other.ask({ type: 'Tlopen', fid: 1, flags: 2 }, 'Rlopen')
    const lock = { type: 1, start: 0, length: 0, procId: 1, clientId: 'host' }
    await client.ask({ type: 'Tlock', fid: 1, flags: 0, lock }, 'Rlock')
    const held = gate.hold('writeHandle')
    client.send({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('new') })
    const clunk = client.send({ type: 'Tclunk', fid: 1 })
    await held.reached
    await client.walk(0, 9, 'data')
    expect((await other.ask({ type: 'Tlock', fid: 1, flags: 0, lock }, 'Rlock')).status).toBe(1)
    held.release()
    await clunk.answer
    expect((await other.ask({ type: 'Tlock', fid: 1, flags: 0, lock }, 'Rlock')).status).toBe(0)
    await other.close()
  })
})

describe('the root of an attach', () => {
  it('is not left by .. after it was renamed', async () => {
    await edge.store.mkdir(edge.context(), parsePath('/dir'))
    await client.attach(1, '/data/dir')
    await client.walk(0, 2, 'data')
    await client.ask({ type: 'Trenameat', oldDirFid: 2, oldName: 'dir', newDirFid: 2, newName: 'moved' }, 'Rrenameat')
    const [root] = (await client.walk(1, 3, '..')).qids
    expect(root?.path).toBe((await client.ask({ type: 'Tgetattr', fid: 1, mask: 1 }, 'Rgetattr')).attributes.qid.path)
  })
})

describe('a version under way', () => {
  it('is answered although its client has said all it wanted', async () => {
    const other = await RawClient.connect(edge.address, '9P2000.L')
    await other.ask({ type: 'Tversion', msize: 65_536, version: '9P2000.L' }, 'Rversion', noTag)
    await other.attach(0, '/data/file')
    await other.ask({ type: 'Tlopen', fid: 0, flags: 2 }, 'Rlopen')
    const held = gate.hold('closeHandle')
    const { answer } = other.send({ type: 'Tversion', msize: 65_536, version: '9P2000.L' }, noTag)
    await held.reached
    other.socket.end()
    await once(other.socket, 'finish')
    await client.walk(0, 9, 'data')
    held.release()
    expect((await answer).type).toBe('Rversion')
    await other.closed
  })
})

describe('a tag in use', () => {
  it.each([
    ['a flush', (tag: number) => client.send({ type: 'Tflush', oldTag: 4711 }, tag)],
    ['what is no message', (tag: number) => client.socket.write(Buffer.from([8, 0, 0, 0, 120, tag & 0xff, tag >> 8, 0]))],
  ])('ends the connection when it comes with %s', async (_, send) => {
    await client.walk(0, 1, 'svc/test/events')
    await client.ask({ type: 'Tlopen', fid: 1, flags: 0 }, 'Rlopen')
    const read = client.send({ type: 'Tread', fid: 1, offset: 0, count: 100 })
    send(read.tag)
    await client.closed
    expect(client.came.some(({ tag }) => tag === read.tag)).toBe(false)
  })
})

describe('a drained connection', () => {
  it('keeps nothing of what still comes', async () => {
    await client.walk(0, 1, 'svc/test/ask')
    await client.ask({ type: 'Tlopen', fid: 1, flags: 2 }, 'Rlopen')
    await client.ask({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('q') }, 'Rwrite')
    client.send({ type: 'Tread', fid: 1, offset: 0, count: 100 })
    await client.walk(0, 2, 'data')
    const closed = edge.edge.close(3_000)
    const before = process.memoryUsage().arrayBuffers
    const chunk = Buffer.alloc(1024 * 1024, 1)
    for (let sent = 0; sent < 200; sent++) if (!client.socket.write(chunk)) await once(client.socket, 'drain')
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024)
    client.socket.destroy()
    await closed
  }, 20_000)
})
