/**
 * Namespace: one session's table of mounts and binds, itself a file server (namespace(4), bind(1) of Plan 9).
 *
 * It resolves a path against its own table, calls the server that it leads to with the server's own path, and gives
 * failures and events back under the caller's path. It keeps no files and no cache of any.
 *
 * K1 Resolution depends on this table and the path alone, and on the servers where a union has to be asked (choose.ts).
 * K2 A fork shares the table until one of them changes it: neither sees the other's changes.
 * K3 A mount point, and a directory above one, is neither removed nor renamed (`conflict`: unmount first). Every other
 *    operation on a mount point is one on what is mounted.
 * K4 What touches two paths (rename, txn) needs one server: else `cross_store`.
 * K5 Where no union is on the way an operation is one call: the server's promise is returned, with a handler that maps
 *    failures where paths differ, and nothing else.
 */
import { chooseMembers, walkUnions } from './choose.ts'
import type { ChooseOptions, Intent } from './choose.ts'
import type { Context } from './context.ts'
import { emptyServer } from './empty-server.ts'
import { isNineError, NineError } from './errors.ts'
import type { ErrorKind } from './errors.ts'
import type * as Fs from './file-server.ts'
import { limits } from './limits.ts'
import { directoryStat, isNoDirectory, listWalked } from './listing.ts'
import { MountTable } from './mount-table.ts'
import type { Channel, Member, MountEntry, MountOrder } from './mount-table.ts'
import { baseName, rootPath } from './path.ts'
import type { Path } from './path.ts'
import { noPosition } from './position.ts'
import type { RightsRecord } from './rights.ts'
import { Handles, Leases, unknownHandle } from './routes.ts'
import { runTxn } from './txn.ts'
import { toOuter, walk, walkToCovered } from './walk.ts'
import type { Walked } from './walk.ts'
import { failingWatch, watchWalked } from './watching.ts'

export interface MountOptions {
  /** Default `replace`. */
  readonly order?: MountOrder | undefined
  /** Names made in the union go here, when no member before it takes them. Without meaning for a single member. */
  readonly create?: boolean | undefined
  /** What entries() calls a mounted server: a service's name or an address. */
  readonly source?: string | undefined
}

export class Namespace implements Fs.FileServer {
  #table: MountTable
  #next = 1
  readonly #handles = new Handles()
  readonly #leases = new Leases()

  /** `root` is mounted at '/'; without one, '/' shows what is mounted. */
  constructor(root: Fs.FileServer | MountTable = emptyServer()) {
    this.#table = root instanceof MountTable ? root : new MountTable(root)
  }

  /** A namespace that begins as this one is now. O(1). Handles and leases stay with the one that gave them. */ // K2
  fork(): Namespace {
    const forked = new Namespace(this.#table)
    forked.#next = this.#next
    return forked
  }

  /**
   * Show `source` (a server, or a path of one) at `at`. What is mounted need not be reachable.
   * @throws NineError `not_directory` (below a file; a union of what is no directory), `too_large` (limits.mounts_max, limits.union_members_max)
   */
  async mount(context: Context, source: Fs.FileServer | Channel, at: Path, options: MountOptions = {}): Promise<void> {
    const channel = 'server' in source ? source : { server: source, path: rootPath }
    if (options.order === 'before' || options.order === 'after') await this.#checkDirectory(context, channel, at)
    await this.#cover(context, [{ ...channel, create: true }], at, 'mount', options.source ?? '-', options)
  }

  /**
   * Show at `oldPath` what is at `newPath` now. Later mounts at `newPath` itself do not follow; mounts below it do.
   * @throws NineError `not_found` (no `newPath`), and as mount
   */
  async bind(context: Context, newPath: Path, oldPath: Path, options: MountOptions = {}): Promise<void> {
    const found = await this.stat(context, newPath).catch((error: unknown) => {
      if (isNineError(error, 'unavailable')) return undefined
      throw error
    })
    const isUnion = options.order === 'before' || options.order === 'after'
    if (isUnion && found !== undefined && found.stat.kind !== 'directory')
      throw failure('not_directory', 'bind', newPath, 'a union is of directories')
    const walked = await walkUnions(this.#table, context, newPath, walk(this.#table, newPath), 'existing')
    const members = walked.union?.members ?? [{ ...walked, create: true }]
    await this.#cover(context, members, oldPath, 'bind', newPath, options)
  }

  /**
   * Take away what covers `at`: all of it, or what came from `source` (a server, a bound path, or a mount's name).
   * @throws NineError `not_found` when nothing of the kind is there
   */
  async unmount(context: Context, at: Path, source?: Fs.FileServer | Path | string): Promise<void> {
    const key = await this.#covered(context, at)
    const changed = this.#table.unmount(key, (member) => source === undefined || member.server === source || member.entry.source === source)
    if (changed === undefined) throw failure('not_found', 'unmount', at, 'no such mount is here')
    this.#table = changed
  }

  /** Every mount and bind, in the order in which they were made. */
  entries(): MountEntry[] {
    return this.#table.entries()
  }

  /** Whether all that is found at and below `path` is the whole of `server`, with nothing mounted inside. */
  isWhole(path: Path, server: Fs.FileServer): boolean {
    const walked = walk(this.#table, path)
    return walked.server === server && walked.path === rootPath && walked.union === undefined && walked.node === undefined
  }

  stat(context: Context, path: Path, options?: Fs.ReadOptions): Promise<Fs.StatResult> {
    return this.#at(context, path, 'existing', options, (walked) => {
      const found = walked.server.stat(context, walked.path, options)
      if (walked.name === undefined && walked.node === undefined) return found
      return found.then(
        (result) => {
          if (walked.node === undefined || result.stat.kind === 'directory') return named(result, walked)
          return { stat: directoryStat(path, baseName(path)), position: result.position }
        },
        (error: unknown) => {
          if (walked.node === undefined || !isNoDirectory(error)) throw error
          return { stat: directoryStat(path, baseName(path)), position: noPosition }
        },
      )
    })
  }

  list(context: Context, path: Path, options?: Fs.ListOptions): Promise<Fs.ListResult> {
    if (isTooFar(context)) return tooFar(path)
    return listWalked(this.#table, context, path, walk(this.#table, path), options)
  }

  read(context: Context, path: Path, options?: Fs.ReadRangeOptions): Promise<Fs.ReadResult> {
    const walked = walk(this.#table, path)
    if (walked.union !== undefined || walked.node !== undefined || isTooFar(context)) return this.#readSlowly(context, path, options)
    const found = walked.server.read(context, walked.path, options) // K5
    if (walked.name !== undefined) return found.then((result) => named(result, walked), walked.reject)
    return walked.reject === undefined ? found : found.then(undefined, walked.reject)
  }

  #readSlowly(context: Context, path: Path, options: Fs.ReadRangeOptions | undefined): Promise<Fs.ReadResult> {
    return this.#at(context, path, 'existing', options, async (walked) => {
      if (walked.node !== undefined) throw failure('is_directory', 'read', walked.path, 'mounts are below it')
      return named(await walked.server.read(context, walked.path, options), walked)
    })
  }

  write(context: Context, path: Path, bytes: Uint8Array, options?: Fs.WriteOptions): Promise<Fs.MutationResult> {
    const intent = options?.mustExist === true ? 'existing' : intentOf(options)
    return this.#at(context, path, intent, undefined, (walked) =>
      walked.node === undefined ? walked.server.write(context, walked.path, bytes, options) : refuse('is_directory', 'write', walked),
    )
  }

  create(context: Context, path: Path, options?: Fs.CreateOptions): Promise<Fs.MutationResult> {
    return this.#at(context, path, intentOf(options), undefined, (walked) =>
      walked.node === undefined ? walked.server.create(context, walked.path, options) : refuse('exists', 'create', walked),
    )
  }

  /** A directory on the way to a mount that its server does not have can be made there. */
  mkdir(context: Context, path: Path, options?: Fs.CreateOptions): Promise<Fs.MutationResult> {
    return this.#at(context, path, intentOf(options), undefined, (walked) => walked.server.mkdir(context, walked.path, options))
  }

  symlink(context: Context, path: Path, target: string, options?: Fs.CreateOptions): Promise<Fs.MutationResult> {
    return this.#at(context, path, intentOf(options), undefined, (walked) =>
      walked.node === undefined ? walked.server.symlink(context, walked.path, target, options) : refuse('exists', 'symlink', walked),
    )
  }

  readlink(context: Context, path: Path, options?: Fs.ReadOptions): Promise<Fs.ReadlinkResult> {
    return this.#at(context, path, 'existing', options, (walked) =>
      walked.node === undefined ? walked.server.readlink(context, walked.path, options) : refuse('invalid', 'readlink', walked),
    )
  }

  remove(context: Context, path: Path, options?: Fs.RemoveOptions): Promise<Fs.MutationResult> {
    if (isPinned(walk(this.#table, path), path)) return pinned(path)
    return this.#at(context, path, 'existing', undefined, (walked) =>
      isPinned(walked, path) ? pinned(walked.path) : walked.server.remove(context, walked.path, options),
    )
  }

  async rename(context: Context, from: Path, to: Path, options?: Fs.RenameOptions): Promise<Fs.MutationResult> {
    if (isTooFar(context)) return tooFar(from)
    const source = await this.#locate(context, from, 'existing')
    const target = await this.#locate(context, to, intentOf(options), { near: source })
    for (const [walked, path] of [
      [source, from],
      [target, to],
    ] as const)
      if (isPinned(walked, path)) return pinned(path)
    if (source.server !== target.server) {
      // K4
      if (options?.replace !== true && (await this.#exists(context, to)))
        throw failure('exists', 'rename', to, 'there is a file of this name')
      throw failure('cross_store', 'rename', from, `${JSON.stringify(to)} is of another server`)
    }
    try {
      return await source.server.rename(context, source.path, target.path, options)
    } catch (error) {
      const isOfTarget = isNineError(error) && error.path === target.path
      throw isOfTarget ? error.at(to) : isNineError(error) && error.path === source.path ? error.at(from) : mapped(error, source)
    }
  }

  setStat(context: Context, path: Path, changes: Fs.StatChanges, options?: Fs.ConditionOptions): Promise<Fs.MutationResult> {
    return this.#at(context, path, 'existing', undefined, (walked) =>
      walked.server.setStat(context, walked.path, changes, options).catch(readOnlyIfMissing(walked)),
    )
  }

  txn(context: Context, request: Fs.TxnRequest): Promise<Fs.TxnResult> {
    if (isTooFar(context)) return tooFar(rootPath)
    return runTxn(context, request, async (path, intent, near) => {
      const walked = await this.#locate(context, path, intent, near === undefined ? undefined : { near })
      return { walked, isPinned: isPinned(walked, path) }
    })
  }

  watch(context: Context, path: Path, options?: Fs.WatchOptions): AsyncIterable<Fs.WatchBatch> {
    try {
      if (isTooFar(context)) throw tooFarError(path)
      return watchWalked(this.#table, context, path, walk(this.#table, path), options)
    } catch (error) {
      return failingWatch(error)
    }
  }

  grantLease(context: Context, ttlMs: number, path: Path = rootPath): Promise<Fs.LeaseResult> {
    return this.#at(context, path, 'makeParents', undefined, async (walked) => {
      const granted = await walked.server.grantLease(context, ttlMs, walked.path)
      this.#leases.note(granted.lease, walked.server)
      return granted
    })
  }

  renewLease(context: Context, lease: string): Promise<Fs.LeaseResult> {
    return this.#leases.route(lease, this.#table.servers(), (server) => server.renewLease(context, lease))
  }

  async revokeLease(context: Context, lease: string): Promise<Fs.MutationResult> {
    const result = await this.#leases.route(lease, this.#table.servers(), (server) => server.revokeLease(context, lease))
    this.#leases.forget(lease)
    return result
  }

  lock(context: Context, path: Path, lease: string): Promise<Fs.LockResult> {
    return this.#at(context, path, 'make', undefined, (walked) =>
      walked.node === undefined ? walked.server.lock(context, walked.path, lease) : refuse('is_directory', 'lock', walked),
    )
  }

  open(context: Context, path: Path, flags: Fs.OpenFlags): Promise<Fs.OpenResult> {
    const intent = flags.create === true ? intentOf(flags) : 'existing'
    return this.#at(context, path, intent, undefined, async (walked) => {
      if (walked.node !== undefined) return refuse('is_directory', 'open', walked)
      this.#handles.checkRoom(walked.path)
      const opened = await walked.server.open(context, walked.path, flags)
      const handle = this.#handles.add({ server: walked.server, handle: opened.handle, walked, isShared: flags.mode === 'shared' })
      return { ...named(opened, walked), handle }
    })
  }

  readHandle(context: Context, handle: Fs.HandleId, offset: number, length: number): Promise<Fs.HandleReadResult> {
    const open = this.#handles.get(handle)
    if (open === undefined) return unknownHandle(handle)
    const answer = open.server.readHandle(context, open.handle, offset, length)
    return open.walked.reject === undefined ? answer : answer.then(undefined, open.walked.reject)
  }

  writeHandle(context: Context, handle: Fs.HandleId, bytes: Uint8Array, offset: number | 'append'): Promise<Fs.HandleWriteResult> {
    const open = this.#handles.get(handle)
    if (open === undefined) return unknownHandle(handle)
    const answer = open.server.writeHandle(context, open.handle, bytes, offset)
    return open.walked.reject === undefined ? answer : answer.then(undefined, open.walked.reject)
  }

  truncateHandle(context: Context, handle: Fs.HandleId, size: number): Promise<void> {
    const open = this.#handles.get(handle)
    if (open === undefined) return unknownHandle(handle)
    return settle(open.walked, open.server.truncateHandle(context, open.handle, size))
  }

  statHandle(context: Context, handle: Fs.HandleId): Promise<Fs.StatResult> {
    const open = this.#handles.get(handle)
    if (open === undefined) return unknownHandle(handle)
    const { walked } = open
    // A file that was renamed since it was opened has a name of its own.
    const answer = open.server.statHandle(context, open.handle)
    return settle(
      walked,
      answer.then((result) => (result.stat.name === baseName(walked.path) ? named(result, walked) : result)),
    )
  }

  syncHandle(context: Context, handle: Fs.HandleId): Promise<Fs.MutationResult> {
    const open = this.#handles.get(handle)
    if (open === undefined) return unknownHandle(handle)
    return settle(open.walked, open.server.syncHandle(context, open.handle))
  }

  closeHandle(context: Context, handle: Fs.HandleId, options?: { readonly discard?: boolean }): Promise<Fs.MutationResult> {
    const open = this.#handles.get(handle)
    if (open === undefined) return unknownHandle(handle)
    this.#handles.delete(handle)
    return settle(open.walked, open.server.closeHandle(context, open.handle, options))
  }

  /** The session has ended: what its atomic handles staged is dropped, what its shared handles have is published. */
  async dropHandles(context: Context): Promise<void> {
    const open = this.#handles.takeAll()
    await Promise.allSettled(open.map(({ server, handle, isShared }) => server.closeHandle(context, handle, { discard: !isShared })))
  }

  getRights(context: Context, path: Path): Promise<Fs.RightsResult> {
    return this.#at(context, path, 'existing', undefined, async (walked) => {
      try {
        const result = await walked.server.getRights(context, walked.path)
        // A record above what is mounted here has no name here: it is told at the mount point.
        return { ...result, on: toOuter(result.on, walked.outer, walked.inner) ?? walked.outer }
      } catch (error) {
        if (walked.node === undefined || !isNoDirectory(error)) throw error
        return { record: undefined, on: path, mine: ['read', 'list'], position: noPosition }
      }
    })
  }

  setRights(context: Context, path: Path, record: RightsRecord | undefined, options?: Fs.ConditionOptions): Promise<Fs.MutationResult> {
    return this.#at(context, path, 'existing', undefined, (walked) =>
      walked.server.setRights(context, walked.path, record, options).catch(readOnlyIfMissing(walked)),
    )
  }

  /** Do `run` where `path` leads; its failures are told under the caller's path. */
  #at<R>(
    context: Context,
    path: Path,
    intent: Intent,
    options: Fs.ReadOptions | undefined,
    run: (walked: Walked) => Promise<R>,
  ): Promise<R> {
    if (isTooFar(context)) return tooFar(path)
    const walked = walk(this.#table, path)
    if (walked.union === undefined) return settle(walked, run(walked))
    return chooseMembers(this.#table, context, path, walked, intent, readOptionsOf(options)).then((chosen) => settle(chosen, run(chosen)))
  }

  async #locate(context: Context, path: Path, intent: Intent, options?: ChooseOptions): Promise<Walked> {
    return chooseMembers(this.#table, context, path, walk(this.#table, path), intent, options)
  }

  async #exists(context: Context, path: Path): Promise<boolean> {
    try {
      await this.stat(context, path)
      return true
    } catch (error) {
      if (isNineError(error, 'not_found')) return false
      throw error
    }
  }

  async #cover(
    context: Context,
    channels: readonly (Channel & { readonly create: boolean })[],
    at: Path,
    verb: MountEntry['verb'],
    source: string,
    options: MountOptions,
  ): Promise<void> {
    const { order = 'replace', create = false } = options
    const key = await this.#covered(context, at)
    await this.#checkCovered(context, key, at, order !== 'replace')
    const entry = { verb, source, at, order, create, number: this.#next++ }
    const members = channels.map((channel): Member => {
      return { server: channel.server, path: channel.path, create: create && channel.create, original: false, entry }
    })
    // The table as it is now: it may have changed while servers were asked.
    this.#table = this.#table.mount(key, members, order)
  }

  /** The channel that a mount at `at` covers. */
  async #covered(context: Context, at: Path): Promise<Channel> {
    const { server, path } = await chooseMembers(this.#table, context, at, walkToCovered(this.#table, at), 'cover')
    return { server, path }
  }

  /** A directory that is not there, or cannot be asked now, can be covered (mount-table M4). */
  async #checkCovered(context: Context, key: Channel, at: Path, isUnion: boolean): Promise<void> {
    try {
      const { stat } = await key.server.stat(context, key.path)
      if (!isUnion || stat.kind === 'directory') return
    } catch (error) {
      if (!isNineError(error, 'not_directory')) return
    }
    throw failure('not_directory', 'mount', at, 'only a directory can be mounted on here')
  }

  async #checkDirectory(context: Context, channel: Channel, at: Path): Promise<void> {
    try {
      if ((await channel.server.stat(context, channel.path)).stat.kind === 'directory') return
    } catch (error) {
      if (isNineError(error, 'unavailable')) return
      throw isNineError(error) ? error.at(at) : error
    }
    throw failure('not_directory', 'mount', at, 'a union is of directories')
  }
}

function settle<R>(walked: Walked, answer: Promise<R>): Promise<R> {
  return walked.reject === undefined ? answer : answer.then(undefined, walked.reject)
}

function mapped(error: unknown, walked: Walked): unknown {
  try {
    return walked.reject === undefined ? error : walked.reject(error)
  } catch (outer) {
    return outer
  }
}

/** The result under the name that the caller used. */
function named<R extends { readonly stat: Fs.StatResult['stat'] }>(result: R, walked: Walked): R {
  return walked.name === undefined ? result : { ...result, stat: { ...result.stat, name: walked.name } }
}

function intentOf(options: { readonly parents?: boolean | undefined } | undefined): Intent {
  return options?.parents === true ? 'makeParents' : 'make'
}

function readOptionsOf(options: Fs.ReadOptions | undefined): Fs.ReadOptions | undefined {
  return options === undefined ? undefined : { consistency: options.consistency, minPosition: options.minPosition, at: options.at }
}

/** K3. The root of all is refused by its server, unless it is only a part of one. */
function isPinned(walked: Walked, path: Path): boolean {
  if (path === '/') return walked.inner !== '/'
  return walked.isMountPoint || walked.node !== undefined
}

function pinned(path: Path): Promise<never> {
  return Promise.reject(failure('conflict', 'remove', path, 'it is a mount point, or one is below it: unmount first'))
}

function readOnlyIfMissing(walked: Walked): (error: unknown) => never {
  return (error) => {
    if (walked.node === undefined || !isNineError(error, 'not_found')) throw error
    throw failure('read_only', 'setStat', walked.path, 'this directory is there for the mounts below it only')
  }
}

function refuse(kind: ErrorKind, verb: string, walked: Walked): Promise<never> {
  return Promise.reject(failure(kind, verb, walked.path, 'it is a directory: mounts are below it'))
}

function isTooFar(context: Context): boolean {
  return context.hops !== undefined && context.hops > limits.hops_max
}

function tooFar(path: Path): Promise<never> {
  return Promise.reject(tooFarError(path))
}

function tooFarError(path: Path): NineError {
  return failure('loop', 'walk', path, `the request went over more than ${limits.hops_max} nodes`)
}

function failure(kind: ErrorKind, verb: string, path: Path, message: string): NineError {
  return new NineError({ kind, op: `namespace.${verb}`, path, message })
}
