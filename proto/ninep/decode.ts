/**
 * Messages of 9P2000 and 9P2000.L from bytes. Layouts: Plan 9 manual section 5 and diod's protocol.md, as messages.ts says.
 *
 * C1 Whatever the bytes are: a message, or a WireError. Never another exception, never a read past the end.
 * C2 A message is as long as it says and has nothing behind its last field. Two may have a field less or more: the attach and auth of
 *    9P2000 may carry the n_uname of 9P2000.u, and Tfsync may lack its datasync.
 */
import { WireError } from '../protobuf.ts'
import { dialectBit, FieldReader, spoken } from './fields.ts'
import {
  header_bytes,
  messageType,
  noUid,
  walk_names_max,
  type Answer,
  type Dialect,
  type Request,
  type Statfs,
  type WireAttributes,
  type WireLock,
  type WireQid,
  type WireStat,
} from './messages.ts'
import { readStat, type StatUse } from './records.ts'

/** A message of a type that the dialect does not have, or a request where an answer must stand, or the reverse. */
export class UnknownMessage extends WireError {
  readonly messageType: number

  constructor(number: number, dialect: Dialect) {
    super(`${dialect} has no such message here: type ${number}`)
    this.messageType = number
  }
}

/** Tag of a message. @throws WireError where it is shorter than its header */
export function tagOf(message: Buffer): number {
  if (message.length < header_bytes) throw new WireError('a 9P message is shorter than its header')
  return message[5]! | (message[6]! << 8)
}

// Used by one call at a time: nothing below waits.
const fields = new FieldReader()

/** @param message one whole message, size[4] included. @throws WireError (C1); UnknownMessage for a type that is no request of `dialect` */
export function decodeRequest(message: Buffer, dialect: Dialect): Request {
  const tag = begin(message, dialect)
  const request = readRequest(message[4]!, tag, dialect)
  finish()
  return request
}

/** @param message one whole message, size[4] included. @throws WireError (C1); UnknownMessage for a type that is no answer of `dialect` */
export function decodeAnswer(message: Buffer, dialect: Dialect): Answer {
  const tag = begin(message, dialect)
  const answer = readAnswer(message[4]!, tag, dialect)
  finish()
  return answer
}

/** @returns the tag */
function begin(message: Buffer, dialect: Dialect): number {
  const tag = tagOf(message)
  fields.reset(message, 0, message.length)
  if (fields.u32() !== message.length) throw new WireError('a 9P message is not as long as it says') // C2
  if ((spoken[message[4]!]! & dialectBit(dialect)) === 0) throw new UnknownMessage(message[4]!, dialect)
  fields.at = header_bytes
  return tag
}

function finish(): void {
  fields.done() // C2
  fields.release()
}

function readRequest(number: number, tag: number, dialect: Dialect): Request {
  switch (number) {
    case messageType.Tversion:
      return { tag, type: 'Tversion', msize: fields.u32(), version: fields.text() }
    case messageType.Tauth:
      return { tag, type: 'Tauth', afid: fields.u32(), uname: fields.text(), aname: fields.text(), nUname: readNumericUname(dialect) }
    case messageType.Tattach:
      return {
        tag,
        type: 'Tattach',
        fid: fields.u32(),
        afid: fields.u32(),
        uname: fields.text(),
        aname: fields.text(),
        nUname: readNumericUname(dialect),
      }
    case messageType.Tflush:
      return { tag, type: 'Tflush', oldTag: fields.u16() }
    case messageType.Twalk:
      return { tag, type: 'Twalk', fid: fields.u32(), newFid: fields.u32(), names: readNames() }
    case messageType.Tread:
      return { tag, type: 'Tread', fid: fields.u32(), offset: fields.u64(), count: fields.u32() }
    case messageType.Twrite:
      return { tag, type: 'Twrite', fid: fields.u32(), offset: fields.u64(), data: fields.data() }
    case messageType.Tclunk:
      return { tag, type: 'Tclunk', fid: fields.u32() }
    case messageType.Tremove:
      return { tag, type: 'Tremove', fid: fields.u32() }
    case messageType.Topen:
      return { tag, type: 'Topen', fid: fields.u32(), mode: fields.u8() }
    case messageType.Tcreate:
      return { tag, type: 'Tcreate', fid: fields.u32(), name: fields.text(), perm: fields.u32(), mode: fields.u8() }
    case messageType.Tstat:
      return { tag, type: 'Tstat', fid: fields.u32() }
    case messageType.Twstat:
      return { tag, type: 'Twstat', fid: fields.u32(), stat: readCountedStat('change') }
    case messageType.Tstatfs:
      return { tag, type: 'Tstatfs', fid: fields.u32() }
    case messageType.Tlopen:
      return { tag, type: 'Tlopen', fid: fields.u32(), flags: fields.u32() }
    case messageType.Tlcreate:
      return {
        tag,
        type: 'Tlcreate',
        fid: fields.u32(),
        name: fields.text(),
        flags: fields.u32(),
        mode: fields.u32(),
        gid: fields.u32(),
      }
    case messageType.Tsymlink:
      return { tag, type: 'Tsymlink', dirFid: fields.u32(), name: fields.text(), target: fields.text(), gid: fields.u32() }
    case messageType.Tmknod:
      return {
        tag,
        type: 'Tmknod',
        dirFid: fields.u32(),
        name: fields.text(),
        mode: fields.u32(),
        major: fields.u32(),
        minor: fields.u32(),
        gid: fields.u32(),
      }
    case messageType.Trename:
      return { tag, type: 'Trename', fid: fields.u32(), dirFid: fields.u32(), name: fields.text() }
    case messageType.Treadlink:
      return { tag, type: 'Treadlink', fid: fields.u32() }
    case messageType.Tgetattr:
      return { tag, type: 'Tgetattr', fid: fields.u32(), mask: fields.mask() }
    case messageType.Tsetattr:
      return {
        tag,
        type: 'Tsetattr',
        fid: fields.u32(),
        valid: fields.u32(),
        mode: fields.u32(),
        uid: fields.u32(),
        gid: fields.u32(),
        size: fields.u64(),
        atimeSec: fields.u64(),
        atimeNsec: fields.u64(),
        mtimeSec: fields.u64(),
        mtimeNsec: fields.u64(),
      }
    case messageType.Txattrwalk:
      return { tag, type: 'Txattrwalk', fid: fields.u32(), newFid: fields.u32(), name: fields.text() }
    case messageType.Txattrcreate:
      return { tag, type: 'Txattrcreate', fid: fields.u32(), name: fields.text(), size: fields.u64(), flags: fields.u32() }
    case messageType.Treaddir:
      return { tag, type: 'Treaddir', fid: fields.u32(), offset: fields.cookie(), count: fields.u32() }
    case messageType.Tfsync:
      return { tag, type: 'Tfsync', fid: fields.u32(), datasync: fields.left === 0 ? 0 : fields.u32() }
    case messageType.Tlock: {
      const fid = fields.u32()
      const type = fields.u8()
      const flags = fields.u32()
      return { tag, type: 'Tlock', fid, flags, lock: readLock(type) }
    }
    case messageType.Tgetlock:
      return { tag, type: 'Tgetlock', fid: fields.u32(), lock: readLock(fields.u8()) }
    case messageType.Tlink:
      return { tag, type: 'Tlink', dirFid: fields.u32(), fid: fields.u32(), name: fields.text() }
    case messageType.Tmkdir:
      return { tag, type: 'Tmkdir', dirFid: fields.u32(), name: fields.text(), mode: fields.u32(), gid: fields.u32() }
    case messageType.Trenameat:
      return {
        tag,
        type: 'Trenameat',
        oldDirFid: fields.u32(),
        oldName: fields.text(),
        newDirFid: fields.u32(),
        newName: fields.text(),
      }
    case messageType.Tunlinkat:
      return { tag, type: 'Tunlinkat', dirFid: fields.u32(), name: fields.text(), flags: fields.u32() }
    default:
      throw new UnknownMessage(number, dialect)
  }
}

function readAnswer(number: number, tag: number, dialect: Dialect): Answer {
  switch (number - 1) {
    case messageType.Tversion:
      return { tag, type: 'Rversion', msize: fields.u32(), version: fields.text() }
    case messageType.Tauth:
      return { tag, type: 'Rauth', qid: fields.qid() }
    case messageType.Terror:
      return { tag, type: 'Rerror', ename: fields.text() }
    case messageType.Tattach:
      return { tag, type: 'Rattach', qid: fields.qid() }
    case messageType.Tflush:
      return { tag, type: 'Rflush' }
    case messageType.Twalk:
      return { tag, type: 'Rwalk', qids: readQids() }
    case messageType.Tread:
      return { tag, type: 'Rread', data: fields.data() }
    case messageType.Twrite:
      return { tag, type: 'Rwrite', count: fields.u32() }
    case messageType.Tclunk:
      return { tag, type: 'Rclunk' }
    case messageType.Tremove:
      return { tag, type: 'Rremove' }
    case messageType.Topen:
      return { tag, type: 'Ropen', qid: fields.qid(), iounit: fields.u32() }
    case messageType.Tcreate:
      return { tag, type: 'Rcreate', qid: fields.qid(), iounit: fields.u32() }
    case messageType.Tstat:
      return { tag, type: 'Rstat', stat: readCountedStat('answer') }
    case messageType.Twstat:
      return { tag, type: 'Rwstat' }
    case messageType.Tlerror:
      return { tag, type: 'Rlerror', errno: fields.u32() }
    case messageType.Tstatfs:
      return { tag, type: 'Rstatfs', statfs: readStatfs() }
    case messageType.Tlopen:
      return { tag, type: 'Rlopen', qid: fields.qid(), iounit: fields.u32() }
    case messageType.Tlcreate:
      return { tag, type: 'Rlcreate', qid: fields.qid(), iounit: fields.u32() }
    case messageType.Tsymlink:
      return { tag, type: 'Rsymlink', qid: fields.qid() }
    case messageType.Tmknod:
      return { tag, type: 'Rmknod', qid: fields.qid() }
    case messageType.Trename:
      return { tag, type: 'Rrename' }
    case messageType.Treadlink:
      return { tag, type: 'Rreadlink', target: fields.text() }
    case messageType.Tgetattr:
      return { tag, type: 'Rgetattr', attributes: readAttributes() }
    case messageType.Tsetattr:
      return { tag, type: 'Rsetattr' }
    case messageType.Txattrwalk:
      return { tag, type: 'Rxattrwalk', size: fields.u64() }
    case messageType.Txattrcreate:
      return { tag, type: 'Rxattrcreate' }
    case messageType.Treaddir:
      return { tag, type: 'Rreaddir', data: fields.data() }
    case messageType.Tfsync:
      return { tag, type: 'Rfsync' }
    case messageType.Tlock:
      return { tag, type: 'Rlock', status: fields.u8() }
    case messageType.Tgetlock:
      return { tag, type: 'Rgetlock', lock: readLock(fields.u8()) }
    case messageType.Tlink:
      return { tag, type: 'Rlink' }
    case messageType.Tmkdir:
      return { tag, type: 'Rmkdir', qid: fields.qid() }
    case messageType.Trenameat:
      return { tag, type: 'Rrenameat' }
    case messageType.Tunlinkat:
      return { tag, type: 'Runlinkat' }
    default:
      throw new UnknownMessage(number, dialect)
  }
}

/** n_uname: of 9P2000.L, and of who speaks 9P2000.u to a server of 9P2000 (C2). */
function readNumericUname(dialect: Dialect): number {
  return dialect === '9P2000.L' || fields.left > 0 ? fields.u32() : noUid
}

function readNames(): string[] {
  const count = readCount()
  const names: string[] = []
  for (let index = 0; index < count; index++) names.push(fields.text())
  return names
}

function readQids(): WireQid[] {
  const count = readCount()
  const qids: WireQid[] = []
  for (let index = 0; index < count; index++) qids.push(fields.qid())
  return qids
}

function readCount(): number {
  const count = fields.u16()
  if (count > walk_names_max) throw new WireError(`a walk has ${count} names, 9P carries ${walk_names_max}`)
  return count
}

/** stat[n]: a count, then the stat with its own. */
function readCountedStat(use: StatUse): WireStat {
  if (fields.u16() !== fields.left) throw new WireError('a stat is not as long as its message says')
  return readStat(fields, use)
}

function readLock(type: number): WireLock {
  return { type, start: fields.u64(), length: fields.u64(), procId: fields.u32(), clientId: fields.text() }
}

function readStatfs(): Statfs {
  return {
    type: fields.u32(),
    bsize: fields.u32(),
    blocks: fields.u64(),
    bfree: fields.u64(),
    bavail: fields.u64(),
    files: fields.u64(),
    ffree: fields.u64(),
    fsid: fields.u64(),
    namelen: fields.u32(),
  }
}

function readAttributes(): WireAttributes {
  return {
    valid: fields.mask(),
    qid: fields.qid(),
    mode: fields.u32(),
    uid: fields.u32(),
    gid: fields.u32(),
    nlink: fields.u64(),
    rdev: fields.u64(),
    size: fields.u64(),
    blksize: fields.u64(),
    blocks: fields.u64(),
    atimeSec: fields.u64(),
    atimeNsec: fields.u64(),
    mtimeSec: fields.u64(),
    mtimeNsec: fields.u64(),
    ctimeSec: fields.u64(),
    ctimeNsec: fields.u64(),
    btimeSec: fields.u64(),
    btimeNsec: fields.u64(),
    gen: fields.u64(),
    dataVersion: fields.u64(),
  }
}
