/**
 * What an operator asked of a group and waits for: changes of membership and hand-overs. Few at a time.
 *
 * J1 A change is done when the configuration that it leads to is applied here and not joint: a joint one on the way is not the end.
 * J2 A hand-over is done when the other node is known to lead.
 * J3 Where no leader is known for long, nobody waits on: a node that was removed while it was cut off never learns what became of its change.
 */
import type { Answer, Entry, Lost, MembershipChange, NodeId } from '../model.ts'
import type { Raft } from '../state.ts'
import { Refused, makeDeferred } from './refused.ts'
import type { Deferred, Reason } from './refused.ts'

export type Request =
  | { readonly kind: 'change'; readonly changes: readonly MembershipChange[]; readonly deferred: Deferred }
  | { readonly kind: 'transfer'; readonly to: NodeId; readonly deferred: Deferred }

interface Change {
  readonly index: number
  readonly term: number
  readonly deferred: Deferred
  /** Its entry was applied, and it was joint. */
  isJoint: boolean
}

interface Transfer {
  readonly to: NodeId
  readonly term: number
  readonly deferred: Deferred
  ticks: number
}

export class Requests {
  /** Not yet given to the core. */
  #open: Request[] = []
  readonly #asked = new Map<number, Request>()
  #changes: Change[] = []
  #transfers: Transfer[] = []
  /** Ticks without a leader while a change is open. */
  #unled = 0

  change(changes: readonly MembershipChange[]): Promise<void> {
    return this.#begin({ kind: 'change', changes, deferred: makeDeferred() })
  }

  transfer(to: NodeId): Promise<void> {
    return this.#begin({ kind: 'transfer', to, deferred: makeDeferred() })
  }

  get hasOpen(): boolean {
    return this.#open.length > 0
  }

  /** Nothing is under way. */
  get isIdle(): boolean {
    return this.#open.length + this.#asked.size + this.#changes.length + this.#transfers.length === 0
  }

  /** The next that is to be given to the core, as `ref`. */
  next(ref: number): Request | undefined {
    const request = this.#open.shift()
    if (request !== undefined) this.#asked.set(ref, request)
    return request
  }

  answered({ ref, refused, first, term }: Answer): void {
    const request = this.#asked.get(ref)
    if (request === undefined) return
    this.#asked.delete(ref)
    if (refused !== null) request.deferred.reject(new Refused(request.kind, refused))
    else if (request.kind === 'change') this.#changes.push({ index: first, term, deferred: request.deferred, isJoint: false })
    else this.#transfers.push({ to: request.to, term, deferred: request.deferred, ticks: 0 })
  }

  applied(entry: Entry): void {
    if (this.#changes.length === 0 || entry.configuration === null) return
    const isJoint = entry.configuration.outgoing.length > 0
    this.#changes = this.#changes.filter((change) => {
      if (!change.isJoint && (change.index !== entry.index || change.term !== entry.term)) return true
      change.isJoint = isJoint
      if (!isJoint) change.deferred.resolve() // J1
      return isJoint
    })
  }

  lost({ first, last, term, fate }: Lost): void {
    this.#endChanges(
      fate === 'never' ? 'lost' : 'unknown',
      (change) => change.term === term && change.index >= first && change.index <= last,
    )
  }

  /** A snapshot as of `index` came over the log: what it holds of these is not known. */
  overtaken(index: number): void {
    this.#endChanges('unknown', (change) => change.index <= index)
  }

  /** How requests stand after a step; `ticks` passed since the last look. */
  look(raft: Raft, ticks: number): void {
    if (this.#changes.length > 0) this.#lookAtChanges(raft, ticks)
    if (this.#transfers.length > 0) this.#lookAtTransfers(raft, ticks)
  }

  /** J3 */
  #lookAtChanges({ leader, options }: Raft, ticks: number): void {
    this.#unled = leader === null ? this.#unled + ticks : 0
    if (this.#unled > 4 * options.election_ticks) this.#endChanges('unknown', () => true)
  }

  #lookAtTransfers(raft: Raft, ticks: number): void {
    this.#transfers = this.#transfers.filter((transfer) => {
      transfer.ticks += ticks
      const { leader } = raft
      if (leader === transfer.to)
        transfer.deferred.resolve() // J2
      else if (this.#isOver(transfer, raft)) transfer.deferred.reject(new Refused('transfer', 'lost'))
      else return true
      return false
    })
  }

  clear(reason: Reason): void {
    const waiting = [...this.#open, ...this.#asked.values(), ...this.#changes, ...this.#transfers]
    this.#open = []
    this.#asked.clear()
    this.#changes = []
    this.#transfers = []
    for (const { deferred } of waiting) deferred.reject(new Refused('request', reason))
  }

  #begin(request: Request): Promise<void> {
    this.#open.push(request)
    return request.deferred.promise
  }

  /** The core gave it up, another node leads, or no one does for long. */
  #isOver(transfer: Transfer, { leading, leader, term, options }: Raft): boolean {
    if (leading !== null) return term !== transfer.term || leading.transfer === null
    return leader !== null ? term > transfer.term : transfer.ticks > 4 * options.election_ticks
  }

  #endChanges(reason: Reason, isEnded: (change: Change) => boolean): void {
    if (this.#changes.length === 0) return
    this.#changes = this.#changes.filter((change) => {
      if (!isEnded(change)) return true
      change.deferred.reject(new Refused('change', reason))
      return false
    })
  }
}
