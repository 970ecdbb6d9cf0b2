/**
 * From a proposal to its answer: one queue for all stores of a node, because they share one log.
 *
 *   propose -> encode -> wal.enqueue ... durable -> apply, in the order of the log -> settle
 *
 * P1 A proposal is applied, and answered, only once its record is durable; in the order of the log.
 * P2 While a write of the log is under way, further proposals gather for the next: nobody waits for a turn.
 * P3 A record that the log could not write (a full disk) is not in it: its proposal fails with `outcome: none`, and its
 *    index is given again.
 * P4 A log that has failed takes nothing any more; what was under way has `outcome: unknown`.
 * P5 When everybody waits for the same write, half of them are answered first: what they ask next is written while the other
 *    half is applied. Otherwise disk and processor would take turns in being idle.
 * P7 A restore waits until nothing is under way, and what comes meanwhile waits for it: it has an index of its own and no record, since the
 *    checkpoint that it makes holds it.
 * P6 While what was applied cannot be saved and memory for more is used up, proposals fail, surely not done.
 */
import type { Context } from '../../namespace/context.ts'
import type { Clock } from '../../namespace/clock.ts'
import { NineError, textOf } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Micros } from '../../namespace/stat.ts'
import { decodeEntry, encodeEntry } from '../apply/entry.ts'
import type { Command, Entry, Outcome, RestoreCommand } from '../model.ts'
import { loadBackup, replaceState, restoredOutcome } from '../snapshot/replace.ts'
import type { Proposer } from '../store/core.ts'
import type { Wal } from '../wal/wal.ts'
import type { Lane } from './lane.ts'
import type { RestoreParts, Writer, WriterStatus } from './writer.ts'

interface Pending {
  readonly lane: Lane
  readonly entry: Entry
  readonly lsn: number
  readonly op: string
  readonly path: string
  readonly applied: (() => void) | undefined
  readonly resolve: (outcome: Outcome) => void
  readonly reject: (error: NineError) => void
}

/** A proposal that waits for the checkpoint. */
type Held = () => void

/** Longest time that setTimeout takes; nobody waits for that long. */
const timer_ms_max = 2 ** 31 - 1
const restoreOp = 'storage.restore'
/** Fewer entries are applied at once. */
const split_min = 32

export class Pipeline implements Writer {
  readonly #clock: Clock
  readonly #latest: () => Micros
  /** The folder, for messages. */
  readonly #dir: string
  #wal: Wal | undefined
  #lanes: ReadonlyMap<number, Lane> = new Map()
  /** In the order of the log; done up to `#head`. */
  #pending: Pending[] = []
  #head = 0
  /** Durable up to here. */
  #applyTo = 0
  readonly #held = new Set<Held>()
  #isHolding = false
  #restoring: Promise<Outcome> | undefined
  readonly #stop = new AbortController()
  /** P7 */
  #isReplacing = false
  /** Called when nothing is under way. */
  #idle: (() => void) | undefined
  #failure: NineError | undefined
  /** Why nothing is taken for now. */
  #refused: NineError | undefined
  #isClosed = false
  /** Called when entries were applied. */
  readonly #progressed: () => void

  /** `latest`: the time by the clock, or later, after every change of any store: what was seen of one is not ahead of the others. */
  constructor(clock: Clock, latest: () => Micros, dir: string, progressed: () => void) {
    this.#clock = clock
    this.#latest = latest
    this.#dir = dir
    this.#progressed = progressed
  }

  /** Apply what the log holds and no checkpoint does. */
  async start(wal: Wal, lanes: ReadonlyMap<number, Lane>): Promise<number> {
    this.#wal = wal
    this.#lanes = lanes
    let replayed = 0
    for (const { lsn, bytes } of wal.replay(wal.firstLsn)) {
      const entry = decodeEntry(bytes)
      const lane = lanes.get(entry.group)
      if (lane === undefined) throw this.#corrupt(`record ${lsn} of the log is of store ${entry.group}, which stores.json does not list`)
      if (entry.index <= lane.appliedIndex) continue
      if (entry.index !== lane.appliedIndex + 1) {
        throw this.#corrupt(`the log goes on with entry ${entry.index} of store ${lane.name}, which is at ${lane.appliedIndex}`)
      }
      lane.apply(entry, lsn)
      lane.nextIndex = entry.index + 1
      replayed++
    }
    this.#applyTo = wal.durableLsn
    return replayed
  }

  opened(): void {}

  async add(): Promise<void> {}

  replicationFor(): undefined {}

  /** What is not applied yet is applied soon. */
  beforeCut(): void {}

  firstNeeded(): number {
    let needed = Math.min(this.#wal!.durableLsn + 1, this.#pending[this.#head]?.lsn ?? Infinity)
    for (const lane of this.#lanes.values()) needed = Math.min(needed, lane.firstUnsaved)
    return needed
  }

  get status(): WriterStatus {
    return { waiting: this.#pending.length - this.#head + this.#held.size, failure: this.#failure, refused: this.#refused }
  }

  /** The way into the log for one store. */
  proposerFor(lane: Lane): Proposer {
    return {
      propose: (context, op, path, command, applied) =>
        this.#isHolding || this.#isReplacing
          ? this.#hold(lane, context, op, path, command, applied)
          : this.#propose(lane, context, op, path, command, applied),
    }
  }

  #propose(lane: Lane, context: Context, op: string, path: string, command: Command, applied: (() => void) | undefined): Promise<Outcome> {
    let resolve!: Pending['resolve']
    let reject!: Pending['reject']
    const promise = new Promise<Outcome>((onDone, onFailed) => {
      resolve = onDone
      reject = onFailed
    })
    try {
      if (this.#failure !== undefined || this.#isClosed) throw this.#refusal(op, path)
      if (this.#refused !== undefined) throw this.#refused
      if (this.#pending.length - this.#head >= limits.proposals_max) {
        throw new NineError({ kind: 'overloaded', op, path, message: `${limits.proposals_max} changes wait for the log` })
      }
      const { client, seq } = context
      const entry: Entry = {
        group: lane.group,
        term: 1,
        index: lane.nextIndex,
        time: this.#nextTime(lane, context),
        actor: context.principal.name,
        groups: context.principal.groups,
        client,
        seq,
        digest: context.digest,
        cause: context.cause,
        trace: context.trace,
        command,
      }
      const lsn = this.#wal!.enqueue(encodeEntry(entry))
      lane.nextIndex++
      this.#pending.push({ lane, entry, lsn, op, path, applied, resolve, reject })
    } catch (error) {
      reject(refused(error, op, path))
    }
    return promise
  }

  #nextTime({ machine }: Lane, { time: seen }: Context): Micros {
    const now = this.#clock.now()
    return seen === undefined ? machine.nextTime(now) : machine.nextTime(this.#latest(), seen, now)
  }

  /** Wait until `hold` lets go, as long as the context has time; in the order of the calls, before any that come later. */
  #hold(lane: Lane, context: Context, op: string, path: string, command: Command, applied: (() => void) | undefined): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      if (this.#held.size >= limits.proposals_max) {
        throw new NineError({ kind: 'overloaded', op, path, message: 'too many changes wait for the tree to be written' })
      }
      const { deadline, signal } = context
      const end = (): void => {
        this.#held.delete(go)
        clearTimeout(timer)
        signal?.removeEventListener('abort', stop)
      }
      const go = (): void => {
        end()
        resolve(this.#propose(lane, context, op, path, command, applied))
      }
      const stop = (): void => {
        end()
        const message = 'the time of the request was over while the tree was being written'
        reject(new NineError({ kind: 'deadline', op, path, message }))
      }
      const left = Math.max(0, deadline - this.#clock.monotonic())
      const timer = left > timer_ms_max ? undefined : setTimeout(stop, left)
      signal?.addEventListener('abort', stop)
      this.#held.add(go)
    })
  }

  /** Let proposals wait, or go on, in their order. */
  hold(isHolding: boolean): void {
    this.#isHolding = isHolding
    if (!isHolding && !this.#isReplacing) for (const go of [...this.#held]) go()
  }

  restore(lane: Lane, context: Context, command: RestoreCommand, parts: RestoreParts): Promise<Outcome> {
    if (lane.machine.restores.find(command.id) !== undefined) return Promise.resolve(restoredOutcome(lane))
    if (this.#restoring !== undefined) {
      return Promise.reject(new NineError({ kind: 'overloaded', op: restoreOp, message: 'this node restores a store already' }))
    }
    const release = parts.pins.holdAll() // B3 of snapshot/replace.ts
    this.#restoring = this.#restore(lane, context, command, parts).finally(() => {
      release()
      this.#restoring = undefined
      this.#isReplacing = false
      this.hold(this.#isHolding)
    })
    return this.#restoring
  }

  async #restore(lane: Lane, context: Context, command: RestoreCommand, { environment, blobs }: RestoreParts): Promise<Outcome> {
    const loaded = await loadBackup(lane, environment, blobs, command, this.#stop.signal)
    this.#isReplacing = true // P7
    while (this.#head < this.#pending.length) await new Promise<void>((resolve) => (this.#idle = resolve))
    if (this.#failure !== undefined || this.#isClosed) {
      await loaded.drop()
      throw this.#refusal(restoreOp, '')
    }
    const { name: actor, groups } = context.principal
    const none = { client: undefined, seq: undefined, digest: undefined, cause: context.cause, trace: context.trace }
    const time = this.#nextTime(lane, context)
    const entry: Entry = { group: lane.group, term: 1, index: lane.appliedIndex + 1, time, actor, groups, ...none, command }
    const isMade = await replaceState(lane, loaded, entry, { rows: () => [], replaced: () => undefined })
    if (isMade) return restoredOutcome(lane)
    throw new NineError({ kind: 'invalid', op: restoreOp, message: 'the backup is of a later time than the store is at' })
  }

  /** Nothing is restored any more. */
  async ended(): Promise<void> {
    await this.#restoring?.catch(() => undefined)
  }

  /** Take nothing while there is a reason. P6 */
  refuse(reason: NineError | undefined): void {
    this.#refused = reason
  }

  /** The log's onDurable. P1, P5 */
  readonly durable = (lsn: number): void => {
    const count = Math.min(this.#pending.length, this.#head + lsn - this.#applyTo) - this.#head
    this.#applyTo = lsn
    if (count < split_min || this.#wal!.lastLsn > lsn) {
      this.settleAll()
      return
    }
    this.#settleTo(this.#head + (count >> 1))
    // Behind all that the answers of this half bring about in this turn: so the log writes that before the other half is applied.
    queueMicrotask(this.#afterAnswers)
  }

  readonly #afterAnswers = (): void => process.nextTick(setImmediate, this.settleAll)

  /** Apply everything that is durable. */
  readonly settleAll = (): void => {
    let end = this.#head
    while (end < this.#pending.length && this.#pending[end]!.lsn <= this.#applyTo) end++
    this.#settleTo(end)
  }

  #settleTo(end: number): void {
    const pending = this.#pending
    while (this.#head < end) this.#settle(pending[this.#head++]!)
    if (this.#head === pending.length) {
      this.#pending = []
      this.#head = 0
      this.#idle?.()
    } else if (this.#head > 4096) {
      this.#pending = pending.slice(this.#head)
      this.#head = 0
    }
    this.#progressed()
  }

  #settle(proposal: Pending): void {
    const { lane } = proposal
    let outcome: Outcome
    if (this.#failure !== undefined) {
      // Not applied, but in the log: opening it anew applies it.
      proposal.reject(
        new NineError({ ...this.#failure.fields, op: proposal.op, path: proposal.path, outcome: 'unknown', cause: this.#failure }),
      )
      return
    }
    try {
      outcome = lane.apply(proposal.entry, proposal.lsn)
      if (proposal.applied !== undefined && (outcome.kind === 'mutation' || outcome.kind === 'txn')) proposal.applied()
    } catch (error) {
      // The record is in the log and could not be applied: going on would answer from a state that is not the log's.
      const message = `an entry could not be applied: ${textOf(error)}`
      const failure = new NineError({ kind: 'internal', op: proposal.op, path: proposal.path, message, outcome: 'unknown', cause: error })
      this.fail(failure)
      proposal.reject(failure)
      return
    }
    proposal.resolve(outcome)
  }

  /** The log's onFailed. P3, P4 */
  readonly failed = (from: number, to: number, error: NineError): void => {
    const kept: Pending[] = []
    for (let i = this.#head; i < this.#pending.length; i++) {
      const proposal = this.#pending[i]!
      if (proposal.lsn < from || proposal.lsn > to) {
        kept.push(proposal)
        continue
      }
      proposal.lane.nextIndex = Math.min(proposal.lane.nextIndex, proposal.entry.index)
      proposal.reject(new NineError({ ...error.fields, op: proposal.op, path: proposal.path, cause: error }))
    }
    this.#pending = kept
    this.#head = 0
    if (kept.length === 0) this.#idle?.()
    if (error.outcome === 'unknown') this.fail(error)
  }

  /** Nothing is taken any more. */
  fail(error: NineError): void {
    this.#failure ??= error
    this.hold(false)
  }

  close(): void {
    this.#isClosed = true
    this.#stop.abort()
    this.hold(false)
  }

  #corrupt(message: string): NineError {
    return new NineError({ kind: 'corrupt', op: 'storage.open', path: this.#dir, message })
  }

  #refusal(op: string, path: string): NineError {
    const cause = this.#failure
    const why = cause === undefined ? 'the store has been closed' : `the log of this node has failed: ${cause.message}`
    return new NineError({ kind: 'unavailable', op, path, message: why, cause })
  }
}

function refused(error: unknown, op: string, path: string): NineError {
  if (error instanceof NineError) return error.at(path, op)
  const message = textOf(error)
  return new NineError({ kind: 'internal', op, path, message, cause: error })
}
