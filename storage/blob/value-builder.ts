/**
 * ValueBuilder: a value being written, from nothing, from inline bytes or on top of a value that stands already.
 *
 * V1 Only changed chunks and the index chunks above them are put; everything else is shared with the base.
 * V2 In memory: at most `stagedBytesMax` of chunks not yet put, limits.blob_value_puts_max being put, and the index
 *    chunks of IndexNodes, whatever the size of the value.
 * V3 A chunk is pinned before it is put, the base when the builder is made; pins end with `committed` and `release`.
 * V4 Bytes of a staged chunk at and past the value's end are zero, and no stored chunk reaches past it: growing needs no I/O.
 * V5 Operations take effect one after the other, in the order of the calls.
 */
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { BlobRef } from '../model.ts'
import { checkRef, chunkCount, copyInto, lengthWithoutZeros, readLeaf, readRange, zeroHash } from './chunk-tree.ts'
import { IndexNodes } from './index-nodes.ts'
import type { BlobPins, PinHold } from './pins.ts'
import { hashAt, hashChunk, hashToBytes, type BlobStore, type ChunkHash } from './store.ts'

export interface ValueBuilderOptions {
  readonly store: BlobStore
  readonly pins: BlobPins
  /** What to start from: a value that is referenced at this moment, or bytes that fit inside a record. Default: nothing. */
  readonly base?: BlobRef | Uint8Array | undefined
  /** Default limits.handle_staged_bytes_max; at least one chunk is staged. */
  readonly stagedBytesMax?: number | undefined
}

/** A finished value: chunks, or the bytes themselves where they fit inside a record. */
export type BuiltValue = BlobRef | { readonly inline: Uint8Array }

export function isInline(value: BuiltValue): value is { readonly inline: Uint8Array } {
  return 'inline' in value
}

/**
 * Every operation can fail with what the store fails with; after a failed put (`no_space`, ...) all later ones fail with
 * the same error and the builder can only be released.
 */
export class ValueBuilder {
  readonly #store: BlobStore
  readonly #pins: BlobPins
  readonly #stagedMax: number
  /** Changed chunks not yet put, by number; the one unused longest is first. */
  readonly #pages = new Map<number, Page>()
  readonly #index: IndexNodes
  /** Chunks being put, for reads. */
  readonly #uploads = new Map<ChunkHash, Promise<void>>()
  readonly #uploading = new Map<ChunkHash, Uint8Array>()
  /** Buffers of chunks to be used again. */
  readonly #spare: Uint8Array[] = []
  /** Pins of what was put since `#clean`. */
  readonly #loose: PinHold
  /** Finished values whose change is not known to be durable. */
  #finished: { readonly ref: BlobRef; readonly hold: PinHold }[] = []
  /** The value without changes since, while there are none. */
  #clean: BlobRef | undefined
  #cleanHold: PinHold
  #size: number
  #failure: NineError | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: ValueBuilderOptions) {
    const { store, pins, base } = options
    this.#store = store
    this.#pins = pins
    this.#stagedMax = Math.max(1, Math.floor((options.stagedBytesMax ?? limits.handle_staged_bytes_max) / limits.chunk_bytes))
    this.#loose = pins.hold()
    const chunks = { get: (hash: ChunkHash) => this.#get(hash), put: (bytes: Uint8Array) => this.#put(bytes) }
    if (base === undefined || base instanceof Uint8Array) {
      this.#index = new IndexNodes(chunks, zeroHash, 0)
      this.#cleanHold = pins.hold()
      this.#size = base?.length ?? 0
      for (let at = 0; base !== undefined && at < base.length; at += limits.chunk_bytes) {
        const bytes = new Uint8Array(limits.chunk_bytes)
        bytes.set(base.subarray(at, at + limits.chunk_bytes))
        this.#pages.set(at / limits.chunk_bytes, { bytes, run: 0 })
      }
    } else {
      checkRef(base)
      this.#index = new IndexNodes(chunks, hashAt(base.root), base.depth)
      this.#cleanHold = pins.holdTree(base) // V3
      this.#clean = base
      this.#size = base.size
    }
  }

  /** Bytes of the value after the operations that have settled. */
  get size(): number {
    return this.#size
  }

  /** Answers when staged. @throws NineError `invalid` (offset), `too_large` (past limits.file_bytes_max) */
  write(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#inTurn(() => this.#write(offset, bytes))
  }

  /** Gives the offset that the bytes went to. */
  append(bytes: Uint8Array): Promise<number> {
    return this.#inTurn(async () => {
      const offset = this.#size
      await this.#write(offset, bytes)
      return offset
    })
  }

  /** Cut off, or extend with zeros, which take no space. */
  truncate(size: number): Promise<void> {
    return this.#inTurn(() => this.#truncate(size))
  }

  /** As the operations before it left the value; shorter than `length` at its end. */
  read(offset: number, length: number): Promise<Uint8Array> {
    checkRange(offset, 0, 'blob.read')
    return this.#inTurn(() => this.#read(offset, length))
  }

  /**
   * Everything so far as a value whose chunks are durable and pinned. May be called again after further operations;
   * the same content gives the same reference.
   */
  finish(): Promise<BuiltValue> {
    return this.#inTurn(async () => {
      if (this.#size <= limits.inline_bytes_max) return { inline: await this.#read(0, this.#size) }
      const ref = await this.#settle()
      this.#finished.push({ ref, hold: this.#pins.holdTree(ref) })
      return ref
    })
  }

  /** The change that names this finished value is durable: it and those finished before it need their pins no more. */
  committed(ref: BlobRef): void {
    const index = this.#finished.findIndex((entry) => entry.ref === ref)
    for (const entry of this.#finished.splice(0, index + 1)) entry.hold.release()
  }

  /** End: what was staged is dropped, every pin ends. Waits for puts under way. */
  async release(): Promise<void> {
    this.#failure ??= new NineError({ kind: 'invalid', op: 'blob.write', message: 'the value being written was given up' })
    await this.#last
    await Promise.allSettled(this.#uploads.values())
    this.#pages.clear()
    this.#spare.length = 0
    this.#loose.release()
    this.#cleanHold.release()
    for (const entry of this.#finished.splice(0)) entry.hold.release()
  }

  #inTurn<T>(operation: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(() => {
      if (this.#failure !== undefined) throw this.#failure
      return operation()
    }) // V5
    this.#last = turn.catch(() => undefined)
    return turn
  }

  async #write(offset: number, bytes: Uint8Array): Promise<void> {
    checkRange(offset, bytes.length, 'blob.write')
    for (let done = 0; done < bytes.length;) {
      const at = offset + done
      const number = Math.floor(at / limits.chunk_bytes)
      const start = at - number * limits.chunk_bytes
      const count = Math.min(limits.chunk_bytes - start, bytes.length - done)
      const page = await this.#page(number, start === 0 && count >= this.#roomOf(number))
      page.bytes.set(done === 0 && count === bytes.length ? bytes : bytes.subarray(done, done + count), start)
      if (start <= page.run) page.run = Math.max(page.run, start + count)
      done += count
      this.#clean = undefined
      this.#size = Math.max(this.#size, offset + done)
      if (page.run === limits.chunk_bytes) await this.#spill(number, page)
      else if (this.#pages.size > this.#stagedMax) await this.#spillOldest()
    }
  }

  async #truncate(size: number): Promise<void> {
    checkRange(size, 0, 'blob.truncate')
    if (size === this.#size) return
    const chunks = chunkCount(size)
    if (size < this.#size) {
      for (const [number, page] of this.#pages) {
        if (number < chunks) continue
        this.#pages.delete(number)
        this.#recycle(page.bytes)
      }
      const kept = size % limits.chunk_bytes
      if (kept > 0) {
        const hash = this.#pages.has(chunks - 1) ? undefined : await this.#index.leaf(chunks - 1)
        if (hash !== zeroHash) {
          const page = await this.#page(chunks - 1, false)
          page.bytes.fill(0, kept) // V4
          page.run = Math.min(page.run, kept)
        }
      }
      await this.#index.truncate(chunks)
    }
    this.#clean = undefined
    this.#size = size
    if (this.#pages.size > this.#stagedMax) await this.#spillOldest()
  }

  async #read(offset: number, length: number): Promise<Uint8Array> {
    if (this.#clean !== undefined) return readRange(this.#store, this.#clean, offset, length)
    const end = Math.min(offset + length, this.#size)
    if (offset >= end) return new Uint8Array(0)
    const bytes = new Uint8Array(end - offset)
    const source = { get: (hash: ChunkHash) => this.#get(hash) }
    for (let number = Math.floor(offset / limits.chunk_bytes); number * limits.chunk_bytes < end; number++) {
      const page = this.#pages.get(number)
      const chunk = page?.bytes ?? (await readLeaf(source, await this.#index.leaf(number), this.#size, number))
      copyInto(bytes, offset, chunk, number * limits.chunk_bytes)
    }
    return bytes
  }

  /** Put all that is staged and wait until it is durable; from then on its tree is pinned in place of its chunks. */
  async #settle(): Promise<BlobRef> {
    if (this.#clean !== undefined) return this.#clean
    while (this.#pages.size > 0) await this.#spillOldest()
    const { root, depth } = await this.#index.flush(chunkCount(this.#size))
    await Promise.all(this.#uploads.values())
    if (this.#failure !== undefined) throw this.#failure
    const ref = { root: hashToBytes(root), depth, size: this.#size }
    const before = this.#cleanHold
    this.#cleanHold = this.#pins.holdTree(ref)
    before.release()
    this.#loose.release()
    this.#clean = ref
    return ref
  }

  /** Bytes of the value that lie in this chunk now. */
  #roomOf(number: number): number {
    return Math.max(0, Math.min(limits.chunk_bytes, this.#size - number * limits.chunk_bytes))
  }

  /** The staged chunk, filled with what stands there unless the caller overwrites all of it. */
  async #page(number: number, overwritten: boolean): Promise<Page> {
    let page = this.#pages.get(number)
    if (page !== undefined) {
      this.#pages.delete(number)
    } else {
      const room = this.#roomOf(number)
      let there: Uint8Array | undefined
      if (!overwritten && room > 0) {
        const hash = await this.#index.leaf(number)
        there = await readLeaf({ get: (wanted) => this.#get(wanted) }, hash, this.#size, number)
      }
      const bytes = this.#spare.pop() ?? new Uint8Array(limits.chunk_bytes)
      if (there !== undefined) bytes.set(there)
      bytes.fill(0, there?.length ?? 0)
      // Appending to a chunk that is not full yet goes on with its run.
      page = { bytes, run: overwritten || room === limits.chunk_bytes ? 0 : room }
    }
    this.#pages.set(number, page)
    return page
  }

  async #spillOldest(): Promise<void> {
    const [oldest] = this.#pages
    if (oldest !== undefined) await this.#spill(...oldest)
  }

  async #spill(number: number, page: Page): Promise<void> {
    const length = lengthWithoutZeros(page.bytes, this.#roomOf(number))
    const hash = length === 0 ? zeroHash : await this.#put(page.bytes.subarray(0, length), page.bytes)
    await this.#index.setLeaf(number, hash)
    this.#pages.delete(number)
    if (length === 0) this.#recycle(page.bytes)
    if (this.#loose.size > limits.blob_value_pins_max) await this.#settle()
  }

  async #get(hash: ChunkHash): Promise<Uint8Array> {
    return this.#uploading.get(hash) ?? this.#store.get(hash)
  }

  /** Start a put; waits only when too many are under way. `whole` is the buffer to use again when it is done. */
  async #put(bytes: Uint8Array, whole?: Uint8Array): Promise<ChunkHash> {
    const hash = hashChunk(bytes)
    if (this.#uploading.has(hash)) {
      if (whole !== undefined) this.#recycle(whole)
      return hash
    }
    while (this.#uploads.size >= limits.blob_value_puts_max) await Promise.race(this.#uploads.values())
    if (this.#failure !== undefined) throw this.#failure
    this.#loose.chunk(hash) // V3
    this.#uploading.set(hash, bytes)
    this.#uploads.set(hash, this.#upload(bytes, hash, whole))
    return hash
  }

  /** Never rejects: a failure is kept for whoever comes next. */
  async #upload(bytes: Uint8Array, hash: ChunkHash, whole: Uint8Array | undefined): Promise<void> {
    try {
      await this.#store.put(bytes, hash)
      if (whole !== undefined) this.#recycle(whole)
    } catch (error) {
      this.#failure ??=
        error instanceof NineError ? error : new NineError({ kind: 'internal', op: 'blob.write', message: String(error), cause: error })
    } finally {
      this.#uploading.delete(hash)
      this.#uploads.delete(hash)
    }
  }

  #recycle(buffer: Uint8Array): void {
    if (this.#spare.length < 2) this.#spare.push(buffer)
  }
}

interface Page {
  /** A whole chunk. */
  readonly bytes: Uint8Array
  /** Written without a gap from the start up to here: a chunk written to its end is put at once. */
  run: number
}

function checkRange(offset: number, length: number, op: string): void {
  if (!Number.isSafeInteger(offset) || offset < 0) throw new NineError({ kind: 'invalid', op, message: `${offset} is no offset` })
  if (offset + length > limits.file_bytes_max) {
    throw new NineError({ kind: 'too_large', op, message: `a file has at most ${limits.file_bytes_max} bytes` })
  }
}
