/** Who reads a large file in sequence finds the next chunks read; who does not is not charged for them. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { openEngine } from '../../storage/engine/engine.ts'

const owner = { name: 'owner', groups: [] }
const context = () => contextFor(owner, 20_000)
const path = parsePath('/large')
const chunks = 20
const bytes = randomBytes(chunks * limits.chunk_bytes)

let dir: string

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'nine-ahead-'))
  const engine = await openEngine({ dir, owner: owner.name })
  const store = await engine.createStore('data')
  const { handle } = await store.open(context(), path, { mode: 'shared', write: true, create: true })
  for (let at = 0; at < bytes.length; at += 2 ** 20) await store.writeHandle(context(), handle, bytes.subarray(at, at + 2 ** 20), at)
  await store.closeHandle(context(), handle)
  await engine.close()
})

afterEach(() => rmSync(dir, { recursive: true, force: true }))

/** Chunks that were read from disk for reads of 64 KiB at these offsets, the index among them, by an engine that has none in memory. */
async function chunksReadFor(offsets: readonly number[]): Promise<number> {
  const engine = await openEngine({ dir, owner: owner.name })
  try {
    const store = engine.store('data')
    const { handle } = await store.open(context(), path, { mode: 'shared', read: true })
    for (const at of offsets) {
      const found = await store.readHandle(context(), handle, at, 65_536)
      expect(Buffer.compare(found.bytes, bytes.subarray(at, at + 65_536))).toBe(0)
    }
  } finally {
    // Waits for what is being read.
    await engine.close()
  }
  return engine.blobs.stats().gets
}

it('a second read that goes on where the first ended has the next chunks read', async () => {
  expect(await chunksReadFor([0])).toBe(2)
  expect(await chunksReadFor([0, 65_536])).toBe(2 + limits.blob_ahead_chunks)
})

it('reads here and there have nothing read ahead', async () => {
  expect(await chunksReadFor([0, 10, 3, 17, 5].map((chunk) => chunk * limits.chunk_bytes))).toBe(6)
})

it('a file read to its end has each chunk read once', async () => {
  expect(await chunksReadFor(Array.from({ length: bytes.length / 65_536 }, (_, i) => i * 65_536))).toBe(1 + chunks)
})

it('a chunk that cannot be read ahead is told to who reads it, and to nobody else', async () => {
  const missing = createHash('sha256')
    .update(bytes.subarray(3 * limits.chunk_bytes, 4 * limits.chunk_bytes))
    .digest('hex')
  rmSync(join(dir, 'blobs', missing.slice(0, 2), missing))
  await chunksReadFor([0, 65_536, 2 * 65_536])
  await expect(chunksReadFor([3 * limits.chunk_bytes])).rejects.toMatchObject({ kind: 'corrupt' })
})
