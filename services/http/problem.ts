/** Failures as problem+json (RFC 9457): status from the one table, and the fields a client decides on. */
import { errorTable } from '../../namespace/errors.ts'
import type { NineError } from '../../namespace/errors.ts'
import type { Answer } from './answer.ts'

export function problemOf(error: NineError, status: number = errorTable[error.kind].http): Record<string, unknown> {
  return {
    type: `urn:ninefold:error:${error.kind}`,
    title: error.kind.replaceAll('_', ' '),
    status,
    detail: error.message,
    kind: error.kind,
    op: error.op,
    path: error.path,
    outcome: error.outcome,
    retryable: error.retryable,
    resume: error.resume,
  }
}

/** A failure as an answer. `status` and `headers`: what a failed precondition or range owes besides (RFC 9110). */
export function problemAnswer(
  error: NineError,
  status: number = errorTable[error.kind].http,
  headers: Readonly<Record<string, string>> = {},
): Answer {
  const all: Record<string, string> = { 'content-type': 'application/problem+json', 'cache-control': 'no-store', ...headers }
  if (status === 401) all['www-authenticate'] = 'Bearer realm="ninefold"'
  if (error.retryable) all['retry-after'] = '1'
  return { status, headers: all, body: JSON.stringify(problemOf(error, status)) }
}
