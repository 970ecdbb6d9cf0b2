/**
 * The binary form of commands: a byte for the operation, a byte of flags, then the fields in a fixed order.
 *
 * C1 Numbers of a command are what a caller gave and may be anything, so they are written whole; apply judges them.
 * C2 Paths are Paths again when they come back.
 */
import type { IfMatch } from '../../namespace/file-server.ts'
import { parsePath, type Path } from '../../namespace/path.ts'
import type { BlobRef, Command, CreateFields, RestoreCommand, Target, TreeCommand, WriteContent } from '../model.ts'
import type { ByteReader } from './byte-reader.ts'
import type { ByteWriter } from './byte-writer.ts'
import { readRights, writeRights } from './rights-codec.ts'

type TxnCommand = Extract<Command, { op: 'txn' }>
type TxnStep = TxnCommand['then'][number]
/** An operation of a transaction that changes nothing. */
export type ReadStep = Exclude<TxnStep, TreeCommand>
type SetStatCommand = Extract<TreeCommand, { op: 'setStat' }>

const opCode = {
  write: 1,
  create: 2,
  mkdir: 3,
  symlink: 4,
  remove: 5,
  rename: 6,
  setStat: 7,
  setRights: 8,
  txn: 9,
  grantLease: 10,
  endLease: 11,
  stat: 12,
  read: 13,
  restore: 14,
  /** Of a file by its number since a restore: where that stands in the log, then the command. */
  since: 15,
} as const

/** Flags of every command with a target. */
const inoFlag = 1
const ifMatchFlag = 2
const ifNoneFlag = 4
/** Flags of commands that make a file. */
const parentsFlag = 8
const leaseFlag = 16
const ttlFlag = 32
const contentTypeFlag = 64
const timesFlag = 128

export function writeCommand(out: ByteWriter, command: Command): void {
  switch (command.op) {
    case 'txn':
      out.byte(opCode.txn)
      writeTxn(out, command)
      return
    case 'grantLease':
      out.byte(opCode.grantLease)
      out.text(command.lease)
      out.number(command.ttlMs)
      return
    case 'endLease':
      out.byte(opCode.endLease)
      out.text(command.lease)
      out.byte(command.expired ? 1 : 0)
      return
    case 'restore':
      writeRestore(out, command)
      return
    default:
      writeTreeCommand(out, command)
  }
}

/** @throws NineError `corrupt` */
export function readCommand(reader: ByteReader): Command {
  const code = reader.byte()
  switch (code) {
    case opCode.txn:
      return readTxn(reader)
    case opCode.grantLease:
      return { op: 'grantLease', lease: reader.text(), ttlMs: reader.number() }
    case opCode.endLease:
      return { op: 'endLease', lease: reader.text(), expired: reader.byte() === 1 }
    case opCode.restore:
      return readRestore(reader)
    default:
      return readTreeCommand(reader, code)
  }
}

function writeRestore(out: ByteWriter, { id, incarnation, endsHandles, backup }: RestoreCommand): void {
  out.byte(opCode.restore)
  out.text(id)
  out.text(incarnation)
  out.byte(backup === undefined ? 0 : (backup.kind === 'inline' ? 1 : 2) + (endsHandles === true ? 2 : 0))
  if (backup?.kind === 'inline') out.bytes(backup.bytes)
  else if (backup !== undefined) writeBlob(out, backup.blob)
}

function readRestore(reader: ByteReader): RestoreCommand {
  const [id, incarnation, code] = [reader.text(), reader.text(), reader.byte()]
  if (code === 0) return { op: 'restore', id, incarnation, backup: undefined }
  if (code > 4) throw reader.corrupt(`backup ${code} is not known`)
  const isInline = code % 2 === 1
  const backup = isInline
    ? { kind: 'inline' as const, bytes: new Uint8Array(reader.bytes()) }
    : { kind: 'blob' as const, blob: readBlob(reader) }
  return code > 2 ? { op: 'restore', id, incarnation, endsHandles: true, backup } : { op: 'restore', id, incarnation, backup }
}

function writeTreeCommand(out: ByteWriter, command: TreeCommand): void {
  const { restoredAt } = command.target
  if (restoredAt !== undefined) {
    out.byte(opCode.since)
    out.number(restoredAt)
  }
  out.byte(opCode[command.op])
  switch (command.op) {
    case 'write':
      writeCreateFields(out, command.target, command)
      out.byte(command.mustExist === true ? 1 : 0)
      writeContent(out, command.content)
      return
    case 'create':
    case 'mkdir':
      writeCreateFields(out, command.target, command)
      return
    case 'symlink':
      writeCreateFields(out, command.target, command)
      out.text(command.link)
      return
    case 'remove':
      writeTarget(out, command.target, command.ifMatch, 0)
      out.byte(command.recursive === true ? 1 : 0)
      return
    case 'rename':
      writeTarget(out, command.target, command.ifMatch, 0)
      out.byte((command.replace === true ? 1 : 0) | (command.parents === true ? 2 : 0))
      out.text(command.to)
      return
    case 'setStat':
      writeTarget(out, command.target, command.ifMatch, 0)
      writeChanges(out, command)
      return
    case 'setRights':
      writeTarget(out, command.target, command.ifMatch, 0)
      writeRights(out, command.rights)
  }
}

function readTreeCommand(reader: ByteReader, code: number): TreeCommand {
  switch (code) {
    case opCode.write: {
      // Field by field: a spread takes several times as long.
      const { target, ifMatch, parents, lease, ttl, contentType, mode, modifiedAt } = readCreateFields(reader)
      const mustExist = reader.byte() === 1
      const content = readContent(reader)
      return { op: 'write', target, content, mustExist, ifMatch, parents, lease, ttl, contentType, mode, modifiedAt }
    }
    case opCode.create:
      return { op: 'create', ...readCreateFields(reader) }
    case opCode.mkdir:
      return { op: 'mkdir', ...readCreateFields(reader) }
    case opCode.symlink: {
      const fields = readCreateFields(reader)
      return { op: 'symlink', link: reader.text(), ...fields }
    }
    case opCode.remove: {
      const { target, ifMatch } = readTarget(reader, reader.byte())
      return { op: 'remove', target, ifMatch, recursive: reader.byte() === 1 }
    }
    case opCode.rename: {
      const { target, ifMatch } = readTarget(reader, reader.byte())
      const flags = reader.byte()
      return { op: 'rename', target, ifMatch, replace: (flags & 1) !== 0, parents: (flags & 2) !== 0, to: readPath(reader) }
    }
    case opCode.setStat:
      return readSetStat(reader)
    case opCode.since: {
      const restoredAt = reader.number()
      const command = readTreeCommand(reader, reader.byte())
      return { ...command, target: { ...command.target, restoredAt } }
    }
    case opCode.setRights: {
      const { target, ifMatch } = readTarget(reader, reader.byte())
      return { op: 'setRights', target, ifMatch, rights: readRights(reader) }
    }
    default:
      throw reader.corrupt(`operation ${code} is not known`)
  }
}

function writeTarget(out: ByteWriter, target: Target, ifMatch: IfMatch | undefined, flags: number): void {
  out.byte(flags | (target.ino === undefined ? 0 : inoFlag) | (ifMatch === undefined ? 0 : ifMatch === 'none' ? ifNoneFlag : ifMatchFlag))
  out.text(target.path)
  if (target.ino !== undefined) out.number(target.ino)
  if (ifMatch !== undefined && ifMatch !== 'none') {
    out.number(ifMatch.path)
    out.number(ifMatch.version)
  }
}

function readTarget(reader: ByteReader, flags: number): { readonly target: Target; readonly ifMatch: IfMatch | undefined } {
  const path = readPath(reader)
  const target = (flags & inoFlag) === 0 ? { path } : { path, ino: reader.number() }
  if ((flags & ifNoneFlag) !== 0) return { target, ifMatch: 'none' }
  if ((flags & ifMatchFlag) === 0) return { target, ifMatch: undefined }
  return { target, ifMatch: { path: reader.number(), version: reader.number() } }
}

function writeCreateFields(out: ByteWriter, target: Target, fields: CreateFields): void {
  const { parents, lease, ttl, contentType, mode, modifiedAt } = fields
  const hasTimes = mode !== undefined || modifiedAt !== undefined
  const flags =
    (parents === true ? parentsFlag : 0) |
    (lease === undefined ? 0 : leaseFlag) |
    (ttl === undefined ? 0 : ttlFlag) |
    (contentType === undefined ? 0 : contentTypeFlag) |
    (hasTimes ? timesFlag : 0)
  writeTarget(out, target, fields.ifMatch, flags)
  if (lease !== undefined) out.text(lease)
  if (ttl !== undefined) {
    out.text(ttl.lease)
    out.number(ttl.ttlMs)
  }
  if (contentType !== undefined) out.text(contentType)
  if (hasTimes) {
    writeOptional(out, mode)
    writeOptional(out, modifiedAt)
  }
}

function readCreateFields(reader: ByteReader): CreateFields & { readonly target: Target } {
  const flags = reader.byte()
  const { target, ifMatch } = readTarget(reader, flags)
  const lease = (flags & leaseFlag) === 0 ? undefined : reader.text()
  const ttl = (flags & ttlFlag) === 0 ? undefined : { lease: reader.text(), ttlMs: reader.number() }
  const contentType = (flags & contentTypeFlag) === 0 ? undefined : reader.text()
  const mode = (flags & timesFlag) === 0 ? undefined : readOptional(reader)
  const modifiedAt = (flags & timesFlag) === 0 ? undefined : readOptional(reader)
  return { target, ifMatch, parents: (flags & parentsFlag) !== 0, lease, ttl, contentType, mode, modifiedAt }
}

const contentCode = { replace: 1, append: 2, splice: 3, blob: 4 } as const

function writeContent(out: ByteWriter, content: WriteContent): void {
  out.byte(contentCode[content.kind])
  if (content.kind === 'blob') {
    writeBlob(out, content.blob)
    writeIfMatch(out, content.base)
    return
  }
  if (content.kind === 'splice') out.number(content.offset)
  else if (content.kind === 'replace') writeIfMatch(out, content.base)
  out.bytes(content.bytes)
}

function readContent(reader: ByteReader): WriteContent {
  const code = reader.byte()
  switch (code) {
    case contentCode.replace: {
      const base = readIfMatch(reader)
      return { kind: 'replace', bytes: reader.bytes(), base }
    }
    case contentCode.append:
      return { kind: 'append', bytes: reader.bytes() }
    case contentCode.splice:
      return { kind: 'splice', offset: reader.number(), bytes: reader.bytes() }
    case contentCode.blob:
      return { kind: 'blob', blob: readBlob(reader), base: readIfMatch(reader) }
    default:
      throw reader.corrupt(`content ${code} is not known`)
  }
}

export function writeBlob(out: ByteWriter, blob: BlobRef): void {
  out.bytes(blob.root)
  out.number(blob.depth)
  out.number(blob.size)
}

/** The root is a copy: references are kept, the entry's bytes are not. */
export function readBlob(reader: ByteReader): BlobRef {
  return { root: new Uint8Array(reader.bytes()), depth: reader.number(), size: reader.number() }
}

function writeIfMatch(out: ByteWriter, ifMatch: IfMatch | undefined): void {
  if (ifMatch === undefined || ifMatch === 'none') {
    out.byte(ifMatch === undefined ? 0 : 1)
    return
  }
  out.byte(2)
  out.number(ifMatch.path)
  out.number(ifMatch.version)
}

function readIfMatch(reader: ByteReader): IfMatch | undefined {
  switch (reader.byte()) {
    case 0:
      return undefined
    case 1:
      return 'none'
    case 2:
      return { path: reader.number(), version: reader.number() }
    default:
      throw reader.corrupt('a condition is not known')
  }
}

const statFields = ['mode', 'modifiedAt', 'size'] as const
const statTexts = ['owner', 'group', 'contentType'] as const

function writeChanges(out: ByteWriter, command: SetStatCommand): void {
  for (const field of statFields) writeOptional(out, command[field])
  for (const field of statTexts) {
    const text = command[field]
    out.byte(text === undefined ? 0 : 1)
    if (text !== undefined) out.text(text)
  }
}

function readSetStat(reader: ByteReader): SetStatCommand {
  const { target, ifMatch } = readTarget(reader, reader.byte())
  const [mode, modifiedAt, size] = [readOptional(reader), readOptional(reader), readOptional(reader)]
  const [owner, group, contentType] = [readOptionalText(reader), readOptionalText(reader), readOptionalText(reader)]
  return { op: 'setStat', target, ifMatch, mode, modifiedAt, size, owner, group, contentType }
}

function writeOptional(out: ByteWriter, value: number | undefined): void {
  out.byte(value === undefined ? 0 : 1)
  if (value !== undefined) out.number(value)
}

function readOptional(reader: ByteReader): number | undefined {
  return reader.byte() === 0 ? undefined : reader.number()
}

function readOptionalText(reader: ByteReader): string | undefined {
  return reader.byte() === 0 ? undefined : reader.text()
}

function writeTxn(out: ByteWriter, command: TxnCommand): void {
  out.count(command.if.length)
  for (const { path, is } of command.if) {
    out.text(path)
    if (is === 'exists') out.byte(3)
    else writeIfMatch(out, is)
  }
  writeSteps(out, command.then)
  writeSteps(out, command.else)
}

function readTxn(reader: ByteReader): TxnCommand {
  const conditions: TxnCommand['if'][number][] = []
  for (let left = reader.countOfItems(); left > 0; left--) conditions.push(readCondition(reader))
  return { op: 'txn', if: conditions, then: readSteps(reader), else: readSteps(reader) }
}

function readCondition(reader: ByteReader): TxnCommand['if'][number] {
  const path = readPath(reader)
  switch (reader.byte()) {
    case 1:
      return { path, is: 'none' }
    case 2:
      return { path, is: { path: reader.number(), version: reader.number() } }
    case 3:
      return { path, is: 'exists' }
    default:
      throw reader.corrupt('a condition is not known')
  }
}

function writeSteps(out: ByteWriter, steps: readonly TxnStep[]): void {
  out.count(steps.length)
  for (const step of steps) {
    if (isRead(step)) {
      out.byte(opCode[step.op])
      out.text(step.path)
    } else {
      writeTreeCommand(out, step)
    }
  }
}

export function isRead(step: TxnStep): step is ReadStep {
  return step.op === 'stat' || step.op === 'read'
}

function readSteps(reader: ByteReader): TxnStep[] {
  const steps: TxnStep[] = []
  for (let left = reader.countOfItems(); left > 0; left--) {
    const code = reader.byte()
    if (code === opCode.stat || code === opCode.read) steps.push({ op: code === opCode.stat ? 'stat' : 'read', path: readPath(reader) })
    else steps.push(readTreeCommand(reader, code))
  }
  return steps
}

/** C2 */
function readPath(reader: ByteReader): Path {
  const text = reader.text()
  try {
    const path = parsePath(text)
    if (path === text) return path
  } catch {
    // Answered below.
  }
  throw reader.corrupt('a path is malformed')
}
