/**
 * The core's one function: `step(raft, inputs)` takes what happened in a turn and gives what is to be done. Pure in all but `raft`
 * itself, which it changes: the same state and inputs give the same effects, and nothing else is read or touched.
 *
 * First each input changes the state; then, once, what follows from the state is brought about (`settle`): the commit index moves,
 * peers get what they lack, a membership change or a transfer goes on, reads are answered. So a turn of many inputs costs one write,
 * one message to a peer and one look at the quorum.
 */
import { assert } from './assert.ts'
import {
  countOwnVote,
  followConfiguration,
  forgetLeader,
  handlePreVote,
  handleVote,
  handleVoteReply,
  isLoyal,
  tickCheckQuorum,
  tickElection,
} from './election.ts'
import { handleAppend, handleHeartbeat, handleInstall, hearLeader, learnCommit } from './follower.ts'
import { compact, configurationAt, lastIndex, termAt } from './log.ts'
import { change, settleMembership } from './membership.ts'
import type { Effects, Input, Message } from './model.ts'
import { isPlausible } from './plausible.ts'
import { persisted, sendAfterHardState, takeEffects } from './outbox.ts'
import { propose, settleTaken } from './proposals.ts'
import { handleRead, handleReadReply, read, settleLeaderReads, settleReads, tickReads } from './reads.ts'
import {
  advanceCommit,
  handleAccepted,
  handleHeartbeatReply,
  handleRejected,
  sendAppends,
  sendHeartbeats,
  snapshotSent,
} from './replication.ts'
import { becomeFollower, configurationOf } from './state.ts'
import type { Raft } from './state.ts'
import { settleLease, tickLease } from './lease.ts'
import { handleTimeoutNow, settleTransfer, tickTransfer, transfer } from './transfer.ts'

export function step(raft: Raft, inputs: readonly Input[]): Effects {
  const { term, role, leader } = raft
  const configuration = configurationOf(raft)
  for (const input of inputs) take(raft, input)
  settle(raft)
  if (raft.term !== term || raft.role !== role || raft.leader !== leader || configurationOf(raft) !== configuration) {
    raft.out.status = { term: raft.term, role: raft.role, leader: raft.leader, configuration: configurationOf(raft) }
  }
  const effects = takeEffects(raft)
  check(raft)
  return effects
}

function take(raft: Raft, input: Input): void {
  switch (input.kind) {
    case 'tick':
      return tick(raft, input.jitter)
    case 'message':
      return receive(raft, input.message)
    case 'propose':
      return propose(raft, input.ref, input.data)
    case 'change':
      return change(raft, input.ref, input.changes)
    case 'transfer':
      return transfer(raft, input.ref, input.to)
    case 'read':
      return read(raft, input.ref)
    case 'persisted':
      return persisted(raft, input.ticket, countOwnVote)
    case 'applied':
      assert(input.index >= raft.applied && input.index <= raft.handed, 'S2 only what was handed out is applied')
      raft.applied = input.index
      return
    case 'snapshot_taken':
      return snapshotTaken(raft, input.index)
    case 'compact':
      return compact(raft.log, Math.min(input.index, raft.log.snapshot.index))
    case 'snapshot_sent':
      return snapshotSent(raft, input.to, input.ok)
    case 'forget_leader':
      return forgetLeader(raft, input.campaign_ticks)
  }
}

function tick(raft: Raft, jitter: number): void {
  tickReads(raft)
  if (raft.leading === null) return tickElection(raft, jitter)
  tickTransfer(raft)
  tickLease(raft)
  if (++raft.leading.heartbeatElapsed >= raft.options.heartbeat_ticks) sendHeartbeats(raft)
  tickCheckQuorum(raft)
}

function receive(raft: Raft, message: Message): void {
  assert(message.to === raft.options.id && message.from !== raft.options.id, 'a message reaches the node it is for')
  if (message.term > raft.term) {
    if (message.kind === 'vote' && !message.transfer && isLoyal(raft)) return // E3
    const hypothetical = message.kind === 'pre_vote' || (message.kind === 'pre_vote_reply' && message.granted)
    if (!hypothetical) becomeFollower(raft, message.term, null)
  } else if (message.term < raft.term) {
    return answerOld(raft, message)
  }
  if (!isPlausible(raft, message)) return void raft.out.implausible.push(message)
  switch (message.kind) {
    case 'pre_vote':
      return handlePreVote(raft, message)
    case 'vote':
      return handleVote(raft, message)
    case 'pre_vote_reply':
    case 'vote_reply':
      return handleVoteReply(raft, message)
    case 'append':
      hearLeader(raft, message.from)
      return handleAppend(raft, message)
    case 'heartbeat':
      hearLeader(raft, message.from)
      return handleHeartbeat(raft, message)
    case 'commit':
      hearLeader(raft, message.from)
      return learnCommit(raft, message)
    case 'install':
      hearLeader(raft, message.from)
      return handleInstall(raft, message)
    case 'timeout_now':
      return handleTimeoutNow(raft)
    case 'accepted':
      if (raft.leading !== null) handleAccepted(raft, message)
      return
    case 'rejected':
      if (raft.leading !== null) handleRejected(raft, message)
      return
    case 'heartbeat_reply':
      if (raft.leading !== null) handleHeartbeatReply(raft, message)
      return
    case 'read':
      return handleRead(raft, message)
    case 'read_reply':
      return handleReadReply(raft, message)
    case 'stale':
      return
  }
}

/** Whoever asks under a term gone by learns of the newer one (section 3.3); all else that is old is dropped. */
function answerOld(raft: Raft, message: Message): void {
  const to = { from: raft.options.id, to: message.from, term: raft.term }
  if (message.kind === 'pre_vote') sendAfterHardState(raft, { kind: 'pre_vote_reply', ...to, granted: false })
  else if (message.kind === 'vote') sendAfterHardState(raft, { kind: 'vote_reply', ...to, granted: false })
  else if (message.kind === 'append' || message.kind === 'heartbeat' || message.kind === 'install') {
    sendAfterHardState(raft, { kind: 'stale', ...to })
  }
}

function snapshotTaken(raft: Raft, index: number): void {
  const { log } = raft
  assert(index <= raft.applied, 'S2 a snapshot holds what is applied')
  if (index <= log.snapshot.index) return
  log.snapshot = { index, term: termAt(log, index), configuration: configurationAt(log, index) }
}

function settle(raft: Raft): void {
  if (raft.leading !== null) advanceCommit(raft)
  if (raft.leading !== null) settleMembership(raft)
  if (raft.leading !== null) {
    followConfiguration(raft)
    settleLease(raft)
    settleLeaderReads(raft)
    sendAppends(raft)
    settleTransfer(raft)
  }
  settleTaken(raft)
  settleReads(raft)
}

function check(raft: Raft): void {
  assert(raft.commit <= lastIndex(raft.log) && raft.log.snapshot.index <= raft.commit, 'S2 snapshot <= commit <= last')
  assert(raft.applied <= raft.handed && raft.handed <= raft.commit, 'S2 applied <= handed <= commit')
  assert((raft.leading !== null) === (raft.role === 'leader'), 'S3 a leader leads')
}
