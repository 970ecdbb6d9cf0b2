/**
 * Numbers of a client's mutations: (client, seq) and the mark below which all are settled.
 *
 * C1 A number is given once. `settled` only grows, and never passes a number whose answer is still awaited.
 * C2 Stores keep at most limits.client_results_max answers above the mark, so one mutation that takes long must not hold the mark
 *    while thousands pass it: numbers then go on under a further identity.
 * C3 An identity that was not used for limits.client_idle_ms may be forgotten by stores, which then cannot tell a first try from a
 *    retry. No new number is given under it: who has none better waits for a new identity.
 */
import type { ClientIdentity } from '../context.ts'
import { limits } from '../limits.ts'
import type { ClientName } from '../wire/session.ts'

/** Numbers a lane may be ahead of its mark. */
const span_max = limits.client_results_max / 2

/** One identity and its numbers. */
export class Lane {
  readonly client: ClientName
  #next = 1
  #settled = 0
  #usedAt: number
  readonly #isDone = new Uint8Array(span_max)

  constructor(client: ClientName, now: number) {
    this.client = client
    this.#usedAt = now
  }

  get settled(): number {
    return this.#settled
  }

  get identity(): ClientIdentity {
    return { id: this.client.id, born: this.client.born, settled: this.#settled }
  }

  /** How far it is ahead of its mark. */
  get span(): number {
    return this.#next - 1 - this.#settled
  }

  /** Whether stores may have forgotten it: unused for long. */ // C3
  isStale(now: number): boolean {
    return now - this.#usedAt > limits.client_idle_ms
  }

  /** There is no better one: go on with it. */
  keep(now: number): void {
    this.#usedAt = now
  }

  /** The next number. Only with room(). */
  take(now: number): number {
    this.#usedAt = now
    return this.#next++
  }

  get hasRoom(): boolean {
    return this.span < span_max
  }

  /** Its answer was given to whoever waited, or nobody waits any more. */
  settle(seq: number): void {
    this.#isDone[seq % span_max] = 1
    while (this.#settled < this.#next - 1 && this.#isDone[(this.#settled + 1) % span_max] === 1) {
      this.#settled++
      this.#isDone[this.#settled % span_max] = 0
    }
  }
}

export class Sequence {
  /** The session's own client. */
  readonly first: Lane
  #lanes: Lane[]
  readonly #identify: () => Promise<ClientName>
  #asking: Promise<void> | undefined

  /** @param identify asks the node for a further identity */
  constructor(first: ClientName, now: number, identify: () => Promise<ClientName>) {
    this.first = new Lane(first, now)
    this.#lanes = [this.first]
    this.#identify = identify
  }

  /** Whether a mutation has to wait for renew(). */ // C3
  isStale(now: number): boolean {
    for (const lane of this.#lanes) if (!lane.isStale(now)) return false
    return true
  }

  /** A new identity for those that are stale. Rejects as the node answers. */
  renew(now: number): Promise<void> {
    this.#asking ??= this.#identify()
      .then((client) => {
        this.#lanes = this.#lanes.filter((lane) => !lane.isStale(now))
        this.#lanes.push(new Lane(client, now))
      })
      .finally(() => (this.#asking = undefined))
    return this.#asking
  }

  /** Go on with the identities there are, stale or not. */
  keep(now: number): void {
    for (const lane of this.#lanes) lane.keep(now)
  }

  /** A lane with room, where isStale() is false; undefined when all are full. */
  lane(now: number): Lane | undefined {
    const newest = this.#lanes[this.#lanes.length - 1]!
    if (newest.span > span_max / 2) this.#widen(now)
    // The newest is the one used last, as long as it has room.
    if (newest.hasRoom) return newest
    return this.#lanes.find((lane) => lane.hasRoom && !lane.isStale(now))
  }

  /** C2 */
  #widen(now: number): void {
    // A lane whose mark has caught up is as good as a new one.
    const caught = this.#lanes.findIndex((lane) => lane.span < span_max / 4 && !lane.isStale(now))
    if (caught >= 0 && caught < this.#lanes.length - 1) {
      this.#lanes.push(...this.#lanes.splice(caught, 1))
      return
    }
    if (this.#asking !== undefined || this.#lanes.length > limits.session_clients_max) return
    // Without it, the lanes there are serve until they are full.
    this.renew(now).catch(() => undefined)
  }
}
