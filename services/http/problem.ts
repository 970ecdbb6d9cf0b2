/** Failures as problem+json (RFC 9457): status from the one table, and the fields a client decides on. */
import type { ServerResponse } from 'node:http'
import { errorTable } from '../../namespace/errors.ts'
import type { NineError } from '../../namespace/errors.ts'

export function problemOf(error: NineError): Record<string, unknown> {
  return {
    type: `urn:ninefold:error:${error.kind}`,
    title: error.kind.replaceAll('_', ' '),
    status: statusOf(error),
    detail: error.message,
    kind: error.kind,
    op: error.op,
    path: error.path,
    outcome: error.outcome,
    retryable: error.retryable,
    resume: error.resume,
  }
}

/** Headers that a failed precondition or range still owes (RFC 9110). */
export interface ProblemHeaders {
  readonly [name: string]: string
}

export function statusOf(error: NineError, isRange = false): number {
  return isRange && error.kind === 'invalid' ? 416 : errorTable[error.kind].http
}

/** Answer with a problem; when the answer has already begun, end the connection so that nobody takes half for whole. */
export function sendProblem(response: ServerResponse, error: NineError, status = statusOf(error), headers: ProblemHeaders = {}): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const body = JSON.stringify({ ...problemOf(error), status })
  response.writeHead(status, {
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    ...(status === 401 ? { 'www-authenticate': 'Bearer realm="ninefold"' } : {}),
    ...(error.retryable ? { 'retry-after': '1' } : {}),
    ...headers,
  })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}
