/**
 * Linearizable reads without writing to the log. Thesis section 6.4 (read index), asked for by any member.
 *
 * X1 A leader gives a read index only once it committed an entry of its own term: before, its commit index may be behind.
 * X2 ... and only after a quorum confirmed, in answer to a heartbeat sent after the read began, that it still leads; or under a lease
 *    (lease.ts).
 * X3 A read is handed out when the state machine reached its index.
 * X4 An answer counts only for the read that asked for it: reads are numbered within a life of the node, and lives by `incarnation`.
 */
import { send, sendAfterHardState } from './outbox.ts'
import type { ReadAsk, ReadReply } from './model.ts'
import { holdsLease } from './lease.ts'
import { quorumValue } from './quorum.ts'
import { sendHeartbeats } from './replication.ts'
import { configurationOf } from './state.ts'
import type { LeaderRead, Raft } from './state.ts'

export function read(raft: Raft, ref: number): void {
  const { reads, options, leading } = raft
  const refused =
    raft.leader === null ? 'not_leader' : reads.waiting.length + reads.confirmed.length >= options.reads_pending_max ? 'overloaded' : null
  if (refused !== null) {
    raft.out.answers.push({ ref, taken: 0, first: 0, term: raft.term, refused })
    return
  }
  const number = ++reads.last
  reads.waiting.push({ read: number, ref, elapsed: 0 })
  const ask = { from: options.id, to: raft.leader!, term: raft.term, incarnation: options.incarnation, read: number }
  if (leading === null) sendAfterHardState(raft, { kind: 'read', ...ask })
  else register(raft, { kind: 'read', ...ask })
}

export function handleRead(raft: Raft, message: ReadAsk): void {
  // Past the bound it is dropped: who asked gives it up in time.
  if (raft.leading !== null && raft.leading.reads.length < 4 * raft.options.reads_pending_max) register(raft, message)
}

export function handleReadReply(raft: Raft, message: ReadReply): void {
  if (message.incarnation === raft.options.incarnation) confirm(raft, message.read, message.index) // X4
}

/** Waiting for an answer that does not come ends like a change of leader. */
export function tickReads(raft: Raft): void {
  const { waiting } = raft.reads
  if (raft.leading !== null || waiting.length === 0) return
  for (const read of waiting) read.elapsed++
  while (waiting.length > 0 && waiting[0]!.elapsed > raft.options.election_ticks) raft.out.failedReads.push(waiting.shift()!.ref)
}

/** Leader: begin a round for the reads that came, and answer those whose round a quorum confirmed. */
export function settleLeaderReads(raft: Raft): void {
  const leading = raft.leading!
  if (leading.reads.length === 0 || raft.commit < leading.opening) return // X1
  if (holdsLease(raft)) {
    for (const read of leading.reads) answer(raft, read)
    leading.reads = []
    leading.roundWanted = false
    return
  }
  if (leading.roundWanted) {
    leading.roundWanted = false
    leading.round++
    for (let at = leading.reads.length - 1; at >= 0 && leading.reads[at]!.round === 0; at--) {
      leading.reads[at]!.round = leading.round
    }
    sendHeartbeats(raft)
  }
  const confirmed = quorumValue(configurationOf(raft), (id) =>
    id === raft.options.id ? leading.round : (leading.peers.get(id)?.round ?? 0),
  )
  let done = 0
  for (; done < leading.reads.length && leading.reads[done]!.round <= confirmed; done++) answer(raft, leading.reads[done]!) // X2
  if (done > 0) leading.reads.splice(0, done)
}

/** Hand out the reads whose index is applied. */
export function settleReads(raft: Raft): void {
  const { confirmed } = raft.reads
  if (confirmed.length === 0) return
  raft.reads.confirmed = confirmed.filter((read) => {
    if (read.index > raft.applied) return true
    raft.out.reads.push(read) // X3
    return false
  })
}

function answer(raft: Raft, { from, incarnation, read, index: asked }: LeaderRead): void {
  const index = Math.max(asked, raft.leading!.opening) // what came before the term's first commit takes that (X1)
  if (from === raft.options.id) confirm(raft, read, index)
  else send(raft, { kind: 'read_reply', from: raft.options.id, to: from, term: raft.term, incarnation, read, index })
}

function register(raft: Raft, ask: ReadAsk): void {
  const leading = raft.leading!
  const index = raft.commit < leading.opening ? -1 : raft.commit
  leading.reads.push({ from: ask.from, incarnation: ask.incarnation, read: ask.read, index, round: 0 })
  leading.roundWanted = true
}

function confirm(raft: Raft, number: number, index: number): void {
  const { waiting, confirmed } = raft.reads
  const at = waiting.findIndex((read) => read.read === number)
  if (at < 0) return
  confirmed.push({ ref: waiting[at]!.ref, index })
  waiting.splice(at, 1)
}
