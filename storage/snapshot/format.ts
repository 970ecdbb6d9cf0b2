/**
 * The form of a snapshot: a store's whole state as of one revision, as a file or a stream.
 *
 *   preamble   8 bytes 'NINESNAP', u32 format, u32 CRC-32C of these 12 bytes
 *   blocks     u32 CRC-32C of all that follows in the block · u32 length of the payload · u32 number, from 0 · u8 type · 3 × 0 · payload
 *
 * Integers are little-endian; inside payloads numbers are varints and texts stand behind their length (tree/bytes.ts).
 *
 *   header     who and what: SnapshotHeader. The first block
 *   rows       u8 table, then rows in the order of their keys (row-blocks.ts)
 *   blobs      count, large values that rows or history name (some twice), before or after what names them
 *   segment    first revision, number of revisions, bytes; then of this segment of history:
 *   history      its bytes, in as many blocks as it takes
 *   index        its index file (history/index-file.ts), in as many blocks as it takes
 *   end        32 bytes SHA-256 of everything before this block. The last block of a snapshot
 *
 * A backup is a snapshot with the chunks of its large values behind it:
 *
 *   chunk      32 bytes SHA-256, bytes of the chunk; index chunks before what they name
 *   chunksEnd  32 bytes SHA-256 of everything before this block. The last block of a backup
 *
 * F1 Whatever byte is changed, missing or moved, a reader says so before anything it read counts: a block by its checksum and number, all
 *    of them by the hash, an end by the block that has to stand there.
 */
import { NineError } from '../../namespace/errors.ts'
import type { Micros } from '../../namespace/stat.ts'
import { ByteReader, ByteWriter, checksum, DamagedBytes } from '../tree/bytes.ts'
import { bare_fallen_bytes } from '../tree/fallen.ts'

export const format_version = 1
export const preamble_bytes = 16
export const block_header_bytes = 16
export const hash_bytes = 32

export const blockTypes = ['header', 'rows', 'blobs', 'segment', 'history', 'index', 'end', 'chunk', 'chunksEnd'] as const
export type BlockType = (typeof blockTypes)[number]

/** Tables in the order in which they stand in a snapshot. Their places here are their numbers. */
export const tableNames = ['meta', 'nodes', 'contents', 'entries', 'tombs', 'fallen'] as const
export type TableName = (typeof tableNames)[number]

/** Bytes of values of a table that have no checksum: those of `fallen` had none once. -1: there are no such. */
export function bareBytesOf(name: TableName): number {
  return name === 'fallen' ? bare_fallen_bytes : -1
}

export interface SnapshotHeader {
  /** Of the store the state is of. */
  readonly store: string
  readonly incarnation: string
  readonly name: string
  readonly owner: string
  readonly group: number
  /** The last entry that the state holds, and its term. */
  readonly index: number
  readonly term: number
  /** Members of the group as of that entry, in a form that only the replica knows; empty for a node alone. */
  readonly configuration: Uint8Array
  readonly revision: number
  /** Oldest revision whose state can still be shown; `revision` itself where history was left out. */
  readonly floor: number
  /** When it was begun. */
  readonly createdAt: Micros
  /** Whether chunks of large values follow. */
  readonly isBackup: boolean
  /** Slot in the keys that the checksums of the rows are over (tree/slots.ts). */
  readonly slot: number
}

const magic = Buffer.from('NINESNAP')

export function encodePreamble(): Buffer {
  const bytes = Buffer.alloc(preamble_bytes)
  magic.copy(bytes)
  bytes.writeUInt32LE(format_version, 8)
  bytes.writeUInt32LE(checksum(bytes, 0, 12), 12)
  return bytes
}

/** @throws NineError `corrupt`, `unsupported` (newer format) */
export function checkPreamble(bytes: Buffer, path: string): void {
  if (bytes.length < preamble_bytes || !bytes.subarray(0, magic.length).equals(magic)) {
    throw damagedSnapshot(path, 'it does not begin as a snapshot of ninefold')
  }
  if (bytes.readUInt32LE(12) !== checksum(bytes, 0, 12)) throw damagedSnapshot(path, 'its first bytes are damaged')
  const version = bytes.readUInt32LE(8)
  if (version === format_version) return
  const message = `${path} has format ${version}, this program knows ${format_version}: use a newer ninefold`
  throw new NineError({ kind: 'unsupported', op, path, message })
}

/** Write the header of a block whose payload stands behind it in `bytes`, which is the whole block. */
export function sealBlock(bytes: Buffer, type: BlockType, number: number): void {
  bytes.writeUInt32LE(bytes.length - block_header_bytes, 4)
  bytes.writeUInt32LE(number, 8)
  bytes.writeUInt32LE(blockTypes.indexOf(type), 12)
  bytes.writeUInt32LE(checksum(bytes, 4, bytes.length), 0)
}

const has_backup = 1

export function encodeHeader(header: SnapshotHeader): Buffer {
  const writer = new ByteWriter(1024)
  writer.text(header.store)
  writer.text(header.incarnation)
  writer.text(header.name)
  writer.text(header.owner)
  writer.varint(header.group)
  writer.varint(header.index)
  writer.varint(header.term)
  writer.bytes(header.configuration)
  writer.varint(header.revision)
  writer.varint(header.floor)
  writer.varint(header.createdAt)
  writer.varint(header.isBackup ? has_backup : 0)
  writer.varint(header.slot)
  return writer.written()
}

/** @throws NineError `corrupt` */
export function decodeHeader(payload: Buffer, path: string): SnapshotHeader {
  try {
    const reader = new ByteReader(payload)
    const header = {
      store: reader.text(),
      incarnation: reader.text(),
      name: reader.text(),
      owner: reader.text(),
      group: reader.varint(),
      index: reader.varint(),
      term: reader.varint(),
      configuration: Buffer.from(reader.bytes()),
      revision: reader.varint(),
      floor: reader.varint(),
      createdAt: reader.varint(),
      isBackup: (reader.varint() & has_backup) !== 0,
      slot: reader.varint(),
    }
    reader.finish()
    return header
  } catch (error) {
    throw error instanceof DamagedBytes ? damagedSnapshot(path, `its header cannot be read: ${error.message}`, error) : error
  }
}

const op = 'snapshot.read'

export function damagedSnapshot(path: string, what: string, cause?: unknown): NineError {
  return new NineError({ kind: 'corrupt', op, path, message: `${path} is damaged: ${what}. Nothing was taken from it`, cause })
}
