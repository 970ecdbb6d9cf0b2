/** The node's 9P listeners: which addresses, and who is trusted there. */
import { statfs } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Clock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import type { Principal } from '../../namespace/rights.ts'
import { startNinepEdge } from '../9p/edge.ts'
import type { NinepAddress, NinepEdge } from '../9p/edge.ts'
import { checkListen, isLoopback, parseAddress } from './address.ts'
import type { NodeOptions } from './node.ts'

interface Parts {
  readonly owner: Principal
  authenticate(token: string | undefined): Principal
  namespaceOf(principal: Principal): Promise<FileServer>
  nextSession(): number
  readonly clock: Clock
  log(event: { readonly peer: string; readonly error: NineError }): void
}

/** V9FS_MAGIC: what statfs(2) tells of a 9P mount. */
const type9p = 0x0102_1997

/** @throws NineError `invalid` for what is no address, or where listening would be unsafe */
export function parseNinep({ ninep, ninepUnix, ninepAuth, tls }: NodeOptions): NinepAddress[] {
  const addresses: NinepAddress[] = []
  if (ninep !== undefined) {
    const address = parseAddress(ninep, '--9p')
    checkListen(address, '--9p', tls !== undefined)
    if (ninepAuth === 'none' && !isLoopback(address.host)) {
      const message = `--9p-auth none lets everybody in who can connect: ${ninep} is not loopback`
      throw new NineError({ kind: 'invalid', op: 'node.listen', message })
    }
    addresses.push(address)
  }
  if (ninepUnix === '') throw new NineError({ kind: 'invalid', op: 'node.listen', message: '--9p-unix is a file, not ""' })
  if (ninepUnix !== undefined) addresses.push({ socket: resolve(ninepUnix) })
  return addresses
}

/** What a running node tells of its listeners. */
export function addressesOf(edge: NinepEdge | undefined): { readonly ninep: string | undefined; readonly ninepUnix: string | undefined } {
  const isPath = (address: string): boolean => address.startsWith('/')
  return {
    ninep: edge?.addresses.find((address) => !isPath(address)),
    ninepUnix: edge?.addresses.find(isPath),
  }
}

/** On loopback 9P is plain, since no mount speaks TLS; beyond it, it is TLS like the rest. */
export async function startNinep(
  addresses: readonly NinepAddress[],
  { data, tls, ninepAuth }: NodeOptions,
  parts: Parts,
): Promise<NinepEdge | undefined> {
  if (addresses.length === 0) return undefined
  return startNinepEdge({
    ...parts,
    listeners: addresses.map((address) => {
      if ('socket' in address) return { address, trusted: parts.owner }
      const trusted = ninepAuth === 'none' ? parts.owner : undefined
      return { address, trusted, tls: isLoopback(address.host) ? undefined : tls }
    }),
    space: async () => {
      const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(data)
      return { type: type9p, bsize, blocks, bfree, bavail, files, ffree, fsid: 0, namelen: limits.name_bytes_max }
    },
  })
}
