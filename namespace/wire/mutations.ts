/** Messages of the operations that change a file, by themselves or in a transaction. */
import type { Reader, Writer } from '../../proto/protobuf.ts'
import { WireError } from '../../proto/protobuf.ts'
import { frameType } from '../../proto/frames.ts'
import type {
  ConditionOptions,
  CreateOptions,
  IfMatch,
  MutationResult,
  RemoveOptions,
  RenameOptions,
  StatChanges,
  WriteOptions,
} from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Path } from '../path.ts'
import { noPosition } from '../position.ts'
import type { RightsRecord } from '../rights.ts'
import type { Qid } from '../stat.ts'
import type { ContextReader } from './context.ts'
import {
  B,
  F,
  readCreateOptions,
  readIfMatch,
  readMode,
  readPath,
  readPositionElement,
  readQid,
  readRights,
  refuseField,
  required,
  V,
  writeCreateOptions,
  writeIfMatch,
  writePosition,
  writeQid,
  writeRights,
} from './fields.ts'
import type { Operation } from './operation.ts'
import { NineError } from '../errors.ts'
import type { PathArgs } from './reads.ts'

export function writeMutationResult(writer: Writer, result: MutationResult): void {
  writeQid(writer, 1, result.qid)
  writePosition(writer, 2, result.position)
  writer.uint(3, result.revision)
  writer.bool(4, result.created)
  writer.uint(5, result.size)
}

export function readMutationResult(reader: Reader): MutationResult {
  let qid: Qid | undefined
  let position = noPosition
  let revision = 0
  let created = false
  let size = 0
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) qid = readQid(reader)
    else if (key === B.f2) position = readPositionElement(reader, position)
    else if (key === V.f3) revision = reader.uint()
    else if (key === V.f4) created = reader.bool()
    else if (key === V.f5) size = reader.uint()
    else reader.skip(key)
  }
  return { qid: required(qid, 'qid'), revision, created, size, position }
}

export interface WriteArgs extends PathArgs<WriteOptions> {
  readonly bytes: Uint8Array
}

export const writeOperation: Operation<WriteArgs, MutationResult> = {
  type: frameType.write,
  name: 'write',
  repeat: 'once',
  writeArgs(writer, { path, bytes, options }) {
    if (bytes.length > limits.write_bytes_max) throw tooLarge(path, bytes.length)
    writer.string(2, path)
    if (options !== undefined) {
      if (hasCreateOptions(options)) writeCreateOptions(writer, 3, options)
      if (options.at === 'append') writer.bool(4, true)
      else if (typeof options.at === 'number') writer.optionalUint(5, options.at)
      writer.bool(6, options.mustExist)
    }
    writer.bytes(7, bytes)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let create: CreateOptions | undefined
    let at: WriteOptions['at']
    let mustExist: boolean | undefined
    let bytes: Buffer = noBytes
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f2) path = readPath(reader, 'wire.write')
      else if (key === B.f1) context.read(reader)
      else if (key === B.f3) create = readCreateOptions(reader)
      else if (key === V.f4) at = reader.bool() ? 'append' : at
      else if (key === V.f5) at = reader.uint()
      else if (key === V.f6) mustExist = reader.bool()
      else if (key === B.f7) bytes = reader.bytes()
      else refuseField(key)
    }
    const checked = required(path, 'path')
    if (bytes.length > limits.write_bytes_max) throw tooLarge(checked, bytes.length)
    const hasOptions = create !== undefined || at !== undefined || mustExist !== undefined
    return { path: checked, bytes, options: hasOptions ? { ...create, at, mustExist } : undefined }
  },
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { path, bytes, options }) => server.write(context, path, bytes, options),
}

const noBytes = Buffer.alloc(0)

function tooLarge(path: string, bytes: number): NineError {
  const message = `one write carries at most ${limits.write_bytes_max} bytes, this one ${bytes}; larger values go through a handle`
  return new NineError({ kind: 'too_large', op: 'wire.write', path, message })
}

function hasCreateOptions(o: CreateOptions): boolean {
  return (
    o.ifMatch !== undefined ||
    o.parents !== undefined ||
    o.lease !== undefined ||
    o.ttlMs !== undefined ||
    o.contentType !== undefined ||
    o.mode !== undefined ||
    o.modifiedAt !== undefined
  )
}

export const createOperation: Operation<PathArgs<CreateOptions>, MutationResult> = {
  type: frameType.create,
  name: 'create',
  repeat: 'once',
  writeArgs: writeCreateArgs,
  readArgs: (reader, context) => readCreateArgs(reader, context, 'wire.create'),
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { path, options }) => server.create(context, path, options),
}

export const mkdirOperation: Operation<PathArgs<CreateOptions>, MutationResult> = {
  type: frameType.mkdir,
  name: 'mkdir',
  repeat: 'once',
  writeArgs: writeCreateArgs,
  readArgs: (reader, context) => readCreateArgs(reader, context, 'wire.mkdir'),
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { path, options }) => server.mkdir(context, path, options),
}

function writeCreateArgs(writer: Writer, { path, options }: PathArgs<CreateOptions>): void {
  writer.string(2, path)
  writeCreateOptions(writer, 3, options)
}

function readCreateArgs(reader: Reader, context: ContextReader, op: string): PathArgs<CreateOptions> {
  let path: Path | undefined
  let options: CreateOptions | undefined
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) context.read(reader)
    else if (key === B.f2) path = readPath(reader, op)
    else if (key === B.f3) options = readCreateOptions(reader)
    else refuseField(key)
  }
  return { path: required(path, 'path'), options }
}

export interface SymlinkArgs extends PathArgs<CreateOptions> {
  readonly target: string
}

export const symlinkOperation: Operation<SymlinkArgs, MutationResult> = {
  type: frameType.symlink,
  name: 'symlink',
  repeat: 'once',
  writeArgs(writer, args) {
    writeCreateArgs(writer, args)
    writer.string(4, args.target)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let options: CreateOptions | undefined
    let target = ''
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.symlink')
      else if (key === B.f3) options = readCreateOptions(reader)
      else if (key === B.f4) target = reader.string()
      else refuseField(key)
    }
    return { path: required(path, 'path'), target, options }
  },
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { path, target, options }) => server.symlink(context, path, target, options),
}

export const removeOperation: Operation<PathArgs<RemoveOptions>, MutationResult> = {
  type: frameType.remove,
  name: 'remove',
  repeat: 'once',
  writeArgs(writer, { path, options }) {
    writer.string(2, path)
    writeIfMatch(writer, 3, options?.ifMatch)
    writer.bool(4, options?.recursive)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let ifMatch: IfMatch | undefined
    let recursive: boolean | undefined
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.remove')
      else if (key === B.f3) ifMatch = readIfMatch(reader)
      else if (key === V.f4) recursive = reader.bool()
      else refuseField(key)
    }
    return { path: required(path, 'path'), options: { ifMatch, recursive } }
  },
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { path, options }) => server.remove(context, path, options),
}

export interface RenameArgs extends PathArgs<RenameOptions> {
  readonly to: Path
}

export const renameOperation: Operation<RenameArgs, MutationResult> = {
  type: frameType.rename,
  name: 'rename',
  repeat: 'once',
  writeArgs(writer, { path, to, options }) {
    writer.string(2, path)
    writeIfMatch(writer, 3, options?.ifMatch)
    writer.string(4, to)
    writer.bool(5, options?.replace)
    writer.bool(6, options?.parents)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let to: Path | undefined
    let ifMatch: IfMatch | undefined
    let replace: boolean | undefined
    let parents: boolean | undefined
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.rename')
      else if (key === B.f3) ifMatch = readIfMatch(reader)
      else if (key === B.f4) to = readPath(reader, 'wire.rename')
      else if (key === V.f5) replace = reader.bool()
      else if (key === V.f6) parents = reader.bool()
      else refuseField(key)
    }
    return { path: required(path, 'path'), to: required(to, 'path to rename to'), options: { ifMatch, replace, parents } }
  },
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { path, to, options }) => server.rename(context, path, to, options),
}

export interface SetStatArgs extends PathArgs<ConditionOptions> {
  readonly changes: StatChanges
}

export const setStatOperation: Operation<SetStatArgs, MutationResult> = {
  type: frameType.setStat,
  name: 'setStat',
  repeat: 'once',
  writeArgs(writer, { path, changes, options }) {
    writer.string(2, path)
    writeIfMatch(writer, 3, options?.ifMatch)
    writer.optionalUint(4, changes.mode)
    writer.optionalString(5, changes.owner)
    writer.optionalString(6, changes.group)
    writer.optionalFixed(7, changes.modifiedAt)
    writer.optionalString(8, changes.contentType)
    writer.optionalUint(9, changes.size)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let ifMatch: IfMatch | undefined
    let mode: number | undefined
    let owner: string | undefined
    let group: string | undefined
    let modifiedAt: number | undefined
    let contentType: string | undefined
    let size: number | undefined
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.setStat')
      else if (key === B.f3) ifMatch = readIfMatch(reader)
      else if (key === V.f4) mode = readMode(reader)
      else if (key === B.f5) owner = reader.string()
      else if (key === B.f6) group = reader.string()
      else if (key === F.f7) modifiedAt = reader.fixed()
      else if (key === B.f8) contentType = reader.string()
      else if (key === V.f9) size = reader.uint()
      else refuseField(key)
    }
    if (size !== undefined && size > limits.file_bytes_max) throw new WireError('the size is past the largest of a file', 'too_large')
    return { path: required(path, 'path'), changes: { mode, owner, group, modifiedAt, contentType, size }, options: { ifMatch } }
  },
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { path, changes, options }) => server.setStat(context, path, changes, options),
}

export interface SetRightsArgs extends PathArgs<ConditionOptions> {
  readonly record: RightsRecord | undefined
}

export const setRightsOperation: Operation<SetRightsArgs, MutationResult> = {
  type: frameType.setRights,
  name: 'setRights',
  repeat: 'once',
  writeArgs(writer, { path, record, options }) {
    writer.string(2, path)
    writeIfMatch(writer, 3, options?.ifMatch)
    writeRights(writer, 4, record)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let ifMatch: IfMatch | undefined
    let record: RightsRecord | undefined
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.setRights')
      else if (key === B.f3) ifMatch = readIfMatch(reader)
      else if (key === B.f4) record = readRights(reader)
      else refuseField(key)
    }
    return { path: required(path, 'path'), record, options: { ifMatch } }
  },
  writeResult: writeMutationResult,
  readResult: readMutationResult,
  serve: (server, context, { path, record, options }) => server.setRights(context, path, record, options),
}
