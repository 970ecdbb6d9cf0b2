/**
 * All state of one member of one group, as plain data, and how it begins from what the disk held. Thesis figure 3.1.
 *
 * S1 `term` never falls, and within a term `vote` is set at most once.
 * S2 snapshot <= commit <= last index; `applied <= handed <= commit`; entries are handed out for applying once durable here.
 * S3 `leading` is set exactly while `role` is leader, and then `leader` is this node.
 */
import { assert } from './assert.ts'
import { append, currentConfiguration, lastIndex, makeLog, restoreBefore } from './log.ts'
import type { Log } from './log.ts'
import type { Configuration, NodeId, Options, PreVote, Restored, Role } from './model.ts'
import { makeOutbox } from './outbox.ts'
import type { Outbox } from './outbox.ts'
import type { Progress } from './progress.ts'
import { isVoter } from './quorum.ts'

export interface Raft {
  readonly options: Options
  term: number
  vote: NodeId | null
  role: Role
  leader: NodeId | null
  log: Log
  commit: number
  /** Handed out for applying up to here. */
  handed: number
  /** Told by the driver. */
  applied: number
  election: Election
  leading: Leading | null
  /** Entries that this node took as leader, by term, until their fate is known. */
  taken: { readonly term: number; first: number; last: number }[]
  reads: LocalReads
  out: Outbox
}

export interface Election {
  /** Ticks since a leader was heard from, a vote was given or a campaign began. */
  elapsed: number
  /** Ticks after which this node campaigns; 0 until the next tick's jitter chooses it. */
  timeout: number
  /** Ticks for which votes against the leader that was heard from are refused (section 4.2.3). */
  loyal: number
  /** Of the campaign under way. */
  votes: Map<NodeId, boolean>
  /** The leader is known to be gone: so many campaigns more may follow each other after `hurry` ticks, for others may not know it yet. */
  hurries: number
  hurry: number
  /** What was refused for the leader's sake since that was heard: somebody takes it for gone. */
  refused: PreVote | null
}

export interface Leading {
  peers: Map<NodeId, Progress>
  /** `log.configurations`' last index for which `peers` was made. */
  configurationIndex: number
  /** The entry that opened this term: before it is committed nothing is known to be (sections 3.6.2, 6.4). */
  opening: number
  heartbeatElapsed: number
  quorumElapsed: number
  /** Data of entries past `commit`. */
  uncommittedBytes: number
  /** Section 6.4: rounds of heartbeats begun, and the reads that wait for one to be answered by a quorum. */
  round: number
  /** There are reads for which no round is begun yet. */
  roundWanted: boolean
  reads: LeaderRead[]
  transfer: { readonly to: NodeId; elapsed: number; sent: boolean } | null
  lease: Lease
}

export interface Lease {
  /** Ticks of this leadership. */
  now: number
  /** Tick before which reads need no round. */
  until: number
  /** When rounds were begun that are not yet confirmed. */
  rounds: { readonly round: number; readonly at: number }[]
  /** A member was told to campaign: others may vote for it while they hear this leader, so there is no lease in this term any more. */
  broken: boolean
}

export interface LeaderRead {
  readonly from: NodeId
  readonly incarnation: number
  readonly read: number
  /** -1 until an entry of this term is committed. */
  index: number
  round: number
}

export interface LocalReads {
  /** Number of the last read of this life of the node. */
  last: number
  /** Asked of a leader, in order of `read`. */
  waiting: { readonly read: number; readonly ref: number; elapsed: number }[]
  /** With an index, waiting to be applied. */
  confirmed: { readonly ref: number; readonly index: number }[]
}

export function makeRaft(options: Options, restored: Restored): Raft {
  assert(options.lease_ticks === 0 || options.lease_ticks <= options.election_ticks - 2, 'a lease ends before votes are given')
  const log = makeLog(restored.snapshot)
  restoreBefore(log, restored.entries)
  for (const entry of restored.entries) if (entry.index > restored.snapshot.index) append(log, entry)
  assert(restored.applied >= restored.snapshot.index && restored.applied <= lastIndex(log), 'S2 what is applied is in the log')
  const raft: Raft = {
    options,
    term: restored.hard.term,
    vote: restored.hard.vote,
    role: 'follower',
    leader: null,
    log,
    commit: restored.applied,
    handed: restored.applied,
    applied: restored.applied,
    // With leases, who restarts does not know whom it heard from before, and refuses votes as if it had just heard.
    election: {
      elapsed: 0,
      timeout: 0,
      loyal: options.lease_ticks > 0 ? options.election_ticks : 0,
      votes: new Map(),
      hurries: 0,
      hurry: 0,
      refused: null,
    },
    leading: null,
    taken: [],
    reads: { last: 0, waiting: [], confirmed: [] },
    out: makeOutbox(restored.hard, lastIndex(log)),
  }
  return raft
}

export function configurationOf(raft: Raft): Configuration {
  return currentConfiguration(raft.log)
}

/** This node counts in elections, so it may stand in one. */
export function maySeekOffice(raft: Raft): boolean {
  return isVoter(configurationOf(raft), raft.options.id)
}

export function becomeFollower(raft: Raft, term: number, leader: NodeId | null): void {
  assert(term >= raft.term, 'S1 the term never falls')
  if (term > raft.term) {
    raft.term = term
    raft.vote = null
  }
  if (raft.role !== 'follower' || raft.leader !== leader) failWaitingReads(raft)
  raft.role = 'follower'
  raft.leader = leader
  raft.leading = null
  if (leader === null && raft.options.lease_ticks === 0) raft.election.loyal = 0
  if (leader !== null) raft.election.hurries = 0
  resetElectionTimer(raft)
}

export function resetElectionTimer(raft: Raft): void {
  const { election } = raft
  election.elapsed = 0
  election.timeout = election.hurries > 0 ? election.hurry : 0
}

/** Who was to answer them is leader no more, as far as this node knows. */
export function failWaitingReads(raft: Raft): void {
  for (const { ref } of raft.reads.waiting) raft.out.failedReads.push(ref)
  raft.reads.waiting = []
}
