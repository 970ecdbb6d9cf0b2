/**
 * Upkeep: the background work of an engine. Stores are saved and the log is cut behind them; what nothing shows any more is taken away; the
 * database is written anew when that is asked for.
 *
 * U1 Stores are saved by size and time, and the log is cut behind what is saved.
 * U2 A save that fails is tried again every `save_again_ms`, and told of once while it fails for the same reason. Meanwhile changes are taken while memory for them lasts, then
 *    refused with what the save failed with.
 * U3 A store that failed (N3 of lane.ts) is passed over, and holds up no other: the log keeps what it needs of it.
 */
import { collect as collectBlobs, type Collected } from '../blob/collect.ts'
import type { BlobPins } from '../blob/pins.ts'
import type { BlobStore } from '../blob/store.ts'
import type { Clock } from '../../namespace/clock.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import type { BlobRef } from '../model.ts'
import type { Compacted } from '../tree/compaction.ts'
import type { Environment } from '../tree/environment.ts'
import type { Wal } from '../wal/wal.ts'
import type { Tuning } from './engine.ts'
import { folderError } from './folder.ts'
import type { Lane } from './lane.ts'
import type { Writer } from './writer.ts'

export interface UpkeepParts {
  readonly dir: string
  readonly clock: Clock
  readonly tuning: Tuning
  readonly lanes: ReadonlyMap<number, Lane>
  readonly writer: Writer
  readonly wal: Wal
  readonly environment: Environment
  readonly blobs: BlobStore
  readonly pins: BlobPins
  /** Of a member of a cluster: what is agreed on is applied when it resolves. */
  readonly linearizeAll: ((op: string) => Promise<void>) | undefined
  /** Background work failed; it is tried again. */
  readonly warn: (error: unknown) => void
}

/** What `defrag` is at. `rows`: those of the database that are copied, of `of`. */
export type DefragStep = { readonly step: 'save' | 'collect' } | { readonly step: 'copy'; readonly rows: number; readonly of: number }

const save_again_ms = 1_000
const replacedMeanwhile = 'a store got another state meanwhile, which may name values that were not looked at'

export class Upkeep {
  readonly #parts: UpkeepParts
  readonly #stop = new AbortController()
  #timers: NodeJS.Timeout[] = []
  #saving: Promise<void> | undefined
  #saveFailure: NineError | undefined
  #saveAgain: NodeJS.Timeout | undefined
  #collecting: Promise<Collected> | undefined
  #isEnding = false

  constructor(parts: UpkeepParts) {
    this.#parts = parts
  }

  /** Save and collect from time to time. */
  start(): void {
    const { tuning, warn } = this.#parts
    this.#timers = [
      setInterval(() => this.#saveInBackground(), tuning.checkpointMs).unref(),
      setInterval(() => void this.collect().catch(warn), tuning.collectMs).unref(),
    ]
  }

  /** Why the last save failed. */
  get saveFailure(): NineError | undefined {
    return this.#saveFailure
  }

  /** Save every store, then cut the log behind it. U1 */
  save(): Promise<void> {
    this.#saving ??= this.#save().then(
      () => this.#saveEnded(undefined),
      (error: unknown) => {
        this.#saveEnded(folderError(error, this.#parts.dir))
        throw error
      },
    )
    return this.#saving
  }

  /** Forget history past its window, take away what nothing shows any more, then chunks that nothing names. */
  collect(): Promise<Collected> {
    this.#collecting ??= this.#collect().finally(() => (this.#collecting = undefined))
    return this.#collecting
  }

  /**
   * Take away what nothing shows any more, save, and write the database anew, so that its file is as large as what it holds. Changes and
   * reads go on. A member that reaches no majority keeps chunks that may be named, and does the rest.
   * @throws NineError `no_space`, `overloaded`, `unavailable`, `internal`: nothing is lost
   */
  async defrag(progress: (step: DefragStep) => void = () => undefined): Promise<Compacted> {
    const { environment, warn } = this.#parts
    // What was taken away is found where it is saved.
    progress({ step: 'save' })
    await this.save()
    progress({ step: 'collect' })
    await this.collect().catch((error: unknown) => {
      if (!isNineError(error, 'unavailable') && !isNineError(error, 'deadline')) throw error
      warn(error)
    })
    await environment.swept()
    return environment.compact((rows, of) => progress({ step: 'copy', rows, of }))
  }

  /** Entries were applied: save before memory for them is used up. U2 */
  watchOverlay(): void {
    const { tuning, writer } = this.#parts
    const bytes = this.#overlayBytes()
    if (bytes < tuning.overlayBytesMax) return
    if (this.#saveFailure !== undefined) {
      if (bytes >= 2 * tuning.overlayBytesMax) this.#refuse(this.#saveFailure)
      return
    }
    if (this.#saving === undefined) {
      // While closing nothing is held: what is under way is finished first, and no save would end the wait.
      if (this.#isEnding) return
      this.#saveInBackground()
    }
    if (bytes >= 2 * tuning.overlayBytesMax) writer.hold(true)
  }

  /** Begin nothing more, also not when something failed. */
  ending(): void {
    this.#isEnding = true
    for (const timer of this.#timers) clearInterval(timer)
    clearTimeout(this.#saveAgain)
    this.#stop.abort()
  }

  /** What was under way is over. */
  async ended(): Promise<void> {
    await this.#collecting?.catch(() => undefined)
    await this.#saving?.catch(() => undefined)
  }

  /** What it fails with is told by `#saveEnded`. */
  #saveInBackground(): void {
    this.save().catch(() => undefined)
  }

  async #save(): Promise<void> {
    const { lanes, writer, wal } = this.#parts
    for (const lane of lanes.values()) if (!lane.isSaved && !isPassedOver(lane)) await lane.save()
    failpoint('cut.before')
    writer.beforeCut()
    await wal.cut(writer.firstNeeded() - 1)
    failpoint('cut.after')
  }

  /** U2 */
  #saveEnded(failure: NineError | undefined): void {
    const { tuning, writer, warn } = this.#parts
    this.#saving = undefined
    if (failure !== undefined && failure.message !== this.#saveFailure?.message) warn(failure)
    this.#saveFailure = failure
    clearTimeout(this.#saveAgain)
    if (failure !== undefined && !this.#isEnding) {
      this.#saveAgain = setTimeout(() => this.#saveInBackground(), save_again_ms).unref()
    }
    this.#refuse(failure !== undefined && this.#overlayBytes() >= 2 * tuning.overlayBytesMax ? failure : undefined)
    writer.hold(false)
    this.watchOverlay()
  }

  #refuse(failure: NineError | undefined): void {
    const { writer, warn } = this.#parts
    const text = `no more changes are taken or applied until stores can be saved: ${failure?.message ?? ''}`
    const reason = failure === undefined ? undefined : new NineError({ ...failure.fields, message: text, cause: failure })
    if (reason !== undefined && writer.status.refused === undefined) warn(reason)
    writer.refuse(reason)
  }

  #overlayBytes(): number {
    let bytes = 0
    for (const lane of this.#parts.lanes.values()) if (lane.failure === undefined) bytes += lane.tree.overlayBytes
    return bytes
  }

  async #collect(): Promise<Collected> {
    const { clock, tuning, lanes, environment, blobs, pins, linearizeAll } = this.#parts
    const now = clock.now()
    for (const lane of lanes.values()) {
      if (isPassedOver(lane)) continue
      await lane.tree.history.compact({ bytesMax: tuning.historyBytesMax, olderThan: now - tuning.historyMsMax * 1000 })
      // Until nothing is left, so that what is removed faster than one round takes away does not pile up.
      while (!this.#stop.signal.aborted && (await lane.tree.collect(limits.collect_nodes_max)) > 0)
        await this.#saving?.catch(() => undefined)
    }
    // What is agreed on and not applied here yet names chunks too: it is applied before roots are read.
    await linearizeAll?.('storage.collect')
    const { taken } = environment
    return collectBlobs({
      store: blobs,
      pins,
      roots: blobRoots(lanes),
      olderThanMs: tuning.blobGraceMs,
      check: () => {
        if (environment.taken !== taken) throw new NineError({ kind: 'unavailable', op: 'storage.collect', message: replacedMeanwhile })
      },
      signal: this.#stop.signal,
    })
  }
}

/** U3; N4 of lane.ts */
function isPassedOver(lane: Lane): boolean {
  return lane.isReplaced || lane.failure !== undefined
}

/** Every large value that a store of the node names, or may show. */
export function* blobRoots(lanes: ReadonlyMap<number, Lane>): Iterable<BlobRef> {
  for (const lane of lanes.values()) yield* lane.tree.blobRefs()
}
