/** Snapshots between peers: whole, resumed, refused. */
import { afterEach, describe, expect, it } from 'vitest'
import type { Install, SnapshotMeta } from '../../raft/model.ts'
import { startProxy } from '../faults/proxy.ts'
import { closeNodes, introduce, startNode } from './nodes.ts'
import type { SnapshotSink, SnapshotSource, TestNode, Transfer } from './nodes.ts'

afterEach(closeNodes)

const configuration = { voters: ['n1.a', 'n2.b'], outgoing: [], learners: ['n3.c'], demoted: [] }
const asked: Install = { kind: 'install', from: 'n1.a', to: 'n2.b', term: 7, meta: { index: 100, term: 5, configuration } }
const sentMeta: SnapshotMeta = { index: 140, term: 6, configuration }

function content(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let i = 0; i < size; i++) bytes[i] = i * 31 + (i >> 8)
  return bytes
}

/** What a receiver's disk holds: durable bytes by id. */
class Disk {
  readonly kept = new Map<string, Buffer>()
  readonly finished: string[] = []
  readonly begun: { readonly transfer: Transfer; readonly offset: number }[] = []
  closed = 0
  open = 0
  most = 0
  failWrite: Error | undefined
  /** How far `finish` is, and what it waits for. */
  progress = 0
  finishing: Promise<void> = Promise.resolve()
  /** What it was told of the size of the whole, each time with the bytes that were there. */
  readonly totals: [number, number][] = []
  written = 0

  async receive(_group: number, transfer: Transfer): Promise<SnapshotSink> {
    let bytes: Buffer = this.kept.get(transfer.id) ?? Buffer.alloc(0)
    this.begun.push({ transfer, offset: bytes.length })
    this.most = Math.max(this.most, ++this.open)
    const progress = (): number => this.progress
    const { totals } = this
    return {
      set total(total: number) {
        totals.push([bytes.length, total])
      },
      offset: bytes.length,
      get progress() {
        return progress()
      },
      write: async (more) => {
        if (this.failWrite !== undefined) throw this.failWrite
        bytes = Buffer.concat([bytes, more])
        this.kept.set(transfer.id, bytes)
        this.written += more.length
      },
      finish: async () => {
        this.open--
        await this.finishing
        this.finished.push(transfer.id)
      },
      close: async () => {
        this.open--
        this.closed++
      },
    }
  }
}

/** As pair, with a source that knows how large it is only when so much of it was read. */
async function growing(bytes: Buffer, knownAt: number): Promise<Awaited<ReturnType<typeof pair>>> {
  let read = 0
  return pair(bytes, {}, {}, (source) => ({
    ...source,
    get isWhole() {
      return read >= knownAt
    },
    read: async (offset, length) => {
      read = offset
      return source.read(offset, length)
    },
  }))
}

function sourceOf(bytes: Buffer, closed: { count: number }, id = 's1'): SnapshotSource {
  return {
    id,
    meta: sentMeta,
    size: bytes.length,
    read: async (offset, length) => bytes.subarray(offset, offset + length),
    close: async () => void closed.count++,
  }
}

async function pair(
  bytes: Buffer,
  limits = {},
  receiverLimits = limits,
  as: (source: SnapshotSource) => SnapshotSource = (source) => source,
): Promise<{ a: TestNode; b: TestNode; disk: Disk; closed: { count: number } }> {
  const disk = new Disk()
  const closed = { count: 0 }
  const never = (): Promise<never> => Promise.reject(new Error('not this side'))
  const open = async (group: number): Promise<SnapshotSource> => as(sourceOf(bytes, closed, `s${group}`))
  const a = await startNode('n1.a', { snapshots: { open, receive: never }, limits })
  const b = await startNode('n2.b', {
    snapshots: { open: never, receive: (group, transfer) => disk.receive(group, transfer) },
    limits: receiverLimits,
  })
  introduce(a, b)
  return { a, b, disk, closed }
}

describe('snapshots between peers', () => {
  it.each([0, 1, 256 * 1024, 5_000_000])('bring %i bytes, then the message with the meta of what was sent', async (size) => {
    const bytes = content(size)
    const { a, b, disk, closed } = await pair(bytes)
    expect(await a.peer.sendSnapshot(1, asked)).toBe(true)
    expect(Buffer.compare(disk.kept.get('s1') ?? Buffer.alloc(0), bytes)).toBe(0)
    expect(disk.finished).toEqual(['s1'])
    expect(disk.begun).toEqual([{ transfer: { id: 's1', meta: sentMeta }, offset: 0 }])
    expect(b.received).toEqual([{ from: 'n1.a', item: { kind: 'raft', group: 1, message: { ...asked, meta: sentMeta } } }])
    expect(closed.count).toBe(1)
    expect(a.peer.status().transfers).toEqual([])
  })

  it('tell the receiver how large they are as soon as that is known', async () => {
    const bytes = content(8_000_000)
    const { a, disk } = await pair(bytes)
    expect(await a.peer.sendSnapshot(1, asked)).toBe(true)
    expect(disk.totals).toEqual([])
    const { b: _, ...grown } = await growing(bytes, 3_000_000)
    expect(await grown.a.peer.sendSnapshot(1, asked)).toBe(true)
    expect(new Set(grown.disk.totals.map(([, total]) => total))).toEqual(new Set([bytes.length]))
    expect(grown.disk.totals.length).toBeGreaterThan(10)
    expect(grown.disk.totals.length).toBeLessThan(bytes.length / (256 * 1024))
  })

  it('go on where they were cut', async () => {
    const bytes = content(8_000_000)
    const { a, b, disk } = await pair(bytes)
    const proxy = await startProxy(b.peer.address)
    a.addresses.set('n2.b', proxy.address)
    proxy.cutAfter(3_000_000, 'toTarget')
    const sent = a.peer.sendSnapshot(1, asked)
    await proxy.nextCut()
    proxy.cutAfter(3_000_000, 'toTarget')
    expect(await sent).toBe(true)
    expect(disk.begun.length).toBe(3)
    expect(disk.begun[1]!.offset).toBeGreaterThan(1_000_000)
    expect(disk.begun[2]!.offset).toBeGreaterThan(disk.begun[1]!.offset)
    expect(proxy.passed.toTarget).toBeLessThan(bytes.length + 2.5 * 2 * 1024 * 1024 + 100_000)
    expect(Buffer.compare(disk.kept.get('s1')!, bytes)).toBe(0)
    expect(disk.closed).toBe(2)
    expect(b.received.length).toBe(1)
    await proxy.close()
  })

  it('end with false, and leave nothing open, when the receiver is away or cannot write', async () => {
    const { a, b, disk, closed } = await pair(content(2_000_000), { peer_backoff_ms_max: 10 })
    disk.failWrite = new Error('disk full')
    expect(await a.peer.sendSnapshot(1, asked)).toBe(false)
    expect(b.received).toEqual([])
    expect(disk.finished).toEqual([])
    while (disk.open > 0) await new Promise(setImmediate)
    expect(a.events.filter(({ event }) => event === 'fault')).toMatchObject([{ peer: 'n2.b', error: { message: 'disk full' } }])
    await b.close()
    expect(await a.peer.sendSnapshot(1, asked)).toBe(false)
    expect(closed.count).toBe(2)
    expect(await b.peer.sendSnapshot(1, asked)).toBe(false)
  })

  it('wait their turn past the limit', async () => {
    const { a, b, disk } = await pair(content(1_000_000), { peer_transfers_max: 2 })
    const results = await Promise.all([1, 2, 3, 4, 5, 6].map((group) => a.peer.sendSnapshot(group, asked)))
    expect(results).toEqual([true, true, true, true, true, true])
    expect(disk.most).toBe(2)
    expect(b.received.length).toBe(6)
  })

  it('are refused by a receiver that has as many as it may, of whomever', async () => {
    const { a, b, disk } = await pair(content(100_000), { peer_transfer_attempts_max: 0 }, { peer_transfers_max: 1 })
    let finish!: () => void
    disk.finishing = new Promise((resolve) => (finish = resolve))
    const first = a.peer.sendSnapshot(1, asked)
    while (disk.open > 0 || disk.begun.length === 0) await new Promise(setImmediate)
    expect(await a.peer.sendSnapshot(2, asked)).toBe(false)
    expect(a.events.filter(({ event }) => event === 'fault')).toMatchObject([{ peer: 'n2.b', error: { kind: 'overloaded' } }])
    expect(disk.begun.length).toBe(1)
    finish()
    expect(await first).toBe(true)
    expect(await a.peer.sendSnapshot(2, asked)).toBe(true)
    expect(b.received.length).toBe(2)
  })

  it('of one group: the newest alone is received', async () => {
    const { a, b, disk } = await pair(content(3_000_000))
    const proxy = await startProxy(b.peer.address)
    a.addresses.set('n2.b', proxy.address)
    const first = a.peer.sendSnapshot(1, asked)
    await proxy.nextConnection()
    const second = a.peer.sendSnapshot(1, asked)
    const results = await Promise.all([first, second])
    expect(results).toContain(true)
    expect(disk.most).toBe(1)
    expect(Buffer.compare(disk.kept.get('s1')!, content(3_000_000))).toBe(0)
    await proxy.close()
  })

  it('are sent while they are still written', async () => {
    const bytes = content(2_000_000)
    const disk = new Disk()
    const never = (): Promise<never> => Promise.reject(new Error('not this side'))
    const source: SnapshotSource = {
      id: 's1',
      meta: sentMeta,
      get size() {
        return disk.written + 100_000
      },
      // Not before what is there was received.
      read: async (offset) => {
        while (disk.written < offset) await new Promise(setImmediate)
        return bytes.subarray(offset, Math.min(offset + 100_000, bytes.length))
      },
      close: async () => undefined,
    }
    const a = await startNode('n1.a', { snapshots: { open: async () => source, receive: never } })
    const b = await startNode('n2.b', { snapshots: { open: never, receive: (group, transfer) => disk.receive(group, transfer) } })
    introduce(a, b)
    expect(await a.peer.sendSnapshot(1, asked)).toBe(true)
    expect(Buffer.compare(disk.kept.get('s1')!, bytes)).toBe(0)
    expect(b.received.length).toBe(1)
  })

  it('may take longer at their end than any request, as long as the receiver gets on with it', async () => {
    const { a, b, disk } = await pair(content(300_000), { request_ms_default: 400, peer_transfer_wait_ms: 20, peer_tick_ms: 10 })
    let finish!: () => void
    disk.finishing = new Promise((resolve) => (finish = resolve))
    const begun = performance.now()
    const timer = setInterval(() => {
      disk.progress++
      if (performance.now() - begun > 1_500) finish()
    }, 20)
    expect(await a.peer.sendSnapshot(1, asked)).toBe(true)
    clearInterval(timer)
    expect(disk.finished).toEqual(['s1'])
    expect(b.received.length).toBe(1)
  })

  it('are given up at their end by a sender that hears of no progress, and are taken all the same when there is some', async () => {
    const { a, b, disk } = await pair(content(300_000), { request_ms_default: 300, peer_transfer_wait_ms: 20, peer_transfers_max: 1 })
    let finish!: () => void
    disk.finishing = new Promise((resolve) => (finish = resolve))
    expect(await a.peer.sendSnapshot(1, asked)).toBe(false)
    expect(a.events.filter(({ event }) => event === 'fault')).toMatchObject([{ peer: 'n2.b', error: { kind: 'deadline' } }])
    expect(b.received).toEqual([])
    finish()
    await b.until(() => b.received.length === 1)
    // Its place is free again.
    expect(await a.peer.sendSnapshot(2, asked)).toBe(true)
  })

  it('whose connection breaks at their end are asked for again, not sent again', async () => {
    const bytes = content(3_000_000)
    const { a, b, disk } = await pair(bytes, { peer_transfer_wait_ms: 20 })
    const proxy = await startProxy(b.peer.address)
    a.addresses.set('n2.b', proxy.address)
    let finish!: () => void
    disk.finishing = new Promise((resolve) => (finish = resolve))
    const sent = a.peer.sendSnapshot(1, asked)
    while (disk.open > 0 || disk.begun.length === 0) await new Promise(setImmediate)
    proxy.cut()
    while (disk.begun.length < 2) await new Promise(setImmediate)
    finish()
    expect(await sent).toBe(true)
    expect(disk.begun[1]!.offset).toBe(bytes.length)
    expect(disk.written).toBe(bytes.length)
    // What was being finished was left to that.
    expect([disk.closed, disk.open]).toEqual([0, 0])
    await proxy.close()
  })
})
