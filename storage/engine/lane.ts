/**
 * One store's share of the engine: its machine, its tree, and how far both have come in the log.
 *
 * N1 Entries are applied in the order of their index, each once, by this one function: live and when the log is replayed.
 * N2 A checkpoint holds everything up to an index; the log may be cut up to the first entry that no checkpoint holds.
 * N3 An entry whose apply broke off may stand in one part and not in another: nothing is saved from then on. The log has
 *    all of it, and opening the folder applies it to what was saved before.
 * N4 A state is saved or replaced by another, never both at once: one waits for the other.
 */
import { NineError, textOf } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import type { Machine } from '../apply/machine.ts'
import type { Entry, Outcome } from '../model.ts'
import type { Store } from '../store/store.ts'
import type { Tree } from '../tree/tree.ts'

/** Row of a checkpoint: number in the log of the last entry it holds. */
const logKey = 'log'
/** Row of a checkpoint: identity of that log. Folders of before it was kept have none until their next checkpoint. */
const logIdKey = 'logId'

/** Rows that a checkpoint of this lane holds besides those of its machine: of a member of a cluster, its place in the group's log. */
export interface LaneRows {
  /** Whether they differ from those of the last checkpoint, which makes one due. */
  readonly isDirty: boolean
  export(): Iterable<readonly [string, Uint8Array]>
  /** The checkpoint with what the last `export` gave is on stable storage, and holds everything up to `appliedIndex`. */
  saved(appliedIndex: number): void
}

export class Lane {
  readonly group: number
  readonly name: string
  readonly machine: Machine
  readonly tree: Tree
  /** Set once the log was replayed: until then nobody watches and no lease runs. */
  store: Store | undefined
  rows: LaneRows | undefined
  /** What keeps it from going on, which is tried again. */
  trouble: string | undefined
  /** Index of the next entry proposed. */
  nextIndex: number
  appliedIndex: number
  revision: number
  /** Number in the log of the last entry applied; 0 where none was. */
  appliedLsn = 0
  /** The log that `appliedLsn` counts in; undefined where no checkpoint names it. */
  savedLogId: string | undefined
  readonly #logId: string
  /** Number in the log of the first entry that no checkpoint holds. */
  firstUnsaved = Infinity
  #saving: Promise<void> | undefined
  #replacing: Promise<void> | undefined
  #failure: NineError | undefined

  constructor(group: number, name: string, machine: Machine, tree: Tree, logId: string, appliedIndex: number, revision: number) {
    this.#logId = logId
    this.group = group
    this.name = name
    this.machine = machine
    this.tree = tree
    this.appliedIndex = appliedIndex
    this.nextIndex = appliedIndex + 1
    this.revision = revision
  }

  /** Why an entry could not be applied, from when one could not. N3 */
  get failure(): NineError | undefined {
    return this.#failure
  }

  get isSaved(): boolean {
    return this.firstUnsaved === Infinity && this.rows?.isDirty !== true
  }

  /** Take over how far the last checkpoint was in the log. */
  importLog(meta: Iterable<readonly [string, Uint8Array]>): void {
    for (const [key, value] of meta) {
      if (key === logKey) this.appliedLsn = Number(Buffer.from(value).toString())
      else if (key === logIdKey) this.savedLogId = Buffer.from(value).toString()
    }
  }

  /** N1. What it throws is a fault: nothing may be applied after it. */
  apply(entry: Entry, lsn: number): Outcome {
    if (lsn < this.firstUnsaved) this.firstUnsaved = lsn
    try {
      const applied = this.machine.apply(this.tree, entry)
      const { outcome, revision } = applied
      this.appliedIndex = entry.index
      this.appliedLsn = lsn
      if (revision !== undefined) {
        this.revision = revision.revision
        this.tree.history.append(revision)
      }
      this.store?.applied(applied)
      return outcome
    } catch (error) {
      const message = `an entry of store ${this.name} could not be applied: ${textOf(error)}`
      this.#failure = new NineError({ kind: 'internal', op: 'storage.save', message, cause: error })
      throw error
    }
  }

  /** An entry that changes nothing: the log of a group has some of its own. */
  pass(index: number, lsn: number): void {
    if (lsn < this.firstUnsaved) this.firstUnsaved = lsn
    this.appliedIndex = index
    this.appliedLsn = lsn
  }

  /** A snapshot is taking the place of its state: nothing of it is saved or collected until it has. N4 */
  get isReplaced(): boolean {
    return this.#replacing !== undefined
  }

  /** Run `install`, which puts a state that is saved in the place of this one. Nothing may be applied until it ends. N4 */
  replace(install: () => Promise<void>): Promise<void> {
    const saved = this.#saving?.catch(() => undefined) ?? Promise.resolve()
    this.#replacing = saved
      .then(install)
      .then(() => void (this.firstUnsaved = Infinity))
      .finally(() => (this.#replacing = undefined))
    return this.#replacing
  }

  /** N2 */
  async save(): Promise<void> {
    while (this.#replacing !== undefined) await this.#replacing.catch(() => undefined) // N4
    this.#saving ??= this.#save().finally(() => (this.#saving = undefined))
    await this.#saving
  }

  async #save(): Promise<void> {
    const before = this.firstUnsaved
    if (this.isSaved) return
    if (this.#failure !== undefined) throw this.#failure // N3
    failpoint('checkpoint.before')
    this.firstUnsaved = Infinity
    try {
      // All of it is taken in one turn: A4 of apply/machine.ts.
      const log = [[logKey, Buffer.from(String(this.appliedLsn))], [logIdKey, Buffer.from(this.#logId)]] as const // prettier-ignore
      const meta = [...this.machine.exportChanged(), ...log, ...(this.rows?.export() ?? [])]
      const { appliedIndex, revision } = this
      await this.tree.checkpoint({ appliedIndex, revision, meta })
      failpoint('checkpoint.committed')
      this.machine.exportSaved()
      this.rows?.saved(appliedIndex)
    } catch (error) {
      this.firstUnsaved = Math.min(before, this.firstUnsaved)
      throw error
    }
  }
}
