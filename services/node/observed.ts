/**
 * A file server that counts and, when tracing is configured, traces every operation on its way to another. The node puts one
 * around each session's namespace: the single place through which all edges go.
 *
 * O1 When the session has ended everything is refused, also what waits: a record of a stream, a lock.
 * O2 What is open can still be dropped then, so that nothing stays behind of it.
 */
import { setMaxListeners } from 'node:events'
import type { Context } from '../../namespace/context.ts'
import type { NineError } from '../../namespace/errors.ts'
import { toNineError } from '../../namespace/errors.ts'
import type {
  ConditionOptions,
  CreateOptions,
  FileServer,
  HandleId,
  ListOptions,
  OpenFlags,
  ReadOptions,
  ReadRangeOptions,
  RemoveOptions,
  RenameOptions,
  StatChanges,
  TxnRequest,
  WatchBatch,
  WatchOptions,
  WriteOptions,
} from '../../namespace/file-server.ts'
import type { Path } from '../../namespace/path.ts'
import { rootPath } from '../../namespace/path.ts'
import type { RightsRecord } from '../../namespace/rights.ts'
import type { Metrics } from './metrics.ts'
import type { Tracing } from './tracing.ts'

export class ObservedServer implements FileServer {
  readonly #server: FileServer
  readonly #metrics: Metrics
  readonly #tracing: Tracing | undefined
  readonly #ended: AbortSignal
  /** What to call at the end, of operations that may wait for long. */
  readonly #waiting = new Set<() => void>()

  /** @param ended aborted with a NineError: everything is refused with it from then on, and watches end */
  constructor(server: FileServer, metrics: Metrics, tracing: Tracing | undefined, ended: AbortSignal) {
    this.#ended = ended
    setMaxListeners(0, ended)
    ended.addEventListener('abort', () => this.#waiting.forEach((refuse) => refuse()), { once: true })
    this.#server = server
    this.#metrics = metrics
    this.#tracing = tracing
  }

  stat(context: Context, path: Path, options?: ReadOptions) {
    return this.#observe('stat', context, path, (traced) => this.#server.stat(traced, path, options))
  }

  list(context: Context, path: Path, options?: ListOptions) {
    return this.#observe('list', context, path, (traced) => this.#server.list(traced, path, options))
  }

  read(context: Context, path: Path, options?: ReadRangeOptions) {
    return this.#observe('read', context, path, (traced) => this.#server.read(traced, path, options))
  }

  write(context: Context, path: Path, bytes: Uint8Array, options?: WriteOptions) {
    return this.#observe('write', context, path, (traced) => this.#server.write(traced, path, bytes, options))
  }

  create(context: Context, path: Path, options?: CreateOptions) {
    return this.#observe('create', context, path, (traced) => this.#server.create(traced, path, options))
  }

  mkdir(context: Context, path: Path, options?: CreateOptions) {
    return this.#observe('mkdir', context, path, (traced) => this.#server.mkdir(traced, path, options))
  }

  symlink(context: Context, path: Path, target: string, options?: CreateOptions) {
    return this.#observe('symlink', context, path, (traced) => this.#server.symlink(traced, path, target, options))
  }

  readlink(context: Context, path: Path, options?: ReadOptions) {
    return this.#observe('readlink', context, path, (traced) => this.#server.readlink(traced, path, options))
  }

  remove(context: Context, path: Path, options?: RemoveOptions) {
    return this.#observe('remove', context, path, (traced) => this.#server.remove(traced, path, options))
  }

  rename(context: Context, from: Path, to: Path, options?: RenameOptions) {
    return this.#observe('rename', context, from, (traced) => this.#server.rename(traced, from, to, options))
  }

  setStat(context: Context, path: Path, changes: StatChanges, options?: ConditionOptions) {
    return this.#observe('setStat', context, path, (traced) => this.#server.setStat(traced, path, changes, options))
  }

  txn(context: Context, request: TxnRequest) {
    return this.#observe('txn', context, rootPath, (traced) => this.#server.txn(traced, request))
  }

  /** Counted when it begins; a span of hours would tell nothing. */
  watch(context: Context, path: Path, options?: WatchOptions): AsyncIterable<WatchBatch> {
    this.#metrics.operation('watch')
    if (this.#ended.aborted) return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(this.#refusal()) }) }
    const signal = context.signal === undefined ? this.#ended : AbortSignal.any([context.signal, this.#ended])
    // Every member of a union listens to it.
    setMaxListeners(0, signal)
    return this.#server.watch({ ...context, signal }, path, options)
  }

  grantLease(context: Context, ttlMs: number, path?: Path) {
    return this.#observe('grantLease', context, path ?? rootPath, (traced) => this.#server.grantLease(traced, ttlMs, path))
  }

  renewLease(context: Context, lease: string) {
    return this.#observe('renewLease', context, rootPath, (traced) => this.#server.renewLease(traced, lease))
  }

  revokeLease(context: Context, lease: string) {
    return this.#observe('revokeLease', context, rootPath, (traced) => this.#server.revokeLease(traced, lease))
  }

  lock(context: Context, path: Path, lease: string) {
    return this.#observe('lock', context, path, (traced) => this.#unlessEnded(this.#server.lock(traced, path, lease)))
  }

  open(context: Context, path: Path, flags: OpenFlags) {
    return this.#observe('open', context, path, (traced) => this.#server.open(traced, path, flags))
  }

  readHandle(context: Context, handle: HandleId, offset: number, length: number) {
    return this.#observe('readHandle', context, rootPath, (traced) =>
      this.#unlessEnded(this.#server.readHandle(traced, handle, offset, length)),
    )
  }

  writeHandle(context: Context, handle: HandleId, bytes: Uint8Array, offset: number | 'append') {
    return this.#observe('writeHandle', context, rootPath, (traced) => this.#server.writeHandle(traced, handle, bytes, offset))
  }

  truncateHandle(context: Context, handle: HandleId, size: number) {
    return this.#observe('truncateHandle', context, rootPath, (traced) => this.#server.truncateHandle(traced, handle, size))
  }

  statHandle(context: Context, handle: HandleId) {
    return this.#observe('statHandle', context, rootPath, (traced) => this.#server.statHandle(traced, handle))
  }

  syncHandle(context: Context, handle: HandleId) {
    return this.#observe('syncHandle', context, rootPath, (traced) => this.#server.syncHandle(traced, handle))
  }

  closeHandle(context: Context, handle: HandleId, options?: { readonly discard?: boolean }) {
    if (this.#ended.aborted && options?.discard === true) return this.#server.closeHandle(context, handle, options) // O2
    return this.#observe('closeHandle', context, rootPath, (traced) => this.#server.closeHandle(traced, handle, options))
  }

  getRights(context: Context, path: Path) {
    return this.#observe('getRights', context, path, (traced) => this.#server.getRights(traced, path))
  }

  setRights(context: Context, path: Path, record: RightsRecord | undefined, options?: ConditionOptions) {
    return this.#observe('setRights', context, path, (traced) => this.#server.setRights(traced, path, record, options))
  }

  #observe<T>(op: string, context: Context, path: Path, run: (context: Context) => Promise<T>): Promise<T> {
    this.#metrics.operation(op)
    if (this.#ended.aborted) return Promise.reject(this.#refusal())
    const span = this.#tracing?.begin(op, path, context.principal.name, context.trace)
    const answer = run(span === undefined ? context : { ...context, trace: span.traceparent })
    answer.then(span === undefined ? undefined : () => span.end(), (thrown: unknown) => {
      const error = toNineError(thrown, `node.${op}`, path)
      this.#metrics.failure(op, error.kind)
      span?.end(error)
    })
    return answer
  }

  /** O1. What it answers later is dropped. */
  #unlessEnded<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const refuse = (): void => reject(this.#refusal())
      this.#waiting.add(refuse)
      const over = (): void => void this.#waiting.delete(refuse)
      answer.then(
        (value) => (over(), resolve(value)),
        (error: unknown) => (over(), reject(error as Error)),
      )
    })
  }

  #refusal(): NineError {
    return toNineError(this.#ended.reason, 'node.session')
  }
}
