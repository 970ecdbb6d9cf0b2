/**
 * Where a lane stands in the log of its group, as its checkpoints hold it: what the core needs to go on when the log before is cut.
 *
 * C1 Term and configuration are those of the entry that the checkpoint's applied index names.
 * C2 The hard state is one that was durable before, and no older than any record of it that was cut from the log.
 */
import { NineError } from '../../namespace/errors.ts'
import type { Configuration, HardState, SnapshotMeta } from '../../raft/index.ts'
import type { LaneRows } from '../engine/lane.ts'

/** Row of a checkpoint. */
const placeKey = 'raft'
const format = 1

export function isPlaceRow(key: string): boolean {
  return key === placeKey
}

/** Term and configuration as of a checkpoint, from its rows. @throws NineError `corrupt`, `unavailable` (there is none yet) */
export function placeOf(rowOf: (key: string) => Uint8Array | undefined, store: string): Pick<SavedPlace, 'term' | 'configuration'> {
  const bytes = rowOf(placeKey)
  if (bytes === undefined) throw new NineError({ kind: 'unavailable', op: 'replica.place', message: `store ${store} is not saved yet` })
  return parsePlace(bytes, store)
}

/** A hard state and the number in the node's log of the record that made it durable. */
export interface DurableHardState {
  readonly hard: HardState
  readonly lsn: number
}

export interface PlaceParts {
  /** The newest hard state of this group that is durable. */
  readonly hardState: () => DurableHardState
  /** A checkpoint holds everything up to here. */
  readonly saved: (appliedIndex: number, hardLsn: number) => void
  /** It does since a snapshot took the place of everything. */
  readonly installed: (appliedIndex: number, hardLsn: number) => void
}

interface SavedPlace {
  readonly term: number
  readonly configuration: Configuration
  readonly hard: HardState
  readonly hardLsn: number
  readonly forgotten?: number | undefined
}

export class Place implements LaneRows {
  /** Of the last entry applied. */
  term: number
  configuration: Configuration
  /** As the last checkpoint holds them. */
  hard: HardState
  hardLsn: number
  /** Entries up to here, of which the last put another state in the place of the one before, are given to nobody: he gets a snapshot. */
  forgotten = 0
  parts: PlaceParts | undefined
  #exported = { lsn: 0, forgotten: 0 }
  /** A checkpoint has its row. */
  #isSaved = false
  /** As the last checkpoint holds it. */
  #savedForgotten = 0

  /** Where a group begins: at index 0, or where an alone node was, whose entries are all of term 1. */
  constructor(appliedIndex: number, voters: readonly string[]) {
    this.term = appliedIndex === 0 ? 0 : 1
    this.configuration = { voters, outgoing: [], learners: [], demoted: [] }
    this.hard = { term: this.term, vote: null }
    this.hardLsn = 0
  }

  /** Take over the row of the last checkpoint, where it has one. @throws NineError `corrupt` */
  import(rows: Iterable<readonly [string, Uint8Array]>, store: string): void {
    for (const [key, bytes] of rows) {
      if (key !== placeKey) continue
      const saved = parsePlace(bytes, store)
      this.#isSaved = true
      this.term = saved.term
      this.configuration = saved.configuration
      this.hard = saved.hard
      this.hardLsn = saved.hardLsn
      this.forgotten = this.#savedForgotten = saved.forgotten ?? 0
    }
  }

  meta(appliedIndex: number): SnapshotMeta {
    return { index: appliedIndex, term: this.term, configuration: this.configuration }
  }

  /** A restore does, by the entry of this index and term. */
  *restoring(index: number, term: number): Iterable<readonly [string, Uint8Array]> {
    yield this.#row({ term, configuration: this.configuration }, index)
  }

  /** A snapshot takes the place of everything: where the lane will be, as rows of its checkpoint. The hard state in them is that of when they are read. C2 */
  *replacing(meta: SnapshotMeta): Iterable<readonly [string, Uint8Array]> {
    yield this.#row(meta)
  }

  get isDirty(): boolean {
    return (
      !this.#isSaved || this.forgotten !== this.#savedForgotten || (this.parts !== undefined && this.parts.hardState().lsn > this.hardLsn)
    )
  }

  export(): Iterable<readonly [string, Uint8Array]> {
    return [this.#row(this)]
  }

  #row({ term, configuration }: Pick<SavedPlace, 'term' | 'configuration'>, forgotten = this.forgotten): readonly [string, Uint8Array] {
    const { hard, lsn } = this.parts?.hardState() ?? { hard: this.hard, lsn: this.hardLsn }
    this.#exported = { lsn, forgotten }
    const saved: SavedPlace & { format: number } = { format, term, configuration, hard, hardLsn: lsn, forgotten }
    return [placeKey, Buffer.from(JSON.stringify(saved))]
  }

  saved(appliedIndex: number): void {
    this.#noteSaved()
    this.parts?.saved(appliedIndex, this.hardLsn)
  }

  /** The checkpoint has the rows that `restoring` gave. C1 */
  restored(index: number, term: number): void {
    this.forgotten = index
    this.installed({ index, term, configuration: this.configuration })
  }

  /** The checkpoint is that snapshot, with the rows that `replacing` gave. C1 */
  installed({ index, term, configuration }: SnapshotMeta): void {
    this.#noteSaved()
    this.term = term
    this.configuration = configuration
    this.parts?.installed(index, this.hardLsn)
  }

  #noteSaved(): void {
    this.#isSaved = true
    this.hardLsn = this.#exported.lsn
    this.#savedForgotten = this.#exported.forgotten
  }
}

function parsePlace(bytes: Uint8Array, store: string): SavedPlace {
  const saved = parse(bytes)
  if (saved !== undefined) return saved
  const message = `the place of store ${store} in its group's log is damaged`
  throw new NineError({ kind: 'corrupt', op: 'storage.open', message })
}

function parse(bytes: Uint8Array): SavedPlace | undefined {
  try {
    const value = JSON.parse(Buffer.from(bytes).toString()) as (SavedPlace & { format: number }) | null
    if (value?.format !== format || !Number.isSafeInteger(value.term) || !Number.isSafeInteger(value.hardLsn)) return undefined
    const { voters, outgoing, learners, demoted } = value.configuration
    const lists: unknown[] = [voters, outgoing, learners, demoted]
    if (!lists.every((list) => Array.isArray(list) && list.every((id) => typeof id === 'string'))) return undefined
    if (!Number.isSafeInteger(value.hard.term) || !(value.hard.vote === null || typeof value.hard.vote === 'string')) return undefined
    return value
  } catch {
    return undefined
  }
}
