/** Messages of handles, leases and locks. */
import type { Reader, Writer } from '../../proto/protobuf.ts'
import { frameType } from '../../proto/frames.ts'
import { NineError } from '../errors.ts'
import type {
  CreateOptions,
  HandleId,
  HandleReadResult,
  HandleWriteResult,
  LeaseResult,
  LockResult,
  MutationResult,
  OpenFlags,
  OpenResult,
  StatResult,
} from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Path } from '../path.ts'
import { noPosition } from '../position.ts'
import type { Stat } from '../stat.ts'
import type { ContextReader } from './context.ts'
import {
  B,
  readCreateOptions,
  readPath,
  readPositionElement,
  readStat,
  refuseField,
  required,
  V,
  writeCreateOptions,
  writePosition,
  writeStat,
} from './fields.ts'
import { readMutationResult, writeMutationResult } from './mutations.ts'
import type { Operation } from './operation.ts'
import { ownBytes, statOperation } from './reads.ts'

export interface OpenArgs {
  readonly path: Path
  readonly flags: OpenFlags
}

export const openOperation: Operation<OpenArgs, OpenResult> = {
  type: frameType.open,
  name: 'open',
  repeat: 'again',
  isChange: true,
  writeArgs(writer, { path, flags }) {
    const { ifMatch, parents, lease, ttlMs, contentType, modifiedAt } = flags
    writer.string(2, path)
    writeCreateOptions(writer, 3, { ifMatch, parents, lease, ttlMs, contentType, modifiedAt, mode: flags.permissions })
    writer.bool(4, flags.read)
    writer.bool(5, flags.write)
    writer.bool(6, flags.create)
    writer.bool(7, flags.exclusive)
    writer.bool(8, flags.truncate)
    writer.bool(9, flags.mode === 'shared')
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let options: CreateOptions = {}
    let read: boolean | undefined
    let write: boolean | undefined
    let create: boolean | undefined
    let exclusive: boolean | undefined
    let truncate: boolean | undefined
    let isShared = false
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.open')
      else if (key === B.f3) options = readCreateOptions(reader)
      else if (key === V.f4) read = reader.bool()
      else if (key === V.f5) write = reader.bool()
      else if (key === V.f6) create = reader.bool()
      else if (key === V.f7) exclusive = reader.bool()
      else if (key === V.f8) truncate = reader.bool()
      else if (key === V.f9) isShared = reader.bool()
      else refuseField(key)
    }
    const { mode: permissions, ...rest } = options
    const mode = isShared ? ('shared' as const) : ('atomic' as const)
    return { path: required(path, 'path'), flags: { ...rest, permissions, read, write, create, exclusive, truncate, mode } }
  },
  writeResult(writer, result) {
    writeStat(writer, 1, result.stat)
    writePosition(writer, 2, result.position)
    writer.uint(3, result.handle)
  },
  readResult(reader) {
    let stat: Stat | undefined
    let position = noPosition
    let handle = 0
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) stat = readStat(reader)
      else if (key === B.f2) position = readPositionElement(reader, position)
      else if (key === V.f3) handle = reader.uint()
      else reader.skip(key)
    }
    return { handle, stat: required(stat, 'stat'), position }
  },
  serve: (server, context, { path, flags }) => server.open(context, path, flags),
}

export interface HandleArgs {
  readonly handle: HandleId
  readonly discard?: boolean | undefined
}

export interface ReadHandleArgs extends HandleArgs {
  readonly offset: number
  readonly length: number
}

export const readHandleOperation: Operation<ReadHandleArgs, HandleReadResult> = {
  type: frameType.readHandle,
  name: 'readHandle',
  repeat: 'never',
  writeArgs(writer, { handle, offset, length }) {
    writer.uint(2, handle)
    writer.uint(3, offset)
    writer.uint(4, length)
  },
  readArgs(reader, context) {
    let handle = 0
    let offset = 0
    let length = 0
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === V.f2) handle = reader.uint()
      else if (key === V.f3) offset = reader.uint()
      else if (key === V.f4) length = reader.uint()
      else refuseField(key)
    }
    return { handle, offset, length: Math.min(length, limits.read_bytes_max) }
  },
  writeResult(writer, result) {
    writer.bool(1, result.end)
    writer.lastBytes(3, result.bytes)
  },
  readResult(reader) {
    let end = false
    let bytes: Uint8Array = noBytes
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === V.f1) end = reader.bool()
      else if (key === B.f3) bytes = ownBytes(reader.bytes())
      else reader.skip(key)
    }
    return { bytes, end }
  },
  serve: (server, context, { handle, offset, length }) => server.readHandle(context, handle, offset, length),
}

const noBytes = Buffer.alloc(0)

export interface WriteHandleArgs extends HandleArgs {
  readonly bytes: Uint8Array
  readonly offset: number | 'append'
}

export const writeHandleOperation: Operation<WriteHandleArgs, HandleWriteResult> = {
  type: frameType.writeHandle,
  name: 'writeHandle',
  repeat: 'never',
  writeArgs(writer, { handle, bytes, offset }) {
    if (bytes.length > limits.write_bytes_max) throw tooLarge(bytes.length)
    writer.uint(2, handle)
    if (offset === 'append') writer.bool(3, true)
    else writer.uint(4, offset)
    writer.bytes(5, bytes)
  },
  readArgs(reader, context) {
    let handle = 0
    let offset: number | 'append' = 0
    let bytes: Buffer = noBytes
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === V.f2) handle = reader.uint()
      else if (key === V.f3) offset = reader.bool() ? 'append' : offset
      else if (key === V.f4) offset = reader.uint()
      else if (key === B.f5) bytes = reader.bytes()
      else refuseField(key)
    }
    if (bytes.length > limits.write_bytes_max) throw tooLarge(bytes.length)
    return { handle, offset, bytes }
  },
  writeResult(writer, result) {
    writer.uint(1, result.written)
    writer.uint(2, result.size)
  },
  readResult(reader) {
    let written = 0
    let size = 0
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === V.f1) written = reader.uint()
      else if (key === V.f2) size = reader.uint()
      else reader.skip(key)
    }
    return { written, size }
  },
  serve: (server, context, { handle, bytes, offset }) => server.writeHandle(context, handle, bytes, offset),
}

function tooLarge(bytes: number): NineError {
  const message = `one write carries at most ${limits.write_bytes_max} bytes, this one ${bytes}`
  return new NineError({ kind: 'too_large', op: 'wire.writeHandle', message })
}

export interface TruncateHandleArgs extends HandleArgs {
  readonly size: number
}

export const truncateHandleOperation: Operation<TruncateHandleArgs, void> = {
  type: frameType.truncateHandle,
  name: 'truncateHandle',
  repeat: 'never',
  writeArgs(writer, { handle, size }) {
    writer.uint(2, handle)
    writer.uint(3, size)
  },
  readArgs(reader, context) {
    let handle = 0
    let size = 0
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === V.f2) handle = reader.uint()
      else if (key === V.f3) size = reader.uint()
      else refuseField(key)
    }
    return { handle, size }
  },
  writeResult: () => undefined,
  readResult: () => undefined,
  serve: (server, context, { handle, size }) => server.truncateHandle(context, handle, size),
}

function writeHandleArgs(writer: Writer, { handle, discard }: HandleArgs): void {
  writer.uint(2, handle)
  writer.bool(3, discard)
}

function readHandleArgs(reader: Reader, context: ContextReader): HandleArgs {
  let handle = 0
  let discard: boolean | undefined
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) context.read(reader)
    else if (key === V.f2) handle = reader.uint()
    else if (key === V.f3) discard = reader.bool()
    else refuseField(key)
  }
  return { handle, discard }
}

export const statHandleOperation: Operation<HandleArgs, StatResult> = {
  type: frameType.statHandle,
  name: 'statHandle',
  repeat: 'never',
  writeArgs: writeHandleArgs,
  readArgs: readHandleArgs,
  writeResult: statOperation.writeResult,
  readResult: statOperation.readResult,
  serve: (server, context, { handle }) => server.statHandle(context, handle),
}

export const syncHandleOperation: Operation<HandleArgs, MutationResult> = {
  type: frameType.syncHandle,
  name: 'syncHandle',
  repeat: 'never',
  writeArgs: writeHandleArgs,
  readArgs: readHandleArgs,
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { handle }) => server.syncHandle(context, handle),
}

export const closeHandleOperation: Operation<HandleArgs, MutationResult> = {
  type: frameType.closeHandle,
  name: 'closeHandle',
  repeat: 'never',
  writeArgs: writeHandleArgs,
  readArgs: readHandleArgs,
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { handle, discard }) => server.closeHandle(context, handle, discard === true ? { discard } : undefined),
}

export interface GrantLeaseArgs {
  readonly ttlMs: number
  readonly path: Path | undefined
}

export const grantLeaseOperation: Operation<GrantLeaseArgs, LeaseResult> = {
  type: frameType.grantLease,
  name: 'grantLease',
  repeat: 'once',
  writeArgs(writer, { ttlMs, path }) {
    writer.optionalString(2, path)
    writer.uint(3, ttlMs)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let ttlMs = 0
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.grantLease')
      else if (key === V.f3) ttlMs = reader.uint()
      else refuseField(key)
    }
    return { ttlMs, path }
  },
  writeResult: writeLeaseResult,
  readResult: readLeaseResult,
  serve: (server, context, { ttlMs, path }) => server.grantLease(context, ttlMs, path),
}

export interface LeaseArgs {
  readonly lease: string
}

export const renewLeaseOperation: Operation<LeaseArgs, LeaseResult> = {
  type: frameType.renewLease,
  name: 'renewLease',
  repeat: 'again',
  writeArgs: (writer, { lease }) => writer.string(2, lease),
  readArgs: readLeaseArgs,
  writeResult: writeLeaseResult,
  readResult: readLeaseResult,
  serve: (server, context, { lease }) => server.renewLease(context, lease),
}

export const revokeLeaseOperation: Operation<LeaseArgs, MutationResult> = {
  type: frameType.revokeLease,
  name: 'revokeLease',
  repeat: 'once',
  writeArgs: (writer, { lease }) => writer.string(2, lease),
  readArgs: readLeaseArgs,
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { lease }) => server.revokeLease(context, lease),
}

function readLeaseArgs(reader: Reader, context: ContextReader): LeaseArgs {
  let lease = ''
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) context.read(reader)
    else if (key === B.f2) lease = reader.string()
    else refuseField(key)
  }
  return { lease }
}

function writeLeaseResult(writer: Writer, result: LeaseResult): void {
  writer.string(1, result.lease)
  writePosition(writer, 2, result.position)
  writer.uint(3, result.ttlMs)
}

function readLeaseResult(reader: Reader): LeaseResult {
  let lease = ''
  let position = noPosition
  let ttlMs = 0
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) lease = reader.string()
    else if (key === B.f2) position = readPositionElement(reader, position)
    else if (key === V.f3) ttlMs = reader.uint()
    else reader.skip(key)
  }
  return { lease, ttlMs, position }
}

export interface LockArgs {
  readonly path: Path
  readonly lease: string
}

export const lockOperation: Operation<LockArgs, LockResult> = {
  type: frameType.lock,
  name: 'lock',
  // Asked again under the same lease, it is answered with the same token. It has no number of its own: it may wait for long, and a
  // mutation that waits would hold back the settled mark of all others.
  repeat: 'again',
  isChange: true,
  writeArgs(writer, { path, lease }) {
    writer.string(2, path)
    writer.string(3, lease)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let lease = ''
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.lock')
      else if (key === B.f3) lease = reader.string()
      else refuseField(key)
    }
    return { path: required(path, 'path'), lease }
  },
  writeResult(writer, result) {
    writer.uint(1, result.token)
    writePosition(writer, 2, result.position)
  },
  readResult(reader) {
    let token = 0
    let position = noPosition
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === V.f1) token = reader.uint()
      else if (key === B.f2) position = readPositionElement(reader, position)
      else reader.skip(key)
    }
    return { token, position }
  },
  serve: (server, context, { path, lease }) => server.lock(context, path, lease),
}
