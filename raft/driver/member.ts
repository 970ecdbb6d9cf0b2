/**
 * One group on one node: gathers what happens to it, lets the core make a step of it once a turn, and carries out the effects.
 *
 * H1 What is written, sent, applied and answered comes from the effects of a step (`#carryOut` is the only place), and what depends on a
 *    write is in the effects of the step that got its ticket. So nothing leaves or is applied too early, whatever the order here.
 * H2 Each proposal is told of exactly once: with its entry, or as ended.
 * H3 After a fault, or the end, this group does nothing any more: no step, no message, no answer but that it ended.
 * H4 Inputs reach the core in the order in which they came; what is proposed comes last in its turn, in the order given.
 * H5 While more than `uncommitted_bytes_max` waits for the state machine, entries of a leader are dropped, as the network may drop them: it
 *    asks again with its heartbeats. So who cannot follow does not fill its memory.
 * H6 Who lacks what it acknowledged to the leader of this term ends (log-older.ts).
 */
import { compactable } from './keep.ts'
import { Applying } from './applying.ts'
import type { Room, Sink } from './applying.ts'
import type { Group, GroupStatus } from './group.ts'
import { LogOlder } from './log-older.ts'
import { Notices } from './notices.ts'
import { Pending } from './pending.ts'
import type { Fate, GroupId, PeerItem, PeerMessage, StateMachine } from './ports.ts'
import { Reads } from './reads.ts'
import { Refused } from './refused.ts'
import { Requests } from './requests.ts'
import { isCampaignOfStranger, mayFollowerRest, mayLeaderRest } from './rest.ts'
import type { Sleeper } from './rest.ts'
import { step } from '../step.ts'
import { lastIndex, range } from '../log.ts'
import { configurationOf } from '../state.ts'
import type { Raft } from '../state.ts'
import { isVoter, membersOf } from '../quorum.ts'
import type { Answer, Effects, Entry, Input, Install, MembershipChange, Message, NodeId, Persist, SnapshotMeta, Ticket } from '../model.ts'

export type Quiesce = Extract<PeerItem, { readonly kind: 'quiesce' }>

/** What a group needs of its node. */
export interface Node<P> {
  readonly id: NodeId
  readonly life: number
  readonly quiesce_ticks: number
  readonly keep_entries_max: number
  readonly keep_bytes_max: number
  write(member: Member<P>, persist: Persist): void
  send(to: NodeId, item: PeerItem): void
  sendSnapshot(group: GroupId, message: Install): Promise<boolean>
  /** Words of commits may be kept back, and `endWait` is called after a while; undefined: they may not. */
  readonly wait: ((member: Member<P>) => void) | undefined
  /** The group has a turn soon. */
  queue(member: Member<P>): void
  /** It has entries to apply. */
  queueApply(member: Member<P>): void
  rest(member: Member<P>, leaderLife: number | null): void
  wake(member: Member<P>): void
  /** It failed. */
  drop(member: Member<P>): void
  dropped(from: NodeId, what: string): void
  /** Run after this call. */
  defer(work: () => void): void
}

export class Member<P> implements Group<P>, Sleeper, Sink {
  readonly id: GroupId
  readonly raft: Raft
  isRunning = true
  isResting = false
  isQueued = false
  isQueuedToApply = false
  readonly #node: Node<P>
  readonly #machine: StateMachine<P>
  readonly #pending = new Pending<P>()
  readonly #reads = new Reads()
  readonly #requests = new Requests()
  readonly #notices = new Notices()
  readonly #applying: Applying
  /** What came since the last step, and the array of the step before. */
  #inputs: Input[] = []
  #inputsBefore: Input[] = []
  #data: Uint8Array[] = []
  #dataBefore: Uint8Array[] = []
  #proposals: P[] = []
  #proposalsBefore: P[] = []
  #persisted: Ticket | null = null
  #checkpoint = 0
  /** Entries up to here are kept for nobody. */
  #forgotten = 0
  #refs = 0
  /** Ticks since anything but heartbeats happened. */
  #idle = 0
  /** Ticks of this turn. */
  #ticks = 0
  /** Ticks for which it has had no leader, where it has no vote to look for one. */
  #unled = 0
  /** Heartbeats in a row that tell of more than this log has. H6 */
  #ahead = 0
  #restAsked: { readonly from: NodeId; readonly item: Quiesce } | null = null

  constructor(id: GroupId, raft: Raft, machine: StateMachine<P>, node: Node<P>) {
    this.id = id
    this.raft = raft
    this.#machine = machine
    this.#node = node
    this.#applying = new Applying(raft.applied)
  }

  // Group

  get term(): number {
    return this.raft.term
  }
  get leader(): NodeId | null {
    return this.isRunning ? this.raft.leader : null
  }
  get isLeader(): boolean {
    return this.isRunning && this.raft.leading !== null
  }
  get isReady(): boolean {
    return this.isLeader && this.#applying.index >= this.raft.leading!.opening
  }
  get applied(): number {
    return this.#applying.index
  }

  status(): GroupStatus {
    const { id, isReady, isResting, raft } = this
    const { term, role, leader, log, commit } = raft
    const peers = [...(raft.leading?.peers ?? [])].map(([peer, { match, state, active }]) => ({ id: peer, match, state, isActive: active }))
    const [first, last, snapshot] = [log.base.index + 1, lastIndex(log), log.snapshot.index]
    const configuration = configurationOf(raft)
    return { group: id, term, role, leader, configuration, commit, applied: this.applied, first, last, snapshot, isReady, isResting, peers }
  }

  propose(data: Uint8Array, proposal: P): void {
    if (!this.isRunning) return this.#node.defer(() => this.#machine.ended(proposal, 'not_leader'))
    this.#data.push(data)
    this.#proposals.push(proposal)
    this.#stir()
  }

  read(): Promise<void> {
    if (!this.isRunning) return Promise.reject(new Refused('read', 'stopped'))
    this.#stir()
    return this.#reads.begin()
  }

  change(changes: readonly MembershipChange[]): Promise<void> {
    if (!this.isRunning) return Promise.reject(new Refused('change', 'stopped'))
    this.#stir()
    return this.#requests.change(changes)
  }

  transfer(to: NodeId): Promise<void> {
    if (!this.isRunning) return Promise.reject(new Refused('transfer', 'stopped'))
    this.#stir()
    return this.#requests.transfer(to)
  }

  resume(): void {
    if (this.isRunning && this.#applying.mayGoOn(this)) this.#node.queueApply(this)
  }

  entries(from: number, to: number): readonly Entry[] {
    const { log } = this.raft
    return range(log, Math.max(from, log.base.index + 1), Math.min(to, lastIndex(log)))
  }

  tellCommit(): void {
    for (const word of this.#notices.tell(this.raft.term)) this.#say(word)
  }

  checkpointed(index: number): void {
    this.#checkpoint = Math.max(this.#checkpoint, index)
    if (this.isRunning) this.#node.queue(this)
  }

  forget(index: number): void {
    this.#forgotten = Math.max(this.#forgotten, index)
    this.checkpointed(index)
  }

  // From the driver

  tick(jitter: number): void {
    this.#inputs.push({ kind: 'tick', jitter })
    this.#ticks++
    this.#idle++
    this.#node.queue(this)
  }

  receive(message: Message): void {
    const isStranger = isCampaignOfStranger(this.raft, message)
    if (isStranger && this.isResting) return
    if (message.kind === 'append' && message.entries.length > 0 && this.#applying.bytes > this.raft.options.uncommitted_bytes_max) return // H5
    if (message.kind === 'heartbeat' && message.commit <= lastIndex(this.raft.log)) this.#ahead = 0
    this.#inputs.push({ kind: 'message', message })
    if (message.kind === 'heartbeat_reply' || isStranger) this.#node.queue(this)
    else this.#stir()
  }

  persisted(ticket: Ticket): void {
    if (!this.isRunning) return
    this.#persisted = ticket // those before it are durable too
    this.#node.queue(this)
  }

  /** Of words kept back. @returns whether another wait is to be told of */
  endWait(): boolean {
    if (!this.isRunning) return false
    for (const word of this.#notices.ended(this.raft.term)) this.#say(word)
    return this.#notices.isWaiting
  }

  /** The leader says that nothing is under way. It is seen to after what came before it. */
  restWith(from: NodeId, item: Quiesce): void {
    this.#restAsked = { from, item }
    this.#node.queue(this)
  }

  /** A member is awake, or left: whoever else says so has no part in the group, and keeps nobody up. */
  hearAwake(from: NodeId): void {
    if (membersOf(configurationOf(this.raft)).has(from)) this.wake()
  }

  wake(): void {
    this.#idle = 0
    if (this.isResting) this.#node.wake(this)
  }

  forgetLeader(campaign_ticks: number): void {
    this.#inputs.push({ kind: 'forget_leader', campaign_ticks })
    this.#stir()
  }

  /** One step of the core with all that came. */
  takeTurn(): void {
    if (!this.isRunning) return
    try {
      this.#takeTurn()
    } catch (error) {
      this.fail(error)
    }
  }

  applyWithin(room: Room): void {
    if (!this.isRunning) return
    const before = this.applied
    try {
      this.#applying.run(this, room)
    } catch (error) {
      return this.fail(error)
    }
    if (this.applied > before) this.#tellApplied()
    this.resume()
  }

  /** The end, by a fault of this group or of the disk. */
  fail(error: unknown): void {
    if (!this.isRunning) return
    this.#node.drop(this)
    this.end()
    this.#machine.stopped(error)
  }

  /** The end. Whoever waits is told. */
  end(): void {
    if (!this.isRunning) return
    this.isRunning = false // H3
    this.#pending.clear((proposal) => this.#machine.ended(proposal, 'unknown'))
    for (const proposal of this.#proposals) this.#machine.ended(proposal, 'not_leader')
    // The step that failed had these in hand.
    for (const proposal of this.#proposalsBefore) this.#machine.ended(proposal, 'unknown')
    this.#reads.clear('stopped')
    this.#requests.clear('stopped')
  }

  /** To all other members: this node does not work for the group any more, or its clock runs and it hears of no leader. */
  sayAwake(): void {
    for (const to of membersOf(configurationOf(this.raft))) {
      if (to !== this.#node.id) this.#node.send(to, { kind: 'awake', group: this.id })
    }
  }

  // Sink

  get isBusy(): boolean {
    return !this.isRunning || this.#machine.isBusy // H3
  }

  apply(entry: Entry): boolean {
    const underWay = this.#machine.apply(entry, this.#pending.take(entry.index, entry.term))
    if (underWay === undefined) {
      this.#requests.applied(entry)
      return true
    }
    const applied = (): void => {
      if (!this.isRunning) return
      this.#requests.applied(entry)
      this.#done(entry.index)
    }
    underWay.then(applied, (error: unknown) => this.fail(error))
    return false
  }

  install(meta: SnapshotMeta): void {
    this.#pending.loseThrough(meta.index, (proposal) => this.#machine.ended(proposal, 'unknown'))
    this.#requests.overtaken(meta.index)
    this.#machine.install(meta).then(
      () => this.#done(meta.index),
      (error: unknown) => this.fail(error),
    )
  }

  /** The machine took its time, and is at `index`. */
  #done(index: number): void {
    if (!this.isRunning) return
    this.#applying.done(index)
    this.#tellApplied()
    this.resume()
  }

  #takeTurn(): void {
    const inputs = this.#inputs
    this.#inputs = this.#inputsBefore
    this.#inputsBefore = inputs
    if (this.#persisted !== null) inputs.push({ kind: 'persisted', ticket: this.#persisted })
    this.#persisted = null
    if (this.#checkpoint > 0) this.#keep(inputs)
    if (this.#reads.isOpen) {
      inputs.push({ kind: 'read', ref: ++this.#refs })
      this.#reads.ask(this.#refs)
    }
    for (let request = this.#requests.next(++this.#refs); request !== undefined; request = this.#requests.next(++this.#refs)) {
      if (request.kind === 'change') inputs.push({ kind: 'change', ref: this.#refs, changes: request.changes })
      else inputs.push({ kind: 'transfer', ref: this.#refs, to: request.to })
    }
    const data = this.#data
    const proposals = this.#proposals
    if (data.length > 0) {
      inputs.push({ kind: 'propose', ref: 0, data }) // H4
      ;[this.#data, this.#dataBefore] = [this.#dataBefore, data]
      ;[this.#proposals, this.#proposalsBefore] = [this.#proposalsBefore, proposals]
    }
    const ticks = this.#ticks
    this.#ticks = 0
    if (inputs.length > 0) {
      const effects = step(this.raft, inputs)
      inputs.length = 0
      this.#carryOut(effects, proposals)
      this.#requests.look(this.raft, ticks)
      if (this.#checkpoint > 0 && this.#checkpoint <= this.raft.applied) this.#node.queue(this)
    }
    if (ticks > 0) this.#mayLeadRest()
    if (ticks > 0) this.#lookForLeader(ticks)
    if (this.#restAsked !== null) this.#mayFollowRest()
  }

  #carryOut(effects: Effects, proposals: P[]): void {
    const { persist, send, apply, answers, lost, reads, failedReads, implausible, status } = effects
    if (persist !== null) this.#node.write(this, persist)
    if (!this.isRunning) return // H3
    for (const message of send) this.#send(message)
    for (const answer of answers) this.#answered(answer, proposals)
    for (const entries of lost) {
      const { term, first, last, fate } = entries
      this.#pending.lose(term, first, last, (proposal) => this.#machine.ended(proposal, fate))
      this.#requests.lost(entries)
    }
    if (status !== null) this.#machine.changed(status)
    for (const { ref } of reads) this.#reads.serve(ref)
    for (const ref of failedReads) this.#reads.fail(ref, 'lost')
    for (const message of implausible) {
      this.#node.dropped(message.from, `${message.kind} of group ${this.id}, which no member sends in this state`)
      this.#lookForLost(message)
    }
    if (apply !== null) this.#applying.add(apply)
    this.resume()
  }

  /** H6 */
  #lookForLost(message: Message): void {
    const { log, options } = this.raft
    const last = lastIndex(log)
    if (message.kind !== 'heartbeat' || message.commit <= last || ++this.#ahead < options.election_ticks) return
    throw new LogOlder(message.from, last, message.commit)
  }

  #send(message: Message): void {
    if (message.kind !== 'install') {
      const { wait } = this.#node
      if (wait === undefined || this.#notices.mayLeave(message)) this.#say(message)
      if (wait !== undefined && message.kind === 'commit') wait(this)
      return
    }
    const { to } = message
    void this.#node.sendSnapshot(this.id, message).then((ok) => {
      if (!this.isRunning) return
      this.#inputs.push({ kind: 'snapshot_sent', to, ok })
      this.#stir()
    })
  }

  #say(message: PeerMessage): void {
    this.#node.send(message.to, { kind: 'raft', group: this.id, message })
  }

  #answered(answer: Answer, proposals: P[]): void {
    const { ref, taken, first, term, refused } = answer
    if (ref === 0) {
      if (taken > 0) this.#pending.add(term, first, proposals, taken)
      const fate: Fate = refused === 'overloaded' ? 'overloaded' : 'not_leader'
      const ended = proposals.slice(taken)
      proposals.length = 0
      this.#dataBefore.length = 0
      for (const proposal of ended) this.#machine.ended(proposal, fate)
    } else if (this.#reads.has(ref)) {
      this.#reads.fail(ref, refused ?? 'lost')
    } else {
      this.#requests.answered(answer)
    }
  }

  /** What the machine holds is on disk: the log before it may go, but for what laggards need. */
  #keep(inputs: Input[]): void {
    if (this.#checkpoint > this.raft.applied) return // its `applied` is not told yet; it comes with the next turn
    const { keep_entries_max, keep_bytes_max } = this.#node
    inputs.push({ kind: 'snapshot_taken', index: this.#checkpoint })
    const index = compactable(this.raft.log, this.#checkpoint, keep_entries_max, keep_bytes_max)
    inputs.push({ kind: 'compact', index: Math.max(index, Math.min(this.#forgotten, this.#checkpoint)) })
    this.#checkpoint = 0
  }

  #tellApplied(): void {
    this.#inputs.push({ kind: 'applied', index: this.applied })
    this.#node.queue(this)
  }

  #mayLeadRest(): void {
    const { quiesce_ticks, life, id } = this.#node
    if (quiesce_ticks === 0 || this.#idle < quiesce_ticks || this.isResting) return
    if (!this.#isQuiet || !mayLeaderRest(this.raft)) return
    const { term } = this.raft
    const index = lastIndex(this.raft.log)
    for (const to of this.raft.leading!.peers.keys()) {
      if (to !== id) this.#node.send(to, { kind: 'quiesce', group: this.id, life, term, index })
    }
    this.#node.rest(this, null)
  }

  #mayFollowRest(): void {
    const { from, item } = this.#restAsked!
    this.#restAsked = null
    if (this.isResting || !this.isRunning) return
    if (this.#isQuiet && mayFollowerRest(this.raft, from, item.term, item.index)) this.#node.rest(this, item.life)
    else this.#node.send(from, { kind: 'awake', group: this.id })
  }

  /** Z4: who has no vote does not campaign; it says that it hears of no leader, and a leader that rests wakes. */
  #lookForLeader(ticks: number): void {
    const { leader, options } = this.raft
    const configuration = configurationOf(this.raft)
    this.#unled =
      leader === null && !isVoter(configuration, options.id) && membersOf(configuration).has(options.id) ? this.#unled + ticks : 0
    if (this.#unled < options.election_ticks) return
    this.#unled = 0
    this.sayAwake()
  }

  /** Nothing waits for the next step. */
  get #isQuiet(): boolean {
    const waits = this.#inputs.length + this.#data.length > 0 || this.#persisted !== null || this.#reads.isOpen
    return !waits && this.#requests.isIdle && this.#applying.isDone
  }

  /** Something is asked of it. */
  #stir(): void {
    this.wake()
    this.#node.queue(this)
  }
}
