/**
 * SessionPeer: one end of an open session. Both ends are alike: each may ask, and each may serve.
 *
 * E1 A frame that cannot be understood as one ends the session, with a failure that says why; a request that cannot be understood
 *    is answered `invalid` or `unsupported`, and the session goes on.
 * E2 When the session ends, every request under way fails with `unavailable`, and everything it held is let go of, once.
 * E3 A peer that is silent or takes nothing for too long is gone.
 */
import { answerBit, frameType } from '../../proto/frames.ts'
import type { FrameReader } from '../../proto/frames.ts'
import { Reader, WireError } from '../../proto/protobuf.ts'
import type { Clock } from '../clock.ts'
import type { Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type { FileServer } from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Principal } from '../rights.ts'
import type { SessionControl } from '../wire/control.ts'
import { readError, writeError } from '../wire/fields.ts'
import type { Messages } from '../wire/operation.ts'
import { readClusterState, readGoaway, readNumber, writeClusterState, writeGoaway } from '../wire/session.ts'
import type { ClientName, ClusterState, SessionLimits } from '../wire/session.ts'
import type { WatchArgs } from '../wire/watch.ts'
import { Calls } from './calls.ts'
import type { CallExtra, Reject } from './calls.ts'
import type { Channel } from './channel.ts'
import type { Outbox } from './outbox.ts'
import { RemoteFileServer } from './remote-file-server.ts'
import { Serving } from './serving.ts'
import type { WatchReceiver } from './watch-receiver.ts'

export interface PeerOptions {
  readonly clock: Clock
  /** What the other end takes. */
  readonly peerLimits: SessionLimits
  /** Who the other end is, and what its requests without a name are done as. */
  readonly principal: Principal
  /** Number of this session in this process. */
  readonly session: number | undefined
  /** The client whose mutations come without a name. */
  readonly client: ClientName | undefined
  /** Whether the other end may speak for others, and this one names whom it speaks for. */
  readonly believesPrincipal: boolean
  readonly namesPrincipal: boolean
  /** Served to requests without a target. */
  readonly server: FileServer | undefined
  readonly control: SessionControl | undefined
  /** Default: limits.session_ping_ms and session_silent_ms_max. */
  readonly patience?: Patience | undefined
  /** How the other end's cluster stands. */
  onCluster?(state: ClusterState): void
  /** No new requests, please: told once. */
  onGoaway?(error: NineError | undefined): void
  /** Told once, when what was served is let go of and before what was asked fails. */
  onClosed?(error: NineError): void
}

/** When the other end is asked whether it lives, and when it is taken for dead, milliseconds of silence. */
export interface Patience {
  readonly pingMs: number
  readonly silentMs: number
}

export class SessionPeer {
  readonly #channel: Channel
  readonly #frames: FrameReader
  readonly #options: PeerOptions
  readonly #outbox: Outbox
  readonly #calls: Calls
  readonly #serving: Serving
  readonly #reader = new Reader()
  readonly #ended = new AbortController()
  #error: NineError | undefined
  #receivedAt: number
  #pingedAt = 0
  #isPaused = false
  #isReading = false

  /** `frames` may hold frames that came with the handshake; start() serves them. */
  constructor(channel: Channel, frames: FrameReader, outbox: Outbox, options: PeerOptions) {
    this.#channel = channel
    this.#frames = frames
    this.#options = options
    this.#outbox = outbox
    this.#receivedAt = options.clock.monotonic()
    this.#calls = new Calls(outbox, options.clock, options.peerLimits, options.namesPrincipal)
    this.#serving = new Serving(outbox, {
      principal: options.principal,
      session: options.session,
      client: options.client,
      signal: this.#ended.signal,
      clock: options.clock,
      believesPrincipal: options.believesPrincipal,
      server: options.server,
      control: options.control,
      serverOfPeer: (target) => this.serverOf(target),
      onRoom: () => this.#read(),
    })
  }

  /** Why it has ended; undefined while it lives. */
  get error(): NineError | undefined {
    return this.#error
  }

  /** Who the other end is. */
  get principal(): Principal {
    return this.#options.principal
  }

  /** Requests of ours that are not answered. */
  get callsUnderWay(): number {
    return this.#calls.count
  }

  start(): void {
    this.#channel.resume()
    this.#read()
  }

  /** The other end's file server of that number (0: its own). It ends with the session. */
  serverOf(target = 0): FileServer {
    return new RemoteFileServer({
      call: (messages, context, args) =>
        this.call(messages, context, args, {
          seq: context.seq ?? 0,
          settled: context.client?.settled ?? 0,
          client: context.client,
          target,
        }),
      watch: (context, args) => this.watch(context, args, { seq: 0, settled: 0, client: undefined, target }),
    })
  }

  call<Args, Result>(messages: Messages<Args, Result>, context: Context, args: Args, extra: CallExtra): Promise<Result> {
    return new Promise((resolve, reject) => this.#calls.start(messages, context, args, extra, resolve, reject))
  }

  /** The same with callbacks: `reject` learns whether the session was lost before the answer. */
  ask<Args, Result>(
    messages: Messages<Args, Result>,
    context: Context,
    args: Args,
    extra: CallExtra,
    resolve: (result: Result) => void,
    reject: Reject,
  ): void {
    this.#calls.start(messages, context, args, extra, resolve, reject)
  }

  watch(context: Context, args: WatchArgs, extra: CallExtra): WatchReceiver {
    return this.#calls.watch(context, args, extra)
  }

  /** Serve `server` to the other end's requests that name `target`. */
  offer(target: number, server: FileServer): void {
    this.#serving.offer(target, server)
  }

  withdraw(target: number): void {
    this.#serving.withdraw(target)
  }

  /** A chunk came. */
  received(chunk: Buffer): void {
    if (this.#error !== undefined) return
    this.#receivedAt = this.#options.clock.monotonic()
    this.#frames.push(chunk)
    this.#read()
  }

  drained(): void {
    this.#serving.drained()
  }

  /** The channel is gone. */
  lost(why: string): void {
    this.#close(new NineError({ kind: 'unavailable', op: 'session.end', message: why }))
  }

  /** Look after the connection; call about once a second. */ // E3
  tick(now: number): void {
    if (this.#error !== undefined) return
    if (this.#channel.queuedBytes > 0 && now - this.#channel.takenAt > limits.session_stalled_ms) {
      return this.#end(new NineError({ kind: 'overloaded', op: 'session.send', message: 'the other end does not read' }), 0)
    }
    if (this.#isPaused) return
    const { pingMs, silentMs } = this.#options.patience ?? patience
    const silent = now - this.#receivedAt
    if (silent > silentMs) {
      this.#end(new NineError({ kind: 'unavailable', op: 'session.ping', message: 'the other end is silent' }), 0)
    } else if (silent > pingMs && now - this.#pingedAt > pingMs) {
      this.#pingedAt = now
      this.#outbox.bare(frameType.ping, 0)
    }
  }

  /** Tell the other end how the cluster stands. Only to one that knows the feature. */
  tellCluster(state: ClusterState): void {
    if (this.#error !== undefined) return
    this.#outbox.writer.beginFrame(frameType.cluster, 0)
    writeClusterState(this.#outbox.writer, state)
    this.#outbox.writer.endFrame()
    this.#outbox.written()
  }

  /** Ask for no more requests, answer those under way for at most `graceMs`, then close. */
  drain(graceMs: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#error !== undefined) return resolve()
      this.#goaway(undefined)
      let isDone = false
      const done = (): void => {
        if (isDone) return
        isDone = true
        clearTimeout(timer)
        this.close()
        resolve()
      }
      const timer = setTimeout(done, graceMs)
      this.#serving.drain(done)
    })
  }

  /** Send what is written, then close. */
  close(): void {
    this.#end(new NineError({ kind: 'unavailable', op: 'session.end', message: 'the session was closed' }), 1_000)
  }

  /** End the session, telling the other end why. */
  refuse(error: NineError): void {
    if (this.#error === undefined) this.#fail(error)
  }

  /** Every whole frame there is, as long as there is room for what it asks. */
  #read(): void {
    if (this.#isReading || this.#error !== undefined) return
    this.#isReading = true
    const frames = this.#frames
    try {
      for (;;) {
        if (this.#serving.isFull) {
          this.#pause()
          break
        }
        if (!frames.next()) {
          this.#resume()
          break
        }
        this.#frame(frames)
        if (this.isEnded()) break
      }
    } catch (error) {
      const kind = error instanceof WireError ? error.kind : 'internal'
      this.#fail(new NineError({ kind, op: 'session.frame', message: (error as Error).message, cause: error })) // E1
    } finally {
      this.#isReading = false
    }
  }

  isEnded(): boolean {
    return this.#error !== undefined
  }

  #frame(frames: FrameReader): void {
    const { type, tag } = frames
    if (type >= answerBit || type === frameType.batch || (type === frameType.failure && tag !== 0)) {
      this.#calls.answered(frames)
      return
    }
    if (type >= first_request) {
      this.#serving.request(frames)
      return
    }
    const reader = this.#reader.reset(frames.buffer, frames.start, frames.end)
    switch (type) {
      case frameType.ping:
        this.#outbox.bare(frameType.pong, tag)
        break
      case frameType.pong:
        break
      case frameType.cancel:
        this.#serving.cancel(tag)
        break
      case frameType.credit:
        this.#serving.credit(tag, readNumber(reader))
        break
      case frameType.cluster:
        this.#options.onCluster?.(readClusterState(reader))
        break
      case frameType.goaway:
        this.#options.onGoaway?.(readGoaway(reader))
        break
      case frameType.failure:
        this.#end(readError(reader), 0)
        break
      default:
        // A type between sides that is not known, or a second hello: said, and otherwise left alone.
        this.#failure(tag, new NineError({ kind: 'unsupported', op: 'session.frame', message: `a frame of type ${type} is not expected` }))
    }
  }

  #pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.#channel.pause()
  }

  #resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#receivedAt = this.#options.clock.monotonic()
    this.#channel.resume()
  }

  #goaway(error: NineError | undefined): void {
    this.#outbox.writer.beginFrame(frameType.goaway, 0)
    writeGoaway(this.#outbox.writer, error)
    this.#outbox.writer.endFrame()
    this.#outbox.written()
  }

  #failure(tag: number, error: NineError): void {
    this.#outbox.writer.beginFrame(frameType.failure, tag)
    writeError(this.#outbox.writer, error)
    this.#outbox.writer.endFrame()
    this.#outbox.written()
  }

  /** End the session because of what the other end did. */
  #fail(error: NineError): void {
    this.#failure(0, error)
    this.#end(error, 1_000)
  }

  /** @param graceMs to send what is written; 0: none */
  #end(error: NineError, graceMs: number): void {
    if (this.#error !== undefined) return
    this.#outbox.flush()
    this.#close(error)
    if (graceMs > 0) this.#channel.end(graceMs)
    else this.#channel.destroy()
  }

  /** E2 */
  #close(error: NineError): void {
    if (this.#error !== undefined) return
    this.#error = error
    const lost = new NineError({
      ...error.fields,
      kind: 'unavailable',
      retryable: true,
      message: `the connection was lost: ${error.message}`,
      cause: error,
    })
    this.#serving.close()
    this.#ended.abort(lost)
    // First whoever makes a new session, then the requests that it can take over.
    this.#options.onClosed?.(error)
    this.#calls.close(lost)
  }
}

const patience: Patience = { pingMs: limits.session_ping_ms, silentMs: limits.session_silent_ms_max }

/** Frames below this type are about the session. */
const first_request = 0x10
