import fc from 'fast-check'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { chunksOf, depthFor, readRange } from '../../storage/blob/chunk-tree.ts'
import { openFileBlobs } from '../../storage/blob/files.ts'
import { BlobPins } from '../../storage/blob/pins.ts'
import { hashAt, type BlobStore, type ChunkHash } from '../../storage/blob/store.ts'
import { isInline, ValueBuilder, type BuiltValue } from '../../storage/blob/value-builder.ts'
import type { BlobRef } from '../../storage/model.ts'

const C = limits.chunk_bytes

let folder: string
let store: BlobStore
const pins = new BlobPins()

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'nine-value-'))
  store = await openFileBlobs({ folder })
})

afterAll(async () => {
  await store.close()
  rmSync(folder, { recursive: true, force: true })
})

async function build(bytes: Uint8Array): Promise<BlobRef> {
  const builder = new ValueBuilder({ store, pins })
  await builder.write(0, bytes)
  const value = await builder.finish()
  await builder.release()
  return refOf(value)
}

function refOf(value: BuiltValue): BlobRef {
  if (isInline(value)) throw new Error('expected chunks')
  return value
}

async function chunkSet(ref: BlobRef): Promise<Set<ChunkHash>> {
  const hashes = new Set<ChunkHash>()
  for await (const hash of chunksOf(store, ref)) hashes.add(hash)
  return hashes
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

type Step =
  | { readonly do: 'write'; readonly offset: number; readonly length: number; readonly fill: number }
  | { readonly do: 'append'; readonly length: number; readonly fill: number }
  | { readonly do: 'truncate'; readonly size: number }
  | { readonly do: 'read'; readonly offset: number; readonly length: number }
  | { readonly do: 'finish'; readonly reopen: boolean }

const edges = [0, 1, 5000, limits.inline_bytes_max, limits.inline_bytes_max + 1, C - 1, C, C + 1, 2 * C, 2 * C + 7, 3 * C - 1, 4 * C]
const place = fc.oneof(fc.constantFrom(...edges), fc.integer({ min: 0, max: 5 * C }))
const length = fc.oneof(fc.constantFrom(1, 100, C - 1, C, C + 1, 2 * C), fc.integer({ min: 1, max: 3 * C }))
const fill = fc.integer({ min: 0, max: 3 }) // 0: zeros, so that holes come and go
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('write' as const), offset: place, length, fill }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('append' as const), length, fill }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('truncate' as const), size: place }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('read' as const), offset: place, length }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('finish' as const), reopen: fc.boolean() }) },
)

function pattern(count: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(count)
  if (seed > 0) for (let i = 0; i < count; i += 61) bytes[i] = 1 + ((i * seed) % 255)
  return bytes
}

describe('ValueBuilder against a plain array of bytes', () => {
  test('random writes, truncates, reads, finishes and reopenings', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 14 }), fc.constantFrom(1, 2, 16), async (steps, stagedChunks) => {
        const ownPins = new BlobPins()
        let model = new Uint8Array(0)
        let builder = new ValueBuilder({ store, pins: ownPins, stagedBytesMax: stagedChunks * C })
        const put = (offset: number, bytes: Uint8Array): void => {
          const grown = new Uint8Array(Math.max(model.length, offset + bytes.length))
          grown.set(model)
          grown.set(bytes, offset)
          model = grown
        }
        for (const s of [...steps, { do: 'finish', reopen: true } as const]) {
          if (s.do === 'write') {
            const bytes = pattern(s.length, s.fill)
            put(s.offset, bytes)
            await builder.write(s.offset, bytes)
          } else if (s.do === 'append') {
            const bytes = pattern(s.length, s.fill)
            const at = model.length
            put(at, bytes)
            expect(await builder.append(bytes)).toBe(at)
          } else if (s.do === 'truncate') {
            const cut = new Uint8Array(s.size)
            cut.set(model.subarray(0, s.size))
            model = cut
            await builder.truncate(s.size)
          } else if (s.do === 'read') {
            expect(same(await builder.read(s.offset, s.length), model.subarray(s.offset, s.offset + s.length))).toBe(true)
          } else {
            const value = await builder.finish()
            expect(isInline(value)).toBe(model.length <= limits.inline_bytes_max)
            const bytes = isInline(value) ? value.inline : await readRange(store, value, 0, value.size)
            expect(same(bytes, model)).toBe(true)
            if (s.reopen) {
              // The base is pinned before the old builder lets go of it.
              const next = new ValueBuilder({ store, pins: ownPins, base: isInline(value) ? value.inline : value, stagedBytesMax: C })
              await builder.release()
              builder = next
            }
          }
          expect(builder.size).toBe(model.length)
        }
        await builder.release()
        expect(ownPins.size).toBe(0)
      }),
      { numRuns: 120 },
    )
  }, 120_000)

  test('the same bytes give the same tree, however they were written', async () => {
    const bytes = Buffer.concat([randomBytes(2 * C + 100), new Uint8Array(C), randomBytes(C / 2), new Uint8Array(2 * C)])
    const whole = await build(bytes)
    const builder = new ValueBuilder({ store, pins, stagedBytesMax: C })
    await builder.write(0, randomBytes(9 * C))
    await builder.truncate(3 * C + 50)
    for (let at = bytes.length; at > 0; at -= 70_001) {
      const from = Math.max(0, at - 70_001)
      await builder.write(from, bytes.subarray(from, at))
    }
    expect(await builder.finish()).toEqual(whole)
    await builder.release()
  })
})

describe('cost of a change', () => {
  test('a write replaces the chunks it touches and the index above them', async () => {
    const bytes = randomBytes(20 * C)
    const ref = await build(bytes)
    const before = store.stats().puts
    const builder = new ValueBuilder({ store, pins, base: ref })
    await builder.write(7 * C - 5, randomBytes(10))
    const changed = refOf(await builder.finish())
    await builder.release()
    expect(store.stats().puts - before).toBe(3)
    const old = await chunkSet(ref)
    expect([...(await chunkSet(changed))].filter((hash) => !old.has(hash)).length).toBe(3)
  })

  test('finishing without a change gives the base and does no I/O', async () => {
    const ref = await build(randomBytes(3 * C))
    const before = store.stats()
    const builder = new ValueBuilder({ store, pins, base: ref })
    expect(await builder.finish()).toBe(ref)
    await builder.release()
    expect(store.stats()).toEqual(before)
  })

  test('zeros take no chunks: a file of 16 TiB with three bytes set, cut again', async () => {
    const builder = new ValueBuilder({ store, pins })
    await builder.truncate(limits.file_bytes_max)
    const hole = refOf(await builder.finish())
    expect(await chunkSet(hole)).toEqual(new Set())
    const middle = 2 ** 43 + 12_345
    for (const at of [0, middle, limits.file_bytes_max - 1]) await builder.write(at, new Uint8Array([at === 0 ? 1 : 2]))
    const ref = refOf(await builder.finish())
    expect(ref).toMatchObject({ depth: 3, size: limits.file_bytes_max })
    expect((await chunkSet(ref)).size).toBeLessThanOrEqual(10)
    expect([...(await readRange(store, ref, middle - 1, 3))]).toEqual([0, 2, 0])
    expect([...(await readRange(store, ref, limits.file_bytes_max - 2, 10))]).toEqual([0, 2])
    expect((await readRange(store, ref, 5 * C, 4 * C)).every((byte) => byte === 0)).toBe(true)
    await expect(builder.write(limits.file_bytes_max, new Uint8Array(1))).rejects.toMatchObject({ kind: 'too_large' })
    await builder.truncate(middle + 1)
    const cut = refOf(await builder.finish())
    expect([...(await readRange(store, cut, middle - 1, 3))]).toEqual([0, 2])
    await builder.truncate(3 * C)
    await builder.truncate(limits.file_bytes_max)
    expect([...(await builder.read(middle, 1))]).toEqual([0])
    await builder.truncate(3 * C)
    expect(await builder.finish()).toEqual(await build(Buffer.concat([new Uint8Array([1]), new Uint8Array(3 * C - 1)])))
    await builder.release()
  })

  test('more index chunks changed than are held in memory', async () => {
    const builder = new ValueBuilder({ store, pins, stagedBytesMax: C })
    const span = limits.blob_index_hashes_max * C
    const count = limits.blob_value_index_max * 3
    for (let i = 0; i < count; i++) await builder.write(i * span, new Uint8Array([i + 1]))
    for (let i = 0; i < count; i += 5) await builder.write(i * span + C, new Uint8Array([i + 1]))
    const ref = refOf(await builder.finish())
    await builder.release()
    for (let i = 0; i < count; i++) {
      expect((await readRange(store, ref, i * span, 1))[0]).toBe(i + 1)
      expect((await readRange(store, ref, i * span + C, 1))[0] ?? 0).toBe(i % 5 === 0 ? i + 1 : 0)
    }
  })

  test('writes all over a value stage no more chunks than allowed', async () => {
    const before = store.stats().puts
    const builder = new ValueBuilder({ store, pins, stagedBytesMax: 2 * C })
    for (let i = 0; i < 64; i++) await builder.write(i * C + 1000, randomBytes(16))
    expect(store.stats().puts - before).toBeGreaterThanOrEqual(64 - 2 - limits.blob_value_puts_max)
    expect(pins.size).toBeGreaterThanOrEqual(62)
    await builder.release()
    expect(pins.size).toBe(0)
  })

  test('a chunk is put once it is full, also when a base began it', async () => {
    const base = await build(randomBytes(C + C / 2))
    const builder = new ValueBuilder({ store, pins, base })
    const before = pins.size
    await builder.append(randomBytes(C / 4))
    expect(pins.size - before).toBe(0)
    await builder.append(randomBytes(C / 4))
    expect(pins.size - before).toBe(1)
    await builder.release()
  })

  test('pins of many chunks give way to one on the tree so far', async () => {
    const builder = new ValueBuilder({ store, pins, stagedBytesMax: C })
    const one = new Uint8Array(8)
    for (let i = 0; i < limits.blob_value_pins_max + 500; i++) {
      new DataView(one.buffer).setFloat64(0, i + 1)
      await builder.write((i % 4) * C, one) // the same few places, so that most chunks put are soon replaced
    }
    expect(pins.size).toBeLessThan(600)
    const ref = refOf(await builder.finish())
    builder.committed(ref)
    expect(pins.size).toBe(1)
    expect((await chunkSet(ref)).size).toBe(5)
    await builder.release()
    expect(pins.size).toBe(0)
  })

  test('streaming keeps a few chunks in memory', async () => {
    const size = 192 * 1024 * 1024
    const piece = new Uint8Array(64 * 1024)
    const expected = createHash('sha256')
    const builder = new ValueBuilder({ store, pins })
    const before = process.memoryUsage().arrayBuffers
    let most = 0
    for (let at = 0; at < size; at += piece.length) {
      new DataView(piece.buffer).setFloat64(100, at)
      expected.update(piece)
      await builder.append(piece)
      most = Math.max(most, process.memoryUsage().arrayBuffers - before)
    }
    const ref = refOf(await builder.finish())
    await builder.release()
    expect(most).toBeLessThan(48 * 1024 * 1024)
    const found = createHash('sha256')
    for (let at = 0; at < size; at += 4 * 1024 * 1024) found.update(await readRange(store, ref, at, 4 * 1024 * 1024))
    expect(found.digest('hex')).toBe(expected.digest('hex'))
  })
})

describe('bad input', () => {
  test('offsets that are none, and use after release', async () => {
    const builder = new ValueBuilder({ store, pins })
    await expect(builder.write(-1, new Uint8Array(1))).rejects.toMatchObject({ kind: 'invalid' })
    await expect(builder.write(0.5, new Uint8Array(1))).rejects.toMatchObject({ kind: 'invalid' })
    await expect(builder.truncate(Number.MAX_SAFE_INTEGER)).rejects.toMatchObject({ kind: 'too_large' })
    await builder.release()
    await expect(builder.append(new Uint8Array(1))).rejects.toMatchObject({ kind: 'invalid' })
  })

  test('operations called at once take effect in order', async () => {
    const builder = new ValueBuilder({ store, pins, stagedBytesMax: C })
    const offsets = await Promise.all(Array.from({ length: 8 }, (_, i) => builder.append(new Uint8Array(C / 2).fill(i + 1))))
    expect(offsets).toEqual(Array.from({ length: 8 }, (_, i) => (i * C) / 2))
    expect((await builder.read(3 * C, 1))[0]).toBe(7)
    await builder.release()
  })

  test('a reference whose parts do not belong together is corrupt', async () => {
    const ref = await build(randomBytes(3 * C))
    for (const bad of [
      { ...ref, depth: 0 },
      { ...ref, depth: 2 },
      { ...ref, size: 0 },
      { ...ref, size: C },
      { ...ref, root: ref.root.subarray(1) },
    ]) {
      await expect(readRange(store, bad, 0, 10)).rejects.toMatchObject({ kind: 'corrupt' })
      expect(() => new ValueBuilder({ store, pins, base: bad })).toThrow(expect.objectContaining({ kind: 'corrupt' }))
    }
    expect([1, 2, 1024, 1025, 1024 ** 2, 1024 ** 2 + 1].map(depthFor)).toEqual([0, 1, 1, 2, 2, 3])
  })

  test('a data chunk longer than its place and a root that is no index are corrupt', async () => {
    const ref = await build(randomBytes(2 * C))
    await expect(readRange(store, { ...ref, size: C + 10 }, C, 10)).rejects.toMatchObject({ kind: 'corrupt' })
    const data = await store.put(randomBytes(500))
    await expect(readRange(store, { ...ref, root: Buffer.from(data, 'hex') }, 0, 10)).rejects.toMatchObject({ kind: 'corrupt' })
  })

  test('a damaged chunk fails the read that needs it and no other', async () => {
    await store.close()
    const bytes = randomBytes(4 * C)
    store = await openFileBlobs({ folder, cacheBytesMax: 0 })
    const ref = await build(bytes)
    const index = await store.get(hashAt(ref.root))
    const third = hashAt(index, 8 + 2 * 32)
    writeFileSync(join(folder, third.slice(0, 2), third), 'damage')
    await expect(readRange(store, ref, 0, 4 * C)).rejects.toMatchObject({
      kind: 'corrupt',
      message: expect.stringContaining(third) as string,
    })
    expect(same(await readRange(store, ref, 0, 2 * C), bytes.subarray(0, 2 * C))).toBe(true)
    expect(same(await readRange(store, ref, 3 * C + 5, 90), bytes.subarray(3 * C + 5, 3 * C + 95))).toBe(true)
  })

  test('a put that fails ends the builder with that error, and release frees its pins', async () => {
    const other = mkdtempSync(join(tmpdir(), 'nine-value-'))
    const own = new BlobPins()
    const closed = await openFileBlobs({ folder: other })
    const builder = new ValueBuilder({ store: closed, pins: own })
    await builder.append(randomBytes(2 * C))
    await closed.close()
    await builder.append(randomBytes(2 * C)).catch(() => undefined)
    await expect(builder.finish()).rejects.toMatchObject({ kind: 'unavailable' })
    await expect(builder.append(new Uint8Array(1))).rejects.toMatchObject({ kind: 'unavailable' })
    await builder.release()
    expect(own.size).toBe(0)
    rmSync(other, { recursive: true, force: true })
  })
})
