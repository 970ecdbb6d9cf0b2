/**
 * The HTTP edge: `/v1/fs/<path>`, `/v1/txn`, `/metrics`, `/healthz`, `/readyz` on node:http.
 *
 * node:http itself rather than a framework: there is one route with a free path, and the path must be decoded byte by byte,
 * which routers on WHATWG URLs do not leave to us (they fold `..` and mend bad escapes).
 *
 * H1 What is no HTTP gets a short answer and its connection is closed; others are not affected.
 * H2 Headers, bodies, idle connections and stalled peers have limits in namespace/limits.ts.
 * H3 Requests of one connection take effect in their order.
 * H4 Closing lets requests under way finish, ends what has no end of its own, and is over within its grace.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import type { Principal } from '../../namespace/rights.ts'
import { awaitsContinue } from './answer.ts'
import { BodyRoom } from './body.ts'
import { KeyTable } from './idempotency.ts'
import { httpLimits } from './limits.ts'
import type { HttpLimits } from './limits.ts'
import { problemAnswer } from './problem.ts'
import type { EdgeState } from './request.ts'
import { serve } from './serve.ts'

export interface HttpEdgeOptions {
  readonly host: string
  /** 0 picks one. */
  readonly port: number
  readonly tls?: { readonly key: string | Buffer; readonly cert: string | Buffer } | undefined
  /** @throws NineError `unauthenticated` */
  authenticate(token: string | undefined): Principal
  /** The namespace that requests of this principal are answered from. */
  namespaceOf(principal: Principal): Promise<FileServer>
  /** Number of this edge as a session: handles of its requests belong to it. */
  readonly session: number
  readonly isReady: () => boolean
  /** Why not, for /readyz. */
  readonly notReady?: (() => string | undefined) | undefined
  /** Text of /metrics and its content type. */
  metrics(): Promise<{ readonly text: string; readonly contentType: string }>
  /** Called once for each answered request. `seconds` from the first byte of the request to the last of the answer. */
  observe(row: { readonly method: string; readonly status: number; readonly seconds: number }): void
  /** Told of each failure that is ours: `internal` and `corrupt`. */
  report?(error: NineError): void
  /** Origins that may read answers in a browser; none by default. */
  readonly corsOrigins?: readonly string[]
  /** Other limits than those of namespace/limits.ts. */
  readonly limits?: Partial<HttpLimits>
}

export interface HttpEdge {
  /** `HOST:PORT` that it listens on. */
  readonly address: string
  /** Take no new requests, let those under way finish for at most `graceMs`, then cut them. */
  close(graceMs: number): Promise<void>
}

/** @throws NineError `unavailable` when the address cannot be had */
export async function startHttpEdge(options: HttpEdgeOptions): Promise<HttpEdge> {
  const limits = httpLimits(options.limits)
  const bodyRoom = new BodyRoom(limits.http_bodies_memory_bytes_max)
  const edge: EdgeState = { limits, bodyRoom, keys: new KeyTable(limits), endless: new Set(), isClosing: false }
  const turns = new Turns()
  const connections: Connections = { all: new Set(), fresh: new Set() }
  const listener: RequestListener = (request, response) => {
    connections.fresh.delete(request.socket)
    turns.take(request, response, () => {
      if (edge.isClosing) response.setHeader('connection', 'close')
      void serve(options, edge, request, response)
    })
  }
  const server = createFor(options, limits, listener)
  server.on('checkContinue', (request, response) => {
    awaitsContinue.add(request)
    listener(request, response)
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => refuseConnection(error, socket, turns.isBusy(socket)))
  server.on('connection', (socket) => keepIn(connections.all, socket))
  server.on(options.tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => keepIn(connections.fresh, socket))
  await listen(server, options)
  const { address, port, family } = server.address() as AddressInfo
  return {
    address: `${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    close: (graceMs) => closeServer(server, edge, connections, graceMs),
  }
}

/** H2 */
function createFor(options: HttpEdgeOptions, limits: HttpLimits, listener: RequestListener): Server {
  const settings = {
    maxHeaderSize: limits.http_header_bytes_max,
    headersTimeout: limits.handshake_ms,
    requestTimeout: 0,
    keepAliveTimeout: limits.http_idle_ms,
    connectionsCheckingInterval: Math.min(1_000, limits.handshake_ms / 4),
  }
  const server: Server =
    options.tls === undefined
      ? createServer(settings, listener)
      : createTlsServer({ ...settings, ...options.tls, handshakeTimeout: limits.handshake_ms }, listener)
  server.maxHeadersCount = limits.http_headers_max
  server.maxConnections = limits.connections_max
  return server
}

/** Requests of one connection, which take effect one after the other: a client may send the next before it has an answer. */ // H3
class Turns {
  /** The newest answer of each connection that has not left yet. */
  readonly #last = new WeakMap<Duplex, ServerResponse>()
  /** Requests of a connection that wait behind its answers. */
  readonly #waiting = new WeakMap<Duplex, number>()

  isBusy(socket: Duplex): boolean {
    return this.#last.has(socket)
  }

  take({ socket }: IncomingMessage, response: ServerResponse, act: () => void): void {
    const before = this.#last.get(socket)
    this.#last.set(socket, response)
    response.once('close', () => {
      if (this.#last.get(socket) === response) this.#last.delete(socket)
    })
    if (before === undefined) return act()
    const waiting = (this.#waiting.get(socket) ?? 0) + 1
    // Behind a watch they would gather without end.
    if (waiting > limits.http_pipelined_max) return void socket.destroy()
    this.#waiting.set(socket, waiting)
    before.once('close', () => {
      this.#waiting.set(socket, (this.#waiting.get(socket) ?? 1) - 1)
      if (!socket.destroyed) act()
    })
  }
}

/** H1. Bytes of ours in the middle of an answer would only make it worse, so then the connection just ends. */
function refuseConnection(error: NodeJS.ErrnoException, socket: Duplex, isBusy: boolean): void {
  const { code } = error
  if (socket.writableEnded || socket.destroyed) return
  if (code === 'ECONNRESET' || isBusy || !socket.writable) {
    socket.destroy()
    return
  }
  const [status, reason, kind, message] =
    code === 'HPE_HEADER_OVERFLOW'
      ? ([431, 'Request Header Fields Too Large', 'too_large', 'the headers are too large'] as const)
      : code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ([408, 'Request Timeout', 'deadline', 'the request took too long to arrive'] as const)
        : ([400, 'Bad Request', 'invalid', 'this is not HTTP/1.1'] as const)
  const { headers, body } = problemAnswer(new NineError({ kind, op: 'http.parse', message, retryable: false }), status)
  const head = [`HTTP/1.1 ${status} ${reason}`, `content-type: ${headers['content-type']}`, `content-length: ${body!.length}`]
  socket.end(`${head.join('\r\n')}\r\nconnection: close\r\n\r\n${String(body)}`)
  // What still comes is dropped for a moment: closing over unread bytes would take the answer along.
  const timer = setTimeout(() => socket.destroy(), refused_linger_ms)
  socket.once('close', () => clearTimeout(timer))
  socket.resume()
}

const refused_linger_ms = 1_000

function listen(server: Server, { host, port }: HttpEdgeOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException): void => {
      const why = cause.code === 'EADDRINUSE' ? 'another program listens there' : cause.message
      reject(new NineError({ kind: 'unavailable', op: 'http.listen', message: `cannot listen on ${host}:${port}: ${why}`, cause }))
    }
    server.once('error', onError)
    server.listen(port, host, () => {
      server.off('error', onError)
      // A connection that cannot be taken (no more file descriptors) is that client's failure alone.
      server.on('error', () => undefined)
      resolve()
    })
  })
}

interface Connections {
  /** Every one that is open, in the middle of a handshake too. */
  readonly all: Set<Duplex>
  /** Those that no request came on yet: node does not count them as idle. */
  readonly fresh: Set<Duplex>
}

function keepIn(set: Set<Duplex>, socket: Duplex): void {
  set.add(socket)
  socket.once('close', () => set.delete(socket))
}

/** H4 */
async function closeServer(server: Server, edge: EdgeState, { all, fresh }: Connections, graceMs: number): Promise<void> {
  edge.isClosing = true
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  for (const end of edge.endless) end()
  // Connections of requests that were under way are idle when their answers are out.
  const idle = setInterval(() => server.closeIdleConnections(), 20)
  const grace = setTimeout(() => {
    for (const socket of all) socket.destroy()
  }, graceMs)
  server.closeIdleConnections()
  for (const socket of fresh) socket.destroy()
  await closed
  clearInterval(idle)
  clearTimeout(grace)
}
