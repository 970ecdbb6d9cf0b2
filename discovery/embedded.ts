/**
 * Discovery of a node alone: a table in memory whose rows lapse. It starts empty with the node, as its services do.
 *
 * One timer serves all leases, armed for the earliest. Leases of one length lapse in the order in which they were last renewed, so
 * that the earliest of each length is the first: no renewal and no sweep looks at all rows.
 */
import type { Clock } from '../namespace/clock.ts'
import { NineError } from '../namespace/errors.ts'
import { limits } from '../namespace/limits.ts'
import { compareNames } from '../namespace/path.ts'
import type { Registration, Registry, RegistryEvent, ServiceInstance } from './registry.ts'

interface Row {
  readonly instance: ServiceInstance
  readonly ttlMs: number
  /** On the monotonic clock, milliseconds. */
  lapsesAt: number
}

export class EmbeddedRegistry implements Registry {
  readonly #clock: Clock
  readonly #services = new Map<string, Map<string, Row>>()
  /** Rows by the length of their lease, in the order they lapse. */
  readonly #leases = new Map<number, Set<Row>>()
  readonly #listeners = new Set<(event: RegistryEvent) => void>()
  #count = 0
  #timer: NodeJS.Timeout | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  async register(instance: ServiceInstance, ttlMs: number): Promise<Registration> {
    checkInstance(instance, ttlMs)
    if (this.#count >= limits.service_instances_max) {
      const message = `this node lists at most ${limits.service_instances_max} service instances`
      throw new NineError({ kind: 'overloaded', op: 'discovery.register', message })
    }
    let rows = this.#services.get(instance.service)
    if (rows?.has(instance.instance) === true) {
      const message = `service ${instance.service} has a live instance ${instance.instance}`
      throw new NineError({ kind: 'exists', op: 'discovery.register', message })
    }
    if (rows === undefined) this.#services.set(instance.service, (rows = new Map<string, Row>()))
    const row: Row = { instance, ttlMs, lapsesAt: this.#clock.monotonic() + ttlMs }
    rows.set(instance.instance, row)
    this.#count++
    this.#begin(row)
    this.#arm()
    this.#tell({ type: 'up', instance })
    return {
      instance,
      renew: async () => {
        if (!this.#has(row)) return false
        row.lapsesAt = this.#clock.monotonic() + ttlMs
        this.#begin(row)
        return true
      },
      deregister: async () => this.#remove(row, 'deregistered'),
    }
  }

  resolve(service: string): readonly ServiceInstance[] {
    const rows = this.#services.get(service)
    if (rows === undefined) return []
    return [...rows.values()].map((row) => row.instance).sort((a, b) => compareNames(a.instance, b.instance))
  }

  services(): readonly string[] {
    return [...this.#services.keys()].sort(compareNames)
  }

  onChange(listener: (event: RegistryEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer)
    this.#services.clear()
    this.#leases.clear()
    this.#listeners.clear()
    this.#count = 0
  }

  #has(row: Row): boolean {
    return this.#services.get(row.instance.service)?.get(row.instance.instance) === row
  }

  #remove(row: Row, reason: 'deregistered' | 'lapsed'): void {
    if (!this.#has(row)) return
    const rows = this.#services.get(row.instance.service)
    rows?.delete(row.instance.instance)
    if (rows?.size === 0) this.#services.delete(row.instance.service)
    const leases = this.#leases.get(row.ttlMs)
    leases?.delete(row)
    if (leases?.size === 0) this.#leases.delete(row.ttlMs)
    this.#count--
    this.#tell({ type: 'down', instance: row.instance, reason })
  }

  #tell(event: RegistryEvent): void {
    for (const listener of [...this.#listeners]) listener(event)
  }

  /** The lease of a row begins, or begins anew: it is the last of its length to lapse. */
  #begin(row: Row): void {
    let leases = this.#leases.get(row.ttlMs)
    if (leases === undefined) this.#leases.set(row.ttlMs, (leases = new Set<Row>()))
    leases.delete(row)
    leases.add(row)
  }

  #arm(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    let next = Infinity
    for (const leases of this.#leases.values()) next = Math.min(next, leases.values().next().value?.lapsesAt ?? Infinity)
    if (next === Infinity) return
    this.#timer = setTimeout(() => this.#sweep(), Math.max(1, next - this.#clock.monotonic()))
    this.#timer.unref()
  }

  #sweep(): void {
    const now = this.#clock.monotonic()
    for (const leases of [...this.#leases.values()]) {
      for (const row of leases) {
        if (row.lapsesAt > now) break
        this.#remove(row, 'lapsed')
      }
    }
    this.#arm()
  }
}

/** Names that may stand in a path as `/svc/NAME` and `/svc/NAME@INSTANCE`. */
const serviceName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

/** @throws NineError `invalid` */
export function checkServiceName(name: string, op: string): void {
  if (serviceName.test(name)) return
  const message = `${JSON.stringify(name)} is no service name: 1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit`
  throw new NineError({ kind: 'invalid', op, message })
}

function checkInstance(instance: ServiceInstance, ttlMs: number): void {
  checkServiceName(instance.service, 'discovery.register')
  checkServiceName(instance.instance, 'discovery.register')
  if (!Number.isFinite(ttlMs) || ttlMs < limits.lease_ttl_ms_min || ttlMs > limits.lease_ttl_ms_max) {
    const message = `a lease is ${limits.lease_ttl_ms_min} to ${limits.lease_ttl_ms_max} ms, not ${ttlMs}`
    throw new NineError({ kind: 'invalid', op: 'discovery.register', message })
  }
}
