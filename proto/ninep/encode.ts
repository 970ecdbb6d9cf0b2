/**
 * Messages of 9P2000 and 9P2000.L to bytes. Layouts: Plan 9 manual section 5 and diod's protocol.md, as messages.ts says.
 *
 * E1 A message is written whole or, where one of its values cannot be carried, not at all.
 * E2 Bytes that were handed out by take() are not touched again.
 * E3 A writer that has nothing to write holds no buffer.
 */
import { WireError } from '../protobuf.ts'
import { giveBackSlab, slab_bytes, takeSlab } from '../slabs.ts'
import { dialectBit, putCookie, putQid, putText, putUint16, putUint32, putUint64, putUint8, spoken, textRoom } from './fields.ts'
import {
  header_bytes,
  messageType,
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
import { encodedStatBytes, putStat } from './records.ts'

/** Data at least this long is sent from where it is instead of being copied. */
const external_bytes_min = 8 * 1024
/** More than the header and all fields of fixed length of any message: after start() and after each text that many bytes are there. */
const fixed_bytes_max = 256
const noBytes = Buffer.alloc(0)

/** Writes messages one behind the other; take() gives what was written. */
export class MessageWriter {
  /** What Tversion agreed on; may be set between messages. */
  dialect: Dialect
  #buffer: Buffer = noBytes
  #at = 0
  /** End of the last whole message: what stands behind it does not count. */
  #whole = 0
  /** Start of what has not been moved to #parts. */
  #taken = 0
  #parts: Buffer[] = []
  #partsBytes = 0

  constructor(dialect: Dialect) {
    this.dialect = dialect
  }

  /** Bytes written and not taken. */
  get length(): number {
    return this.#partsBytes + this.#whole - this.#taken
  }

  /**
   * Write a message. Long data of Twrite, Rread and Rreaddir is not copied: it must not change until it is sent.
   *
   * @throws WireError for a message that the dialect does not have, and for values that it cannot carry: nothing was written (E1)
   */
  write(message: Request | Answer): void {
    if (isRequest(message)) this.#request(message)
    else this.#answer(message)
  }

  /** Everything written so far, in order. */
  take(): Buffer[] {
    this.#moveToParts()
    const parts = this.#parts
    this.#parts = []
    this.#partsBytes = 0
    giveBackSlab(this.#buffer, this.#whole)
    this.#buffer = noBytes
    this.#at = this.#whole = this.#taken = 0
    return parts
  }

  #request(message: Request): void {
    const { tag } = message
    switch (message.type) {
      case 'Tversion':
        this.#start(messageType.Tversion, tag)
        this.#u32(message.msize)
        this.#text(message.version)
        break
      case 'Tauth':
        this.#start(messageType.Tauth, tag)
        this.#u32(message.afid)
        this.#text(message.uname)
        this.#text(message.aname)
        if (this.dialect === '9P2000.L') this.#u32(message.nUname)
        break
      case 'Tattach':
        this.#start(messageType.Tattach, tag)
        this.#u32(message.fid)
        this.#u32(message.afid)
        this.#text(message.uname)
        this.#text(message.aname)
        if (this.dialect === '9P2000.L') this.#u32(message.nUname)
        break
      case 'Tflush':
        this.#start(messageType.Tflush, tag)
        this.#at = putUint16(this.#buffer, this.#at, message.oldTag)
        break
      case 'Twalk':
        this.#start(messageType.Twalk, tag)
        this.#u32(message.fid)
        this.#u32(message.newFid)
        this.#count(message.names.length)
        for (const name of message.names) this.#text(name)
        break
      case 'Tread':
        this.#start(messageType.Tread, tag)
        this.#u32(message.fid)
        this.#u64(message.offset)
        this.#u32(message.count)
        break
      case 'Twrite':
        this.#start(messageType.Twrite, tag)
        this.#u32(message.fid)
        this.#u64(message.offset)
        return this.#endWith(message.data)
      case 'Tclunk':
      case 'Tremove':
      case 'Tstat':
      case 'Tstatfs':
      case 'Treadlink':
        this.#start(messageType[message.type], tag)
        this.#u32(message.fid)
        break
      case 'Topen':
        this.#start(messageType.Topen, tag)
        this.#u32(message.fid)
        this.#u8(message.mode)
        break
      case 'Tcreate':
        this.#start(messageType.Tcreate, tag)
        this.#u32(message.fid)
        this.#text(message.name)
        this.#u32(message.perm)
        this.#u8(message.mode)
        break
      case 'Twstat':
        this.#start(messageType.Twstat, tag)
        this.#u32(message.fid)
        this.#stat(message.stat)
        break
      case 'Tlopen':
        this.#start(messageType.Tlopen, tag)
        this.#u32(message.fid)
        this.#u32(message.flags)
        break
      case 'Tlcreate':
        this.#start(messageType.Tlcreate, tag)
        this.#u32(message.fid)
        this.#text(message.name)
        this.#u32(message.flags)
        this.#u32(message.mode)
        this.#u32(message.gid)
        break
      case 'Tsymlink':
        this.#start(messageType.Tsymlink, tag)
        this.#u32(message.dirFid)
        this.#text(message.name)
        this.#text(message.target)
        this.#u32(message.gid)
        break
      case 'Tmknod':
        this.#start(messageType.Tmknod, tag)
        this.#u32(message.dirFid)
        this.#text(message.name)
        this.#u32(message.mode)
        this.#u32(message.major)
        this.#u32(message.minor)
        this.#u32(message.gid)
        break
      case 'Trename':
        this.#start(messageType.Trename, tag)
        this.#u32(message.fid)
        this.#u32(message.dirFid)
        this.#text(message.name)
        break
      case 'Tgetattr':
        this.#start(messageType.Tgetattr, tag)
        this.#u32(message.fid)
        this.#u64(message.mask)
        break
      case 'Tsetattr':
        this.#start(messageType.Tsetattr, tag)
        this.#u32(message.fid)
        this.#u32(message.valid)
        this.#u32(message.mode)
        this.#u32(message.uid)
        this.#u32(message.gid)
        this.#u64(message.size)
        this.#u64(message.atimeSec)
        this.#u64(message.atimeNsec)
        this.#u64(message.mtimeSec)
        this.#u64(message.mtimeNsec)
        break
      case 'Txattrwalk':
        this.#start(messageType.Txattrwalk, tag)
        this.#u32(message.fid)
        this.#u32(message.newFid)
        this.#text(message.name)
        break
      case 'Txattrcreate':
        this.#start(messageType.Txattrcreate, tag)
        this.#u32(message.fid)
        this.#text(message.name)
        this.#u64(message.size)
        this.#u32(message.flags)
        break
      case 'Treaddir':
        this.#start(messageType.Treaddir, tag)
        this.#u32(message.fid)
        this.#at = putCookie(this.#buffer, this.#at, message.offset)
        this.#u32(message.count)
        break
      case 'Tfsync':
        this.#start(messageType.Tfsync, tag)
        this.#u32(message.fid)
        this.#u32(message.datasync)
        break
      case 'Tlock':
        this.#start(messageType.Tlock, tag)
        this.#u32(message.fid)
        this.#u8(message.lock.type)
        this.#u32(message.flags)
        this.#lock(message.lock)
        break
      case 'Tgetlock':
        this.#start(messageType.Tgetlock, tag)
        this.#u32(message.fid)
        this.#u8(message.lock.type)
        this.#lock(message.lock)
        break
      case 'Tlink':
        this.#start(messageType.Tlink, tag)
        this.#u32(message.dirFid)
        this.#u32(message.fid)
        this.#text(message.name)
        break
      case 'Tmkdir':
        this.#start(messageType.Tmkdir, tag)
        this.#u32(message.dirFid)
        this.#text(message.name)
        this.#u32(message.mode)
        this.#u32(message.gid)
        break
      case 'Trenameat':
        this.#start(messageType.Trenameat, tag)
        this.#u32(message.oldDirFid)
        this.#text(message.oldName)
        this.#u32(message.newDirFid)
        this.#text(message.newName)
        break
      case 'Tunlinkat':
        this.#start(messageType.Tunlinkat, tag)
        this.#u32(message.dirFid)
        this.#text(message.name)
        this.#u32(message.flags)
        break
    }
    this.#end()
  }

  #answer(message: Answer): void {
    this.#start(answerNumber[message.type], message.tag)
    switch (message.type) {
      case 'Rread':
      case 'Rreaddir':
        return this.#endWith(message.data)
      case 'Rversion':
        this.#u32(message.msize)
        this.#text(message.version)
        break
      case 'Rwalk':
        this.#count(message.qids.length)
        for (const qid of message.qids) this.#qid(qid)
        break
      case 'Rwrite':
        this.#u32(message.count)
        break
      case 'Rgetattr':
        this.#attributes(message.attributes)
        break
      case 'Rlerror':
        this.#u32(message.errno)
        break
      case 'Rerror':
        this.#text(message.ename)
        break
      case 'Rauth':
      case 'Rattach':
      case 'Rsymlink':
      case 'Rmknod':
      case 'Rmkdir':
        this.#qid(message.qid)
        break
      case 'Ropen':
      case 'Rcreate':
      case 'Rlopen':
      case 'Rlcreate':
        this.#qid(message.qid)
        this.#u32(message.iounit)
        break
      case 'Rstat':
        this.#stat(message.stat)
        break
      case 'Rstatfs':
        this.#statfs(message.statfs)
        break
      case 'Rreadlink':
        this.#text(message.target)
        break
      case 'Rxattrwalk':
        this.#u64(message.size)
        break
      case 'Rlock':
        this.#u8(message.status)
        break
      case 'Rgetlock':
        this.#u8(message.lock.type)
        this.#lock(message.lock)
        break
      default: // the answer says only that it was done
    }
    this.#end()
  }

  #attributes(of: WireAttributes): void {
    this.#u64(of.valid)
    this.#qid(of.qid)
    this.#u32(of.mode)
    this.#u32(of.uid)
    this.#u32(of.gid)
    this.#u64(of.nlink)
    this.#u64(of.rdev)
    this.#u64(of.size)
    this.#u64(of.blksize)
    this.#u64(of.blocks)
    this.#u64(of.atimeSec)
    this.#u64(of.atimeNsec)
    this.#u64(of.mtimeSec)
    this.#u64(of.mtimeNsec)
    this.#u64(of.ctimeSec)
    this.#u64(of.ctimeNsec)
    this.#u64(of.btimeSec)
    this.#u64(of.btimeNsec)
    this.#u64(of.gen)
    this.#u64(of.dataVersion)
  }

  #statfs(of: Statfs): void {
    this.#u32(of.type)
    this.#u32(of.bsize)
    this.#u64(of.blocks)
    this.#u64(of.bfree)
    this.#u64(of.bavail)
    this.#u64(of.files)
    this.#u64(of.ffree)
    this.#u64(of.fsid)
    this.#u32(of.namelen)
  }

  /** A lock but for its type, which Tlock has before its flags. */
  #lock(lock: WireLock): void {
    this.#u64(lock.start)
    this.#u64(lock.length)
    this.#u32(lock.procId)
    this.#text(lock.clientId)
  }

  /** stat[n]: a count, then the stat with its own. */
  #stat(stat: WireStat): void {
    const bytes = encodedStatBytes(stat)
    this.#ensure(2 + bytes)
    this.#at = putStat(this.#buffer, putUint16(this.#buffer, this.#at, bytes), stat, bytes)
  }

  #count(count: number): void {
    if (count > walk_names_max) throw new WireError(`a walk has ${count} names, 9P carries ${walk_names_max}`)
    this.#at = putUint16(this.#buffer, this.#at, count)
  }

  #u8(value: number): void {
    this.#at = putUint8(this.#buffer, this.#at, value)
  }

  #u32(value: number): void {
    this.#at = putUint32(this.#buffer, this.#at, value)
  }

  #u64(value: number): void {
    this.#at = putUint64(this.#buffer, this.#at, value)
  }

  #qid(qid: WireQid): void {
    this.#at = putQid(this.#buffer, this.#at, qid)
  }

  #text(text: string): void {
    this.#ensure(textRoom(text) + fixed_bytes_max)
    this.#at = putText(this.#buffer, this.#at, text)
  }

  /** Start a message behind the last whole one; what a message that failed left there is written over (E1). */
  #start(number: number, tag: number): void {
    if ((spoken[number]! & dialectBit(this.dialect)) === 0) throw new WireError(`${this.dialect} has no message of type ${number}`)
    this.#at = this.#whole
    this.#ensure(fixed_bytes_max)
    const at = this.#at
    this.#buffer[at + 4] = number
    putUint16(this.#buffer, at + 5, tag)
    this.#at = at + header_bytes
  }

  #end(): void {
    putUint32(this.#buffer, this.#whole, this.#at - this.#whole)
    this.#whole = this.#at
  }

  /** End the message with count[4] and `data`. */
  #endWith(data: Uint8Array): void {
    this.#u32(data.length)
    if (data.length < external_bytes_min) {
      this.#ensure(data.length)
      this.#buffer.set(data, this.#at)
      this.#at += data.length
      return this.#end()
    }
    putUint32(this.#buffer, this.#whole, this.#at - this.#whole + data.length)
    this.#whole = this.#at
    this.#moveToParts()
    this.#addPart(Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength))
  }

  #ensure(bytes: number): void {
    if (this.#at + bytes > this.#buffer.length) this.#grow(bytes)
  }

  /** Go on in another buffer, taking the unfinished message along. */
  #grow(bytes: number): void {
    const start = this.#whole
    const begun = this.#at - start
    this.#moveToParts()
    const needed = begun + bytes
    const { buffer, at } = takeSlab(needed, Math.max(slab_bytes, needed * 2))
    this.#buffer.copy(buffer, at, start, start + begun)
    this.#buffer = buffer
    this.#whole = this.#taken = at
    this.#at = at + begun
  }

  #moveToParts(): void {
    if (this.#whole > this.#taken) this.#addPart(this.#buffer.subarray(this.#taken, this.#whole))
    this.#taken = this.#whole
  }

  #addPart(part: Buffer): void {
    this.#parts.push(part)
    this.#partsBytes += part.length
  }
}

function isRequest(message: Request | Answer): message is Request {
  return message.type.charCodeAt(0) === 0x54 // T
}

const answerNumber = answerNumbers()

function answerNumbers(): Record<Answer['type'], number> {
  const rows = Object.entries(messageType).map(([name, number]) => [`R${name.slice(1)}`, number + 1])
  return Object.fromEntries(rows) as Record<Answer['type'], number>
}
