/**
 * The records inside messages: the stat of 9P2000 (stat(5)), which directories are read as there, and the entries of Rreaddir.
 *
 * D1 A directory entry is written whole or not at all.
 * D2 Memory follows what is written, not the count that was asked for.
 */
import { WireError } from '../protobuf.ts'
import {
  FieldReader,
  putCookie,
  putQid,
  putText,
  putUint16,
  putUint32,
  putUint64,
  putUint8,
  qid_bytes,
  text_bytes_max,
  textBytes,
} from './fields.ts'
import type { WireDirent, WireStat } from './messages.ts'

export { foldPath } from './fields.ts'

/** size[2] to length[8], and the lengths of four texts. */
const stat_fixed_bytes = 2 + 2 + 4 + qid_bytes + 4 + 4 + 4 + 8 + 4 * 2
/** qid, cookie, type[1] and the length of the name. */
const dirent_fixed_bytes = qid_bytes + 8 + 1 + 2
const first_bytes = 4096

/** Bytes of a stat with its size[2]. @throws WireError `too_large` where 9P cannot carry it */
export function encodedStatBytes(stat: WireStat): number {
  const bytes = stat_fixed_bytes + textBytes(stat.name) + textBytes(stat.uid) + textBytes(stat.gid) + textBytes(stat.muid)
  if (bytes > text_bytes_max) throw new WireError(`a stat has ${bytes} bytes, 9P carries ${text_bytes_max}`, 'too_large')
  return bytes
}

/** A stat with its size[2], as a directory of 9P2000 is read. @throws WireError for what it cannot carry */
export function encodeStat(stat: WireStat): Buffer {
  const bytes = encodedStatBytes(stat)
  const buffer = Buffer.allocUnsafe(bytes)
  putStat(buffer, 0, stat, bytes)
  return buffer
}

/** Write a stat of `bytes` (encodedStatBytes) at `at`. @returns where it ends */
export function putStat(buffer: Buffer, at: number, stat: WireStat, bytes: number): number {
  let to = putUint16(buffer, at, bytes - 2)
  to = putUint16(buffer, to, stat.type)
  to = putUint32(buffer, to, stat.dev)
  to = putQid(buffer, to, stat.qid)
  to = putUint32(buffer, to, stat.mode)
  to = putUint32(buffer, to, stat.atime)
  to = putUint32(buffer, to, stat.mtime)
  to = putUint64(buffer, to, stat.length)
  to = putText(buffer, to, stat.name)
  to = putText(buffer, to, stat.uid)
  to = putText(buffer, to, stat.gid)
  return putText(buffer, to, stat.muid)
}

/**
 * The stats that a directory of 9P2000 was read as. A name that is no text is given as '': other entries can be read all the same.
 *
 * @throws WireError for bytes that are not whole stats
 */
export function decodeStats(data: Buffer): WireStat[] {
  const fields = new FieldReader()
  fields.reset(data, 0, data.length)
  const stats: WireStat[] = []
  while (fields.left > 0) stats.push(readStat(fields, 'listed'))
  return stats
}

/** Where a stat stands. `listed`: a name that is no text is '' instead of an error. `change`: a path that is all ones is untouched64. */
export type StatUse = 'listed' | 'answer' | 'change'

/** One stat with its size[2]. */
export function readStat(fields: FieldReader, use: StatUse): WireStat {
  const outer = fields.end
  const size = fields.u16()
  if (size > fields.left) throw new WireError('a stat is longer than what holds it')
  fields.end = fields.at + size
  const stat: WireStat = {
    type: fields.u16(),
    dev: fields.u32(),
    qid: use === 'change' ? fields.changedQid() : fields.qid(),
    mode: fields.u32(),
    atime: fields.u32(),
    mtime: fields.u32(),
    length: fields.u64(),
    name: use === 'listed' ? (fields.anyText() ?? '') : fields.text(),
    uid: fields.text(),
    gid: fields.text(),
    muid: fields.text(),
  }
  fields.done()
  fields.end = outer
  return stat
}

/** Collects the entries of one Rreaddir. */
export class DirentWriter {
  readonly #countMax: number
  #buffer: Buffer
  #at = 0

  /** @param countMax bytes that the answer may have: what was asked for, within msize */
  constructor(countMax: number) {
    this.#countMax = countMax
    this.#buffer = Buffer.allocUnsafe(Math.min(countMax, first_bytes))
  }

  /** Whether it fitted; where it did not nothing was written (D1). @throws WireError for what no entry carries; nothing was written */
  add(entry: WireDirent): boolean {
    const start = this.#at
    const end = start + dirent_fixed_bytes + textBytes(entry.name)
    if (end > this.#countMax) return false // D1
    if (end > this.#buffer.length) this.#grow(end)
    const buffer = this.#buffer
    let at = putQid(buffer, start, entry.qid)
    at = putCookie(buffer, at, entry.offset)
    at = putUint8(buffer, at, entry.type)
    this.#at = putText(buffer, at, entry.name)
    return true
  }

  /** What was added: a view, which later adds leave as it is. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#at)
  }

  #grow(bytes: number): void {
    const larger = Buffer.allocUnsafe(Math.min(this.#countMax, Math.max(bytes, this.#buffer.length * 2))) // D2
    this.#buffer.copy(larger, 0, 0, this.#at)
    this.#buffer = larger
  }
}

/**
 * The entries of an Rreaddir. A name that is no text is given as '': its cookie counts all the same.
 *
 * @throws WireError for bytes that are not whole entries
 */
export function decodeDirents(data: Buffer): WireDirent[] {
  const fields = new FieldReader()
  fields.reset(data, 0, data.length)
  const entries: WireDirent[] = []
  while (fields.left > 0) {
    entries.push({ qid: fields.qid(), offset: fields.cookie(), type: fields.u8(), name: fields.anyText() ?? '' })
  }
  return entries
}
