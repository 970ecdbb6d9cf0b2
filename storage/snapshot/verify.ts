/** Reading a snapshot or backup without taking anything from it: whether it is whole, what it is of, which chunks it needs. */
import type { ChunkSource } from '../blob/chunk-tree.ts'
import { chunksOf } from '../blob/chunk-tree.ts'
import { hashAt, hashChunk, type ChunkHash } from '../blob/store.ts'
import type { BlobRef } from '../model.ts'
import { ByteReader } from '../tree/bytes.ts'
import { BlockReader, type Block, type SnapshotSource } from './block-reader.ts'
import { openSource } from './files.ts'
import { damagedSnapshot, hash_bytes, type SnapshotHeader } from './format.ts'
import { decodeBlobs } from './load.ts'

export interface VerifiedSnapshot {
  readonly header: SnapshotHeader
  readonly bytes: number
  /** SHA-256 that its last block holds, hexadecimal. */
  readonly hash: string
  /** Chunks of large values in it. */
  readonly chunks: number
}

export interface VerifyOptions {
  readonly signal?: AbortSignal | undefined
  /** Bytes read so far. */
  readonly progress?: ((bytes: number) => void) | undefined
}

/** Read all of it. @throws NineError `corrupt` (names the block), `unsupported` (newer format), `not_found`, `denied` */
export async function verifySnapshot(path: string, options: VerifyOptions = {}): Promise<VerifiedSnapshot> {
  const source = await openSource(path)
  try {
    return await verifySource(source, options)
  } finally {
    await source.close()
  }
}

/** As verifySnapshot, of anything that gives bytes. */
export async function verifySource(source: SnapshotSource, { signal, progress }: VerifyOptions = {}): Promise<VerifiedSnapshot> {
  const { path } = source
  const reader = new BlockReader(source)
  const header = await reader.begin()
  let chunks = 0
  const last = header.isBackup ? 'chunksEnd' : 'end'
  for (let isStateRead = false; ;) {
    const block = await reader.next()
    signal?.throwIfAborted()
    progress?.(reader.bytes)
    const isChunk = block.type === 'chunk' || block.type === 'chunksEnd'
    if (block.type === 'header' || isChunk !== isStateRead) throw damagedSnapshot(path, `block ${block.number} is out of place`)
    if (block.type === 'chunk') {
      chunkOf(block, path)
      chunks++
    }
    if (block.type === last) break
    if (block.type === 'end') isStateRead = true
  }
  await reader.finish()
  return { header, bytes: reader.bytes, hash: reader.digest!, chunks }
}

/** The chunk in a block, whose bytes hash to its name. @throws NineError `corrupt` */
export function chunkOf({ payload, number }: Block, path: string): { readonly hash: ChunkHash; readonly bytes: Buffer } {
  const bytes = payload.subarray(hash_bytes)
  const hash = payload.length > hash_bytes ? hashAt(payload) : undefined
  if (hash === undefined || hashChunk(bytes) !== hash) throw damagedSnapshot(path, `the chunk in block ${number} does not hash to its name`)
  return { hash, bytes }
}

/** Every large value that a snapshot names, some more than once. @throws NineError as verifySnapshot */
export async function* snapshotBlobs(path: string): AsyncIterable<BlobRef> {
  const source = await openSource(path)
  try {
    const reader = new BlockReader(source)
    await reader.begin()
    for (;;) {
      const block = await reader.next()
      if (block.type === 'end') return
      if (block.type === 'blobs') yield* decodeBlobs(new ByteReader(block.payload))
    }
  } finally {
    await source.close()
  }
}

/**
 * Every chunk that a snapshot's values need, index chunks before what they name, some more than once. Index chunks are read from `chunks`:
 * whoever receives a snapshot gives a source that fetches what it lacks.
 * @throws NineError as verifySnapshot; what `chunks` throws
 */
export async function* snapshotChunks(path: string, chunks: ChunkSource): AsyncIterable<ChunkHash> {
  for await (const ref of snapshotBlobs(path)) yield* chunksOf(chunks, ref)
}
