/**
 * The private value of an atomic handle: bytes in memory while it is small, chunks once it is large.
 *
 * Memory: at most limits.inline_bytes_max while small, then what a ValueBuilder stages.
 */
import type { BlobPins } from '../blob/pins.ts'
import type { BlobStore } from '../blob/store.ts'
import { ValueBuilder, type BuiltValue } from '../blob/value-builder.ts'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { BlobRef, Content } from '../model.ts'

export class StagedValue {
  readonly #store: BlobStore
  readonly #pins: BlobPins
  /** The value while it is small: the first `#length` bytes. */
  #small: Uint8Array
  #length = 0
  #builder: ValueBuilder | undefined
  /** Size after all operations asked for, those under way included. */
  #size: number

  constructor(store: BlobStore, pins: BlobPins, base: Content) {
    this.#store = store
    this.#pins = pins
    this.#small = nothing
    if (base.kind === 'blob') {
      this.#builder = new ValueBuilder({ store, pins, base: base.blob })
      this.#size = base.blob.size
      return
    }
    if (base.kind === 'inline') {
      this.#small = Uint8Array.from(base.bytes)
      this.#length = base.bytes.length
    }
    this.#size = this.#length
  }

  get size(): number {
    return this.#size
  }

  /** Bytes of memory this holds. */
  get memory(): number {
    return this.#builder === undefined ? this.#small.length : limits.chunk_bytes
  }

  /** Gives the size after it. @throws NineError `invalid`, `too_large`, and what the blob store fails with */
  async write(bytes: Uint8Array, at: number | 'append'): Promise<number> {
    const offset = at === 'append' ? this.#size : at
    checkRange(offset, bytes.length)
    if (bytes.length === 0) return this.#size
    const end = offset + bytes.length
    const size = (this.#size = Math.max(this.#size, end))
    if (this.#builder === undefined) {
      if (end <= limits.inline_bytes_max) {
        this.#grow(end)
        this.#small.set(bytes, offset)
        return size
      }
      this.#enlarge()
    }
    await this.#builder!.write(offset, bytes)
    return size
  }

  async truncate(size: number): Promise<void> {
    checkRange(size, 0)
    this.#size = size
    if (this.#builder === undefined) {
      if (size <= limits.inline_bytes_max) {
        if (size > this.#length) this.#grow(size)
        else {
          this.#small.fill(0, size, this.#length)
          this.#length = size
        }
        return
      }
      this.#enlarge()
    }
    await this.#builder!.truncate(size)
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (this.#builder !== undefined) return this.#builder.read(offset, length)
    return this.#small.slice(offset, Math.min(this.#length, offset + length))
  }

  /** The value as it stands; chunks of it are durable and pinned until `committed` or `release`. */
  async finish(): Promise<BuiltValue> {
    if (this.#builder !== undefined) return this.#builder.finish()
    return { inline: this.#small.slice(0, this.#length) }
  }

  committed(ref: BlobRef): void {
    this.#builder?.committed(ref)
  }

  async release(): Promise<void> {
    await this.#builder?.release()
  }

  #grow(end: number): void {
    if (end > this.#small.length) {
      const larger = new Uint8Array(Math.min(limits.inline_bytes_max, Math.max(end, 2 * this.#small.length, 256)))
      larger.set(this.#small.subarray(0, this.#length))
      this.#small = larger
    }
    this.#length = Math.max(this.#length, end)
  }

  #enlarge(): void {
    const base = this.#small.subarray(0, this.#length)
    this.#builder = new ValueBuilder({ store: this.#store, pins: this.#pins, base })
    this.#small = nothing
  }
}

const nothing = new Uint8Array(0)

/** @throws NineError `invalid`, `too_large` */
export function checkRange(offset: number, length: number, op = 'store.writeHandle'): void {
  if (!Number.isSafeInteger(offset) || offset < 0) throw new NineError({ kind: 'invalid', op, message: `${offset} is no offset` })
  if (offset + length > limits.file_bytes_max) {
    throw new NineError({ kind: 'too_large', op, message: `a file has at most ${limits.file_bytes_max} bytes` })
  }
}
