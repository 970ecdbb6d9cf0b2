/** Commands that change what is known of a node: setStat (`write`) and setRights (`admin`). Both count as a version. */
import { limits } from '../../namespace/limits.ts'
import type { Path } from '../../namespace/path.ts'
import { allRights, type RightsRecord } from '../../namespace/rights.ts'
import { noContent, type Content, type NodeRecord, type StoredMutation, type TreeCommand } from '../model.ts'
import { checkAttributes, checkFile, checkMatch, refusal, type Change } from './change.ts'
import { guardedNode, mutationOf, restattedNode } from './records.ts'
import { adminBit, writeBit } from './rights.ts'
import { checkSize } from './write.ts'

type SetStatCommand = Extract<TreeCommand, { op: 'setStat' }>
type SetRightsCommand = Extract<TreeCommand, { op: 'setRights' }>

/** undefined: the value has to be made of chunks. Without a change named, nothing changes. */
export function applySetStat(change: Change, command: SetStatCommand): StoredMutation | undefined {
  const op = 'apply.setStat'
  const { target, size } = command
  checkAttributes(command, op, target.path)
  const { node, path } = change.find(target, op)
  change.need(node, writeBit, op, path)
  checkMatch(node, command.ifMatch, op, path)
  const content = size === undefined ? node.content : resized(node, size, op, path)
  if (content === undefined) return undefined
  if (size === undefined && isEmpty(command)) return mutationOf(node, change.shownRevision, false)
  const changed = restattedNode(node, command, content, change.entry, change.revision)
  change.put(changed)
  change.emit('change', path, undefined, false, changed, node)
  return mutationOf(changed, change.revision, false)
}

export function applySetRights(change: Change, command: SetRightsCommand): StoredMutation {
  const op = 'apply.setRights'
  const { target, rights } = command
  const { node, path } = change.find(target, op)
  change.need(node, adminBit, op, path)
  if (node.kind !== 'directory') throw refusal('not_directory', op, path, `${path} is a ${node.kind}: rights stand on directories`)
  checkMatch(node, command.ifMatch, op, path)
  if (rights !== undefined) checkRights(rights, op, path)
  const changed = guardedNode(node, rights, change.entry, change.revision)
  change.put(changed)
  change.emit('change', path, undefined, false, changed, node)
  return mutationOf(changed, change.revision, false)
}

function isEmpty(command: SetStatCommand): boolean {
  const { mode, owner, group, modifiedAt, contentType } = command
  return mode === undefined && owner === undefined && group === undefined && modifiedAt === undefined && contentType === undefined
}

/** The value cut short or extended with zeros. */
function resized(node: NodeRecord, size: number, op: string, path: Path): Content | undefined {
  checkFile(node, op, path)
  checkSize(size, 0, op, path)
  const { content } = node
  if (content.kind === 'blob' || size > limits.inline_bytes_max) return undefined
  if (size === 0) return noContent
  const value = Buffer.alloc(size)
  if (content.kind === 'inline') value.set(size < content.bytes.length ? content.bytes.subarray(0, size) : content.bytes)
  return { kind: 'inline', bytes: value }
}

/** @throws NineError `invalid`, `too_large` */
function checkRights(record: RightsRecord, op: string, path: Path): void {
  if (record.length > limits.rights_entries_max) {
    throw refusal('too_large', op, path, `a rights record has at most ${limits.rights_entries_max} entries`)
  }
  for (const { who, rights } of record) {
    if (who === '' || Buffer.byteLength(who) > limits.attribute_bytes_max || who.includes('\0')) {
      throw refusal('invalid', op, path, `a rights record names a principal, group:NAME or *`)
    }
    if (rights.length > allRights.length || !rights.every((right) => allRights.includes(right))) {
      throw refusal('invalid', op, path, `rights are ${allRights.join(', ')}, each once`)
    }
  }
}
