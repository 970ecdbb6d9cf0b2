/** What a request says beside its body: the path, the query, preconditions, ranges. Parsed here, once, strictly. */
import { NineError } from '../../namespace/errors.ts'
import { parseTime } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePathBytes, rootPath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { decodePosition } from '../../namespace/position.ts'
import type { Position, StorePosition } from '../../namespace/position.ts'
import type { Micros, Qid } from '../../namespace/stat.ts'

/** What may stand in a query, by method. Anything else is `invalid`, so that a typo is not silently ignored. */
const reads = ['at', 'consistency', 'min_position', 'list', 'stat', 'after', 'cursor', 'limit', 'recursive', 'prefix', 'watch', 'from', 'previous', 'rights'] // prettier-ignore
const queryNames: Readonly<Record<string, ReadonlySet<string>>> = {
  GET: new Set(reads),
  HEAD: new Set(reads),
  PUT: new Set(['append', 'offset', 'ttl', 'lease', 'symlink', 'rights']),
  POST: new Set(['mkdir', 'rename', 'replace', 'call']),
  PATCH: new Set(),
  DELETE: new Set(['recursive', 'rights']),
}
const noNames: ReadonlySet<string> = new Set()

export interface Target {
  readonly path: Path
  readonly query: Query
}

/** Split and decode a request target below /v1/fs. @throws NineError `invalid`, `name_too_long` */
export function parseTarget(method: string, rest: string, query: string): Target {
  const path = rest === '' ? rootPath : parsePathBytes(percentDecode(rest, 'path'), 'http.request')
  return { path, query: new Query(query, method) }
}

export class Query {
  readonly #values = new Map<string, string>()

  constructor(text: string, method: string) {
    if (text === '') return
    const names = queryNames[method] ?? noNames
    for (const part of text.split('&')) {
      if (part === '') continue
      const equals = part.indexOf('=')
      const name = decodeText(equals === -1 ? part : part.slice(0, equals))
      if (!names.has(name)) throw invalid(`${method} takes no query parameter ${JSON.stringify(name.slice(0, 64))} here`)
      if (this.#values.has(name)) throw invalid(`query parameter ${name} is given twice`)
      this.#values.set(name, equals === -1 ? '' : decodeText(part.slice(equals + 1)))
    }
  }

  get(name: string): string | undefined {
    return this.#values.get(name)
  }

  /** Names and values in one order, whatever order they came in. */
  sorted(): [string, string][] {
    return [...this.#values].sort(([a], [b]) => (a < b ? -1 : 1))
  }

  /** A switch: present and not 'false' or '0'. */
  has(name: string): boolean {
    const value = this.#values.get(name)
    return value !== undefined && value !== 'false' && value !== '0'
  }

  /** A whole number ≥ 0. */
  count(name: string): number | undefined {
    const text = this.#values.get(name)
    if (text === undefined) return undefined
    const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN
    if (!Number.isSafeInteger(value)) throw invalid(`${name} is a whole number from 0, not ${JSON.stringify(text.slice(0, 64))}`)
    return value
  }

  /** A whole number from 1 with a unit ms, s, m or h (default s), as milliseconds that a lease can have. */
  ttl(name: string): number | undefined {
    const text = this.#values.get(name)
    if (text === undefined) return undefined
    const match = /^0*([1-9]\d{0,11})(ms|s|m|h)?$/.exec(text)
    if (match === null) throw invalid(`${name} is a whole number from 1 with ms, s, m or h, not ${JSON.stringify(text.slice(0, 64))}`)
    const ms = Number(match[1]) * millisOf[(match[2] ?? 's') as keyof typeof millisOf]
    if (ms > limits.lease_ttl_ms_max) throw invalid(`${name} is at most ${limits.lease_ttl_ms_max} ms`)
    // Shorter than a lease can be is still well within the second in which a file has to be gone.
    return Math.max(ms, limits.lease_ttl_ms_min)
  }

  position(name: string): Position | undefined {
    const text = this.#values.get(name)
    return text === undefined ? undefined : decodePosition(text, 'http.request')
  }

  /** A revision number, a position, or (for `at`) an RFC 3339 time. */
  moment(name: string): { revision: number } | { position: Position } | { time: Micros } | undefined {
    const text = this.#values.get(name)
    if (text === undefined) return undefined
    if (/^\d{1,16}$/.test(text)) return { revision: this.count(name)! }
    if (text.includes(':')) return { time: parseTime(text, 'http.request') }
    return { position: decodePosition(text, 'http.request') }
  }
}

const millisOf = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const

/**
 * The opaque ETag of a version of a file: its store, qid and version.
 * @param store undefined where the server keeps no history
 * @returns undefined for what has no versions: its content may change unseen
 */
export function formatEtag(store: StorePosition | undefined, qid: Qid): string | undefined {
  return qid.version === 0 ? undefined : `"${store === undefined ? '' : storeTag(store)}.${qid.path}.${qid.version}"`
}

/** Stores that ETags were made for, with their part of it. */
const storeTags = new Map<string, string>()
const storeTagsMax = 256

/** A store restored over has another incarnation: its versions are not those that were seen before. */
function storeTag({ store, incarnation }: StorePosition): string {
  const key = `${store}\n${incarnation}`
  let tag = storeTags.get(key)
  if (tag === undefined) {
    if (storeTags.size >= storeTagsMax) storeTags.clear()
    tag = Buffer.from(key).toString('base64url')
    storeTags.set(key, tag)
  }
  return tag
}

export interface Etag {
  /** Whether it is of this store. */
  isOf(store: StorePosition | undefined): boolean
  readonly path: number
  readonly version: number
}

/** One strong ETag as we make them; undefined for any other. */
export function parseEtag(text: string): Etag | undefined {
  const match = /^"([A-Za-z0-9_-]*)\.(\d{1,16})\.(\d{1,16})"$/.exec(text)
  if (match === null) return undefined
  const tag = match[1]!
  const path = Number(match[2])
  const version = Number(match[3])
  if (!Number.isSafeInteger(path) || !Number.isSafeInteger(version)) return undefined
  return { isOf: (store) => tag === (store === undefined ? '' : storeTag(store)), path, version }
}

/** The strong ETags of If-Match, or '*'. Weak and foreign ones match nothing and are left out. @throws NineError `invalid` */
export function parseEtags(header: string | undefined): '*' | Etag[] | undefined {
  if (header === undefined) return undefined
  if (header.trim() === '*') return '*'
  if (!/^\s*(?:W\/)?"[^"]*"(?:\s*,\s*(?:W\/)?"[^"]*")*\s*$/.test(header)) throw invalid('If-Match takes ETags, in quotes, or *')
  const etags: Etag[] = []
  for (const text of header.match(/(?:W\/)?"[^"]*"/g) ?? []) {
    const etag = parseEtag(text)
    if (etag !== undefined) etags.push(etag)
  }
  return etags
}

/**
 * One byte range of a Range header over `size` bytes. undefined: answer the whole (no header, another unit, several ranges).
 * 'unsatisfiable': 416.
 */
export function parseRange(header: string | undefined, size: number): { start: number; length: number } | 'unsatisfiable' | undefined {
  if (header === undefined) return undefined
  const match = /^bytes=\s*(\d*)-(\d*)\s*$/i.exec(header.trim())
  if (match === null || (match[1] === '' && match[2] === '')) return undefined
  if (match[1] === '') {
    const length = Math.min(Number(match[2]), size)
    return length === 0 ? 'unsatisfiable' : { start: size - length, length }
  }
  const start = Number(match[1])
  const end = match[2] === '' ? size - 1 : Math.min(Number(match[2]), size - 1)
  if (match[2] !== '' && Number(match[2]) < start) return undefined
  return start >= size ? 'unsatisfiable' : { start, length: end - start + 1 }
}

export function invalid(message: string): NineError {
  return new NineError({ kind: 'invalid', op: 'http.request', message })
}

/**
 * The cursor of a page as `next` gives it: a text that no name of an entry can be, since names do not begin with '/'. So it may
 * stand in `after` as well as in `cursor`.
 */
export function formatCursor(cursor: string): string {
  return `/${Buffer.from(cursor).toString('base64url')}`
}

/** Where a listing begins. @throws NineError `invalid` */
export function listStart(query: Query): { readonly after?: string; readonly cursor?: string } {
  const after = query.get('after')
  const cursor = query.get('cursor')
  if (after !== undefined && cursor !== undefined) throw invalid('after and cursor exclude each other')
  const text = cursor ?? after
  if (text === undefined || (cursor === undefined && !text.startsWith('/'))) return { after }
  if (!/^\/[A-Za-z0-9_-]+$/.test(text)) throw invalid('this is no cursor of a list')
  return { cursor: Buffer.from(text.slice(1), 'base64url').toString() }
}

/** Percent-decoding to bytes: the bytes decide what is valid, not a decoder that mends them. */
function percentDecode(text: string, what: string): Uint8Array {
  if (text.length > 3 * (limits.path_bytes_max + 1) && what === 'path') {
    throw new NineError({ kind: 'name_too_long', op: 'http.request', message: `a path is at most ${limits.path_bytes_max} bytes` })
  }
  if (!text.includes('%') && !/[^\x00-\xff]/.test(text)) return Buffer.from(text, 'latin1')
  const bytes = Buffer.alloc(text.length)
  let length = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code !== 0x25) {
      if (code > 0xff) throw invalid(`the ${what} holds a character that is not percent-encoded`)
      bytes[length++] = code
      continue
    }
    const hex = text.slice(i + 1, i + 3)
    if (!/^[0-9a-fA-F]{2}$/.test(hex)) throw invalid(`the ${what} holds a '%' without two hexadecimal digits`)
    bytes[length++] = parseInt(hex, 16)
    i += 2
  }
  return bytes.subarray(0, length)
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function decodeText(text: string): string {
  try {
    return utf8.decode(percentDecode(text, 'query'))
  } catch (error) {
    if (error instanceof NineError) throw error
    throw invalid('the query is not valid UTF-8')
  }
}
