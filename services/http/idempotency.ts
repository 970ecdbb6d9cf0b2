/**
 * Idempotency-Key: the answers of changes, by principal and key, so that a replay gets the first answer.
 *
 * K1 A (principal, key) acts once. A replay, also one that comes while the first still runs, gets the first answer, a refusal
 *    included. The same key with another request is `invalid`.
 * K2 What may go away by itself (no room, too busy, too late) is not kept: the client is meant to try again, and what may have
 *    happened all the same is known by the store, which keeps the key as well.
 * K3 Keys and bytes are bounded; the key settled longest ago is forgotten first, and then only the store knows it.
 */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { NineError, isNineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Answer } from './answer.ts'
import type { HttpLimits } from './limits.ts'
import { invalid } from './params.ts'
import type { Query } from './params.ts'

/** What came of a request: its digest, known once its body is, and its answer. */
export interface Done {
  readonly digest: string
  readonly answer: Answer
}

interface Entry {
  readonly done: Promise<Done>
  bytes: number
}

/** What an entry takes in memory besides key and answer. */
const entry_bytes = 512

export class KeyTable {
  readonly #entries = new Map<string, Entry>()
  readonly #limits: HttpLimits
  #bytes = 0

  constructor(limits: HttpLimits) {
    this.#limits = limits
  }

  get bytes(): number {
    return this.#bytes
  }

  get size(): number {
    return this.#entries.size
  }

  /**
   * Act, or give what the first request under the key got. `act` reads the body and acts; `digest` only reads it.
   * @throws NineError `invalid` for another request under the key, `overloaded`, and as `act`
   */
  async run(principal: Principal, key: string, act: () => Promise<Done>, digest: () => Promise<string>): Promise<Answer> {
    const id = `${principal.name}\n${key}`
    const known = this.#entries.get(id)
    if (known !== undefined) {
      const other = await digest()
      return replay(known, other)
    }
    const done = act()
    const entry: Entry = { done, bytes: entry_bytes + id.length }
    this.#entries.set(id, entry)
    this.#bytes += entry.bytes
    this.#forget(entry)
    try {
      const { answer } = await done
      this.#grow(id, entry, answer.body?.length ?? 0)
      return answer
    } catch (error) {
      if (!isFinal(error)) this.#drop(id, entry) // K2
      throw error instanceof Refused ? error.error : error
    }
  }

  #grow(id: string, entry: Entry, bytes: number): void {
    if (this.#entries.get(id) !== entry) return
    entry.bytes += bytes
    this.#bytes += bytes
    this.#forget(entry)
  }

  #drop(id: string, entry: Entry): void {
    if (this.#entries.get(id) !== entry) return
    this.#entries.delete(id)
    this.#bytes -= entry.bytes
  }

  /** K3 */
  #forget(except: Entry): void {
    const { idempotency_keys_max: keys_max, idempotency_bytes_max: bytes_max } = this.#limits
    if (this.#entries.size <= keys_max && this.#bytes <= bytes_max) return
    for (const [id, entry] of this.#entries) {
      if (entry !== except) this.#drop(id, entry)
      if (this.#entries.size <= keys_max && this.#bytes <= bytes_max) return
    }
  }
}

/** A failure of a request whose digest is known: one to be told again to whoever asks the same. */
export class Refused extends Error {
  readonly digest: string
  readonly error: unknown

  constructor(digest: string, error: unknown) {
    super('refused')
    this.digest = digest
    this.error = error
  }
}

async function replay(entry: Entry, digest: string): Promise<Answer> {
  let first: Done
  try {
    first = await entry.done
  } catch (error) {
    if (!(error instanceof Refused)) {
      const message = 'the first request under this Idempotency-Key did not arrive whole; send it again'
      throw new NineError({ kind: 'unavailable', op: 'http.request', message, cause: error })
    }
    checkSame(error.digest, digest)
    throw error.error
  }
  checkSame(first.digest, digest)
  return first.answer
}

function checkSame(first: string, second: string): void {
  if (first !== second) throw invalid('this Idempotency-Key was used for another request')
}

function isFinal(error: unknown): boolean {
  return error instanceof Refused && isNineError(error.error) && !error.error.retryable && error.error.outcome === 'none'
}

/** The key of a request. @throws NineError `invalid` */
export function keyOf(request: IncomingMessage): string | undefined {
  const key = request.headers['idempotency-key']
  if (key === undefined) return undefined
  if (typeof key !== 'string' || key === '' || Buffer.byteLength(key) > limits.idempotency_key_bytes_max) {
    throw invalid(`an Idempotency-Key is 1 to ${limits.idempotency_key_bytes_max} bytes`)
  }
  return key
}

/** What makes a request the same as another. @param body SHA-256 of the body */
export function digestOf(request: IncomingMessage, path: string, query: Query, body: Uint8Array): string {
  const { method, headers } = request
  const said = [method, path, query.sorted(), headers['if-match'], headers['if-none-match'], headers['content-type']]
  return createHash('sha256').update(JSON.stringify(said)).update(body).digest('base64url')
}

export function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest()
}
