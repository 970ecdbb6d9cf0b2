/**
 * Open handles on entries of a table: what a handle remembers between its reads and writes.
 *
 * E1 Reads and writes of one handle happen one after the other, in the order they came.
 * E2 A value is computed once a handle, at its first read, so that reads in parts fit together.
 * E3 A stream's iteration begins at open and is ended by close; it runs one record ahead at most, so a slow reader holds it
 *    back. A read that is given up leaves its record for the next one.
 */
import type { Context } from '../context.ts'
import { NineError, type ErrorKind } from '../errors.ts'
import type { HandleReadResult, HandleWriteResult, OpenFlags } from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Call, Output } from './entries.ts'
import { run, runWatched } from './run.ts'
import { bytesFor, Commands, valueOf } from './values.ts'
import type { Found } from './walk-table.ts'

const nothing = new Uint8Array(0)

export class OpenEntry {
  readonly found: Found
  readonly flags: OpenFlags
  readonly principal: string
  readonly session: number
  readonly #closed = new AbortController()
  readonly #records: AsyncIterator<Output> | undefined
  readonly #commands: Commands | undefined
  #turn: Promise<unknown> = Promise.resolve()
  /** The value computed at the first read (E2), the answer of a call, or what is left of a record. */
  #value: Uint8Array | undefined
  /** The request of a call; the new value of a file. undefined: nothing was written. */
  #written: Uint8Array | undefined
  #isPublished = false
  /** The record asked for, until somebody gets it (E3). */
  #pending: Promise<IteratorResult<Output>> | undefined

  /** @throws NineError what a stream's function throws */
  constructor(context: Context, found: Found, flags: OpenFlags) {
    this.found = found
    this.flags = flags
    this.principal = context.principal.name
    this.session = context.session ?? 0
    const { entry, path, params } = found
    if (entry.kind === 'ctl') this.#commands = new Commands(found, entry)
    if (entry.kind === 'file' && flags.write === true && flags.truncate === true) this.#written = nothing
    if (entry.kind !== 'stream') return
    // A stream outlives the request that opened it.
    const lasting: Context = { ...context, deadline: Infinity, signal: undefined }
    const call: Call = { principal: context.principal, path, params, context: lasting, signal: this.#closed.signal }
    this.#records = entry.run(call)[Symbol.asyncIterator]()
  }

  read(context: Context, offset: number, length: number): Promise<HandleReadResult> {
    checkCount(offset, 'readHandle', this.found.path)
    checkCount(length, 'readHandle', this.found.path)
    const most = Math.min(length, limits.read_bytes_max)
    return this.#inTurn(context, 'readHandle', (signal) =>
      this.#records === undefined ? this.#readValue(context, offset, most) : this.#readRecord(this.#records, most, signal),
    )
  }

  write(context: Context, bytes: Uint8Array, offset: number | 'append'): Promise<HandleWriteResult> {
    if (offset !== 'append') checkCount(offset, 'writeHandle', this.found.path)
    return this.#inTurn(context, 'writeHandle', async () => {
      const { entry } = this.found
      if (this.#commands !== undefined) {
        await this.#commands.take(context, bytes)
        return { written: bytes.length, size: 0 }
      }
      if (entry.kind === 'call' && this.#value !== undefined) {
        // A write behind an answer begins the next request.
        this.#written = undefined
        this.#value = undefined
      }
      const before = await this.#current(context)
      const at = offset === 'append' ? before.length : offset
      return { written: bytes.length, size: this.#stage(before, Math.max(before.length, at + bytes.length), bytes, at) }
    })
  }

  truncate(context: Context, size: number): Promise<void> {
    checkCount(size, 'truncateHandle', this.found.path)
    return this.#inTurn(context, 'truncateHandle', async () => {
      if (this.#commands !== undefined) return
      this.#stage(await this.#current(context), size, nothing, 0)
    })
  }

  /** A file takes what was written; a ctl file its last line without a line break. */
  async sync(context: Context): Promise<void> {
    // A handle whose read still waits is closed without waiting for it.
    if (this.#commands === undefined && this.found.entry.kind !== 'file') return
    return this.#inTurn(context, 'syncHandle', async () => {
      const { entry } = this.found
      const written = this.#written
      await this.#commands?.finish(context)
      if (entry.kind !== 'file' || entry.write === undefined || written === undefined || this.#isPublished) return
      const { write } = entry
      await run(context, 'write', this.found, (call) => write(call, written))
      this.#isPublished = true
    })
  }

  close(): void {
    this.#closed.abort()
    // A generator that waits for something of its own ends when that comes; nobody waits for it here.
    Promise.resolve(this.#records?.return?.()).catch(() => undefined)
  }

  async #readValue(context: Context, offset: number, length: number): Promise<HandleReadResult> {
    const { entry } = this.found
    const staged = entry.kind === 'file' ? this.#written : undefined
    const value = staged ?? (this.#value ??= await valueOf(context, this.found, this.#written ?? nothing, this.#closed.signal))
    const bytes = value.subarray(offset, offset + length)
    return { bytes, end: offset + bytes.length >= value.length }
  }

  async #readRecord(records: AsyncIterator<Output>, length: number, signal: AbortSignal): Promise<HandleReadResult> {
    while (this.#value === undefined || this.#value.length === 0) {
      // E3: whoever gives up leaves the record where it is; from here on, whoever asked gets it.
      const step = await unlessAborted((this.#pending ??= records.next()), signal)
      if (step.done === true) return { bytes: nothing, end: true }
      this.#pending = undefined
      this.#value = bytesFor(step.value, this.found.path)
    }
    const bytes = this.#value.subarray(0, length)
    this.#value = this.#value.subarray(length)
    return { bytes, end: false }
  }

  /** The bytes that a write at an offset changes. */
  async #current(context: Context): Promise<Uint8Array> {
    if (this.#written !== undefined || this.found.entry.kind === 'call') return this.#written ?? nothing
    return valueOf(context, this.found, nothing, this.#closed.signal)
  }

  #stage(before: Uint8Array, size: number, bytes: Uint8Array, at: number): number {
    if (size > limits.write_bytes_max) {
      throw failure('too_large', 'writeHandle', this.found.path, `at most ${limits.write_bytes_max} bytes are taken here`)
    }
    const next = new Uint8Array(size)
    next.set(before.subarray(0, size))
    next.set(bytes, at)
    this.#written = next
    this.#isPublished = false
    return size
  }

  /** E1. Also waiting for its turn ends with the caller's deadline. */
  #inTurn<T>(context: Context, verb: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const take = async ({ signal }: Call): Promise<T> => {
      const before = this.#turn
      let leave!: () => void
      const mine = new Promise<void>((resolve) => (leave = resolve))
      this.#turn = before.then(() => mine)
      try {
        await unlessAborted(before, signal)
        return await work(signal)
      } finally {
        leave()
      }
    }
    return runWatched(context, verb, this.found, take, this.#closed.signal)
  }
}

/** Wait for `promise`, or until the signal aborts, whatever comes first. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop: (() => void) | undefined
  const aborted = new Promise<never>((_resolve, reject) => {
    stop = () => reject(new NineError({ kind: 'deadline', op: 'serve.readHandle', message: 'the caller has gone or its time is over' }))
    signal.addEventListener('abort', stop, { once: true })
  })
  try {
    if (signal.aborted) stop!()
    return await Promise.race([aborted, promise])
  } finally {
    signal.removeEventListener('abort', stop!)
  }
}

function checkCount(count: number, verb: string, path: string): void {
  if (!Number.isSafeInteger(count) || count < 0) throw failure('invalid', verb, path, `${count} is no offset, length or size`)
}

function failure(kind: ErrorKind, verb: string, path: string, message: string): NineError {
  return new NineError({ kind, op: `serve.${verb}`, path, message })
}
