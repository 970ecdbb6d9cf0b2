/**
 * Open handles of a memory server. A handle knows its node, so it follows it through rename and unlink.
 *
 * H1 Atomic: what is written stays in the handle until sync or close makes it one change, under the handle's ifMatch.
 * H2 Shared: every write is a change at once, so every handle and reader sees it; sync has nothing left to do.
 * H3 A handle belongs to the session and principal that opened it, and ends with the session.
 */
import { checkDeadline, type Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type { CreateOptions, HandleId, HandleReadResult, HandleWriteResult, IfMatch, OpenFlags } from '../file-server.ts'
import { limits } from '../limits.ts'
import { baseName, type Path } from '../path.ts'
import { rightBit } from '../rights.ts'
import { qidType, type Micros, type Stat } from '../stat.ts'
import type { Change } from './change.ts'
import { checkMatch, make, needFile, writeNode, type Mutation } from './mutations.ts'
import { StagedBytes, type Edit } from './staged-bytes.ts'
import { noBytes, qidOf, readBit, seeBits, statOf, type Node } from './tree.ts'

interface Handle {
  readonly id: HandleId
  readonly path: Path
  readonly flags: OpenFlags
  readonly principal: string
  readonly session: number
  /** undefined: atomic, and its file is made when it is published. */
  node: Node | undefined
  /** H1: the value being written; undefined while nothing was. */
  staged: StagedBytes | undefined
  ifMatch: IfMatch | undefined
}

/** How the handles change the tree: run `act` as one revision. */
export type Commit = <T>(context: Context, op: string, path: Path, act: (change: Change) => T) => T

const writeBit = rightBit('write')
const createBit = rightBit('create')

export class Handles {
  readonly #commit: Commit
  readonly #find: (path: Path) => Node | undefined
  readonly #now: () => Micros
  readonly #handles = new Map<HandleId, Handle>()
  readonly #ofSession = new Map<number, Set<Handle>>()
  #next = 1
  #stagedBytes = 0

  constructor(commit: Commit, find: (path: Path) => Node | undefined, now: () => Micros) {
    this.#commit = commit
    this.#find = find
    this.#now = now
  }

  open(context: Context, path: Path, flags: OpenFlags): { handle: HandleId; stat: Stat } {
    const op = 'memory.open'
    checkDeadline(context, op, path)
    const session = context.session ?? 0
    if (this.#handles.size >= limits.handles_max || (this.#ofSession.get(session)?.size ?? 0) >= limits.session_handles_max) {
      throw new NineError({ kind: 'overloaded', op, path, message: 'too many files are open: close some' })
    }
    const isShared = flags.mode === 'shared'
    const node = this.#commit(context, op, path, (change) => findOrMake(change, path, flags, isShared))
    const ifMatch = flags.ifMatch ?? (node === undefined && flags.exclusive === true ? 'none' : undefined)
    const handle: Handle = { id: this.#next++, path, flags, principal: context.principal.name, session, node, staged: undefined, ifMatch }
    this.#handles.set(handle.id, handle)
    const ofSession = this.#ofSession.get(session)
    if (ofSession === undefined) this.#ofSession.set(session, new Set([handle]))
    else ofSession.add(handle)
    if (flags.write === true && !isShared && (flags.truncate === true || node === undefined)) handle.staged = new StagedBytes(noBytes)
    return { handle: handle.id, stat: this.#statOf(handle) }
  }

  read(context: Context, id: HandleId, offset: number, length: number): HandleReadResult {
    const op = 'memory.readHandle'
    const handle = this.#get(context, id, op)
    if (handle.flags.read !== true && handle.flags.write === true) throw wrongMode(op, handle.path, 'reading')
    for (const count of [offset, length]) {
      if (Number.isSafeInteger(count) && count >= 0) continue
      throw new NineError({ kind: 'invalid', op, path: handle.path, message: `${count} is no offset or length` })
    }
    const bytes = handle.staged?.bytes ?? handle.node?.head.bytes ?? noBytes
    const end = offset + Math.min(length, limits.read_bytes_max)
    const isStaged = handle.staged !== undefined
    return { bytes: isStaged ? bytes.slice(offset, end) : bytes.subarray(offset, end), end: end >= bytes.length }
  }

  write(context: Context, id: HandleId, bytes: Uint8Array, at: number | 'append'): HandleWriteResult {
    const size = this.#edit(context, id, { at, bytes }, 'memory.writeHandle')
    return { written: bytes.length, size }
  }

  truncate(context: Context, id: HandleId, size: number): void {
    this.#edit(context, id, { size }, 'memory.truncateHandle')
  }

  stat(context: Context, id: HandleId): Stat {
    return this.#statOf(this.#get(context, id, 'memory.statHandle'))
  }

  sync(context: Context, id: HandleId): Mutation {
    const op = 'memory.syncHandle'
    return this.#publish(context, this.#get(context, id, op), op)
  }

  close(context: Context, id: HandleId, discard: boolean): Mutation {
    const op = 'memory.closeHandle'
    const handle = this.#get(context, id, op)
    try {
      return discard ? unchanged(handle) : this.#publish(context, handle, op)
    } finally {
      this.#forget(handle)
    }
  }

  /** A connection ended: what its handles staged is dropped. */
  closeSession(session: number): void {
    for (const handle of [...(this.#ofSession.get(session) ?? [])]) this.#forget(handle)
  }

  /** Change the value as this handle sees it; answers its new size. */
  #edit(context: Context, id: HandleId, edit: Edit, op: string): number {
    const handle = this.#get(context, id, op)
    const { path, node } = handle
    if (handle.flags.write !== true) throw wrongMode(op, path, 'writing')
    const staged = handle.staged ?? new StagedBytes(node?.head.bytes ?? noBytes)
    const size = staged.sizeAfter(edit, op, path)
    if (this.#stagedBytes + size > limits.memory_bytes_max) {
      throw new NineError({ kind: 'no_space', op, path, message: `open files stage at most ${limits.memory_bytes_max} bytes` })
    }
    const before = staged.memory
    staged.apply(edit)
    if (handle.flags.mode === 'shared') {
      // H2: rights were asked when it was opened.
      this.#commit(context, op, path, (change) => writeNode(change, node!, path, () => staged.bytes, {}, false))
      return size
    }
    handle.staged = staged
    this.#stagedBytes += staged.memory - before
    return size
  }

  /** H1 */
  #publish(context: Context, handle: Handle, op: string): Mutation {
    const { staged, path, flags, ifMatch } = handle
    if (staged === undefined) return unchanged(handle)
    const { parents, contentType, modifiedAt, lease, ttlMs, permissions: mode } = flags
    const options: CreateOptions = { ifMatch, parents, contentType, modifiedAt, lease, ttlMs }
    const value = (): Uint8Array => staged.bytes.slice()
    const isKnown = handle.node !== undefined
    const result = this.#commit(context, op, path, (change) => {
      const node = handle.node ?? change.find(path)
      if (node !== undefined) return writeNode(change, node, path, value, options, !isKnown)
      return make(change, path, 'file', { ...options, mode, bytes: value() })
    })
    handle.node ??= this.#find(path)
    if (ifMatch !== undefined) handle.ifMatch = { path: result.qid.path, version: result.qid.version }
    handle.staged = undefined
    this.#stagedBytes -= staged.memory
    return result
  }

  #statOf(handle: Handle): Stat {
    const { node, staged, path, flags } = handle
    if (node !== undefined) {
      const stat = statOf(node, node.head, baseName(path))
      return staged === undefined ? stat : { ...stat, size: staged.size }
    }
    const now = this.#now()
    const unmade = { kind: 'file', version: 0, revision: 0, createdRevision: 0, group: '', createdAt: now } as const
    return {
      ...unmade,
      name: baseName(path),
      qid: { type: qidType.file, path: 0, version: 0 },
      size: staged?.size ?? 0,
      mode: flags.permissions ?? 0o644,
      owner: handle.principal,
      modifiedBy: handle.principal,
      modifiedAt: flags.modifiedAt ?? now,
      contentType: flags.contentType,
    }
  }

  /** H3 @throws NineError `invalid` */
  #get(context: Context, id: HandleId, op: string): Handle {
    const handle = this.#handles.get(id)
    const isTheirs = handle?.session === (context.session ?? 0) && handle.principal === context.principal.name
    if (handle === undefined || !isTheirs) throw new NineError({ kind: 'invalid', op, message: `${id} is no open handle` })
    checkDeadline(context, op, handle.path)
    return handle
  }

  #forget(handle: Handle): void {
    this.#handles.delete(handle.id)
    const ofSession = this.#ofSession.get(handle.session)
    ofSession?.delete(handle)
    if (ofSession?.size === 0) this.#ofSession.delete(handle.session)
    this.#stagedBytes -= handle.staged?.memory ?? 0
  }
}

/** The node a handle is opened on; undefined where an atomic one makes it later. */
function findOrMake(change: Change, path: Path, flags: OpenFlags, isShared: boolean): Node | undefined {
  const node = change.find(path)
  if (node === undefined) {
    if (flags.create !== true) throw change.missing(path)
    if (!isShared) {
      checkMakeable(change, path, flags)
      return undefined
    }
    const { parents, contentType, permissions: mode, modifiedAt, lease, ttlMs } = flags
    make(change, path, 'file', { parents, contentType, mode, modifiedAt, lease, ttlMs, bytes: noBytes })
    return change.find(path)
  }
  if (flags.create === true && flags.exclusive === true) {
    change.need(node, seeBits | createBit, path)
    throw change.error('exists', path, `${path} exists`)
  }
  if (flags.read === true || flags.write !== true) change.need(node, readBit, path)
  if (flags.write === true) change.need(node, writeBit, path)
  needFile(change, node, path)
  checkMatch(change, node, path, flags.ifMatch)
  if (flags.write === true && flags.truncate === true && isShared && node.head.bytes.length > 0) {
    writeNode(change, node, path, () => noBytes, {})
  }
  return node
}

/** Refuse now what publishing would refuse later. */
function checkMakeable(change: Change, path: Path, flags: OpenFlags): void {
  const { parents, contentType, permissions: mode, modifiedAt, ifMatch } = flags
  make(change, path, 'file', { parents, contentType, mode, modifiedAt, ifMatch, bytes: noBytes })
  change.rollback()
}

function unchanged({ node }: Handle): Mutation {
  if (node === undefined) return { qid: { type: qidType.file, path: 0, version: 0 }, revision: 0, created: false, size: 0 }
  return { qid: qidOf(node), revision: node.head.revision, created: false, size: node.head.bytes.length }
}

function wrongMode(op: string, path: Path, what: string): NineError {
  return new NineError({ kind: 'invalid', op, path, message: `this handle was not opened for ${what}` })
}
