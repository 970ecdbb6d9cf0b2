/**
 * The port between a store that is one replica of many and what replicates it. A store alone on its node has none of
 * this: its newest state is every acknowledged change, and its leases run for as long as it is open.
 *
 * What whoever replicates a store does besides:
 * - `store.applied(...)` for every entry, in order, as for a store alone;
 * - `store.leading(term)` when this node begins to lead (once the opening entry of its term was applied), and `store.leading(0)`
 *   when it no longer does;
 * - `store.renewAsLeader(context, lease)` when another replica asks;
 * - `store.replaced(...)` when a snapshot took the place of the state.
 */
import type { Context } from '../../namespace/context.ts'
import type { BlobRef, Command, Outcome } from '../model.ts'

export interface Replication {
  /**
   * A linearizable read may begin once this resolves: the newest state here then shows every change that was acknowledged
   * anywhere before the call. Ends with the context's deadline and signal.
   * @throws NineError `unavailable` (no leader, or it cannot be asked), `deadline`; nothing has happened
   */
  linearize(context: Context, op: string, path: string): Promise<void>

  /**
   * The term in which this node leads, once the opening entry of that term is applied here; 0 while it does not. A node that leads in
   * the same term before and after a `linearize` was confirmed as leader by a majority in between.
   */
  readonly term: number

  /**
   * Propose, in this term and from this node only: never sent to another leader, nor proposed in a later term.
   * @throws NineError `unavailable` with outcome `none` when this node does not lead in `term`, else as Proposer.propose
   */
  proposeAsLeader(term: number, context: Context, op: string, path: string, command: Command): Promise<Outcome>

  /**
   * Have the leader, which is another node, answer `renewAsLeader` of its store. Gives the lease's ttl in milliseconds.
   * @throws NineError what the leader answered (`not_found`, `denied`), `unavailable`, `deadline`
   */
  renewLease(context: Context, lease: string): Promise<number>

  /**
   * Before a command that names `blob` is proposed: its chunks, all durable and pinned on this node, are durable on a majority's disks when
   * this resolves, and none of them there was last put or touched (BlobStore.touch) before the call: so those that a node has already
   * are touched, not only looked for.
   * @param base a value that stands in the store and that the command is conditional on: what both have in common (`chunksBeyond` of
   *   blob/chunk-tree.ts leaves it out) is there already, and stays for as long as it stands
   * @throws NineError `unavailable` (no majority), `deadline`, `no_space`; nothing was proposed
   */
  replicateChunks(context: Context, op: string, path: string, blob: BlobRef, base: BlobRef | undefined): Promise<void>

  /** Whose majority `replicateChunks` counts now, as a text that is another when they are others. */
  voters(): string
}
