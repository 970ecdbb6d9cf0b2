/**
 * Lease timers and the waiters of advisory locks.
 *
 * A lease is in the store's state; its time is not: it runs here, by the monotonic clock, and starts anew when the
 * store is opened, when its node begins to lead, or when the lease is renewed. When it is over, a command ends the lease and its files.
 *
 * T1 One timer serves all leases of a store: it is set for the earliest, from a heap.
 * T2 A lease that was renewed stays in the heap where it was; only when its old time comes is it moved.
 * T3 Whoever waits for a lock is served in turn.
 * T4 A lease whose end was proposed, and may yet happen, is not renewed.
 */
import type { Clock } from '../../namespace/clock.ts'

interface Timed {
  readonly lease: string
  ttlMs: number
  /** Monotonic milliseconds. */
  ends: number
  /** Its key in the heap: not after `ends`. */
  key: number
  /** T4 */
  isEnding: boolean
}

/** Longest setTimeout of Node, milliseconds. */
const timeout_ms_max = 2 ** 31 - 1

export class LeaseTimers {
  readonly #clock: Clock
  readonly #expire: (lease: string, ttlMs: number) => void
  readonly #leases = new Map<string, Timed>()
  readonly #heap: Timed[] = []
  #timer: NodeJS.Timeout | undefined
  #timerKey = Infinity

  constructor(clock: Clock, expire: (lease: string, ttlMs: number) => void) {
    this.#clock = clock
    this.#expire = expire
  }

  get count(): number {
    return this.#leases.size
  }

  /** Whether its time is running. */
  has(lease: string): boolean {
    return this.#leases.get(lease)?.isEnding === false
  }

  /** A lease begins, or its time starts anew. */
  start(lease: string, ttlMs: number): void {
    const ends = this.#clock.monotonic() + ttlMs
    const known = this.#leases.get(lease)
    if (known !== undefined && ends >= known.key) {
      known.isEnding = false
      known.ttlMs = ttlMs
      known.ends = ends // T2
      return
    }
    const timed = { lease, ttlMs, ends, key: ends, isEnding: false }
    this.#leases.set(lease, timed)
    this.#push(timed)
    this.#arm()
  }

  /** Milliseconds of its ttl, or undefined when it has ended. */
  renew(lease: string): number | undefined {
    const known = this.#leases.get(lease)
    if (known === undefined || known.isEnding) return undefined
    known.ends = this.#clock.monotonic() + known.ttlMs
    return known.ttlMs
  }

  stop(lease: string): void {
    // Its place in the heap is passed over when its time comes.
    this.#leases.delete(lease)
  }

  /** Try again later to end a lease: the command that ends it failed, or `mayHaveHappened`. T4 */
  retry(lease: string, ttlMs: number, afterMs: number, mayHaveHappened: boolean): void {
    if (this.#leases.has(lease)) return
    const ends = this.#clock.monotonic() + afterMs
    const timed = { lease, ttlMs, ends, key: ends, isEnding: mayHaveHappened }
    this.#leases.set(lease, timed)
    this.#push(timed)
    this.#arm()
  }

  /** Forget all of them. */
  clear(): void {
    clearTimeout(this.#timer)
    this.#timerKey = Infinity
    this.#leases.clear()
    this.#heap.length = 0
  }

  readonly #ring = (): void => {
    this.#timerKey = Infinity
    const now = this.#clock.monotonic()
    for (;;) {
      const first = this.#heap[0]
      if (first === undefined || first.key > now) break
      this.#pop()
      if (this.#leases.get(first.lease) !== first) continue
      if (first.ends > now) {
        first.key = first.ends
        this.#push(first)
      } else {
        this.#leases.delete(first.lease)
        this.#expire(first.lease, first.ttlMs)
      }
    }
    this.#arm()
  }

  #arm(): void {
    const key = this.#heap[0]?.key ?? Infinity
    if (key >= this.#timerKey) return
    clearTimeout(this.#timer)
    this.#timerKey = key
    const wait = Math.min(timeout_ms_max, Math.max(1, Math.ceil(key - this.#clock.monotonic())))
    this.#timer = setTimeout(this.#ring, wait).unref()
  }

  #push(timed: Timed): void {
    const heap = this.#heap
    let i = heap.length
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (heap[parent]!.key <= timed.key) break
      heap[i] = heap[parent]!
      i = parent
    }
    heap[i] = timed
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()!
    if (heap.length === 0) return
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && heap[child + 1]!.key < heap[child]!.key) child++
      if (heap[child]!.key >= last.key) break
      heap[i] = heap[child]!
      i = child
    }
    heap[i] = last
  }
}

interface Waiter {
  readonly wake: () => void
}

/** Who waits for which path to become free. */
export class LockQueue {
  readonly #queues = new Map<string, Waiter[]>()

  get isEmpty(): boolean {
    return this.#queues.size === 0
  }

  /** Stand in line for `path`. */
  enter(path: string): LockTurn {
    const turn = new LockTurn(this, path)
    const queue = this.#queues.get(path)
    if (queue === undefined) this.#queues.set(path, [turn])
    else queue.push(turn)
    return turn
  }

  isFirst(turn: LockTurn): boolean {
    return this.#queues.get(turn.path)?.[0] === turn
  }

  leave(turn: LockTurn): void {
    const queue = this.#queues.get(turn.path)
    if (queue === undefined) return
    const at = queue.indexOf(turn)
    if (at >= 0) queue.splice(at, 1)
    if (queue.length === 0) this.#queues.delete(turn.path)
    else if (at === 0) queue[0]!.wake() // T3
  }

  /** Something at or around `path` has changed: the first in line looks again. */
  changed(path: string, subtree: boolean): void {
    this.#queues.get(path)?.[0]?.wake()
    if (!subtree) return
    for (const [waited, queue] of this.#queues) if (waited.startsWith(`${path}/`)) queue[0]!.wake()
  }

  /** Everybody looks again. */
  wakeAll(): void {
    for (const queue of this.#queues.values()) for (const waiter of queue) waiter.wake()
  }
}

export class LockTurn implements Waiter {
  readonly path: string
  readonly #queue: LockQueue
  #resolve: (() => void) | undefined
  #isWoken = false

  constructor(queue: LockQueue, path: string) {
    this.#queue = queue
    this.path = path
  }

  get isFirst(): boolean {
    return this.#queue.isFirst(this)
  }

  readonly wake = (): void => {
    this.#isWoken = true
    this.#resolve?.()
  }

  /** Until something changed, or `waitMs` have passed, or the signal aborts. */
  async wait(waitMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.#isWoken) {
      this.#isWoken = false
      return
    }
    const stop = (): void => this.#resolve?.()
    const timer = waitMs === Infinity ? undefined : setTimeout(stop, Math.min(timeout_ms_max, Math.max(0, waitMs)))
    signal?.addEventListener('abort', stop)
    await new Promise<void>((resolve) => (this.#resolve = resolve))
    clearTimeout(timer)
    signal?.removeEventListener('abort', stop)
    this.#resolve = undefined
    this.#isWoken = false
  }

  leave(): void {
    this.#queue.leave(this)
  }
}
