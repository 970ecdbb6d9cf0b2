/**
 * serve(): a service of this process at /svc/NAME, over the connection to the node; no port is opened.
 *
 * S1 What the process serves is listed for as long as it renews its lease, which it does while its event loop turns: a process that
 *    hangs is no longer listed, and one that comes back offers its service anew.
 */
import type { FileServer } from '../namespace/file-server.ts'
import { limits } from '../namespace/limits.ts'
import { Namespace } from '../namespace/namespace.ts'
import { joinName, parsePath, rootPath } from '../namespace/path.ts'
import type { Offer } from '../namespace/remote/connect.ts'
import type { NodesStatus } from '../namespace/remote/nodes.ts'
import { serveTable } from '../namespace/serve/table-server.ts'
import { ConnectedSession, openRemote } from './connect.ts'
import type { ConnectOptions } from './connect.ts'
import type { ServiceDefinition } from './service.ts'
import type { Session } from './session.ts'

export interface ServeOptions extends ConnectOptions {
  /** Name of this process among the instances of the service. Default: the node chooses one. */
  readonly instance?: string | undefined
}

/** A session of a process that serves: also a client of the service's own namespace. */
export interface ServingSession extends Session {
  readonly instance: string
  /** Stop serving; the session goes on until close(). */
  readonly withdraw: () => Promise<void>
}

const renewals_per_lease = 3

/**
 * Serve a service until the process ends or withdraws it.
 * @throws NineError `denied` when the name is another's, `exists` when the instance is up already, `invalid`, and as connect()
 */
export async function serve(definition: ServiceDefinition, options: ServeOptions = {}): Promise<ServingSession> {
  const session = new ConnectedSession(await openRemote({ clientName: definition.name, ...options }), options.timeoutMs)
  try {
    if (definition.hasStore) {
      await session.control('service.store', { service: definition.name })
      // A mount is made again with the connection; the store is there once and for all.
      await session.namespace.mount(`store:${definition.name}`, '/store')
    }
    const serving = new Serving(session, definition, await serverOf(session, definition), options.instance)
    await serving.begin()
    return serving
  } catch (error) {
    await session.close()
    throw error
  }
}

/** The table, and over it what is shown of the service's own namespace. */
async function serverOf(session: ConnectedSession, { table, mounted }: ServiceDefinition): Promise<FileServer> {
  const served = serveTable(table)
  if (mounted.size === 0) return served
  const tree = new Namespace(served)
  const { server } = session.client
  for (const [name, path] of mounted) {
    await tree.mount(session.client.context(), { server, path: parsePath(path) }, joinName(rootPath, name), { source: path })
  }
  return tree
}

class Serving implements ServingSession {
  readonly client: Session['client']
  readonly namespace: Session['namespace']
  readonly #session: ConnectedSession
  readonly #definition: ServiceDefinition
  readonly #server: FileServer
  #instance: string | undefined
  #offer: Offer | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(session: ConnectedSession, definition: ServiceDefinition, server: FileServer, instance: string | undefined) {
    this.client = session.client
    this.namespace = session.namespace
    this.#session = session
    this.#definition = definition
    this.#server = server
    this.#instance = instance
  }

  get instance(): string {
    return this.#instance!
  }

  async begin(): Promise<void> {
    const { name, table, mounted, namespace } = this.#definition
    const names = [...Object.keys(table), ...mounted.keys()]
    this.#offer = await this.#session.offer({ service: name, instance: this.#instance, names, namespace }, this.#server)
    this.#instance = this.#offer.instance
    this.#timer = setTimeout(() => void this.#renew(), limits.service_lease_ms / renewals_per_lease)
  }

  readonly control = (name: string, value: unknown): Promise<unknown> => this.#session.control(name, value)

  readonly status = (): NodesStatus => this.#session.status()

  readonly withdraw = async (): Promise<void> => {
    clearTimeout(this.#timer)
    this.#timer = undefined
    await this.#offer?.withdraw()
    this.#offer = undefined
  }

  readonly close = async (): Promise<void> => {
    clearTimeout(this.#timer)
    this.#timer = undefined
    await this.#session.close()
  }

  // S1
  async #renew(): Promise<void> {
    try {
      const answer = await this.#session.control('service.renew', { service: this.#definition.name, instance: this.#instance })
      if (this.#timer === undefined) return
      if (!(answer as { isListed: boolean }).isListed) {
        await this.#offer?.withdraw().catch(() => undefined)
        return await this.begin()
      }
    } catch {
      // The connection is being made again, which offers the service anew; the next turn sees how it went.
    }
    if (this.#timer !== undefined) this.#timer = setTimeout(() => void this.#renew(), limits.service_lease_ms / renewals_per_lease)
  }
}
