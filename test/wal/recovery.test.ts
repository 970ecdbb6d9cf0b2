/** What a log shows after crashes, torn writes and flipped bits, against a model. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isNineError } from '../../namespace/errors.ts'
import { openWal, type Wal } from '../../storage/wal/wal.ts'
import { SimDisk } from './disk.ts'

/** Bytes that tell which record they are, with runs of zeros, which a torn write looks like. */
function recordOf(serial: number, length: number, zeroed: boolean): Buffer {
  const bytes = Buffer.alloc(length)
  if (!zeroed) for (let i = 0; i < length; i++) bytes[i] = (serial * 31 + i * 7) | 1
  if (length >= 4) bytes.writeUInt32LE(serial, 0)
  return bytes
}

/** A small generator of booleans from a seed, so that a crash replays exactly. */
function coin(seed: number): () => boolean {
  let state = seed | 1
  return () => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d)
    state = Math.imul(state ^ (state >>> 12), 0x297a2d39) ^ (state >>> 15)
    return ((state = (state + 0x9e3779b9) | 0) & 0x10000) === 0
  }
}

const settle = async (): Promise<void> => {
  for (let i = 0; i < 3; i++) await new Promise(setImmediate)
}

type Step =
  | { readonly kind: 'append'; readonly lengths: readonly number[]; readonly zeroed: boolean }
  | { readonly kind: 'release' | 'close' }
  | { readonly kind: 'cut'; readonly share: number }
  | { readonly kind: 'crash'; readonly seed: number }
  | { readonly kind: 'fault'; readonly code: 'EIO' | 'ENOSPC'; readonly sectors: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      lengths: fc.array(fc.oneof(fc.nat(40), fc.nat(1800)), { minLength: 1, maxLength: 4 }),
      zeroed: fc.boolean(),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('release' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const), share: fc.nat(100) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('crash' as const), seed: fc.integer() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('fault' as const), code: fc.constantFrom('EIO', 'ENOSPC'), sectors: fc.nat(6) }) },
)

/** A log under test beside what it has promised. */
class Run {
  readonly disk = new SimDisk()
  wal!: Wal
  serial = 0
  ticks = 0
  /** Bytes given by lsn; numbers of records that failed are given again. */
  readonly given = new Map<number, Buffer>()
  acknowledged = 0
  /** The highest number that may be on disk. */
  possible = 0
  cutTo = 0

  async open(): Promise<void> {
    this.disk.hold = false
    this.wal = await openWal({
      dir: '/log',
      files: this.disk,
      segmentBytes: 8192,
      sealMs: Infinity,
      clock: { now: () => 0, monotonic: () => (this.ticks += 1000) },
      onDurable: (lsn) => (this.acknowledged = Math.max(this.acknowledged, lsn)),
      onFailed: (from, _to, error) => {
        if (error.outcome === 'none') this.possible = Math.min(this.possible, from - 1)
      },
    })
    this.disk.hold = true
  }

  append(lengths: readonly number[], zeroed: boolean): void {
    for (const length of lengths) {
      this.serial += 1
      const bytes = recordOf(this.serial, length, zeroed)
      let lsn: number
      try {
        lsn = this.wal.enqueue(bytes)
      } catch (error) {
        if (isNineError(error, 'unavailable')) return
        throw error
      }
      this.given.set(lsn, Buffer.from(bytes))
      this.possible = lsn
      bytes.fill(0xee) // The log has its own copy.
    }
  }

  /** Everything acknowledged and not cut is there; nothing but what was given; in order, byte for byte. */
  check(): void {
    const { wal } = this
    expect(wal.lastLsn).toBeGreaterThanOrEqual(this.acknowledged)
    expect(wal.lastLsn).toBeLessThanOrEqual(this.possible)
    expect(wal.firstLsn).toBeLessThanOrEqual(this.cutTo + 1)
    let lsn = wal.firstLsn
    for (const record of wal.replay(lsn)) {
      expect(record.lsn).toBe(lsn)
      if (Buffer.compare(record.bytes, this.given.get(lsn)!) !== 0) throw new Error(`record ${lsn} is another`)
      lsn += 1
    }
    expect(lsn - 1).toBe(wal.lastLsn)
    this.acknowledged = this.possible = wal.lastLsn
  }

  async run(steps: readonly Step[]): Promise<void> {
    await this.open()
    for (const next of steps) {
      switch (next.kind) {
        case 'append':
          this.append(next.lengths, next.zeroed)
          break
        case 'release':
          this.disk.release()
          break
        case 'cut': {
          const lsn = Math.floor((this.acknowledged * next.share) / 100)
          this.cutTo = Math.max(this.cutTo, lsn)
          this.wal.cut(lsn).catch(() => undefined)
          break
        }
        case 'fault':
          this.disk.faults.push({ op: 'writeDurable', code: next.code, sectors: next.sectors })
          break
        case 'close':
          await this.close()
          await this.open()
          this.check()
          break
        case 'crash':
          this.disk.crash(coin(next.seed))
          await this.open()
          this.check()
      }
      await settle()
    }
    this.disk.crash(coin(this.serial))
    await this.open()
    this.check()
  }

  async close(): Promise<void> {
    let closed = false
    const closing = this.wal.close().finally(() => (closed = true))
    while (!closed) {
      this.disk.release()
      await new Promise(setImmediate)
    }
    await closing
    this.disk.faults.length = 0
  }
}

describe('wal after a crash', () => {
  it('holds everything acknowledged, nothing that was not given, in order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), (steps) => new Run().run(steps)),
      { numRuns: 1000 },
    )
  }, 120_000)

  it('cuts a torn end, says so, and writes on over it', async () => {
    let torn = 0
    for (let seed = 0; seed < 200; seed++) {
      const run = new Run()
      await run.open()
      run.append([300], false)
      await settle()
      run.disk.release()
      await settle()
      run.append([1500, 1500], seed % 2 === 0)
      await settle()
      run.disk.crash(coin(seed * 7919))
      await run.open()
      const { report } = run.wal
      if (report.tornBytes > 0) {
        torn += 1
        expect(run.wal.lastLsn).toBe(1)
        expect(report).toMatchObject({ tornFile: '/log/00000001.wal', tornOffset: 512 + 352 })
      }
      run.check()
      run.append([20], false)
      await settle()
      run.disk.release()
      await settle()
      run.disk.crash(() => false)
      await run.open()
      run.check()
      expect(run.wal.report.tornBytes).toBe(0)
    }
    expect(torn).toBeGreaterThan(100)
  })
})

describe('wal with a flipped bit', () => {
  /** Three segments; the last frame is the end: nothing marks it. */
  async function logOf(lengths: readonly number[], zeroed: boolean): Promise<Run> {
    const run = new Run()
    await run.open()
    for (const length of lengths) {
      run.append([length, 17], zeroed)
      await settle()
      run.disk.release()
      await settle()
    }
    run.disk.crash(() => true)
    return run
  }

  it('anywhere in what was acknowledged: corrupt, or the very same records', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 2500 }), { minLength: 1, maxLength: 10 }),
        fc.boolean(),
        fc.nat(0x7fffffff),
        fc.nat(1_000_000),
        async (lengths, zeroed, place, choice) => {
          const run = await logOf(lengths, zeroed)
          const files = [...run.disk.names.keys()].filter((name) => name.endsWith('.wal'))
          const { cached } = run.disk.names.get(files[choice % files.length]!)!
          const bit = place % (cached.length * 8)
          cached[bit >> 3] = cached[bit >> 3]! ^ (1 << (bit & 7))
          try {
            await run.open()
          } catch (error) {
            if (!isNineError(error, 'corrupt') && !isNineError(error, 'unsupported')) throw error
            expect(error.path).toMatch(/^\/log\/\d{8}\.wal$/)
            return
          }
          run.check()
        },
      ),
      { numRuns: 600 },
    )
  }, 120_000)

  it('every bit of the last frame', async () => {
    for (const zeroed of [false, true]) {
      const run = await logOf([5, 1300], zeroed)
      const { cached } = run.disk.names.get('/log/00000001.wal')!
      let refused = 0
      const end = cached.findLastIndex((byte) => byte !== 0) + 1
      for (let bit = (512 + 64) * 8; bit < end * 8; bit += 1) {
        cached[bit >> 3] = cached[bit >> 3]! ^ (1 << (bit & 7))
        try {
          await run.open()
          run.check()
        } catch (error) {
          if (!isNineError(error, 'corrupt')) throw error
          refused += 1
        }
        cached[bit >> 3] = cached[bit >> 3]! ^ (1 << (bit & 7))
      }
      expect(refused).toBeGreaterThan(1300 * 8)
    }
  })
})
