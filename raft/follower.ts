/**
 * A follower's side of log replication and of snapshots. Thesis sections 3.5 (consistency check), 5.3 (InstallSnapshot).
 *
 * F1 An append is taken only where the entry before it is the leader's.
 * F2 Only entries that conflict are cut, and never a committed one.
 * F3 What is promised (`accepted`) is promised when it is durable.
 * F4 The commit index goes no further than what this append or heartbeat showed to be the leader's.
 */
import { assert } from './assert.ts'
import { append, currentConfigurationIndex, lastAtOrBelowTerm, lastIndex, makeLog, termAt, truncateFrom } from './log.ts'
import type { Append, Commit, Heartbeat, Install } from './model.ts'
import { forgetDurable, persistInstall, sendAfterHardState, sendAfterLog } from './outbox.ts'
import { becomeFollower } from './state.ts'
import type { Raft } from './state.ts'

/** A message of this term's leader came: follow it. */
export function hearLeader(raft: Raft, leader: string): void {
  assert(raft.role !== 'leader', 'election safety: one leader a term')
  if (raft.role !== 'follower' || raft.leader !== leader) {
    assert(raft.leader === null || raft.leader === leader, 'election safety: one leader a term')
    becomeFollower(raft, raft.term, leader)
  }
  raft.election.elapsed = 0
  raft.election.loyal = raft.options.election_ticks
  raft.election.refused = null
}

export function handleAppend(raft: Raft, message: Append): void {
  const { log } = raft
  const { prevIndex, entries } = message
  const from = raft.options.id
  // Before the commit index the logs agree (leader completeness), and our part may be compacted.
  if (prevIndex > raft.commit && termAt(log, prevIndex) !== message.prevTerm) {
    const hintIndex = lastAtOrBelowTerm(log, Math.min(prevIndex, lastIndex(log)), message.prevTerm)
    const hintTerm = termAt(log, hintIndex)
    sendAfterLog(raft, { kind: 'rejected', from, to: message.from, term: raft.term, prevIndex, hintIndex, hintTerm }) // F1
    return
  }
  let at = 0
  while (at < entries.length && prevIndex + 1 + at <= raft.commit) at++
  while (at < entries.length && termAt(log, prevIndex + 1 + at) === entries[at]!.term) at++
  if (at < entries.length) {
    const first = prevIndex + 1 + at
    if (first <= lastIndex(log)) {
      assert(first > raft.commit, 'F2 a committed entry is never cut')
      forgetDurable(raft, first)
      truncateFrom(log, first)
    }
    for (; at < entries.length; at++) append(log, entries[at]!)
  }
  const match = prevIndex + entries.length
  raft.commit = Math.max(raft.commit, Math.min(message.commit, match)) // F4
  sendAfterLog(raft, { kind: 'accepted', from, to: message.from, term: raft.term, match }) // F3
}

export function handleHeartbeat(raft: Raft, message: Heartbeat): void {
  learnCommit(raft, message)
  sendAfterHardState(raft, { kind: 'heartbeat_reply', from: raft.options.id, to: message.from, term: raft.term, round: message.round })
}

/** The leader says no more than it knows this node to have. */
export function learnCommit(raft: Raft, message: Heartbeat | Commit): void {
  assert(message.commit <= lastIndex(raft.log), 'F4 a leader tells of commits that the follower has')
  raft.commit = Math.max(raft.commit, message.commit)
}

export function handleInstall(raft: Raft, message: Install): void {
  const { meta } = message
  const reply = { kind: 'accepted', from: raft.options.id, to: message.from, term: raft.term } as const
  if (meta.index <= raft.commit) return sendAfterLog(raft, { ...reply, match: raft.commit })
  if (termAt(raft.log, meta.index) === meta.term) {
    raft.commit = meta.index // the entries are here: no need of the snapshot (section 5.3)
  } else {
    raft.log = makeLog(meta)
    raft.commit = meta.index
    persistInstall(raft, meta)
    assert(currentConfigurationIndex(raft.log) === meta.index, 'L2 a snapshot brings its configuration')
  }
  sendAfterLog(raft, { ...reply, match: meta.index }) // F3
}
