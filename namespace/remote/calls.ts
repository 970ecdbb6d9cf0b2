/**
 * The asking half of a session: requests under way, their answers, deadlines and cancellation.
 *
 * A1 Every request is answered once: by the peer, by its deadline or signal, or by the end of the session.
 * A2 A request's tag is free again when the peer has answered, even if nobody waits for the answer any more.
 * A3 No more requests and bytes are under way than the peer takes: bytes past it wait here, requests past it are `overloaded`.
 * A4 Bytes of an argument are not looked at after its request is settled.
 */
import { answerBit, frameType } from '../../proto/frames.ts'
import type { FrameReader } from '../../proto/frames.ts'
import { Reader, WireError } from '../../proto/protobuf.ts'
import type { Clock } from '../clock.ts'
import type { ClientIdentity, Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type { ErrorKind, Outcome } from '../errors.ts'
import { limits } from '../limits.ts'
import { writeContext } from '../wire/context.ts'
import type { Envelope } from '../wire/context.ts'
import { readError } from '../wire/fields.ts'
import { mayChange, pathOf } from '../wire/operation.ts'
import type { Messages } from '../wire/operation.ts'
import { readBatch, watchMessages } from '../wire/watch.ts'
import type { WatchArgs } from '../wire/watch.ts'
import type { SessionLimits } from '../wire/session.ts'
import type { Outbox } from './outbox.ts'
import { WatchReceiver } from './watch-receiver.ts'

/** What goes with a request besides its Context. */
export interface CallExtra {
  /** 0: no mutation, or one without a number. */
  readonly seq: number
  readonly settled: number
  /** Whose seq, when not the session's own. */
  readonly client: ClientIdentity | undefined
  readonly target: number
}

/** Whether the session ended before the answer came, and whether the request had been sent by then. */
export type Lost = 'unsent' | 'sent' | undefined

export type Reject = (error: NineError, lost?: Lost) => void

interface Pending {
  readonly tag: number
  readonly messages: Messages<unknown, unknown> | undefined
  readonly path: string
  readonly deadline: number
  readonly signal: AbortSignal | undefined
  readonly resolve: (result: unknown) => void
  readonly reject: Reject
  /** Only for watches. */
  readonly receiver: WatchReceiver | undefined
  /** Of the request; 0 until it is sent. */
  bytes: number
  isSent: boolean
  /** Nobody waits for the answer any more. */ // A2
  isAbandoned: boolean
}

interface Held {
  readonly pending: Pending
  readonly context: Context
  readonly args: unknown
  readonly extra: CallExtra
}

const sweep_ms = 50

export class Calls {
  readonly #outbox: Outbox
  readonly #clock: Clock
  readonly #peerLimits: SessionLimits
  readonly #namesPrincipal: boolean
  readonly #reader = new Reader()
  /** By tag less one. */
  readonly #slots: (Pending | undefined)[] = []
  readonly #freeTags: number[] = []
  #count = 0
  #watches = 0
  #bytes = 0
  /** Waiting for room at the peer, in order. */
  readonly #held: Held[] = []
  readonly #bySignal = new Map<AbortSignal, Set<Pending>>()
  #sweepTimer: NodeJS.Timeout | undefined
  #closed: NineError | undefined

  constructor(outbox: Outbox, clock: Clock, peerLimits: SessionLimits, namesPrincipal: boolean) {
    this.#outbox = outbox
    this.#clock = clock
    this.#peerLimits = peerLimits
    this.#namesPrincipal = namesPrincipal
  }

  /** Requests that are not answered, watches not counted. */
  get count(): number {
    return this.#count
  }

  /** One request. Exactly one of `resolve` and `reject` is called, once. Errors: the peer's, `unavailable`, `deadline`, `overloaded`. */ // A1
  start<Args, Result>(
    messages: Messages<Args, Result>,
    context: Context,
    args: Args,
    extra: CallExtra,
    resolve: (result: Result) => void,
    reject: Reject,
  ): void {
    const max = Math.min(limits.client_requests_max, this.#peerLimits.requests)
    const refusal = this.#refusal(messages.name, args, context, this.#count, max)
    if (refusal !== undefined) return reject(refusal, this.#closed === undefined ? undefined : 'unsent')
    const opaque = messages as Messages<unknown, unknown>
    const pending = this.#add(opaque, context, args, undefined, resolve as (result: unknown) => void, reject)
    this.#count++
    this.#sendInTurn({ pending, context, args, extra })
  }

  /** A watch has no deadline, whatever its Context says. */
  watch(given: Context, args: WatchArgs, extra: CallExtra): WatchReceiver {
    const context = { ...given, deadline: Infinity }
    const refusal = this.#refusal('watch', args, context, this.#watches, limits.session_watches_max)
    const giveCredit = (bytes: number): void => this.#outbox.number(frameType.credit, pending.tag, bytes)
    const receiver = new WatchReceiver(args.credit, giveCredit, () => this.#abandon(pending))
    if (refusal !== undefined) {
      receiver.finish(refusal, this.#closed !== undefined)
      return receiver
    }
    const end = (): void => receiver.finish(undefined)
    const fail: Reject = (error, lost) => receiver.finish(error, lost !== undefined)
    const pending = this.#add(undefined, context, args, receiver, end, fail)
    this.#watches++
    this.#sendInTurn({ pending, context, args, extra })
    return receiver
  }

  /** An answer, failure or batch for one of our tags. Ones for no request of ours are late, and dropped. */
  answered(frame: FrameReader): void {
    const pending = this.#slots[frame.tag - 1]
    if (pending === undefined || !pending.isSent) return
    const reader = this.#reader.reset(frame.buffer, frame.start, frame.end)
    if (frame.type === frameType.batch) return this.#batch(pending, reader)
    this.#forget(pending)
    if (pending.isAbandoned) return
    try {
      if (frame.type === frameType.failure) {
        pending.reject(readError(reader))
      } else if (pending.messages === undefined) {
        pending.resolve(undefined)
      } else if (frame.type !== (pending.messages.type | answerBit)) {
        throw new WireError('the answer is of another type than the request')
      } else {
        pending.resolve(pending.messages.readResult(reader))
      }
    } catch (error) {
      pending.reject(
        this.#failure(pending, 'internal', `the answer cannot be read: ${(error as Error).message}`, outcomeOf(pending), error),
      )
    }
  }

  /** The session is over. */
  close(error: NineError): void {
    if (this.#closed !== undefined) return
    this.#closed = error
    this.#held.length = 0
    for (const pending of this.#slots.slice()) {
      if (pending === undefined) continue
      this.#forget(pending)
      if (pending.isAbandoned) continue
      const outcome = pending.isSent ? outcomeOf(pending) : 'none'
      const failure = new NineError({ ...error.fields, path: pending.path, op: opOf(pending), outcome, cause: error })
      pending.reject(failure, pending.isSent ? 'sent' : 'unsent')
    }
    clearInterval(this.#sweepTimer)
    for (const signal of this.#bySignal.keys()) signal.removeEventListener('abort', this.#aborted)
    this.#bySignal.clear()
  }

  #refusal(name: string, args: unknown, context: Context, count: number, max: number): NineError | undefined {
    const op = `remote.${name}`
    const path = pathOf(args)
    if (this.#closed !== undefined) return this.#closed.at(path, op)
    if (context.signal?.aborted === true) return new NineError({ kind: 'deadline', op, path, message: 'the request was cancelled' })
    if (context.deadline !== Infinity && context.deadline < this.#clock.monotonic()) {
      return new NineError({ kind: 'deadline', op, path, message: 'the deadline of the request has passed' })
    }
    if (count < max) return undefined
    return new NineError({ kind: 'overloaded', op, path, message: `${max} requests are waiting for their answers` })
  }

  #add(
    messages: Messages<unknown, unknown> | undefined,
    context: Context,
    args: unknown,
    receiver: WatchReceiver | undefined,
    resolve: (result: unknown) => void,
    reject: Reject,
  ): Pending {
    const tag = this.#freeTags.pop() ?? this.#slots.push(undefined)
    const pending: Pending = {
      tag,
      messages,
      path: pathOf(args),
      deadline: context.deadline,
      signal: context.signal,
      resolve,
      reject,
      receiver,
      bytes: 0,
      isSent: false,
      isAbandoned: false,
    }
    this.#slots[tag - 1] = pending
    if (context.signal !== undefined) this.#listen(context.signal, pending)
    if (this.#sweepTimer === undefined && context.deadline !== Infinity) {
      this.#sweepTimer = setInterval(() => this.#sweep(), sweep_ms)
      this.#sweepTimer.unref()
    }
    return pending
  }

  /** A3 */
  #sendInTurn(held: Held): void {
    if (this.#held.length > 0 || (this.#bytes > 0 && this.#bytes >= this.#peerLimits.requestBytes / 2)) this.#held.push(held)
    else this.#send(held)
  }

  #send({ pending, context, args, extra }: Held): void {
    const writer = this.#outbox.writer
    const messages = pending.messages ?? watchMessages
    const envelope: Envelope = {
      now: this.#clock.monotonic(),
      client: extra.client,
      seq: extra.seq,
      settled: extra.settled,
      target: extra.target,
      namesPrincipal: this.#namesPrincipal,
    }
    writer.beginFrame(messages.type, pending.tag)
    try {
      writeContext(writer, context, envelope)
      messages.writeArgs(writer, args as never)
      if (writer.unitLength > this.#peerLimits.frameBytes) throw new WireError('the request is longer than a frame may be', 'too_large')
      pending.bytes = writer.endFrame()
    } catch (error) {
      writer.dropUnit()
      this.#forget(pending)
      const isOurs = error instanceof WireError
      pending.reject(
        error instanceof NineError
          ? error
          : this.#failure(pending, isOurs ? error.kind : 'internal', (error as Error).message, 'none', error),
      )
      return
    }
    pending.isSent = true
    this.#bytes += pending.bytes
    this.#outbox.written()
  }

  #batch(pending: Pending, reader: Reader): void {
    if (pending.isAbandoned || pending.receiver === undefined) return
    const bytes = reader.end - reader.at
    try {
      pending.receiver.push(readBatch(reader), bytes)
    } catch (error) {
      this.#abandon(pending)
      pending.reject(this.#failure(pending, 'internal', `a batch cannot be read: ${(error as Error).message}`, 'none', error))
    }
  }

  #forget(pending: Pending): void {
    this.#slots[pending.tag - 1] = undefined
    this.#freeTags.push(pending.tag)
    if (pending.receiver === undefined) this.#count--
    else this.#watches--
    if (pending.signal !== undefined) this.#bySignal.get(pending.signal)?.delete(pending)
    this.#bytes -= pending.bytes
    while (this.#held.length > 0 && (this.#bytes === 0 || this.#bytes < this.#peerLimits.requestBytes / 2)) {
      const next = this.#held.shift()!
      if (next.pending.isAbandoned) this.#forget(next.pending)
      else this.#send(next)
    }
  }

  /** Nobody waits any more: ask the peer to stop, and keep the tag until it answers. */
  #abandon(pending: Pending): void {
    if (pending.isAbandoned || this.#slots[pending.tag - 1] !== pending) return
    pending.isAbandoned = true
    if (pending.isSent) this.#outbox.bare(frameType.cancel, pending.tag)
  }

  #listen(signal: AbortSignal, pending: Pending): void {
    const known = this.#bySignal.get(signal)
    if (known !== undefined) {
      known.add(pending)
      return
    }
    this.#bySignal.set(signal, new Set([pending]))
    signal.addEventListener('abort', this.#aborted, { once: true })
  }

  readonly #aborted = (event: Event): void => {
    const signal = event.target as AbortSignal
    const waiting = this.#bySignal.get(signal)
    this.#bySignal.delete(signal)
    for (const pending of waiting ?? []) {
      if (pending.isAbandoned) continue
      this.#abandon(pending)
      if (pending.receiver !== undefined) pending.resolve(undefined)
      else pending.reject(this.#failure(pending, 'deadline', 'the request was cancelled', pending.isSent ? outcomeOf(pending) : 'none'))
    }
  }

  #sweep(): void {
    const now = this.#clock.monotonic()
    for (const pending of this.#slots) {
      if (pending === undefined || pending.isAbandoned || pending.deadline > now) continue
      this.#abandon(pending)
      pending.reject(this.#failure(pending, 'deadline', 'no answer came before the deadline', pending.isSent ? outcomeOf(pending) : 'none'))
    }
    for (const [signal, waiting] of this.#bySignal) {
      if (waiting.size > 0) continue
      signal.removeEventListener('abort', this.#aborted)
      this.#bySignal.delete(signal)
    }
    if (this.#count > 0 || this.#watches > 0) return
    clearInterval(this.#sweepTimer)
    this.#sweepTimer = undefined
  }

  #failure(pending: Pending, kind: ErrorKind, message: string, outcome: Outcome, cause?: unknown): NineError {
    return new NineError({ kind, op: opOf(pending), path: pending.path, message, outcome, cause })
  }
}

function opOf(pending: Pending): string {
  return `remote.${pending.messages?.name ?? 'watch'}`
}

function outcomeOf({ messages }: Pending): Outcome {
  return messages !== undefined && mayChange(messages) ? 'unknown' : 'none'
}
