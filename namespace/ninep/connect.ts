/** connectNinep: a tree of any 9P server as a FileServer. */
import { systemClock } from '../clock.ts'
import type { Clock } from '../clock.ts'
import { contextFor } from '../context.ts'
import type { FileServer } from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Dialect } from '../../proto/ninep/messages.ts'
import { attachNinep } from './attach.ts'
import type { AttachOptions } from './attach.ts'
import { parseNinepAddress } from './dial.ts'
import { NinepLink } from './link.ts'
import { NinepFileServer } from './ninep-file-server.ts'

export interface ConnectNinepOptions extends Omit<AttachOptions, 'address'> {
  /** `HOST:PORT`, `HOST` (port 564), or the absolute path of a Unix socket. */
  readonly address: string
  readonly clock?: Clock | undefined
}

export interface NinepMount {
  readonly server: FileServer
  /** What is spoken now; undefined while there is no connection. */
  readonly dialect: Dialect | undefined
  /** Fids held at the server now, that of the root included. */
  readonly fids: number
  close(): Promise<void>
}

/**
 * Connect and attach. A connection that is lost later is made again by the next operation.
 * @throws NineError `unavailable`, `unauthenticated`, `unsupported` (a server that speaks another dialect), `invalid` (address)
 */
export async function connectNinep(options: ConnectNinepOptions): Promise<NinepMount> {
  const address = parseNinepAddress(options.address)
  const clock = options.clock ?? systemClock
  const link = new NinepLink((onClosed) => attachNinep({ ...options, address }, clock, onClosed), clock)
  await link.use(contextFor({ name: '', groups: [] }, limits.handshake_ms))
  return {
    server: new NinepFileServer(link),
    get dialect() {
      return link.attached?.connection.dialect
    },
    get fids() {
      return link.attached?.connection.fids.size ?? 0
    },
    close: () => {
      link.close()
      return Promise.resolve()
    },
  }
}
