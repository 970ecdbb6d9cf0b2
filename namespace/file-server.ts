/**
 * FileServer: the one interface of the system. Memory trees, stores, unions, remote nodes and services are all one.
 *
 * Rules that hold for every operation of every implementation:
 * F1 Paths are the server's own (its root is '/'); errors carry the path that was given. All failures are NineErrors.
 * F2 Arguments and results are plain structured-cloneable data (a Context's signal and a watch's iteration are carried
 *    by whoever moves a server to another thread or machine). Byte arrays given in are not kept or changed after
 *    the promise settles; byte arrays given out belong to the receiver as read-only and never change.
 * F3 What a server cannot do is `unsupported`; what it is not allowed to change is `read_only`.
 * F4 Nothing follows a symbolic link: an operation on one is an operation on the link itself, and a path that goes
 *    through one is `not_directory`.
 * F5 A mutation that answers is durable and visible to every later read; one that fails with `outcome: none` did not happen.
 * F6 (client, seq) of the Context make each mutation take effect once; a retry gets the first answer, errors included. Handles end
 *    with their connection: what was asked of one and not answered cannot be asked again, and its outcome is `unknown`.
 * F7 The position of an answer is the one it shows; of a mutation, the one at which it became visible.
 */
import type { Context } from './context.ts'
import type { Path } from './path.ts'
import type { Position } from './position.ts'
import type { Right, RightsRecord } from './rights.ts'
import type { Micros, Qid, Stat } from './stat.ts'

export interface FileServer {
  stat(context: Context, path: Path, options?: ReadOptions): Promise<StatResult>
  /** Children by name in `compareNames` order, or all descendants in pre-order when recursive. `not_directory` for a file. */
  list(context: Context, path: Path, options?: ListOptions): Promise<ListResult>
  /** Bytes of a file, or the next record of a stream. `is_directory` for a directory. Past the end: no bytes. */
  read(context: Context, path: Path, options?: ReadRangeOptions): Promise<ReadResult>

  /** Change or make a file. A line to a ctl file; the request of a call file has to go through a handle. */
  write(context: Context, path: Path, bytes: Uint8Array, options?: WriteOptions): Promise<MutationResult>
  /** Make an empty file. `exists` when there is one. */
  create(context: Context, path: Path, options?: CreateOptions): Promise<MutationResult>
  mkdir(context: Context, path: Path, options?: CreateOptions): Promise<MutationResult>
  symlink(context: Context, path: Path, target: string, options?: CreateOptions): Promise<MutationResult>
  /** `invalid` when it is no link. */
  readlink(context: Context, path: Path, options?: ReadOptions): Promise<ReadlinkResult>
  /** Remove a file or an empty directory, or a whole tree with `recursive`, in one change and one event. */
  remove(context: Context, path: Path, options?: RemoveOptions): Promise<MutationResult>
  /** Move a file or tree, atomically and at a cost that does not depend on its size. `cross_store` between servers. */
  rename(context: Context, from: Path, to: Path, options?: RenameOptions): Promise<MutationResult>
  setStat(context: Context, path: Path, changes: StatChanges, options?: ConditionOptions): Promise<MutationResult>
  /** All or nothing, at one revision. */
  txn(context: Context, request: TxnRequest): Promise<TxnResult>

  /**
   * Events at or after `from` (default: after now), in order, each once; then live. Ends only by return(), the signal,
   * or an error: `compacted` (resume tells where to restart), `overloaded` (slow reader; resume tells where to go on).
   * A path that does not exist can be watched. A server that has positions gives the first batch at once, without events when
   * there are none yet: from it on whoever watches knows where to go on.
   */
  watch(context: Context, path: Path, options?: WatchOptions): AsyncIterable<WatchBatch>

  /** A lease of the store that `path` (default: the root) belongs to; the Namespace routes renewals by the lease it gave. */
  grantLease(context: Context, ttlMs: number, path?: Path): Promise<LeaseResult>
  /** Start its time anew. `not_found` when it has ended. Changes no file. */
  renewLease(context: Context, lease: string): Promise<LeaseResult>
  /** End it now: its files are removed. */
  revokeLease(context: Context, lease: string): Promise<MutationResult>
  /**
   * Advisory lock: create the file `path` bound to `lease`, waiting in turn while another holds it, until the deadline.
   * The fencing token is the file's createdRevision: it only grows. Unlock by removing the file or ending the lease.
   */
  lock(context: Context, path: Path, lease: string): Promise<LockResult>

  /** Make a handle. It follows its file through rename and unlink until it is closed. */
  open(context: Context, path: Path, flags: OpenFlags): Promise<OpenResult>
  readHandle(context: Context, handle: HandleId, offset: number, length: number): Promise<HandleReadResult>
  /** `offset` 'append': at the end. Answers when staged, not when durable: sync and close do that. */
  writeHandle(context: Context, handle: HandleId, bytes: Uint8Array, offset: number | 'append'): Promise<HandleWriteResult>
  truncateHandle(context: Context, handle: HandleId, size: number): Promise<void>
  statHandle(context: Context, handle: HandleId): Promise<StatResult>
  /** Publish what is staged; durable when it answers. `conflict` when an atomic handle's `ifMatch` no longer holds. */
  syncHandle(context: Context, handle: HandleId): Promise<MutationResult>
  /** sync, then forget the handle, whatever sync answered. With `discard`, staged changes are dropped instead. */
  closeHandle(context: Context, handle: HandleId, options?: { readonly discard?: boolean }): Promise<MutationResult>

  /** The record that decides at `path` and the directory it stands on. */
  getRights(context: Context, path: Path): Promise<RightsResult>
  /** Put a record on a directory; undefined takes it away. Needs `admin`. */
  setRights(context: Context, path: Path, record: RightsRecord | undefined, options?: ConditionOptions): Promise<MutationResult>
}

/** Which state a read shows. */
export interface ReadOptions {
  /** `stale` may be answered from any replica without asking the others. Default `linearizable`. */
  readonly consistency?: 'linearizable' | 'stale' | undefined
  /** The answer shows at least this position (read-your-writes); waits until it does, within the deadline. */
  readonly minPosition?: Position | undefined
  /** Show the past: as it was at this position, or at the last change not after this time. `compacted` when no longer kept. */
  readonly at?: Position | Micros | undefined
}

export interface ListOptions extends ReadOptions {
  /** Start after this name (relative path when recursive), which need not exist. */
  readonly after?: string | undefined
  /** Go on from the `next` of the page before; shows the same revision. Options must be the same. */
  readonly cursor?: string | undefined
  readonly limit?: number | undefined
  readonly maxBytes?: number | undefined
  readonly recursive?: boolean | undefined
  /** Only names (relative paths when recursive) that start with this. */
  readonly prefix?: string | undefined
}

export interface ReadRangeOptions extends ReadOptions {
  /** Default 0. */
  readonly offset?: number | undefined
  /** Default and at most limits.read_bytes_max. */
  readonly length?: number | undefined
}

/** A file's life and change count: both must be as given. `none`: nothing may exist there. */
export type IfMatch = 'none' | { readonly path: number; readonly version: number }

export interface ConditionOptions {
  /** Failing it is `conflict`. */
  readonly ifMatch?: IfMatch | undefined
}

export interface CreateOptions extends ConditionOptions {
  /** Make missing parent directories. */
  readonly parents?: boolean | undefined
  /** The file ends with it. A whole new value without one takes the file off the lease it had; part of a value leaves it. */
  readonly lease?: string | undefined
  /** Shorthand for a lease of its own that is never renewed, milliseconds. */
  readonly ttlMs?: number | undefined
  readonly contentType?: string | undefined
  readonly mode?: number | undefined
  readonly modifiedAt?: Micros | undefined
}

export interface WriteOptions extends CreateOptions {
  /** `replace` (default) the whole value, `append` at the end as it is when applied, or write at an offset without truncating. */
  readonly at?: 'replace' | 'append' | number | undefined
  /** Fail with `not_found` rather than make the file. */
  readonly mustExist?: boolean | undefined
}

export interface RemoveOptions extends ConditionOptions {
  readonly recursive?: boolean | undefined
}

export interface RenameOptions extends ConditionOptions {
  /** Replace an existing file, or an empty directory by a directory. Without it: `exists`. */
  readonly replace?: boolean | undefined
  readonly parents?: boolean | undefined
}

export interface StatChanges {
  readonly mode?: number | undefined
  readonly owner?: string | undefined
  readonly group?: string | undefined
  readonly modifiedAt?: Micros | undefined
  readonly contentType?: string | undefined
  /** Truncate or extend with zeros. */
  readonly size?: number | undefined
}

export interface StatResult {
  readonly stat: Stat
  readonly position: Position
}

export interface ListResult {
  readonly entries: readonly Stat[]
  /** Give it as `cursor` for the next page; undefined on the last. */
  readonly next?: string | undefined
  readonly position: Position
}

export interface ReadResult {
  readonly bytes: Uint8Array
  readonly stat: Stat
  readonly position: Position
}

export interface ReadlinkResult {
  readonly target: string
  readonly position: Position
}

export interface MutationResult {
  /** Of the file changed; of the file removed as it last was. */
  readonly qid: Qid
  /** Revision of its store; 0 where unversioned. */
  readonly revision: number
  readonly created: boolean
  readonly size: number
  readonly position: Position
}

export type TxnOperation =
  | { readonly op: 'write'; readonly path: Path; readonly bytes: Uint8Array; readonly options?: WriteOptions | undefined }
  | { readonly op: 'create' | 'mkdir'; readonly path: Path; readonly options?: CreateOptions | undefined }
  | { readonly op: 'symlink'; readonly path: Path; readonly target: string; readonly options?: CreateOptions | undefined }
  | { readonly op: 'remove'; readonly path: Path; readonly options?: RemoveOptions | undefined }
  | { readonly op: 'rename'; readonly path: Path; readonly to: Path; readonly options?: RenameOptions | undefined }
  | { readonly op: 'setStat'; readonly path: Path; readonly changes: StatChanges; readonly options?: ConditionOptions | undefined }
  | { readonly op: 'stat' | 'read'; readonly path: Path }

/** True when the file at `path` is as `is` says. */
export interface TxnCondition {
  readonly path: Path
  readonly is: IfMatch | 'exists'
}

export interface TxnRequest {
  /** All must hold for `then`; otherwise `else`. None: `then`. */
  readonly if: readonly TxnCondition[]
  readonly then: readonly TxnOperation[]
  readonly else: readonly TxnOperation[]
}

export type TxnOperationResult =
  | { readonly op: 'mutation'; readonly result: MutationResult }
  | { readonly op: 'stat'; readonly stat: Stat }
  | { readonly op: 'read'; readonly stat: Stat; readonly bytes: Uint8Array }

/** An operation that fails fails the whole transaction with its error; nothing of it happens. */
export interface TxnResult {
  readonly branch: 'then' | 'else'
  readonly results: readonly TxnOperationResult[]
  readonly position: Position
}

export interface WatchOptions {
  /** Events below the path too, not only of it and, for a directory, its direct children. */
  readonly recursive?: boolean | undefined
  /** First position wanted (inclusive); a number is a revision of the one store that serves the path. */
  readonly from?: Position | number | undefined
  /** Events without bytes. */
  readonly statsOnly?: boolean | undefined
  /** Events carry the stat before the change as well. */
  readonly previous?: boolean | undefined
}

/** `subtree` on remove and rename of a directory: one event for the whole tree, whatever its size. */
export interface WatchEvent {
  readonly type: 'create' | 'change' | 'remove' | 'rename'
  /** Path at that time; for a rename, where it went. */
  readonly path: Path
  /** Where a rename came from. */
  readonly from?: Path | undefined
  readonly subtree: boolean
  /** After the change; of a remove, as it last was. */
  readonly stat: Stat
  readonly previous?: Stat | undefined
  /** Value after the change, where it is inline in its record and statsOnly was not asked. */
  readonly bytes?: Uint8Array | undefined
  readonly actor: string
  readonly time: Micros
  readonly cause?: string | undefined
  /** Of the event in its store; over several stores its own comes first, then where to go on with the others. */
  readonly position: Position
}

/** Events in order. An empty batch is progress: everything up to `position` has been seen. */
export interface WatchBatch {
  readonly events: readonly WatchEvent[]
  /** Resume here to see what comes after this batch: the next wanted position. */
  readonly position: Position
}

export interface LeaseResult {
  readonly lease: string
  readonly ttlMs: number
  readonly position: Position
}

export interface LockResult {
  /** Fencing token: createdRevision of the lock file. */
  readonly token: number
  readonly position: Position
}

/** Number of a handle in the server that gave it. */
export type HandleId = number

export interface OpenFlags {
  readonly read?: boolean | undefined
  readonly write?: boolean | undefined
  /** Make it if missing; with `exclusive`, it must be missing (`exists`). */
  readonly create?: boolean | undefined
  readonly exclusive?: boolean | undefined
  /** Start empty. */
  readonly truncate?: boolean | undefined
  readonly parents?: boolean | undefined
  /** `atomic` (default): staged privately, one change at sync or close, dropped on disconnect. `shared`: visible at once on this node. */
  readonly mode?: 'atomic' | 'shared' | undefined
  /** Atomic: checked again when published. */
  readonly ifMatch?: IfMatch | undefined
  readonly contentType?: string | undefined
  /** Permission bits of a file this makes. */
  readonly permissions?: number | undefined
  readonly modifiedAt?: Micros | undefined
  readonly lease?: string | undefined
  readonly ttlMs?: number | undefined
}

export interface OpenResult {
  readonly handle: HandleId
  readonly stat: Stat
  readonly position: Position
}

export interface HandleReadResult {
  readonly bytes: Uint8Array
  /** Whether `bytes` reaches the end of the file (for a stream: it has ended). */
  readonly end: boolean
}

export interface HandleWriteResult {
  readonly written: number
  /** Size of the file as this handle sees it. */
  readonly size: number
}

export interface RightsResult {
  /** undefined: no record on the way up, the store's owner alone. */
  readonly record: RightsRecord | undefined
  /** Directory the record stands on. */
  readonly on: Path
  /** What the asking principal may do at the path. */
  readonly mine: readonly Right[]
  readonly position: Position
}
