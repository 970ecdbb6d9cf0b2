/** Writes the compact binary forms of storage/apply into one buffer that is used again and again. */
import { NineError } from '../../namespace/errors.ts'

/** Strings up to this length are written by a loop: for short ASCII it is faster than the native call. */
const loop_length_max = 48
/** A buffer that one huge entry made larger than this is given up after it. */
const kept_bytes_max = 1024 * 1024
const loneSurrogate = /\p{Surrogate}/u

/** Size of the buffers that `take` gives parts of. */
const slab_bytes = 64 * 1024

export class ByteWriter {
  #bytes: Buffer
  /** Where what is written now begins: what is before it was taken. */
  #start = 0
  #length = 0
  #isTaken = false

  constructor(size = 4096) {
    this.#bytes = Buffer.allocUnsafeSlow(size)
  }

  /** Begin anew; the view that `view` gave is overwritten from here on. */
  reset(): void {
    this.#length = this.#start
    if (this.#bytes.length > kept_bytes_max) {
      this.#bytes = Buffer.allocUnsafeSlow(4096)
      this.#length = this.#start = 0
    }
  }

  /** How much was written. */
  get length(): number {
    return this.#length - this.#start
  }

  /** What was written: a view that is good until `reset`. */
  view(): Uint8Array {
    return this.#bytes.subarray(this.#start, this.#length)
  }

  /** A copy of what was written. */
  copy(): Uint8Array {
    return new Uint8Array(this.view())
  }

  /** What was written, for good: nobody writes over it. It shares its memory with what is taken before and after it. */
  take(): Uint8Array {
    const taken = new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + this.#start, this.#length - this.#start)
    this.#start = this.#length
    this.#isTaken = true
    return taken
  }

  byte(value: number): void {
    this.#reserve(1)
    this.#bytes[this.#length++] = value
  }

  /** A whole number from 0 to 2^53 - 1: seven bits a byte, the lowest first. @throws NineError `invalid` */
  count(value: number): void {
    if (!(Number.isSafeInteger(value) && value >= 0)) {
      throw new NineError({ kind: 'invalid', op: 'apply.encode', message: `${value} is not a count` })
    }
    this.#reserve(8)
    while (value >= 0x80) {
      this.#bytes[this.#length++] = (value % 0x80) | 0x80
      value = Math.floor(value / 0x80)
    }
    this.#bytes[this.#length++] = value
  }

  /** Any number at all. */
  number(value: number): void {
    this.#reserve(8)
    this.#length = this.#bytes.writeDoubleLE(value, this.#length)
  }

  /** @throws NineError `invalid` for a lone surrogate, which would not come back as it was */
  text(value: string): void {
    const { length } = value
    if (length <= loop_length_max) {
      this.#reserve(1 + length)
      const bytes = this.#bytes
      const start = this.#length
      bytes[start] = length
      let i = 0
      for (; i < length; i++) {
        const code = value.charCodeAt(i)
        if (code >= 0x80) break
        bytes[start + 1 + i] = code
      }
      if (i === length) {
        this.#length = start + 1 + length
        return
      }
    }
    if (loneSurrogate.test(value)) {
      throw new NineError({ kind: 'invalid', op: 'apply.encode', message: 'a text is not well-formed Unicode' })
    }
    const size = Buffer.byteLength(value)
    this.count(size)
    this.#reserve(size)
    this.#bytes.write(value, this.#length, size, 'utf8')
    this.#length += size
  }

  bytes(value: Uint8Array): void {
    this.count(value.length)
    this.#reserve(value.length)
    this.#bytes.set(value, this.#length)
    this.#length += value.length
  }

  #reserve(size: number): void {
    const needed = this.#length + size
    if (needed <= this.#bytes.length) return
    const written = this.#length - this.#start
    const larger = Buffer.allocUnsafeSlow(
      this.#isTaken ? Math.max(slab_bytes, 2 * (written + size)) : Math.max(needed, 2 * this.#bytes.length),
    )
    larger.set(this.#bytes.subarray(this.#start, this.#length))
    this.#bytes = larger
    this.#start = 0
    this.#length = written
  }
}
