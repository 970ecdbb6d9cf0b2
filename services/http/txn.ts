/** POST /v1/txn: a transaction as JSON, bytes as base64. */
import { z } from 'zod'
import type { FileServer, TxnOperation, TxnOperationResult, WriteOptions } from '../../namespace/file-server.ts'
import { mutationToJson, parseTime, statToJson } from '../../namespace/json.ts'
import { parsePath } from '../../namespace/path.ts'
import { encodePosition } from '../../namespace/position.ts'
import type { Context } from '../../namespace/context.ts'
import { jsonBody, statChanges, toStatChanges, withKey } from './mutate.ts'
import { sendJson } from './request.ts'
import type { Exchange } from './request.ts'

const count = z.int().min(0)
const ifMatch = z.union([z.literal('none'), z.strictObject({ path: count, version: count })])
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
    bytes: z.base64().default(''),
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
  if: z.array(z.strictObject({ path, is: z.union([ifMatch, z.literal('exists')]) })).default([]),
  then: z.array(operation).default([]),
  else: z.array(operation).default([]),
})

export async function txn(
  exchange: Pick<Exchange, 'request' | 'response' | 'context' | 'path'> & { server: FileServer; context: Context },
): Promise<void> {
  const { request, response, server } = exchange
  const body = await jsonBody(request, transaction)
  const context = withKey(exchange, ['txn', JSON.stringify(body)])
  const result = await server.txn(context, {
    if: body.if.map((condition) => ({ path: parsePath(condition.path, 'http.request'), is: condition.is })),
    then: body.then.map(toOperation),
    else: body.else.map(toOperation),
  })
  sendJson(
    response,
    200,
    { branch: result.branch, results: result.results.map(toJson), position: encodePosition(result.position) },
    { 'nine-position': encodePosition(result.position) },
  )
}

function toOperation(row: z.infer<typeof operation>): TxnOperation {
  const at = parsePath(row.path, 'http.request')
  switch (row.op) {
    case 'stat':
    case 'read':
      return { op: row.op, path: at }
    case 'write': {
      const { op, path: _path, bytes, modifiedAt, ...rest } = row
      const options: WriteOptions = { ...rest, modifiedAt: timeOf(modifiedAt) }
      return { op, path: at, bytes: Buffer.from(bytes, 'base64'), options }
    }
    case 'create':
    case 'mkdir': {
      const { op, path: _path, modifiedAt, ...rest } = row
      return { op, path: at, options: { ...rest, modifiedAt: timeOf(modifiedAt) } }
    }
    case 'symlink': {
      const { op, path: _path, target, modifiedAt, ...rest } = row
      return { op, path: at, target, options: { ...rest, modifiedAt: timeOf(modifiedAt) } }
    }
    case 'setStat':
      return { op: 'setStat', path: at, changes: toStatChanges(row.changes), options: { ifMatch: row.ifMatch } }
    case 'remove':
      return { op: 'remove', path: at, options: { recursive: row.recursive, ifMatch: row.ifMatch } }
    case 'rename':
      return {
        op: 'rename',
        path: at,
        to: parsePath(row.to, 'http.request'),
        options: { replace: row.replace, parents: row.parents, ifMatch: row.ifMatch },
      }
  }
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
