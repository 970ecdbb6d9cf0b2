/**
 * Writing and reading protobuf fields, straight to and from bytes, without objects in between.
 *
 * The messages of proto/nine/v1 are small and many: going through generated message objects costs about three times as much.
 *
 * W1 What is written is valid protobuf for the message; a nested message may have its length in two bytes where one would do.
 * W2 Integers are 0 to 2^53 - 1; others are a WireError on both sides.
 * W3 Reading never goes past the end it was given, and strings are strict UTF-8.
 * W4 Bytes that were handed out by take() are not touched again.
 * W5 A writer that has nothing to write holds no buffer.
 */
import { giveBackSlab, slab_bytes, spare_bytes_min, takeSlab } from './slabs.ts'

/** Bytes that are no message, or a value that no message can carry. `too_large`: a length past what is allowed. */
export class WireError extends Error {
  override readonly name = 'WireError'
  readonly kind: 'invalid' | 'too_large'

  constructor(message: string, kind: 'invalid' | 'too_large' = 'invalid') {
    super(message)
    this.kind = kind
  }
}

const noBytes = Buffer.alloc(0)

/** Values at least this long are sent from where they are instead of being copied. */
const external_bytes_min = 16 * 1024

const VARINT = 0
const FIXED64 = 1
const LENGTH = 2

/** Key of a field whose value is a varint, eight bytes, or bytes with a length: what Reader.next() answers. */
export function varintKey(field: number): number {
  return (field << 3) | VARINT
}
export function fixedKey(field: number): number {
  return (field << 3) | FIXED64
}
export function bytesKey(field: number): number {
  return (field << 3) | LENGTH
}

export class Writer {
  #buffer: Buffer = noBytes
  #at = 0
  /** Start of what has not been moved to #parts. */
  #taken = 0
  /** Start of the unit (frame or message) being written: it alone moves when the buffer is full. */
  #unit = 0
  #external: Uint8Array | undefined
  #parts: Uint8Array[] = []
  #partsBytes = 0

  /** Bytes written and not taken, this unit included. */
  get length(): number {
    return this.#partsBytes + this.#at - this.#taken
  }

  /** Bytes of the unit being written. */
  get unitLength(): number {
    return this.#at - this.#unit + (this.#external === undefined ? 0 : this.#external.length)
  }

  /** Start a unit with room for a header of `headerBytes`. */
  beginUnit(headerBytes: number): void {
    this.#unit = this.#at
    this.#ensure(headerBytes + 64)
    this.#at += headerBytes
  }

  /** End it. @returns its length with the header; `header(buffer, start, length)` fills the header in. */
  endUnit(header: (buffer: Buffer, start: number, length: number) => void): number {
    const start = this.#unit
    const external = this.#external
    const length = this.#at - start + (external === undefined ? 0 : external.length)
    header(this.#buffer, start, length)
    this.#unit = this.#at
    if (external !== undefined) {
      this.#external = undefined
      this.#moveToParts(this.#at)
      this.#addPart(external)
    }
    return length
  }

  /** Drop the unit being written, for example because one of its values cannot be carried. */
  dropUnit(): void {
    this.#at = this.#unit
    this.#external = undefined
  }

  /** Everything written so far, in order. */
  take(): Uint8Array[] {
    this.#moveToParts(this.#at)
    const parts = this.#parts
    this.#parts = []
    this.#partsBytes = 0
    giveBackSlab(this.#buffer, this.#at)
    this.#buffer = noBytes
    this.#at = this.#taken = this.#unit = 0
    return parts
  }

  /** Everything written so far as one piece. */
  takeOne(): Buffer {
    const parts = this.take()
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts)
  }

  /** An integer; 0 is left out. */
  uint(field: number, value: number): void {
    if (value === 0) return
    this.#ensure(12)
    this.#key((field << 3) | VARINT)
    this.#varint(value)
  }

  /** An integer with presence: 0 is written. */
  optionalUint(field: number, value: number | undefined): void {
    if (value === undefined) return
    this.#ensure(12)
    this.#key((field << 3) | VARINT)
    this.#varint(value)
  }

  bool(field: number, value: boolean | undefined): void {
    if (value !== true) return
    this.#ensure(3)
    this.#key((field << 3) | VARINT)
    this.#buffer[this.#at++] = 1
  }

  fixed(field: number, value: number): void {
    if (value !== 0) this.optionalFixed(field, value)
  }

  optionalFixed(field: number, value: number | undefined): void {
    if (value === undefined) return
    if (!isCount(value)) throw new WireError(`${value} is not an integer from 0 to 2^53 - 1`)
    this.#ensure(11)
    this.#key((field << 3) | FIXED64)
    const low = value >>> 0
    const high = (value - low) / 0x1_0000_0000
    const buffer = this.#buffer
    const at = this.#at
    buffer[at] = low
    buffer[at + 1] = low >>> 8
    buffer[at + 2] = low >>> 16
    buffer[at + 3] = low >>> 24
    buffer[at + 4] = high
    buffer[at + 5] = high >>> 8
    buffer[at + 6] = high >>> 16
    buffer[at + 7] = high >>> 24
    this.#at = at + 8
  }

  /** A text; '' is left out. */
  string(field: number, value: string): void {
    if (value !== '') this.optionalString(field, value)
  }

  optionalString(field: number, value: string | undefined): void {
    if (value === undefined) return
    const count = value.length
    this.#ensure(count * 3 + 8)
    this.#key((field << 3) | LENGTH)
    const buffer = this.#buffer
    if (count < 128) {
      let at = this.#at + 1
      let index = 0
      for (; index < count; index++) {
        const unit = value.charCodeAt(index)
        if (unit > 0x7f) break
        buffer[at++] = unit
      }
      if (index === count) {
        buffer[this.#at] = count
        this.#at = at
        return
      }
    }
    const bytes = Buffer.byteLength(value)
    this.#varint(bytes)
    this.#at += buffer.write(value, this.#at, bytes, 'utf8')
  }

  /** Bytes, copied; none are left out. */
  bytes(field: number, value: Uint8Array): void {
    if (value.length > 0) this.optionalBytes(field, value)
  }

  optionalBytes(field: number, value: Uint8Array | undefined): void {
    if (value === undefined) return
    this.#ensure(value.length + 12)
    this.#key((field << 3) | LENGTH)
    this.#varint(value.length)
    this.#buffer.set(value, this.#at)
    this.#at += value.length
  }

  /** Bytes that nobody will change, as the last field of a unit: long ones are not copied. */
  lastBytes(field: number, value: Uint8Array): void {
    if (value.length < external_bytes_min) return this.bytes(field, value)
    this.#ensure(12)
    this.#key((field << 3) | LENGTH)
    this.#varint(value.length)
    this.#external = value
  }

  /** Start a nested message. @returns what end() needs */
  begin(field: number): number {
    this.#ensure(5)
    this.#key((field << 3) | LENGTH)
    this.#at += 2
    return this.#at - this.#unit
  }

  end(begun: number): void {
    const start = this.#unit + begun
    const length = this.#at - start
    if (length < 0x4000) {
      this.#buffer[start - 2] = (length & 0x7f) | 0x80
      this.#buffer[start - 1] = length >>> 7
      return
    }
    // Rare: more than two bytes of length, so the message moves up to make room.
    const extra = length < 0x20_0000 ? 1 : length < 0x1000_0000 ? 2 : 3
    this.#ensure(extra)
    const from = this.#unit + begun
    this.#buffer.copyWithin(from + extra, from, this.#at)
    const end = this.#at + extra
    this.#at = from - 2
    this.#varint(length)
    this.#at = end
  }

  #ensure(bytes: number): void {
    if (this.#at + bytes > this.#buffer.length) this.#grow(bytes)
  }

  /** Go on in a fresh buffer, taking the unfinished unit along. */
  #grow(bytes: number): void {
    const unit = this.#unit
    const begun = this.#at - unit
    this.#moveToParts(unit)
    const needed = begun + bytes
    const { buffer, at } = takeSlab(needed, Math.max(slab_bytes, needed + begun + spare_bytes_min))
    this.#buffer.copy(buffer, at, unit, unit + begun)
    this.#buffer = buffer
    this.#unit = this.#taken = at
    this.#at = at + begun
  }

  #moveToParts(end: number): void {
    if (end > this.#taken) this.#addPart(this.#buffer.subarray(this.#taken, end))
    this.#taken = end
  }

  #addPart(part: Uint8Array): void {
    this.#parts.push(part)
    this.#partsBytes += part.length
  }

  #key(key: number): void {
    if (key < 0x80) {
      this.#buffer[this.#at++] = key
    } else {
      this.#buffer[this.#at++] = (key & 0x7f) | 0x80
      this.#buffer[this.#at++] = key >>> 7
    }
  }

  #varint(value: number): void {
    if (!isCount(value)) throw new WireError(`${value} is not an integer from 0 to 2^53 - 1`) // W2
    const buffer = this.#buffer
    let at = this.#at
    let rest = value
    if (rest > 0x7fff_ffff) {
      let low = rest % 0x1000_0000
      rest = (rest - low) / 0x1000_0000
      for (let i = 0; i < 4; i++) {
        buffer[at++] = (low & 0x7f) | 0x80
        low >>>= 7
      }
    }
    while (rest > 0x7f) {
      buffer[at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    buffer[at++] = rest
    this.#at = at
  }
}

function isCount(value: number): boolean {
  return ((value | 0) === value && value >= 0) || (Number.isSafeInteger(value) && value >= 0)
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Goes through the fields of one message at a time; reset() starts on another. */
export class Reader {
  buffer: Buffer
  at: number
  end: number

  constructor(buffer: Buffer = noBytes, at = 0, end = buffer.length) {
    this.buffer = buffer
    this.at = at
    this.end = end
  }

  reset(buffer: Buffer, at: number, end: number): this {
    this.buffer = buffer
    this.at = at
    this.end = end
    return this
  }

  /** Key of the next field, 0 at the end of the message. */
  next(): number {
    if (this.at >= this.end) return 0
    const first = this.buffer[this.at]!
    if (first < 0x80 && first > 7) {
      this.at++
      return first
    }
    const key = this.uint()
    if (key < 8 || key > 0xffff_ffff) throw new WireError('a field has no number')
    return key
  }

  /** @throws WireError past 2^53 - 1 */
  uint(): number {
    const buffer = this.buffer
    const first = this.#byte(buffer)
    if (first < 0x80) return first
    let value = first & 0x7f
    let scale = 0x80
    for (let count = 1; count < 10; count++) {
      const byte = this.#byte(buffer)
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break
        return value
      }
      scale *= 0x80
    }
    throw new WireError('an integer is not in 0 to 2^53 - 1')
  }

  bool(): boolean {
    return this.uint() !== 0
  }

  fixed(): number {
    const at = this.at
    if (at + 8 > this.end) throw new WireError('a message ends in the middle of a field')
    this.at = at + 8
    const buffer = this.buffer
    const low = (buffer[at]! | (buffer[at + 1]! << 8) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 24)) >>> 0
    const high = (buffer[at + 4]! | (buffer[at + 5]! << 8) | (buffer[at + 6]! << 16) | (buffer[at + 7]! << 24)) >>> 0
    if (high > 0x1f_ffff) throw new WireError('an integer is not in 0 to 2^53 - 1')
    return high * 0x1_0000_0000 + low
  }

  /** A view of the bytes where they are. */
  bytes(): Buffer {
    const start = this.#span()
    return this.buffer.subarray(start, this.at)
  }

  /** @throws WireError for malformed UTF-8 */
  string(): string {
    const start = this.#span()
    return textAt(this.buffer, start, this.at)
  }

  /** Go into a nested message. @returns what leave() needs */
  enter(): number {
    const outer = this.end
    const start = this.#span()
    this.end = this.at
    this.at = start
    return outer
  }

  leave(outer: number): void {
    this.at = this.end
    this.end = outer
  }

  /** Go past the value of a field that is not known. */
  skip(key: number): void {
    const type = key & 7
    if (type === VARINT) {
      for (let count = 0; count < 10; count++) if (this.#byte(this.buffer) < 0x80) return
      throw new WireError('an integer does not end')
    }
    if (type === LENGTH) this.#span()
    else if (type === FIXED64) this.#past(8)
    else if (type === 5) this.#past(4)
    else throw new WireError('a field has no known type')
  }

  #byte(buffer: Buffer): number {
    if (this.at >= this.end) throw new WireError('a message ends in the middle of a field')
    return buffer[this.at++]!
  }

  #past(bytes: number): void {
    if (bytes > this.end - this.at) throw new WireError('a field is longer than its message') // W3
    this.at += bytes
  }

  /** Read a length and go past that many bytes. @returns where they start */
  #span(): number {
    const length = this.uint()
    const start = this.at
    this.#past(length)
    return start
  }
}

/** Short names that came lately: owners, stores and paths come again and again, and equal ones share one string. */
const interned_bytes_max = 48
const interned: string[] = new Array<string>(4096).fill('')

/** The text of `buffer[start, end)`. @throws WireError for malformed UTF-8 */
export function textAt(buffer: Buffer, start: number, end: number): string {
  if (end - start > interned_bytes_max) return decodeText(buffer, start, end)
  let hash = end - start
  for (let at = start; at < end; at++) {
    const byte = buffer[at]!
    if (byte > 0x7f) return decodeText(buffer, start, end)
    hash = (Math.imul(hash, 31) + byte) | 0
  }
  const slot = (hash ^ (hash >>> 13)) & (interned.length - 1)
  const known = interned[slot]!
  if (isText(known, buffer, start, end)) return known
  return (interned[slot] = buffer.toString('latin1', start, end))
}

function isText(text: string, buffer: Buffer, start: number, end: number): boolean {
  const length = end - start
  if (text.length !== length) return false
  for (let i = 0; i < length; i++) if (text.charCodeAt(i) !== buffer[start + i]) return false
  return true
}

function decodeText(buffer: Buffer, start: number, end: number): string {
  try {
    return utf8.decode(buffer.subarray(start, end))
  } catch {
    throw new WireError('a text is not valid UTF-8')
  }
}
