/**
 * A 9P server that is reached again after its connection was lost.
 *
 * L1 A connection is made by the next operation that needs one; those that come meanwhile wait for it, each within its own deadline.
 * L2 After a failed attempt, operations fail at once with why, until its time is over; that time doubles up to a bound.
 * L3 Nothing that was asked over a lost connection is asked again.
 */
import type { Clock } from '../clock.ts'
import { checkDeadline } from '../context.ts'
import type { Context } from '../context.ts'
import { NineError, toNineError } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Attached } from './attach.ts'

export class NinepLink {
  readonly #attach: (onClosed: (error: NineError) => void) => Promise<Attached>
  readonly #clock: Clock
  #attached: Attached | undefined
  #attempt: Promise<Attached> | undefined
  #failure: NineError | undefined
  #notBefore = 0
  #backoff: number = limits.reconnect_backoff_ms_min
  #isClosed = false

  constructor(attach: (onClosed: (error: NineError) => void) => Promise<Attached>, clock: Clock) {
    this.#attach = attach
    this.#clock = clock
  }

  /** The live connection, if there is one. */
  get attached(): Attached | undefined {
    return this.#attached
  }

  /** The live connection, or a new one. @throws NineError `unavailable`, `deadline`, what the server answers to attach */
  async use(context: Context): Promise<Attached> {
    if (this.#attached !== undefined) return this.#attached
    checkDeadline(context, 'ninep.connect')
    return within(context, this.connect())
  }

  async connect(): Promise<Attached> {
    if (this.#isClosed) throw closed()
    if (this.#attached !== undefined) return this.#attached
    if (this.#attempt !== undefined) return this.#attempt
    if (this.#failure !== undefined && this.#clock.monotonic() < this.#notBefore) throw this.#failure // L2
    const attempt = this.#try().finally(() => (this.#attempt = undefined))
    this.#attempt = attempt
    return attempt
  }

  close(): void {
    this.#isClosed = true
    this.#attached?.connection.close('the client was closed')
    this.#attached = undefined
  }

  async #try(): Promise<Attached> {
    let made: Attached | undefined
    try {
      made = await this.#attach(() => {
        if (this.#attached === made) this.#attached = undefined
      })
    } catch (error) {
      this.#failure = toNineError(error, 'ninep.connect')
      this.#notBefore = this.#clock.monotonic() + this.#backoff
      this.#backoff = Math.min(2 * this.#backoff, limits.reconnect_backoff_ms_max)
      throw this.#failure
    }
    if (this.#isClosed) {
      made.connection.close()
      throw closed()
    }
    if (made.connection.error !== undefined) throw made.connection.error
    this.#failure = undefined
    this.#backoff = limits.reconnect_backoff_ms_min
    this.#attached = made
    return made
  }
}

function closed(): NineError {
  return new NineError({ kind: 'unavailable', op: 'ninep.connect', message: 'the client was closed', retryable: false })
}

/** What `attempt` gives, unless the caller's time is over before: the attempt goes on for others. */
function within(context: Context, attempt: Promise<Attached>): Promise<Attached> {
  const { signal, deadline } = context
  return new Promise((resolve, reject) => {
    const giveUp = (): void => {
      done()
      reject(new NineError({ kind: 'deadline', op: 'ninep.connect', message: 'there was no connection before the deadline' }))
    }
    const timer = deadline === Infinity ? undefined : setTimeout(giveUp, Math.min(Math.max(1, deadline - performance.now()), 2 ** 31 - 1))
    const done = (): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', giveUp)
    }
    signal?.addEventListener('abort', giveUp, { once: true })
    attempt.then(
      (attached) => {
        done()
        resolve(attached)
      },
      (error: unknown) => {
        done()
        reject(toNineError(error, 'ninep.connect'))
      },
    )
  })
}
