/**
 * What SOURCE in a mount stands for: a service of this node (`NAME`), its store (`store:NAME`), another node's tree, or a tree of any 9P
 * server, over a connection of its own.
 *
 * S1 A mount that is asked for connects at once and tells what fails. One of a saved namespace connects when it is first used: what
 *    it leads to need not be up, and two nodes whose saved namespaces mount each other do not call each other for ever.
 * S2 A connection is kept for the session, which has as many at most as it may have mounts.
 * S3 9P servers of this machine are for the node's owner alone: they let local programs in (`--9p-auth none` does), and the node is one.
 * S4 A 9P server is given the token this principal has for it, if there is one: many want none.
 */
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import type { Channel } from '../../namespace/mount-table.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath, rootPath } from '../../namespace/path.ts'
import { connectNinep } from '../../namespace/ninep/connect.ts'
import type { ConnectNinepOptions } from '../../namespace/ninep/connect.ts'
import { parseNinepAddress } from '../../namespace/ninep/dial.ts'
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
/** `9p://[USER@]HOST[:PORT][/ANAME]`: the path, its slash included, is the attach name. USER may be a number, for servers that go by those. */
const ninepUrl = /^9p:\/\/(?:([^/@\s]{1,255})@)?([^/@\s]+)(\/.*)?$/

export class Sources {
  readonly #services: Services
  readonly #tokenFor: (address: string) => Promise<string>
  readonly #user: string
  readonly #noLoopback: boolean
  readonly #connections = new Map<string, Promise<Connection>>()

  /**
   * @param tokenFor the token this principal has for the node or server at an address; `not_found` without one
   * @param user who says to be at a 9P server, where the source names nobody
   * @param noLoopback whether 9P servers of this machine are refused
   */
  constructor(services: Services, tokenFor: (address: string) => Promise<string>, user: string, noLoopback: boolean) {
    this.#services = services
    this.#tokenFor = tokenFor
    this.#user = user
    this.#noLoopback = noLoopback
  }

  /**
   * @param isLazy connect with the first use, and fail then
   * @throws NineError `not_found` for an unknown service or a missing token, `invalid`, `unavailable`, `denied` (S3), what a 9P server answers
   */
  async resolve(source: string, isLazy = false): Promise<FileServer | Channel> {
    if (source.startsWith('9p://')) return this.#resolveNinep(source, isLazy)
    if (source.startsWith(storePrefix)) return this.#services.storeOf(source.slice(storePrefix.length))
    if (!source.includes('://')) return this.#services.find(source)
    const match = nineUrl.exec(source)
    if (match === null)
      throw new NineError({
        kind: 'invalid',
        op: 'node.mount',
        message: `${JSON.stringify(source)} is no service, no nine://HOST:PORT[/PATH] and no 9p://HOST:PORT[/ANAME]`,
      })
    const [, address, path] = match
    const connect = async (): Promise<FileServer> => {
      const connection = await this.#connection(address!, async () =>
        connectRemote({ address: address!, token: await this.#tokenFor(address!) }),
      )
      return connection.server
    }
    const server = isLazy ? lazyServer(connect) : await connect() // S1
    return { server, path: path === undefined ? rootPath : parsePath(path, 'node.mount') }
  }

  async close(): Promise<void> {
    const open = [...this.#connections.values()]
    this.#connections.clear()
    await Promise.all(open.map(async (connection) => (await connection.catch(() => undefined))?.close()))
  }

  async #resolveNinep(source: string, isLazy: boolean): Promise<FileServer> {
    const match = ninepUrl.exec(source)
    if (match === null) {
      const message = `${JSON.stringify(source)} is no 9P server: 9p://[USER@]HOST[:PORT][/ANAME]`
      throw new NineError({ kind: 'invalid', op: 'node.mount', message })
    }
    const [, user = this.#user, address, aname = ''] = match
    parseNinepAddress(address!)
    const uid = /^\d{1,9}$/.test(user) ? Number(user) : undefined
    const options: ConnectNinepOptions = { address: address!, aname, uname: user, uid, noLoopback: this.#noLoopback } // S3
    const connect = async (): Promise<FileServer> => {
      return (await this.#connection(source, async () => connectNinep({ ...options, token: await this.#tokenIfAny(address!) }))).server
    }
    return isLazy ? lazyServer(connect) : connect() // S1
  }

  /** S4 */
  async #tokenIfAny(address: string): Promise<string | undefined> {
    try {
      return await this.#tokenFor(address)
    } catch (error) {
      if (isNineError(error, 'not_found')) return undefined
      throw error
    }
  }

  /** S2 */
  async #connection(key: string, connect: () => Promise<Connection>): Promise<Connection> {
    let connection = this.#connections.get(key)
    if (connection === undefined) {
      if (this.#connections.size >= limits.mounts_max) {
        const message = `a session keeps at most ${limits.mounts_max} connections to other servers`
        throw new NineError({ kind: 'overloaded', op: 'node.mount', message })
      }
      connection = connect()
      connection.catch(() => this.#connections.delete(key))
      this.#connections.set(key, connection)
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
