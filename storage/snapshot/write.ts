/**
 * Writing a snapshot of a store while changes go on.
 *
 * What is written is the store's last checkpoint, read in one read transaction of the database: one revision's state with its applied
 * index and what the state machine keeps (R2 of tree/tree.ts). The transaction lasts as long as writing to `target`, which should be a
 * file on this machine: what checkpoints overwrite meanwhile takes room in the database's file, and is used again afterwards. A slow
 * receiver is served from the file.
 *
 * W1 The event loop has a turn at least after each `turn_rows` rows and each block.
 * W2 A row whose checksum does not hold ends it with `corrupt`: no snapshot spreads damage.
 * W3 History is held while it is copied, and all that only history shows; what is appended meanwhile is not part of the snapshot.
 */
import { open } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { systemClock, type Clock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { BlobRef } from '../model.ts'
import { BlobSet, decodeIndex } from '../history/index-file.ts'
import type { SegmentFile } from '../history/segment.ts'
import { ByteReader } from '../tree/bytes.ts'
import { decodeTreeMeta, machinePrefix, treeMetaText } from '../tree/meta.ts'
import { decodeNode, encodeBlobRef, namesBlob } from '../tree/record.ts'
import type { ScannedRow } from '../tree/row-scan.ts'
import { asBuffer, checkRow, checksum_bytes, damagedRow, rowKey } from '../tree/rows.ts'
import type { Tree, TreeReading } from '../tree/tree.ts'
import { BlockWriter, type SnapshotTarget } from './block-writer.ts'
import { fileError, writeFileWhole } from './files.ts'
import { encodeHeader, bareBytesOf, tableNames, type SnapshotHeader, type TableName } from './format.ts'
import { isRowWhole, RowEncoder } from './row-blocks.ts'

/** Whose state it is. */
export type SnapshotIdentity = Pick<SnapshotHeader, 'store' | 'incarnation' | 'name' | 'owner' | 'group'>

export interface WriteOptions {
  /** Last term and members as of the state; asked with the state machine's rows as they are in it. Default: term 1, none. */
  readonly describe?: ((row: (key: string) => Uint8Array | undefined) => Pick<SnapshotHeader, 'term' | 'configuration'>) | undefined
  /** Rows of the state machine that mean something on this node only. Default: the log's, `log` and `logId`. */
  readonly isLocal?: ((key: string) => boolean) | undefined
  /** Whether history travels, so that watches and the past go on elsewhere. Default true. */
  readonly history?: boolean | undefined
  readonly isBackup?: boolean | undefined
  /** Told of the header before anything is written. */
  readonly onHeader?: ((header: SnapshotHeader) => void) | undefined
  /** Given the payload of each block of large values (`decodeBlobs` of load.ts), good until it returns. */
  readonly onBlobs?: ((payload: Buffer) => void) | undefined
  /** Of a file: false where it is of use to this process only. Default true. */
  readonly isDurable?: boolean | undefined
  readonly clock?: Clock | undefined
  readonly signal?: AbortSignal | undefined
  /** Bytes written so far. */
  readonly progress?: ((bytes: number) => void) | undefined
}

export interface WrittenSnapshot {
  readonly header: SnapshotHeader
  readonly bytes: number
  /** SHA-256 that its last block holds, hexadecimal. */
  readonly hash: string
}

/** Rows of the log's place, which are about this node's log. */
export function isLocalRow(key: string): boolean {
  return key === 'log' || key === 'logId' || key === 'raft'
}

/**
 * Write a snapshot to a file, whole or not at all. Save the store before, where it has to hold all that was applied.
 * @throws NineError `corrupt` (W2), `no_space`, `denied`, `read_only`, `unavailable`; the signal's reason
 */
export async function writeSnapshotFile(
  tree: Tree,
  identity: SnapshotIdentity,
  path: string,
  options: WriteOptions = {},
): Promise<WrittenSnapshot> {
  let written: WrittenSnapshot | undefined
  await writeFileWhole(
    path,
    async (target) => {
      written = await writeSnapshot(tree, identity, target, options)
    },
    { isDurable: options.isDurable },
  )
  return written!
}

/** As writeSnapshotFile, to anything that takes bytes. */
export async function writeSnapshot(
  tree: Tree,
  identity: SnapshotIdentity,
  target: SnapshotTarget,
  options: WriteOptions = {},
): Promise<WrittenSnapshot> {
  const writer = new BlockWriter(target, limits.snapshot_block_bytes, options.signal)
  const header = await writeState(tree, identity, writer, options)
  const hash = writer.digest()
  await writer.block('end', hash)
  await writer.settle()
  return { header, bytes: writer.bytes, hash: hash.toString('hex') }
}

/** Everything but the end. */
export async function writeState(
  tree: Tree,
  identity: SnapshotIdentity,
  writer: BlockWriter,
  options: WriteOptions,
): Promise<SnapshotHeader> {
  await tree.ensureSaved()
  const release = tree.hold() // W3
  try {
    const reading = tree.reading()
    try {
      return await new StateWriter(tree, reading, writer, options).run(identity)
    } finally {
      reading.done()
    }
  } finally {
    release()
  }
}

const blobs_max = 1_000
const turn_rows = 2_000
const op = 'snapshot.write'
const group_bytes = 4

class StateWriter {
  readonly #tree: Tree
  readonly #reading: TreeReading
  readonly #writer: BlockWriter
  readonly #options: WriteOptions
  readonly #isLocal: (key: string) => boolean
  #blobs: BlobRef[] = []
  /** Rows since others had a turn. */
  #rows = 0

  constructor(tree: Tree, reading: TreeReading, writer: BlockWriter, options: WriteOptions) {
    this.#tree = tree
    this.#reading = reading
    this.#writer = writer
    this.#options = options
    this.#isLocal = options.isLocal ?? isLocalRow
  }

  async run(identity: SnapshotIdentity): Promise<SnapshotHeader> {
    const header = this.#header(identity)
    this.#options.onHeader?.(header)
    const files = this.#options.history === false ? [] : this.#tree.history.files(header.revision)
    await this.#writer.preamble()
    await this.#writer.block('header', encodeHeader(header))
    for (const [i, name] of tableNames.entries()) await this.#table(i, name)
    await this.#endBlobs()
    for (const file of files) await this.#segment(file)
    return header
  }

  #header(identity: SnapshotIdentity): SnapshotHeader {
    const row = this.#metaRow(treeMetaText)
    if (row === undefined) throw new NineError({ kind: 'unavailable', op, message: 'the store has not been saved yet: try again' })
    const meta = decodeTreeMeta(row, identity.group)
    const { describe, clock = systemClock, history = true, isBackup = false } = this.#options
    const described = describe?.((key) => this.#metaRow(machinePrefix + key))
    return {
      ...identity,
      index: meta.appliedIndex,
      term: described?.term ?? 1,
      configuration: described?.configuration ?? Buffer.alloc(0),
      revision: meta.revision,
      floor: history ? Math.min(this.#tree.history.floor, meta.revision) : meta.revision,
      createdAt: clock.now(),
      isBackup,
      slot: this.#reading.slot,
    }
  }

  #metaRow(text: string): Buffer | undefined {
    const { slot, tables, transaction } = this.#reading
    const start = rowKey(slot, -1, -1, text)
    for (const { key, value } of tables.meta.getRange({ start, end: rowKey(slot + 1), limit: 1, transaction })) {
      if (asBuffer(key).toString('utf8', group_bytes) === text) return checkRow(key, value, `the state "${text}" of store ${slot}`)
    }
    return undefined
  }

  async #table(number: number, name: TableName): Promise<void> {
    const { slot } = this.#reading
    const writer = this.#writer
    const encoder = new RowEncoder()
    const bare_bytes = bareBytesOf(name)
    const end = rowKey(slot + 1)
    let last: Buffer | undefined
    for (let isMore = true; isMore;) {
      const { payload } = writer
      let left = Math.max(1, turn_rows - this.#rows)
      isMore = false
      const range = { start: last ?? rowKey(slot), end, exclusiveStart: last !== undefined }
      this.#rows += this.#reading.scan(name, range, (row) => {
        if (row.valueBytes !== bare_bytes && !isRowWhole(row)) throw damagedRow(`a row of ${name} of store ${slot}`) // W2
        if (name !== 'meta' || !this.#isLocalRow(row)) {
          if (name === 'nodes' && namesBlob(row.value, 0)) this.#noteBlob(row)
          if (writer.isEmpty) {
            encoder.begin()
            payload.u8(number)
          }
          encoder.row(payload, row)
        }
        isMore = writer.isFull || --left === 0
        if (isMore) last = Buffer.from(row.key.subarray(0, row.keyBytes))
        return !isMore
      })
      if (writer.isFull) {
        await this.#end('rows')
        if (this.#blobs.length >= blobs_max) await this.#endBlobs()
      } else if (isMore) {
        await this.#turn()
      }
    }
    if (!writer.isEmpty) await this.#end('rows')
  }

  #isLocalRow({ key, keyBytes }: ScannedRow): boolean {
    return this.#isLocal(key.toString('utf8', group_bytes + machinePrefix.length, keyBytes))
  }

  #noteBlob({ value, valueBytes }: ScannedRow): void {
    // What is kept of it stands in memory of its own: the value does not.
    const record = Buffer.from(value.subarray(0, valueBytes - checksum_bytes))
    const { content } = decodeNode(new ByteReader(record), undefined)
    if (content.kind === 'blob') this.#blobs.push(content.blob)
  }

  async #endBlobs(): Promise<void> {
    while (this.#blobs.length > 0) {
      const blobs = this.#blobs.splice(0, blobs_max)
      const { payload } = this.#writer
      const from = payload.at
      payload.varint(blobs.length)
      for (const blob of blobs) encodeBlobRef(payload, blob)
      this.#options.onBlobs?.(payload.buffer.subarray(from, payload.at))
      await this.#end('blobs')
    }
  }

  async #segment(file: SegmentFile): Promise<void> {
    const blobs = new BlobSet()
    decodeIndex(file.index, file.first, file.count, blobs)
    this.#blobs.push(...blobs.all())
    await this.#endBlobs()
    const { payload } = this.#writer
    payload.varint(file.first)
    payload.varint(file.count)
    payload.varint(file.bytes)
    await this.#end('segment')
    const handle = await open(file.path, 'r').catch((error: unknown) => {
      throw fileError(error, op, file.path)
    })
    try {
      for (let at = 0; at < file.bytes;) {
        const bytes = Math.min(limits.snapshot_block_bytes, file.bytes - at)
        const writer = this.#writer.payload
        writer.reserve(bytes)
        const { bytesRead } = await handle.read(writer.buffer, writer.at, bytes, at)
        if (bytesRead === 0) throw cutShort(file.path)
        writer.at += bytesRead
        at += bytesRead
        await this.#end('history')
      }
    } finally {
      await handle.close()
    }
    for (let at = 0; at < file.index.length; at += limits.snapshot_block_bytes) {
      this.#writer.payload.raw(file.index.subarray(at, at + limits.snapshot_block_bytes))
      await this.#end('index')
    }
  }

  /** W1 */
  async #turn(): Promise<void> {
    this.#rows = 0
    await nextTurn()
  }

  async #end(type: Parameters<BlockWriter['end']>[0]): Promise<void> {
    await this.#writer.end(type)
    await this.#turn()
    this.#options.progress?.(this.#writer.bytes)
  }
}

function cutShort(path: string): NineError {
  return new NineError({ kind: 'corrupt', op, path, message: `${path} was cut short. Restore the data folder from a backup` })
}
