/**
 * Brings the configurations of the groups that this node leads to what the cluster's members are, in the background. Every node runs one;
 * who leads a group at the time takes the next step (see plan.ts).
 *
 * K1 A step is taken on what the cluster says now, not on what this node has heard of it: a node that was away undoes nothing.
 * K2 One step of a group at a time; a group in which nothing changed is not looked at.
 * K3 A learner becomes a voter only when it also has the chunks of large values: what is acknowledged is on a majority's disks whole.
 */
import { limits } from '../../namespace/limits.ts'
import type { MembershipChange } from '../../raft/index.ts'
import { nameOfMember } from './cluster-file.ts'
import { stepsTo } from './plan.ts'
import type { Wanted } from './plan.ts'
import type { GroupControl } from './ports.ts'
import { pause } from './founding.ts'

export interface ReconcilerParts {
  /** All groups of this node. */
  groups(): Iterable<GroupControl>
  /** Moves on whenever this node hears of a change of the members. */
  generation(): number
  /** What is wanted, as of now. K1 @throws NineError */
  wanted(): Promise<readonly Wanted[]>
  /** Whether a member has on its disk every chunk of large values that the group's store names. */
  isFilled(group: number, member: string): Promise<boolean>
  /** Told of a step, and of failures that do not end by themselves. */
  note(group: number, changes: readonly MembershipChange[], error?: unknown): void
}

/** Refusals that the next look may find over. */
const passing: ReadonlySet<unknown> = new Set([
  'not_leader',
  'not_ready',
  'change_pending',
  'transferring',
  'learner_behind',
  'lost',
  'overloaded',
  'stopped',
  'unknown',
])

export class Reconciler {
  readonly #parts: ReconcilerParts
  /** Groups that are as wanted: in which term, and by which generation. */
  readonly #settled = new Map<number, { readonly term: number; readonly generation: number }>()
  readonly #busy = new Set<number>()
  readonly #stop = new AbortController()
  #running: Promise<void> | undefined

  constructor(parts: ReconcilerParts) {
    this.#parts = parts
  }

  start(): void {
    this.#running ??= this.#run()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      await this.look()
      await pause(limits.cluster_reconcile_ms, signal)
    }
  }

  /** One look at all groups. */
  async look(): Promise<void> {
    const generation = this.#parts.generation()
    const due = [...this.#parts.groups()].filter((group) => this.#isDue(group, generation))
    if (due.length === 0) return
    let wanted: readonly Wanted[]
    try {
      wanted = await this.#parts.wanted()
    } catch {
      return // Nobody can be asked now; the next look asks again.
    }
    if (wanted.length === 0) return
    for (const group of due) this.#look(group, wanted, generation)
  }

  /** K2 */
  #isDue(group: GroupControl, generation: number): boolean {
    if (!group.isReady || this.#busy.has(group.id)) return false
    const settled = this.#settled.get(group.id)
    return settled === undefined || settled.term !== group.term || settled.generation !== generation
  }

  #look(group: GroupControl, wanted: readonly Wanted[], generation: number): void {
    const { configuration, term } = group.status()
    const steps = stepsTo(wanted, configuration, nameOfMember)
    if (steps.length > 0) {
      this.#busy.add(group.id)
      void this.#take(group, steps).finally(() => this.#busy.delete(group.id))
    } else if (configuration.outgoing.length === 0) this.#settled.set(group.id, { term, generation })
  }

  /** The first step that the group takes. */
  async #take(group: GroupControl, steps: readonly MembershipChange[][]): Promise<void> {
    for (const changes of steps) {
      try {
        const promoted = changes.find((change) => change.do === 'promote')
        if (promoted !== undefined && !(await this.#parts.isFilled(group.id, promoted.id))) continue // K3
        await group.change(changes)
        this.#parts.note(group.id, changes)
        return
      } catch (error) {
        const reason = (error as { readonly reason?: unknown }).reason
        if (!passing.has(reason)) this.#parts.note(group.id, changes, error)
        if (reason !== 'learner_behind') return
      }
    }
  }
}
