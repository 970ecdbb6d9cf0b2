/**
 * The tree of a large value's chunks, and reading it.
 *
 * A value is cut into chunks of limits.chunk_bytes. Index chunks of level 1 hold the hashes of data chunks, those of
 * level n the hashes of index chunks of level n-1, limits.blob_index_hashes_max each. Same bytes, same tree:
 *
 * T1 The depth follows from the size alone: the least that has room for all chunks.
 * T2 A data chunk is stored without its trailing zeros, an index chunk without its trailing zero hashes.
 * T3 What would then be empty is not stored: its hash is the zero hash. It stands for zeros, at every level.
 * T4 Bytes tell not what they are: a data chunk may equal an index chunk, as anyone may write one. Only the level at
 *    which a chunk was reached decides how it is read.
 *
 * An index chunk: 'N9IX', level (1 byte), 0, count of hashes (2 bytes, little endian), then the hashes of 32 bytes.
 */
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { BlobRef } from '../model.ts'
import { hash_bytes, hashAt, type BlobStore, type ChunkHash } from './store.ts'

/** Stands for zeros. T3 */
export const zeroHash = '0'.repeat(2 * hash_bytes) as ChunkHash

/** What reading a tree needs of a store. */
export type ChunkSource = Pick<BlobStore, 'get'>

/**
 * Bytes of a value from `offset`: fewer than `length` where it ends. Memory is the answer and a few chunks.
 * @throws NineError `corrupt`
 */
export async function readRange(source: ChunkSource, ref: BlobRef, offset: number, length: number): Promise<Uint8Array> {
  checkRef(ref)
  const end = Math.min(offset + length, ref.size)
  if (offset >= end) return new Uint8Array(0)
  const first = Math.floor(offset / limits.chunk_bytes)
  const last = Math.floor((end - 1) / limits.chunk_bytes)
  const hashes: ChunkHash[] = []
  await leavesBetween(source, { hash: hashAt(ref.root), level: ref.depth, start: 0 }, first, last, hashes)
  if (first === last) {
    const chunk = await readLeaf(source, hashes[0] ?? zeroHash, ref.size, first)
    const start = offset - first * limits.chunk_bytes
    if (chunk.length >= start + end - offset) return chunk.subarray(start, start + end - offset)
  }
  const bytes = new Uint8Array(end - offset)
  for (let i = 0; i < hashes.length; i += chunks_at_once) {
    const reads = hashes.slice(i, i + chunks_at_once).map(async (hash, k) => {
      const index = first + i + k
      copyInto(bytes, offset, await readLeaf(source, hash, ref.size, index), index * limits.chunk_bytes)
    })
    await settleAll(reads)
  }
  return bytes
}

/** Have the data chunks first..last read, for who will want them; what fails is told to them. Settles when nothing is under way. */
export async function readAhead(source: ChunkSource, ref: BlobRef, first: number, last: number): Promise<void> {
  const hashes: ChunkHash[] = []
  const chunks = Math.min(last, chunkCount(ref.size) - 1)
  try {
    if (first <= chunks) await leavesBetween(source, { hash: hashAt(ref.root), level: ref.depth, start: 0 }, first, chunks, hashes)
  } catch {
    return
  }
  await Promise.allSettled(hashes.filter((hash) => hash !== zeroHash).map((hash) => source.get(hash)))
}

/** Every chunk of a value that is stored, index chunks before what they name; one that stands twice comes twice. */
export async function* chunksOf(source: ChunkSource, ref: BlobRef): AsyncIterable<ChunkHash> {
  checkRef(ref)
  yield* chunksBelow(source, hashAt(ref.root), ref.depth)
}

/** A chunk, and the level at which it was reached. */
export interface Reached {
  readonly hash: ChunkHash
  /** 0: a data chunk. */
  readonly level: number
}

/**
 * Chunks of a value that are stored and that `base` does not have at the same place, index chunks before what they name. What lies below
 * an index chunk that `isKnown` is passed over with it.
 */
export async function* chunksBeyond(
  source: ChunkSource,
  ref: BlobRef,
  base: BlobRef | undefined,
  isKnown: (chunk: Reached) => boolean = () => false,
): AsyncIterable<Reached> {
  checkRef(ref)
  let under: Reached | undefined = base === undefined ? undefined : { hash: hashAt(base.root), level: base.depth }
  while (under !== undefined && under.level > ref.depth) under = childOf(under, await indexOf(source, under), 0)
  yield* beyond(source, { hash: hashAt(ref.root), level: ref.depth }, under, isKnown)
}

/** Levels of index chunks over so many data chunks. T1 */
export function depthFor(chunks: number): number {
  let depth = 0
  for (let room = 1; room < chunks; room *= limits.blob_index_hashes_max) depth++
  return depth
}

export function chunkCount(size: number): number {
  return Math.ceil(size / limits.chunk_bytes)
}

/** Data chunks below one hash of an index chunk of this level. */
export function chunksPerHash(level: number): number {
  return limits.blob_index_hashes_max ** (level - 1)
}

/** A reference whose parts cannot belong together is `corrupt`. */
export function checkRef(ref: BlobRef): void {
  if (ref.root.length === hash_bytes && Number.isSafeInteger(ref.size) && ref.size > 0 && ref.depth === depthFor(chunkCount(ref.size)))
    return
  throw damagedTree(`a value of ${ref.size} bytes cannot have ${ref.depth} levels below a root of ${ref.root.length} bytes`)
}

/** One data chunk of a value of `size` bytes: without trailing zeros, empty for a hole. */
export async function readLeaf(source: ChunkSource, hash: ChunkHash, size: number, index: number): Promise<Uint8Array> {
  if (hash === zeroHash) return nothing
  const chunk = await source.get(hash)
  const room = Math.min(limits.chunk_bytes, size - index * limits.chunk_bytes)
  if (chunk.length > room) throw damagedTree(`chunk ${hash} has ${chunk.length} bytes where ${room} fit`)
  return chunk
}

/** An index chunk over `hashes` (32 bytes each); undefined when all of them are zero. T2, T3 */
export function encodeIndex(level: number, hashes: Uint8Array): Uint8Array | undefined {
  const count = Math.ceil(lengthWithoutZeros(hashes, hashes.length) / hash_bytes)
  if (count === 0) return undefined
  const bytes = new Uint8Array(header_bytes + count * hash_bytes)
  bytes.set(magic)
  bytes[4] = level
  new DataView(bytes.buffer).setUint16(6, count, true)
  bytes.set(hashes.subarray(0, count * hash_bytes), header_bytes)
  return bytes
}

/** The hashes of the index chunk `hash`, reached at `level`. @throws NineError `corrupt` when it is none of that level */
export function decodeIndex(bytes: Uint8Array, level: number, hash: ChunkHash): Uint8Array {
  const count = bytes.length < header_bytes ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint16(6, true)
  const whole = count > 0 && count <= limits.blob_index_hashes_max && bytes.length === header_bytes + count * hash_bytes
  if (!whole || bytes[4] !== level || magic.some((byte, i) => bytes[i] !== byte)) {
    throw damagedTree(`chunk ${hash} is no index chunk of level ${level}`)
  }
  return bytes.subarray(header_bytes)
}

/** Hash number `slot` of an index chunk's hashes; zero past its end. T2 */
export function slotHash(hashes: Uint8Array, slot: number): ChunkHash {
  return (slot + 1) * hash_bytes > hashes.length ? zeroHash : hashAt(hashes, slot * hash_bytes)
}

/** Length of the first `length` bytes without trailing zeros. */
export function lengthWithoutZeros(bytes: Uint8Array, length: number): number {
  let end = length
  while (end >= zeros.length && Buffer.compare(bytes.subarray(end - zeros.length, end), zeros) === 0) end -= zeros.length
  while (end > 0 && bytes[end - 1] === 0) end--
  return end
}

/** Copy `chunk`, which stands at `at` in the value, into a buffer that begins at `from` in the value. */
export function copyInto(buffer: Uint8Array, from: number, chunk: Uint8Array, at: number): void {
  const skip = Math.max(0, from - at)
  const count = Math.min(chunk.length - skip, from + buffer.length - (at + skip))
  if (count > 0) buffer.set(chunk.subarray(skip, skip + count), at + skip - from)
}

const header_bytes = 8
const magic = new Uint8Array([0x4e, 0x39, 0x49, 0x58])
const zeros = new Uint8Array(4096)
const nothing = new Uint8Array(0)
const chunks_at_once = 8

/** A node of the tree and the index of the first data chunk below it. */
interface Place {
  readonly hash: ChunkHash
  readonly level: number
  readonly start: number
}

/** Append to `out` the hashes of the data chunks first..last that lie below `node`. */
async function leavesBetween(source: ChunkSource, node: Place, first: number, last: number, out: ChunkHash[]): Promise<void> {
  if (node.level === 0) {
    out.push(node.hash)
    return
  }
  const span = chunksPerHash(node.level)
  const hashes = node.hash === zeroHash ? nothing : decodeIndex(await source.get(node.hash), node.level, node.hash)
  const lastSlot = Math.min(limits.blob_index_hashes_max - 1, Math.floor((last - node.start) / span))
  for (let slot = Math.max(0, Math.floor((first - node.start) / span)); slot <= lastSlot; slot++) {
    const hash = slotHash(hashes, slot)
    const start = node.start + slot * span
    if (node.level === 1) out.push(hash)
    else await leavesBetween(source, { hash, level: node.level - 1, start }, first, last, out)
  }
}

async function* chunksBelow(source: ChunkSource, hash: ChunkHash, level: number): AsyncIterable<ChunkHash> {
  if (hash === zeroHash) return
  yield hash
  if (level === 0) return
  const hashes = decodeIndex(await source.get(hash), level, hash)
  for (let slot = 0; slot * hash_bytes < hashes.length; slot++) {
    const child = slotHash(hashes, slot)
    if (level > 1) yield* chunksBelow(source, child, level - 1)
    else if (child !== zeroHash) yield child
  }
}

/** `base` stands at the same place of another tree, or below its first child where that tree is less deep. */
async function* beyond(
  source: ChunkSource,
  chunk: Reached,
  base: Reached | undefined,
  isKnown: (chunk: Reached) => boolean,
): AsyncIterable<Reached> {
  const { hash, level } = chunk
  if (hash === zeroHash || (base?.level === level && base.hash === hash) || isKnown(chunk)) return
  yield chunk
  if (level === 0) return
  const hashes = decodeIndex(await source.get(hash), level, hash)
  const baseIndex = base?.level === level ? await indexOf(source, base) : undefined
  for (let slot = 0; slot * hash_bytes < hashes.length; slot++) {
    const below = base?.level === level ? childOf(base, baseIndex, slot) : slot === 0 ? base : undefined
    yield* beyond(source, { hash: slotHash(hashes, slot), level: level - 1 }, below, isKnown)
  }
}

/** Hashes of an index chunk to compare with; what cannot be read is compared with nothing. */
async function indexOf(source: ChunkSource, { hash, level }: Reached): Promise<Uint8Array | undefined> {
  if (hash === zeroHash) return undefined
  try {
    return decodeIndex(await source.get(hash), level, hash)
  } catch {
    return undefined
  }
}

function childOf(parent: Reached, index: Uint8Array | undefined, slot: number): Reached | undefined {
  return index === undefined ? undefined : { hash: slotHash(index, slot), level: parent.level - 1 }
}

/** Wait for all, then fail with the first failure: nothing goes on behind the caller's back. */
async function settleAll(work: Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(work)
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

function damagedTree(message: string): NineError {
  return new NineError({ kind: 'corrupt', op: 'blob.read', message })
}
