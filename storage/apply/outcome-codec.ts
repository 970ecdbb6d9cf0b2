/** The binary form of outcomes, in which results of clients outlive a restart. */
import { errorKinds } from '../../namespace/errors.ts'
import { noContent, type Content, type NodeRecord, type Outcome, type StoredMutation, type StoredTxn } from '../model.ts'
import type { ByteReader } from './byte-reader.ts'
import type { ByteWriter } from './byte-writer.ts'
import { readBlob, writeBlob } from './command-codec.ts'
import { readRights, writeRights } from './rights-codec.ts'

const outcomeCode = { mutation: 1, txn: 2, lease: 3, error: 4, needs_chunks: 5 } as const
const nodeKinds: readonly NodeRecord['kind'][] = ['file', 'directory', 'symlink']
const contentKinds: readonly Content['kind'][] = ['none', 'inline', 'blob']
const stepOps: readonly StoredTxn['results'][number]['op'][] = ['mutation', 'stat', 'read']

export function writeOutcome(out: ByteWriter, outcome: Outcome): void {
  out.byte(outcomeCode[outcome.kind])
  switch (outcome.kind) {
    case 'mutation':
      writeMutation(out, outcome.result)
      return
    case 'txn':
      writeTxn(out, outcome.result)
      return
    case 'lease':
      out.text(outcome.lease)
      out.count(outcome.ttlMs)
      return
    case 'error': {
      const { kind, op, path, message, retryable, outcome: happened } = outcome.error
      out.byte(errorKinds.indexOf(kind))
      out.text(op)
      out.text(path ?? '')
      out.text(message)
      out.byte((retryable === true ? 1 : 0) | (happened === 'unknown' ? 2 : 0))
      return
    }
    case 'needs_chunks':
  }
}

/** @throws NineError `corrupt` */
export function readOutcome(reader: ByteReader): Outcome {
  const code = reader.byte()
  switch (code) {
    case outcomeCode.mutation:
      return { kind: 'mutation', result: readMutation(reader) }
    case outcomeCode.txn:
      return { kind: 'txn', result: readTxn(reader) }
    case outcomeCode.lease:
      return { kind: 'lease', lease: reader.text(), ttlMs: reader.count() }
    case outcomeCode.error: {
      const kind = errorKinds[reader.byte()]
      if (kind === undefined) throw reader.corrupt('an error is of no known kind')
      const [op, path, message, flags] = [reader.text(), reader.text(), reader.text(), reader.byte()]
      const error = { kind, op, path, message, retryable: (flags & 1) !== 0, outcome: (flags & 2) === 0 ? 'none' : 'unknown' } as const
      return { kind: 'error', error }
    }
    case outcomeCode.needs_chunks:
      return { kind: 'needs_chunks' }
    default:
      throw reader.corrupt(`outcome ${code} is not known`)
  }
}

function writeMutation(out: ByteWriter, { qid, revision, created, size }: StoredMutation): void {
  out.byte(qid.type)
  out.count(qid.path)
  out.count(qid.version)
  out.count(revision)
  out.byte(created ? 1 : 0)
  out.count(size)
}

function readMutation(reader: ByteReader): StoredMutation {
  const qid = { type: reader.byte(), path: reader.count(), version: reader.count() }
  return { qid, revision: reader.count(), created: reader.byte() === 1, size: reader.count() }
}

function writeTxn(out: ByteWriter, { branch, results, revision }: StoredTxn): void {
  out.byte(branch === 'then' ? 0 : 1)
  out.count(revision)
  out.count(results.length)
  for (const result of results) {
    out.byte(stepOps.indexOf(result.op))
    if (result.op === 'mutation') writeMutation(out, result.result)
    else writeNode(out, result.node)
  }
}

function readTxn(reader: ByteReader): StoredTxn {
  const branch = reader.byte() === 0 ? 'then' : 'else'
  const revision = reader.count()
  const results: StoredTxn['results'][number][] = []
  for (let left = reader.countOfItems(); left > 0; left--) {
    const op = stepOps[reader.byte()]
    if (op === undefined) throw reader.corrupt('a result is of no known kind')
    if (op === 'mutation') results.push({ op, result: readMutation(reader) })
    else results.push({ op, node: readNode(reader) })
  }
  return { branch, results, revision }
}

function writeNode(out: ByteWriter, node: NodeRecord): void {
  out.count(node.ino)
  out.count(node.since)
  out.byte(nodeKinds.indexOf(node.kind))
  out.count(node.parent)
  out.text(node.name)
  out.count(node.version)
  out.count(node.revision)
  out.count(node.createdRevision)
  out.count(node.mode)
  out.text(node.owner)
  out.text(node.group)
  out.text(node.modifiedBy)
  out.number(node.createdAt)
  out.number(node.modifiedAt)
  writeOptionalText(out, node.contentType)
  writeOptionalText(out, node.lease)
  writeRights(out, node.rights)
  out.byte(contentKinds.indexOf(node.content.kind))
  if (node.content.kind === 'inline') out.bytes(node.content.bytes)
  else if (node.content.kind === 'blob') writeBlob(out, node.content.blob)
}

function readNode(reader: ByteReader): NodeRecord {
  return {
    ino: reader.count(),
    since: reader.count(),
    kind: readOf(reader, nodeKinds),
    parent: reader.count(),
    name: reader.text(),
    version: reader.count(),
    revision: reader.count(),
    createdRevision: reader.count(),
    mode: reader.count(),
    owner: reader.text(),
    group: reader.text(),
    modifiedBy: reader.text(),
    createdAt: reader.number(),
    modifiedAt: reader.number(),
    contentType: readOptionalText(reader),
    lease: readOptionalText(reader),
    rights: readRights(reader),
    content: readContent(reader),
  }
}

function readContent(reader: ByteReader): Content {
  const kind = readOf(reader, contentKinds)
  if (kind === 'none') return noContent
  return kind === 'inline' ? { kind, bytes: new Uint8Array(reader.bytes()) } : { kind, blob: readBlob(reader) }
}

function readOf<T>(reader: ByteReader, values: readonly T[]): T {
  const value = values[reader.byte()]
  if (value === undefined) throw reader.corrupt('a kind is not known')
  return value
}

function writeOptionalText(out: ByteWriter, text: string | undefined): void {
  out.byte(text === undefined ? 0 : 1)
  if (text !== undefined) out.text(text)
}

function readOptionalText(reader: ByteReader): string | undefined {
  return reader.byte() === 0 ? undefined : reader.text()
}
