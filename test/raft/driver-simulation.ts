/**
 * A whole cluster of drivers from one seed: real drivers, cores and logs; disks that lose what was not synced, tear what was being written and
 * fail; a network that drops, delays, reorders, duplicates, cuts (one-way too); processes that crash, restart and stop for a while; snapshots,
 * changes of members, hand-overs, groups that rest and wake, groups that are closed on one node. `driver-checks.ts` looks at each step,
 * `driver-watches.ts` at what watchers are told.
 *
 * At the end all is healed and has to become one cluster again; then nothing is asked any more, all groups have to rest, also after a time in which
 * messages are lost, and one node dies or is cut off: those who followed it have to find that out by themselves.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type {
  DriverOptions,
  Entry,
  Fate,
  GroupId,
  Install,
  MembershipChange,
  NodeId,
  PeerItem,
  Persist,
  Raft,
  Status,
} from '../../raft/index.ts'
import { Checks, dataOf, expectThat } from './driver-checks.ts'
import type { DriverOutcome } from './driver-checks.ts'
import { SimNode, isRefused } from './driver-node.ts'
import type { Proposal, SimMachine, State, Watcher } from './driver-node.ts'
import { SimNetwork } from './driver-network.ts'
import { Watches } from './driver-watches.ts'
import { optionsOfTests } from './cluster.ts'
import { randomOf } from './simulation.ts'

/** Run one seed; throws what was found wrong. */
export async function simulateDrivers(seed: number): Promise<DriverOutcome> {
  const run = new Run(seed)
  try {
    return await run.all()
  } catch (error) {
    throw new Error(`seed ${seed}, at ${run.now}: ${(error as Error).message}`, { cause: error })
  } finally {
    run.close()
  }
}

class Run implements Watcher {
  now = 0
  readonly random: () => number
  /** Of its own, so that what else happens in a seed is as without. */
  readonly #removals: () => number
  readonly #checks = new Checks()
  readonly #watches: Watches
  readonly #nodes = new Map<NodeId, SimNode>()
  readonly #groups: GroupId[]
  readonly #busy = new Set<GroupId>()
  /** Where each proposal was made. */
  readonly #takers: SimMachine[] = []
  /** Reads, changes and transfers that are not answered yet. */
  readonly #asked = new Set<{ readonly machine: SimMachine; readonly what: string }>()
  #fault: Error | null = null
  #spares = ['s1', 's2']
  #calm = false
  #quiet = false
  /** Clients begin no watches: those may ask who leads, and wake groups. */
  #isStill = false
  #beats = 0
  #others = 0
  #counts = { crashes: 0, diskFailures: 0, transfers: 0, changesDone: 0, rests: 0, restless: 0, removals: 0 }
  // What this seed is like.
  readonly #network: SimNetwork
  readonly #diskPace: number
  readonly #crashes: number
  readonly #partitions: number
  readonly #pauses: number
  readonly #eio: number
  readonly #removing: number
  readonly #changing: boolean
  readonly #rests: boolean
  readonly #options: Omit<DriverOptions, 'id' | 'life' | 'storage' | 'transport' | 'host'>
  readonly #voters: NodeId[]

  constructor(seed: number) {
    this.random = randomOf(seed * 7919)
    this.#voters = ['n1', 'n2', 'n3', 'n4', 'n5'].slice(0, this.#oneOf([3, 3, 3, 5]))
    this.#groups = [1, 2, 3].slice(0, this.#oneOf([1, 2, 3]))
    this.#network = new SimNetwork(
      { loss: this.#oneOf([0, 0.01, 0.08]), duplication: this.#oneOf([0, 0.03, 0.15]), delay: this.#oneOf([1, 3, 8]) },
      this.random,
    )
    this.#diskPace = this.#oneOf([0.9, 0.6, 0.3])
    this.#crashes = this.#oneOf([0.001, 0.005, 0.02])
    this.#partitions = this.#oneOf([0, 0.01, 0.02])
    this.#pauses = this.#oneOf([0, 0.005])
    this.#eio = this.#oneOf([0, 0, 0.003])
    this.#changing = this.random() < 0.4
    this.#removals = randomOf(seed * 104_729)
    this.#removing = this.#removals() < 0.3 ? 0.004 : 0
    this.#rests = this.random() < 0.8
    const windows = this.#oneOf([
      { inflight_appends_max: 2, append_bytes_max: 16 },
      { inflight_appends_max: 16, append_bytes_max: 200 },
    ])
    this.#options = {
      options: {
        ...optionsOfTests,
        election_ticks: 6,
        heartbeat_ticks: this.#oneOf([1, 2]),
        uncommitted_bytes_max: 100,
        promotion_lag_entries_max: 5,
        ...windows,
      },
      quiesce_ticks: this.#rests ? 4 : 0,
      apply_entries_max: this.#oneOf([1, 3, 100]),
      apply_bytes_max: 1000,
      keep_entries_max: this.#oneOf([0, 3, 20]),
      keep_bytes_max: 100,
      commit_wait_ms: this.#removals() < 0.5 ? 1 : 0,
    }
    for (const id of this.#voters) this.#add(id)
    this.#watches = new Watches(randomOf(seed * 15_485_863), this.#groups, (group) => this.#checks.history(group).known)
  }

  async all(): Promise<DriverOutcome> {
    for (const node of this.#nodes.values()) await node.start()
    for (let round = 0; round < 300; round++) await this.#round()
    this.#heal()
    for (let round = 0; round < 40; round++) await this.#round()
    await this.#expectOneCluster()
    this.#isStill = true
    if (this.#rests) {
      await this.#expectRest()
      await this.#loseWords()
      await this.#expectRest()
      await this.#expectSuccession()
    }
    const { seen: watched, moves, skips } = this.#watches
    return { applied: this.#applied(), ...this.#checks.counts, ...this.#counts, watched, moves, skips }
  }

  close(): void {
    this.#watches.close()
  }

  // Watcher

  wrote(node: SimNode, raft: Raft, group: GroupId, persist: Persist): void {
    this.#checks.wrote(node, raft, group, persist)
  }
  sent(node: SimNode, to: NodeId, item: PeerItem): void {
    this.#checks.sent(node, item)
    if (item.kind === 'beat') this.#beats++
    else this.#others++
    if (item.kind === 'quiesce') this.#counts.rests++
    if (item.kind === 'awake') this.#counts.restless++
    const deliver = (receiver: SimNode): void => receiver.running!.driver.receive(node.id, item)
    this.#network.put(node.id, to, deliver, () => undefined)
  }
  snapshotSent(node: SimNode, group: GroupId, message: Install, state: State, arrived: (ok: boolean) => void): void {
    const deliver = (receiver: SimNode): void => {
      receiver.incoming.set(`${group} ${state.index}`, state)
      receiver.running!.driver.receive(node.id, { kind: 'raft', group, message })
      arrived(true)
    }
    this.#network.put(node.id, message.to, deliver, () => arrived(false))
  }
  applied(machine: SimMachine, entry: Entry, proposal: Proposal | undefined): void {
    this.#checks.applied(machine, entry, proposal)
    this.#watches.applied(machine)
    if (!this.#calm && this.random() < 0.05) machine.isBusy = true
  }
  tookTime(): void {
    this.#checks.slow++
  }
  installed(machine: SimMachine): void {
    this.#checks.installed(machine)
    this.#watches.installed(machine)
  }
  ended(machine: SimMachine, proposal: Proposal, fate: Fate): void {
    this.#checks.ended(machine, proposal, fate)
  }
  changed(machine: SimMachine, status: Status): void {
    this.#checks.changed(machine, status)
  }
  stopped(machine: SimMachine, error: unknown): void {
    if (machine.node.running?.hasFailed === true) this.#counts.diskFailures++
    else this.#fault ??= errorOf(error)
  }

  async #round(): Promise<void> {
    this.now++
    this.#network.deliver(this.#nodes)
    for (const node of [...this.#nodes.values()]) {
      if (node.running === null) {
        if ((this.#calm ? 0.5 : 0.1) > this.random()) await node.start()
        continue
      }
      if (this.#calm && isHalf(node)) this.#crash(node, false)
      if (node.running === null) continue
      if (node.paused > 0) {
        node.paused--
        continue
      }
      if (this.#quiet || this.random() < 0.9) node.running.driver.tick()
      this.#workDisk(node)
      if (!this.#quiet) for (const machine of node.running.machines.values()) this.#work(machine)
      for (const machine of node.running.machines.values()) this.#goOn(machine)
      node.turn()
      if (!this.#calm) this.#disturb(node)
      if (this.#fault !== null) throw this.#fault
    }
    if (!this.#isStill) this.#watches.round([...this.#nodes.values()], this.#calm)
    for (let times = 0; times < 12; times++) await Promise.resolve()
    // Watches read history in turns of their own.
    await nextTurn()
    if (this.#fault !== null) throw this.#fault
    if (!this.#calm && this.random() < this.#partitions) this.#network.partition([...this.#nodes.keys()])
    if (this.#network.cut.size > 0 && !this.#quiet && this.random() < 0.05) this.#network.cut.clear()
    if (!this.#quiet && this.random() < 0.05) this.#toggle()
  }

  #workDisk(node: SimNode): void {
    while ((this.#calm || this.random() < this.#diskPace) && node.disk.release());
  }

  /** Clients and operators. */
  #work(machine: SimMachine): void {
    if (machine.hasStopped) return
    const { group, id } = machine
    const isLeader = group.isLeader
    if (this.#busy.has(id) && this.random() < (isLeader ? 0.5 : 0.03)) {
      for (let count = this.#below(5); count > 0; count--) this.#propose(machine)
    }
    if (this.#busy.has(id) && this.random() < 0.2) {
      const served = this.#checks.read(machine)
      this.#settle(machine, 'a read', group.read(), served)
    }
    if (this.random() < 0.06) machine.node.checkpoint(id, this.random() < 0.5)
    if (this.#calm || !isLeader) return
    const done = (count: 'transfers' | 'changesDone') => (): void => void this.#counts[count]++
    if (this.random() < 0.01) this.#settle(machine, 'a transfer', group.transfer(this.#oneOf(this.#voters)), done('transfers'))
    if (this.#changing && this.random() < 0.04)
      this.#settle(machine, 'a change', group.change(this.#changesOf(group.status().configuration)), done('changesDone'))
  }

  #goOn(machine: SimMachine): void {
    if (machine.isBusy && this.random() < 0.4) {
      machine.isBusy = false
      machine.group.resume()
    }
    if (machine.finishInstall !== null && this.random() < 0.4) machine.finishInstall()
  }

  #propose(machine: SimMachine): void {
    const proposal: Proposal = { number: this.#checks.proposals.length, group: machine.id, fate: 'open' }
    this.#checks.proposals.push(proposal)
    this.#takers.push(machine)
    machine.group.propose(dataOf(proposal.number, this.#oneOf([4, 8, 30])), proposal)
  }

  #settle(machine: SimMachine, what: string, promise: Promise<void>, done: () => void): void {
    const asked = { machine, what }
    this.#asked.add(asked)
    promise
      .finally(() => this.#asked.delete(asked))
      .then(done)
      .catch((error: unknown) => {
        if (!isRefused(error)) this.#fault ??= errorOf(error)
      })
  }

  #changesOf({ voters, learners }: { readonly voters: readonly NodeId[]; readonly learners: readonly NodeId[] }): MembershipChange[] {
    const changes: MembershipChange[] = []
    if (learners.length > 0 && this.random() < 0.6) changes.push({ do: 'promote', id: this.#oneOf(learners) })
    else if (this.random() < 0.5) {
      const known = new Set([...voters, ...learners])
      const fresh = [...this.#nodes.keys()].filter((id) => !known.has(id))
      if (this.#spares.length > 0) fresh.push(this.#spares[0]!)
      if (fresh.length > 0) {
        const id = this.#oneOf(fresh)
        if (id === this.#spares[0]) this.#add(this.#spares.shift()!)
        changes.push({ do: 'add_learner', id })
      }
    }
    const leaves = this.#oneOf(voters)
    if (voters.length > 2 && this.random() < 0.5) changes.push({ do: this.random() < 0.5 ? 'remove' : 'demote', id: leaves })
    return changes
  }

  #disturb(node: SimNode): void {
    if (node.running!.hasFailed ? this.random() < 0.1 : this.random() < this.#crashes) this.#crash(node, this.random() < 0.5)
    else if (this.random() < this.#pauses) node.paused = 5 + this.#below(20)
    else if (this.random() < this.#eio) node.disk.faults.push({ op: 'writeDurable', code: 'EIO', sectors: this.#below(3) })
    else if (this.#removals() < this.#removing) this.#remove(node)
    else if (this.random() < 0.01) this.#lose(node.id, this.#oneOf([...this.#nodes.keys()]), false)
  }

  #crash(node: SimNode, isSeen: boolean): void {
    this.#counts.crashes++
    this.#watches.ended(node.running?.machines.values() ?? [])
    node.crash(() => this.random() < 0.5)
    if (!isSeen) return
    for (const other of this.#nodes.keys()) if (other !== node.id && this.random() < 0.9) this.#lose(other, node.id, true)
  }

  /** A group is closed on a node that lives on; it is there again when the node starts anew. */
  #remove({ running }: SimNode): void {
    const machine = running!.machines.get(this.#groups[Math.floor(this.#removals() * this.#groups.length)]!)!
    if (machine.hasStopped || running!.hasFailed) return
    this.#counts.removals++
    machine.hasStopped = true
    this.#watches.ended([machine])
    running!.driver.remove(machine.id)
  }

  /** `at` learns that it lost its connection to `peer`. */
  #lose(at: NodeId, peer: NodeId, gone: boolean): void {
    if (at === peer) return
    const deliver = (node: SimNode): void => node.running!.driver.peerLost(peer, gone)
    this.#network.happen(at, 3, deliver)
  }

  #toggle(): void {
    const group = this.#oneOf(this.#groups)
    if (!this.#busy.delete(group)) this.#busy.add(group)
  }

  #heal(): void {
    this.#calm = true
    this.#network.isCalm = true
    this.#network.cut.clear()
    for (const node of this.#nodes.values()) {
      node.paused = 0
      node.disk.faults.length = 0
      if (isHalf(node)) this.#crash(node, false)
    }
  }

  /** Liveness: one leader, which takes a proposal; all its members apply all of it; no change is half done; every proposal was told of. */
  async #expectOneCluster(): Promise<void> {
    this.#quiet = true
    const before = this.#checks.acknowledged
    for (let rounds = 0; rounds < 400; rounds++) {
      await this.#round()
      const leaders = this.#groups.map((group) => this.#leader(group))
      if (rounds % 40 === 0) for (const leader of leaders) if (leader?.group.isReady === true) this.#propose(leader)
      if (
        this.#checks.acknowledged >= before + this.#groups.length &&
        leaders.every((leader) => leader !== null && this.#isAtOne(leader))
      ) {
        if (this.#untold().length === 0 && this.#watches.behind.length === 0) return
      }
    }
    const untold = this.#untold()
    expectThat(untold.length === 0, `answers: nobody was told of ${untold.join('; ')}`)
    expectThat(this.#watches.behind.length === 0, `watch order: ${this.#watches.behind.join('; ')}`)
    throw new Error('liveness: a calm network does not become one cluster')
  }

  /** Z6: what is idle rests, and but for beats nothing is sent. */
  async #expectRest(): Promise<void> {
    for (let rounds = 0; rounds < 200; rounds++) {
      await this.#round()
      if (!this.#groups.every((group) => this.#isAtRest(group))) continue
      for (let settle = 0; settle < 10; settle++) await this.#round()
      const [beats, others] = [this.#beats, this.#others]
      for (let more = 0; more < 20; more++) await this.#round()
      expectThat(this.#beats > beats, 'rest: nothing stands for the heartbeats')
      // Removed members may still ask for votes.
      expectThat(this.#others === others || this.#changing, `rest: ${this.#others - others} messages while all groups rest`)
      return
    }
    const awake = this.#groups.flatMap((group) => this.#membersOf(group)).filter(({ group }) => !group.status().isResting)
    throw new Error(
      `rest: idle groups stay awake: ${JSON.stringify(awake.map(({ node, group, raft }) => [node.id, group.status(), raft.election, raft.reads, raft.leading?.reads]))}`,
    )
  }

  /** Z4: groups wake and rest again, one at a time, and the words of that are lost on some of the members. */
  async #loseWords(): Promise<void> {
    this.#network.calmLoss = 0.3
    for (let round = 0; round < 60; round++) {
      const leader = round % 12 === 0 ? this.#leader(this.#oneOf(this.#groups)) : null
      if (leader?.group.isReady === true) this.#propose(leader)
      await this.#round()
    }
    this.#network.calmLoss = 0
  }

  /** Z3: those who rest on a node find out that it is gone, though nobody asks them anything. */
  async #expectSuccession(): Promise<void> {
    const { node } = this.#leader(this.#oneOf(this.#groups))!
    /** Groups that the others can go on with, and their terms. */
    const led = new Map<GroupId, number>()
    for (const group of this.#groups) {
      const machine = this.#leader(group)!
      if (machine.node === node && machine.group.status().configuration.voters.length > 2) led.set(group, machine.group.term)
    }
    const how = this.#oneOf(['crash', 'crash that is seen', 'cut off', 'deaf', 'mute'] as const)
    if (how === 'crash' || how === 'crash that is seen') this.#crash(node, how === 'crash that is seen')
    for (const id of this.#nodes.keys()) {
      if (how === 'cut off' || how === 'deaf') this.#network.cut.add(`${id} ${node.id}`)
      if (how === 'cut off' || how === 'mute') this.#network.cut.add(`${node.id} ${id}`)
    }
    await this.#expectWithin(
      120,
      () => [...led].every(([group, term]) => this.#leaderAfter(group, term, node) !== null),
      `nobody leads after ${node.id}: ${how}`,
    )
    // Whoever leads may have to apply its whole log again, a few entries a turn, if it is the one that crashed.
    const rounds = 120 + (4 * this.#applied()) / this.#options.apply_entries_max
    const areReady = (): boolean => [...led].every(([group, term]) => this.#leaderAfter(group, term, node)?.group.isReady === true)
    await this.#expectWithin(rounds, areReady, `who leads after ${node.id} is not ready: ${how}`)
  }

  async #expectWithin(rounds: number, holds: () => boolean, otherwise: string): Promise<void> {
    for (let round = 0; round < rounds; round++) {
      await this.#round()
      if (holds()) return
    }
    throw new Error(`rest: ${otherwise}`)
  }

  #isAtRest(group: GroupId): boolean {
    if ([...this.#nodes.values()].some(({ running }) => running === null)) return false
    return this.#leader(group) !== null && this.#membersOf(group).every((machine) => machine.group.status().isResting)
  }

  /** Another node, or the next life of this one, that leads and has committed in its term. */
  #leaderAfter(group: GroupId, term: number, node: SimNode): SimMachine | null {
    for (const { id, running } of this.#nodes.values()) {
      const machine = running?.machines.get(group)
      const { leading = null, commit = 0 } = machine?.raft ?? {}
      if (leading !== null && commit >= leading.opening && (id !== node.id || machine!.group.term > term)) return machine!
    }
    return null
  }

  #applied(): number {
    return this.#groups.reduce((sum, group) => sum + this.#checks.history(group).hashes.length - 1, 0)
  }

  /** But for members that were removed, which may never learn what became of what they took. */
  #untold(): string[] {
    const isOwed = (machine: SimMachine): boolean => this.#isStillRunning(machine) && this.#membersOf(machine.id).includes(machine)
    const open = this.#checks.proposals.flatMap(({ fate, number }) => {
      const machine = this.#takers[number]!
      return fate === 'open' ? [{ machine, what: `proposal ${number}` }] : []
    })
    return [...open, ...this.#asked]
      .filter(({ machine }) => isOwed(machine))
      .map(({ machine, what }) => `${what} at ${machine.node.id}, group ${machine.id}`)
  }

  /** The process that it belongs to has not crashed since. */
  #isStillRunning(machine: SimMachine): boolean {
    return machine.node.running?.machines.get(machine.id) === machine
  }

  #isAtOne(leader: SimMachine): boolean {
    const { configuration } = leader.group.status()
    const last = this.#checks.history(leader.id).hashes.length - 1
    return configuration.outgoing.length === 0 && this.#membersOf(leader.id).every((machine) => machine.state.index === last)
  }

  #membersOf(group: GroupId): SimMachine[] {
    const leader = this.#leader(group)
    const { voters, learners } = leader === null ? { voters: [], learners: [] } : leader.group.status().configuration
    return [...voters, ...learners].flatMap((id) => this.#nodes.get(id)?.running?.machines.get(group) ?? [])
  }

  #leader(group: GroupId): SimMachine | null {
    let best: SimMachine | null = null
    for (const { running } of this.#nodes.values()) {
      const machine = running?.machines.get(group)
      if (machine?.group.isLeader === true && (best === null || machine.group.term > best.group.term)) best = machine
    }
    return best
  }

  #add(id: NodeId): void {
    this.#nodes.set(id, new SimNode(id, this.#groups, this.#voters, this.#options, this))
  }
  #below(limit: number): number {
    return Math.floor(this.random() * limit)
  }
  #oneOf<T>(choices: readonly T[]): T {
    return choices[this.#below(choices.length)]!
  }
}

/** It runs, but not all of it. */
function isHalf({ running }: SimNode): boolean {
  return running !== null && (running.hasFailed || [...running.machines.values()].some(({ hasStopped }) => hasStopped))
}

function errorOf(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
