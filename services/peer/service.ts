/**
 * The service between the nodes of a cluster: Raft's transport, requests, snapshots and chunks. It joins the parts; what each
 * promises stands there.
 *
 * P1 Of one member at most one stream of a kind is heard: a newer one closes the older before anything of it is given on.
 * P2 A peer counts as gone when nobody listens at its address and no stream of it is open; told once until it is back.
 */
import { systemClock } from '../../namespace/clock.ts'
import { NineError, toNineError } from '../../namespace/errors.ts'
import { systemRandom } from '../../namespace/random.ts'
import type { ChunkHash } from '../../storage/blob/store.ts'
import type { GroupId, PeerItem } from '../../raft/driver/ports.ts'
import type { Install, NodeId } from '../../raft/model.ts'
import { isLoopback } from '../node/address.ts'
import { fetchChunk, pushChunks, serveChunk } from './chunks.ts'
import type { Ask } from './chunks.ts'
import { versions } from './hello.ts'
import type { Incoming } from './incoming.ts'
import { peerLimits } from './limits.ts'
import { Link } from './link.ts'
import type { LinkEvents } from './link.ts'
import { Listener } from './listener.ts'
import { Outgoing } from './outgoing.ts'
import type { Own } from './own.ts'
import type { PeerEvent, PeerOptions, PeerService, PeersStatus, PushedChunk, RequestOptions } from './ports.ts'
import { SnapshotReceiver, SnapshotSender } from './snapshots.ts'

/** @throws NineError `invalid` for an address or options that are unsafe, `unavailable` when the address cannot be had */
export async function startPeer(options: PeerOptions): Promise<PeerService> {
  const { listen, tls, secret } = options
  if (tls === undefined && !isLoopback(listen.host)) {
    const message = `peers at ${listen.host} are beyond loopback: listening there needs TLS with an authority, a certificate and a key`
    throw new NineError({ kind: 'invalid', op: 'peer.listen', message })
  }
  if (tls === undefined && (secret === undefined || secret === '')) {
    throw new NineError({
      kind: 'invalid',
      op: 'peer.listen',
      message: 'without TLS peers need a token that all nodes of the cluster know',
    })
  }
  const peers = new Peers(options)
  await peers.listen()
  return peers
}

const logged_max = 1024

class Peers implements PeerService {
  readonly #options: PeerOptions
  readonly #own: Own
  readonly #listener: Listener
  readonly #links = new Map<NodeId, Link>()
  readonly #bulk = new Map<NodeId, Link>()
  /** Open streams of others, by kind and member. P1 */
  readonly #heard = new Map<string, Incoming>()
  readonly #gone = new Set<NodeId>()
  /** Members that left: a link to one is kept up only while something is sent. */
  readonly #forgotten = new Set<NodeId>()
  readonly #calls = new Set<Outgoing>()
  readonly #sender: SnapshotSender
  readonly #receiver: SnapshotReceiver
  readonly #logged = new Map<string, string>()
  readonly #counts = { refused: 0, garbage: 0, crowded: 0 }
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: PeerOptions) {
    this.#options = options
    this.#own = {
      member: options.self,
      cluster: options.cluster,
      address: options.address ?? '',
      secret: options.secret === '' ? undefined : options.secret,
      tls: options.tls,
      via: options.via ?? new Map(),
      versions: options.versions ?? versions,
      features: options.features ?? [],
      limits: peerLimits(options.limits),
      clock: options.clock ?? systemClock,
      random: () => (options.random === undefined ? systemRandom.fraction() : options.random()),
    }
    this.#listener = new Listener(this.#own, {
      opened: (incoming) => this.#opened(incoming),
      item: ({ hello }, item) => options.inbound.receive(hello!.from, item),
      request: (incoming, group, verb, body, deadline) => this.#serve(incoming, group, verb, body, deadline),
      ended: (incoming, why, error) => this.#incomingEnded(incoming, why, error),
      dropped: (where, why, message) => this.#dropped(where, why, message),
    })
    this.#sender = new SnapshotSender(this.#own, this.#askBulk({}), options.snapshots, (peer, error) =>
      this.#log({ event: 'fault', peer, error: toNineError(error, 'peer.snapshot') }),
    )
    this.#receiver = new SnapshotReceiver(this.#own, options.snapshots, (from, group, message) =>
      options.inbound.receive(from, { kind: 'raft', group, message }),
    )
  }

  get address(): string {
    return this.#listener.address
  }

  async listen(): Promise<void> {
    const { host, port } = this.#options.listen
    await this.#listener.listen(host, port)
    if (this.#own.address === '') this.#own.address = this.#listener.address
    this.#timer = setInterval(() => this.#tick(), this.#own.limits.peer_tick_ms)
    this.#timer.unref()
  }

  enter(cluster: string): void {
    this.#own.cluster = cluster
  }

  send(to: NodeId, item: PeerItem): void {
    if (!this.#isClosed) this.#linkOf(this.#links, to).send(item)
  }

  flush(): void {
    for (const link of this.#links.values()) link.flush()
  }

  sendSnapshot(group: GroupId, message: Install): Promise<boolean> {
    return this.#isClosed ? Promise.resolve(false) : this.#sender.send(group, message)
  }

  request(to: NodeId, group: GroupId, verb: string, body: Uint8Array, options: RequestOptions = {}): Promise<Uint8Array> {
    if (this.#isClosed) return Promise.reject(closed())
    return this.#linkOf(this.#links, to).request(group, verb, body, options)
  }

  call(address: string, verb: string, body: Uint8Array, options: RequestOptions = {}): Promise<Uint8Array> {
    if (this.#isClosed) return Promise.reject(closed())
    return new Promise((resolve, reject) => {
      const connection: Outgoing = new Outgoing(this.#own, address, '', 'call', {
        opened: () => {
          const answered = connection.request(0, verb, body, options)
          answered.then(resolve, reject)
          const done = (): void => connection.end(new NineError({ kind: 'unavailable', op: 'peer.call', message: 'the call is over' }))
          answered.then(done, done)
        },
        ended: (error) => {
          this.#calls.delete(connection)
          reject(error)
        },
      })
      this.#calls.add(connection)
    })
  }

  pushChunks(to: NodeId, chunks: readonly PushedChunk[], options: RequestOptions = {}): Promise<void> {
    return pushChunks(this.#askBulk(options), this.#options.chunks, to, chunks, this.#own.limits.peer_bulk_window)
  }

  fetchChunk(hash: ChunkHash, members: readonly NodeId[], options: RequestOptions = {}): Promise<Uint8Array> {
    return fetchChunk(this.#askBulk(options), hash, members, options)
  }

  isReachable(member: NodeId): boolean {
    return this.#links.get(member)?.state === 'open' && this.#isHeard(member)
  }

  forget(member: NodeId): void {
    for (const links of [this.#links, this.#bulk]) {
      const link = links.get(member)
      links.delete(member)
      link?.close(`${member} is no member any more`)
    }
    this.#gone.delete(member)
    this.#logged.delete(member)
    this.#forgotten.add(member)
  }

  status(): PeersStatus {
    const peers = [...this.#links.values()].map((link) => ({
      member: link.member,
      address: this.#options.addressOf(link.member),
      state: link.state,
      version: link.version,
      isHeard: this.#isHeard(link.member),
      waitingBytes: link.waitingBytes,
      droppedItems: link.droppedItems,
      connects: link.connects,
      lastError: link.lastError,
    }))
    const transfers = [...this.#sender.sending].map((sending) => ({ ...sending }))
    const { cluster, member } = this.#own
    return { address: this.address, cluster, member, peers, connections: this.#listener.connections, ...this.#counts, transfers }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    clearInterval(this.#timer)
    this.#sender.close()
    for (const link of [...this.#links.values(), ...this.#bulk.values()]) link.close(closed().message)
    for (const call of [...this.#calls]) call.end(closed())
    await this.#listener.close()
    await this.#receiver.close()
  }

  #tick(): void {
    const now = this.#own.clock.monotonic()
    for (const link of this.#links.values()) {
      link.tick(now)
      if (!this.#forgotten.has(link.member) || !link.isUnused(now)) continue
      this.#links.delete(link.member)
      link.close('nothing was sent to it')
    }
    for (const call of this.#calls) call.tick(now)
    for (const incoming of this.#heard.values()) incoming.tick()
    for (const link of this.#bulk.values()) {
      link.tick(now)
      if (!link.isIdle(now)) continue
      this.#bulk.delete(link.member)
      link.close('nobody used the connection')
    }
  }

  #linkOf(links: Map<NodeId, Link>, member: NodeId): Link {
    const known = links.get(member)
    if (known !== undefined) return known
    const kind = links === this.#bulk ? 'bulk' : 'items'
    const link = new Link(
      this.#own,
      member,
      kind,
      (id) => this.#options.addressOf(id),
      kind === 'bulk' ? this.#bulkEvents : this.#linkEvents,
    )
    links.set(member, link)
    return link
  }

  readonly #linkEvents: LinkEvents = {
    opened: ({ member }) => {
      this.#gone.delete(member)
      this.#log({ event: 'connected', peer: member })
    },
    ended: ({ member }, wasOpen, error, isNobody) => {
      if (this.#isClosed) return
      this.#log({ event: wasOpen ? 'lost' : 'unreachable', peer: member, error })
      if (wasOpen) this.#options.inbound.peerLost(member, false)
      if (!isNobody || this.#isHeard(member) || this.#gone.has(member)) return
      this.#gone.add(member) // P2
      this.#options.inbound.peerLost(member, true)
    },
    fault: ({ member }, error) => this.#log({ event: 'fault', peer: member, error }),
  }

  readonly #bulkEvents: LinkEvents = { opened: () => undefined, ended: () => undefined, fault: () => undefined }

  #askBulk(options: RequestOptions): Ask {
    return (to, verb, body) => {
      if (this.#isClosed) return Promise.reject(closed())
      return this.#linkOf(this.#bulk, to).request(0, verb, body, options)
    }
  }

  #isHeard(member: NodeId): boolean {
    return this.#heard.has(`items ${member}`)
  }

  #opened(incoming: Incoming): void {
    if (incoming.kind === 'call') return
    const key = `${incoming.kind} ${incoming.hello!.from}`
    const older = this.#heard.get(key)
    this.#heard.set(key, incoming)
    older?.close('a newer connection of the same member is open') // P1
    if (incoming.kind !== 'items') return
    this.#gone.delete(incoming.hello!.from)
    // Who reached us can most likely be reached.
    this.#links.get(incoming.hello!.from)?.hurry()
  }

  #serve(incoming: Incoming, group: GroupId, verb: string, body: Buffer, deadline: number): Promise<Uint8Array> {
    const { from, cluster, address } = incoming.hello!
    if (incoming.kind === 'items') return this.#options.onRequest(from, group, verb, body, deadline)
    if (incoming.kind === 'call') return this.#options.onCall({ member: from, cluster, address }, verb, body, deadline)
    if (verb.startsWith('chunk.')) return serveChunk(this.#options.chunks, verb, body)
    if (verb.startsWith('snapshot.')) return this.#receiver.serve(incoming, from, verb, body)
    return Promise.reject(new NineError({ kind: 'unsupported', op: 'peer.serve', message: `${verb} is nothing that Bulk has` }))
  }

  #incomingEnded(incoming: Incoming, why: 'ended' | 'refused' | 'garbage' | 'fault', error: NineError): void {
    if (incoming.hello !== undefined && incoming.isOpen) {
      const key = `${incoming.kind} ${incoming.hello.from}`
      if (this.#heard.get(key) === incoming) this.#heard.delete(key)
      if (incoming.kind === 'bulk') this.#receiver.ended(incoming)
    }
    if (why === 'ended') return
    if (why === 'refused') this.#counts.refused++
    if (why === 'garbage') this.#counts.garbage++
    this.#log({ event: why, peer: hostOf(incoming.peer), error })
  }

  #dropped(where: string, why: 'garbage' | 'silent' | 'crowded', message: string): void {
    if (why === 'crowded') this.#counts.crowded++
    else this.#counts.garbage++
    const kind = why === 'crowded' ? 'overloaded' : 'invalid'
    this.#log({ event: 'garbage', peer: hostOf(where), error: new NineError({ kind, op: 'peer.serve', message }) })
  }

  #log(event: PeerEvent): void {
    const text = `${event.event} ${event.error?.message ?? ''}`
    if (this.#logged.get(event.peer) === text) return
    if (this.#logged.size >= logged_max) this.#logged.clear()
    this.#logged.set(event.peer, text)
    this.#options.log?.(event)
  }
}

/** Without the port, which differs each time. */
function hostOf(where: string): string {
  return where.replace(/:\d+$/, '')
}

function closed(): NineError {
  return new NineError({ kind: 'unavailable', op: 'peer.request', message: 'the node is closing' })
}
