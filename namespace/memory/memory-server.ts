/**
 * A file server in memory: the whole contract of FileServer, read as the reference of what it means.
 *
 * M1 A mutation is one Change: all of it in one turn of the event loop, or nothing. Its answer, its events and what
 *    reads show agree on one revision.
 * M2 Nothing here is durable: it starts empty with the process. Everything else holds as in a store.
 */
import { systemClock, type Clock } from '../clock.ts'
import { checkDeadline, type Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type {
  ConditionOptions,
  CreateOptions,
  FileServer,
  HandleId,
  HandleReadResult,
  HandleWriteResult,
  LeaseResult,
  ListOptions,
  ListResult,
  LockResult,
  MutationResult,
  OpenFlags,
  OpenResult,
  ReadlinkResult,
  ReadOptions,
  ReadRangeOptions,
  ReadResult,
  RemoveOptions,
  RenameOptions,
  RightsResult,
  StatChanges,
  StatResult,
  TxnRequest,
  TxnResult,
  WatchBatch,
  WatchOptions,
  WriteOptions,
} from '../file-server.ts'
import { limits } from '../limits.ts'
import { OnceTable } from '../once.ts'
import { baseName, parentPath, rootPath, type Path } from '../path.ts'
import { systemRandom, type Random } from '../random.ts'
import { allRights, rightBit, type RightsMask, type RightsRecord } from '../rights.ts'
import type { Micros } from '../stat.ts'
import { Change, type MemoryState } from './change.ts'
import { Handles } from './handles.ts'
import { History } from './history.ts'
import { Leases, LockLines } from './leases.ts'
import { decodeCursor, encodeCursor, listPage } from './lists.ts'
import { create, endLease, remove, rename, setRights, setStat, write, type Mutation } from './mutations.ts'
import { Moments } from './moments.ts'
import { runTxn, txnResult } from './txn.ts'
import {
  Children,
  deciding,
  deepest,
  denied,
  find,
  listBit,
  missing,
  newest,
  noBytes,
  pathOf,
  readBit,
  rightsAt,
  seeBits,
  stateAt,
  statOf,
  targetOf,
  type Node,
} from './tree.ts'
import { Watches } from './watches.ts'

export interface MemoryServerOptions {
  /** Principal who always holds every right. */
  readonly owner: string
  readonly clock?: Clock | undefined
  readonly random?: Random | undefined
  /** Revisions kept for watches that resume and reads of the past. Default: limits.memory_history_revisions_max. */
  readonly historyRevisionsMax?: number | undefined
}

const createBit = rightBit('create')

export class MemoryServer implements FileServer {
  readonly #owner: string
  readonly #clock: Clock
  readonly #memory: MemoryState
  readonly #history: History
  readonly #root: Node
  readonly #leases: Leases
  readonly #locks = new LockLines()
  readonly #once = new OnceTable()
  readonly #moments: Moments
  readonly #watches: Watches
  readonly #handles: Handles
  #isClosed = false

  constructor(options: MemoryServerOptions) {
    const random = options.random ?? systemRandom
    this.#owner = options.owner
    this.#clock = options.clock ?? systemClock
    this.#history = new History(options.historyRevisionsMax)
    this.#root = rootNode(options.owner, this.#clock.now())
    this.#leases = new Leases(this.#clock, random, (lease) => this.#expire(lease))
    this.#memory = { root: this.#root, owner: options.owner, history: this.#history, leases: this.#leases, nextIno: 2 }
    this.#moments = new Moments(this.#history, random.id(), random.id())
    this.#watches = new Watches({
      history: this.#history,
      owner: options.owner,
      position: (revision, ordinal) => this.#moments.position(revision, ordinal),
    })
    this.#handles = new Handles(
      (context, op, path, act) => this.#commit(context, op, path, act),
      (path) => find(this.#root, path, newest),
      () => this.#clock.now(),
    )
  }

  /** End all watches and waits; forget leases and handles. */
  close(): void {
    this.#isClosed = true
    this.#leases.close()
    this.#watches.close()
    this.#locks.wakeAll()
  }

  /** A connection has ended: its handles go, and what they staged. */
  closeSession(session: number): void {
    this.#handles.closeSession(session)
  }

  async stat(context: Context, path: Path, options?: ReadOptions): Promise<StatResult> {
    const op = 'memory.stat'
    const revision = await this.#revisionFor(context, options, op, path)
    const node = this.#find(context, path, revision, seeBits, op)
    return { stat: statOf(node, stateAt(node, revision)!, baseName(path)), position: this.#moments.shown(revision) }
  }

  async list(context: Context, path: Path, options: ListOptions = {}): Promise<ListResult> {
    const op = 'memory.list'
    let revision = await this.#revisionFor(context, options, op, path)
    let after = options.after ?? ''
    if (options.cursor !== undefined) {
      const cursor = decodeCursor(options.cursor, op, path)
      revision = this.#moments.past(cursor.revision, op, path)
      after = cursor.after
    }
    const node = this.#find(context, path, revision, listBit, op)
    if (node.kind !== 'directory') throw new NineError({ kind: 'not_directory', op, path, message: `${path} is a ${node.kind}` })
    const { entries, next } = listPage(node, revision, context.principal, this.#owner, options, after)
    const cursor = next === undefined ? undefined : encodeCursor({ revision: Math.min(revision, this.#history.revision), after: next })
    return { entries, next: cursor, position: this.#moments.shown(revision) }
  }

  async read(context: Context, path: Path, options?: ReadRangeOptions): Promise<ReadResult> {
    const op = 'memory.read'
    // The newest state is answered without waiting for anything.
    const revision = isPlain(options) ? this.#now(context, op, path) : await this.#revisionFor(context, options, op, path)
    const node = this.#find(context, path, revision, readBit, op)
    if (node.kind !== 'file') throw notAFile(node, op, path)
    const state = revision === newest ? node.head : stateAt(node, revision)!
    const stat = statOf(node, state, node.name)
    const position = this.#moments.shown(revision)
    if (options === undefined && state.bytes.length <= limits.read_bytes_max) return { bytes: state.bytes, stat, position }
    const { offset = 0, length = limits.read_bytes_max } = options ?? {}
    if (!(Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0)) {
      throw new NineError({ kind: 'invalid', op, path, message: 'offset and length are whole numbers from 0' })
    }
    return { bytes: state.bytes.subarray(offset, offset + Math.min(length, limits.read_bytes_max)), stat, position }
  }

  async readlink(context: Context, path: Path, options?: ReadOptions): Promise<ReadlinkResult> {
    const op = 'memory.readlink'
    const revision = await this.#revisionFor(context, options, op, path)
    const node = this.#find(context, path, revision, seeBits, op)
    if (node.kind !== 'symlink') throw new NineError({ kind: 'invalid', op, path, message: `${path} is no symbolic link` })
    return { target: targetOf(node.head), position: this.#moments.shown(revision) }
  }

  async write(context: Context, path: Path, bytes: Uint8Array, options: WriteOptions = {}): Promise<MutationResult> {
    return this.#mutate(context, 'memory.write', path, (change) => write(change, path, bytes, options))
  }

  async create(context: Context, path: Path, options: CreateOptions = {}): Promise<MutationResult> {
    return this.#mutate(context, 'memory.create', path, (change) => create(change, path, 'file', options))
  }

  async mkdir(context: Context, path: Path, options: CreateOptions = {}): Promise<MutationResult> {
    return this.#mutate(context, 'memory.mkdir', path, (change) => create(change, path, 'directory', options))
  }

  async symlink(context: Context, path: Path, target: string, options: CreateOptions = {}): Promise<MutationResult> {
    return this.#mutate(context, 'memory.symlink', path, (change) => create(change, path, 'symlink', options, target))
  }

  async remove(context: Context, path: Path, options: RemoveOptions = {}): Promise<MutationResult> {
    return this.#mutate(context, 'memory.remove', path, (change) => remove(change, path, options))
  }

  async rename(context: Context, from: Path, to: Path, options: RenameOptions = {}): Promise<MutationResult> {
    return this.#mutate(context, 'memory.rename', from, (change) => rename(change, from, to, options))
  }

  async setStat(context: Context, path: Path, changes: StatChanges, options: ConditionOptions = {}): Promise<MutationResult> {
    return this.#mutate(context, 'memory.setStat', path, (change) => setStat(change, path, changes, options.ifMatch))
  }

  async setRights(context: Context, path: Path, record: RightsRecord | undefined, options: ConditionOptions = {}): Promise<MutationResult> {
    return this.#mutate(context, 'memory.setRights', path, (change) => setRights(change, path, record, options.ifMatch))
  }

  async txn(context: Context, request: TxnRequest): Promise<TxnResult> {
    const op = 'memory.txn'
    return this.#once.run(context, op, '', () => {
      const done = this.#commit(context, op, '', (change) => runTxn(change, request))
      return txnResult(done, this.#moments.shown(newest))
    })
  }

  watch(context: Context, path: Path, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    return this.#watches.watch(context, path, options)
  }

  async grantLease(context: Context, ttlMs: number, path: Path = rootPath): Promise<LeaseResult> {
    const op = 'memory.grantLease'
    checkDeadline(context, op, path)
    return this.#once.run(context, op, path, () => {
      const lease = this.#leases.grant(context.principal.name, ttlMs, op, path)
      return { lease, ttlMs, position: this.#moments.shown(newest) }
    })
  }

  async renewLease(context: Context, lease: string): Promise<LeaseResult> {
    const op = 'memory.renewLease'
    checkDeadline(context, op)
    this.#checkLease(context, lease, op, '')
    return { lease, ttlMs: this.#leases.renew(lease)!, position: this.#moments.shown(newest) }
  }

  async revokeLease(context: Context, lease: string): Promise<MutationResult> {
    const op = 'memory.revokeLease'
    return this.#mutate(context, op, '', (change) => {
      this.#checkLease(context, lease, op, '')
      const result = endLease(change, lease)
      this.#leases.forget(lease)
      this.#locks.wakeAll()
      return result
    })
  }

  async lock(context: Context, path: Path, lease: string): Promise<LockResult> {
    const op = 'memory.lock'
    checkDeadline(context, op, path)
    return this.#once.run(context, op, path, () => this.#lock(context, path, lease, op))
  }

  async open(context: Context, path: Path, flags: OpenFlags): Promise<OpenResult> {
    return { ...this.#handles.open(context, path, flags), position: this.#moments.shown(newest) }
  }

  async readHandle(context: Context, handle: HandleId, offset: number, length: number): Promise<HandleReadResult> {
    return this.#handles.read(context, handle, offset, length)
  }

  async writeHandle(context: Context, handle: HandleId, bytes: Uint8Array, offset: number | 'append'): Promise<HandleWriteResult> {
    return this.#once.run(context, 'memory.writeHandle', '', () => this.#handles.write(context, handle, bytes, offset))
  }

  async truncateHandle(context: Context, handle: HandleId, size: number): Promise<void> {
    this.#once.run(context, 'memory.truncateHandle', '', () => this.#handles.truncate(context, handle, size))
  }

  async statHandle(context: Context, handle: HandleId): Promise<StatResult> {
    return { stat: this.#handles.stat(context, handle), position: this.#moments.shown(newest) }
  }

  async syncHandle(context: Context, handle: HandleId): Promise<MutationResult> {
    return this.#once.run(context, 'memory.syncHandle', '', () => this.#answer(this.#handles.sync(context, handle)))
  }

  async closeHandle(context: Context, handle: HandleId, options?: { readonly discard?: boolean }): Promise<MutationResult> {
    return this.#once.run(context, 'memory.closeHandle', '', () =>
      this.#answer(this.#handles.close(context, handle, options?.discard === true)),
    )
  }

  async getRights(context: Context, path: Path): Promise<RightsResult> {
    const op = 'memory.getRights'
    checkDeadline(context, op, path)
    const node = this.#find(context, path, newest, everyBit, op)
    const mask = rightsAt(node, context.principal, this.#owner)
    const on = deciding(node)
    const mine = allRights.filter((right) => (mask & rightBit(right)) !== 0)
    return { record: on?.head.rights, on: on === undefined ? rootPath : pathOf(on), mine, position: this.#moments.shown(newest) }
  }

  /** M1: `act` as one revision, once for the client and number of the context. */
  #mutate(context: Context, op: string, path: Path | '', act: (change: Change) => Mutation): MutationResult {
    return this.#once.run(context, op, path, () => this.#answer(this.#commit(context, op, path, act)))
  }

  #answer({ qid, revision, created, size }: Mutation): MutationResult {
    return { qid, revision, created, size, position: this.#moments.shown(newest) }
  }

  #commit<T>(context: Context, op: string, path: string, act: (change: Change) => T): T {
    checkDeadline(context, op, path)
    if (this.#isClosed) throw new NineError({ kind: 'unavailable', op, path, message: 'the server has been closed' })
    const change = new Change(this.#memory, context, op, this.#nextTime(context, op, path))
    let result: T
    try {
      result = act(change)
    } catch (error) {
      change.rollback()
      throw error
    }
    if (change.isEmpty) return result
    const revision = change.done()
    this.#history.add(revision)
    this.#watches.publish(revision)
    this.#moments.advance()
    if (!this.#locks.isEmpty) this.#locks.wakeAll()
    return result
  }

  /** Times grow with every change, and are later than what the caller has seen. */
  #nextTime(context: Context, op: string, path: string): Micros {
    const now = this.#clock.now()
    const seen = context.time ?? 0
    if (seen > now + limits.clock_ahead_ms_max * 1000) {
      throw new NineError({ kind: 'invalid', op, path, message: 'the clock of the caller is too far ahead' })
    }
    return Math.max(now, this.#history.time + 1, seen + 1)
  }

  async #lock(context: Context, path: Path, lease: string, op: string): Promise<LockResult> {
    const turn = this.#locks.enter(path, op)
    try {
      for (;;) {
        checkDeadline(context, op, path)
        if (this.#isClosed) throw new NineError({ kind: 'unavailable', op, path, message: 'the server has been closed' })
        this.#checkLease(context, lease, op, path)
        const above = deepest(this.#root, parentPath(path), newest).node
        if ((rightsAt(above, context.principal, this.#owner) & createBit) === 0) throw denied(op, path)
        const held = find(this.#root, path, newest)
        if (held?.kind === 'directory') throw notAFile(held, op, path)
        if (held?.head.lease === lease) return { token: held.head.createdRevision, position: this.#moments.shown(newest) }
        if (held === undefined && this.#locks.isFirst(turn)) {
          const { revision } = this.#commit(context, op, path, (change) => create(change, path, 'file', { lease }))
          return { token: revision, position: this.#moments.shown(newest) }
        }
        await turn.wait(context.deadline === Infinity ? Infinity : context.deadline - performance.now() + 1, context.signal)
      }
    } finally {
      this.#locks.leave(turn)
    }
  }

  /** Only who it was granted to, and the server's owner, use a lease. */
  #checkLease(context: Context, lease: string, op: string, path: string): void {
    const owner = this.#leases.ownerOf(lease)
    if (owner === undefined) throw new NineError({ kind: 'not_found', op, path, message: `the lease ${lease} has ended` })
    if (owner !== context.principal.name && context.principal.name !== this.#owner) throw denied(op, path)
  }

  #expire(lease: string): void {
    const context: Context = { principal: { name: this.#owner, groups: [] }, deadline: Infinity, cause: `lease ${lease}` }
    this.#commit(context, 'memory.expire', '', (change) => endLease(change, lease))
    this.#leases.forget(lease)
    this.#locks.wakeAll()
  }

  #now(context: Context, op: string, path: Path): number {
    checkDeadline(context, op, path)
    return newest
  }

  async #revisionFor(context: Context, options: ReadOptions | undefined, op: string, path: Path): Promise<number> {
    checkDeadline(context, op, path)
    if (isPlain(options)) return newest
    return this.#moments.revisionFor(context, options!, op, path)
  }

  /** The node at `path`, where the principal has one of `needed`. */
  #find(context: Context, path: Path, revision: number, needed: RightsMask, op: string): Node {
    const { principal } = context
    const node = find(this.#root, path, revision)
    if (node !== undefined) {
      if (principal.name !== this.#owner && (rightsAt(node, principal, this.#owner) & needed) === 0) throw denied(op, path)
      return node
    }
    throw missing(this.#root, path, revision, principal, this.#owner, op)
  }
}

const everyBit = allRights.reduce((mask, right) => mask | rightBit(right), 0)

function isPlain(options: ReadOptions | undefined): boolean {
  return options === undefined || (options.at === undefined && options.minPosition === undefined)
}

function notAFile(node: Node, op: string, path: Path): NineError {
  if (node.kind === 'directory') return new NineError({ kind: 'is_directory', op, path, message: `${path} is a directory` })
  return new NineError({ kind: 'invalid', op, path, message: `${path} is a symbolic link: readlink gives its target` })
}

function rootNode(owner: string, now: Micros): Node {
  const state = { since: 0, version: 1, revision: 0, createdRevision: 0, createdAt: now, modifiedAt: now }
  const texts = { owner, group: '', modifiedBy: owner, contentType: undefined, lease: undefined, rights: undefined }
  const head = { ...state, ...texts, mode: 0o755, bytes: noBytes, before: undefined }
  return { ino: 1, kind: 'directory', children: new Children(), head, parent: undefined, name: '', isRemoved: false, isReleased: false }
}
