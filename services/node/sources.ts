/**
 * What SOURCE in a mount stands for: a service of this node (`NAME`), its store (`store:NAME`), or another node's tree over a
 * connection of its own.
 *
 * S1 A mount that is asked for connects at once and tells what fails. One of a saved namespace connects when it is first used: what
 *    it leads to need not be up, and two nodes whose saved namespaces mount each other do not call each other for ever.
 * S2 A connection is kept for the session.
 */
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import type { Channel } from '../../namespace/mount-table.ts'
import { parsePath, rootPath } from '../../namespace/path.ts'
import { connectRemote } from '../../namespace/remote/connect.ts'
import type { Services } from '../svc/services.ts'
import { lazyServer } from './lazy-server.ts'

interface Connection {
  readonly server: FileServer
  close(): Promise<void>
}

/** Before the name of a service: its store alone, without what its processes serve over it. */
const storePrefix = 'store:'
const nineUrl = /^nine:\/\/([^/\s]+)(\/.*)?$/

export class Sources {
  readonly #services: Services
  readonly #tokenFor: (address: string) => Promise<string>
  readonly #connections = new Map<string, Promise<Connection>>()

  /** @param tokenFor the token this principal has for the node at an address */
  constructor(services: Services, tokenFor: (address: string) => Promise<string>) {
    this.#services = services
    this.#tokenFor = tokenFor
  }

  /**
   * @param isLazy connect with the first use, and fail then
   * @throws NineError `not_found` for an unknown service or a missing token, `unsupported` for 9p://, `invalid`, `unavailable`
   */
  async resolve(source: string, isLazy = false): Promise<FileServer | Channel> {
    if (source.startsWith('9p://')) {
      throw new NineError({ kind: 'unsupported', op: 'node.mount', message: '9p:// sources are not served yet; nine:// and services are' })
    }
    if (source.startsWith(storePrefix)) return this.#services.storeOf(source.slice(storePrefix.length))
    if (!source.includes('://')) return this.#services.find(source)
    const match = nineUrl.exec(source)
    if (match === null)
      throw new NineError({
        kind: 'invalid',
        op: 'node.mount',
        message: `${JSON.stringify(source)} is no service and no nine://HOST:PORT[/PATH]`,
      })
    const [, address, path] = match
    const server = isLazy ? lazyServer(async () => (await this.#connect(address!)).server) : (await this.#connect(address!)).server // S1
    return { server, path: path === undefined ? rootPath : parsePath(path, 'node.mount') }
  }

  async close(): Promise<void> {
    const open = [...this.#connections.values()]
    this.#connections.clear()
    await Promise.all(open.map(async (connection) => (await connection.catch(() => undefined))?.close()))
  }

  #connect(address: string): Promise<Connection> {
    let connection = this.#connections.get(address)
    if (connection === undefined) {
      connection = this.#tokenFor(address).then((token) => connectRemote({ address, token }))
      connection.catch(() => this.#connections.delete(address))
      this.#connections.set(address, connection)
    }
    return connection
  }
}

/** The token file of a principal for another node, in its home. */
export async function readPeerToken(read: (path: string) => Promise<Uint8Array>, home: string, address: string): Promise<string> {
  const file = `${home}/tokens/${address}`
  try {
    return Buffer.from(await read(file))
      .toString()
      .trim()
  } catch (cause) {
    if (!isNineError(cause, 'not_found')) throw cause
    const message = `no token for ${address}: write it to /usr${file}, or mount with --source-token-file`
    throw new NineError({ kind: 'not_found', op: 'node.mount', message, cause })
  }
}
