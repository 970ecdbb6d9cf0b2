/**
 * Open handles of a store. A handle knows its file by number, so it follows it through rename and unlink.
 *
 * O1 Atomic: what is written stays with the handle until sync or close makes it one change, under the handle's ifMatch.
 * O2 Shared: what is written is in the file's SharedFile, which all handles and readers of this node see.
 * O3 A handle belongs to the session it was opened over: no other can use it, and it ends with it; also one whose opening
 *    was under way when the session ended.
 * O4 It ends with `compacted` where the store is restored: its number may be another file's from then on (E4 of apply/restores.ts).
 */
import { createBit, maskAt, readBit, seeBits, writeBit } from '../apply/rights.ts'
import { deepestNode, nodeAt } from '../apply/walk.ts'
import type { PinHold } from '../blob/pins.ts'
import { readRange } from '../blob/chunk-tree.ts'
import { isInline, type BuiltValue } from '../blob/value-builder.ts'
import { checkDeadline, type Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type {
  HandleId,
  HandleReadResult,
  HandleWriteResult,
  IfMatch,
  MutationResult,
  OpenFlags,
  OpenResult,
  StatResult,
} from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { baseName, parentPath, type Path } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Stat } from '../../namespace/stat.ts'
import { noContent, type Ino, type NodeRecord, type TreeCommand } from '../model.ts'
import { denied, missing, notAFile } from './absent.ts'
import { qidOf, sizeOf, unmadeStat } from './answers.ts'
import type { StoreCore } from './core.ts'
import { checkMatch, closed, restored, wrongMode } from './handle-errors.ts'
import { sliceOf } from './reads.ts'
import { ttlFields } from './commands.ts'
import type { SharedFile, SharedFiles } from './shared-files.ts'
import { checkRange, StagedValue } from './staged-value.ts'
import { isUnlinked } from './unlinked.ts'

interface Handle {
  readonly id: HandleId
  readonly path: Path
  readonly flags: OpenFlags
  readonly principal: Principal
  readonly session: number
  /** Of the store, when it was opened. O4 */
  readonly incarnation: string
  readonly restoredAt: number | undefined
  /** 0: atomic, and its file is made when it is published. */
  ino: Ino
  readonly shared: SharedFile | undefined
  /** Atomic: the value being written; undefined while nothing was. */
  staged: StagedValue | undefined
  ifMatch: IfMatch | undefined
  /** Atomic operations take effect in the order of the calls. */
  last: Promise<unknown>
}

/** A shared handle whose file is being made: it counts as open. */
interface Opening {
  /** The session ended meanwhile. O3 */
  isEnded: boolean
}

export class Handles {
  readonly #core: StoreCore
  readonly #shared: SharedFiles
  readonly #handles = new Map<HandleId, Handle>()
  readonly #ofSession = new Map<number, Set<Handle>>()
  readonly #openings = new Map<number, Set<Opening>>()
  #openingCount = 0
  #isClosed = false
  /** Open handles by file: these are not collected. */
  readonly #ofIno = new Map<Ino, number>()
  #next = 1

  constructor(core: StoreCore, shared: SharedFiles) {
    this.#core = core
    this.#shared = shared
  }

  get count(): number {
    return this.#handles.size
  }

  /** Whether some handle has this file open. */
  isOpen(ino: Ino): boolean {
    return this.#ofIno.has(ino)
  }

  async open(context: Context, path: Path, flags: OpenFlags): Promise<OpenResult> {
    const op = 'store.open'
    checkDeadline(context, op, path)
    const session = context.session ?? 0
    if (this.#isClosed) throw closed(op, path)
    this.#checkRoom(session, op, path)
    // What was made or changed through another replica is found; it counts as open meanwhile.
    const current = this.#core.current(context, op, path)
    if (current !== undefined) {
      await this.#opening(session, () => current, op, path)
      if (this.#isClosed) throw closed(op, path)
      this.#checkRoom(session, op, path)
    }
    const shared = flags.mode === 'shared'
    let node = nodeAt(this.#core.tree.newest, path)
    if (node === undefined && flags.create === true && shared)
      node = await this.#opening(session, () => this.#make(context, path, flags, op), op, path)
    else if (node !== undefined && flags.create === true && flags.exclusive === true) {
      this.#check(node, context.principal, path, seeBits, op)
      throw new NineError({ kind: 'exists', op, path, message: `${path} exists` })
    }
    if (node === undefined) {
      if (flags.create !== true) throw missing(this.#core.tree.newest, path, context.principal, this.#core.owner, op)
      this.#checkMakeable(context, path, flags, op)
    } else {
      if (node.kind !== 'file') throw notAFile(node, op, path)
      if (flags.read === true || flags.write !== true) this.#check(node, context.principal, path, readBit, op)
      if (flags.write === true) this.#check(node, context.principal, path, writeBit, op)
      if (flags.ifMatch !== undefined) checkMatch(node, flags.ifMatch, op, path)
    }
    const handle: Handle = {
      id: this.#next++,
      path,
      flags,
      principal: context.principal,
      session,
      incarnation: this.#core.positions.incarnation,
      restoredAt: this.#core.restoredAt,
      ino: node?.ino ?? 0,
      shared: shared && node !== undefined ? this.#shared.acquire(node.ino, path) : undefined,
      staged: undefined,
      ifMatch: flags.ifMatch ?? (node === undefined && flags.exclusive === true ? 'none' : undefined),
      last: Promise.resolve(),
    }
    this.#add(handle)
    if (node === undefined || (flags.write === true && flags.truncate === true)) {
      if (handle.shared !== undefined) handle.shared.truncate(handle.principal, 0)
      else handle.staged = new StagedValue(this.#core.blobs, this.#core.pins, noContent)
    }
    return { handle: handle.id, stat: this.#statOf(handle, context), position: this.#core.newest().position }
  }

  #checkRoom(session: number, op: string, path: Path): void {
    const ofSession = (this.#ofSession.get(session)?.size ?? 0) + (this.#openings.get(session)?.size ?? 0)
    if (ofSession < limits.session_handles_max && this.#handles.size + this.#openingCount < limits.handles_max) return
    throw new NineError({ kind: 'overloaded', op, path, message: 'too many files are open: close some' })
  }

  /** O3 */
  async #opening<T>(session: number, make: () => Promise<T>, op: string, path: string): Promise<T> {
    const opening: Opening = { isEnded: false }
    let openings = this.#openings.get(session)
    if (openings === undefined) this.#openings.set(session, (openings = new Set()))
    openings.add(opening)
    this.#openingCount++
    try {
      const made = await make()
      if (opening.isEnded) throw closed(op, path)
      return made
    } finally {
      this.#openingCount--
      openings.delete(opening)
      if (openings.size === 0 && this.#openings.get(session) === openings) this.#openings.delete(session)
    }
  }

  /** Refuse now what publishing would refuse later. */
  #checkMakeable(context: Context, path: Path, flags: OpenFlags, op: string): void {
    const { newest } = this.#core.tree
    const { principal } = context
    const { owner } = this.#core
    const above = parentPath(path)
    const { node, path: at } = deepestNode(newest, above)
    const isPlace = node?.kind === 'directory' && (at === above || flags.parents === true)
    if (!isPlace) throw missing(newest, path, principal, owner, op)
    if ((maskAt(newest, node, principal, owner) & createBit) === 0) throw denied(op, path)
    if (flags.ifMatch !== undefined && flags.ifMatch !== 'none') {
      throw new NineError({ kind: 'conflict', op, path, message: `${path} does not exist` })
    }
  }

  async #make(context: Context, path: Path, flags: OpenFlags, op: string): Promise<NodeRecord> {
    const { parents, contentType, permissions, modifiedAt, lease } = flags
    const fields = { parents, contentType, mode: permissions, modifiedAt, lease, ttl: ttlFields(this.#core.random, flags.ttlMs, op, path) }
    try {
      await this.#core.mutate(context, op, path, { op: 'create', target: { path }, ...fields })
    } catch (error) {
      if (flags.exclusive === true || !isNineError(error, 'exists')) throw error
    }
    // Answered here, so applied here: whoever made it, this state has it.
    const made = nodeAt(this.#core.tree.newest, path)
    if (made !== undefined) return made
    throw new NineError({ kind: 'not_found', op, path, message: `${path} was removed while it was opened` })
  }

  async read(context: Context, id: HandleId, offset: number, length: number): Promise<HandleReadResult> {
    const op = 'store.readHandle'
    const handle = this.#get(context, id, op)
    checkDeadline(context, op, handle.path)
    if (handle.flags.read !== true && handle.flags.write === true) throw wrongMode(op, handle.path, 'reading')
    checkRange(offset, 0, op)
    const count = Math.min(length, limits.read_bytes_max)
    if (!(Number.isSafeInteger(count) && count >= 0)) throw new NineError({ kind: 'invalid', op, path: handle.path, message: 'no length' })
    const current = this.#current(context, handle, op)
    if (current !== undefined) await current
    this.#checkStands(handle, op)
    if (handle.shared !== undefined) {
      const bytes = await handle.shared.read(offset, count)
      return { bytes, end: offset + bytes.length >= handle.shared.size() }
    }
    return inTurn(handle, async () => {
      if (handle.staged !== undefined) {
        const bytes = await handle.staged.read(offset, count)
        return { bytes, end: offset + bytes.length >= handle.staged.size }
      }
      const node = this.#node(handle, op)
      const bytes = await this.#readNode(node, offset, count)
      return { bytes, end: offset + bytes.length >= sizeOf(node) }
    })
  }

  async #readNode(node: NodeRecord, offset: number, length: number): Promise<Uint8Array> {
    if (node.content.kind !== 'blob') return sliceOf(node.content, offset, length)
    const hold: PinHold = this.#core.pins.holdTree(node.content.blob)
    try {
      return await readRange(this.#core.blobs, node.content.blob, offset, length)
    } finally {
      hold.release()
    }
  }

  async write(context: Context, id: HandleId, bytes: Uint8Array, at: number | 'append'): Promise<HandleWriteResult> {
    const op = 'store.writeHandle'
    const handle = this.#writable(context, id, op)
    if (bytes.length > limits.write_bytes_max) {
      const message = `one write carries at most ${limits.write_bytes_max} bytes`
      throw new NineError({ kind: 'too_large', op, path: handle.path, message })
    }
    if (at !== 'append') checkRange(at, bytes.length, op)
    if (handle.shared !== undefined) return { written: bytes.length, size: await handle.shared.write(handle.principal, bytes, at) }
    return { written: bytes.length, size: await this.#edit(context, handle, op, (staged) => staged.write(bytes, at)) }
  }

  async truncate(context: Context, id: HandleId, size: number): Promise<void> {
    const op = 'store.truncateHandle'
    const handle = this.#writable(context, id, op)
    checkRange(size, 0, op)
    if (handle.shared !== undefined) handle.shared.truncate(handle.principal, size)
    else await this.#edit(context, handle, op, (staged) => staged.truncate(size))
  }

  async stat(context: Context, id: HandleId): Promise<StatResult> {
    const op = 'store.statHandle'
    const handle = this.#get(context, id, op)
    const current = this.#current(context, handle, op)
    if (current !== undefined) await current
    return { stat: this.#statOf(handle, context), position: this.#core.newest().position }
  }

  async sync(context: Context, id: HandleId): Promise<MutationResult> {
    const op = 'store.syncHandle'
    const handle = this.#get(context, id, op)
    checkDeadline(context, op, handle.path)
    return this.#sync(context, handle, op)
  }

  async close(context: Context, id: HandleId, discard: boolean): Promise<MutationResult> {
    const op = 'store.closeHandle'
    const handle = this.#own(context, id, op)
    this.#remove(handle)
    try {
      this.#checkStands(handle, op)
      // What a shared handle wrote is everybody's: there is nothing private to discard.
      if (discard && handle.shared === undefined) return this.#unchanged(handle)
      return await this.#sync(context, handle, op)
    } finally {
      await this.#end(handle)
    }
  }

  /** A connection ended: atomic changes are dropped, shared ones published. */
  async closeSession(session: number): Promise<void> {
    for (const opening of this.#openings.get(session) ?? []) opening.isEnded = true
    const handles = [...(this.#ofSession.get(session) ?? [])]
    for (const handle of handles) this.#remove(handle)
    await Promise.all(
      handles.map(async (handle) => {
        try {
          await handle.shared?.publish()
        } catch {
          // Nobody is left to be told.
        }
        await this.#end(handle)
      }),
    )
  }

  /** Publish what shared handles hold, and end every handle; none can be opened any more. */
  async closeAll(): Promise<void> {
    this.#isClosed = true
    for (const openings of this.#openings.values()) for (const opening of openings) opening.isEnded = true
    await Promise.all([...this.#ofSession.keys()].map((session) => this.closeSession(session)))
  }

  async #sync(context: Context, handle: Handle, op: string): Promise<MutationResult> {
    if (handle.shared !== undefined) {
      const result = await handle.shared.publish(context)
      return result === undefined ? this.#unchanged(handle) : this.#core.resultOf(result)
    }
    return inTurn(handle, async () =>
      handle.staged === undefined ? this.#unchanged(handle) : this.#publish(context, handle, handle.staged, op),
    )
  }

  /** O1 */
  async #publish(context: Context, handle: Handle, staged: StagedValue, op: string): Promise<MutationResult> {
    const built = await staged.finish()
    this.#checkStands(handle, op)
    const result = this.#keep(handle, built, op) ?? (await this.#propose(context, handle, built, op))
    if (!isInline(built)) staged.committed(built)
    if (handle.ino === 0) {
      handle.ino = result.qid.path
      this.#count(handle.ino, 1)
    }
    if (handle.ifMatch !== undefined) handle.ifMatch = { path: result.qid.path, version: result.qid.version }
    handle.staged = undefined
    await this.#drop(staged)
    return result
  }

  /** The value of a file that was unlinked; undefined: it was not, as far as is known here. */
  #keep(handle: Handle, built: BuiltValue, op: string): MutationResult | undefined {
    const node = handle.ino === 0 ? undefined : this.#core.file(handle.ino)
    if (node === undefined || !isUnlinked(this.#core.tree.newest, node)) return undefined
    const { principal, path, ifMatch } = handle
    this.#check(node, principal, path, writeBit, op)
    if (ifMatch !== undefined) checkMatch(node, ifMatch, op, path)
    const kept = this.#core.unlinked.put(node, built, principal, this.#core.clock.now())
    return { ...kept, position: this.#core.newest().position }
  }

  async #propose(context: Context, handle: Handle, built: BuiltValue, op: string): Promise<MutationResult> {
    const { path, flags } = handle
    checkDeadline(context, op, path)
    const command: TreeCommand = {
      op: 'write',
      target: handle.ino === 0 ? { path } : { path, ino: handle.ino, restoredAt: handle.restoredAt },
      content: isInline(built) ? { kind: 'replace', bytes: built.inline } : { kind: 'blob', blob: built, base: undefined },
      ifMatch: handle.ifMatch,
      parents: flags.parents,
      contentType: flags.contentType,
      mode: handle.ino === 0 ? flags.permissions : undefined,
      modifiedAt: flags.modifiedAt,
      lease: flags.lease,
      ttl: ttlFields(this.#core.random, flags.ttlMs, op, path),
    }
    // What it was made from may have been replaced since: nothing of it is known to be kept elsewhere.
    const made = [{ built, base: undefined }]
    try {
      const by = { ...context, principal: handle.principal }
      return this.#core.mutationOf(await this.#core.proposeValues(by, op, path, command, made), op, path)
    } catch (error) {
      // It may have been unlinked on the way.
      const kept = isNineError(error, 'not_found') ? this.#keep(handle, built, op) : undefined
      if (kept === undefined) throw error
      return kept
    }
  }

  /** Nothing was written: there is nothing that others have to know, and the position tells what this shows. */
  #unchanged(handle: Handle): MutationResult {
    const node = handle.ino === 0 ? undefined : this.#core.file(handle.ino)
    const { position } = this.#core.newest()
    if (node === undefined) return { qid: { type: 0, path: 0, version: 0 }, revision: 0, created: false, size: 0, position }
    return { qid: qidOf(node), revision: node.revision, created: false, size: sizeOf(node), position }
  }

  /** Change the staged value, and keep count of its memory. */
  #edit<T>(context: Context, handle: Handle, op: string, change: (staged: StagedValue) => Promise<T>): Promise<T> {
    return inTurn(handle, async () => {
      const current = this.#current(context, handle, op)
      if (current !== undefined) await current
      this.#checkStands(handle, op)
      const staged = this.#stage(handle, op)
      const before = staged.memory
      try {
        return await change(staged)
      } finally {
        this.#shared.stagedBytes += staged.memory - before
      }
    })
  }

  /** The staged value, begun from the file as it is now. @throws NineError `overloaded` */
  #stage(handle: Handle, op: string): StagedValue {
    if (this.#shared.stagedBytes > limits.handles_staged_bytes_max) {
      throw new NineError({ kind: 'overloaded', op, path: handle.path, message: 'too much is staged by open files: sync or close some' })
    }
    if (handle.staged !== undefined) return handle.staged
    const content = handle.ino === 0 ? noContent : this.#node(handle, op).content
    const staged = new StagedValue(this.#core.blobs, this.#core.pins, content)
    this.#shared.stagedBytes += staged.memory
    return (handle.staged = staged)
  }

  async #drop(staged: StagedValue): Promise<void> {
    this.#shared.stagedBytes -= staged.memory
    await staged.release()
  }

  #statOf(handle: Handle, context: Context): Stat {
    if (handle.ino === 0) {
      const name = baseName(handle.path)
      return unmadeStat(name, handle.flags, context.principal.name, this.#core.clock.now(), handle.staged?.size ?? 0)
    }
    const stat = this.#shared.statOf(this.#node(handle, 'store.statHandle'), baseName(handle.path))
    return handle.staged === undefined ? stat : { ...stat, size: handle.staged.size, blob: undefined }
  }

  #node(handle: Handle, op: string): NodeRecord {
    this.#checkStands(handle, op)
    const node = this.#core.file(handle.ino)
    if (node !== undefined) return node
    throw new NineError({ kind: 'not_found', op, path: handle.path, message: `${handle.path} was removed and is no longer kept` })
  }

  #check(node: NodeRecord, principal: Principal, path: Path, bit: number, op: string): void {
    if ((maskAt(this.#core.tree.newest, node, principal, this.#core.owner) & bit) === 0) throw denied(op, path)
  }

  /** Behind it, what others have changed of the file is seen; a value being written, and a file not made yet, are the handle's own. */
  #current(context: Context, handle: Handle, op: string): Promise<void> | undefined {
    return handle.ino === 0 || handle.staged !== undefined ? undefined : this.#core.current(context, op, handle.path)
  }

  #get(context: Context, id: HandleId, op: string): Handle {
    const handle = this.#own(context, id, op)
    this.#checkStands(handle, op)
    return handle
  }

  /** O4 */
  #checkStands({ incarnation, path }: Handle, op: string): void {
    if (incarnation !== this.#core.positions.incarnation) throw restored(op, path)
  }

  /** O3 */
  #own(context: Context, id: HandleId, op: string): Handle {
    const handle = this.#handles.get(id)
    if (handle !== undefined && handle.session === (context.session ?? 0) && handle.principal.name === context.principal.name) return handle
    throw new NineError({ kind: 'invalid', op, message: `${id} is no open handle` })
  }

  #writable(context: Context, id: HandleId, op: string): Handle {
    const handle = this.#get(context, id, op)
    checkDeadline(context, op, handle.path)
    if (handle.flags.write !== true) throw wrongMode(op, handle.path, 'writing')
    return handle
  }

  #add(handle: Handle): void {
    this.#handles.set(handle.id, handle)
    const known = this.#ofSession.get(handle.session)
    if (known === undefined) this.#ofSession.set(handle.session, new Set([handle]))
    else known.add(handle)
    if (handle.ino !== 0) this.#count(handle.ino, 1)
  }

  #remove(handle: Handle): void {
    this.#handles.delete(handle.id)
    const known = this.#ofSession.get(handle.session)
    known?.delete(handle)
    if (known?.size === 0) this.#ofSession.delete(handle.session)
  }

  async #end(handle: Handle): Promise<void> {
    if (handle.ino !== 0) this.#count(handle.ino, -1)
    if (handle.shared !== undefined) this.#shared.release(handle.shared)
    const { staged } = handle
    handle.staged = undefined
    if (staged !== undefined) await this.#drop(staged)
  }

  #count(ino: Ino, by: number): void {
    const count = (this.#ofIno.get(ino) ?? 0) + by
    if (count > 0) this.#ofIno.set(ino, count)
    else {
      this.#ofIno.delete(ino)
      this.#core.unlinked.forget(ino)
    }
  }
}

function inTurn<T>(handle: Handle, operation: () => Promise<T>): Promise<T> {
  const turn = handle.last.then(operation)
  handle.last = turn.catch(() => undefined)
  return turn
}
