/**
 * RemoteFileServer: the contract of FileServer over a session, whatever is at its other end: a node, a service's process, or
 * a node that reached a third. It only turns calls into requests; a Caller sends them.
 */
import type { Context } from '../context.ts'
import type * as Fs from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Path } from '../path.ts'
import type { RightsRecord } from '../rights.ts'
import {
  closeHandleOperation,
  grantLeaseOperation,
  lockOperation,
  openOperation,
  readHandleOperation,
  renewLeaseOperation,
  revokeLeaseOperation,
  statHandleOperation,
  syncHandleOperation,
  truncateHandleOperation,
  writeHandleOperation,
} from '../wire/handles.ts'
import {
  createOperation,
  mkdirOperation,
  removeOperation,
  renameOperation,
  setRightsOperation,
  setStatOperation,
  symlinkOperation,
  writeOperation,
} from '../wire/mutations.ts'
import type { Messages } from '../wire/operation.ts'
import { getRightsOperation, listOperation, readlinkOperation, readOperation, statOperation } from '../wire/reads.ts'
import { txnOperation } from '../wire/txn.ts'
import type { WatchArgs } from '../wire/watch.ts'

/** Sends requests: one session, or one that is made again whenever it is lost. */
export interface Caller {
  call<Args, Result>(messages: Messages<Args, Result>, context: Context, args: Args): Promise<Result>
  watch(context: Context, args: WatchArgs): AsyncIterable<Fs.WatchBatch>
}

export class RemoteFileServer implements Fs.FileServer {
  readonly #caller: Caller

  constructor(caller: Caller) {
    this.#caller = caller
  }

  stat(context: Context, path: Path, options?: Fs.ReadOptions): Promise<Fs.StatResult> {
    return this.#caller.call(statOperation, context, { path, options })
  }

  list(context: Context, path: Path, options?: Fs.ListOptions): Promise<Fs.ListResult> {
    return this.#caller.call(listOperation, context, { path, options })
  }

  read(context: Context, path: Path, options?: Fs.ReadRangeOptions): Promise<Fs.ReadResult> {
    return this.#caller.call(readOperation, context, { path, options })
  }

  write(context: Context, path: Path, bytes: Uint8Array, options?: Fs.WriteOptions): Promise<Fs.MutationResult> {
    return this.#caller.call(writeOperation, context, { path, bytes, options })
  }

  create(context: Context, path: Path, options?: Fs.CreateOptions): Promise<Fs.MutationResult> {
    return this.#caller.call(createOperation, context, { path, options })
  }

  mkdir(context: Context, path: Path, options?: Fs.CreateOptions): Promise<Fs.MutationResult> {
    return this.#caller.call(mkdirOperation, context, { path, options })
  }

  symlink(context: Context, path: Path, target: string, options?: Fs.CreateOptions): Promise<Fs.MutationResult> {
    return this.#caller.call(symlinkOperation, context, { path, target, options })
  }

  readlink(context: Context, path: Path, options?: Fs.ReadOptions): Promise<Fs.ReadlinkResult> {
    return this.#caller.call(readlinkOperation, context, { path, options })
  }

  remove(context: Context, path: Path, options?: Fs.RemoveOptions): Promise<Fs.MutationResult> {
    return this.#caller.call(removeOperation, context, { path, options })
  }

  rename(context: Context, path: Path, to: Path, options?: Fs.RenameOptions): Promise<Fs.MutationResult> {
    return this.#caller.call(renameOperation, context, { path, to, options })
  }

  setStat(context: Context, path: Path, changes: Fs.StatChanges, options?: Fs.ConditionOptions): Promise<Fs.MutationResult> {
    return this.#caller.call(setStatOperation, context, { path, changes, options })
  }

  txn(context: Context, request: Fs.TxnRequest): Promise<Fs.TxnResult> {
    return this.#caller.call(txnOperation, context, request)
  }

  watch(context: Context, path: Path, options?: Fs.WatchOptions): AsyncIterable<Fs.WatchBatch> {
    return this.#caller.watch(context, { path, options, credit: limits.watch_credit_bytes })
  }

  grantLease(context: Context, ttlMs: number, path?: Path): Promise<Fs.LeaseResult> {
    return this.#caller.call(grantLeaseOperation, context, { ttlMs, path })
  }

  renewLease(context: Context, lease: string): Promise<Fs.LeaseResult> {
    return this.#caller.call(renewLeaseOperation, context, { lease })
  }

  revokeLease(context: Context, lease: string): Promise<Fs.MutationResult> {
    return this.#caller.call(revokeLeaseOperation, context, { lease })
  }

  lock(context: Context, path: Path, lease: string): Promise<Fs.LockResult> {
    return this.#caller.call(lockOperation, context, { path, lease })
  }

  open(context: Context, path: Path, flags: Fs.OpenFlags): Promise<Fs.OpenResult> {
    return this.#caller.call(openOperation, context, { path, flags })
  }

  readHandle(context: Context, handle: Fs.HandleId, offset: number, length: number): Promise<Fs.HandleReadResult> {
    return this.#caller.call(readHandleOperation, context, { handle, offset, length })
  }

  writeHandle(context: Context, handle: Fs.HandleId, bytes: Uint8Array, offset: number | 'append'): Promise<Fs.HandleWriteResult> {
    return this.#caller.call(writeHandleOperation, context, { handle, bytes, offset })
  }

  truncateHandle(context: Context, handle: Fs.HandleId, size: number): Promise<void> {
    return this.#caller.call(truncateHandleOperation, context, { handle, size })
  }

  statHandle(context: Context, handle: Fs.HandleId): Promise<Fs.StatResult> {
    return this.#caller.call(statHandleOperation, context, { handle })
  }

  syncHandle(context: Context, handle: Fs.HandleId): Promise<Fs.MutationResult> {
    return this.#caller.call(syncHandleOperation, context, { handle })
  }

  closeHandle(context: Context, handle: Fs.HandleId, options?: { readonly discard?: boolean }): Promise<Fs.MutationResult> {
    return this.#caller.call(closeHandleOperation, context, { handle, discard: options?.discard })
  }

  getRights(context: Context, path: Path): Promise<Fs.RightsResult> {
    return this.#caller.call(getRightsOperation, context, { path, options: undefined })
  }

  setRights(context: Context, path: Path, record: RightsRecord | undefined, options?: Fs.ConditionOptions): Promise<Fs.MutationResult> {
    return this.#caller.call(setRightsOperation, context, { path, record, options })
  }
}
