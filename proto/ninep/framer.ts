/**
 * Splits the bytes of a 9P connection into messages.
 *
 * M1 A size that is below a header's or past msize is refused when its four bytes are read: nothing is allocated for it.
 * M2 A message that lies whole in a chunk is a view of it. One that spans chunks is copied together once; past 64 KiB its buffer grows
 *    as bytes arrive, so a peer holds at most four times what it sent.
 * M3 Once the receiver has answered false it is given nothing until resume(), and what comes meanwhile waits in order.
 * M4 Once a size was refused, so is everything after it.
 */
import { WireError } from '../protobuf.ts'
import { getUint32 } from './fields.ts'
import { header_bytes } from './messages.ts'

const size_bytes = 4
const eager_bytes = 64 * 1024
const noBytes = Buffer.alloc(0)

/** Takes a whole message, size[4] included, which it may keep: false to be given no more for now. */
export type OnMessage = (message: Buffer) => boolean | void

export class MessageFramer {
  /** Largest message taken, size[4] included. May be set at any time, by the receiver too: it holds from the next message on. */
  msize: number
  #stopped = false
  #refused: WireError | undefined
  #running = false
  #chunks: Buffer[] = []
  #chunk: Buffer = noBytes
  #at = 0
  /** The message that spans chunks, from its size on. */
  #partial: Buffer = noBytes
  #partialBytes = 0

  constructor(msizeMax: number) {
    this.msize = msizeMax
  }

  /** Whether the receiver asked for no more: read nothing from the connection until resume(). */
  get stopped(): boolean {
    return this.#stopped
  }

  /** Bytes that came and have not been given as messages. */
  get waitingBytes(): number {
    let bytes = this.#partialBytes + this.#chunk.length - this.#at
    for (const chunk of this.#chunks) bytes += chunk.length
    return bytes
  }

  /** Give the messages that end in `chunk`, which nobody may change any more. @throws WireError (M1), `too_large` past msize */
  push(chunk: Buffer, onMessage: OnMessage): void {
    if (this.#refused !== undefined) throw this.#refused // M4
    this.#chunks.push(chunk)
    this.#run(onMessage)
  }

  /** Go on after the receiver answered false. @throws WireError (M1) */
  resume(onMessage: OnMessage): void {
    if (this.#refused !== undefined) throw this.#refused // M4
    this.#stopped = false
    this.#run(onMessage)
  }

  #run(onMessage: OnMessage): void {
    // The receiver itself may push or resume: the run that called it goes on with that.
    if (this.#running) return
    this.#running = true
    try {
      while (!this.#stopped) {
        const message = this.#next()
        if (message === undefined) return
        if (onMessage(message) === false) this.#stopped = true // M3
      }
    } finally {
      this.#running = false
    }
  }

  #next(): Buffer | undefined {
    if (this.#at === this.#chunk.length && !this.#nextChunk()) return undefined
    if (this.#partialBytes === 0) {
      const chunk = this.#chunk
      const at = this.#at
      const left = chunk.length - at
      if (left >= size_bytes) {
        const size = this.#sizeAt(chunk, at)
        if (left >= size) {
          this.#at = at + size
          return chunk.subarray(at, at + size) // M2
        }
      }
    }
    if (!this.#gather(size_bytes) || !this.#gather(this.#sizeAt(this.#partial, 0))) return undefined
    const message = this.#partial
    this.#partial = noBytes
    this.#partialBytes = 0
    return message
  }

  /** Copy from the chunks until the partial message has `bytes`. */
  #gather(bytes: number): boolean {
    while (this.#partialBytes < bytes) {
      if (this.#at === this.#chunk.length && !this.#nextChunk()) return false
      if (this.#partialBytes === this.#partial.length) this.#grow(bytes)
      const end = Math.min(this.#chunk.length, this.#at + Math.min(bytes, this.#partial.length) - this.#partialBytes)
      this.#partialBytes += this.#chunk.copy(this.#partial, this.#partialBytes, this.#at, end)
      this.#at = end
    }
    return true
  }

  #grow(bytes: number): void {
    const larger = Buffer.allocUnsafe(Math.min(bytes, Math.max(eager_bytes, this.#partialBytes * 4))) // M2
    this.#partial.copy(larger, 0, 0, this.#partialBytes)
    this.#partial = larger
  }

  #nextChunk(): boolean {
    const chunk = this.#chunks.shift()
    this.#chunk = chunk ?? noBytes
    this.#at = 0
    return chunk !== undefined
  }

  #sizeAt(buffer: Buffer, at: number): number {
    const size = getUint32(buffer, at)
    if (size > this.msize) throw this.#refuse(new WireError(`a 9P message claims ${size} bytes, msize is ${this.msize}`, 'too_large')) // M1
    if (size < header_bytes) throw this.#refuse(new WireError('a 9P message is shorter than its header')) // M1
    return size
  }

  /** Hold nothing any more. */
  #refuse(error: WireError): WireError {
    this.#refused = error
    this.#chunks = []
    this.#chunk = this.#partial = noBytes
    this.#at = this.#partialBytes = 0
    return error
  }
}
