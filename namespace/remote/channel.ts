/**
 * A channel: the byte stream under a session, whatever carries it. Sockets and gRPC calls are both streams of Node, so one
 * implementation serves them.
 */
import type { Duplex } from 'node:stream'
import { NineError } from '../errors.ts'
import { connectionReason } from './tls-reason.ts'

export interface ChannelEvents {
  data(chunk: Buffer): void
  /** All that was queued has been taken. */
  drain(): void
  /** Told once, whoever ended it. */
  closed(why: string, error?: NineError): void
}

export class Channel {
  readonly #stream: Duplex
  readonly #events: ChannelEvents
  readonly #now: () => number
  #isClosed = false
  #queuedBytes = 0
  /** When the other end last took something of the queue, or the queue was last empty: the clock of `now`. */
  takenAt: number

  /** @param stream of bytes, or of Buffers. Nothing is read before resume(). */
  constructor(stream: Duplex, events: ChannelEvents, now: () => number) {
    this.#stream = stream
    this.#events = events
    this.#now = now
    this.takenAt = now()
    stream.on('data', (chunk: Buffer) => events.data(chunk))
    stream.on('error', (error: Error) => this.#closed(connectionReason(error, '--tls-ca'), error instanceof NineError ? error : undefined))
    // A connection that the other end closed half way is over: an answer could not be trusted to arrive.
    stream.on('end', () => this.#closed('the other end closed the connection'))
    stream.on('close', () => this.#closed('the connection was closed'))
    stream.pause()
  }

  /** Bytes written and not yet taken by the system. */
  get queuedBytes(): number {
    return this.#queuedBytes
  }

  write(parts: readonly Uint8Array[]): void {
    if (this.#isClosed) return
    const stream = this.#stream
    if (this.#queuedBytes === 0) this.takenAt = this.#now()
    if (parts.length > 1) stream.cork()
    for (const part of parts) {
      this.#queuedBytes += part.length
      stream.write(part, () => this.#taken(part.length))
    }
    if (parts.length > 1) stream.uncork()
  }

  pause(): void {
    this.#stream.pause()
  }

  resume(): void {
    if (!this.#isClosed) this.#stream.resume()
  }

  /** Send what is queued, then close; at once after `graceMs`. */
  end(graceMs = 1_000): void {
    if (this.#isClosed) return
    this.#stream.end()
    this.#stream.resume()
    setTimeout(() => this.destroy(), graceMs).unref()
    this.#closed('the session has ended')
  }

  destroy(): void {
    this.#stream.destroy()
    this.#closed('the session has ended')
  }

  #taken(bytes: number): void {
    this.#queuedBytes -= bytes
    this.takenAt = this.#now()
    if (this.#queuedBytes === 0 && !this.#isClosed) this.#events.drain()
  }

  #closed(why: string, error?: NineError): void {
    if (this.#isClosed) return
    this.#isClosed = true
    if (!this.#stream.writableEnded) this.#stream.destroy()
    this.#events.closed(why, error)
  }
}
