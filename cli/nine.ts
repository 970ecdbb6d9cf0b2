#!/usr/bin/env node
/** The `nine` command: reads the line, runs one command, exits with its code. */
import { createRequire } from 'node:module'
import { Command, CommanderError } from 'commander'
import { backupCommands } from './commands/backup.ts'
import { changeCommands } from './commands/change.ts'
import { durationOption, exit_interrupted } from './commands/command.ts'
import { fuseCommand } from './commands/fuse.ts'
import { lookCommands } from './commands/look.ts'
import { raftCommands } from './commands/raft.ts'
import { shellCommand } from './commands/shell.ts'
import { spaceCommands } from './commands/space.ts'
import { transferCommands } from './commands/transfer.ts'
import { upCommand } from './commands/up.ts'
import { watchCommand } from './commands/watch.ts'
import { exitCodes, exitCodeTable } from './exit-codes.ts'
import { printError } from './print-error.ts'

const { version } = createRequire(import.meta.url)('ninefold/package.json') as { version: string }

/** @param isShell the commands inside `nine shell`, which has neither up nor a shell of its own */
function buildProgram(isShell: boolean): Command {
  const program = new Command('nine')
    .description('Ninefold: every service is a file server and every name is a path.')
    .option('--addr <host:port>', 'gRPC address of the node, or A,B,C: of nodes of one cluster (or NINE_ADDR; default 127.0.0.1:9581)')
    .option('--token-file <file>', "file with the token (or NINE_TOKEN_FILE; default the default node's)")
    .option('--tls-ca <file>', 'connect with TLS to a node whose certificate this signs, PEM (or NINE_TLS_CA)')
    .option('--json', 'JSON output, one value a line')
    .option(
      '--timeout <time>',
      'fail a request after this time, default 60s, and end a watch or a stream, which have none (ms, s, m, h)',
      durationOption('--timeout'),
    )
    .version(version, '--version')
    .helpOption('--help', 'show help')
    .configureHelp({ showGlobalOptions: true })
    .showSuggestionAfterError()
    .exitOverride()
    .addHelpText('after', `\nExit codes:\n${exitCodeTable()}`)
  // Help of a command that does not exist is a mistake like the command itself.
  program.on('beforeAllHelp', () => {
    const [name] = program.args
    if (name !== undefined && name !== 'help' && !name.startsWith('-') && !program.commands.some((known) => known.name() === name)) {
      program.error(`error: unknown command '${name}'`)
    }
  })
  if (!isShell) upCommand(program)
  lookCommands(program)
  changeCommands(program)
  watchCommand(program)
  spaceCommands(program, isShell)
  transferCommands(program)
  raftCommands(program)
  if (!isShell) backupCommands(program)
  if (!isShell) fuseCommand(program)
  if (!isShell) shellCommand(program, () => buildProgram(true))
  return program
}

// `nine cat big | head` closes the pipe early: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
try {
  await buildProgram(false).parseAsync()
  // What was interrupted may still wait for its input.
  if (process.exitCode === exit_interrupted) process.exit()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? exitCodes.done : exitCodes.usage
  else process.exitCode = printError(error, process.argv.includes('--json'))
}
