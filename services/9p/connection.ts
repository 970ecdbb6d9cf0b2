/**
 * One 9P connection: messages in, answers out, in whatever order they are done.
 *
 * C1 Every request is answered once, or flushed: then its answer is left out, and so is what it would have made (a fid).
 * C2 A flush is answered after the request it names. One that changes something is not undone: it finishes, and its answer comes first.
 * C3 Requests under way are bounded (past that `overloaded`), so are their bytes and the answers that wait (past that nothing is read). A client
 *    that takes nothing of a full queue for limits.session_stalled_ms is cut.
 * C4 What is no message ends the connection; a message that makes no sense gets an error.
 * C5 Whatever ends the connection, its fids are let go: written bytes are published.
 */
import type { Socket } from 'node:net'
import type { Clock } from '../../namespace/clock.ts'
import type { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { decodeRequest, tagOf } from '../../proto/ninep/decode.ts'
import { MessageWriter } from '../../proto/ninep/encode.ts'
import { MessageFramer } from '../../proto/ninep/framer.ts'
import { noTag } from '../../proto/ninep/messages.ts'
import type { Answer, AnswerBody, Request } from '../../proto/ninep/messages.ts'
import { failureAnswer, refusal, toFailure } from './failures.ts'
import type { NinepLimits } from './limits.ts'
import { operationsOf } from './operations.ts'
import type { Call, Session } from './session.ts'

/** Requests that change nothing: a flush of one is answered at once, whatever they still do. */
const harmless = new Set<Request['type']>([
  'Tattach',
  'Twalk',
  'Tread',
  'Tstat',
  'Tstatfs',
  'Tgetattr',
  'Treaddir',
  'Treadlink',
  'Txattrwalk',
  'Tgetlock',
])

/** What a request under way takes beside its bytes, about. */
const request_bytes = 1024

/** A turn that writes more than this sends it before the turn is over. */
const flush_bytes = 512 * 1024

export interface ConnectionOptions {
  readonly clock: Clock
  /** Told once when it is over and all its fids are let go; `error` where it was cut for a reason. */
  onClosed(error: NineError | undefined): void
}

export class Connection {
  readonly #socket: Socket
  readonly #session: Session
  readonly #options: ConnectionOptions
  readonly #limits: NinepLimits
  readonly #framer = new MessageFramer(limits.ninep_msize_max)
  readonly #writer = new MessageWriter('9P2000')
  readonly #running = new Map<number, Running>()
  /** By the tags of flushes that wait: the requests they wait for. */
  readonly #flushed = new Map<number, Running>()
  #requestBytes = 0
  #isVersioned = false
  /** Between Tversion and its answer, when old fids are let go. */
  #isNegotiating = false
  #isFlushDue = false
  #isDraining = false
  #isClosed = false
  #error: NineError | undefined
  /** When the queue was last seen to move, monotonic milliseconds, and how much waited then. */
  #movedAt: number
  #waited = 0
  readonly #onMessage = (message: Buffer): boolean => this.#message(message)

  constructor(socket: Socket, session: Session, options: ConnectionOptions) {
    this.#socket = socket
    this.#session = session
    this.#options = options
    this.#limits = session.shared.limits
    this.#movedAt = options.clock.monotonic()
    socket.on('data', (chunk: Buffer) => this.#came(chunk))
    socket.on('drain', () => this.#resume())
    socket.on('error', () => undefined)
    socket.once('close', () => this.#closed())
    socket.once('end', () => this.#ended())
  }

  get isVersioned(): boolean {
    return this.#isVersioned
  }

  /** Take nothing new; end when what is under way is answered. */
  drain(): void {
    this.#isDraining = true
    this.#endIfDrained()
  }

  /** Cut it. */
  end(error?: NineError): void {
    this.#error ??= error
    this.#socket.destroy()
  }

  /** Called about every second. */ // C3
  tick(now: number): void {
    const waiting = this.#writer.length + this.#socket.writableLength
    if (waiting < this.#limits.ninep_send_bytes_max || waiting !== this.#waited) {
      this.#waited = waiting
      this.#movedAt = now
    } else if (now - this.#movedAt > this.#limits.session_stalled_ms) {
      this.end(refusal('overloaded', 'the client took nothing of its answers'))
    }
  }

  /** Its client has said all it wants: what it asked is answered, but what may wait for ever has nobody left to give it up. */
  #ended(): void {
    for (const running of this.#running.values()) running.abort()
    this.drain()
  }

  #came(chunk: Buffer): void {
    // Nothing new is taken then, so nothing of it is kept.
    if (!this.#isDraining) this.#guarded(() => this.#framer.push(chunk, this.#onMessage))
  }

  #message(message: Buffer): boolean {
    if (this.#isDraining || this.#isClosed) return false
    const tag = tagOf(message)
    if (this.#running.has(tag) || this.#flushed.has(tag)) throw refusal('invalid', `tag ${tag} is in use`) // C1
    let request: Request
    try {
      request = decodeRequest(message, this.#session.dialect)
    } catch (error) {
      this.#answer(tag, failureAnswer(this.#session.dialect, toFailure(error)))
      return !this.#isFull
    }
    if (request.type === 'Tversion') void this.#negotiate(request)
    else if (!this.#isVersioned) throw refusal('invalid', 'a connection begins with Tversion')
    else if (request.type === 'Tflush') this.#flush(request, message.length)
    else this.#run(request, message.length)
    return !this.#isFull && !this.#isNegotiating
  }

  get #isFull(): boolean {
    return (
      this.#requestBytes >= this.#limits.ninep_request_bytes_max ||
      this.#writer.length + this.#socket.writableLength >= this.#limits.ninep_send_bytes_max
    )
  }

  /** version(5): whatever was, is over; a new session begins. */
  async #negotiate({ tag, msize, version }: Extract<Request, { type: 'Tversion' }>): Promise<void> {
    this.#isNegotiating = true
    for (const running of this.#running.values()) running.drop()
    this.#running.clear()
    this.#flushed.clear()
    await this.#session.clunkAll()
    this.#isNegotiating = false
    if (this.#isClosed) return
    const isLinux = version === '9P2000.L'
    const isKnown = isLinux || /^9P2000(\..*)?$/.test(version)
    this.#session.dialect = this.#writer.dialect = isLinux ? '9P2000.L' : '9P2000'
    this.#isVersioned = isKnown && msize >= limits.ninep_msize_min
    if (msize < limits.ninep_msize_min) {
      this.#answer(tag, failureAnswer(this.#session.dialect, refusal('invalid', `msize is at least ${limits.ninep_msize_min}`)))
    } else {
      this.#session.msize = this.#framer.msize = Math.min(msize, limits.ninep_msize_max)
      this.#answer(tag, { type: 'Rversion', msize: this.#session.msize, version: isKnown ? this.#session.dialect : 'unknown' })
    }
    this.#resume()
  }

  /** C2 */
  #flush({ tag, oldTag }: Extract<Request, { type: 'Tflush' }>, bytes: number): void {
    // A flush that waits is flushed as anything else: it has no answer.
    this.#flushed.get(oldTag)?.flushes.delete(oldTag)
    this.#flushed.delete(oldTag)
    const running = this.#running.get(oldTag)
    if (running === undefined) return this.#answer(tag, { type: 'Rflush' })
    running.abort()
    if (harmless.has(running.type)) {
      this.#running.delete(oldTag)
      running.drop()
      this.#answer(tag, { type: 'Rflush' })
    } else {
      running.flushes.add(tag)
      this.#flushed.set(tag, running)
      running.cost += bytes
      this.#requestBytes += bytes
    }
  }

  #run(request: Request, bytes: number): void {
    const { tag } = request
    if (tag === noTag) throw refusal('invalid', 'that tag is of Tversion alone')
    let answer: AnswerBody | Promise<AnswerBody>
    const running = new Running(request.type)
    try {
      if (this.#running.size >= this.#limits.ninep_requests_max) {
        throw refusal('overloaded', `a connection has at most ${this.#limits.ninep_requests_max} requests under way`)
      }
      const operation = operationsOf(this.#session.dialect)[request.type]
      if (operation === undefined) throw refusal('unsupported', `${request.type} is not served`)
      answer = operation(this.#session, request, running)
    } catch (error) {
      return this.#answer(tag, failureAnswer(this.#session.dialect, toFailure(error)))
    }
    if (!(answer instanceof Promise)) return this.#answer(tag, answer)
    this.#running.set(tag, running)
    // C3: also of what was flushed and goes on behind its client's back.
    running.cost = request_bytes + bytes + running.answerBytes
    this.#requestBytes += running.cost
    answer.then(
      (body) => this.#finish(tag, running, body),
      (error: unknown) => this.#finishFailed(tag, running, toFailure(error)),
    )
  }

  #finishFailed(tag: number, running: Running, error: NineError): void {
    // What was given up and did not happen has no answer; what may have happened is told.
    const isGivenUp = running.flushes.size > 0 && error.kind === 'deadline' && error.outcome === 'none'
    this.#finish(tag, running, isGivenUp ? undefined : failureAnswer(this.#session.dialect, error))
  }

  /** C1 */
  #finish(tag: number, running: Running, body: AnswerBody | undefined): void {
    this.#requestBytes -= running.cost
    if (!running.isDropped) {
      this.#running.delete(tag)
      if (body !== undefined) this.#answer(tag, body)
      for (const flush of running.flushes) {
        this.#flushed.delete(flush)
        this.#answer(flush, { type: 'Rflush' })
      }
    }
    this.#resume()
    this.#endIfDrained()
  }

  #answer(tag: number, body: AnswerBody): void {
    if (this.#isClosed) return
    const answer: Answer = { ...body, tag }
    this.#writer.write(answer)
    if (this.#writer.length > flush_bytes) this.#send()
    else if (!this.#isFlushDue) {
      this.#isFlushDue = true
      setImmediate(this.#sendDue)
    }
  }

  readonly #sendDue = (): void => {
    this.#isFlushDue = false
    this.#send()
    this.#endIfDrained()
  }

  #send(): void {
    if (this.#writer.length === 0 || this.#isClosed) return
    this.#socket.cork()
    for (const part of this.#writer.take()) this.#socket.write(part)
    this.#socket.uncork()
    if (this.#isFull) this.#socket.pause()
  }

  /** Go on reading where a bound or a new version had stopped it. */
  #resume(): void {
    if (this.#isClosed || this.#isFull || this.#isNegotiating) return
    this.#guarded(() => this.#framer.resume(this.#onMessage))
    if (!this.#isFull && !this.#isNegotiating && this.#socket.isPaused()) this.#socket.resume()
  }

  /** C4 */
  #guarded(take: () => void): void {
    try {
      take()
      if (this.#isFull || this.#isNegotiating) this.#socket.pause()
    } catch (error) {
      // The answers to what came before still go out.
      this.#send()
      this.end(toFailure(error))
    }
  }

  #endIfDrained(): void {
    if (!this.#isDraining || this.#isNegotiating || this.#running.size > 0 || this.#writer.length > 0) return
    if (!this.#socket.writableEnded) this.#socket.end()
  }

  /** C5 */
  #closed(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const running of this.#running.values()) running.drop()
    this.#running.clear()
    void this.#session.clunkAll().finally(() => this.#options.onClosed(this.#error))
  }
}

class Running implements Call {
  readonly type: Request['type']
  /** Tags of flushes that wait for it. */
  readonly flushes = new Set<number>()
  isDropped = false
  answerBytes = 0
  /** What it counts towards limits.ninep_request_bytes_max, with the flushes that wait for it. */
  cost = 0
  #isAborted = false
  onDrop: (() => void) | undefined
  #controller: AbortController | undefined

  constructor(type: Request['type']) {
    this.type = type
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#isAborted) this.#controller.abort()
    return this.#controller.signal
  }

  abort(): void {
    this.#isAborted = true
    this.#controller?.abort()
  }

  /** Its answer is not wanted any more. */
  drop(): void {
    this.isDropped = true
    this.abort()
    this.onDrop?.()
  }
}
