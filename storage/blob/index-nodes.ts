/**
 * The index of a value while it is being changed: which chunk stands at each place.
 *
 * X1 Only changed index chunks are in memory. One that is overrides what the index chunk above it says.
 * X2 At most limits.blob_value_index_max of them (and the path above the one at hand); past it, one of the lowest level
 *    that was unused longest is put and its hash goes into the one above.
 */
import { limits } from '../../namespace/limits.ts'
import { chunksPerHash, decodeIndex, depthFor, encodeIndex, slotHash, zeroHash } from './chunk-tree.ts'
import { hash_bytes, hashToBytes, type ChunkHash } from './store.ts'

/** Where index chunks come from and go to. `put` need not be durable when it answers. */
export interface IndexChunks {
  get(hash: ChunkHash): Promise<Uint8Array>
  put(bytes: Uint8Array): Promise<ChunkHash>
}

export class IndexNodes {
  readonly #chunks: IndexChunks
  /** By key; within a level the one unused longest is first. */
  readonly #nodes = new Map<number, IndexNode>()
  #root: ChunkHash
  #depth: number

  constructor(chunks: IndexChunks, root: ChunkHash, depth: number) {
    this.#chunks = chunks
    this.#root = root
    this.#depth = depth
  }

  /** Hash of data chunk `chunk`; zero for a hole and past the end. */
  leaf(chunk: number): Promise<ChunkHash> {
    return this.#hashOf(0, chunk)
  }

  async setLeaf(chunk: number, hash: ChunkHash): Promise<void> {
    this.#grow(depthFor(chunk + 1))
    await this.#setHash(0, chunk, hash)
    await this.#shed(limits.blob_value_index_max)
  }

  /** Forget all data chunks from number `chunks` on. */
  async truncate(chunks: number): Promise<void> {
    if (chunks === 0) {
      this.#nodes.clear()
      this.#root = zeroHash
      this.#depth = 0
      return
    }
    for (const [key, node] of this.#nodes) {
      if (node.index * chunksPerHash(node.level + 1) >= chunks) this.#nodes.delete(key)
    }
    for (let level = this.#depth; level >= 1; level--) {
      const index = Math.floor((chunks - 1) / chunksPerHash(level + 1))
      const kept = Math.ceil(chunks / chunksPerHash(level)) - index * limits.blob_index_hashes_max
      await this.#cut(level, index, kept)
    }
    await this.#shrink(depthFor(chunks))
    await this.#shed(limits.blob_value_index_max)
  }

  /** Put every changed index chunk. Gives the root of a tree over so many data chunks. */
  async flush(chunks: number): Promise<{ readonly root: ChunkHash; readonly depth: number }> {
    this.#grow(depthFor(chunks))
    await this.#shed(0)
    return { root: this.#root, depth: this.#depth }
  }

  async #hashOf(level: number, index: number): Promise<ChunkHash> {
    // From the lowest index chunk in memory above the place, down through stored ones. X1
    let at = level + 1
    let node: IndexNode | undefined
    for (; at <= this.#depth; at++) {
      node = this.#nodes.get(keyOf(at, this.#above(level, index, at)))
      if (node !== undefined) break
    }
    if (node === undefined && (index >= limits.blob_index_hashes_max ** (this.#depth - level) || level > this.#depth)) return zeroHash
    let hash = node === undefined ? this.#root : slotHash(node.hashes, this.#slot(level, index, at))
    for (let below = at - 1; below > level && hash !== zeroHash; below--) {
      const hashes = decodeIndex(await this.#chunks.get(hash), below, hash)
      hash = slotHash(hashes, this.#slot(level, index, below))
    }
    return hash
  }

  async #setHash(level: number, index: number, hash: ChunkHash): Promise<void> {
    if (level === this.#depth) {
      this.#root = hash
      return
    }
    const node = await this.#open(level + 1, Math.floor(index / limits.blob_index_hashes_max))
    node.hashes.set(hashToBytes(hash), (index % limits.blob_index_hashes_max) * hash_bytes)
  }

  /** The index chunk at a place, in memory to be changed. */
  async #open(level: number, index: number): Promise<IndexNode> {
    const key = keyOf(level, index)
    let node = this.#nodes.get(key)
    if (node === undefined) {
      const hashes = new Uint8Array(limits.blob_index_hashes_max * hash_bytes)
      const hash = await this.#hashOf(level, index)
      if (hash !== zeroHash) hashes.set(decodeIndex(await this.#chunks.get(hash), level, hash))
      node = { level, index, hashes }
    } else {
      this.#nodes.delete(key)
    }
    this.#nodes.set(key, node)
    return node
  }

  /** Put index chunks, lowest level first, until at most `max` are in memory. X2 */
  async #shed(max: number): Promise<void> {
    for (let level = 1; this.#nodes.size > max && level <= this.#depth; level++) {
      for (const [key, node] of this.#nodes) {
        if (this.#nodes.size <= max) break
        if (node.level !== level) continue
        const bytes = encodeIndex(level, node.hashes)
        const hash = bytes === undefined ? zeroHash : await this.#chunks.put(bytes)
        await this.#setHash(level, node.index, hash)
        this.#nodes.delete(key)
      }
    }
  }

  #grow(depth: number): void {
    while (this.#depth < depth) {
      // The old root becomes the first hash of a new one; an old root in memory overrides it. X1
      if (this.#root !== zeroHash && !this.#nodes.has(keyOf(this.#depth, 0))) {
        const hashes = new Uint8Array(limits.blob_index_hashes_max * hash_bytes)
        hashes.set(hashToBytes(this.#root))
        this.#nodes.set(keyOf(this.#depth + 1, 0), { level: this.#depth + 1, index: 0, hashes })
      }
      this.#root = zeroHash
      this.#depth++
    }
  }

  async #shrink(depth: number): Promise<void> {
    while (this.#depth > depth) {
      const root = await this.#hashOf(this.#depth - 1, 0)
      this.#nodes.delete(keyOf(this.#depth, 0))
      this.#root = root
      this.#depth--
    }
  }

  /** Zero the hashes of one index chunk from slot `kept` on. */
  async #cut(level: number, index: number, kept: number): Promise<void> {
    const inMemory = this.#nodes.get(keyOf(level, index))
    if (inMemory !== undefined) {
      inMemory.hashes.fill(0, kept * hash_bytes)
      return
    }
    const hash = await this.#hashOf(level, index)
    if (hash === zeroHash) return
    const stored = decodeIndex(await this.#chunks.get(hash), level, hash)
    if (stored.length <= kept * hash_bytes) return
    ;(await this.#open(level, index)).hashes.fill(0, kept * hash_bytes)
  }

  /** Number, within level `at`, of the node above (level, index). */
  #above(level: number, index: number, at: number): number {
    return Math.floor(index / limits.blob_index_hashes_max ** (at - level))
  }

  /** Slot, in the node of level `at` above (level, index), that leads down to it. */
  #slot(level: number, index: number, at: number): number {
    return this.#above(level, index, at - 1) % limits.blob_index_hashes_max
  }
}

interface IndexNode {
  readonly level: number
  /** Its number within the level. */
  readonly index: number
  /** limits.blob_index_hashes_max hashes. */
  readonly hashes: Uint8Array
}

function keyOf(level: number, index: number): number {
  return level * 2 ** 40 + index
}
