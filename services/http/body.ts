/**
 * Bodies of requests as they arrive, with bounds on size, memory, and how long a client may send nothing.
 *
 * B1 Nothing is read that was not asked for: a slow server holds a fast client back.
 * B2 A body that ends early, or not at all, is an error; it is never taken for a shorter one.
 * B3 Leaving a body unread does not end the connection: the answer still has to go out on it.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { NineError } from '../../namespace/errors.ts'
import { awaitsContinue, hasBody } from './answer.ts'
import type { HttpLimits } from './limits.ts'

interface Waiter {
  readonly resolve: (part: Buffer | undefined) => void
  readonly reject: (error: NineError) => void
}

/** The body of one request. Errors: `too_large`, `deadline` (nothing came for too long), `invalid` (the client left). */
export class Body {
  /** Bytes that the client announced; undefined for a body in chunks. 0 without a body. */
  readonly declared: number | undefined
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #stalledMs: number
  readonly #parts: Buffer[] = []
  #waiter: Waiter | undefined
  #isStarted = false
  #isEnded = false
  #error: NineError | undefined

  constructor(request: IncomingMessage, response: ServerResponse, limits: HttpLimits) {
    this.#request = request
    this.#response = response
    this.#stalledMs = limits.http_body_stalled_ms
    const length = request.headers['content-length']
    this.declared = length !== undefined ? Number(length) : hasBody(request) ? undefined : 0
  }

  /** The next part; undefined at the end. */
  next(): Promise<Buffer | undefined> {
    this.#start()
    const part = this.#parts.shift()
    if (part !== undefined) return Promise.resolve(part)
    if (this.#error !== undefined) return Promise.reject(this.#error)
    if (this.#isEnded) return Promise.resolve(undefined)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        if (!this.#response.headersSent) this.#response.setHeader('connection', 'close')
        const message = `nothing of the body came for ${this.#stalledMs} ms`
        this.#fail(new NineError({ kind: 'deadline', op: 'http.body', message }))
      }, this.#stalledMs)
      const settled = (): void => {
        clearTimeout(timer)
        this.#waiter = undefined
      }
      this.#waiter = {
        resolve: (value) => (settled(), resolve(value)),
        reject: (error) => (settled(), reject(error)),
      }
      this.#request.resume()
    })
  }

  /** The rest, in memory. @throws NineError `too_large` past `max` bytes */
  async whole(max: number): Promise<Buffer> {
    if (this.declared !== undefined && this.declared > max) throw tooLarge(max)
    const { bytes, isEnd } = await this.upTo(max)
    if (!isEnd) throw tooLarge(max)
    return bytes
  }

  /** As much as fits in `max` bytes and what came with it, and whether that was all. */
  async upTo(max: number): Promise<{ readonly bytes: Buffer; readonly isEnd: boolean }> {
    const parts: Buffer[] = []
    let size = 0
    for (let part = await this.next(); part !== undefined; part = await this.next()) {
      parts.push(part)
      size += part.length
      if (size > max) return { bytes: Buffer.concat(parts), isEnd: false }
    }
    return { bytes: parts.length === 1 ? parts[0]! : Buffer.concat(parts), isEnd: true }
  }

  #start(): void {
    if (this.#isStarted) return
    this.#isStarted = true
    if (this.declared === 0 || this.#request.readableEnded) {
      this.#isEnded = true
      return
    }
    if (awaitsContinue.delete(this.#request)) this.#response.writeContinue()
    this.#request.on('data', this.#onData).once('end', this.#onEnd).once('close', this.#onClose).once('error', this.#onClose)
  }

  readonly #onData = (part: Buffer): void => {
    const waiter = this.#waiter
    if (waiter === undefined) this.#parts.push(part)
    else waiter.resolve(part)
    this.#request.pause() // B1
  }

  readonly #onEnd = (): void => {
    this.#isEnded = true
    if (!this.#request.complete) return this.#onClose()
    this.#leave()
    this.#waiter?.resolve(undefined)
  }

  /** B2 */
  readonly #onClose = (): void => {
    this.#fail(new NineError({ kind: 'invalid', op: 'http.body', message: 'the client left before the end of the body' }))
  }

  #fail(error: NineError): void {
    this.#error ??= error
    this.#leave()
    this.#waiter?.reject(this.#error)
  }

  #leave(): void {
    this.#request.off('data', this.#onData).off('end', this.#onEnd).off('close', this.#onClose).off('error', this.#onClose)
  }
}

/** Room in memory for bodies that are being read: those that find none wait in turn, unread. */
export class BodyRoom {
  readonly #max: number
  #taken = 0
  readonly #waiting: { readonly bytes: number; readonly enter: () => void }[] = []

  constructor(max: number) {
    this.#max = max
  }

  /** Wait for room, then read; the room is free again when the promise settles. @throws NineError `overloaded`, and as `act` */
  async hold<T>(wanted: number, waitMs: number, act: () => Promise<T>): Promise<T> {
    const bytes = Math.min(wanted, this.#max)
    if (this.#waiting.length > 0 || this.#taken + bytes > this.#max) await this.#wait(bytes, waitMs)
    else this.#taken += bytes
    try {
      return await act()
    } finally {
      this.#taken -= bytes
      this.#admit()
    }
  }

  #wait(bytes: number, waitMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(row), 1)
        reject(new NineError({ kind: 'overloaded', op: 'http.body', message: 'too many large bodies are being received' }))
        this.#admit()
      }, waitMs)
      const row = {
        bytes,
        enter: (): void => {
          clearTimeout(timer)
          resolve()
        },
      }
      this.#waiting.push(row)
    })
  }

  #admit(): void {
    for (let first = this.#waiting[0]; first !== undefined && this.#taken + first.bytes <= this.#max; first = this.#waiting[0]) {
      this.#waiting.shift()
      this.#taken += first.bytes
      first.enter()
    }
  }
}

export function tooLarge(max: number): NineError {
  return new NineError({ kind: 'too_large', op: 'http.body', message: `a body is at most ${max} bytes here` })
}
