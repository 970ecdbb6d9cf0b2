/**
 * A node of a simulated cluster: the real driver and core over the real log of groups, on a disk in memory that loses what was not synced
 * and tears what was being written. State machines are a hash over what was applied; their checkpoints are durable at once.
 */
import { Driver } from '../../raft/index.ts'
import type {
  Configuration,
  DriverOptions,
  Entry,
  Fate,
  Group,
  GroupId,
  HardState,
  Install,
  LogStorage,
  NodeId,
  PeerItem,
  Persist,
  Refused,
  SnapshotMeta,
  StateMachine,
  Status,
} from '../../raft/index.ts'
import type { Member } from '../../raft/driver/member.ts'
import type { Raft } from '../../raft/index.ts'
import { GroupLog } from '../../storage/wal/group-log.ts'
import { openWal } from '../../storage/wal/wal.ts'
import type { Wal } from '../../storage/wal/wal.ts'
import { SimDisk } from '../wal/disk.ts'
import { pastAfter } from './driver-watches.ts'
import type { Past } from './driver-watches.ts'

/** What a state machine is after some entry. */
export interface State extends SnapshotMeta {
  readonly hash: number
  readonly past: Past | null
}

/** A proposal, and what is known of it. */
export interface Proposal {
  readonly number: number
  readonly group: GroupId
  fate: 'open' | 'applied' | Fate
}

/** What the run and its checks see of a node. */
export interface Watcher {
  wrote(node: SimNode, raft: Raft, group: GroupId, persist: Persist): void
  sent(node: SimNode, to: NodeId, item: PeerItem): void
  snapshotSent(node: SimNode, group: GroupId, message: Install, state: State, arrived: (ok: boolean) => void): void
  applied(machine: SimMachine, entry: Entry, proposal: Proposal | undefined): void
  installed(machine: SimMachine): void
  /** Over an entry. */
  tookTime(): void
  ended(machine: SimMachine, proposal: Proposal, fate: Fate): void
  changed(machine: SimMachine, status: Status): void
  stopped(machine: SimMachine, error: unknown): void
  random(): number
}

/** Of a group, what its writes made durable. */
export interface Durable {
  hard: HardState
  last: number
}

interface Running {
  readonly driver: Driver<Proposal>
  readonly wal: Wal
  readonly log: GroupLog
  readonly machines: Map<GroupId, SimMachine>
  /** Turns that wait. */
  turns: (() => void)[]
  hasFailed: boolean
}

interface Checkpoint {
  readonly state: State
  readonly hard: HardState
  readonly hardLsn: number
}

export class SimNode {
  readonly id: NodeId
  readonly disk = new SimDisk()
  readonly watcher: Watcher
  running: Running | null = null
  /** Stopped for some rounds, as by SIGSTOP. */
  paused = 0
  life = 0
  readonly durable = new Map<GroupId, Durable>()
  readonly #checkpoints = new Map<GroupId, Checkpoint>()
  /** Snapshots that came, by group and index: files. */
  readonly incoming = new Map<string, State>()
  readonly #options: Omit<DriverOptions, 'id' | 'life' | 'storage' | 'transport' | 'host'>

  constructor(id: NodeId, groups: readonly GroupId[], voters: readonly NodeId[], options: SimNode['options'], watcher: Watcher) {
    this.id = id
    this.watcher = watcher
    this.#options = options
    this.disk.hold = true
    const configuration: Configuration = { voters, outgoing: [], learners: [], demoted: [] }
    const state = { index: 0, term: 0, configuration, hash: 0, past: null }
    for (const group of groups) this.#checkpoints.set(group, { state, hard: { term: 0, vote: null }, hardLsn: 0 })
  }

  get options(): Omit<DriverOptions, 'id' | 'life' | 'storage' | 'transport' | 'host'> {
    return this.#options
  }

  async start(): Promise<void> {
    const turns: (() => void)[] = []
    const defer = (turn: () => void): void => void turns.push(turn)
    const log = new GroupLog({ defer, after: () => () => undefined })
    let ids = 0
    const wal = await openWal({
      dir: 'wal',
      files: this.disk,
      sealMs: Infinity,
      segmentBytes: 8 * 1024,
      clock: { now: () => 0, monotonic: () => 0 },
      random: { id: () => `log${++ids}`, fraction: () => 0.5 },
      defer,
      onDurable: log.durable,
      onFailed: log.failed,
    })
    const checkpoints = [...this.#checkpoints].map(
      ([group, { state, hard, hardLsn }]) => [group, { appliedIndex: state.index, hard, hardLsn }] as const,
    )
    const recovered = log.recover(
      wal,
      new Map(checkpoints),
      () => {
        throw new Error('there is no entry of an alone node')
      },
      this.#options.keep_entries_max,
    )
    const machines = new Map<GroupId, SimMachine>()
    const running: Running = {
      driver: this.#makeDriver(defer, log, () => this.running === running),
      wal,
      log,
      machines,
      turns,
      hasFailed: false,
    }
    this.running = running
    for (const group of this.#checkpoints.keys()) {
      const { hard, hardLsn, install, entries } = recovered.get(group)!
      if (install !== null) this.#checkpoints.set(group, { state: this.snapshot(group, install.index), hard, hardLsn })
      const { state } = this.#checkpoints.get(group)!
      const machine = new SimMachine(this, group, state)
      machines.set(group, machine)
      const last = entries[entries.length - 1]?.index ?? state.index
      this.durable.set(group, { hard, last: Math.max(last, state.index) })
      machine.group = running.driver.open(group, { hard, snapshot: metaOf(state), entries, applied: state.index }, machine)
    }
  }

  /** The process ends; of what was not synced, `pick` says what is lost. */
  crash(pick: () => boolean): void {
    this.running = null
    this.disk.crash(pick)
  }

  turn(): void {
    const { running } = this
    if (running === null) return
    const turns = running.turns.splice(0)
    for (const turn of turns) if (this.running === running) turn()
  }

  /** Write down the state of a group's machine; then the log may be cut, and perhaps is. */
  checkpoint(group: GroupId, cut: boolean): void {
    const { log, wal, machines } = this.running!
    const machine = machines.get(group)!
    if (machine.isBusy || machine.isInstalling || machine.state.index <= this.#checkpoints.get(group)!.state.index) return
    const { hard, lsn } = log.hardStateOf(group)
    const { state } = machine
    this.#checkpoints.set(group, { state, hard, hardLsn: lsn })
    log.saved(group, { appliedIndex: state.index, hardLsn: lsn })
    machine.group.checkpointed(state.index)
    if (cut) wal.cut(log.firstNeeded() - 1).catch(() => undefined)
  }

  checkpointed(group: GroupId): State {
    return this.#checkpoints.get(group)!.state
  }

  /** A snapshot that came is taken over. */
  keep(group: GroupId, state: State): void {
    const { log } = this.running!
    const { hard, lsn } = log.hardStateOf(group)
    this.#checkpoints.set(group, { state, hard, hardLsn: lsn })
    log.saved(group, { appliedIndex: state.index, hardLsn: lsn })
  }

  snapshot(group: GroupId, index: number): State {
    const state = this.incoming.get(`${group} ${index}`)
    if (state === undefined) throw new Error(`${this.id} installs a snapshot of ${index} in group ${group} that did not come`)
    return state
  }

  #makeDriver(defer: (turn: () => void) => void, log: GroupLog, isAlive: () => boolean): Driver<Proposal> {
    const { watcher } = this
    return new Driver<Proposal>({
      ...this.#options,
      id: this.id,
      life: ++this.life,
      storage: this.#watched(log, isAlive),
      transport: {
        send: (to, item) => watcher.sent(this, to, item),
        sendSnapshot: (group, message) => this.#sendSnapshot(group, message, isAlive),
      },
      host: { defer, after: (_ms, turn) => this.#later(defer, turn), random: () => watcher.random() },
      dropped: (from, what) => {
        throw new Error(`${this.id} drops something of ${from}: ${what}`)
      },
    })
  }

  /** After a few turns. */
  #later(defer: (turn: () => void) => void, turn: () => void, turns = 3): void {
    defer(turns === 0 ? turn : () => this.#later(defer, turn, turns - 1))
  }

  #watched(log: GroupLog, isAlive: () => boolean): LogStorage {
    return {
      flush: (hasSent) => log.flush(hasSent),
      write: (group, persist, done) => {
        this.watcher.wrote(this, this.running!.machines.get(group)!.raft, group, persist)
        log.write(group, persist, (error) => {
          if (!isAlive()) return
          if (error === undefined) noteDurable(this.durable.get(group)!, persist)
          else this.running!.hasFailed = true
          done(error)
        })
      },
    }
  }

  #sendSnapshot(group: GroupId, message: Install, isAlive: () => boolean): Promise<boolean> {
    const state = this.checkpointed(group)
    if (state.index < message.meta.index) return Promise.resolve(false)
    return new Promise((resolve) => {
      this.watcher.snapshotSent(this, group, { ...message, meta: metaOf(state) }, state, (ok) => {
        if (isAlive()) resolve(ok)
      })
    })
  }
}

export class SimMachine implements StateMachine<Proposal> {
  readonly node: SimNode
  readonly id: GroupId
  group!: Group<Proposal>
  state: State
  isBusy = false
  isInstalling = false
  hasStopped = false
  /** Ends the installation under way. */
  finishInstall: (() => void) | null = null

  constructor(node: SimNode, id: GroupId, state: State) {
    this.node = node
    this.id = id
    this.state = state
  }

  get raft(): Raft {
    return (this.group as Member<Proposal>).raft
  }

  apply(entry: Entry, proposal: Proposal | undefined): void | Promise<void> {
    if (entry.data === null || (hashOf(this.state.hash, entry) & 31) !== 0) return this.#apply(entry, proposal)
    // It takes its time over some.
    this.isInstalling = true
    return new Promise((resolve) => {
      this.finishInstall = () => {
        this.finishInstall = null
        this.isInstalling = false
        this.node.watcher.tookTime()
        if (this.group.isRunning) this.#apply(entry, proposal)
        resolve()
      }
    })
  }

  #apply(entry: Entry, proposal: Proposal | undefined): void {
    const configuration = entry.configuration ?? this.state.configuration
    const hash = hashOf(this.state.hash, entry)
    this.state = { index: entry.index, term: entry.term, configuration, hash, past: pastAfter(this.state.past, entry, hash) }
    this.node.watcher.applied(this, entry, proposal)
  }

  install(meta: SnapshotMeta): Promise<void> {
    const state = this.node.snapshot(this.id, meta.index)
    if (this.isBusy || this.isInstalling) throw new Error(`${this.node.id} installs a snapshot in a busy machine`)
    this.isInstalling = true
    return new Promise((resolve) => {
      this.finishInstall = () => {
        this.finishInstall = null
        this.isInstalling = false
        this.state = state
        this.node.keep(this.id, state)
        this.node.watcher.installed(this)
        resolve()
      }
    })
  }

  ended(proposal: Proposal, fate: Fate): void {
    this.node.watcher.ended(this, proposal, fate)
  }

  changed(status: Status): void {
    this.node.watcher.changed(this, status)
  }

  stopped(error: unknown): void {
    this.hasStopped = true
    this.node.watcher.stopped(this, error)
  }
}

export function hashOf(hash: number, entry: Entry): number {
  let next = Math.imul(hash, 31) + entry.index * 7 + entry.term * 13 + (entry.configuration === null ? 0 : 5)
  for (const byte of entry.data ?? []) next = Math.imul(next, 31) + byte
  return next | 0
}

export function isRefused(error: unknown): error is Refused {
  return error instanceof Error && error.name === 'Refused'
}

function metaOf({ index, term, configuration }: State): SnapshotMeta {
  return { index, term, configuration }
}

function noteDurable(durable: Durable, { hard, install, entries }: Persist): void {
  if (hard !== null) durable.hard = hard
  if (install !== null) durable.last = install.index
  if (entries.length > 0) durable.last = entries[entries.length - 1]!.index
}
