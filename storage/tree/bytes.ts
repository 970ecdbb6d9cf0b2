/**
 * Compact binary forms: a growing writer, a reader that trusts nothing, and CRC-32C.
 *
 * Numbers are unsigned varints (LEB128) up to 2^53 - 1, texts are UTF-8 behind their length in bytes.
 *
 * B1 Bytes that end early or are longer than they should be are a DamagedBytes error, never an answer.
 */
import { crc32c } from '@node-rs/crc32'

/** The bytes are not what was written. Whoever knows where they came from makes it a NineError `corrupt`. */
export class DamagedBytes extends Error {
  override readonly name = 'DamagedBytes'
}

const split = 2 ** 28
const ascii_loop_max = 48

export class ByteWriter {
  buffer: Buffer
  at = 0

  constructor(bytes = 4096) {
    this.buffer = Buffer.allocUnsafeSlow(bytes)
  }

  /** What was written, valid until the next write. */
  written(): Buffer {
    return this.buffer.subarray(0, this.at)
  }

  /** Make room for `bytes` more. */
  reserve(bytes: number): void {
    if (this.at + bytes <= this.buffer.length) return
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.buffer.length, this.at + bytes))
    this.buffer.copy(larger, 0, 0, this.at)
    this.buffer = larger
  }

  u8(value: number): void {
    if (this.at === this.buffer.length) this.reserve(1)
    this.buffer[this.at++] = value
  }

  varint(value: number): void {
    this.reserve(8)
    const { buffer } = this
    let at = this.at
    if (value >= split) {
      let low = value % split
      value = (value - low) / split
      for (let i = 0; i < 4; i++, low >>>= 7) buffer[at++] = (low & 0x7f) | 0x80
    }
    while (value >= 0x80) {
      buffer[at++] = (value & 0x7f) | 0x80
      value >>>= 7
    }
    buffer[at++] = value
    this.at = at
  }

  text(text: string): void {
    const { length } = text
    this.reserve(3 * length + 8)
    if (length <= ascii_loop_max) {
      const { buffer } = this
      let at = this.at
      buffer[at++] = length
      let seen = 0
      for (let i = 0; i < length; i++) {
        const code = text.charCodeAt(i)
        seen |= code
        buffer[at++] = code
      }
      if (seen < 0x80) {
        this.at = at
        return
      }
    }
    const bytes = Buffer.byteLength(text)
    this.varint(bytes)
    this.at += this.buffer.write(text, this.at, bytes, 'utf8')
  }

  /** Bytes behind their length. */
  bytes(bytes: Uint8Array): void {
    this.varint(bytes.length)
    this.raw(bytes)
  }

  raw(bytes: Uint8Array): void {
    this.reserve(bytes.length)
    this.buffer.set(bytes, this.at)
    this.at += bytes.length
  }
}

export class ByteReader {
  readonly buffer: Buffer
  at: number
  readonly end: number

  constructor(buffer: Buffer, at = 0, end = buffer.length) {
    this.buffer = buffer
    this.at = at
    this.end = end
  }

  u8(): number {
    if (this.at >= this.end) throw new DamagedBytes('the bytes end early')
    return this.buffer[this.at++]!
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 8; i++) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
      scale *= 128
    }
    throw new DamagedBytes('a number is too long')
  }

  text(): string {
    const length = this.varint()
    const from = this.#take(length)
    return this.buffer.toString('utf8', from, from + length)
  }

  /** A view into the buffer that is read. */
  bytes(): Buffer {
    const length = this.varint()
    return this.raw(length)
  }

  raw(length: number): Buffer {
    const from = this.#take(length)
    return this.buffer.subarray(from, from + length)
  }

  /** Where the next `length` bytes begin, which are passed over. */
  skip(length: number): number {
    return this.#take(length)
  }

  /** B1 */
  finish(): void {
    if (this.at !== this.end) throw new DamagedBytes(`${this.end - this.at} bytes are left over`)
  }

  #take(length: number): number {
    const from = this.at
    if (length > this.end - from) throw new DamagedBytes('the bytes end early')
    this.at = from + length
    return from
  }
}

const native_bytes_min = 96
const table = new Int32Array(256)
for (let i = 0; i < 256; i++) {
  let c = i
  for (let k = 0; k < 8; k++) c = (c & 1) === 0 ? c >>> 1 : (c >>> 1) ^ 0x82f63b78
  table[i] = c
}

/** CRC-32C (Castagnoli, RFC 3720 appendix B.4) of buffer[from, to), going on from `seed`. */
export function checksum(buffer: Uint8Array, from: number, to: number, seed = 0): number {
  if (to - from >= native_bytes_min) return crc32c(buffer.subarray(from, to), seed)
  let c = ~seed
  for (let i = from; i < to; i++) c = table[(c ^ buffer[i]!) & 0xff]! ^ (c >>> 8)
  return ~c >>> 0
}
