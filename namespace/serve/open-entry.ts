/**
 * Open handles on entries of a table: what a handle remembers between its reads and writes.
 *
 * E1 Reads and writes of one handle happen one after the other, in the order they came.
 * E2 A value is computed once a handle, at its first read, so that reads in parts fit together.
 * E3 A stream's iteration begins at open and is ended by close; it runs one record ahead at most, so a slow reader holds it back.
 */
import type { Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type { HandleReadResult, HandleWriteResult } from '../file-server.ts'
import { limits } from '../limits.ts'
import { bytesOf } from './entries.ts'
import type { CtlEntry, Output } from './entries.ts'
import { callOf, runFor } from './run.ts'
import type { Found } from './walk-table.ts'

export class OpenEntry {
  readonly found: Found
  readonly #closed = new AbortController()
  #turn: Promise<unknown> = Promise.resolve()
  /** The value read so far computed (E2), or the answer of a call, or what is left of a record. */
  #value: Uint8Array | undefined
  #request: Uint8Array = new Uint8Array()
  #line = ''
  readonly #records: AsyncIterator<Output> | undefined

  constructor(context: Context, found: Found) {
    this.found = found
    if (found.entry.kind === 'stream') {
      // Without the deadline of the open: a stream outlives it.
      const call = callOf({ ...context, deadline: Infinity, signal: undefined }, found.path, found.params, this.#closed.signal)
      this.#records = found.entry.run(call)[Symbol.asyncIterator]()
    }
  }

  read(context: Context, offset: number, length: number): Promise<HandleReadResult> {
    return this.#inTurn(() => (this.#records === undefined ? this.#readValue(context, offset, length) : this.#readRecord(context, length)))
  }

  write(context: Context, bytes: Uint8Array, offset: number | 'append'): Promise<HandleWriteResult> {
    return this.#inTurn(async () => {
      const { entry } = this.found
      if (entry.kind === 'ctl') {
        this.#line = await runLines(context, this.found, entry, this.#line + Buffer.from(bytes).toString())
        return { written: bytes.length, size: 0 }
      }
      // A write behind an answer begins the next request.
      if (entry.kind === 'call' && this.#value !== undefined) this.#request = new Uint8Array()
      this.#value = undefined
      const at = offset === 'append' ? this.#request.length : offset
      const size = Math.max(this.#request.length, at + bytes.length)
      if (size > limits.write_bytes_max) throw this.#failure('too_large', `at most ${limits.write_bytes_max} bytes are taken here`)
      const next = new Uint8Array(size)
      next.set(this.#request)
      next.set(bytes, at)
      this.#request = next
      return { written: bytes.length, size }
    })
  }

  truncate(size: number): Promise<void> {
    return this.#inTurn(async () => {
      if (size > limits.write_bytes_max) throw this.#failure('too_large', `at most ${limits.write_bytes_max} bytes are taken here`)
      const next = new Uint8Array(size)
      next.set(this.#request.subarray(0, size))
      this.#request = next
    })
  }

  /** A file with a write function takes what was staged; a ctl file its last line without a line break. */
  sync(context: Context): Promise<void> {
    return this.#inTurn(async () => {
      const { entry, path, params } = this.found
      if (entry.kind === 'ctl' && this.#line !== '') {
        const line = this.#line
        this.#line = ''
        await runLines(context, this.found, entry, `${line}\n`)
      } else if (entry.kind === 'file' && entry.write !== undefined && this.#request.length > 0) {
        const { write } = entry
        const call = callOf(context, path, params)
        await runFor('write', path, call.signal, () => write(call, this.#request))
      }
    })
  }

  close(): void {
    this.#closed.abort()
    // A generator that waits for something of its own ends when that comes; nobody waits for it here.
    this.#records?.return?.().catch(() => undefined)
  }

  async #readValue(context: Context, offset: number, length: number): Promise<HandleReadResult> {
    this.#value ??= await valueOf(context, this.found, this.#request, this.#closed.signal)
    const bytes = this.#value.subarray(offset, offset + length)
    return { bytes, end: offset + bytes.length >= this.#value.length }
  }

  #pending: Promise<IteratorResult<Output>> | undefined

  async #readRecord(context: Context, length: number): Promise<HandleReadResult> {
    const { path, params } = this.found
    while (this.#value === undefined || this.#value.length === 0) {
      // A read that is given up leaves its record for the next one.
      this.#pending ??= this.#records!.next()
      const pending = this.#pending
      const call = callOf(context, path, params, this.#closed.signal)
      const step = await runFor('read', path, call.signal, () => pending)
      if (step.done === true) return { bytes: new Uint8Array(), end: true }
      this.#pending = undefined
      this.#value = bytesOf(step.value)
    }
    const bytes = this.#value.subarray(0, length)
    this.#value = this.#value.subarray(length)
    return { bytes, end: false }
  }

  // E1
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work, work)
    this.#turn = done.catch(() => undefined)
    return done
  }

  #failure(kind: 'too_large', message: string): NineError {
    return new NineError({ kind, op: 'serve.writeHandle', path: this.found.path, message })
  }
}

/** The whole value of an entry. `request` is what was written before, for a call. */
export async function valueOf(
  context: Context,
  { entry, path, params }: Found,
  request: Uint8Array,
  also?: AbortSignal,
): Promise<Uint8Array> {
  const call = callOf(context, path, params, also)
  const run = async (): Promise<Output> => {
    switch (entry.kind) {
      case 'computed':
      case 'file':
        return entry.run(call)
      case 'call':
        return entry.run(call, request)
      case 'ctl':
        return typeof entry.verbs === 'function' ? '' : Object.keys(entry.verbs).map((verb) => `${verb}\n`).join('') // prettier-ignore
      case 'stream':
      case 'directory':
        throw new NineError({ kind: 'internal', op: 'serve.read', path, message: `a ${entry.kind} has no value` })
    }
  }
  return bytesOf(await runFor('read', path, call.signal, run))
}

/** Run every whole line; what follows the last line break is given back. */
export async function runLines(context: Context, { path, params }: Found, entry: CtlEntry, text: string): Promise<string> {
  if (text.length > limits.ctl_bytes_max) {
    throw new NineError({
      kind: 'too_large',
      op: 'serve.ctl',
      path,
      message: `commands are at most ${limits.ctl_bytes_max} characters at once`,
    })
  }
  const lines = text.split('\n')
  const rest = lines.pop()!
  for (const line of lines) {
    const words = line.split(/\s+/).filter((word) => word !== '')
    const [verb, ...others] = words
    if (verb === undefined) continue
    const call = callOf(context, path, params)
    const { verbs } = entry
    if (typeof verbs === 'function') await runFor('ctl', path, call.signal, () => verbs(call, words))
    else {
      const command = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined
      if (command === undefined) {
        const message = `unknown command ${JSON.stringify(verb.slice(0, 64))}; there are: ${Object.keys(verbs).join(', ')}`
        throw new NineError({ kind: 'invalid', op: 'serve.ctl', path, message })
      }
      await runFor('ctl', path, call.signal, () => command(call, others))
    }
  }
  return rest
}
