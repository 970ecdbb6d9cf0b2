/**
 * Segments: the files of the log, each with a header of one sector and frames after it.
 *
 *   00000001.wal ...   numbered without gaps; the newest one or two may hold no frame yet
 *   prepare.tmp        a segment being filled with zeros; spare.tmp, an old one waiting to be used again
 *
 * S1 A file gets its `.wal` name only when its header and its zeros are durable, so a bad header is damage.
 * S2 Frames lie one after another; after the last there are only zeros, or what an interrupted write left.
 */
import { join } from 'node:path'
import { crc32c } from '@node-rs/crc32'
import { NineError, isNineError, textOf, type ErrorKind } from '../../namespace/errors.ts'
import type { WalFile } from './files.ts'
import { aligned, checkBody, frame_header_bytes, readHeader, sector_bytes, type FrameHeader } from './frame.ts'

export const segment_header_bytes = sector_bytes
const magic = '9FOLDWAL'
const format_version = 1
const window_bytes = 1024 * 1024
const zeros = Buffer.alloc(64 * 1024)

export function segmentPath(dir: string, number: number): string {
  return join(dir, `${String(number).padStart(8, '0')}.wal`)
}

/** Number of the segment that a file name names. */
export function segmentNumber(name: string): number | undefined {
  return /^\d{8,}\.wal$/.test(name) ? Number.parseInt(name, 10) : undefined
}

/** Magic, format, number, capacity, log id (32 bytes at most), checksum; the rest of the sector is zeros. */
export function segmentHeader(number: number, capacity: number, logId: string): Buffer {
  const bytes = Buffer.alloc(segment_header_bytes)
  bytes.write(magic, 4, 'latin1')
  bytes.writeUInt32LE(format_version, 12)
  bytes.writeUInt32LE(number, 16)
  bytes.writeUInt32LE(capacity, 20)
  bytes.write(logId, 24, 32, 'latin1')
  bytes.writeUInt32LE(crc32c(bytes.subarray(4)), 0)
  return bytes
}

export interface SegmentHeader {
  readonly capacity: number
  readonly logId: string
}

/** @throws NineError `corrupt`, `unsupported` (a newer format) */
export function readSegmentHeader(file: WalFile, path: string, number: number): SegmentHeader {
  const bytes = Buffer.alloc(segment_header_bytes)
  const read = file.read(bytes, 0)
  if (read < bytes.length || bytes.toString('latin1', 4, 12) !== magic || crc32c(bytes.subarray(4)) !== bytes.readUInt32LE(0)) {
    throw damaged(path, 0, 'the header of the segment is damaged')
  }
  if (bytes.readUInt32LE(12) > format_version) {
    throw new NineError({
      kind: 'unsupported',
      op: 'wal.open',
      path,
      message: `${path} was written by a newer version: use a newer ninefold`,
    })
  }
  if (bytes.readUInt32LE(16) !== number) throw damaged(path, 0, `the file is segment ${bytes.readUInt32LE(16)} under another name`)
  const capacity = bytes.readUInt32LE(20)
  if (file.size < capacity) throw damaged(path, file.size, `the file ends there, ${capacity} bytes were written`)
  return { capacity, logId: bytes.toString('latin1', 24, 56).replace(/\0+$/, '') }
}

/** What stands at a place of a segment. `frame.bytes` is the whole frame, header first. */
export type Found =
  | { readonly kind: 'frame'; readonly header: FrameHeader; readonly bytes: Buffer }
  /** Zeros, or the end of the file. */
  | { readonly kind: 'end' }
  /** A write that was interrupted: from here to `to`. */
  | { readonly kind: 'torn'; readonly to: number }
  | { readonly kind: 'damaged'; readonly what: string }

/** Reads the frames of one segment in order, with a window of the file in memory. */
export class SegmentReader {
  /** Where the next frame is expected. */
  position = segment_header_bytes
  readonly #file: WalFile
  readonly #number: number
  readonly #capacity: number
  readonly #reuse: boolean
  #window: Buffer = Buffer.alloc(0)
  #windowAt = 0

  /** `reuse`: the bytes of a frame are valid only until the next call. */
  constructor(file: WalFile, number: number, capacity: number, reuse: boolean) {
    this.#file = file
    this.#number = number
    this.#capacity = capacity
    this.#reuse = reuse
  }

  /** The frame at `position`, which moves past it. `lsn`: of its first record, undefined where that is not known. */
  next(lsn: number | undefined): Found {
    const at = this.position
    if (at + frame_header_bytes > this.#capacity) return { kind: 'end' }
    const header = readHeader(this.#bytesAt(at, frame_header_bytes), 0)
    if (header === undefined) return { kind: 'end' }
    if (typeof header === 'string') return { kind: 'damaged', what: header }
    const size = aligned(frame_header_bytes + header.bodyBytes)
    if (header.segment !== this.#number) return { kind: 'damaged', what: `it holds a frame of segment ${header.segment}` }
    if (lsn !== undefined && header.lsn !== lsn)
      return { kind: 'damaged', what: `it goes on with record ${header.lsn} where ${lsn} was expected` }
    if (at + size > this.#capacity) return { kind: 'damaged', what: 'a frame is longer than the segment' }
    const bytes = this.#bytesAt(at, size)
    const body = checkBody(header, bytes, at)
    if (body === 'damaged') return { kind: 'damaged', what: 'the body of its frame does not match its checksum' }
    if (body === 'torn') return { kind: 'torn', to: at + size }
    this.position = at + size
    return { kind: 'frame', header, bytes }
  }

  /**
   * What follows a place where frames end: the offset behind the last byte that is not zero (undefined where there is
   * none), and whether a frame that belongs to this log stands there (its header is enough: a copy of this log among
   * the bytes of a record can only hold older lsns).
   */
  remains(from: number, lsn: number): { readonly to: number | undefined; readonly frameAt: number | undefined } {
    let to: number | undefined
    for (let at = from; at + frame_header_bytes <= this.#capacity; at += frame_header_bytes) {
      const rest = Math.min(zeros.length, this.#capacity - at)
      if (this.#bytesAt(at, rest).compare(zeros, 0, rest) === 0) {
        at += rest - frame_header_bytes
        continue
      }
      const bytes = this.#bytesAt(at, frame_header_bytes)
      const header = readHeader(bytes, 0)
      if (header === undefined) continue
      to = at + frame_header_bytes
      if (typeof header !== 'string' && header.segment === this.#number && header.lsn >= lsn) return { to, frameAt: at }
    }
    return { to, frameAt: undefined }
  }

  /** `length` bytes at `at`, within the capacity of the segment. */
  #bytesAt(at: number, length: number): Buffer {
    const end = this.#windowAt + this.#window.length
    if (at < this.#windowAt || at + length > end) {
      const size = Math.min(Math.max(window_bytes, length), this.#capacity - at)
      const window = this.#reuse && this.#window.length >= size ? this.#window.subarray(0, size) : Buffer.allocUnsafeSlow(size)
      this.#window = window
      this.#windowAt = at
      const read = this.#file.read(window, at)
      window.fill(0, read)
    }
    return this.#window.subarray(at - this.#windowAt, at - this.#windowAt + length)
  }
}

export function damaged(path: string, offset: number, what: string): NineError {
  const message =
    `the log is damaged in ${path} at byte ${offset}: ${what}. Nothing was changed. Records at and after this place cannot be ` +
    `trusted: check the disk and try again, or restore the data folder from a backup; a node of a cluster joins it anew with an empty folder`
  return new NineError({ kind: 'corrupt', op: 'wal.open', path, message })
}

const kindOfErrno: Record<string, ErrorKind> = {
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'read_only',
  ENOTDIR: 'not_directory',
  EEXIST: 'not_directory',
  ENOSPC: 'no_space',
  EDQUOT: 'no_space',
  EMFILE: 'overloaded',
  ENFILE: 'overloaded',
}

/** A failure of the file system as a NineError that names the file. */
export function walError(error: unknown, op: string, path: string, outcome: 'none' | 'unknown' = 'none'): NineError {
  if (isNineError(error)) return error
  const kind = kindOfErrno[(error as NodeJS.ErrnoException | undefined)?.code ?? ''] ?? 'internal'
  const message = `the log cannot use ${path}: ${textOf(error)}`
  return new NineError({ kind, op, path, message, outcome, cause: error })
}
