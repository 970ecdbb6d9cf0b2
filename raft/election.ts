/**
 * Elections. Thesis sections 3.4 (leader election), 3.6.1 (election restriction), 4.2.3 (disruptive servers), 6.2 (a leader that
 * lost its quorum steps down) and 9.6 (pre-vote).
 *
 * E1 A node votes once a term, and only for a log at least as up to date as its own.
 * E2 No node raises its term to campaign before a quorum said that it would vote for it, save when the leader asked it to.
 * E3 While a leader is known and was heard from within `election_ticks`, votes against it are neither given nor let raise the
 *    term, save when that leader asked for the election.
 * E4 A leader steps down after an interval of `election_ticks` in which it did not hear from a quorum.
 */
import { assert } from './assert.ts'
import { append, currentConfigurationIndex, isUpToDate, lastIndex, lastTerm } from './log.ts'
import type { NodeId, PreVote, Vote, VoteReply } from './model.ts'
import { holdOwnVote, sendAfterHardState } from './outbox.ts'
import { makeProgress } from './progress.ts'
import { isVoter, membersOf, quorumValue, tally } from './quorum.ts'
import { becomeFollower, configurationOf, failWaitingReads, maySeekOffice, resetElectionTimer } from './state.ts'
import type { Raft } from './state.ts'
import { uncommittedBytes } from './proposals.ts'

export function tickElection(raft: Raft, jitter: number): void {
  const { election, options } = raft
  assert(jitter >= 0 && jitter < 1, 'jitter lies in [0, 1)')
  if (election.timeout === 0) election.timeout = options.election_ticks + Math.floor(jitter * options.election_ticks)
  election.elapsed++
  if (election.loyal > 0) election.loyal--
  if (election.elapsed < election.timeout && !isAlone(raft)) return
  if (maySeekOffice(raft)) preCampaign(raft)
  else {
    if (raft.leader !== null) becomeFollower(raft, raft.term, null)
    resetElectionTimer(raft)
  }
}

/** Nobody else's vote counts, so there is nobody to wait for; a vote of its own that is on its way to the disk is waited for. */
function isAlone(raft: Raft): boolean {
  const { voters, outgoing } = configurationOf(raft)
  return raft.role === 'follower' && voters.length === 1 && outgoing.length === 0 && voters[0] === raft.options.id
}

/** Section 6.2. */
export function tickCheckQuorum(raft: Raft): void {
  const leading = raft.leading!
  if (++leading.quorumElapsed < raft.options.election_ticks) return
  leading.quorumElapsed = 0
  const heard = quorumValue(configurationOf(raft), (id) => (id === raft.options.id || leading.peers.get(id)?.active === true ? 1 : 0))
  if (heard === 0) return becomeFollower(raft, raft.term, null) // E4
  for (const peer of leading.peers.values()) peer.active = false
}

/** Votes are asked for what is not known to be wanted: a leader was heard from (E3). */
export function isLoyal(raft: Raft): boolean {
  return raft.role === 'leader' || raft.election.loyal > 0
}

/** Campaigns that follow each other soon; then it is as if the leader had fallen silent. */
const hurries_max = 4

/** It is known to be gone. Who knew it first and was refused gets its answer now. */
export function forgetLeader(raft: Raft, campaignTicks: number | undefined): void {
  const { election, options } = raft
  if (raft.role !== 'follower' || raft.leader === null || options.lease_ticks > 0) return
  if (campaignTicks !== undefined) {
    election.hurries = hurries_max
    election.hurry = Math.max(1, campaignTicks)
  }
  becomeFollower(raft, raft.term, null)
  if (election.refused !== null) handlePreVote(raft, election.refused)
  else if (campaignTicks === 0 && maySeekOffice(raft)) preCampaign(raft)
}

/** Section 9.6: ask who would vote, before the term is raised. */
function preCampaign(raft: Raft): void {
  failWaitingReads(raft)
  raft.role = 'pre_candidate'
  raft.leader = null
  if (raft.election.hurries > 0) raft.election.hurries--
  resetElectionTimer(raft)
  raft.election.votes = new Map([[raft.options.id, true]])
  askForVotes(raft, 'pre_vote', raft.term + 1, false)
  if (tally(configurationOf(raft), raft.election.votes) === 'won') campaign(raft, false)
}

/** Section 3.4. */
export function campaign(raft: Raft, transfer: boolean): void {
  assert(maySeekOffice(raft), 'E1 only voters stand')
  becomeFollower(raft, raft.term + 1, null)
  raft.role = 'candidate'
  raft.vote = raft.options.id
  raft.election.votes = new Map()
  holdOwnVote(raft) // E1: counted when durable
  askForVotes(raft, 'vote', raft.term, transfer)
}

export function handlePreVote(raft: Raft, message: PreVote): void {
  const isDeserved = message.term > raft.term && isUpToDate(raft.log, message.lastIndex, message.lastTerm) // E1
  const granted = isDeserved && !isLoyal(raft) // E3
  raft.election.refused = isDeserved && !granted ? message : null
  const term = granted ? message.term : raft.term
  sendAfterHardState(raft, { kind: 'pre_vote_reply', from: raft.options.id, to: message.from, term, granted })
}

/** The message's term is this node's: a higher one was taken over before. */
export function handleVote(raft: Raft, message: Vote): void {
  const free = raft.vote === message.from || (raft.vote === null && raft.leader === null)
  const wanted = message.term === raft.term && (message.transfer || !isLoyal(raft)) // E3
  const granted = wanted && free && isUpToDate(raft.log, message.lastIndex, message.lastTerm) // E1
  if (granted) {
    raft.vote = message.from
    raft.election.elapsed = 0
  }
  sendAfterHardState(raft, { kind: 'vote_reply', from: raft.options.id, to: message.from, term: raft.term, granted })
}

export function handleVoteReply(raft: Raft, message: VoteReply): void {
  const pre = message.kind === 'pre_vote_reply'
  if (raft.role !== (pre ? 'pre_candidate' : 'candidate')) return
  if (pre && message.granted && message.term !== raft.term + 1) return
  // Who would not may, once it knows that the leader is gone; a vote is for good.
  if (!raft.election.votes.has(message.from) || (pre && message.granted)) raft.election.votes.set(message.from, message.granted)
  const result = tally(configurationOf(raft), raft.election.votes)
  if (result === 'lost') becomeFollower(raft, raft.term, null)
  else if (result === 'won' && pre)
    campaign(raft, false) // E2
  else if (result === 'won') becomeLeader(raft)
}

/** The vote that a candidate gave itself is durable. */
export function countOwnVote(raft: Raft): void {
  if (raft.role !== 'candidate') return
  raft.election.votes.set(raft.options.id, true)
  if (tally(configurationOf(raft), raft.election.votes) === 'won') becomeLeader(raft)
}

function becomeLeader(raft: Raft): void {
  assert(raft.role === 'candidate' && raft.vote === raft.options.id, 'E1 a leader voted for itself')
  assert(raft.out.hard.term === raft.term && raft.out.hardTicket <= raft.out.done, 'O1 a leader has its term on disk')
  raft.role = 'leader'
  raft.leader = raft.options.id
  raft.election.hurries = 0
  const opening = lastIndex(raft.log) + 1
  const peers = new Map(peerIds(raft).map((id) => [id, makeProgress(opening)]))
  const configurationIndex = currentConfigurationIndex(raft.log)
  raft.leading = {
    peers,
    configurationIndex,
    opening,
    heartbeatElapsed: 0,
    quorumElapsed: 0,
    uncommittedBytes: uncommittedBytes(raft),
    round: 0,
    roundWanted: false,
    reads: [],
    transfer: null,
    lease: { now: 0, until: 0, rounds: [], broken: false },
  }
  append(raft.log, { index: opening, term: raft.term, data: null, configuration: null }) // section 3.6.2: it commits what is before it
}

/** The configuration changed: begin to follow those who came, forget those who went. */
export function followConfiguration(raft: Raft): void {
  const leading = raft.leading!
  const index = currentConfigurationIndex(raft.log)
  if (leading.configurationIndex === index) return
  leading.configurationIndex = index
  const ids = new Set(peerIds(raft))
  for (const id of leading.peers.keys()) if (!ids.has(id)) leading.peers.delete(id)
  for (const id of ids) if (!leading.peers.has(id)) leading.peers.set(id, makeProgress(lastIndex(raft.log) + 1))
}

function peerIds(raft: Raft): NodeId[] {
  return [...membersOf(configurationOf(raft))].filter((id) => id !== raft.options.id)
}

function askForVotes(raft: Raft, kind: 'pre_vote' | 'vote', term: number, transfer: boolean): void {
  const from = raft.options.id
  const last = { lastIndex: lastIndex(raft.log), lastTerm: lastTerm(raft.log) }
  for (const to of peerIds(raft)) {
    if (!isVoter(configurationOf(raft), to)) continue
    if (kind === 'pre_vote') sendAfterHardState(raft, { kind, from, to, term, ...last })
    else sendAfterHardState(raft, { kind, from, to, term, ...last, transfer })
  }
}
