import type { Refusal } from '../model.ts'

export type Reason =
  | Refusal
  /** It will not happen under this leader, or it is not known whether: ask again. */
  | 'lost'
  /** It may have happened. */
  | 'unknown'
  /** The group does nothing any more on this node. */
  | 'stopped'

/** Why a read, a membership change or a transfer did not come about. */
export class Refused extends Error {
  override readonly name = 'Refused'
  readonly reason: Reason

  constructor(what: string, reason: Reason) {
    super(`${what}: ${reason}`)
    this.reason = reason
  }
}

/** A promise and its two ends. */
export interface Deferred {
  readonly promise: Promise<void>
  readonly resolve: () => void
  readonly reject: (reason: Refused) => void
}

export function makeDeferred(): Deferred {
  let resolve!: () => void
  let reject!: (reason: Refused) => void
  const promise = new Promise<void>((done, failed) => {
    resolve = done
    reject = failed
  })
  return { promise, resolve, reject }
}
