/**
 * Records of nodes as bytes: the form in the tree and in history.
 *
 * Format 1: u8 format · u8 flags (kind, what follows) · varints and texts in the order of `encodeNode` · content.
 * The checksum is whoever stores the bytes' own (rows.ts, history/format.ts): it covers the key as well.
 *
 * C1 decodeNode gives back exactly what encodeNode was given; anything else is a DamagedBytes error.
 */
import { allRights, type Right, type RightsEntry, type RightsRecord } from '../../namespace/rights.ts'
import { noContent, type BlobRef, type Content, type Ino, type NodeRecord } from '../model.ts'
import { DamagedBytes, type ByteReader, type ByteWriter } from './bytes.ts'

const format = 1
const kinds = ['file', 'directory', 'symlink'] as const

const kind_mask = 0x03
const content_shift = 2
const content_none = 0
const content_inline = 1
const content_blob = 2
const content_apart = 3
const has_content_type = 0x10
const has_lease = 0x20
const has_rights = 0x40

/** Gives the bytes of a content that is kept apart from its record. */
export interface ContentSource {
  contentOf(ino: Ino, since: number): Uint8Array
}

/** A value kept in a row of its own: `bytes` reads it each time it is asked for. */
export class ApartContent {
  readonly kind = 'inline'
  readonly size: number
  readonly #source: ContentSource
  readonly #ino: Ino
  readonly #since: number

  constructor(source: ContentSource, ino: Ino, since: number, size: number) {
    this.#source = source
    this.#ino = ino
    this.#since = since
    this.size = size
  }

  /** @throws NineError `corrupt`, or `compacted` when the file has changed since and history no longer has this value */
  get bytes(): Uint8Array {
    return this.#source.contentOf(this.#ino, this.#since)
  }
}

/** Whether the record's value stands in a row of its own once it is in the tree. */
export function isApart(content: Content, apartOver: number): boolean {
  return content.kind === 'inline' && (content.size ?? content.bytes.length) > apartOver
}

/** Append the record. Values of more than `apartOver` bytes are left out: only their length is written. */
export function encodeNode(writer: ByteWriter, node: NodeRecord, apartOver = Infinity): void {
  const { content } = node
  const apart = isApart(content, apartOver)
  const contentKind = apart
    ? content_apart
    : content.kind === 'none'
      ? content_none
      : content.kind === 'inline'
        ? content_inline
        : content_blob
  const kind = node.kind === 'file' ? 0 : node.kind === 'directory' ? 1 : 2
  writer.u8(format)
  writer.u8(
    kind |
      (contentKind << content_shift) |
      (node.contentType === undefined ? 0 : has_content_type) |
      (node.lease === undefined ? 0 : has_lease) |
      (node.rights === undefined ? 0 : has_rights),
  )
  writer.varint(node.ino)
  writer.varint(node.since)
  writer.varint(node.parent)
  writer.text(node.name)
  writer.varint(node.version)
  writer.varint(node.revision)
  writer.varint(node.createdRevision)
  writer.varint(node.mode)
  writer.text(node.owner)
  writer.text(node.group)
  writer.text(node.modifiedBy)
  writer.varint(node.createdAt)
  writer.varint(node.modifiedAt)
  if (node.contentType !== undefined) writer.text(node.contentType)
  if (node.lease !== undefined) writer.text(node.lease)
  if (node.rights !== undefined) encodeRights(writer, node.rights)
  if (content.kind === 'blob') encodeBlobRef(writer, content.blob)
  else if (content.kind === 'inline') {
    if (apart) writer.varint(content.size ?? content.bytes.length)
    else writer.bytes(content.bytes)
  }
}

/** @throws DamagedBytes */
export function decodeNode(reader: ByteReader, apart: ContentSource | undefined): NodeRecord {
  if (reader.u8() !== format) throw new DamagedBytes('the record has an unknown format')
  const flags = reader.u8()
  const kind = kinds[flags & kind_mask]
  if (kind === undefined) throw new DamagedBytes('the record has an unknown kind')
  const ino = reader.varint()
  const since = reader.varint()
  return {
    ino,
    since,
    kind,
    parent: reader.varint(),
    name: reader.text(),
    version: reader.varint(),
    revision: reader.varint(),
    createdRevision: reader.varint(),
    mode: reader.varint(),
    owner: reader.text(),
    group: reader.text(),
    modifiedBy: reader.text(),
    createdAt: reader.varint(),
    modifiedAt: reader.varint(),
    contentType: (flags & has_content_type) === 0 ? undefined : reader.text(),
    lease: (flags & has_lease) === 0 ? undefined : reader.text(),
    rights: (flags & has_rights) === 0 ? undefined : decodeRights(reader),
    content: decodeContent(reader, (flags >> content_shift) & 3, apart, ino, since),
  }
}

/** Whether a record's bytes, which start at `at`, name a blob: without decoding it. */
export function namesBlob(buffer: Uint8Array, at: number): boolean {
  return ((buffer[at + 1]! >> content_shift) & 3) === content_blob
}

function decodeContent(reader: ByteReader, kind: number, apart: ContentSource | undefined, ino: Ino, since: number): Content {
  if (kind === content_none) return noContent
  if (kind === content_blob) return { kind: 'blob', blob: decodeBlobRef(reader) }
  if (kind === content_inline) return { kind: 'inline', bytes: reader.bytes() }
  const size = reader.varint()
  if (apart === undefined) throw new DamagedBytes('the value of the record is missing')
  return new ApartContent(apart, ino, since, size)
}

function encodeRights(writer: ByteWriter, rights: RightsRecord): void {
  writer.varint(rights.length)
  for (const { who, rights: granted } of rights) {
    writer.text(who)
    writer.varint(granted.length)
    for (const right of granted) writer.u8(allRights.indexOf(right))
  }
}

function decodeRights(reader: ByteReader): RightsRecord {
  const entries: RightsEntry[] = []
  for (let left = reader.varint(); left > 0; left--) {
    const who = reader.text()
    const rights: Right[] = []
    for (let granted = reader.varint(); granted > 0; granted--) {
      const right = allRights[reader.u8()]
      if (right === undefined) throw new DamagedBytes('the record names an unknown right')
      rights.push(right)
    }
    entries.push({ who, rights })
  }
  return entries
}

export function encodeBlobRef(writer: ByteWriter, blob: BlobRef): void {
  writer.bytes(blob.root)
  writer.varint(blob.depth)
  writer.varint(blob.size)
}

export function decodeBlobRef(reader: ByteReader): BlobRef {
  return { root: new Uint8Array(reader.bytes()), depth: reader.varint(), size: reader.varint() }
}
