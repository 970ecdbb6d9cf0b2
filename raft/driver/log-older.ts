/**
 * The fault of a member whose disk was put back to an earlier time: its log lacks what it acknowledged. Its votes and acknowledgements may
 * have made what it has forgotten, so it must not go on.
 *
 * A leader tells a member of commits only up to what that member acknowledged to it in this term, which was on the member's disk then (F3, F4
 * of ../follower.ts). No cut or snapshot takes it from the log in that term. So a member whose disk kept what it was given never hears of
 * more than it has, however late a message is. One message alone is dropped all the same (../plausible.ts), since a defect elsewhere may have
 * made it; this is told of when nothing else has come of a leader's heartbeats for an election timeout.
 */
import type { NodeId } from '../model.ts'

export class LogOlder extends Error {
  override readonly name = 'LogOlder'
  readonly leader: NodeId
  /** Index of the last entry of the log. */
  readonly last: number
  /** Index up to which the leader had it acknowledged. */
  readonly acknowledged: number

  constructor(leader: NodeId, last: number, acknowledged: number) {
    super(`the log ends at ${last}, and ${leader} was told that it has ${acknowledged}`)
    this.leader = leader
    this.last = last
    this.acknowledged = acknowledged
  }
}
