/**
 * One connection to a 9P server: requests by tag, many at once, answers in any order.
 *
 * C1 A tag is used again only when its answer is here, or the answer of the Tflush that followed it.
 * C2 Whoever gave up, by signal or deadline, is told at once; the request is flushed, and what its late answer says of fids is heeded.
 * C3 A change that was sent and not answered fails with outcome `unknown`; nothing is ever sent twice.
 * C4 What is no 9P, or no answer to what was asked, ends the connection: everything under way fails with `unavailable`. So does silence:
 *    a server that owes an answer is asked (by a Tflush of nothing) whether it lives.
 * C5 What is outstanding, what waits and what is queued to be sent is bounded.
 */
import type { Socket } from 'node:net'
import { decodeAnswer, tagOf } from '../../proto/ninep/decode.ts'
import { MessageWriter } from '../../proto/ninep/encode.ts'
import { MessageFramer } from '../../proto/ninep/framer.ts'
import { noTag } from '../../proto/ninep/messages.ts'
import type { Answer, Dialect, RequestBody } from '../../proto/ninep/messages.ts'
import { WireError } from '../../proto/protobuf.ts'
import type { Clock } from '../clock.ts'
import { checkDeadline } from '../context.ts'
import type { Context } from '../context.ts'
import { errorTable, NineError } from '../errors.ts'
import { limits } from '../limits.ts'
import { kindOfErrno, kindOfText, nameOfErrno } from './failures.ts'
import { Fids } from './fids.ts'
import type { Fid } from './fids.ts'

/** What goes with a request. */
export interface Asking {
  /** Who gives up when; nobody without one. */
  readonly context?: Context | undefined
  /** Fids the request names and the server knows. */
  readonly uses?: readonly Fid[]
  /** Fid that it makes known. */
  readonly makes?: Fid | undefined
  /** Fid that the server forgets with it, whatever it answers. */
  readonly ends?: Fid | undefined
  /** Whether it changes anything at the server. */
  readonly isChange?: boolean | undefined
}

/** What servers want kept free of msize when they are asked for bytes, or given some: IOHDRSZ of Plan 9. */
export const io_overhead_bytes = 24

type AnswerType = Answer['type']
/** The answer of one type. */
export type AnswerOf<T extends AnswerType> = Answer & { readonly type: T }

interface Asked {
  readonly body: RequestBody
  readonly expected: AnswerType
  readonly asking: Asking
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: NineError) => void
  onAbort: (() => void) | undefined
  /** undefined while it waits in turn. */
  tag: number | undefined
  /** The caller was told; what follows is for the tag and the fids alone. */
  isSettled: boolean
  flushedAt: number
}

/** Tags: requests have those below, each flush its request's plus this, and the question whether the server lives one more. */
const flush_tags = limits.ninep_client_outstanding_max
const ping_tag = 2 * flush_tags
const nobody_tag = ping_tag + 1

const tick_ms = 25

export class NinepConnection {
  readonly fids: Fids
  readonly #socket: Socket
  readonly #clock: Clock
  readonly #framer: MessageFramer
  readonly #writer: MessageWriter
  readonly #onClosed: (error: NineError) => void
  #dialect: Dialect = '9P2000.L'
  #msize: number = limits.ninep_client_msize
  readonly #outstanding = new Map<number, Asked>()
  readonly #freeTags: number[] = []
  #nextTag = 0
  #waiting: Asked[] = []
  #version: Asked | undefined
  #isDue = false
  #timer: NodeJS.Timeout | undefined
  #heardAt: number
  #isPinged = false
  #error: NineError | undefined

  /** @param onClosed told once why it ended */
  constructor(socket: Socket, clock: Clock, onClosed: (error: NineError) => void) {
    this.#socket = socket
    this.#clock = clock
    this.#onClosed = onClosed
    this.#heardAt = clock.monotonic()
    this.#framer = new MessageFramer(limits.ninep_client_msize)
    this.#writer = new MessageWriter(this.#dialect)
    this.fids = new Fids((fid) => this.#clunk(fid))
    socket.on('data', (chunk: Buffer) => this.#received(chunk))
    socket.on('drain', () => this.#sendWaiting())
    socket.on('error', (error) => this.#fail(lost(error.message, error)))
    socket.on('close', () => this.#fail(lost('the server closed the connection')))
  }

  get dialect(): Dialect {
    return this.#dialect
  }

  /** Largest message, both ways. */
  get msize(): number {
    return this.#msize
  }

  /** Why it ended, if it has. */
  get error(): NineError | undefined {
    return this.#error
  }

  /** What was agreed in Rversion. */
  agree(dialect: Dialect, msize: number): void {
    this.#dialect = dialect
    this.#writer.dialect = dialect
    this.#msize = this.#framer.msize = msize
  }

  /**
   * Ask, and give the answer of the type expected.
   * @throws NineError of what the server answers; `deadline`, `overloaded`, `unavailable`
   */
  ask<T extends AnswerType>(body: RequestBody, expected: T, asking: Asking = {}): Promise<AnswerOf<T>> {
    return new Promise<AnswerOf<T>>((resolve, reject) => {
      if (asking.context !== undefined) checkDeadline(asking.context, 'ninep.call')
      if (this.#error !== undefined) throw this.#error
      for (const fid of asking.uses ?? []) fid.checkHeld()
      const asked: Asked = {
        body,
        expected,
        asking,
        resolve: resolve as (answer: Answer) => void,
        reject,
        onAbort: undefined,
        tag: undefined,
        isSettled: false,
        flushedAt: 0,
      }
      if (this.#waiting.length > 0 || !this.#canSend()) this.#wait(asked)
      else this.#send(asked)
      const signal = asking.context?.signal
      if (signal !== undefined) {
        asked.onAbort = () => this.#giveUp(asked, 'the request was cancelled')
        signal.addEventListener('abort', asked.onAbort, { once: true })
      }
      this.#watch()
    })
  }

  close(message = 'the connection was closed'): void {
    this.#fail(new NineError({ kind: 'unavailable', op: 'ninep.call', message, retryable: false }))
  }

  #canSend(): boolean {
    return (
      this.#outstanding.size < limits.ninep_client_outstanding_max &&
      this.#writer.length + this.#socket.writableLength < limits.ninep_client_send_bytes_max
    )
  }

  /** C5 */
  #wait(asked: Asked): void {
    // A clunk only frees: there are no more of them than fids.
    if (this.#waiting.length >= limits.ninep_client_waiting_max && asked.asking.ends === undefined) {
      const message = `more than ${limits.ninep_client_waiting_max} requests wait for the 9P server`
      throw new NineError({ kind: 'overloaded', op: 'ninep.call', message })
    }
    begin(asked.asking)
    this.#waiting.push(asked)
  }

  #sendWaiting(): void {
    if (this.#waiting.length === 0) return
    let count = 0
    while (count < this.#waiting.length && this.#canSend()) {
      const asked = this.#waiting[count++]!
      this.#write(asked)
    }
    this.#waiting.splice(0, count)
  }

  #send(asked: Asked): void {
    begin(asked.asking)
    this.#write(asked)
  }

  #write(asked: Asked): void {
    const { body, asking } = asked
    const isVersion = body.type === 'Tversion'
    const tag = isVersion ? noTag : (this.#freeTags.pop() ?? this.#nextTag++)
    try {
      this.#writer.write({ ...body, tag })
    } catch (error) {
      if (!isVersion) this.#freeTags.push(tag)
      this.#settle(asked, undefined, unsendable(error))
      end(asking)
      return
    }
    asked.tag = tag
    if (asking.makes !== undefined) asking.makes.isKnown = true // F2 of fids.ts
    if (isVersion) this.#version = asked
    else this.#outstanding.set(tag, asked)
    if (this.#outstanding.size === 1) this.#heardAt = this.#clock.monotonic()
    this.#flushSoon()
  }

  #flushSoon(): void {
    if (this.#isDue) return
    this.#isDue = true
    setImmediate(() => this.#flush())
  }

  #flush(): void {
    this.#isDue = false
    if (this.#error !== undefined || this.#writer.length === 0) return
    const parts = this.#writer.take()
    if (parts.length === 1) {
      this.#socket.write(parts[0]!)
      return
    }
    this.#socket.cork()
    for (const part of parts) this.#socket.write(part)
    this.#socket.uncork()
  }

  #received(chunk: Buffer): void {
    if (this.#error !== undefined) return
    this.#heardAt = this.#clock.monotonic()
    this.#isPinged = false
    try {
      this.#framer.push(chunk, (message) => {
        this.#answered(message)
        return this.#error === undefined
      })
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      this.#fail(lost(`this is no 9P server: ${error.message}`, error)) // C4
    }
    this.#sendWaiting()
  }

  #answered(message: Buffer): void {
    const tag = tagOf(message)
    if (tag >= flush_tags && tag !== noTag) return this.#flushed(tag, message)
    const asked = tag === noTag ? this.#version : this.#outstanding.get(tag)
    if (asked === undefined) throw new WireError(`an answer to request ${tag}, which is not under way`) // C4
    const answer = this.#decode(message, tag)
    const isError = answer.type === 'Rlerror' || answer.type === 'Rerror'
    if (!isError && answer.type !== asked.expected) throw new WireError(`${answer.type} answers a ${asked.body.type}`) // C4
    const { makes, ends } = asked.asking
    if (makes !== undefined && (isError || isPartial(asked.body, answer))) makes.isKnown = false
    if (ends !== undefined) ends.isKnown = false
    if (tag === noTag) this.#version = undefined
    else if (asked.flushedAt === 0) this.#free(tag) // C1: else the answer of its flush comes yet
    if (isError) this.#settle(asked, undefined, failureOf(answer, asked.body))
    else this.#settle(asked, answer, undefined)
    if (asked.flushedAt === 0) end(asked.asking)
  }

  /** What Tversion is answered by is not in a dialect yet. */
  #decode(message: Buffer, tag: number): Answer {
    if (tag !== noTag) return decodeAnswer(message, this.#dialect)
    try {
      return decodeAnswer(message, '9P2000')
    } catch {
      return decodeAnswer(message, '9P2000.L')
    }
  }

  /** The answer of a Tflush. */
  #flushed(tag: number, message: Buffer): void {
    if (tag === ping_tag) return
    const asked = this.#outstanding.get(tag - flush_tags)
    if (asked === undefined || asked.flushedAt === 0) throw new WireError(`an answer to request ${tag}, which is not under way`)
    const { type } = decodeAnswer(message, this.#dialect)
    if (type !== 'Rflush' && type !== 'Rlerror' && type !== 'Rerror') throw new WireError(`${type} answers a Tflush`)
    this.#free(tag - flush_tags)
    end(asked.asking)
  }

  #free(tag: number): void {
    this.#outstanding.delete(tag)
    this.#freeTags.push(tag)
  }

  /** Tell the caller, once. */
  #settle(asked: Asked, answer: Answer | undefined, error: NineError | undefined): void {
    if (asked.isSettled) return
    asked.isSettled = true
    if (asked.onAbort !== undefined) asked.asking.context?.signal?.removeEventListener('abort', asked.onAbort)
    if (error !== undefined) asked.reject(error)
    else asked.resolve(answer!)
  }

  /** C2 */
  #giveUp(asked: Asked, message: string): void {
    if (asked.isSettled) return
    const outcome = asked.tag !== undefined && asked.asking.isChange === true ? 'unknown' : 'none'
    this.#settle(asked, undefined, new NineError({ kind: 'deadline', op: 'ninep.call', message, outcome }))
    if (asked.tag === undefined) {
      this.#waiting = this.#waiting.filter((one) => one !== asked)
      end(asked.asking)
      return
    }
    if (asked.tag === noTag) return
    asked.flushedAt = this.#clock.monotonic()
    this.#writer.write({ type: 'Tflush', tag: asked.tag + flush_tags, oldTag: asked.tag })
    this.#flushSoon()
  }

  #clunk(fid: Fid): void {
    const forget = (): void => this.fids.forget(fid)
    this.ask({ type: 'Tclunk', fid: fid.number }, 'Rclunk', { ends: fid }).then(forget, forget)
  }

  #watch(): void {
    if (this.#timer !== undefined) return
    this.#timer = setInterval(() => this.#tick(), tick_ms)
    this.#timer.unref()
  }

  #tick(): void {
    const now = this.#clock.monotonic()
    const late: Asked[] = []
    for (const asked of this.#outstanding.values()) {
      if (asked.flushedAt > 0) {
        if (now - asked.flushedAt > limits.session_silent_ms_max) return this.#fail(lost('the server does not answer a flush')) // C4
      } else if (isLate(asked, now)) late.push(asked)
    }
    for (const asked of this.#waiting) if (isLate(asked, now)) late.push(asked)
    if (this.#version !== undefined && isLate(this.#version, now)) late.push(this.#version)
    for (const asked of late) this.#giveUp(asked, 'the deadline of the request has passed')
    if (this.#outstanding.size === 0 && this.#waiting.length === 0 && this.#version === undefined) {
      clearInterval(this.#timer)
      this.#timer = undefined
      return
    }
    const silent = now - this.#heardAt
    if (silent > limits.session_silent_ms_max) return this.#fail(lost('the server is silent')) // C4
    if (silent > limits.session_ping_ms && !this.#isPinged) {
      this.#isPinged = true
      this.#writer.write({ type: 'Tflush', tag: ping_tag, oldTag: nobody_tag })
      this.#flushSoon()
    }
  }

  #fail(error: NineError): void {
    if (this.#error !== undefined) return
    this.#error = error
    clearInterval(this.#timer)
    this.#socket.destroy()
    const all = [...this.#outstanding.values(), ...(this.#version === undefined ? [] : [this.#version])]
    const waiting = this.#waiting
    this.#outstanding.clear()
    this.#waiting = []
    for (const asked of all) {
      const isUnknown = asked.asking.isChange === true
      this.#settle(asked, undefined, isUnknown ? new NineError({ ...error.fields, outcome: 'unknown', cause: error }) : error) // C3
    }
    for (const asked of waiting) this.#settle(asked, undefined, error)
    this.#onClosed(error)
  }
}

function begin({ uses = [], makes, ends }: Asking): void {
  for (const fid of uses) fid.begin()
  makes?.begin()
  ends?.begin()
}

function end({ uses = [], makes, ends }: Asking): void {
  for (const fid of uses) fid.end()
  makes?.end()
  ends?.end()
}

/** A walk that came to an end before the last name makes no fid. */
function isPartial(body: RequestBody, answer: Answer): boolean {
  return body.type === 'Twalk' && answer.type === 'Rwalk' && answer.qids.length < body.names.length
}

function isLate({ asking: { context }, isSettled }: Asked, now: number): boolean {
  return context !== undefined && context.deadline < now && !isSettled
}

function failureOf(answer: Answer, body: RequestBody): NineError {
  if (answer.type === 'Rlerror') {
    const { errno } = answer
    if (errno === errorTable.unauthenticated.errno && (body.type === 'Tattach' || body.type === 'Tauth')) {
      const message = `the server does not let ${JSON.stringify(body.uname)} in: it may want a token, or another user (9p://USER@HOST)`
      return new NineError({ kind: 'unauthenticated', op: 'ninep.call', message })
    }
    return new NineError({ kind: kindOfErrno(errno), op: 'ninep.call', message: `the server answers ${nameOfErrno(errno)}` })
  }
  const { ename } = answer as Answer & { type: 'Rerror' }
  return new NineError({ kind: kindOfText(ename), op: 'ninep.call', message: `the server answers ${JSON.stringify(ename.slice(0, 256))}` })
}

function lost(message: string, cause?: unknown): NineError {
  return new NineError({ kind: 'unavailable', op: 'ninep.call', message, cause })
}

function unsendable(error: unknown): NineError {
  if (!(error instanceof WireError)) throw error
  return new NineError({ kind: error.kind, op: 'ninep.call', message: error.message, cause: error })
}
