/**
 * Bytes of open files, in as many messages as they take, several on their way at once.
 *
 * T1 A read that gives nothing is the end, whatever size the file was said to have. Of a file without a size one message is read: what
 *    a stream has for now.
 * T2 What is written is copied before the call returns to its caller: it may be on its way when the caller has long given up.
 */
import { read_overhead_bytes, write_overhead_bytes } from '../../proto/ninep/messages.ts'
import { limits } from '../limits.ts'
import type { Fid } from './fids.ts'
import type { Operation } from './operation.ts'

/** An open file: its fid and the most bytes of one message, 0 where only msize bounds it. */
export interface OpenFid {
  readonly fid: Fid
  readonly iounit: number
}

/**
 * Up to `length` bytes from `offset`.
 * @param size of the file as far as known; 0 for what has none: then one message is asked for, and given as it comes
 */
export async function readBytes(o: Operation, file: OpenFid, offset: number, length: number, size: number): Promise<Uint8Array> {
  const part = partBytes(o, file, read_overhead_bytes)
  const wanted = size === 0 ? Math.min(length, part) : Math.min(length, size - offset)
  if (wanted <= 0) return new Uint8Array()
  if (wanted <= part) return readPart(o, file, offset, wanted)
  const parts: Uint8Array[] = []
  for (let at = 0; at < wanted;) {
    const asked: { readonly count: number; readonly bytes: Promise<Uint8Array> }[] = []
    for (let start = at; start < wanted && asked.length < limits.ninep_client_parts_max; start += part) {
      const count = Math.min(part, wanted - start)
      asked.push({ count, bytes: readPart(o, file, offset + start, count) })
    }
    const answers = await allOf(asked.map((each) => each.bytes))
    for (const [i, bytes] of answers.entries()) {
      parts.push(bytes)
      at += bytes.length
      if (bytes.length === 0) return Buffer.concat(parts) // T1: it has become shorter
      if (bytes.length < asked[i]!.count) break // What follows the gap is asked for again.
    }
  }
  return Buffer.concat(parts)
}

/** Write all of `bytes`, from `offset` on; where the server appends, the offset counts for nothing. */
export async function writeBytes(o: Operation, file: OpenFid, bytes: Uint8Array, offset: number, isAppend = false): Promise<void> {
  const part = partBytes(o, file, write_overhead_bytes)
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

function partBytes(o: Operation, { iounit }: OpenFid, overhead: number): number {
  const room = o.connection.msize - overhead
  return iounit === 0 ? room : Math.min(iounit, room)
}
