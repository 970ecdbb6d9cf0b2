/**
 * The index beside a sealed segment: where its records begin and which blobs they name.
 *
 * Layout: u32 magic · varints first, size, count · count × u32 offset (little-endian) · blobs · u32 CRC-32C of all before.
 */
import type { BlobRef } from '../model.ts'
import { ByteReader, ByteWriter, checksum, DamagedBytes } from '../tree/bytes.ts'
import { decodeBlobRef, encodeBlobRef } from '../tree/record.ts'

const magic = 0x3158484e // NHX1

/** Blobs, each once. */
export class BlobSet {
  readonly #blobs = new Map<string, BlobRef>()

  get size(): number {
    return this.#blobs.size
  }

  add(blob: BlobRef): void {
    this.#blobs.set(`${Buffer.from(blob.root).toString('base64')} ${blob.depth} ${blob.size}`, blob)
  }

  all(): Iterable<BlobRef> {
    return this.#blobs.values()
  }
}

export function encodeIndex(first: number, size: number, offsets: Uint32Array, blobs: BlobSet): Buffer {
  const writer = new ByteWriter(64 + 4 * offsets.length)
  writer.reserve(4)
  writer.buffer.writeUInt32LE(magic, 0)
  writer.at = 4
  writer.varint(first)
  writer.varint(size)
  writer.varint(offsets.length)
  writer.raw(new Uint8Array(offsets.buffer, offsets.byteOffset, offsets.byteLength))
  writer.varint(blobs.size)
  for (const blob of blobs.all()) encodeBlobRef(writer, blob)
  const sum = checksum(writer.buffer, 0, writer.at)
  writer.reserve(4)
  writer.buffer.writeUInt32LE(sum, writer.at)
  writer.at += 4
  return writer.written()
}

/** Offsets of the records, or undefined when the bytes are no index of this segment. Blobs are added to `blobs`. */
export function decodeIndex(bytes: Buffer, first: number, count: number, blobs: BlobSet): Uint32Array | undefined {
  const end = bytes.length - 4
  if (end < 4 || bytes.readUInt32LE(0) !== magic || bytes.readUInt32LE(end) !== checksum(bytes, 0, end)) return undefined
  const reader = new ByteReader(bytes, 4, end)
  try {
    if (reader.varint() !== first) return undefined
    reader.varint()
    if (reader.varint() !== count) return undefined
    const raw = reader.raw(4 * count)
    const offsets = new Uint32Array(count)
    for (let i = 0; i < count; i++) offsets[i] = raw.readUInt32LE(4 * i)
    for (let left = reader.varint(); left > 0; left--) blobs.add(decodeBlobRef(reader))
    reader.finish()
    return offsets
  } catch (error) {
    if (error instanceof DamagedBytes) return undefined
    throw error
  }
}

/** Bytes of the segment that an index, which `decodeIndex` has taken, was made for. */
export function sizeInIndex(bytes: Buffer): number {
  const reader = new ByteReader(bytes, 4)
  reader.varint()
  return reader.varint()
}
