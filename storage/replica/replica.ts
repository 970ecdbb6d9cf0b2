/**
 * Replica: one store on one node of a cluster. It is the state machine of the store's group, and the store's way into it.
 *
 * V1 A command is answered on the node that was asked for it when that node applied it, so what follows there sees it.
 * V2 Every command has an identity (client, number), its caller's or this node's own: it may be given to one leader after the other
 *    until its deadline and takes effect once (apply/clients.ts). Whoever was given it makes its outcome `unknown` until it is applied.
 *    Where it was given out more than once, what refuses it for now does not end it: another try may yet come.
 * V3 A leader proposes only when it applied the entry that opened its term: then its machine knows the time of every earlier entry, and
 *    the times it gives are later (apply/machine.ts A3).
 * V4 What waits is bounded in number and bytes (`proposals_max`, `proposal_bytes_max`) and time: its deadline, and limits.raft_leaderless_ms_max where nobody leads, or who does is not reached.
 */
import type { Clock } from '../../namespace/clock.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError, textOf } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import { LogOlder } from '../../raft/index.ts'
import type { Configuration, Entry as LogEntry, Fate, Group, SnapshotMeta, StateMachine, Status } from '../../raft/index.ts'
import { wasForgotten } from '../apply/clients.ts'
import { decodeData, encodeData } from '../apply/entry.ts'
import type { Lane } from '../engine/lane.ts'
import type { BlobRef, Command, Entry, Outcome, RestoreCommand } from '../model.ts'
import type { Proposer } from '../store/core.ts'
import type { Replication } from '../store/replication.ts'
import type { Tries } from '../store/tries.ts'
import type { ChunkSource } from '../blob/chunk-tree.ts'
import type { OwnClient, OwnNumber } from './own-client.ts'
import type { Peers } from './peers.ts'
import type { Place } from './place.ts'
import { asError, isForNow, lastingOf, notLeader, olderFolder, tooMany } from './refusals.ts'
import { spreadChunks } from './spread.ts'
import { Standing } from './standing.ts'
import { deadlineOf, keyOf, OpenCommands, PendingCommand, PendingRead, type OpenEntry, type PendingKind } from './pending.ts'

export interface ReplicaParts {
  readonly self: string
  readonly lane: Lane
  /** The engine's: later than any change of its stores. */
  readonly clock: Clock
  readonly nodeClock: Clock
  readonly peers: Peers
  readonly ownClient: OwnClient
  readonly blobs: ChunkSource
  readonly place: Place
  /** Number of the last record of the node's log that is durable: what is applied stands at or before it. */
  readonly logEnd: () => number
  /** Load the snapshot of this meta, which is on the disk, into the lane. */
  readonly install: (meta: SnapshotMeta) => Promise<void>
  /** Put the state of a backup in the place of the lane's. */
  readonly restore: (entry: Readonly<Entry>, command: RestoreCommand) => Promise<Outcome>
  /** Entries were applied. */
  readonly progressed: () => void
  /** The node must not go on. */
  readonly ended: (reason: NineError) => void
}

export class Replica implements StateMachine<PendingCommand>, Proposer, Replication {
  readonly lane: Lane
  readonly standing: Standing
  isBusy = false
  readonly #parts: ReplicaParts
  readonly #clock: Clock
  #group: Group<PendingCommand> | undefined
  #status: Status | undefined
  /** Term whose opening entry was applied. V3 */
  #openedTerm = -1
  #isLeading = false
  #isRestoring = false
  /** Why nothing is taken for now: what was applied cannot be saved. */
  #refused: NineError | undefined
  #failure: NineError | undefined
  /** All that is not answered. */
  readonly #commands = new OpenCommands()
  readonly #reads = new Set<PendingRead>()
  /** Those that wait for a leader. */
  #waitingCommands: PendingCommand[] = []
  #waitingReads: PendingRead[] = []
  /** Given to other nodes, by their identity: to be known when this node applies them. V1 */
  readonly #forwarded = new Map<string, PendingCommand>()

  constructor(parts: ReplicaParts) {
    this.lane = parts.lane
    this.#parts = parts
    this.#clock = parts.clock
    const { lane, self, peers, clock } = parts
    this.standing = new Standing({ name: lane.name, self, peers, clock, configuration: () => this.#configuration })
  }

  attach(group: Group<PendingCommand>): void {
    this.#group = group
  }

  get group(): Group<PendingCommand> {
    return this.#group!
  }

  /** The term in which this node leads in earnest (V3); 0 while it does not. */
  get term(): number {
    return this.#isLeading ? this.#status!.term : 0
  }

  get leader(): string | null {
    return this.standing.leader
  }

  get waiting(): number {
    return this.#commands.size
  }

  get failure(): NineError | undefined {
    return this.#failure
  }

  /** The store's way into the log. Settles when this node has applied the command. V1 */
  propose(context: Context, op: string, path: string, command: Command, applied?: () => void, tries?: Tries): Promise<Outcome> {
    return this.#propose(context, op, path, command, { applied, tries })
  }

  proposeAsLeader(term: number, context: Context, op: string, path: string, command: Command): Promise<Outcome> {
    return this.#propose(context, op, path, command, { term })
  }

  #propose(context: Context, op: string, path: string, command: Command, kind: PendingKind): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) throw this.#unavailable(op, path)
      if (this.#refused !== undefined) throw this.#refused.at(path, op)
      if (this.#commands.isFull) throw tooMany(op, path)
      let { client, seq } = context
      let own: OwnNumber | undefined
      if (client === undefined || seq === undefined) {
        own = kind.tries?.own ?? this.#parts.ownClient.take()
        if (own === undefined) throw new NineError({ kind: 'overloaded', op, path, message: 'too many changes wait for the cluster' })
        client = own.lane.identity
        seq = own.seq
      }
      const { principal, digest, cause, trace, time = 0 } = context
      const { group } = this.lane
      const { name: actor, groups } = principal
      const entry: OpenEntry = { group, term: 0, index: 0, time, actor, groups, client, seq, digest, cause, trace, command }
      this.#begin(new PendingCommand(context, op, path, this.#clock.monotonic(), entry, kind, own, resolve, reject))
    })
  }

  /** Resolves when this node's state shows every change that was acknowledged anywhere before the call. */
  linearize(context: Context, op: string, path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) throw this.#unavailable(op, path)
      if (this.#reads.size >= limits.proposals_max) {
        throw new NineError({ kind: 'overloaded', op, path, message: `${limits.proposals_max} reads wait for the cluster` })
      }
      const read = new PendingRead(context, op, path, this.#clock.monotonic(), resolve, reject)
      this.#reads.add(read)
      this.#beginRead(read)
    })
  }

  async renewLease(context: Context, lease: string): Promise<number> {
    const op = 'store.renewLease'
    const leader = this.#status?.leader ?? null
    if (leader === null || leader === this.#parts.self)
      throw new NineError({ kind: 'unavailable', op, message: this.#lateness(), outcome: 'none' })
    const body = Buffer.from(JSON.stringify({ lease, principal: context.principal }))
    const deadline = deadlineOf(context.deadline, this.#clock.monotonic())
    const answer = await this.#parts.peers.request(leader, this.lane.group, 'renew', body, { deadline, signal: context.signal })
    const text = Buffer.from(answer).toString()
    const ttlMs = Number(text)
    if (text !== '' && ttlMs > 0) return ttlMs
    throw new NineError({ kind: 'internal', op, message: `${leader} answered a renewal with ${JSON.stringify(text.slice(0, 64))}` })
  }

  voters(): string {
    const { voters, outgoing } = this.#configuration
    return `${voters.toSorted().join(' ')}, ${outgoing.toSorted().join(' ')}`
  }

  get #configuration(): Configuration {
    return this.#status?.configuration ?? this.#parts.place.configuration
  }

  replicateChunks(context: Context, op: string, path: string, blob: BlobRef, base: BlobRef | undefined): Promise<void> {
    const now = this.#clock.monotonic()
    return spreadChunks(this.#parts, this.#configuration, blob, base, context, now).catch((error: unknown) => {
      throw asError(error).at(path, op)
    })
  }

  /** Another node passes on a command, as `encodeData` made it. Resolves when it is applied here. @throws NineError */
  proposeFor(data: Uint8Array, deadline: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const entry: OpenEntry = decodeData(data, this.lane.group, 0, 0)
      if (this.#status?.leader !== this.#parts.self) throw notLeader()
      if (this.#refused !== undefined) throw this.#refused.at('', 'replica.propose')
      if (this.#commands.isFull) throw tooMany('replica.propose', '')
      failpoint('propose.received')
      const context: Context = { principal: { name: entry.actor, groups: entry.groups }, deadline }
      const now = this.#clock.monotonic()
      const answered = (): void => resolve()
      this.#begin(new PendingCommand(context, 'replica.propose', '', now, entry, { isForOther: true }, undefined, answered, reject))
    })
  }

  // Commands

  #begin(pending: PendingCommand): void {
    this.#commands.add(pending)
    this.#dispatch(pending)
  }

  #dispatch(pending: PendingCommand): void {
    const leader = this.#status?.leader ?? null
    if ((pending.isForOther && leader !== this.#parts.self) || (pending.term !== 0 && pending.term !== this.term)) {
      this.#end(pending, () => pending.refuse(notLeader()))
    } else if (this.isBusy || this.#isRestoring || leader === null || (leader === this.#parts.self && !this.#isLeading)) this.#wait(pending)
    else if (this.#isLeading) this.#proposeHere(pending)
    else this.#forward(pending, leader)
  }

  /** V3 */
  #proposeHere(pending: PendingCommand): void {
    const { entry } = pending
    let data: Uint8Array
    try {
      const { machine } = this.lane
      const now = this.#parts.nodeClock.now()
      entry.time = pending.seen === 0 ? machine.nextTime(now) : machine.nextTime(this.#clock.now(), pending.seen, now)
      data = encodeData(entry)
    } catch (error) {
      this.#end(pending, () => pending.refuse(asError(error)))
      return
    }
    failpoint('propose.taken')
    pending.goOut()
    this.#group!.propose(data, pending)
  }

  /** The leader answers when it applied it; this node, when it does. Without its signal, which `sweep` looks at for all. V1 */
  #forward(pending: PendingCommand, leader: string): void {
    let data: Uint8Array
    try {
      data = encodeData({ ...pending.entry, time: pending.seen })
    } catch (error) {
      this.#end(pending, () => pending.refuse(asError(error)))
      return
    }
    this.#expect(pending)
    pending.goOut()
    failpoint('propose.forward')
    this.#parts.peers
      .request(leader, this.lane.group, 'propose', data, { deadline: pending.deadline })
      .then(undefined, (error: unknown) => {
        if (!this.#commands.has(pending)) return
        const refusal = asError(error)
        if (refusal.outcome === 'none' && !pending.wasOut) pending.isOut = false
        // V2: without an answer, or a leader to give one, it is tried again; all else is its answer.
        if (refusal.kind === 'unavailable' || refusal.kind === 'deadline') this.#wait(pending)
        else this.#end(pending, () => pending.refuse(refusal))
      })
  }

  #wait(pending: PendingCommand): void {
    this.#waitingCommands.push(pending)
  }

  #expect(pending: PendingCommand): void {
    const key = keyOf(pending.entry)
    const known = this.#forwarded.get(key)
    for (let twin = known; twin !== undefined; twin = twin.twin) if (twin === pending) return
    pending.twin = known
    this.#forwarded.set(key, pending)
  }

  #end(pending: PendingCommand, answer: () => void): void {
    if (!this.#commands.delete(pending)) return
    pending.settleOwn()
    answer()
  }

  // Reads

  #beginRead(read: PendingRead): void {
    if ((this.#status?.leader ?? null) === null) {
      this.#waitingReads.push(read)
      return
    }
    this.#group!.read().then(
      () => {
        if (this.#reads.delete(read)) read.resolve()
      },
      () => {
        if (this.#reads.has(read)) this.#waitingReads.push(read)
      },
    )
  }

  // StateMachine

  apply(logEntry: LogEntry, proposal: PendingCommand | undefined): void | Promise<void> {
    const { lane } = this
    const { index, term, data } = logEntry
    if (data === null) {
      lane.pass(index, this.#parts.logEnd())
      this.#advance(logEntry)
      if (logEntry.configuration === null) this.#openedTerm = term
      this.#lead()
      return
    }
    let entry: Readonly<OpenEntry>
    if (proposal === undefined) entry = decodeData(data, lane.group, term, index)
    else {
      proposal.entry.term = term
      proposal.entry.index = index
      entry = proposal.entry
    }
    if (lane.machine.takes(entry)) return this.#restore(logEntry, entry, proposal)
    failpoint('apply.before')
    const outcome = lane.apply(entry, this.#parts.logEnd())
    failpoint('apply.after')
    this.#applied(logEntry, entry, proposal, outcome)
  }

  /** What is asked for waits meanwhile. */
  async #restore(logEntry: LogEntry, entry: Readonly<OpenEntry>, proposal: PendingCommand | undefined): Promise<void> {
    this.#isRestoring = true
    const outcome = await this.#parts.restore(entry, entry.command as RestoreCommand)
    this.#isRestoring = false
    this.#applied(logEntry, entry, proposal, outcome)
    this.#retry()
  }

  #applied(logEntry: LogEntry, entry: Readonly<OpenEntry>, proposal: PendingCommand | undefined, outcome: Outcome): void {
    this.#advance(logEntry)
    if (proposal !== undefined) {
      // The node that asked for it answers when it has applied it. V1
      if (proposal.isForOther) this.#group!.tellCommit()
      this.#answer(proposal, outcome)
    }
    if (this.#forwarded.size > 0 && entry.client !== undefined) this.#answerForwarded(entry, outcome)
    failpoint('apply.answered')
    this.#parts.progressed()
  }

  #advance({ term, configuration }: LogEntry): void {
    const { place } = this.#parts
    place.term = term
    if (configuration === null) return
    place.configuration = configuration
    failpoint('configuration.applied')
  }

  /** Others of the same number that are no tries of this one wait for their own answer (X4 of apply/clients.ts). */
  #answerForwarded(entry: Readonly<OpenEntry>, outcome: Outcome): void {
    const key = keyOf(entry)
    const first = this.#forwarded.get(key)
    this.#forwarded.delete(key)
    const isOne = first?.twin === undefined
    for (let twin = first, next; twin !== undefined; twin = next) {
      next = twin.twin
      twin.twin = undefined
      if (twin.entry.digest === entry.digest && twin.entry.actor === entry.actor) this.#answer(twin, outcome, isOne)
      else if (this.#commands.has(twin)) this.#expect(twin)
    }
  }

  /** V2 */
  #answer(pending: PendingCommand, outcome: Outcome, isOne = true): void {
    if (!pending.wasOut && pending.own !== undefined && wasForgotten(outcome) && this.#commands.has(pending)) return this.#renumber(pending)
    if (!this.#commands.delete(pending)) return
    const isOnly = isOne && !pending.wasOut
    if (isOnly && isForNow(outcome)) pending.isOut = false
    pending.settleOwn()
    pending.resolve(isOnly ? outcome : lastingOf(outcome))
  }

  /** O1 of own-client.ts */
  #renumber(pending: PendingCommand): void {
    const own = this.#parts.ownClient.takeAgain(pending.own!, this.lane.machine.horizon)
    pending.renumber(own)
    if (own === undefined) this.#end(pending, () => pending.fail('overloaded', 'too many changes wait for the cluster'))
    else this.#dispatch(pending)
  }

  async install(meta: SnapshotMeta): Promise<void> {
    await this.#parts.install(meta)
    // What was applied under way to this state is not seen again: asked once more, it gets its first answer. V2
    for (const [, pending] of this.#forwarded) {
      for (let twin: PendingCommand | undefined = pending; twin !== undefined; twin = twin.twin) {
        if (this.#commands.has(twin)) this.#wait(twin)
      }
    }
    this.#forwarded.clear()
    this.#retry()
  }

  ended(pending: PendingCommand, fate: Fate): void {
    if (!this.#commands.has(pending)) return
    if (fate !== 'unknown' && !pending.wasOut) pending.isOut = false
    if (fate === 'overloaded') this.#end(pending, () => pending.fail('overloaded', 'too much waits to be agreed on'))
    // Who asked for it, another node or a term, asks again where it is.
    else if (pending.isForOther || pending.term !== 0) this.#end(pending, () => pending.refuse(notLeader()))
    else this.#wait(pending)
  }

  changed(status: Status): void {
    this.#status = status
    this.standing.look(status.leader)
    this.#lead()
    if (status.leader !== null) this.#retry()
  }

  /** Leader in earnest, or no longer. V3 */
  #lead(): void {
    const status = this.#status
    const isLeading = status?.role === 'leader' && this.#openedTerm === status.term
    if (isLeading === this.#isLeading) return
    this.#isLeading = isLeading
    this.lane.store?.leading(this.term)
    if (isLeading) this.#retry()
  }

  stopped(error: unknown): void {
    if (error instanceof LogOlder) this.#parts.ended(olderFolder(error, this.lane.name))
    this.#failure = new NineError({ kind: 'unavailable', op: 'replica.stop', message: textOf(error), cause: error })
    this.#isLeading = false
    this.lane.store?.leading(0)
    for (const pending of this.#commands.all())
      this.#end(pending, () => pending.fail('unavailable', this.#unavailable('', '').message, error))
    for (const read of this.#reads) read.fail('unavailable', this.#unavailable('', '').message, error)
    this.#reads.clear()
    this.#waitingCommands = []
    this.#waitingReads = []
    this.#forwarded.clear()
  }

  // Upkeep

  /** Every tick: end what waited too long, and try again what waits. V4 */
  sweep(): void {
    this.standing.look(this.leader)
    if (this.#commands.size === 0 && this.#reads.size === 0) return
    const now = this.#clock.monotonic()
    const { isLeaderless } = this.standing
    const kind = isLeaderless ? 'unavailable' : 'deadline'
    for (const pending of this.#commands.all()) {
      if (isLeaderless || pending.isOver(now)) this.#end(pending, () => pending.fail(kind, this.#lateness()))
    }
    for (const read of this.#reads) {
      if (!isLeaderless && !read.isOver(now)) continue
      this.#reads.delete(read)
      read.fail(kind, this.#lateness())
    }
    if (this.#forwarded.size > 0) this.#forget()
    this.#retry()
  }

  /** Let nothing be applied or proposed, or go on. */
  hold(isHolding: boolean): void {
    if (this.isBusy === isHolding) return
    this.isBusy = isHolding
    if (isHolding) return
    this.#group?.resume()
    this.#retry()
  }

  /** Take nothing while there is a reason. */
  refuse(reason: NineError | undefined): void {
    this.#refused = reason
  }

  #retry(): void {
    if (this.#waitingCommands.length > 0 && !this.isBusy) {
      const commands = this.#waitingCommands
      this.#waitingCommands = []
      for (const pending of commands) if (this.#commands.has(pending)) this.#dispatch(pending)
    }
    if (this.#waitingReads.length > 0) {
      const reads = this.#waitingReads
      this.#waitingReads = []
      for (const read of reads) if (this.#reads.has(read)) this.#beginRead(read)
    }
  }

  /** Drop what was answered without being applied here. */
  #forget(): void {
    for (const [key, first] of this.#forwarded) {
      let isOpen = false
      for (let twin: PendingCommand | undefined = first; twin !== undefined; twin = twin.twin) isOpen ||= this.#commands.has(twin)
      if (!isOpen) this.#forwarded.delete(key)
    }
  }

  #lateness(): string {
    if (this.standing.leaderAtHand === null) return this.standing.leaderlessness()
    return `the cluster did not answer in time; ${this.leader} leads store ${this.lane.name}`
  }

  #unavailable(op: string, path: string): NineError {
    const message = `store ${this.lane.name} has stopped on this node: ${this.#failure?.message ?? ''}`
    return new NineError({ kind: 'unavailable', op, path, message, cause: this.#failure })
  }
}
