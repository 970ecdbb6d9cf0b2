/**
 * What each mutation does to the tree, within one Change. A mutation that throws leaves what it did to rollback().
 *
 * M1 Rights are asked of what is found: `write` of the node changed, `create` of the directory a name is made in, `remove`
 *    of what loses its name, `admin` of the directory whose record changes.
 * M2 Nothing is learned by who may not see it: without `read` or `list` the answer is `denied`, whatever is there.
 */
import type {
  CreateOptions,
  IfMatch,
  MutationResult,
  RemoveOptions,
  RenameOptions,
  StatChanges,
  TxnOperation,
  WriteOptions,
} from '../file-server.ts'
import { limits } from '../limits.ts'
import { baseName, isWithin, parentPath, pathComponents, joinName, rootPath, type Path } from '../path.ts'
import { allRights, rightBit, type RightsRecord } from '../rights.ts'
import type { Change, NewState } from './change.ts'
import { isReachable, noBytes, pathOf, qidOf, type MemoryKind, type Node } from './tree.ts'

export type Mutation = Omit<MutationResult, 'position'>

const writeBit = rightBit('write')
const createBit = rightBit('create')
const removeBit = rightBit('remove')
const adminBit = rightBit('admin')

export function write(change: Change, path: Path, bytes: Uint8Array, options: WriteOptions): Mutation {
  if (bytes.length > limits.write_bytes_max) {
    throw change.error('too_large', path, `one write carries at most ${limits.write_bytes_max} bytes: a handle takes more`)
  }
  const node = change.find(path)
  if (node === undefined) {
    if (options.mustExist === true && options.ifMatch === undefined) throw change.missing(path)
    return make(change, path, 'file', { ...options, bytes: spliced(change, path, noBytes, bytes, options.at ?? 'replace') })
  }
  const leavesLease = options.at === undefined || options.at === 'replace'
  return writeNode(change, node, path, (before) => spliced(change, path, before, bytes, options.at ?? 'replace'), {
    ...options,
    leavesLease,
  })
}

/**
 * A new value for a node that may have moved or lost its name since `path` led to it. Not `isChecked`: the right to write
 * was asked when its handle was opened.
 */
export function writeNode(
  change: Change,
  node: Node,
  path: Path,
  value: (before: Uint8Array) => Uint8Array,
  options: CreateOptions & { readonly leavesLease?: boolean },
  isChecked = true,
): Mutation {
  if (isChecked) change.need(node, writeBit, path)
  needFile(change, node, path)
  checkMatch(change, node, path, options.ifMatch)
  checkAttributes(change, path, options)
  const previous = node.head
  const { contentType, mode, modifiedAt } = options
  change.set(node, {
    bytes: value(previous.bytes),
    contentType,
    mode,
    modifiedAt: modifiedAt ?? change.time,
    lease: leaseFor(change, path, options),
    leavesLease: options.leavesLease,
  })
  changed(change, node, previous)
  return resultOf(node, false)
}

export function create(change: Change, path: Path, kind: MemoryKind, options: CreateOptions, target = ''): Mutation {
  if (kind === 'symlink') checkTarget(change, path, target)
  const node = change.find(path)
  if (node === undefined) return make(change, path, kind, { ...options, bytes: kind === 'symlink' ? Buffer.from(target) : noBytes })
  change.need(node, seeOrMake, path)
  checkMatch(change, node, path, options.ifMatch)
  throw change.error('exists', path, `${path} exists`)
}

export function remove(change: Change, path: Path, options: RemoveOptions): Mutation {
  const node = found(change, path)
  if (node.parent === undefined) throw change.error('invalid', path, 'the root cannot be removed')
  change.need(node, removeBit, path)
  checkMatch(change, node, path, options.ifMatch)
  if (options.recursive !== true && (node.children?.live ?? 0) > 0) throw change.error('not_empty', path, `${path} is not empty`)
  change.unlink(node)
  change.event('remove', path, node, undefined)
  return { ...resultOf(node, false), revision: change.revision }
}

export function rename(change: Change, path: Path, to: Path, options: RenameOptions): Mutation {
  const node = found(change, path)
  if (node.parent === undefined) throw change.error('invalid', path, 'the root cannot be moved')
  change.need(node, removeBit, path)
  checkMatch(change, node, path, options.ifMatch)
  if (to === path) return resultOf(node, false)
  if (isWithin(to, path)) throw change.error('invalid', path, `${path} cannot be moved into itself`)
  const parent = directoryFor(change, to, options.parents === true)
  const there = change.find(to)
  if (there !== undefined) replace(change, node, there, to, options)
  change.need(parent, createBit, to)
  const fromParent = node.parent
  const previous = node.head
  change.move(node, parent, baseName(to))
  change.event('rename', to, node, previous, path, fromParent)
  return { ...resultOf(node, false), revision: change.revision }
}

export function setStat(change: Change, path: Path, changes: StatChanges, ifMatch: IfMatch | undefined): Mutation {
  checkAttributes(change, path, changes)
  const { mode, owner, group, modifiedAt, contentType, size } = changes
  if (size !== undefined) checkSize(change, path, size, 0)
  const node = found(change, path)
  change.need(node, writeBit, path)
  checkMatch(change, node, path, ifMatch)
  const fields: NewState = { mode, owner, group, contentType, modifiedAt }
  const previous = node.head
  if (size === undefined) {
    change.set(node, fields)
  } else {
    needFile(change, node, path)
    change.memory.history.reserve(size, 0, change.op, path)
    change.set(node, { ...fields, modifiedAt: modifiedAt ?? change.time, bytes: resized(previous.bytes, size) })
  }
  changed(change, node, previous)
  return resultOf(node, false)
}

export function setRights(change: Change, path: Path, record: RightsRecord | undefined, ifMatch: IfMatch | undefined): Mutation {
  checkRecord(change, path, record)
  const node = found(change, path)
  change.need(node, adminBit, path)
  if (node.kind !== 'directory') throw change.error('not_directory', path, `${path} is a ${node.kind}: rights stand on directories`)
  checkMatch(change, node, path, ifMatch)
  const previous = node.head
  change.set(node, { rights: record === undefined ? undefined : structuredClone(record) })
  changed(change, node, previous)
  return resultOf(node, false)
}

/** Remove the files of a lease, and forget it once that is done. */
export function endLease(change: Change, lease: string): Mutation {
  const last: Node[] = []
  for (const node of change.memory.leases.nodes(lease)) {
    if (!isReachable(node)) continue
    const path = pathOf(node)
    change.unlink(node)
    change.event('remove', path, node, undefined)
    last.push(node)
  }
  const node = last.at(-1)
  if (node === undefined)
    return { qid: { type: 0, path: 0, version: 0 }, revision: change.memory.history.revision, created: false, size: 0 }
  return { ...resultOf(node, false), revision: change.revision }
}

export function txnOperation(change: Change, operation: Exclude<TxnOperation, { op: 'stat' | 'read' }>): Mutation {
  const { path } = operation
  switch (operation.op) {
    case 'write':
      return write(change, path, operation.bytes, operation.options ?? {})
    case 'create':
    case 'mkdir':
      return create(change, path, operation.op === 'mkdir' ? 'directory' : 'file', operation.options ?? {})
    case 'symlink':
      return create(change, path, 'symlink', operation.options ?? {}, operation.target)
    case 'remove':
      return remove(change, path, operation.options ?? {})
    case 'rename':
      return rename(change, path, operation.to, operation.options ?? {})
    case 'setStat':
      return setStat(change, path, operation.changes, operation.options?.ifMatch)
  }
}

const seeOrMake = rightBit('read') | rightBit('list') | createBit

function found(change: Change, path: Path): Node {
  const node = change.find(path)
  if (node === undefined) throw change.missing(path)
  return node
}

export function make(change: Change, path: Path, kind: MemoryKind, options: CreateOptions & { readonly bytes: Uint8Array }): Mutation {
  checkAttributes(change, path, options)
  const parent = directoryFor(change, path, options.parents === true)
  change.need(parent, createBit, path)
  if (options.ifMatch !== undefined && options.ifMatch !== 'none') throw change.error('conflict', path, `${path} does not exist`)
  const { bytes, contentType, mode, modifiedAt } = options
  const node = change.make(parent, baseName(path), kind, { bytes, contentType, mode, modifiedAt, lease: leaseFor(change, path, options) })
  change.event('create', path, node, undefined)
  return resultOf(node, true)
}

/** The directory that `path` stands in; made, with those above it, when `parents`. */
function directoryFor(change: Change, path: Path, parents: boolean): Node {
  const above = parentPath(path)
  const known = change.find(above)
  if (known?.kind === 'directory') return known
  if (known !== undefined || !parents) throw change.missing(path)
  let at = rootPath
  let node = change.memory.root
  for (const name of pathComponents(above)) {
    at = joinName(at, name)
    const next: Node | undefined = node.children?.get(name)?.head.node
    if (next !== undefined) {
      if (next.kind !== 'directory') throw change.missing(path)
      node = next
      continue
    }
    change.need(node, createBit, path)
    node = change.make(node, name, 'directory', {})
    change.event('create', at, node, undefined)
  }
  return node
}

/** What stands where a rename goes makes way, or refuses. */
function replace(change: Change, node: Node, there: Node, to: Path, options: RenameOptions): void {
  change.need(there, seeOrMake, to)
  if (options.replace !== true) throw change.error('exists', to, `${to} exists`)
  if (there.kind === 'directory' && node.kind !== 'directory') throw change.error('is_directory', to, `${to} is a directory`)
  if (there.kind !== 'directory' && node.kind === 'directory') throw change.error('not_directory', to, `${to} is a ${there.kind}`)
  if ((there.children?.live ?? 0) > 0) throw change.error('not_empty', to, `${to} is not empty`)
  if (there.parent === undefined) throw change.error('invalid', to, 'the root cannot be replaced')
  change.need(there, removeBit, to)
  change.unlink(there)
  change.event('remove', to, there, undefined)
}

/** A change of a node that lost its name is no event: it has no path. */
function changed(change: Change, node: Node, previous: Node['head']): void {
  if (isReachable(node)) change.event('change', pathOf(node), node, previous)
}

function leaseFor(change: Change, path: Path, options: CreateOptions): string | undefined {
  const { leases } = change.memory
  const { lease, ttlMs } = options
  if (lease !== undefined) {
    if (ttlMs !== undefined) throw change.error('invalid', path, 'a file ends with a lease or after a ttl, not both')
    const owner = leases.ownerOf(lease)
    if (owner === undefined) throw change.error('not_found', path, `the lease ${lease} has ended`)
    const { name } = change.context.principal
    if (owner !== name && name !== change.memory.owner) throw change.error('denied', path, 'the lease is of another principal')
    return lease
  }
  if (ttlMs === undefined) return undefined
  const own = leases.grant(change.context.principal.name, ttlMs, change.op, path)
  change.onRollback(() => leases.forget(own))
  return own
}

function spliced(change: Change, path: Path, before: Uint8Array, bytes: Uint8Array, at: 'replace' | 'append' | number): Uint8Array {
  if (at === 'replace') return bytes.slice()
  const offset = at === 'append' ? before.length : at
  checkSize(change, path, offset, bytes.length)
  const size = Math.max(before.length, offset + bytes.length)
  change.memory.history.reserve(size, 0, change.op, path)
  const value = resized(before, size)
  value.set(bytes, offset)
  return value
}

function resized(bytes: Uint8Array, size: number): Uint8Array {
  const value = new Uint8Array(size)
  value.set(size < bytes.length ? bytes.subarray(0, size) : bytes)
  return value
}

export function needFile(change: Change, node: Node, path: Path): void {
  if (node.kind === 'directory') throw change.error('is_directory', path, `${path} is a directory`)
  if (node.kind === 'symlink') throw change.error('invalid', path, `${path} is a symbolic link`)
}

export function checkMatch(change: Change, node: Node, path: Path, ifMatch: IfMatch | undefined): void {
  if (ifMatch === undefined) return
  if (ifMatch !== 'none' && ifMatch.path === node.ino && ifMatch.version === node.head.version) return
  throw change.error('conflict', path, `${path} is at version ${node.head.version} of file ${node.ino}`)
}

function checkSize(change: Change, path: Path, offset: number, length: number): void {
  if (!Number.isSafeInteger(offset) || offset < 0) throw change.error('invalid', path, `${offset} is no offset or size`)
  if (offset + length > limits.file_bytes_max) throw change.error('too_large', path, `a file has at most ${limits.file_bytes_max} bytes`)
}

function checkAttributes(change: Change, path: Path, attributes: Omit<StatChanges, 'size'>): void {
  const { mode, modifiedAt, contentType, owner, group } = attributes
  if (mode !== undefined && !(Number.isInteger(mode) && mode >= 0 && mode <= 0o7777)) {
    throw change.error('invalid', path, 'a mode is a number from 0 to 0o7777')
  }
  if (modifiedAt !== undefined && !(Number.isSafeInteger(modifiedAt) && modifiedAt >= 0)) {
    throw change.error('invalid', path, 'a time is a whole number of microseconds since 1970')
  }
  for (const text of [contentType, owner, group]) {
    if (text !== undefined && Buffer.byteLength(text) > limits.attribute_bytes_max) {
      throw change.error('invalid', path, `content type, owner and group have at most ${limits.attribute_bytes_max} bytes`)
    }
  }
}

function checkTarget(change: Change, path: Path, target: string): void {
  if (target === '' || target.includes('\0')) throw change.error('invalid', path, 'a link has a target without NUL')
  if (Buffer.byteLength(target) > limits.symlink_bytes_max) {
    throw change.error('name_too_long', path, `a target has at most ${limits.symlink_bytes_max} bytes`)
  }
}

function checkRecord(change: Change, path: Path, record: RightsRecord | undefined): void {
  if (record === undefined) return
  if (record.length > limits.rights_entries_max) {
    throw change.error('too_large', path, `a rights record has at most ${limits.rights_entries_max} entries`)
  }
  for (const { who, rights } of record) {
    if (who === '' || Buffer.byteLength(who) > limits.attribute_bytes_max) {
      throw change.error('invalid', path, 'a rights entry names a principal, group:NAME or *')
    }
    for (const right of rights) if (!allRights.includes(right)) throw change.error('invalid', path, `${String(right)} is no right`)
  }
}

function resultOf(node: Node, created: boolean): Mutation {
  const { head } = node
  return { qid: qidOf(node), revision: head.revision, created, size: head.bytes.length }
}
