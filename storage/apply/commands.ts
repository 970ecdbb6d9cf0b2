/**
 * Every command of a store, applied to the open transaction of its entry.
 *
 * T1 A transaction is all or nothing: its first failure is its answer, and nothing of it happens. Its operations see
 *    what those before them did; its conditions see the state before it.
 * T2 The end of a lease removes its files at one revision, the oldest first; one whose path is gone is skipped.
 */
import { limits } from '../../namespace/limits.ts'
import { rootPath } from '../../namespace/path.ts'
import {
  contentSize,
  type Command,
  type NodeRecord,
  type Outcome,
  type RestoreCommand,
  type StoredMutation,
  type StoredTxn,
  type TreeCommand,
} from '../model.ts'
import { applySetRights, applySetStat } from './attributes.ts'
import { isRead, type ReadStep } from './command-codec.ts'
import { checkFile, denied, matches, refusal, type Change } from './change.ts'
import { applyRemove, applyRename, takeAway } from './move.ts'
import { readBit, seeBits } from './rights.ts'
import { nodeAt, pathOf } from './walk.ts'
import { applyMake, applyWrite } from './write.ts'

type TxnCommand = Extract<Command, { op: 'txn' }>
type TxnStep = TxnCommand['then'][number]
type TxnStepResult = StoredTxn['results'][number]

const needsChunks: Outcome = { kind: 'needs_chunks' }

/** @throws NineError what the command fails with */
export function applyCommand(change: Change, command: Exclude<Command, RestoreCommand>): Outcome {
  switch (command.op) {
    case 'txn':
      return applyTxn(change, command)
    case 'grantLease':
      change.leases.grant(command.lease, command.ttlMs, change.entry.actor, false, 'apply.grantLease')
      return { kind: 'lease', lease: command.lease, ttlMs: command.ttlMs }
    case 'endLease':
      return { kind: 'mutation', result: endLease(change, command.lease) }
    default: {
      const result = applyTreeCommand(change, command)
      return result === undefined ? needsChunks : { kind: 'mutation', result }
    }
  }
}

function applyTreeCommand(change: Change, command: TreeCommand): StoredMutation | undefined {
  switch (command.op) {
    case 'write':
      return applyWrite(change, command)
    case 'create':
    case 'mkdir':
    case 'symlink':
      return applyMake(change, command)
    case 'remove':
      return applyRemove(change, command)
    case 'rename':
      return applyRename(change, command)
    case 'setStat':
      return applySetStat(change, command)
    case 'setRights':
      return applySetRights(change, command)
  }
}

/** T1 */
function applyTxn(change: Change, command: TxnCommand): Outcome {
  checkLimits(command)
  let branch: StoredTxn['branch'] = 'then'
  for (const condition of command.if) if (!holds(change, condition)) branch = 'else'
  const results: TxnStepResult[] = []
  let bytes = 0
  for (const step of command[branch]) {
    if (isRead(step)) {
      const node = readStep(change, step)
      bytes += node.content.kind === 'inline' ? contentSize(node.content) : 0
      if (bytes > limits.txn_bytes_max) {
        throw refusal('too_large', 'apply.txn', step.path, `a transaction answers with at most ${limits.txn_bytes_max} bytes`)
      }
      results.push({ op: step.op, node })
      continue
    }
    const result = applyTreeCommand(change, step)
    if (result === undefined) return needsChunks
    results.push({ op: 'mutation', result })
  }
  return { kind: 'txn', result: { branch, results, revision: change.shownRevision } }
}

function checkLimits(command: TxnCommand): void {
  const count = command.if.length + command.then.length + command.else.length
  if (count > limits.txn_operations_max) {
    throw refusal('too_large', 'apply.txn', rootPath, `a transaction has at most ${limits.txn_operations_max} operations`)
  }
  let bytes = 0
  for (const step of command.then) bytes += bytesOf(step)
  for (const step of command.else) bytes += bytesOf(step)
  if (bytes > limits.txn_bytes_max) {
    throw refusal('too_large', 'apply.txn', rootPath, `a transaction carries at most ${limits.txn_bytes_max} bytes`)
  }
}

function bytesOf(step: TxnStep): number {
  return step.op === 'write' && step.content.kind !== 'blob' ? step.content.bytes.length : 0
}

function holds(change: Change, { path, is }: TxnCommand['if'][number]): boolean {
  const node = nodeAt(change.tree, path)
  if (node !== undefined) {
    change.needAny(node, seeBits, 'apply.txn', path)
  } else if (!change.isOwner) {
    const lost = change.missing(path, 'apply.txn')
    if (lost.kind === 'denied') throw lost
  }
  return is === 'exists' ? node !== undefined : matches(node, is)
}

function readStep(change: Change, step: ReadStep): NodeRecord {
  const op = `apply.${step.op}`
  const node = nodeAt(change.tree, step.path)
  if (node === undefined) throw change.missing(step.path, op)
  change.needAny(node, step.op === 'stat' ? seeBits : readBit, op, step.path)
  if (step.op === 'read') checkFile(node, op, step.path)
  // An answer is kept for longer than the tree keeps this value to itself: history, which it would be read from, differs between replicas.
  const { content } = node
  return content.kind === 'inline' ? { ...node, content: { kind: 'inline', bytes: content.bytes } } : node
}

/** T2 */
function endLease(change: Change, lease: string): StoredMutation {
  const op = 'apply.endLease'
  const owner = change.leases.ownerOf(lease)
  if (owner === undefined) throw refusal('not_found', op, rootPath, `there is no lease ${lease.slice(0, 64)}: it has ended, or never was`)
  if (!change.isOwner && owner !== change.entry.actor) throw denied(op, rootPath)
  for (const ino of change.leases.filesOf(lease)) {
    const node = change.tree.node(ino)
    const path = node === undefined || node.lease !== lease ? undefined : pathOf(change.tree, node)
    if (node !== undefined && path !== undefined) takeAway(change, node, path)
  }
  change.leases.end(lease)
  return { qid: { type: 0, path: 0, version: 0 }, revision: change.shownRevision, created: false, size: 0 }
}
