import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { openFileBlobs } from '../../storage/blob/files.ts'
import { FolderSync } from '../../storage/blob/folder-sync.ts'
import { hashChunk, type BlobStore, type ChunkHash, type ChunkInfo } from '../../storage/blob/store.ts'

let folder: string
let store: BlobStore

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'nine-blob-'))
  store = await openFileBlobs({ folder })
})

afterEach(async () => {
  await store.close()
  rmSync(folder, { recursive: true, force: true })
})

const fileOf = (hash: ChunkHash, root = folder): string => join(root, hash.slice(0, 2), hash)

async function listed(of: BlobStore): Promise<ChunkInfo[]> {
  const chunks: ChunkInfo[] = []
  for await (const chunk of of.list()) chunks.push(chunk)
  return chunks
}

describe('chunks in a folder', () => {
  test('a touch answers for what is being put when that is durable, and not when it could not be put', async () => {
    const chunk = randomBytes(1000)
    const putting = store.put(chunk)
    let isPut = false
    void putting.then(() => (isPut = true))
    expect(await store.touch(hashChunk(chunk))).toBe(true)
    expect(isPut).toBe(true)
    rmSync(join(folder, 'tmp'), { recursive: true })
    const other = randomBytes(1000)
    const failing = expect(store.put(other)).rejects.toBeDefined()
    expect(await store.touch(hashChunk(other))).toBe(false)
    await failing
  })

  test('what is put is there, listed, and gone when deleted', async () => {
    const chunks = [randomBytes(1), randomBytes(1000), randomBytes(limits.chunk_bytes)]
    const hashes = await Promise.all(chunks.map((chunk) => store.put(chunk)))
    for (const [i, chunk] of chunks.entries()) {
      expect(hashes[i]).toBe(hashChunk(chunk))
      expect(Buffer.compare(await store.get(hashes[i]!), chunk)).toBe(0)
      expect(await store.has(hashes[i]!)).toBe(true)
    }
    expect((await listed(store)).map((chunk) => [chunk.hash, chunk.bytes]).sort()).toEqual(
      hashes.map((hash, i) => [hash, chunks[i]!.length]).sort(),
    )
    expect(await store.delete(hashes[1]!)).toBe(true)
    expect(await store.delete(hashes[1]!)).toBe(false)
    expect(await store.has(hashes[1]!)).toBe(false)
    await expect(store.get(hashes[1]!)).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining(hashes[1]!) as string })
    expect(readdirSync(join(folder, 'tmp'))).toEqual([])
  })

  test('a chunk that is there is not written again, and its time becomes now', async () => {
    const chunk = randomBytes(5000)
    const hash = await store.put(chunk)
    const before = statSync(fileOf(hash)).ino
    utimesSync(fileOf(hash), 1000, 1000)
    await Promise.all([store.put(chunk), store.put(chunk)])
    expect(statSync(fileOf(hash)).ino).toBe(before)
    expect(statSync(fileOf(hash)).mtimeMs).toBeGreaterThan(1e12)
    expect(store.stats()).toMatchObject({ puts: 2, reused: 1, bytesWritten: 5000, pending: 0 })
  })

  test('sizes that no chunk has are invalid', async () => {
    await expect(store.put(new Uint8Array(0))).rejects.toMatchObject({ kind: 'invalid' })
    await expect(store.put(new Uint8Array(limits.chunk_bytes + 1))).rejects.toMatchObject({ kind: 'invalid' })
  })

  test.each<[string, (file: string) => void]>([
    ['a flipped bit', (file) => writeFileSync(file, flipped(readFileSync(file)))],
    ['a file cut short', (file) => truncateSync(file, 4000)],
    ['an empty file', (file) => truncateSync(file, 0)],
    ['a file grown over a chunk', (file) => truncateSync(file, limits.chunk_bytes * 8)],
    ['a missing file', (file) => rmSync(file)],
  ])('%s is corrupt, never served, and a later put heals it', async (_name, damage) => {
    const chunk = randomBytes(5000)
    const hash = await store.put(chunk)
    damage(fileOf(hash))
    await expect(store.get(hash)).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining(hash) as string })
    expect(store.stats().corrupt).toBe(1)
    await store.put(chunk)
    expect(Buffer.compare(await store.get(hash), chunk)).toBe(0)
  })

  test('a put called after a delete leaves the chunk in place; a delete during a put does nothing', async () => {
    const chunk = randomBytes(5000)
    const hash = await store.put(chunk)
    const results = await Promise.all([store.delete(hash), store.put(chunk), store.delete(hash)])
    // The third joins the delete that is under way or meets the put: either way the put came later than the removal.
    expect(results[0]).toBe(true)
    expect(await store.has(hash)).toBe(true)
    const again = await Promise.all([store.put(chunk), store.delete(hash)])
    expect(again[1]).toBe(false)
    expect(await store.has(hash)).toBe(true)
  })

  test('the cache holds no more than its bound', async () => {
    await store.close()
    store = await openFileBlobs({ folder, cacheBytesMax: 10_000 })
    const hashes = await Promise.all(Array.from({ length: 20 }, () => store.put(randomBytes(3000))))
    for (const hash of hashes) await store.get(hash)
    expect(store.stats()).toMatchObject({ gets: 20, cached: 0, cacheBytes: 9000 })
    await store.get(hashes[19]!)
    await store.get(hashes[0]!)
    expect(store.stats()).toMatchObject({ gets: 21, cached: 1 })
  })

  test('after close puts are unavailable', async () => {
    await store.close()
    await expect(store.put(randomBytes(10))).rejects.toMatchObject({ kind: 'unavailable' })
  })

  test('a folder that is no folder', async () => {
    writeFileSync(join(folder, 'plain'), '')
    await expect(openFileBlobs({ folder: join(folder, 'plain') })).rejects.toMatchObject({ name: 'NineError', op: 'blob.open' })
  })
})

describe('folder syncs', () => {
  test('a failed sync unsettles the folder and reaches its callers only', async () => {
    const sync = new FolderSync()
    const missing = join(folder, 'missing')
    const results = await Promise.allSettled([sync.sync(folder), sync.sync(missing), sync.sync(missing)])
    expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'rejected'])
    expect([sync.settled(folder), sync.settled(missing)]).toEqual([true, false])
    await sync.close()
  })
})

describe('a full disk', () => {
  const root = process.getuid?.() === 0
  test.skipIf(!root)(
    'is no_space, leaves whole chunks only, and is over when there is room (needs root to mount a small tmpfs)',
    async () => {
      const small = mkdtempSync(join(tmpdir(), 'nine-full-'))
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', small])
      try {
        const full = await openFileBlobs({ folder: join(small, 'blobs') })
        const chunks = Array.from({ length: 24 }, () => randomBytes(limits.chunk_bytes))
        const results = await Promise.allSettled(chunks.map((chunk) => full.put(chunk)))
        const failures = results.filter((result) => result.status === 'rejected')
        expect(failures.length).toBeGreaterThan(0)
        for (const failure of failures) expect(failure.reason).toMatchObject({ kind: 'no_space', outcome: 'none' })
        expect(readdirSync(join(small, 'blobs', 'tmp'))).toEqual([])
        const kept = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
        expect((await listed(full)).map((chunk) => chunk.hash).sort()).toEqual([...kept].sort())
        for (const hash of kept) expect(hashChunk(await full.get(hash))).toBe(hash)
        for (const hash of kept.slice(0, 4)) await full.delete(hash)
        await full.put(randomBytes(limits.chunk_bytes))
        await full.close()
      } finally {
        execFileSync('umount', ['-l', small]) // lazily: a failed test leaves files open
        rmSync(small, { recursive: true })
      }
    },
  )
})

describe('kill -9 in the middle of puts', () => {
  test('every answered put is there, every chunk is whole, and the next open removes what was half written', async () => {
    for (let round = 0; round < 3; round++) {
      const target = join(folder, `crash${round}`)
      const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'blob-crash-child.ts'), target], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let output = ''
      child.stdout.setEncoding('utf8')
      for await (const text of child.stdout) {
        output += String(text)
        if (output.length > 65 * 40 * (round + 1)) break
      }
      child.kill('SIGKILL')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
      const answered = output.split('\n').slice(0, -1) as ChunkHash[]
      expect(answered.length).toBeGreaterThan(20)
      writeFileSync(join(target, 'tmp', 'torn'), 'half a chunk')
      const reopened = await openFileBlobs({ folder: target })
      expect(readdirSync(join(target, 'tmp'))).toEqual([])
      const there = new Set((await listed(reopened)).map((chunk) => chunk.hash))
      for (const hash of answered) expect(there.has(hash)).toBe(true)
      for (const hash of there) expect(hashChunk(await reopened.get(hash))).toBe(hash)
      await reopened.close()
    }
  })
})

function flipped(bytes: Buffer): Buffer {
  bytes[bytes.length >> 1]! ^= 0x10
  return bytes
}
