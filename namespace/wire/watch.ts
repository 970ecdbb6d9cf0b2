/** Messages of watches: the request, and batches of events. */
import type { Reader, Writer } from '../../proto/protobuf.ts'
import { frameType } from '../../proto/frames.ts'
import type { WatchBatch, WatchEvent, WatchOptions } from '../file-server.ts'
import { rootPath } from '../path.ts'
import type { Path } from '../path.ts'
import { noPosition } from '../position.ts'
import type { Stat } from '../stat.ts'
import type { ContextReader } from './context.ts'
import {
  B,
  F,
  readPath,
  readPositionElement,
  readPositionMessage,
  readStat,
  refuseField,
  required,
  V,
  writePosition,
  writePositionMessage,
  writeStat,
} from './fields.ts'
import type { PathArgs } from './reads.ts'
import { ownBytes } from './reads.ts'

export interface WatchArgs extends PathArgs<WatchOptions> {
  /** Bytes of batches that may come before more credit is given. */
  readonly credit: number
}

/** Not an Operation: it has many answers. */
export const watchMessages = {
  type: frameType.watch,
  name: 'watch',
  writeArgs(writer: Writer, { path, options, credit }: WatchArgs): void {
    writer.string(2, path)
    writer.bool(3, options?.recursive)
    if (typeof options?.from === 'number') writer.optionalUint(5, options.from)
    else if (options?.from !== undefined) writePositionMessage(writer, 4, options.from)
    writer.bool(6, options?.statsOnly)
    writer.bool(7, options?.previous)
    writer.uint(8, credit)
  },
  readArgs(reader: Reader, context: ContextReader): WatchArgs {
    let path: Path | undefined
    let recursive: boolean | undefined
    let from: WatchOptions['from']
    let statsOnly: boolean | undefined
    let previous: boolean | undefined
    let credit = 0
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key === B.f1) context.read(reader)
      else if (key === B.f2) path = readPath(reader, 'wire.watch')
      else if (key === V.f3) recursive = reader.bool()
      else if (key === B.f4) from = readPositionMessage(reader)
      else if (key === V.f5) from = reader.uint()
      else if (key === V.f6) statsOnly = reader.bool()
      else if (key === V.f7) previous = reader.bool()
      else if (key === V.f8) credit = reader.uint()
      else refuseField(key)
    }
    return { path: required(path, 'path'), options: { recursive, from, statsOnly, previous }, credit }
  },
}

export function writeBatch(writer: Writer, batch: WatchBatch): void {
  for (const event of batch.events) writeEvent(writer, event)
  writePosition(writer, 2, batch.position)
}

export function readBatch(reader: Reader): WatchBatch {
  const events: WatchEvent[] = []
  let position = noPosition
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) events.push(readEvent(reader))
    else if (key === B.f2) position = readPositionElement(reader, position)
    else reader.skip(key)
  }
  return { events, position }
}

/** About as many bytes as the event takes in a batch: what batches are split by. */
export function eventBytes(event: WatchEvent): number {
  return 256 + event.path.length * 2 + (event.from?.length ?? 0) + (event.bytes?.length ?? 0)
}

const types = ['create', 'change', 'remove', 'rename'] as const

function writeEvent(writer: Writer, event: WatchEvent): void {
  const begun = writer.begin(1)
  writer.uint(1, types.indexOf(event.type))
  writer.string(2, event.path)
  writer.optionalString(3, event.from)
  writer.bool(4, event.subtree)
  writeStat(writer, 5, event.stat)
  if (event.previous !== undefined) writeStat(writer, 6, event.previous)
  writer.string(7, event.actor)
  writer.fixed(8, event.time)
  writer.optionalString(9, event.cause)
  writePosition(writer, 10, event.position)
  writer.optionalBytes(11, event.bytes)
  writer.end(begun)
}

function readEvent(reader: Reader): WatchEvent {
  let type: WatchEvent['type'] = 'create'
  let path: Path = rootPath
  let from: Path | undefined
  let subtree = false
  let stat: Stat | undefined
  let previous: Stat | undefined
  let actor = ''
  let time = 0
  let cause: string | undefined
  let position = noPosition
  let bytes: Uint8Array | undefined
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === V.f1) type = required(types[reader.uint()], 'known type of event')
    else if (key === B.f2) path = readPath(reader, 'wire.watch')
    else if (key === B.f3) from = readPath(reader, 'wire.watch')
    else if (key === V.f4) subtree = reader.bool()
    else if (key === B.f5) stat = readStat(reader)
    else if (key === B.f6) previous = readStat(reader)
    else if (key === B.f7) actor = reader.string()
    else if (key === F.f8) time = reader.fixed()
    else if (key === B.f9) cause = reader.string()
    else if (key === B.f10) position = readPositionElement(reader, position)
    else if (key === B.f11) bytes = ownBytes(reader.bytes())
    else reader.skip(key)
  }
  reader.leave(outer)
  return { type, path, from, subtree, stat: required(stat, 'stat'), previous, bytes, actor, time, cause, position }
}
