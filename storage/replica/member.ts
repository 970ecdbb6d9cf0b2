/**
 * A node's part in a cluster: every store of it is a group of Raft. One driver, one log and one clock serve them all.
 *
 * M1 A lane is at what was agreed on: nothing of the log is applied when the folder is opened, the group's leader says how far it goes.
 * M2 What a checkpoint holds is told to the log, which may then be cut, and to the core, whose memory it frees.
 * M3 A node whose disk is full, or has stopped writing, of the log or of what was applied, does not lead, as long as another can: it hands over, and tries again while that lasts.
 *    So does one that cannot make a restore, with that group.
 * M4 A group that cannot apply what it has (too few of its members reach each other) does not keep the log from being cut: what it
 *    needs is written again, behind what the others wrote since.
 * M5 While what was applied cannot be saved and memory for more is used up, nothing more is applied: the driver takes what it has room for,
 *    then no more entries, and the leader sees a slow follower.
 */
import type { Clock } from '../../namespace/clock.ts'
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import { failpointValue, hasFailpoints } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import type { Random } from '../../namespace/random.ts'
import type { Principal } from '../../namespace/rights.ts'
import { Driver, heirsOf, membersOf, type Inbound } from '../../raft/index.ts'
import { aloneEntry } from '../apply/entry.ts'
import { FetchingBlobs } from '../blob/fetching.ts'
import { BlobFill } from '../blob/fill.ts'
import type { BlobPins } from '../blob/pins.ts'
import type { BlobStore, ChunkHash } from '../blob/store.ts'
import type { StoreRow } from '../engine/folder.ts'
import type { Lane } from '../engine/lane.ts'
import type { Writer, WriterStatus } from '../engine/writer.ts'
import type { BlobRef, Entry, Outcome, RestoreCommand } from '../model.ts'
import type { Environment } from '../tree/environment.ts'
import { GroupLog } from '../wal/group-log.ts'
import type { RecoveredGroup } from '../wal/group-recovery.ts'
import type { Wal } from '../wal/wal.ts'
import { failingInbound, failingTransport } from './failing-messages.ts'
import { OwnClient } from './own-client.ts'
import type { Peers } from './peers.ts'
import type { PendingCommand } from './pending.ts'
import { Place } from './place.ts'
import { Replica } from './replica.ts'
import { makeRestore } from './restoring.ts'
import { lone, withoutConfigurations } from './survivor.ts'
import { Transfers } from './transfers.ts'

export interface MemberOptions {
  /** Identity of this node in the cluster, made with its folder. */
  readonly id: string
  /** Differs at each start of the node. */
  readonly life: number
  readonly peers: Peers
  /** The other members are lost: it votes alone, from what it has. Then `outlive` once, before anybody else is let in. */
  readonly isSurvivor?: boolean | undefined
  /** The node must not go on with this folder. */
  readonly ended?: ((reason: NineError) => void) | undefined
  /** For tests. */
  readonly tickMs?: number | undefined
  readonly keptEntriesMax?: number | undefined
  readonly transferKeptBytesMax?: number | undefined
  readonly behindBytesMax?: number | undefined
}

export interface MemberParts {
  readonly dir: string
  /** The engine's: later than any change of its stores. */
  readonly clock: Clock
  readonly nodeClock: Clock
  readonly random: Random
  readonly pins: BlobPins
  readonly environment: () => Environment
  readonly row: (group: number) => StoreRow | undefined
  /** Entries were applied. */
  readonly progressed: () => void
  /** Background work failed; it is tried again. */
  readonly warn: (error: unknown) => void
  /** For the node's log. */
  readonly note: (text: string) => void
}

export class Member implements Writer {
  readonly inbound: Inbound
  /** Snapshots to and from other nodes. */
  readonly transfers: Transfers
  readonly #options: MemberOptions
  readonly #parts: MemberParts
  readonly #keptEntriesMax: number
  readonly #log = new GroupLog()
  readonly #driver: Driver<PendingCommand>
  readonly #lanes = new Map<number, Lane>()
  readonly #places = new Map<number, Place>()
  readonly #replicas = new Map<number, Replica>()
  #wal: Wal | undefined
  #blobs: FetchingBlobs | undefined
  #fill: BlobFill | undefined
  #timer: NodeJS.Timeout | undefined
  /** Groups whose part of the log is being written again. */
  readonly #rewriting = new Set<number>()
  readonly #stop = new AbortController()
  /** Restores under way, and the last ones. */
  readonly #making = new Map<number, Promise<unknown>>()
  /** Groups whose restore has failed so far, and for how many ticks. */
  readonly #failing = new Map<number, number>()
  #isHolding = false
  #isToldOfProgress = false
  /** Ticks for which the log has found no room, or has written nothing of what waits. */
  #stuckTicks = 0
  #durableLsn = 0
  #refused: NineError | undefined

  constructor(options: MemberOptions, parts: MemberParts) {
    const { id, life, peers } = options
    this.#options = options
    this.#keptEntriesMax = options.keptEntriesMax ?? failpointValue('kept.entries', limits.raft_kept_entries_max)
    this.#parts = parts
    this.transfers = new Transfers({ ...parts, ...options, lane: (group) => this.#lanes.get(group), signal: this.#stop.signal })
    this.#driver = new Driver<PendingCommand>({
      id,
      life,
      storage: this.#log,
      transport: hasFailpoints ? failingTransport(peers) : peers,
      host: { defer: setImmediate, after: (ms, turn) => void setTimeout(turn, ms), random: () => parts.random.fraction() },
      options: {
        election_ticks: limits.raft_election_ticks,
        heartbeat_ticks: limits.raft_heartbeat_ticks,
        lease_ticks: 0,
        append_bytes_max: limits.raft_append_bytes_max,
        inflight_appends_max: limits.raft_inflight_appends_max,
        inflight_bytes_max: limits.raft_inflight_bytes_max,
        uncommitted_bytes_max: failpointValue('uncommitted.bytes', limits.raft_uncommitted_bytes_max),
        reads_pending_max: limits.raft_reads_pending_max,
        promotion_lag_entries_max: limits.raft_promotion_lag_entries_max,
      },
      quiesce_ticks: limits.raft_quiesce_ticks,
      apply_entries_max: limits.raft_apply_entries_max,
      apply_bytes_max: limits.raft_apply_bytes_max,
      keep_entries_max: this.#keptEntriesMax,
      keep_bytes_max: limits.raft_kept_bytes_max,
      commit_wait_ms: limits.raft_commit_wait_ms,
      dropped: (from, what) => parts.warn(new NineError({ kind: 'invalid', op: 'raft.receive', message: `${from} sent ${what}` })),
    })
    this.inbound = hasFailpoints ? failingInbound(this.#driver) : this.#driver
  }

  get durable(): (lsn: number) => void {
    return this.#log.durable
  }

  get failed(): (from: number, to: number, error: NineError) => void {
    return this.#log.failed
  }

  get status(): WriterStatus {
    let waiting = 0
    let failure = this.#log.failure
    for (const replica of this.#replicas.values()) {
      waiting += replica.waiting
      failure ??= replica.failure
    }
    return { waiting, failure, refused: this.#refused ?? this.#log.blocked }
  }

  /** The chunks of this node, and behind them those of the others. `roots`: every value that stands. */
  blobsOver(files: BlobStore, roots: () => Iterable<BlobRef>): BlobStore {
    const fetch = (hash: ChunkHash): Promise<Uint8Array | undefined> =>
      this.#options.peers.fetchChunk(hash, this.#others()).catch((error: unknown) => {
        if (isNineError(error, 'not_found')) return undefined
        throw error
      })
    const blobs = new FetchingBlobs(files, fetch)
    this.#blobs = blobs
    this.#fill = new BlobFill({ store: blobs, roots, warn: this.#parts.warn })
    return blobs
  }

  /** Chunks that are on this node's disk: what the others may ask for. */
  get chunks(): BlobStore {
    return this.#blobs!.files
  }

  /** Fetches the chunks that this node lacks. */
  get fill(): BlobFill {
    return this.#fill!
  }

  /** Resolves when every store here shows all that was agreed on before the call. @throws NineError `unavailable`, `deadline` */
  async linearizeAll(op: string, ms_max: number = limits.replica_collect_wait_ms, signal?: AbortSignal): Promise<void> {
    const deadline = this.#parts.clock.monotonic() + ms_max
    const context = { principal: { name: '', groups: [] }, deadline, signal }
    await Promise.all([...this.#replicas.values()].map((replica) => replica.linearize(context, op, '')))
  }

  /** All other members of this node's groups. */
  #others(): string[] {
    const ids = new Set<string>()
    for (const { configuration } of this.#places.values()) for (const id of membersOf(configuration)) ids.add(id)
    ids.delete(this.#options.id)
    return [...ids]
  }

  /** How far a store is that this node is given by others, in words. */
  filling(group: number): string | undefined {
    const receiving = this.transfers.receiving(group)
    if (receiving !== undefined) {
      const { length, total } = receiving
      return total === undefined
        ? `${mebibytes(length)} received so far`
        : `${mebibytes(length)} of ${mebibytes(total)} received (${Math.floor((100 * length) / total)}%)`
    }
    const { waiting, filled } = this.fill.status
    return waiting === 0 ? undefined : `${waiting} large values wait to be fetched, ${filled} chunks of them are here`
  }

  /** How the stores of this node stand in the cluster, in numbers. */
  standing(): { readonly led: number; readonly leaderless: number; readonly behind: number; readonly terms: number } {
    let led = 0
    let leaderless = 0
    let [behind, terms] = [0, 0]
    for (const { leader, term, group } of this.#replicas.values()) {
      if (term !== 0) led++
      if (leader === null) leaderless++
      const status = group.status()
      behind += status.commit - status.applied
      terms += status.term
    }
    return { led, leaderless, behind, terms }
  }

  replica(group: number): Replica | undefined {
    return this.#replicas.get(group)
  }

  opened(lane: Lane, row: StoreRow, meta: Iterable<readonly [string, Uint8Array]>): void {
    const place = new Place(lane.appliedIndex, row.voters ?? [])
    place.import(meta, row.name)
    if (this.#options.isSurvivor === true) lane.machine.renew(row.incarnation)
    lane.rows = place
    this.#lanes.set(lane.group, lane)
    this.#places.set(lane.group, place)
  }

  /** M1 */
  async start(wal: Wal, lanes: ReadonlyMap<number, Lane>): Promise<number> {
    this.#wal = wal
    const checkpoints = new Map(
      [...lanes.values()].map(({ group, appliedIndex }) => {
        const { hard, hardLsn, forgotten } = this.#places.get(group)!
        return [group, { appliedIndex, hard, hardLsn, forgotten }]
      }),
    )
    const recovered = this.#log.recover(wal, checkpoints, aloneEntry, this.#keptEntriesMax)
    for (const group of recovered.keys()) {
      if (lanes.has(group)) continue
      const message = `the log has entries of store ${group}, which stores.json does not list`
      throw new NineError({ kind: 'corrupt', op: 'storage.open', path: this.#parts.dir, message })
    }
    for (const lane of lanes.values()) await this.#open(lane, recovered.get(lane.group), this.#options.isSurvivor === true)
    await this.transfers.opened()
    this.#fill!.scan()
    this.#timer = setInterval(this.#tick, this.#options.tickMs ?? limits.raft_tick_ms)
    return 0
  }

  async add(lane: Lane): Promise<void> {
    await this.#open(lane, undefined, false)
  }

  async #open(lane: Lane, recovered: RecoveredGroup | undefined, isSurvivor: boolean): Promise<void> {
    const { group } = lane
    const place = this.#places.get(group)!
    const { clock, nodeClock } = this.#parts
    const missing = recovered?.install ?? null
    if (missing !== null && missing.index > lane.appliedIndex) {
      await this.transfers.install(lane, missing, () => place.replacing(missing))
      place.installed(missing)
    }
    const replica = new Replica({
      self: this.#options.id,
      lane,
      clock,
      nodeClock,
      peers: this.#options.peers,
      ownClient: new OwnClient(clock, this.#parts.random),
      blobs: this.#blobs!,
      place,
      logEnd: () => this.#wal!.durableLsn,
      install: async (meta) => {
        await this.transfers.installInTime(lane, meta, () => place.replacing(meta))
        place.installed(meta)
      },
      restore: (entry, command) => this.#restore(lane, entry, command),
      progressed: this.#progressed,
      ended: (reason) => (this.#options.ended ?? this.#parts.warn)(reason),
    })
    if (isSurvivor) place.configuration = lone(this.#options.id) // S2 of survivor.ts
    const entries = recovered?.entries ?? []
    const restored = {
      hard: recovered?.hard ?? place.hard,
      snapshot: place.meta(lane.appliedIndex),
      entries: isSurvivor ? withoutConfigurations(entries) : entries,
      applied: lane.appliedIndex,
    }
    replica.hold(this.#isBusy)
    replica.refuse(this.#refused)
    const opened = this.#driver.open(group, restored, replica)
    replica.attach(opened)
    // M2
    const installed = (appliedIndex: number, hardLsn: number): void => this.#log.saved(group, { appliedIndex, hardLsn })
    place.parts = {
      hardState: () => this.#log.hardStateOf(group),
      installed,
      saved: (appliedIndex, hardLsn) => {
        installed(appliedIndex, hardLsn)
        this.transfers.saved(group, appliedIndex)
        opened.checkpointed(this.transfers.keptFrom(opened, appliedIndex))
      },
    }
    this.#replicas.set(group, replica)
  }

  async #restore(lane: Lane, entry: Entry, command: RestoreCommand): Promise<Outcome> {
    const { group } = lane
    const { dir, environment, pins, warn, note } = this.#parts
    const { signal } = this.#stop
    const isSurvivor = this.#options.isSurvivor === true && this.#others().length === 0
    const place = this.#places.get(group)!
    const logEnd = (): number => this.#wal!.durableLsn
    const failed = (): void => {
      if (this.#failing.has(group)) return
      this.#failing.set(group, 0)
      this.#handOver(this.#replicas.get(group)!)
    }
    const parts = { dir, lane, place, environment, blobs: this.#blobs!, pins, signal, logEnd, failed, warn, isSurvivor, note }
    const making = makeRestore(parts, entry, command)
    this.#making.set(group, making)
    const outcome = await making.finally(() => this.#failing.delete(group))
    if (place.forgotten !== entry.index) return outcome
    this.transfers.saved(group, entry.index)
    this.#replicas.get(group)!.group.forget(entry.index) // R3 of restoring.ts
    return outcome
  }

  /** Of a survivor: all of its log is applied, however long that takes, and is not given to anybody once `save` is done. S1, S2 of survivor.ts */
  async outlive(save: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    await this.linearizeAll('replica.outlive', Number.MAX_VALUE, signal)
    const places = [...this.#places.values()]
    for (const lane of this.#lanes.values()) this.#places.get(lane.group)!.forgotten = lane.appliedIndex
    // The first may have begun before this, and know nothing of it.
    do await save()
    while (places.some((place) => place.isDirty))
    for (const [group, { forgotten }] of this.#places) this.#replicas.get(group)!.group.forget(forgotten)
  }

  proposerFor(lane: Lane): Replica {
    return this.#replicas.get(lane.group)!
  }

  restore(lane: Lane, context: Context, command: RestoreCommand): Promise<Outcome> {
    return this.proposerFor(lane).propose(context, 'storage.restore', '', command)
  }

  replicationFor(lane: Lane): Replica {
    return this.#replicas.get(lane.group)!
  }

  /** M4 */
  beforeCut(): void {
    for (const { group, from, to } of this.#log.laggards(this.#options.behindBytesMax)) {
      const entries = this.#replicas.get(group)?.group.entries(from, to) ?? []
      if (entries.length !== Math.max(0, to - from + 1) || this.#rewriting.has(group)) continue
      // Not waited for: on a full disk it is the cut that makes room for it.
      this.#rewriting.add(group)
      void this.#log
        .rewrite(group, entries)
        .catch(this.#parts.warn)
        .finally(() => this.#rewriting.delete(group))
    }
  }

  firstNeeded(): number {
    return this.#log.firstNeeded()
  }

  /** Another node asks. @throws NineError */
  async answer(group: number, verb: string, body: Uint8Array, deadline: number): Promise<Uint8Array> {
    const replica = this.#replicas.get(group)
    if (replica === undefined)
      throw new NineError({ kind: 'unavailable', op: `replica.${verb}`, message: `this node has no store ${group} yet` })
    if (verb === 'propose') {
      await replica.proposeFor(body, deadline)
      return nothing
    }
    if (verb === 'renew') return this.#renew(replica, body, deadline)
    if (verb === 'filled') return Uint8Array.of((await this.#isFilled(replica, deadline)) ? 1 : 0)
    throw new NineError({ kind: 'unsupported', op: `replica.${verb}`, message: `this node does not know the request ${verb}` })
  }

  /** Whether this node has every chunk that the store named before the call: a vote counts on its disk for these too. */
  async #isFilled(replica: Replica, deadline: number): Promise<boolean> {
    await replica.linearize({ principal: { name: '', groups: [] }, deadline }, 'replica.filled', '')
    const { waiting, isScanning } = this.fill.status
    return waiting === 0 && !isScanning
  }

  async #renew(replica: Replica, body: Uint8Array, deadline: number): Promise<Uint8Array> {
    const { lease, principal } = JSON.parse(Buffer.from(body).toString()) as { lease: string; principal: Principal }
    const { store } = replica.lane
    if (store === undefined) throw new NineError({ kind: 'unavailable', op: 'replica.renew', message: 'this node is starting' })
    return Buffer.from(JSON.stringify(await store.renewAsLeader({ principal, deadline }, lease)))
  }

  /** M5 */
  get #isBusy(): boolean {
    return this.#isHolding || this.#refused !== undefined
  }

  hold(isHolding: boolean): void {
    this.#isHolding = isHolding
    for (const replica of this.#replicas.values()) replica.hold(this.#isBusy)
  }

  refuse(reason: NineError | undefined): void {
    this.#refused = reason
    for (const replica of this.#replicas.values()) replica.hold(this.#isBusy)
    for (const replica of this.#replicas.values()) replica.refuse(reason ?? this.#log.blocked)
  }

  /** Once for what a turn applies. */
  readonly #progressed = (): void => {
    if (this.#isToldOfProgress) return
    this.#isToldOfProgress = true
    setImmediate(() => {
      this.#isToldOfProgress = false
      this.#parts.progressed()
    })
  }

  readonly #tick = (): void => {
    this.#driver.tick()
    const { blocked } = this.#log
    const reason = this.#refused ?? blocked
    this.#lookAtDisk(reason !== undefined)
    this.#lookAtRestores()
    for (const replica of this.#replicas.values()) {
      replica.refuse(reason)
      replica.sweep()
    }
  }

  /** M3 */
  #lookAtDisk(isFull: boolean): void {
    const { durableLsn } = this.#wal!
    const isStuck = isFull || (this.#log.waiting > 0 && durableLsn === this.#durableLsn)
    this.#durableLsn = durableLsn
    this.#stuckTicks = isStuck ? this.#stuckTicks + 1 : 0
    const since = this.#stuckTicks - (isFull ? 1 : limits.raft_disk_stuck_ticks)
    const turn = since / limits.raft_hand_over_again_ticks
    if (since >= 0 && Number.isInteger(turn)) for (const replica of this.#replicas.values()) this.#handOver(replica, turn)
  }

  /** M3 */
  #lookAtRestores(): void {
    for (const [group, ticks] of this.#failing) {
      this.#failing.set(group, ticks + 1)
      const turn = (ticks + 1) / limits.raft_hand_over_again_ticks
      if (Number.isInteger(turn)) this.#handOver(this.#replicas.get(group)!, turn)
    }
  }

  /** To the one that is furthest, and in later turns to the others too, whatever may keep that one from leading. */
  #handOver({ group }: Replica, turn = 0): void {
    if (!group.isLeader) return
    const heirs = heirsOf(group.status())
    const heir = heirs[turn % heirs.length]
    if (heir !== undefined) group.transfer(heir).catch(this.#parts.warn)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#driver.stop()
    this.#stop.abort()
    const closing = new NineError({ kind: 'unavailable', op: 'storage.close', message: 'the data folder is being closed' })
    for (const replica of this.#replicas.values()) replica.stopped(closing)
    this.#log.stop()
  }

  settleAll(): void {}

  /** Everything is saved. */
  async ended(): Promise<void> {
    await Promise.allSettled(this.#making.values())
    await this.#fill?.close()
    await this.transfers.close()
  }
}

const nothing = new Uint8Array(0)

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
