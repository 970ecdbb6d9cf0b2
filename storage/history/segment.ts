/**
 * One file of history: the records of a run of revisions, one behind the other, and where each begins.
 *
 * S1 Records are appended to memory at once and written in order in the background; until then they are read from memory.
 * S2 A record whose checksum does not hold is `corrupt` when it is read; the others stay readable.
 * S3 A sealed segment never changes. Its index file can be made again from it at any time.
 */
import {
  closeSync,
  existsSync,
  fdatasync,
  ftruncateSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  unlinkSync,
  write,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { NineError, isNineError } from '../../namespace/errors.ts'
import type { Micros } from '../../namespace/stat.ts'
import type { BlobRef, Ino, NodeRecord } from '../model.ts'
import { DamagedBytes } from '../tree/bytes.ts'
import { Chains } from './chains.ts'
import {
  blobsOf,
  damaged,
  decodeBody,
  decodeHeader,
  header_bytes,
  type RecordFinder,
  type RecordHeader,
  type StoredRevision,
} from './format.ts'
import { BlobSet, decodeIndex, encodeIndex, sizeInIndex } from './index-file.ts'
import { scanSegment } from './scan.ts'

const slab_bytes_min = 16 * 1024
const slab_bytes_max = 1024 * 1024
const op = 'history.read'

interface Slab {
  /** Where in the file it begins. */
  offset: number
  readonly buffer: Buffer
  length: number
  written: number
}

/** What a copy of a segment is made of. */
export interface SegmentFile {
  readonly path: string
  readonly first: number
  readonly count: number
  /** Bytes of the file that are part of it. */
  readonly bytes: number
  /** What goes into the index file beside it; it may name blobs of later revisions as well. */
  readonly index: Buffer
}

export class Segment implements RecordFinder {
  readonly path: string
  readonly first: number
  readonly chains = new Chains()
  #fd: number | undefined
  #offsets: Uint32Array | undefined
  #blobs = new BlobSet()
  #count = 0
  #size = 0
  #slabs: Slab[] = []
  #isDirty = false
  #firstTime: Micros | undefined

  constructor(dir: string, first: number) {
    this.path = segmentPath(dir, first)
    this.first = first
  }

  /** A new, empty segment. */
  static create(dir: string, first: number): Segment {
    const segment = new Segment(dir, first)
    segment.#fd = openSync(segment.path, 'wx+', 0o600)
    segment.#offsets = new Uint32Array(1024)
    return segment
  }

  /** Bytes of records, written or not. */
  get size(): number {
    return this.#size
  }

  get count(): number {
    return this.#count
  }

  /** The last revision it holds; first - 1 when it is empty. */
  get last(): number {
    return this.first + this.#count - 1
  }

  /** Appended and not yet in the file. */
  get pendingBytes(): number {
    let bytes = 0
    for (const slab of this.#slabs) bytes += slab.length - slab.written
    return bytes
  }

  /** Open for appending after revision `last`: what stands behind it is cut off. @throws NineError `corrupt` when it ends before */
  openLast(last: number): void {
    this.#fd = openSync(this.path, 'r+')
    if (!this.#openIndexed(last)) this.#scan(last)
    this.#size = Math.min(this.#size, fstatSync(this.#fd).size)
    ftruncateSync(this.#fd, this.#size)
    unlinkQuietly(indexPath(this.path))
    if (this.last < last) {
      const message = `history ends at revision ${this.last}, the tree is at ${last}: ${this.path} was cut short or files after it are missing. Restore the data folder from a backup`
      throw new NineError({ kind: 'corrupt', op: 'history.open', path: this.path, message })
    }
  }

  /** A segment that others follow: it holds revisions up to `last`. */
  openSealed(last: number, size: number): void {
    this.#count = last - this.first + 1
    this.#size = size
  }

  /** The part of it up to a revision that it holds, or all. @throws NineError `corrupt` */
  fileUpTo(revision: number): SegmentFile {
    this.#load()
    const { path, first } = this
    const count = Math.min(revision, this.last) - first + 1
    const offsets = this.#offsets!
    // Where the next one is damaged, it is before the tree's last checkpoint: such a segment is copied as a whole.
    const next = count < this.#count ? offsets[count]! : this.#size
    const bytes = next === damaged ? this.#size : next
    return { path, first, count, bytes, index: Buffer.from(encodeIndex(first, bytes, offsets.subarray(0, count), this.#blobs)) }
  }

  append(bytes: Buffer): void {
    let slab = this.#slabs[this.#slabs.length - 1]
    if (slab === undefined || slab.length + bytes.length > slab.buffer.length) {
      const wanted = slab === undefined ? slab_bytes_min : Math.min(4 * slab.buffer.length, slab_bytes_max)
      slab = { offset: this.#size, buffer: Buffer.allocUnsafeSlow(Math.max(wanted, bytes.length)), length: 0, written: 0 }
      this.#slabs.push(slab)
    }
    let offsets = this.#offsets!
    if (this.#count === offsets.length) {
      const longer = new Uint32Array(2 * offsets.length)
      longer.set(offsets)
      this.#offsets = offsets = longer
    }
    slab.buffer.set(bytes, slab.length)
    slab.length += bytes.length
    offsets[this.#count++] = this.#size
    this.#size += bytes.length
  }

  noteBlobs(revision: StoredRevision): void {
    for (const blob of blobsOf(revision)) this.#blobs.add(blob)
  }

  blobs(): Iterable<BlobRef> {
    this.#load()
    return this.#blobs.all()
  }

  addBlob(blob: BlobRef): void {
    this.#blobs.add(blob)
  }

  /** Write what is pending, in order. One call at a time. Rejects with the system's error; what was not written stays pending. */
  async flush(): Promise<void> {
    for (let slab = this.#slabs[0]; slab !== undefined; slab = this.#slabs[0]) {
      while (slab.written < slab.length) {
        this.#isDirty = true
        const from = slab.written
        slab.written = from + (await writeAt(this.#open(), slab.buffer, from, slab.length - from, slab.offset + from))
      }
      if (this.#slabs.length === 1) {
        // Its memory is used again: what is in the file is read from there.
        slab.offset += slab.length
        slab.length = slab.written = 0
        return
      }
      this.#slabs.shift()
    }
  }

  /** Everything written is on stable storage. */
  async sync(): Promise<void> {
    if (!this.#isDirty) return
    this.#isDirty = false
    try {
      await syncData(this.#open())
    } catch (error) {
      this.#isDirty = true
      throw error
    }
  }

  /** S3: no more appends; everything is written. Leaves an index and frees the memory. */
  seal(): void {
    this.#slabs = []
    const offsets = this.#offsets?.subarray(0, this.#count)
    if (offsets !== undefined)
      writeFileSync(indexPath(this.path), encodeIndex(this.first, this.#size, offsets, this.#blobs), { mode: 0o600 })
    this.release()
  }

  /** Let go of what can be loaded again. */
  release(): void {
    if (this.#slabs.length > 0) return
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
    this.#offsets = undefined
    this.#blobs = new BlobSet()
  }

  close(): void {
    this.#slabs = []
    this.release()
  }

  remove(): void {
    this.close()
    unlinkQuietly(indexPath(this.path))
    unlinkQuietly(this.path)
  }

  /** @throws NineError `corrupt` */
  read(revision: number): StoredRevision {
    const offset = this.#offsetOf(revision)
    const next = revision === this.last ? this.#size : this.#offsets![revision + 1 - this.first]!
    try {
      // Where the next one is damaged, only the header tells the length.
      if (next === damaged) return this.#decode(revision, this.#bytes(offset, header_bytes + this.header(revision).bodyBytes))
      return this.#decode(revision, this.#bytes(offset, next - offset))
    } catch (error) {
      throw isNineError(error) ? error : this.#damage(revision, error)
    }
  }

  /** @throws NineError `corrupt` */
  header(revision: number): RecordHeader {
    const header = decodeHeader(this.#bytes(this.#offsetOf(revision), header_bytes), 0)
    if (header?.revision !== revision) throw this.#damage(revision)
    return header
  }

  firstTime(): Micros {
    return (this.#firstTime ??= this.header(this.first).time)
  }

  nodeOf(since: number, ino: Ino): NodeRecord {
    for (const image of this.read(since).images) if (image.kind === 'node' && image.after.ino === ino) return image.after
    throw this.#damage(since)
  }

  #offsetOf(revision: number): number {
    this.#load()
    const offset = this.#offsets![revision - this.first]
    if (offset === undefined || offset === damaged) throw this.#damage(revision)
    return offset
  }

  #decode(revision: number, bytes: Buffer): StoredRevision {
    const header = decodeHeader(bytes, 0)
    if (header?.revision !== revision) throw new DamagedBytes('the header is damaged')
    return decodeBody(header, bytes.subarray(header_bytes), this)
  }

  #damage(revision: number, cause?: unknown): NineError {
    if (cause instanceof Error && !(cause instanceof DamagedBytes) && !(cause instanceof RangeError)) throw cause
    const message = `revision ${revision} is damaged in ${this.path}; other revisions and the newest state are not affected. Restore the file from a backup to read it`
    return new NineError({ kind: 'corrupt', op, path: this.path, message, cause })
  }

  #bytes(offset: number, length: number): Buffer {
    for (const slab of this.#slabs) {
      if (offset < slab.offset || offset >= slab.offset + slab.length) continue
      const from = offset - slab.offset
      return Buffer.from(slab.buffer.subarray(from, from + length))
    }
    const buffer = Buffer.allocUnsafe(length)
    const got = readSync(this.#open(), buffer, 0, length, offset)
    return got === length ? buffer : buffer.subarray(0, got)
  }

  #open(): number {
    return (this.#fd ??= openSync(this.path, 'r+'))
  }

  #load(): void {
    if (this.#offsets !== undefined) return
    let index: Buffer
    try {
      index = readFileSync(indexPath(this.path))
    } catch {
      this.#scan(this.last)
      return
    }
    const blobs = new BlobSet()
    const offsets = decodeIndex(index, this.first, this.#count, blobs)
    if (offsets === undefined) {
      this.#scan(this.last)
      return
    }
    this.#offsets = offsets
    this.#blobs = blobs
  }

  /** Whether an index that was made for exactly this end is there: then it need not be scanned. */
  #openIndexed(last: number): boolean {
    const count = last - this.first + 1
    const path = indexPath(this.path)
    if (count <= 0 || !existsSync(path)) return false
    const index = readFileSync(path)
    const blobs = new BlobSet()
    const offsets = decodeIndex(index, this.first, count, blobs)
    const size = offsets === undefined ? undefined : sizeInIndex(index)
    if (offsets === undefined || size === undefined || size > fstatSync(this.#fd!).size) return false
    this.#offsets = offsets
    this.#blobs = blobs
    this.#count = count
    this.#size = size
    return true
  }

  #scan(last: number): void {
    const { offsets, end, blobRevisions } = scanSegment(this.#open(), this.first, last)
    this.#offsets = new Uint32Array(Math.max(1024, offsets.length))
    this.#offsets.set(offsets)
    this.#count = offsets.length
    this.#size = end
    for (const revision of blobRevisions) {
      try {
        this.noteBlobs(this.read(revision))
      } catch (error) {
        if (!isNineError(error, 'corrupt')) throw error // S2
      }
    }
  }
}

/** The index file beside a segment. */
export function indexPath(path: string): string {
  return path.replace(/\.history$/, '.index')
}

export function segmentPath(dir: string, first: number): string {
  return join(dir, `${String(first).padStart(16, '0')}.history`)
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

function writeAt(fd: number, buffer: Buffer, from: number, length: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, buffer, from, length, position, (error, written) => (error === null ? resolve(written) : reject(error)))
  })
}

function syncData(fd: number): Promise<void> {
  return new Promise((resolve, reject) => fdatasync(fd, (error) => (error === null ? resolve() : reject(error))))
}
