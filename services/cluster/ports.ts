/** What a cluster needs of the stores and groups of this node. The engine of a member gives it. */
import type { FileServer } from '../../namespace/file-server.ts'
import type { Group } from '../../raft/index.ts'
import type { StoreRecord } from './records.ts'

/** One group, as its operator sees it. */
export type GroupControl = Pick<
  Group<never>,
  'id' | 'term' | 'leader' | 'isLeader' | 'isReady' | 'applied' | 'status' | 'change' | 'transfer'
>

/** How a store stands with its leader, as far as this node knows. */
export interface Standing {
  /** Member id. */
  readonly leader: string | null
  /** The same, where this node reaches it. */
  readonly leaderAtHand: string | null
  /** It has had none that this node reaches for limits.raft_leaderless_ms_max. */
  readonly isLeaderless: boolean
  /** Why it has none, in words. */
  leaderlessness(): string
  /** How many of its members this node reaches, and which not, in words. */
  reach(): string
}

/** A store as all nodes of the cluster know it; `voters`: the members that its group began with. */
export interface StoreRow extends StoreRecord {
  readonly name: string
}

/** The stores of this node, each the replica of a group. */
export interface ClusterStores {
  names(): Iterable<string>
  hasStore(name: string): boolean
  /** @throws NineError `not_found` */
  store(name: string): FileServer
  /** @throws NineError `not_found` */
  group(name: string): GroupControl
  /** @throws NineError `not_found` */
  standing(name: string): Standing
  /** How far a store is that this node is given by others, in words; undefined where nothing of it is on its way. @throws NineError `not_found` */
  filling(name: string): string | undefined
  /** Begin to serve a store of the cluster. Known already: fine. Durable when it answers. @throws NineError `conflict`: another store has its number */
  adopt(row: StoreRow): Promise<void>
}
