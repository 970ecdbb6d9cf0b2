/** How a replica says no. */
import { errorTable, isNineError, NineError, textOf } from '../../namespace/errors.ts'
import type { LogOlder } from '../../raft/index.ts'
import type { Outcome } from '../model.ts'

/** Nothing was done, and nothing is kept of it: it may be asked again. */
export function isForNow(outcome: Outcome): boolean {
  if (outcome.kind !== 'error') return outcome.kind === 'needs_chunks'
  return outcome.error.retryable ?? errorTable[outcome.error.kind].retryable
}

/** What the store refused for now, of a command that another try may bring to it again. */
export function lastingOf(outcome: Outcome): Outcome {
  if (outcome.kind !== 'error' || !isForNow(outcome)) return outcome
  return { kind: 'error', error: { ...outcome.error, outcome: 'unknown' } }
}

export function tooMany(op: string, path: string): NineError {
  return new NineError({
    kind: 'overloaded',
    op,
    path,
    message: 'too many changes, or too large ones, wait for the cluster',
    outcome: 'none',
  })
}

export function notLeader(): NineError {
  return new NineError({ kind: 'unavailable', op: 'replica.propose', message: 'this node does not lead the store', outcome: 'none' })
}

export function asError(error: unknown): NineError {
  if (isNineError(error)) return error
  return new NineError({ kind: 'internal', op: 'replica.propose', message: textOf(error), cause: error })
}

/** Of a disk that was put back to an earlier time. */
export function olderFolder({ leader, last, acknowledged }: LogOlder, store: string): NineError {
  const message = `this folder is older than what this node has acknowledged: its log of store ${store} ends at ${last}, and ${leader} knows ${acknowledged} of it; start the node with an empty folder`
  return new NineError({ kind: 'corrupt', op: 'replica.follow', message })
}
