/** Who leads a store, as far as its replica here knows, and since when this node can ask nobody who does. */
import type { Clock } from '../../namespace/clock.ts'
import { limits } from '../../namespace/limits.ts'
import type { Configuration } from '../../raft/index.ts'
import type { Peers } from './peers.ts'
import { reachText } from './reach.ts'

export interface StandingParts {
  /** The store's. */
  readonly name: string
  /** This member. */
  readonly self: string
  readonly peers: Pick<Peers, 'isReachable'>
  readonly clock: Clock
  readonly configuration: () => Configuration
}

export class Standing {
  /** Member id. */
  leader: string | null = null
  /** Since when this node has had no leader at hand, on the monotonic clock; Infinity while it has one. */
  leaderlessSince: number
  readonly #parts: StandingParts

  constructor(parts: StandingParts) {
    this.#parts = parts
    this.leaderlessSince = parts.clock.monotonic()
  }

  /** To be told of every leader, and now and then. */
  look(leader: string | null): void {
    this.leader = leader
    if (this.leaderAtHand !== null) this.leaderlessSince = Infinity
    else if (this.leaderlessSince === Infinity) this.leaderlessSince = this.#parts.clock.monotonic()
  }

  /** The leader, where this node can ask it: one that is heard may not hear. */
  get leaderAtHand(): string | null {
    const { leader } = this
    return leader === null || this.#reaches(leader) ? leader : null
  }

  /** It has had none for so long that this is no election. */
  get isLeaderless(): boolean {
    return this.#parts.clock.monotonic() - this.leaderlessSince > limits.raft_leaderless_ms_max
  }

  /** Why it has none, in words. */
  leaderlessness(): string {
    const { leader } = this
    const what = leader === null ? 'has no leader' : `is led by ${leader}, which this node hears and does not reach`
    return `store ${this.#parts.name} ${what}: ${this.reach()}`
  }

  /** How many of the store's members this node reaches, and which not, in words. */
  reach(): string {
    return reachText(this.#parts.configuration(), (id) => this.#reaches(id))
  }

  #reaches(id: string): boolean {
    const { self, peers } = this.#parts
    return id === self || peers.isReachable(id)
  }
}
