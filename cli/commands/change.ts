/** write, append, edit, rm, mv, cp, mkdir, ln, chmod: changing the namespace. */
import type { Command } from 'commander'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { IfMatch, MutationResult } from '../../namespace/file-server.ts'
import { mutationToJson } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import { baseName, joinName, parsePath } from '../../namespace/path.ts'
import type { Client } from '../../sdk/client-api.ts'
import { editFile } from '../edit.ts'
import { action, countOption, durationOption } from './command.ts'
import type { Run } from './command.ts'
import { pathArgument } from '../working-directory.ts'

export function changeCommands(program: Command): void {
  program
    .command('write')
    .description('write a file from an argument or standard input; a line to a ctl file')
    .argument('<path>', 'file')
    .argument('[text]', 'its new value; without it, standard input')
    .option('-p, --parents', 'make missing directories')
    .option('--offset <n>', 'write there without truncating', countOption('--offset'))
    .option('--if-match <qid.version>', 'only when it still is this version, as nine stat shows it (Qid)')
    .option('--if-none', 'only when there is no such file')
    .option('--ttl <time>', 'remove it after this time (ms, s, m, h)', durationOption('--ttl'))
    .option('--content-type <type>', 'what the bytes are')
    .addHelpText(
      'after',
      '\nExamples:\n  nine write /data/motd "hello"\n  tar c . | nine write -p /data/backup/home.tar\n  nine write /svc/counter/ctl "add 5"',
    )
    .action(action(write))
  program
    .command('append')
    .description('add to the end of a file from an argument or standard input')
    .argument('<path>', 'file')
    .argument('[text]', 'what to add; without it, standard input')
    .option('-p, --parents', 'make missing directories')
    .action(action(append))
  program
    .command('edit')
    .description('open a file in $EDITOR and save it unless somebody else did meanwhile')
    .argument('<path>', 'file')
    .action(action(async ({ session, output }, path: string) => editFile(session.client, pathArgument(path), output)))
  program
    .command('rm')
    .description('remove files')
    .argument('<path...>', 'files or, with -r, trees')
    .option('-r, --recursive', 'directories and all below, in one change')
    .option('-f, --force', 'say nothing of what does not exist')
    .action(action(rm))
  program
    .command('mv')
    .description('move files and trees, atomically within a store')
    .usage('[options] <from...> <to>')
    .argument('<path...>', 'what to move, and last the new path or an existing directory')
    .option('-n, --no-clobber', 'fail when the target exists')
    .action(action(mv))
  program
    .command('cp')
    .description('copy files and trees')
    .usage('[options] <from...> <to>')
    .argument('<path...>', 'what to copy, and last the new path or an existing directory')
    .option('-r, --recursive', 'directories and all below')
    .addHelpText(
      'after',
      '\nCopies have the modes, times of change and content types of what they are copies of; their rights are those of their place.',
    )
    .action(action(cp))
  program
    .command('mkdir')
    .description('make directories')
    .argument('<path...>', 'directories')
    .option('-p, --parents', 'make missing parents; say nothing of existing ones')
    .action(action(mkdir))
  program
    .command('ln')
    .description('make a symbolic link; the namespace never follows it')
    .argument('<target>', 'text of the link')
    .argument('<path>', 'where it stands')
    .option('-s, --symbolic', 'the only kind there is; accepted for habit')
    .action(action(async (run, target: string, path: string) => show(run, await run.session.client.symlink(pathArgument(path), target))))
  program
    .command('chmod')
    .description('set the permission bits that imports, 9P and mounts show; rights decide access')
    .argument('<mode>', 'octal, like 644')
    .argument('<path...>', 'files')
    .action(action(chmod))
}

/** What a change answers is shown with --json only: like cp(1) and mv(1), success is silent. */
async function show({ output }: Run, result: MutationResult): Promise<void> {
  if (output.isJson) await output.json(mutationToJson(result))
}

interface WriteFlags {
  readonly parents?: boolean
  readonly offset?: number
  readonly ifMatch?: string
  readonly ifNone?: boolean
  readonly ttl?: number
  readonly contentType?: string
}

async function write(run: Run, text: string, value: string | undefined, flags: WriteFlags): Promise<void> {
  const { client } = run.session
  const path = pathArgument(text)
  const options = {
    parents: flags.parents,
    ifMatch: conditionOf(flags),
    ttlMs: flags.ttl,
    contentType: flags.contentType,
    signal: run.signal,
  }
  if (value !== undefined) return show(run, await client.write(path, value, { ...options, at: flags.offset }))
  if (flags.offset === undefined) return show(run, await writeStandardInput(client, path, options))
  let at = flags.offset
  for await (const part of standardInput()) {
    await show(run, await client.write(path, part, { ...options, at }))
    at += part.length
  }
}

/** Short input is one write, which ctl files and computed files understand too; long input is streamed. */
async function writeStandardInput(client: Client, path: string, options: Parameters<Client['write']>[2]): Promise<MutationResult> {
  const parts: Uint8Array[] = []
  let size = 0
  const input = standardInput()
  for (;;) {
    const step = await input.next()
    if (step.done === true) return client.write(path, Buffer.concat(parts), options)
    parts.push(step.value)
    size += step.value.length
    if (size > limits.write_bytes_max) break
  }
  async function* all(): AsyncGenerator<Uint8Array, void> {
    yield* parts
    yield* input
  }
  return client.writeStream(path, all(), { ...options, timeoutMs: Infinity })
}

async function* standardInput(): AsyncGenerator<Uint8Array, void> {
  for await (const part of process.stdin as AsyncIterable<Uint8Array>) yield part
}

function conditionOf({ ifMatch, ifNone }: WriteFlags): IfMatch | undefined {
  if (ifNone === true) return 'none'
  if (ifMatch === undefined) return undefined
  const match = /^(\d{1,16})\.(\d{1,16})$/.exec(ifMatch)
  if (match === null) {
    throw new NineError({
      kind: 'invalid',
      op: 'cli.options',
      message: `--if-match is QID.VERSION, like 42.3, not ${JSON.stringify(ifMatch)}`,
    })
  }
  return { path: Number(match[1]), version: Number(match[2]) }
}

async function append(run: Run, text: string, value: string | undefined, { parents }: { readonly parents?: boolean }): Promise<void> {
  const { client } = run.session
  const path = pathArgument(text)
  if (value !== undefined) return show(run, await client.append(path, value, { parents }))
  for await (const part of standardInput()) await show(run, await client.append(path, part, { parents, signal: run.signal }))
}

async function rm(
  run: Run,
  paths: string[],
  { recursive, force }: { readonly recursive?: boolean; readonly force?: boolean },
): Promise<void> {
  for (const path of paths) {
    try {
      await show(run, await run.session.client.remove(pathArgument(path), { recursive }))
    } catch (error) {
      if (!(force === true && isNineError(error, 'not_found'))) throw error
    }
  }
}

async function mv(run: Run, paths: string[], { clobber }: { readonly clobber?: boolean }): Promise<void> {
  const { client } = run.session
  for (const [source, target] of await targetsOf(client, paths)) {
    await show(run, await client.rename(source, target, { replace: clobber !== false }))
  }
}

async function cp(run: Run, paths: string[], { recursive }: { readonly recursive?: boolean }): Promise<void> {
  const { client } = run.session
  for (const [source, target] of await targetsOf(client, paths)) await client.copy(source, target, { recursive, signal: run.signal })
}

/** Each source with its new path: inside the last path when that is a directory, as mv(1) and cp(1) do. */
async function targetsOf(client: Client, paths: string[]): Promise<[string, string][]> {
  const from = paths.slice(0, -1)
  const to = paths.at(-1)!
  if (from.length === 0) throw new NineError({ kind: 'invalid', op: 'cli.targets', message: `where to? ${to} is the only path given` })
  const target = parsePath(pathArgument(to))
  const isInto = await client.stat(target).then(
    (stat) => stat.kind === 'directory',
    (error: unknown) => {
      if (isNineError(error, 'not_found')) return false
      throw error
    },
  )
  if (from.length > 1 && !isInto) {
    throw new NineError({
      kind: 'not_directory',
      op: 'cli.targets',
      path: target,
      message: `${target} is no directory to put several files in`,
    })
  }
  return from.map((text) => {
    const source = parsePath(pathArgument(text))
    return [source, isInto ? joinName(target, baseName(source)) : target]
  })
}

async function mkdir(run: Run, paths: string[], { parents }: { readonly parents?: boolean }): Promise<void> {
  const { client } = run.session
  for (const text of paths) {
    const path = pathArgument(text)
    try {
      await show(run, await client.mkdir(path, { parents }))
    } catch (error) {
      if (!(parents === true && isNineError(error, 'exists') && (await client.stat(path)).kind === 'directory')) throw error
    }
  }
}

async function chmod(run: Run, text: string, paths: string[]): Promise<void> {
  if (!/^[0-7]{1,4}$/.test(text)) {
    throw new NineError({ kind: 'invalid', op: 'cli.options', message: `a mode is up to four octal digits, not ${JSON.stringify(text)}` })
  }
  for (const path of paths) await show(run, await run.session.client.setStat(pathArgument(path), { mode: parseInt(text, 8) }))
}
