import { mkdtemp, rm, readFile, writeFile } from 'node:fs/promises'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { nodeFiles } from '../../storage/wal/files.ts'
import { openWal, type Wal, type WalOptions } from '../../storage/wal/wal.ts'
import { SimDisk } from './disk.ts'

const text = (words: string): Uint8Array => Buffer.from(words)
const all = (wal: Wal, from = wal.firstLsn): string[] =>
  [...wal.replay(from)].map(({ lsn, bytes }) => `${lsn} ${Buffer.from(bytes).toString()}`)

let root = ''
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'nine-wal-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

let folders = 0
const fresh = (): string => join(root, `log-${(folders += 1)}`)

function onDisk(disk: SimDisk, options: Partial<WalOptions> = {}): Promise<Wal> {
  return openWal({ dir: '/log', files: disk, segmentBytes: 4096, sealMs: Infinity, ...options })
}

async function failureOf(promise: Promise<unknown>): Promise<NineError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(NineError)
  return error as NineError
}

describe('wal on a real disk', () => {
  it('gives back what was appended, in order, after it was closed and opened', async () => {
    const dir = fresh()
    const wal = await openWal({ dir })
    expect([wal.firstLsn, wal.lastLsn, wal.durableLsn]).toEqual([1, 0, 0])
    expect(await wal.append([text('a'), text(''), text('c')])).toBe(3)
    expect(await wal.append([])).toBe(3)
    expect(await wal.append([text('d')])).toBe(4)
    await wal.close()
    const again = await openWal({ dir })
    expect([again.firstLsn, again.lastLsn, again.durableLsn]).toEqual([1, 4, 4])
    expect(all(again)).toEqual(['1 a', '2 ', '3 c', '4 d'])
    expect(all(again, 3)).toEqual(['3 c', '4 d'])
    expect(all(again, 5)).toEqual([])
    expect(again.report).toMatchObject({ tornBytes: 0, segments: 1 })
    await again.close()
  })

  it('goes through many segments, cuts them, uses files again and stays right', async () => {
    const dir = fresh()
    const wal = await openWal({ dir, segmentBytes: 64 * 1024 })
    const record = Buffer.alloc(5000, 1)
    for (let i = 0; i < 100; i++) {
      await wal.append([record])
      if (i % 10 === 9) await wal.cut(wal.durableLsn - 5)
    }
    expect(wal.report.recycledSegments).toBeGreaterThan(0)
    expect(wal.firstLsn).toBeGreaterThan(60)
    expect(() => wal.replay(1)).toThrow(/begins with record/)
    await wal.close()
    const again = await openWal({ dir, segmentBytes: 64 * 1024 })
    const lsns = [...again.replay(again.firstLsn)].map(({ lsn }) => lsn)
    expect(lsns.at(-1)).toBe(100)
    expect(lsns.length).toBe(100 - again.firstLsn + 1)
    await again.close()
  })

  it('takes records larger than a segment', async () => {
    const wal = await openWal({ dir: fresh(), segmentBytes: 8192 })
    const large = Buffer.alloc(limits.append_bytes_max, 7)
    await wal.append([text('before'), large, text('after')])
    const records = [...wal.replay(1)]
    expect(records.map(({ bytes }) => bytes.length)).toEqual([6, large.length, 5])
    expect(Buffer.compare(records[1]!.bytes, large)).toBe(0)
    expect((await failureOf(wal.append([Buffer.alloc(limits.append_bytes_max + 1)]))).kind).toBe('too_large')
    await wal.close()
  })

  it.each([true, false])('writes at once what it is told to (may block: %s), and gathers what is given meanwhile', async (mayBlock) => {
    const wal = await openWal({ dir: fresh(), sealMs: Infinity })
    for (const name of ['a', 'b']) wal.enqueue(text(name))
    wal.flush(mayBlock)
    for (const name of ['c', 'd']) wal.enqueue(text(name))
    wal.flush(mayBlock)
    await wal.append([text('e')])
    expect(wal.report.frames).toBe(2)
    expect([...wal.replay(1)].map(({ bytes }) => Buffer.from(bytes).toString())).toEqual(['a', 'b', 'c', 'd', 'e'])
    wal.flush(mayBlock)
    expect(wal.report.frames).toBe(2)
    await wal.close()
  })

  it('blocks the event loop in the turn itself only where it may', async () => {
    const files = { ...nodeFiles }
    const order: string[] = []
    files.open = (path, mode) => {
      const file = nodeFiles.open(path, mode)
      const sync = file.writeDurableSync.bind(file)
      file.writeDurableSync = (bytes, position) => {
        order.push('blocked')
        sync(bytes, position)
      }
      return file
    }
    const wal = await openWal({ dir: fresh(), sealMs: Infinity, files, clock: { now: () => 0, monotonic: () => 0 } })
    // One after the other, on a disk that is quick: it comes to blocking writes.
    while (order.length < 2) await wal.append([text('a')])
    for (const mayBlock of [true, false]) {
      order.length = 0
      wal.enqueue(text('b'))
      wal.flush(mayBlock)
      order.push('turn')
      await new Promise(setImmediate)
      expect(order).toEqual(mayBlock ? ['blocked', 'turn'] : ['turn', 'blocked'])
    }
    await wal.close()
  })

  it('marks its end when idle, so that damage of the last record is known', async () => {
    const dir = fresh()
    const wal = await openWal({ dir, sealMs: 1 })
    await wal.append([Buffer.alloc(3000)])
    while (wal.report.frames < 2) await new Promise(setImmediate)
    const file = join(dir, '00000001.wal')
    const bytes = await readFile(file)
    await wal.close()
    bytes[700] = bytes[700]! ^ 1
    await writeFile(file, bytes)
    expect((await failureOf(openWal({ dir }))).kind).toBe('corrupt')
  })

  it('opens a new folder in well under a tenth of a second and a large one is not made at once', async () => {
    const wal = await openWal({ dir: fresh() })
    expect(wal.report.bytes).toBe(limits.wal_first_segment_bytes)
    await wal.close()
  })

  it('on a full tmpfs (where it may be mounted): no_space, outcome none, nothing lost, goes on after a cut', async ({ skip }) => {
    const tmpfs = fresh()
    try {
      execFileSync('mkdir', [tmpfs])
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', tmpfs], { stdio: 'ignore' })
    } catch {
      return skip('mounting a tmpfs needs root')
    }
    const dir = join(tmpfs, 'log')
    try {
      const wal = await openWal({ dir, segmentBytes: 1024 * 1024 })
      const record = Buffer.alloc(50_000, 5)
      let stored = 0
      let failure: NineError | undefined
      while (failure === undefined) {
        try {
          stored = await wal.append([record])
        } catch (error) {
          failure = error as NineError
        }
        expect(stored).toBeLessThan(400)
      }
      expect(failure).toMatchObject({ kind: 'no_space', outcome: 'none' })
      expect(wal.lastLsn).toBe(stored)
      expect([...wal.replay(1)].length).toBe(stored)
      await wal.cut(stored - 1)
      expect(await wal.append([record])).toBe(stored + 1)
      await wal.close()
      const again = await openWal({ dir, segmentBytes: 1024 * 1024 })
      expect(again.lastLsn).toBe(stored + 1)
      await again.close()
    } finally {
      execFileSync('umount', [tmpfs])
    }
  })
})

describe('wal on a failing disk', () => {
  it('writes everything of one turn, and everything that waited for a write, as one write', async () => {
    const disk = new SimDisk()
    const durable: number[] = []
    const wal = await onDisk(disk, { onDurable: (lsn) => durable.push(lsn) })
    disk.hold = true
    const first = Array.from({ length: 10 }, (_, i) => wal.append([text(`${i}`)]))
    await new Promise(setImmediate)
    expect(disk.held.length).toBe(1)
    const second: Promise<number>[] = []
    for (let i = 0; i < 10; i++) {
      second.push(wal.append([text(`${i}`)]))
      await new Promise(setImmediate)
    }
    expect(durable).toEqual([])
    disk.release()
    expect(await Promise.all(first)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    disk.release()
    await Promise.all(second)
    expect(disk.durableWrites).toBe(2)
    expect(durable).toEqual([10, 20])
  })

  it('refuses what is over the bound of what waits, all or nothing, and takes more when it has drained', async () => {
    const disk = new SimDisk()
    const wal = await onDisk(disk, { queueBytes: 1000 })
    disk.hold = true
    const waiting = wal.append([Buffer.alloc(900)])
    expect((await failureOf(wal.append([Buffer.alloc(40), Buffer.alloc(60)]))).kind).toBe('overloaded')
    expect(() => wal.enqueue(Buffer.alloc(100))).toThrow(/wait for the log/)
    expect(wal.lastLsn).toBe(1)
    await new Promise(setImmediate)
    disk.release()
    await waiting
    expect(wal.queuedBytes).toBe(0)
    expect(wal.enqueue(Buffer.alloc(900))).toBe(2)
  })

  it('after a failed write acknowledges nothing ever again: unknown for what was under way, none for what waited', async () => {
    const disk = new SimDisk()
    const failed: string[] = []
    const wal = await onDisk(disk, { onFailed: (from, to, error) => failed.push(`${from}-${to} ${error.kind} ${error.outcome}`) })
    await wal.append([text('kept')])
    disk.faults.push({ op: 'writeDurable', code: 'EIO', sectors: 9 })
    const underWay = wal.append([text('b'), text('c')])
    await new Promise(setImmediate)
    const waiting = failureOf(wal.append([text('d')]))
    expect(await failureOf(underWay)).toMatchObject({ kind: 'internal', outcome: 'unknown' })
    expect(await waiting).toMatchObject({ kind: 'unavailable', outcome: 'none' })
    expect(failed).toEqual(['2-3 internal unknown', '4-4 unavailable none'])
    expect(await failureOf(wal.append([text('e')]))).toMatchObject({ kind: 'unavailable', outcome: 'none' })
    expect((await failureOf(wal.cut(1))).kind).toBe('unavailable')
    expect(wal.durableLsn).toBe(1)
    await wal.close()
    disk.crash(() => true)
    const again = await onDisk(disk)
    expect(all(again)).toEqual(['1 kept', '2 b', '3 c'])
  })

  it('a write that finds no room is undone and the log goes on', async () => {
    const disk = new SimDisk()
    const wal = await onDisk(disk)
    await wal.append([text('a')])
    disk.faults.push({ op: 'writeDurable', code: 'ENOSPC', sectors: 2 })
    expect(await failureOf(wal.append([Buffer.alloc(1500, 1)]))).toMatchObject({ kind: 'no_space', outcome: 'none' })
    expect(await wal.append([text('b')])).toBe(2)
    disk.crash(() => false)
    expect(all(await onDisk(disk))).toEqual(['1 a', '2 b'])
  })

  it('when a write without room cannot be undone, its outcome is unknown and the log has failed', async () => {
    const disk = new SimDisk()
    const wal = await onDisk(disk)
    disk.faults.push({ op: 'writeDurable', code: 'ENOSPC', sectors: 1 }, { op: 'writeDurable', code: 'ENOSPC' })
    expect(await failureOf(wal.append([text('a')]))).toMatchObject({ kind: 'no_space', outcome: 'unknown' })
    expect((await failureOf(wal.append([text('b')]))).kind).toBe('unavailable')
  })

  it('without room for a segment fails what waits, and a cut makes room', async () => {
    const disk = new SimDisk()
    let now = 0
    const wal = await onDisk(disk, { clock: { now: () => 0, monotonic: () => now } })
    disk.room = 3 * 4096
    const record = Buffer.alloc(1000, 3)
    let stored = 0
    let failure: NineError | undefined
    while (failure === undefined && stored < 50) {
      now += 1
      await wal.append([record]).then(
        (lsn) => (stored = lsn),
        (error: unknown) => (failure = error as NineError),
      )
    }
    expect(failure).toMatchObject({ kind: 'no_space', outcome: 'none', retryable: true })
    expect([wal.lastLsn, wal.durableLsn]).toEqual([stored, stored])
    expect((await failureOf(wal.append([record]))).kind).toBe('no_space')
    const cut = wal.cut(stored)
    await Promise.all([cut, failureOf(wal.append([record]))])
    expect(await wal.append([record])).toBe(stored + 1)
    disk.crash(() => true)
    const again = await onDisk(disk)
    expect(again.lastLsn).toBe(stored + 1)
  })

  it.each(['EACCES denied', 'EROFS read_only', 'ENOTDIR not_directory', 'ENOSPC no_space', 'EIO internal'])(
    'cannot be opened: %s',
    async (row) => {
      const [code, kind] = row.split(' ')
      const disk = new SimDisk()
      disk.faults.push({ op: 'open', code: code! })
      expect(await failureOf(onDisk(disk))).toMatchObject({ kind, op: expect.stringMatching(/^wal\./) as string })
    },
  )

  it('a second log in the same place does not pass: segments of another log are refused', async () => {
    const one = new SimDisk()
    const two = new SimDisk()
    for (const disk of [one, two]) {
      const wal = await onDisk(disk)
      for (let i = 0; i < 8; i++) await wal.append([Buffer.alloc(1000, 1)])
      await wal.close()
    }
    one.names.set('/log/00000002.wal', two.names.get('/log/00000002.wal')!)
    expect(await failureOf(onDisk(one))).toMatchObject({ kind: 'corrupt', message: expect.stringContaining('00000002.wal') as string })
  })

  it('a missing segment is refused, whether first, in the middle, or before an empty one', async () => {
    for (const missing of [1, 2, 3]) {
      const disk = new SimDisk()
      const wal = await onDisk(disk)
      for (let i = 0; i < 10; i++) await wal.append([Buffer.alloc(1000, 1)])
      await wal.close()
      expect(disk.names.has('/log/00000004.wal')).toBe(true)
      disk.names.delete(`/log/0000000${missing}.wal`)
      const error = await failureOf(onDisk(disk))
      expect(error).toMatchObject({ kind: 'corrupt', path: `/log/0000000${missing}.wal` })
      expect(error.message).toContain('restore')
    }
  })

  it('damage in the last segment is told as such, also where those before it were cut', async () => {
    const disk = new SimDisk()
    const wal = await onDisk(disk)
    for (let i = 0; i < 8; i++) await wal.append([Buffer.alloc(1000, 1)])
    await wal.cut(wal.lastLsn)
    await wal.append([text('kept')])
    await wal.close()
    const last = [...disk.names].filter(([name, { cached }]) => name.endsWith('.wal') && cached[512] !== 0).at(-1)!
    last[1].cached[512 + 40]! ^= 1
    expect(await failureOf(onDisk(disk))).toMatchObject({ kind: 'corrupt', path: last[0] })
  })

  it('a segment that was cut short is refused, with the byte where it ends', async () => {
    const disk = new SimDisk()
    const wal = await onDisk(disk)
    await wal.append([text('a')])
    await wal.close()
    const content = disk.names.get('/log/00000001.wal')!
    content.cached = content.cached.subarray(0, 2048)
    expect(await failureOf(onDisk(disk))).toMatchObject({ kind: 'corrupt', message: expect.stringContaining('at byte 2048') as string })
  })

  it('removes cut segments that a crash left behind, damaged ones too', async () => {
    const disk = new SimDisk()
    const wal = await onDisk(disk)
    for (let i = 0; i < 10; i++) await wal.append([Buffer.alloc(1000, 1)])
    const left = [1, 2].map((number) => disk.names.get(`/log/0000000${number}.wal`)!)
    const content = left.map(({ cached }) => ({ cached: Buffer.from(cached), durable: Buffer.from(cached) }))
    await wal.cut(8)
    const { firstLsn } = wal
    await wal.close()
    disk.names.set('/log/00000001.wal', content[0]!)
    disk.names.set('/log/00000002.wal', content[1]!)
    content[1]!.cached[600] = 0
    const again = await onDisk(disk)
    expect(again.firstLsn).toBe(firstLsn)
    expect(disk.names.has('/log/00000001.wal')).toBe(false)
    expect(all(again).length).toBe(10 - firstLsn + 1)
  })

  it('reads a segment to its end although it was cut meanwhile', async () => {
    const megabyte = 1024 * 1024
    const disk = new SimDisk()
    const wal = await onDisk(disk, { segmentBytes: 3 * megabyte })
    const append = (count: number): Promise<number> => wal.append(Array.from({ length: count }, () => Buffer.alloc(100_000, 9)))
    for (let i = 0; i < 10; i++) await append(5)
    const from = 20
    const reading = wal.replay(from)[Symbol.iterator]()
    expect(reading.next().value).toMatchObject({ lsn: from })
    await wal.cut(wal.durableLsn)
    for (let i = 0; i < 20; i++) await append(5)
    // The second segment, of 3 MiB, was read for its first third only; its file must not have been filled with zeros.
    for (let lsn = from + 1; lsn < from + 15; lsn++) {
      const record = reading.next().value as { lsn: number; bytes: Uint8Array }
      expect(record.lsn).toBe(lsn)
      expect(record.bytes.every((byte) => byte === 9)).toBe(true)
    }
  })

  it('can be cut although its last segment is full to the brim and the disk too', async () => {
    const disk = new SimDisk()
    const wal = await onDisk(disk)
    disk.room = 2 * 4096
    let failure: unknown
    while (failure === undefined) await wal.append([Buffer.alloc(28, 3)]).catch((error: unknown) => (failure = error))
    expect(failure).toMatchObject({ kind: 'no_space', outcome: 'none' })
    const last = wal.lastLsn
    await wal.cut(last)
    expect(await wal.append([Buffer.alloc(28, 3)])).toBe(last + 1)
  })

  it('blocks the event loop only for one giver at a time on a quick disk', async () => {
    const disk = new SimDisk()
    let now = 0
    let slow = 0
    const clock = { now: () => 0, monotonic: () => (now += slow) }
    const wal = await onDisk(disk, { clock, segmentBytes: 1024 * 1024 })
    const blocked = async (frames: number, records: number): Promise<number> => {
      const before = wal.report.blockingFrames
      for (let i = 0; i < frames; i++) await wal.append(Array.from({ length: records }, () => text('x')))
      return wal.report.blockingFrames - before
    }
    expect(await blocked(32, 1)).toBe(0)
    expect(await blocked(100, 1)).toBe(100)
    expect(await blocked(100, 3)).toBe(0)
    expect(await blocked(100, 1)).toBeGreaterThan(80)
    slow = limits.wal_blocking_ms_max + 0.1
    expect(await blocked(100, 1)).toBe(1)
    slow = 0
    expect(await blocked(32, 1)).toBe(0)
    expect(await blocked(10, 1)).toBe(10)
    disk.faults.push({ op: 'writeDurable', code: 'EIO' })
    expect(await failureOf(wal.append([text('x')]))).toMatchObject({ kind: 'internal', outcome: 'unknown' })
  })

  it('a closed log writes what waits and takes nothing more', async () => {
    const disk = new SimDisk()
    const wal = await onDisk(disk)
    const last = wal.append([text('last')])
    const closing = wal.close()
    expect((await failureOf(wal.append([text('late')]))).kind).toBe('unavailable')
    expect(await last).toBe(1)
    await closing
    await wal.close()
    expect(all(await onDisk(disk))).toEqual(['1 last'])
  })
})
