/** Leases that keep themselves alive, and locks that stand on them. */
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
  #timer: NodeJS.Timeout | undefined

  private constructor(client: Client, id: string, ttlMs: number) {
    this.#client = client
    this.id = id
    this.ttlMs = ttlMs
    this.ended = new Promise((resolve) => (this.#end = resolve))
    this.#arm()
  }

  /** @param options.path any path of the store that the lease is for; default the root */
  static async grant(client: Client, ttlMs: number, options?: RequestOptions & { readonly path?: string }): Promise<Lease> {
    const path = options?.path === undefined ? rootPath : parsePath(options.path)
    const granted = await client.server.grantLease(client.context(options), ttlMs, path)
    return new Lease(client, granted.lease, granted.ttlMs)
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

  #arm(): void {
    this.#timer = setTimeout(() => void this.#renew(), this.ttlMs / renewals_per_ttl)
    this.#timer.unref()
  }

  async #renew(): Promise<void> {
    try {
      await this.#client.server.renewLease(this.#client.context({ timeoutMs: this.ttlMs }), this.id)
      if (this.#timer !== undefined) this.#arm()
    } catch (error) {
      if (isNineError(error, 'not_found')) this.#stop()
      else if (this.#timer !== undefined) this.#arm()
    }
  }

  #stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#end()
  }
}

export class Lock implements AsyncDisposable {
  readonly #client: Client
  readonly #lease: Lease
  readonly path: Path
  /** Fencing token: only grows; give it to whatever the lock protects. */
  readonly token: number

  private constructor(client: Client, lease: Lease, path: Path, token: number) {
    this.#client = client
    this.#lease = lease
    this.path = path
    this.token = token
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

  /** Resolves when the lock is no longer held. */
  get lost(): Promise<void> {
    return this.#lease.ended
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
}
