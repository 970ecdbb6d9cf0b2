/**
 * Files that are open through a mount: the kernel's numbers, each with a shared handle at the node.
 *
 * P1 A number is one file, whatever is renamed or removed meanwhile: everything done through it goes to its handle.
 * P2 A handle that went with its connection is opened anew, by path, at the next use: the same file, or the use fails with ESTALE.
 * P3 Whoever wrote and did not sync before the connection was lost is told so once, at the next flush or sync: EIO.
 * P4 Only what can be repeated without harm is repeated: an append that may have happened is not.
 */
import type { Context } from '../../namespace/context.ts'
import { isNineError } from '../../namespace/errors.ts'
import type { FileServer, HandleId, OpenFlags } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { isWithin, joinPath, relativePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Stat } from '../../namespace/stat.ts'
import { openFlag, openFlagsOf } from '../../namespace/posix.ts'
import { ErrnoError } from './errno.ts'

interface OpenFile {
  /** Where the kernel believes it is; a name of its own (see hidden-files.ts) once it is removed. */
  path: Path
  readonly flags: OpenFlags
  readonly isAppending: boolean
  /** Number of the file in its store: what `path` has to lead to for the handle to be opened anew. */
  readonly identity: number
  handle: HandleId
  /** Changes made through it, and how many of them were when it was last synced. */
  changes: number
  synced: number
  hasLostWrites: boolean
  /** Where a file ends that only a read can tell the size of; undefined until one did, and for all others. */
  end: number | undefined
  readonly isSizeKnown: boolean
  reopening: Promise<void> | undefined
}

const numbers_max = 2 ** 31 - 1

export class OpenFiles {
  readonly #server: FileServer
  readonly #context: () => Context
  readonly #files = new Map<number, OpenFile>()
  #last = 0

  /** @param context of one request, with its deadline */
  constructor(server: FileServer, context: () => Context) {
    this.#server = server
    this.#context = context
  }

  /** @param flags of open(2) */
  async open(path: Path, flags: number): Promise<number> {
    const asked = openFlagsOf(flags)
    const { handle, stat } = await this.#server.open(this.#context(), path, asked)
    const number = this.#take()
    const file: OpenFile = {
      path,
      flags: { ...asked, truncate: false },
      isAppending: (flags & openFlag.append) !== 0,
      identity: stat.qid.path,
      handle,
      changes: asked.truncate === true ? 1 : 0,
      synced: 0,
      hasLostWrites: false,
      end: undefined,
      isSizeKnown: stat.size !== undefined,
      reopening: undefined,
    }
    if (stat.kind === 'computed' && asked.read === true && stat.size === undefined) await this.#measure(file)
    this.#files.set(number, file)
    return number
  }

  async read(number: number, offset: number, length: number): Promise<Uint8Array> {
    const file = this.#get(number)
    const { bytes } = await this.#on(file, true, (context, handle) => this.#server.readHandle(context, handle, offset, length))
    if (!file.isSizeKnown && bytes.length < length) {
      file.end = bytes.length > 0 ? offset + bytes.length : Math.min(file.end ?? Infinity, offset)
    }
    return bytes
  }

  /** Where the file at `path` was seen to end, by whoever has it open; undefined unless only a read could tell. */
  endOf(path: Path): number | undefined {
    let end: number | undefined
    for (const file of this.#at(path)) if (file.end !== undefined) end = Math.max(end ?? 0, file.end)
    return end
  }

  async write(number: number, bytes: Uint8Array, offset: number): Promise<number> {
    const file = this.#get(number)
    const at = file.isAppending ? 'append' : offset
    const { written } = await this.#change(file, at !== 'append', (context, handle) => this.#server.writeHandle(context, handle, bytes, at))
    return written
  }

  async truncate(number: number, size: number): Promise<void> {
    await this.#change(this.#get(number), true, (context, handle) => this.#server.truncateHandle(context, handle, size))
  }

  async stat(number: number): Promise<Stat> {
    return (await this.#on(this.#get(number), true, (context, handle) => this.#server.statHandle(context, handle))).stat
  }

  /** What was written is durable and visible to all when it answers. */
  async sync(number: number): Promise<void> {
    await this.#sync(this.#get(number))
  }

  /** As sync, where something was written. */
  async flush(number: number): Promise<void> {
    const file = this.#get(number)
    if (isDirty(file) || file.hasLostWrites) await this.#sync(file)
  }

  /** Publish what was written to the file at `path`, through whatever number; what was lost is for who wrote it to hear. */ // P3
  async flushPath(path: Path): Promise<void> {
    for (const file of this.#at(path)) if (isDirty(file)) await this.#publish(file)
  }

  async close(number: number): Promise<void> {
    const file = this.#get(number)
    this.#files.delete(number)
    try {
      await this.#server.closeHandle(this.#context(), file.handle)
    } catch (error) {
      // It went with its connection, which published what it had.
      if (!isLost(error)) throw error
      if (isDirty(file)) throw new ErrnoError('EIO') // P3
    }
    if (file.hasLostWrites) throw new ErrnoError('EIO') // P3
  }

  /** Close all that is open; gives the paths of those whose writes could not be published. */
  async closeAll(): Promise<Path[]> {
    const failed: Path[] = []
    await Promise.all(
      [...this.#files].map(async ([number, { path }]) => {
        try {
          await this.close(number)
        } catch {
          failed.push(path)
        }
      }),
    )
    return failed
  }

  /** A number that has the file at `path` open, if any; with `isWritable` one that can change it. */
  find(path: Path, isWritable = false): number | undefined {
    for (const [number, file] of this.#files) {
      if (file.path === path && (!isWritable || file.flags.write === true)) return number
    }
    return undefined
  }

  /** P1 */
  renamed(from: Path, to: Path): void {
    for (const file of this.#files.values()) {
      if (isWithin(file.path, from)) file.path = joinPath(to, relativePath(file.path, from))
    }
  }

  *#at(path: Path): Generator<OpenFile> {
    for (const file of this.#files.values()) if (file.path === path) yield file
  }

  /** A value is computed once a handle: reading it through tells how long it is before the kernel asks. */
  async #measure(file: OpenFile): Promise<void> {
    const context = this.#context()
    try {
      for (let offset = 0; ;) {
        const { bytes, end } = await this.#server.readHandle(context, file.handle, offset, limits.read_bytes_max)
        offset += bytes.length
        file.end = offset
        if (end || bytes.length === 0) return
      }
    } catch (error) {
      await this.#server.closeHandle(context, file.handle, { discard: true }).catch(() => undefined)
      throw error
    }
  }

  async #sync(file: OpenFile): Promise<void> {
    await this.#publish(file)
    if (!file.hasLostWrites) return
    file.hasLostWrites = false
    throw new ErrnoError('EIO') // P3
  }

  async #publish(file: OpenFile): Promise<void> {
    const { changes } = file
    await this.#on(file, true, (context, handle) => this.#server.syncHandle(context, handle))
    file.synced = Math.max(file.synced, changes)
  }

  /** What is lost with a connection is what was written before this change. */
  async #change<T>(file: OpenFile, isRepeatable: boolean, act: (context: Context, handle: HandleId) => Promise<T>): Promise<T> {
    try {
      return await this.#on(file, isRepeatable, act)
    } finally {
      file.changes++
    }
  }

  async #on<T>(file: OpenFile, isRepeatable: boolean, act: (context: Context, handle: HandleId) => Promise<T>): Promise<T> {
    const context = this.#context()
    const { handle } = file
    try {
      return await act(context, handle)
    } catch (error) {
      if (!isLost(error)) throw error
      // `retryable` says that it may have been sent. // P4
      const isOver = !isRepeatable && error.retryable
      await this.#reopen(file, handle, context)
      if (isOver) throw new ErrnoError('EIO')
    }
    return act(context, file.handle)
  }

  /** P2 */
  async #reopen(file: OpenFile, lost: HandleId, context: Context): Promise<void> {
    if (file.handle !== lost) return
    file.reopening ??= this.#openAnew(file, context).finally(() => (file.reopening = undefined))
    await file.reopening
  }

  async #openAnew(file: OpenFile, context: Context): Promise<void> {
    const { handle, stat } = await this.#server.open(context, file.path, file.flags).catch((error: unknown) => {
      throw isNineError(error, 'not_found') ? new ErrnoError('ESTALE') : error
    })
    if (stat.qid.path !== file.identity) {
      await this.#server.closeHandle(context, handle, { discard: true })
      throw new ErrnoError('ESTALE')
    }
    if (isDirty(file)) file.hasLostWrites = true // P3
    file.synced = file.changes
    file.handle = handle
  }

  #get(number: number): OpenFile {
    const file = this.#files.get(number)
    if (file === undefined) throw new ErrnoError('EBADF')
    return file
  }

  #take(): number {
    do this.#last = (this.#last % numbers_max) + 1
    while (this.#files.has(this.#last))
    return this.#last
  }
}

function isDirty(file: OpenFile): boolean {
  return file.changes > file.synced
}

/** Whether a handle is gone with its connection, or cannot be asked now. */
function isLost(error: unknown): error is Error & { readonly retryable: boolean } {
  return isNineError(error, 'unavailable')
}
