/**
 * The fields that messages of 9P are made of, to and from bytes: integers (little-endian), texts, qids.
 *
 * F1 Nothing is read past the end that the reader was given, and nothing is allocated by a length that the bytes do not have.
 * F2 A text is valid UTF-8 without NUL, and has at most 65,535 bytes.
 * F3 A u64 all of whose bits are ones is 2^64 (`untouched64`), and no other is.
 */
import { textAt, WireError } from '../protobuf.ts'
import { messageType, untouched64, type Dialect, type WireQid } from './messages.ts'

export const qid_bytes = 13
export const text_bytes_max = 0xffff
const uint32_range = 0x1_0000_0000
/** The largest number below 2^64. */
const large64 = 2 ** 64 - 2048

/** Bit of a dialect in the table of the messages it has. */
export function dialectBit(dialect: Dialect): number {
  return dialect === '9P2000.L' ? 2 : 1
}

/** By the number of a message: the bits of the dialects that have it. */
export const spoken: Uint8Array = spokenNumbers()

function spokenNumbers(): Uint8Array {
  const table = new Uint8Array(256)
  const plan9 = new Set([messageType.Topen, messageType.Tcreate, messageType.Tstat, messageType.Twstat] as number[])
  for (const number of Object.values(messageType)) {
    const bits = number < messageType.Tversion ? 2 : plan9.has(number) ? 1 : 3
    table[number] = table[number + 1] = bits
  }
  // There is no request that asks for an error.
  table[messageType.Tlerror] = table[messageType.Terror] = 0
  table[messageType.Terror + 1] = 1
  return table
}

/** A 64-bit path of a qid as a number below 2^53: the path itself where it is one, else a hash of 2^52 and more. */
export function foldPath(low: number, high: number): number {
  if (high < 0x20_0000) return high * uint32_range + low
  // The finalizer of MurmurHash3 (public domain) over each half, each fed with the other.
  const first = mix(low ^ Math.imul(high, 0x9e37_79b1))
  const second = mix(high ^ Math.imul(first, 0x85eb_ca77))
  return ((second & 0xf_ffff) + 0x10_0000) * uint32_range + (first >>> 0)
}

function mix(value: number): number {
  let bits = value ^ (value >>> 16)
  bits = Math.imul(bits, 0x85eb_ca6b)
  bits ^= bits >>> 13
  bits = Math.imul(bits, 0xc2b2_ae35)
  return bits ^ (bits >>> 16)
}

const noBytes = Buffer.alloc(0)

/** Goes through the fields of `buffer[at, end)`. Each method throws WireError where the bytes do not hold such a field. */
export class FieldReader {
  buffer: Buffer = noBytes
  at = 0
  end = 0

  reset(buffer: Buffer, at: number, end: number): void {
    this.buffer = buffer
    this.at = at
    this.end = end
  }

  /** Hold no message any more. */
  release(): void {
    this.buffer = noBytes
    this.at = this.end = 0
  }

  get left(): number {
    return this.end - this.at
  }

  /** Everything has been read. */
  done(): void {
    if (this.at !== this.end) throw new WireError(`${this.end - this.at} bytes follow a 9P message's last field`)
  }

  u8(): number {
    return this.buffer[this.#past(1)]!
  }

  u16(): number {
    const at = this.#past(2)
    return this.buffer[at]! | (this.buffer[at + 1]! << 8)
  }

  u32(): number {
    return getUint32(this.buffer, this.#past(4))
  }

  u64(): number {
    const at = this.#past(8)
    const low = getUint32(this.buffer, at)
    const high = getUint32(this.buffer, at + 4)
    if (high === 0) return low
    const value = high * uint32_range + low
    return value < untouched64 || (low === 0xffff_ffff && high === 0xffff_ffff) ? value : large64 // F3
  }

  /** The low half of a u64 of flags. */
  mask(): number {
    return getUint32(this.buffer, this.#past(8))
  }

  cookie(): bigint {
    return this.buffer.readBigUInt64LE(this.#past(8))
  }

  text(): string {
    const text = this.anyText()
    if (text === undefined) throw new WireError('a text of a 9P message is not UTF-8, or has a NUL') // F2
    return text
  }

  /** A text, undefined where its bytes are none. */
  anyText(): string | undefined {
    const bytes = this.u16()
    const start = this.#past(bytes)
    let text: string
    try {
      text = textAt(this.buffer, start, this.at)
    } catch {
      return undefined
    }
    return text.includes('\0') ? undefined : text
  }

  qid(): WireQid {
    const buffer = this.buffer
    const at = this.#past(qid_bytes)
    return {
      type: buffer[at]!,
      version: getUint32(buffer, at + 1),
      path: foldPath(getUint32(buffer, at + 5), getUint32(buffer, at + 9)),
    }
  }

  /** A qid of Twstat: its path may be untouched64. */
  changedQid(): WireQid {
    const qid = this.qid()
    const untouched = getUint32(this.buffer, this.at - 8) === 0xffff_ffff && getUint32(this.buffer, this.at - 4) === 0xffff_ffff
    return untouched ? { type: qid.type, version: qid.version, path: untouched64 } : qid // F3
  }

  /** count[4] and so many bytes: a view of them. */
  data(): Buffer {
    const count = this.u32()
    const start = this.#past(count)
    return this.buffer.subarray(start, this.at)
  }

  /** @returns where the next `bytes` bytes start */
  #past(bytes: number): number {
    const at = this.at
    if (bytes > this.end - at) throw new WireError('a 9P message ends in the middle of a field') // F1
    this.at = at + bytes
    return at
  }
}

export function getUint32(buffer: Uint8Array, at: number): number {
  return (buffer[at]! | (buffer[at + 1]! << 8) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 24)) >>> 0
}

// Each put writes one field at `at` and returns where the next one goes; the room must be there.

export function putUint8(buffer: Buffer, at: number, value: number): number {
  if ((value & 0xff) !== value) throw notUint(value, 8)
  buffer[at] = value
  return at + 1
}

export function putUint16(buffer: Buffer, at: number, value: number): number {
  if ((value & 0xffff) !== value) throw notUint(value, 16)
  buffer[at] = value
  buffer[at + 1] = value >>> 8
  return at + 2
}

export function putUint32(buffer: Buffer, at: number, value: number): number {
  if (value >>> 0 !== value) throw notUint(value, 32)
  buffer[at] = value
  buffer[at + 1] = value >>> 8
  buffer[at + 2] = value >>> 16
  buffer[at + 3] = value >>> 24
  return at + 4
}

/** 2^64 is written as all ones. */
export function putUint64(buffer: Buffer, at: number, value: number): number {
  if (value >>> 0 === value) {
    putUint32(buffer, at, value)
    buffer[at + 4] = buffer[at + 5] = buffer[at + 6] = buffer[at + 7] = 0
    return at + 8
  }
  if (value === untouched64) {
    putUint32(buffer, at, 0xffff_ffff)
    return putUint32(buffer, at + 4, 0xffff_ffff) // F3
  }
  if (!(value >= 0 && value < untouched64 && Number.isInteger(value))) throw notUint(value, 64)
  const low = value % uint32_range
  putUint32(buffer, at, low)
  return putUint32(buffer, at + 4, (value - low) / uint32_range)
}

export function putCookie(buffer: Buffer, at: number, value: bigint): number {
  if (BigInt.asUintN(64, value) !== value) throw notUint(value, 64)
  return buffer.writeBigUInt64LE(value, at)
}

export function putText(buffer: Buffer, at: number, text: string): number {
  const count = text.length
  if (count < short_text_max) {
    let to = at + 2
    let index = 0
    for (; index < count; index++) {
      const unit = text.charCodeAt(index)
      if (unit > 0x7f || unit === 0) break
      buffer[to++] = unit
    }
    if (index === count) {
      buffer[at] = count
      buffer[at + 1] = 0
      return to
    }
  }
  if (text.includes('\0')) throw new WireError('a text of a 9P message has a NUL') // F2
  const bytes = textBytes(text)
  putUint16(buffer, at, bytes)
  return at + 2 + buffer.write(text, at + 2, bytes, 'utf8')
}

const short_text_max = 128

/** At least the bytes that putText takes: three for a UTF-16 unit where counting would cost more. */
export function textRoom(text: string): number {
  return 2 + (text.length < short_text_max ? text.length * 3 : textBytes(text))
}

/** Bytes of a text without its length field. @throws WireError `too_large` past 65,535 (F2) */
export function textBytes(text: string): number {
  const bytes = Buffer.byteLength(text)
  if (bytes > text_bytes_max) throw new WireError(`a text has ${bytes} bytes, 9P carries ${text_bytes_max}`, 'too_large')
  return bytes
}

export function putQid(buffer: Buffer, at: number, qid: WireQid): number {
  putUint8(buffer, at, qid.type)
  putUint32(buffer, at + 1, qid.version)
  return putUint64(buffer, at + 5, qid.path)
}

function notUint(value: number | bigint, bits: number): WireError {
  return new WireError(`${value} is not an integer of ${bits} bits`)
}
