/**
 * The state of a store besides its tree, and the one function that changes either: apply.
 *
 * A1 The same entries, from the same state, give the same outcomes, records and events, byte for byte: nothing here looks
 *    at a clock, at randomness or at anything but its arguments and the state.
 * A2 An entry changes all that it says or nothing. Revisions are dense: an entry that changes no record gets none.
 * A3 Times and indexes of entries grow. An entry that goes back is not applied: the log is damaged.
 * A4 What exportChanged gave, together with a tree saved in the same turn, is the state as of that turn.
 */
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Micros } from '../../namespace/stat.ts'
import type { Entry, Image, Outcome, RestoreCommand, Revision, TreeTransaction, TreeView } from '../model.ts'
import { ByteReader } from './byte-reader.ts'
import { ByteWriter } from './byte-writer.ts'
import { Change } from './change.ts'
import { ClientTable, isClientKey } from './clients.ts'
import { applyCommand } from './commands.ts'
import { LeaseTable, type LeaseChange } from './leases.ts'
import { Restores, restoresKey } from './restores.ts'

export interface OpenTransaction extends TreeTransaction {
  /** What the revision did, for history. */
  commit(): readonly Image[]
  rollback(): void
}

/** The tree of a store, as apply changes it. One transaction is open at a time. */
export interface TreeTransactionFactory {
  begin(revision: number): OpenTransaction
  readonly newest: TreeView
}

export interface Applied {
  readonly outcome: Outcome
  /** What the entry changed; undefined when no record did. */
  readonly revision: Revision | undefined
  /** Leases that began or ended with it, for whoever runs their clocks. */
  readonly leases: readonly LeaseChange[]
}

const noLeases: readonly LeaseChange[] = []

export class Machine {
  readonly owner: string
  readonly leases = new LeaseTable()
  #clients = new ClientTable()
  #restores = new Restores()
  readonly #writer = new ByteWriter()
  #index = 0
  #revision = 0
  /** Time of the last entry applied. */
  #time: Micros = 0
  /** Latest time given to a proposal; no part of the state. */
  #given: Micros = 0

  /** `owner`: the principal that has every right in this store. */
  constructor(options: { readonly owner: string }) {
    this.owner = options.owner
  }

  /** Index of the last entry applied. */
  get appliedIndex(): number {
    return this.#index
  }

  /** Revision of the last change. */
  get revision(): number {
    return this.#revision
  }

  /** Time of the last entry applied. */
  get time(): Micros {
    return this.#time
  }

  /** A client born after this is none that was forgotten: see clients.ts X3. -1 while none was. */
  get horizon(): Micros {
    return this.#clients.horizon
  }

  /** Of the state, since it was restored; undefined: it never was. */
  get incarnation(): string | undefined {
    return this.#restores.incarnation
  }

  /** It goes on in another cluster: what only others had is lost, so it is another incarnation. */
  renew(incarnation: string): void {
    if (this.incarnation !== undefined) this.#restores = this.#restores.renewed(incarnation)
  }

  /** For commands that act on files by their numbers: E4 of restores.ts. */
  get restoredAt(): number | undefined {
    return this.#restores.restoredAt
  }

  /** What was restored, or given up. */
  get restores(): Pick<Restores, 'find' | 'all'> {
    return this.#restores
  }

  /** Whether the entry puts another state in the place of this one: then it is not applied here, but `replaces` is asked. */
  takes({ command, actor }: Entry): boolean {
    if (command.op !== 'restore' || command.backup === undefined || actor !== this.owner) return false
    return this.#restores.find(command.id) === undefined
  }

  /**
   * For the machine of a backup: whether it may take the place of `before`, by this entry. Then it goes on where that was: with its
   * clients, whose results are forgotten, and its times. Its rows are what exportChanged gives now.
   * @throws NineError `corrupt` as apply
   */
  replaces(before: Machine, entry: Entry): boolean {
    const { index, time, command } = entry
    if (!(index > before.#index && time > before.#time)) throw before.#outOfOrder(entry)
    if (command.op !== 'restore' || time <= this.#time) return false
    this.#clients = before.#clients.forgotten()
    this.#restores = before.#restores.with({ id: command.id, index, isDone: true }, command.incarnation, command.endsHandles)
    this.#index = index
    this.#time = time
    return true
  }

  /** Clients whose results are remembered. */
  get clients(): number {
    return this.#clients.size
  }

  /**
   * Time for the next proposal: later than every one before, and than `seen`, the latest that its cause has seen.
   * @param now of the node, or later: after all that it applied
   * @param wall the node's clock, where `now` is not: so what was taken a moment ago does not let the next go further
   * @throws NineError `invalid` when `seen` is after `now` and over limits.clock_ahead_ms_max ahead of `wall`
   */
  nextTime(now: Micros, seen?: Micros, wall: Micros = now): Micros {
    let time = Math.max(now, this.#time + 1, this.#given + 1)
    if (seen !== undefined && seen >= time) {
      if (!(seen <= Math.max(now, wall + limits.clock_ahead_ms_max * 1000))) {
        const message = `the request has seen a time ${Math.round((seen - wall) / 1000)} ms ahead of this node's clock`
        throw new NineError({ kind: 'invalid', op: 'apply.time', message })
      }
      time = Math.floor(seen) + 1
    }
    this.#given = time
    return time
  }

  /**
   * Change `trees` and this as the entry says.
   * @throws NineError `corrupt` when the entry goes back in time or index (A3). Whatever else is thrown is a fault
   *   below or in the program: the entry is not applied, and the store must not go on.
   */
  apply(trees: TreeTransactionFactory, entry: Entry): Applied {
    if (!(entry.index > this.#index && entry.time > this.#time)) throw this.#outOfOrder(entry)
    const applied = this.#apply(trees, entry)
    this.#index = entry.index
    this.#time = entry.time
    return applied
  }

  #apply(trees: TreeTransactionFactory, entry: Entry): Applied {
    const known = this.#clients.admit(entry)
    if (known !== undefined) return { outcome: known, revision: undefined, leases: noLeases }
    const { command } = entry
    if (command.op === 'restore') return this.#refuseRestore(entry, command)
    const tree = trees.begin(this.#revision + 1)
    const change = new Change(tree, entry, this.leases, this.owner, this.restoredAt)
    let outcome: Outcome
    try {
      outcome = applyCommand(change, command)
    } catch (error) {
      tree.rollback()
      this.leases.rollback()
      if (!isRefusal(error)) throw error
      outcome = { kind: 'error', error: error.fields }
      this.#clients.record(entry, outcome)
      return { outcome, revision: undefined, leases: noLeases }
    }
    if (outcome.kind === 'needs_chunks') {
      // Not recorded: the same seq comes again with the chunks.
      tree.rollback()
      this.leases.rollback()
      return { outcome, revision: undefined, leases: noLeases }
    }
    const revision = this.#finish(tree, change)
    const leases = this.leases.commit()
    this.#clients.record(entry, outcome)
    return { outcome, revision, leases }
  }

  /** A restore that is not made by this entry: it was before, is given up, or may not be. */
  #refuseRestore(entry: Entry, command: RestoreCommand): Applied {
    const refused = this.#restores.refusal(entry, command, this.owner)
    if (refused === undefined && command.backup === undefined) {
      this.#restores = this.#restores.with({ id: command.id, index: entry.index, isDone: false }, this.incarnation)
    }
    const done: Outcome = { kind: 'txn', result: { branch: 'then', results: [], revision: this.#revision } }
    const outcome: Outcome = refused === undefined ? done : { kind: 'error', error: refused.fields }
    this.#clients.record(entry, outcome)
    return { outcome, revision: undefined, leases: noLeases }
  }

  /** A2 */
  #finish(tree: OpenTransaction, change: Change): Revision | undefined {
    if (!change.isChanged) {
      tree.rollback()
      return undefined
    }
    const images = tree.commit()
    this.#revision = tree.revision
    const { time, actor, cause } = change.entry
    return { revision: this.#revision, time, actor, cause, events: change.events, images }
  }

  /**
   * What changed since the last export that was saved, for a checkpoint; undefined: take the key away. Call exportSaved
   * once it is on disk with the tree; a checkpoint that failed is made up for by the next.
   */
  exportChanged(): Iterable<[string, Uint8Array | undefined]> {
    const rows: [string, Uint8Array | undefined][] = [[clockKey, this.#encodeClock()]]
    if (!this.#restores.isEmpty) rows.push([restoresKey, this.#restores.encode()])
    for (const row of this.#clients.exportChanged(this.#writer)) rows.push(row)
    for (const [id, bytes] of this.leases.exportChanged(this.#writer)) rows.push([leasePrefix + id, bytes])
    return rows
  }

  exportSaved(): void {
    this.#clients.exportSaved()
    this.leases.exportSaved()
  }

  /** Take over a state that was exported, into a new machine. @throws NineError `corrupt` */
  import(entries: Iterable<readonly [string, Uint8Array | undefined]>): void {
    this.importPart(entries)
    this.imported()
  }

  /** As import, for a state that comes in parts; call `imported` after the last. @throws NineError `corrupt` */
  importPart(entries: Iterable<readonly [string, Uint8Array | undefined]>): void {
    for (const [key, bytes] of entries) {
      if (bytes === undefined) continue
      if (key === clockKey) this.#decodeClock(bytes)
      else if (key === restoresKey) this.#restores = Restores.decode(bytes)
      else if (isClientKey(key)) this.#clients.import(key, bytes)
      else if (key.startsWith(leasePrefix)) this.leases.import(key.slice(leasePrefix.length), bytes)
    }
  }

  imported(): void {
    this.#clients.imported()
  }

  /** Take over the state of another machine, which is done for: all of it is saved. Times given to proposals are not forgotten. */
  adopt(other: Machine): void {
    this.#clients = other.#clients
    this.#restores = other.#restores
    this.leases.adopt(other.leases)
    this.#index = other.#index
    this.#revision = other.#revision
    this.#time = other.#time
  }

  #encodeClock(): Uint8Array {
    const writer = this.#writer
    writer.reset()
    writer.byte(1)
    writer.count(this.#index)
    writer.count(this.#revision)
    writer.count(this.#time)
    writer.count(this.#clients.horizon + 1)
    return writer.copy()
  }

  #decodeClock(bytes: Uint8Array): void {
    const reader = new ByteReader(bytes, 'the clock of a store')
    if (reader.byte() !== 1) throw reader.corrupt('its format is not known')
    this.#index = reader.count()
    this.#revision = reader.count()
    this.#time = reader.count()
    this.#clients.horizon = reader.count() - 1
    reader.end()
  }

  #outOfOrder(entry: Entry): NineError {
    const message = `entry ${entry.index} of time ${entry.time} follows entry ${this.#index} of time ${this.#time}`
    return new NineError({ kind: 'corrupt', op: 'apply.order', message })
  }
}

/** Whether a command was refused for what it asks, rather than broken off by a fault below. */
function isRefusal(error: unknown): error is NineError {
  return error instanceof NineError && error.op.startsWith('apply.') && error.kind !== 'corrupt'
}

const clockKey = 'clock'
const leasePrefix = 'lease/'
