/**
 * Files that shared handles have open: what they wrote is seen at once by every reader of this node, and published as
 * changes of byte ranges. Other replicas see it when it is published; two nodes that append at once write to the same place.
 *
 * H1 What was written stays in a layer until the change that holds it has been applied, in the same turn: a reader sees
 *    it once, from the layer or from the store.
 * H2 Layers are published one after the other, the oldest first, each under the principal who wrote it.
 * H3 A layer is published at sync, close, disconnect, limits.handle_publish_ms after its first byte, or when it is full.
 * H4 A change by path (a new value, a size, a time) is proposed behind what was written before it, so that no layer undoes it.
 * H5 A layer is one change, however often it is tried: once it may have happened it takes no more writes, and ends when the outcome is known.
 */
import { maskAt, writeBit } from '../apply/rights.ts'
import { readAhead, readRange } from '../blob/chunk-tree.ts'
import { isInline, ValueBuilder } from '../blob/value-builder.ts'
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError, toNineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Path } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Stat } from '../../namespace/stat.ts'
import {
  rootIno,
  type BlobRef,
  type Ino,
  type NodeRecord,
  type Outcome,
  type StoredMutation,
  type Target,
  type TreeCommand,
  type WriteContent,
} from '../model.ts'
import { denied } from './absent.ts'
import { answeredError, sizeOf, statOf } from './answers.ts'
import type { StoreCore } from './core.ts'
import { Layer, overlay, sizeUnder } from './layers.ts'
import { isUnlinked } from './unlinked.ts'

const op = 'store.syncHandle'
/** Changes of one publication: its ranges and at most two changes of size. */
const ranges_per_txn = limits.txn_operations_max - 2

export class SharedFiles {
  readonly core: StoreCore
  readonly #files = new Map<Ino, SharedFile>()
  /** Bytes in layers of all files. */
  stagedBytes = 0

  constructor(core: StoreCore) {
    this.core = core
  }

  get isEmpty(): boolean {
    return this.#files.size === 0
  }

  get(ino: Ino): SharedFile | undefined {
    return this.#files.get(ino)
  }

  /** Every open ends with `release`. */
  acquire(ino: Ino, path: Path): SharedFile {
    let file = this.#files.get(ino)
    if (file === undefined) {
      file = new SharedFile(this, ino, path)
      this.#files.set(ino, file)
    }
    file.handles++
    return file
  }

  release(file: SharedFile): void {
    if (--file.handles > 0) return
    file.drop()
    if (this.#files.get(file.ino) === file) this.#files.delete(file.ino)
  }

  /** The store was restored: what is not published is of files that it may not have any more. */
  restored(): void {
    for (const file of this.#files.values()) file.drop()
    this.#files.clear()
  }

  /** A change of a file by its path comes after what handles have written to it. */ // H4
  async settle(ino: Ino): Promise<void> {
    await this.#files.get(ino)?.settle()
  }

  statOf(node: NodeRecord, name: string): Stat {
    const shown = node.ino === rootIno && name === node.name ? '' : name
    const file = this.#files.get(node.ino)
    const stat = statOf(node, shown)
    return file === undefined || file.isClean ? stat : { ...stat, size: file.size(node), blob: undefined }
  }
}

export class SharedFile {
  readonly ino: Ino
  readonly path: Path
  handles = 0
  readonly #files: SharedFiles
  /** Not yet published, the oldest first; only the last one takes writes. */
  readonly #layers: Layer[] = []
  #timer: NodeJS.Timeout | undefined
  /** The first layer is being published: it takes no more writes. */
  #isPublishing = false
  readonly #restoredAt: number | undefined
  #publishing: Promise<void> = Promise.resolve()
  /** Failure of a publication nobody waited for; told to the next sync or close. */
  #failure: NineError | undefined

  /** Where the last read of a large value ended, and the last chunk that was read ahead. */
  #readTo = -1
  #aheadTo = 0

  constructor(files: SharedFiles, ino: Ino, path: Path) {
    this.#files = files
    this.#restoredAt = files.core.restoredAt
    this.ino = ino
    this.path = path
  }

  get isClean(): boolean {
    return this.#layers.length === 0
  }

  size(node: NodeRecord = this.node()): number {
    return sizeUnder(this.#layers, sizeOf(node))
  }

  /** @throws NineError `not_found` once an unlinked file is collected */
  node(): NodeRecord {
    const node = this.#files.core.file(this.ino)
    if (node !== undefined) return node
    throw new NineError({ kind: 'not_found', op, path: this.path, message: `${this.path} was removed and is no longer kept` })
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const node = this.node()
    const size = this.size(node)
    const end = Math.min(size, offset + length)
    if (offset >= end) return new Uint8Array(0)
    const { content } = node
    // What is read meanwhile is read-only for everybody, so nothing is copied where nothing is laid over it.
    if (content.kind === 'blob' && this.isClean) return this.#readBlob(content.blob, offset, end)
    // The state of this turn: layers published while chunks are read must not vanish from the answer.
    const layers = content.kind === 'blob' ? this.#layers.map((layer) => layer.between(offset, end)) : this.#layers
    const out = new Uint8Array(end - offset)
    if (content.kind === 'inline') out.set(content.bytes.subarray(offset, end))
    else if (content.kind === 'blob') out.set(await this.#readBlob(content.blob, offset, end))
    overlay(layers, out, offset)
    return out
  }

  async #readBlob(blob: BlobRef, offset: number, end: number): Promise<Uint8Array> {
    const { blobs, pins } = this.#files.core
    const hold = pins.holdTree(blob)
    try {
      const reading = readRange(blobs, blob, offset, end - offset)
      this.#readAhead(blob, offset, end)
      return await reading
    } finally {
      hold.release()
    }
  }

  /** Whoever reads in sequence finds the next chunks read. */
  #readAhead(blob: BlobRef, offset: number, end: number): void {
    const isSequential = offset <= this.#readTo && end > this.#readTo
    const last = Math.floor((end - 1) / limits.chunk_bytes)
    if (!isSequential) this.#aheadTo = last
    this.#readTo = end
    const wanted = last + limits.blob_ahead_chunks
    const first = Math.max(last, this.#aheadTo) + 1
    if (!isSequential || wanted < first) return
    this.#aheadTo = wanted
    const { blobs, pins } = this.#files.core
    const hold = pins.holdTree(blob)
    void readAhead(blobs, blob, first, wanted).finally(() => hold.release())
  }

  /** Gives the size after it. Waits while too much of all files is staged. */
  async write(principal: Principal, bytes: Uint8Array, at: number | 'append'): Promise<number> {
    if (this.#files.stagedBytes > limits.handles_staged_bytes_max) await this.publish()
    const offset = at === 'append' ? this.size() : at
    if (bytes.length === 0) return this.size()
    this.#change(principal, (layer) => layer.write(offset, bytes))
    const size = this.size()
    if (this.#layers[this.#layers.length - 1]!.isFull) await this.publish()
    return size
  }

  truncate(principal: Principal, size: number): void {
    const now = this.size()
    if (size !== now) this.#change(principal, (layer) => layer.truncate(size, now))
  }

  #change(principal: Principal, change: (layer: Layer) => void): void {
    let layer = this.#layers[this.#layers.length - 1]
    const isTaken = this.#isPublishing && this.#layers.length === 1
    if (layer === undefined || isTaken || layer.tries.isOut /* H5 */ || layer.principal.name !== principal.name) {
      layer = new Layer(principal) // H2
      this.#layers.push(layer)
    }
    const before = layer.bytes
    change(layer)
    this.#files.stagedBytes += layer.bytes - before
    this.#timer ??= setTimeout(this.#publishInTime, limits.handle_publish_ms).unref()
  }

  readonly #publishInTime = (): void => {
    this.#timer = undefined
    this.publish().catch((error: unknown) => (this.#failure = toNineError(error, op, this.path)))
  }

  /** Publish all that was written before the call. @throws NineError of the first layer that could not be; the others are all the same */
  async publish(context?: Context): Promise<StoredMutation | undefined> {
    const last = this.#layers[this.#layers.length - 1]
    if (last === undefined && this.#failure === undefined) return undefined
    let result: StoredMutation | undefined
    const turn = this.#publishing.then(async () => {
      let failure: NineError | undefined
      while (last !== undefined && this.#layers.includes(last)) {
        const first = this.#layers[0]
        try {
          result = await this.#publishFirst(context)
        } catch (error) {
          if (this.#layers[0] === first) throw error
          // That layer is lost; those behind it, which may be another's, are not.
          failure ??= toNineError(error, op, this.path)
        }
      }
      if (failure !== undefined) throw failure
    })
    this.#publishing = turn.catch(() => undefined)
    await turn
    const failure = this.#failure
    this.#failure = undefined
    if (failure !== undefined) throw failure
    return result
  }

  /** Publish what was written so far; who wrote it is told at its next sync when that fails. */
  async settle(): Promise<void> {
    if (this.isClean) return
    await this.publish().catch((error: unknown) => (this.#failure = toNineError(error, op, this.path)))
  }

  async #publishFirst(context: Context | undefined): Promise<StoredMutation | undefined> {
    const layer = this.#layers[0]!
    this.#isPublishing = true
    try {
      return await this.#propose(layer, { principal: layer.principal, deadline: Infinity, trace: context?.trace, cause: context?.cause })
    } catch (error) {
      // What may succeed later stays; the rest is lost, and whoever syncs is told.
      if (error instanceof NineError && error.retryable && this.handles > 0) {
        this.#timer ??= setTimeout(this.#publishInTime, limits.handle_publish_ms).unref()
      } else this.#remove(layer)
      throw error
    } finally {
      this.#isPublishing = false
    }
  }

  async #propose(layer: Layer, context: Context): Promise<StoredMutation | undefined> {
    const target: Target = { path: this.path, ino: this.ino, restoredAt: this.#restoredAt }
    for (;;) {
      // On a replica that lags this node may be old: then the value made from it is refused, and by then the state here is newer.
      const node = this.node()
      if (isUnlinked(this.#files.core.tree.newest, node)) return this.#keep(layer, node)
      const size = layer.sizeOver(sizeOf(node))
      const isSmall = node.content.kind !== 'blob' && size <= limits.inline_bytes_max && layer.ranges.length <= ranges_per_txn
      try {
        const outcome = isSmall
          ? await this.#proposeRanges(layer, context, target, node)
          : await this.#proposeValue(layer, context, target, node)
        if (outcome !== undefined || !this.#layers.includes(layer)) return outcome
      } catch (error) {
        if (!isNineError(error, 'not_found') || !isUnlinked(this.#files.core.tree.newest, this.node())) throw error
      }
    }
  }

  /** The file was unlinked: the layer becomes what this node's handles see of it. */
  async #keep(layer: Layer, node: NodeRecord): Promise<StoredMutation> {
    const { core } = this.#files
    if ((maskAt(core.tree.newest, node, layer.principal, core.owner) & writeBit) === 0) throw denied(op, this.path)
    const builder = await this.#build(layer, node)
    try {
      const kept = core.unlinked.put(node, await builder.finish(), layer.principal, core.clock.now())
      this.#remove(layer)
      return kept
    } finally {
      await builder.release()
    }
  }

  /** A small file: each range a change at its offset, all of them one change of the store. */
  async #proposeRanges(layer: Layer, context: Context, target: Target, node: NodeRecord): Promise<StoredMutation | undefined> {
    const commands: TreeCommand[] = []
    let size = sizeOf(node)
    if (layer.cut < size) commands.push({ op: 'setStat', target, size: (size = layer.cut) })
    for (const range of layer.ranges) {
      const bytes = range.buffer.slice(0, range.length)
      commands.push({ op: 'write', target, content: { kind: 'splice', offset: range.offset, bytes } })
      size = Math.max(size, range.offset + range.length)
    }
    if (layer.sizeOver(sizeOf(node)) > size) commands.push({ op: 'setStat', target, size: layer.extend })
    if (commands.length === 0) {
      this.#remove(layer)
      return undefined
    }
    const outcome = await this.#files.core.propose(
      context,
      op,
      this.path,
      commands.length === 1 ? commands[0]! : { op: 'txn', if: [], then: commands, else: [] },
      () => this.#remove(layer),
      layer.tries,
    )
    return this.#resultOf(outcome)
  }

  /** A large file: a new value that shares every chunk the ranges do not touch. */
  async #proposeValue(layer: Layer, context: Context, target: Target, node: NodeRecord): Promise<StoredMutation | undefined> {
    const { core } = this.#files
    const builder = await this.#build(layer, node)
    try {
      const built = await builder.finish()
      const at = { path: node.ino, version: node.version }
      const content: WriteContent = isInline(built)
        ? { kind: 'replace', bytes: built.inline, base: at }
        : { kind: 'blob', blob: built, base: at }
      const command: TreeCommand = { op: 'write', target, content }
      const made = [{ built, base: node.content }]
      return this.#resultOf(await core.proposeValues(context, op, this.path, command, made, () => this.#remove(layer), layer.tries))
    } finally {
      await builder.release()
    }
  }

  /** Release it. */
  async #build(layer: Layer, { content }: NodeRecord): Promise<ValueBuilder> {
    const { blobs, pins } = this.#files.core
    const base = content.kind === 'blob' ? content.blob : content.kind === 'inline' ? content.bytes : undefined
    const builder = new ValueBuilder({ store: blobs, pins, base })
    try {
      if (layer.cut < builder.size) await builder.truncate(layer.cut)
      for (const range of layer.ranges) await builder.write(range.offset, range.buffer.subarray(0, range.length))
      if (layer.extend > builder.size) await builder.truncate(layer.extend)
      return builder
    } catch (error) {
      await builder.release()
      throw error
    }
  }

  /** undefined: the file has moved on meanwhile, or grown, and the layer is published on top of what it is now. */
  #resultOf(outcome: Outcome): StoredMutation | undefined {
    if (outcome.kind === 'mutation') return outcome.result
    if (outcome.kind === 'txn') {
      const last = outcome.result.results[outcome.result.results.length - 1]
      if (last?.op === 'mutation') return last.result
    }
    if (outcome.kind === 'needs_chunks') return undefined
    if (outcome.kind === 'error') throw answeredError(outcome.error, op, this.path)
    throw new NineError({ kind: 'internal', op, path: this.path, message: `a write was answered with ${outcome.kind}` })
  }

  #remove(layer: Layer): void {
    const at = this.#layers.indexOf(layer)
    if (at < 0) return
    this.#layers.splice(at, 1)
    layer.tries.end()
    this.#files.stagedBytes -= layer.bytes
  }

  /** The last handle is closed: what could not be published is gone. */
  drop(): void {
    clearTimeout(this.#timer)
    for (const layer of [...this.#layers]) this.#remove(layer)
  }
}
