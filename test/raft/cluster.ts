/**
 * Several cores in one process, each with a disk and a state machine that are under the test's hand: nothing is written, applied
 * or delivered unless it is asked for. Transcripts and the simulation drive it; `invariants.ts` watches it.
 *
 * A member that crashes keeps what its disk held: writes that were done, and of those under way as much as the test says.
 */
import { makeRaft, step } from '../../raft/index.ts'
import type {
  Apply,
  Configuration,
  Effects,
  Entry,
  HardState,
  Input,
  Message,
  NodeId,
  Options,
  Persist,
  Raft,
  SnapshotMeta,
} from '../../raft/index.ts'

/** What was applied: how far, and a hash of it all. */
export interface Machine {
  readonly index: number
  readonly hash: number
}

export interface Disk {
  hard: HardState
  snapshot: { meta: SnapshotMeta; machine: Machine }
  entries: Entry[]
  /** The state machine as last written down. */
  checkpoint: Machine
}

export interface Member {
  readonly id: NodeId
  readonly disk: Disk
  /** Null while it is down. */
  raft: Raft | null
  incarnation: number
  machine: Machine
  /** Writes under way, oldest first. */
  writes: Persist[]
  applies: Apply[]
  /** Snapshots that came over the network, by index, until they are written. */
  incoming: Map<number, Machine>
}

/** A message, with the bytes of the snapshot that it stands for. */
export interface Packet {
  readonly message: Message
  readonly machine: Machine | null
}

export interface Watch {
  started(member: Member): void
  stepped(member: Member, inputs: readonly Input[], effects: Effects): void
  sent(member: Member, packet: Packet): void
  applied(member: Member, entry: Entry): void
}

export const optionsOfTests: Omit<Options, 'id' | 'incarnation'> = {
  election_ticks: 10,
  heartbeat_ticks: 2,
  lease_ticks: 0,
  append_bytes_max: 64 * 1024,
  inflight_appends_max: 16,
  inflight_bytes_max: 256 * 1024,
  uncommitted_bytes_max: 256 * 1024,
  reads_pending_max: 100,
  promotion_lag_entries_max: 5,
}

export class Cluster {
  readonly members = new Map<NodeId, Member>()
  private readonly options: Omit<Options, 'id' | 'incarnation'>
  private readonly watches: readonly Watch[]

  constructor(options: Partial<Options>, watches: readonly Watch[]) {
    this.options = { ...optionsOfTests, ...options }
    this.watches = watches
  }

  /** A new member; with no voters it waits to be made one. */
  add(id: NodeId, voters: readonly NodeId[]): Member {
    const configuration: Configuration = { voters, outgoing: [], learners: [], demoted: [] }
    const machine = { index: 0, hash: 0 }
    const snapshot = { meta: { index: 0, term: 0, configuration }, machine }
    const disk: Disk = { hard: { term: 0, vote: null }, snapshot, entries: [], checkpoint: machine }
    const member: Member = { id, disk, raft: null, incarnation: 0, machine, writes: [], applies: [], incoming: new Map() }
    this.members.set(id, member)
    this.start(id)
    return member
  }

  member(id: NodeId): Member {
    const member = this.members.get(id)
    if (member === undefined) throw new Error(`no member ${id}`)
    return member
  }

  start(id: NodeId): void {
    const member = this.member(id)
    const { disk } = member
    if (member.raft !== null) throw new Error(`${id} is up`)
    member.machine = disk.checkpoint.index > disk.snapshot.machine.index ? disk.checkpoint : disk.snapshot.machine
    const options = { ...this.options, id, incarnation: ++member.incarnation }
    const restored = { hard: disk.hard, snapshot: disk.snapshot.meta, entries: disk.entries, applied: member.machine.index }
    member.raft = makeRaft(options, restored)
    for (const watch of this.watches) watch.started(member)
  }

  /** Of the writes under way `whole` reached the disk, and of the next one its first `entries`. */
  crash(id: NodeId, whole = 0, entries = -1): void {
    const member = this.member(id)
    for (const persist of member.writes.slice(0, whole)) toDisk(member, persist)
    const torn = member.writes[whole]
    if (torn !== undefined && torn.install === null && entries >= 0) toDisk(member, { ...torn, entries: torn.entries.slice(0, entries) })
    member.raft = null
    member.writes = []
    member.applies = []
    member.incoming.clear()
  }

  step(id: NodeId, inputs: readonly Input[]): Effects {
    const member = this.member(id)
    const effects = step(member.raft!, inputs)
    if (effects.persist !== null) member.writes.push(effects.persist)
    if (effects.apply !== null) member.applies.push(effects.apply)
    for (const watch of this.watches) watch.stepped(member, inputs, effects)
    for (const message of effects.send) {
      const machine = message.kind === 'install' ? member.disk.snapshot.machine : null
      if (message.kind === 'install' && machine!.index !== message.meta.index)
        throw new Error(`${id} has no snapshot ${message.meta.index}`)
      for (const watch of this.watches) watch.sent(member, { message, machine })
    }
    return effects
  }

  receive(packet: Packet): Effects {
    const { message, machine } = packet
    if (message.kind === 'install') this.member(message.to).incoming.set(message.meta.index, machine!)
    return this.step(message.to, [{ kind: 'message', message }])
  }

  /** The oldest writes under way become durable, as one, and the core is told. */
  write(id: NodeId, count = 1): Effects {
    const member = this.member(id)
    const done = member.writes.splice(0, count)
    for (const persist of done) toDisk(member, persist)
    return this.step(id, [{ kind: 'persisted', ticket: done[done.length - 1]!.ticket }])
  }

  /** The oldest batch is applied, and the core is told. */
  apply(id: NodeId): Effects {
    const member = this.member(id)
    // A newer snapshot makes batches before it needless, and its bytes took the place of an older one's.
    while (member.applies.some((later, at) => at > 0 && later.install !== null)) member.applies.shift()
    const batch = member.applies.shift()!
    if (batch.install !== null) {
      if (member.disk.snapshot.meta.index !== batch.install.index) throw new Error(`${id} applies a snapshot that is not on its disk`)
      member.machine = member.disk.snapshot.machine
    }
    for (const entry of batch.entries) {
      if (entry.index !== member.machine.index + 1) throw new Error(`${id} applies ${entry.index} after ${member.machine.index}`)
      member.machine = { index: entry.index, hash: hashOf(member.machine.hash, entry) }
      for (const watch of this.watches) watch.applied(member, entry)
    }
    return this.step(id, [{ kind: 'applied', index: member.machine.index }])
  }

  /** A snapshot of all that is applied. */
  snapshot(id: NodeId): Effects {
    const { disk, machine, raft } = this.member(id)
    if (machine.index <= raft!.log.snapshot.index) return this.step(id, [])
    const effects = this.step(id, [{ kind: 'snapshot_taken', index: machine.index }])
    disk.snapshot = { meta: raft!.log.snapshot, machine }
    return effects
  }

  compact(id: NodeId, index: number): Effects {
    const { disk } = this.member(id)
    const effects = this.step(id, [{ kind: 'compact', index }])
    disk.entries = disk.entries.filter((entry) => entry.index > Math.min(index, disk.snapshot.meta.index))
    return effects
  }
}

function toDisk(member: Member, persist: Persist): void {
  const { disk } = member
  if (persist.hard !== null) disk.hard = persist.hard
  if (persist.install !== null) {
    const machine = member.incoming.get(persist.install.index)
    if (machine === undefined) throw new Error(`${member.id} writes a snapshot that did not come`)
    disk.snapshot = { meta: persist.install, machine }
    disk.entries = []
  }
  const first = persist.entries[0]
  if (first === undefined) return
  while (disk.entries.length > 0 && disk.entries[disk.entries.length - 1]!.index >= first.index) disk.entries.pop()
  const last = disk.entries[disk.entries.length - 1]?.index ?? disk.snapshot.meta.index
  if (first.index > last + 1) throw new Error(`${member.id} leaves a gap on its disk after ${last}`)
  disk.entries.push(...persist.entries)
}

export function hashOf(hash: number, entry: Entry): number {
  let next = Math.imul(hash, 31) + entry.index * 7 + entry.term
  for (const byte of entry.data ?? []) next = Math.imul(next, 31) + byte
  return next | 0
}
