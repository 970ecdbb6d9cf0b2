/**
 * The client as which a replica proposes what comes without an identity of its own, so that it can be given to one leader after
 * the other and still takes effect once.
 *
 * O1 A store may forget a client, this one too, and then knows no more whether it has asked before. This node knows: what it gave out once
 *    and finds so answered did not happen, and is asked again as a younger client.
 */
import type { Clock } from '../../namespace/clock.ts'
import { limits } from '../../namespace/limits.ts'
import type { Random } from '../../namespace/random.ts'
import { Lane } from '../../namespace/remote/sequence.ts'
import type { Micros } from '../../namespace/stat.ts'

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
    return this.#take(-1)
  }

  /** Instead of one of a client that the store has forgotten. @param horizon of the store: who is born after it was not forgotten */ // O1
  takeAgain({ lane, seq }: OwnNumber, horizon: Micros): OwnNumber | undefined {
    lane.settle(seq)
    this.#lanes = this.#lanes.filter((known) => known !== lane)
    return this.#take(horizon)
  }

  #take(after: Micros): OwnNumber | undefined {
    const now = this.#clock.monotonic()
    let lane = this.#lanes.find((known) => known.hasRoom && !known.isStale(now) && known.client.born > after)
    if (lane === undefined) {
      this.#lanes = this.#lanes.filter((known) => known.span > 0)
      if (this.#lanes.length >= limits.session_clients_max) return undefined
      lane = new Lane({ id: this.#random.id(), born: Math.max(this.#clock.now(), after + 1) }, now)
      this.#lanes.push(lane)
    }
    return { lane, seq: lane.take(now) }
  }
}
