/**
 * Namespace files: a namespace as lines of text, so that what a service or a person sees is data (namespace(6)).
 *
 *   mount [-b|-a] [-c] SOURCE PATH     SOURCE: a service's name, nine://HOST:PORT[/PATH] or
 *                                      9p://[USER@]HOST[:PORT][/ANAME]
 *   bind [-b|-a] [-c] NEW OLD
 *   unmount [NEW] OLD
 *
 * A line that is empty or begins with '#' says nothing; so does what stands after a '#' that begins a word. A word that
 * holds spaces, quotes or '#' stands in single quotes, in which '' is one quote (rc(1)).
 *
 * A1 A file is parsed as a whole before any of it is applied. A failure names its line.
 * A2 Printing and parsing again gives the same lines.
 */
import type { Context } from './context.ts'
import { NineError, toNineError, textOf } from './errors.ts'
import type { FileServer } from './file-server.ts'
import { limits } from './limits.ts'
import type { Channel, MountEntry, MountOrder } from './mount-table.ts'
import type { Namespace } from './namespace.ts'
import { parsePath } from './path.ts'
import type { Path } from './path.ts'

export type NamespaceLine =
  | { readonly verb: 'mount'; readonly source: string; readonly at: Path; readonly order: MountOrder; readonly create: boolean }
  | { readonly verb: 'bind'; readonly source: Path; readonly at: Path; readonly order: MountOrder; readonly create: boolean }
  | { readonly verb: 'unmount'; readonly source: string | undefined; readonly at: Path }

/** Where the lines stand in the file, from 1; for messages. */
export type NumberedLine = NamespaceLine & { readonly line: number }

/** What SOURCE stands for. @throws NineError `not_found`, `unsupported` */
export type ResolveSource = (source: string) => FileServer | Channel | Promise<FileServer | Channel>

/** @throws NineError `invalid` with the line's number, `too_large` past limits.namespace_file_bytes_max */
export function parseNamespaceFile(text: string): NumberedLine[] {
  if (Buffer.byteLength(text) > limits.namespace_file_bytes_max) {
    const message = `a namespace file has at most ${limits.namespace_file_bytes_max} bytes`
    throw new NineError({ kind: 'too_large', op: 'namespace.parse', message })
  }
  const lines: NumberedLine[] = []
  for (const [index, row] of text.split('\n').entries()) {
    const line = index + 1
    const words = splitWords(row.endsWith('\r') ? row.slice(0, -1) : row, line)
    if (words.length > 0) lines.push({ ...parseWords(words, line), line })
  }
  return lines
}

/** The lines of `namespace.entries()`, or any others, as a file. @throws NineError `invalid` for a name with a line break */
export function printNamespaceFile(lines: readonly (NamespaceLine | MountEntry)[]): string {
  return lines.map((line) => `${printLine(line)}\n`).join('')
}

/**
 * Do what the lines say, in order. Without `failed` the first failure ends it (what was done before it stays done: apply
 * to a fork); with it, each failure is given to it and the rest goes on, so that one missing service does not take away
 * a whole namespace.
 * @throws NineError of the line that failed, its number in the message
 */
export async function applyNamespaceFile(
  context: Context,
  lines: readonly NumberedLine[],
  namespace: Namespace,
  resolveSource: ResolveSource,
  failed?: (error: NineError, line: NumberedLine) => void,
): Promise<void> {
  for (const line of lines) {
    try {
      await applyLine(context, line, namespace, resolveSource)
    } catch (error) {
      const cause = toNineError(error, 'namespace.apply', line.at)
      const failure = new NineError({ ...cause.fields, message: `line ${line.line} (${printLine(line)}): ${cause.message}`, cause })
      if (failed === undefined) throw failure
      failed(failure, line)
    }
  }
}

async function applyLine(context: Context, line: NamespaceLine, namespace: Namespace, resolveSource: ResolveSource): Promise<void> {
  switch (line.verb) {
    case 'mount': {
      const { order, create, source } = line
      return namespace.mount(context, await resolveSource(source), line.at, { order, create, source })
    }
    case 'bind':
      return namespace.bind(context, line.source, line.at, { order: line.order, create: line.create })
    case 'unmount':
      return namespace.unmount(context, line.at, line.source)
  }
}

function parseWords(words: readonly string[], line: number): NamespaceLine {
  const [verb, ...rest] = words
  if (verb === 'unmount') {
    const at = rest.at(-1)
    if (at === undefined || rest.length > 2) throw wrong(line, 'unmount takes [NEW] OLD')
    return { verb, source: rest.length === 2 ? rest[0] : undefined, at: pathOf(at, line) }
  }
  if (verb !== 'mount' && verb !== 'bind') throw wrong(line, `${JSON.stringify(verb!.slice(0, 64))} is none of mount, bind, unmount`)
  const { order, create, operands } = parseFlags(rest, line)
  const [source, at] = operands
  if (source === undefined || at === undefined || operands.length > 2) {
    throw wrong(line, verb === 'mount' ? 'mount takes [-b|-a] [-c] SOURCE PATH' : 'bind takes [-b|-a] [-c] NEW OLD')
  }
  if (source === '') throw wrong(line, 'the source is empty')
  if (verb === 'bind') return { verb, source: pathOf(source, line), at: pathOf(at, line), order, create }
  return { verb, source, at: pathOf(at, line), order, create }
}

function parseFlags(words: readonly string[], line: number): { order: MountOrder; create: boolean; operands: readonly string[] } {
  let order: MountOrder = 'replace'
  let create = false
  let i = 0
  for (; i < words.length && words[i]!.startsWith('-'); i++) {
    if (words[i] === '--') {
      i++
      break
    }
    for (const flag of words[i]!.slice(1) || '-') {
      if (flag === 'c') create = true
      else if (flag !== 'a' && flag !== 'b') throw wrong(line, `-${flag} is none of -a, -b, -c`)
      else if (order !== 'replace') throw wrong(line, 'give -a or -b, once')
      else order = flag === 'a' ? 'after' : 'before'
    }
  }
  return { order, create, operands: words.slice(i) }
}

function pathOf(text: string, line: number): Path {
  try {
    return parsePath(text, 'namespace.parse')
  } catch (error) {
    throw wrong(line, textOf(error), error)
  }
}

function splitWords(row: string, line: number): string[] {
  const words: string[] = []
  let at = 0
  for (;;) {
    while (row[at] === ' ' || row[at] === '\t') at++
    if (at >= row.length || row[at] === '#') return words
    let word = ''
    while (at < row.length && row[at] !== ' ' && row[at] !== '\t') {
      if (row[at] !== "'") {
        word += row[at++]
        continue
      }
      const { text, end } = quoted(row, at, line)
      word += text
      at = end
    }
    words.push(word)
  }
}

/** The text between the quote at `start` and its other one; `end` is behind it. */
function quoted(row: string, start: number, line: number): { text: string; end: number } {
  let text = ''
  for (let at = start + 1; at < row.length; at++) {
    if (row[at] !== "'") text += row[at]
    else if (row[at + 1] === "'") text += row[at++]
    else return { text, end: at + 1 }
  }
  throw wrong(line, 'a quote is not closed')
}

function printLine(line: NamespaceLine | MountEntry): string {
  const words: string[] = [line.verb]
  if (line.verb !== 'unmount') {
    if (line.order !== 'replace') words.push(line.order === 'before' ? '-b' : '-a')
    if (line.create) words.push('-c')
  }
  if (line.source !== undefined) {
    if (line.verb !== 'unmount' && line.source.startsWith('-')) words.push('--')
    words.push(quote(line.source))
  }
  words.push(quote(line.at))
  return words.join(' ')
}

function quote(word: string): string {
  if (/[\n\r]/.test(word)) {
    const message = `${JSON.stringify(word)} cannot stand in a namespace file: it has a line break`
    throw new NineError({ kind: 'invalid', op: 'namespace.print', message })
  }
  return /^[^\s'#]+$/.test(word) ? word : `'${word.replaceAll("'", "''")}'`
}

function wrong(line: number, message: string, cause?: unknown): NineError {
  return new NineError({ kind: 'invalid', op: 'namespace.parse', message: `line ${line}: ${message}`, cause })
}
