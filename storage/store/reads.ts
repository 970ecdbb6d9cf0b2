/** The reads of a store: walk, check rights, answer from one state; what shared handles hold is seen at once. */
import { listBit, readBit, rightsAt, seeBits } from '../apply/rights.ts'
import { nodeAt } from '../apply/walk.ts'
import { readRange } from '../blob/chunk-tree.ts'
import { checkDeadline, type Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type {
  ListOptions,
  ListResult,
  ReadlinkResult,
  ReadOptions,
  ReadRangeOptions,
  ReadResult,
  RightsResult,
  StatResult,
} from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import type { Path } from '../../namespace/path.ts'
import { allRights, rightBit, type RightsMask } from '../../namespace/rights.ts'
import type { Stat } from '../../namespace/stat.ts'
import { rootIno, type Content, type NodeRecord } from '../model.ts'
import { denied, missing, notAFile } from './absent.ts'
import { statOf, targetOf } from './answers.ts'
import type { Shown, StoreCore } from './core.ts'
import { decodeCursor, encodeCursor, listPage } from './lists.ts'
import type { SharedFiles } from './shared-files.ts'
import { Turns } from './turns.ts'

const nothing = new Uint8Array(0)

export class Reads {
  readonly #core: StoreCore
  readonly #shared: SharedFiles
  readonly #isAlone: boolean
  readonly #turns = new Turns()
  readonly #show = (node: NodeRecord, name: string): Stat => this.#shared.statOf(node, name)

  constructor(core: StoreCore, shared: SharedFiles) {
    this.#core = core
    this.#shared = shared
    this.#isAlone = core.replication === undefined
  }

  async stat(context: Context, path: Path, options: ReadOptions | undefined): Promise<StatResult> {
    const op = 'store.stat'
    checkDeadline(context, op, path)
    if (this.#turns.isOver()) await this.#turns.next()
    const shown = this.#isHere(options) ? this.#core.newest() : await this.#core.show(context, options ?? {}, op, path)
    const node = this.#find(shown, context, path, seeBits, op)
    return { stat: this.#statOf(shown, node), position: shown.position }
  }

  async read(context: Context, path: Path, options: ReadRangeOptions | undefined): Promise<ReadResult> {
    const op = 'store.read'
    checkDeadline(context, op, path)
    if (this.#turns.isOver()) await this.#turns.next()
    const shown = this.#isHere(options) ? this.#core.newest() : await this.#core.show(context, options ?? {}, op, path)
    const node = this.#find(shown, context, path, readBit, op)
    if (node.kind !== 'file') throw notAFile(node, op, path)
    const offset = options?.offset ?? 0
    const length = Math.min(options?.length ?? limits.read_bytes_max, limits.read_bytes_max)
    if (!(Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0)) {
      throw new NineError({ kind: 'invalid', op, path, message: 'offset and length are whole numbers from 0' })
    }
    const shared = shown.isPast ? undefined : this.#shared.get(node.ino)
    if (shared !== undefined) {
      const bytes = await shared.read(offset, length)
      return { bytes, stat: this.#shared.statOf(node, node.name), position: shown.position }
    }
    const { content } = node
    const bytes = content.kind === 'blob' ? await this.readBlob(content, offset, length, path) : sliceOf(content, offset, length)
    return { bytes, stat: statOf(node), position: shown.position }
  }

  /** `path` is for messages. */
  async readBlob(content: Content & { kind: 'blob' }, offset: number, length: number, path: string): Promise<Uint8Array> {
    // Pinned in the turn in which it was found: it may be replaced and collected while its chunks are read.
    const hold = this.#core.pins.holdTree(content.blob)
    try {
      return await readRange(this.#core.blobs, content.blob, offset, length)
    } catch (error) {
      throw isNineError(error) ? error.at(path, 'store.read') : error
    } finally {
      hold.release()
    }
  }

  async readlink(context: Context, path: Path, options: ReadOptions | undefined): Promise<ReadlinkResult> {
    const op = 'store.readlink'
    checkDeadline(context, op, path)
    if (this.#turns.isOver()) await this.#turns.next()
    const shown = this.#isHere(options) ? this.#core.newest() : await this.#core.show(context, options ?? {}, op, path)
    const node = this.#find(shown, context, path, seeBits, op)
    if (node.kind !== 'symlink') throw new NineError({ kind: 'invalid', op, path, message: `${path} is no symbolic link` })
    return { target: targetOf(node), position: shown.position }
  }

  async list(context: Context, path: Path, options: ListOptions | undefined): Promise<ListResult> {
    const op = 'store.list'
    checkDeadline(context, op, path)
    if (this.#turns.isOver()) await this.#turns.next()
    let shown: Shown
    let after = options?.after ?? ''
    if (options?.cursor !== undefined) {
      const cursor = decodeCursor(options.cursor)
      if (cursor.incarnation !== this.#core.positions.incarnation) {
        throw new NineError({ kind: 'compacted', op, path, message: 'the store has been restored since this list began' })
      }
      const at = this.#core.positions.exactly(cursor.revision, 0)
      shown = await this.#core.show(context, { ...options, at }, op, path)
      after = cursor.after
    } else shown = this.#isHere(options) ? this.#core.newest() : await this.#core.show(context, options ?? {}, op, path)
    const node = this.#find(shown, context, path, listBit, op)
    if (node.kind !== 'directory') throw new NineError({ kind: 'not_directory', op, path, message: `${path} is a ${node.kind}` })
    const { principal } = context
    const mask = this.#core.rights(shown, node, principal)
    const show = shown.isPast || this.#shared.isEmpty ? statOf : this.#show
    const page = listPage(shown.view, node, mask, context, this.#core.isOwner(principal), options ?? {}, after, show)
    const { incarnation } = this.#core.positions
    const revision = shown.position[0]!.revision
    const next = page.next === undefined ? undefined : encodeCursor({ incarnation, revision, after: page.next })
    return { entries: page.entries, next, position: shown.position }
  }

  async getRights(context: Context, path: Path): Promise<RightsResult> {
    const op = 'store.getRights'
    checkDeadline(context, op, path)
    if (this.#turns.isOver()) await this.#turns.next()
    if (!this.#isAlone) await this.#core.current(context, op, path)
    const shown = this.#core.newest()
    const node = this.#find(shown, context, path, 0, op)
    const mask = this.#core.rights(shown, node, context.principal)
    if (mask === 0) throw denied(op, path)
    const { record, on } = rightsAt(shown.view, node.ino, context.principal, this.#core.owner)
    const mine = allRights.filter((right) => (mask & rightBit(right)) !== 0)
    return { record, on, mine, position: shown.position }
  }

  /** Whether a read shows the state that is the newest here, without waiting for anything. */
  #isHere(options: ReadOptions | undefined): boolean {
    if (options === undefined) return this.#isAlone
    return options.at === undefined && options.minPosition === undefined && (this.#isAlone || options.consistency === 'stale')
  }

  #statOf(shown: Shown, node: NodeRecord): Stat {
    return shown.isPast || this.#shared.isEmpty ? statOf(node, node.ino === rootIno ? '' : node.name) : this.#shared.statOf(node, node.name)
  }

  /** The node, where the principal has one of the rights `needed`. 0: none is asked. */
  #find(shown: Shown, context: Context, path: Path, needed: RightsMask, op: string): NodeRecord {
    const node = nodeAt(shown.view, path)
    const { principal } = context
    if (node === undefined) throw missing(shown.view, path, principal, this.#core.owner, op)
    if (needed !== 0 && principal.name !== this.#core.owner && (this.#core.rights(shown, node, principal) & needed) === 0) {
      throw denied(op, path)
    }
    return node
  }
}

/** Bytes of an inline value; the record's own where all of them are asked for. */
export function sliceOf(content: Content, offset: number, length: number): Uint8Array {
  if (content.kind !== 'inline') return nothing
  const { bytes } = content
  return offset === 0 && length >= bytes.length ? bytes : bytes.subarray(offset, offset + length)
}
