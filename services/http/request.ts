/** One request on its way through the edge: who asks, for what, and the namespace it is answered from. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer, IfMatch, MutationResult, ReadOptions, StatResult } from '../../namespace/file-server.ts'
import { mutationToJson, revisionOf } from '../../namespace/json.ts'
import { encodePosition } from '../../namespace/position.ts'
import type { Position } from '../../namespace/position.ts'
import type { Stat } from '../../namespace/stat.ts'
import { formatEtag, invalid, parseEtags } from './params.ts'
import type { Target } from './params.ts'

export interface Exchange extends Target {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly server: FileServer
  readonly context: Context
}

/** The headers that say which version and position an answer shows. */
export function versionHeaders(stat: Stat, position: Position): Record<string, string> {
  return {
    etag: formatEtag(position[0]?.store ?? '', stat.qid),
    'nine-version': String(stat.version),
    'nine-revision': String(revisionOf(position)),
    'nine-position': encodePosition(position),
    'last-modified': new Date(stat.modifiedAt / 1000).toUTCString(),
  }
}

/** The read options of the query. A bare revision is one of the store that serves the path. */
export async function readOptions(exchange: Exchange): Promise<ReadOptions> {
  const { query, server, context, path } = exchange
  const consistency = query.get('consistency')
  if (consistency !== undefined && consistency !== 'linearizable' && consistency !== 'stale') {
    throw invalid(`consistency is linearizable or stale, not ${JSON.stringify(consistency.slice(0, 64))}`)
  }
  const minPosition = query.position('min_position')
  const moment = query.moment('at')
  if (moment === undefined) return { consistency, minPosition }
  if ('time' in moment) return { consistency, minPosition, at: moment.time }
  if ('position' in moment) return { consistency, minPosition, at: moment.position }
  const { position } = await server.stat(context, path)
  const element = position[0]
  if (element === undefined || position.length > 1)
    throw invalid('this path has no single store to count revisions in; give a position or a time')
  return { consistency, minPosition, at: [{ ...element, revision: moment.revision, ordinal: 0 }] }
}

/**
 * The precondition of a mutation. An ETag names its store as well, which a qid alone does not: one of another store
 * never matches, whatever its numbers.
 * @throws NineError `conflict` where the headers alone decide
 */
export async function ifMatchOf(exchange: Exchange): Promise<IfMatch | undefined> {
  const { request, path } = exchange
  const ifNoneMatch = request.headers['if-none-match']
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() !== '*') throw invalid('a change takes If-None-Match: * only')
    return 'none'
  }
  const etags = parseEtags(request.headers['if-match'])
  if (etags === undefined) return undefined
  const current = await statOrUndefined(exchange)
  if (current !== undefined) {
    const store = current.position[0]?.store ?? ''
    if (etags === '*') return { path: current.stat.qid.path, version: current.stat.version }
    const match = etags.find((etag) => etag.store === store && etag.path === current.stat.qid.path && etag.version === current.stat.version)
    if (match !== undefined) return { path: match.path, version: match.version }
  }
  throw new NineError({ kind: 'conflict', op: 'http.request', path, message: 'the file is not the version that If-Match names' })
}

async function statOrUndefined({ server, context, path }: Exchange): Promise<StatResult | undefined> {
  try {
    return await server.stat(context, path)
  } catch (error) {
    if (error instanceof NineError && (error.kind === 'not_found' || error.kind === 'not_directory')) return undefined
    throw error
  }
}

export function sendJson(response: ServerResponse, status: number, value: unknown, headers: Record<string, string> = {}): void {
  const body = JSON.stringify(value)
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...headers })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}

/** The answer to a change: 201 when it made the file, else 200; the headers and the same as JSON. */
export function sendMutation(response: ServerResponse, result: MutationResult, status = result.created ? 201 : 200): void {
  sendJson(response, status, mutationToJson(result), {
    etag: formatEtag(result.position[0]?.store ?? '', result.qid),
    'nine-version': String(result.qid.version),
    'nine-revision': String(result.revision),
    'nine-position': encodePosition(result.position),
  })
}
