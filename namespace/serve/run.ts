/** Running a service's function for a caller: with a deadline, with an end when the caller goes, and with errors of the right kind. */
import type { Context } from '../context.ts'
import { isNineError, NineError, toNineError } from '../errors.ts'
import type { Path } from '../path.ts'
import type { Call } from './entries.ts'

/** @throws NineError as `run` throws, `internal` for anything else it throws, `deadline` when it takes too long or the caller goes */
export async function runFor<T>(verb: string, path: Path, signal: AbortSignal, run: () => T | Promise<T>): Promise<T> {
  const op = `serve.${verb}`
  const isOver = (): NineError =>
    new NineError({ kind: 'deadline', op, path, message: 'the caller has gone or its time is over', outcome: 'unknown' })
  if (signal.aborted) throw isOver()
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(isOver())
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([Promise.resolve().then(run), aborted])
  } catch (error) {
    if (isNineError(error)) throw error.path === '' ? error.at(path) : error
    throw signal.aborted ? isOver() : toNineError(error, op, path)
  } finally {
    signal.removeEventListener('abort', onAbort!)
  }
}

/** A Call of this Context. @param also further reasons to end, such as a handle that closes */
export function callOf(context: Context, path: Path, params: readonly string[], also?: AbortSignal): Call {
  const signals: AbortSignal[] = []
  if (context.signal !== undefined) signals.push(context.signal)
  if (also !== undefined) signals.push(also)
  if (context.deadline !== Infinity) signals.push(AbortSignal.timeout(Math.max(0, Math.ceil(context.deadline - performance.now()))))
  return { principal: context.principal, path, params, context, signal: signals.length === 1 ? signals[0]! : AbortSignal.any(signals) }
}
