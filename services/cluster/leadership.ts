/**
 * Which of a node's stores have a leader: for its log, and for whether it is ready.
 *
 * H1 An election is no trouble: a store is in trouble when nobody whom this node reaches has led it for
 *    limits.raft_leaderless_ms_max.
 * H2 A loss and its end are told once each.
 */
import { nameOfMember } from './cluster-file.ts'
import type { ClusterLog } from './cluster-log.ts'
import type { ClusterStores } from './ports.ts'

export interface LeadershipParts {
  readonly stores: ClusterStores
  readonly log: ClusterLog
}

const look_ms = 500

export class Leadership {
  readonly #parts: LeadershipParts
  readonly #leaders = new Map<string, string>()
  readonly #lost = new Set<string>()
  #timer: NodeJS.Timeout | undefined

  constructor(parts: LeadershipParts) {
    this.#parts = parts
  }

  start(): void {
    this.#timer ??= setInterval(() => this.look(), look_ms)
    this.#timer.unref()
  }

  close(): void {
    clearInterval(this.#timer)
  }

  /** Why changes and linearizable reads of these stores are refused here: one has no leader. H1 */
  trouble(names: readonly string[]): string | undefined {
    const name = names.find((store) => this.#isLost(store))
    return name === undefined ? undefined : this.#parts.stores.standing(name).leaderlessness()
  }

  look(): void {
    const { stores, log } = this.#parts
    for (const name of stores.names()) {
      const standing = stores.standing(name)
      if (!this.#isLost(name)) {
        if (standing.leaderAtHand !== null) this.#led(name, standing.leaderAtHand)
      } else if (!this.#lost.has(name)) {
        this.#lost.add(name)
        this.#leaders.delete(name)
        log.store('warn', name, { reason: standing.reach() }, 'stores have no leader: changes and linearizable reads are refused') // H2
      }
    }
    log.flush()
  }

  #led(name: string, leader: string): void {
    const wasLost = this.#lost.delete(name)
    if (this.#leaders.get(name) === leader) return
    this.#leaders.set(name, leader)
    const message = wasLost ? 'stores have a leader again' : 'stores have a leader'
    this.#parts.log.store('info', name, { leader: nameOfMember(leader) }, message)
  }

  #isLost(name: string): boolean {
    const { stores } = this.#parts
    return stores.hasStore(name) && stores.standing(name).isLeaderless
  }
}
