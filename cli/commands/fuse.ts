/** fuse: a tree of the node as a folder of this machine, until Ctrl-C or until somebody unmounts it. */
import { Option } from 'commander'
import type { Command } from 'commander'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { openSession } from '../connection.ts'
import { chooseWay } from '../fuse/choose.ts'
import type { Via } from '../fuse/choose.ts'
import { thisMachine } from '../fuse/host.ts'
import type { Mount } from '../fuse/mount.ts'
import { checkMountPoint, unmounted } from '../fuse/mount-point.ts'
import { standardOutput } from '../output.ts'
import { pathArgument } from '../working-directory.ts'
import type { GlobalOptions } from './command.ts'

export function fuseCommand(program: Command): void {
  program
    .command('fuse')
    .description('mount a directory of the namespace on a folder of this machine, until Ctrl-C or unmounted')
    .argument('<path>', 'directory of the namespace')
    .argument('<dir>', 'empty folder of this machine')
    .option('--read-only', 'nothing can be changed through it')
    .option('--allow-other', 'other users of this machine may use it too, within the modes of the files')
    .option('--direct-io', 'keep nothing in the page cache: streams work, and every read asks the node')
    .addOption(
      new Option('--via <way>', "the kernel's 9P client, FUSE, or what this machine has").choices(['auto', '9p', 'fuse']).default('auto'),
    )
    .option('--9p <address>', "the node's 9P listener, HOST:PORT or the file of its Unix socket (or NINE_9P): lets the kernel mount it")
    .addHelpText(
      'after',
      '\nFUSE takes Debian’s packages libfuse2 and fuse3. What a mount does not do as POSIX asks: see cli/fuse/README.md.\n\nExamples:\n  mkdir ~/nine && nine fuse /data ~/nine\n  nine fuse --read-only / /mnt/nine\n  fusermount -u ~/nine      # ends it from another terminal',
    )
    .action(fuse)
}

interface FuseFlags extends GlobalOptions {
  readonly readOnly?: boolean
  readonly allowOther?: boolean
  readonly directIo?: boolean
  readonly via: Via
  readonly '9p'?: string
}

async function fuse(this: void, text: string, dir: string, _flags: unknown, command: Command): Promise<void> {
  const options = command.optsWithGlobals<FuseFlags>()
  const output = standardOutput(options.json === true)
  const log = (line: string): void => void process.stderr.write(`nine: ${line}\n`)
  const path = pathArgument(text)
  const folder = await checkMountPoint(thisMachine, dir)
  const mountOn = chooseWay(thisMachine, options.via, options['9p'] ?? process.env['NINE_9P'], log)
  const session = await openSession(options)
  try {
    const { client } = session
    const { kind } = await client.stat(path)
    if (kind !== 'directory') throw new NineError({ kind: 'not_directory', op: 'cli.fuse', path, message: `${path} is not a directory` })
    const stopped = stopAsked()
    const mount = await mountOn({
      client,
      path,
      folder,
      isReadOnly: options.readOnly === true,
      isForOthers: options.allowOther === true,
      isDirect: options.directIo === true,
      timeoutMs: options.timeout ?? limits.fuse_request_ms,
    })
    try {
      if (options.json === true) await output.json({ path, dir: folder, via: mount.via, pid: process.pid })
      else await output.line(`${path} is on ${folder} (through ${mount.via}); Ctrl-C or fusermount -u ends it`)
      await Promise.race([stopped, unmounted(thisMachine, folder)])
    } finally {
      await end(mount)
    }
  } finally {
    await session.close()
  }
}

/** @throws NineError `internal` naming files whose last writes are lost */
async function end(mount: Mount): Promise<void> {
  const failed = await mount.end()
  if (failed.length === 0) return
  const message = `what was last written to ${failed.join(', ')} could not be published`
  throw new NineError({ kind: 'internal', op: 'cli.fuse', path: failed[0], message })
}

/** Resolves at SIGINT, SIGTERM or when the terminal goes; a second one ends the process at once. */
function stopAsked(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => {
        resolve()
        process.once(signal, () => process.exit(130))
      })
    }
  })
}
