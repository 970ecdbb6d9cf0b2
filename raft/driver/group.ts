/** What the owner of a group's state machine asks of it. `P` is what it wants back with an entry that it proposed. */
import type { Configuration, Entry, MembershipChange, NodeId, Role } from '../model.ts'
import type { GroupId } from './ports.ts'

export interface Group<P> {
  readonly id: GroupId
  readonly term: number
  /** Who leads, as far as this node knows. */
  readonly leader: NodeId | null
  readonly isLeader: boolean
  /** It leads and has applied the entry that opened its term, so all that was committed before. */
  readonly isReady: boolean
  /** The state machine was given everything up to here. */
  readonly applied: number
  /** False once it was removed, stopped or failed: everything is refused. */
  readonly isRunning: boolean
  status(): GroupStatus

  /**
   * Propose an entry. It is answered once: `machine.apply(entry, proposal)`, or `machine.ended(proposal, fate)`, never within this call. Those of
   * one turn are one write. `data` must not change any more.
   */
  propose(data: Uint8Array, proposal: P): void
  /**
   * Resolves when the state machine holds all that was acknowledged anywhere before this call; on any member. Rejects with `Refused`: `not_leader`
   * (no leader is known), `overloaded`, `lost` (ask again), `stopped`. It may wait as long as no quorum can be reached.
   */
  read(): Promise<void>
  /** Change the members; resolves when the new configuration is in force and applied here, no more joint. Rejects with `Refused`. */
  change(changes: readonly MembershipChange[]): Promise<void>
  /** Hand leadership to a voter; resolves when it is known to lead. Rejects with `Refused`; `lost`: it came to nothing. */
  transfer(to: NodeId): Promise<void>

  /** Entries `from` to `to` of the log, those of them that are still in memory, in order. Not to be changed. */
  entries(from: number, to: number): readonly Entry[]
  /** The state machine is not busy any more. */
  resume(): void
  /** Members are told now how far entries are committed, where that waits for a next append: somebody there waits for it. */
  tellCommit(): void
  /** A snapshot of the state machine as of `index`, or later, can be sent from now on: entries that no laggard is likely to need go. */
  checkpointed(index: number): void
  /** As checkpointed; entries up to `index` go also where a laggard needs them: it gets a snapshot. */
  forget(index: number): void
}

export interface GroupStatus {
  readonly group: GroupId
  readonly term: number
  readonly role: Role
  readonly leader: NodeId | null
  readonly configuration: Configuration
  readonly commit: number
  readonly applied: number
  /** Entries in memory: `first` to `last`, none when `last` is before `first`. */
  readonly first: number
  readonly last: number
  /** Index of the newest snapshot that could be sent. */
  readonly snapshot: number
  readonly isReady: boolean
  /** Its clock stands still, since nothing is under way. */
  readonly isResting: boolean
  /** What a leader knows of the others. */
  readonly peers: readonly PeerStatus[]
}

export interface PeerStatus {
  readonly id: NodeId
  /** Its log is durable and equal to the leader's up to here. */
  readonly match: number
  readonly state: 'probe' | 'replicate' | 'snapshot'
  /** It was heard from within the last election timeout. */
  readonly isActive: boolean
}
