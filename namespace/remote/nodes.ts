/**
 * Nodes: the connections of one client with the nodes of one cluster. One of them is its home, on which everything is done that belongs
 * to a connection; to the others go changes and reads that any node can serve (routing.ts).
 *
 * P1 All are of one cluster, and take the client for the same principal: positions and numbers of mutations mean nothing elsewhere.
 * P2 One connection a node, all under the client's one identity.
 * P3 Who failed is tried again after a random part of a time that doubles (full jitter), and others are tried at once; so is the next
 *    when one does not answer soon.
 * P4 A node that knows no leader that it reaches for long, while another does, is left.
 * P5 What is shared is decided by the home's table, once that is what the session made it: a new home begins without the session's binds.
 */
import type { Clock } from '../clock.ts'
import { NineError, toNineError } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Path } from '../path.ts'
import type { Messages } from '../wire/operation.ts'
import type { ClientName, ClusterState, Welcome } from '../wire/session.ts'
import type { Opened, Router } from './link.ts'
import type { SessionPeer } from './peer.ts'
import { isReady, isStale, leaderOf, rootOf, routeKind } from './routing.ts'

export interface NodesOptions {
  readonly clock: Clock
  /** From 0 to 1. */
  readonly random: () => number
  /** `HOST:PORT` each, at least one. */
  readonly addresses: readonly string[]
  /** Changes and linearizable reads go to whoever leads. */
  readonly isFollowing: boolean
  /** The first that answers in the order given is the home; else any. */
  readonly isInOrder: boolean
  /** A session over a new connection. */
  readonly begin: (address: string, client: ClientName | undefined, events: NodeEvents) => Promise<Opened>
}

export interface NodeEvents {
  readonly onGoaway: () => void
  readonly onClosed: (error: NineError) => void
  readonly onCluster: (state: ClusterState) => void
}

/** What the home tells of its connection. */
export type HomeEvents = Pick<NodeEvents, 'onGoaway' | 'onClosed'>

export interface NodeStatus {
  readonly address: string
  /** What it calls itself; undefined until it was reached. */
  readonly node: string | undefined
  readonly state: 'open' | 'connecting' | 'closed'
  readonly isHome: boolean
  /** Paths of what it leads, as is known. */
  readonly leads: readonly string[]
  /** Requests that were sent there. */
  readonly requests: number
  /** Why a connection to it was last given up. */
  readonly left: string | undefined
  /** Why it could not be reached since. */
  readonly lastError: string | undefined
}

export interface NodesStatus {
  /** Id of the cluster; '' before there was a connection, or where the node does not say. */
  readonly cluster: string
  readonly nodes: readonly NodeStatus[]
}

interface Node {
  readonly address: string
  /** Whether it was given, not told by another node. */
  readonly isGiven: boolean
  name: string | undefined
  peer: SessionPeer | undefined
  welcome: Welcome | undefined
  state: ClusterState | undefined
  leaderlessSince: number
  dialling: Promise<void> | undefined
  failures: number
  retryAt: number
  requests: number
  left: NineError | undefined
  error: NineError | undefined
  /** Where it is the home. */
  home: HomeEvents | undefined
  /** The home's namespace is what it was elsewhere. */
  isRestored: boolean
}

/** A store that all nodes have at one path, and who serves it. */
interface Root {
  leader: Node | undefined
  readers: Node[]
}

const alone_tick_ms = 1_000
const tick_ms = 250
/** A tick so late says that this process stood still, not that nodes are silent. */
const late_ms = 1_000

export class Nodes implements Router {
  readonly #options: NodesOptions
  readonly #nodes: Node[] = []
  /** Draining: they answer what is under way. */
  readonly #leaving = new Set<SessionPeer>()
  #first: Welcome | undefined
  #paths: readonly Path[] = []
  #roots: Root[] = []
  #turn = 0
  #isSpreading = false
  #timer: NodeJS.Timeout | undefined
  #tickedAt = 0
  #isClosed = false

  constructor(options: NodesOptions) {
    this.#options = options
    for (const address of options.addresses) this.#nodes.push(newNode(address, true))
  }

  get #isMany(): boolean {
    return this.#options.addresses.length > 1
  }

  start(): void {
    this.#tickedAt = this.#options.clock.monotonic()
    this.#timer = setInterval(() => this.#tick(), this.#isMany ? tick_ms : alone_tick_ms)
    this.#timer.unref()
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#timer)
    for (const { peer } of this.#nodes) peer?.close()
    for (const peer of this.#leaving) peer.close()
  }

  get status(): NodesStatus {
    const nodes = this.#nodes.map(({ address, name, peer, dialling, home, requests, left, error }): NodeStatus => {
      const state = peer !== undefined ? 'open' : dialling !== undefined ? 'connecting' : 'closed'
      const leads = this.#paths.filter((_, index) => name !== undefined && this.#roots[index]!.leader?.name === name)
      return { address, node: name, state, isHome: home !== undefined, leads, requests, left: left?.message, lastError: error?.message }
    })
    return { cluster: this.#first?.cluster ?? '', nodes }
  }

  /** A connection to be the home: one there is, else the first to be had. @throws NineError why there is none */
  async openHome(events: HomeEvents): Promise<Opened> {
    const node = this.#readiest() ?? (await this.#race(this.#candidates()))
    node.home = events
    this.#arrange()
    const { peer, welcome } = node as { peer: SessionPeer; welcome: Welcome }
    return { peer, welcome }
  }

  /** Reach all nodes, for at most `ms`. @throws NineError `invalid` when one is of another cluster, or takes us for somebody else: P1 */
  async check(ms: number): Promise<void> {
    const others = this.#nodes.filter(({ peer }) => peer === undefined).map((node) => this.#dial(node))
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)))
    await Promise.race([Promise.allSettled(others), late])
    clearTimeout(timer)
    for (const { error } of this.#nodes) if (error?.kind === 'invalid') throw error
  }

  // Router

  peerFor({ type }: Messages<unknown, unknown>, args: unknown, avoid: SessionPeer | undefined): SessionPeer | undefined {
    const kind = routeKind(type)
    const index = kind === undefined || this.#paths.length === 0 ? -1 : rootOf(this.#paths, args)
    const { leader, readers } = this.#roots[index] ?? nowhere
    let node: Node | undefined
    if (kind === 'read' && isStale(args)) {
      if (!this.#isSpreading) this.#spread()
      node = readers[this.#turn++ % Math.max(1, readers.length)]
    } else if (this.#options.isFollowing) node = leader
    node ??= this.#nodes.find(({ home, peer }) => home !== undefined && peer !== undefined)
    if (avoid !== undefined && node?.peer === avoid) {
      const others = readers.filter(({ peer }) => peer !== avoid)
      node = others[this.#turn++ % Math.max(1, others.length)] ?? node
    }
    if (node !== undefined) node.requests++
    return index < 0 ? undefined : node?.peer
  }

  isShared(messages: Messages<unknown, unknown>, args: unknown): boolean {
    return this.sharedRoot(messages, args) !== undefined
  }

  /** Where the store stands that all paths of a request are in; undefined: not in one that all nodes have. */
  sharedRoot({ type }: Messages<unknown, unknown>, args: unknown): Path | undefined {
    return routeKind(type) === undefined ? undefined : this.#paths[rootOf(this.#paths, args)]
  }

  refused(peer: SessionPeer): void {
    const node = this.#nodes.find((one) => one.peer === peer)
    if (node !== undefined) this.#goaway(node, peer)
  }

  restored(peer: SessionPeer): void {
    const node = this.#nodes.find((one) => one.peer === peer)
    if (node === undefined) return
    node.isRestored = true
    this.#arrange()
  }

  failed(peer: SessionPeer, error: NineError): void {
    const node = this.#nodes.find((one) => one.peer === peer)
    if (node !== undefined) this.#gone(node, peer, error)
  }

  // Connections

  /** An open one that knows who leads, else any open one. */
  #readiest(): Node | undefined {
    const open = this.#nodes.filter(({ peer }) => peer !== undefined && peer.error === undefined)
    return open.find(({ state }) => state !== undefined && isReady(state)) ?? open[0]
  }

  /** In which order they are tried: the ones that failed last come last. */
  #candidates(): Node[] {
    const { isInOrder, random } = this.#options
    const start = isInOrder ? 0 : Math.floor(random() * this.#nodes.length)
    const turned = [...this.#nodes.slice(start), ...this.#nodes.slice(0, start)]
    return turned.sort((a, b) => a.failures - b.failures)
  }

  /** P3 */
  #race(candidates: readonly Node[]): Promise<Node> {
    return new Promise((resolve, reject) => {
      const errors: NineError[] = []
      let next = 0
      let isDone = false
      let timer: NodeJS.Timeout | undefined
      const done = (settle: () => void): void => {
        isDone = true
        clearTimeout(timer)
        settle()
      }
      const start = (): void => {
        clearTimeout(timer)
        const node = candidates[next++]
        if (isDone || node === undefined) return
        timer = setTimeout(start, limits.nodes_stagger_ms)
        this.#dial(node).then(
          () => {
            if (!isDone) done(() => resolve(node))
          },
          (error: unknown) => {
            errors.push(toNineError(error, 'remote.connect'))
            if (isDone) return
            if (errors.length === candidates.length) done(() => reject(allFailed(candidates, errors)))
            else start()
          },
        )
      }
      start()
    })
  }

  #dial(node: Node): Promise<void> {
    node.dialling ??= this.#connect(node).finally(() => (node.dialling = undefined))
    return node.dialling
  }

  async #connect(node: Node): Promise<void> {
    if (node.peer !== undefined) return
    const late: { peer?: SessionPeer; state?: ClusterState } = {}
    const events: NodeEvents = {
      onGoaway: () => this.#goaway(node, late.peer),
      onClosed: (error) => this.#gone(node, late.peer, error),
      onCluster: (state) => {
        if (node.peer === undefined) late.state = state
        else if (node.peer === late.peer) this.#told(node, state)
      },
    }
    try {
      const { peer, welcome } = await this.#options.begin(node.address, this.#first?.client, events)
      late.peer = peer
      try {
        this.#check(node, peer, welcome)
      } catch (error) {
        peer.close()
        throw error
      }
      this.#first ??= welcome
      Object.assign(node, { peer, welcome, name: welcome.name, error: undefined, failures: 0, state: undefined, leaderlessSince: Infinity })
      if (late.state !== undefined) this.#told(node, late.state)
      else this.#arrange()
    } catch (cause) {
      const error = toNineError(cause, 'remote.connect')
      this.#failedAt(node, error)
      throw error
    }
  }

  /** P1, P2 @throws NineError */
  #check(node: Node, peer: SessionPeer, welcome: Welcome): void {
    if (peer.error !== undefined) throw peer.error
    if (this.#isClosed) throw unavailable('the client was closed')
    const first = this.#first
    if (first === undefined || !this.#isMany) return
    const known = this.#nodes.find((one) => one.welcome !== undefined && one !== node)?.address ?? 'the others'
    if (welcome.cluster !== first.cluster || welcome.cluster === '') {
      throw foreign(`${node.address} is of ${clusterName(welcome)}, ${known} of ${clusterName(first)}: a client is one of one cluster`)
    }
    const { name } = welcome.principal
    if (name !== first.principal.name) {
      throw foreign(`${node.address} takes this token for ${name}, ${known} for ${first.principal.name}`)
    }
    // Two that were dialled at once before there was an identity: this one is dialled again with the other's.
    if (welcome.client.id !== first.client.id) throw unavailable('another node was there first')
    const twin = this.#nodes.find((one) => one !== node && one.peer !== undefined && one.name === welcome.name)
    if (twin === undefined) return
    if (!node.isGiven) this.#nodes.splice(this.#nodes.indexOf(node), 1)
    const message = `${node.address} is ${welcome.name}, which is connected as ${twin.address}`
    throw new NineError({ kind: 'unavailable', op: 'remote.connect', message, retryable: false })
  }

  #failedAt(node: Node, error: NineError): void {
    const span = Math.min(limits.reconnect_backoff_ms_min * 2 ** node.failures, limits.reconnect_backoff_ms_max)
    // What is refused now is refused again, until somebody changes something.
    const wait = error.retryable ? span * this.#options.random() : limits.nodes_refused_ms // P3
    node.error = error
    node.failures = Math.min(node.failures + 1, 16)
    node.retryAt = this.#options.clock.monotonic() + wait
  }

  /** It wants no new requests, and answers what is under way. */
  #goaway(node: Node, peer: SessionPeer | undefined): void {
    if (peer === undefined || node.peer !== peer) return
    this.#leaving.add(peer)
    const { home } = node
    this.#leave(node, unavailable('the node is shutting down'))
    home?.onGoaway()
  }

  #gone(node: Node, peer: SessionPeer | undefined, error: NineError): void {
    if (peer === undefined) return
    this.#leaving.delete(peer)
    if (node.peer !== peer) return
    const { home } = node
    this.#leave(node, error)
    home?.onClosed(error)
  }

  #leave(node: Node, error: NineError): void {
    node.peer = undefined
    node.state = undefined
    node.home = undefined
    node.isRestored = false
    node.left = error
    this.#failedAt(node, error)
    node.error = undefined
    this.#arrange()
  }

  #told(node: Node, state: ClusterState): void {
    const isLeaderless = !isReady(state)
    if (!isLeaderless) node.leaderlessSince = Infinity
    else if (node.leaderlessSince === Infinity) node.leaderlessSince = this.#options.clock.monotonic()
    node.state = state
    if (this.#options.isFollowing) this.#learn(state)
    this.#arrange()
  }

  /** Nodes that were not given. */
  #learn({ nodes }: ClusterState): void {
    for (const { name, address } of nodes) {
      const known = this.#nodes.find((node) => node.address === address || node.name === name)
      if (known === undefined && this.#nodes.length < limits.cluster_nodes_max) {
        const node = newNode(address, false)
        node.name = name
        this.#nodes.push(node)
      } else if (known !== undefined && known.peer === undefined && known.address === address) known.name = name
    }
  }

  /** Who serves what, from what all have told. */
  #arrange(): void {
    const home = this.#nodes.find(({ isRestored }) => isRestored)
    if (home?.state !== undefined) this.#paths = home.state.roots.map(({ path }) => path) // P5
    const open = this.#nodes.filter((node) => node.peer !== undefined && node.state !== undefined)
    const told = open.map((node) => node.state!)
    this.#roots = this.#paths.map((path) => {
      const serving = open.filter(({ state }) => state!.roots.some((root) => root.path === path))
      const leader = leaderOf(path, told)
      if (this.#options.isFollowing && leader !== '') this.#reach(leader)
      return {
        leader: serving.find(({ name }) => name === leader),
        readers: serving.filter(({ state }) => state!.roots.find((root) => root.path === path)!.leader !== ''),
      }
    })
  }

  /** Connect to the node of this name, in the background. Where its address is not known, to one whose name is not. */
  #reach(name: string): void {
    const found = this.#nodes.find((node) => node.name === name) ?? this.#nodes.find((node) => node.name === undefined)
    if (found !== undefined) this.#reachNode(found)
  }

  #reachNode(node: Node): void {
    if (this.#isClosed || node.peer !== undefined || node.dialling !== undefined) return
    if (node.retryAt > this.#options.clock.monotonic()) return
    this.#dial(node).catch(() => undefined)
  }

  #spread(): void {
    this.#isSpreading = true
    for (const node of this.#nodes) this.#reachNode(node)
  }

  #tick(): void {
    const now = this.#options.clock.monotonic()
    const isLate = this.#isMany && now - this.#tickedAt > tick_ms + late_ms
    this.#tickedAt = now
    if (isLate) return
    for (const { peer } of [...this.#nodes]) peer?.tick(now)
    for (const peer of [...this.#leaving]) peer.tick(now)
    if (!this.#isMany) return
    this.#leaveLeaderless(now)
    if (this.#isSpreading) this.#spread()
    else this.#arrange()
  }

  /** P4 */
  #leaveLeaderless(now: number): void {
    const lost = this.#nodes.filter(({ peer, leaderlessSince }) => peer !== undefined && now - leaderlessSince > limits.nodes_leaderless_ms)
    if (lost.length === 0) return
    const isSeen = this.#nodes.some(({ peer, state }) => peer !== undefined && state !== undefined && isReady(state))
    for (const node of isSeen ? lost : this.#nodes) {
      if (!isSeen) this.#reachNode(node)
      else if (node.peer !== undefined) {
        const { peer } = node
        this.#gone(node, peer, unavailable(`${node.address} knew no leader for ${limits.nodes_leaderless_ms} ms, and another node does`))
        peer.close()
      }
    }
  }
}

const nowhere: Root = { leader: undefined, readers: [] }

function newNode(address: string, isGiven: boolean): Node {
  return {
    address,
    isGiven,
    name: undefined,
    peer: undefined,
    welcome: undefined,
    state: undefined,
    leaderlessSince: Infinity,
    dialling: undefined,
    failures: 0,
    retryAt: 0,
    requests: 0,
    left: undefined,
    error: undefined,
    home: undefined,
    isRestored: false,
  }
}

function allFailed(candidates: readonly Node[], errors: readonly NineError[]): NineError {
  if (errors.length === 1) return errors[0]!
  const worst = errors.find(({ kind }) => kind === 'invalid') ?? errors.find(({ kind }) => kind === 'unauthenticated')
  const isAll = errors.every(({ kind }) => kind === worst?.kind)
  const message = `no node can be used: ${candidates.map(({ address, error }) => `${address}: ${error?.message ?? ''}`).join('; ')}`
  return new NineError({
    kind: isAll && worst !== undefined ? worst.kind : 'unavailable',
    op: 'remote.connect',
    message,
    cause: worst ?? errors[0],
  })
}

function clusterName({ cluster }: Welcome): string {
  return cluster === '' ? 'a cluster that it does not name' : `cluster ${cluster}`
}

function foreign(message: string): NineError {
  return new NineError({ kind: 'invalid', op: 'remote.connect', message })
}

function unavailable(message: string): NineError {
  return new NineError({ kind: 'unavailable', op: 'remote.connect', message })
}
