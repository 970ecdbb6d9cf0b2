/** Leases of a memory server and their files, and the line of those who wait for a lock. */
import type { Clock } from '../clock.ts'
import { NineError } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Random } from '../random.ts'
import type { Node } from './tree.ts'

/** Longest setTimeout of Node, milliseconds. */
const timeout_ms_max = 2 ** 31 - 1

interface Lease {
  /** Principal it was granted to: only they and the server's owner may renew or revoke it. */
  readonly owner: string
  readonly ttlMs: number
  /** Monotonic milliseconds. */
  ends: number
  timer: NodeJS.Timeout
  readonly nodes: Set<Node>
}

export class Leases {
  readonly #clock: Clock
  readonly #random: Random
  readonly #expire: (lease: string) => void
  readonly #leases = new Map<string, Lease>()

  /** `expire` ends a lease whose time is over: it removes the files and then forgets the lease. */
  constructor(clock: Clock, random: Random, expire: (lease: string) => void) {
    this.#clock = clock
    this.#random = random
    this.#expire = expire
  }

  ownerOf(lease: string): string | undefined {
    return this.#leases.get(lease)?.owner
  }

  /** @throws NineError `invalid` (no whole number of milliseconds within the limits), `overloaded` */
  grant(owner: string, ttlMs: number, op: string, path: string): string {
    const { lease_ttl_ms_min: min, lease_ttl_ms_max: max } = limits
    if (!Number.isSafeInteger(ttlMs) || ttlMs < min || ttlMs > max) {
      throw new NineError({ kind: 'invalid', op, path, message: `a ttl is a whole number of milliseconds from ${min} to ${max}` })
    }
    if (this.#leases.size >= limits.leases_max) {
      throw new NineError({ kind: 'overloaded', op, path, message: `a server has at most ${limits.leases_max} leases` })
    }
    const lease = this.#random.id()
    this.#leases.set(lease, { owner, ttlMs, ends: this.#clock.monotonic() + ttlMs, timer: this.#arm(lease, ttlMs), nodes: new Set() })
    return lease
  }

  /** Start its time anew; undefined when it has ended. */
  renew(lease: string): number | undefined {
    const known = this.#leases.get(lease)
    if (known === undefined) return undefined
    known.ends = this.#clock.monotonic() + known.ttlMs
    return known.ttlMs
  }

  forget(lease: string): void {
    const known = this.#leases.get(lease)
    if (known === undefined) return
    clearTimeout(known.timer)
    this.#leases.delete(lease)
  }

  /** Files that end with it. */
  nodes(lease: string): readonly Node[] {
    return [...(this.#leases.get(lease)?.nodes ?? [])]
  }

  bind(lease: string, node: Node): void {
    this.#leases.get(lease)?.nodes.add(node)
  }

  unbind(lease: string, node: Node): void {
    this.#leases.get(lease)?.nodes.delete(node)
  }

  close(): void {
    for (const { timer } of this.#leases.values()) clearTimeout(timer)
    this.#leases.clear()
  }

  #arm(lease: string, ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#ring(lease), Math.max(1, Math.ceil(ms))).unref()
  }

  /** A renewed lease is looked at again when its new time comes. */
  #ring(lease: string): void {
    const known = this.#leases.get(lease)
    if (known === undefined) return
    const left = known.ends - this.#clock.monotonic()
    if (left > 0) known.timer = this.#arm(lease, left)
    else this.#expire(lease)
  }
}

/** Who waits for which path: in turn. */
export class LockLines {
  readonly #lines = new Map<string, LockTurn[]>()
  #waiting = 0

  get isEmpty(): boolean {
    return this.#waiting === 0
  }

  /** @throws NineError `overloaded` */
  enter(path: string, op: string): LockTurn {
    if (this.#waiting >= limits.lock_waiters_max) {
      throw new NineError({ kind: 'overloaded', op, path, message: `at most ${limits.lock_waiters_max} requests wait for locks` })
    }
    const turn = new LockTurn(path)
    const line = this.#lines.get(path)
    if (line === undefined) this.#lines.set(path, [turn])
    else line.push(turn)
    this.#waiting++
    return turn
  }

  isFirst(turn: LockTurn): boolean {
    return this.#lines.get(turn.path)?.[0] === turn
  }

  leave(turn: LockTurn): void {
    const line = this.#lines.get(turn.path)!
    const at = line.indexOf(turn)
    line.splice(at, 1)
    this.#waiting--
    if (line.length === 0) this.#lines.delete(turn.path)
  }

  /** Something may have become free, or a lease has ended: all look again, and who is not first goes on waiting. */
  wakeAll(): void {
    for (const line of this.#lines.values()) for (const turn of line) turn.wake()
  }
}

/** One place in a line. */
export class LockTurn {
  readonly path: string
  #resolve: (() => void) | undefined
  #isWoken = false

  constructor(path: string) {
    this.path = path
  }

  wake(): void {
    this.#isWoken = true
    this.#resolve?.()
  }

  /** Until woken, `waitMs` milliseconds are over, or the signal aborts. */
  async wait(waitMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (!this.#isWoken && signal?.aborted !== true) {
      await new Promise<void>((resolve) => {
        const timer = waitMs === Infinity ? undefined : setTimeout(resolve, Math.min(timeout_ms_max, Math.max(0, Math.ceil(waitMs))))
        signal?.addEventListener('abort', this.#stop, { once: true })
        this.#resolve = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      signal?.removeEventListener('abort', this.#stop)
      this.#resolve = undefined
    }
    this.#isWoken = false
  }

  readonly #stop = (): void => this.#resolve?.()
}
