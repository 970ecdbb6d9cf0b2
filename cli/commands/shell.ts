/** shell: the commands of `nine` on one session, with a working directory, history and completion of paths. */
import { readFile, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Command } from 'commander'
import { CommanderError } from 'commander'
import { NineError } from '../../namespace/errors.ts'
import type { Session } from '../../sdk/session.ts'
import { shareSession } from '../connection.ts'
import { printError } from '../print-error.ts'
import { changeDirectory, pathArgument, workingDirectory } from '../working-directory.ts'
import { action, exit_interrupted } from './command.ts'
import type { Run } from './command.ts'
import { splitWords } from './words.ts'

const history_lines_max = 1000
const completions_max = 200

/** @param buildProgram the commands, made anew for each line because commander keeps the options of the line before */
export function shellCommand(program: Command, buildProgram: () => Command): void {
  program
    .command('shell')
    .description('work in the namespace: cd, ls, cat, bind, …; binds last as long as the shell')
    .addHelpText('after', '\nEnds with exit or Ctrl-D. Reads commands from standard input when that is no terminal.')
    .action(action((run) => shell(run, buildProgram), true))
}

async function shell({ session, output }: Run, buildProgram: () => Command): Promise<number> {
  shareSession(session)
  const isInteractive = process.stdin.isTTY === true
  const historyFile = process.env['NINE_HISTORY'] ?? join(homedir(), '.nine_history')
  const lines = createInterface({
    input: process.stdin,
    ...(isInteractive ? { output: process.stdout } : {}),
    history: isInteractive ? await readHistory(historyFile) : [],
    historySize: history_lines_max,
    removeHistoryDuplicates: true,
    completer: (line: string, done: (error: null, result: [string[], string]) => void) => {
      void complete(session, line, commandNames(buildProgram())).then((result) => done(null, result))
    },
  })
  let history: string[] = []
  lines.on('history', (known: string[]) => (history = known))
  const prompt = (): void => {
    if (!isInteractive) return
    lines.setPrompt(`${output.colors.bold(output.colors.blue(workingDirectory()))} $ `)
    lines.prompt()
  }
  let isRunning = false
  lines.on('SIGINT', () => {
    // The terminal is in raw mode: Ctrl-C is a key, and the command that runs waits for the signal.
    if (isRunning) {
      process.emit('SIGINT', 'SIGINT')
      return
    }
    lines.write(null, { ctrl: true, name: 'u' })
    process.stdout.write('\n')
    prompt()
  })
  let last = 0
  prompt()
  for await (const line of lines) {
    const words = wordsOf(line)
    if (words[0] === 'exit' || words[0] === 'quit') break
    isRunning = true
    if (words.length > 0) last = await runLine(session, words, buildProgram())
    isRunning = false
    // A script that was interrupted does not go on with its next line.
    if (!isInteractive && last === exit_interrupted) break
    prompt()
  }
  if (isInteractive) await writeFile(historyFile, [...history].reverse().join('\n'), { mode: 0o600 }).catch(() => undefined)
  return last
}

async function runLine(session: Session, words: string[], program: Command): Promise<number> {
  process.exitCode = 0
  try {
    if (words[0] === 'cd') await changeTo(session, words[1] ?? '/')
    else if (words[0] === 'pwd') process.stdout.write(`${workingDirectory()}\n`)
    else await program.parseAsync(words, { from: 'user' })
    return Number(process.exitCode ?? 0)
  } catch (error) {
    // commander has already said what is wrong with the line.
    if (error instanceof CommanderError) return error.exitCode
    return printError(error, false)
  }
}

async function changeTo(session: Session, text: string): Promise<void> {
  const path = pathArgument(text)
  const { kind } = await session.client.stat(path)
  if (kind !== 'directory') throw new NineError({ kind: 'not_directory', op: 'cli.cd', path, message: `${path} is no directory` })
  changeDirectory(path)
}

function wordsOf(line: string): string[] {
  try {
    return splitWords(line)
  } catch (error) {
    printError(error, false)
    return []
  }
}

function commandNames(program: Command): string[] {
  return ['cd', 'pwd', 'exit', ...program.commands.map((command) => command.name())]
}

/** What may stand at the end of `line`: commands for the first word, then paths of the namespace. */
async function complete(session: Session, line: string, commands: string[]): Promise<[string[], string]> {
  const word = /\S*$/.exec(line)![0]
  if (line.trimStart() === word) return [commands.filter((name) => name.startsWith(word)).map((name) => `${name} `), word]
  const slash = word.lastIndexOf('/')
  const typed = word.slice(0, slash + 1)
  try {
    const folder = pathArgument(typed === '' ? '.' : typed)
    const { entries } = await session.client.listAll(folder, { prefix: word.slice(slash + 1), limit: completions_max, timeoutMs: 2_000 })
    return [entries.map((stat) => `${typed}${quoteName(stat.name)}${stat.kind === 'directory' ? '/' : ' '}`), word]
  } catch {
    // Nothing to offer: the directory is missing, or its server does not answer in time.
    return [[], word]
  }
}

function quoteName(name: string): string {
  return name.replace(/[\s\\'"]/g, '\\$&')
}

async function readHistory(file: string): Promise<string[]> {
  try {
    return (await readFile(file, 'utf8')).split('\n').reverse().slice(0, history_lines_max)
  } catch {
    return []
  }
}
