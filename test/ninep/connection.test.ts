/** Connections: versions, tags, flush, order, bounds, and what is left when they end. */
import { once } from 'node:events'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { Feed } from '../../namespace/serve/feed.ts'
import { call, ctl, stream } from '../../namespace/serve/entries.ts'
import type { Output } from '../../namespace/serve/entries.ts'
import { MessageWriter } from '../../proto/ninep/encode.ts'
import { noTag } from '../../proto/ninep/messages.ts'
import { startEdge } from './edge.ts'
import type { TestEdge } from './edge.ts'
import { RawClient } from './raw-client.ts'

const EINVAL = 22

let edge: TestEdge
let feed: Feed<Output>
/** Calls that wait, by their request; each is answered when the test says so. */
let calls: Map<string, (answer: string) => void>
let onCall: (request: string) => void
let client: RawClient

beforeEach(async () => {
  feed = new Feed()
  calls = new Map()
  onCall = () => undefined
  edge = await startEdge({
    table: {
      events: stream(feed),
      ctl: ctl({
        wait: ({ signal }) => {
          onCall('wait')
          return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('given up'))))
        },
      }),
      ask: call(({ signal }, request) => {
        const text = Buffer.from(request).toString()
        const answer = new Promise<string>((resolve, reject) => {
          calls.set(text, resolve)
          signal.addEventListener('abort', () => reject(new Error('given up')))
        })
        onCall(text)
        return answer
      }),
    },
  })
  client = await RawClient.open(edge.address, '9P2000.L')
  await client.attach(0)
})

afterEach(async () => {
  await client.close()
  await edge.close()
})

async function open(fid: number, path: string, flags = 0, from = client): Promise<void> {
  await from.walk(0, fid, path)
  await from.ask({ type: 'Tlopen', fid, flags }, 'Rlopen')
}

describe('version', () => {
  it('agrees on the smaller message size and on what both speak', async () => {
    const other = await RawClient.connect(edge.address, '9P2000')
    const ask = (msize: number, version: string) => other.ask({ type: 'Tversion', msize, version }, 'Rversion', noTag)
    expect(await ask(8192, '9P2000')).toMatchObject({ msize: 8192, version: '9P2000' })
    expect(await ask(2 ** 31, '9P2000.L')).toMatchObject({ msize: limits.ninep_msize_max, version: '9P2000.L' })
    expect(await ask(8192, '9P2000.future')).toMatchObject({ version: '9P2000' })
    expect(await ask(8192, '9P1999')).toMatchObject({ version: 'unknown' })
    await other.close()
  })

  it('begins anew: old fids are gone, their files published', async () => {
    await client.walk(0, 1, 'data')
    await client.ask({ type: 'Tlcreate', fid: 1, name: 'file', flags: 2, mode: 0o644, gid: 0 }, 'Rlcreate')
    await client.ask({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('kept') }, 'Rwrite')
    await client.ask({ type: 'Tversion', msize: 65_536, version: '9P2000.L' }, 'Rversion', noTag)
    expect(await client.refused({ type: 'Tgetattr', fid: 1, mask: 1 })).toBe(EINVAL)
    const { stat } = await edge.store.stat(edge.context(), parsePath('/file'))
    expect(stat.version).toBeGreaterThan(1)
    expect(await edge.text('/file')).toBe('kept')
  })

  it('comes first: anything else ends the connection', async () => {
    const other = await RawClient.connect(edge.address, '9P2000.L')
    void other.send({ type: 'Tclunk', fid: 0 })
    await other.closed
    expect(other.came).toEqual([])
  })
})

describe('flush', () => {
  it("of a read that waits is answered, the read never, and the record is the next reader's", async () => {
    await open(1, 'svc/test/events')
    const read = client.send({ type: 'Tread', fid: 1, offset: 0, count: 100 })
    await client.ask({ type: 'Tflush', oldTag: read.tag }, 'Rflush')
    // Its tag is free again.
    const again = client.ask({ type: 'Tread', fid: 1, offset: 0, count: 100 }, 'Rread', read.tag)
    feed.publish('record\n')
    expect(Buffer.from((await again).data).toString()).toBe('record\n')
    expect(client.came.filter(({ type }) => type === 'Rread' || type === 'Rlerror')).toHaveLength(1)
  })

  it('of a request that is done, or never was, is answered', async () => {
    const { tag } = client.send({ type: 'Tgetattr', fid: 0, mask: 1 })
    await client.ask({ type: 'Tflush', oldTag: tag }, 'Rflush')
    await client.ask({ type: 'Tflush', oldTag: 4711 }, 'Rflush')
    await client.ask({ type: 'Tflush', oldTag: tag }, 'Rflush')
  })

  it('of a change comes after the change and its answer', async () => {
    await open(1, 'svc/test/ask', 2)
    const asked = new Promise<string>((resolve) => (onCall = resolve))
    const write = client.send({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('question') })
    await write.answer
    const read = client.send({ type: 'Tread', fid: 1, offset: 0, count: 100 })
    await asked
    await client.ask({ type: 'Tflush', oldTag: read.tag }, 'Rflush')
    expect(client.came.some(({ tag }) => tag === read.tag)).toBe(false)
    const mkdir = client.send({ type: 'Tmkdir', dirFid: 0, name: 'not-here', mode: 0o755, gid: 0 })
    await client.ask({ type: 'Tflush', oldTag: mkdir.tag }, 'Rflush')
    await client.walk(0, 2, 'data')
    const made = client.send({ type: 'Tmkdir', dirFid: 2, name: 'made', mode: 0o755, gid: 0 })
    const flush = client.send({ type: 'Tflush', oldTag: made.tag })
    await flush.answer
    const order = client.came.map(({ tag }) => tag)
    expect(order.indexOf(made.tag)).toBeGreaterThan(-1)
    expect(order.indexOf(made.tag)).toBeLessThan(order.indexOf(flush.tag))
    expect((await made.answer).type).toBe('Rmkdir')
  })

  it('of a command that waits gives it up', async () => {
    await open(1, 'svc/test/ctl', 1)
    const asked = new Promise<string>((resolve) => (onCall = resolve))
    const write = client.send({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('wait\n') })
    await asked
    await client.ask({ type: 'Tflush', oldTag: write.tag }, 'Rflush')
    // It had begun, so what it did is not known: it is answered, and by a failure.
    expect((await write.answer).type).toBe('Rlerror')
  })

  it('of a walk leaves its fid free', async () => {
    const walk = client.send({ type: 'Twalk', fid: 0, newFid: 7, names: ['data', 'missing'] })
    const flush = client.send({ type: 'Tflush', oldTag: walk.tag })
    const again = client.send({ type: 'Twalk', fid: 0, newFid: 7, names: ['data'] })
    await flush.answer
    expect((await again.answer).type).toBe('Rwalk')
    await client.clunk(7)
  })
})

describe('requests', () => {
  it('are answered when they are done, not in their order', async () => {
    await open(1, 'svc/test/ask', 2)
    await open(2, 'svc/test/ask', 2)
    for (const fid of [1, 2]) await client.ask({ type: 'Twrite', fid, offset: 0, data: Buffer.from(`q${fid}`) }, 'Rwrite')
    const both = new Promise<void>((resolve) => (onCall = () => calls.size === 2 && resolve()))
    const first = client.send({ type: 'Tread', fid: 1, offset: 0, count: 100 })
    const second = client.send({ type: 'Tread', fid: 2, offset: 0, count: 100 })
    await both
    calls.get('q2')!('second')
    await second.answer
    calls.get('q1')!('first')
    await first.answer
    expect(client.came.slice(-2).map(({ tag }) => tag)).toEqual([second.tag, first.tag])
  })

  it('that wait on a fid are given up by its clunk', async () => {
    await open(1, 'svc/test/events')
    const read = client.send({ type: 'Tread', fid: 1, offset: 0, count: 100 })
    await client.clunk(1)
    expect((await read.answer).type).toBe('Rlerror')
  })

  it('of a tag that is in use end the connection', async () => {
    await open(1, 'svc/test/events')
    const read = client.send({ type: 'Tread', fid: 1, offset: 0, count: 100 })
    client.send({ type: 'Tgetattr', fid: 0, mask: 1 }, read.tag)
    await client.closed
    expect(edge.log).toHaveLength(1)
  })

  it("of fids in use, unknown or another connection's are refused", async () => {
    await client.walk(0, 1, 'data')
    expect(await client.refused({ type: 'Twalk', fid: 0, newFid: 1, names: ['data'] })).toBe(EINVAL)
    expect(await client.refused({ type: 'Tattach', fid: 1, afid: 0xffff_ffff, uname: '', aname: '/', nUname: 0 })).toBe(EINVAL)
    const other = await RawClient.open(edge.address, '9P2000.L')
    expect(await other.refused({ type: 'Tgetattr', fid: 1, mask: 1 })).toBe(EINVAL)
    await other.close()
  })

  it('of 9P2000 are not served in 9P2000.L', async () => {
    const classic = new MessageWriter('9P2000')
    classic.write({ type: 'Tstat', fid: 0, tag: 99 })
    for (const part of classic.take()) client.socket.write(part)
    expect((await client.ask({ type: 'Tgetattr', fid: 0, mask: 1 }, 'Rgetattr')).attributes.nlink).toBe(1)
    expect(client.came).toContainEqual({ type: 'Rlerror', tag: 99 })
  })
})

describe('bounds', () => {
  it('a connection has a bounded number of fids, and goes on past it', async () => {
    const asked: Promise<unknown>[] = []
    let refused = 0
    for (let fid = 1; fid <= 100_000; fid++) {
      asked.push(
        client.send({ type: 'Twalk', fid: 0, newFid: fid, names: [] }).answer.then((a) => (refused += a.type === 'Rlerror' ? 1 : 0)),
      )
      if (asked.length === 5_000) await Promise.all(asked.splice(0))
    }
    await Promise.all(asked)
    expect(refused).toBe(100_001 - limits.ninep_fids_max)
    await client.clunk(5)
    await client.walk(0, 5, 'data')
  }, 60_000)

  it('a client that never reads is held back, and others are served', async () => {
    await edge.store.write(edge.context(), parsePath('/big'), Buffer.alloc(1_000_000, 'x'))
    await open(1, 'data/big')
    client.socket.pause()
    // 8,000 times 64 KiB are asked for; only what fits the bound and the sockets' buffers is made.
    for (let i = 0; i < 8_000; i++) void client.send({ type: 'Tread', fid: 1, offset: 0, count: 65_000 })
    const other = await RawClient.open(edge.address, '9P2000.L')
    await other.attach(0)
    for (let i = 0; i < 200; i++) await other.ask({ type: 'Tgetattr', fid: 0, mask: 1 }, 'Rgetattr')
    const before = process.memoryUsage().arrayBuffers
    for (let i = 0; i < 200; i++) await other.ask({ type: 'Tgetattr', fid: 0, mask: 1 }, 'Rgetattr')
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024)
    expect(before).toBeLessThan(400 * 1024 * 1024)
    // When it reads at last, everything is answered.
    client.socket.resume()
    await client.ask({ type: 'Tclunk', fid: 1 }, 'Rclunk')
    expect(client.came.filter(({ type }) => type === 'Rread')).toHaveLength(8_000)
    await other.close()
  }, 60_000)
})

describe('an ended connection', () => {
  it('publishes what was written, and gives up what waits', async () => {
    await client.walk(0, 1, 'data')
    await client.ask({ type: 'Tlcreate', fid: 1, name: 'file', flags: 2, mode: 0o644, gid: 0 }, 'Rlcreate')
    await client.ask({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('kept') }, 'Rwrite')
    await open(2, 'svc/test/events')
    void client.send({ type: 'Tread', fid: 2, offset: 0, count: 100 })
    await client.close()
    await expect.poll(() => edge.edge.connections).toBe(0)
    const { stat } = await edge.store.stat(edge.context(), parsePath('/file'))
    expect(stat.version).toBeGreaterThan(1)
    expect(await edge.text('/file')).toBe('kept')
  })

  it("by its client's half is answered what was asked, then closed", async () => {
    const answers = Array.from({ length: 50 }, () => client.send({ type: 'Tgetattr', fid: 0, mask: 1 }).answer)
    client.socket.end()
    expect((await Promise.all(answers)).map((answer) => answer.type)).toEqual(answers.map(() => 'Rgetattr'))
    await client.closed
  })

  it('by the server is drained: what is under way is answered', async () => {
    await open(1, 'svc/test/ask', 2)
    await client.ask({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('q') }, 'Rwrite')
    const asked = new Promise<string>((resolve) => (onCall = resolve))
    const read = client.send({ type: 'Tread', fid: 1, offset: 0, count: 100 })
    await asked
    const closed = edge.edge.close(5_000)
    calls.get('q')!('answer')
    expect((await read.answer).type).toBe('Rread')
    await once(client.socket, 'end')
    client.socket.destroy()
    await closed
  })
})
