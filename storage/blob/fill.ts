/**
 * Filling: in the background, a node of a cluster fetches the chunks that its stores name and that are not on its disk. Only a majority
 * has them when a change is proposed; the others get them here, and so does a node that was away, or came new.
 *
 * G1 Every value that was named is looked through: at once while there is room to wait in, else when all values are (`scan`).
 * G2 What could not be fetched is tried again. What no node has may have been replaced and collected: it is dropped, and found again by
 *    the next scan if it still stands. So is what was tried several times: while one node cannot be asked, nobody can say that none has it.
 * G3 In memory: `values_max` references, limits.blob_fill_chunks_max chunks, and while scanning the hashes of index chunks gone through.
 *    Several values are filled at once, so that many small ones are not fetched one by one.
 * G4 What this node cannot keep (a full disk) is told: it votes, and its disk does not count for these values.
 */
import { isNineError, toNineError, type ErrorKind, type NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { BlobRef, NodeRecord, Revision } from '../model.ts'
import { chunksBeyond, type Reached } from './chunk-tree.ts'
import type { BlobStore, ChunkHash } from './store.ts'

export interface FillOptions {
  /** Brings what is missing from other nodes: FetchingBlobs. */
  readonly store: Pick<BlobStore, 'has' | 'get'> & { bring(hash: ChunkHash): Promise<void> }
  /** Every value that stands throughout its iteration, as for collection. */
  readonly roots: () => Iterable<BlobRef>
  /** Told once of what does not pass by itself. G4 */
  readonly warn?: ((error: NineError) => void) | undefined
  /** For tests. */
  readonly limits?: Partial<FillLimits> | undefined
}

export interface FillLimits {
  readonly blob_fill_values_max: number
  readonly blob_fill_again_ms: number
  readonly blob_fill_scan_ms: number
}

export interface FillStatus {
  /** Values that wait to be looked through, or have chunks that could not be fetched yet. */
  readonly waiting: number
  /** Whether all values are being looked through, or are to be. */
  readonly isScanning: boolean
  /** Chunks found missing and fetched. */
  readonly filled: number
  /** Why the last value could not be filled; undefined once one could. */
  readonly failure: NineError | undefined
}

const values_at_once = 4

const tries_max = 5

interface Wanted {
  readonly blob: BlobRef
  /** A value wanted before, with which it shares chunks. */
  readonly base: BlobRef | undefined
  /** How often it failed since it was wanted. */
  readonly tries?: number
}

/** What ends when other nodes are there, or by the next scan. */
const passing: ReadonlySet<ErrorKind> = new Set(['unavailable', 'deadline', 'corrupt'])

/** Chunks of one value that are missing here, index chunks before what they name; these have to be there to go on below them. */
export async function* missingChunks(
  store: Pick<BlobStore, 'has' | 'get'>,
  { blob, base }: Wanted,
  isKnown?: (chunk: Reached) => boolean,
): AsyncIterable<ChunkHash> {
  for await (const { hash } of chunksBeyond(store, blob, base, isKnown)) if (!(await store.has(hash))) yield hash
}

export class BlobFill {
  readonly #options: FillOptions
  readonly #limits: FillLimits
  readonly #queue = new Map<string, Wanted>()
  #scan: Iterator<BlobRef> | undefined
  #isScanDue = false
  /** What is missing is not known before a scan has ended: the values could not be listed, or one was dropped that may stand. */
  #isScanOwed = false
  /** Index chunks that this scan has gone through. */
  readonly #seen = new Set<ChunkHash>()
  /** Values being filled, and chunks of them on their way. */
  #active = 0
  readonly #fetches = new Set<Promise<unknown>>()
  #filled = 0
  #failure: NineError | undefined
  /** Kind of the last failure, until a value was filled. */
  #told: ErrorKind | undefined
  #running: Promise<void> | undefined
  #again: NodeJS.Timeout | undefined
  #scanAgain: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: FillOptions) {
    this.#options = options
    this.#limits = { ...limits, ...options.limits }
  }

  get status(): FillStatus {
    const isScanning = this.#isScanDue || this.#scan !== undefined || this.#isScanOwed
    return { waiting: this.#queue.size + this.#active, isScanning, filled: this.#filled, failure: this.#failure }
  }

  /** Why this node lacks chunks that others have, where somebody has to do something about it. G4 */
  get trouble(): string | undefined {
    const failure = this.#failure
    if (failure === undefined || passing.has(failure.kind)) return undefined
    return `${this.status.waiting} large values are not on this node in full: ${failure.message}`
  }

  /** The values that a revision put in place. */
  applied({ images }: Revision): void {
    for (const image of images) {
      if (image.kind !== 'node') continue
      const blob = blobOf(image.after)
      const base = blobOf(image.before)
      if (blob !== undefined && (base === undefined || keyOf(blob) !== keyOf(base))) this.want(blob, base)
    }
  }

  /** `base`: a value wanted before: what both have in common is not looked for again. */
  want(blob: BlobRef, base: BlobRef | undefined): void {
    if (this.#isClosed) return
    if (this.#queue.size < this.#limits.blob_fill_values_max) this.#queue.set(keyOf(blob), { blob, base })
    else this.#isScanDue = true // G1
    this.#start()
  }

  /** Look through all values: when a node opens, and when a snapshot took the place of a store's state. */
  scan(): void {
    this.#isScanDue = true
    this.#start()
  }

  /** Resolves when nothing is left to do now. For tests. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#again)
    clearTimeout(this.#scanAgain)
    await this.#running
  }

  #start(): void {
    if (this.#isClosed || this.#running !== undefined || this.#again !== undefined) return
    this.#running = this.#run()
      .catch((error: unknown) => {
        this.#isScanOwed = true
        this.#scan = undefined
        this.#failure = toNineError(error, 'blob.fill')
        this.#scanLater()
      })
      .finally(() => {
        this.#running = undefined
        // What was wanted when the last was about to end.
        if (this.#queue.size > 0 || this.#isScanDue) this.#start()
      })
  }

  async #run(): Promise<void> {
    // Behind the turn that applies.
    await Promise.resolve()
    const ends = await Promise.allSettled(Array.from({ length: values_at_once }, () => this.#work()))
    for (const end of ends) if (end.status === 'rejected') throw end.reason
  }

  async #work(): Promise<void> {
    while (!this.#isClosed && this.#again === undefined) {
      const next = this.#queue.entries().next()
      const [key, wanted] = next.done === true ? [undefined, this.#nextOfScan()] : next.value
      if (wanted === undefined) return
      if (key !== undefined) this.#queue.delete(key)
      this.#active++
      try {
        await this.#fill(wanted, key === undefined)
        this.#failure = undefined
        this.#told = undefined
      } catch (error) {
        this.#failed(wanted, toNineError(error, 'blob.fill'))
      } finally {
        this.#active--
      }
    }
  }

  #nextOfScan(): Wanted | undefined {
    if (this.#isScanDue) {
      this.#isScanDue = false
      this.#isScanOwed = false
      this.#seen.clear()
      this.#scan = this.#options.roots()[Symbol.iterator]()
    }
    const next = this.#scan?.next()
    if (next?.done === false) return { blob: next.value, base: undefined }
    this.#scan = undefined
    this.#seen.clear()
    return undefined
  }

  /** G2 */
  #failed(wanted: Wanted, error: NineError): void {
    if (!passing.has(error.kind) && error.kind !== this.#told) this.#options.warn?.(error)
    this.#told = error.kind
    this.#failure = error
    this.#seen.clear()
    if (isNineError(error, 'corrupt')) return this.#scanLater()
    const { blob, tries = 1 } = wanted
    if (tries === tries_max) {
      this.#isScanOwed = true
      this.#scanLater()
    }
    // Others have their turn before it; what it was made from may be what failed.
    else if (this.#queue.size < this.#limits.blob_fill_values_max) this.#queue.set(keyOf(blob), { blob, base: undefined, tries: tries + 1 })
    else this.#isScanDue = true
    this.#again ??= setTimeout(() => {
      this.#again = undefined
      this.#start()
    }, this.#limits.blob_fill_again_ms).unref()
  }

  #scanLater(): void {
    if (this.#isClosed) return
    this.#scanAgain ??= setTimeout(() => {
      this.#scanAgain = undefined
      this.scan()
    }, this.#limits.blob_fill_scan_ms).unref()
  }

  async #fill(wanted: Wanted, isOfScan: boolean): Promise<void> {
    const { store } = this.#options
    const isKnown = isOfScan ? (chunk: Reached): boolean => chunk.level > 0 && this.#isSeen(chunk.hash) : undefined
    const fetches = new Set<Promise<unknown>>()
    let failure: unknown
    try {
      for await (const hash of missingChunks(store, wanted, isKnown)) {
        if (this.#isClosed || failure !== undefined) break
        const fetch = store.bring(hash).then(
          () => {
            this.#filled++
            fetches.delete(fetch)
          },
          (error: unknown) => {
            failure ??= error
            fetches.delete(fetch)
          },
        )
        fetches.add(fetch)
        this.#fetches.add(fetch)
        void fetch.finally(() => this.#fetches.delete(fetch))
        while (this.#fetches.size >= limits.blob_fill_chunks_max) await Promise.race(this.#fetches)
      }
    } finally {
      await Promise.all(fetches)
    }
    if (failure !== undefined) throw failure instanceof Error ? failure : new Error('a chunk could not be fetched', { cause: failure })
  }

  #isSeen(hash: ChunkHash): boolean {
    if (this.#seen.has(hash)) return true
    this.#seen.add(hash)
    return false
  }
}

function blobOf(node: NodeRecord | undefined): BlobRef | undefined {
  return node?.content.kind === 'blob' ? node.content.blob : undefined
}

function keyOf({ root, depth, size }: BlobRef): string {
  return `${Buffer.from(root).toString('hex')}:${depth}:${size}`
}
