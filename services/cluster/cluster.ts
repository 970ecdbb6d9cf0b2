/**
 * A node's part in a cluster, from its flags to the stores it serves: the peer service, belonging to a cluster, and what keeps members,
 * stores and groups as the cluster wants them.
 *
 * L1 `form` settles to which cluster the folder belongs, before its stores are opened. `open` makes the node one that serves.
 * L2 A node serves only when most of the nodes that are named hold its stores: a change that a founder alone acknowledged could be lost
 *    with one disk.
 * L3 A member that comes back waits for nobody: it answers what it can alone at once, and is ready when its stores are led.
 */
import type { Clock } from '../../namespace/clock.ts'
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError, textOf } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import type { Random } from '../../namespace/random.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Inbound } from '../../raft/index.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import { prepareFolder } from '../../storage/engine/folder.ts'
import { lockFolder } from '../../storage/engine/lock.ts'
import type { MemberOptions } from '../../storage/replica/member.ts'
import type { ListenAddress } from '../node/address.ts'
import type { PeerService, PeerTls, Chunks, Snapshots } from '../peer/ports.ts'
import { startPeer } from '../peer/service.ts'
import { decode, joinQuestion, joinVerb, whoQuestion, whoVerb } from './calls.ts'
import type { JoinAnswer, WhoAnswer } from './calls.ts'
import { nameOfMember, newMemberId, writeClusterFile } from './cluster-file.ts'
import type { ClusterFile } from './cluster-file.ts'
import { engineStores } from './engine-stores.ts'
import { belong, checkFolder, folderState, makeGroups } from './joining.ts'
import type { Joined } from './joining.ts'
import { ClusterLog } from './cluster-log.ts'
import type { Logger } from './cluster-log.ts'
import { handOver } from './hand-over.ts'
import { Leadership } from './leadership.ts'
import { isOperation, Operations } from './operations.ts'
import { ownPeer } from './peer-list.ts'
import type { Peer } from './peer-list.ts'
import type { ClusterStores, GroupControl } from './ports.ts'
import { awaitOpen, awaitReady } from './readiness.ts'
import { Reconciler } from './reconciler.ts'
import { removedMessage } from './formation.ts'
import { makeRecovered } from './recovery.ts'
import { isInAny, watchRemoval } from './removal.ts'
import { goalOf, livesOf, Roster } from './roster.ts'
import { RosterView } from './roster-view.ts'
import { StoreRegistry } from './stores.ts'

export interface ClusterOptions {
  readonly data: string
  readonly name: string
  /** Who owns the node, and what all nodes know: the owner's token. Called with the folder prepared and locked. */
  readonly identify: () => Promise<Identified>
  /** A founder writes into the cluster's store `sys` what its folder had alone. May be done again. */
  readonly bring?: ((sys: FileServer, context: () => Context) => Promise<void>) | undefined
  /** Of the program. */
  readonly version: string
  readonly peers: readonly Peer[]
  /** Where peers reach this node; default: its address among the peers. */
  readonly listen: ListenAddress
  /** By address of a peer: where this node connects instead. */
  readonly via: ReadonlyMap<string, string>
  readonly tls: PeerTls | undefined
  readonly clock: Clock
  readonly random: Random
  /** What the node waits for; each time it changes. */
  readonly waiting: (text: string) => void
  readonly logger: Logger
}

export interface Identified {
  readonly owner: Principal
  readonly secret: string
}

/** Answers a question that another node asks all. */
export type AnswerNode = (body: Uint8Array, deadline: number) => Promise<Uint8Array>

/** Stores that every node has. */
export const baseStores = ['data', 'usr', 'sys'] as const
/** For what the node itself asks of the cluster. */
const own_ms = 10_000

/** What exists once the stores are open. */
interface Opened {
  readonly engine: Engine
  readonly stores: ClusterStores
  readonly roster: Roster
  readonly view: RosterView
  readonly registry: StoreRegistry
  readonly reconciler: Reconciler
  readonly operations: Operations
  readonly leadership: Leadership
}

export class Cluster {
  readonly member: string
  readonly peer: PeerService
  /** Resolves when the node has to end by itself: it was removed, or its folder is an old copy. */
  readonly ended: Promise<NineError>
  readonly #options: ClusterOptions
  readonly #log: ClusterLog
  readonly #owner: Principal
  readonly #life: number
  readonly #stop = new AbortController()
  #joined: Joined | undefined
  #opened: Opened | undefined
  #isServing = false
  readonly #answers = new Map<string, AnswerNode>()
  #end: (reason: NineError) => void = () => undefined

  /** L1. Listens for peers, and settles when the folder belongs to a cluster. @throws NineError what a person has to put right */
  static async form(options: ClusterOptions, signal: AbortSignal): Promise<Cluster> {
    const { data, name } = options
    prepareFolder(data)
    const lock = await lockFolder(data)
    let cluster: Cluster | undefined
    try {
      const file = checkFolder(data, name)
      cluster = await Cluster.#listen(options, await options.identify(), file?.member ?? newMemberId(name, options.random))
      await Promise.race([cluster.#belong(signal), stopped(signal)])
      return cluster
    } catch (error) {
      await cluster?.peer.close()
      throw error
    } finally {
      await lock.release()
    }
  }

  static async #listen(options: ClusterOptions, { owner, secret }: Identified, member: string): Promise<Cluster> {
    const { peers, name, listen, via, tls, clock, random, logger } = options
    const log = new ClusterLog(logger, () => clock.monotonic())
    // What comes in may come before the peer service is had here.
    const late: { cluster?: Cluster } = {}
    const known = (): Cluster => {
      if (late.cluster === undefined) throw unavailable('this node is starting')
      return late.cluster
    }
    const peer = await startPeer({
      listen,
      via,
      tls,
      secret,
      cluster: '',
      self: member,
      address: ownPeer(peers, name).address,
      addressOf: (id) => late.cluster?.addressOf(id),
      inbound: {
        receive: (from, item) => late.cluster?.inbound?.receive(from, item),
        peerLost: (lost, gone) => late.cluster?.inbound?.peerLost(lost, gone),
      },
      onCall: async (_from, verb, body) => known().#answerCall(verb, body),
      onRequest: async (_from, group, verb, body, deadline) => known().#answer(group, verb, body, deadline),
      snapshots: {
        open: async (group, message) => known().#snapshots().open(group, message),
        receive: async (group, transfer, from) => known().#snapshots().receive(group, transfer, from),
      },
      chunks: {
        get: async (hash) => known().#chunks().get(hash),
        put: async (bytes, hash) => known().#chunks().put(bytes, hash),
        touch: async (hash) => known().#chunks().touch(hash),
      },
      clock,
      random: () => random.fraction(),
      log: (event) => log.peer(event),
    })
    return (late.cluster = new Cluster(options, log, owner, member, peer))
  }

  private constructor(options: ClusterOptions, log: ClusterLog, owner: Principal, member: string, peer: PeerService) {
    this.#options = options
    this.#log = log
    this.#owner = owner
    this.member = member
    this.peer = peer
    this.#life = options.clock.now()
    this.ended = new Promise((resolve) => (this.#end = resolve))
  }

  /** With what the engine opens the folder. */
  get engineMember(): MemberOptions {
    return { id: this.member, life: this.#life, peers: this.peer, isSurvivor: this.#joined?.file.stage === 'recovering', ended: this.#end }
  }

  /** Where what peers say goes once the stores are open. */
  get inbound(): Inbound | undefined {
    return this.#opened?.engine.member?.inbound
  }

  /** Id of the cluster. */
  get id(): string {
    return this.#joined!.file.cluster
  }

  get name(): string {
    return this.#options.name
  }

  get operations(): Operations {
    return this.#parts().operations
  }

  /** Where a member listens: by its node's name, of `--peers`, else as the cluster knows it. */
  addressOf(member: string): string | undefined {
    const name = nameOfMember(member)
    const peer = this.#options.peers.find((known) => known.name === name)
    return peer?.address ?? this.#opened?.view.members.names.get(name)?.value.address
  }

  /** For the node's log: what failed and is tried again. */
  retried(what: string, error: unknown): void {
    this.#log.retried(what, error)
  }

  /** Why changes and linearizable reads of one of these stores are refused on this node, for longer than an election takes. */
  trouble(names: readonly string[]): string | undefined {
    return this.#parts().leadership.trouble(names)
  }

  /**
   * The stores of this node take part from now on; settles when it may let clients in (L2, L3), and `ready` when it can serve all that they ask.
   * @throws NineError, as `ready`: `unavailable` when the signal aborts, `denied` when it was removed, `corrupt`: its folder is an old copy
   */
  async open(engine: Engine, signal?: AbortSignal): Promise<{ readonly ready: Promise<void> }> {
    const { data, clock, random } = this.#options
    await this.#outlive(engine, signal)
    const { file, rows } = this.#joined!
    const isBack = file.stage === 'member'
    const stores = engineStores(engine)
    if (file.stage === 'founding') await this.#makeBaseStores(engine)
    for (const row of rows) await stores.adopt(row)
    if (file.stage === 'joining') this.#note({ ...file, stage: 'member' })
    const sys = stores.store('sys')
    const context = (): Context => this.#context()
    const warn = (error: unknown): void => this.#log.retried('upkeep of the cluster failed', error)
    const roster = new Roster(sys, context, () => clock.now())
    const view = new RosterView({ sys, roster, context, warn, changed: () => this.#forgetRemoved() })
    const voters = (): readonly string[] => stores.group('sys').status().configuration.voters
    const registry = new StoreRegistry({ sys, context, stores, id: () => random.id(), voters, warn })
    const reconciler = new Reconciler({
      groups: () => groupsOf(stores),
      generation: () => view.generation,
      sys: stores.group('sys').id,
      member: this.member,
      wanted: async () => goalOf(await roster.load()),
      isFilled: (group, id) => this.#isFilled(group, id),
      note: (group, changes, error) => {
        const store = [...stores.names()].find((name) => stores.group(name).id === group)!
        const fields = { changes: changes.map((change) => `${change.do} ${change.id}`) }
        if (error === undefined) this.#log.store('info', store, fields, 'members of stores changed')
        else this.#log.store('warn', store, { ...fields, reason: textOf(error) }, 'members of stores could not be changed')
      },
    })
    const { name, member, peer } = this
    const parts = { cluster: file.cluster, name, member, version: this.#options.version, stores, roster, view, peer }
    const operations = new Operations({ ...parts, addressOf: (id) => this.addressOf(id), waiting: (group) => reconciler.waiting(group) })
    const leadership = new Leadership({ stores, log: this.#log })
    this.#opened = { engine, stores, roster, view, registry, reconciler, operations, leadership }
    this.peer.enter(file.cluster)
    if (file.stage === 'founding') await this.#noteFounded(file, data)
    view.start()
    registry.start()
    reconciler.start()
    leadership.start()
    this.#isServing = true
    const self = { name: this.name, member: this.member, cluster: file.cluster }
    const removal = {
      ...self,
      caller: this.peer,
      group: stores.group('sys'),
      groups: () => groupsOf(stores),
      isRecorded: () => view.members.removed.has(this.member),
      peers: () => this.#nodes(),
      removed: (by: string, successor?: string) => this.#removed(by, successor),
      looked: () => this.#forgetRemoved(),
    }
    void watchRemoval(removal, this.#stop.signal)
    const { waiting } = this.#options
    const readiness = { member: this.member, stores, names: baseStores, view, peer: this.peer, peers: () => this.#nodes(), waiting }
    const stop = AbortSignal.any([this.#stop.signal, ...(signal === undefined ? [] : [signal])])
    const until = async (reached: Promise<void>): Promise<void> => {
      const removed = await Promise.race([reached, this.ended])
      if (removed !== undefined) throw removed
      if (stop.aborted) throw unavailable('the node was told to stop')
    }
    const ready = until(awaitReady(readiness, stop))
    ready.catch(() => undefined)
    if (isBack)
      await until(awaitOpen(readiness, stop)) // L3
    else await ready
    return { ready }
  }

  /** The store of this name, made when the cluster has none. @throws NineError */
  storeFor(name: string, owner: string): Promise<FileServer> {
    return this.#parts().registry.open(name, owner)
  }

  /** How this node answers what another asks all with `askAll`. */
  onAsked(verb: string, answer: AnswerNode): void {
    this.#answers.set(verb, answer)
  }

  /** Ask every other member; names of those that did not answer within `ms`. */
  async askAll(verb: string, body: Uint8Array, ms: number): Promise<readonly string[]> {
    const { view, stores } = this.#parts()
    const deadline = this.#options.clock.monotonic() + ms
    const others = [...view.members.members.keys()].filter((id) => id !== this.member)
    const asked = others.map(async (id) =>
      this.peer.request(id, stores.group('sys').id, verb, body, { deadline }).then(
        () => [],
        () => [nameOfMember(id)],
      ),
    )
    return (await Promise.all(asked)).flat()
  }

  /** Let others lead what this node leads, as far as they can take it over in time; what comes meanwhile is served. */
  async handOver(): Promise<void> {
    const { stores, operations } = this.#opened ?? {}
    if (stores === undefined || operations === undefined) return
    operations.isEnding = true
    const isReachable = (member: string): boolean => this.peer.isReachable(member)
    await handOver(groupsOf(stores), { isReachable, isStaying: (member, signal) => operations.isStaying(member, signal) })
  }

  /** Change nothing more. The stores are closed afterwards, and then the peer service. */
  async close(): Promise<void> {
    this.#stop.abort()
    this.#isServing = false
    const { view, registry, reconciler, leadership } = this.#opened ?? {}
    leadership?.close()
    await Promise.all([view?.close(), registry?.close(), reconciler?.close()])
  }

  async #belong(signal: AbortSignal): Promise<void> {
    const { data, name, peers, random, waiting } = this.#options
    const { address } = ownPeer(peers, name)
    const options = { data, name, owner: this.#owner.name, peers, member: this.member, address, random, caller: this.peer, waiting }
    this.#joined = await belong(options, signal)
    const { file } = this.#joined
    if (file.stage === 'founding') makeGroups(data, file)
    else if (file.stage === 'recovering') makeRecovered(data, file, random)
  }

  /** V2 of recovery.ts */
  async #outlive(engine: Engine, signal?: AbortSignal): Promise<void> {
    const { file } = this.#joined!
    if (file.stage !== 'recovering') return
    this.#options.waiting('waiting until all of the log is applied')
    await engine.member!.outlive(() => engine.save(), signal)
    this.#note({ ...file, stage: 'founding' })
    this.#options.logger.info({ cluster: file.cluster }, 'goes on as the first node of a new cluster, with what it had of the one before')
  }

  #note(file: ClusterFile): void {
    writeClusterFile(this.#options.data, file)
    this.#joined = { ...this.#joined!, file }
  }

  /** A founder's groups begin with itself as the one voter. */
  async #makeBaseStores(engine: Engine): Promise<void> {
    const { random } = this.#options
    for (const name of baseStores) {
      if (engine.hasStore(name)) continue
      const group = 1 + Math.max(0, ...engine.rows().map((row) => row.group))
      await engine.openStore({ group, name, id: random.id(), incarnation: random.id(), owner: this.#owner.name, voters: [this.member] })
    }
  }

  /** With the signal: a close does not wait out what only a majority could answer. */
  #context(): Context {
    return { ...contextFor(this.#owner, own_ms), signal: this.#stop.signal }
  }

  /** What a founder notes in its cluster before others may join. */
  async #noteFounded(file: ClusterFile, data: string): Promise<void> {
    const { roster, registry, engine } = this.#parts()
    const { peers, name, bring } = this.#options
    await roster.found({ name, member: this.member, address: ownPeer(peers, name).address }, peers)
    await bring?.(engine.store('sys'), () => this.#context())
    await registry.found(engine.rows().map((row) => ({ ...row, voters: [...(row.voters ?? [this.member])] })))
    this.#note({ ...file, stage: 'member' })
    this.#options.logger.info({ cluster: file.cluster, data }, 'founded a cluster')
  }

  async #answerCall(verb: string, body: Uint8Array): Promise<Uint8Array> {
    if (verb === whoVerb) return encode(this.#who(decode(whoQuestion, body, 'the question').member))
    if (verb === joinVerb) return encode(await this.#join(body))
    throw new NineError({ kind: 'unsupported', op: 'cluster.call', message: `this node does not know the call ${verb}` })
  }

  #who(asker: string): WhoAnswer {
    const { name, version, peers, data } = this.#options
    return {
      name,
      owner: this.#owner.name,
      version,
      peers: peers.map((peer) => ({ ...peer })),
      folder: folderState(data),
      isServing: this.#isServing,
      isRemoved: this.#isGone(asker),
      successor: this.#successorOf(asker),
    }
  }

  async #join(body: Uint8Array): Promise<JoinAnswer> {
    if (!this.#isServing) throw unavailable('this node does not serve its cluster yet')
    const { roster, registry } = this.#parts()
    await roster.admit(decode(joinQuestion, body, 'the question'))
    return { cluster: this.id, stores: (await registry.rows()).map((row) => ({ ...row, voters: [...row.voters] })) }
  }

  async #answer(group: number, verb: string, body: Uint8Array, deadline: number): Promise<Uint8Array> {
    const { engine, operations } = this.#parts()
    const asked = this.#answers.get(verb)
    if (asked !== undefined) return asked(body, deadline)
    if (isOperation(verb)) return operations.answer(group, verb, body)
    return engine.member!.answer(group, verb, body, deadline)
  }

  /** False where it cannot be asked: then it is asked again. */
  async #isFilled(group: number, member: string): Promise<boolean> {
    const deadline = this.#options.clock.monotonic() + limits.cluster_ask_ms_max
    const nothing = new Uint8Array(0)
    const own = member === this.member ? this.#parts().engine.member : undefined
    const answering = own?.answer(group, 'filled', nothing, deadline) ?? this.peer.request(member, group, 'filled', nothing, { deadline })
    const answer = await answering.catch(() => undefined)
    return answer?.[0] === 1
  }

  /** Removed, and no group as this node knows it needs it any more. Q1 of removal.ts */
  #isGone(member: string): boolean {
    const { view, stores } = this.#opened ?? {}
    return view?.members.removed.has(member) === true && !isInAny(groupsOf(stores!), member)
  }

  #successorOf(member: string): string | undefined {
    const { members, removed } = this.#opened?.view.members ?? {}
    return removed?.has(member) === true ? livesOf(nameOfMember(member), members!)[0] : undefined
  }

  #forgetRemoved(): void {
    for (const id of this.#opened!.view.members.removed.keys()) if (this.#isGone(id)) this.peer.forget(id)
  }

  /** As named to this node, then as the cluster knows them: one may stand there twice, at two addresses. */
  #nodes(): readonly Peer[] {
    const { names } = this.#parts().view.members
    return [...this.#options.peers, ...[...names].map(([name, { value }]) => ({ name, address: value.address }))]
  }

  #removed(by: string, successor = this.#successorOf(this.member)): void {
    const message = removedMessage(this.member, `cluster ${this.id}, says ${by}`, successor)
    this.#end(new NineError({ kind: 'denied', op: 'cluster.member', message }))
  }

  #engine(): Engine {
    return this.#parts().engine
  }

  /** On this node's disk alone: asking on for what it lacks would ask whoever asks it. */
  #chunks(): Chunks {
    return this.#engine().member!.chunks
  }

  #snapshots(): Snapshots {
    return this.#engine().member!.transfers
  }

  #parts(): Opened {
    if (this.#opened === undefined) throw unavailable('the stores of this node are not open yet')
    return this.#opened
  }
}

function encode(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}

/** Rejects when the signal aborts. */
function stopped(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const stop = (): void => reject(unavailable('the node was told to stop'))
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
}

function unavailable(message: string): NineError {
  return new NineError({ kind: 'unavailable', op: 'cluster.answer', message })
}

function groupsOf(stores: ClusterStores): GroupControl[] {
  return [...stores.names()].map((name) => stores.group(name))
}
