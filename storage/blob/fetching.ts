/**
 * BlobStore of a node of a cluster: its own files, and behind them the other nodes.
 *
 * F1 A chunk that is missing or damaged here is asked of others, checked, kept, given. However many want it, it is asked for once.
 * F2 At most limits.blob_fetches_max are on their way; others wait in turn.
 * F3 Whoever serves the other nodes gives them what is in `files`: a node that asked on would ask whoever asks it.
 */
import { isNineError, type NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { Slots } from './slots.ts'
import { hashChunk, type BlobStats, type BlobStore, type ChunkHash, type ChunkInfo } from './store.ts'

/** The chunk, from whichever node has it; undefined: none of those that could be asked. @throws NineError `unavailable`, `deadline` when too few could be asked */
export type FetchChunk = (hash: ChunkHash) => Promise<Uint8Array | undefined>

export class FetchingBlobs implements BlobStore {
  readonly #files: BlobStore
  readonly #fetch: FetchChunk
  readonly #slots = new Slots(limits.blob_fetches_max)
  readonly #fetches = new Map<ChunkHash, Promise<Uint8Array>>()
  #fetched = 0
  #isClosed = false

  /** Closes `files` with it. */
  constructor(files: BlobStore, fetch: FetchChunk) {
    this.#files = files
    this.#fetch = fetch
  }

  /** What is on this node. F3 */
  get files(): BlobStore {
    return this.#files
  }

  put(bytes: Uint8Array, hash?: ChunkHash): Promise<ChunkHash> {
    return this.#files.put(bytes, hash)
  }

  /** @throws NineError `corrupt` when no node has it, `unavailable` when that is not known */
  get(hash: ChunkHash): Promise<Uint8Array> {
    return this.#fetches.get(hash) ?? this.#files.get(hash).catch((error: unknown) => this.#getElsewhere(hash, error))
  }

  /** As `get`, for who wants it on this node: what `get` could not keep is tried once more, and told. @throws NineError as get and put */
  async bring(hash: ChunkHash): Promise<void> {
    const bytes = await this.get(hash)
    if (!(await this.#files.has(hash))) await this.#files.put(bytes, hash)
  }

  has(hash: ChunkHash): Promise<boolean> {
    return this.#files.has(hash)
  }

  touch(hash: ChunkHash): Promise<boolean> {
    return this.#files.touch(hash)
  }

  delete(hash: ChunkHash): Promise<boolean> {
    return this.#files.delete(hash)
  }

  list(): AsyncIterable<ChunkInfo> {
    return this.#files.list()
  }

  stats(): BlobStats {
    return { ...this.#files.stats(), fetched: this.#fetched }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.allSettled(this.#fetches.values())
    await this.#files.close()
  }

  /** F1 */
  #getElsewhere(hash: ChunkHash, error: unknown): Promise<Uint8Array> {
    if (!isNineError(error, 'corrupt') || this.#isClosed) throw error
    const joined = this.#fetches.get(hash)
    if (joined !== undefined) return joined
    const fetch = this.#fetchInTurn(hash, error).finally(() => this.#fetches.delete(hash))
    this.#fetches.set(hash, fetch)
    return fetch
  }

  async #fetchInTurn(hash: ChunkHash, missing: NineError): Promise<Uint8Array> {
    await this.#slots.enter() // F2
    try {
      if (this.#isClosed) throw missing
      const bytes = await this.#fetch(hash)
      if (bytes === undefined || hashChunk(bytes) !== hash) throw missing
      this.#fetched++
      // It is good to give even where there is no room to keep it.
      await this.#files.put(bytes, hash).catch(() => undefined)
      return bytes
    } finally {
      this.#slots.leave()
    }
  }
}
