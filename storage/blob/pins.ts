/**
 * Pins of one node: what must not be collected although no durable change names it yet, or no longer.
 *
 * N1 A chunk is pinned before it is put or reused, and stays so until the change that names it is durable or given up.
 * N2 While a collection runs nothing is unpinned: releases take effect when it ends. So whatever was pinned at any moment
 *    of a collection survives it.
 * N3 A pinned tree stands for every chunk below it; its index chunks are durable when it is pinned.
 * N4 Who puts more chunks than can be remembered, all those of a store, keeps every chunk of the node meanwhile.
 */
import type { BlobRef } from '../model.ts'
import { hashAt, type ChunkHash } from './store.ts'

/** The tree below an index chunk, or a chunk alone when level is 0. */
export interface TreePin {
  readonly hash: ChunkHash
  readonly level: number
}

export class BlobPins {
  readonly #chunks = new Map<ChunkHash, number>()
  readonly #trees = new Set<TreePin>()
  readonly #released: (() => void)[] = []
  #collections = 0
  #keepers = 0

  /** A set of pins that end together. */
  hold(): PinHold {
    return new PinHold(this)
  }

  /**
   * Pin a whole value: readers of a value that may be removed meanwhile, writers that build on it, and whoever names
   * it a second time. The value must be referenced at this moment: read its reference and pin it in one turn.
   */
  holdTree(ref: BlobRef): PinHold {
    const hold = this.hold()
    hold.tree(ref)
    return hold
  }

  /** Keep every chunk that there is or that is put, until the returned function is called. N2, N4 */
  holdAll(): () => void {
    this.#keepers++
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      const release = (): void => void this.#keepers--
      if (this.#collections > 0) this.#released.push(release)
      else release()
    }
  }

  has(hash: ChunkHash): boolean {
    return this.#keepers > 0 || this.#chunks.has(hash)
  }

  get size(): number {
    return this.#chunks.size + this.#trees.size
  }

  /** Trees pinned now. */
  trees(): TreePin[] {
    return [...this.#trees]
  }

  /** From now until the returned function is called, nothing is unpinned. N2 */
  beginCollection(): () => void {
    this.#collections++
    let running = true
    return () => {
      if (!running) return
      running = false
      if (--this.#collections > 0) return
      for (const release of this.#released.splice(0)) release()
    }
  }

  /** For PinHold only. */
  pinChunk(hash: ChunkHash): void {
    this.#chunks.set(hash, (this.#chunks.get(hash) ?? 0) + 1)
  }

  /** For PinHold only. */
  pinTree(pin: TreePin): void {
    this.#trees.add(pin)
  }

  /** For PinHold only. */
  unpin(chunks: Iterable<ChunkHash>, trees: Iterable<TreePin>): void {
    if (this.#collections > 0) {
      this.#released.push(() => this.#unpin(chunks, trees))
    } else {
      this.#unpin(chunks, trees)
    }
  }

  #unpin(chunks: Iterable<ChunkHash>, trees: Iterable<TreePin>): void {
    for (const hash of chunks) {
      const count = this.#chunks.get(hash) ?? 0
      if (count > 1) this.#chunks.set(hash, count - 1)
      else this.#chunks.delete(hash)
    }
    for (const pin of trees) this.#trees.delete(pin)
  }
}

export class PinHold {
  readonly #pins: BlobPins
  #chunks = new Set<ChunkHash>()
  #trees: TreePin[] = []

  constructor(pins: BlobPins) {
    this.#pins = pins
  }

  /** Chunks pinned one by one. */
  get size(): number {
    return this.#chunks.size
  }

  chunk(hash: ChunkHash): void {
    if (this.#chunks.has(hash)) return
    this.#chunks.add(hash)
    this.#pins.pinChunk(hash)
  }

  tree(ref: BlobRef): void {
    const pin = { hash: hashAt(ref.root), level: ref.depth }
    this.#trees.push(pin)
    this.#pins.pinTree(pin)
  }

  /** End all of them; the hold may be used again. */
  release(): void {
    const chunks = this.#chunks
    const trees = this.#trees
    this.#chunks = new Set()
    this.#trees = []
    if (chunks.size > 0 || trees.length > 0) this.#pins.unpin(chunks, trees)
  }
}
