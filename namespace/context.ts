/** What every operation carries besides its arguments: who asks, until when, why, and how to recognise a retry. */
import { NineError } from './errors.ts'
import { limits } from './limits.ts'
import type { Principal } from './rights.ts'
import type { Micros } from './stat.ts'

export interface Context {
  readonly principal: Principal
  /** Milliseconds on the monotonic clock of this process (`performance.now()`), or Infinity. Sent as time left. */
  readonly deadline: number
  /** Aborted when the caller no longer wants the answer. A mutation already proposed still happens. */
  readonly signal?: AbortSignal | undefined
  /** W3C traceparent (https://www.w3.org/TR/trace-context/). */
  readonly trace?: string | undefined
  /** What made this happen, for example the id of the log record a routine handles. At most 255 bytes. */
  readonly cause?: string | undefined
  /** With `seq`, makes a mutation take effect once. See ClientIdentity. */
  readonly client?: ClientIdentity | undefined
  /** Number of this mutation among its client's, from 1; a retry carries the number of its first try. */
  readonly seq?: number | undefined
  /** Hash of the request, where the edge wants a reused (client, seq) with another request refused as `invalid`. */
  readonly digest?: string | undefined
  /** Latest time the caller has seen; a store's next change is later (hybrid logical clock). */
  readonly time?: Micros | undefined
  /** Remote hops so far; past the limit: `loop`. */
  readonly hops?: number | undefined
  /** The connection this came over: handles, and what is dropped on disconnect, belong to it. */
  readonly session?: number | undefined
}

/**
 * A client as stores know it. `id` is unique; `born` is the time its first session was opened, by the node's clock.
 * A store that has forgotten clients remembers until when: one born before that and not in its table may have been
 * forgotten, so its mutation is answered with `outcome: unknown` instead of being executed a second time.
 */
export interface ClientIdentity {
  readonly id: string
  readonly born: Micros
  /** Every seq up to this one is settled at the client: its results may be dropped. */
  readonly settled: number
}

/** @throws NineError `deadline` when the time is over or the caller has gone away */
export function checkDeadline(context: Context, op: string, path = ''): void {
  if (context.signal?.aborted === true) throw new NineError({ kind: 'deadline', op, path, message: 'the request was cancelled' })
  if (context.deadline !== Infinity && performance.now() > context.deadline) {
    throw new NineError({ kind: 'deadline', op, path, message: 'the deadline of the request has passed' })
  }
}

/** A Context for `principal` that ends after `ms` milliseconds. */
export function contextFor(principal: Principal, ms: number = limits.request_ms_default): Context {
  return { principal, deadline: ms === Infinity ? Infinity : performance.now() + ms }
}
