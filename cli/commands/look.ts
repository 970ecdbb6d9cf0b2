/** ls, tree, stat, cat, find, grep: reading the namespace. */
import type { Command } from 'commander'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { ReadOptions } from '../../namespace/file-server.ts'
import { parseTime, statToJson } from '../../namespace/json.ts'
import { baseName, joinName, parsePath } from '../../namespace/path.ts'
import { decodePosition } from '../../namespace/position.ts'
import type { Stat } from '../../namespace/stat.ts'
import type { Client } from '../../sdk/client-api.ts'
import { exitCodes } from '../exit-codes.ts'
import { coloredName, columnLines, longLines, shown, statText } from '../render/long.ts'
import { action, consistencyOption, countOption } from './command.ts'
import type { Run } from './command.ts'
import { pathArgument } from '../working-directory.ts'
import { globToRegExp } from './glob.ts'

export function lookCommands(program: Command): void {
  program
    .command('ls')
    .description('list directories')
    .argument('[path...]', 'directories or files; default the working directory', ['.'])
    .option('-l, --long', 'mode, version, owner, group, size, time')
    .option('-h, --human', 'sizes in KiB, MiB, …')
    .option('-R, --recursive', 'everything below')
    .option('-1', 'one name a line')
    .option('--at <moment>', 'as it was at a time (RFC 3339) or position')
    .addOption(consistencyOption())
    .addHelpText('after', '\nExamples:\n  nine ls -l /data\n  nine ls -R --json /svc | jq .name')
    .helpOption('--help', 'show help')
    .action(action(ls))
  program
    .command('tree')
    .description('show a tree')
    .argument('[path]', 'where to start; default the working directory', '.')
    .option('-L, --depth <n>', 'levels to show', countOption('--depth'))
    .addOption(consistencyOption())
    .addHelpText('after', '\nExample:\n  nine tree -L 2 /')
    .action(action(tree))
  program
    .command('stat')
    .description('show what is known of files')
    .argument('<path...>', 'files or directories')
    .option('--at <moment>', 'as it was at a time (RFC 3339) or position')
    .addOption(consistencyOption())
    .action(action(stat))
  program
    .command('cat')
    .description('write files, or the records of streams as they come, to standard output')
    .argument('<path...>', 'files')
    .option('--at <moment>', 'as it was at a time (RFC 3339) or position')
    .addOption(consistencyOption())
    .addHelpText('after', '\nExamples:\n  nine cat /data/motd\n  nine cat /svc/clock/ticks')
    .action(action(cat))
  program
    .command('find')
    .description('find files below directories')
    .argument('[path...]', 'where to start; default the working directory', ['.'])
    .option('--name <glob>', 'only names that match, with * ? [abc]')
    .option('--type <letter>', 'f file, d directory, l symbolic link')
    .option('--larger <bytes>', 'only files of more bytes', countOption('--larger'))
    .option('--newer <time>', 'only changed after this time (RFC 3339)')
    .addOption(consistencyOption())
    .addHelpText('after', "\nExample:\n  nine find /data --name '*.json' --type f")
    .action(action(find))
  program
    .command('grep')
    .description('search lines of files')
    .argument('<pattern>', 'a JavaScript regular expression')
    .argument('<path...>', 'files, or directories with -r')
    .option('-r, --recursive', 'all files below directories')
    .option('-i, --ignore-case', 'letters in either case')
    .option('-F, --fixed', 'the pattern is plain text')
    .option('-n, --line-number', 'show line numbers')
    .option('-l, --files', 'show only the names of files that match')
    .addOption(consistencyOption())
    .addHelpText('after', '\nExample:\n  nine grep -rn TODO /data/src\n\nExits with 1 when nothing matches.')
    .action(action(grep))
}

interface AtOption {
  readonly at?: string
}

function atOptions({ at }: AtOption): ReadOptions {
  if (at === undefined) return {}
  return { at: at.includes(':') ? parseTime(at, 'cli.options') : decodePosition(at, 'cli.options') }
}

interface LsOptions extends AtOption {
  readonly long?: boolean
  readonly human?: boolean
  readonly recursive?: boolean
  readonly 1?: boolean
}

async function ls({ session, output }: Run, paths: string[], options: LsOptions): Promise<void> {
  const { client } = session
  const reading = atOptions(options)
  for (const [i, text] of paths.entries()) {
    const path = pathArgument(text)
    const top = await client.stat(path, reading)
    const rows: { stat: Stat; name: string }[] = []
    const show = async (): Promise<void> => {
      const lines = options.long === true ? longLines(output, rows, options.human === true, Date.now()) : await shortLines()
      for (const line of lines) await output.line(line)
      rows.length = 0
    }
    const shortLines = async (): Promise<string[]> => {
      const isPlain = !output.isTerminal || options[1] === true || options.recursive === true
      return isPlain ? rows.map((row) => coloredName(output, row.stat, row.name)) : columnLines(output, rows)
    }
    if (paths.length > 1 && !output.isJson && top.kind === 'directory') await output.line(`${i === 0 ? '' : '\n'}${shown(output, path)}:`)
    if (top.kind !== 'directory') rows.push({ stat: top, name: text })
    else {
      for await (const stat of client.list(path, { ...reading, recursive: options.recursive })) {
        if (output.isJson) await output.json(statToJson(stat))
        else rows.push({ stat, name: stat.name })
        // Columns align over this many rows, so that millions of entries need no more memory.
        if (rows.length >= 10_000) await show()
      }
    }
    if (output.isJson && top.kind !== 'directory') await output.json(statToJson({ ...top, name: baseName(parsePath(path)) }))
    else if (rows.length > 0) await show()
  }
}

async function tree({ session, output }: Run, text: string, options: { readonly depth?: number }): Promise<void> {
  const { client } = session
  const path = pathArgument(text)
  const depth = options.depth ?? Infinity
  if (output.isJson) {
    for await (const stat of client.list(path, { recursive: true })) {
      if (stat.name.split('/').length <= depth) await output.json(statToJson(stat))
    }
    return
  }
  const counts = { directories: 0, files: 0 }
  await output.line(coloredName(output, await client.stat(path), path))
  await branches({ session, output } as Run, path, '', depth, counts)
  const plural = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`
  await output.line(`\n${plural(counts.directories, 'directory', 'directories')}, ${plural(counts.files, 'file', 'files')}`)
}

async function branches(
  run: Run,
  path: string,
  indent: string,
  depth: number,
  counts: { directories: number; files: number },
): Promise<void> {
  if (depth <= 0) return
  const { output, session } = run
  let held: Stat | undefined
  const show = async (stat: Stat, isLast: boolean): Promise<void> => {
    const link = stat.target === undefined ? '' : ` -> ${shown(output, stat.target)}`
    await output.line(`${indent}${isLast ? '└── ' : '├── '}${coloredName(output, stat, stat.name)}${link}`)
    if (stat.kind !== 'directory') {
      counts.files++
      return
    }
    counts.directories++
    try {
      await branches(run, joinName(parsePath(path), stat.name), `${indent}${isLast ? '    ' : '│   '}`, depth - 1, counts)
    } catch (error) {
      if (!isNineError(error, 'denied') && !isNineError(error, 'unavailable')) throw error
      await output.line(`${indent}${isLast ? '    ' : '│   '}└── [${error.kind}: ${error.message}]`)
    }
  }
  for await (const stat of session.client.list(path)) {
    if (held !== undefined) await show(held, false)
    held = stat
  }
  if (held !== undefined) await show(held, true)
}

async function stat({ session, output }: Run, paths: string[], options: AtOption): Promise<void> {
  for (const [i, text] of paths.entries()) {
    const path = pathArgument(text)
    const found = await session.client.stat(path, atOptions(options))
    if (output.isJson) await output.json({ path, ...statToJson(found) })
    else await output.line(`${i === 0 ? '' : '\n'}${statText(path, found, (text) => shown(output, text))}`)
  }
}

async function cat({ session, output, timeoutMs = Infinity }: Run, paths: string[], options: AtOption): Promise<void> {
  const { client } = session
  const reading = atOptions(options)
  for (const text of paths) {
    const path = pathArgument(text)
    if (reading.at !== undefined) {
      await output.bytes(await client.read(path, { ...reading, timeoutMs }))
      continue
    }
    const { kind } = await client.stat(path)
    if (kind === 'directory') throw new NineError({ kind: 'is_directory', op: 'cli.cat', path, message: `${path} is a directory` })
    for await (const part of client.readStream(path, { timeoutMs })) await output.bytes(part)
  }
}

interface FindOptions {
  readonly name?: string
  readonly type?: string
  readonly larger?: number
  readonly newer?: string
}

const kindsOf: Record<string, Stat['kind']> = { f: 'file', d: 'directory', l: 'symlink' }

async function find({ session, output }: Run, paths: string[], options: FindOptions): Promise<void> {
  const name = options.name === undefined ? undefined : globToRegExp(options.name)
  const newer = options.newer === undefined ? undefined : parseTime(options.newer, 'cli.options')
  if (options.type !== undefined && !(options.type in kindsOf)) {
    throw new NineError({ kind: 'invalid', op: 'cli.options', message: `--type is f, d or l, not ${JSON.stringify(options.type)}` })
  }
  const isWanted = (stat: Stat): boolean =>
    (name === undefined || name.test(stat.name.slice(stat.name.lastIndexOf('/') + 1))) &&
    (options.type === undefined || stat.kind === kindsOf[options.type]) &&
    (options.larger === undefined || (stat.kind === 'file' && (stat.size ?? 0) > options.larger)) &&
    (newer === undefined || stat.modifiedAt > newer)
  for (const text of paths) {
    const top = pathArgument(text)
    for await (const found of session.client.list(top, { recursive: true })) {
      if (!isWanted(found)) continue
      const path = joinName(parsePath(top), found.name)
      if (output.isJson) await output.json({ path, ...statToJson(found) })
      else await output.line(coloredName(output, found, path))
    }
  }
}

interface GrepOptions {
  readonly recursive?: boolean
  readonly ignoreCase?: boolean
  readonly fixed?: boolean
  readonly lineNumber?: boolean
  readonly files?: boolean
}

async function grep(run: Run, pattern: string, paths: string[], options: GrepOptions): Promise<number> {
  const expression = patternOf(pattern, options)
  const { client } = run.session
  let isFound = false
  for (const text of paths) {
    const top = pathArgument(text)
    const isDirectory = (await client.stat(top)).kind === 'directory'
    if (isDirectory && options.recursive !== true) {
      throw new NineError({ kind: 'is_directory', op: 'cli.grep', path: top, message: `${top} is a directory; -r searches what is below` })
    }
    const isNamed = isDirectory || paths.length > 1
    for await (const path of isDirectory ? filesBelow(client, top) : [top]) {
      if (await grepFile(run, expression, path, isNamed, options)) isFound = true
    }
  }
  return isFound ? exitCodes.done : exitCodes.no
}

function patternOf(pattern: string, options: GrepOptions): RegExp {
  const source = options.fixed === true ? pattern.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&') : pattern
  try {
    return new RegExp(source, options.ignoreCase === true ? 'iu' : 'u')
  } catch (cause) {
    throw new NineError({ kind: 'invalid', op: 'cli.options', message: `no regular expression: ${(cause as Error).message}`, cause })
  }
}

async function* filesBelow(client: Client, top: string): AsyncGenerator<string, void> {
  for await (const stat of client.list(top, { recursive: true })) if (stat.kind === 'file') yield joinName(parsePath(top), stat.name)
}

async function grepFile(
  { session, output }: Run,
  expression: RegExp,
  path: string,
  isNamed: boolean,
  options: GrepOptions,
): Promise<boolean> {
  let number = 0
  let isFound = false
  let rest = ''
  const decoder = new TextDecoder()
  const { colors } = output
  const look = async (line: string): Promise<boolean> => {
    number++
    if (!expression.test(line)) return false
    isFound = true
    if (output.isJson) await output.json(options.files === true ? { path } : { path, line: number, text: line })
    else if (options.files === true) await output.line(shown(output, path))
    else {
      const place =
        (isNamed ? `${colors.magenta(shown(output, path))}:` : '') + (options.lineNumber === true ? `${colors.green(String(number))}:` : '')
      await output.line(place + shown(output, line))
    }
    return options.files === true
  }
  for await (const part of session.client.readStream(path)) {
    // A NUL near the start: not text, as grep(1) decides.
    if (number === 0 && rest === '' && part.subarray(0, 8192).includes(0)) return false
    const lines = (rest + decoder.decode(part, { stream: true })).split('\n')
    rest = lines.pop()!
    for (const line of lines) if (await look(line)) return true
  }
  if (rest !== '') await look(rest)
  return isFound
}
