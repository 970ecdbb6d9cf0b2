/**
 * Running a service's function for a caller: with a deadline, with an end when the caller goes, and with errors of the
 * right kind.
 *
 * R1 The caller waits no longer than its deadline, whatever the function does; the function's `call.signal` is aborted then.
 * R2 A function that answers at once costs no timer and no listener.
 */
import { checkDeadline, type Context } from '../context.ts'
import { isNineError, NineError, toNineError } from '../errors.ts'
import type { Path } from '../path.ts'
import type { Principal } from '../rights.ts'
import type { Call } from './entries.ts'

/** Where a function stands: its path, and the names below generated directories on the way. */
export interface Place {
  readonly path: Path
  readonly params: readonly string[]
}

/** Longest setTimeout of Node, milliseconds. */
const timeout_ms_max = 2 ** 31 - 1

/**
 * Run `act` for the caller. @param also a further reason to end, such as a handle that closes
 * @throws NineError of the kind that `act` throws, `internal` for anything else it throws, `deadline` when it takes too
 * long or the caller goes; always with the path that was asked for
 */
export function run<T>(context: Context, verb: string, place: Place, act: (call: Call) => T | Promise<T>, also?: AbortSignal): Promise<T> {
  return runWith(
    context,
    verb,
    place,
    (call) => {
      const result = act(call)
      return isPromise(result) ? call.until(Promise.resolve(result)) : result
    },
    also,
  )
}

/**
 * The same for an `act` that ends by itself when its signal is aborted: what it answers is what the caller gets, so that
 * nothing it took is lost.
 */
export function runWatched<T>(
  context: Context,
  verb: string,
  place: Place,
  act: (call: Call) => Promise<T>,
  also?: AbortSignal,
): Promise<T> {
  return runWith(
    context,
    verb,
    place,
    (call) => {
      call.watch()
      return act(call)
    },
    also,
  )
}

async function runWith<T>(
  context: Context,
  verb: string,
  place: Place,
  act: (call: RunningCall) => T | Promise<T>,
  also: AbortSignal | undefined,
): Promise<T> {
  const op = `serve.${verb}`
  checkDeadline(context, op, place.path)
  const call = new RunningCall(context, place, op, also)
  try {
    if (also?.aborted === true) throw call.over()
    return await act(call)
  } catch (error) {
    if (isNineError(error)) throw error.path === place.path ? error : error.at(place.path)
    throw toNineError(error, op, place.path)
  } finally {
    call.end()
  }
}

/** Also of functions that give promises of another kind. */
function isPromise<T>(result: T | Promise<T>): result is Promise<T> {
  return typeof result === 'object' && result !== null && 'then' in result && typeof result.then === 'function'
}

class RunningCall implements Call {
  readonly principal: Principal
  readonly path: Path
  readonly params: readonly string[]
  readonly context: Context
  readonly #op: string
  readonly #also: AbortSignal | undefined
  #controller: AbortController | undefined
  #timer: NodeJS.Timeout | undefined
  #reject: ((error: NineError) => void) | undefined
  #isOver = false

  constructor(context: Context, { path, params }: Place, op: string, also: AbortSignal | undefined) {
    this.principal = context.principal
    this.path = path
    this.params = params
    this.context = context
    this.#op = op
    this.#also = also
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#isOver) this.#controller.abort()
    }
    return this.#controller.signal
  }

  over(): NineError {
    const message = 'the caller has gone or its time is over'
    return new NineError({ kind: 'deadline', op: this.#op, path: this.path, message, outcome: 'unknown' })
  }

  /** R1 */
  until<T>(result: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#reject = reject
      result.then(resolve, reject)
      this.watch()
    })
  }

  /** From now on the signal is aborted when the caller goes or its time is over. */
  watch(): void {
    const { deadline, signal } = this.context
    if (deadline !== Infinity) this.#arm(deadline)
    signal?.addEventListener('abort', this.#stop, { once: true })
    this.#also?.addEventListener('abort', this.#stop, { once: true })
    if (signal?.aborted === true || this.#also?.aborted === true) this.#stop()
  }

  end(): void {
    clearTimeout(this.#timer)
    this.context.signal?.removeEventListener('abort', this.#stop)
    this.#also?.removeEventListener('abort', this.#stop)
  }

  #arm(deadline: number): void {
    const left = Math.max(0, Math.ceil(deadline - performance.now()))
    this.#timer = setTimeout(left > timeout_ms_max ? () => this.#arm(deadline) : this.#stop, Math.min(left, timeout_ms_max))
  }

  readonly #stop = (): void => {
    this.#isOver = true
    this.#reject?.(this.over())
    this.#controller?.abort()
  }
}
