/** watch: changes as they happen. */
import type { Command } from 'commander'
import { NineError } from '../../namespace/errors.ts'
import { eventToJson, revisionOf } from '../../namespace/json.ts'
import { decodePosition } from '../../namespace/position.ts'
import type { WatchEvent } from '../../namespace/file-server.ts'
import { printable } from '../render/long.ts'
import { action, countOption } from './command.ts'
import type { Run } from './command.ts'
import { pathArgument } from '../working-directory.ts'

/** Longest timer of Node, milliseconds. */
const timer_ms_max = 2 ** 31 - 1

export function watchCommand(program: Command): void {
  program
    .command('watch')
    .description('print changes of a path as they happen, until Ctrl-C or --timeout')
    .argument('<path>', 'a file, or a directory and its children')
    .option('-r, --recursive', 'everything below')
    .option('--from <position>', 'start at a revision or position instead of now')
    .option('-n, --count <n>', 'stop after this many changes', countOption('--count'))
    .addHelpText('after', '\nExamples:\n  nine watch -r /data\n  nine watch --from 1 -n 10 --json /data/config')
    .action(action(watch))
}

interface WatchFlags {
  readonly recursive?: boolean
  readonly from?: string
  readonly count?: number
}

async function watch({ session, output, timeoutMs }: Run, path: string, flags: WatchFlags): Promise<void> {
  const from =
    flags.from === undefined ? undefined : /^\d+$/.test(flags.from) ? Number(flags.from) : decodePosition(flags.from, 'cli.options')
  const { colors } = output
  let left = flags.count ?? Infinity
  if (left === 0) return
  const over = timeoutMs === undefined ? undefined : AbortSignal.timeout(Math.min(timeoutMs, timer_ms_max))
  const options = { recursive: flags.recursive, from, statsOnly: true, signal: over }
  for await (const event of session.client.watch(pathArgument(path), options)) {
    if (output.isJson) await output.json(eventToJson(event))
    else {
      const time = new Date(event.time / 1000).toISOString().slice(11, 23)
      await output.line(`${colors.dim(time)} ${String(revisionOf(event.position)).padStart(6)} ${event.type.padEnd(6)} ${describe(event)}`)
    }
    if (--left <= 0) return
  }
  if (over?.aborted !== true) return
  const message = `the watch ended after --timeout` + (left === Infinity ? '' : `, ${left} changes short`)
  throw new NineError({ kind: 'deadline', op: 'cli.watch', path: pathArgument(path), message })
}

function describe(event: WatchEvent): string {
  const path = printable(event.path) + (event.subtree ? '/' : '')
  const from = event.from === undefined ? '' : `${printable(event.from)} -> `
  const size =
    event.stat.kind === 'file' && event.type !== 'remove' ? ` (${event.stat.size ?? '?'} bytes, version ${event.stat.version})` : ''
  return `${from}${path}${size} by ${event.actor}`
}
