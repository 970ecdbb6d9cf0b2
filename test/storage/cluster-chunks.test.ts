/** Chunks of large values on several nodes: fetched when they are read, filled in the background, there before a command counts on them. */
import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { chunksBeyond, chunksOf, readRange } from '../../storage/blob/chunk-tree.ts'
import { collect } from '../../storage/blob/collect.ts'
import { FetchingBlobs } from '../../storage/blob/fetching.ts'
import { BlobFill } from '../../storage/blob/fill.ts'
import { openFileBlobs } from '../../storage/blob/files.ts'
import { BlobPins } from '../../storage/blob/pins.ts'
import { hashChunk, type BlobStore, type ChunkHash } from '../../storage/blob/store.ts'
import { isInline, ValueBuilder } from '../../storage/blob/value-builder.ts'
import type { BlobRef } from '../../storage/model.ts'
import { at, bytes, contextOf, hashesIn, isSettled, Pair, type Replica } from './cluster-pair.ts'

const C = limits.chunk_bytes
const context = contextOf()
const nowhere = (): Promise<undefined> => Promise.resolve(undefined)

describe('two nodes', () => {
  let dir: string
  let here: BlobStore
  let there: BlobStore

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'nine-chunks-'))
    here = await openFileBlobs({ folder: join(dir, 'here'), cacheBytesMax: 0 })
    there = await openFileBlobs({ folder: join(dir, 'there') })
  })

  afterEach(async () => {
    for (const store of [here, there]) for (const hash of await hashesIn(store)) await store.delete(hash)
  })

  afterAll(async () => {
    await here.close()
    await there.close()
    rmSync(dir, { recursive: true, force: true })
  })

  async function build(store: BlobStore, value: Uint8Array, base?: BlobRef, offset = 0): Promise<BlobRef> {
    const builder = new ValueBuilder({ store, pins: new BlobPins(), base })
    await builder.write(offset, value)
    const built = await builder.finish()
    await builder.release()
    if (isInline(built)) throw new Error('too small')
    return built
  }

  async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
    const found: T[] = []
    for await (const item of items) found.push(item)
    return found
  }

  function fileOf(hash: ChunkHash): string {
    return join(dir, 'here', hash.slice(0, 2), hash)
  }

  describe('a chunk that is not here', () => {
    it('is asked for once however many want it, checked, kept and given', async () => {
      const chunk = randomBytes(1000)
      const hash = hashChunk(chunk)
      const asked: ChunkHash[] = []
      let answer!: (bytes: Uint8Array) => void
      const blobs = new FetchingBlobs(here, (wanted) => {
        asked.push(wanted)
        return new Promise((resolve) => (answer = resolve))
      })
      const reads = [blobs.get(hash), blobs.get(hash)]
      while (asked.length === 0) await isSettled(Promise.resolve())
      reads.push(blobs.get(hash))
      answer(chunk)
      for (const read of reads) expect(Buffer.compare(await read, chunk)).toBe(0)
      expect(asked).toEqual([hash])
      expect(Buffer.compare(await here.get(hash), chunk)).toBe(0)
      expect(blobs.stats().fetched).toBe(1)
    })

    it('is corrupt when nobody has it, or gives something else; unavailable when that is not known', async () => {
      const hash = hashChunk(randomBytes(10))
      await expect(new FetchingBlobs(here, nowhere).get(hash)).rejects.toMatchObject({ kind: 'corrupt' })
      await expect(new FetchingBlobs(here, async () => randomBytes(10)).get(hash)).rejects.toMatchObject({ kind: 'corrupt' })
      expect(await here.has(hash)).toBe(false)
      const cut = new NineError({ kind: 'unavailable', op: 'peer.chunk', message: 'nobody answers' })
      await expect(new FetchingBlobs(here, () => Promise.reject(cut)).get(hash)).rejects.toMatchObject({ kind: 'unavailable' })
    })

    it('that is damaged here is mended', async () => {
      const chunk = randomBytes(1000)
      const hash = await here.put(chunk)
      writeFileSync(fileOf(hash), randomBytes(1000))
      const blobs = new FetchingBlobs(here, async () => chunk)
      expect(Buffer.compare(await blobs.get(hash), chunk)).toBe(0)
      expect(Buffer.compare(await here.get(hash), chunk)).toBe(0)
    })

    it('is one of a few on their way at once', async () => {
      let under = 0
      let most = 0
      let fill!: () => void
      const full = new Promise<void>((resolve) => (fill = resolve))
      const blobs = new FetchingBlobs(here, async (hash) => {
        most = Math.max(most, ++under)
        if (under === limits.blob_fetches_max) fill()
        await full
        // One more would come now.
        await isSettled(Promise.resolve())
        under--
        return chunks.find((chunk) => hashChunk(chunk) === hash)
      })
      const chunks = Array.from({ length: 40 }, () => randomBytes(10))
      await Promise.all(chunks.map((chunk) => blobs.get(hashChunk(chunk))))
      expect(most).toBe(limits.blob_fetches_max)
    })
  })

  describe('filling', () => {
    let fills: BlobFill[] = []

    afterEach(async () => {
      for (const fill of fills) await fill.close()
      fills = []
    })

    function fillOf(fetch: (hash: ChunkHash) => Promise<Uint8Array | undefined>, roots: BlobRef[] = [], valuesMax = 100): BlobFill {
      const options = { blob_fill_values_max: valuesMax, blob_fill_again_ms: 5, blob_fill_scan_ms: 5 }
      const fill = new BlobFill({ store: new FetchingBlobs(here, fetch), roots: () => roots, limits: options })
      fills.push(fill)
      return fill
    }

    const fromThere = async (hash: ChunkHash): Promise<Uint8Array | undefined> => ((await there.has(hash)) ? there.get(hash) : undefined)

    it('brings what a value needs, and of a changed one only what is new', async () => {
      const first = await build(there, randomBytes(5 * C + 3))
      const second = await build(there, randomBytes(10), first, 2 * C)
      const fetched: ChunkHash[] = []
      const fill = fillOf((hash) => {
        fetched.push(hash)
        return fromThere(hash)
      })
      fill.want(first, undefined)
      await fill.idle()
      expect(fetched).toHaveLength(7)
      fill.want(second, first)
      await fill.idle()
      expect(fetched).toHaveLength(9)
      expect(fill.status).toMatchObject({ waiting: 0, isScanning: false, failure: undefined, filled: 9 })
      const whole = await readRange(here, second, 0, second.size)
      expect(Buffer.compare(whole, await readRange(there, second, 0, second.size))).toBe(0)
    })

    it('goes on when nodes that could not be asked can be', async () => {
      const value = await build(there, randomBytes(2 * C))
      let isCut = true
      const fill = fillOf((hash) =>
        isCut ? Promise.reject(new NineError({ kind: 'unavailable', op: 'x', message: 'cut' })) : fromThere(hash),
      )
      fill.want(value, undefined)
      await fill.idle()
      expect(fill.status).toMatchObject({ waiting: 1, failure: { kind: 'unavailable' } })
      isCut = false
      await vi.waitFor(() => expect(fill.status.waiting).toBe(0))
      expect(await hashesIn(here)).toEqual(await hashesIn(there))
    })

    it('goes through all that stands when it is told to, and when more was wanted than it keeps', async () => {
      const values = await Promise.all([1, 2, 3].map(() => build(there, randomBytes(C + 1))))
      const gone = await build(there, randomBytes(C + 1))
      for (const hash of await all(chunksOf(there, gone))) await there.delete(hash)
      const fill = fillOf(fromThere, values, 1)
      for (const value of [gone, ...values]) fill.want(value, undefined)
      await vi.waitFor(() => expect(fill.status).toMatchObject({ waiting: 0, isScanning: false, failure: undefined }))
      expect(await hashesIn(here)).toEqual(await hashesIn(there))
      for (const hash of await hashesIn(here)) await here.delete(hash)
      fill.scan()
      await fill.idle()
      expect(await hashesIn(here)).toEqual(await hashesIn(there))
    })

    it('ends with what it is at', async () => {
      const value = await build(there, randomBytes(8 * C))
      let count = 0
      const fill = fillOf((hash) => {
        count++
        return fromThere(hash)
      })
      fill.want(value, undefined)
      while (count === 0) await isSettled(Promise.resolve())
      await fill.close()
      const at = count
      await isSettled(Promise.resolve())
      expect(count).toBe(at)
      expect(count).toBeLessThan(9)
    })
  })

  it(
    'chunksBeyond gives what a value has and its base has not at the same place, also where they are of other depths',
    { timeout: 60_000 },
    async () => {
      // Deep trees of few bytes: the bytes between are holes.
      const spot = fc.record({
        at: fc.constantFrom(0, 1, 3, 900, 1023, 1024, 1500, 3000).map((chunk) => chunk * C),
        byte: fc.integer({ min: 1, max: 3 }),
      })
      await fc.assert(
        fc.asyncProperty(
          fc.array(spot, { minLength: 1, maxLength: 5 }),
          fc.array(spot, { minLength: 1, maxLength: 5 }),
          async (one, two) => {
            const make = async (spots: typeof one): Promise<BlobRef> => {
              const builder = new ValueBuilder({ store: here, pins: new BlobPins() })
              await builder.truncate(C)
              for (const { at: offset, byte } of spots) await builder.write(offset, new Uint8Array(20).fill(byte))
              const built = await builder.finish()
              await builder.release()
              if (isInline(built)) throw new Error('too small')
              return built
            }
            const [base, value] = [await make(one), await make(two)]
            const beyond = new Set((await all(chunksBeyond(here, value, base))).map(({ hash }) => hash))
            const ofBase = new Set(await all(chunksOf(here, base)))
            const ofValue = await all(chunksOf(here, value))
            for (const hash of ofValue) if (!ofBase.has(hash)) expect(beyond.has(hash)).toBe(true)
            for (const hash of beyond) expect(ofValue).toContain(hash)
            expect(await all(chunksBeyond(here, value, value))).toEqual([])
            expect((await all(chunksBeyond(here, value, undefined))).map(({ hash }) => hash)).toEqual(ofValue)
          },
        ),
        { numRuns: 60 },
      )
      const long = await build(here, randomBytes(6 * C))
      const touched = await build(here, randomBytes(1), long, 3 * C)
      expect(await all(chunksBeyond(here, touched, long))).toHaveLength(2)
    },
  )

  it('a chunk that is touched is as young as one just put', async () => {
    let passed_ms = 0
    const clock = { now: () => systemClock.now() + passed_ms * 1000, monotonic: () => systemClock.monotonic() + passed_ms }
    const aging = await openFileBlobs({ folder: join(dir, 'aging'), clock })
    const hash = await aging.put(randomBytes(10))
    await aging.put(randomBytes(10))
    passed_ms = 3_600_000
    expect(await aging.touch(hash)).toBe(true)
    expect(await aging.touch(hashChunk(randomBytes(10)))).toBe(false)
    await collect({ store: aging, pins: new BlobPins(), roots: [], olderThanMs: 60_000 })
    expect(await hashesIn(aging)).toEqual([hash])
    await aging.close()
  })
})

describe('a store on two nodes', () => {
  let pair: Pair
  let a: Replica
  let b: Replica
  const value = randomBytes(2 * C + 7)

  beforeEach(async () => {
    pair = await new Pair().open()
    a = pair.a
    b = pair.b
  })

  afterEach(() => pair.close())

  it('proposes a large value when its chunks are elsewhere as well, and not when that failed', async () => {
    let done!: () => void
    a.push = () => new Promise((resolve) => (done = resolve))
    const written = a.store.write(context, at('/f'), value)
    await vi.waitFor(() => expect(a.pushes).toHaveLength(1))
    expect(await isSettled(written)).toBe(false)
    expect(pair.log).toHaveLength(0)
    done()
    await written
    expect(pair.log).toHaveLength(1)
    a.push = () => Promise.reject(new NineError({ kind: 'unavailable', op: 'x', message: 'no majority' }))
    const { handle } = await a.store.open(context, at('/f'), { write: true })
    const { handle: shared } = await a.store.open(context, at('/f'), { write: true, mode: 'shared' })
    await a.store.writeHandle(context, handle, bytes('x'), 0)
    await a.store.writeHandle(context, shared, bytes('x'), 0)
    const txn = { if: [], then: [{ op: 'write' as const, path: at('/g'), bytes: value }], else: [] }
    const refused = [
      a.store.write(context, at('/f'), value),
      a.store.write(context, at('/f'), bytes('x'), { at: 3 }),
      a.store.setStat(context, at('/f'), { size: C }),
      a.store.txn(context, txn),
      a.store.syncHandle(context, handle),
      a.store.syncHandle(context, shared),
    ]
    for (const answer of await Promise.allSettled(refused)) {
      expect(answer).toMatchObject({ status: 'rejected', reason: { kind: 'unavailable', outcome: 'none' } })
    }
    // Only what apply answered with needs_chunks was proposed.
    for (const { command } of pair.log.slice(1)) expect(JSON.stringify(command)).not.toContain('"blob"')
    a.push = undefined
  })

  it('tells what a change shares with the value it is conditional on', async () => {
    await a.store.write(context, at('/f'), value)
    const { blob } = a.pushes[0]!
    await a.store.write(context, at('/f'), bytes('x'), { at: 3 })
    expect(a.pushes[1]!.base).toEqual(blob)
    const { handle } = await a.store.open(context, at('/f'), { write: true })
    await a.store.writeHandle(context, handle, bytes('y'), 3)
    await a.store.closeHandle(context, handle)
    expect(a.pushes[2]!.base).toBeUndefined()
  })

  it('pushes again when that took longer than chunks are sure to be young', async () => {
    a.push = async () => {
      if (a.pushes.length < 3) pair.now += limits.blob_grace_ms / 2
    }
    await a.store.write(context, at('/f'), value)
    expect(a.pushes).toHaveLength(3)
    expect(pair.log).toHaveLength(1)
  })

  it('keeps the chunks of a change that may happen yet, for as long as it may', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const failing = vi
        .spyOn(a, 'propose')
        .mockRejectedValueOnce(new NineError({ kind: 'deadline', op: 'x', message: 'x', outcome: 'unknown' }))
      await expect(a.store.write(context, at('/f'), value)).rejects.toMatchObject({ outcome: 'unknown' })
      failing.mockRestore()
      const before = await hashesIn(a.files)
      await collect({ store: a.files, pins: a.pins, roots: [], olderThanMs: -1_000 })
      expect(await hashesIn(a.files)).toEqual(before)
      vi.advanceTimersByTime(limits.blob_grace_ms)
      await collect({ store: a.files, pins: a.pins, roots: [], olderThanMs: -1_000 })
      expect(await hashesIn(a.files)).toEqual([])
    } finally {
      vi.useRealTimers()
    }
  })

  it('reads on a node what only the other has, and fills what it was told of', async () => {
    a.push = () => Promise.resolve()
    b.isLagging = true
    await a.store.write(context, at('/f'), value)
    b.catchUp()
    const read = await b.store.read(context, at('/f'))
    expect(Buffer.compare(read.bytes, value.subarray(0, limits.read_bytes_max))).toBe(0)
    await b.fill.idle()
    expect(await hashesIn(b.files)).toEqual(await hashesIn(a.files))
    expect(b.fill.status).toMatchObject({ waiting: 0, failure: undefined })
  })

  it('fills what a snapshot names', async () => {
    a.push = () => Promise.resolve()
    b.isLagging = true
    await a.store.write(context, at('/f'), value)
    await a.store.write(context, at('/f'), randomBytes(C + 1))
    await b.install()
    await b.fill.idle()
    expect(await hashesIn(b.files)).toEqual(await hashesIn(a.files))
  })
})
