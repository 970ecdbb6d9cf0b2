/**
 * The listener: connections of other nodes, up to where each of their streams speaks for itself.
 *
 * L1 A connection that has no stream with a finished hello within limits.peer_dial_ms is closed, and so is one whose last such stream ended.
 * L2 Connections are bounded. Of those that have not finished a hello, the oldest makes room, so that idle ones cannot keep peers out.
 * L3 With TLS a peer shows a certificate signed by the cluster's authority, or there is no connection.
 */
import { performServerHandshake } from 'node:http2'
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { NineError } from '../../namespace/errors.ts'
import { connectionReason } from '../../namespace/remote/tls-reason.ts'
import { grpcStatus, isGrpc, refuseCall } from './grpc-stream.ts'
import { Incoming } from './incoming.ts'
import type { IncomingEvents } from './incoming.ts'
import { callPath, http2Settings, peerAuthority, sessionMemory, windowBytes } from './own.ts'
import type { CallKind, Own } from './own.ts'

export interface ListenerEvents extends IncomingEvents {
  /** A connection ended that never came to a hello. `crowded`: to make room. */
  dropped(where: string, why: 'garbage' | 'silent' | 'crowded', message: string): void
}

/** Streams of one connection; a dialler has one. */
const streams_max = 8
const backlog = 256
const broken: ReadonlySet<string | undefined> = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'])

interface Connection {
  readonly where: string
  readonly socket: Socket
  readonly streams: Set<Incoming>
  session: ServerHttp2Session | undefined
  timer: NodeJS.Timeout | undefined
  /** Whether a hello of it is over. */
  isKnown: boolean
  /** Whether somebody was told how it ended: a stream of it told its own end. */
  isTold: boolean
}

export class Listener {
  address = ''
  readonly #own: Own
  readonly #events: ListenerEvents
  readonly #server: Server
  readonly #connections = new Set<Connection>()
  /** Those without a finished hello, oldest first. */
  readonly #strangers = new Set<Connection>()
  readonly #paths = new Map<string, CallKind>(Object.entries(callPath).map(([kind, path]) => [path, kind as CallKind]))

  constructor(own: Own, events: ListenerEvents) {
    this.#own = own
    this.#events = events
    this.#server = this.#makeServer()
  }

  get connections(): number {
    return this.#connections.size
  }

  /** @throws NineError `unavailable` when the address cannot be had */
  listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', (cause: NodeJS.ErrnoException) => {
        const why = cause.code === 'EADDRINUSE' ? 'another program listens there' : cause.message
        reject(new NineError({ kind: 'unavailable', op: 'peer.listen', message: `cannot listen on ${host}:${port}: ${why}`, cause }))
      })
      this.#server.listen({ host, port, backlog }, () => {
        const bound = this.#server.address() as AddressInfo
        this.address = `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`
        resolve()
      })
    })
  }

  close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const connection of [...this.#connections]) this.#end(connection)
    return closed
  }

  #makeServer(): Server {
    const { tls } = this.#own
    if (tls === undefined) return createServer({ noDelay: true }, (socket) => this.#http2(this.#accepted(socket), socket))
    const { ca, cert, key } = tls
    const settings = { ca, cert, key, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2' as const } // L3
    const server = createTlsServer({ ...settings, ALPNProtocols: ['h2'], handshakeTimeout: this.#own.limits.peer_dial_ms })
    // A TLS connection and what lies below it have the same far end.
    const of = (socket: Socket): Connection | undefined => [...this.#strangers].find(({ where }) => where === farEnd(socket))
    server.on('connection', (socket: Socket) => void this.#accepted(socket))
    server.on('tlsClientError', (error, socket) => {
      const connection = of(socket)
      if (connection !== undefined) this.#drop(connection, 'garbage', connectionReason(error, peerAuthority))
      socket.destroy()
    })
    server.on('secureConnection', (socket) => {
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
      const connection = of(socket)
      if (connection === undefined) socket.destroy()
      else this.#http2(connection, socket)
    })
    return server
  }

  #accepted(socket: Socket): Connection {
    const where = farEnd(socket)
    const connection: Connection = {
      where,
      socket,
      streams: new Set(),
      session: undefined,
      timer: undefined,
      isKnown: false,
      isTold: false,
    }
    this.#connections.add(connection)
    this.#strangers.add(connection)
    connection.timer = setTimeout(() => this.#drop(connection, 'silent', 'no hello in time'), this.#own.limits.peer_dial_ms) // L1
    socket.setNoDelay(true)
    socket.on('error', () => undefined)
    // What HTTP/2 says of its bytes comes behind the end of the socket.
    socket.once('close', () => setImmediate(() => this.#gone(connection)))
    const { peer_handshakes_max, peer_connections_max } = this.#own.limits
    if (this.#strangers.size > peer_handshakes_max || this.#connections.size > peer_connections_max) {
      const [oldest] = this.#strangers
      this.#drop(oldest!, 'crowded', 'there are as many connections as may be') // L2
    }
    return connection
  }

  #http2(connection: Connection, socket: Socket): void {
    if (!this.#connections.has(connection)) return void socket.destroy()
    const session = performServerHandshake(socket, {
      settings: { ...http2Settings, maxConcurrentStreams: streams_max },
      maxSessionMemory: sessionMemory,
    })
    connection.session = session
    session.setLocalWindowSize(2 * windowBytes)
    session.on('error', (error: NodeJS.ErrnoException) => {
      // A network that cuts a connection says nothing about what came over it.
      if (connection.isKnown && broken.has(error.code)) this.#end(connection)
      else this.#drop(connection, 'garbage', error.message)
    })
    session.on('close', () => this.#gone(connection))
    session.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => this.#stream(connection, stream, headers))
  }

  #stream(connection: Connection, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    stream.on('error', () => undefined)
    if (!isGrpc(headers)) {
      stream.respond({ ':status': 415 }, { endStream: true })
      return
    }
    const kind = this.#paths.get(headers[':path'] ?? '')
    if (kind === undefined) return refuseCall(stream, grpcStatus.unimplemented, 'there is no such call here')
    const events = this.#events
    const incoming = new Incoming(this.#own, kind, stream, connection.socket, connection.where, {
      item: (from, item) => events.item(from, item),
      request: (from, group, verb, body, deadline) => events.request(from, group, verb, body, deadline),
      opened: (opened) => {
        connection.isKnown = true
        clearTimeout(connection.timer)
        this.#strangers.delete(connection)
        events.opened(opened)
      },
      ended: (ended, why, error) => {
        connection.streams.delete(ended)
        connection.isTold = true
        events.ended(ended, why, error)
        // L1. What says why is on its way; the dialler closes when it has it.
        if (connection.streams.size === 0 && this.#connections.has(connection)) this.#linger(connection)
      },
    })
    connection.streams.add(incoming)
  }

  #linger(connection: Connection): void {
    connection.isKnown = false
    this.#strangers.add(connection)
    clearTimeout(connection.timer)
    connection.timer = setTimeout(() => this.#end(connection), this.#own.limits.peer_dial_ms)
  }

  /** Its end. One that said something, and that was no hello, is told of. */
  #gone(connection: Connection): void {
    if (connection.socket.bytesRead > 0 && connection.streams.size === 0) this.#drop(connection, 'garbage', 'it ended before its hello')
    this.#end(connection)
  }

  #drop(connection: Connection, why: 'garbage' | 'silent' | 'crowded', message: string): void {
    if (!this.#connections.has(connection)) return
    if (!connection.isTold) this.#events.dropped(connection.where, why, message)
    this.#end(connection)
  }

  #end(connection: Connection): void {
    if (!this.#connections.delete(connection)) return
    this.#strangers.delete(connection)
    clearTimeout(connection.timer)
    for (const stream of [...connection.streams]) stream.close('the connection is closed')
    connection.session?.destroy()
    connection.socket.destroy()
  }
}

function farEnd(socket: Socket): string {
  return `${socket.remoteAddress ?? ''}:${socket.remotePort ?? 0}`
}
