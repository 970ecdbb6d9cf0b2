/** Failures on standard error: one line for people, one JSON object with --json, and the exit code of the kind. */
import { isNineError, toNineError } from '../namespace/errors.ts'
import { exitCodeOf } from './exit-codes.ts'

/** @returns the exit code */
export function printError(error: unknown, isJson: boolean): number {
  const nine = toNineError(error, 'cli.run')
  if (isJson) {
    const { kind, op, path, message, outcome, retryable, resume } = nine
    process.stderr.write(`${JSON.stringify({ error: { kind, op, path, message, outcome, retryable, resume } })}\n`)
  } else {
    const path = nine.path === '' || nine.message.includes(nine.path) ? '' : `${nine.path}: `
    const unknown = nine.outcome === 'unknown' && isNineError(error) ? ' (it may have happened all the same)' : ''
    process.stderr.write(`nine: ${path}${nine.message}${unknown} [${nine.kind}]\n`)
  }
  return exitCodeOf(nine.kind)
}
