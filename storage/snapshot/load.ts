/**
 * Loading a snapshot into a group, beside the state that the group has, and putting it in that state's place.
 *
 * I1 Nothing of the group changes before all of the snapshot was read and its hash held. Then one transaction makes it the group's
 *    state; whatever crashes when, the group has the one or the other (S1 of tree/staged.ts).
 * I2 Rows, history and the machine's state are on stable storage before that transaction.
 * I3 The event loop has a turn at least after each block; memory is a few batches of rows.
 * I4 The caller is told of every large value that the snapshot names before it counts, so that it can see to their chunks.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Machine } from '../apply/machine.ts'
import { indexPath, segmentPath } from '../history/segment.ts'
import type { BlobRef } from '../model.ts'
import { ByteReader, DamagedBytes } from '../tree/bytes.ts'
import type { Environment } from '../tree/environment.ts'
import { decodeTreeMeta, machinePrefix, treeMetaText, type TreeMeta } from '../tree/meta.ts'
import { decodeBlobRef } from '../tree/record.ts'
import { asBuffer, checkRow, checksum_bytes, partOf } from '../tree/rows.ts'
import type { Staged } from '../tree/staged.ts'
import { BlockReader, type Block, type SnapshotSource } from './block-reader.ts'
import { fileError } from './files.ts'
import { damagedSnapshot, bareBytesOf, tableNames, type SnapshotHeader } from './format.ts'
import { RowDecoder } from './row-blocks.ts'

export interface LoadOptions {
  /** Default: those of the snapshot. */
  readonly group?: number | undefined
  readonly owner?: string | undefined
  /** Told of the header before anything is loaded; what it throws ends the load. */
  readonly onHeader?: ((header: SnapshotHeader) => void) | undefined
  /** Rows of the state machine that are left out. Default: none. */
  readonly isLeftOut?: ((key: string) => boolean) | undefined
  readonly signal?: AbortSignal | undefined
  /** Bytes read so far. */
  readonly progress?: ((bytes: number) => void) | undefined
  /** Told of each large value that the snapshot names, some more than once, before `take`. */
  readonly onBlobs?: ((blobs: readonly BlobRef[]) => void | Promise<void>) | undefined
}

export interface TakeOptions {
  /** Rows of the state machine to set (undefined: take away) in the same transaction. */
  readonly meta?: Iterable<readonly [string, Uint8Array | undefined]> | undefined
  /** Index of the last entry the state counts as holding; default the snapshot's. */
  readonly index?: number | undefined
  /** The first number that new nodes get; default the snapshot's. */
  readonly nextIno?: number | undefined
  /** Called in the turn in which the group's Tree has become this state: what goes with it changes there. */
  readonly taken?: (() => void) | undefined
}

/**
 * Read a snapshot to its end and hold it ready. On any failure the group is as it was.
 * @throws NineError `corrupt`, `unsupported` (newer format), `no_space`, `unavailable`, `internal`; the signal's reason
 */
export async function loadSnapshot(environment: Environment, source: SnapshotSource, options: LoadOptions = {}): Promise<LoadedSnapshot> {
  const reader = new BlockReader(source)
  const header = await reader.begin()
  options.onHeader?.(header)
  const staged = await environment.stage(options.group ?? header.group)
  const loading = new Loading(source.path, reader, header, staged, options)
  try {
    await loading.run()
    return new LoadedSnapshot(header, reader, staged, loading.machine, loading.tree!)
  } catch (error) {
    await loading.close()
    await staged.drop()
    throw error
  }
}

/** A snapshot that is ready to become the state of its group. */
export class LoadedSnapshot {
  readonly header: SnapshotHeader
  /** The state machine as of the snapshot: `adopt` it in the group's once `take` has resolved. */
  readonly machine: Machine
  /** Stands behind the snapshot's end: a backup's chunks follow there. */
  readonly reader: BlockReader
  readonly #staged: Staged
  readonly #tree: TreeMeta

  /** Use loadSnapshot. */
  constructor(header: SnapshotHeader, reader: BlockReader, staged: Staged, machine: Machine, tree: TreeMeta) {
    this.header = header
    this.reader = reader
    this.machine = machine
    this.#staged = staged
    this.#tree = tree
  }

  get nextIno(): number {
    return this.#tree.nextIno
  }

  /**
   * Become the group's state: durable, and what the group's Tree shows, when it resolves. Until then nothing may be applied to the tree and no
   * checkpoint of it be under way. I1
   * @throws NineError `no_space`, `internal`: then the old state stands, and this may be called again
   */
  async take(options: TakeOptions = {}): Promise<void> {
    const { meta = [], index = this.#tree.appliedIndex, nextIno = this.#tree.nextIno, taken } = options
    const tree = { appliedIndex: index, revision: this.#tree.revision, nextIno }
    await this.#staged.take(meta, { tree, taken })
  }

  /** Give it up. */
  async drop(): Promise<void> {
    await this.#staged.drop()
  }
}

/** Rows of about this size are put in one go; of tables with small rows each block by itself. */
const batch_bytes = 768 * 1024
/** State of the machine taken over in one turn, bytes. */
const machine_bytes = 512 * 1024
const group_bytes = 4

class Loading {
  readonly machine: Machine
  /** The tree's own row. */
  tree: TreeMeta | undefined
  readonly #path: string
  readonly #reader: BlockReader
  readonly #header: SnapshotHeader
  readonly #staged: Staged
  readonly #options: LoadOptions
  readonly #decoder: RowDecoder
  #batch: Block[] = []
  /** Why rows could not be put. */
  #failure: { readonly error: unknown } | undefined
  #batchBytes = 0
  #segment: SegmentCopy | undefined
  /** The segment before it is on its way to stable storage: whether it was whole. */
  #ending: Promise<boolean> = Promise.resolve(true)
  #last: { readonly first: number; readonly count: number } | undefined

  constructor(path: string, reader: BlockReader, header: SnapshotHeader, staged: Staged, options: LoadOptions) {
    this.#path = path
    this.#reader = reader
    this.#header = header
    this.#staged = staged
    this.#options = options
    this.#decoder = new RowDecoder(header.slot, staged.slot)
    this.machine = new Machine({ owner: options.owner ?? header.owner })
  }

  async run(): Promise<void> {
    const { signal, progress } = this.#options
    for (;;) {
      const block = await this.#reader.next()
      signal?.throwIfAborted()
      progress?.(this.#reader.bytes)
      if (block.type === 'rows') await this.#rows(block)
      else if (block.type === 'blobs') await this.#options.onBlobs?.(this.#decoded(block, decodeBlobs))
      else if (block.type === 'segment') await this.#beginSegment(block)
      else if (block.type === 'history' && this.#segment !== undefined) await this.#segment.history(block.payload)
      else if (block.type === 'index' && this.#segment !== undefined) await this.#segment.index(block.payload)
      else if (block.type === 'end') break
      else throw damagedSnapshot(this.#path, `block ${block.number} is not one of a snapshot`)
    }
    await this.#put()
    await this.#endSegment()
    // Waits for what the first began.
    await this.#endSegment()
    await this.#finish()
  }

  async close(): Promise<void> {
    await this.#ending.catch(() => undefined)
    await this.#segment?.close().catch(() => undefined)
  }

  async #rows(block: Block): Promise<void> {
    const name = tableNames[block.payload[0] ?? -1]
    if (name === undefined) throw damagedSnapshot(this.#path, `block ${block.number} is of no table`)
    if (name === 'meta') {
      await this.#meta(block)
      return
    }
    this.#batch.push(block)
    this.#batchBytes += block.payload.length
    if (this.#batchBytes >= batch_bytes || (name !== 'nodes' && name !== 'contents')) await this.#put()
  }

  /** The rows of the blocks gathered, as one transaction. They are decoded as they are put: I3 */
  async #put(): Promise<void> {
    const blocks = this.#batch
    if (blocks.length === 0) return
    this.#batch = []
    this.#batchBytes = 0
    await this.#staged.put(() => {
      try {
        for (const { payload } of blocks) {
          const name = tableNames[payload[0]!]!
          const table = this.#staged.tables[name]
          this.#decoder.rows(payload, 1, bareBytesOf(name), (key, from, to) => table.put(key, partOf(payload, from, to)))
        }
      } catch (error) {
        // What a batch throws is lost on some ways.
        this.#failure ??= { error: this.#undecodable(blocks[0]!, error) }
      }
    })
    this.#check()
    await nextTurn()
  }

  /** Rows may be put later than they are given. */
  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }

  async #meta(block: Block): Promise<void> {
    const rows: [Uint8Array, Buffer][] = []
    const { payload } = block
    const { isLeftOut } = this.#options
    this.#decode(block, () =>
      this.#decoder.rows(payload, 1, -1, (key, from, to) => {
        const isKept = isLeftOut?.(asBuffer(key).toString('utf8', group_bytes + machinePrefix.length)) !== true
        if (isKept) rows.push([new Uint8Array(key), payload.subarray(from, to)])
      }),
    )
    await this.#staged.put(() => {
      for (const [key, value] of rows) this.#staged.tables.meta.put(key, value)
    })
    let bytes = 0
    for (const [key, value] of rows) {
      const text = asBuffer(key).toString('utf8', group_bytes)
      const row = checkRow(key, value, `the state "${text}" in ${this.#path}`)
      if (text === treeMetaText) this.tree = decodeTreeMeta(row, this.#header.group)
      else this.machine.importPart([[text.slice(machinePrefix.length), new Uint8Array(row)]])
      bytes += value.length + checksum_bytes
      if (bytes < machine_bytes) continue
      bytes = 0
      await nextTurn()
    }
  }

  async #beginSegment(block: Block): Promise<void> {
    await this.#endSegment()
    const { first, count, bytes } = this.#decoded(block, decodeSegment)
    if (this.#last !== undefined && first !== this.#last.first + this.#last.count) {
      throw damagedSnapshot(this.#path, `its history does not go on with block ${block.number}`)
    }
    this.#last = { first, count }
    this.#segment = new SegmentCopy(this.#staged.historyDir, first, bytes)
  }

  async #endSegment(): Promise<void> {
    if (!(await this.#ending)) throw damagedSnapshot(this.#path, `a segment of its history is not whole`)
    this.#ending = this.#segment?.end() ?? Promise.resolve(true)
    // Told when it is waited for.
    this.#ending.catch(() => undefined)
    this.#segment = undefined
  }

  /** I2 */
  async #finish(): Promise<void> {
    const { revision, index } = this.#header
    const { tree } = this
    if (tree?.revision !== revision || tree.appliedIndex !== index)
      throw damagedSnapshot(this.#path, 'its rows are not those of its header')
    if (this.#last !== undefined && this.#last.first + this.#last.count - 1 !== revision) {
      throw damagedSnapshot(this.#path, `its history does not end at revision ${revision}`)
    }
    if (this.#last === undefined) await new SegmentCopy(this.#staged.historyDir, revision + 1, 0).end()
    await syncFolder(this.#staged.historyDir)
    this.machine.imported()
    await this.#staged.settle()
    this.#check()
  }

  #decoded<T>(block: Block, decode: (reader: ByteReader) => T): T {
    return this.#decode(block, () => {
      const reader = new ByteReader(block.payload)
      const decoded = decode(reader)
      reader.finish()
      return decoded
    })
  }

  #decode<T>(block: Block, decode: () => T): T {
    try {
      return decode()
    } catch (error) {
      throw this.#undecodable(block, error)
    }
  }

  #undecodable(block: Block, error: unknown): unknown {
    if (!(error instanceof DamagedBytes) && !(error instanceof RangeError)) return error
    return damagedSnapshot(this.#path, `block ${block.number} cannot be read: ${error.message}`, error)
  }
}

export function decodeBlobs(reader: ByteReader): BlobRef[] {
  const blobs: BlobRef[] = []
  for (let left = reader.varint(); left > 0; left--) blobs.push(decodeBlobRef(reader))
  return blobs
}

function decodeSegment(reader: ByteReader): { first: number; count: number; bytes: number } {
  return { first: reader.varint(), count: reader.varint(), bytes: reader.varint() }
}

/** A segment of history and its index, being written. */
class SegmentCopy {
  readonly #path: string
  readonly #bytes: number
  #history: FileHandle | undefined
  #index: FileHandle | undefined
  #written = 0

  constructor(dir: string, first: number, bytes: number) {
    this.#path = segmentPath(dir, first)
    this.#bytes = bytes
  }

  async history(bytes: Buffer): Promise<void> {
    this.#history ??= await create(this.#path)
    this.#written += bytes.length
    await writeAll(this.#history, bytes, this.#path)
  }

  async index(bytes: Buffer): Promise<void> {
    this.#index ??= await create(indexPath(this.#path))
    await writeAll(this.#index, bytes, this.#path)
  }

  /** Whether it is whole; then it is on stable storage. */
  async end(): Promise<boolean> {
    this.#history ??= await create(this.#path)
    try {
      await this.#history.datasync()
      await this.#index?.datasync()
    } catch (error) {
      throw fileError(error, op, this.#path)
    } finally {
      await this.close()
    }
    return this.#written === this.#bytes
  }

  async close(): Promise<void> {
    await this.#history?.close()
    this.#history = undefined
    await this.#index?.close()
    this.#index = undefined
  }
}

const op = 'snapshot.load'

async function create(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx', 0o600)
  } catch (error) {
    throw fileError(error, op, path)
  }
}

async function writeAll(file: FileHandle, bytes: Buffer, path: string): Promise<void> {
  try {
    for (let done = 0; done < bytes.length;) done += (await file.write(bytes, done, bytes.length - done)).bytesWritten
  } catch (error) {
    throw fileError(error, op, path)
  }
}

async function syncFolder(dir: string): Promise<void> {
  try {
    for (const path of [dir, `${dir}/..`]) {
      const folder = await open(path, 'r')
      await folder.sync().finally(() => folder.close())
    }
  } catch (error) {
    throw fileError(error, op, dir)
  }
}
