/**
 * Failures as 9P tells them: a number of Linux's errno in 9P2000.L, a text in 9P2000.
 *
 * The texts are those that Plan 9's own servers use and that Linux's v9fs and other clients turn back into numbers; what they
 * have no text for is told by its errno's description.
 */
import { WireError } from '../../proto/protobuf.ts'
import type { AnswerBody, Dialect } from '../../proto/ninep/messages.ts'
import { errorTable, NineError, toNineError } from '../../namespace/errors.ts'
import type { ErrorKind } from '../../namespace/errors.ts'

const texts: Record<ErrorKind, string> = {
  not_found: 'file does not exist',
  exists: 'file already exists',
  not_directory: 'not a directory',
  is_directory: 'Is a directory',
  not_empty: 'directory is not empty',
  conflict: 'Resource temporarily unavailable',
  denied: 'permission denied',
  unauthenticated: 'authentication failed',
  invalid: 'Invalid argument',
  name_too_long: 'File name too long',
  too_large: 'File too large',
  no_space: 'file system is full',
  overloaded: 'Device or resource busy',
  unavailable: 'No route to host',
  deadline: 'Connection timed out',
  compacted: 'Stale file handle',
  cross_store: 'Invalid cross-device link',
  read_only: 'Read-only file system',
  loop: 'Too many levels of symbolic links',
  unsupported: 'Operation not supported',
  corrupt: 'i/o error',
  internal: 'i/o error',
}

/** The answer to a request that failed with `error`. */
export function failureAnswer(dialect: Dialect, error: NineError): AnswerBody {
  if (dialect === '9P2000.L') return { type: 'Rlerror', errno: errorTable[error.kind].errno }
  return { type: 'Rerror', ename: texts[error.kind] }
}

/** Any thrown value as a NineError of this edge. */
export function toFailure(thrown: unknown): NineError {
  if (thrown instanceof WireError) return new NineError({ kind: thrown.kind, op: '9p.request', message: thrown.message, cause: thrown })
  return toNineError(thrown, '9p.request')
}

export function refusal(kind: ErrorKind, message: string, path = ''): NineError {
  return new NineError({ kind, op: '9p.request', path, message })
}
