/**
 * A session that is made again whenever it is lost. What was asked meanwhile waits; what was under way is asked again where that
 * can do no harm.
 *
 * L1 What reads is asked again. A mutation is asked again with the same (client, seq), so it takes effect once. What belongs to
 *    the connection that was lost fails with `unavailable`.
 * L2 Nothing waits for longer than its deadline, nor than limits.reconnect_ms_max after the connection was lost where it has none or the
 *    link is not patient; a mutation that was sent then fails with `outcome: unknown`.
 * L3 Between attempts is a random part of a time that doubles (full jitter), so that many clients do not come back at once.
 * L4 A handle is of one connection: after another it is not found by accident, whatever its number.
 * L5 A mutation after a long pause waits for a new identity (sequence.ts, C3), for no longer than its own deadline.
 * L6 What a node refuses because it is going away, or cannot reach the others, is asked again: of another where any can serve it, after
 *    pauses, until its deadline (without one, for limits.reconnect_ms_max). Whatever became of the tries, a mutation has one number, so it takes effect once.
 * L7 A refusal says nothing of an earlier try that was not answered: its outcome stays `unknown`.
 */
import type { Clock } from '../clock.ts'
import type { Context } from '../context.ts'
import { NineError, isNineError, toNineError } from '../errors.ts'
import type { HandleId, OpenFlags, OpenResult, WatchBatch } from '../file-server.ts'
import { limits } from '../limits.ts'
import type { HandleArgs } from '../wire/handles.ts'
import { mayChange, pathOf } from '../wire/operation.ts'
import type { Messages } from '../wire/operation.ts'
import { frameType } from '../../proto/frames.ts'
import type { Welcome } from '../wire/session.ts'
import type { WatchArgs } from '../wire/watch.ts'
import type { CallExtra, Lost } from './calls.ts'
import { LinkWatch } from './link-watch.ts'
import type { SessionPeer } from './peer.ts'
import type { Caller } from './remote-file-server.ts'
import { Sequence } from './sequence.ts'
import type { Lane } from './sequence.ts'
import { identifyRequest } from '../wire/control.ts'

export interface LinkOptions {
  readonly clock: Clock
  /** From 0 to 1. */
  readonly random: () => number
  /** One attempt. */
  readonly open: (events: { onGoaway(): void; onClosed(error: NineError): void }) => Promise<Opened>
  /** Make the new session what the old one was, before anything else is asked of it. */
  readonly restore: (peer: SessionPeer) => Promise<void>
  /** What has a deadline waits until then for a connection. */
  readonly isPatient?: boolean | undefined
  /** Where there are other sessions than this one. */
  readonly router?: Router | undefined
}

/** Sessions with several nodes, of which the link's own is one. */
export interface Router {
  /** Who is to be asked, other than `avoid` if possible; undefined: the link's own session. */
  peerFor(messages: Messages<unknown, unknown>, args: unknown, avoid: SessionPeer | undefined): SessionPeer | undefined
  /** Whether any node can serve it alike. */
  isShared(messages: Messages<unknown, unknown>, args: unknown): boolean
  /** It takes no new requests. */
  refused(peer: SessionPeer): void
  /** It is the link's own now, with all that the one before had. */
  restored(peer: SessionPeer): void
  /** It could not be made what the session before was. */
  failed(peer: SessionPeer, error: NineError): void
}

export interface Opened {
  readonly peer: SessionPeer
  readonly welcome: Welcome
}

interface Asked {
  readonly messages: Messages<unknown, unknown>
  readonly context: Context
  readonly args: unknown
  /** Of the file that a handle was opened on, for messages. */
  readonly handlePath: string
  /** Given with its number, before it is sent first. */
  lane: Lane | undefined
  seq: number
  readonly resolve: (result: unknown) => void
  readonly reject: (error: NineError) => void
  /** Whether it was sent over a connection that is lost, or to a node that does not know what became of it. */
  wasSent: boolean
  /** Who could not serve it last. */ // L6
  avoid: SessionPeer | undefined
  tries: number
  refusedAt: number
}

const tick_ms = 50
/** Nodes that one request may find shutting down. */
const tries_max = 16

export class Link implements Caller {
  readonly #options: LinkOptions
  #peer: SessionPeer | undefined
  #welcome: Welcome | undefined
  #sequence: Sequence | undefined
  /** Asked while there is no connection, in order. */
  #waiting: Asked[] = []
  /** Mutations that wait for an identity, in order. */ // L5
  #unnamed: Asked[] = []
  #onReady: ((error?: NineError) => void)[] = []
  /** Refused, and to be asked again: when. */ // L6
  readonly #pausing = new Map<Asked, NodeJS.Timeout>()
  readonly #handles = new Map<HandleId, { readonly peer: SessionPeer; readonly handle: HandleId; readonly path: string }>()
  #lastHandle = 0
  #lostAt = 0
  #lastError: NineError | undefined
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: LinkOptions) {
    this.#options = options
  }

  /** What the node said of itself and of us. Only after connect(). */
  get welcome(): Welcome {
    if (this.#welcome === undefined) throw new Error('not connected yet')
    return this.#welcome
  }

  /** The live session, if there is one. */
  get peer(): SessionPeer | undefined {
    return this.#peer
  }

  /** The first connection. @throws NineError why there is none */
  async connect(): Promise<void> {
    await this.#attempt()
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const peer = this.#peer
    this.#peer = undefined
    const error = new NineError({ kind: 'unavailable', op: 'remote.close', message: 'the client was closed', retryable: false })
    this.#failWaiting(() => error)
    for (const [asked, timer] of this.#pausing) {
      clearTimeout(timer)
      this.#fail(asked, failed(asked, error))
    }
    this.#pausing.clear()
    peer?.close()
  }

  call<Args, Result>(messages: Messages<Args, Result>, context: Context, args: Args): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const asked: Asked = {
        messages: messages as Messages<unknown, unknown>,
        context,
        args,
        handlePath: this.#handles.get((args as Partial<HandleArgs> | undefined)?.handle ?? 0)?.path ?? '',
        lane: undefined,
        seq: 0,
        resolve: resolve as (result: unknown) => void,
        reject,
        wasSent: false,
        avoid: undefined,
        tries: 0,
        refusedAt: 0,
      }
      if (messages.repeat === 'once' && context.seq === undefined) this.#number(asked)
      else this.#ask(asked)
    })
  }

  watch(context: Context, args: WatchArgs): AsyncIterableIterator<WatchBatch> {
    return new LinkWatch(this, context, args)
  }

  /** Call with the live session, at once or when there is one again; `error` when there is none in time. */
  whenReady(then: (peer: SessionPeer | undefined, error?: NineError) => void): void {
    if (this.#peer !== undefined) return then(this.#peer)
    const refusal = this.#refusal()
    if (refusal !== undefined) return then(undefined, refusal)
    this.#onReady.push((error) => (error === undefined ? then(this.#peer) : then(undefined, error)))
  }

  /** Give it its number, then ask. */
  #number(asked: Asked): void {
    const now = this.#options.clock.monotonic()
    const sequence = this.#sequence!
    if (sequence.isStale(now)) return this.#awaitName(asked, sequence, now)
    const lane = sequence.lane(now)
    if (lane === undefined) return asked.reject(tooMany(asked.messages.name, asked.args))
    asked.lane = lane
    asked.seq = lane.take(now)
    this.#ask(asked)
  }

  /** L5 */
  #awaitName(asked: Asked, sequence: Sequence, now: number): void {
    if (this.#unnamed.length >= limits.client_requests_max) return asked.reject(tooMany(asked.messages.name, asked.args))
    this.#unnamed.push(asked)
    if (this.#unnamed.length > 1) return
    const tick = setInterval(() => (this.#unnamed = this.#inTime(this.#unnamed)), tick_ms)
    const go = (then: (asked: Asked) => void): void => {
      clearInterval(tick)
      const unnamed = this.#inTime(this.#unnamed)
      this.#unnamed = []
      unnamed.forEach(then)
    }
    sequence.renew(now).then(
      () => go((waiting) => this.#number(waiting)),
      (cause: unknown) => {
        const error = toNineError(cause, 'remote.identify')
        if (error.kind !== 'overloaded' && error.kind !== 'unsupported') return go((waiting) => this.#fail(waiting, failed(waiting, error)))
        // The node gives no more: better an identity that may be forgotten than none.
        sequence.keep(this.#options.clock.monotonic())
        go((waiting) => this.#number(waiting))
      },
    )
  }

  #ask(asked: Asked): void {
    const peer = this.#options.router?.peerFor(asked.messages, asked.args, asked.avoid) ?? this.#peer
    if (peer !== undefined) return this.#send(peer, asked)
    const refusal =
      this.#refusal(asked) ?? (this.#waiting.length >= limits.client_requests_max ? tooMany(asked.messages.name, asked.args) : undefined)
    if (refusal !== undefined) return this.#fail(asked, failed(asked, refusal))
    if (isHandleCall(asked)) return this.#fail(asked, handleLost(asked))
    this.#waiting.push(asked)
    this.#startTicking()
  }

  #send(peer: SessionPeer, asked: Asked): void {
    let { args } = asked
    if (isHandleCall(asked)) {
      const known = this.#handles.get((args as HandleArgs).handle)
      if (known?.peer !== peer) return this.#fail(asked, known === undefined ? notOpen(asked) : handleLost(asked)) // L4
      if (asked.messages.type === frameType.closeHandle) this.#handles.delete((args as HandleArgs).handle)
      args = { ...(args as HandleArgs), handle: known.handle }
    }
    peer.ask(
      asked.messages,
      asked.context,
      args,
      this.#extra(asked),
      (result) => {
        asked.lane?.settle(asked.seq)
        asked.resolve(asked.messages.type === frameType.open ? this.#opened(peer, asked.args, result as OpenResult) : result)
      },
      (error, lost) => this.#failed(asked, peer, error, lost),
    )
  }

  #extra({ context, lane, seq }: Asked): CallExtra {
    if (lane === undefined) return { seq: context.seq ?? 0, settled: context.client?.settled ?? 0, client: context.client, target: 0 }
    const isFirst = lane === this.#sequence?.first
    return { seq, settled: lane.settled, client: isFirst ? undefined : lane.identity, target: 0 }
  }

  #opened(peer: SessionPeer, args: unknown, result: OpenResult): OpenResult {
    const handle = ++this.#lastHandle
    this.#handles.set(handle, { peer, handle: result.handle, path: pathOf(args) })
    return { ...result, handle }
  }

  /** L1 */
  #failed(asked: Asked, peer: SessionPeer, error: NineError, lost: Lost): void {
    if (lost === undefined) {
      if (this.#repeats(asked, peer, error)) return
      return this.#fail(asked, asked.wasSent ? withOutcome(error, asked) : error)
    }
    if (lost === 'sent') asked.wasSent = true
    const canRepeat = lost === 'unsent' ? !isHandleCall(asked) : asked.messages.repeat !== 'never' && !isExclusive(asked)
    if (!canRepeat || this.#isClosed) return this.#fail(asked, error)
    this.#ask(asked)
  }

  /** Whether it goes on elsewhere. L6 */
  #repeats(asked: Asked, peer: SessionPeer, error: NineError): boolean {
    if (this.#isClosed || asked.messages.repeat === 'never') return false
    const { router, clock, random } = this.#options
    if (isOfLeaving(error) && asked.tries < tries_max) {
      asked.tries++
      if (peer === this.#peer) this.#lost(error)
      router?.refused(peer)
      this.#ask(asked)
      return true
    }
    const isRefusal = error.kind === 'unavailable' || (asked.wasSent && asked.messages.repeat === 'once' && isBeforeLog(error))
    if (!isRefusal || !error.retryable || router?.isShared(asked.messages, asked.args) !== true) return false
    if (error.outcome === 'unknown' && mayChange(asked.messages)) asked.wasSent = true
    const now = clock.monotonic()
    if (asked.avoid === undefined) asked.refusedAt = now
    const span = Math.min(limits.reconnect_backoff_ms_min * 2 ** asked.tries, limits.nodes_retry_ms_max)
    const wait = asked.avoid === undefined ? 0 : (span * (1 + random())) / 2
    asked.tries++
    const { deadline } = asked.context
    if (now + wait >= (deadline === Infinity ? asked.refusedAt + limits.reconnect_ms_max : deadline)) return false
    asked.avoid = peer
    if (asked.context.signal?.aborted === true) return false
    const again = (): void => {
      this.#pausing.delete(asked)
      this.#ask(asked)
    }
    this.#pausing.set(asked, setTimeout(again, wait))
    return true
  }

  #fail(asked: Asked, error: NineError): void {
    asked.lane?.settle(asked.seq)
    asked.reject(error.path === '' && asked.handlePath !== '' ? error.at(asked.handlePath) : error)
  }

  /** Why this cannot wait for a connection now; without `asked`: what has no deadline. L2 */
  #refusal(asked?: Asked): NineError | undefined {
    if (this.#isClosed) return new NineError({ kind: 'unavailable', op: 'remote.call', message: 'the client was closed', retryable: false })
    const isEarly = this.#options.clock.monotonic() - this.#lostAt < limits.reconnect_ms_max
    const waits = isEarly || (this.#options.isPatient === true && asked !== undefined && asked.context.deadline !== Infinity)
    if (waits && !isNineError(this.#lastError, 'unauthenticated')) return undefined
    return this.#lastError ?? new NineError({ kind: 'unavailable', op: 'remote.call', message: 'there is no connection' })
  }

  async #attempt(): Promise<void> {
    let isOver = false
    let early: NineError | undefined
    const lose = (error: NineError): void => {
      if (isOver) return
      isOver = true
      if (attempt.peer !== undefined && this.#peer === attempt.peer) this.#lost(error)
      else early = error
    }
    const attempt: { peer?: SessionPeer } = {}
    const opened = await this.#options.open({
      // Whoever drains still answers what is under way; what comes now goes to a new connection.
      onGoaway: () => lose(new NineError({ kind: 'unavailable', op: 'remote.call', message: 'the node is shutting down' })),
      onClosed: lose,
    })
    const { peer, welcome } = opened
    attempt.peer = peer
    try {
      await this.#options.restore(peer)
      if (this.#isClosed) throw new NineError({ kind: 'unavailable', op: 'remote.close', message: 'the client was closed' })
      const lost = peer.error ?? early
      if (lost !== undefined) throw lost
    } catch (error) {
      isOver = true
      this.#options.router?.failed(peer, toNineError(error, 'remote.connect'))
      peer.close()
      throw error
    }
    this.#welcome ??= welcome
    this.#sequence ??= new Sequence(welcome.client, this.#options.clock.monotonic(), () =>
      this.call(identifyRequest, { principal: welcome.principal, deadline: Infinity }, undefined),
    )
    this.#peer = peer
    this.#options.router?.restored(peer)
    this.#lastError = undefined
    this.#resumeWaiting(peer)
  }

  #resumeWaiting(peer: SessionPeer): void {
    const waiting = this.#waiting
    const ready = this.#onReady
    this.#waiting = []
    this.#onReady = []
    this.#stopTicking()
    for (const asked of waiting) this.#send(peer, asked)
    for (const then of ready) then()
  }

  #lost(error: NineError): void {
    this.#peer = undefined
    if (this.#isClosed) return
    this.#lostAt = this.#options.clock.monotonic()
    this.#lastError =
      error.kind === 'unavailable' ? error : new NineError({ ...error.fields, kind: 'unavailable', retryable: true, cause: error })
    this.#startTicking()
    void this.#reconnect()
  }

  /** L3 */
  async #reconnect(): Promise<void> {
    let span: number = limits.reconnect_backoff_ms_min
    for (let attempt = 0; !this.#isClosed; attempt++) {
      if (attempt > 0) {
        const wait = span * this.#options.random()
        span = Math.min(span * 2, limits.reconnect_backoff_ms_max)
        await new Promise<void>((resolve) => setTimeout(resolve, wait).unref())
        if (this.#isClosed) return
      }
      try {
        return await this.#attempt()
      } catch (error) {
        this.#lastError = toNineError(error, 'remote.connect')
        if (this.#lastError.kind === 'unauthenticated') this.#failWaiting((asked) => failed(asked, this.#lastError!))
      }
    }
  }

  #startTicking(): void {
    this.#timer ??= setInterval(() => this.#tick(), tick_ms)
  }

  #stopTicking(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** L2 */
  #tick(): void {
    this.#waiting = this.#inTime(this.#waiting).filter((asked) => {
      const refusal = this.#refusal(asked)
      if (refusal !== undefined) this.#fail(asked, failed(asked, refusal))
      return refusal === undefined
    })
    const refusal = this.#refusal()
    if (refusal === undefined) return
    const ready = this.#onReady
    this.#onReady = []
    for (const then of ready) then(refusal)
    if (this.#waiting.length === 0) this.#stopTicking()
  }

  /** Those that go on waiting; the others have failed. */
  #inTime(waiting: Asked[]): Asked[] {
    const now = this.#options.clock.monotonic()
    return waiting.filter((asked) => {
      const isCancelled = asked.context.signal?.aborted === true
      if (!isCancelled && asked.context.deadline > now) return true
      const why = this.#lastError === undefined ? '' : `: ${this.#lastError.message}`
      const message = isCancelled ? 'the request was cancelled' : `it waited for the node until its deadline${why}`
      this.#fail(asked, failed(asked, new NineError({ kind: 'deadline', op: 'remote.call', message })))
      return false
    })
  }

  #failWaiting(errorOf: (asked: Asked | undefined) => NineError): void {
    const waiting = this.#waiting
    const ready = this.#onReady
    this.#waiting = []
    this.#onReady = []
    this.#stopTicking()
    for (const asked of waiting) this.#fail(asked, withOutcome(errorOf(asked), asked))
    for (const then of ready) then(errorOf(undefined))
  }
}

function isHandleCall({ args, messages }: Asked): boolean {
  return messages.repeat === 'never' && (args as Partial<HandleArgs> | undefined)?.handle !== undefined
}

/** A second try could fail on what the first one made. */
function isExclusive({ messages, args }: Asked): boolean {
  return messages.type === frameType.open && (args as { flags: OpenFlags }).flags.exclusive === true
}

function failed(asked: Asked | undefined, error: NineError): NineError {
  if (asked === undefined) return error
  return withOutcome(error.at(pathOf(asked.args), `remote.${asked.messages.name}`), asked)
}

/** What was sent once and not answered may have happened. */
function withOutcome(error: NineError, { wasSent, messages }: Asked): NineError {
  if (!wasSent || !mayChange(messages) || error.outcome === 'unknown' || !isOfConnection(error)) return error
  return new NineError({ ...error.fields, outcome: 'unknown', cause: error })
}

/** Whether a failure says nothing of what happened to the request: it is of the connection, or of this try alone. */ // L7
function isOfConnection(error: NineError): boolean {
  return error.kind === 'deadline' || error.op.startsWith('remote.') || error.op.startsWith('session.') || isBeforeLog(error)
}

/** Whether a file server refused without looking whether it had been asked before. */
function isBeforeLog({ kind }: NineError): boolean {
  return kind === 'unavailable' || kind === 'overloaded' || kind === 'no_space' || kind === 'unauthenticated' || kind === 'internal'
}

/** Whether a node did not take the request, because it is shutting down. */
export function isOfLeaving({ kind, op }: NineError): boolean {
  return kind === 'unavailable' && op === 'session.request'
}

function handleLost({ messages }: Asked): NineError {
  return new NineError({
    kind: 'unavailable',
    op: `remote.${messages.name}`,
    message: 'the connection that this handle belonged to is lost',
    retryable: false,
  })
}

function notOpen({ messages, args }: Asked): NineError {
  return new NineError({ kind: 'not_found', op: `remote.${messages.name}`, message: `handle ${(args as HandleArgs).handle} is not open` })
}

function tooMany(name: string, args: unknown): NineError {
  return new NineError({
    kind: 'overloaded',
    op: `remote.${name}`,
    path: pathOf(args),
    message: `more than ${limits.client_requests_max} requests are waiting`,
  })
}
