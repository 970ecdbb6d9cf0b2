/**
 * Rows of the LMDB environment: their keys, and values under a checksum.
 *
 * Key: u32 slot (slots.ts; a group's own number at first) · up to two u48 numbers · text as UTF-8 (big-endian, so that byte order is the order of numbers and of
 * compareNames). Value: bytes and a u32 CRC-32C over key and bytes.
 *
 *   nodes      group ino                   record (record.ts)
 *   contents   group ino since             a value kept apart from its record
 *   entries    group parent name           u48 ino, u48 since
 *   tombs      group parent name           u48 0, u48 since: an entry taken away that history still shows
 *   fallen     group since ino parent name one 0: a tomb to clear and, unless 0, a node to collect, once history has passed `since`; no bytes (fallen.ts)
 *   meta       group text                  small state; '' holds the tree's own
 *
 * R1 A value whose checksum does not hold under its key is `corrupt`, whatever it says.
 */
import { NineError } from '../../namespace/errors.ts'
import type { DirectoryEntry, Ino } from '../model.ts'
import { checksum } from './bytes.ts'

export interface RowKey {
  group: number
  /** -1: absent. */
  a: number
  b: number
  c: number
  text: string
}

export interface RangeOptions {
  readonly start: RowKey | Uint8Array
  readonly end: RowKey | Uint8Array
  readonly limit: number
  readonly exclusiveStart?: boolean
  /** Default: the newest state. */
  readonly transaction?: ReadTransaction | undefined
}

/** One state of the database. Of LMDB's binding, whose ranges use and leave it: see Reading of database.ts. */
export interface ReadTransaction {
  done(): void
}

/** What is used of LMDB's binding, with keys of our own encoding, which its types do not know. */
export interface Rows {
  getBinary(key: RowKey | Uint8Array): Buffer | undefined
  /** At most `limit` rows, which are all fetched at once. */
  getRange(options: RangeOptions): Iterable<{ readonly key: Uint8Array; readonly value: Buffer }>
  /** Their keys alone. */
  getKeys(options: RangeOptions): readonly Uint8Array[]
  /** Queued for the transaction of Environment.write, which tells how it went: inside a batch the binding's own promise never rejects. */
  put(key: RowKey | Uint8Array, value: Uint8Array): void
  remove(key: RowKey | Uint8Array): void
}

export interface Tables {
  readonly nodes: Rows
  readonly contents: Rows
  readonly entries: Rows
  readonly tombs: Rows
  readonly fallen: Rows
  readonly meta: Rows
}

export const checksum_bytes = 4
export const entry_bytes = 12 + checksum_bytes
const group_bytes = 4
const number_bytes = 6
const split = 2 ** 32

export function rowKey(group: number, a = -1, b = -1, text = '', c = -1): RowKey {
  return { group, a, b, c, text }
}

/** How LMDB's binding writes and reads our keys. Reading gives the bytes: few callers want more. */
export const rowKeyEncoder = { writeKey, readKey }

function writeKey(key: RowKey | Uint8Array, target: Uint8Array, start: number): number {
  if (key instanceof Uint8Array) {
    target.set(key, start)
    return start + key.length
  }
  let at = writeU32(key.group, target, start)
  if (key.a >= 0) at = writeU48(key.a, target, at)
  if (key.b >= 0) at = writeU48(key.b, target, at)
  if (key.c >= 0) at = writeU48(key.c, target, at)
  return writeText(key.text, target, at)
}

function readKey(target: Uint8Array, start: number, end: number): Uint8Array {
  return Uint8Array.prototype.slice.call(target, start, end)
}

const keys = Buffer.alloc(2048)

/** The bytes of a key, good until the next call. */
export function encodeRowKey(key: RowKey | Uint8Array): Buffer {
  return keys.subarray(0, writeKey(key, keys, 0))
}

function writeU32(value: number, target: Uint8Array, at: number): number {
  target[at] = value >>> 24
  target[at + 1] = value >>> 16
  target[at + 2] = value >>> 8
  target[at + 3] = value
  return at + group_bytes
}

export function writeU48(value: number, target: Uint8Array, at: number): number {
  const high = Math.floor(value / split)
  target[at] = high >>> 8
  target[at + 1] = high
  writeU32(value % split, target, at + 2)
  return at + number_bytes
}

export function readU48(bytes: Uint8Array, at: number): number {
  const high = bytes[at]! * 256 + bytes[at + 1]!
  return high * split + (bytes[at + 2]! * 2 ** 24 + ((bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!))
}

function writeText(text: string, target: Uint8Array, start: number): number {
  let at = start
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code >= 0x80) {
      const bytes = Buffer.from(text)
      target.set(bytes, start)
      return start + bytes.length
    }
    target[at++] = code
  }
  return at
}

const scratch = Buffer.alloc(2048)

/** Checksum of bytes[from, to) under `key`. */
export function rowChecksum(key: RowKey | Uint8Array, bytes: Uint8Array, from: number, to: number): number {
  return checksum(bytes, from, to, checksum(scratch, 0, writeKey(key, scratch, 0)))
}

/** The value without its checksum. R1 */
export function checkRow(key: RowKey | Uint8Array, value: Buffer, what: string): Buffer {
  const end = value.length - checksum_bytes
  if (end < 0 || readU32LE(value, end) !== rowChecksum(key, value, 0, end)) throw damagedRow(what)
  return asBuffer(value.subarray(0, end))
}

export function damagedRow(what: string, cause?: unknown): NineError {
  const message = `${what} is damaged in the tree's database. Restore the data folder from a backup; what is not damaged can still be exported`
  return new NineError({ kind: 'corrupt', op: 'tree.read', message, cause })
}

/** A Buffer over the same memory: LMDB's binding gives plain arrays for some values. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/**
 * The value bytes[from, to) for a put, without a view of its own: most of what putting many small values costs. Of a buffer that begins
 * where its memory does and stays as it is until the transaction ends; the next call for it makes another value of it. LMDB's binding
 * takes values that say where they begin and end.
 */
export function partOf(bytes: Buffer, from: number, to: number): Uint8Array {
  if (bytes.byteOffset !== 0) throw new Error('the buffer is a part of another')
  const part = bytes as Buffer & { start?: number; end?: number }
  part.start = from
  part.end = to
  return part
}

export function writeU32LE(value: number, target: Uint8Array, at: number): void {
  target[at] = value
  target[at + 1] = value >>> 8
  target[at + 2] = value >>> 16
  target[at + 3] = value >>> 24
}

function readU32LE(bytes: Uint8Array, at: number): number {
  return bytes[at]! + bytes[at + 1]! * 256 + bytes[at + 2]! * 65536 + bytes[at + 3]! * 2 ** 24
}

/** A value of `bytes` bytes at `at` of `target`, checksum included; the checksum is written here. */
export function sealRow(key: RowKey, target: Uint8Array, at: number, bytes: number): void {
  writeU32LE(rowChecksum(key, target, at, at + bytes), target, at + bytes)
}

/** R1 */
export function decodeEntry(key: RowKey | Uint8Array, value: Uint8Array, parent: Ino, name: string): DirectoryEntry {
  if (
    value.length !== entry_bytes ||
    readU32LE(value, entry_bytes - checksum_bytes) !== rowChecksum(key, value, 0, entry_bytes - checksum_bytes)
  ) {
    throw damagedRow(`the entry ${name} of directory ${parent}`)
  }
  return { parent, name, ino: readU48(value, 0), since: readU48(value, number_bytes) }
}

/** The name in the key of an entry or tomb. */
export function nameOfKey(key: Uint8Array): string {
  return asBuffer(key).toString('utf8', group_bytes + number_bytes)
}

/** The numbers and the name in the key of a fallen row. */
export function fallenOfKey(key: Uint8Array): { since: number; ino: Ino; parent: Ino; name: string } {
  const at = group_bytes
  return {
    since: readU48(key, at),
    ino: readU48(key, at + number_bytes),
    parent: readU48(key, at + 2 * number_bytes),
    name: asBuffer(key).toString('utf8', at + 3 * number_bytes),
  }
}
