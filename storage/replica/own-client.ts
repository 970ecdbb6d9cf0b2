/**
 * The client as which a replica proposes what comes without an identity of its own, so that it can be given to one leader after
 * the other and still takes effect once.
 */
import type { Clock } from '../../namespace/clock.ts'
import { limits } from '../../namespace/limits.ts'
import type { Random } from '../../namespace/random.ts'
import { Lane } from '../../namespace/remote/sequence.ts'

/** A number of this client: settled once its answer was given. */
export interface OwnNumber {
  readonly lane: Lane
  readonly seq: number
}

export class OwnClient {
  readonly #clock: Clock
  readonly #random: Random
  #lanes: Lane[] = []

  /** `clock` is the engine's: what is born by it is younger than any client a store has forgotten. */
  constructor(clock: Clock, random: Random) {
    this.#clock = clock
    this.#random = random
  }

  /** Undefined when too many are under way. */
  take(): OwnNumber | undefined {
    const now = this.#clock.monotonic()
    let lane = this.#lanes.find((known) => known.hasRoom && !known.isStale(now))
    if (lane === undefined) {
      this.#lanes = this.#lanes.filter((known) => known.span > 0)
      if (this.#lanes.length >= limits.session_clients_max) return undefined
      lane = new Lane({ id: this.#random.id(), born: this.#clock.now() }, now)
      this.#lanes.push(lane)
    }
    return { lane, seq: lane.take(now) }
  }
}
