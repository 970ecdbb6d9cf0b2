/**
 * Open files of a 9P server. A handle holds an open fid, so it follows its file as far as the server lets fids do that.
 *
 * H1 Shared: reads and writes go straight to the open fid, so others see them at once.
 * H2 Atomic: what is written is staged in memory, and goes to the server at sync and close. 9P has no transaction: others may see the
 *    value being written; but what is discarded, or dropped with the connection, was never sent.
 * H3 A handle belongs to the session and principal that opened it, and ends with the connection: `unavailable` from then on.
 * H4 A file an atomic handle makes is made when it is published.
 * H5 Some servers follow open files by their names (diod does when it is asked for a stat, or to change one): what may be of another file by
 *    then is not believed, and not changed.
 */
import { checkDeadline } from '../context.ts'
import type { Context } from '../context.ts'
import { isNineError, NineError } from '../errors.ts'
import type { HandleId, HandleReadResult, HandleWriteResult, OpenFlags } from '../file-server.ts'
import { limits } from '../limits.ts'
import { StagedBytes } from '../memory/staged-bytes.ts'
import type { Edit } from '../memory/staged-bytes.ts'
import { baseName } from '../path.ts'
import type { Path } from '../path.ts'
import { qidType } from '../stat.ts'
import type { Stat } from '../stat.ts'
import type { Attached } from './attach.ts'
import { append, openOrMake } from './changes.ts'
import type { Changed, MakeOptions, OpenedFile } from './changes.ts'
import { checkCondition, checkCount, checkMaking, checkSize, checkValue } from './checks.ts'
import { treeOf } from './dialect.ts'
import { Operation } from './operation.ts'
import { readBytes, writeBytes } from './transfer.ts'
import type { Tree, TreeChanges } from './tree.ts'
import type { Turns } from './turns.ts'

interface Handle {
  readonly id: HandleId
  readonly path: Path
  readonly flags: OpenFlags
  readonly attached: Attached
  readonly principal: string
  readonly session: number
  /** undefined: atomic, and the file is made when it is published. */
  file: OpenedFile | undefined
  /** The same file opened to append, once something was. */
  appending: OpenedFile | undefined
  /** Of the file when it was last asked. */
  stat: Stat
  /** As far as this handle knows. */
  size: number
  /** H2: the value being written; undefined while nothing was. */
  staged: StagedBytes | undefined
  /** How often it was changed. */
  edits: number
}

export class Handles {
  readonly #handles = new Map<HandleId, Handle>()
  readonly #turns: Turns
  #next = 1
  #stagedBytes = 0

  /** @param turns shared with the changes that go by path */
  constructor(turns: Turns) {
    this.#turns = turns
  }

  async open(o: Operation, flags: OpenFlags): Promise<{ handle: HandleId; stat: Stat }> {
    const { contentType, permissions: mode, modifiedAt, lease, ttlMs, ifMatch } = flags
    checkMaking(o, { contentType, mode, modifiedAt, lease, ttlMs })
    checkCondition(o, ifMatch, flags.write === true)
    if (this.#handles.size >= limits.session_handles_max) this.#forgetLost()
    if (this.#handles.size >= limits.session_handles_max) throw o.error('overloaded', 'too many files are open: close some')
    const tree = treeOf(o.connection.dialect)
    const isShared = flags.mode === 'shared' || flags.write !== true
    const file = await (isShared ? openShared(o, tree, flags) : openAtomic(o, tree, flags))
    try {
      if (file?.created === true && modifiedAt !== undefined) await tree.change(o, file, { modifiedAt })
      const stat = file === undefined ? unmade(o, flags) : await tree.stat(o, file.fid, baseName(o.path))
      const { principal, session = 0 } = o.context
      const handle: Handle = {
        id: this.#next++,
        path: o.path,
        flags,
        attached: o.attached,
        principal: principal.name,
        session,
        file,
        appending: undefined,
        stat,
        size: stat.size ?? 0,
        staged: !isShared && (flags.truncate === true || file === undefined) ? new StagedBytes(new Uint8Array()) : undefined,
        edits: 0,
      }
      this.#handles.set(handle.id, handle)
      return { handle: handle.id, stat: handle.staged === undefined ? stat : { ...stat, size: 0 } }
    } catch (error) {
      file?.fid.release()
      throw error
    }
  }

  async read(context: Context, id: HandleId, offset: number, length: number): Promise<HandleReadResult> {
    return this.#with(context, id, 'readHandle', async (o, handle) => {
      checkCount(o, offset)
      checkCount(o, length)
      if (handle.flags.read !== true && handle.flags.write === true) throw o.error('invalid', 'this handle was not opened for reading')
      const count = Math.min(length, limits.read_bytes_max)
      const { staged } = handle
      if (staged !== undefined) return { bytes: staged.bytes.slice(offset, offset + count), end: offset + count >= staged.size }
      const bytes = await readBytes(o, handle.file!, offset, count, handle.size)
      return { bytes, end: await this.#isEnd(o, handle, offset, count, bytes.length) }
    })
  }

  async write(context: Context, id: HandleId, bytes: Uint8Array, at: number | 'append'): Promise<HandleWriteResult> {
    return this.#with(context, id, 'writeHandle', async (o, handle) => {
      checkValue(o, bytes)
      if (at !== 'append') checkSize(o, at, bytes.length)
      if (handle.flags.mode !== 'shared') return { written: bytes.length, size: await this.#stage(o, handle, { at, bytes }) }
      needWrite(o, handle)
      const tree = treeOf(o.connection.dialect)
      if (at === 'append') {
        await this.#append(o, tree, handle, bytes)
        await this.#refresh(o, handle)
      } else {
        if (bytes.length > 0) await writeBytes(o, handle.file!, bytes, at)
        // Somebody else may have made it longer: who wants to know asks statHandle.
        handle.size = Math.max(handle.size, at + bytes.length)
      }
      return { written: bytes.length, size: handle.size }
    })
  }

  async truncate(context: Context, id: HandleId, size: number): Promise<void> {
    return this.#with(context, id, 'truncateHandle', async (o, handle) => {
      checkSize(o, size, 0)
      if (handle.flags.mode !== 'shared') return void (await this.#stage(o, handle, { size }))
      needWrite(o, handle)
      await this.#change(o, handle, { size })
      handle.size = size
    })
  }

  async stat(context: Context, id: HandleId): Promise<Stat> {
    return this.#with(context, id, 'statHandle', async (o, handle) => {
      const { file, staged } = handle
      const stat = file === undefined ? unmade(o, handle.flags) : await this.#refresh(o, handle)
      return staged === undefined ? stat : { ...stat, size: staged.size }
    })
  }

  async sync(context: Context, id: HandleId): Promise<Changed> {
    return this.#with(context, id, 'syncHandle', (o, handle) => this.#publish(o, handle))
  }

  async close(context: Context, id: HandleId, discard: boolean): Promise<Changed> {
    return this.#with(context, id, 'closeHandle', async (o, handle) => {
      try {
        if (!discard) return await this.#publish(o, handle)
        return { stat: unmade(o, handle.flags), created: false }
      } finally {
        this.#forget(handle)
      }
    })
  }

  /** Run as an operation on the handle's own connection. H3 */
  async #with<T>(context: Context, id: HandleId, verb: string, act: (o: Operation, handle: Handle) => Promise<T>): Promise<T> {
    const op = `ninep.${verb}`
    const handle = this.#handles.get(id)
    const isTheirs = handle?.session === (context.session ?? 0) && handle.principal === context.principal.name
    if (handle === undefined || !isTheirs) throw new NineError({ kind: 'invalid', op, message: `${id} is no open handle` })
    const o = new Operation(handle.attached, context, op, handle.path)
    try {
      checkDeadline(context, op, handle.path)
      const { error } = handle.attached.connection
      if (error !== undefined) {
        if (verb === 'closeHandle') this.#forget(handle)
        const message = `the connection that this handle belonged to is lost: ${error.message}`
        throw new NineError({ kind: 'unavailable', op, path: handle.path, message, retryable: false })
      }
      return await act(o, handle)
    } catch (error) {
      throw o.failure(error)
    }
  }

  /** Whether a read that gave `given` of `count` bytes came to the end. What has no size, as a stream, ends when it gives nothing. */
  async #isEnd(o: Operation, handle: Handle, offset: number, count: number, given: number): Promise<boolean> {
    const end = offset + given
    if (given > 0 && handle.size === 0) handle.size = (await this.#refresh(o, handle)).size ?? 0
    if (handle.size === 0) return count > 0 && given === 0
    if (given < count) return true
    if (end < handle.size) return false
    // It may have grown: the next byte tells.
    return (await readBytes(o, handle.file!, end, 1, handle.size)).length === 0
  }

  /** The stat of an open file; as it last was, where the server follows files by name and this one has lost its own. H5 */
  async #refresh(o: Operation, handle: Handle): Promise<Stat> {
    const stat = await this.#statNow(o, handle)
    if (stat === undefined) return { ...handle.stat, size: handle.size }
    handle.size = stat.size ?? 0
    handle.stat = stat
    return stat
  }

  async #statNow(o: Operation, handle: Handle): Promise<Stat | undefined> {
    const { fid, qid } = handle.file!
    try {
      const stat = await treeOf(o.connection.dialect).stat(o, fid, baseName(handle.path))
      return stat.qid.path === qid.path ? stat : undefined
    } catch (error) {
      if (isNineError(error, 'not_found') || isNineError(error, 'not_directory')) return undefined
      throw error
    }
  }

  /** H5 */
  async #change(o: Operation, handle: Handle, changes: TreeChanges): Promise<void> {
    if ((await this.#statNow(o, handle)) === undefined) {
      throw o.error('not_found', 'the 9P server follows files by their names, and this one was renamed or removed')
    }
    await treeOf(o.connection.dialect).change(o, handle.file!, changes)
  }

  /** Where the server appends by itself, through a fid opened for that; its file may have no name any more. */
  async #append(o: Operation, tree: Tree, handle: Handle, bytes: Uint8Array): Promise<void> {
    const file = handle.file!
    if (!tree.canAppend) return append(o, tree, this.#turns, file, bytes)
    await this.#turns.run(`append ${handle.id}`, async () => void (handle.appending ??= await openAppending(o, tree, file)))
    if (handle.appending !== undefined) return writeBytes(o, handle.appending, bytes, 0, true)
    await this.#turns.run(`append ${file.qid.path}`, async () => {
      const { size = 0 } = await this.#refresh(o, handle)
      await writeBytes(o, file, bytes, size)
      handle.size = size + bytes.length
    })
  }

  /** Change the value as this handle sees it; answers its new size. */
  async #stage(o: Operation, handle: Handle, edit: Edit): Promise<number> {
    needWrite(o, handle)
    handle.staged ??= await this.#load(o, handle)
    const { staged } = handle
    const size = staged.sizeAfter(edit, o.op, o.path)
    if (size > limits.ninep_client_staged_bytes_max) {
      throw o.error(
        'too_large',
        `an atomic handle on a 9P server stages at most ${limits.ninep_client_staged_bytes_max} bytes: use a shared one`,
      )
    }
    if (this.#stagedBytes + size - staged.memory > limits.handles_staged_bytes_max) {
      throw o.error('overloaded', `open files stage at most ${limits.handles_staged_bytes_max} bytes`)
    }
    const before = staged.memory
    staged.apply(edit)
    handle.edits++
    this.#stagedBytes += staged.memory - before
    return size
  }

  /** The value as it is, to be changed. Writes that come meanwhile wait for one and the same. */
  #load(o: Operation, handle: Handle): Promise<StagedBytes> {
    return this.#turns.run(`load ${handle.id}`, async () => {
      if (handle.staged !== undefined) return handle.staged
      const stat = await this.#refresh(o, handle)
      if ((stat.size ?? 0) > limits.ninep_client_staged_bytes_max) {
        throw o.error(
          'too_large',
          `an atomic handle on a 9P server stages at most ${limits.ninep_client_staged_bytes_max} bytes: use a shared one`,
        )
      }
      handle.staged = new StagedBytes(await readBytes(o, handle.file!, 0, handle.size, handle.size))
      return handle.staged
    })
  }

  /** H2, H4 */
  async #publish(o: Operation, handle: Handle): Promise<Changed> {
    const tree = treeOf(o.connection.dialect)
    const { staged } = handle
    let created = false
    if (staged !== undefined) {
      const { edits } = handle
      const value = staged.bytes.slice()
      if (handle.file === undefined) {
        handle.file = await openOrMake(o, tree, o.path, makeOptions(handle.flags, true))
        created = handle.file.created
      }
      if (value.length > 0) await writeBytes(o, handle.file, value, 0)
      const stat = await this.#refresh(o, handle)
      const { modifiedAt } = handle.flags
      if (stat.size !== value.length) await this.#change(o, handle, { size: value.length })
      if (modifiedAt !== undefined) await this.#change(o, handle, { modifiedAt })
      // A write that came meanwhile is published by the next sync.
      if (handle.edits === edits) {
        this.#stagedBytes -= staged.memory
        handle.staged = undefined
      }
    }
    if (handle.flags.write === true) await tree.sync(o, handle.file!.fid)
    return { stat: await this.#refresh(o, handle), created }
  }

  #forgetLost(): void {
    for (const handle of [...this.#handles.values()]) if (handle.attached.connection.error !== undefined) this.#forget(handle)
  }

  #forget(handle: Handle): void {
    if (!this.#handles.delete(handle.id)) return
    this.#stagedBytes -= handle.staged?.memory ?? 0
    handle.file?.fid.release()
    handle.appending?.fid.release()
  }
}

function makeOptions(flags: OpenFlags, isPublished: boolean): MakeOptions {
  const { create, exclusive, parents, permissions, write = false, read = false, truncate = false } = flags
  const isExclusive = (create === true && exclusive === true) || flags.ifMatch === 'none'
  return {
    making: isExclusive ? 'exclusive' : create === true ? 'make' : 'open',
    parents,
    permissions,
    // What is staged may have to be read first.
    mode: { read: read || !write || isPublished || flags.mode !== 'shared', write, truncate: truncate && write && flags.mode === 'shared' },
  }
}

function openShared(o: Operation, tree: Tree, flags: OpenFlags): Promise<OpenedFile> {
  return openOrMake(o, tree, o.path, makeOptions(flags, false))
}

/** H4 */
async function openAtomic(o: Operation, tree: Tree, flags: OpenFlags): Promise<OpenedFile | undefined> {
  const options = makeOptions(flags, false)
  try {
    const file = await openOrMake(o, tree, o.path, { ...options, making: 'open' })
    if (options.making !== 'exclusive') return file
    file.fid.release()
    throw o.error(flags.ifMatch === 'none' ? 'conflict' : 'exists', 'it exists')
  } catch (error) {
    if (!isNineError(error, 'not_found') || options.making === 'open') throw error
  }
  // Refuse now what publishing would refuse later.
  if (flags.parents !== true) await o.with(o.walkParent(), () => Promise.resolve())
  return undefined
}

/** @returns undefined where the file can no longer be opened: it has lost its name */
async function openAppending(o: Operation, tree: Tree, file: OpenedFile): Promise<OpenedFile | undefined> {
  const again = await o.walk().catch((error: unknown) => {
    if (isNineError(error, 'not_found') || isNineError(error, 'not_directory')) return undefined
    throw error
  })
  if (again === undefined) return undefined
  try {
    // Another file may have the name by now.
    if (again.qid.path === file.qid.path) {
      return { ...again, iounit: await tree.open(o, again.fid, { read: false, write: true, append: true }), created: false }
    }
  } catch (error) {
    again.fid.release()
    throw error
  }
  again.fid.release()
  return undefined
}

function needWrite(o: Operation, { flags }: Handle): void {
  if (flags.write !== true) throw o.error('invalid', 'this handle was not opened for writing')
}

/** The stat of a file that is made when it is published. */
function unmade(o: Operation, flags: OpenFlags): Stat {
  const times = { createdAt: 0, modifiedAt: flags.modifiedAt ?? 0 }
  const owner = { owner: '', group: '', modifiedBy: '' }
  const qid = { type: qidType.file, path: 0, version: 0 }
  const numbers = { size: 0, version: 0, revision: 0, createdRevision: 0, mode: flags.permissions ?? 0o644 }
  return { name: baseName(o.path), kind: 'file', qid, ...numbers, ...owner, ...times }
}
