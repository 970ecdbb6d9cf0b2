/**
 * /svc: every service of this node, as one namespace that all sessions mount.
 *
 * V1 `/svc/NAME` shows the service's store, if it has one, and over it the top-level names that its processes registered. Names
 *    stay when the last process goes: they answer `unavailable` until one is back; what is stored goes on being served.
 *    A process that comes takes no name away from those that are up.
 * V2 `/svc/NAME@INSTANCE` is one live process, and gone with it.
 * V3 A name belongs to the principal that registered it first, or to the node's owner.
 * V4 Changes of one service happen one after the other, so that a process that comes back while its old self lapses ends up mounted.
 * V5 On another node of a cluster a service shows its store, and the names that no process of that node serves as `unavailable`.
 */
import { checkServiceName } from '../../discovery/embedded.ts'
import type { Registration, Registry, ServiceInstance } from '../../discovery/registry.ts'
import { contextFor } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { Namespace } from '../../namespace/namespace.ts'
import { joinName, parseName, rootPath } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Catalog, ServiceRecord } from './catalog.ts'
import { unavailableServer } from './unavailable-server.ts'

export interface ServicesOptions {
  readonly registry: Registry
  readonly catalog: Catalog
  /** The store of a service: opened, or made with the given owner. */
  readonly storeFor: (service: string, owner: string) => Promise<FileServer>
  /** The node's own principal, as which mounts are made. */
  readonly owner: Principal
  readonly node: string
  readonly instanceName: () => string
  /** Told of failures that nobody waits for. */
  readonly warn: (error: unknown) => void
}

export interface RegisterFields {
  readonly service: string
  /** Default: one is chosen. */
  readonly instance?: string | undefined
  readonly names: readonly string[]
  readonly namespace: string
}

/** A registered process. */
export interface LiveService {
  readonly instance: string
  /** False when its lease has lapsed: register again. */
  renew(): Promise<boolean>
  deregister(): Promise<void>
}

interface Service {
  record: ServiceRecord
  readonly tree: Namespace
  store: FileServer | undefined
  readonly live: Map<string, { readonly server: FileServer; readonly names: readonly string[] }>
  /** Names mounted in `tree`, and the instance behind each; undefined: unavailable. */
  readonly mounted: Map<string, string | undefined>
  turn: Promise<unknown>
  /** Settled when it stands below /svc. */
  shown: Promise<void>
}

export class Services {
  /** What sessions mount at /svc. */
  readonly server = new Namespace()
  readonly #options: ServicesOptions
  readonly #services = new Map<string, Service>()
  readonly #stopListening: () => void

  constructor(options: ServicesOptions) {
    this.#options = options
    this.#stopListening = options.registry.onChange((event) => {
      if (event.type === 'down') this.#gone(event.instance).catch(options.warn)
    })
  }

  /** Show what the catalog remembers. */
  async load(onDamaged: (service: string, error: unknown) => void): Promise<void> {
    for (const record of await this.#options.catalog.load(onDamaged)) {
      const service = await this.#show(record)
      await this.#inTurn(service, () => this.#remount(service))
    }
  }

  /** Another node of the cluster changed what is remembered of a service. V5 */
  async heard(record: ServiceRecord): Promise<void> {
    const known = this.#services.get(record.service)
    const service = known ?? (await this.#show(record))
    await known?.shown
    await this.#inTurn(service, async () => {
      if (record.hasStore && service.store === undefined) await this.#mountStore(service)
      const hasStore = record.hasStore || service.store !== undefined
      service.record = { ...record, hasStore, names: namesWith(record.names, service) }
      await this.#remount(service)
    })
  }

  /**
   * A process begins to serve.
   * @throws NineError `invalid` (names), `too_large` (too many names), `exists` (a live instance of that name), `denied` (another's service)
   */
  async register(fields: RegisterFields, principal: Principal, server: FileServer): Promise<LiveService> {
    const { service: name, names, namespace } = fields
    checkRegistration(fields)
    const instance = fields.instance ?? this.#options.instanceName()
    this.#checkOwner(name, this.#services.get(name)?.record.owner, principal)
    const registration = await this.#options.registry.register(
      { service: name, instance, names, node: this.#options.node },
      limits.service_lease_ms,
    )
    try {
      const service = await this.#known(name, principal)
      await this.#inTurn(service, async () => {
        this.#checkOwner(name, service.record.owner, principal)
        const record = { ...service.record, names: namesWith(names, service), namespace }
        await this.#options.catalog.save(record)
        service.record = record
        service.live.set(instance, { server, names })
        await this.server.mount(this.#context(), server, joinName(rootPath, `${name}@${instance}`), { source: `${name}@${instance}` })
        await this.#remount(service)
      })
    } catch (error) {
      await registration.deregister()
      throw error
    }
    return liveService(registration, instance)
  }

  /** Give a service a store, or find the one it has. @throws NineError `denied` (another's service), `invalid` (name) */
  async makeStore(name: string, principal: Principal): Promise<void> {
    checkServiceName(name, 'svc.makeStore')
    this.#checkOwner(name, this.#services.get(name)?.record.owner, principal)
    const service = await this.#known(name, principal)
    await this.#inTurn(service, async () => {
      this.#checkOwner(name, service.record.owner, principal)
      if (service.store !== undefined) return
      // Its record says that it has one before it is shown: one that was made is never lost.
      await this.#options.storeFor(name, service.record.owner)
      const record = { ...service.record, hasStore: true }
      await this.#options.catalog.save(record)
      await this.#mountStore(service)
      service.record = record
    })
  }

  /** The store of a service, for its own process to mount. @throws NineError `not_found` */
  storeOf(name: string): FileServer {
    const store = this.#services.get(name)?.store
    if (store === undefined) throw new NineError({ kind: 'not_found', op: 'svc.store', message: `service ${name} has no store` })
    return store
  }

  /** @throws NineError `not_found` */
  find(name: string): FileServer {
    const service = this.#services.get(name)
    if (service === undefined) throw new NineError({ kind: 'not_found', op: 'svc.find', message: `no service ${JSON.stringify(name)}` })
    return service.tree
  }

  get count(): number {
    return this.#services.size
  }

  close(): void {
    this.#stopListening()
  }

  /** The service of a name, made for `principal` when there is none. */
  async #known(name: string, principal: Principal): Promise<Service> {
    const known = this.#services.get(name)
    if (known === undefined) return this.#show({ service: name, owner: principal.name, names: [], namespace: '', hasStore: false })
    // Whoever began to show it may not be done, or may fail.
    await known.shown
    return known
  }

  /** A service is known when it is shown: what failed can be tried again. */
  async #show(record: ServiceRecord): Promise<Service> {
    const tree = new Namespace()
    const show = async (): Promise<void> => {
      if (record.hasStore) await this.#mountStore(service)
      await this.server.mount(this.#context(), tree, joinName(rootPath, record.service), { source: record.service })
    }
    const service: Service = {
      record,
      tree,
      store: undefined,
      live: new Map(),
      mounted: new Map(),
      turn: Promise.resolve(),
      shown: Promise.resolve(),
    }
    this.#services.set(record.service, service)
    service.shown = show()
    try {
      await service.shown
    } catch (error) {
      this.#services.delete(record.service)
      throw error
    }
    return service
  }

  async #mountStore(service: Service): Promise<void> {
    const { service: name, owner } = service.record
    const store = await this.#options.storeFor(name, owner)
    await service.tree.mount(this.#context(), store, rootPath, { source: `store ${name}` })
    service.store = store
  }

  async #gone({ service: name, instance }: ServiceInstance): Promise<void> {
    const service = this.#services.get(name)
    if (service === undefined) return
    await this.#inTurn(service, async () => {
      if (!service.live.delete(instance)) return
      await this.#unmount(this.server, `${name}@${instance}`)
      await this.#remount(service)
    })
  }

  /** Mount each registered name from a live instance that serves it, or as unavailable; take away names no longer registered. */
  async #remount(service: Service): Promise<void> {
    const { tree, mounted, live, record } = service
    for (const name of mounted.keys()) {
      if (record.names.includes(name)) continue
      mounted.delete(name)
      await this.#unmount(tree, name)
    }
    for (const name of record.names) {
      const found = [...live].find(([, candidate]) => candidate.names.includes(name))
      if (mounted.has(name) && mounted.get(name) === found?.[0]) continue
      const at = joinName(rootPath, name)
      const missing = `no process of service ${record.service} is connected to node ${this.#options.node}`
      const server = found?.[1].server ?? unavailableServer(missing)
      await tree.mount(this.#context(), { server, path: at }, at, { source: found?.[0] ?? 'unavailable' })
      mounted.set(name, found?.[0])
    }
  }

  async #unmount(tree: Namespace, name: string): Promise<void> {
    try {
      await tree.unmount(this.#context(), joinName(rootPath, name))
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error
    }
  }

  // V4
  #inTurn<T>(service: Service, change: () => Promise<T>): Promise<T> {
    const done = service.turn.then(change, change)
    service.turn = done.catch(() => undefined)
    return done
  }

  // V3
  #checkOwner(name: string, owner: string | undefined, principal: Principal): void {
    if (owner === undefined || owner === principal.name || principal.name === this.#options.owner.name) return
    throw new NineError({ kind: 'denied', op: 'svc.register', message: `service ${name} belongs to ${owner}` })
  }

  #context() {
    return contextFor(this.#options.owner)
  }
}

/** The names of a process that comes, and those that others serve still. @throws NineError `too_large` */
function namesWith(names: readonly string[], { live }: Service): string[] {
  const all = new Set(names)
  for (const other of live.values()) for (const name of other.names) all.add(name)
  if (all.size <= limits.service_names_max) return [...all]
  const message = `the processes of a service register at most ${limits.service_names_max} names together`
  throw new NineError({ kind: 'too_large', op: 'svc.register', message })
}

function liveService(registration: Registration, instance: string): LiveService {
  return { instance, renew: () => registration.renew(), deregister: () => registration.deregister() }
}

function checkRegistration({ service, instance, names, namespace }: RegisterFields): void {
  const op = 'svc.register'
  checkServiceName(service, op)
  if (instance !== undefined) checkServiceName(instance, op)
  if (names.length > limits.service_names_max) {
    throw new NineError({
      kind: 'too_large',
      op,
      message: `a service registers at most ${limits.service_names_max} names, not ${names.length}`,
    })
  }
  if (new Set(names).size !== names.length) throw new NineError({ kind: 'invalid', op, message: 'a name is registered twice' })
  for (const name of names) parseName(name, op)
  if (Buffer.byteLength(namespace) > limits.namespace_file_bytes_max) {
    throw new NineError({ kind: 'too_large', op, message: `a namespace file is at most ${limits.namespace_file_bytes_max} bytes` })
  }
}
