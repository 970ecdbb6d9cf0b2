/** backup, restore: a whole store in one file, and back into a data folder. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { parseName } from '../../namespace/path.ts'
import { formatTime } from '../../namespace/json.ts'
import { defaultDataDir } from '../../services/node/defaults.ts'
import { standardOutput } from '../output.ts'
import { printable } from '../render/long.ts'
import { formatBytes, terminalProgress } from '../transfer/progress.ts'
import { action } from './command.ts'
import type { GlobalOptions, Run } from './command.ts'

export function backupCommands(program: Command): void {
  program
    .command('backup')
    .description('write a store of the node to one file: files, history, rights, leases, large values')
    .argument('<store>', 'name of the store: data, usr, sys or that of a service')
    .argument('<file>', 'file on this machine; made whole or not at all')
    .option('--force', 'replace the file')
    .addHelpText(
      'after',
      '\nThe node goes on serving; the backup is the store as of the beginning. It is checked before it gets its name.\n\nExample:\n  nine backup data data-monday.backup',
    )
    .action(action(backup))
  program
    .command('restore')
    .description('make a store of a data folder what a backup says; no node may have the folder open')
    .argument('<file>', 'what nine backup wrote')
    .option('--data <dir>', 'the data folder; made when missing (or NINE_DATA)', defaultDataDir())
    .option('--store <name>', 'name of the store; default the one it had')
    .option('--force', 'replace a store that has changes of its own')
    .addHelpText(
      'after',
      '\nThe file is checked before the folder is touched. Positions from before the restore are answered with compacted.\n\nExample:\n  nine restore data-monday.backup --data ./data',
    )
    .action(restore)
}

export interface BackupFlags {
  readonly force?: boolean
}

export async function backup(
  { session, output, timeoutMs = Infinity }: Run,
  store: string,
  file: string,
  { force }: BackupFlags,
): Promise<void> {
  const { receiveBackup } = await import('../../services/node/backups.ts')
  const progress = terminalProgress('backup')
  let before = 0
  try {
    const path = resolve(file)
    const parts = session.client.readStream(`/sys/backup/${parseName(store, 'cli.backup')}`, { timeoutMs })
    const counted = (bytes: number): void => {
      progress.add(0, bytes - before)
      before = bytes
    }
    const { header, bytes, hash, chunks } = await receiveBackup(parts, path, { force, progress: counted })
    progress.stop()
    const { name, revision, index, incarnation, store: id } = header
    if (output.isJson) await output.json({ file: path, store: name, id, incarnation, revision, index, bytes, chunks, sha256: hash })
    else {
      await output.line(
        `${printable(path)}: store ${printable(name)} as of revision ${revision}, ${formatBytes(bytes)}, ${chunks} chunks of large values`,
      )
      await output.line(`sha256 ${hash}`)
    }
  } finally {
    progress.stop()
  }
}

interface RestoreFlags extends GlobalOptions {
  readonly data: string
  readonly store?: string
  readonly force?: boolean
}

export async function restore(this: Command, file: string): Promise<void> {
  const { data, store, force, json } = this.optsWithGlobals<RestoreFlags>()
  const output = standardOutput(json === true)
  const { restoreBackup } = await import('../../services/node/backups.ts')
  const progress = terminalProgress('restore')
  let before = 0
  try {
    const path = resolve(file)
    const dir = resolve(data)
    const restored = await restoreBackup(path, {
      dir,
      name: store === undefined ? undefined : parseName(store, 'cli.restore'),
      force,
      progress: (bytes) => {
        progress.add(0, bytes - before)
        before = bytes
      },
    })
    progress.stop()
    const { header, row, chunks } = restored
    if (output.isJson) {
      const { name, id, incarnation, owner } = row
      await output.json({
        data: dir,
        store: name,
        id,
        incarnation,
        owner,
        revision: header.revision,
        createdAt: formatTime(header.createdAt),
        chunks,
      })
    } else {
      await output.line(
        `${printable(dir)}: store ${printable(row.name)} is as of revision ${header.revision}, ${formatTime(header.createdAt)}; it belongs to ${printable(row.owner)}`,
      )
    }
  } finally {
    progress.stop()
  }
}
