/**
 * Store: a durable tree as a FileServer. One instance a store and node; the engine gives it its log and its tree.
 *
 * A mutation is a command: proposed, durable in the log, applied, answered. A read shows one state of the tree.
 */
import type { LeaseTable } from '../apply/leases.ts'
import type { Applied } from '../apply/machine.ts'
import { nodeAt } from '../apply/walk.ts'
import { maskAt, readBit, seeBits } from '../apply/rights.ts'
import type { BlobFill } from '../blob/fill.ts'
import { checkDeadline, type Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
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
} from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import type { Path } from '../../namespace/path.ts'
import type { RightsRecord } from '../../namespace/rights.ts'
import type { NodeRecord, Outcome, StoredTxn } from '../model.ts'
import type { Tree } from '../tree/tree.ts'
import { answeredError, statOf } from './answers.ts'
import { createCommand, renameCommand, setStatCommand, symlinkCommand, txnCommand, writeCommand } from './commands.ts'
import { StoreCore, type CoreParts } from './core.ts'
import { Handles } from './handles.ts'
import { LargeValues } from './large-values.ts'
import { Leases } from './leases.ts'
import { Reads, sliceOf } from './reads.ts'
import { SharedFiles } from './shared-files.ts'
import { WatchHub, type WatchSource } from './watches.ts'

export interface StoreParts extends CoreParts {
  readonly leaseTable: LeaseTable
  /** Told of every value that is put in place, where others have chunks that may be missing here. */
  readonly fill?: BlobFill | undefined
}

export class Store implements FileServer {
  readonly name: string
  /** Its number on this node. */
  readonly group: number
  readonly #core: StoreCore
  readonly #shared: SharedFiles
  readonly #reads: Reads
  readonly #large: LargeValues
  readonly #handles: Handles
  readonly #watches: WatchHub
  readonly #leases: Leases
  readonly #fill: BlobFill | undefined

  /** `revision`: newest applied one of the tree. */
  constructor(parts: StoreParts, revision: number) {
    this.name = parts.name
    this.group = parts.group
    this.#core = new StoreCore(parts, revision)
    this.#shared = new SharedFiles(this.#core)
    this.#reads = new Reads(this.#core, this.#shared)
    this.#large = new LargeValues(this.#core)
    this.#handles = new Handles(this.#core, this.#shared)
    this.#watches = new WatchHub(watchSource(this.#core))
    this.#leases = new Leases(this.#core, parts.leaseTable)
    this.#fill = parts.fill
  }

  /** Identity in positions. */
  get id(): string {
    return this.#core.positions.store
  }

  get incarnation(): string {
    return this.#core.positions.incarnation
  }

  /** Newest applied revision. */
  get revision(): number {
    return this.#core.revision
  }

  get openHandles(): number {
    return this.#handles.count
  }

  get watchers(): number {
    return this.#watches.watchers
  }

  stat(context: Context, path: Path, options?: ReadOptions): Promise<StatResult> {
    return this.#reads.stat(context, path, options)
  }

  list(context: Context, path: Path, options?: ListOptions): Promise<ListResult> {
    return this.#reads.list(context, path, options)
  }

  read(context: Context, path: Path, options?: ReadRangeOptions): Promise<ReadResult> {
    return this.#reads.read(context, path, options)
  }

  readlink(context: Context, path: Path, options?: ReadOptions): Promise<ReadlinkResult> {
    return this.#reads.readlink(context, path, options)
  }

  async write(context: Context, path: Path, bytes: Uint8Array, options?: WriteOptions): Promise<MutationResult> {
    const op = 'store.write'
    checkDeadline(context, op, path)
    const command = writeCommand(this.#core.random, path, bytes, options)
    if (!this.#shared.isEmpty) await this.#settle(context, op, path)
    let outcome: Outcome
    if (bytes.length > limits.inline_bytes_max) {
      const isWhole = command.content.kind === 'replace'
      outcome = isWhole ? await this.#large.replace(context, op, command, bytes) : await this.#large.change(context, op, command)
    } else {
      outcome = await this.#core.propose(context, op, path, command)
      if (outcome.kind === 'needs_chunks') outcome = await this.#large.change(context, op, command)
    }
    return this.#core.mutationOf(outcome, op, path)
  }

  async create(context: Context, path: Path, options?: CreateOptions): Promise<MutationResult> {
    return this.#core.mutate(context, 'store.create', path, createCommand(this.#core.random, 'create', path, options))
  }

  async mkdir(context: Context, path: Path, options?: CreateOptions): Promise<MutationResult> {
    return this.#core.mutate(context, 'store.mkdir', path, createCommand(this.#core.random, 'mkdir', path, options))
  }

  async symlink(context: Context, path: Path, target: string, options?: CreateOptions): Promise<MutationResult> {
    return this.#core.mutate(context, 'store.symlink', path, symlinkCommand(this.#core.random, path, target, options))
  }

  async remove(context: Context, path: Path, options?: RemoveOptions): Promise<MutationResult> {
    const command = { op: 'remove', target: { path }, ifMatch: options?.ifMatch, recursive: options?.recursive } as const
    return this.#core.mutate(context, 'store.remove', path, command)
  }

  async rename(context: Context, from: Path, to: Path, options?: RenameOptions): Promise<MutationResult> {
    return this.#core.mutate(context, 'store.rename', from, renameCommand(from, to, options))
  }

  async setStat(context: Context, path: Path, changes: StatChanges, options?: ConditionOptions): Promise<MutationResult> {
    const op = 'store.setStat'
    checkDeadline(context, op, path)
    const command = setStatCommand(path, changes, options)
    if (!this.#shared.isEmpty) await this.#settle(context, op, path)
    let outcome = await this.#core.propose(context, op, path, command)
    if (outcome.kind === 'needs_chunks') outcome = await this.#large.change(context, op, command)
    if (outcome.kind !== 'txn') return this.#core.mutationOf(outcome, op, path)
    const last = outcome.result.results[outcome.result.results.length - 1]
    if (last?.op === 'mutation') return this.#core.resultOf(last.result)
    throw new NineError({ kind: 'invalid', op, path, message: 'this client has used the same sequence number for another operation' })
  }

  /** Files that handles have open here are settled under the names they have for everybody. */
  async #settle(context: Context, op: string, path: Path): Promise<void> {
    await this.#core.current(context, op, path)
    const node = nodeAt(this.#core.tree.newest, path)
    if (node !== undefined) await this.#shared.settle(node.ino)
  }

  async txn(context: Context, request: TxnRequest): Promise<TxnResult> {
    const op = 'store.txn'
    checkDeadline(context, op)
    const command = txnCommand(this.#core.random, request)
    const outcome = await this.#large.txn(context, op, command)
    if (outcome.kind === 'txn') return this.#txnResult(outcome.result)
    // The path is the one of the operation that failed.
    if (outcome.kind === 'error') throw answeredError(outcome.error, op, outcome.error.path ?? '')
    throw new NineError({ kind: 'invalid', op, message: 'this client has used the same sequence number for another operation' })
  }

  async #txnResult(stored: StoredTxn): Promise<TxnResult> {
    const results: TxnResult['results'][number][] = []
    for (const entry of stored.results) {
      if (entry.op === 'mutation') results.push({ op: 'mutation', result: this.#core.resultOf(entry.result) })
      else if (entry.op === 'stat') results.push({ op: 'stat', stat: statOf(entry.node) })
      else results.push({ op: 'read', stat: statOf(entry.node), bytes: await this.#valueOf(entry.node) })
    }
    return { branch: stored.branch, results, position: this.#core.positions.at(stored.revision) }
  }

  async #valueOf(node: NodeRecord): Promise<Uint8Array> {
    const { content } = node
    if (content.kind === 'blob') return this.#reads.readBlob(content, 0, limits.read_bytes_max, node.name)
    return sliceOf(content, 0, limits.read_bytes_max)
  }

  watch(context: Context, path: Path, options: WatchOptions = {}): AsyncIterable<WatchBatch> {
    return this.#watches.watch(context, path, options)
  }

  grantLease(context: Context, ttlMs: number): Promise<LeaseResult> {
    return this.#leases.grant(context, ttlMs)
  }

  renewLease(context: Context, lease: string): Promise<LeaseResult> {
    return this.#leases.renew(context, lease)
  }

  revokeLease(context: Context, lease: string): Promise<MutationResult> {
    return this.#leases.revoke(context, lease)
  }

  /** For whoever replicates this store: another replica asks its leader. Gives the ttl, milliseconds. @throws NineError `not_found`, `denied`, `unavailable` (not the leader) */
  renewAsLeader(context: Context, lease: string): Promise<number> {
    return this.#leases.renewAsLeader(context, lease)
  }

  lock(context: Context, path: Path, lease: string): Promise<LockResult> {
    return this.#leases.lock(context, path, lease)
  }

  open(context: Context, path: Path, flags: OpenFlags): Promise<OpenResult> {
    return this.#handles.open(context, path, flags)
  }

  readHandle(context: Context, handle: HandleId, offset: number, length: number): Promise<HandleReadResult> {
    return this.#handles.read(context, handle, offset, length)
  }

  writeHandle(context: Context, handle: HandleId, bytes: Uint8Array, offset: number | 'append'): Promise<HandleWriteResult> {
    return this.#handles.write(context, handle, bytes, offset)
  }

  truncateHandle(context: Context, handle: HandleId, size: number): Promise<void> {
    return this.#handles.truncate(context, handle, size)
  }

  statHandle(context: Context, handle: HandleId): Promise<StatResult> {
    return this.#handles.stat(context, handle)
  }

  syncHandle(context: Context, handle: HandleId): Promise<MutationResult> {
    return this.#handles.sync(context, handle)
  }

  closeHandle(context: Context, handle: HandleId, options?: { readonly discard?: boolean }): Promise<MutationResult> {
    return this.#handles.close(context, handle, options?.discard === true)
  }

  getRights(context: Context, path: Path): Promise<RightsResult> {
    return this.#reads.getRights(context, path)
  }

  async setRights(context: Context, path: Path, record: RightsRecord | undefined, options?: ConditionOptions): Promise<MutationResult> {
    const op = 'store.setRights'
    if (record !== undefined && record.length > limits.rights_entries_max) {
      throw new NineError({ kind: 'too_large', op, path, message: `a rights record has at most ${limits.rights_entries_max} entries` })
    }
    return this.#core.mutate(context, op, path, { op: 'setRights', target: { path }, rights: record, ifMatch: options?.ifMatch })
  }

  /** A connection ended: its handles end with it. */
  closeSession(session: number): Promise<void> {
    return this.#handles.closeSession(session)
  }

  /** For the engine: an entry was applied, in the same turn. */
  applied({ revision, leases }: Applied): void {
    if (revision !== undefined) {
      this.#core.advance(revision.revision)
      this.#watches.publish(revision)
      this.#leases.published(revision)
      this.#fill?.applied(revision)
    }
    if (leases.length > 0) this.#leases.changed(leases)
  }

  /** For whoever replicates this store: this node leads in `term`, the opening entry of which is applied; 0: it leads no longer. */
  leading(term: number): void {
    this.#leases.leading(term)
  }

  /**
   * For whoever replicates this store: a snapshot took the place of the state, in one turn with this call. Watches go on from history
   * where it reaches back far enough, else they end with `compacted`. So they all do where it is of another incarnation: it was restored, and
   * handles end with it.
   */
  replaced(tree: Tree, leaseTable: LeaseTable, revision: number, incarnation = this.incarnation): void {
    const next = this.#core.revision + 1
    if (incarnation !== this.incarnation) this.#shared.restored()
    this.#core.replaced(tree, revision, incarnation)
    this.#watches.replaced(next)
    this.#leases.replaced(leaseTable)
    this.#fill?.scan()
  }

  /** For collection: whether a handle holds this file, unlinked or not. */
  isOpen(ino: number): boolean {
    return this.#handles.isOpen(ino)
  }

  /** Publish what shared handles hold while proposals are still taken. */
  async drain(): Promise<void> {
    this.#leases.close()
    await this.#handles.closeAll()
  }

  close(): void {
    this.#watches.close()
  }
}

function watchSource(core: StoreCore): WatchSource {
  const { owner } = core
  const mask = (principal: Context['principal'], node: NodeRecord): number => {
    const { newest } = core.tree
    let rights = maskAt(newest, node, principal, owner)
    const now = node.kind === 'directory' ? newest.node(node.ino) : undefined
    if (now !== undefined) rights &= maskAt(newest, now, principal, owner)
    return rights
  }
  return {
    positions: core.positions,
    revision: () => core.revision,
    firstKept: () => core.tree.history.floor + 1,
    readHistory: (from, max) => core.tree.history.read(from, max),
    current: (context, op, path) => core.current(context, op, path),
    maySee: (principal, node) => principal.name === owner || (mask(principal, node) & seeBits) !== 0,
    mayRead: (principal, node) => principal.name === owner || (mask(principal, node) & readBit) !== 0,
  }
}
