/**
 * Exactly once, in memory: the answers of mutations by client and number, so that a retry gets the first answer.
 *
 * O1 A (client, seq) acts once. A retry, also one that comes while the first still runs, gets the answer of the first,
 *    errors included; a failure that changed nothing and may go away by itself is not kept, so that retrying is a retry.
 * O2 The same (client, seq) with another digest is another request: `invalid`. Each principal has clients of its own: nobody
 *    is told another's answer.
 * O3 Answers up to the client's `settled` are dropped. A number below it, and a client that was forgotten, is refused with
 *    outcome `unknown`: never a second execution.
 * O4 Clients, answers of a client and answers over all are bounded; the client idle longest is forgotten.
 */
import type { Context } from './context.ts'
import { NineError, isNineError } from './errors.ts'
import { limits } from './limits.ts'
import type { Micros } from './stat.ts'

interface Kept {
  readonly digest: string | undefined
  /** The answer, or the promise of it while it runs. */
  answer: unknown
  error: unknown
  isFailed: boolean
}

interface Client {
  readonly id: string
  readonly born: Micros
  settled: number
  running: number
  readonly answers: Map<number, Kept>
}

export class OnceTable {
  /** Idle longest first. */
  readonly #clients = new Map<string, Client>()
  #answers = 0
  /** Latest birth among the clients that were forgotten. */
  #forgottenBorn = -1

  /** Act now, or give what the first try gave. `act` may be synchronous; then so is the answer. Rethrows its errors. */
  run<T>(context: Context, op: string, path: string, act: () => T): T {
    const { client: identity, seq } = context
    if (identity === undefined || seq === undefined) return act()
    const client = this.#client(context, op, path)
    const known = client.answers.get(seq)
    if (known !== undefined) {
      if (known.digest !== context.digest) {
        throw new NineError({ kind: 'invalid', op, path, message: `request ${seq} of this client was another one` }) // O2
      }
      if (known.isFailed) throw known.error
      return known.answer as T // O1
    }
    if (seq <= client.settled) {
      const message = `the answer of request ${seq} is no longer kept: the client has settled ${client.settled}`
      throw new NineError({ kind: 'compacted', op, path, message, outcome: 'unknown' }) // O3
    }
    if (client.answers.size >= limits.client_results_max) {
      const message = `a client has at most ${limits.client_results_max} answers it has not settled`
      throw new NineError({ kind: 'overloaded', op, path, message }) // O4
    }
    return this.#act(client, seq, context.digest, act)
  }

  #act<T>(client: Client, seq: number, digest: string | undefined, act: () => T): T {
    const kept: Kept = { digest, answer: undefined, error: undefined, isFailed: false }
    client.answers.set(seq, kept)
    this.#answers++
    const fail = (error: unknown): void => {
      kept.isFailed = true
      kept.answer = undefined
      kept.error = error
      const isTransient = isNineError(error) && error.retryable && error.outcome === 'none'
      if (isTransient && client.answers.delete(seq)) this.#answers--
    }
    try {
      const answer = act()
      kept.answer = answer
      if (answer instanceof Promise) {
        client.running++
        const settle = (): void => void client.running--
        answer.then(settle, (error: unknown) => {
          settle()
          fail(error)
        })
      }
      return answer
    } catch (error) {
      fail(error)
      throw error
    }
  }

  #client(context: Context, op: string, path: string): Client {
    const identity = context.client!
    const seq = context.seq!
    if (!Number.isSafeInteger(seq) || seq < 1) {
      throw new NineError({ kind: 'invalid', op, path, message: 'the number of a mutation is a whole number from 1' })
    }
    const id = `${context.principal.name}\n${identity.id}` // O2
    let client = this.#clients.get(id)
    if (client === undefined) {
      if (identity.born <= this.#forgottenBorn) {
        const message = 'this client may have been forgotten: whether its request was done before is not known'
        throw new NineError({ kind: 'compacted', op, path, message, outcome: 'unknown' }) // O3
      }
      client = { id, born: identity.born, settled: 0, running: 0, answers: new Map() }
    } else {
      this.#clients.delete(id)
    }
    this.#clients.set(id, client)
    this.#settle(client, identity.settled)
    if (this.#clients.size > limits.clients_max || this.#answers >= limits.once_answers_max) this.#forgetIdle(client)
    return client
  }

  #settle(client: Client, settled: number): void {
    if (!(settled > client.settled)) return
    const { answers } = client
    if (settled - client.settled <= answers.size) {
      for (let seq = client.settled + 1; seq <= settled; seq++) if (answers.delete(seq)) this.#answers--
    } else {
      for (const seq of answers.keys()) if (seq <= settled && answers.delete(seq)) this.#answers--
    }
    client.settled = settled
  }

  /** O4 */
  #forgetIdle(except: Client): void {
    for (const client of this.#clients.values()) {
      if (client === except || client.running > 0) continue
      this.#clients.delete(client.id)
      this.#answers -= client.answers.size
      // A client without a birth (an HTTP key) is only ever known by its id: forgotten, it is a new one.
      if (client.born !== Number.MAX_SAFE_INTEGER) this.#forgottenBorn = Math.max(this.#forgottenBorn, client.born)
      return
    }
  }
}
