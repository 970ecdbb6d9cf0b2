/** Messages of the operations that change nothing: stat, list, read, readlink, getRights. */
import type { Reader, Writer } from '../../proto/protobuf.ts'
import { frameType } from '../../proto/frames.ts'
import type {
  ListOptions,
  ListResult,
  ReadlinkResult,
  ReadOptions,
  ReadRangeOptions,
  ReadResult,
  RightsResult,
  StatResult,
} from '../file-server.ts'
import { rootPath } from '../path.ts'
import type { Path } from '../path.ts'
import { noPosition } from '../position.ts'
import type { RightsRecord } from '../rights.ts'
import type { Stat } from '../stat.ts'
import type { ContextReader } from './context.ts'
import {
  B,
  readPath,
  readPositionElement,
  readRights,
  readStat,
  readView,
  refuseField,
  required,
  rightsFromBits,
  rightsToBits,
  V,
  writePosition,
  writeRights,
  writeStat,
  writeView,
} from './fields.ts'
import type { Operation } from './operation.ts'

export interface PathArgs<Options> {
  readonly path: Path
  readonly options: Options | undefined
}

export const statOperation: Operation<PathArgs<ReadOptions>, StatResult> = {
  type: frameType.stat,
  name: 'stat',
  repeat: 'again',
  writeArgs: writePathAndView,
  readArgs: (reader, context) => readPathAndView(reader, context, 'wire.stat'),
  writeResult(writer, result) {
    writeStat(writer, 1, result.stat)
    writePosition(writer, 2, result.position)
  },
  readResult(reader) {
    let stat: Stat | undefined
    let position = noPosition
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) stat = readStat(reader)
      else if (key === B.f2) position = readPositionElement(reader, position)
      else reader.skip(key)
    }
    return { stat: required(stat, 'stat'), position }
  },
  serve: (server, context, { path, options }) => server.stat(context, path, options),
}

function writePathAndView(writer: Writer, { path, options }: PathArgs<ReadOptions>): void {
  writer.string(2, path)
  writeView(writer, 3, options)
}

function readPathAndView(reader: Reader, context: ContextReader, op: string): PathArgs<ReadOptions> {
  let path: Path | undefined
  let options: ReadOptions | undefined
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) context.read(reader)
    else if (key === B.f2) path = readPath(reader, op)
    else if (key === B.f3) options = readView(reader)
    else refuseField(key)
  }
  return { path: required(path, 'path'), options }
}

export const readOperation: Operation<PathArgs<ReadRangeOptions>, ReadResult> = {
  type: frameType.read,
  name: 'read',
  repeat: 'again',
  writeArgs(writer, { path, options }) {
    writer.string(2, path)
    if (options === undefined) return
    writeView(writer, 3, options)
    writer.optionalUint(4, options.offset)
    writer.optionalUint(5, options.length)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let view: ReadOptions | undefined
    let offset: number | undefined
    let length: number | undefined
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f2) path = readPath(reader, 'wire.read')
      else if (key === B.f1) context.read(reader)
      else if (key === B.f3) view = readView(reader)
      else if (key === V.f4) offset = reader.uint()
      else if (key === V.f5) length = reader.uint()
      else refuseField(key)
    }
    const options =
      view !== undefined ? { ...view, offset, length } : offset === undefined && length === undefined ? undefined : { offset, length }
    return { path: required(path, 'path'), options }
  },
  writeResult(writer, result) {
    writeStat(writer, 1, result.stat)
    writePosition(writer, 2, result.position)
    writer.lastBytes(3, result.bytes)
  },
  readResult(reader) {
    let stat: Stat | undefined
    let position = noPosition
    let bytes: Uint8Array = noBytes
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) stat = readStat(reader)
      else if (key === B.f2) position = readPositionElement(reader, position)
      else if (key === B.f3) bytes = ownBytes(reader.bytes())
      else reader.skip(key)
    }
    return { bytes, stat: required(stat, 'stat'), position }
  },
  serve: (server, context, { path, options }) => server.read(context, path, options),
}

const noBytes = new Uint8Array(0)
const shared_bytes_min = 8 * 1024

/** Short bytes are copied out, so that whoever keeps them does not keep everything that came with them. */
export function ownBytes(view: Buffer): Uint8Array {
  return view.length < shared_bytes_min ? Buffer.from(view) : view
}

export const listOperation: Operation<PathArgs<ListOptions>, ListResult> = {
  type: frameType.list,
  name: 'list',
  repeat: 'again',
  writeArgs(writer, { path, options }) {
    writer.string(2, path)
    if (options === undefined) return
    writeView(writer, 3, options)
    writer.optionalString(4, options.after)
    writer.optionalString(5, options.cursor)
    writer.optionalUint(6, options.limit)
    writer.optionalUint(7, options.maxBytes)
    writer.bool(8, options.recursive)
    writer.optionalString(9, options.prefix)
  },
  readArgs(reader, context) {
    let path: Path | undefined
    let view: ReadOptions | undefined
    let after: string | undefined
    let cursor: string | undefined
    let limit: number | undefined
    let maxBytes: number | undefined
    let recursive: boolean | undefined
    let prefix: string | undefined
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.list')
      else if (key === B.f3) view = readView(reader)
      else if (key === B.f4) after = reader.string()
      else if (key === B.f5) cursor = reader.string()
      else if (key === V.f6) limit = reader.uint()
      else if (key === V.f7) maxBytes = reader.uint()
      else if (key === V.f8) recursive = reader.bool()
      else if (key === B.f9) prefix = reader.string()
      else refuseField(key)
    }
    return { path: required(path, 'path'), options: { ...view, after, cursor, limit, maxBytes, recursive, prefix } }
  },
  writeResult(writer, result) {
    for (const entry of result.entries) writeStat(writer, 1, entry)
    writePosition(writer, 2, result.position)
    writer.optionalString(3, result.next)
  },
  readResult(reader) {
    const entries: Stat[] = []
    let position = noPosition
    let next: string | undefined
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) entries.push(readStat(reader))
      else if (key === B.f2) position = readPositionElement(reader, position)
      else if (key === B.f3) next = reader.string()
      else reader.skip(key)
    }
    return { entries, next, position }
  },
  serve: (server, context, { path, options }) => server.list(context, path, options),
}

export const readlinkOperation: Operation<PathArgs<ReadOptions>, ReadlinkResult> = {
  type: frameType.readlink,
  name: 'readlink',
  repeat: 'again',
  writeArgs: writePathAndView,
  readArgs: (reader, context) => readPathAndView(reader, context, 'wire.readlink'),
  writeResult(writer, result) {
    writer.string(1, result.target)
    writePosition(writer, 2, result.position)
  },
  readResult(reader) {
    let target = ''
    let position = noPosition
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) target = reader.string()
      else if (key === B.f2) position = readPositionElement(reader, position)
      else reader.skip(key)
    }
    return { target, position }
  },
  serve: (server, context, { path, options }) => server.readlink(context, path, options),
}

export const getRightsOperation: Operation<PathArgs<ReadOptions>, RightsResult> = {
  type: frameType.getRights,
  name: 'getRights',
  repeat: 'again',
  writeArgs: writePathAndView,
  readArgs: (reader, context) => readPathAndView(reader, context, 'wire.getRights'),
  writeResult(writer, result) {
    writeRights(writer, 1, result.record)
    writePosition(writer, 2, result.position)
    writer.string(3, result.on)
    writer.uint(4, rightsToBits(result.mine))
  },
  readResult(reader) {
    let record: RightsRecord | undefined
    let position = noPosition
    let on = rootPath
    let mine = 0
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) record = readRights(reader)
      else if (key === B.f2) position = readPositionElement(reader, position)
      else if (key === B.f3) on = readPath(reader, 'wire.getRights')
      else if (key === V.f4) mine = reader.uint()
      else reader.skip(key)
    }
    return { record, on, mine: rightsFromBits(mine), position }
  },
  serve: (server, context, { path }) => server.getRights(context, path),
}
