/**
 * The vocabulary of the core: entries, configurations, messages, what goes in (`Input`) and what comes out (`Effects`).
 * Words are those of Ongaro's thesis, "Consensus: Bridging Theory and Practice" (2014); sections in these files are its sections.
 *
 * Order is in the types: a message that depends on the disk is not in the effects of the step that caused it, but in those of
 * the step that is given the `Ticket` of the write it depends on; an entry is handed out for applying only after that too.
 */

export type NodeId = string

/** One slot of the log. `data` of a proposal, `configuration` of a membership change, neither in the entry that opens a term. */
export interface Entry {
  readonly index: number
  readonly term: number
  readonly data: Uint8Array | null
  readonly configuration: Configuration | null
}

/** Section 4.3. While `outgoing` is not empty the configuration is joint: decisions need a majority of `voters` and one of `outgoing`. */
export interface Configuration {
  readonly voters: readonly NodeId[]
  readonly outgoing: readonly NodeId[]
  readonly learners: readonly NodeId[]
  /** Voters of `outgoing` that become learners when the joint configuration is left. */
  readonly demoted: readonly NodeId[]
}

/** What a snapshot stands for: all entries up to `index`. The core never sees its bytes. */
export interface SnapshotMeta {
  readonly index: number
  readonly term: number
  readonly configuration: Configuration
}

/** Section 3.8: what must be on disk before anything that depends on it leaves. */
export interface HardState {
  readonly term: number
  readonly vote: NodeId | null
}

interface Envelope {
  readonly from: NodeId
  readonly to: NodeId
  /** The sender's term; in a pre-vote and its granted reply, the term that the candidate would have. */
  readonly term: number
}

export interface PreVote extends Envelope {
  readonly kind: 'pre_vote'
  readonly lastIndex: number
  readonly lastTerm: number
}
export interface Vote extends Envelope {
  readonly kind: 'vote'
  readonly lastIndex: number
  readonly lastTerm: number
  /** The leader asked for this election: it is to be heard though a leader is known (section 4.2.3). */
  readonly transfer: boolean
}
export interface VoteReply extends Envelope {
  readonly kind: 'pre_vote_reply' | 'vote_reply'
  readonly granted: boolean
}
export interface Append extends Envelope {
  readonly kind: 'append'
  readonly prevIndex: number
  readonly prevTerm: number
  /** Shared with the sender's log and other messages: not to be changed. */
  readonly entries: readonly Entry[]
  readonly commit: number
}
export interface Accepted extends Envelope {
  readonly kind: 'accepted'
  /** The follower's log is durable and equals the leader's up to here. */
  readonly match: number
}
export interface Rejected extends Envelope {
  readonly kind: 'rejected'
  /** `prevIndex` of the append that did not fit. */
  readonly prevIndex: number
  /** The follower's best guess of where the logs may still agree, and its term there. */
  readonly hintIndex: number
  readonly hintTerm: number
}
export interface Heartbeat extends Envelope {
  readonly kind: 'heartbeat'
  readonly commit: number
  /** Counts the leader's questions "am I still leader?" in this term (section 6.4). */
  readonly round: number
}
export interface HeartbeatReply extends Envelope {
  readonly kind: 'heartbeat_reply'
  readonly round: number
}
/** The commit index moved and nothing else was to be sent. No reply. */
export interface Commit extends Envelope {
  readonly kind: 'commit'
  readonly commit: number
}
/** The transport gives this to the receiver's core only when it has all bytes of a snapshot with this `meta`. */
export interface Install extends Envelope {
  readonly kind: 'install'
  readonly meta: SnapshotMeta
}
/** Section 3.10: start an election now. */
export interface TimeoutNow extends Envelope {
  readonly kind: 'timeout_now'
}
/** A follower asks for a read index. `incarnation` and `read` come back unchanged. */
export interface ReadAsk extends Envelope {
  readonly kind: 'read'
  readonly incarnation: number
  readonly read: number
}
export interface ReadReply extends Envelope {
  readonly kind: 'read_reply'
  readonly incarnation: number
  readonly read: number
  readonly index: number
}
/** Answer to a leader of a past term: there is a newer one. */
export interface Stale extends Envelope {
  readonly kind: 'stale'
}

export type Message =
  | PreVote
  | Vote
  | VoteReply
  | Append
  | Accepted
  | Rejected
  | Heartbeat
  | HeartbeatReply
  | Commit
  | Install
  | TimeoutNow
  | ReadAsk
  | ReadReply
  | Stale

export interface MembershipChange {
  readonly do: 'add_learner' | 'promote' | 'demote' | 'remove'
  readonly id: NodeId
}

/** Names one write to disk. Only the core makes one; giving it back says that the write is durable. */
export type Ticket = number & { readonly ticket: unique symbol }

export type Input =
  /** `jitter` in [0, 1): how long the next election timeout is, between one and two times `election_ticks`. */
  | { readonly kind: 'tick'; readonly jitter: number }
  | { readonly kind: 'message'; readonly message: Message }
  /** Proposals, in order. Answered by `ref` with how many were taken. */
  | { readonly kind: 'propose'; readonly ref: number; readonly data: readonly Uint8Array[] }
  | { readonly kind: 'change'; readonly ref: number; readonly changes: readonly MembershipChange[] }
  | { readonly kind: 'transfer'; readonly ref: number; readonly to: NodeId }
  /** A linearizable read that begins now; many reads of one turn may share it. */
  | { readonly kind: 'read'; readonly ref: number }
  /** The write of this ticket, and all before it, are durable. */
  | { readonly kind: 'persisted'; readonly ticket: Ticket }
  /** The state machine holds everything up to `index`. */
  | { readonly kind: 'applied'; readonly index: number }
  /** A snapshot of the state machine as of `index` is durable. */
  | { readonly kind: 'snapshot_taken'; readonly index: number }
  /** Entries up to `index` may go; at most up to the newest snapshot. */
  | { readonly kind: 'compact'; readonly index: number }
  /** How sending an `install` ended. */
  | { readonly kind: 'snapshot_sent'; readonly to: NodeId; readonly ok: boolean }
  /**
   * The leader is known to be gone (its process ended): do not wait out the time in which votes are refused. With `campaign_ticks` campaign
   * after so many ticks, if no leader shows up; with 0 at once; else after an election timeout.
   */
  | { readonly kind: 'forget_leader'; readonly campaign_ticks?: number }

export type Refusal =
  | 'not_leader'
  /** Past `uncommitted_bytes_max` or `reads_pending_max`. */
  | 'overloaded'
  /** Leadership is on its way to another node. */
  | 'transferring'
  /** The last membership change is not over. */
  | 'change_pending'
  /** The leader has not yet committed an entry of its term. */
  | 'not_ready'
  /** A learner is too far behind to become a voter. */
  | 'learner_behind'
  | 'invalid'

/** Answer to a `propose`, `change`, `transfer` or refused `read`. Refused parts did not and will not happen. */
export interface Answer {
  readonly ref: number
  /** Entries taken into the log: `first`, `first + 1`, ... of `term`. They are done when handed out for applying, not before. */
  readonly taken: number
  readonly first: number
  readonly term: number
  /** Why the rest was refused. */
  readonly refused: Refusal | null
}

/** Of entries that an `Answer` took and that will not be handed out under this term at this place. Each is told of once. */
export interface Lost {
  readonly first: number
  readonly last: number
  readonly term: number
  /** `never`: an entry of another term is committed in its place or before it. `unknown`: a snapshot came over it, which may or may not hold it. */
  readonly fate: 'never' | 'unknown'
}

export interface Persist {
  readonly ticket: Ticket
  /** Null when unchanged. */
  readonly hard: HardState | null
  /** First make this snapshot (whose bytes came with `install`) the base and drop the whole log. */
  readonly install: SnapshotMeta | null
  /** Then put these in, dropping whatever stands at the first one's index and after. */
  readonly entries: readonly Entry[]
}

export interface Apply {
  /** First replace the state machine by this snapshot. */
  readonly install: SnapshotMeta | null
  readonly entries: readonly Entry[]
}

export interface Status {
  readonly term: number
  readonly role: Role
  readonly leader: NodeId | null
  readonly configuration: Configuration
}

export type Role = 'follower' | 'pre_candidate' | 'candidate' | 'leader'

/** What one step asks of the driver, in any order: what must wait is not in here yet. */
export interface Effects {
  readonly persist: Persist | null
  readonly send: readonly Message[]
  readonly apply: Apply | null
  readonly answers: readonly Answer[]
  /** Refs of reads that may now be served from the state machine as it is (at least as of `index`). */
  readonly reads: readonly { readonly ref: number; readonly index: number }[]
  /** Refs of reads that got no index: ask again. */
  readonly failedReads: readonly number[]
  readonly lost: readonly Lost[]
  /** Messages that no member of this group sends to one in this state; they were dropped, and told of for the operator. */
  readonly implausible: readonly Message[]
  /** Set when any of it changed. */
  readonly status: Status | null
}

export interface Options {
  readonly id: NodeId
  /** Differs at each start of this node, so that answers to reads of an earlier life are not taken for answers of this one. */
  readonly incarnation: number
  readonly election_ticks: number
  readonly heartbeat_ticks: number
  /**
   * 0: no leases. Else a leader answers reads without a round of heartbeats for so many ticks after it sent one that a quorum answered. Sound
   * only while no member's ticks are slower or faster than another's by more than `election_ticks` has over this; at most `election_ticks - 2`.
   */
  readonly lease_ticks: number
  /** Data of one append; at least one entry goes however large it is. */
  readonly append_bytes_max: number
  /** Appends on their way to one peer, and their bytes; past either, that peer waits. */
  readonly inflight_appends_max: number
  readonly inflight_bytes_max: number
  /** Data taken and not committed; past it: `overloaded`, save that one proposal is always taken when there is none. */
  readonly uncommitted_bytes_max: number
  /** Reads of this node that wait, for an index or until it is applied; more: `overloaded`. */
  readonly reads_pending_max: number
  /** A learner further behind than this is not promoted. */
  readonly promotion_lag_entries_max: number
}

/** What the disk held at the start. A new cluster's members all begin with one snapshot of index 0, term 0 and the same configuration. */
export interface Restored {
  readonly hard: HardState
  readonly snapshot: SnapshotMeta
  /** Without a gap from at or below `snapshot.index + 1`; those that the snapshot holds too are kept for members that are a little behind. */
  readonly entries: readonly Entry[]
  /** What the state machine already holds; at least `snapshot.index`. */
  readonly applied: number
}
