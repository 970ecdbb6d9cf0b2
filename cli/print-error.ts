/** Failures on standard error: one line for people, one JSON object with --json, and the exit code of the kind. */
import { isNineError, NineError, toNineError } from '../namespace/errors.ts'
import type { ErrorKind } from '../namespace/errors.ts'
import { exitCodeOf } from './exit-codes.ts'
import { printable } from './render/long.ts'

/** @returns the exit code */
export function printError(error: unknown, isJson: boolean): number {
  const nine = localFailure(error) ?? toNineError(error, 'cli.run')
  if (isJson) {
    const { kind, op, path, message, outcome, retryable, resume } = nine
    process.stderr.write(`${JSON.stringify({ error: { kind, op, path, message, outcome, retryable, resume } })}\n`)
  } else {
    const path = nine.path === '' || nine.message.includes(nine.path) ? '' : `${nine.path}: `
    const unknown = nine.outcome === 'unknown' && isNineError(error) ? ' (it may have happened all the same)' : ''
    const line = `${path}${nine.message}${unknown}`
    process.stderr.write(`nine: ${process.stderr.isTTY ? printable(line) : line} [${nine.kind}]\n`)
  }
  return exitCodeOf(nine.kind)
}

/** What the system says of files of this machine, as kinds; EPERM here is about rights, not about a token. */
const kindOfCode: Readonly<Partial<Record<string, ErrorKind>>> = {
  EACCES: 'denied',
  EPERM: 'denied',
  ENOENT: 'not_found',
  EEXIST: 'exists',
  ENOTDIR: 'not_directory',
  EISDIR: 'is_directory',
  ENOTEMPTY: 'not_empty',
  ENAMETOOLONG: 'name_too_long',
  EFBIG: 'too_large',
  ENOSPC: 'no_space',
  EDQUOT: 'no_space',
  EROFS: 'read_only',
  ELOOP: 'loop',
}

function localFailure(error: unknown): NineError | undefined {
  if (isNineError(error) || !(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined
  const kind = kindOfCode[error.code]
  return kind === undefined ? undefined : new NineError({ kind, op: 'cli.run', message: error.message, outcome: 'unknown', cause: error })
}
