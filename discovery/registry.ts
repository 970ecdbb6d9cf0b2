/**
 * The port of discovery: which instances of which services are alive, and where.
 *
 * D1 An instance is listed from the moment register answers until it deregisters or its lease lapses, whichever is first.
 * D2 Listeners hear every change once, in order, after it can be seen by resolve.
 */

export interface ServiceInstance {
  readonly service: string
  /** Unique among the instances of the service. */
  readonly instance: string
  /** Top-level names that this instance serves. */
  readonly names: readonly string[]
  /** Node it runs beside. */
  readonly node: string
  /** `HOST:PORT` of that node, where others reach it; undefined on a node alone. */
  readonly address?: string | undefined
}

export type RegistryEvent =
  | { readonly type: 'up'; readonly instance: ServiceInstance }
  | { readonly type: 'down'; readonly instance: ServiceInstance; readonly reason: 'deregistered' | 'lapsed' }

export interface Registration {
  readonly instance: ServiceInstance
  /** Start the lease anew. False when it has lapsed: register again. */
  renew(): Promise<boolean>
  /** Leave. Leaving twice, or after the lease lapsed, does nothing. */
  deregister(): Promise<void>
}

export interface Registry {
  /**
   * @param ttlMs how long the instance stays listed without a renewal, milliseconds
   * @throws NineError `exists` when the service has a live instance of that name, `invalid` for a bad name, `overloaded` past the limit
   */
  register(instance: ServiceInstance, ttlMs: number): Promise<Registration>
  /** Live instances of a service, by instance name. */
  resolve(service: string): readonly ServiceInstance[]
  /** Names of the services with a live instance, in order. */
  services(): readonly string[]
  /** Hear of changes until the returned function is called. */
  onChange(listener: (event: RegistryEvent) => void): () => void
  close(): Promise<void>
}
