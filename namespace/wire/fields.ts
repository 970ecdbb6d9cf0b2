/**
 * The parts that many messages share: positions, stats, conditions, rights, failures. Both directions of each stand together.
 *
 * M1 A request with a field that its message does not have is `invalid`; unknown fields of answers are skipped.
 * M2 Paths become a Path here and nowhere further in.
 */
import { bytesKey, fixedKey, varintKey, WireError } from '../../proto/protobuf.ts'
import type { Reader, Writer } from '../../proto/protobuf.ts'
import { errorKinds, NineError } from '../errors.ts'
import type { CreateOptions, IfMatch, ReadOptions } from '../file-server.ts'
import { parsePath } from '../path.ts'
import type { Path } from '../path.ts'
import type { Position, StorePosition } from '../position.ts'
import { noPosition } from '../position.ts'
import { allRights } from '../rights.ts'
import type { Right, RightsEntry, RightsRecord } from '../rights.ts'
import { fileKinds } from '../stat.ts'
import type { Qid, Stat } from '../stat.ts'

/** Field 1 to 15 as a varint, as bytes, as eight bytes: the cases of the switches below. */
export const V = {
  f1: varintKey(1),
  f2: varintKey(2),
  f3: varintKey(3),
  f4: varintKey(4),
  f5: varintKey(5),
  f6: varintKey(6),
  f7: varintKey(7),
  f8: varintKey(8),
  f9: varintKey(9),
  f10: varintKey(10),
  f11: varintKey(11),
  f12: varintKey(12),
} as const
export const B = {
  f1: bytesKey(1),
  f2: bytesKey(2),
  f3: bytesKey(3),
  f4: bytesKey(4),
  f5: bytesKey(5),
  f6: bytesKey(6),
  f7: bytesKey(7),
  f8: bytesKey(8),
  f9: bytesKey(9),
  f10: bytesKey(10),
  f11: bytesKey(11),
  f13: bytesKey(13),
  f14: bytesKey(14),
  f15: bytesKey(15),
  f16: bytesKey(16),
} as const
export const F = {
  f2: fixedKey(2),
  f3: fixedKey(3),
  f4: fixedKey(4),
  f6: fixedKey(6),
  f7: fixedKey(7),
  f8: fixedKey(8),
  f9: fixedKey(9),
  f11: fixedKey(11),
  f12: fixedKey(12),
} as const

/** M1 @throws WireError always */
export function refuseField(key: number): never {
  throw new WireError(`field ${key >>> 3} is not one of this message, or of another type`)
}

export function readPath(reader: Reader, op: string): Path {
  return parsePath(reader.string(), op) // M2
}

/** Every element of a position as the repeated field `field`. */
export function writePosition(writer: Writer, field: number, position: Position): void {
  for (const element of position) {
    const begun = writer.begin(field)
    writer.string(1, element.store)
    writer.string(2, element.incarnation)
    writer.uint(3, element.revision)
    writer.uint(4, element.ordinal)
    writer.end(begun)
  }
}

/** One more element of the position read so far. */
export function readPositionElement(reader: Reader, before: Position): Position {
  const element = readStorePosition(reader)
  return before === noPosition ? [element] : [...before, element]
}

function readStorePosition(reader: Reader): StorePosition {
  let store = ''
  let incarnation = ''
  let revision = 0
  let ordinal = 0
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) store = reader.string()
    else if (key === B.f2) incarnation = reader.string()
    else if (key === V.f3) revision = reader.uint()
    else if (key === V.f4) ordinal = reader.uint()
    else reader.skip(key)
  }
  reader.leave(outer)
  return { store, incarnation, revision, ordinal }
}

/** A Position as a message of its own. */
export function writePositionMessage(writer: Writer, field: number, position: Position): void {
  const begun = writer.begin(field)
  writePosition(writer, 1, position)
  writer.end(begun)
}

export function readPositionMessage(reader: Reader): Position {
  let position = noPosition
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) position = readPositionElement(reader, position)
    else refuseField(key)
  }
  reader.leave(outer)
  return position
}

export function writeQid(writer: Writer, field: number, qid: Qid): void {
  const begun = writer.begin(field)
  writer.uint(1, qid.type)
  writer.uint(2, qid.path)
  writer.uint(3, qid.version)
  writer.end(begun)
}

export function readQid(reader: Reader): Qid {
  let type = 0
  let path = 0
  let version = 0
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === V.f1) type = reader.uint()
    else if (key === V.f2) path = reader.uint()
    else if (key === V.f3) version = reader.uint()
    else reader.skip(key)
  }
  reader.leave(outer)
  return { type, path, version }
}

const noQid: Qid = { type: 0, path: 0, version: 0 }

export function writeStat(writer: Writer, field: number, stat: Stat): void {
  const begun = writer.begin(field)
  writer.string(1, stat.name)
  writer.uint(2, fileKinds.indexOf(stat.kind))
  writeQid(writer, 3, stat.qid)
  writer.optionalUint(4, stat.size)
  writer.uint(5, stat.revision)
  writer.uint(6, stat.createdRevision)
  writer.uint(7, stat.mode)
  writer.string(8, stat.owner)
  writer.string(9, stat.group)
  writer.string(10, stat.modifiedBy)
  writer.fixed(11, stat.createdAt)
  writer.fixed(12, stat.modifiedAt)
  writer.optionalString(13, stat.contentType)
  writer.optionalString(14, stat.blob)
  writer.optionalString(15, stat.lease)
  writer.optionalString(16, stat.target)
  writer.end(begun)
}

export function readStat(reader: Reader): Stat {
  let name = ''
  let kind: Stat['kind'] = 'file'
  let qid = noQid
  let size: number | undefined
  let revision = 0
  let createdRevision = 0
  let mode = 0
  let owner = ''
  let group = ''
  let modifiedBy = ''
  let createdAt = 0
  let modifiedAt = 0
  let contentType: string | undefined
  let blob: string | undefined
  let lease: string | undefined
  let target: string | undefined
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    switch (key) {
      case B.f1:
        name = reader.string()
        break
      case V.f2:
        kind = fileKinds[reader.uint()] ?? 'file'
        break
      case B.f3:
        qid = readQid(reader)
        break
      case V.f4:
        size = reader.uint()
        break
      case V.f5:
        revision = reader.uint()
        break
      case V.f6:
        createdRevision = reader.uint()
        break
      case V.f7:
        mode = reader.uint()
        break
      case B.f8:
        owner = reader.string()
        break
      case B.f9:
        group = reader.string()
        break
      case B.f10:
        modifiedBy = reader.string()
        break
      case F.f11:
        createdAt = reader.fixed()
        break
      case F.f12:
        modifiedAt = reader.fixed()
        break
      case B.f13:
        contentType = reader.string()
        break
      case B.f14:
        blob = reader.string()
        break
      case B.f15:
        lease = reader.string()
        break
      case B.f16:
        target = reader.string()
        break
      default:
        reader.skip(key)
    }
  }
  reader.leave(outer)
  const version = qid.version
  return {
    name,
    kind,
    qid,
    size,
    version,
    revision,
    createdRevision,
    mode,
    owner,
    group,
    modifiedBy,
    createdAt,
    modifiedAt,
    contentType,
    blob,
    lease,
    target,
  }
}

/** What a message without its stat means: a peer that breaks the contract. */
export function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new WireError(`the message has no ${what}`)
  return value
}

const consistencies = ['linearizable', 'stale'] as const

/** Nothing at all for the default view. */
export function writeView(writer: Writer, field: number, view: ReadOptions | undefined): void {
  if (view === undefined || (view.consistency === undefined && view.minPosition === undefined && view.at === undefined)) return
  const begun = writer.begin(field)
  writer.uint(1, view.consistency === 'stale' ? 1 : 0)
  if (view.minPosition !== undefined) writePositionMessage(writer, 2, view.minPosition)
  if (typeof view.at === 'number') writer.optionalFixed(4, view.at)
  else if (view.at !== undefined) writePositionMessage(writer, 3, view.at)
  writer.end(begun)
}

export function readView(reader: Reader): ReadOptions {
  let consistency: ReadOptions['consistency']
  let minPosition: Position | undefined
  let at: Position | number | undefined
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === V.f1) consistency = required(consistencies[reader.uint()], 'known consistency')
    else if (key === B.f2) minPosition = readPositionMessage(reader)
    else if (key === B.f3) at = readPositionMessage(reader)
    else if (key === F.f4) at = reader.fixed()
    else refuseField(key)
  }
  reader.leave(outer)
  return { consistency, minPosition, at }
}

export function writeIfMatch(writer: Writer, field: number, ifMatch: IfMatch | undefined): void {
  if (ifMatch === undefined) return
  const begun = writer.begin(field)
  if (ifMatch === 'none') {
    writer.bool(1, true)
  } else {
    writer.uint(2, ifMatch.path)
    writer.uint(3, ifMatch.version)
  }
  writer.end(begun)
}

export function readIfMatch(reader: Reader): IfMatch {
  let isNone = false
  let path = 0
  let version = 0
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === V.f1) isNone = reader.bool()
    else if (key === V.f2) path = reader.uint()
    else if (key === V.f3) version = reader.uint()
    else refuseField(key)
  }
  reader.leave(outer)
  return isNone ? 'none' : { path, version }
}

export function writeCreateOptions(writer: Writer, field: number, options: CreateOptions | undefined): void {
  if (options === undefined) return
  const begun = writer.begin(field)
  writeIfMatch(writer, 1, options.ifMatch)
  writer.bool(2, options.parents)
  writer.optionalString(3, options.lease)
  writer.optionalUint(4, options.ttlMs)
  writer.optionalString(5, options.contentType)
  writer.optionalUint(6, options.mode)
  writer.optionalFixed(7, options.modifiedAt)
  writer.end(begun)
}

export function readCreateOptions(reader: Reader): CreateOptions {
  let ifMatch: IfMatch | undefined
  let parents: boolean | undefined
  let lease: string | undefined
  let ttlMs: number | undefined
  let contentType: string | undefined
  let mode: number | undefined
  let modifiedAt: number | undefined
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) ifMatch = readIfMatch(reader)
    else if (key === V.f2) parents = reader.bool()
    else if (key === B.f3) lease = reader.string()
    else if (key === V.f4) ttlMs = reader.uint()
    else if (key === B.f5) contentType = reader.string()
    else if (key === V.f6) mode = readMode(reader)
    else if (key === F.f7) modifiedAt = reader.fixed()
    else refuseField(key)
  }
  reader.leave(outer)
  return { ifMatch, parents, lease, ttlMs, contentType, mode, modifiedAt }
}

/** Permission bits. @throws WireError past 0o7777 */
export function readMode(reader: Reader): number {
  const mode = reader.uint()
  if (mode > 0o7777) throw new WireError(`mode 0o${mode.toString(8)} has more than permission bits`)
  return mode
}

export function rightsToBits(rights: readonly Right[]): number {
  let bits = 0
  for (const right of rights) bits |= 1 << allRights.indexOf(right)
  return bits
}

/** @throws WireError for bits that stand for no right */
export function rightsFromBits(bits: number): Right[] {
  if (bits >= 1 << allRights.length) throw new WireError('unknown rights')
  return allRights.filter((_, index) => (bits & (1 << index)) !== 0)
}

export function writeRights(writer: Writer, field: number, record: RightsRecord | undefined): void {
  if (record === undefined) return
  const begun = writer.begin(field)
  for (const entry of record) {
    const entryBegun = writer.begin(1)
    writer.string(1, entry.who)
    writer.uint(2, rightsToBits(entry.rights))
    writer.end(entryBegun)
  }
  writer.end(begun)
}

export function readRights(reader: Reader): RightsRecord {
  const record: RightsEntry[] = []
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) record.push(readRightsEntry(reader))
    else refuseField(key)
  }
  reader.leave(outer)
  return record
}

function readRightsEntry(reader: Reader): RightsEntry {
  let who = ''
  let rights: Right[] = []
  const outer = reader.enter()
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === B.f1) who = reader.string()
    else if (key === V.f2) rights = rightsFromBits(reader.uint())
    else refuseField(key)
  }
  reader.leave(outer)
  return { who, rights }
}

/** The fields of an Error message, without a message around them. */
export function writeError(writer: Writer, error: NineError): void {
  writer.uint(1, errorKinds.indexOf(error.kind))
  writer.string(2, error.op)
  writer.string(3, error.path)
  writer.string(4, error.message.slice(0, message_chars_max))
  writer.bool(5, error.retryable)
  writer.bool(6, error.outcome === 'unknown')
  writer.optionalString(7, error.resume)
}

const message_chars_max = 4096

export function readError(reader: Reader): NineError {
  let kind = errorKinds.indexOf('internal')
  let op = ''
  let path = ''
  let message = ''
  let retryable = false
  let isUnknown = false
  let resume: string | undefined
  // The first kind has number 0, which is not written.
  let hasKind = false
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === V.f1) {
      kind = reader.uint()
      hasKind = true
    } else if (key === B.f2) op = reader.string()
    else if (key === B.f3) path = reader.string()
    else if (key === B.f4) message = reader.string()
    else if (key === V.f5) retryable = reader.bool()
    else if (key === V.f6) isUnknown = reader.bool()
    else if (key === B.f7) resume = reader.string()
    else reader.skip(key)
  }
  const name = hasKind ? (errorKinds[kind] ?? 'internal') : errorKinds[0]!
  return new NineError({ kind: name, op, path, message, retryable, outcome: isUnknown ? 'unknown' : 'none', resume })
}
