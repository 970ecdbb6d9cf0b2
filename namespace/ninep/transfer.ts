/**
 * Bytes of open files, in as many messages as they take, several on their way at once.
 *
 * T1 A read that gives nothing is the end, whatever size the file was said to have; so is one that gives less than asked and reaches that
 *    size. Of a file without a size one message is read: what a stream has for now.
 * T2 What is written is copied before the call returns to its caller: it may be on its way when the caller has long given up.
 */
import { limits } from '../limits.ts'
import { io_overhead_bytes } from './connection.ts'
import type { Fid } from './fids.ts'
import type { Operation } from './operation.ts'

/** An open file: its fid and the most bytes of one message, 0 where only msize bounds it. */
export interface OpenFid {
  readonly fid: Fid
  readonly iounit: number
}

/**
 * Up to `length` bytes from `offset`.
 * @param size of the file as far as known; 0 for what has none
 */
export async function readBytes(o: Operation, file: OpenFid, offset: number, length: number, size: number): Promise<Uint8Array> {
  const part = partBytes(o, file)
  const parts: Uint8Array[] = []
  let at = 0
  while (at < length) {
    // Up to the size known, many at once; behind it, one after the other.
    const end = Math.min(length, Math.max(at + 1, size - offset))
    const asked: { readonly count: number; readonly bytes: Promise<Uint8Array> }[] = []
    for (let start = at; start < end && asked.length < limits.ninep_client_parts_max; start += part) {
      const count = Math.min(part, length - start)
      asked.push({ count, bytes: readPart(o, file, offset + start, count) })
    }
    let isShort = false
    for (const [i, bytes] of (await allOf(asked.map((each) => each.bytes))).entries()) {
      if (bytes.length === 0) return joined(parts) // T1
      parts.push(bytes)
      at += bytes.length
      isShort = bytes.length < asked[i]!.count
      if (isShort) break // What follows the gap is asked for again.
    }
    if (size === 0 || (isShort && offset + at >= size)) break // T1
  }
  return joined(parts)
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
}

/** Write all of `bytes`, from `offset` on; where the server appends, the offset counts for nothing. */
export async function writeBytes(o: Operation, file: OpenFid, bytes: Uint8Array, offset: number, isAppend = false): Promise<void> {
  const part = partBytes(o, file)
  if (bytes.length <= part) return writePart(o, file, Buffer.from(bytes), offset)
  const copy = Buffer.from(bytes) // T2
  const atOnce = isAppend ? 1 : limits.ninep_client_parts_max
  for (let at = 0; at < copy.length;) {
    const asked: Promise<void>[] = []
    for (; at < copy.length && asked.length < atOnce; at += part) asked.push(writePart(o, file, copy.subarray(at, at + part), offset + at))
    await allOf(asked)
  }
}

async function readPart(o: Operation, { fid }: OpenFid, offset: number, count: number): Promise<Uint8Array> {
  const { data } = await o.ask({ type: 'Tread', fid: fid.number, offset, count }, 'Rread', { uses: [fid] })
  if (data.length > count) throw o.error('internal', 'the server gives more than it was asked for')
  return data
}

/** A server may take less than it was given. */
async function writePart(o: Operation, { fid }: OpenFid, bytes: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const data = bytes.subarray(at)
    const { count } = await o.change({ type: 'Twrite', fid: fid.number, offset: offset + at, data }, 'Rwrite', { uses: [fid] })
    if (count === 0) throw o.error('no_space', 'the server takes no more bytes')
    if (count > data.length) throw o.error('internal', 'the server takes more than it was given')
    at += count
  }
}

/** All answers, or the first failure once none is under way any more: what comes after it is not overtaken. */
async function allOf<T>(asked: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(asked)
  return settled.map((each) => {
    if (each.status === 'rejected') throw each.reason
    return each.value
  })
}

function partBytes(o: Operation, { iounit }: OpenFid): number {
  const room = o.connection.msize - io_overhead_bytes
  return iounit === 0 ? room : Math.min(iounit, room)
}
