/**
 * How a session begins: Hello from the side that connected, Welcome from the side that listens.
 *
 * B1 Until both are said, the peer gets one small frame and limits.handshake_ms.
 * B2 Who is refused is told why, as a failure of the session, before the connection closes.
 */
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { FrameReader, frameType } from '../../proto/frames.ts'
import { Reader } from '../../proto/protobuf.ts'
import type { Clock } from '../clock.ts'
import { isNineError, NineError, toNineError } from '../errors.ts'
import type { FileServer } from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Principal } from '../rights.ts'
import type { SessionControl } from '../wire/control.ts'
import { readError, writeError } from '../wire/fields.ts'
import { checkBirth } from '../wire/context.ts'
import { clusterFeature, ownLimits, protocolVersion, readHello, readWelcome, writeHello, writeWelcome } from '../wire/session.ts'
import type { ClientName, ClusterState, Hello, Welcome } from '../wire/session.ts'
import { Channel } from './channel.ts'
import { Outbox } from './outbox.ts'
import { SessionPeer } from './peer.ts'
import type { Patience } from './peer.ts'

export interface SessionInfo {
  /** What the client calls itself. */
  readonly name: string
  readonly client: ClientName
  /** Whether the client has been here, or at another node, before. */
  readonly isBack: boolean
}

/** What tells a client how the cluster stands. */
export type Tell = (state: ClusterState) => void

/** What a side that listens gives a session. */
export interface OpenedSession {
  /** The session's own Namespace. */
  readonly server: FileServer
  readonly control?: SessionControl | undefined
  /** Number of the session in this process, as in Context.session. */
  readonly session: number
  /** The session has begun, with a client that wants to know of the node's cluster. */
  follow?(tell: Tell): void
  /** The session is over: its handles are closed already. */
  close?(): void
}

export interface AcceptOptions {
  readonly clock: Clock
  /** Token that the transport carried, instead of Hello's. */
  readonly token?: string | undefined
  /** @throws NineError `unauthenticated` */
  readonly authenticate: (token: string | undefined) => Principal
  readonly openSession: (principal: Principal, info: SessionInfo) => OpenedSession | Promise<OpenedSession>
  /** An id for a client that has none. */
  readonly newId: () => string
  /** For logs at the client. */
  readonly name: string
  /** As in Welcome. */
  readonly cluster?: string | undefined
  /** Default: limits.handshake_ms. */
  readonly handshakeMs?: number | undefined
  readonly onClosed?: ((error: NineError) => void) | undefined
}

/** Open a session with whoever connected. @throws NineError why it did not come to be: told to the peer already */
export async function acceptSession(stream: Duplex, options: AcceptOptions): Promise<SessionPeer> {
  const opening = new Opening(stream, options.clock, options.handshakeMs)
  let opened: OpenedSession | undefined
  try {
    const frames = await opening.firstFrame()
    const hello = helloOf(frames)
    const principal = options.authenticate(options.token ?? (hello.token === '' ? undefined : hello.token))
    const client = clientOf(hello, options)
    opened = await options.openSession(principal, { name: hello.name, client, isBack: hello.client !== undefined })
    const { server, session } = opened
    const control: SessionControl = { ...bound(opened.control), identify: identities(options) }
    const welcome: Welcome = {
      version: protocolVersion,
      features: [],
      limits: ownLimits,
      session: options.newId(),
      client,
      principal,
      name: options.name,
      cluster: options.cluster ?? '',
    }
    opening.write(frameType.welcome, (writer) => writeWelcome(writer, welcome))
    const close = opened.close?.bind(opened)
    const onClosed = (error: NineError): void => {
      close?.()
      options.onClosed?.(error)
    }
    const peer = opening.become({
      clock: options.clock,
      peerLimits: hello.limits,
      principal,
      session,
      client,
      believesPrincipal: false,
      namesPrincipal: true,
      server,
      control,
      onClosed,
    })
    if (hello.features.includes(clusterFeature)) opened.follow?.((state) => peer.tellCluster(state))
    peer.start()
    return peer
  } catch (error) {
    const refusal = toNineError(error, 'session.accept')
    opening.refuse(refusal)
    opened?.close?.()
    throw refusal
  }
}

function helloOf(frames: FrameReader): Hello {
  if (frames.type !== frameType.hello) {
    throw new NineError({ kind: 'invalid', op: 'session.accept', message: 'a session begins with a hello' })
  }
  const hello = readHello(new Reader(frames.buffer, frames.start, frames.end))
  if (hello.version >= protocolVersion) return hello
  throw new NineError({
    kind: 'unsupported',
    op: 'session.accept',
    message: `version ${hello.version} is not spoken here, ${protocolVersion} is`,
  })
}

/** One that comes back is what it was elsewhere, whatever the time is here: stores know a client by id and birth. */
function clientOf({ client }: Hello, { clock, newId }: AcceptOptions): ClientName {
  if (client === undefined) return { id: newId(), born: clock.now() }
  checkBirth(client.born, clock)
  return client
}

/** Methods that keep their object. */
function bound(control: SessionControl = {}): SessionControl {
  return {
    bind: control.bind?.bind(control),
    mount: control.mount?.bind(control),
    unmount: control.unmount?.bind(control),
    entries: control.entries?.bind(control),
    fork: control.fork?.bind(control),
    register: control.register?.bind(control),
    deregister: control.deregister?.bind(control),
    control: control.control?.bind(control),
  }
}

/** Many at once, and one more for each time after which a client takes another. */
function identities({ clock, newId }: AcceptOptions): () => ClientName {
  let left: number = limits.session_clients_max
  let countedAt = clock.monotonic()
  return () => {
    const more = Math.floor((clock.monotonic() - countedAt) / limits.client_idle_ms)
    countedAt += more * limits.client_idle_ms
    left = Math.min(left + more, limits.session_clients_max)
    if (left-- > 0) return { id: newId(), born: clock.now() }
    left = 0
    throw new NineError({
      kind: 'overloaded',
      op: 'session.identify',
      message: `a session has at most ${limits.session_clients_max} further clients at once`,
    })
  }
}

export interface BeginOptions {
  readonly clock: Clock
  readonly token: string
  readonly name: string
  /** A client that comes back. */
  readonly client: ClientName | undefined
  /** Told how the node's cluster stands, by nodes that are of one; without it, none tells. */
  readonly onCluster?: ((state: ClusterState) => void) | undefined
  /** When the node is silent for long: see SessionPeer. */
  readonly patience?: Patience | undefined
  readonly onGoaway?: (() => void) | undefined
  readonly onClosed?: ((error: NineError) => void) | undefined
  /** Default: limits.handshake_ms. */
  readonly handshakeMs?: number | undefined
}

/** Open a session over a connection we made. @throws NineError of the peer (`unauthenticated`), `unavailable` */
export async function beginSession(stream: Duplex, options: BeginOptions): Promise<{ peer: SessionPeer; welcome: Welcome }> {
  const opening = new Opening(stream, options.clock, options.handshakeMs)
  try {
    const { token, name, client } = options
    const features = options.onCluster === undefined ? [] : [clusterFeature]
    const hello: Hello = { version: protocolVersion, features, limits: ownLimits, token, name, client }
    opening.write(frameType.hello, (writer) => writeHello(writer, hello))
    const frames = await opening.firstFrame().catch((error: unknown) => refuseStranger(error, stream))
    const reader = new Reader(frames.buffer, frames.start, frames.end)
    if (frames.type === frameType.failure) throw readError(reader)
    if (frames.type !== frameType.welcome) {
      throw noNode()
    }
    const welcome = readWelcome(reader)
    const peer = opening.become({
      clock: options.clock,
      peerLimits: welcome.limits,
      principal: { name: welcome.name, groups: [] },
      session: undefined,
      client: undefined,
      believesPrincipal: true,
      namesPrincipal: false,
      server: undefined,
      control: undefined,
      patience: options.patience,
      onCluster: options.onCluster,
      onGoaway: options.onGoaway,
      onClosed: options.onClosed,
    })
    peer.start()
    return { peer, welcome }
  } catch (error) {
    opening.abandon()
    throw toNineError(error, 'remote.connect')
  }
}

/** A connection before its session. */
class Opening {
  readonly #channel: Channel
  readonly #frames = new FrameReader(limits.handshake_frame_bytes_max) // B1
  readonly #outbox: Outbox
  #peer: SessionPeer | undefined
  #lost: NineError | undefined
  readonly #handshakeMs: number
  #onChunk: (() => void) | undefined

  constructor(stream: Duplex, clock: Clock, handshakeMs: number = limits.handshake_ms) {
    this.#handshakeMs = handshakeMs
    const events = {
      data: (chunk: Buffer): void => {
        if (this.#peer !== undefined) return this.#peer.received(chunk)
        this.#frames.push(chunk)
        this.#onChunk?.()
      },
      drain: (): void => this.#peer?.drained(),
      closed: (why: string, error?: NineError): void => {
        this.#lost = error ?? failure('unavailable', why)
        this.#peer?.lost(why)
        this.#onChunk?.()
      },
    }
    this.#channel = new Channel(stream, events, () => clock.monotonic())
    this.#outbox = new Outbox(this.#channel)
  }

  /** The channel is paused when it is there. */
  firstFrame(): Promise<FrameReader> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => settle(failure('deadline', 'the session was not opened in time')), this.#handshakeMs)
      const settle = (error?: NineError): void => {
        clearTimeout(timer)
        this.#onChunk = undefined
        this.#channel.pause()
        if (error === undefined) resolve(this.#frames)
        else reject(error)
      }
      this.#onChunk = () => {
        try {
          if (this.#frames.next()) settle()
          else if (this.#lost !== undefined) settle(this.#lost)
        } catch (error) {
          settle(failure((error as { kind?: 'too_large' }).kind === 'too_large' ? 'too_large' : 'invalid', (error as Error).message))
        }
      }
      this.#onChunk()
      this.#channel.resume()
    })
  }

  write(type: number, payload: (writer: Outbox['writer']) => void): void {
    const { writer } = this.#outbox
    writer.beginFrame(type, 0)
    payload(writer)
    writer.endFrame()
    this.#outbox.flush()
  }

  /** @throws NineError when the connection is gone already */
  become(options: ConstructorParameters<typeof SessionPeer>[3]): SessionPeer {
    if (this.#lost !== undefined) throw this.#lost
    this.#frames.frameBytesMax = limits.frame_bytes_max
    this.#peer = new SessionPeer(this.#channel, this.#frames, this.#outbox, options)
    return this.#peer
  }

  /** B2 */
  refuse(error: NineError): void {
    this.write(frameType.failure, (writer) => writeError(writer, error))
    this.#channel.end()
  }

  abandon(): void {
    this.#channel.destroy()
  }
}

/** Bytes that are no frame are not of a node, or of another of its ports. */
function refuseStranger(error: unknown, stream: Duplex): never {
  if (isNineError(error, 'too_large') || isNineError(error, 'invalid')) throw noNode(error)
  // What listens for TLS closes a connection that begins otherwise.
  const isPlain = stream instanceof Socket && !(stream instanceof TLSSocket)
  if (!isPlain || !isNineError(error, 'unavailable')) throw error
  throw failure('unavailable', `${error.message} without an answer: it may ask for TLS, or be no node`)
}

function noNode(cause?: unknown): NineError {
  const message = 'what answered is no node, or not its gRPC address'
  return new NineError({ kind: 'unavailable', op: 'remote.connect', message, cause })
}

function failure(kind: 'deadline' | 'unavailable' | 'too_large' | 'invalid', message: string): NineError {
  return new NineError({ kind, op: 'session.open', message })
}
