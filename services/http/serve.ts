/**
 * One request from its head to its answer: who asks, what for, and the answer that leaves.
 *
 * S1 Every request but those for /healthz and /readyz carries a token.
 * S2 Whatever a request does, one answer leaves: a result, or a problem of the right kind.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context } from '../../namespace/context.ts'
import { NineError, toNineError } from '../../namespace/errors.ts'
import { rootPath } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import { send } from './answer.ts'
import type { Answer } from './answer.ts'
import type { HttpEdgeOptions } from './edge.ts'
import { change, patch, post, put, remove } from './mutate.ts'
import { Query, invalid, parseTarget } from './params.ts'
import { problemAnswer } from './problem.ts'
import { get } from './read.ts'
import type { EdgeState, Exchange } from './request.ts'
import { txn } from './txn.ts'
import { watch } from './watch.ts'

export async function serve(options: HttpEdgeOptions, edge: EdgeState, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const begun = performance.now()
  const gone = new AbortController()
  response.once('close', () => {
    // Aborting costs an exception with its stack: only where somebody may still be at work.
    if (!response.writableFinished) gone.abort()
    options.observe({ method: request.method ?? '', status: response.statusCode, seconds: (performance.now() - begun) / 1000 })
  })
  request.on('error', ignore)
  response.on('error', ignore)
  let path = ''
  try {
    const { rawPath, query } = splitTarget(request.url ?? '/')
    const isAllowedOrigin = request.headers.origin !== undefined && allowOrigin(options, request.headers.origin, response)
    if (isAllowedOrigin && request.method === 'OPTIONS') return send(response, preflight, edge.limits)
    if (rawPath === '/healthz') return send(response, textAnswer(200, 'ok\n'), edge.limits)
    if (rawPath === '/readyz') {
      const isReady = !edge.isClosing && options.isReady()
      return send(response, isReady ? textAnswer(200, 'ready\n') : textAnswer(503, `not ready${reasonOf(options)}\n`), edge.limits)
    }
    const principal = options.authenticate(tokenOf(request)) // S1
    if (rawPath === '/metrics') {
      const { text, contentType } = await options.metrics()
      return send(response, textAnswer(200, text, contentType), edge.limits)
    }
    const isTxn = rawPath === '/v1/txn'
    if (!isTxn && rawPath !== '/v1/fs' && !rawPath.startsWith('/v1/fs/')) {
      throw new NineError({ kind: 'not_found', op: 'http.request', message: 'files are below /v1/fs/' })
    }
    const method = request.method ?? ''
    const target = isTxn
      ? { path: rootPath, query: new Query(query, 'txn') }
      : parseTarget(method, rawPath.slice('/v1/fs'.length), methods.has(method) ? query : '')
    path = target.path
    const context = contextOf(request, principal, gone.signal, options.session, edge)
    const server = await options.namespaceOf(principal)
    const exchange: Exchange = { request, response, server, context, edge, path: target.path, query: target.query }
    if (!isTxn) return await dispatch(exchange)
    if (method !== 'POST') throw unsupportedMethod(request)
    send(response, await change(exchange, txn(exchange)), edge.limits)
  } catch (error) {
    const failure = toNineError(error, 'http.request', path)
    if (failure.kind === 'internal' || failure.kind === 'corrupt') options.report?.(failure)
    send(response, problemAnswer(failure.path === '' ? failure.at(path) : failure), edge.limits) // S2
  }
}

function ignore(): void {
  // A connection that broke is seen by its 'close'.
}

const methods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE'])
const plans = { PUT: put, POST: post, PATCH: patch, DELETE: remove } as const

async function dispatch(exchange: Exchange): Promise<void> {
  const { request, response, query, edge } = exchange
  switch (request.method) {
    case 'GET':
    case 'HEAD':
      return query.get('watch') === undefined ? get(exchange) : watch(exchange)
    case 'PUT':
    case 'POST':
    case 'PATCH':
    case 'DELETE':
      return send(response, await change(exchange, await plans[request.method](exchange)), edge.limits)
    default:
      throw unsupportedMethod(request)
  }
}

function unsupportedMethod(request: IncomingMessage): NineError {
  return new NineError({ kind: 'unsupported', op: 'http.request', message: `${request.method ?? ''} is not served here` })
}

function splitTarget(url: string): { readonly rawPath: string; readonly query: string } {
  // An absolute-form target (RFC 9112, 3.2.2) names a host we do not choose by.
  const target = url.startsWith('/') ? url : url.replace(/^[a-zA-Z][a-zA-Z0-9+.-]*:\/\/[^/?]*/, '')
  const mark = target.indexOf('?')
  return mark === -1 ? { rawPath: target, query: '' } : { rawPath: target.slice(0, mark), query: target.slice(mark + 1) }
}

/** What anybody may know of it, on one line. */
function reasonOf({ notReady }: HttpEdgeOptions): string {
  const why = notReady?.()
  return why === undefined ? '' : `: ${why.replaceAll(/\s+/g, ' ')}`
}

function tokenOf(request: IncomingMessage): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1]
}

function contextOf(request: IncomingMessage, principal: Principal, signal: AbortSignal, session: number, edge: EdgeState): Context {
  const timeout = request.headers['nine-timeout']
  let ms = edge.limits.request_ms_default
  if (timeout !== undefined) {
    if (typeof timeout !== 'string' || !/^\d{1,9}$/.test(timeout)) throw invalid('Nine-Timeout is a whole number of milliseconds')
    ms = Number(timeout)
  }
  const trace = request.headers['traceparent']
  const isTrace = typeof trace === 'string' && /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}/.test(trace)
  return { principal, signal, session, deadline: performance.now() + ms, trace: isTrace ? trace.slice(0, 55) : undefined }
}

/** Whether a page of this origin may read the answer; says so to the browser. */
function allowOrigin({ corsOrigins = [] }: HttpEdgeOptions, origin: string, response: ServerResponse): boolean {
  if (!corsOrigins.includes(origin)) return false
  response.setHeader('access-control-allow-origin', origin)
  response.setHeader('access-control-expose-headers', 'ETag, Nine-Version, Nine-Revision, Nine-Position, Content-Range')
  response.setHeader('vary', 'Origin')
  return true
}

const preflight: Answer = {
  status: 204,
  headers: {
    'access-control-allow-methods': 'GET, HEAD, PUT, POST, PATCH, DELETE',
    'access-control-allow-headers':
      'Authorization, Content-Type, If-Match, If-None-Match, Range, Idempotency-Key, Last-Event-ID, Nine-Timeout',
    'access-control-max-age': '600',
  },
}

function textAnswer(status: number, body: string, contentType = 'text/plain; charset=utf-8'): Answer {
  return { status, headers: { 'content-type': contentType, 'cache-control': 'no-store' }, body }
}
