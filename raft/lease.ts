/**
 * Leases, which save reads their round of heartbeats; off unless `lease_ticks` is set. Thesis section 6.4.1.
 *
 * Y1 A lease runs from when a round was sent, not from when a quorum had answered it.
 * Y2 Who answered refuses votes for `election_ticks` from when it heard the heartbeat (E3), over changes of its term and restarts
 *    too, and does not forget its leader on being told to.
 * Y3 There is no lease in a term in which the leader told another to campaign, since such an election is not refused.
 */
import { quorumValue } from './quorum.ts'
import { configurationOf } from './state.ts'
import type { Raft } from './state.ts'

export function holdsLease(raft: Raft): boolean {
  const { lease } = raft.leading!
  return lease.now < lease.until && !lease.broken // Y3
}

/** Each heartbeat of the clock's is a round of its own, so that the lease goes on without reads. */
export function tickLease(raft: Raft): void {
  if (raft.options.lease_ticks === 0) return
  raft.leading!.lease.now++
  raft.leading!.round++
}

/** Heartbeats of the newest round are being sent. */
export function noteRound(raft: Raft): void {
  const { lease, round } = raft.leading!
  if (raft.options.lease_ticks > 0 && lease.rounds[lease.rounds.length - 1]?.round !== round) lease.rounds.push({ round, at: lease.now }) // Y1
}

/** Leader: a quorum may have answered rounds. */
export function settleLease(raft: Raft): void {
  const leading = raft.leading!
  const { lease } = leading
  if (lease.rounds.length === 0) return
  const own = raft.options.id
  const confirmed = quorumValue(configurationOf(raft), (id) => (id === own ? leading.round : (leading.peers.get(id)?.round ?? 0)))
  while (lease.rounds.length > 0 && lease.rounds[0]!.round <= confirmed) {
    lease.until = lease.rounds.shift()!.at + raft.options.lease_ticks
  }
}
