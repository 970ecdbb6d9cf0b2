/**
 * Leases and advisory locks of a store.
 *
 * E1 Only its owner and the store's owner may renew or revoke a lease.
 * E2 A lock is a file bound to a lease. Who waits proposes nothing until the path is free and its turn has come, so a
 *    wait leaves nothing behind. Asking again under the same lease is answered with the same token. Turns are those of this node:
 *    over several nodes, the first of each tries.
 * E3 On a replica, time runs where the store is led, and starts anew, whole, where leading begins. A renewal is confirmed only when a
 *    majority said, after the time was set, that this node still leads: whoever leads later then gives a whole ttl from later on. Only
 *    who leads proposes an end, in the term in which the time was over.
 */
import type { LeaseChange, LeaseTable } from '../apply/leases.ts'
import { createBit, maskAt } from '../apply/rights.ts'
import { deepestNode, nodeAt } from '../apply/walk.ts'
import { checkDeadline, type Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { LeaseResult, LockResult, MutationResult } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { parentPath, type Path } from '../../namespace/path.ts'
import type { Revision } from '../model.ts'
import { answeredError } from './answers.ts'
import { checkTtl, withoutIdentity } from './commands.ts'
import type { StoreCore } from './core.ts'
import { LeaseTimers, LockQueue } from './lease-timers.ts'
import { denied } from './absent.ts'

/** A lease whose end could not be proposed is tried again after this, milliseconds. */
const expire_again_ms = 500
/** Of a store alone. */
const alone_term = 1
const renewOp = 'store.renewLease'

export class Leases {
  readonly #core: StoreCore
  #table: LeaseTable
  readonly #timers: LeaseTimers
  readonly #locks = new LockQueue()
  #isClosed = false
  /** Term in which time runs here; 0: it does not. E3 */
  #term = 0

  constructor(core: StoreCore, table: LeaseTable) {
    this.#core = core
    this.#table = table
    this.#timers = new LeaseTimers(core.clock, (lease, ttlMs) => void this.#expire(lease, ttlMs))
    if (core.replication === undefined) this.leading(alone_term)
  }

  /** Time runs here from now on, for all leases anew, as long as this node leads in this term; 0: no longer. E3 */
  leading(term: number): void {
    this.#timers.clear()
    this.#term = this.#isClosed ? 0 : term
    if (this.#term !== 0) for (const { id, ttlMs } of this.#table.list()) this.#timers.start(id, ttlMs)
  }

  /** A snapshot took the place of the state. */
  replaced(table: LeaseTable): void {
    this.#table = table
    this.leading(this.#term)
    this.#locks.wakeAll()
  }

  async grant(context: Context, ttlMs: number): Promise<LeaseResult> {
    const op = 'store.grantLease'
    checkDeadline(context, op)
    checkTtl(ttlMs, op)
    // Apply says so as well: a log full of grants that are refused helps nobody. A replica may not know what has ended.
    if (this.#core.replication === undefined && this.#table.size >= limits.leases_max) {
      throw new NineError({ kind: 'overloaded', op, message: `a store keeps at most ${limits.leases_max} leases` })
    }
    const outcome = await this.#core.propose(context, op, '', { op: 'grantLease', lease: this.#core.random.id(), ttlMs })
    if (outcome.kind === 'error') throw answeredError(outcome.error, op, '')
    if (outcome.kind !== 'lease') {
      throw new NineError({ kind: 'invalid', op, message: 'this client has used the same sequence number for another operation' })
    }
    return { lease: outcome.lease, ttlMs: outcome.ttlMs, position: this.#core.newest().position }
  }

  async renew(context: Context, lease: string): Promise<LeaseResult> {
    checkDeadline(context, renewOp)
    const { replication } = this.#core
    let ttlMs: number
    if (replication === undefined) ttlMs = this.#renewHere(context, lease)
    else if (replication.term !== 0) ttlMs = await this.renewAsLeader(context, lease)
    else ttlMs = await replication.renewLease(context, lease)
    return { lease, ttlMs, position: this.#core.newest().position }
  }

  /** Gives the ttl, milliseconds. @throws NineError `unavailable` when this node does not lead, or was deposed meanwhile. E3 */
  async renewAsLeader(context: Context, lease: string): Promise<number> {
    const term = this.#term
    if (term === 0) throw notLeading()
    // A lease that another replica has granted already may not be known here yet: then it is looked for behind the round.
    let ttlMs = this.#table.ownerOf(lease) === undefined ? undefined : this.#renewHere(context, lease)
    await this.#core.current(context, renewOp, '')
    if (this.#term !== term) throw notLeading()
    if (ttlMs === undefined) {
      ttlMs = this.#renewHere(context, lease)
      await this.#core.current(context, renewOp, '')
      if (this.#term !== term) throw notLeading()
    }
    // Its time may have been over before the majority answered.
    if (!this.#timers.has(lease)) throw ended(lease, renewOp)
    return ttlMs
  }

  #renewHere(context: Context, lease: string): number {
    this.#checkOwner(context, lease, renewOp)
    const ttlMs = this.#timers.renew(lease)
    if (ttlMs === undefined) throw ended(lease, renewOp)
    return ttlMs
  }

  async revoke(context: Context, lease: string): Promise<MutationResult> {
    const op = 'store.revokeLease'
    checkDeadline(context, op)
    // Granted through another replica, it is known here behind this.
    await this.#core.current(context, op, '')
    // A retry asks about a lease that has ended: apply knows its first answer.
    if (context.client === undefined || this.#table.ownerOf(lease) !== undefined) this.#checkOwner(context, lease, op)
    const outcome = await this.#core.propose(context, op, '', { op: 'endLease', lease, expired: false })
    return this.#core.mutationOf(outcome, op, '')
  }

  /** E1 */
  #checkOwner(context: Context, lease: string, op: string): void {
    const owner = this.#table.ownerOf(lease)
    if (owner === undefined) throw ended(lease, op)
    if (owner !== context.principal.name && !this.#core.isOwner(context.principal)) throw denied(op, '')
  }

  /** E2 */
  async lock(context: Context, path: Path, lease: string): Promise<LockResult> {
    const op = 'store.lock'
    checkDeadline(context, op, path)
    // Directories, rights and leases of before the call are seen. What follows is apply's word, or a state from after this one.
    await this.#core.current(context, op, path)
    const { newest } = this.#core.tree
    const above = deepestNode(newest, parentPath(path)).node
    if (above === undefined || (maskAt(newest, above, context.principal, this.#core.owner) & createBit) === 0) throw denied(op, path)
    const turn = this.#locks.enter(path)
    try {
      for (;;) {
        checkDeadline(context, op, path)
        if (this.#isClosed) throw new NineError({ kind: 'unavailable', op, path, message: 'the store is being closed' })
        this.#checkOwner(context, lease, op)
        const held = nodeAt(this.#core.tree.newest, path)
        if (held?.lease === lease) return { token: held.createdRevision, position: this.#core.newest().position }
        if (held === undefined && turn.isFirst) {
          const outcome = await this.#core.propose(withoutIdentity(context), op, path, { op: 'create', target: { path }, lease })
          if (outcome.kind === 'error' && outcome.error.kind === 'exists') continue
          const { revision, position } = this.#core.mutationOf(outcome, op, path)
          return { token: revision, position }
        }
        await turn.wait(context.deadline === Infinity ? Infinity : context.deadline - this.#core.clock.monotonic() + 1, context.signal)
      }
    } finally {
      turn.leave()
    }
  }

  /** Leases of the state began or ended. */
  changed(changes: readonly LeaseChange[]): void {
    for (const { lease, ttlMs } of changes) {
      if (ttlMs === undefined) {
        this.#timers.stop(lease)
        // Who waits for a lock under it waits in vain.
        this.#locks.wakeAll()
      } else if (this.#term !== 0) this.#timers.start(lease, ttlMs)
    }
  }

  /** Paths that became free wake who waits for them. */
  published(revision: Revision): void {
    if (this.#locks.isEmpty) return
    for (const event of revision.events) {
      this.#locks.changed(event.path, event.subtree)
      if (event.from !== undefined) this.#locks.changed(event.from, event.subtree)
    }
  }

  async #expire(lease: string, ttlMs: number): Promise<void> {
    const context: Context = { principal: { name: this.#core.owner, groups: [] }, deadline: Infinity }
    const { replication } = this.#core
    const term = this.#term
    const op = 'store.endLease'
    const command = { op: 'endLease', lease, expired: true } as const
    try {
      if (replication === undefined) await this.#core.propose(context, op, '', command)
      else await replication.proposeAsLeader(term, context, op, '', command)
    } catch (error) {
      // A full disk or a full queue: its files go as soon as the log takes entries again. Who leads next gives it its whole time.
      if (this.#isClosed || this.#term !== term || this.#table.ownerOf(lease) === undefined) return
      this.#timers.retry(lease, ttlMs, expire_again_ms, !isNineError(error) || error.outcome === 'unknown')
    }
  }

  close(): void {
    this.#isClosed = true
    this.leading(0)
    this.#locks.wakeAll()
  }
}

function notLeading(): NineError {
  return new NineError({ kind: 'unavailable', op: renewOp, message: 'this node does not lead the store' })
}

function ended(lease: string, op: string): NineError {
  return new NineError({ kind: 'not_found', op, message: `there is no lease ${lease.slice(0, 64)}: it has ended, or never was` })
}
