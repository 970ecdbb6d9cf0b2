/**
 * Handing leadership to a named voter. Thesis section 3.10.
 *
 * T1 While a transfer is under way no proposal is taken, so that the target can catch up.
 * T2 The target is told to campaign only when its log is as long as the leader's.
 * T3 A transfer that is not over within `election_ticks` is given up, and proposals are taken again.
 */
import { lastIndex } from './log.ts'
import type { NodeId, Refusal } from './model.ts'
import { send } from './outbox.ts'
import { campaign } from './election.ts'
import { configurationOf, maySeekOffice } from './state.ts'
import type { Raft } from './state.ts'

export function transfer(raft: Raft, ref: number, to: NodeId): void {
  const refused = refusalOf(raft, to)
  if (refused === null) raft.leading!.transfer = { to, elapsed: 0, sent: false } // T1
  raft.out.answers.push({ ref, taken: 0, first: 0, term: raft.term, refused })
}

export function tickTransfer(raft: Raft): void {
  const { transfer } = raft.leading!
  if (transfer !== null && ++transfer.elapsed >= raft.options.election_ticks) raft.leading!.transfer = null // T3
}

/** Leader: tell the target to campaign as soon as it has everything. */
export function settleTransfer(raft: Raft): void {
  const leading = raft.leading!
  if (leading.transfer === null || leading.transfer.sent) return
  const peer = leading.peers.get(leading.transfer.to)
  if (peer === undefined) {
    leading.transfer = null // it was removed meanwhile
  } else if (peer.match === lastIndex(raft.log)) {
    leading.transfer.sent = true // T2
    leading.lease.broken = true
    send(raft, { kind: 'timeout_now', from: raft.options.id, to: leading.transfer.to, term: raft.term })
  }
}

export function handleTimeoutNow(raft: Raft): void {
  if (raft.role !== 'leader' && maySeekOffice(raft)) campaign(raft, true)
}

function refusalOf(raft: Raft, to: NodeId): Refusal | null {
  if (raft.leading === null) return 'not_leader'
  if (raft.leading.transfer !== null) return 'transferring'
  return to !== raft.options.id && configurationOf(raft).voters.includes(to) ? null : 'invalid'
}
