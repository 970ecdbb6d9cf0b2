/**
 * The HTTP edge: `/v1/fs/<path>`, `/v1/txn`, `/metrics`, `/healthz`, `/readyz` on node:http.
 *
 * node:http itself rather than a framework: there is one route with a free path, and the path must be decoded byte by byte,
 * which routers on WHATWG URLs do not leave to us (they fold `..` and mend bad escapes).
 *
 * H1 Every request but /healthz and /readyz carries a token.
 * H2 Whatever a request does, one answer leaves: a result, or a problem of the right kind.
 * H3 Headers, bodies, idle connections and stalled peers have limits in namespace/limits.ts.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Context } from '../../namespace/context.ts'
import { NineError, toNineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { rootPath } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import { patch, post, put, remove } from './mutate.ts'
import { invalid, parseTarget } from './params.ts'
import { sendProblem } from './problem.ts'
import { get } from './read.ts'
import type { Exchange } from './request.ts'
import { txn } from './txn.ts'
import { watch } from './watch.ts'

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
  /** Text of /metrics and its content type. */
  metrics(): Promise<{ readonly text: string; readonly contentType: string }>
  /** Called once for each answered request. `seconds` from the first byte of the request to the last of the answer. */
  observe(row: { readonly method: string; readonly status: number; readonly seconds: number }): void
  /** Origins that may read answers in a browser; none by default. */
  readonly corsOrigins?: readonly string[]
}

export interface HttpEdge {
  /** `HOST:PORT` that it listens on. */
  readonly address: string
  /** Take no new requests, let those under way finish for at most `graceMs`, then cut them. */
  close(graceMs: number): Promise<void>
}

/** @throws NineError `unavailable` when the address cannot be had */
export async function startHttpEdge(options: HttpEdgeOptions): Promise<HttpEdge> {
  const settings = {
    maxHeaderSize: limits.http_header_bytes_max,
    headersTimeout: limits.handshake_ms,
    requestTimeout: 0,
    keepAliveTimeout: limits.http_idle_ms,
    connectionsCheckingInterval: 1_000,
  }
  let isClosing = false
  const streams = new Set<ServerResponse>()
  const listener: RequestListener = (request, response) => {
    if (isClosing) response.setHeader('connection', 'close')
    streams.add(response)
    response.once('close', () => streams.delete(response))
    void serve(options, request, response)
  }
  const server: Server =
    options.tls === undefined ? createServer(settings, listener) : createTlsServer({ ...settings, ...options.tls }, listener)
  server.maxHeadersCount = limits.http_headers_max
  server.maxConnections = limits.connections_max
  await listen(server, options)
  const { address, port, family } = server.address() as AddressInfo
  return {
    address: `${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    close: async (graceMs) => {
      isClosing = true
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeIdleConnections()
      const timer = setTimeout(() => server.closeAllConnections(), graceMs)
      // Watches and streams never end by themselves.
      for (const response of streams) if (isEndless(response)) response.end()
      await closed
      clearTimeout(timer)
    },
  }
}

function isEndless(response: ServerResponse): boolean {
  return response.headersSent && !response.hasHeader('content-length')
}

function listen(server: Server, { host, port }: HttpEdgeOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why = cause.code === 'EADDRINUSE' ? 'another program listens there' : cause.message
      reject(new NineError({ kind: 'unavailable', op: 'http.listen', message: `cannot listen on ${host}:${port}: ${why}`, cause }))
    })
    server.listen(port, host, () => resolve())
  })
}

async function serve(options: HttpEdgeOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const begun = performance.now()
  response.once('close', () => {
    options.observe({ method: request.method ?? '', status: response.statusCode, seconds: (performance.now() - begun) / 1000 })
  })
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  request.on('error', () => undefined)
  response.on('error', () => undefined)
  const [rawPath = '/', query = ''] = splitTarget(request.url ?? '/')
  try {
    if (allowOrigin(options, request, response) && request.method === 'OPTIONS') return sendPreflight(response)
    if (rawPath === '/healthz') return sendText(response, 200, 'ok\n')
    if (rawPath === '/readyz') return options.isReady() ? sendText(response, 200, 'ready\n') : sendText(response, 503, 'not ready\n')
    const principal = options.authenticate(tokenOf(request))
    const context = contextOf(request, principal, gone.signal, options.session)
    if (rawPath === '/metrics') {
      const { text, contentType } = await options.metrics()
      return sendText(response, 200, text, contentType)
    }
    const server = await options.namespaceOf(principal)
    if (rawPath === '/v1/txn') {
      if (request.method !== 'POST') throw unsupportedMethod(request)
      return await txn({ request, response, server, context, path: rootPath })
    }
    if (rawPath !== '/v1/fs' && !rawPath.startsWith('/v1/fs/')) {
      throw new NineError({ kind: 'not_found', op: 'http.request', message: 'files are below /v1/fs/' })
    }
    await dispatch({ request, response, server, context, ...parseTarget(rawPath.slice('/v1/fs'.length), query) })
  } catch (error) {
    sendProblem(response, toNineError(error, 'http.request'))
  } finally {
    // What is left of a refused body is not worth reading: close rather than drain gigabytes.
    if (!request.complete && !request.destroyed) {
      if (response.writableEnded) response.once('finish', () => request.destroy())
      else if (response.destroyed) request.destroy()
    }
  }
}

function dispatch(exchange: Exchange): Promise<void> {
  switch (exchange.request.method) {
    case 'GET':
    case 'HEAD':
      return exchange.query.get('watch') === undefined ? get(exchange) : watch(exchange)
    case 'PUT':
      return put(exchange)
    case 'POST':
      return post(exchange)
    case 'PATCH':
      return patch(exchange)
    case 'DELETE':
      return remove(exchange)
    default:
      throw unsupportedMethod(exchange.request)
  }
}

function unsupportedMethod(request: IncomingMessage): NineError {
  return new NineError({ kind: 'unsupported', op: 'http.request', message: `${request.method ?? ''} is not served here` })
}

function splitTarget(url: string): [string, string] {
  // An absolute-form target (RFC 9112, 3.2.2) names a host we do not choose by.
  const target = url.startsWith('/') ? url : url.replace(/^[a-zA-Z]+:\/\/[^/]*/, '')
  const mark = target.indexOf('?')
  return mark === -1 ? [target, ''] : [target.slice(0, mark), target.slice(mark + 1)]
}

function tokenOf(request: IncomingMessage): string | undefined {
  return /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
}

function contextOf(request: IncomingMessage, principal: Principal, signal: AbortSignal, session: number): Context {
  const timeout = request.headers['nine-timeout']
  let ms: number = limits.request_ms_default
  if (timeout !== undefined) {
    if (typeof timeout !== 'string' || !/^\d{1,9}$/.test(timeout)) throw invalid('Nine-Timeout is a whole number of milliseconds')
    ms = Number(timeout)
  }
  const trace = request.headers['traceparent']
  return {
    principal,
    signal,
    session,
    deadline: performance.now() + ms,
    trace: typeof trace === 'string' ? trace.slice(0, 255) : undefined,
  }
}

/** Whether a page of this origin may read the answer; says so to the browser. */
function allowOrigin({ corsOrigins = [] }: HttpEdgeOptions, request: IncomingMessage, response: ServerResponse): boolean {
  const { origin } = request.headers
  if (origin === undefined || !corsOrigins.includes(origin)) return false
  response.setHeader('access-control-allow-origin', origin)
  response.setHeader('access-control-expose-headers', 'ETag, Nine-Version, Nine-Revision, Nine-Position, Content-Range')
  response.setHeader('vary', 'Origin')
  return true
}

function sendPreflight(response: ServerResponse): void {
  response.writeHead(204, {
    'access-control-allow-methods': 'GET, HEAD, PUT, POST, PATCH, DELETE',
    'access-control-allow-headers':
      'Authorization, Content-Type, If-Match, If-None-Match, Range, Idempotency-Key, Last-Event-ID, Nine-Timeout',
    'access-control-max-age': '600',
  })
  response.end()
}

function sendText(response: ServerResponse, status: number, text: string, contentType = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, { 'content-type': contentType, 'content-length': Buffer.byteLength(text) })
  response.end(text)
}
