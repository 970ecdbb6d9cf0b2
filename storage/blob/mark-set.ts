/**
 * A set of chunks by the first 64 bits of their hash: 8 bytes a slot, at most half full, so 16 to 32 MiB a million chunks
 * (and half as much again while it grows).
 *
 * M1 What was added is always found. What was not added is found once in 2^64: a chunk is then kept that need not be,
 *    never the other way round. So it serves to say what to keep, and nothing else.
 */
import type { ChunkHash } from './store.ts'

export class MarkSet {
  #high = new Uint32Array(1024)
  #low = new Uint32Array(1024)
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Whether it was new. */
  add(hash: ChunkHash): boolean {
    const high = highOf(hash)
    const low = lowOf(hash)
    if (high === 0 && low === 0) return false // the mark of a free slot: always found
    if (!this.#insert(high, low)) return false
    this.#size++
    if (this.#size * 2 > this.#high.length) this.#grow()
    return true
  }

  has(hash: ChunkHash): boolean {
    const high = highOf(hash)
    const low = lowOf(hash)
    if (high === 0 && low === 0) return true
    const slot = this.#slot(high, low)
    return this.#high[slot] !== 0 || this.#low[slot] !== 0
  }

  #insert(high: number, low: number): boolean {
    const slot = this.#slot(high, low)
    if (this.#high[slot] !== 0 || this.#low[slot] !== 0) return false
    this.#high[slot] = high
    this.#low[slot] = low
    return true
  }

  /** Where the pair stands, or the free slot where it would. */
  #slot(high: number, low: number): number {
    const mask = this.#high.length - 1
    let slot = low & mask
    while ((this.#high[slot] !== high || this.#low[slot] !== low) && (this.#high[slot] !== 0 || this.#low[slot] !== 0))
      slot = (slot + 1) & mask
    return slot
  }

  #grow(): void {
    const high = this.#high
    const low = this.#low
    this.#high = new Uint32Array(high.length * 2)
    this.#low = new Uint32Array(low.length * 2)
    for (let i = 0; i < high.length; i++) {
      const h = high[i] ?? 0
      const l = low[i] ?? 0
      if (h !== 0 || l !== 0) this.#insert(h, l)
    }
  }
}

function highOf(hash: ChunkHash): number {
  return parseInt(hash.slice(0, 8), 16)
}

function lowOf(hash: ChunkHash): number {
  return parseInt(hash.slice(8, 16), 16)
}
