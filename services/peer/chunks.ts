/**
 * Chunks of large values between members, as requests on Bulk: `chunk.missing` (hashes → those that are not there; the others count
 * as put now), `chunk.put` (hash and
 * bytes → nothing, when durable), `chunk.get` (hash → bytes).
 *
 * Bytes are checked against their hash where they arrive, on either side. As many requests are under way as limits.peer_bulk_window.
 */
import { createHash } from 'node:crypto'
import { isNineError, NineError, textOf } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { ChunkHash } from '../../storage/blob/store.ts'
import type { NodeId } from '../../raft/model.ts'
import type { Chunks, PushedChunk, RequestOptions } from './ports.ts'

/** Asks a member on its Bulk connection. */
export type Ask = (to: NodeId, verb: string, body: Uint8Array) => Promise<Uint8Array>

const hash_bytes = 32
/** Hashes of one `chunk.missing`. */
const asked_max = 4096

export async function pushChunks(ask: Ask, own: Chunks, to: NodeId, chunks: readonly PushedChunk[], window: number): Promise<void> {
  for (let i = 0; i < chunks.length; i += asked_max) {
    const part = chunks.slice(i, i + asked_max)
    const missing = await ask(to, 'chunk.missing', Buffer.concat(part.map(({ hash }) => Buffer.from(hash, 'hex'))))
    const wanted = new Set(hashesOf(missing))
    const left = part.filter(({ hash }) => wanted.delete(hash))
    const push = async (): Promise<void> => {
      for (let chunk = left.pop(); chunk !== undefined; chunk = left.pop()) {
        const bytes = chunk.bytes ?? (await own.get(chunk.hash))
        await ask(to, 'chunk.put', Buffer.concat([Buffer.from(chunk.hash, 'hex'), bytes]))
      }
    }
    const results = await Promise.allSettled(Array.from({ length: Math.min(window, left.length) }, push))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }
}

/** @throws NineError `not_found` when all were asked and none has it, `unavailable` when none gives it */
export async function fetchChunk(ask: Ask, hash: ChunkHash, members: readonly NodeId[], options: RequestOptions): Promise<Uint8Array> {
  const failures: string[] = []
  let isNowhere = members.length > 0
  for (const member of members) {
    try {
      const bytes = await ask(member, 'chunk.get', Buffer.from(hash, 'hex'))
      if (hashOf(bytes) === hash) return bytes
      failures.push(`${member}: what it sent is not chunk ${hash}`)
    } catch (error) {
      if (options.signal?.aborted === true) throw error
      // As its disk says of what it lacks, or has damaged.
      isNowhere &&= isNineError(error, 'corrupt')
      failures.push(`${member}: ${textOf(error)}`)
    }
  }
  const message = `no peer gives chunk ${hash}: ${failures.join('; ') || 'there is none'}`
  throw new NineError({ kind: isNowhere ? 'not_found' : 'unavailable', op: 'peer.chunk', message })
}

/** @throws NineError `invalid`, and as Chunks */
export async function serveChunk(chunks: Chunks, verb: string, body: Buffer): Promise<Uint8Array> {
  if (verb === 'chunk.missing') {
    const missing: Buffer[] = []
    for (const hash of hashesOf(body)) if (!(await chunks.touch(hash))) missing.push(Buffer.from(hash, 'hex'))
    return Buffer.concat(missing)
  }
  const hash = hashesOf(body.subarray(0, hash_bytes))[0]
  if (hash === undefined) throw invalid('a request names no chunk')
  if (verb === 'chunk.get') return chunks.get(hash)
  const bytes = body.subarray(hash_bytes)
  if (bytes.length === 0 || bytes.length > limits.chunk_bytes) throw invalid(`a chunk has ${bytes.length} bytes`)
  if (hashOf(bytes) !== hash) throw invalid(`the bytes sent are not chunk ${hash}`)
  await chunks.put(bytes, hash)
  return nothing
}

const nothing = new Uint8Array(0)

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** @throws NineError `invalid` */
function hashesOf(bytes: Uint8Array): ChunkHash[] {
  if (bytes.length % hash_bytes !== 0 || bytes.length > asked_max * hash_bytes) throw invalid(`${bytes.length} bytes are no hashes`)
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex')
  const hashes: ChunkHash[] = []
  for (let at = 0; at < text.length; at += 2 * hash_bytes) hashes.push(text.slice(at, at + 2 * hash_bytes) as ChunkHash)
  return hashes
}

function invalid(message: string): NineError {
  return new NineError({ kind: 'invalid', op: 'peer.chunk', message })
}
