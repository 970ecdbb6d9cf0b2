/**
 * Leases that keep themselves alive, and locks that stand on them.
 *
 * L1 A lease counts as ended here no later than at the node: its time runs from when the last renewal that was answered was sent.
 * L2 A lock is held while its lease lives and its file is the one it made.
 */
import { systemClock } from '../namespace/clock.ts'
import { isNineError } from '../namespace/errors.ts'
import { rootPath, parsePath } from '../namespace/path.ts'
import type { Path } from '../namespace/path.ts'
import type { Client, RequestOptions } from './client-api.ts'

/** Renewed this many times in the span it lasts, so that two lost renewals do not end it. */
const renewals_per_ttl = 3
const lock_ttl_ms_default = 10_000

export class Lease implements AsyncDisposable {
  readonly #client: Client
  readonly id: string
  readonly ttlMs: number
  /** Resolves when the lease has ended, by revoke or because it could not be renewed in time. */
  readonly ended: Promise<void>
  #end: () => void = () => undefined
  #renewal: NodeJS.Timeout | undefined
  #expiry: NodeJS.Timeout | undefined
  #isEnded = false

  private constructor(client: Client, id: string, ttlMs: number, sentAt: number) {
    this.#client = client
    this.id = id
    this.ttlMs = ttlMs
    this.ended = new Promise((resolve) => (this.#end = resolve))
    this.#arm(sentAt)
  }

  /** @param options.path any path of the store that the lease is for; default the root */
  static async grant(client: Client, ttlMs: number, options?: RequestOptions & { readonly path?: string }): Promise<Lease> {
    const path = options?.path === undefined ? rootPath : parsePath(options.path)
    const sentAt = systemClock.monotonic()
    const granted = await client.server.grantLease(client.context(options), ttlMs, path)
    return new Lease(client, granted.lease, granted.ttlMs, sentAt)
  }

  /** End it now: its files are removed. */
  async revoke(options?: RequestOptions): Promise<void> {
    this.#stop()
    await this.#client.server.revokeLease(this.#client.context(options), this.id)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.revoke()
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error
    }
  }

  /** The lease lasts from `sentAt`, on the monotonic clock. */ // L1
  #arm(sentAt: number): void {
    clearTimeout(this.#expiry)
    this.#expiry = setTimeout(() => this.#stop(), sentAt + this.ttlMs - systemClock.monotonic())
    this.#expiry.unref()
    this.#renewSoon()
  }

  #renewSoon(): void {
    this.#renewal = setTimeout(() => void this.#renew(), this.ttlMs / renewals_per_ttl)
    this.#renewal.unref()
  }

  async #renew(): Promise<void> {
    const sentAt = systemClock.monotonic()
    try {
      await this.#client.server.renewLease(this.#client.context({ timeoutMs: this.ttlMs }), this.id)
      if (!this.#isEnded) this.#arm(sentAt)
    } catch (error) {
      if (isNineError(error, 'not_found')) this.#stop()
      else if (!this.#isEnded) this.#renewSoon()
    }
  }

  #stop(): void {
    clearTimeout(this.#renewal)
    clearTimeout(this.#expiry)
    this.#isEnded = true
    this.#end()
  }
}

export class Lock implements AsyncDisposable {
  readonly #client: Client
  readonly #lease: Lease
  readonly path: Path
  /** Resolves when the lock is no longer held: released, not renewed in time, or its file removed by another. */
  readonly lost: Promise<void>
  /** Fencing token: only grows; give it to whatever the lock protects. */
  readonly token: number

  private constructor(client: Client, lease: Lease, path: Path, token: number) {
    this.#client = client
    this.#lease = lease
    this.path = path
    this.token = token
    const watching = new AbortController()
    this.lost = Promise.race([lease.ended, this.#removed(watching.signal)]).finally(() => watching.abort())
  }

  static async take(client: Client, path: Path, options?: RequestOptions & { readonly ttlMs?: number }): Promise<Lock> {
    const lease = await Lease.grant(client, options?.ttlMs ?? lock_ttl_ms_default, { ...options, path })
    try {
      const { token } = await client.server.lock(client.context(options), path, lease.id)
      return new Lock(client, lease, path, token)
    } catch (error) {
      await lease[Symbol.asyncDispose]()
      throw error
    }
  }

  async release(): Promise<void> {
    await this.#lease[Symbol.asyncDispose]()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release()
  }

  /** The client that holds it. */
  get client(): Client {
    return this.#client
  }

  /** L2. Where it cannot be watched, the lease alone tells. */
  async #removed(signal: AbortSignal): Promise<void> {
    try {
      for await (const event of this.#client.watch(this.path, { from: this.token + 1, statsOnly: true, signal })) {
        if (event.type === 'remove' || event.type === 'rename') return
      }
    } catch {
      // Ended with the connection for good, or as compacted: the file may stand still.
    }
    await this.#lease.ended
  }
}
