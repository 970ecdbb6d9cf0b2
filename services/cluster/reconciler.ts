/**
 * Brings the configurations of the groups that this node leads to what the cluster's members are, in the background. Every node runs one;
 * who leads a group at the time takes the next step (see plan.ts).
 *
 * K1 A step is taken on what the cluster says now, not on what this node has heard of it: a node that was away undoes nothing.
 * K2 One step of a group at a time; a group in which nothing changed is not looked at.
 * K3 A learner becomes a voter only when it also has the chunks of large values: what is acknowledged is on a majority's disks whole.
 * K4 A voter is taken out only when most of those that stay are heard, unless that was forced: else nothing could be agreed on any more.
 * K5 A member that is heard leaves `sys` last: there it learns that it is to go, and takes the step in the groups that it leads itself.
 * K6 One that is heard, and was not forced, goes only when most of those that stay have the chunks of large values: its disk may be one of
 *    the majority that has them.
 */
import { limits } from '../../namespace/limits.ts'
import { membersOf } from '../../raft/index.ts'
import type { MembershipChange, NodeId } from '../../raft/index.ts'
import { nameOfMember } from './cluster-file.ts'
import { stepRefusal, takenBy, votersAfter } from './guard.ts'
import { stepsTo } from './plan.ts'
import type { Wanted } from './plan.ts'
import type { GroupControl } from './ports.ts'
import { pause } from './founding.ts'

export interface Goal {
  readonly members: readonly Wanted[]
  /** Members that were removed by force. */
  readonly forced: ReadonlySet<NodeId>
}

export interface ReconcilerParts {
  /** All groups of this node. */
  groups(): Iterable<GroupControl>
  /** Moves on whenever this node hears of a change of the members. */
  generation(): number
  /** Group of the store `sys`. */
  readonly sys: number
  /** This node, as a member. */
  readonly member: NodeId
  /** What is wanted, as of now. K1 @throws NineError */
  wanted(): Promise<Goal>
  /** Whether a member has on its disk every chunk of large values that the group's store names. */
  isFilled(group: number, member: string): Promise<boolean>
  /** Told of a step, of failures that do not end by themselves, and once of what a step waits for. */
  note(group: number, changes: readonly MembershipChange[], error?: unknown): void
}

/** A member that is up may be taken for silent for a moment. */
const looks_noted = 4

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
  /** By group: what its next step waits for, and for how many looks. K4 */
  readonly #waiting = new Map<number, { readonly why: string; readonly looks: number }>()
  readonly #stop = new AbortController()
  #running: Promise<void> | undefined

  constructor(parts: ReconcilerParts) {
    this.#parts = parts
  }

  start(): void {
    this.#running ??= this.#run()
  }

  /** What the next step of a group that this node leads waits for. */
  waiting(group: number): string | undefined {
    const { why, looks } = this.#waiting.get(group) ?? { why: undefined, looks: 0 }
    return looks >= looks_noted ? why : undefined
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
    let goal: Goal
    try {
      goal = await this.#parts.wanted()
    } catch {
      return // Nobody can be asked now; the next look asks again.
    }
    if (goal.members.length === 0) return
    for (const group of due) this.#look(group, goal, generation)
  }

  /** K2 */
  #isDue(group: GroupControl, generation: number): boolean {
    if (!group.isReady || this.#busy.has(group.id)) return false
    const settled = this.#settled.get(group.id)
    return settled === undefined || settled.term !== group.term || settled.generation !== generation
  }

  #look(group: GroupControl, goal: Goal, generation: number): void {
    const { configuration, term } = group.status()
    const steps = stepsTo(goal.members, configuration, nameOfMember)
    if (steps.length > 0) {
      this.#busy.add(group.id)
      void this.#take(group, steps, goal).finally(() => this.#busy.delete(group.id))
    } else if (configuration.outgoing.length === 0) {
      this.#waiting.delete(group.id)
      this.#settled.set(group.id, { term, generation })
    }
  }

  /** The first step that the group takes. */
  async #take(group: GroupControl, steps: readonly MembershipChange[][], { forced }: Goal): Promise<void> {
    const { configuration, peers } = group.status()
    const heard = new Set([this.#parts.member, ...peers.filter(({ isActive }) => isActive).map(({ id }) => id)])
    let waits: { readonly changes: readonly MembershipChange[]; readonly why: string } | undefined
    for (const changes of steps) {
      const isForced = changes.some(({ id }) => forced.has(id))
      const why = isForced
        ? undefined
        : (stepRefusal(configuration, changes, heard) ??
          this.#neededElsewhere(group, changes, heard) ??
          (await this.#unfilled(group, changes, heard)))
      if (why !== undefined) {
        waits ??= { changes, why }
        continue // K4, K5, K6
      }
      try {
        const promoted = changes.find((change) => change.do === 'promote')
        if (promoted !== undefined && !(await this.#parts.isFilled(group.id, promoted.id))) continue // K3
        await group.change(changes)
        this.#waiting.delete(group.id)
        this.#parts.note(group.id, changes)
        return
      } catch (error) {
        const reason = (error as { readonly reason?: unknown }).reason
        if (!passing.has(reason)) this.#parts.note(group.id, changes, error)
        if (reason !== 'learner_behind') return
      }
    }
    if (waits !== undefined) this.#wait(group.id, waits.changes, waits.why)
  }

  /** K5 */
  #neededElsewhere({ id: group }: GroupControl, changes: readonly MembershipChange[], heard: ReadonlySet<NodeId>): string | undefined {
    if (group !== this.#parts.sys) return undefined
    // A group that has let this node go does not tell it how that ended: its copy has no leader from then on.
    const known = [...this.#parts.groups()].filter(({ id, leader }) => id !== group && leader !== null)
    const others = known.map((other) => membersOf(other.status().configuration))
    const needed = changes.find(({ do: what, id }) => what === 'remove' && heard.has(id) && others.some((members) => members.has(id)))
    return needed === undefined ? undefined : `other stores still have ${nameOfMember(needed.id)}`
  }

  /** K6 */
  async #unfilled(group: GroupControl, changes: readonly MembershipChange[], heard: ReadonlySet<NodeId>): Promise<string | undefined> {
    const { voters } = group.status().configuration
    const taken = takenBy(changes)
    if (!voters.some((id) => taken.has(id) && heard.has(id))) return undefined
    const staying = votersAfter(voters, changes)
    const filled = await Promise.all(staying.map(async (id) => heard.has(id) && (await this.#parts.isFilled(group.id, id))))
    if (filled.filter(Boolean).length > staying.length / 2) return undefined
    return `most of ${staying.map(nameOfMember).join(', ')} have not fetched all large values yet`
  }

  #wait(group: number, changes: readonly MembershipChange[], why: string): void {
    const looks = 1 + (this.#waiting.get(group)?.looks ?? 0)
    this.#waiting.set(group, { why, looks })
    if (looks === looks_noted) this.#parts.note(group, changes, new Error(`${why}: it waits for them`))
  }
}
