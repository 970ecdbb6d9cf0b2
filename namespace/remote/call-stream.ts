/**
 * A gRPC call of a session as a plain stream of bytes, at either end. The library's own streams carry messages, and destroying
 * one does not end its call.
 */
import { Duplex } from 'node:stream'
import { grpcFailure } from '../wire/grpc-status.ts'

/** What is needed of a call: a Duplex whose chunks are the bytes of Frames messages. */
type Call = Duplex

export class CallStream extends Duplex {
  readonly #call: Call
  readonly #cancel: () => void

  /** @param cancel ends the call at once */
  constructor(call: Call, cancel: () => void) {
    super({ allowHalfOpen: false })
    this.#call = call
    this.#cancel = cancel
    call.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) call.pause()
    })
    call.on('end', () => this.push(null))
    call.on('error', (error: Error) => this.destroy(grpcFailure(error, 'remote.connect') ?? error))
    call.on('cancelled', () => this.destroy())
    call.on('close', () => this.destroy())
    call.pause()
  }

  override _read(): void {
    this.#call.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#call.write(chunk, done)
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    const parts = chunks.map(({ chunk }) => chunk)
    this.#call.write(parts.length === 1 ? parts[0] : Buffer.concat(parts), done)
  }

  override _final(done: () => void): void {
    this.#call.end()
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#cancel()
    done(error)
  }
}
