/** Chunks read lately, bounded in bytes; the one unused longest goes first. */
import type { ChunkHash } from './store.ts'

export class ChunkCache {
  readonly #chunks = new Map<ChunkHash, Uint8Array>()
  readonly #bytesMax: number
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get bytes(): number {
    return this.#bytes
  }

  get(hash: ChunkHash): Uint8Array | undefined {
    const chunk = this.#chunks.get(hash)
    if (chunk === undefined) return undefined
    this.#chunks.delete(hash)
    this.#chunks.set(hash, chunk)
    return chunk
  }

  set(hash: ChunkHash, chunk: Uint8Array): void {
    this.delete(hash)
    if (chunk.length > this.#bytesMax) return
    this.#chunks.set(hash, chunk)
    this.#bytes += chunk.length
    for (const oldest of this.#chunks.keys()) {
      if (this.#bytes <= this.#bytesMax) break
      this.delete(oldest)
    }
  }

  delete(hash: ChunkHash): void {
    const chunk = this.#chunks.get(hash)
    if (chunk === undefined) return
    this.#chunks.delete(hash)
    this.#bytes -= chunk.length
  }
}
