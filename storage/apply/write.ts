/**
 * Commands that put content in place or make something: write, create, mkdir, symlink.
 *
 * W1 A write of an existing file needs `write` there; whatever is made needs `create` at the deepest directory that exists.
 * W2 A whole new value put at a path without a lease takes the file off the lease it had, so that a plain write is there to stay
 *    (as in etcd); part of a value, and what a handle publishes, leaves it. With another lease, or a ttl, the file changes over.
 */
import type { IfMatch } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName, type Path } from '../../namespace/path.ts'
import {
  contentSize,
  noContent,
  rootIno,
  type Content,
  type CreateFields,
  type Ino,
  type NodeRecord,
  type StoredMutation,
  type TreeCommand,
  type WriteContent,
} from '../model.ts'
import { checkAttributes, checkFile, checkMatch, denied, matches, refusal, type Change } from './change.ts'
import { inlineContent, madeNode, mutationOf, writtenNode } from './records.ts'
import { createBit, writeBit } from './rights.ts'
import { placeOf } from './walk.ts'

type WriteCommand = Extract<TreeCommand, { op: 'write' }>
type MakeCommand = Extract<TreeCommand, { op: 'create' | 'mkdir' | 'symlink' }>

const noFields: CreateFields = {}

/** undefined: the value has to be made of chunks, and nothing was changed. */
export function applyWrite(change: Change, command: WriteCommand): StoredMutation | undefined {
  const op = 'apply.write'
  const { path, ino } = command.target
  checkContent(command.content, op, path)
  checkAttributes(command, op, path)
  if (ino !== undefined) {
    const found = change.find(command.target, op)
    return writeNode(change, command, found.node, found.path, op)
  }
  const place = placeOf(change.tree, path)
  if (place?.ino !== undefined) return writeNode(change, command, change.node(place.ino, op), path, op)
  if (command.mustExist === true) throw change.missing(path, op)
  return writeNew(change, command, op)
}

/** create, mkdir and symlink. */
export function applyMake(change: Change, command: MakeCommand): StoredMutation {
  const op = `apply.${command.op}`
  const { path } = command.target
  checkAttributes(command, op, path)
  const content = command.op === 'symlink' ? linkContent(command.link, op, path) : noContent
  const place = placeOf(change.tree, path)
  if (place?.ino !== undefined) {
    const node = change.node(place.ino, op)
    change.needToSee(node, createBit, op, path)
    checkMatch(node, command.ifMatch, op, path)
    throw refusal('exists', op, path, `${path} exists`)
  }
  checkNew(command.ifMatch, op, path)
  const kind = command.op === 'create' ? 'file' : command.op === 'mkdir' ? 'directory' : 'symlink'
  return make(change, kind, path, command, content, op)
}

function writeNode(change: Change, command: WriteCommand, node: NodeRecord, path: Path, op: string): StoredMutation | undefined {
  const { entry } = change
  change.need(node, writeBit, op, path) // W1
  checkFile(node, op, path)
  checkMatch(node, command.ifMatch, op, path)
  const content = newContent(command.content, node, op, path)
  if (content === undefined) return undefined
  const lease = leaseOf(change, command, node, op, path)
  const written = writtenNode(node, content, lease, command, entry, change.revision)
  change.put(written)
  change.emit('change', path, undefined, false, written, node)
  return mutationOf(written, change.revision, false)
}

function writeNew(change: Change, command: WriteCommand, op: string): StoredMutation | undefined {
  const { path } = command.target
  const content = newContent(command.content, undefined, op, path)
  if (content === undefined) return undefined
  checkNew(command.ifMatch, op, path)
  return make(change, 'file', path, command, content, op)
}

function make(change: Change, kind: NodeRecord['kind'], path: Path, fields: CreateFields, content: Content, op: string): StoredMutation {
  const parent = directoryFor(change, path, fields.parents === true, op)
  const ino = change.tree.nextIno()
  const lease = newLease(change, fields, ino, op, path)
  const name = path.slice(path.lastIndexOf('/') + 1)
  const node = madeNode({ ino, kind, parent, name, lease, content }, fields, change.entry, change.revision)
  change.put(node)
  change.tree.link(parent, name, ino)
  change.emit('create', path, undefined, false, node, undefined)
  return mutationOf(node, change.revision, true)
}

/**
 * The directory that `path`, at which nothing exists, is to be made in; with `parents`, what is missing of it is made, the
 * topmost first.
 * @throws NineError `not_found`, `not_directory`, `denied`
 */
export function directoryFor(change: Change, path: Path, parents: boolean, op: string): Ino {
  const { tree } = change
  let parent = tree.node(rootIno) ?? change.node(rootIno, op)
  let end = 0
  let isMade = false
  for (;;) {
    const slash = path.indexOf('/', end + 1)
    if (slash < 0) break
    const name = path.slice(end + 1, slash)
    const ino = isMade ? undefined : tree.child(parent.ino, name)
    if (ino !== undefined) {
      parent = change.node(ino, op)
      end = slash
      continue
    }
    if (!parents || parent.kind !== 'directory') throw change.missing(path, op)
    if (!isMade) change.need(parent, createBit, op, path) // W1
    isMade = true
    const at = joinName(path.slice(0, end) as Path, name)
    const made = madeNode(
      { ino: tree.nextIno(), kind: 'directory', parent: parent.ino, name, lease: undefined, content: noContent },
      noFields,
      change.entry,
      change.revision,
    )
    change.put(made)
    tree.link(parent.ino, name, made.ino)
    change.emit('create', at, undefined, false, made, undefined)
    parent = made
    end = slash
  }
  if (parent.kind !== 'directory') throw change.missing(path, op)
  if (!isMade) change.need(parent, createBit, op, path)
  return parent.ino
}

function checkNew(ifMatch: IfMatch | undefined, op: string, path: Path): void {
  if (ifMatch !== undefined && ifMatch !== 'none') throw refusal('conflict', op, path, `${path} does not exist`)
}

function linkContent(link: string, op: string, path: Path): Content {
  if (link === '' || link.includes('\0')) throw refusal('invalid', op, path, 'a link has a target without NUL')
  const bytes = Buffer.from(link)
  if (bytes.length > limits.symlink_bytes_max) {
    throw refusal('name_too_long', op, path, `a target has at most ${limits.symlink_bytes_max} bytes`)
  }
  return { kind: 'inline', bytes }
}

/** What can be told of a write without looking at the store. */
function checkContent(content: WriteContent, op: string, path: Path): void {
  switch (content.kind) {
    case 'replace':
      if (content.bytes.length <= limits.inline_bytes_max) return
      throw refusal('invalid', op, path, `a value over ${limits.inline_bytes_max} bytes is made of chunks first`)
    case 'append':
      return
    case 'splice':
      checkSize(content.offset, content.bytes.length, op, path)
      return
    case 'blob':
      checkSize(content.blob.size, 0, op, path)
      if (content.blob.root.length !== 32) throw refusal('invalid', op, path, 'a reference has a hash of 32 bytes')
  }
}

/** @throws NineError `invalid`, `too_large` */
export function checkSize(offset: number, length: number, op: string, path: Path): void {
  if (!(Number.isSafeInteger(offset) && offset >= 0)) throw refusal('invalid', op, path, `${offset} is no offset or size`)
  if (offset + length > limits.file_bytes_max) throw refusal('too_large', op, path, `a file has at most ${limits.file_bytes_max} bytes`)
}

/** The value after a write; undefined when it has to be made of chunks, or made anew because its base has moved on. */
function newContent(content: WriteContent, node: NodeRecord | undefined, op: string, path: Path): Content | undefined {
  switch (content.kind) {
    case 'replace':
      return content.base !== undefined && !matches(node, content.base) ? undefined : inlineContent(content.bytes)
    case 'blob':
      return content.base !== undefined && !matches(node, content.base) ? undefined : { kind: 'blob', blob: content.blob }
    case 'append':
      return spliced(node, node === undefined ? 0 : contentSize(node.content), content.bytes, op, path)
    case 'splice':
      return spliced(node, content.offset, content.bytes, op, path)
  }
}

function spliced(node: NodeRecord | undefined, offset: number, bytes: Uint8Array, op: string, path: Path): Content | undefined {
  checkSize(offset, bytes.length, op, path)
  const old = node?.content ?? noContent
  if (old.kind === 'blob') return undefined
  const before = old.kind === 'inline' ? old.bytes : undefined
  const length = before === undefined ? 0 : before.length
  // As with pwrite(2), no bytes extend nothing.
  const size = bytes.length === 0 ? length : Math.max(length, offset + bytes.length)
  if (size > limits.inline_bytes_max) return undefined
  if (size === 0) return noContent
  const value = Buffer.allocUnsafe(size)
  if (before !== undefined) value.set(before)
  if (offset > length && bytes.length > 0) value.fill(0, length, offset)
  if (bytes.length > 0) value.set(bytes, offset)
  return { kind: 'inline', bytes: value }
}

/** The lease that a written file has from now on. W2 */
function leaseOf(change: Change, fields: WriteCommand, node: NodeRecord, op: string, path: Path): string | undefined {
  if (fields.lease === undefined && fields.ttl === undefined) {
    if (node.lease === undefined || !isWholeValue(fields)) return node.lease
    change.leases.detach(node.lease, node.ino)
    return undefined
  }
  if (fields.lease !== undefined && fields.lease === node.lease) {
    checkLeaseOwner(change, fields.lease, op, path)
    if (fields.ttl === undefined) return node.lease
  }
  const lease = newLease(change, fields, node.ino, op, path)
  if (node.lease !== undefined) change.leases.detach(node.lease, node.ino)
  return lease
}

function isWholeValue({ target, content }: WriteCommand): boolean {
  return target.ino === undefined && (content.kind === 'replace' || content.kind === 'blob') && content.base === undefined
}

/** @throws NineError `not_found`, `denied`, `invalid`, `too_large`, `overloaded` */
function newLease(change: Change, fields: CreateFields, ino: Ino, op: string, path: Path): string | undefined {
  const { lease, ttl } = fields
  if (lease === undefined && ttl === undefined) return undefined
  if (lease !== undefined && ttl !== undefined) throw refusal('invalid', op, path, 'a file has a lease or a ttl, not both')
  if (ttl !== undefined) change.leases.grant(ttl.lease, ttl.ttlMs, change.entry.actor, true, op)
  const id = ttl === undefined ? lease! : ttl.lease
  checkLeaseOwner(change, id, op, path)
  change.leases.attach(id, ino, change.tree, op)
  return id
}

/** Who holds a lease of another cannot fill it, or have files end with it. */
function checkLeaseOwner(change: Change, lease: string, op: string, path: Path): void {
  const owner = change.leases.ownerOf(lease)
  if (owner === undefined) throw refusal('not_found', op, path, `there is no lease ${lease.slice(0, 64)}: it has ended, or never was`)
  if (!change.isOwner && owner !== change.entry.actor) throw denied(op, path)
}
