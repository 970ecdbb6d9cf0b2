/**
 * Rest of idle groups: their clocks stand still on all members, and beats between nodes stand for all their heartbeats. So a group that is
 * used by nobody costs nothing in a tick and nothing on the wire.
 *
 * Z1 A leader rests only when nothing is under way: its whole log is committed, durable, applied, and at every member, and each knows it;
 *    the configuration is not joint; no read, transfer or vote waits. A follower rests only under the same leader, term and log.
 * Z2 Rest changes no promise: it only stops clocks. What is asked of a resting group wakes it first, and goes through the core as ever; a
 *    read asks a quorum. Leases run by the clock, so with leases no group rests.
 * Z3 A resting leader has each member among its neighbours, a resting follower its leader; nodes with a resting group in common send each
 *    other beats. When a neighbour is silent for an election timeout, begins another life, or is lost, all groups that rest on it wake; a
 *    follower then forgets that leader and campaigns soon, as one whose heartbeats ceased would. So no sleeper outlives what it sleeps on:
 *    a leader that is cut off wakes, hears no quorum and steps down.
 * Z4 A follower that is not at rest (the word was lost, or its log differs) says so or campaigns, with a pre-vote; one that has no vote says
 *    so when it hears of no leader. Each of these wakes the leader, whose heartbeats wake the others. None gives its vote for it, for the
 *    clock of its loyalty stood still too.
 *    Not so who is no member: it was removed and did not learn of it; it asks in vain for ever (section 4.2.3 of the thesis).
 * Z5 Who stops doing a group's work while its node lives on says `awake` to its members, for the node's beats do not speak for it any more.
 * Z6 A tick costs as much as there are neighbours and groups awake, whatever number rests.
 */
import { currentConfiguration, lastIndex } from '../log.ts'
import type { Message, NodeId } from '../model.ts'
import { isJoint, membersOf } from '../quorum.ts'
import type { Raft } from '../state.ts'
import type { GroupId, PeerItem } from './ports.ts'

/** A group as this file sees it. */
export interface Sleeper {
  readonly id: GroupId
  readonly raft: Raft
  /** Its clock runs again. */
  wake(): void
  /** The node that it may follow is gone or deaf. */
  forgetLeader(campaignTicks: number): void
}

export interface RestOptions {
  readonly life: number
  readonly election_ticks: number
  readonly heartbeat_ticks: number
}

/** A node with which a resting group is in common. */
interface Neighbour {
  readonly id: NodeId
  /** -1: not known; nobody looked for its beats before the first group came to rest on it. */
  life: number
  /** Ticks since its last beat, or since the first group came to rest on it. */
  silent: number
  readonly resting: Set<Sleeper>
}

export class Rest {
  readonly #options: RestOptions
  readonly #send: (to: NodeId, item: PeerItem) => void
  readonly #random: () => number
  readonly #neighbours = new Map<NodeId, Neighbour>()
  #elapsed = 0

  constructor(options: RestOptions, send: (to: NodeId, item: PeerItem) => void, random: () => number) {
    this.#options = options
    this.#send = send
    this.#random = random
  }

  /** The group's clock stands from now on; `life` is that of the leader that a follower rests on. */
  begin(group: Sleeper, life: number | null): void {
    for (const id of neighboursOf(group.raft)) {
      const neighbour = this.#neighbour(id)
      if (life !== null) neighbour.life = life
      neighbour.resting.add(group)
    }
  }

  end(group: Sleeper): void {
    for (const { id, resting } of this.#neighbours.values()) {
      if (resting.delete(group) && resting.size === 0) this.#neighbours.delete(id)
    }
  }

  /** Nodes with which there is a resting group in common. Z6 */
  get neighbours(): number {
    return this.#neighbours.size
  }

  tick(): void {
    const isTime = ++this.#elapsed >= this.#options.heartbeat_ticks
    if (isTime) this.#elapsed = 0
    for (const neighbour of this.#neighbours.values()) {
      if (isTime) this.#send(neighbour.id, { kind: 'beat', life: this.#options.life })
      if (++neighbour.silent > this.#options.election_ticks) this.#wakeAll(neighbour, this.#options.election_ticks)
    }
  }

  /** A beat, or what stands for one. */
  heard(from: NodeId, life: number): void {
    const neighbour = this.#neighbours.get(from)
    if (neighbour === undefined) return
    neighbour.silent = 0
    if (neighbour.life === life) return
    if (neighbour.life !== -1) this.#wakeAll(neighbour)
    neighbour.life = life
  }

  /** The connection is lost: who rested on it looks again, and waits as long as for any leader that falls silent. */
  lost(peer: NodeId): void {
    const neighbour = this.#neighbours.get(peer)
    if (neighbour === undefined) return
    neighbour.life = -1
    for (const group of [...neighbour.resting]) group.wake()
  }

  /** `ticks`: within which to campaign against who is silent; without, it is known to be gone. */
  #wakeAll(neighbour: Neighbour, ticks?: number): void {
    for (const group of [...neighbour.resting]) {
      group.wake()
      if (group.raft.leader !== neighbour.id) continue
      group.forgetLeader(ticks === undefined ? turnOf(group.raft, group.id, neighbour.id) : campaignWithin(ticks, this.#random))
    }
  }

  #neighbour(id: NodeId): Neighbour {
    let neighbour = this.#neighbours.get(id)
    if (neighbour === undefined) this.#neighbours.set(id, (neighbour = { id, life: -1, silent: 0, resting: new Set() }))
    return neighbour
  }
}

/** After how many ticks to campaign: not all members at once. */
export function campaignWithin(ticks: number, random: () => number): number {
  return 1 + Math.floor(random() * ticks)
}

/**
 * After how many ticks this node campaigns where the leader is known to be gone: the first at once, the others in turn, two ticks apart, so
 * that they do not split the votes; another one first in each group, so that not one node comes to lead them all.
 */
export function turnOf(raft: Raft, group: number, gone: NodeId): number {
  const others = currentConfiguration(raft.log)
    .voters.filter((id) => id !== gone)
    .sort()
  const place = others.indexOf(raft.options.id)
  return place < 0 ? others.length : 2 * ((place + group) % others.length)
}

/** Z1, of a leader. */
export function mayLeaderRest({ leading, log, out, commit, applied, reads, options }: Raft): boolean {
  if (leading === null || options.lease_ticks > 0) return false
  const last = lastIndex(log)
  if (commit !== last || applied !== last || out.durable !== last || last < leading.opening) return false
  if (leading.transfer !== null || leading.reads.length + reads.waiting.length + reads.confirmed.length > 0) return false
  if (isJoint(currentConfiguration(log))) return false
  for (const peer of leading.peers.values()) {
    if (peer.state !== 'replicate' || peer.match !== last || peer.toldCommit !== last || !peer.active) return false
  }
  return true
}

/** Z1, of a follower that is told to. */
export function mayFollowerRest(raft: Raft, from: NodeId, term: number, index: number): boolean {
  const { log, commit, applied, reads, election, options } = raft
  if (raft.role !== 'follower' || raft.leader !== from || raft.term !== term || options.lease_ticks > 0) return false
  if (lastIndex(log) !== index || commit !== index || applied !== index) return false
  return election.loyal > 0 && reads.waiting.length + reads.confirmed.length === 0 // Z4
}

/** Z4: it wakes nobody, and does not keep a group from resting. */
export function isCampaignOfStranger({ log }: Raft, { kind, from }: Message): boolean {
  return (kind === 'pre_vote' || kind === 'vote') && !membersOf(currentConfiguration(log)).has(from)
}

/** Z3: on whom a group rests. */
function neighboursOf({ leading, leader }: Raft): Iterable<NodeId> {
  if (leading !== null) return leading.peers.keys()
  return leader === null ? [] : [leader]
}
