/** What a cluster needs of the stores and groups of this node. The engine of a member gives it. */
import type { FileServer } from '../../namespace/file-server.ts'
import type { Group } from '../../raft/index.ts'
import type { StoreRecord } from './records.ts'

/** One group, as its operator sees it. */
export type GroupControl = Pick<
  Group<never>,
  'id' | 'term' | 'leader' | 'isLeader' | 'isReady' | 'applied' | 'status' | 'change' | 'transfer'
>

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
  /** Begin to serve a store of the cluster. Known already: fine. Durable when it answers. @throws NineError `conflict`: another store has its number */
  adopt(row: StoreRow): Promise<void>
}
