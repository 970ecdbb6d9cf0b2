/**
 * Paths: parsed once at the edge into a branded string, never checked again inside.
 *
 * Invariants of a Path:
 * P1 it starts with '/', has no '//' and no trailing '/' unless it is '/' itself;
 * P2 no component is '.' or '..', empty, or longer than 255 bytes of UTF-8;
 * P3 it is well-formed Unicode without NUL and at most 1,024 bytes of UTF-8 when it came from a request.
 */
import { NineError } from './errors.ts'
import { limits } from './limits.ts'

declare const pathBrand: unique symbol
export type Path = string & { readonly [pathBrand]: true }

export const rootPath = '/' as Path

/**
 * Parse and normalise what a person or a program wrote. `.` and empty components vanish; `..` removes the component
 * before it and stops at the root. A relative path is `invalid`: only a client has a working directory.
 * @throws NineError `invalid` (relative, NUL, lone surrogate), `name_too_long` (component > 255 bytes, path > 1,024 bytes)
 */
export function parsePath(text: string, op = 'path.parse'): Path {
  if (isPlain(text)) return text as Path
  return parseSlowly(text, op)
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Parse a path that arrived as bytes. @throws NineError as parsePath, and `invalid` for malformed UTF-8 */
export function parsePathBytes(bytes: Uint8Array, op = 'path.parse'): Path {
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch (cause) {
    throw new NineError({ kind: 'invalid', op, message: 'the path is not valid UTF-8', cause })
  }
  return parsePath(text, op)
}

/**
 * Parse one name of a directory entry.
 * @throws NineError `invalid` (empty, '.', '..', '/', NUL, lone surrogate), `name_too_long` (> 255 bytes)
 */
export function parseName(text: string, op = 'path.parse'): string {
  if (text === '' || text === '.' || text === '..' || text.includes('/')) {
    throw new NineError({ kind: 'invalid', op, path: text, message: `${JSON.stringify(text)} is not a name` })
  }
  checkUnicode(text, op)
  checkNameLength(text, text, op)
  return text
}

/** The path of the entry `name` (already a valid name) in `directory`. */
export function joinName(directory: Path, name: string): Path {
  return (directory === '/' ? `/${name}` : `${directory}/${name}`) as Path
}

/** `base` followed by `relative`, a Path that is read as standing below `base`. */
export function joinPath(base: Path, relative: Path): Path {
  if (relative === '/') return base
  return (base === '/' ? relative : base + relative) as Path
}

/** The directory a path stands in; the root is its own parent. */
export function parentPath(path: Path): Path {
  const slash = path.lastIndexOf('/')
  return (slash <= 0 ? '/' : path.slice(0, slash)) as Path
}

/** The last component, '' for the root. */
export function baseName(path: Path): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** The components in order; none for the root. */
export function pathComponents(path: Path): string[] {
  return path === '/' ? [] : path.slice(1).split('/')
}

/** Whether `path` is `ancestor` or stands below it. */
export function isWithin(path: Path, ancestor: Path): boolean {
  if (ancestor === '/') return true
  return path.startsWith(ancestor) && (path.length === ancestor.length || path.charCodeAt(ancestor.length) === SLASH)
}

/** The part of `path` below `ancestor`, as a Path of its own: `/a/b/c` below `/a` is `/b/c`. Needs isWithin. */
export function relativePath(path: Path, ancestor: Path): Path {
  if (ancestor === '/') return path
  return (path.length === ancestor.length ? '/' : path.slice(ancestor.length)) as Path
}

/** Order of names in every listing: by Unicode code point, which is the order of their UTF-8 bytes. */
export function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x !== y) return inCodePointOrder(x) - inCodePointOrder(y)
  }
  return a.length - b.length
}

/** UTF-16 puts surrogates (code points above U+FFFF) before U+E000..U+FFFF; lift them behind. */
function inCodePointOrder(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit
}

const SLASH = 0x2f
const DOT = 0x2e

/** One pass that accepts what is already normal, printable ASCII and short: nearly every path of nearly every request. */
function isPlain(text: string): boolean {
  const length = text.length
  if (length === 0 || length > limits.path_bytes_max || text.charCodeAt(0) !== SLASH) return false
  if (length === 1) return true
  let start = 1
  for (let i = 1; i <= length; i++) {
    const code = i === length ? SLASH : text.charCodeAt(i)
    if (code === SLASH) {
      const size = i - start
      if (size === 0 || size > limits.name_bytes_max) return false
      if (text.charCodeAt(start) === DOT && (size === 1 || (size === 2 && text.charCodeAt(start + 1) === DOT))) return false
      start = i + 1
    } else if (code === 0 || code > 0x7e) {
      return false
    }
  }
  return true
}

function parseSlowly(text: string, op: string): Path {
  if (typeof text !== 'string' || text.charCodeAt(0) !== SLASH) {
    throw new NineError({ kind: 'invalid', op, path: String(text).slice(0, limits.path_bytes_max), message: 'a path starts with "/"' })
  }
  if (Buffer.byteLength(text) > limits.path_bytes_max) {
    const message = `a path is at most ${limits.path_bytes_max} bytes, this one is ${Buffer.byteLength(text)}`
    throw new NineError({ kind: 'name_too_long', op, path: text.slice(0, limits.path_bytes_max), message })
  }
  checkUnicode(text, op)
  const kept: string[] = []
  for (const component of text.split('/')) {
    if (component === '' || component === '.') continue
    if (component === '..') {
      kept.pop()
      continue
    }
    checkNameLength(component, text, op)
    kept.push(component)
  }
  return `/${kept.join('/')}` as Path
}

function checkUnicode(text: string, op: string): void {
  if (text.includes('\0')) throw new NineError({ kind: 'invalid', op, path: text, message: 'a name holds no NUL' })
  if (!isWellFormed(text)) throw new NineError({ kind: 'invalid', op, path: text, message: 'a name is well-formed Unicode' })
}

function isWellFormed(text: string): boolean {
  return !/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(text)
}

function checkNameLength(name: string, path: string, op: string): void {
  const bytes = Buffer.byteLength(name)
  if (bytes > limits.name_bytes_max) {
    const message = `a name is at most ${limits.name_bytes_max} bytes, this one is ${bytes}`
    throw new NineError({ kind: 'name_too_long', op, path, message })
  }
}
