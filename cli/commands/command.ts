/** What every command of `nine` shares: its connection, its output, and how it ends. */
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
  readonly session: Session
  readonly output: Output
  /** Aborted by Ctrl-C; long work stops and says so. */
  readonly signal: AbortSignal
}

/** The action of a command that talks to a node: connect, run, close. A returned number is the exit code. */
export function action<A extends unknown[]>(
  run: (context: Run, ...args: A) => Promise<number | void>,
): (this: Command, ...args: unknown[]) => Promise<void> {
  return async function (this: Command, ...args: unknown[]) {
    // commander appends the options and the command to the arguments.
    const values = args.slice(0, -1) as A
    const options = this.optsWithGlobals<GlobalOptions>()
    const output = standardOutput(options.json === true)
    const interrupted = new AbortController()
    const onInterrupt = (): void => interrupted.abort()
    process.once('SIGINT', onInterrupt)
    const session = await openSession(options)
    try {
      const code = await run({ session, output, signal: interrupted.signal }, ...values)
      if (typeof code === 'number') process.exitCode = code
    } catch (error) {
      if (!interrupted.signal.aborted) throw error
      process.exitCode = 130
    } finally {
      process.off('SIGINT', onInterrupt)
      await session.close()
    }
  }
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
