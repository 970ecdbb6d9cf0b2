/**
 * The leader's side of log replication. Thesis sections 3.5 (log replication), 3.6.2 (committing entries of earlier terms), 10.2.1
 * (writing to the leader's disk in parallel) and 10.2.2 (batching and pipelining).
 *
 * R1 An entry is committed by counting only if it is of the leader's term; what is before it is committed with it.
 * R2 The leader counts itself only for what is durable on its own disk, and only while it is a voter.
 * R3 `commit` never falls.
 */
import { assert } from './assert.ts'
import { bytesOf, lastAtOrBelowTerm, lastIndex, lastWithin, range, termAt } from './log.ts'
import type { Accepted, HeartbeatReply, NodeId, Rejected } from './model.ts'
import { send } from './outbox.ts'
import { accepted, maySend, roomFor, sent, toProbe, toReplicate, toSnapshot } from './progress.ts'
import type { Progress } from './progress.ts'
import { quorumValue } from './quorum.ts'
import { noteRound } from './lease.ts'
import { releaseUncommitted } from './proposals.ts'
import { configurationOf } from './state.ts'
import type { Raft } from './state.ts'

/** Move the commit index to what a quorum has. */
export function advanceCommit(raft: Raft): void {
  const { leading, log } = raft
  const reached = quorumValue(configurationOf(raft), (id) =>
    id === raft.options.id ? raft.out.durable : (leading!.peers.get(id)?.match ?? 0),
  ) // R2
  if (reached <= raft.commit || termAt(log, reached) !== raft.term) return // R1 R3
  releaseUncommitted(raft, reached)
  raft.commit = reached
}

/** Send each peer what it lacks and has room for. */
export function sendAppends(raft: Raft): void {
  for (const [to, peer] of raft.leading!.peers) {
    while (maySend(peer, raft.options) && sendAppend(raft, to, peer));
    const commit = Math.min(raft.commit, peer.match)
    if (peer.state === 'replicate' && peer.toldCommit < commit) {
      peer.toldCommit = commit
      send(raft, { kind: 'commit', from: raft.options.id, to, term: raft.term, commit })
    }
  }
}

/** Ask all peers to confirm that this is still the leader, with the newest round. */
export function sendHeartbeats(raft: Raft): void {
  const leading = raft.leading!
  leading.heartbeatElapsed = 0
  noteRound(raft)
  for (const [to, peer] of leading.peers) {
    const commit = Math.min(raft.commit, peer.match)
    send(raft, { kind: 'heartbeat', from: raft.options.id, to, term: raft.term, commit, round: leading.round })
  }
}

export function handleAccepted(raft: Raft, message: Accepted): void {
  const peer = raft.leading!.peers.get(message.from)
  if (peer === undefined) return
  assert(message.match <= lastIndex(raft.log), 'a follower has no more of this term than its leader')
  peer.active = true
  accepted(peer, message.match)
  if (peer.state === 'probe' && message.match >= peer.next - 1) toReplicate(peer)
  else if (peer.state === 'snapshot' && peer.match >= raft.log.base.index) toReplicate(peer)
}

export function handleRejected(raft: Raft, message: Rejected): void {
  const peer = raft.leading!.peers.get(message.from)
  if (peer === undefined) return
  peer.active = true
  if (message.prevIndex <= peer.match) return // overtaken by an answer that knows better
  if (peer.state === 'replicate') toProbe(peer, peer.match + 1)
  else if (peer.state === 'probe' && message.prevIndex === peer.next - 1) {
    const agree = lastAtOrBelowTerm(raft.log, message.hintIndex, message.hintTerm)
    toProbe(peer, Math.min(message.prevIndex, agree + 1)) // a whole term is skipped at a time (section 3.5)
  }
}

export function handleHeartbeatReply(raft: Raft, message: HeartbeatReply): void {
  const peer = raft.leading!.peers.get(message.from)
  if (peer === undefined) return
  peer.active = true
  peer.round = Math.max(peer.round, message.round)
  if (peer.match >= lastIndex(raft.log)) return
  // An append or its answer may be lost: ask again, or ask where the window ends, whether or not there is room in it. When the
  // window's end is compacted meanwhile, there is nothing to ask with.
  if (peer.state === 'probe') peer.probing = false
  else if (peer.state === 'replicate' && peer.next - 1 < raft.log.base.index) toProbe(peer, peer.match + 1)
  else if (peer.state === 'replicate') sendEmpty(raft, message.from, peer)
}

/** How sending a snapshot ended (section 5.3). */
export function snapshotSent(raft: Raft, to: NodeId, ok: boolean): void {
  const peer = raft.leading?.peers.get(to)
  if (peer?.state !== 'snapshot') return
  toProbe(peer, ok ? peer.snapshotIndex + 1 : peer.match + 1)
  peer.probing = !ok // do not begin again before it answers a heartbeat
}

/** False when nothing more is to be sent. */
function sendAppend(raft: Raft, to: NodeId, peer: Progress): boolean {
  const { log, options } = raft
  const last = lastIndex(log)
  if (peer.next > last && peer.state !== 'probe') return false
  const prevIndex = peer.next - 1
  if (prevIndex < log.base.index) {
    toSnapshot(peer, log.snapshot.index)
    send(raft, { kind: 'install', from: options.id, to, term: raft.term, meta: log.snapshot })
    return false
  }
  if (peer.next > last) {
    sendEmpty(raft, to, peer)
    peer.probing = true
    return false
  }
  const end = lastWithin(log, peer.next, roomFor(peer, options))
  const entries = range(log, peer.next, end)
  let bytes = 0
  for (const entry of entries) bytes += bytesOf(entry)
  const prevTerm = termAt(log, prevIndex)
  send(raft, { kind: 'append', from: options.id, to, term: raft.term, prevIndex, prevTerm, entries, commit: raft.commit })
  peer.toldCommit = Math.max(peer.toldCommit, Math.min(raft.commit, end))
  sent(peer, end, bytes)
  return true
}

function sendEmpty(raft: Raft, to: NodeId, peer: Progress): void {
  const prevIndex = peer.next - 1
  const prevTerm = termAt(raft.log, prevIndex)
  send(raft, { kind: 'append', from: raft.options.id, to, term: raft.term, prevIndex, prevTerm, entries: [], commit: raft.commit })
}
