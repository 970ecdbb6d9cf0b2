/**
 * The driver of a node: all its groups, over one log, one transport and the owner's clock.
 *
 * A turn begins after all that one turn of the event loop brings. It makes one step of each group to which something happened, so their
 * writes become durable with one sync and what goes to a peer leaves as one write; then it applies, fairly and within bounds. What leaves
 * goes first, then the disk, then, with the next turn, the state machine: peers and disk work while it does. A write that is durable at
 * once makes one more round of steps before that, so that nobody waits for the state machine to hear of it.
 *
 * D1 One failed write ends all groups: nothing is acknowledged or sent any more. A fault of one group, also a write of it that
 *    cannot be, ends that group only.
 * D2 A turn applies at most `apply_entries_max` entries and `apply_bytes_max` bytes, or one entry; the rest has the next turn.
 *    Entries wait for one turn at most.
 * D3 Nothing of a peer reaches a core before its form was checked (validate.ts).
 */
import { makeRaft } from '../state.ts'
import type { Install, NodeId, Options, Persist, Restored } from '../model.ts'
import type { Group } from './group.ts'
import { Member } from './member.ts'
import type { Node } from './member.ts'
import type { Brought, GroupId, Host, Inbound, LogStorage, PeerItem, StateMachine, Transport } from './ports.ts'
import { Rest, turnOf } from './rest.ts'
import { faultOfItem } from './validate.ts'

export interface DriverOptions {
  readonly id: NodeId
  /** Differs at each start of this node; a whole number. */
  readonly life: number
  readonly storage: LogStorage
  readonly transport: Transport
  readonly host: Host
  /** Of the cores. */
  readonly options: Omit<Options, 'id' | 'incarnation'>
  /** A group to which nothing happened for so many ticks rests; 0: none does. */
  readonly quiesce_ticks: number
  /** What one turn applies at most; at least one entry. */
  readonly apply_entries_max: number
  readonly apply_bytes_max: number
  /** Of what a snapshot holds, so much of the log stays for members that are a little behind. */
  readonly keep_entries_max: number
  readonly keep_bytes_max: number
  /** For how long the word of a commit may be kept back where the next append is likely to bring it (notices.ts); 0: not at all. */
  readonly commit_wait_ms: number
  /** Something of a peer was dropped, since it makes no sense: for the operator. */
  readonly dropped?: (from: NodeId, what: string) => void
}

export class Driver<P> implements Inbound {
  readonly #options: DriverOptions
  readonly #groups = new Map<GroupId, Member<P>>()
  /** Their clocks run. */
  readonly #awake = new Set<Member<P>>()
  readonly #rest: Rest
  readonly #node: Node<P>
  /** Groups that have a turn, and the array of the turn before. */
  #queue: Member<P>[] = []
  #queueBefore: Member<P>[] = []
  #applyQueue: Member<P>[] = []
  #applyQueueBefore: Member<P>[] = []
  /** Groups that keep words of commits back. */
  readonly #waiting = new Set<Member<P>>()
  readonly #room = { entries: 0, bytes: 0 }
  #isScheduled = false
  /** Something was sent in this turn; or went to the disk. */
  #hasSent = false
  #hasWritten = false
  /** What there is to apply has waited for a turn. */
  #hasWaited = false
  #isWaiting = false
  #isRunning = true

  constructor(options: DriverOptions) {
    this.#options = options
    const { id, life, quiesce_ticks, keep_entries_max, keep_bytes_max, host } = options
    const { election_ticks, heartbeat_ticks } = options.options
    const send = (to: NodeId, item: PeerItem): void => {
      if (!this.#isRunning) return
      this.#hasSent = true
      options.transport.send(to, item)
    }
    this.#rest = new Rest({ life, election_ticks, heartbeat_ticks }, send, () => host.random())
    this.#node = {
      id,
      life,
      quiesce_ticks,
      keep_entries_max,
      keep_bytes_max,
      send,
      write: (member, persist) => this.#write(member, persist),
      wait: options.commit_wait_ms === 0 ? undefined : (member) => this.#wait(member),
      sendSnapshot: (group: GroupId, message: Install) => options.transport.sendSnapshot(group, message),
      queue: (member) => this.#queueTurn(member),
      queueApply: (member) => this.#queueApply(member),
      rest: (member, leaderLife) => this.#toRest(member, leaderLife),
      wake: (member) => this.#toWake(member),
      drop: (member) => this.#forget(member),
      dropped: (from, what) => options.dropped?.(from, what),
      defer: (work) => host.defer(work),
    }
  }

  /** Take up a group as the disk held it. Throws when what the disk held contradicts itself. */
  open(group: GroupId, restored: Restored, machine: StateMachine<P>): Group<P> {
    if (!this.#isRunning || this.#groups.has(group)) throw new Error(`raft: group ${group} is open, or the driver is stopped`)
    const { id, life, options } = this.#options
    const member = new Member(group, makeRaft({ ...options, id, incarnation: life }, restored), machine, this.#node)
    this.#groups.set(group, member)
    this.#awake.add(member)
    return member
  }

  group(group: GroupId): Group<P> | undefined {
    return this.#groups.get(group)
  }

  /** Do nothing for the group any more. What is under way ends as `unknown`. */
  remove(group: GroupId): void {
    const member = this.#groups.get(group)
    if (member === undefined) return
    this.#forget(member)
    member.end()
  }

  /** Called by the owner at each tick of its clock. */
  tick(): void {
    if (!this.#isRunning) return
    this.#rest.tick()
    for (const member of this.#awake) member.tick(this.#options.host.random())
  }

  receive(from: NodeId, item: PeerItem | Brought): void {
    if (!this.#isRunning) return
    const fault = faultOfItem(item, from, this.#options.id) // D3
    if (fault !== null) return this.#options.dropped?.(from, fault)
    if (item.kind === 'beat') return this.#rest.heard(from, item.life)
    const member = this.#groups.get(item.group)
    if (member === undefined) return
    if (item.kind === 'raft') member.receive(item.message)
    else if (item.kind === 'awake') member.hearAwake(from)
    else {
      this.#rest.heard(from, item.life)
      member.restWith(from, item)
    }
  }

  peerLost(peer: NodeId, gone: boolean): void {
    if (!this.#isRunning) return
    this.#rest.lost(peer)
    if (!gone) return
    for (const member of this.#groups.values()) {
      if (member.leader === peer) member.forgetLeader(turnOf(member.raft, member.id, peer))
    }
  }

  /** The end of all groups: proposals under way end as `unknown`, everything that waits is refused. */
  stop(): void {
    if (!this.#isRunning) return
    this.#isRunning = false
    for (const member of this.#groups.values()) member.end()
    this.#groups.clear()
    this.#awake.clear()
  }

  readonly #turn = (): void => {
    this.#hasSent = this.#hasWritten = false
    this.#takeTurns()
    if (this.#queue.length > 0) this.#takeTurns()
    this.#hasWaited = (this.#hasSent || this.#hasWritten) && !this.#hasWaited && this.#applyQueue.length > 0
    if (!this.#hasWaited) this.#apply()
    this.#isScheduled = false
    if (this.#queue.length + this.#applyQueue.length > 0) this.#schedule()
  }

  #takeTurns(): void {
    const turns = this.#queue
    this.#queue = this.#queueBefore
    this.#queueBefore = turns
    for (const member of turns) {
      member.isQueued = false
      member.takeTurn()
    }
    turns.length = 0
    if (!this.#isRunning) return // D1
    this.#options.transport.flush?.()
    this.#options.storage.flush?.(this.#hasSent)
  }

  /** D2: what does not fit stays in the queue, behind the others. */
  #apply(): void {
    const applies = this.#applyQueue
    if (applies.length === 0) return
    this.#applyQueue = this.#applyQueueBefore
    this.#applyQueueBefore = applies
    this.#room.entries = this.#options.apply_entries_max
    this.#room.bytes = this.#options.apply_bytes_max
    let at = 0
    for (; at < applies.length && this.#room.entries > 0 && this.#room.bytes > 0; at++) {
      applies[at]!.isQueuedToApply = false
      applies[at]!.applyWithin(this.#room)
    }
    if (at < applies.length) this.#applyQueue = [...applies.slice(at), ...this.#applyQueue]
    applies.length = 0
  }

  #write(member: Member<P>, persist: Persist): void {
    this.#hasWritten = true
    try {
      this.#options.storage.write(member.id, persist, (error, scope) => {
        if (error === undefined || error === null) member.persisted(persist.ticket)
        else if (scope === 'group') member.fail(error)
        else this.#failAll(error)
      })
    } catch (error) {
      this.#failAll(error)
    }
  }

  /** D1. */
  #failAll(error: unknown): void {
    if (!this.#isRunning) return
    this.#isRunning = false
    for (const member of [...this.#groups.values()]) member.fail(error)
  }

  #queueTurn(member: Member<P>): void {
    if (member.isQueued || !this.#isRunning) return
    member.isQueued = true
    this.#queue.push(member)
    this.#schedule()
  }

  #queueApply(member: Member<P>): void {
    if (!member.isQueuedToApply && this.#isRunning) {
      member.isQueuedToApply = true
      this.#applyQueue.push(member)
    }
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled || !this.#isRunning) return
    this.#isScheduled = true
    this.#options.host.defer(this.#turn)
  }

  /** One timer for all groups. */
  #wait(member: Member<P>): void {
    this.#waiting.add(member)
    if (this.#isWaiting) return
    this.#isWaiting = true
    this.#options.host.after(this.#options.commit_wait_ms, this.#waited)
  }

  readonly #waited = (): void => {
    this.#isWaiting = false
    if (!this.#isRunning) return
    const members = [...this.#waiting]
    this.#waiting.clear()
    for (const member of members) if (member.endWait()) this.#wait(member)
  }

  #toRest(member: Member<P>, leaderLife: number | null): void {
    member.isResting = true
    this.#awake.delete(member)
    this.#rest.begin(member, leaderLife)
  }

  #toWake(member: Member<P>): void {
    member.isResting = false
    this.#awake.add(member)
    this.#rest.end(member)
  }

  #forget(member: Member<P>): void {
    if (this.#isRunning) member.sayAwake()
    this.#groups.delete(member.id)
    this.#awake.delete(member)
    this.#rest.end(member)
  }
}
