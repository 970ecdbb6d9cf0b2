/** Too many: connections, requests, flushes, fids, authentications. Each is bounded, and others do not notice. */
import { describe, expect, it } from 'vitest'
import { noFid, noUid } from '../../proto/ninep/messages.ts'
import { encode } from './arbitraries.ts'
import { owner } from './edge.ts'
import { Gate } from './gate.ts'
import { attached, dial, edge, gone, servedAt, start, version } from './watched-edge.ts'
import { RawClient } from './raw-client.ts'

const [EPERM, EBUSY, EINVAL] = [1, 16, 22]
const local = { host: '127.0.0.1', port: 0 }

describe('clients', () => {
  it('that say nothing are closed', async () => {
    await start({ handshake_ms: 100 })
    const mute = await dial()
    const slow = await dial()
    slow.write(version('9P2000').subarray(0, 10))
    await Promise.all([gone(mute), gone(slow)])
  })

  it('past the bound are closed at once, over all listeners', async () => {
    await start({ connections_max: 3 }, undefined, [
      { address: local, trusted: owner },
      { address: local, trusted: owner },
    ])
    const clients = [
      await RawClient.open(edge.address, '9P2000'),
      await RawClient.open(edge.address, '9P2000'),
      await RawClient.open(edge.edge.addresses[1]!, '9P2000'),
    ]
    await gone(await dial())
    await (
      await RawClient.connect(edge.edge.addresses[1]!, '9P2000')
    ).closed
    await clients[0]!.attach(0)
    for (const client of clients) await client.close()
    await expect.poll(() => edge.edge.connections).toBe(0)
  })

  it('that are thousands and idle cost little', { timeout: 60_000 }, async () => {
    await start()
    const before = process.memoryUsage()
    const clients: RawClient[] = []
    for (let i = 0; i < 2_000; i += 100) {
      clients.push(...(await Promise.all(Array.from({ length: 100 }, () => RawClient.open(edge.address, '9P2000.L')))))
    }
    expect(edge.edge.connections).toBe(2_000)
    const after = process.memoryUsage()
    // Both sides of 2,000 connections.
    expect(after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers).toBeLessThan(200 * 1024 * 1024)
    await Promise.all(clients.map((client) => client.close()))
  })
})

describe('floods', () => {
  it('of Tversion are answered one after the other', { timeout: 60_000 }, async () => {
    await start()
    const client = await attached('9P2000.L')
    const count = 20_000
    client.socket.write(Buffer.concat(Array.from({ length: count }, () => version('9P2000.L'))))
    await client.walk(0, 1, 'data').catch(() => undefined)
    expect(client.came.filter(({ type }) => type === 'Rversion')).toHaveLength(count + 1)
    await client.close()
  })

  it('of Tflush for a change that takes its time are answered when it is done', { timeout: 60_000 }, async () => {
    const gate = new Gate()
    await start({ ninep_request_bytes_max: 64 * 1024 }, gate)
    const client = await attached('9P2000.L')
    await client.walk(0, 1, 'data/file')
    await client.ask({ type: 'Tlopen', fid: 1, flags: 1 }, 'Rlopen')
    const held = gate.hold('writeHandle')
    const write = client.send({ type: 'Twrite', fid: 1, offset: 0, data: Buffer.from('CONTENT') }, 60_001)
    await held.reached
    const flush = (tag: number): Buffer => encode({ tag, type: 'Tflush', oldTag: 60_001 }, '9P2000.L')
    const count = 60_000
    client.socket.write(Buffer.concat(Array.from({ length: count }, (_, tag) => flush(tag))))
    for (let i = 0; i < 50; i++) await (await attached('9P2000')).close()
    held.release()
    expect((await write.answer).type).toBe('Rwrite')
    await client.ask({ type: 'Tclunk', fid: 1 }, 'Rclunk', 60_002)
    expect(client.came.filter(({ type }) => type === 'Rflush')).toHaveLength(count)
    await client.close()
  })

  it('of Tflush with a tag that is in use end the connection', async () => {
    const gate = new Gate()
    await start({}, gate)
    const client = await attached('9P2000.L')
    const held = gate.hold('mkdir')
    client.send({ type: 'Tmkdir', dirFid: 0, name: 'x', mode: 0, gid: 0 }, 60_001)
    await held.reached
    const flush = encode({ tag: 5, type: 'Tflush', oldTag: 60_001 }, '9P2000.L')
    client.socket.write(Buffer.concat([flush, flush]))
    await client.closed
    held.release()
  })

  it('of Tauth and of wrong tokens take no memory before anybody is known', { timeout: 60_000 }, async () => {
    await start({}, undefined, [{ address: local }, { address: local, trusted: owner }])
    servedAt(edge.edge.addresses[1]!)
    const client = await RawClient.open(edge.address, '9P2000')
    const answers: Promise<unknown>[] = []
    for (let afid = 0; afid < 5_000; afid++) {
      answers.push(client.send({ type: 'Tauth', afid, uname: 'u'.repeat(1000), aname: `/${'a/'.repeat(400)}`, nUname: noUid }).answer)
    }
    await Promise.all(answers)
    expect(client.came.filter(({ type }) => type === 'Rauth')).toHaveLength(64)
    expect(await client.refused({ type: 'Tauth', afid: 9_999, uname: 'u'.repeat(60_000), aname: '/', nUname: noUid })).toBe(
      'File name too long',
    )
    for (let afid = 0; afid < 64; afid++) {
      await client.ask({ type: 'Twrite', fid: afid, offset: 0, data: Buffer.alloc(4000) }, 'Rwrite')
      expect(await client.refused({ type: 'Twrite', fid: afid, offset: 4000, data: Buffer.alloc(4000) })).toBe('File too large')
    }
    const wrong = Array.from(
      { length: 5_000 },
      (_, i) => client.send({ type: 'Tattach', fid: i, afid: noFid, uname: '', aname: `wrong-${i}@/`, nUname: noUid }).answer,
    )
    expect((await Promise.all(wrong)).every((answer) => answer.type === 'Rerror')).toBe(true)
    const other = await RawClient.open(edge.address, '9P2000.L')
    expect(await other.refused({ type: 'Tattach', fid: 0, afid: noFid, uname: '', aname: '@@@', nUname: noUid })).toBe(EPERM)
    // As afid, somebody else's fid is nothing.
    expect(await other.refused({ type: 'Tattach', fid: 0, afid: 5, uname: 'u', aname: '/', nUname: noUid })).toBe(EINVAL)
    await Promise.all([client.close(), other.close()])
  })

  it('of Txattrcreate keep to the limit of fids', { timeout: 60_000 }, async () => {
    await start({ ninep_fids_max: 1_000 })
    const client = await attached('9P2000.L')
    await client.walk(0, 1, 'data/file')
    const answers: Promise<{ readonly type: string }>[] = []
    for (let fid = 2; fid < 5_000; fid++) {
      answers.push(client.send({ type: 'Twalk', fid: 1, newFid: fid, names: [] }).answer)
      answers.push(client.send({ type: 'Txattrcreate', fid, name: 'user.nine.contentType', size: 255, flags: 0 }).answer)
    }
    const types = (await Promise.all(answers)).map(({ type }) => type)
    expect(types.filter((type) => type === 'Rxattrcreate')).toHaveLength(998)
    await client.close()
  })

  it('of requests past the bound are refused, and their tags are free again', { timeout: 60_000 }, async () => {
    const gate = new Gate()
    await start({ ninep_requests_max: 10 }, gate)
    const client = await attached('9P2000.L')
    const holds = Array.from({ length: 10 }, () => gate.hold('stat'))
    const waiting = holds.map(() => client.send({ type: 'Tgetattr', fid: 0, mask: 1 }))
    await Promise.all(holds.map(({ reached }) => reached))
    expect(await client.refused({ type: 'Tgetattr', fid: 0, mask: 1 })).toBe(EBUSY)
    for (const held of holds) held.release()
    for (const { answer } of waiting) expect((await answer).type).toBe('Rgetattr')
    await client.close()
  })
})
