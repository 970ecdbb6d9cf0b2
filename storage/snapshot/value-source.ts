/** A snapshot that is the value of a file of a store. */
import { limits } from '../../namespace/limits.ts'
import { readRange, type ChunkSource } from '../blob/chunk-tree.ts'
import type { RestoreCommand } from '../model.ts'
import type { SnapshotSource } from './block-reader.ts'

type Value = NonNullable<RestoreCommand['backup']>

/** Reads it from its beginning, a chunk's worth at a time. */
export class ValueSource implements SnapshotSource {
  readonly path: string
  readonly #chunks: ChunkSource
  readonly #value: Value
  #at = 0

  /** @param path for messages */
  constructor(chunks: ChunkSource, value: Value, path: string) {
    this.#chunks = chunks
    this.#value = value
    this.path = path
  }

  /** @throws NineError as ChunkSource.get */
  async read(into: Uint8Array): Promise<number> {
    let done = 0
    while (done < into.length) {
      const bytes = await this.#next(into.length - done)
      if (bytes.length === 0) break
      into.set(bytes, done)
      done += bytes.length
      this.#at += bytes.length
    }
    return done
  }

  #next(length: number): Uint8Array | Promise<Uint8Array> {
    const value = this.#value
    if (value.kind === 'inline') return value.bytes.subarray(this.#at, this.#at + length)
    return readRange(this.#chunks, value.blob, this.#at, Math.min(length, limits.read_bytes_max))
  }
}
