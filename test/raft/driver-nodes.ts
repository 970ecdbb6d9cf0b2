/** Nodes in one process for tests of the driver by itself: over a disk, network and clock that do what the test says. */
import { expect } from 'vitest'
import { Driver } from '../../raft/index.ts'
import type {
  Configuration,
  DriverOptions,
  Entry,
  Fate,
  Group,
  GroupId,
  Install,
  Message,
  PeerItem,
  Persist,
  Raft,
  SnapshotMeta,
  StateMachine,
  Status,
} from '../../raft/index.ts'
import type { Member } from '../../raft/driver/member.ts'
import type { Brought, WriteDone } from '../../raft/driver/ports.ts'
import { optionsOfTests } from './cluster.ts'

export const ids = ['n1', 'n2', 'n3']
export const configuration: Configuration = { voters: ids, outgoing: [], learners: [], demoted: [] }
export class Machine implements StateMachine<string> {
  isBusy = false
  readonly entries: Entry[] = []
  readonly told: string[] = []
  statuses: Status[] = []
  error: unknown = null
  group!: Group<string>
  readonly installs: number[] = []
  onInstall: () => Promise<void> = () => Promise.resolve()
  onApply: (entry: Entry) => void = () => undefined

  get raft(): Raft {
    return (this.group as Member<string>).raft
  }

  apply(entry: Entry, proposal: string | undefined): void {
    this.entries.push(entry)
    if (proposal !== undefined) this.told.push(proposal)
    this.onApply(entry)
  }
  install(meta: SnapshotMeta): Promise<void> {
    this.installs.push(meta.index)
    return this.onInstall()
  }
  ended(proposal: string, fate: Fate): void {
    this.told.push(`${proposal}: ${fate}`)
  }
  changed(status: Status): void {
    this.statuses.push(status)
  }
  stopped(error: unknown): void {
    this.error = error
  }
}

/** Nodes in one process. Nothing happens but in `run` and `tick`. */
export class Nodes {
  readonly drivers = new Map<string, Driver<string>>()
  readonly sent: { from: string; to: string; item: PeerItem }[] = []
  /** What arrived. */
  readonly told: { from: string; item: PeerItem }[] = []
  readonly dropped: string[] = []
  readonly machines = new Map<string, Machine>()
  writes = 0
  /** What is to run after a while; the test says when. */
  timers: (() => void)[] = []
  turns = 0
  failDisk: Error | null = null
  /** The group whose writes cannot be. */
  impossible = 0
  holdDisk = false
  #work: (() => void)[] = []
  #disk: (() => void)[] = []

  readonly #configuration: Configuration
  /** What of the items sent is lost. */
  isLost: (from: string, to: string, item: PeerItem) => boolean = () => false

  /** @param options others than those of the tests; as a function, of each node by what they would be */
  constructor(
    options: Partial<DriverOptions> | ((own: DriverOptions) => Partial<DriverOptions>) = {},
    members: Configuration = configuration,
  ) {
    this.#configuration = members
    for (const id of ids) {
      const own: DriverOptions = {
        id,
        life: 1,
        storage: { write: (group, _persist: Persist, done) => this.#write(group, done) },
        transport: {
          send: (to, item) => void this.sent.push({ from: id, to, item }),
          sendSnapshot: (_group: GroupId, _message: Install) => Promise.resolve(false),
        },
        host: { defer: (turn) => void this.#work.push(turn), after: (_ms, turn) => void this.timers.push(turn), random: () => 0.5 },
        options: optionsOfTests,
        quiesce_ticks: 5,
        apply_entries_max: 1000,
        apply_bytes_max: 1e6,
        keep_entries_max: 10,
        keep_bytes_max: 1000,
        commit_wait_ms: 0,
        dropped: (from, what) => void this.dropped.push(`${from}: ${what}`),
      }
      this.drivers.set(id, new Driver<string>({ ...own, ...(typeof options === 'function' ? options(own) : options) }))
    }
  }

  open(group: GroupId): void {
    const snapshot = { index: 0, term: 0, configuration: this.#configuration }
    const empty = { hard: { term: 0, vote: null }, snapshot, entries: [], applied: 0 }
    for (const [id, driver] of this.drivers) {
      const machine = new Machine()
      this.machines.set(`${id} ${group}`, machine)
      machine.group = driver.open(group, empty, machine)
    }
  }

  machine(id: string, group = 1): Machine {
    return this.machines.get(`${id} ${group}`)!
  }

  /** Until nothing is left to do; messages of who is in `deaf` are lost. */
  run(deaf: readonly string[] = []): void {
    while (this.#work.length + this.#disk.length + this.sent.length > 0) {
      this.runOnce(deaf)
      if (this.holdDisk && this.#work.length + this.sent.length === 0) return
    }
  }

  /** What waits now: turns, then what the disk has done, then messages. */
  runOnce(deaf: readonly string[] = []): void {
    for (const work of this.#work.splice(0)) {
      this.turns++
      work()
    }
    if (!this.holdDisk) for (const done of this.#disk.splice(0)) done()
    for (const { from, to, item } of this.sent.splice(0)) {
      if (deaf.includes(from) || deaf.includes(to) || this.isLost(from, to, item)) continue
      this.told.push({ from, item })
      this.drivers.get(to)!.receive(from, item)
    }
  }

  tick(id: string, times: number, deaf: readonly string[] = []): void {
    for (; times > 0; times--) {
      this.drivers.get(id)!.tick()
      this.run(deaf)
    }
  }

  tickAll(times: number, deaf: readonly string[] = []): void {
    for (; times > 0; times--) for (const id of ids) this.tick(id, 1, deaf)
  }

  elect(id: string): void {
    this.tick(id, 16)
    for (const [key, { group }] of this.machines) if (key.startsWith(`${id} `)) expect(group.isReady).toBe(true)
  }

  #write(group: number, done: WriteDone): void {
    this.writes++
    this.#disk.push(() => {
      if (this.failDisk === null || (this.impossible !== 0 && group !== this.impossible)) done()
      else done(this.failDisk, this.impossible === 0 ? undefined : 'group')
    })
  }
}

export const data = (text: string): Uint8Array => Buffer.from(text)

export function message(fields: Partial<Message> & { readonly kind: Message['kind'] }): PeerItem | Brought {
  return { kind: 'raft', group: 1, message: { from: 'n2', to: 'n1', term: 1, ...fields } as Message } as PeerItem | Brought
}
