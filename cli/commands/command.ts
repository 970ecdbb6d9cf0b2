/**
 * What every command of `nine` shares: its connection, its output, and how it ends.
 *
 * C1 Ctrl-C ends a command wherever it is: its requests end, and what waits for something else is left. In `nine shell` the shell
 *    goes on.
 */
import { setMaxListeners } from 'node:events'
import { Option } from 'commander'
import type { Command } from 'commander'
import { NineError } from '../../namespace/errors.ts'
import type { Session } from '../../sdk/session.ts'
import { openSession } from '../connection.ts'
import { standardOutput } from '../output.ts'
import type { Output } from '../output.ts'

/** Options of every command, wherever they stand on the line. */
export interface GlobalOptions {
  readonly addr?: string
  readonly tokenFile?: string
  readonly tlsCa?: string
  readonly json?: boolean
  readonly timeout?: number
}

export interface Run {
  /** Its client's requests end with Ctrl-C. */
  readonly session: Session
  readonly output: Output
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
  /** What --timeout said, milliseconds: also for what has no time of its own, like a watch. */
  readonly timeoutMs: number | undefined
}

/** Exit code of a command that Ctrl-C ended, as shells have it. */
export const exit_interrupted = 130
/** For what a command does at its end, such as giving the cursor back. */
const interrupted_grace_ms = 500

/**
 * The action of a command that talks to a node: connect, run, close. A returned number is the exit code.
 * @param takesInterrupts the command itself decides what Ctrl-C ends
 */
export function action<A extends unknown[]>(
  run: (context: Run, ...args: A) => Promise<number | void>,
  takesInterrupts = false,
): (this: Command, ...args: unknown[]) => Promise<void> {
  return async function (this: Command, ...args: unknown[]) {
    // commander appends the options and the command to the arguments.
    const values = args.slice(0, -1) as A
    const options = this.optsWithGlobals<GlobalOptions & ConsistencyOption>()
    const output = standardOutput(options.json === true)
    const session = await openSession(options)
    const interrupt = new Interrupt(takesInterrupts)
    const { signal } = interrupt
    const client = session.client.until(signal)
    try {
      const reading = options.consistency === 'stale' ? client.stale() : client
      const context = { session: { ...session, client: reading }, output, signal, timeoutMs: options.timeout }
      const code = await Promise.race([run(context, ...values), interrupt.given])
      if (typeof code === 'number') process.exitCode = code
    } catch (error) {
      if (!signal.aborted) throw error
      process.exitCode = exit_interrupted
    } finally {
      interrupt.forget()
      await session.close()
    }
  }
}

/** C1 */
class Interrupt {
  readonly #controller = new AbortController()
  readonly signal = this.#controller.signal
  /** Resolves some time after the signal, for a command that does not end by it. */
  readonly given: Promise<number>
  readonly #onSignal: () => void

  constructor(isIgnored: boolean) {
    setMaxListeners(0, this.signal)
    let give: (code: number) => void = () => undefined
    this.given = new Promise((resolve) => (give = resolve))
    this.#onSignal = () => {
      this.#controller.abort()
      setTimeout(() => give(exit_interrupted), interrupted_grace_ms)
    }
    if (!isIgnored) process.once('SIGINT', this.#onSignal)
  }

  forget(): void {
    process.off('SIGINT', this.#onSignal)
  }
}

interface ConsistencyOption {
  readonly consistency?: 'linearizable' | 'stale'
}

/** Of a command that reads: `action` gives it a client that does so. */
export function consistencyOption(): Option {
  return new Option(
    '--consistency <how>',
    'linearizable (default): what was last agreed on; stale: what the node that answers has, even without most of its cluster',
  ).choices(['linearizable', 'stale'])
}

/** An option's whole number. */
export function countOption(name: string): (text: string) => number {
  return (text) => {
    if (/^\d{1,15}$/.test(text)) return Number(text)
    throw new NineError({ kind: 'invalid', op: 'cli.options', message: `${name} is a whole number, not ${JSON.stringify(text)}` })
  }
}

/** An option's duration: a whole number with ms, s (default), m or h, as milliseconds. */
export function durationOption(name: string): (text: string) => number {
  return (text) => {
    const match = /^(\d{1,12})(ms|s|m|h)?$/.exec(text)
    if (match === null) {
      throw new NineError({
        kind: 'invalid',
        op: 'cli.options',
        message: `${name} is a number with ms, s, m or h, not ${JSON.stringify(text)}`,
      })
    }
    const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
    return Number(match[1]) * units[(match[2] as keyof typeof units | undefined) ?? 's']
  }
}
