/** Transactions of a memory server: conditions, then one branch, within one Change. */
import type { TxnCondition, TxnOperation, TxnOperationResult, TxnRequest, TxnResult } from '../file-server.ts'
import { limits } from '../limits.ts'
import { baseName } from '../path.ts'
import type { Position } from '../position.ts'
import type { Change } from './change.ts'
import { needFile, txnOperation, type Mutation } from './mutations.ts'
import { readBit, seeBits, statOf } from './tree.ts'

type TxnMutation = Exclude<TxnOperation, { op: 'stat' | 'read' }>

/** What an operation did, before its revision is done and has a position. */
type Done = Exclude<TxnOperationResult, { op: 'mutation' }> | { readonly op: 'mutation'; readonly result: Mutation }

/** @throws NineError `too_large`, and what any operation of the branch throws */
export function runTxn(change: Change, request: TxnRequest): { readonly branch: 'then' | 'else'; readonly results: readonly Done[] } {
  checkSize(change, request)
  const branch = request.if.every((condition) => holds(change, condition)) ? 'then' : 'else'
  let bytes = 0
  const results = request[branch].map((operation) => {
    const result = run(change, operation)
    if (result.op === 'read') bytes += result.bytes.length
    if (bytes > limits.txn_bytes_max)
      throw change.error('too_large', operation.path, `a transaction reads at most ${limits.txn_bytes_max} bytes`)
    return result
  })
  return { branch, results }
}

/** Every answer of a transaction shows the one position at which all of it became visible. */
export function txnResult({ branch, results }: ReturnType<typeof runTxn>, position: Position): TxnResult {
  const shown = results.map((done) => (done.op === 'mutation' ? { op: done.op, result: { ...done.result, position } } : done))
  return { branch, results: shown, position }
}

function holds(change: Change, { path, is }: TxnCondition): boolean {
  const node = change.find(path)
  if (node === undefined) {
    const missing = change.missing(path)
    if (missing.kind === 'denied') throw missing
    return is === 'none'
  }
  change.need(node, seeBits, path)
  if (is === 'none' || is === 'exists') return is === 'exists'
  return is.path === node.ino && is.version === node.head.version
}

function run(change: Change, operation: TxnOperation): Done {
  if (operation.op !== 'stat' && operation.op !== 'read') return { op: 'mutation', result: txnOperation(change, operation as TxnMutation) }
  const { op, path } = operation
  const node = change.find(path)
  if (node === undefined) throw change.missing(path)
  change.need(node, op === 'read' ? readBit : seeBits, path)
  const stat = statOf(node, node.head, baseName(path))
  if (op === 'stat') return { op, stat }
  needFile(change, node, path)
  return { op, stat, bytes: node.head.bytes }
}

function checkSize(change: Change, request: TxnRequest): void {
  const operations = [...request.then, ...request.else]
  if (operations.length + request.if.length > limits.txn_operations_max) {
    throw change.error('too_large', '', `a transaction has at most ${limits.txn_operations_max} operations`)
  }
  let bytes = 0
  for (const operation of operations) if (operation.op === 'write') bytes += operation.bytes.length
  if (bytes > limits.txn_bytes_max) throw change.error('too_large', '', `a transaction carries at most ${limits.txn_bytes_max} bytes`)
}
