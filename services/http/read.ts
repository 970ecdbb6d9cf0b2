/** GET and HEAD: bytes, ranges, listings, stats, streams, rights. */
import { NineError } from '../../namespace/errors.ts'
import type { ReadOptions, ReadResult } from '../../namespace/file-server.ts'
import { statToJson } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { encodePosition } from '../../namespace/position.ts'
import { writePart } from './body.ts'
import { parseRange } from './params.ts'
import { sendProblem } from './problem.ts'
import { readOptions, sendJson, versionHeaders } from './request.ts'
import type { Exchange } from './request.ts'

export async function get(exchange: Exchange): Promise<void> {
  const { query, server, context, path, response } = exchange
  if (query.has('rights')) return getRights(exchange)
  const options = await readOptions(exchange)
  if (query.has('list')) return list(exchange, options)
  if (query.has('stat')) {
    const { stat, position } = await server.stat(context, path, options)
    return sendJson(response, 200, statToJson(stat), versionHeaders(stat, position))
  }
  const first = await firstPart(exchange, options)
  if (first === 'directory') return list(exchange, options)
  if (first === 'stream') return stream(exchange)
  await value(exchange, options, first)
}

/**
 * What GET finds: the first bytes of a value, or which other kind of answer it is. HEAD, ranges and conditional requests begin with
 * no bytes, because they may need none or others; a computed file has to be read for its size.
 */
async function firstPart(exchange: Exchange, options: ReadOptions): Promise<ReadResult | 'directory' | 'stream'> {
  const { server, context, path, request } = exchange
  const { stat, position } = await server.stat(context, path, options)
  if (stat.kind === 'directory' || stat.kind === 'stream') return stat.kind
  const isPlain = request.method === 'GET' && request.headers.range === undefined && request.headers['if-none-match'] === undefined
  if (!isPlain && stat.size !== undefined) return { bytes: new Uint8Array(), stat, position }
  return server.read(context, path, options)
}

async function value(exchange: Exchange, options: ReadOptions, first: ReadResult): Promise<void> {
  const { request, response } = exchange
  const { stat, position } = first
  const headers: Record<string, string> = {
    ...versionHeaders(stat, position),
    'content-type': stat.contentType ?? 'application/octet-stream',
    'x-content-type-options': 'nosniff',
  }
  if (isNotModified(exchange, headers['etag']!)) {
    response.writeHead(304, headers)
    response.end()
    return
  }
  const size = stat.kind === 'file' ? (stat.size ?? first.bytes.length) : first.bytes.length
  if (stat.kind === 'file') headers['accept-ranges'] = 'bytes'
  const ifRange = request.headers['if-range']
  const isRangeWanted = stat.kind === 'file' && (ifRange === undefined || ifRange === headers['etag'])
  const range = isRangeWanted ? parseRange(request.headers.range, size) : undefined
  if (range === 'unsatisfiable') {
    const error = new NineError({
      kind: 'invalid',
      op: 'http.read',
      path: exchange.path,
      message: `the range is past the end: ${size} bytes`,
    })
    return sendProblem(response, error, 416, { 'content-range': `bytes */${size}` })
  }
  const start = range?.start ?? 0
  const length = range?.length ?? size
  headers['content-length'] = String(length)
  if (range !== undefined) headers['content-range'] = `bytes ${start}-${start + length - 1}/${size}`
  if (request.method === 'HEAD' || length === 0) {
    response.writeHead(range === undefined ? 200 : 206, headers)
    response.end()
    return
  }
  await sendRange(exchange, options, first, start, length, range === undefined ? 200 : 206, headers)
}

/** Send `length` bytes from `start`, all of the version whose headers are sent: the head goes out after the first bytes were read. */
async function sendRange(
  exchange: Exchange,
  options: ReadOptions,
  first: ReadResult,
  start: number,
  length: number,
  status: number,
  headers: Record<string, string>,
): Promise<void> {
  const { server, context, path, response } = exchange
  const end = start + length
  let offset = start
  let part = start === 0 ? first.bytes.subarray(0, length) : new Uint8Array()
  let isSnapshot = false
  for (;;) {
    if (part.length > 0) {
      if (!response.headersSent) response.writeHead(status, headers)
      offset += part.length
      if (!(await writePart(response, part))) return
    }
    if (offset >= end) break
    const wanted = Math.min(end - offset, limits.read_bytes_max)
    const read = (at: ReadOptions): Promise<ReadResult> => server.read(context, path, { ...at, offset, length: wanted })
    let next: ReadResult
    try {
      next = await read(isSnapshot ? { at: first.position } : options)
      if (isOther(next, first)) {
        // The file moved on while it was read: go on reading the version that was begun.
        isSnapshot = true
        next = await read({ at: first.position })
      }
    } catch (error) {
      if (response.headersSent) response.destroy()
      throw error
    }
    if (isOther(next, first) || next.bytes.length === 0) {
      response.destroy()
      throw new NineError({ kind: 'conflict', op: 'http.read', path, message: 'the file changed while it was read', retryable: true })
    }
    part = next.bytes
  }
  response.end()
}

function isOther(a: ReadResult, b: ReadResult): boolean {
  return a.stat.qid.path !== b.stat.qid.path || a.stat.version !== b.stat.version
}

function isNotModified({ request }: Exchange, etag: string): boolean {
  const header = request.headers['if-none-match']
  if (header === undefined) return false
  // If-None-Match compares weakly (RFC 9110, 13.1.2), so the text behind W/ counts too.
  return header.trim() === '*' || [...header.matchAll(/"[^"]*"/g)].some(([text]) => text === etag)
}

async function list(exchange: Exchange, options: ReadOptions): Promise<void> {
  const { query, server, context, path, response } = exchange
  const page = await server.list(context, path, {
    ...options,
    after: query.get('after'),
    cursor: query.get('cursor'),
    limit: query.count('limit'),
    recursive: query.has('recursive'),
    prefix: query.get('prefix'),
  })
  sendJson(
    response,
    200,
    { entries: page.entries.map(statToJson), next: page.next, position: encodePosition(page.position) },
    { 'nine-position': encodePosition(page.position) },
  )
}

/** A stream file: its records as they come, until it ends or the reader leaves. */
async function stream(exchange: Exchange): Promise<void> {
  const { server, context, path, request, response } = exchange
  const forever = { ...context, deadline: Infinity }
  const { handle, stat } = await server.open(context, path, { read: true })
  try {
    response.writeHead(200, { 'content-type': stat.contentType ?? 'application/octet-stream', 'cache-control': 'no-store' })
    response.flushHeaders()
    if (request.method === 'HEAD') {
      response.end()
      return
    }
    for (let offset = 0; ;) {
      const { bytes, end } = await server.readHandle(forever, handle, offset, limits.read_bytes_max)
      offset += bytes.length
      if (bytes.length > 0 && !(await writePart(response, bytes))) return
      if (end) break
    }
    response.end()
  } finally {
    await server.closeHandle({ ...context, signal: undefined }, handle, { discard: true })
  }
}

async function getRights({ server, context, path, response }: Exchange): Promise<void> {
  const { record, on, mine, position } = await server.getRights(context, path)
  sendJson(response, 200, { record, on, mine, position: encodePosition(position) }, { 'nine-position': encodePosition(position) })
}
