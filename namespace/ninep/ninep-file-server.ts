/**
 * A 9P server as a FileServer. README.md says what of the contract 9P cannot promise.
 *
 * N1 What 9P has no word for (watch, leases, locks, transactions, rights, the past, conditions on versions) is `unsupported`.
 * N2 A mutation is numbered in this process only: a retry of one that this object saw gets its first answer (once.ts); a server
 *    that answered a connection which was lost is never asked again.
 * N3 Answers show no position: a 9P server keeps no history.
 */
import { checkDeadline } from '../context.ts'
import type { Context } from '../context.ts'
import { NineError, toNineError } from '../errors.ts'
import type * as Fs from '../file-server.ts'
import { limits } from '../limits.ts'
import { OnceTable } from '../once.ts'
import { baseName } from '../path.ts'
import type { Path } from '../path.ts'
import { noPosition } from '../position.ts'
import { changeStat, createFile, makeNamed, needFile, removeFile, renameFile, writeFile } from './changes.ts'
import type { Changed } from './changes.ts'
import { checkAttributes, checkCondition, checkCount, checkMaking, checkReading, checkSize, checkTarget, checkValue } from './checks.ts'
import type { Asked } from './checks.ts'
import { treeOf } from './dialect.ts'
import { Handles } from './handles.ts'
import type { NinepLink } from './link.ts'
import { Listings } from './listing.ts'
import { isLink, Operation } from './operation.ts'
import { readBytes } from './transfer.ts'
import type { Tree } from './tree.ts'
import { Turns } from './turns.ts'

type Act<T> = (o: Operation, tree: Tree) => Promise<T>

export class NinepFileServer implements Fs.FileServer {
  readonly #link: NinepLink
  readonly #once = new OnceTable()
  readonly #turns = new Turns()
  readonly #listings = new Listings()
  readonly #handles = new Handles(this.#turns)

  constructor(link: NinepLink) {
    this.#link = link
  }

  stat(context: Context, path: Path, options: Fs.ReadOptions = {}): Promise<Fs.StatResult> {
    return this.#read(context, 'stat', path, options, (o, tree) =>
      o.with(o.walk(), async ({ fid }) => ({ stat: await tree.stat(o, fid, baseName(path)), position: noPosition })),
    )
  }

  list(context: Context, path: Path, options: Fs.ListOptions = {}): Promise<Fs.ListResult> {
    return this.#read(context, 'list', path, options, async (o, tree) => ({
      ...(await this.#listings.page(o, tree, options)),
      position: noPosition,
    }))
  }

  read(context: Context, path: Path, options: Fs.ReadRangeOptions = {}): Promise<Fs.ReadResult> {
    const { offset = 0, length = limits.read_bytes_max } = options
    return this.#read(context, 'read', path, options, (o, tree) => {
      checkCount(o, offset)
      checkCount(o, length)
      return o.with(o.walk(), async (file) => {
        needFile(o, file)
        const stat = await tree.stat(o, file.fid, baseName(path))
        const iounit = await tree.open(o, file.fid, { read: true, write: false })
        const count = Math.min(length, limits.read_bytes_max)
        const bytes = count === 0 ? new Uint8Array() : await readBytes(o, { fid: file.fid, iounit }, offset, count, stat.size ?? 0)
        return { bytes, stat, position: noPosition }
      })
    })
  }

  readlink(context: Context, path: Path, options: Fs.ReadOptions = {}): Promise<Fs.ReadlinkResult> {
    return this.#read(context, 'readlink', path, options, (o, tree) =>
      o.with(o.walk(), async ({ fid, qid }) => {
        if (!isLink(qid)) throw o.error('invalid', 'it is no symbolic link')
        return { target: await tree.readlink(o, fid), position: noPosition }
      }),
    )
  }

  write(context: Context, path: Path, bytes: Uint8Array, options: Fs.WriteOptions = {}): Promise<Fs.MutationResult> {
    const asked = { op: 'ninep.write', path }
    const check = (): void => {
      checkValue(asked, bytes)
      checkMaking(asked, options)
      if (typeof options.at === 'number') checkSize(asked, options.at, bytes.length)
    }
    return this.#change(context, asked, check, (o, tree) => writeFile(o, tree, this.#turns, bytes, options))
  }

  create(context: Context, path: Path, options: Fs.CreateOptions = {}): Promise<Fs.MutationResult> {
    const asked = { op: 'ninep.create', path }
    return this.#change(
      context,
      asked,
      () => checkMaking(asked, options),
      (o, tree) => createFile(o, tree, options),
    )
  }

  mkdir(context: Context, path: Path, options: Fs.CreateOptions = {}): Promise<Fs.MutationResult> {
    const asked = { op: 'ninep.mkdir', path }
    return this.#change(
      context,
      asked,
      () => checkMaking(asked, options),
      (o, tree) => makeNamed(o, tree, options),
    )
  }

  symlink(context: Context, path: Path, target: string, options: Fs.CreateOptions = {}): Promise<Fs.MutationResult> {
    const asked = { op: 'ninep.symlink', path }
    const check = (): void => {
      checkTarget(asked, target)
      checkMaking(asked, options)
    }
    return this.#change(context, asked, check, (o, tree) => makeNamed(o, tree, options, target))
  }

  remove(context: Context, path: Path, options: Fs.RemoveOptions = {}): Promise<Fs.MutationResult> {
    const asked = { op: 'ninep.remove', path }
    return this.#change(
      context,
      asked,
      () => checkCondition(asked, options.ifMatch, false),
      (o, tree) => removeFile(o, tree, options.recursive === true),
    )
  }

  rename(context: Context, from: Path, to: Path, options: Fs.RenameOptions = {}): Promise<Fs.MutationResult> {
    const asked = { op: 'ninep.rename', path: from }
    return this.#change(
      context,
      asked,
      () => checkCondition(asked, options.ifMatch, false),
      (o, tree) => renameFile(o, tree, this.#turns, to, options),
    )
  }

  setStat(context: Context, path: Path, changes: Fs.StatChanges, options: Fs.ConditionOptions = {}): Promise<Fs.MutationResult> {
    const asked = { op: 'ninep.setStat', path }
    const check = (): void => {
      checkAttributes(asked, changes)
      if (changes.size !== undefined) checkSize(asked, changes.size, 0)
      checkCondition(asked, options.ifMatch, false)
    }
    return this.#change(context, asked, check, (o, tree) => changeStat(o, tree, changes))
  }

  txn(): Promise<Fs.TxnResult> {
    return unsupported('txn', '/', 'a 9P server has no transactions')
  }

  watch(_context: Context, path: Path): AsyncIterableIterator<Fs.WatchBatch> {
    const iterator: AsyncIterableIterator<Fs.WatchBatch> = {
      [Symbol.asyncIterator]: () => iterator,
      next: () => unsupported('watch', path, 'a 9P server tells nobody of changes'),
      return: () => Promise.resolve({ done: true, value: undefined }),
    }
    return iterator
  }

  grantLease(_context: Context, _ttlMs: number, path?: Path): Promise<Fs.LeaseResult> {
    return unsupported('grantLease', path ?? '/', 'a 9P server has no leases')
  }

  renewLease(): Promise<Fs.LeaseResult> {
    return unsupported('renewLease', '', 'a 9P server has no leases')
  }

  revokeLease(): Promise<Fs.MutationResult> {
    return unsupported('revokeLease', '', 'a 9P server has no leases')
  }

  lock(_context: Context, path: Path): Promise<Fs.LockResult> {
    return unsupported('lock', path, 'a 9P server has no locks with leases')
  }

  async open(context: Context, path: Path, flags: Fs.OpenFlags): Promise<Fs.OpenResult> {
    return this.#run(context, { op: 'ninep.open', path }, async (o) => ({ ...(await this.#handles.open(o, flags)), position: noPosition }))
  }

  readHandle(context: Context, handle: Fs.HandleId, offset: number, length: number): Promise<Fs.HandleReadResult> {
    return this.#handles.read(context, handle, offset, length)
  }

  writeHandle(context: Context, handle: Fs.HandleId, bytes: Uint8Array, offset: number | 'append'): Promise<Fs.HandleWriteResult> {
    return this.#handles.write(context, handle, bytes, offset)
  }

  truncateHandle(context: Context, handle: Fs.HandleId, size: number): Promise<void> {
    return this.#handles.truncate(context, handle, size)
  }

  async statHandle(context: Context, handle: Fs.HandleId): Promise<Fs.StatResult> {
    return { stat: await this.#handles.stat(context, handle), position: noPosition }
  }

  async syncHandle(context: Context, handle: Fs.HandleId): Promise<Fs.MutationResult> {
    return resultOf(await this.#handles.sync(context, handle))
  }

  async closeHandle(context: Context, handle: Fs.HandleId, options?: { readonly discard?: boolean }): Promise<Fs.MutationResult> {
    return resultOf(await this.#handles.close(context, handle, options?.discard === true))
  }

  getRights(_context: Context, path: Path): Promise<Fs.RightsResult> {
    return unsupported('getRights', path, 'a 9P server decides by rules of its own')
  }

  setRights(_context: Context, path: Path): Promise<Fs.MutationResult> {
    return unsupported('setRights', path, 'a 9P server decides by rules of its own')
  }

  #read<T>(context: Context, verb: string, path: Path, options: Fs.ReadOptions, act: Act<T>): Promise<T> {
    const asked = { op: `ninep.${verb}`, path }
    return this.#run(context, asked, (o, tree) => {
      checkReading(asked, options)
      return act(o, tree)
    })
  }

  /** N2 */
  async #change(context: Context, asked: Asked, check: () => void, act: Act<Changed>): Promise<Fs.MutationResult> {
    checkDeadline(context, asked.op, asked.path)
    check()
    return this.#once.run(context, asked.op, asked.path, async () => resultOf(await this.#run(context, asked, act)))
  }

  async #run<T>(context: Context, { op, path }: Asked, act: Act<T>): Promise<T> {
    checkDeadline(context, op, path)
    const attached = await this.#link.use(context).catch((error: unknown) => {
      throw toNineError(error, op).at(path, op)
    })
    const o = new Operation(attached, context, op, path)
    try {
      return await act(o, treeOf(attached.connection.dialect))
    } catch (error) {
      throw o.failure(error)
    }
  }
}

function resultOf({ stat, created }: Changed): Fs.MutationResult {
  return { qid: stat.qid, revision: stat.revision, created, size: stat.size ?? 0, position: noPosition }
}

function unsupported(verb: string, path: string, message: string): Promise<never> {
  return Promise.reject(new NineError({ kind: 'unsupported', op: `ninep.${verb}`, path, message }))
}
