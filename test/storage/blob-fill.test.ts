/** Filling in the background: how much of it is under way at once, and what it says meanwhile. */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { NineError } from '../../namespace/errors.ts'
import { FetchingBlobs } from '../../storage/blob/fetching.ts'
import { openFileBlobs } from '../../storage/blob/files.ts'
import { BlobFill } from '../../storage/blob/fill.ts'
import { hashChunk, type ChunkHash } from '../../storage/blob/store.ts'
import type { BlobRef } from '../../storage/model.ts'

const chunks = Array.from({ length: 40 }, (_, i) => Buffer.from(`chunk ${i}`))
const refs: readonly BlobRef[] = chunks.map((chunk) => ({
  root: createHash('sha256').update(chunk).digest(),
  depth: 0,
  size: chunk.length,
}))

/** Other nodes, whose answers wait to be given. */
class Elsewhere {
  readonly here = new Set<ChunkHash>()
  readonly asked: { readonly hash: ChunkHash; readonly give: () => void; readonly refuse: () => void }[] = []

  async has(hash: ChunkHash): Promise<boolean> {
    return this.here.has(hash)
  }

  async bring(hash: ChunkHash): Promise<void> {
    await this.get(hash)
  }

  get(hash: ChunkHash): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const give = (): void => {
        this.here.add(hash)
        resolve(new Uint8Array(1))
      }
      const refuse = (): void => reject(new NineError({ kind: 'unavailable', op: 'test', message: 'nobody is there' }))
      this.asked.push({ hash, give, refuse })
    })
  }
}

it('fetches chunks of several values at once, a bounded number, and says what waits until all are there', async () => {
  const store = new Elsewhere()
  const fill = new BlobFill({ store, roots: () => refs })
  fill.scan()
  for (let given = 0; given < refs.length; given++) {
    while (store.asked.length <= given) await new Promise(setImmediate)
    if (given === 0) {
      while (store.asked.length < 4) await new Promise(setImmediate)
      expect(store.asked.length).toBeLessThanOrEqual(limits.blob_fill_chunks_max)
    }
    expect(fill.status.waiting > 0 || fill.status.isScanning).toBe(true)
    store.asked[given]!.give()
  }
  await fill.idle()
  expect(fill.status).toEqual({ waiting: 0, isScanning: false, filled: refs.length, failure: undefined })
  expect(new Set(store.asked.map(({ hash }) => hash)).size).toBe(refs.length)
  await fill.close()
})

it('is not done while the values cannot be listed', async () => {
  const store = new Elsewhere()
  let isDamaged = true
  const roots = (): BlobRef[] => {
    if (isDamaged) throw new NineError({ kind: 'corrupt', op: 'test', message: 'a row is damaged' })
    return [refs[0]!]
  }
  const fill = new BlobFill({ store, roots })
  fill.scan()
  await fill.idle()
  expect(fill.status).toMatchObject({ waiting: 0, isScanning: true, failure: { kind: 'corrupt' } })
  isDamaged = false
  fill.scan()
  while (store.asked.length < 1) await new Promise(setImmediate)
  store.asked[0]!.give()
  await fill.idle()
  expect(fill.status).toEqual({ waiting: 0, isScanning: false, filled: 1, failure: undefined })
  await fill.close()
})

it('has what failed waiting, and tries it again', async () => {
  const store = new Elsewhere()
  const fill = new BlobFill({ store, roots: () => [], limits: { blob_fill_again_ms: 5 } })
  for (const ref of refs.slice(0, 4)) fill.want(ref, undefined)
  while (store.asked.length < 4) await new Promise(setImmediate)
  store.asked[1]!.refuse()
  for (const at of [0, 2, 3]) store.asked[at]!.give()
  while (store.asked.length < 5) {
    expect(fill.status.waiting).toBeGreaterThan(0)
    await new Promise(setImmediate)
  }
  expect(store.asked[4]!.hash).toBe(store.asked[1]!.hash)
  store.asked[4]!.give()
  while (fill.status.waiting > 0) await new Promise(setImmediate)
  expect(fill.status.filled).toBe(4)
  await fill.close()
})

it('is done with what stands no more, though a node that may have it cannot be asked', async () => {
  const store = new Elsewhere()
  const standing = [refs[1]!]
  const fill = new BlobFill({ store, roots: () => standing, limits: { blob_fill_again_ms: 1, blob_fill_scan_ms: 1 } })
  fill.want(refs[0]!, undefined)
  fill.want(refs[1]!, undefined)
  const tried = new Map<ChunkHash, number>()
  while (fill.status.waiting > 0 || fill.status.isScanning) {
    for (const { hash, give, refuse } of store.asked.splice(0)) {
      const times = (tried.get(hash) ?? 0) + 1
      tried.set(hash, times)
      if (hash === hashChunk(chunks[1]!) && times > 12) give()
      else refuse()
    }
    await new Promise(setImmediate)
  }
  expect(fill.status).toMatchObject({ filled: 1, failure: undefined })
  expect(store.here).toEqual(new Set([hashChunk(chunks[1]!)]))
  await fill.close()
})

it('has what this node had no room for waiting, and keeps it when there is some', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'ninefold-fill-'))
  const files = await openFileBlobs({ folder })
  const put = files.put.bind(files)
  files.put = () => Promise.reject(new NineError({ kind: 'no_space', op: 'blob.put', message: 'the disk is full' }))
  const store = new FetchingBlobs(files, async (hash) => chunks.find((chunk) => hashChunk(chunk) === hash))
  const warnings: NineError[] = []
  const warn = (error: NineError): void => void warnings.push(error)
  const fill = new BlobFill({ store, roots: () => refs.slice(0, 2), warn, limits: { blob_fill_again_ms: 5 } })
  fill.scan()
  while (fill.status.failure === undefined) await new Promise(setImmediate)
  expect(fill.status).toMatchObject({ filled: 0, failure: { kind: 'no_space' } })
  expect(fill.status.waiting).toBeGreaterThan(0)
  expect(fill.trouble).toMatch(/large values are not on this node in full: the disk is full/)
  // Who reads has it all the same.
  expect(Buffer.from(await store.get(hashChunk(chunks[0]!)))).toEqual(chunks[0])
  files.put = put
  while (fill.status.waiting > 0 || fill.status.isScanning) await new Promise(setImmediate)
  expect(fill.status).toMatchObject({ filled: 2, failure: undefined })
  expect(fill.trouble).toBeUndefined()
  expect(warnings.map(({ kind }) => kind)).toEqual(['no_space'])
  for (const chunk of chunks.slice(0, 2)) expect(await files.has(hashChunk(chunk))).toBe(true)
  await fill.close()
  await store.close()
  await rm(folder, { recursive: true })
})
