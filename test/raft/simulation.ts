/**
 * A whole cluster of cores from one seed: its network drops, delays, reorders, duplicates and partitions (one-way too), its
 * members crash with the loss of what was not written, restart, take snapshots, compact, change members and hand over leadership.
 * `invariants.ts` looks at each step. At the end all is healed, and the cluster has to become one again and go on.
 */
import { currentConfiguration } from '../../raft/log.ts'
import type { Input, MembershipChange } from '../../raft/index.ts'
import { Cluster } from './cluster.ts'
import type { Member, Packet, Watch } from './cluster.ts'
import { Invariants } from './invariants.ts'

export interface Outcome {
  readonly committed: number
  readonly acknowledged: number
  readonly reads: number
  readonly elections: number
  readonly lostNever: number
  readonly installs: number
  readonly changes: number
}

/** Run one seed; throws what was found wrong. */
export function simulate(seed: number): Outcome {
  const run = new Run(seed)
  try {
    return run.all()
  } catch (error) {
    throw new Error(`seed ${seed}, at ${run.now}: ${(error as Error).message}`, { cause: error })
  }
}

/** A sequence of numbers in [0, 1) that a seed decides (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

class Run implements Watch {
  now = 0
  private readonly random: () => number
  private readonly invariants = new Invariants()
  private readonly cluster: Cluster
  private readonly ids: string[]
  /** By time of arrival. */
  private packets: { at: number; packet: Packet }[] = []
  /** How sending a snapshot ended, on its way to the sender. */
  private reports: { at: number; from: string; to: string; ok: boolean }[] = []
  private readonly cut = new Set<string>()
  private refs = 0
  private spares = ['s1', 's2', 's3']
  private calm = false
  private quiet = false
  // What this seed is like.
  private readonly loss: number
  private readonly duplication: number
  private readonly delay: number
  private readonly slowDisk: number
  private readonly crashes: number
  private readonly partitions: number
  private readonly changing: boolean
  private readonly leases: boolean
  private readonly slowClocks: boolean
  private slow = ''

  constructor(seed: number) {
    this.random = randomOf(seed)
    const size = this.oneOf([3, 3, 5])
    this.loss = this.oneOf([0, 0.02, 0.1])
    this.duplication = this.oneOf([0, 0.05, 0.2])
    this.delay = this.oneOf([1, 4, 12])
    this.slowDisk = this.oneOf([0.9, 0.5, 0.2])
    this.crashes = this.oneOf([0.002, 0.01, 0.03])
    this.partitions = this.oneOf([0, 0.01, 0.03])
    this.changing = this.random() < 0.6
    const windows = this.oneOf([
      { inflight_appends_max: 2, append_bytes_max: 8 },
      { inflight_appends_max: 16, append_bytes_max: 64 },
    ])
    this.leases = this.random() < 0.3
    const lease_ticks = this.leases ? 4 : 0
    this.slowClocks = this.random() < 0.5
    this.cluster = new Cluster({ lease_ticks, election_ticks: 6, heartbeat_ticks: 2, uncommitted_bytes_max: 40, ...windows }, [
      this.invariants,
      this,
    ])
    this.ids = ['n1', 'n2', 'n3', 'n4', 'n5'].slice(0, size)
    for (const id of this.ids) this.cluster.add(id, this.ids)
  }

  all(): Outcome {
    for (let round = 0; round < 400; round++) this.round()
    this.heal()
    for (let round = 0; round < 120; round++) this.round()
    this.expectOneCluster()
    const { committed, acknowledged, reads, elections, lostNever, installs, changes } = this.invariants
    return { committed: committed.length, acknowledged, reads, elections, lostNever, installs, changes }
  }

  // Watch
  started(): void {}
  stepped(): void {}
  applied(): void {}
  sent(_member: Member, packet: Packet): void {
    const { from, to, kind } = packet.message
    if (this.cut.has(`${from} ${to}`) || (!this.calm && this.random() < this.loss)) {
      if (kind === 'install') this.report(packet, false)
      return
    }
    this.packets.push({ at: this.now + this.delayOf(), packet })
    if (!this.calm && this.random() < this.duplication) this.packets.push({ at: this.now + 3 * this.delayOf(), packet })
  }

  private round(): void {
    this.now++
    this.deliver()
    for (const member of [...this.cluster.members.values()]) {
      if (member.raft === null) {
        if (this.random() < 0.1) this.cluster.start(member.id)
        continue
      }
      if (this.random() < this.paceOf(member)) this.cluster.step(member.id, [{ kind: 'tick', jitter: this.random() }])
      if (this.random() < this.slowDisk) this.finishWrites(member)
      while (member.applies.length > 0 && this.random() < 0.7) this.cluster.apply(member.id)
      if (!this.calm) this.disturb(member)
      if (member.raft !== null && !this.quiet && this.random() < 0.25) this.ask(member)
      if (member.raft !== null && this.random() < 0.05) this.keep(member)
    }
    if (!this.calm && this.random() < this.partitions) this.partition()
    if (this.cut.size > 0 && this.random() < (this.slowClocks ? 0.02 : 0.05)) this.cut.clear()
  }

  private deliver(): void {
    const due = this.packets.filter(({ at }) => at <= this.now)
    this.packets = this.packets.filter(({ at }) => at > this.now)
    for (const { packet } of due) {
      const { from, to, kind } = packet.message
      const up = (this.cluster.members.get(to)?.raft ?? null) !== null
      const arrives = up && !this.cut.has(`${from} ${to}`)
      if (arrives) this.cluster.receive(packet)
      if (kind === 'install') this.report(packet, arrives)
    }
  }

  /** The sender's transport saw how it ended. */
  private report(packet: Packet, ok: boolean): void {
    const { from, to } = packet.message
    this.reports.push({ at: this.now + 1, from, to, ok })
  }

  private finishWrites(member: Member): void {
    if (member.writes.length > 0) this.cluster.write(member.id, 1 + this.below(member.writes.length))
    const due = this.reports.filter(({ at, from }) => at <= this.now && from === member.id)
    if (due.length === 0) return
    this.reports = this.reports.filter((report) => !due.includes(report))
    for (const { to, ok } of due) this.cluster.step(member.id, [{ kind: 'snapshot_sent', to, ok }])
  }

  private disturb(member: Member): void {
    if (this.random() < this.crashes) {
      this.cluster.crash(member.id, this.below(member.writes.length + 1), this.below(4) - 1)
      return
    }
    if (this.random() < 0.002) this.cluster.step(member.id, [{ kind: 'forget_leader' }])
    if (member.raft!.leading === null) return
    if (this.random() < 0.01) this.cluster.step(member.id, [{ kind: 'transfer', ref: ++this.refs, to: this.oneOf(this.ids) }])
    if (this.changing && this.random() < 0.05) this.change(member)
  }

  private change(member: Member): void {
    const { voters, learners } = currentConfiguration(member.raft!.log)
    const changes: MembershipChange[] = []
    if (learners.length > 0 && this.random() < 0.6) changes.push({ do: 'promote', id: this.oneOf(learners) })
    else if (this.spares.length > 0 && this.random() < 0.5) {
      const id = this.spares.shift()!
      this.cluster.add(id, [])
      changes.push({ do: 'add_learner', id })
    }
    const leaves = this.oneOf(voters)
    if (voters.length > 2 && this.random() < 0.5) changes.push({ do: this.random() < 0.5 ? 'remove' : 'demote', id: leaves })
    if (changes.length > 0) this.cluster.step(member.id, [{ kind: 'change', ref: ++this.refs, changes }])
  }

  private ask(member: Member): void {
    const inputs: Input[] = []
    if (this.random() < 0.4) inputs.push({ kind: 'read', ref: ++this.refs })
    const data = Array.from({ length: this.below(4) }, () => Uint8Array.of(this.below(256), this.below(256), this.below(256)))
    if (data.length > 0) inputs.push({ kind: 'propose', ref: ++this.refs, data })
    if (inputs.length > 0) this.cluster.step(member.id, inputs)
  }

  private keep(member: Member): void {
    if (this.random() < 0.5) member.disk.checkpoint = member.machine
    else this.cluster.snapshot(member.id)
    if (this.random() < 0.5) this.cluster.compact(member.id, member.disk.snapshot.meta.index - this.below(5))
  }

  private partition(): void {
    const all = [...this.cluster.members.keys()]
    const oneWay = this.random() < 0.3
    const side = new Set(all.filter(() => this.random() < 0.4))
    const leader = this.leader()
    if (this.slowClocks && leader !== null && this.random() < 0.5) {
      this.slow = leader.id
      side.clear()
      side.add(leader.id)
    }
    for (const from of all) {
      for (const to of all) {
        if (side.has(from) !== side.has(to) && (!oneWay || side.has(from))) this.cut.add(`${from} ${to}`)
      }
    }
  }

  private heal(): void {
    this.calm = true
    this.cut.clear()
    for (const member of this.cluster.members.values()) if (member.raft === null) this.cluster.start(member.id)
  }

  /** Liveness: there is a leader, it takes a proposal, all its members apply all of it, and no change of members is left half done. */
  private expectOneCluster(): void {
    const before = this.invariants.committed.length
    this.quiet = true
    for (let rounds = 0; rounds < 600; rounds++) {
      this.round()
      const leader = this.leader()
      if (leader === null) continue
      if (rounds % 50 === 0) this.cluster.step(leader.id, [{ kind: 'propose', ref: ++this.refs, data: [Uint8Array.of(1)] }])
      if (this.invariants.committed.length > before && this.isAtOne(leader)) return
    }
    throw new Error('liveness: a calm network does not become one cluster')
  }

  private isAtOne(leader: Member): boolean {
    const { voters, learners, outgoing } = currentConfiguration(leader.raft!.log)
    const last = this.invariants.committed.length - 1
    return outgoing.length === 0 && [...voters, ...learners].every((id) => this.cluster.member(id).machine.index === last)
  }

  private leader(): Member | null {
    const leaders = [...this.cluster.members.values()].filter((member) => (member.raft?.leading ?? null) !== null)
    return leaders.sort((a, b) => b.raft!.term - a.raft!.term)[0] ?? null
  }

  /** How likely a member's clock ticks in a round. A slow one goes on as leader when others follow another. */
  private paceOf(member: Member): number {
    if (this.leases) return 1 // they are sound only where clocks go alike
    if (this.calm || !this.slowClocks) return 0.9
    return member.id === this.slow ? 0.1 : 0.9
  }

  private delayOf(): number {
    return 1 + (this.calm ? 0 : this.below(this.delay))
  }
  private below(limit: number): number {
    return Math.floor(this.random() * limit)
  }
  private oneOf<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }
}
