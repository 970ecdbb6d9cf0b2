/**
 * One gRPC stream of messages straight on node:http2, at either end (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 * Not the gRPC library: see README.md. Any gRPC client or server can stand at the other end.
 *
 * G1 A message that lies whole in a chunk is read in place; one that spans chunks is copied together once, into a buffer that grows as
 *    bytes arrive, so a peer holds at most a few times what it sent.
 * G2 A length past the limit is refused when its bytes are read.
 * G3 `ended` is told once, whatever ended the stream, and nothing is told after it.
 */
import { constants } from 'node:http2'
import type { ClientHttp2Stream, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { textOf } from '../../namespace/errors.ts'
import { WireError } from '../../proto/protobuf.ts'

/** Canonical status codes used here (https://grpc.io/docs/guides/status-codes/). */
export const grpcStatus = {
  ok: 0,
  cancelled: 1,
  invalid: 3,
  exhausted: 8,
  precondition: 9,
  unimplemented: 12,
  unavailable: 14,
  unauthenticated: 16,
} as const

export interface StreamEvents {
  /** A message: `buffer[start, end)`. What it throws ends the stream, as does what is no message. */
  message(buffer: Buffer, start: number, end: number): void
  /** `code`: a gRPC status, -1 when the stream broke without one. */
  ended(code: number, message: string): void
}

const prefix_bytes = 5
const eager_bytes = 64 * 1024
const contentType = 'application/grpc+proto'

/** Headers of a call, and what makes a message of it. */
export function callHeaders(path: string, isTls: boolean, authority: string): Record<string, string> {
  return {
    ':method': 'POST',
    ':scheme': isTls ? 'https' : 'http',
    ':authority': authority,
    ':path': path,
    te: 'trailers',
    'content-type': contentType,
    'user-agent': 'ninefold',
  }
}

export function isGrpc(headers: IncomingHttpHeaders): boolean {
  return headers[':method'] === 'POST' && (headers['content-type'] ?? '').startsWith('application/grpc')
}

/** End a call that nothing was answered to yet. */
export function refuseCall(stream: ServerHttp2Stream, code: number, message: string): void {
  if (stream.destroyed || stream.closed) return
  stream.on('error', () => undefined)
  stream.respond({ ':status': 200, 'content-type': contentType, ...statusHeaders(code, message) }, { endStream: true })
  stream.resume()
}

export class GrpcStream {
  /** Largest message taken; may be raised after the hello. */
  messageBytesMax: number
  readonly #stream: ClientHttp2Stream | ServerHttp2Stream
  readonly #events: StreamEvents
  #partial: Buffer = noBytes
  #partialBytes = 0
  #isEnded = false
  #code = -1
  #message = 'the connection broke'
  /** Server side: whether the answer has begun. */
  #isAnswering = false

  constructor(stream: ClientHttp2Stream | ServerHttp2Stream, events: StreamEvents, messageBytesMax: number) {
    this.#stream = stream
    this.#events = events
    this.messageBytesMax = messageBytesMax
    stream.on('data', (chunk: Buffer) => this.#data(chunk))
    stream.on('response', this.#headers)
    stream.on('trailers', this.#headers)
    stream.on('error', (error: Error) => {
      if (this.#code === -1) this.#message = error.message
    })
    stream.on('aborted', () => this.#ended())
    // The trailers, which say why, may come right behind the end.
    stream.on('end', () => setImmediate(() => this.#ended()))
    stream.on('close', () => this.#ended())
  }

  /** Bytes not yet taken by the connection. */
  get waitingBytes(): number {
    return this.#stream.writableLength
  }

  /** Send bytes that are whole messages with their prefixes. They must not change. */
  write(bytes: Uint8Array): void {
    if (!this.#isEnded && !this.#stream.destroyed) this.#stream.write(bytes)
  }

  /** Server side: take the call. */
  answer(): void {
    const stream = this.#stream as ServerHttp2Stream
    if (stream.destroyed || stream.closed) return
    this.#isAnswering = true
    stream.respond({ ':status': 200, 'content-type': contentType }, { waitForTrailers: true })
    stream.on('wantTrailers', () => {
      if (!stream.destroyed) stream.sendTrailers(statusHeaders(this.#code === -1 ? grpcStatus.ok : this.#code, this.#message))
    })
  }

  /** End the stream: at the server with this status, at the client by cancelling the call. */
  end(code: number, message: string): void {
    if (this.#isEnded) return
    this.#code = code
    this.#message = message
    const stream = this.#stream
    if (!('respond' in stream)) stream.close(constants.NGHTTP2_CANCEL)
    else if (this.#isAnswering) stream.end()
    else refuseCall(stream, code, message)
    this.#ended()
  }

  #ended(): void {
    if (this.#isEnded) return
    this.#isEnded = true // G3
    this.#partial = noBytes
    this.#stream.resume()
    this.#events.ended(this.#code, this.#message)
  }

  readonly #headers = (headers: IncomingHttpHeaders): void => {
    const status = headers['grpc-status']
    if (status === undefined) {
      if (headers[':status'] !== undefined && Number(headers[':status']) !== 200) {
        this.#code = grpcStatus.unavailable
        this.#message = `the answer has HTTP status ${String(headers[':status'])}`
      }
      return
    }
    this.#code = Number(status)
    this.#message = readMessage(headers['grpc-message'])
  }

  #data(chunk: Buffer): void {
    if (this.#isEnded) return
    try {
      let at = 0
      while (at < chunk.length && !this.#isEnded) {
        at = this.#partialBytes > 0 || !this.#isWhole(chunk, at) ? this.#gather(chunk, at) : this.#inPlace(chunk, at)
      }
    } catch (error) {
      this.end(grpcStatus.invalid, textOf(error))
    }
  }

  #isWhole(chunk: Buffer, at: number): boolean {
    return chunk.length - at >= prefix_bytes && chunk.length - at >= this.#totalAt(chunk, at)
  }

  /** G1 */
  #inPlace(chunk: Buffer, at: number): number {
    const end = at + this.#totalAt(chunk, at)
    this.#events.message(chunk, at + prefix_bytes, end)
    return end
  }

  /** Copy what belongs to the message that spans chunks. @returns where the rest of the chunk begins */
  #gather(chunk: Buffer, begin: number): number {
    let at = begin
    while (at < chunk.length) {
      const total = this.#partialBytes < prefix_bytes ? prefix_bytes : this.#totalAt(this.#partial, 0)
      if (this.#partialBytes === this.#partial.length) {
        const larger = Buffer.allocUnsafeSlow(Math.min(total, Math.max(eager_bytes, this.#partialBytes * 4)))
        this.#partial.copy(larger, 0, 0, this.#partialBytes)
        this.#partial = larger
      }
      const end = at + Math.min(chunk.length - at, total - this.#partialBytes, this.#partial.length - this.#partialBytes)
      this.#partialBytes += chunk.copy(this.#partial, this.#partialBytes, at, end)
      at = end
      if (this.#partialBytes >= prefix_bytes && this.#partialBytes === this.#totalAt(this.#partial, 0)) {
        const message = this.#partial
        const length = this.#partialBytes
        this.#partial = noBytes
        this.#partialBytes = 0
        this.#events.message(message, prefix_bytes, length)
        return at
      }
    }
    return at
  }

  /** @throws WireError */
  #totalAt(bytes: Buffer, at: number): number {
    if (bytes[at] !== 0) throw new WireError('a message is compressed, or no gRPC message')
    const length = bytes.readUInt32BE(at + 1)
    if (length > this.messageBytesMax) {
      throw new WireError(`a message claims ${length} bytes, the limit is ${this.messageBytesMax}`, 'too_large') // G2
    }
    return prefix_bytes + length
  }
}

const noBytes = Buffer.alloc(0)

/** A message of at most a few KiB with its prefix. */
export function withPrefix(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(prefix_bytes + message.length)
  bytes[0] = 0
  bytes.writeUInt32BE(message.length, 1)
  bytes.set(message, prefix_bytes)
  return bytes
}

const message_chars_max = 1024

function statusHeaders(code: number, message: string): Record<string, string> {
  return { 'grpc-status': String(code), 'grpc-message': encodeMessage(message.slice(0, message_chars_max)) }
}

/** Bytes that are not printable ASCII, and %, as %XX. */
function encodeMessage(text: string): string {
  let encoded = ''
  for (const byte of Buffer.from(text)) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25
    encoded += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, '0').toUpperCase()}`
  }
  return encoded
}

function readMessage(text: string | string[] | undefined): string {
  const raw = Array.isArray(text) ? text.join(' ') : (text ?? '')
  try {
    return decodeURIComponent(raw).slice(0, message_chars_max)
  } catch {
    return raw.slice(0, message_chars_max)
  }
}
