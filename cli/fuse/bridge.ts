/** A mount through FUSE: the kernel asks this process, and this process asks the node over its session. */
import { NineError, toNineError, textOf } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Host } from './host.ts'
import { unmount } from './mount-point.ts'
import type { Mount, MountRequest } from './mount.ts'
import { mountNative } from './native.ts'
import type { Binding } from './native.ts'
import { FuseOperations } from './operations.ts'
import { nobody, Owners } from '../../namespace/owners.ts'

const op = 'cli.fuse'
const device = '/dev/fuse'
const unmounters = ['fusermount', 'fusermount3']

/** Why FUSE cannot be had here, undefined when it can. */
export function fuseMissing(host: Host): { readonly why: string } | { readonly binding: Binding; readonly unmounter: string } {
  if (host.platform !== 'linux') return { why: `FUSE is used on Linux, and this is ${host.platform}` }
  if (host.readText('/proc/filesystems')?.split(/\s/).includes('fuse') !== true || !host.isAccessible(device)) {
    return {
      why: `${device} is missing or not open to you: load the kernel's fuse module (modprobe fuse), or give this container the device`,
    }
  }
  const unmounter = unmounters.find((name) => host.hasProgram(name))
  if (unmounter === undefined) return { why: 'there is no fusermount on PATH: install fuse3 (Debian: apt-get install fuse3)' }
  try {
    return { binding: host.loadBinding(), unmounter }
  } catch (error) {
    return { why: loaderFailure(error) }
  }
}

function loaderFailure(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException
  if (message.includes('libfuse.so.2')) return 'libfuse.so.2 cannot be loaded: install libfuse2 (Debian: apt-get install libfuse2)'
  if (code === 'MODULE_NOT_FOUND') return 'the optional package fuse-native is not installed: npm install fuse-native@2.2.6'
  return `the package fuse-native does not work here: ${message.split('\n')[0]}`
}

/** @throws NineError `unsupported` when the kernel or fusermount refuse */
export async function mountFuse(
  host: Host,
  binding: Binding,
  unmounter: string,
  request: MountRequest,
  log: (line: string) => void,
): Promise<Mount> {
  const { client, path, folder, timeoutMs } = request
  const operations = new FuseOperations({
    server: client.server,
    root: path,
    owners: new Owners(client.principal.name, process.getuid?.() ?? nobody, process.getgid?.() ?? nobody),
    context: () => client.context({ timeoutMs }),
    onFailure: (failed, error) => log(`${failed} was not removed: ${textOf(error)}`),
  })
  try {
    const native = await mountNative(binding, folder, optionsOf(request), operations)
    return {
      via: 'fuse',
      end: async () => {
        // First as usual, which fails while files are open; then in any case: they end with this process.
        const unmounted = unmount(host, folder, [
          [unmounter, '-u'],
          [unmounter, '-u', '-z'],
        ])
        const stuck = await unmounted.then(
          () => undefined,
          (error: unknown) => toNineError(error, op),
        )
        // Published in any case.
        const failed = await operations.close()
        if (stuck !== undefined) {
          for (const lost of failed) log(`what was last written to ${lost} could not be published`)
          throw stuck
        }
        native.release()
        return failed
      },
    }
  } catch (cause) {
    const message = `FUSE refused the mount on ${folder} (${(cause as Error).message}); /etc/fuse.conf may have to allow --allow-other`
    throw new NineError({ kind: 'unsupported', op, path: folder, message: request.isForOthers ? message : message.split(';')[0]!, cause })
  }
}

/**
 * `big_writes`: 128 KiB at once instead of 4. `atomic_o_trunc`: O_TRUNC comes with open. Attributes, and names that were missing, are asked
 * anew each time, since others may change them at any moment and nothing tells the kernel. That a name is there it may believe for a
 * moment: everything done with it is asked by path all the same. Pages are kept while a file is open.
 */
function optionsOf({ isReadOnly, isForOthers, isDirect }: MountRequest): string[] {
  const options = [
    'fsname=ninefold',
    'subtype=nine',
    'big_writes',
    'atomic_o_trunc',
    `entry_timeout=${limits.fuse_entry_ms / 1000}`,
    'attr_timeout=0',
    'negative_timeout=0',
  ]
  if (isReadOnly) options.push('ro')
  if (isForOthers) options.push('allow_other', 'default_permissions')
  if (isDirect) options.push('direct_io')
  return options
}
