/**
 * What the driver needs of the world, and what the world needs of the driver. The folder imports nothing of ours, so
 * these are all the words that disk, network and stores share with it.
 *
 *   LogStorage    one log of all groups of a node            storage/wal
 *   Transport     one stream to each peer, for all groups    services/peer
 *   StateMachine  what a group's entries are applied to      storage/replica
 *   Host          when things run, and chance                the node; a seeded one in simulation
 */
import type { Entry, Install, Message, NodeId, Persist, SnapshotMeta, Status } from '../model.ts'

/** Number of a group, the same on all nodes of a cluster. */
export type GroupId = number

export interface Host {
  /** Run `turn` after all that this turn of the event loop brings. */
  defer(turn: () => void): void
  /** Run `turn` once, about `ms` from now. */
  after(ms: number, turn: () => void): void
  /** In [0, 1). */
  random(): number
}

export type WriteDone = (error?: unknown, scope?: 'group') => void

export interface LogStorage {
  /**
   * Queue one write of one group. Writes are made durable in the order given; those given in one turn with one sync. `done` is
   * called once for each, in that order, never within the call: without an error when the write is durable, with one when it is not
   * known to be and nothing will be any more; with `group` behind it where that is so of this group alone.
   */
  write(group: GroupId, persist: Persist, done: WriteDone): void
  /**
   * The writes of a turn are given: begin with them now, not in a later turn. Those that are durable at once may be `done` within.
   * `hasSent`: messages were sent in this turn, and leave when the turn of the event loop is over: what would hold that up comes after it.
   */
  flush?(hasSent: boolean): void
}

/** What goes between members as it is. A snapshot goes a way of its own (`sendSnapshot`), and its message with it. */
export type PeerMessage = Exclude<Message, Install>

/** One thing that one node tells another. */
export type PeerItem =
  | { readonly kind: 'raft'; readonly group: GroupId; readonly message: PeerMessage }
  /** The leader of an idle group, in this life of its node: nothing is under way, all up to `index` is committed and yours; stop its clock. */
  | { readonly kind: 'quiesce'; readonly group: GroupId; readonly life: number; readonly term: number; readonly index: number }
  /** The answer of who cannot stop it, the word of who is no more in the group, or of a learner that hears of no leader: its clock has to run on. */
  | { readonly kind: 'awake'; readonly group: GroupId }
  /** The node is alive, in this life of it: stands for the heartbeats of all quiesced groups. */
  | { readonly kind: 'beat'; readonly life: number }

/** A snapshot that the transport has brought: the state machine has all of it. */
export interface Brought {
  readonly kind: 'raft'
  readonly group: GroupId
  readonly message: Install
}

export interface Transport {
  /**
   * Send, or drop when the peer cannot be reached or too much waits for it. What arrives does so in order. Never throws and never
   * calls back within the call. Items given in one turn leave as one write.
   */
  send(to: NodeId, item: PeerItem): void
  /** The items of a turn are given: they leave now, not in a later turn. */
  flush?(): void
  /**
   * Bring a snapshot of the group's state machine to `message.to`, then hand the message to that node's driver. What is sent may be newer
   * than `message.meta`: the message that arrives has the meta of what was sent. Resolves to whether it arrived; never rejects.
   */
  sendSnapshot(group: GroupId, message: Install): Promise<boolean>
}

/** What the network tells a driver. */
export interface Inbound {
  receive(from: NodeId, item: PeerItem | Brought): void
  /** The connection to a peer is lost; `gone`: its process is known to have ended (nobody listens at its address). */
  peerLost(peer: NodeId, gone: boolean): void
}

/** Why a proposal will not be applied, as far as is known here. */
export type Fate =
  /** Refused, since this node does not lead, is handing over, or stopped: it did not and will not happen. */
  | 'not_leader'
  /** Refused for its bytes: it did not and will not happen. */
  | 'overloaded'
  /** Something else is committed in its place, or before it by a later leader: it did not and will not happen. */
  | 'never'
  /** It may have happened. */
  | 'unknown'

/**
 * The state machine of one group. `P` is what its owner wants back with an entry that it proposed on this node.
 * What these throw is a fault: the group stops. None is called within a call of its owner to the group or the driver, save `stop`, `remove`.
 */
export interface StateMachine<P> {
  /** While true the driver hands out nothing; `Group.resume()` ends it. */
  readonly isBusy: boolean
  /**
   * The next committed entry, durable here. Also those without data. What is given back is waited for: until it resolves the entry does not
   * count as applied, and nothing else is; a rejection is a fault.
   */
  apply(entry: Entry, proposal: P | undefined): void | Promise<void>
  /** Replace everything by the snapshot of this meta, which is on this node's disk. Nothing is applied until it resolves; a rejection is a fault. */
  install(meta: SnapshotMeta): Promise<void>
  ended(proposal: P, fate: Fate): void
  /** Term, role, leader or configuration changed. */
  changed(status: Status): void
  /** The group does nothing any more: its disk failed, or an assertion did. `ended` was called for what was under way. */
  stopped(error: unknown): void
}
