/** import, export, diff: whole trees between this machine and the namespace. */
import { readdir } from 'node:fs/promises'
import type { Command } from 'commander'
import { exitCodes } from '../exit-codes.ts'
import { printable } from '../render/long.ts'
import { diffTrees } from '../transfer/diff.ts'
import { exportTree } from '../transfer/export.ts'
import { importTree } from '../transfer/import.ts'
import type { TransferReport } from '../transfer/import.ts'
import { formatBytes, terminalProgress } from '../transfer/progress.ts'
import { action, consistencyOption, countOption } from './command.ts'
import type { Run } from './command.ts'
import { pathArgument } from '../working-directory.ts'

const in_flight_default = 64

export function transferCommands(program: Command): void {
  program
    .command('import')
    .description('bring a folder in: names, sizes, times, modes, symbolic links')
    .argument('<dir>', 'folder on this machine')
    .argument('<path>', 'directory of the namespace; made when missing')
    .option('--delete', 'remove what is at PATH but not in DIR')
    .option('-j, --in-flight <n>', 'files at once', countOption('--in-flight'), in_flight_default)
    .addHelpText(
      'after',
      '\nAll that is in DIR keeps its mode and its time of last change (to the microsecond), directories and links too. PATH gets the mode of DIR' +
        '\nwhen it is made, and the time it is made at. Owners are not kept.\n\nRun it again after an interruption: what is in place already is skipped.\n\nExample:\n  nine import ./node_modules /data/modules',
    )
    .action(action(runImport))
  program
    .command('export')
    .description('write a tree of the namespace into a folder')
    .argument('<path>', 'directory of the namespace')
    .argument('<dir>', 'folder on this machine; made when missing')
    .option('--delete', 'remove what is in DIR but not at PATH')
    .option('-j, --in-flight <n>', 'files at once', countOption('--in-flight'), in_flight_default)
    .addOption(consistencyOption())
    .addHelpText(
      'after',
      '\nAll that is below PATH keeps its mode and its time of last change (to the microsecond), directories and links too. DIR gets the mode of' +
        '\nPATH when it is made. Owners are yours.\n\nExample:\n  nine export /data/modules ./copy',
    )
    .action(action(runExport))
  program
    .command('diff')
    .description('compare a folder with a tree: names, kinds, modes, times, links and contents')
    .argument('<dir>', 'folder on this machine')
    .argument('<path>', 'directory of the namespace')
    .option('-j, --in-flight <n>', 'files at once', countOption('--in-flight'), in_flight_default)
    .addOption(consistencyOption())
    .addHelpText('after', '\nExits with 0 when equal, 1 when not.')
    .action(action(runDiff))
}

interface TransferFlags {
  readonly delete?: boolean
  readonly inFlight: number
}

async function runImport(run: Run, dir: string, text: string, flags: TransferFlags): Promise<number> {
  const total = process.stderr.isTTY ? await countEntries(dir) : undefined
  const progress = terminalProgress('import', total)
  try {
    const options = { inFlight: Math.max(1, flags.inFlight), removeExtra: flags.delete === true, progress }
    return await report(run, 'imported', await importTree(run.session.client, dir, pathArgument(text), options))
  } finally {
    progress.stop()
  }
}

async function runExport(run: Run, text: string, dir: string, flags: TransferFlags): Promise<number> {
  const progress = terminalProgress('export')
  try {
    const options = { inFlight: Math.max(1, flags.inFlight), removeExtra: flags.delete === true, progress }
    return await report(run, 'exported', await exportTree(run.session.client, pathArgument(text), dir, options))
  } finally {
    progress.stop()
  }
}

async function report({ output }: Run, verb: string, result: TransferReport): Promise<number> {
  if (output.isJson) await output.json(result)
  else {
    const { files, directories, symlinks, bytes, skipped, removed, seconds, unfit } = result
    const extra = (skipped > 0 ? `, ${skipped} in place already` : '') + (removed > 0 ? `, ${removed} removed` : '')
    const rate = Math.round((files + directories + symlinks) / Math.max(seconds, 0.001))
    await output.line(
      `${verb} ${files} files, ${directories} directories, ${symlinks} symbolic links (${formatBytes(bytes)})${extra} in ${seconds.toFixed(1)} s (${rate}/s)`,
    )
    for (const { path, why } of unfit) await output.line(`left out: ${printable(path)}: ${why}`)
  }
  return result.unfit.length === 0 ? exitCodes.done : exitCodes.no
}

async function runDiff({ session, output }: Run, dir: string, text: string, flags: TransferFlags): Promise<number> {
  const progress = terminalProgress('diff')
  // Differences are printed as found; the promise of the last line keeps them in order.
  let printed = Promise.resolve()
  try {
    const options = { inFlight: Math.max(1, flags.inFlight), progress }
    const result = await diffTrees(session.client, dir, pathArgument(text), options, (difference) => {
      printed = printed.then(() =>
        output.isJson ? output.json(difference) : output.line(`${printable(difference.path)}: ${difference.what}`),
      )
    })
    await printed
    if (output.isJson) await output.json(result)
    else {
      const verdict = result.differences === 0 ? 'equal' : `${result.differences} differences`
      await output.line(`${verdict}: ${result.compared} entries, ${formatBytes(result.bytes)} compared in ${result.seconds.toFixed(1)} s`)
    }
    return result.differences === 0 ? exitCodes.done : exitCodes.no
  } finally {
    progress.stop()
  }
}

async function countEntries(dir: string): Promise<number | undefined> {
  try {
    return (await readdir(dir, { recursive: true })).length
  } catch {
    // The import itself will say what is wrong with the folder.
    return undefined
  }
}
