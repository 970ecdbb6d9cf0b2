/**
 * What the parts of one store share: its state, its identity, its blobs, and the way to propose a change.
 *
 * S1 `revision` is the newest applied one; the tree's newest view shows exactly that state.
 * S2 A store that is one replica of many shows its newest state only behind `current`, or where `stale` was asked for; of
 *    the past, a state that is not here yet is looked for behind `current` before it is called one that is not.
 * S3 A command that names large values is proposed when their chunks are on a majority's disks and, of each node, younger there than half
 *    of what collection leaves alone: what took longer is looked at again, which is quick. A command whose outcome is unknown keeps
 *    its chunks for as long again.
 */
import { maskAt } from '../apply/rights.ts'
import type { BlobPins } from '../blob/pins.ts'
import type { BlobStore } from '../blob/store.ts'
import { isInline, type BuiltValue } from '../blob/value-builder.ts'
import type { Clock } from '../../namespace/clock.ts'
import { checkDeadline, type Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { MutationResult, ReadOptions } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import type { Path } from '../../namespace/path.ts'
import { encodePosition, type Position } from '../../namespace/position.ts'
import type { Random } from '../../namespace/random.ts'
import { everyRight, type Principal, type RightsMask } from '../../namespace/rights.ts'
import type { Command, Content, Ino, NodeRecord, Outcome, StoredMutation, TreeView } from '../model.ts'
import type { Tree } from '../tree/tree.ts'
import { answeredError, Positions } from './answers.ts'
import type { Replication } from './replication.ts'
import type { Tries } from './tries.ts'
import { UnlinkedFiles } from './unlinked.ts'

/**
 * How a command gets into the log; settles when it was applied, with what apply answered. `applied` is called in the
 * turn in which it was, if it changed something. `tries`: of this change, where it has no identity and is tried again.
 */
export interface Proposer {
  propose(context: Context, op: string, path: string, command: Command, applied?: () => void, tries?: Tries): Promise<Outcome>
}

export interface CoreParts {
  readonly group: number
  readonly name: string
  readonly id: string
  readonly incarnation: string
  readonly owner: string
  readonly tree: Tree
  readonly blobs: BlobStore
  readonly pins: BlobPins
  readonly clock: Clock
  readonly random: Random
  readonly proposer: Proposer
  /** What numbers of files are of: E4 of apply/restores.ts. */
  readonly restoredAt?: (() => number | undefined) | undefined
  /** undefined: alone. */
  readonly replication?: Replication | undefined
}

/** A state that a read shows. */
export interface Shown {
  readonly view: TreeView
  readonly position: Position
  /** Whether it is not the newest: then rights are those of then and of now. */
  readonly isPast: boolean
}

/** A value that a command is about to name. */
export interface MadeValue {
  readonly built: BuiltValue
  /** What it was made from, where the command is conditional on that: what both share is kept already. */
  readonly base: Content | undefined
}

interface RevisionWaiter {
  readonly revision: number
  readonly resolve: () => void
}

export class StoreCore {
  readonly name: string
  readonly owner: string
  readonly blobs: BlobStore
  readonly pins: BlobPins
  readonly clock: Clock
  readonly random: Random
  readonly positions: Positions
  readonly proposer: Proposer
  /** undefined: alone. */
  readonly replication: Replication | undefined
  readonly unlinked: UnlinkedFiles
  readonly #restoredAt: () => number | undefined
  #tree: Tree
  #revision: number
  #newest: Shown
  readonly #waiters = new Set<RevisionWaiter>()

  constructor(parts: CoreParts, revision: number) {
    this.name = parts.name
    this.owner = parts.owner
    this.#tree = parts.tree
    this.blobs = parts.blobs
    this.pins = parts.pins
    this.clock = parts.clock
    this.random = parts.random
    this.proposer = parts.proposer
    this.replication = parts.replication
    this.#restoredAt = parts.restoredAt ?? ((): undefined => undefined)
    this.unlinked = new UnlinkedFiles(parts.pins)
    this.positions = new Positions(parts.id, parts.incarnation)
    this.#revision = revision
    this.#newest = { view: this.tree.newest, position: this.positions.at(revision), isPast: false }
  }

  get revision(): number {
    return this.#revision
  }

  get restoredAt(): number | undefined {
    return this.#restoredAt()
  }

  /** Not to be kept over an await: a snapshot may put another in its place. */
  get tree(): Tree {
    return this.#tree
  }

  /** A snapshot took the place of the state. */
  replaced(tree: Tree, revision: number, incarnation: string): void {
    this.#tree = tree
    if (incarnation === this.positions.incarnation) this.advance(revision)
    else this.#restored(revision, incarnation)
    this.#newest = { view: tree.newest, position: this.positions.at(revision), isPast: false }
  }

  /** Positions of before mean nothing any more, and files that were removed before may be there again. */
  #restored(revision: number, incarnation: string): void {
    this.#revision = revision
    this.positions.restored(incarnation)
    this.unlinked.clear()
    for (const waiter of this.#waiters) waiter.resolve() // `#reach` looks again.
  }

  /** From then on the newest state shows all that was acknowledged before the call; undefined: it does already. S2 */
  current(context: Context, op: string, path: string): Promise<void> | undefined {
    return this.replication?.linearize(context, op, path)
  }

  /** S1: the tree's newest view has moved on. */
  advance(revision: number): void {
    this.#revision = revision
    for (const waiter of this.#waiters) {
      if (waiter.revision > revision) continue
      this.#waiters.delete(waiter)
      waiter.resolve()
    }
  }

  /** The newest state. */
  newest(): Shown {
    const shown = this.#newest
    if (shown.position[0]!.revision === this.#revision) return shown
    return (this.#newest = { view: this.tree.newest, position: this.positions.at(this.#revision), isPast: false })
  }

  /** The state that `options` ask for. @throws NineError `compacted`, `invalid`, `deadline`, `unavailable` */
  async show(context: Context, options: ReadOptions, op: string, path: string): Promise<Shown> {
    const { at, minPosition, consistency } = options
    // The past does not change; but what is the last change before a time may not be here yet, and rights are those of now as well.
    const isOfNow = typeof at !== 'object' || !this.isOwner(context.principal)
    if (consistency !== 'stale' && isOfNow) await this.current(context, op, path)
    if (minPosition !== undefined && minPosition.length > 0) await this.#reach(context, minPosition, op, path)
    if (at === undefined) return this.newest()
    const revision = typeof at === 'number' ? this.tree.history.revisionAt(at) : this.positions.own(at, this.#revision, op, path).revision
    // Another replica may have shown it already.
    if (revision > this.#revision) await this.current(context, op, path)
    if (typeof at === 'object') this.positions.own(at, this.#revision, op, path) // The store may have been restored meanwhile.
    return this.#shownAt(revision, op, path)
  }

  #shownAt(revision: number, op: string, path: string): Shown {
    if (revision === this.#revision) return this.newest()
    if (revision > this.#revision) {
      const message = `revision ${revision} is not one of this store, which is at ${this.#revision}`
      throw new NineError({ kind: 'invalid', op, path, message })
    }
    if (revision < this.tree.history.floor) {
      const message = `revision ${revision} is no longer kept; the oldest is ${this.tree.history.floor}`
      const resume = encodePosition(this.positions.exactly(this.tree.history.floor, 0))
      throw new NineError({ kind: 'compacted', op, path, message, resume })
    }
    return { view: this.tree.at(revision), position: this.positions.exactly(revision, 0), isPast: true }
  }

  async #reach(context: Context, minPosition: Position, op: string, path: string): Promise<void> {
    const { revision } = this.positions.own(minPosition, this.#revision, op, path)
    if (revision <= this.#revision) return
    await new Promise<void>((resolve, reject) => {
      const settle = (finish: () => void) => (): void => {
        this.#waiters.delete(waiter)
        clearTimeout(timer)
        context.signal?.removeEventListener('abort', stop)
        finish()
      }
      const stop = settle(() => {
        const message = `the store is at revision ${this.#revision} here, ${revision} was asked for`
        reject(new NineError({ kind: 'deadline', op, path, message }))
      })
      const waiter = { revision, resolve: settle(resolve) }
      const left = context.deadline === Infinity ? undefined : Math.max(0, context.deadline - this.clock.monotonic())
      // A timer of more than 2^31 ms would fire at once; nobody waits for that long.
      const timer = left === undefined || left > timer_ms_max ? undefined : setTimeout(stop, left)
      context.signal?.addEventListener('abort', stop)
      this.#waiters.add(waiter)
    })
    this.positions.own(minPosition, this.#revision, op, path)
  }

  /** A file that a handle has open, wherever it is now. */
  file(ino: Ino): NodeRecord | undefined {
    return this.unlinked.get(ino) ?? this.#tree.newest.node(ino)
  }

  isOwner(principal: Principal): boolean {
    return principal.name === this.owner
  }

  /** Rights of a principal at a node of a shown state; of the past, what both then and now allow. */
  rights(shown: Shown, node: NodeRecord, principal: Principal): RightsMask {
    if (principal.name === this.owner) return everyRight
    const mask = maskAt(shown.view, node, principal, this.owner)
    if (!shown.isPast) return mask
    const now = this.tree.newest.node(node.ino)
    return now === undefined ? mask : mask & maskAt(this.tree.newest, now, principal, this.owner)
  }

  /** @throws NineError what apply answered, `overloaded`, `deadline`, `no_space`, `unavailable` */
  propose(context: Context, op: string, path: string, command: Command, applied?: () => void, tries?: Tries): Promise<Outcome> {
    return this.proposer.propose(context, op, path, command, applied, tries)
  }

  /**
   * Propose a command that names values made for it, whose chunks are pinned until this settles. S3
   * @throws NineError as `propose`
   */
  async proposeValues(
    context: Context,
    op: string,
    path: string,
    command: Command,
    made: readonly MadeValue[],
    applied?: () => void,
    tries?: Tries,
  ): Promise<Outcome> {
    const { replication } = this
    if (replication === undefined || made.every(({ built }) => isInline(built))) {
      return this.proposer.propose(context, op, path, command, applied, tries)
    }
    const counted = await this.#spread(replication, context, op, path, made)
    try {
      const outcome = await this.proposer.propose(context, op, path, command, applied, tries)
      // Others may vote by now than those of whom a majority was counted.
      if (replication.voters() !== counted) await this.#spread(replication, context, op, path, made).catch(isMadeAlready)
      return outcome
    } catch (error) {
      if (!isNineError(error) || error.outcome === 'unknown') this.#keepWhileUnknown(made)
      throw error
    }
  }

  /**
   * Bring the chunks of these values to a majority's disks.
   * @returns who votes, all through it: `Replication.voters`
   */
  async #spread(replication: Replication, context: Context, op: string, path: string, made: readonly MadeValue[]): Promise<string> {
    for (;;) {
      const voters = replication.voters()
      const began = this.clock.monotonic()
      for (const { built, base } of made) {
        if (!isInline(built)) await replication.replicateChunks(context, op, path, built, base?.kind === 'blob' ? base.blob : undefined)
      }
      if (this.clock.monotonic() - began < limits.blob_grace_ms / 2 && voters === replication.voters()) return voters
      checkDeadline(context, op, path)
    }
  }

  /** The command may be applied yet. */
  #keepWhileUnknown(made: readonly MadeValue[]): void {
    for (const { built } of made) {
      if (isInline(built)) continue
      const hold = this.pins.holdTree(built)
      setTimeout(() => hold.release(), limits.blob_grace_ms).unref()
    }
  }

  /** A command that answers as one mutation. */
  async mutate(context: Context, op: string, path: Path, command: Command): Promise<MutationResult> {
    checkDeadline(context, op, path)
    return this.mutationOf(await this.proposer.propose(context, op, path, command), op, path)
  }

  mutationOf(outcome: Outcome, op: string, path: string): MutationResult {
    if (outcome.kind === 'mutation') return this.resultOf(outcome.result)
    if (outcome.kind === 'error') throw answeredError(outcome.error, op, path)
    throw new NineError({ kind: 'invalid', op, path, message: 'this client has used the same sequence number for another operation' })
  }

  resultOf(stored: StoredMutation): MutationResult {
    const { qid, revision, created, size } = stored
    return { qid, revision, created, size, position: this.positions.at(revision) }
  }
}

/** Longest time that setTimeout takes. */
const timer_ms_max = 2 ** 31 - 1

/** What was proposed is agreed on, whatever failed after it. */
function isMadeAlready(error: unknown): never {
  throw isNineError(error) ? new NineError({ ...error.fields, outcome: 'unknown', cause: error }) : error
}
