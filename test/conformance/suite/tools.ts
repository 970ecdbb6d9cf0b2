/** What the tests of the conformance suite are written with: a server, a place of their own in it, and few short verbs. */
import { expect } from 'vitest'
import type { Context } from '../../../namespace/context.ts'
import { NineError, type ErrorKind } from '../../../namespace/errors.ts'
import type {
  FileServer,
  IfMatch,
  MutationResult,
  WatchBatch,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from '../../../namespace/file-server.ts'
import { parsePath, type Path } from '../../../namespace/path.ts'
import { positionOf, type Position } from '../../../namespace/position.ts'
import type { Principal } from '../../../namespace/rights.ts'
import type { Stat } from '../../../namespace/stat.ts'

/** The second principal of the suite: what they may do, they were granted. */
export const guest: Principal = { name: 'guest', groups: ['readers'] }

export interface Tools {
  readonly server: FileServer
  /** The same tree as the guest reaches it. */
  readonly guestServer: FileServer
  /** Of the owner; a new object for every use, so that deadlines are of this call. */
  readonly context: Context
  readonly guest: Context
  /** Path of `relative` in the directory that belongs to this test alone. */
  at(relative?: string): Path
  put(relative: string, value: string | Uint8Array, options?: WriteOptions): Promise<MutationResult>
  text(relative: string): Promise<string>
  stat(relative?: string): Promise<Stat>
  names(relative?: string): Promise<string[]>
  /** Watch from now on: events of earlier revisions are dropped. */
  watch(relative: string, options?: WatchOptions, context?: Context): Promise<Watching>
}

export interface Test {
  /** Stable: skips name it. Unique over the suite. */
  readonly name: string
  readonly run: (tools: Tools) => Promise<void>
  /** Milliseconds, where the default is too short. */
  readonly timeout?: number
}

export interface Group {
  readonly group: string
  readonly tests: readonly Test[]
}

/** A group as an object of named tests. */
export function group(name: string, tests: Record<string, (tools: Tools) => Promise<void>>): Group {
  return { group: name, tests: Object.entries(tests).map(([test, run]) => ({ name: test, run })) }
}

/** The operation fails with this kind, and with this path where one is given. */
export async function fails(operation: Promise<unknown>, kind: ErrorKind | readonly ErrorKind[], path?: string): Promise<NineError> {
  const error = await operation.then(
    (value) => expect.fail(`expected ${String(kind)}, got ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  )
  return expectKind(error, kind, path)
}

/** What was thrown is a NineError of this kind. */
export function expectKind(error: unknown, kind: ErrorKind | readonly ErrorKind[], path?: string): NineError {
  if (!(error instanceof NineError)) throw error
  const kinds = typeof kind === 'string' ? [kind] : kind
  expect(kinds, `${error.op} failed with ${error.kind}: ${error.message}`).toContain(error.kind)
  if (path !== undefined) expect(error.path).toBe(path)
  return error
}

export function bytesOf(value: string | Uint8Array): Uint8Array {
  return typeof value === 'string' ? new TextEncoder().encode(value) : value
}

export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes)
}

/** `size` bytes that differ from place to place, so that any shift or gap shows. */
export function pattern(size: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(size)
  let x = seed
  for (let i = 0; i < size; i++) {
    x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff
    bytes[i] = x >> 16
  }
  return bytes
}

/** Equal, without printing megabytes when not. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.length).toBe(expected.length)
  if (Buffer.compare(actual, expected) === 0) return
  const at = actual.findIndex((byte, i) => byte !== expected[i])
  expect.fail(`bytes differ from offset ${at}`)
}

export function matchOf(of: { readonly qid: { readonly path: number; readonly version: number } }): IfMatch {
  return { path: of.qid.path, version: of.qid.version }
}

/** The whole value of a file, read part by part. */
export async function readAll(server: FileServer, context: Context, path: Path): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for (let offset = 0; ;) {
    const { bytes } = await server.read(context, path, { offset })
    if (bytes.length === 0) return Buffer.concat(parts)
    parts.push(bytes)
    offset += bytes.length
  }
}

/** A watch being read: hands out its events one after the other. */
export class Watching {
  readonly batches: AsyncIterator<WatchBatch>
  readonly #from: Position
  readonly #events: WatchEvent[] = []
  /** The next wanted position after all batches read. */
  position: Position

  constructor(batches: AsyncIterable<WatchBatch>, from: Position) {
    this.batches = batches[Symbol.asyncIterator]()
    this.#from = from
    this.position = from
  }

  /** The next `count` events, waiting for them. */
  async events(count: number): Promise<WatchEvent[]> {
    while (this.#events.length < count) {
      const step = await this.batches.next()
      if (step.done === true) expect.fail(`the watch ended, ${count - this.#events.length} events are missing`)
      this.position = step.value.position
      this.#events.push(...step.value.events.filter((event) => this.#isNew(event)))
    }
    return this.#events.splice(0, count)
  }

  async event(): Promise<WatchEvent> {
    return (await this.events(1))[0]!
  }

  async close(): Promise<void> {
    await this.batches.return?.()
  }

  /** Events of the position it started from had been seen. */
  #isNew(event: WatchEvent): boolean {
    const [at] = event.position
    if (at === undefined) return true
    const start = positionOf(this.#from, at.store)
    return start === undefined || at.revision > start.revision
  }
}

/** The verbs over one server and one directory of it. */
export function toolsFor(server: FileServer, guestServer: FileServer, contextOf: (principal?: Principal) => Context, base: Path): Tools {
  const at = (relative = ''): Path => parsePath(`${base}/${relative}`)
  return {
    server,
    guestServer,
    get context() {
      return contextOf()
    },
    get guest() {
      return contextOf(guest)
    },
    at,
    put: (relative, value, options) => server.write(contextOf(), at(relative), bytesOf(value), options),
    text: async (relative) => textOf((await server.read(contextOf(), at(relative))).bytes),
    stat: async (relative) => (await server.stat(contextOf(), at(relative))).stat,
    names: async (relative) => (await server.list(contextOf(), at(relative))).entries.map((entry) => entry.name),
    watch: async (relative, options, context = contextOf()) => {
      const { position } = await server.stat(contextOf(), base)
      const patient = { ...context, deadline: Infinity }
      return new Watching(server.watch(patient, at(relative), { from: position, ...options }), position)
    },
  }
}
