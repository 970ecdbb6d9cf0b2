/** What a request says beside its body: the path, the query, preconditions, ranges. Parsed here, once, strictly. */
import { NineError } from '../../namespace/errors.ts'
import { parseTime } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePathBytes } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { decodePosition } from '../../namespace/position.ts'
import type { Position } from '../../namespace/position.ts'
import type { Micros, Qid } from '../../namespace/stat.ts'

/** Names that may stand in a query of /v1/fs. Anything else is `invalid`, so that a typo is not silently ignored. */
const queryNames = new Set([
  'at', 'consistency', 'min_position', 'list', 'stat', 'after', 'cursor', 'limit', 'recursive', 'prefix',
  'append', 'offset', 'ttl', 'lease', 'mkdir', 'rename', 'replace', 'call', 'symlink', 'watch', 'from', 'previous', 'rights',
]) // prettier-ignore

export interface Target {
  readonly path: Path
  readonly query: Query
}

/** Split and decode a request target below /v1/fs. @throws NineError `invalid`, `name_too_long` */
export function parseTarget(rest: string, query: string): Target {
  const path = parsePathBytes(percentDecode(rest === '' ? '/' : rest, 'path'), 'http.request')
  return { path, query: new Query(query) }
}

export class Query {
  readonly #values = new Map<string, string>()

  constructor(text: string) {
    for (const part of text.split('&')) {
      if (part === '') continue
      const equals = part.indexOf('=')
      const name = decodeText(equals === -1 ? part : part.slice(0, equals))
      if (!queryNames.has(name)) throw invalid(`unknown query parameter ${JSON.stringify(name.slice(0, 64))}`)
      if (this.#values.has(name)) throw invalid(`query parameter ${name} is given twice`)
      this.#values.set(name, equals === -1 ? '' : decodeText(part.slice(equals + 1)))
    }
  }

  get(name: string): string | undefined {
    return this.#values.get(name)
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

  /** An integer with an optional unit ms, s, m or h (default s), as milliseconds. */
  duration(name: string): number | undefined {
    const text = this.#values.get(name)
    if (text === undefined) return undefined
    const match = /^(\d{1,12})(ms|s|m|h)?$/.exec(text)
    if (match === null) throw invalid(`${name} is a whole number with ms, s, m or h, not ${JSON.stringify(text.slice(0, 64))}`)
    return Number(match[1]) * millisOf[match[2] as keyof typeof millisOf | undefined ?? 's'] // prettier-ignore
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

/** The opaque ETag of a version of a file. @param store '' where unversioned */
export function formatEtag(store: string, qid: Qid): string {
  return `"${Buffer.from(store).toString('base64url')}.${qid.path}.${qid.version}"`
}

export interface Etag {
  readonly store: string
  readonly path: number
  readonly version: number
}

/** The strong ETags of If-Match or If-None-Match, or '*'. Weak and foreign ones match nothing and are left out. */
export function parseEtags(header: string | undefined): '*' | Etag[] | undefined {
  if (header === undefined) return undefined
  if (header.trim() === '*') return '*'
  const etags: Etag[] = []
  for (const part of header.match(/(?:W\/)?"[^"]*"/g) ?? []) {
    const match = /^"([A-Za-z0-9_-]*)\.(\d{1,16})\.(\d{1,16})"$/.exec(part)
    if (match !== null)
      etags.push({ store: Buffer.from(match[1]!, 'base64url').toString(), path: Number(match[2]), version: Number(match[3]) })
  }
  return etags
}

/**
 * One byte range of a Range header over `size` bytes. undefined: answer the whole (no header, another unit, several ranges).
 * 'unsatisfiable': 416.
 */
export function parseRange(header: string | undefined, size: number): { start: number; length: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d{0,16})-(\d{0,16})$/.exec(header?.trim() ?? '')
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

/** Percent-decoding to bytes: the bytes decide what is valid, not a decoder that mends them. */
function percentDecode(text: string, what: string): Uint8Array {
  if (text.length > 3 * (limits.path_bytes_max + 1) && what === 'path') {
    throw new NineError({ kind: 'name_too_long', op: 'http.request', message: `a path is at most ${limits.path_bytes_max} bytes` })
  }
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
