/** Metrics of the node for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/), on a registry of its own. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { ErrorKind } from '../../namespace/errors.ts'

/** Numbers read when somebody asks: name, help, and where from. */
export interface GaugeSource {
  readonly name: string
  readonly help: string
  readonly read: () => number
}

export class Metrics {
  readonly #registry = new Registry()
  readonly #operations: Counter<'op'>
  readonly #failures: Counter<'op' | 'kind'>
  readonly #requests: Histogram<'method' | 'status'>
  /** Counted here and handed to the counter when asked: an operation costs one addition. */
  readonly #pending = new Map<string, number>()

  constructor() {
    const registers = [this.#registry]
    collectDefaultMetrics({ register: this.#registry })
    this.#operations = new Counter({ name: 'nine_operations_total', help: 'Operations begun, by name.', labelNames: ['op'], registers })
    this.#failures = new Counter({ name: 'nine_failures_total', help: 'Operations that failed.', labelNames: ['op', 'kind'], registers })
    this.#requests = new Histogram({
      name: 'nine_http_request_seconds',
      help: 'HTTP requests, from the first byte in to the last byte out.',
      labelNames: ['method', 'status'],
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
      registers,
    })
  }

  gauge({ name, help, read }: GaugeSource): void {
    new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(read())
      },
    })
  }

  /** Gauges that one look gives together, by their names. */
  gauges<Name extends string>(help: Readonly<Record<Name, string>>, read: () => Readonly<Record<Name, number>>): void {
    const names = Object.keys(help) as Name[]
    const all = new Map<Name, Gauge>()
    // The first that is collected looks for all: collecting goes in the order of registration.
    for (const name of names) {
      const collect =
        name !== names[0]
          ? undefined
          : () => {
              const values = read()
              for (const [key, gauge] of all) gauge.set(values[key])
            }
      all.set(name, new Gauge({ name, help: help[name], registers: [this.#registry], ...(collect && { collect }) }))
    }
  }

  operation(op: string): void {
    this.#pending.set(op, (this.#pending.get(op) ?? 0) + 1)
  }

  failure(op: string, kind: ErrorKind): void {
    this.#failures.inc({ op, kind })
  }

  request(method: string, status: number, seconds: number): void {
    // Methods come from clients: only the known ones become labels, so that nobody grows the registry.
    const known = ['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS'].includes(method) ? method : 'other'
    this.#requests.observe({ method: known, status: String(status) }, seconds)
  }

  async text(): Promise<{ text: string; contentType: string }> {
    for (const [op, count] of this.#pending) this.#operations.inc({ op }, count)
    this.#pending.clear()
    return { text: await this.#registry.metrics(), contentType: this.#registry.contentType }
  }
}
