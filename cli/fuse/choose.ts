/** Which way a mount goes: the kernel's 9P client where it and an address of the node are there, else FUSE. */
import { NineError } from '../../namespace/errors.ts'
import { fuseMissing, mountFuse } from './bridge.ts'
import type { Host } from './host.ts'
import { kernelMissing, mountKernel } from './kernel.ts'
import type { Mount, MountRequest } from './mount.ts'

export type Via = 'auto' | '9p' | 'fuse'

/**
 * @param address of the node's 9P listener, `HOST:PORT` or the file of a Unix socket
 * @param log of changes that failed after they were answered
 * @returns how to mount
 * @throws NineError `unsupported` with what is missing and how to get it
 */
export function chooseWay(
  host: Host,
  via: Via,
  address: string | undefined,
  log: (line: string) => void,
): (request: MountRequest) => Promise<Mount> {
  const noKernel = via === 'fuse' ? 'not asked for' : kernelMissing(host, address)
  if (noKernel === undefined) return (request) => mountKernel(host, address!, request)
  if (via === '9p') throw unsupported(noKernel)
  const fuse = fuseMissing(host)
  if (!('why' in fuse)) return (request) => mountFuse(host, fuse.binding, fuse.unmounter, request, log)
  throw unsupported(via === 'fuse' ? fuse.why : `${fuse.why}; and ${noKernel}`)
}

function unsupported(message: string): NineError {
  return new NineError({ kind: 'unsupported', op: 'cli.fuse', message: `cannot mount: ${message}` })
}
