/** POST /v1/txn: a transaction as JSON, bytes as base64. */
import { z } from 'zod'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer, IfMatch, TxnOperation, TxnOperationResult, WriteOptions } from '../../namespace/file-server.ts'
import { mutationToJson, parseTime, statToJson } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { encodePosition } from '../../namespace/position.ts'
import type { Answer } from './answer.ts'
import { parseJson, statChanges, toStatChanges } from './mutate.ts'
import type { Plan } from './mutate.ts'
import { invalid, parseEtag } from './params.ts'
import { chooseEtag, jsonAnswer, positionHeaders } from './request.ts'
import type { Exchange } from './request.ts'

const count = z.int().min(0)
/** `none`, a qid or its path and version, or an ETag as a header had it. */
const ifMatch = z.union([z.literal('none'), z.strictObject({ type: count.optional(), path: count, version: count }), z.string()])
const path = z.string()
const creation = {
  ifMatch: ifMatch.optional(),
  parents: z.boolean().optional(),
  lease: z.string().optional(),
  ttlMs: count.optional(),
  contentType: z.string().optional(),
  mode: z.int().min(0).max(0o7777).optional(),
  modifiedAt: z.string().optional(),
}
const operation = z.discriminatedUnion('op', [
  z.strictObject({
    op: z.literal('write'),
    path,
    bytes: z.string().default(''),
    at: z.union([z.literal('replace'), z.literal('append'), count]).optional(),
    mustExist: z.boolean().optional(),
    ...creation,
  }),
  z.strictObject({ op: z.literal('create'), path, ...creation }),
  z.strictObject({ op: z.literal('mkdir'), path, ...creation }),
  z.strictObject({ op: z.literal('symlink'), path, target: z.string(), ...creation }),
  z.strictObject({ op: z.literal('remove'), path, recursive: z.boolean().optional(), ifMatch: ifMatch.optional() }),
  z.strictObject({
    op: z.literal('rename'),
    path,
    to: path,
    replace: z.boolean().optional(),
    parents: z.boolean().optional(),
    ifMatch: ifMatch.optional(),
  }),
  z.strictObject({ op: z.literal('setStat'), path, changes: statChanges, ifMatch: ifMatch.optional() }),
  z.strictObject({ op: z.literal('stat'), path }),
  z.strictObject({ op: z.literal('read'), path }),
])
const transaction = z.strictObject({
  if: z.array(z.strictObject({ path, is: ifMatch })).default([]),
  then: z.array(operation).default([]),
  else: z.array(operation).default([]),
})

export function txn(exchange: Exchange): Plan {
  return { bodyMax: exchange.edge.limits.http_json_bytes_max, act: (context, body) => act(exchange.server, context, body) }
}

async function act(server: FileServer, context: Context, bytes: Buffer): Promise<Answer> {
  const body = parseJson(bytes, transaction, checkCounts)
  const reader = new Reader(server, context)
  const request = {
    if: await inOrder(body.if, async (row) => ({ path: pathOf(row.path), is: await reader.condition(row) })),
    then: await inOrder(body.then, (row) => reader.operation(row)),
    else: await inOrder(body.else, (row) => reader.operation(row)),
  }
  const result = await server.txn(context, request)
  const json = { branch: result.branch, results: result.results.map(toJson), position: encodePosition(result.position) }
  return jsonAnswer(200, json, positionHeaders(result.position))
}

/** Before each row is looked at: how many there are. @throws NineError `too_large` */
function checkCounts(value: unknown): void {
  if (typeof value !== 'object' || value === null) return
  for (const rows of Object.values(value) as unknown[]) {
    if (Array.isArray(rows) && rows.length > limits.txn_operations_max) {
      throw tooLarge(`a transaction has at most ${limits.txn_operations_max} operations, this one has ${rows.length}`)
    }
  }
}

async function inOrder<A, B>(rows: readonly A[], act: (row: A) => Promise<B>): Promise<B[]> {
  const results: B[] = []
  for (const row of rows) results.push(await act(row))
  return results
}

/** Reads the rows of one transaction. @throws NineError `invalid`, `name_too_long`, `too_large` */
class Reader {
  readonly #server: FileServer
  readonly #context: Context
  #bytes = 0

  constructor(server: FileServer, context: Context) {
    this.#server = server
    this.#context = context
  }

  async condition(row: { readonly path: string; readonly is: z.infer<typeof ifMatch> }): Promise<IfMatch | 'exists'> {
    return row.is === 'exists' ? 'exists' : (await this.#ifMatch(row.is, pathOf(row.path)))!
  }

  async operation(row: z.infer<typeof operation>): Promise<TxnOperation> {
    const at = pathOf(row.path)
    if (row.op === 'stat' || row.op === 'read') return { op: row.op, path: at }
    const ifMatch = await this.#ifMatch(row.ifMatch, at)
    switch (row.op) {
      case 'write': {
        const { op, path: _path, bytes, modifiedAt, ...rest } = row
        const options: WriteOptions = { ...rest, ifMatch, modifiedAt: timeOf(modifiedAt) }
        return { op, path: at, bytes: this.#base64(bytes), options }
      }
      case 'create':
      case 'mkdir': {
        const { op, path: _path, modifiedAt, ...rest } = row
        return { op, path: at, options: { ...rest, ifMatch, modifiedAt: timeOf(modifiedAt) } }
      }
      case 'symlink': {
        const { op, path: _path, target, modifiedAt, ...rest } = row
        return { op, path: at, target, options: { ...rest, ifMatch, modifiedAt: timeOf(modifiedAt) } }
      }
      case 'setStat':
        return { op: 'setStat', path: at, changes: toStatChanges(row.changes), options: { ifMatch } }
      case 'remove':
        return { op: 'remove', path: at, options: { recursive: row.recursive, ifMatch } }
      case 'rename':
        return { op: 'rename', path: at, to: pathOf(row.to), options: { replace: row.replace, parents: row.parents, ifMatch } }
    }
  }

  async #ifMatch(given: z.infer<typeof ifMatch> | undefined, at: Path): Promise<IfMatch | undefined> {
    if (given === undefined || given === 'none') return given
    if (typeof given === 'object') return { path: given.path, version: given.version }
    const etag = parseEtag(given)
    if (etag === undefined) throw invalid('ifMatch is none, an ETag, or the path and version of a qid')
    return chooseEtag(this.#server, this.#context, at, [etag])
  }

  #base64(text: string): Buffer {
    const bytes = Buffer.from(text, 'base64')
    const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
    // The decoder skips what is not base64; then there are fewer bytes than there are characters for.
    const isWhole = text.length % 4 === 0 && bytes.length === (text.length / 4) * 3 - padding && !/[-_]/.test(text)
    if (!isWhole) throw invalid('bytes are base64 with padding (RFC 4648, 4)')
    this.#bytes += bytes.length
    if (this.#bytes > limits.txn_bytes_max) throw tooLarge(`a transaction carries at most ${limits.txn_bytes_max} bytes`)
    return bytes
  }
}

function tooLarge(message: string): NineError {
  return new NineError({ kind: 'too_large', op: 'http.txn', message })
}

function pathOf(text: string): Path {
  return parsePath(text, 'http.request')
}

function timeOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseTime(text, 'http.request')
}

function toJson(result: TxnOperationResult): Record<string, unknown> {
  switch (result.op) {
    case 'mutation':
      return { op: 'mutation', ...mutationToJson(result.result) }
    case 'stat':
      return { op: 'stat', stat: statToJson(result.stat) }
    case 'read':
      return { op: 'read', stat: statToJson(result.stat), bytes: Buffer.from(result.bytes).toString('base64') }
  }
}
