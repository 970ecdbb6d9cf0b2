/** PUT, POST, PATCH and DELETE: one change of the namespace each. */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { NineError } from '../../namespace/errors.ts'
import type { Context } from '../../namespace/context.ts'
import type { MutationResult, OpenFlags, StatChanges, WriteOptions } from '../../namespace/file-server.ts'
import { parseTime } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { encodePosition } from '../../namespace/position.ts'
import { allRights } from '../../namespace/rights.ts'
import type { Right } from '../../namespace/rights.ts'
import { bodyParts, wholeBody } from './body.ts'
import { invalid } from './params.ts'
import { ifMatchOf, sendMutation } from './request.ts'
import type { Exchange } from './request.ts'

export async function put(exchange: Exchange): Promise<void> {
  const { request, response, query, server, path } = exchange
  if (query.has('rights')) return putRights(exchange)
  if (query.get('symlink') !== undefined) {
    const target = query.get('symlink')!
    const context = withKey(exchange, ['symlink', target])
    return sendMutation(response, await server.symlink(context, path, target, { ifMatch: await ifMatchOf(exchange), parents: true }))
  }
  const offset = query.count('offset')
  if (offset !== undefined && query.has('append')) throw invalid('append and offset exclude each other')
  const options: WriteOptions = {
    at: query.has('append') ? 'append' : (offset ?? 'replace'),
    ifMatch: await ifMatchOf(exchange),
    parents: true,
    ttlMs: query.duration('ttl'),
    lease: query.get('lease'),
    contentType: contentTypeOf(request.headers['content-type']),
  }
  const declared = request.headers['content-length']
  if (declared !== undefined && Number(declared) <= limits.write_bytes_max) {
    const bytes = await wholeBody(request, limits.write_bytes_max)
    const context = withKey(exchange, ['put', ...describe(options)], bytes)
    return sendMutation(response, await server.write(context, path, bytes, options))
  }
  sendMutation(response, await putStreamed(exchange, options))
}

/** A body of unknown or large size: staged through an atomic handle and published as one change at its end. */
async function putStreamed(exchange: Exchange, options: WriteOptions): Promise<MutationResult> {
  const { request, server, context, path } = exchange
  const { at, ifMatch, parents, ttlMs, lease, contentType } = options
  const flags: OpenFlags = { ifMatch, parents, ttlMs, lease, contentType, write: true, create: true, truncate: at === 'replace' }
  // A body may take longer than any one answer; what ends it is standing still (bodyParts).
  const patient = { ...context, deadline: Infinity }
  const { handle } = await server.open(context, path, flags)
  const hash = createHash('sha256')
  try {
    let place = typeof at === 'number' ? at : 0
    for await (const part of bodyParts(request, limits.http_body_bytes_max)) {
      for (let start = 0; start < part.length; start += limits.write_bytes_max) {
        const piece = part.subarray(start, start + limits.write_bytes_max)
        await server.writeHandle(patient, handle, piece, at === 'append' ? 'append' : place)
        place += piece.length
      }
      hash.update(part)
    }
  } catch (error) {
    await server.closeHandle({ ...context, signal: undefined }, handle, { discard: true })
    throw error
  }
  return server.closeHandle(withKey({ ...exchange, context: patient }, ['put', ...describe(options), hash.digest('hex')]), handle)
}

export async function post(exchange: Exchange): Promise<void> {
  const { request, response, query, server, context, path } = exchange
  if (query.has('mkdir')) {
    await wholeBody(request, 0)
    const options = { ifMatch: await ifMatchOf(exchange), parents: true }
    return sendMutation(response, await server.mkdir(withKey(exchange, ['mkdir']), path, options), 201)
  }
  const to = query.get('rename')
  if (to !== undefined) {
    await wholeBody(request, 0)
    const options = { ifMatch: await ifMatchOf(exchange), replace: query.has('replace'), parents: true }
    return sendMutation(response, await server.rename(withKey(exchange, ['rename', to]), path, parsePath(to, 'http.request'), options))
  }
  if (query.has('call')) {
    const question = await wholeBody(request, limits.write_bytes_max)
    const { handle, stat } = await server.open(context, path, { read: true, write: true })
    try {
      await server.writeHandle(context, handle, question, 0)
      const parts: Uint8Array[] = []
      for (let offset = 0; ;) {
        const { bytes, end } = await server.readHandle(context, handle, offset, limits.read_bytes_max)
        parts.push(bytes)
        offset += bytes.length
        if (end) break
      }
      const answer = Buffer.concat(parts)
      response.writeHead(200, { 'content-type': stat.contentType ?? 'application/octet-stream', 'content-length': answer.length })
      response.end(answer)
      return
    } finally {
      await server.closeHandle({ ...context, signal: undefined }, handle, { discard: true })
    }
  }
  throw invalid('POST takes ?mkdir, ?rename=PATH or ?call')
}

/** What PATCH and a setStat in a transaction take. */
export const statChanges = z.strictObject({
  mode: z.int().min(0).max(0o7777).optional(),
  owner: z.string().optional(),
  group: z.string().optional(),
  modifiedAt: z.string().optional(),
  contentType: z.string().optional(),
  size: z.int().min(0).optional(),
})

export async function patch(exchange: Exchange): Promise<void> {
  const { request, response, server, path } = exchange
  const body = await jsonBody(request, statChanges)
  const context = withKey(exchange, ['patch', JSON.stringify(body)])
  sendMutation(response, await server.setStat(context, path, toStatChanges(body), { ifMatch: await ifMatchOf(exchange) }))
}

export function toStatChanges({ modifiedAt, ...rest }: z.infer<typeof statChanges>): StatChanges {
  return { ...rest, modifiedAt: modifiedAt === undefined ? undefined : parseTime(modifiedAt, 'http.request') }
}

export async function remove(exchange: Exchange): Promise<void> {
  const { response, query, server, path } = exchange
  if (query.has('rights')) {
    const result = await server.setRights(withKey(exchange, ['rights']), path, undefined, { ifMatch: await ifMatchOf(exchange) })
    return sendMutation(response, result)
  }
  const options = { ifMatch: await ifMatchOf(exchange), recursive: query.has('recursive') }
  const result = await server.remove(withKey(exchange, ['remove', String(options.recursive)]), path, options)
  response.writeHead(204, { 'nine-revision': String(result.revision), 'nine-position': encodePosition(result.position) })
  response.end()
}

const rightsRecord = z
  .array(z.strictObject({ who: z.string().min(1), rights: z.array(z.enum(allRights as [Right, ...Right[]])) }))
  .max(limits.rights_entries_max)

async function putRights(exchange: Exchange): Promise<void> {
  const { request, response, server, path } = exchange
  const record = await jsonBody(request, rightsRecord)
  const context = withKey(exchange, ['rights', JSON.stringify(record)])
  sendMutation(response, await server.setRights(context, path, record, { ifMatch: await ifMatchOf(exchange) }))
}

/** A JSON body of the given shape. @throws NineError `invalid` for anything else, unknown fields included */
export async function jsonBody<T>(request: Exchange['request'], shape: z.ZodType<T>): Promise<T> {
  const bytes = await wholeBody(request, limits.http_json_bytes_max)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new NineError({ kind: 'invalid', op: 'http.body', message: 'the body is not JSON', cause })
  }
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new NineError({
    kind: 'invalid',
    op: 'http.body',
    message: `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'not as expected'}`,
  })
}

/**
 * The Context with what Idempotency-Key asks: the store knows a (principal, key) as a client with one mutation, and the
 * digest of the request as what that mutation was. A key the store no longer remembers is a new one.
 */
export function withKey(exchange: Pick<Exchange, 'request' | 'context' | 'path'>, what: readonly string[], body?: Uint8Array): Context {
  const { request, context, path } = exchange
  const key = request.headers['idempotency-key']
  if (key === undefined) return context
  if (typeof key !== 'string' || key === '' || Buffer.byteLength(key) > limits.idempotency_key_bytes_max) {
    throw invalid(`an Idempotency-Key is 1 to ${limits.idempotency_key_bytes_max} bytes`)
  }
  const hash = createHash('sha256').update(JSON.stringify([path, request.headers['if-match'], request.headers['if-none-match'], ...what]))
  if (body !== undefined) hash.update(body)
  const client = { id: `http:${context.principal.name}:${key}`, born: Number.MAX_SAFE_INTEGER, settled: 0 }
  return { ...context, client, seq: 1, digest: hash.digest('base64url') }
}

function describe(options: WriteOptions): string[] {
  return [String(options.at), String(options.ttlMs), options.lease ?? '', options.contentType ?? '']
}

/** A form type is what clients send when told nothing; it says nothing of the bytes. */
function contentTypeOf(header: string | undefined): string | undefined {
  if (header === undefined || header === 'application/x-www-form-urlencoded' || header.startsWith('multipart/form-data')) return undefined
  if (Buffer.byteLength(header) > limits.attribute_bytes_max) throw invalid(`a content type is at most ${limits.attribute_bytes_max} bytes`)
  return header
}
