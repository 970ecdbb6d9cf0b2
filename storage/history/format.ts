/**
 * One revision as bytes: a header that can be checked and skipped by itself, and a body.
 *
 * Header (little-endian, 32 bytes):
 *    0 u32 CRC-32C of bytes 4-31        12 u32 magic               22 u16 flags
 *    4 u32 CRC-32C of the body          16 u48 revision            24 f64 time, microseconds
 *    8 u32 length of the body
 *
 * The body names records where it can. A record that the same segment holds, as the `after` of an earlier revision, is
 * named by that revision; any other is written out (F1). So dropping whole old segments never takes a record away
 * that a kept one needs.
 */
import type { BlobRef, DirectoryEntry, Image, Ino, NodeRecord, Revision, StoreEvent } from '../model.ts'
import type { Path } from '../../namespace/path.ts'
import type { Micros } from '../../namespace/stat.ts'
import { checksum, DamagedBytes, ByteReader, type ByteWriter } from '../tree/bytes.ts'
import { decodeNode, encodeNode } from '../tree/record.ts'
import type { Chains } from './chains.ts'

export const header_bytes = 32
/** Stands for the offset of a record that cannot be read. */
export const damaged = 0xffffffff
export const magic = Buffer.from('NHR1')

export interface RecordHeader {
  readonly revision: number
  readonly time: Micros
  readonly bodyBytes: number
  readonly bodyChecksum: number
  readonly hasBlobs: boolean
}

const format = 1
const flag_blobs = 1

const image_entry = 1
const image_embedded = 2
const image_named = 4
const image_jump = 8

const eventTypes = ['create', 'change', 'remove', 'rename'] as const
const event_subtree = 0x04
const event_from = 0x08
const node_shift = 4
const previous_shift = 6
const how_image = 0
const how_embedded = 1
const how_named = 2
const how_before = 3

/** Finds the record that revision `since` of the same segment put in place. */
export interface RecordFinder {
  nodeOf(since: number, ino: Ino): NodeRecord
}

/** An image as history keeps it. `jump`: an earlier revision that changed the same thing, further back than `before`. */
export type StoredImage = Image & { readonly beforeSince: number | undefined; readonly jump: number }

export interface StoredRevision extends Revision {
  readonly images: readonly StoredImage[]
}

/** Append header and body of a revision that goes into the segment that begins with `first`. */
export function encodeRevision(writer: ByteWriter, revision: Revision, first: number, chains: Chains): { hasBlobs: boolean } {
  const start = writer.at
  writer.reserve(header_bytes)
  writer.at += header_bytes
  const hasBlobs = encodeBody(writer, revision, first, chains)
  const { buffer, at: end } = writer
  const body = start + header_bytes
  buffer.writeUInt32LE(checksum(buffer, body, end), start + 4)
  buffer.writeUInt32LE(end - body, start + 8)
  magic.copy(buffer, start + 12)
  buffer.writeUIntLE(revision.revision, start + 16, 6)
  buffer.writeUInt16LE(hasBlobs ? flag_blobs : 0, start + 22)
  buffer.writeDoubleLE(revision.time, start + 24)
  buffer.writeUInt32LE(checksum(buffer, start + 4, body), start)
  return { hasBlobs }
}

/** The header at `at`, or undefined when there is none that is whole. */
export function decodeHeader(buffer: Buffer, at: number): RecordHeader | undefined {
  if (at + header_bytes > buffer.length) return undefined
  if (buffer[at + 12] !== magic[0] || buffer.readUInt32LE(at) !== checksum(buffer, at + 4, at + header_bytes)) return undefined
  return {
    revision: buffer.readUIntLE(at + 16, 6),
    time: buffer.readDoubleLE(at + 24),
    bodyBytes: buffer.readUInt32LE(at + 8),
    bodyChecksum: buffer.readUInt32LE(at + 4),
    hasBlobs: (buffer.readUInt16LE(at + 22) & flag_blobs) !== 0,
  }
}

/** The revision of a body whose checksum holds. Records it names are looked up when they are asked for. @throws DamagedBytes */
export function decodeBody(header: RecordHeader, body: Buffer, finder: RecordFinder): StoredRevision {
  if (body.length !== header.bodyBytes || checksum(body, 0, body.length) !== header.bodyChecksum) {
    throw new DamagedBytes('the checksum does not hold')
  }
  const reader = new ByteReader(body)
  if (reader.u8() !== format) throw new DamagedBytes('the revision has an unknown format')
  const actor = reader.text()
  const cause = reader.u8() === 0 ? undefined : reader.text()
  const images: StoredImage[] = []
  for (let left = reader.varint(); left > 0; left--) images.push(decodeImage(reader, header.revision, finder))
  const events: StoreEvent[] = []
  for (let left = reader.varint(); left > 0; left--) events.push(decodeEvent(reader, images, finder))
  reader.finish()
  return { revision: header.revision, time: header.time, actor, cause, events, images }
}

/** Every blob that the images of a revision name. */
export function* blobsOf(revision: StoredRevision): Iterable<BlobRef> {
  for (const image of revision.images) {
    if (image.kind !== 'node') continue
    if (image.after.content.kind === 'blob') yield image.after.content.blob
    if (image.before?.content.kind === 'blob') yield image.before.content.blob
  }
}

function encodeBody(writer: ByteWriter, revision: Revision, first: number, chains: Chains): boolean {
  let hasBlobs = false
  writer.u8(format)
  writer.text(revision.actor)
  writer.u8(revision.cause === undefined ? 0 : 1)
  if (revision.cause !== undefined) writer.text(revision.cause)
  writer.varint(revision.images.length)
  for (const image of revision.images) {
    if (image.kind === 'entry') encodeEntryImage(writer, image.after, image.before, first, chains)
    else {
      encodeNodeImage(writer, image.after, image.before, first, chains)
      if (image.after.content.kind === 'blob' || image.before?.content.kind === 'blob') hasBlobs = true
    }
  }
  writer.varint(revision.events.length)
  for (let i = 0; i < revision.events.length; i++) encodeEvent(writer, revision.events[i]!, revision, first, i)
  return hasBlobs
}

function encodeNodeImage(writer: ByteWriter, after: NodeRecord, before: NodeRecord | undefined, first: number, chains: Chains): void {
  const isNamed = before !== undefined && before.since >= first // F1
  const jump = isNamed ? chains.ofNode(after.ino, after.since, before.version, after.version) : 0
  writer.u8((before === undefined ? 0 : isNamed ? image_named : image_embedded) | (jump === 0 ? 0 : image_jump))
  encodeNode(writer, after)
  if (before !== undefined) {
    if (isNamed) writer.varint(before.since)
    else encodeNode(writer, before)
  }
  if (jump !== 0) writer.varint(jump)
}

function encodeEntryImage(
  writer: ByteWriter,
  after: DirectoryEntry,
  before: DirectoryEntry | undefined,
  first: number,
  chains: Chains,
): void {
  const jump = before !== undefined && before.since >= first ? chains.ofEntry(after.parent, after.name, after.since) : 0
  writer.u8(image_entry | (before === undefined ? 0 : image_embedded) | (jump === 0 ? 0 : image_jump))
  writer.varint(after.parent)
  writer.text(after.name)
  writer.varint(after.ino)
  if (before !== undefined) {
    writer.varint(before.ino)
    writer.varint(before.since)
  }
  if (jump !== 0) writer.varint(jump)
}

function decodeImage(reader: ByteReader, revision: number, finder: RecordFinder): StoredImage {
  const tag = reader.u8()
  if ((tag & image_entry) !== 0) {
    const parent = reader.varint()
    const name = reader.text()
    const after = { parent, name, ino: reader.varint(), since: revision }
    const before = (tag & image_embedded) === 0 ? undefined : { parent, name, ino: reader.varint(), since: reader.varint() }
    const jump = (tag & image_jump) === 0 ? 0 : reader.varint()
    return { kind: 'entry', after, before, beforeSince: before?.since, jump }
  }
  const after = decodeNode(reader, undefined)
  if ((tag & image_named) !== 0) {
    const since = reader.varint()
    const jump = (tag & image_jump) === 0 ? 0 : reader.varint()
    return new NamedBefore(after, since, jump, finder)
  }
  const before = (tag & image_embedded) === 0 ? undefined : decodeNode(reader, undefined)
  return { kind: 'node', after, before, beforeSince: before?.since, jump: 0 }
}

/** An image whose `before` stands elsewhere in its segment. */
class NamedBefore {
  readonly kind = 'node'
  readonly after: NodeRecord
  readonly beforeSince: number
  readonly jump: number
  readonly #finder: RecordFinder

  constructor(after: NodeRecord, beforeSince: number, jump: number, finder: RecordFinder) {
    this.after = after
    this.beforeSince = beforeSince
    this.jump = jump
    this.#finder = finder
  }

  get before(): NodeRecord {
    return this.#finder.nodeOf(this.beforeSince, this.after.ino)
  }
}

function encodeEvent(writer: ByteWriter, event: StoreEvent, revision: Revision, first: number, ordinal: number): void {
  const { node, previous } = event
  const nodeImage = imageOf(revision.images, 'after', node, ordinal)
  const nodeHow = nodeImage >= 0 ? how_image : howOf(node, revision, first)
  const previousImage = previous === undefined ? -1 : imageOf(revision.images, 'before', previous, ordinal)
  const previousHow = previous === undefined ? 0 : previousImage >= 0 ? how_before : howOf(previous, revision, first)
  writer.u8(
    eventTypes.indexOf(event.type) |
      (event.subtree ? event_subtree : 0) |
      (event.from === undefined ? 0 : event_from) |
      (nodeHow << node_shift) |
      (previousHow << previous_shift),
  )
  writer.text(event.path)
  if (event.from !== undefined) writer.text(event.from)
  if (nodeHow === how_image) writer.varint(nodeImage)
  else encodeHow(writer, node, nodeHow)
  if (previous === undefined) return
  if (previousHow === how_before) writer.varint(previousImage)
  else encodeHow(writer, previous, previousHow)
}

/** Index of the image that holds this very record, or -1. Looked for from `near` on: events and images go side by side. */
function imageOf(images: readonly Image[], side: 'after' | 'before', node: NodeRecord, near: number): number {
  const { length } = images
  for (let i = 0; i < length; i++) {
    const at = (near + i) % length
    if (images[at]![side] === node) return at
  }
  return -1
}

/** F1. A state inside a transaction (`since` is this very revision, but no image) is written out. */
function howOf(node: NodeRecord, revision: Revision, first: number): typeof how_embedded | typeof how_named {
  return node.since >= first && node.since < revision.revision ? how_named : how_embedded
}

function encodeHow(writer: ByteWriter, node: NodeRecord, how: number): void {
  if (how === how_embedded) encodeNode(writer, node)
  else {
    writer.varint(node.ino)
    writer.varint(node.since)
  }
}

function decodeEvent(reader: ByteReader, images: readonly StoredImage[], finder: RecordFinder): StoreEvent {
  const tag = reader.u8()
  const type = eventTypes[tag & 3]!
  const path = reader.text() as Path
  const from = (tag & event_from) === 0 ? undefined : (reader.text() as Path)
  const node = decodeHow(reader, (tag >> node_shift) & 3, images, finder)
  const previousHow = (tag >> previous_shift) & 3
  const previous = previousHow === 0 ? undefined : decodeHow(reader, previousHow, images, finder)
  if (node === undefined) throw new DamagedBytes('an event has no record')
  return new DecodedEvent(type, path, from, (tag & event_subtree) !== 0, node, previous)
}

/** A record, or how to find it. */
type Found = NodeRecord | (() => NodeRecord | undefined) | undefined

function decodeHow(reader: ByteReader, how: number, images: readonly StoredImage[], finder: RecordFinder): Found {
  if (how === how_embedded) return decodeNode(reader, undefined)
  if (how === how_named) {
    const ino = reader.varint()
    const since = reader.varint()
    return () => finder.nodeOf(since, ino)
  }
  const image = images[reader.varint()]
  if (image?.kind !== 'node') throw new DamagedBytes('an event names no image')
  return how === how_image ? image.after : () => image.before
}

class DecodedEvent implements StoreEvent {
  readonly type: StoreEvent['type']
  readonly path: Path
  readonly from: Path | undefined
  readonly subtree: boolean
  #node: Found
  #previous: Found

  constructor(type: StoreEvent['type'], path: Path, from: Path | undefined, subtree: boolean, node: Found, previous: Found) {
    this.type = type
    this.path = path
    this.from = from
    this.subtree = subtree
    this.#node = node
    this.#previous = previous
  }

  get node(): NodeRecord {
    if (typeof this.#node === 'function') this.#node = this.#node()
    return this.#node!
  }

  get previous(): NodeRecord | undefined {
    if (typeof this.#previous === 'function') this.#previous = this.#previous()
    return this.#previous
  }
}
