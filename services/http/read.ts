/** GET and HEAD: bytes, ranges, listings, stats, streams, rights. */
import { NineError } from '../../namespace/errors.ts'
import type { ErrorKind } from '../../namespace/errors.ts'
import type { ReadOptions, ReadResult } from '../../namespace/file-server.ts'
import { statToJson } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { encodePosition } from '../../namespace/position.ts'
import type { Stat } from '../../namespace/stat.ts'
import { endAnswer, send, writePart } from './answer.ts'
import { formatCursor, listStart, parseRange } from './params.ts'
import { problemAnswer } from './problem.ts'
import { contentTypeHeader, jsonAnswer, positionHeaders, readOptions, versionHeaders } from './request.ts'
import type { Exchange } from './request.ts'

export async function get(exchange: Exchange): Promise<void> {
  const { query, server, context, path, response, edge } = exchange
  if (query.has('rights')) return getRights(exchange)
  const options = await readOptions(exchange)
  if (query.has('list')) return list(exchange, options)
  if (query.has('stat')) {
    const { stat, position } = await server.stat(context, path, options)
    return send(response, jsonAnswer(200, statToJson(stat), versionHeaders(stat, position)), edge.limits)
  }
  const found = await server.stat(context, path, options)
  if (found.stat.kind === 'directory') return list(exchange, options)
  if (found.stat.kind === 'stream') return stream(exchange, found.stat)
  await value(exchange, options, await firstPart(exchange, options, { ...found, bytes: nothing }))
}

const nothing = new Uint8Array(0)

/**
 * The first bytes of a value. HEAD, ranges and conditional requests begin with none, because they may need none or others; what
 * a computed file holds only a read can tell, so it is read at once.
 */
function firstPart({ server, context, path, request, edge }: Exchange, options: ReadOptions, found: ReadResult): Promise<ReadResult> {
  const { stat } = found
  if (stat.kind !== 'file') return server.read(context, path, options)
  const isPlain = request.method === 'GET' && request.headers.range === undefined && request.headers['if-none-match'] === undefined
  if (!isPlain || stat.size === 0) return Promise.resolve(found)
  return server.read(context, path, { ...options, length: edge.limits.http_part_bytes })
}

async function value(exchange: Exchange, options: ReadOptions, first: ReadResult): Promise<void> {
  const { request, response, edge, path } = exchange
  const { stat, position } = first
  const isFile = stat.kind === 'file'
  if (!isFile && first.bytes.length >= limits.read_bytes_max) return stream(exchange, stat)
  const headers = versionHeaders(stat, position)
  const etag = headers['etag']
  headers['content-type'] = contentTypeHeader(stat.contentType)
  headers['x-content-type-options'] = 'nosniff'
  if (etag !== undefined && isNotModified(request.headers['if-none-match'], etag))
    return send(response, { status: 304, headers }, edge.limits)
  const size = isFile ? (stat.size ?? first.bytes.length) : first.bytes.length
  if (isFile) headers['accept-ranges'] = 'bytes'
  const ifRange = request.headers['if-range']
  const isRangeWanted = isFile && (ifRange === undefined || ifRange === etag)
  const range = isRangeWanted ? parseRange(request.headers.range, size) : undefined
  if (range === 'unsatisfiable') {
    const message = `the range is past the end: the file has ${size} bytes`
    const error = new NineError({ kind: 'invalid', op: 'http.read', path, message })
    return send(response, problemAnswer(error, 416, { 'content-range': `bytes */${size}` }), edge.limits)
  }
  const start = range?.start ?? 0
  const length = range?.length ?? size
  if (range !== undefined) headers['content-range'] = `bytes ${start}-${start + length - 1}/${size}`
  const status = range === undefined ? 200 : 206
  if (request.method === 'HEAD') {
    return send(response, { status, headers: { ...headers, 'content-length': String(length) } }, edge.limits)
  }
  if (start === 0 && first.bytes.length >= length) {
    return send(response, { status, headers, body: first.bytes.subarray(0, length) }, edge.limits)
  }
  headers['content-length'] = String(length)
  await sendRange(exchange, options, first, start, length, status, headers)
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
  const { server, path, response, edge } = exchange
  // A large value may take longer than any one answer; what ends it is a reader who stands still.
  const context = { ...exchange.context, deadline: Infinity }
  const end = start + length
  let offset = start
  let part = start === 0 ? first.bytes.subarray(0, length) : nothing
  let isPast = false
  for (;;) {
    if (part.length > 0) {
      if (!response.headersSent) response.writeHead(status, headers)
      offset += part.length
      if (!(await writePart(response, part, edge.limits))) return
    }
    if (offset >= end) break
    const wanted = { offset, length: Math.min(end - offset, edge.limits.http_part_bytes) }
    let next = await server.read(context, path, isPast ? { ...wanted, at: first.position } : { ...options, ...wanted }).catch(orNothing)
    if ((next === undefined || isOther(next, first)) && !isPast && first.position.length > 0) {
      // The file moved on while it was read: go on reading the version that was begun.
      isPast = true
      next = await server.read(context, path, { ...wanted, at: first.position })
    }
    if (next === undefined || isOther(next, first) || next.bytes.length === 0) {
      throw new NineError({ kind: 'conflict', op: 'http.read', path, message: 'the file changed while it was read', retryable: true })
    }
    part = next.bytes
  }
  endAnswer(response, undefined, edge.limits)
}

/** What was removed or replaced by a directory since is looked for in the past. */
function orNothing(error: unknown): undefined {
  if (!(error instanceof NineError) || !goneKinds.includes(error.kind)) throw error
}

const goneKinds: readonly ErrorKind[] = ['not_found', 'is_directory', 'not_directory', 'invalid']

function isOther(a: ReadResult, b: ReadResult): boolean {
  return a.stat.qid.path !== b.stat.qid.path || a.stat.version !== b.stat.version
}

function isNotModified(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  // If-None-Match compares weakly (RFC 9110, 13.1.2), so the text behind W/ counts too.
  return header.trim() === '*' || header.match(/"[^"]*"/g)?.includes(etag) === true
}

async function list(exchange: Exchange, options: ReadOptions): Promise<void> {
  const { query, server, context, path, response, edge } = exchange
  const page = await server.list(context, path, {
    ...options,
    ...listStart(query),
    limit: query.count('limit'),
    recursive: query.has('recursive'),
    prefix: query.get('prefix'),
  })
  const next = page.next === undefined ? null : formatCursor(page.next)
  const json = { entries: page.entries.map(statToJson), next, position: encodePosition(page.position) }
  send(response, jsonAnswer(200, json, positionHeaders(page.position)), edge.limits)
}

/** A stream file, or a computed one too large for one read: what comes, until it ends, the reader leaves or the edge closes. */
async function stream(exchange: Exchange, stat: Stat): Promise<void> {
  const { server, path, request, response, edge } = exchange
  const headers = { 'content-type': contentTypeHeader(stat.contentType), 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }
  if (request.method === 'HEAD') return send(response, { status: 200, headers }, edge.limits)
  const stop = new AbortController()
  const end = (): void => stop.abort()
  const context = { ...exchange.context, deadline: Infinity, signal: stop.signal }
  edge.endless.add(end)
  response.once('close', end)
  try {
    const { handle } = await server.open(exchange.context, path, { read: true })
    try {
      response.writeHead(200, headers)
      response.flushHeaders()
      for (let offset = 0; ;) {
        const { bytes, end: isEnd } = await server.readHandle(context, handle, offset, limits.read_bytes_max)
        offset += bytes.length
        if (bytes.length > 0 && !(await writePart(response, bytes, edge.limits))) return
        if (isEnd) break
      }
      endAnswer(response, undefined, edge.limits)
    } catch (error) {
      if (!stop.signal.aborted || !edge.isClosing) throw error
      endAnswer(response, undefined, edge.limits)
    } finally {
      await server.closeHandle({ ...exchange.context, signal: undefined }, handle, { discard: true }).catch(() => undefined)
    }
  } finally {
    edge.endless.delete(end)
  }
}

async function getRights({ server, context, path, response, edge }: Exchange): Promise<void> {
  const { record, on, mine, position } = await server.getRights(context, path)
  send(response, jsonAnswer(200, { record, on, mine, position: encodePosition(position) }, positionHeaders(position)), edge.limits)
}
