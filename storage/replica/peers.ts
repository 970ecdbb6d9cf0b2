/** What a replica asks of the other nodes, beside what Raft sends. services/peer implements it. */
import type { NodeId, Transport } from '../../raft/index.ts'
import type { ChunkHash } from '../blob/store.ts'

export interface RequestOptions {
  /** Monotonic milliseconds. */
  readonly deadline?: number | undefined
  readonly signal?: AbortSignal | undefined
}

export interface Peers extends Transport {
  /** Whether what is sent to it would arrive, and be answered, as far as this node knows. */
  isReachable(to: NodeId): boolean
  /**
   * Ask another node.
   * @throws NineError as its handler threw it; when there was no answer `unavailable`, `deadline` or `overloaded`: outcome `none` if the
   *   request did not leave, else `unknown`
   */
  request(to: NodeId, group: number, verb: string, body: Uint8Array, options?: RequestOptions): Promise<Uint8Array>
  /** Bring chunks of this node's disk to another's; durable there when it resolves. @throws NineError */
  pushChunks(to: NodeId, chunks: readonly { readonly hash: ChunkHash }[], options?: RequestOptions): Promise<void>
  /** A chunk, verified, from the first of these nodes that has it. @throws NineError `not_found` when all were asked and none has it, else `unavailable` */
  fetchChunk(hash: ChunkHash, members: readonly NodeId[], options?: RequestOptions): Promise<Uint8Array>
}
