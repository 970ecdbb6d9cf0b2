/**
 * Frames: what a session's byte stream is made of, over TCP, TLS and gRPC alike.
 *
 * A frame is `u32 length | u8 type | u32 tag | payload`, little-endian; `length` counts what follows it. The payload is the
 * protobuf message that proto/README.md names for the type.
 *
 * R1 A length past the limit is refused when its four bytes are read: nothing is allocated for it.
 * R2 A frame that lies whole in a chunk is read in place. One that spans chunks is copied together once; past 64 KiB its buffer grows as
 *    bytes arrive, so a peer holds at most four times what it sent.
 */
import { WireError, Writer } from './protobuf.ts'

/** Bytes that open a session on a plain TCP or TLS connection; anything else there is HTTP/2. */
export const sessionMagic = 'NINE/1\r\n'

/** Types of frames. Below 0x10: about the session. 0x10 to 0x7f: requests. A request's type with 0x80: its answer. */
export const frameType = {
  hello: 0x01,
  welcome: 0x02,
  ping: 0x03,
  pong: 0x04,
  goaway: 0x05,
  cancel: 0x06,
  /** The failure of the request with this tag; with tag 0, of the session. */
  failure: 0x07,
  credit: 0x08,
  /** Batch of the watch with this tag. */
  batch: 0x09,
  /** What a node tells a client that asked for it: how its cluster stands. */
  cluster: 0x0a,

  stat: 0x10,
  list: 0x11,
  read: 0x12,
  write: 0x13,
  create: 0x14,
  mkdir: 0x15,
  symlink: 0x16,
  readlink: 0x17,
  remove: 0x18,
  rename: 0x19,
  setStat: 0x1a,
  txn: 0x1b,
  watch: 0x1c,
  grantLease: 0x1d,
  renewLease: 0x1e,
  revokeLease: 0x1f,
  lock: 0x20,
  open: 0x21,
  readHandle: 0x22,
  writeHandle: 0x23,
  truncateHandle: 0x24,
  statHandle: 0x25,
  syncHandle: 0x26,
  closeHandle: 0x27,
  getRights: 0x28,
  setRights: 0x29,

  bind: 0x40,
  mount: 0x41,
  unmount: 0x42,
  entries: 0x43,
  fork: 0x44,
  register: 0x45,
  deregister: 0x46,
  control: 0x47,
  identify: 0x48,
} as const

export const answerBit = 0x80

const length_bytes = 4
const header_bytes = 9
const eager_bytes = 64 * 1024

/** Writes frames one behind the other; take() gives what was written. */
export class FrameWriter extends Writer {
  beginFrame(type: number, tag: number): void {
    this.#type = type
    this.#tag = tag
    this.beginUnit(header_bytes)
  }

  /** @returns length of the frame, header included */
  endFrame(): number {
    return this.endUnit(this.#header)
  }

  /** A frame without payload. */
  bare(type: number, tag: number): void {
    this.beginFrame(type, tag)
    this.endFrame()
  }

  #type = 0
  #tag = 0

  readonly #header = (buffer: Buffer, start: number, length: number): void => {
    writeUint32(buffer, start, length - length_bytes)
    buffer[start + 4] = this.#type
    writeUint32(buffer, start + 5, this.#tag)
  }
}

/** Takes chunks as they come and gives frames: after next() is true, `type`, `tag` and the payload `buffer[start, end)` are those of the next one. */
export class FrameReader {
  type = 0
  tag = 0
  buffer: Buffer = noBytes
  start = 0
  end = 0

  /** Largest frame taken, without its length field. May be raised after the handshake. */
  frameBytesMax: number
  #chunks: Buffer[] = []
  #chunk: Buffer = noBytes
  #at = 0
  /** The frame that spans chunks, from its length field on. */
  #partial: Buffer = noBytes
  #partialBytes = 0

  constructor(frameBytesMax: number) {
    this.frameBytesMax = frameBytesMax
  }

  push(chunk: Buffer): void {
    if (this.#at === this.#chunk.length) {
      this.#chunk = chunk
      this.#at = 0
    } else {
      this.#chunks.push(chunk)
    }
  }

  /** Whether another whole frame was there. @throws WireError `too_large` (R1), `invalid` for a length below 5 */
  next(): boolean {
    if (this.#partialBytes > 0) return this.#nextPartial()
    const chunk = this.#chunk
    const at = this.#at
    const left = chunk.length - at
    if (left >= length_bytes) {
      const total = length_bytes + this.#lengthAt(chunk, at)
      if (left >= total) {
        this.#at = at + total
        this.#show(chunk, at, total)
        return true
      }
    } else if (left === 0 && !this.#nextChunk()) {
      return false
    }
    return this.#nextPartial()
  }

  #nextPartial(): boolean {
    if (!this.#gather(length_bytes)) return false
    const total = length_bytes + this.#lengthAt(this.#partial, 0)
    if (!this.#gather(total)) return false
    const frame = this.#partial
    this.#partial = noBytes
    this.#partialBytes = 0
    this.#show(frame, 0, total)
    return true
  }

  /** Copy from the chunks until the partial frame has `bytes`. */
  #gather(bytes: number): boolean {
    while (this.#partialBytes < bytes) {
      const left = this.#chunk.length - this.#at
      if (left === 0) {
        if (!this.#nextChunk()) return false
        continue
      }
      if (this.#partialBytes === this.#partial.length) this.#grow(bytes)
      const end = this.#at + Math.min(left, bytes - this.#partialBytes, this.#partial.length - this.#partialBytes)
      this.#partialBytes += this.#chunk.copy(this.#partial, this.#partialBytes, this.#at, end)
      this.#at = end
    }
    return true
  }

  #grow(bytes: number): void {
    const size = Math.min(bytes, Math.max(eager_bytes, this.#partialBytes * 4)) // R2
    const larger = Buffer.allocUnsafe(size)
    this.#partial.copy(larger, 0, 0, this.#partialBytes)
    this.#partial = larger
  }

  #nextChunk(): boolean {
    const chunk = this.#chunks.shift()
    if (chunk === undefined) return false
    this.#chunk = chunk
    this.#at = 0
    return true
  }

  #lengthAt(buffer: Buffer, at: number): number {
    const length = readUint32(buffer, at)
    if (length > this.frameBytesMax) {
      throw new WireError(`a frame claims ${length} bytes, the limit is ${this.frameBytesMax}`, 'too_large') // R1
    }
    if (length < header_bytes - length_bytes) throw new WireError('a frame is shorter than its header')
    return length
  }

  #show(buffer: Buffer, at: number, total: number): void {
    this.type = buffer[at + 4]!
    this.tag = readUint32(buffer, at + 5)
    this.buffer = buffer
    this.start = at + header_bytes
    this.end = at + total
  }
}

const noBytes = Buffer.alloc(0)

function readUint32(buffer: Buffer, at: number): number {
  return (buffer[at]! | (buffer[at + 1]! << 8) | (buffer[at + 2]! << 16) | (buffer[at + 3]! << 24)) >>> 0
}

function writeUint32(buffer: Buffer, at: number, value: number): void {
  buffer[at] = value
  buffer[at + 1] = value >>> 8
  buffer[at + 2] = value >>> 16
  buffer[at + 3] = value >>> 24
}
