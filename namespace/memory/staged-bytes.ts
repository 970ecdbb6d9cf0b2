/** A value being written: private bytes that grow in place. */
import { limits } from '../limits.ts'
import { NineError } from '../errors.ts'

/** One step of writing. `at` 'append': at the end as it then is. */
export type Edit = { readonly at: number | 'append'; readonly bytes: Uint8Array } | { readonly size: number }

export class StagedBytes {
  #buffer: Uint8Array
  #size: number
  #isOwn = false

  /** Starts as `bytes`, which are not changed: the first edit copies them. */
  constructor(bytes: Uint8Array) {
    this.#buffer = bytes
    this.#size = bytes.length
  }

  get size(): number {
    return this.#size
  }

  /** Bytes of memory it takes. */
  get memory(): number {
    return this.#isOwn ? this.#buffer.length : 0
  }

  /** The value now. Changes with the next edit. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#size)
  }

  /** Size after `edit`. @throws NineError `invalid`, `too_large` */
  sizeAfter(edit: Edit, op: string, path: string): number {
    if ('bytes' in edit && edit.bytes.length > limits.write_bytes_max) {
      throw new NineError({ kind: 'too_large', op, path, message: `one write carries at most ${limits.write_bytes_max} bytes` })
    }
    const from = 'size' in edit ? edit.size : edit.at === 'append' ? this.#size : edit.at
    if (!Number.isSafeInteger(from) || from < 0) throw new NineError({ kind: 'invalid', op, path, message: `${from} is no offset or size` })
    const end = 'size' in edit ? from : Math.max(this.#size, from + edit.bytes.length)
    if (end > limits.file_bytes_max) {
      throw new NineError({ kind: 'too_large', op, path, message: `a file has at most ${limits.file_bytes_max} bytes` })
    }
    return end
  }

  apply(edit: Edit): void {
    if ('size' in edit) {
      this.#resize(edit.size)
      return
    }
    const offset = edit.at === 'append' ? this.#size : edit.at
    this.#resize(Math.max(this.#size, offset + edit.bytes.length))
    this.#buffer.set(edit.bytes, offset)
  }

  #resize(size: number): void {
    if (!this.#isOwn || size > this.#buffer.length) {
      const room = size > this.#size ? Math.max(size, 2 * this.#size) : size
      const buffer = new Uint8Array(room)
      buffer.set(this.#buffer.subarray(0, Math.min(size, this.#size)))
      this.#buffer = buffer
      this.#isOwn = true
    } else if (size < this.#size) {
      this.#buffer.fill(0, size, this.#size)
    }
    this.#size = size
  }
}
