/**
 * Bringing the chunks of a large value to a majority's disks before the command that names it is proposed.
 *
 * D1 Resolves when a majority of the voters (of both halves of a joint configuration) has every chunk durably; this node has.
 * D2 Nodes that are slow or away go on receiving, or are given up, without anybody waiting for them.
 */
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import type { Configuration } from '../../raft/index.ts'
import { chunksBeyond, type ChunkSource } from '../blob/chunk-tree.ts'
import type { ChunkHash } from '../blob/store.ts'
import type { BlobRef } from '../model.ts'
import type { Peers, RequestOptions } from './peers.ts'
import { deadlineOf } from './pending.ts'

export interface SpreadParts {
  readonly self: string
  readonly peers: Peers
  readonly blobs: ChunkSource
}

/**
 * @param base what `blob` has in common with it is on a majority's disks already
 * @throws NineError `unavailable`, `deadline`, `no_space`: as most of the nodes that failed did
 */
export async function spreadChunks(
  { self, peers, blobs }: SpreadParts,
  configuration: Configuration,
  blob: BlobRef,
  base: BlobRef | undefined,
  context: Context,
  now: number,
): Promise<void> {
  const others = [...new Set([...configuration.voters, ...configuration.outgoing])].filter((id) => id !== self)
  if (others.length === 0) return
  // A chunk that stands at several places is pushed once.
  const hashes = new Set<ChunkHash>()
  for await (const { hash } of chunksBeyond(blobs, blob, base)) hashes.add(hash)
  if (hashes.size === 0) return
  const deadline = deadlineOf(context.deadline, now)
  await majority(configuration, self, others, (to) => push(peers, to, [...hashes], { deadline, signal: context.signal }))
  failpoint('chunks.spread')
}

async function push(peers: Peers, to: string, hashes: readonly ChunkHash[], options: RequestOptions): Promise<void> {
  for (let from = 0; from < hashes.length; from += limits.replica_push_chunks_max) {
    const chunks = hashes.slice(from, from + limits.replica_push_chunks_max).map((hash) => ({ hash }))
    await peers.pushChunks(to, chunks, options)
  }
}

/** D1, D2 */
function majority(
  configuration: Configuration,
  self: string,
  others: readonly string[],
  act: (to: string) => Promise<void>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = new Set([self])
    const failures: unknown[] = []
    const look = (): void => {
      if (hasMajority(configuration.voters, done) && hasMajority(configuration.outgoing, done)) resolve()
      else if (done.size + failures.length > others.length) reject(failureOf(failures))
    }
    for (const to of others) {
      act(to).then(
        () => {
          done.add(to)
          look()
        },
        (error: unknown) => {
          failures.push(error)
          look()
        },
      )
    }
    look()
  })
}

function hasMajority(ids: readonly string[], done: ReadonlySet<string>): boolean {
  return ids.length === 0 || ids.filter((id) => done.has(id)).length > ids.length / 2
}

function failureOf(failures: readonly unknown[]): NineError {
  const cause = failures.find((failure) => isNineError(failure))
  const message = `too few nodes have the chunks of this value: ${cause?.message ?? String(failures[0])}`
  return new NineError({ kind: cause?.kind ?? 'unavailable', op: 'replica.spread', message, outcome: 'none', cause })
}
