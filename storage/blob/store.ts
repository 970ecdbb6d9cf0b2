/**
 * BlobStore: the port behind which chunks lie, each known by the SHA-256 of its bytes.
 *
 * Rules that hold for every implementation:
 * B1 `put` answers when the chunk is on stable storage, the entry that names it included; before that it may be missing.
 * B2 What `get` gives hashes to what was asked for. Damage is `corrupt`, and is never served.
 * B3 Nothing refers to a chunk that was not put, so a chunk that is missing is `corrupt` as well.
 * B4 A `put` that is called after `delete` of the same chunk leaves the chunk in place; a `delete` that is called while a
 *    `put` of the same chunk runs leaves it alone.
 */
import { createHash } from 'node:crypto'

declare const hashBrand: unique symbol
/** SHA-256 as 64 lower-case hexadecimal digits. */
export type ChunkHash = string & { readonly [hashBrand]: true }

export interface BlobStore {
  /**
   * Keep a chunk of 1 to limits.chunk_bytes bytes. They must not change until this settles. A chunk that is there already
   * is compared, not written again; one that is there but damaged is replaced.
   * @param hash of the bytes, where the caller has it already
   * @throws NineError `no_space`, `read_only`, `denied`, `unavailable` (closed, or its folder can no longer be synced), `invalid` (size)
   */
  put(bytes: Uint8Array, hash?: ChunkHash): Promise<ChunkHash>
  /** The chunk, read-only for the receiver. @throws NineError `corrupt` (damaged, cut short or missing) */
  get(hash: ChunkHash): Promise<Uint8Array>
  /** Whether there is a chunk under this hash; says nothing of its bytes. */
  has(hash: ChunkHash): Promise<boolean>
  /** As `has`; a chunk that is there is as young as if it had been put now. For chunks that a change yet to come counts on. */
  touch(hash: ChunkHash): Promise<boolean>
  /** Whether it was taken away. Only collection calls this, and only for what is neither reachable nor pinned. */
  delete(hash: ChunkHash): Promise<boolean>
  /** Every chunk that is there during the whole iteration, in no stated order; others may appear or not. */
  list(): AsyncIterable<ChunkInfo>
  stats(): BlobStats
  /** Waits for puts under way. */
  close(): Promise<void>
}

export interface ChunkInfo {
  readonly hash: ChunkHash
  /** Bytes stored. */
  readonly bytes: number
  /** Milliseconds since it was last put or touched, whether or not it was there already; of one that was not since the store was opened, since then. */
  readonly idle_ms: number
}

/** Counts since the store was opened. */
export interface BlobStats {
  readonly puts: number
  /** Of the puts, those that found their chunk in place. */
  readonly reused: number
  readonly bytesWritten: number
  /** Chunks read from storage; those answered from the cache are `cached`. */
  readonly gets: number
  readonly cached: number
  readonly cacheBytes: number
  readonly deletes: number
  /** Chunks that failed their check. */
  readonly corrupt: number
  /** Chunks that were missing or damaged here and came from another node. */
  readonly fetched: number
  /** Puts waiting or under way now. */
  readonly pending: number
}

export function hashChunk(bytes: Uint8Array): ChunkHash {
  return createHash('sha256').update(bytes).digest('hex') as ChunkHash
}

export const hash_bytes = 32

/** A hash of 32 bytes at `start`. */
export function hashAt(bytes: Uint8Array, start = 0): ChunkHash {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, hash_bytes).toString('hex') as ChunkHash
}

export function hashToBytes(hash: ChunkHash): Uint8Array {
  return Uint8Array.from(Buffer.from(hash, 'hex'))
}

export function isChunkHash(text: string): text is ChunkHash {
  return text.length === 2 * hash_bytes && /^[0-9a-f]+$/.test(text)
}
