/**
 * Collection of chunks: mark what is reachable, sweep the rest.
 *
 * Why nothing that is needed is swept, whatever happens meanwhile. Say the collection begins at B, has read the last root
 * at R, takes the pinned trees at T, and B < R < T. A chunk needed after the sweep is named by a root. If that root was
 * there from B on, it was read and marked. If it came later, its writer held pins until after it came (N1 of pins.ts):
 * pins on each chunk it put, which count until the collection ends even when they are released (N2), and a pin on the
 * tree it built on. That tree pin was there at T, and then its chunks are marked; or it was taken after T, of a value that
 * a root named then, to which the same argument applies.
 *
 * C1 `roots` gives every reference that stands throughout its iteration, those that history keeps included. Iterate over a
 *    snapshot: a reference that moves from a place not yet visited to one already visited must not be missed.
 * C2 Nothing is deleted unless every root could be followed to its end: damage in an index chunk ends it with `corrupt`.
 *    Also where what the roots gave does not hold any more, as when a whole state took another's place without pins: `check`.
 * C3 What is an index chunk is decided by how it was reached, never by its bytes or by having been marked (T4 of
 *    chunk-tree.ts): a file whose bytes equal an index chunk must not hide what that index chunk names.
 */
import { limits } from '../../namespace/limits.ts'
import type { BlobRef } from '../model.ts'
import { checkRef, decodeIndex, slotHash, zeroHash } from './chunk-tree.ts'
import { MarkSet } from './mark-set.ts'
import type { BlobPins } from './pins.ts'
import { hash_bytes, hashAt, type BlobStore, type ChunkHash } from './store.ts'

export interface CollectOptions {
  readonly store: BlobStore
  readonly roots: AsyncIterable<BlobRef> | Iterable<BlobRef>
  readonly pins: BlobPins
  /** Chunks that were put or touched less than so many milliseconds ago are left alone. Default limits.blob_grace_ms. */
  readonly olderThanMs?: number | undefined
  /** Chunks deleted at most; the next collection goes on. Default: no bound. */
  readonly deletesMax?: number | undefined
  /** Throws once the roots are not those that were given: asked before each chunk is deleted, and ends the collection. C2 */
  readonly check?: (() => void) | undefined
  /** Ends it early with the signal's reason; what was deleted until then was not needed. */
  readonly signal?: AbortSignal | undefined
}

export interface Collected {
  /** Chunks left in place. */
  readonly kept: number
  readonly deleted: number
  /** Bytes of the chunks deleted. */
  readonly bytes: number
  /** Whether deletesMax ended it before every chunk had been looked at. */
  readonly more: boolean
}

/**
 * Memory: 16 to 32 MiB for each million chunks reachable (MarkSet), and about 150 bytes for each index chunk among them.
 * @throws NineError `corrupt` before anything is deleted, or what the store's list and delete fail with
 */
export async function collect(options: CollectOptions): Promise<Collected> {
  const { store, pins, signal } = options
  const endCollection = pins.beginCollection() // B
  try {
    const marks = new Marks(store, signal)
    for await (const ref of options.roots) {
      checkRef(ref)
      await marks.tree(hashAt(ref.root), ref.depth)
    } // R
    for (const pin of pins.trees()) await marks.tree(pin.hash, pin.level) // T
    return await sweep(options, marks)
  } finally {
    endCollection()
  }
}

async function sweep(options: CollectOptions, marks: Marks): Promise<Collected> {
  const { store, pins, signal, deletesMax = Infinity, olderThanMs = limits.blob_grace_ms } = options
  let kept = 0
  let deleted = 0
  let bytes = 0
  for await (const chunk of store.list()) {
    signal?.throwIfAborted()
    options.check?.()
    if (deleted >= deletesMax) return { kept, deleted, bytes, more: true }
    // The pin is looked at in the same turn as delete is called: a put that comes later waits for the delete (B4 of store.ts).
    const needed = marks.has(chunk.hash) || chunk.idle_ms < olderThanMs || pins.has(chunk.hash)
    if (!needed && (await store.delete(chunk.hash))) {
      deleted++
      bytes += chunk.bytes
    } else {
      kept++
    }
  }
  return { kept, deleted, bytes, more: false }
}

/** Everything reachable from the trees given to it. */
class Marks {
  readonly #store: BlobStore
  readonly #signal: AbortSignal | undefined
  readonly #reached = new MarkSet()
  /** Index chunks already followed: whole hashes, because one that is wrongly taken as followed would lose chunks. C3 */
  readonly #followed = new Set<ChunkHash>()

  constructor(store: BlobStore, signal: AbortSignal | undefined) {
    this.#store = store
    this.#signal = signal
  }

  has(hash: ChunkHash): boolean {
    return this.#reached.has(hash)
  }

  async tree(hash: ChunkHash, level: number): Promise<void> {
    if (hash === zeroHash) return
    this.#reached.add(hash)
    if (level === 0 || this.#followed.has(hash)) return
    this.#signal?.throwIfAborted()
    const hashes = decodeIndex(await this.#store.get(hash), level, hash) // C2
    for (let slot = 0; slot * hash_bytes < hashes.length; slot++) {
      const child = slotHash(hashes, slot)
      if (level > 1) await this.tree(child, level - 1)
      else if (child !== zeroHash) this.#reached.add(child)
    }
    this.#followed.add(hash)
  }
}
