/**
 * The answering half of a session: requests of the peer, served by our file servers.
 *
 * S1 Every request is answered once, in whatever order they finish; those on one handle begin in the order they came,
 *    each after the change before it has finished.
 * S2 Requests under way, their bytes and the bytes of answers that wait are bounded: past the first `overloaded`, past the others
 *    the session is not read.
 * S3 A session reaches the handles it opened, and no others; they end with it: atomic ones dropped, shared ones published.
 */
import { answerBit, frameType } from '../../proto/frames.ts'
import type { FrameReader } from '../../proto/frames.ts'
import { Reader, WireError } from '../../proto/protobuf.ts'
import type { Context } from '../context.ts'
import { NineError, toNineError } from '../errors.ts'
import type { FileServer } from '../file-server.ts'
import { limits } from '../limits.ts'
import { ContextReader } from '../wire/context.ts'
import type { ContextSource } from '../wire/context.ts'
import type { SessionControl } from '../wire/control.ts'
import { writeError } from '../wire/fields.ts'
import { openOperation } from '../wire/handles.ts'
import type { HandleArgs, OpenArgs } from '../wire/handles.ts'
import { operationsByType } from '../wire/operations.ts'
import type { OpaqueOperation } from '../wire/operations.ts'
import { pathOf } from '../wire/operation.ts'
import type { Messages } from '../wire/operation.ts'
import { watchMessages } from '../wire/watch.ts'
import { serveControl } from './control.ts'
import { SessionHandles } from './handles.ts'
import type { Outbox } from './outbox.ts'
import { WatchPump } from './watch-pump.ts'

export interface ServingOptions extends ContextSource {
  /** What a request without a target is for. */
  readonly server: FileServer | undefined
  readonly control: SessionControl | undefined
  /** A server for what the peer offers as `target`. */
  readonly serverOfPeer: (target: number) => FileServer
  /** Somewhere below a bound again: read on. */
  readonly onRoom: () => void
}

interface Running {
  readonly tag: number
  readonly bytes: number
  readonly controller: AbortController | undefined
  readonly pump: WatchPump | undefined
}

/** What a read without a length is taken to answer, for S2. */
const answer_bytes_guess = 16 * 1024

export class Serving {
  readonly #outbox: Outbox
  readonly #options: ServingOptions
  readonly #reader = new Reader()
  readonly #contexts: ContextReader
  readonly #running = new Map<number, Running>()
  readonly #handles = new SessionHandles()
  readonly #offered = new Map<number, FileServer>()
  #requests = 0
  #watches = 0
  #bytes = 0
  #isFull = false
  #isDraining = false
  #isClosed = false
  #onIdle: (() => void) | undefined

  constructor(outbox: Outbox, options: ServingOptions) {
    this.#outbox = outbox
    this.#options = options
    this.#contexts = new ContextReader(options)
  }

  /** Serve `server` for requests that name `target`. */
  offer(target: number, server: FileServer): void {
    this.#offered.set(target, server)
  }

  withdraw(target: number): void {
    this.#offered.delete(target)
  }

  /** Whether the next request has to wait for others to finish. */ // S2
  get isFull(): boolean {
    this.#isFull = this.#bytes >= limits.session_request_bytes_max || this.#outbox.queuedBytes >= limits.session_send_bytes_max
    return this.#isFull
  }

  /** Serve the request in `frame`. @throws WireError for one that ends the session: a tag that is in use */
  request(frame: FrameReader): void {
    const { type, tag } = frame
    if (tag === 0 || this.#running.has(tag)) throw new WireError(`tag ${tag} is in use`)
    const operation = operationsByType[type]
    const reader = this.#reader.reset(frame.buffer, frame.start, frame.end)
    this.#contexts.begin()
    const isWatch = type === frameType.watch
    const refusal = this.#refusal(isWatch)
    if (refusal !== undefined) return this.#fail(tag, refusal)
    if (operation !== undefined) this.#operation(operation, tag, reader)
    else if (isWatch) this.#watch(tag, reader)
    else this.#control(type, tag, reader)
  }

  cancel(tag: number): void {
    const running = this.#running.get(tag)
    running?.pump?.stop()
    running?.controller?.abort()
  }

  credit(tag: number, bytes: number): void {
    this.#running.get(tag)?.pump?.credit(bytes)
  }

  /** The channel has taken what was queued. */
  drained(): void {
    for (const running of this.#running.values()) running.pump?.drained()
    this.#room()
  }

  /** Refuse what comes from now on; `onIdle` when nothing is under way any more. Watches end now. */
  drain(onIdle: () => void): void {
    this.#isDraining = true
    this.#onIdle = onIdle
    for (const running of [...this.#running.values()]) running.pump?.end(draining())
    if (this.#requests === 0) onIdle()
  }

  /** The session is over: stop what can be stopped, and let go of what it held. */ // S3
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const running of this.#running.values()) {
      running.pump?.stop()
      running.controller?.abort()
    }
    this.#running.clear()
    this.#contexts.begin()
    this.#handles.closeAll(this.#contexts.take())
  }

  #refusal(isWatch: boolean): NineError | undefined {
    if (this.#isDraining) return draining()
    const max = isWatch ? limits.session_watches_max : limits.session_requests_max
    if ((isWatch ? this.#watches : this.#requests) < max) return undefined
    const message = `a session has at most ${max} ${isWatch ? 'watches' : 'requests under way'}`
    return new NineError({ kind: 'overloaded', op: 'session.request', message })
  }

  #operation(operation: OpaqueOperation, tag: number, reader: Reader): void {
    const start = reader.at
    let args: unknown
    let context: Context
    let answer: Promise<unknown>
    let bytes: number
    try {
      args = operation.readArgs(reader, this.#contexts)
      context = this.#contexts.take()
      bytes = reader.end - start + answerBytes(operation, args)
      answer = this.#start(operation, this.#serverOf(this.#contexts.target), context, args)
    } catch (error) {
      return this.#fail(tag, this.#toError(error, operation.name, args))
    }
    this.#began(tag, bytes, this.#contexts.controller)
    answer.then(
      (result) => this.#finish(tag, bytes, operation, args, result),
      (error: unknown) => this.#finishFailed(tag, bytes, this.#toError(error, operation.name, args)),
    )
  }

  #start(operation: OpaqueOperation, server: FileServer, context: Context, args: unknown): Promise<unknown> {
    if (operation.type === frameType.open) {
      const { path, flags } = args as OpenArgs
      this.#handles.checkRoom(path)
      return openOperation.serve(server, context, { path, flags }).then((opened) => {
        this.#handles.add(server, opened.handle, flags.mode === 'shared', context)
        return opened
      })
    } else if (operation.repeat === 'never' && (args as HandleArgs).handle !== undefined) {
      const isReading = operation.type === frameType.readHandle || operation.type === frameType.statHandle
      const { handle, discard } = args as HandleArgs
      if (operation.type === frameType.closeHandle)
        return this.#handles.close(server, handle, discard === true, () => operation.serve(server, context, args))
      return this.#handles.inTurn(server, handle, isReading, () => operation.serve(server, context, args)) // S1
    }
    return operation.serve(server, context, args)
  }

  #watch(tag: number, reader: Reader): void {
    let pump: WatchPump
    try {
      const { path, options, credit } = watchMessages.readArgs(reader, this.#contexts)
      const given = this.#contexts.take()
      const controller = this.#contexts.controller ?? new AbortController()
      const context = { ...given, deadline: Infinity, signal: controller.signal }
      const batches = this.#serverOf(this.#contexts.target).watch(context, path, options)
      pump = new WatchPump(this.#outbox, tag, credit, batches, controller)
    } catch (error) {
      return this.#fail(tag, this.#toError(error, 'watch', undefined))
    }
    this.#watches++
    this.#running.set(tag, { tag, bytes: 0, controller: undefined, pump })
    void pump.run().then((error) => {
      this.#watches--
      if (this.#isClosed) return
      this.#running.delete(tag)
      if (error === undefined) this.#outbox.bare(frameType.watch | answerBit, tag)
      else this.#fail(tag, error)
    })
  }

  #control(type: number, tag: number, reader: Reader): void {
    const bytes = reader.end - reader.at
    let served: ReturnType<typeof serveControl>
    try {
      served = serveControl(type, reader, this.#contexts, this.#options.control, this.#options.serverOfPeer)
    } catch (error) {
      return this.#fail(tag, this.#toError(error, 'session', undefined))
    }
    this.#began(tag, bytes, this.#contexts.controller)
    served.answer.then(
      (result) => this.#finish(tag, bytes, served.messages, undefined, result),
      (error: unknown) => this.#finishFailed(tag, bytes, this.#toError(error, served.messages.name, undefined)),
    )
  }

  #serverOf(target: number): FileServer {
    const server = target === 0 ? this.#options.server : this.#offered.get(target)
    if (server !== undefined) return server
    throw new NineError({
      kind: 'unavailable',
      op: 'session.request',
      message: `nothing is served here${target === 0 ? '' : ` as ${target}`}`,
    })
  }

  #began(tag: number, bytes: number, controller: AbortController | undefined): void {
    this.#running.set(tag, { tag, bytes, controller, pump: undefined })
    this.#requests++
    this.#bytes += bytes
  }

  #ended(tag: number, bytes: number): void {
    this.#running.delete(tag)
    this.#requests--
    this.#bytes -= bytes
    if (this.#isFull) this.#room()
    if (this.#isDraining && this.#requests === 0) this.#onIdle?.()
  }

  #room(): void {
    if (this.#isFull && !this.isFull) this.#options.onRoom()
  }

  #finish(tag: number, bytes: number, messages: Messages<unknown, unknown>, args: unknown, result: unknown): void {
    if (this.#isClosed) return
    const writer = this.#outbox.writer
    writer.beginFrame(messages.type | answerBit, tag)
    try {
      // S2: answers that nobody takes are not piled up. Reads can be asked again.
      if (messages.repeat === 'again' && this.#outbox.queuedBytes > 2 * limits.session_send_bytes_max) throw unread(messages.name)
      messages.writeResult(writer, result)
      if (writer.unitLength > limits.frame_bytes_max) throw new WireError('the answer is longer than a frame may be', 'too_large')
    } catch (error) {
      writer.dropUnit()
      return this.#finishFailed(tag, bytes, this.#toError(error, messages.name, args))
    }
    writer.endFrame()
    this.#outbox.written()
    this.#ended(tag, bytes)
  }

  #finishFailed(tag: number, bytes: number, error: NineError): void {
    if (this.#isClosed) return
    this.#fail(tag, error)
    this.#ended(tag, bytes)
  }

  #fail(tag: number, error: NineError): void {
    if (this.#isClosed) return
    const writer = this.#outbox.writer
    writer.beginFrame(frameType.failure, tag)
    writeError(writer, error)
    writer.endFrame()
    this.#outbox.written()
  }

  #toError(error: unknown, name: string, args: unknown): NineError {
    if (error instanceof WireError) {
      return new NineError({ kind: error.kind, op: `wire.${name}`, path: pathOf(args), message: error.message, cause: error })
    }
    return toNineError(error, `session.${name}`, pathOf(args))
  }
}

function answerBytes(operation: OpaqueOperation, args: unknown): number {
  if (operation.type === frameType.readHandle) return (args as { length: number }).length
  if (operation.type !== frameType.read) return 0
  return Math.min((args as { options?: { length?: number } }).options?.length ?? answer_bytes_guess, limits.read_bytes_max)
}

function draining(): NineError {
  return new NineError({ kind: 'unavailable', op: 'session.request', message: 'this end is shutting down' })
}

function unread(name: string): NineError {
  return new NineError({ kind: 'overloaded', op: `session.${name}`, message: 'too many answers are waiting to be read' })
}
