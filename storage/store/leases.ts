/**
 * Leases and advisory locks of a store.
 *
 * E1 Only its owner and the store's owner may renew or revoke a lease.
 * E2 A lock is a file bound to a lease. Who waits proposes nothing until the path is free and its turn has come, so a
 *    wait leaves nothing behind. Asking again under the same lease is answered with the same token.
 */
import type { LeaseChange, LeaseTable } from '../apply/leases.ts'
import { createBit, maskAt } from '../apply/rights.ts'
import { deepestNode, nodeAt } from '../apply/walk.ts'
import { checkDeadline, type Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
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

export class Leases {
  readonly #core: StoreCore
  readonly #table: LeaseTable
  readonly #timers: LeaseTimers
  readonly #locks = new LockQueue()
  #isClosed = false

  constructor(core: StoreCore, table: LeaseTable) {
    this.#core = core
    this.#table = table
    this.#timers = new LeaseTimers(core.clock, (lease, ttlMs) => void this.#expire(lease, ttlMs))
    for (const { id, ttlMs } of table.list()) this.#timers.start(id, ttlMs)
  }

  async grant(context: Context, ttlMs: number): Promise<LeaseResult> {
    const op = 'store.grantLease'
    checkDeadline(context, op)
    checkTtl(ttlMs, op)
    if (this.#table.size >= limits.leases_max) {
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
    const op = 'store.renewLease'
    checkDeadline(context, op)
    this.#checkOwner(context, lease, op)
    const ttlMs = this.#timers.renew(lease)
    if (ttlMs === undefined) throw ended(lease, op)
    return { lease, ttlMs, position: this.#core.newest().position }
  }

  async revoke(context: Context, lease: string): Promise<MutationResult> {
    const op = 'store.revokeLease'
    checkDeadline(context, op)
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
    const { tree, owner } = this.#core
    const above = deepestNode(tree.newest, parentPath(path)).node
    if (above === undefined || (maskAt(tree.newest, above, context.principal, owner) & createBit) === 0) throw denied(op, path)
    const turn = this.#locks.enter(path)
    try {
      for (;;) {
        checkDeadline(context, op, path)
        if (this.#isClosed) throw new NineError({ kind: 'unavailable', op, path, message: 'the store is being closed' })
        this.#checkOwner(context, lease, op)
        const held = nodeAt(tree.newest, path)
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
      } else this.#timers.start(lease, ttlMs)
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
    try {
      await this.#core.propose(context, 'store.endLease', '', { op: 'endLease', lease, expired: true })
    } catch {
      // A full disk or a full queue: its files go as soon as the log takes entries again.
      if (!this.#isClosed && this.#table.ownerOf(lease) !== undefined) this.#timers.retry(lease, ttlMs, expire_again_ms)
    }
  }

  close(): void {
    this.#isClosed = true
    this.#timers.close()
    this.#locks.wakeAll()
  }
}

function ended(lease: string, op: string): NineError {
  return new NineError({ kind: 'not_found', op, message: `there is no lease ${lease.slice(0, 64)}: it has ended, or never was` })
}
