/** What waits in a replica: a command until it is applied, a read until it may begin. Both end at their deadline at the latest. */
import type { Context } from '../../namespace/context.ts'
import { NineError, type ErrorKind } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Micros } from '../../namespace/stat.ts'
import type { Command, Entry, Outcome } from '../model.ts'
import type { Tries } from '../store/tries.ts'
import type { OwnNumber } from './own-client.ts'

/** An entry whose place in the log is found only when it is committed. */
export type OpenEntry = { -readonly [field in keyof Entry]: Entry[field] }

/** When who asked until `deadline` is answered at the latest: nothing waits for the cluster for ever. */
export function deadlineOf(deadline: number, now: number): number {
  return deadline === Infinity ? now + limits.replica_wait_ms_max : deadline
}

abstract class Wait {
  readonly op: string
  readonly path: string
  /** Monotonic milliseconds; never Infinity. */
  readonly deadline: number
  readonly signal: AbortSignal | undefined

  constructor({ deadline, signal }: Context, op: string, path: string, now: number) {
    this.op = op
    this.path = path
    this.deadline = deadlineOf(deadline, now)
    this.signal = signal
  }

  isOver(now: number): boolean {
    return now >= this.deadline || this.signal?.aborted === true
  }
}

export interface PendingKind {
  readonly applied?: (() => void) | undefined
  readonly isForOther?: boolean | undefined
  readonly term?: number | undefined
  readonly tries?: Tries | undefined
}

/** A command on its way. */
export class PendingCommand extends Wait {
  /** Its time is the one that the last leader gave it. */
  readonly entry: OpenEntry
  /** Latest time its cause has seen; 0: none. */
  readonly seen: Micros
  /** It is good for this term of this node's alone; 0: for any. */
  readonly term: number
  /** Proposed in the name of another node, which asks again where this one does not know. */
  readonly isForOther: boolean
  /** It was given to a leader: it may happen, or have happened. */
  isOut = false
  /** So it was before the try under way. */
  wasOut = false
  /** Another try of the same mutation, made by the same client: both get the answer. */
  twin: PendingCommand | undefined
  /** Among those that are not answered; -1: it is. */
  place = -1
  /** About what it takes in memory. */
  readonly bytes: number
  /** Where it came without a client. */
  own: OwnNumber | undefined
  readonly #tries: Tries | undefined
  readonly #applied: (() => void) | undefined
  readonly #resolve: (outcome: Outcome) => void
  readonly #reject: (error: NineError) => void

  constructor(
    context: Context,
    op: string,
    path: string,
    now: number,
    entry: OpenEntry,
    { applied, isForOther = false, term = 0, tries }: PendingKind,
    own: OwnNumber | undefined,
    resolve: (outcome: Outcome) => void,
    reject: (error: NineError) => void,
  ) {
    super(context, op, path, now)
    this.entry = entry
    this.bytes = bytesOf(entry.command)
    this.seen = entry.time
    this.isForOther = isForOther
    this.term = term
    this.own = own
    this.#tries = tries
    this.isOut = tries?.isOut ?? false
    tries?.begin(own)
    this.#applied = applied
    this.#resolve = resolve
    this.#reject = reject
  }

  resolve(outcome: Outcome): void {
    if (this.#applied !== undefined && (outcome.kind === 'mutation' || outcome.kind === 'txn')) this.#applied()
    this.#resolve(outcome)
  }

  /** `outcome` is none only where no try of it was ever given to a leader. */
  fail(kind: ErrorKind, message: string, cause?: unknown): void {
    const { op, path } = this
    this.#reject(new NineError({ kind, op, path, message, outcome: this.isOut ? 'unknown' : 'none', cause }))
  }

  /** A try begins. */
  goOut(): void {
    this.wasOut = this.isOut
    this.isOut = true
  }

  /** The answer is given, or nobody waits for it any more. */
  settleOwn(): void {
    if (this.#tries !== undefined) this.#tries.ended(this.own, this.isOut)
    else this.own?.lane.settle(this.own.seq)
  }

  /** As if it had never gone out. */
  renumber(own: OwnNumber | undefined): void {
    this.own = own
    this.entry.client = own?.lane.identity
    this.entry.seq = own?.seq
    this.isOut = false
  }

  /** As a leader refused it. */
  refuse(error: NineError): void {
    this.#reject(new NineError({ ...error.fields, op: this.op, path: this.path, outcome: this.isOut ? 'unknown' : 'none', cause: error }))
  }
}

/** Commands that are not answered. Each knows its place, so none has to be looked for. */
export class OpenCommands {
  readonly #all: PendingCommand[] = []
  #bytes = 0

  get size(): number {
    return this.#all.length
  }

  /** No more are taken: V4 of replica.ts. */
  get isFull(): boolean {
    return this.#all.length >= limits.proposals_max || this.#bytes >= limits.proposal_bytes_max
  }

  /** As they are now; in no order. */
  all(): PendingCommand[] {
    return [...this.#all]
  }

  has(command: PendingCommand): boolean {
    return command.place >= 0
  }

  add(command: PendingCommand): void {
    command.place = this.#all.push(command) - 1
    this.#bytes += command.bytes
  }

  /** @returns whether it was among them */
  delete(command: PendingCommand): boolean {
    const { place } = command
    if (place < 0) return false
    const last = this.#all.pop()!
    if (last !== command) {
      this.#all[place] = last
      last.place = place
    }
    command.place = -1
    this.#bytes -= command.bytes
    return true
  }
}

export class PendingRead extends Wait {
  readonly resolve: () => void
  readonly #reject: (error: NineError) => void

  constructor(context: Context, op: string, path: string, now: number, resolve: () => void, reject: (error: NineError) => void) {
    super(context, op, path, now)
    this.resolve = resolve
    this.#reject = reject
  }

  fail(kind: ErrorKind, message: string, cause?: unknown): void {
    this.#reject(new NineError({ kind, op: this.op, path: this.path, message, cause }))
  }
}

/** What a command takes besides its values. */
const command_bytes = 512

function bytesOf(command: Command): number {
  if (command.op === 'txn') {
    let bytes = command_bytes + command.if.length * command_bytes
    for (const part of [...command.then, ...command.else]) bytes += 'target' in part ? bytesOf(part) : command_bytes
    return bytes
  }
  if (command.op === 'symlink') return command_bytes + command.link.length
  if (command.op !== 'write' || command.content.kind === 'blob') return command_bytes
  return command_bytes + command.content.bytes.length
}

/** The identity of a command that has one. */
export function keyOf({ client, seq }: Readonly<OpenEntry>): string {
  return `${client!.id}:${seq!}`
}
