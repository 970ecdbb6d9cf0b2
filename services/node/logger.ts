/** Logs of the node: pino's JSON lines, to standard error or a file. */
import { pino } from 'pino'
import type { Logger } from 'pino'
import { isNineError, NineError } from '../../namespace/errors.ts'

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const

/** @throws NineError `invalid` for an unknown level or a file that cannot be written */
export function openLogger(level: string, file: string | undefined): Logger {
  if (!(logLevels as readonly string[]).includes(level)) {
    throw new NineError({
      kind: 'invalid',
      op: 'node.log',
      message: `a log level is ${logLevels.join(', ')}, not ${JSON.stringify(level)}`,
    })
  }
  try {
    const destination = pino.destination({ dest: file ?? 2, sync: true, mkdir: true })
    return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination)
  } catch (cause) {
    throw new NineError({
      kind: 'invalid',
      op: 'node.log',
      message: `cannot write logs to ${file ?? 'standard error'}: ${(cause as Error).message}`,
      cause,
    })
  }
}

/** Of a failure, for a line of the log: its reason where networks and clients bring it with them, with its stack where they do not. */
export function failureFields(error: unknown): object {
  if (error === undefined) return {}
  return isNineError(error) && error.kind !== 'internal' ? { reason: error.message } : { err: error }
}
