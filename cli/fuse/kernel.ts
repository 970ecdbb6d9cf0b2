/**
 * A mount through the kernel's own 9P client (v9fs): no process of ours stands between the kernel and the node.
 *
 * K1 No token is ever among the mount's options, since every user of the machine can read them in /proc/mounts. So it takes a Unix socket
 *    of the node (`nine up --9p-unix`), or an address that asks for no token (`--9p-auth none`).
 */
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Host } from './host.ts'
import { unmount } from './mount-point.ts'
import type { Mount, MountRequest } from './mount.ts'

const op = 'cli.fuse'

/** Why the kernel's client cannot be used, undefined when it can. */
export function kernelMissing(host: Host, address: string | undefined): string | undefined {
  if (host.platform !== 'linux') return `the kernel's 9P client is Linux's, and this is ${host.platform}`
  if (host.readText('/proc/filesystems')?.split(/\s/).includes('9p') !== true) {
    return 'the kernel has no 9P client: its modules 9p and 9pnet_fd are not loaded (modprobe 9p)'
  }
  if (address === undefined) return 'no 9P address of the node is given: start it with --9p-unix FILE and say --9p FILE'
  if (!host.hasProgram('mount')) return 'there is no mount on PATH'
  return undefined
}

/** @throws NineError `unsupported` with what mount(8) said */
export async function mountKernel(host: Host, address: string, request: MountRequest): Promise<Mount> {
  const { folder } = request
  const { code, stderr } = await host.run('mount', kernelArguments(address, request))
  if (code !== 0) {
    const message = `mount -t 9p on ${folder} failed: ${stderr.trim() || `exit code ${code}`}`
    throw new NineError({ kind: 'unsupported', op, path: folder, message })
  }
  return {
    via: '9p',
    end: async () => {
      await unmount(host, folder, [['umount'], ['umount', '-l']])
      return []
    },
  }
}

/** Arguments of mount(8), https://docs.kernel.org/filesystems/9p.html. @throws NineError `invalid` (an address or path it cannot carry) */
export function kernelArguments(address: string, { client, path, folder, isReadOnly, isForOthers }: MountRequest): string[] {
  // mount(8) takes quotes and backslashes for its own.
  if (/[,"\\]/.test(path + client.principal.name)) {
    const message = 'options of a 9P mount carry no comma, quote or backslash: use --via fuse'
    throw new NineError({ kind: 'invalid', op, path, message })
  }
  const options = ['version=9p2000.L', `msize=${limits.ninep_msize_max}`, `uname=${client.principal.name}`, `aname=${path}`, 'cache=none']
  options.push(isForOthers ? 'access=any' : `access=${process.getuid?.() ?? 0}`)
  if (isReadOnly) options.push('ro')
  const [source, transport] = transportOf(address)
  return ['-t', '9p', '-o', [...transport, ...options].join(','), source, folder]
}

function transportOf(address: string): [string, string[]] {
  if (address.includes('/')) return [address, ['trans=unix']]
  const match = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(address)
  if (match === null) {
    throw new NineError({
      kind: 'invalid',
      op,
      message: `--9p takes HOST:PORT or the file of a Unix socket, not ${JSON.stringify(address)}`,
    })
  }
  return [match[1]!.replace(/^\[|\]$/g, ''), ['trans=tcp', `port=${match[2]}`]]
}
