/** Messages of transactions: requests and answers of other operations, nested. */
import { WireError } from '../../proto/protobuf.ts'
import type { Reader, Writer } from '../../proto/protobuf.ts'
import { frameType } from '../../proto/frames.ts'
import { NineError } from '../errors.ts'
import type { IfMatch, TxnCondition, TxnOperation, TxnOperationResult, TxnRequest, TxnResult } from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Path } from '../path.ts'
import { noPosition } from '../position.ts'
import type { ContextReader } from './context.ts'
import { B, readIfMatch, readPath, readPositionElement, refuseField, required, V, writeIfMatch, writePosition } from './fields.ts'
import {
  createOperation,
  mkdirOperation,
  readMutationResult,
  removeOperation,
  renameOperation,
  setStatOperation,
  symlinkOperation,
  writeMutationResult,
  writeOperation,
} from './mutations.ts'
import type { Messages, Operation } from './operation.ts'
import { readOperation, statOperation } from './reads.ts'

export const txnOperation: Operation<TxnRequest, TxnResult> = {
  type: frameType.txn,
  name: 'txn',
  repeat: 'once',
  writeArgs(writer, request) {
    checkSize(request)
    for (const condition of request.if) writeCondition(writer, condition)
    for (const operation of request.then) writeOperationOf(writer, 3, operation)
    for (const operation of request.else) writeOperationOf(writer, 4, operation)
  },
  readArgs(reader, context) {
    const request = { if: [] as TxnCondition[], then: [] as TxnOperation[], else: [] as TxnOperation[] }
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) request.if.push(readCondition(reader))
      else if (key === B.f3) request.then.push(readOperationOf(reader))
      else if (key === B.f4) request.else.push(readOperationOf(reader))
      else refuseField(key)
      checkCount(request)
    }
    return request
  },
  writeResult(writer, result) {
    writer.bool(1, result.branch === 'then')
    writePosition(writer, 2, result.position)
    for (const one of result.results) writeOperationResult(writer, one)
  },
  readResult(reader) {
    let isThen = false
    let position = noPosition
    const results: TxnOperationResult[] = []
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === V.f1) isThen = reader.bool()
      else if (key === B.f2) position = readPositionElement(reader, position)
      else if (key === B.f3) results.push(readOperationResult(reader))
      else reader.skip(key)
    }
    return { branch: isThen ? 'then' : 'else', results, position }
  },
  serve: (server, context, request) => server.txn(context, request),
}

/** Of a transaction about to be sent. What it must not exceed is checked again by the store. */
function checkSize(request: TxnRequest): void {
  checkCount(request)
  let bytes = 0
  for (const operation of request.then) if (operation.op === 'write') bytes += operation.bytes.length
  for (const operation of request.else) if (operation.op === 'write') bytes += operation.bytes.length
  if (bytes > limits.txn_bytes_max) throw tooLarge(`a transaction carries at most ${limits.txn_bytes_max} bytes, this one ${bytes}`)
}

function checkCount(request: TxnRequest): void {
  if (request.if.length + request.then.length + request.else.length > limits.txn_operations_max) {
    throw tooLarge(`a transaction has at most ${limits.txn_operations_max} conditions and operations`)
  }
}

function tooLarge(message: string): NineError {
  return new NineError({ kind: 'too_large', op: 'wire.txn', message })
}

function writeCondition(writer: Writer, condition: TxnCondition): void {
  const begun = writer.begin(2)
  writer.string(1, condition.path)
  if (condition.is === 'exists') writer.bool(3, true)
  else writeIfMatch(writer, 2, condition.is)
  writer.end(begun)
}

function readCondition(reader: Reader): TxnCondition {
  let path: Path | undefined
  let is: IfMatch | 'exists' | undefined
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) path = readPath(reader, 'wire.txn')
    else if (key === B.f2) is = readIfMatch(reader)
    else if (key === V.f3) is = reader.bool() ? 'exists' : is
    else refuseField(key)
  }
  reader.leave(outer)
  return { path: required(path, 'path'), is: required(is, 'condition') }
}

function writeOperationOf(writer: Writer, field: number, operation: TxnOperation): void {
  const begun = writer.begin(field)
  const nested = writer.begin(fields.indexOf(operation.op) + 1)
  switch (operation.op) {
    case 'write':
      writeOperation.writeArgs(writer, { path: operation.path, bytes: operation.bytes, options: operation.options })
      break
    case 'create':
    case 'mkdir':
      createOperation.writeArgs(writer, { path: operation.path, options: operation.options })
      break
    case 'symlink':
      symlinkOperation.writeArgs(writer, { path: operation.path, target: operation.target, options: operation.options })
      break
    case 'remove':
      removeOperation.writeArgs(writer, { path: operation.path, options: operation.options })
      break
    case 'rename':
      renameOperation.writeArgs(writer, { path: operation.path, to: operation.to, options: operation.options })
      break
    case 'setStat':
      setStatOperation.writeArgs(writer, { path: operation.path, changes: operation.changes, options: operation.options })
      break
    case 'stat':
      statOperation.writeArgs(writer, { path: operation.path, options: undefined })
      break
    case 'read':
      readOperation.writeArgs(writer, { path: operation.path, options: undefined })
  }
  writer.end(nested)
  writer.end(begun)
}

/** In the order of their field numbers, from 1. */
const fields = ['write', 'create', 'mkdir', 'symlink', 'remove', 'rename', 'setStat', 'stat', 'read'] as const

function readOperationOf(reader: Reader): TxnOperation {
  let operation: TxnOperation | undefined
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if ((key & 7) !== 2) refuseField(key)
    operation = readNested(reader, key)
  }
  reader.leave(outer)
  return required(operation, 'operation')
}

function readNested(reader: Reader, key: number): TxnOperation {
  const op = fields[(key >>> 3) - 1] ?? refuseField(key)
  switch (op) {
    case 'write':
      return { op, ...nested(reader, writeOperation) }
    case 'create':
      return { op, ...nested(reader, createOperation) }
    case 'mkdir':
      return { op, ...nested(reader, mkdirOperation) }
    case 'symlink':
      return { op, ...nested(reader, symlinkOperation) }
    case 'remove':
      return { op, ...nested(reader, removeOperation) }
    case 'rename':
      return { op, ...nested(reader, renameOperation) }
    case 'setStat':
      return { op, ...nested(reader, setStatOperation) }
    case 'stat':
      return { op, path: nested(reader, statOperation).path }
    case 'read':
      return { op, path: nested(reader, readOperation).path }
  }
}

function nested<Args, Result>(reader: Reader, operation: Messages<Args, Result>): Args {
  const outer = reader.enter()
  const args = operation.readArgs(reader, noContext)
  reader.leave(outer)
  return args
}

/** The requests of a transaction have no contexts of their own. */
const noContext = {
  read(): void {
    throw new WireError('an operation of a transaction has no context')
  },
} as unknown as ContextReader

function writeOperationResult(writer: Writer, one: TxnOperationResult): void {
  const begun = writer.begin(3)
  if (one.op === 'mutation') {
    const inner = writer.begin(1)
    writeMutationResult(writer, one.result)
    writer.end(inner)
  } else if (one.op === 'stat') {
    const inner = writer.begin(2)
    statOperation.writeResult(writer, { stat: one.stat, position: noPosition })
    writer.end(inner)
  } else {
    const inner = writer.begin(3)
    // Not writeResult of read: long bytes are only left in place at the end of a frame.
    statOperation.writeResult(writer, { stat: one.stat, position: noPosition })
    writer.bytes(3, one.bytes)
    writer.end(inner)
  }
  writer.end(begun)
}

function readOperationResult(reader: Reader): TxnOperationResult {
  let result: TxnOperationResult | undefined
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) result = { op: 'mutation', result: nestedResult(reader, readMutationResult) }
    else if (key === B.f2) result = { op: 'stat', stat: nestedResult(reader, statOperation.readResult).stat }
    else if (key === B.f3) {
      const { stat, bytes } = nestedResult(reader, readOperation.readResult)
      result = { op: 'read', stat, bytes }
    } else reader.skip(key)
  }
  reader.leave(outer)
  return required(result, 'result')
}

function nestedResult<Result>(reader: Reader, read: (reader: Reader) => Result): Result {
  const outer = reader.enter()
  const result = read(reader)
  reader.leave(outer)
  return result
}
