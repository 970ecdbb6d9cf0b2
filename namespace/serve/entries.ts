/** What a service is made of: entries of a table, each a plain object made by one of these functions. */
import type { Context } from '../context.ts'
import type { Path } from '../path.ts'
import type { Principal } from '../rights.ts'
import { Feed } from './feed.ts'

/** Who asks, for what, and until when. */
export interface Call {
  readonly principal: Principal
  /** Path in this server. */
  readonly path: Path
  /** Names below generated directories on the way, outermost first. */
  readonly params: readonly string[]
  /** Aborted when the caller has gone, the deadline has passed, or the handle was closed. */
  readonly signal: AbortSignal
  readonly context: Context
}

/** Text, bytes, or anything else, which is shown as one line of JSON; undefined is nothing. */
export type Output = string | Uint8Array | object | number | boolean | undefined

type Awaitable<T> = T | Promise<T>

export interface ComputedEntry {
  readonly kind: 'computed'
  readonly run: (call: Call) => Awaitable<Output>
}

export interface FileEntry {
  readonly kind: 'file'
  /** Bytes of its value, where that is known without running anything. */
  readonly size: (() => number) | undefined
  readonly run: (call: Call) => Awaitable<Output>
  /** Takes the whole new value; without it the file is read-only. */
  readonly write: ((call: Call, bytes: Uint8Array) => Awaitable<unknown>) | undefined
}

export type CtlVerb = (call: Call, words: readonly string[]) => Awaitable<unknown>

export interface CtlEntry {
  readonly kind: 'ctl'
  /** By verb, or one function for every line, which gets all its words. */
  readonly verbs: Readonly<Record<string, CtlVerb>> | CtlVerb
}

export interface CallEntry {
  readonly kind: 'call'
  readonly run: (call: Call, request: Uint8Array) => Awaitable<Output>
}

export interface StreamEntry {
  readonly kind: 'stream'
  readonly run: (call: Call) => AsyncIterable<Output>
}

export interface DirectoryEntry {
  readonly kind: 'directory'
  readonly children: Table | GeneratedChildren
}

/** Children that come and go: what a directory shows is asked for each time. */
export interface GeneratedChildren {
  /** All names; in any order. */
  readonly list: (call: Call) => Awaitable<Iterable<string>>
  /** The entry of a name, undefined when there is none. */
  readonly lookup: (call: Call, name: string) => Awaitable<Entry | Table | undefined>
}

export type Entry = ComputedEntry | FileEntry | CtlEntry | CallEntry | StreamEntry | DirectoryEntry

/** Entries by name; a table in a table is a directory. */
export interface Table {
  readonly [name: string]: Entry | Table
}

/** A file whose read runs `run`. */
export function computed(run: ComputedEntry['run']): ComputedEntry {
  return { kind: 'computed', run }
}

/**
 * A file with a value, or a function that gives it. With `write` it takes a whole new value; what `write` throws refuses it.
 * A value given here is replaced by what was written; a function goes on giving whatever it gives.
 */
export function file(value: Exclude<Output, undefined> | FileEntry['run'], write?: FileEntry['write']): FileEntry {
  if (typeof value === 'function') return { kind: 'file', run: value as FileEntry['run'], write, size: undefined }
  let bytes = bytesOf(value)
  const replace: FileEntry['write'] = async (call, written) => {
    const kept = written.slice()
    await write!(call, kept)
    bytes = kept
  }
  return { kind: 'file', run: () => bytes, write: write === undefined ? undefined : replace, size: () => bytes.length }
}

/**
 * A file that takes commands, one a line: the first word is the verb, the others are its arguments. An unknown verb is
 * `invalid`. Reading it shows the verbs.
 */
export function ctl(verbs: CtlEntry['verbs']): CtlEntry {
  return { kind: 'ctl', verbs }
}

/** A file to write a request to and read the answer from, on one open handle. */
export function call(run: CallEntry['run']): CallEntry {
  return { kind: 'call', run }
}

/**
 * A file whose reads wait for the next record. Each open handle has an iteration of its own, ended when it is closed; a
 * slow reader holds its own iteration back. A Feed gives the same records to all who read, as they come.
 */
export function stream(records: StreamEntry['run'] | Feed<Output>): StreamEntry {
  return { kind: 'stream', run: records instanceof Feed ? (call) => records.read(call.signal) : records }
}

/** A directory of fixed entries, or of generated ones. */
export function directory(children: DirectoryEntry['children']): DirectoryEntry {
  return { kind: 'directory', children }
}

/** The bytes of what a function gave. */
export function bytesOf(output: Output): Uint8Array {
  if (output instanceof Uint8Array) return output
  if (output === undefined) return new Uint8Array()
  return Buffer.from(typeof output === 'string' ? output : `${JSON.stringify(output)}\n`)
}

export function isGenerated(children: DirectoryEntry['children']): children is GeneratedChildren {
  return typeof (children as GeneratedChildren).list === 'function' && typeof (children as GeneratedChildren).lookup === 'function'
}

/** What stands in a table, as an entry: a table in a table is a directory. */
export function entryOf(value: Entry | Table): Entry {
  return typeof (value as Entry).kind === 'string' ? (value as Entry) : directory(value as Table)
}
