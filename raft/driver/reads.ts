/**
 * Linearizable reads. All that begin in one turn share one read of the core (section 6.4 of the thesis): one promise, one index.
 *
 * G1 A read joins only a core read that is not yet given to the core, so its index is asked for after it began.
 */
import type { Refusal } from '../model.ts'
import { Refused, makeDeferred } from './refused.ts'
import type { Deferred, Reason } from './refused.ts'

export class Reads {
  /** Begun in this turn. */
  #open: Deferred | null = null
  readonly #asked = new Map<number, Deferred>()

  begin(): Promise<void> {
    this.#open ??= makeDeferred()
    return this.#open.promise // G1
  }

  get isOpen(): boolean {
    return this.#open !== null
  }

  /** They are given to the core as `ref`. */
  ask(ref: number): void {
    this.#asked.set(ref, this.#open!)
    this.#open = null
  }

  has(ref: number): boolean {
    return this.#asked.has(ref)
  }

  serve(ref: number): void {
    this.#asked.get(ref)?.resolve()
    this.#asked.delete(ref)
  }

  fail(ref: number, reason: Refusal | 'lost'): void {
    this.#asked.get(ref)?.reject(new Refused('read', reason))
    this.#asked.delete(ref)
  }

  clear(reason: Reason): void {
    if (this.#open !== null) this.#asked.set(-1, this.#open)
    this.#open = null
    for (const read of this.#asked.values()) read.reject(new Refused('read', reason))
    this.#asked.clear()
  }
}
