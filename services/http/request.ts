/** One request on its way through the edge: who asks, for what, and the namespace it is answered from. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context } from '../../namespace/context.ts'
import { NineError, isNineError } from '../../namespace/errors.ts'
import type { FileServer, IfMatch, MutationResult, ReadOptions } from '../../namespace/file-server.ts'
import { mutationToJson, revisionOf } from '../../namespace/json.ts'
import { parentPath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { encodePosition } from '../../namespace/position.ts'
import type { Position } from '../../namespace/position.ts'
import type { Stat } from '../../namespace/stat.ts'
import type { Answer } from './answer.ts'
import type { BodyRoom } from './body.ts'
import type { KeyTable } from './idempotency.ts'
import type { HttpLimits } from './limits.ts'
import { formatEtag, invalid, parseEtags } from './params.ts'
import type { Etag, Target } from './params.ts'

export interface Exchange extends Target {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly server: FileServer
  readonly context: Context
  /** What all requests of one edge share. */
  readonly edge: EdgeState
}

export interface EdgeState {
  readonly limits: HttpLimits
  readonly keys: KeyTable
  readonly bodyRoom: BodyRoom
  /** What ends answers that have no end of their own, when the edge closes. */
  readonly endless: Set<() => void>
  isClosing: boolean
}

/** The headers that say which version and position an answer shows. */
export function versionHeaders(stat: Stat, position: Position): Record<string, string> {
  const headers: Record<string, string> = {
    'nine-version': String(stat.version),
    'nine-revision': String(revisionOf(position)),
    'nine-position': encodePosition(position),
    'last-modified': new Date(stat.modifiedAt / 1000).toUTCString(),
  }
  const etag = formatEtag(position[0], stat.qid)
  if (etag !== undefined) headers['etag'] = etag
  return headers
}

/** The headers of an answer that shows a position but no single file. */
export function positionHeaders(position: Position): Record<string, string> {
  return { 'nine-revision': String(revisionOf(position)), 'nine-position': encodePosition(position) }
}

/** The read options of the query. A bare revision is one of the store that serves the path. */
export async function readOptions(exchange: Exchange): Promise<ReadOptions> {
  const { query } = exchange
  const consistency = query.get('consistency')
  if (consistency !== undefined && consistency !== 'linearizable' && consistency !== 'stale') {
    throw invalid(`consistency is linearizable or stale, not ${JSON.stringify(consistency.slice(0, 64))}`)
  }
  const least = query.moment('min_position')
  if (least !== undefined && 'time' in least) throw invalid('min_position is a position or a revision')
  const minPosition = least === undefined ? undefined : 'position' in least ? least.position : await atRevision(exchange, least.revision)
  const moment = query.moment('at')
  if (moment === undefined) return { consistency, minPosition }
  if ('time' in moment) return { consistency, minPosition, at: moment.time }
  return { consistency, minPosition, at: 'position' in moment ? moment.position : await atRevision(exchange, moment.revision) }
}

/** A revision of the one store that serves the path, which need not exist any more. */
async function atRevision({ server, context, path }: Exchange, revision: number): Promise<Position> {
  const [element, ...others] = await positionAt(server, context, path)
  if (element === undefined || others.length > 0) {
    throw invalid('this path has no single store to count revisions in: give a position or a time')
  }
  return [{ ...element, revision, ordinal: 0 }]
}

/** The position of whatever serves `path`: its own, or that of the directory above it that exists. */
async function positionAt(server: FileServer, context: Context, path: Path): Promise<Position> {
  for (let at = path; ; at = parentPath(at)) {
    try {
      return (await server.stat(context, at)).position
    } catch (error) {
      if (at === '/' || !(isNineError(error, 'not_found') || isNineError(error, 'not_directory'))) throw error
    }
  }
}

/** What If-Match and If-None-Match ask of a change. */
export interface Precondition {
  readonly ifMatch?: IfMatch | undefined
  /** The file has to exist, at whatever version. */
  readonly mustExist?: boolean | undefined
}

/**
 * The precondition of a change. Whether it holds is for the server to say, which knows the answers of retries. An ETag names
 * its store as well, which a qid alone does not: one of another store never matches, whatever its numbers.
 * @throws NineError `invalid`
 */
export async function preconditionOf({ request, server, context, path }: Exchange): Promise<Precondition> {
  const ifNoneMatch = request.headers['if-none-match']
  const header = request.headers['if-match']
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() !== '*') throw invalid('a change takes If-None-Match: * only')
    if (header !== undefined) throw invalid('If-Match and If-None-Match exclude each other here')
    return { ifMatch: 'none' }
  }
  const etags = parseEtags(header)
  if (etags === undefined) return {}
  if (etags === '*') return { mustExist: true }
  return { ifMatch: await chooseEtag(server, context, path, etags) }
}

/** No file has this: what an ETag of another store, or of nobody, is checked against. */
const unmatchable: IfMatch = { path: Number.MAX_SAFE_INTEGER, version: 0 }

/** The one of `etags` that the file has, else one of its store, for the server to compare. */
export async function chooseEtag(server: FileServer, context: Context, path: Path, etags: readonly Etag[]): Promise<IfMatch> {
  if (etags.length === 0) return unmatchable
  const [store] = await positionAt(server, context, path)
  const candidates = etags.filter((etag) => etag.isOf(store))
  const first = candidates[0]
  if (first === undefined) return unmatchable
  if (candidates.length === 1) return { path: first.path, version: first.version }
  const qid = await server.stat(context, path).then(
    ({ stat }) => stat.qid,
    () => undefined,
  )
  const { path: file, version } = candidates.find((etag) => etag.path === qid?.path && etag.version === qid.version) ?? first
  return { path: file, version }
}

/** The change of a file that If-Match: * wants to exist: that it does not is a failed precondition. */
export async function existing<T>({ path }: Exchange, { mustExist }: Precondition, change: Promise<T>): Promise<T> {
  if (mustExist !== true) return change
  try {
    return await change
  } catch (error) {
    if (!isNineError(error, 'not_found') && !isNineError(error, 'not_directory')) throw error
    throw new NineError({ kind: 'conflict', op: error.op, path, message: 'If-Match: * needs a file here', cause: error })
  }
}

export function jsonAnswer(status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(value) }
}

/** The answer to a change: the headers, and the same as JSON. */
export function mutationAnswer(result: MutationResult, status: number): Answer {
  const headers: Record<string, string> = {
    'nine-version': String(result.qid.version),
    'nine-revision': String(result.revision),
    'nine-position': encodePosition(result.position),
  }
  const etag = formatEtag(result.position[0], result.qid)
  if (etag !== undefined) headers['etag'] = etag
  return jsonAnswer(status, mutationToJson(result), headers)
}

/** A content type as a header can carry it: other edges may have stored any text. */
export function contentTypeHeader(contentType: string | undefined): string {
  return contentType !== undefined && /^[\t\x20-\x7e\x80-\xff]+$/.test(contentType) ? contentType : 'application/octet-stream'
}
