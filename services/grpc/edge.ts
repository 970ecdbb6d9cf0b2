/**
 * The gRPC edge: one port on which sessions arrive with their own framing or over gRPC, beside the unary calls.
 *
 * L1 A connection that begins with the session's magic is a session, one that begins with HTTP/2's preface is gRPC. It has
 *    limits.handshake_ms to say all of that, and for TLS before it; what says anything else is closed at once.
 * L2 The gRPC library is loaded with the first HTTP/2 connection: a node that nobody speaks gRPC to does not carry it.
 * L3 Connections are bounded; those past the bound are closed at once, and the log is told so, at most once a tick.
 * L4 Every connection ends with the edge, those that are still shaking hands too.
 */
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { sessionMagic } from '../../proto/frames.ts'
import { systemClock } from '../../namespace/clock.ts'
import type { Clock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { systemRandom } from '../../namespace/random.ts'
import type { Random } from '../../namespace/random.ts'
import { acceptSession } from '../../namespace/remote/handshake.ts'
import type { AcceptOptions, OpenedSession, SessionInfo } from '../../namespace/remote/handshake.ts'
import type { SessionPeer } from '../../namespace/remote/peer.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { GrpcServer } from './grpc-server.ts'
import { grpcLimits } from './limits.ts'
import type { GrpcLimits } from './limits.ts'

export interface GrpcEdgeOptions {
  readonly host: string
  /** 0 picks one. */
  readonly port: number
  readonly tls?: { readonly key: string | Buffer; readonly cert: string | Buffer; readonly ca?: string | Buffer | undefined } | undefined
  /** @throws NineError `unauthenticated` */
  authenticate(token: string | undefined): Principal
  /** Make what a new session works with: its own Namespace, session control, its number. */
  openSession(principal: Principal, info: SessionInfo): OpenedSession | Promise<OpenedSession>
  /** The namespace that unary calls of this principal are answered from. */
  namespaceOf(principal: Principal): Promise<FileServer>
  /** Number of the unary calls as a session: see Context.session. */
  readonly session: number
  /** What the node calls itself. */
  readonly name: string
  /** Which cluster it is of, or which data where it is alone. */
  readonly cluster?: string | undefined
  readonly clock?: Clock | undefined
  readonly random?: Random | undefined
  /** Other limits than those of namespace/limits.ts. */
  readonly limits?: Partial<GrpcLimits> | undefined
  /** Told of each connection that failed to become a session, and of each session's end. */
  log?(event: { readonly event: 'refused' | 'ended'; readonly peer: string; readonly error: NineError }): void
}

export interface GrpcEdge {
  /** `HOST:PORT` that it listens on. */
  readonly address: string
  /** Live sessions. */
  readonly sessions: number
  /** End the sessions of a principal now, telling them why. */
  endSessionsOf(principal: string, error: NineError): void
  /** Take no new requests, answer those under way for at most `graceMs`, then cut them. */
  close(graceMs: number): Promise<void>
}

/** @throws NineError `unavailable` when the address cannot be had */
export async function startGrpcEdge(options: GrpcEdgeOptions): Promise<GrpcEdge> {
  const edge = new Edge(options)
  await edge.listen()
  return edge
}

const tick_ms = 1_000
const magic = Buffer.from(sessionMagic)
/** RFC 9113, section 3.4 */
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

class Edge implements GrpcEdge {
  address = ''
  readonly #options: GrpcEdgeOptions
  readonly #clock: Clock
  readonly #limits: GrpcLimits
  readonly #accept: Omit<AcceptOptions, 'token' | 'onClosed'>
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #peers = new Set<SessionPeer>()
  #grpc: Promise<GrpcServer> | undefined
  #timer: NodeJS.Timeout | undefined
  /** Connections past the bound since the last tick. */
  #dropped = 0
  #isClosing = false

  constructor(options: GrpcEdgeOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#limits = grpcLimits(options.limits)
    const random = options.random ?? systemRandom
    this.#accept = {
      clock: this.#clock,
      handshakeMs: this.#limits.handshake_ms,
      authenticate: (token) => options.authenticate(token),
      openSession: (principal, info) => options.openSession(principal, info),
      newId: () => random.id(),
      name: options.name,
      cluster: options.cluster,
    }
    this.#server = this.#listener()
    this.#server.maxConnections = this.#limits.connections_max // L3
    this.#server.on('drop', () => this.#dropped++)
  }

  get sessions(): number {
    return this.#peers.size
  }

  listen(): Promise<void> {
    const { host, port } = this.#options
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const why = cause.code === 'EADDRINUSE' ? 'another program listens there' : cause.message
        reject(new NineError({ kind: 'unavailable', op: 'grpc.listen', message: `cannot listen on ${host}:${port}: ${why}`, cause }))
      })
      this.#server.listen({ port, host, backlog: 1024 }, () => {
        const bound = this.#server.address() as AddressInfo
        this.address = `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`
        this.#timer = setInterval(() => this.#tick(), tick_ms)
        this.#timer.unref()
        resolve()
      })
    })
  }

  endSessionsOf(principal: string, error: NineError): void {
    for (const peer of [...this.#peers]) if (peer.principal.name === principal) peer.refuse(error)
  }

  async close(graceMs: number): Promise<void> {
    if (this.#isClosing) return
    this.#isClosing = true
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    const drained = [...this.#peers].map((peer) => peer.drain(graceMs))
    if (this.#grpc !== undefined) drained.push(this.#grpc.then((grpc) => grpc.close(graceMs)))
    await Promise.all(drained)
    clearInterval(this.#timer)
    // What has not left by now has had its time; flushed goodbyes get a moment more.
    const cut = setTimeout(() => this.#sockets.forEach((socket) => socket.destroy()), Math.min(graceMs, 100))
    await closed
    clearTimeout(cut)
  }

  #tick(): void {
    const now = this.#clock.monotonic()
    for (const peer of this.#peers) peer.tick(now)
    if (this.#dropped > 0) this.#logDropped()
  }

  /** L3 */
  #logDropped(): void {
    const message = `${this.#dropped} connections were closed at once: there are ${this.#limits.connections_max}, as many as may be`
    this.#dropped = 0
    this.#options.log?.({ event: 'refused', peer: '', error: new NineError({ kind: 'overloaded', op: 'grpc.connection', message }) })
  }

  #listener(): Server {
    const { tls } = this.#options
    const onSocket = (socket: Socket): void => this.#connected(socket)
    if (tls === undefined) return createServer({ noDelay: true }, onSocket).on('connection', (socket) => this.#accepted(socket))
    const settings = { ...tls, ALPNProtocols: ['h2', 'nine'], handshakeTimeout: this.#limits.handshake_ms }
    const server = createTlsServer(settings, onSocket)
    // A handshake that failed, or took too long, leaves its connection to us.
    server.on('tlsClientError', (_error, socket) => socket.destroy()) // L1
    return server.on('connection', (socket: Socket) => this.#accepted(socket))
  }

  /** L4: of TLS, what is below it. */
  #accepted(socket: Socket): void {
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
  }

  /** L1 */
  #connected(socket: Socket): void {
    socket.setNoDelay(true)
    socket.on('error', () => undefined)
    let begun: Buffer = Buffer.alloc(0)
    const timer = setTimeout(() => socket.destroy(), this.#limits.handshake_ms)
    const onReadable = (): void => {
      const chunk = socket.read() as Buffer | null
      if (chunk === null) return
      begun = begun.length === 0 ? chunk : Buffer.concat([begun, chunk])
      const opening = begun[0] === magic[0] ? magic : preface
      const known = Math.min(begun.length, opening.length)
      if (!begun.subarray(0, known).equals(opening.subarray(0, known))) return void socket.destroy()
      if (known < opening.length) return
      clearTimeout(timer)
      socket.off('readable', onReadable)
      socket.off('close', onClose)
      const isSession = opening === magic
      const rest = isSession ? begun.subarray(magic.length) : begun
      if (rest.length > 0) socket.unshift(rest)
      if (isSession) void this.#session(socket, undefined, `${socket.remoteAddress ?? ''}:${socket.remotePort ?? 0}`)
      else void this.#http2(socket)
    }
    const onClose = (): void => clearTimeout(timer)
    socket.once('close', onClose)
    socket.on('readable', onReadable)
  }

  /** Serve a session until it ends; never rejects. */
  async #session(stream: Parameters<typeof acceptSession>[0], token: string | undefined, from: string): Promise<void> {
    try {
      const live: { peer?: SessionPeer } = {}
      const onClosed = (error: NineError): void => {
        if (live.peer !== undefined) this.#peers.delete(live.peer)
        this.#options.log?.({ event: 'ended', peer: from, error })
      }
      const peer = await acceptSession(stream, { ...this.#accept, token, onClosed })
      if (peer.error !== undefined) return
      live.peer = peer
      this.#peers.add(peer)
      if (this.#isClosing) await peer.drain(0)
    } catch (error) {
      this.#options.log?.({ event: 'refused', peer: from, error: error as NineError })
    }
  }

  /** L2 */
  async #http2(socket: Socket): Promise<void> {
    try {
      this.#grpc ??= import('./grpc-server.ts').then(({ GrpcServer }) => {
        return new GrpcServer({
          clock: this.#clock,
          authenticate: (token) => this.#options.authenticate(token),
          namespaceOf: (principal) => this.#options.namespaceOf(principal),
          session: this.#options.session,
          onSession: (stream, token, from) => void this.#session(stream, token, from),
        })
      })
      const grpc = await this.#grpc
      if (!socket.destroyed) grpc.take(socket)
    } catch (cause) {
      socket.destroy()
      const error = new NineError({ kind: 'internal', op: 'grpc.connection', message: (cause as Error).message, cause })
      this.#options.log?.({ event: 'refused', peer: socket.remoteAddress ?? '', error })
    }
  }
}
