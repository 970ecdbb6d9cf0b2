/**
 * PUT, POST, PATCH and DELETE: one change of the namespace each.
 *
 * M1 A body small enough is read before anything is done; a larger one is staged through an atomic handle and becomes one change
 *    at its end, so that a client that leaves has changed nothing.
 * M2 With an Idempotency-Key the edge remembers the answer (idempotency.ts), and the store knows the change by the same key, so
 *    that a replay after a restart gets the first answer too.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { OpenFlags, StatChanges, WriteOptions } from '../../namespace/file-server.ts'
import { parseTime } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { encodePosition } from '../../namespace/position.ts'
import { allRights } from '../../namespace/rights.ts'
import type { Right } from '../../namespace/rights.ts'
import type { Answer } from './answer.ts'
import { Body, tooLarge } from './body.ts'
import { Refused, digestOf, keyOf, sha256 } from './idempotency.ts'
import type { Done } from './idempotency.ts'
import { invalid } from './params.ts'
import { contentTypeHeader, existing, mutationAnswer, preconditionOf } from './request.ts'
import type { Exchange } from './request.ts'

/** A change as its request asks for it, before its body is read. */
export interface Plan {
  /** Largest body that is read into memory. */
  readonly bodyMax: number
  act(context: Context, body: Buffer): Promise<Answer>
  /** What takes larger bodies, as they come, if anything does. */
  readonly stage?: Stage | undefined
}

interface Stage {
  readonly bodyMax: number
  /** `begun` and what `body` still gives are the value; `finish` gives the Context to publish it with. */
  act(body: Body, begun: Buffer, onPart: (part: Buffer) => void, finish: () => Context): Promise<Answer>
}

/** Read the body, act once, and give the answer. */
export async function change(exchange: Exchange, plan: Plan): Promise<Answer> {
  const { request, response, edge } = exchange
  const body = new Body(request, response, edge.limits)
  const bodyMax = plan.stage?.bodyMax ?? plan.bodyMax
  if (body.declared !== undefined && body.declared > bodyMax) throw tooLarge(bodyMax)
  const key = keyOf(request)
  const { declared } = body
  if (plan.stage !== undefined && (declared === undefined || declared > plan.bodyMax)) {
    // Chunks come without a size: what turns out small is no different from a body that said so.
    const { bytes, isEnd } = declared === undefined ? await body.upTo(limits.inline_bytes_max) : { bytes: Buffer.alloc(0), isEnd: false }
    if (!isEnd) return changeStaged(exchange, plan.stage, body, bytes, key)
    return changeWhole(exchange, plan, bytes, key)
  }
  const expected = declared ?? plan.bodyMax
  if (expected <= edge.limits.http_body_memory_bytes_max) return changeWhole(exchange, plan, await body.whole(plan.bodyMax), key)
  return edge.bodyRoom.hold(expected, edge.limits.request_ms_default, async () =>
    changeWhole(exchange, plan, await body.whole(plan.bodyMax), key),
  )
}

async function changeWhole(exchange: Exchange, plan: Plan, bytes: Buffer, key: string | undefined): Promise<Answer> {
  const { request, path, query, context, edge } = exchange
  if (key === undefined) return plan.act(restarted(exchange), bytes)
  const digest = digestOf(request, path, query, sha256(bytes))
  const act = async (): Promise<Done> => {
    try {
      return { digest, answer: await plan.act(keyed(restarted(exchange), key, digest), bytes) }
    } catch (error) {
      throw new Refused(digest, error)
    }
  }
  return edge.keys.run(context.principal, key, act, () => Promise.resolve(digest))
}

async function changeStaged(exchange: Exchange, stage: Stage, body: Body, begun: Buffer, key: string | undefined): Promise<Answer> {
  const { request, path, query, edge } = exchange
  // A body may take longer than any one answer; what ends it is standing still.
  const context = { ...exchange.context, deadline: Infinity }
  if (key === undefined) return stage.act(body, begun, () => undefined, () => context) // prettier-ignore
  const hash = createHash('sha256').update(begun)
  const finish = (): string => digestOf(request, path, query, hash.digest())
  const act = async (): Promise<Done> => {
    let digest: string | undefined
    try {
      const publishing = (): Context => keyed(context, key, (digest = finish()))
      const answer = await stage.act(body, begun, (part) => hash.update(part), publishing)
      return { digest: digest ?? finish(), answer }
    } catch (error) {
      throw digest === undefined ? error : new Refused(digest, error)
    }
  }
  const readOnly = async (): Promise<string> => {
    let size = begun.length
    for (let part = await body.next(); part !== undefined; part = await body.next()) {
      hash.update(part)
      if ((size += part.length) > stage.bodyMax) throw tooLarge(stage.bodyMax)
    }
    return finish()
  }
  return edge.keys.run(context.principal, key, act, readOnly)
}

/** The Context once the body is here: the time that a request has by default is for what follows. */
function restarted({ request, context, edge }: Exchange): Context {
  if (request.headers['nine-timeout'] !== undefined || request.headers['content-length'] === undefined) return context
  return { ...context, deadline: performance.now() + edge.limits.request_ms_default }
}

/** The store knows a (principal, key) as a client with one mutation, and the digest as what that mutation was. */ // M2
function keyed(context: Context, key: string, digest: string): Context {
  // Stores bound the names of clients, and keys may be longer.
  const id = `http:${context.principal.name}:${sha256(Buffer.from(key)).toString('base64url')}`
  const client = { id, born: Number.MAX_SAFE_INTEGER, settled: 0 }
  return { ...context, client, seq: 1, digest }
}

export async function put(exchange: Exchange): Promise<Plan> {
  const { request, query, server, path } = exchange
  if (query.has('rights')) return putRights(exchange)
  const precondition = await preconditionOf(exchange)
  const { ifMatch, mustExist } = precondition
  const target = query.get('symlink')
  if (target !== undefined) {
    if (mustExist === true) throw invalid('a link is only made, never changed')
    return {
      bodyMax: 0,
      act: async (context) => mutationAnswer(await server.symlink(context, path, target, { ifMatch, parents: true }), 201),
    }
  }
  const offset = query.count('offset')
  if (offset !== undefined && query.has('append')) throw invalid('append and offset exclude each other')
  const at = query.has('append') ? 'append' : (offset ?? 'replace')
  const contentType = contentTypeOf(request.headers['content-type'])
  const made = { ifMatch, parents: true, ttlMs: query.ttl('ttl'), lease: query.get('lease'), contentType }
  const options: WriteOptions = { ...made, at, mustExist }
  const flags: OpenFlags = { ...made, write: true, create: mustExist !== true, truncate: at === 'replace' }
  return {
    bodyMax: limits.write_bytes_max,
    act: async (context, body) => {
      const result = await existing(exchange, precondition, server.write(context, path, body, options))
      return mutationAnswer(result, result.created ? 201 : 200)
    },
    stage: {
      bodyMax: exchange.edge.limits.http_body_bytes_max,
      act: (body, begun, onPart, finish) => existing(exchange, precondition, putStaged(exchange, flags, at, body, begun, onPart, finish)),
    },
  }
}

/** M1 */
async function putStaged(
  exchange: Exchange,
  flags: OpenFlags,
  at: 'replace' | 'append' | number,
  body: Body,
  begun: Buffer,
  onPart: (part: Buffer) => void,
  finish: () => Context,
): Promise<Answer> {
  const { server, path, edge } = exchange
  const context = { ...exchange.context, deadline: Infinity }
  const { handle } = await server.open(context, path, flags)
  let publishing: Context
  try {
    const start = typeof at === 'number' ? at : 0
    let size = begun.length
    if (size > 0) await server.writeHandle(context, handle, begun, at === 'append' ? 'append' : start)
    for (let part = await body.next(); part !== undefined; part = await body.next()) {
      if (size + part.length > edge.limits.http_body_bytes_max) throw tooLarge(edge.limits.http_body_bytes_max)
      await server.writeHandle(context, handle, part, at === 'append' ? 'append' : start + size)
      size += part.length
      onPart(part)
    }
    publishing = finish()
  } catch (error) {
    await server.closeHandle({ ...context, signal: undefined }, handle, { discard: true }).catch(() => undefined)
    throw error
  }
  const result = await server.closeHandle(publishing, handle)
  return mutationAnswer(result, result.created ? 201 : 200)
}

export async function post(exchange: Exchange): Promise<Plan> {
  const { query, server, path } = exchange
  const to = query.get('rename')
  const wanted = [query.has('mkdir'), to !== undefined, query.has('call')].filter((is) => is).length
  if (wanted !== 1 || (query.has('replace') && to === undefined))
    throw invalid('POST takes one of ?mkdir, ?rename=PATH[&replace] and ?call')
  if (query.has('call')) return { bodyMax: limits.write_bytes_max, act: (context, body) => call(exchange, context, body) }
  const precondition = await preconditionOf(exchange)
  const { ifMatch } = precondition
  if (to === undefined) {
    return { bodyMax: 0, act: async (context) => mutationAnswer(await server.mkdir(context, path, { ifMatch, parents: true }), 201) }
  }
  const target = parsePath(to, 'http.request')
  const options = { ifMatch, replace: query.has('replace'), parents: true }
  return {
    bodyMax: 0,
    act: async (context) => mutationAnswer(await existing(exchange, precondition, server.rename(context, path, target, options)), 200),
  }
}

/**
 * A write and then a read on one handle: the body is the question, what can be read is the answer. A key is the edge's alone to
 * know: to a server the write, the read and the close would all be the one request that the key names.
 */
async function call({ server, path }: Exchange, given: Context, question: Buffer): Promise<Answer> {
  const context = { ...given, client: undefined, seq: undefined, digest: undefined }
  const { handle, stat } = await server.open(context, path, { read: true, write: true })
  try {
    await server.writeHandle(context, handle, question, 0)
    const parts: Uint8Array[] = []
    for (let offset = 0; ;) {
      const { bytes, end } = await server.readHandle(context, handle, offset, limits.read_bytes_max)
      parts.push(bytes)
      offset += bytes.length
      if (end) break
      if (offset > limits.call_answer_bytes_max) {
        const message = `an answer is at most ${limits.call_answer_bytes_max} bytes`
        throw new NineError({ kind: 'too_large', op: 'http.call', path, message, outcome: 'unknown' })
      }
    }
    return { status: 200, headers: { 'content-type': contentTypeHeader(stat.contentType) }, body: Buffer.concat(parts) }
  } finally {
    await server.closeHandle({ ...context, signal: undefined }, handle, { discard: true }).catch(() => undefined)
  }
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

export async function patch(exchange: Exchange): Promise<Plan> {
  const { server, path } = exchange
  const precondition = await preconditionOf(exchange)
  const { ifMatch } = precondition
  return {
    bodyMax: limits.http_body_memory_bytes_max,
    act: async (context, body) => {
      const changes = toStatChanges(parseJson(body, statChanges))
      return mutationAnswer(await existing(exchange, precondition, server.setStat(context, path, changes, { ifMatch })), 200)
    },
  }
}

export function toStatChanges({ modifiedAt, ...rest }: z.infer<typeof statChanges>): StatChanges {
  if (modifiedAt === undefined) return rest
  const micros = parseTime(modifiedAt, 'http.request')
  if (!Number.isSafeInteger(micros) || micros < 0) {
    throw new NineError({ kind: 'invalid', op: 'http.request', message: 'modifiedAt is a time from 1970 to 2255' })
  }
  return { ...rest, modifiedAt: micros }
}

export async function remove(exchange: Exchange): Promise<Plan> {
  const { query, server, path } = exchange
  const precondition = await preconditionOf(exchange)
  const { ifMatch } = precondition
  if (query.has('rights')) {
    return { bodyMax: 0, act: async (context) => mutationAnswer(await server.setRights(context, path, undefined, { ifMatch }), 200) }
  }
  const recursive = query.has('recursive')
  return {
    bodyMax: 0,
    act: async (context) => {
      const result = await existing(exchange, precondition, server.remove(context, path, { ifMatch, recursive }))
      return { status: 204, headers: { 'nine-revision': String(result.revision), 'nine-position': encodePosition(result.position) } }
    },
  }
}

const rightsRecord = z
  .array(z.strictObject({ who: z.string().min(1), rights: z.array(z.enum(allRights as [Right, ...Right[]])) }))
  .max(limits.rights_entries_max)

async function putRights(exchange: Exchange): Promise<Plan> {
  const { server, path } = exchange
  const { ifMatch } = await preconditionOf(exchange)
  return {
    bodyMax: limits.http_body_memory_bytes_max,
    act: async (context, body) => mutationAnswer(await server.setRights(context, path, parseJson(body, rightsRecord), { ifMatch }), 200),
  }
}

/** A body as JSON of the given shape. @throws NineError `invalid` for anything else, unknown fields included */
export function parseJson<T>(body: Buffer, shape: z.ZodType<T>, check?: (value: unknown) => void): T {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (cause) {
    throw new NineError({ kind: 'invalid', op: 'http.body', message: 'the body is not JSON', cause })
  }
  check?.(value)
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  const message = `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'not as expected'}`
  throw new NineError({ kind: 'invalid', op: 'http.body', message: message.slice(0, 1000) })
}

/** A form type is what clients send when told nothing; it says nothing of the bytes. */
function contentTypeOf(header: string | undefined): string | undefined {
  if (header === undefined || header === '') return undefined
  if (header.startsWith('application/x-www-form-urlencoded') || header.startsWith('multipart/form-data')) return undefined
  if (Buffer.byteLength(header) > limits.attribute_bytes_max) throw invalid(`a content type is at most ${limits.attribute_bytes_max} bytes`)
  return header
}
