/**
 * Rows of the tree's database in blocks: each key without its slot and without what it shares with the key before, each value as it
 * stands in the database, its checksum included.
 *
 * W1 A row's checksum travels from the database it was first written to, and is over slot, key and value. Under another slot it differs by
 *    an amount that follows from the two slots and the length alone (a CRC is linear), so it is carried over without looking at the
 *    bytes: damage on the way, or before, stays damage.
 */
import { ByteReader, checksum, DamagedBytes, type ByteWriter } from '../tree/bytes.ts'
import type { ScannedRow } from '../tree/row-scan.ts'
import { checksum_bytes, writeU32LE } from '../tree/rows.ts'

const slot_bytes = 4
const key_bytes_max = 2048
/** Up to here a loop is faster than a view. */
const loop_bytes_max = 32
/** Lengths whose difference is remembered. */
const lengths_max = 4096

/** Appends rows to a block. */
export class RowEncoder {
  readonly #previous = Buffer.alloc(key_bytes_max)
  #previousLength = 0

  /** The next row begins a block. */
  begin(): void {
    this.#previousLength = 0
  }

  row(writer: ByteWriter, { key, keyBytes, value, valueBytes }: ScannedRow): void {
    const previous = this.#previous
    const length = keyBytes - slot_bytes
    const most = Math.min(length, this.#previousLength)
    let shared = 0
    while (shared < most && previous[shared] === key[slot_bytes + shared]) shared++
    writer.varint(shared)
    writer.varint(length - shared)
    writer.reserve(length - shared + valueBytes + 8)
    for (let i = shared; i < length; i++) writer.buffer[writer.at++] = previous[i] = key[slot_bytes + i]!
    this.#previousLength = length
    writer.varint(valueBytes)
    if (valueBytes <= loop_bytes_max) for (let i = 0; i < valueBytes; i++) writer.buffer[writer.at++] = value[i]!
    else writer.raw(value.subarray(0, valueBytes))
  }
}

/** Whether the checksum at the end of a value holds under its key. */
export function isRowWhole({ key, keyBytes, value, valueBytes }: ScannedRow): boolean {
  const end = valueBytes - checksum_bytes
  return end >= 0 && readU32LE(value, end) === checksum(value, 0, end, checksum(key, 0, keyBytes))
}

/** Reads rows of blocks, for another slot than the one they were written under. */
export class RowDecoder {
  readonly #key = Buffer.alloc(key_bytes_max)
  /** The beginnings of `#key`, by length: a view for each row would be most of what a load costs. */
  readonly #keys: Buffer[] = []
  readonly #from: Buffer
  readonly #to: Buffer
  readonly #shifts = new Uint32Array(lengths_max)
  readonly #known = new Uint8Array(lengths_max)

  constructor(from: number, to: number) {
    this.#from = prefixOf(from)
    this.#to = prefixOf(to)
    this.#to.copy(this.#key)
  }

  /**
   * Calls `found` with every row behind `at`: a key that is good until it returns, a value that is payload[from, to), where its
   * checksum was made to hold under the new slot; values of `bare_bytes` have none. Once for each payload. W1 @throws DamagedBytes
   */
  rows(payload: Buffer, at: number, bare_bytes: number, found: (key: Uint8Array, from: number, to: number) => void): void {
    const reader = new ByteReader(payload, at)
    const key = this.#key
    while (reader.at < reader.end) {
      const shared = slot_bytes + reader.varint()
      const suffixBytes = reader.varint()
      const suffix = reader.skip(suffixBytes)
      const length = shared + suffixBytes
      if (length > key_bytes_max) throw new DamagedBytes('a key is too long')
      for (let i = 0; i < suffixBytes; i++) key[shared + i] = payload[suffix + i]!
      const bytes = reader.varint()
      const from = reader.skip(bytes)
      if (bytes !== bare_bytes) this.#reseal(payload, from, from + bytes, length)
      found((this.#keys[length] ??= key.subarray(0, length)), from, from + bytes)
    }
  }

  /** W1 */
  #reseal(payload: Buffer, from: number, to: number, keyLength: number): void {
    const end = to - checksum_bytes
    if (end < from) throw new DamagedBytes('a value has no checksum')
    writeU32LE((readU32LE(payload, end) ^ this.#shift(keyLength - slot_bytes + end - from)) >>> 0, payload, end)
  }

  #shift(length: number): number {
    if (length >= lengths_max) return this.#computed(length)
    if (this.#known[length] === 0) {
      this.#shifts[length] = this.#computed(length)
      this.#known[length] = 1
    }
    return this.#shifts[length]!
  }

  #computed(length: number): number {
    const zeros = Buffer.alloc(length)
    const before = checksum(zeros, 0, length, checksum(this.#from, 0, slot_bytes))
    return (before ^ checksum(zeros, 0, length, checksum(this.#to, 0, slot_bytes))) >>> 0
  }
}

function prefixOf(slot: number): Buffer {
  const bytes = Buffer.alloc(slot_bytes)
  bytes.writeUInt32BE(slot)
  return bytes
}

function readU32LE(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
}
