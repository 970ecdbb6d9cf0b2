/** What reading and commanding an entry runs. */
import type { Context } from '../context.ts'
import { isNineError, NineError } from '../errors.ts'
import { limits } from '../limits.ts'
import { bytesOf } from './entries.ts'
import type { Call, CtlEntry, Output } from './entries.ts'
import { run } from './run.ts'
import type { Found } from './walk-table.ts'

/** The whole value of an entry. `request` is what was written before, for a call. @throws NineError what the function throws */
export function valueOf(context: Context, found: Found, request: Uint8Array, also?: AbortSignal): Promise<Uint8Array> {
  return run(
    context,
    'read',
    found,
    (call) => {
      const output = outputOf(found, call, request)
      return output instanceof Promise ? output.then((value) => bytesFor(value, found.path)) : bytesFor(output, found.path)
    },
    also,
  )
}

/** The bytes of what a function gave. @throws NineError `too_large`, `internal` for what has no JSON */
export function bytesFor(output: Output, path: string): Uint8Array {
  let bytes: Uint8Array
  try {
    bytes = bytesOf(output)
  } catch (cause) {
    throw new NineError({ kind: 'internal', op: 'serve.read', path, message: 'the function gave a value that has no JSON', cause })
  }
  if (bytes.length <= limits.served_value_bytes_max) return bytes
  const message = `a function gives at most ${limits.served_value_bytes_max} bytes, this one gave ${bytes.length}`
  throw new NineError({ kind: 'too_large', op: 'serve.read', path, message })
}

function outputOf({ entry, path }: Found, call: Call, request: Uint8Array): Output | Promise<Output> {
  switch (entry.kind) {
    case 'computed':
    case 'file':
      return entry.run(call)
    case 'call':
      return entry.run(call, request)
    case 'ctl':
      return typeof entry.verbs === 'function'
        ? ''
        : Object.keys(entry.verbs)
            .map((verb) => `${verb}\n`)
            .join('')
    case 'stream':
    case 'directory':
      throw new NineError({ kind: 'internal', op: 'serve.read', path, message: `a ${entry.kind} has no value` })
  }
}

/**
 * Lines written to a ctl file: each is run when it is whole, in order; the first that fails ends the write. Lines before it have
 * taken effect, so the outcome of the write is unknown then.
 */
export class Commands {
  readonly #found: Found
  readonly #entry: CtlEntry
  readonly #decoder = new TextDecoder()
  /** What was written behind the last line break. */
  #rest = ''

  constructor(found: Found, entry: CtlEntry) {
    this.#found = found
    this.#entry = entry
  }

  /** @param isLast nothing more comes: the last line may lack its line break */
  async take(context: Context, bytes: Uint8Array, isLast = false): Promise<void> {
    if (this.#rest.length + bytes.length > limits.ctl_bytes_max) {
      this.#rest = ''
      const message = `commands are at most ${limits.ctl_bytes_max} bytes at once`
      throw new NineError({ kind: 'too_large', op: 'serve.ctl', path: this.#found.path, message })
    }
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: !isLast })).split('\n')
    this.#rest = isLast ? '' : lines.pop()!
    let isBegun = false
    for (const line of lines) {
      try {
        isBegun = (await this.#run(context, line)) || isBegun
      } catch (error) {
        throw isBegun && isNineError(error) ? new NineError({ ...error.fields, outcome: 'unknown', cause: error }) : error
      }
    }
  }

  /** The last line may lack its line break. */
  async finish(context: Context): Promise<void> {
    const line = this.#rest + this.#decoder.decode()
    this.#rest = ''
    await this.#run(context, line)
  }

  /** Whether there was a command. */
  async #run(context: Context, line: string): Promise<boolean> {
    const words = line.split(/\s+/).filter((word) => word !== '')
    const [verb, ...others] = words
    if (verb === undefined) return false
    const { verbs } = this.#entry
    if (typeof verbs === 'function') {
      await run(context, 'ctl', this.#found, (call) => verbs(call, words))
      return true
    }
    const command = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined
    if (command === undefined) {
      const message = `unknown command ${JSON.stringify(verb.slice(0, 64))}; there are: ${Object.keys(verbs).join(', ')}`
      throw new NineError({ kind: 'invalid', op: 'serve.ctl', path: this.#found.path, message })
    }
    await run(context, 'ctl', this.#found, (call) => command(call, others))
    return true
  }
}
