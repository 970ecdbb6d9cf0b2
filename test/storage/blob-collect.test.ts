import fc from 'fast-check'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { chunksOf, encodeIndex, readRange } from '../../storage/blob/chunk-tree.ts'
import { collect, type Collected, type CollectOptions } from '../../storage/blob/collect.ts'
import { openFileBlobs } from '../../storage/blob/files.ts'
import { MarkSet } from '../../storage/blob/mark-set.ts'
import { BlobPins } from '../../storage/blob/pins.ts'
import { hashChunk, hashToBytes, type BlobStore, type ChunkHash, type ChunkInfo } from '../../storage/blob/store.ts'
import { isInline, ValueBuilder } from '../../storage/blob/value-builder.ts'
import type { BlobRef } from '../../storage/model.ts'

const C = limits.chunk_bytes

let folder: string
let store: BlobStore
let pins: BlobPins

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'nine-collect-'))
  store = await openFileBlobs({ folder })
  pins = new BlobPins()
})

afterEach(async () => {
  await store.close()
  rmSync(folder, { recursive: true, force: true })
})

function run(roots: CollectOptions['roots'], options: Partial<CollectOptions> = {}): Promise<Collected> {
  return collect({ store, pins, roots, olderThanMs: 0, ...options })
}

async function finished(builder: ValueBuilder): Promise<BlobRef> {
  const value = await builder.finish()
  if (isInline(value)) throw new Error('expected chunks')
  return value
}

async function build(bytes: Uint8Array, base?: BlobRef): Promise<BlobRef> {
  const builder = new ValueBuilder({ store, pins, base })
  await builder.write(0, bytes)
  const ref = await finished(builder)
  await builder.release()
  return ref
}

async function stored(): Promise<Set<ChunkHash>> {
  const hashes = new Set<ChunkHash>()
  for await (const { hash } of store.list()) hashes.add(hash)
  return hashes
}

async function reachable(...refs: BlobRef[]): Promise<Set<ChunkHash>> {
  const hashes = new Set<ChunkHash>()
  for (const ref of refs) for await (const hash of chunksOf(store, ref)) hashes.add(hash)
  return hashes
}

describe('collection', () => {
  test('keeps exactly what is reachable, over random sets of values that share chunks', async () => {
    const value = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(fc.array(fc.record({ parts: value, alive: fc.boolean() }), { minLength: 1, maxLength: 6 }), async (values) => {
        const refs: BlobRef[] = []
        for (const { parts } of values) {
          refs.push(await build(Buffer.concat([...parts.map((part) => Buffer.alloc(C, part)), Buffer.alloc(limits.inline_bytes_max, 7)])))
        }
        const alive = refs.filter((_, i) => values[i]!.alive)
        const before = (await stored()).size
        const needed = await reachable(...alive)
        const report = await run(alive)
        expect(await stored()).toEqual(needed)
        expect(report).toMatchObject({ kept: needed.size, deleted: before - needed.size, more: false })
        await run([])
        expect((await stored()).size).toBe(0)
      }),
      { numRuns: 40 },
    )
  }, 60_000)

  test('young chunks and pinned chunks are left alone', async () => {
    const ref = await build(randomBytes(2 * C))
    expect(await run([], { olderThanMs: 60_000 })).toMatchObject({ kept: 3, deleted: 0 })
    const hold = pins.holdTree(ref)
    expect(await run([])).toMatchObject({ kept: 3, deleted: 0 })
    hold.release()
    expect(await run([])).toEqual({ kept: 0, deleted: 3, bytes: 2 * C + 8 + 64, more: false })
  })

  test('deletesMax bounds one run', async () => {
    await build(randomBytes(5 * C))
    expect(await run([], { deletesMax: 2 })).toMatchObject({ deleted: 2, more: true })
    expect(await run([])).toMatchObject({ deleted: 4, more: false })
  })

  test('damage in an index chunk ends it before anything is deleted', async () => {
    const ref = await build(randomBytes(2 * C))
    await build(randomBytes(2 * C))
    const root = Buffer.from(ref.root).toString('hex')
    rmSync(join(folder, root.slice(0, 2), root))
    await store.close()
    store = await openFileBlobs({ folder })
    await expect(run([ref])).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining(root) as string })
    expect((await stored()).size).toBe(5)
  })

  test('a file whose bytes equal an index chunk does not hide what that names', async () => {
    // Enough children that the index chunk itself is over what stays inline when put into a file of its own, as a chunk.
    const victim = await build(randomBytes(3 * C))
    const index = await store.get(Buffer.from(victim.root).toString('hex') as ChunkHash)
    const builder = new ValueBuilder({ store, pins })
    await builder.write(0, index)
    await builder.truncate(limits.inline_bytes_max + 1)
    const forged = await finished(builder)
    await builder.release()
    expect(Buffer.compare(forged.root, victim.root)).toBe(0)
    const needed = await reachable(victim)
    await run([forged, victim])
    expect(await stored()).toEqual(needed)
    await run([victim, forged])
    expect(await stored()).toEqual(needed)
  })
})

/** The store, with something done each time before the sweep sees a chunk, and once before it begins. */
function interleaved(before: (chunk: ChunkInfo | undefined) => Promise<void>): BlobStore {
  return {
    put: (bytes, hash) => store.put(bytes, hash),
    get: (hash) => store.get(hash),
    has: (hash) => store.has(hash),
    touch: (hash) => store.touch(hash),
    delete: (hash) => store.delete(hash),
    stats: () => store.stats(),
    close: () => store.close(),
    async *list() {
      await before(undefined)
      for await (const chunk of store.list()) {
        await before(chunk)
        yield chunk
      }
    },
  }
}

describe('while values are written', () => {
  test('a value committed and unpinned between mark and sweep survives, its reused chunks too', async () => {
    const bytes = randomBytes(4 * C)
    await build(bytes) // garbage that is put again below
    let added: BlobRef | undefined
    const racing = interleaved(async (chunk) => {
      if (chunk !== undefined) return
      const builder = new ValueBuilder({ store, pins })
      await builder.write(0, bytes)
      await builder.append(randomBytes(C))
      added = await finished(builder)
      builder.committed(added)
      await builder.release() // the change that names it is durable: pins end, but not for this collection
    })
    await run([], { store: racing })
    expect(await stored()).toEqual(await reachable(added!))
    expect(pins.size).toBe(0)
    expect(await run([added!])).toMatchObject({ deleted: 0 })
  })

  test('a value built on a base that was removed while roots were read survives', async () => {
    const base = await build(randomBytes(6 * C))
    let added: BlobRef | undefined
    async function* roots(): AsyncIterable<BlobRef> {
      // The writer pins its base while it is referenced; then the base is removed, so the roots do not show it, nor yet the new value.
      const builder = new ValueBuilder({ store, pins, base })
      await builder.write(2 * C, new Uint8Array([1, 2, 3]))
      yield* []
      writer = builder
    }
    let writer: ValueBuilder | undefined
    const racing = interleaved(async (chunk) => {
      if (chunk !== undefined || writer === undefined) return
      added = await finished(writer)
      await writer.release()
    })
    await run(roots(), { store: racing })
    const needed = await reachable(added!)
    const there = await stored()
    for (const hash of needed) expect(there.has(hash)).toBe(true)
    expect((await readRange(store, added!, 2 * C, 3)).join()).toBe('1,2,3')
  })

  test('a put of a chunk at the very moment it is swept leaves the chunk in place', async () => {
    const bytes = Array.from({ length: 30 }, () => randomBytes(1000))
    for (const chunk of bytes) await store.put(chunk)
    const again: Promise<ChunkHash>[] = []
    const hold = pins.hold()
    const racing: BlobStore = {
      ...interleaved(() => Promise.resolve()),
      delete: (hash) => {
        const deletion = store.delete(hash)
        const chunk = bytes.find((candidate) => hashChunk(candidate) === hash)!
        hold.chunk(hash)
        again.push(store.put(chunk))
        return deletion
      },
    }
    expect(await run([], { store: racing })).toMatchObject({ deleted: 30 })
    await Promise.all(again)
    expect((await stored()).size).toBe(30)
    hold.release()
  })

  test('writers, overwrites and collections at random times: every committed value stays readable', async () => {
    const files = new Map<number, { readonly ref: BlobRef; readonly bytes: Uint8Array }>()
    let writing = true
    let deleted = 0
    let seed = 12345
    const random = (below: number): number => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31
      return Math.floor((seed / 2 ** 31) * below)
    }
    const writer = async (id: number): Promise<void> => {
      for (let round = 0; round < 12 || (deleted < 10 && round < 500); round++) {
        const from = files.get(random(4))
        const builder = new ValueBuilder({ store, pins, base: from?.ref, stagedBytesMax: C })
        const bytes = new Uint8Array(Math.max(from?.bytes.length ?? 0, 3 * C))
        if (from !== undefined) bytes.set(from.bytes)
        const part = new Uint8Array(C / 2).fill(random(5)) // few patterns: much is shared and put again
        const at = random(5) * (C / 2)
        bytes.set(part, at)
        await builder.write(at, part)
        await builder.truncate(bytes.length)
        const ref = await finished(builder)
        files.set(id, { ref, bytes })
        await builder.release()
      }
    }
    const collector = async (): Promise<void> => {
      while (writing) deleted += (await run([...files.values()].map((file) => file.ref))).deleted
    }
    const collecting = collector()
    await Promise.all([0, 1, 2, 3].map(writer))
    writing = false
    await collecting
    expect(deleted).toBeGreaterThanOrEqual(10)
    await run([...files.values()].map((file) => file.ref))
    await store.close()
    store = await openFileBlobs({ folder })
    for (const { ref, bytes } of files.values()) {
      expect(Buffer.compare(await readRange(store, ref, 0, ref.size), bytes)).toBe(0)
    }
    expect(await stored()).toEqual(await reachable(...[...files.values()].map((file) => file.ref)))
  })
})

test('MarkSet finds what was added and nothing else', () => {
  const set = new MarkSet()
  const inside = Array.from({ length: 20_000 }, () => hashChunk(randomBytes(8)))
  for (const hash of inside) expect(set.add(hash)).toBe(true)
  for (const hash of inside) if (set.add(hash) || !set.has(hash)) throw new Error(`${hash} is lost`)
  for (let i = 0; i < 20_000; i++) if (set.has(hashChunk(randomBytes(9)))) throw new Error('found what was not added')
  expect(set.size).toBe(20_000)
})

test('encodeIndex leaves out trailing zero hashes, and everything when all are zero', () => {
  const hashes = new Uint8Array(1024 * 32)
  expect(encodeIndex(1, hashes)).toBeUndefined()
  hashes.set(hashToBytes(hashChunk(randomBytes(3))), 5 * 32)
  expect(encodeIndex(1, hashes)?.length).toBe(8 + 6 * 32)
})
