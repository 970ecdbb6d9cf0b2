/**
 * The node: the composition root. Everything is built here, with `new`, from the bottom up, and taken down in reverse.
 */
import { statfsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { userInfo } from 'node:os'
import { EmbeddedRegistry } from '../../discovery/embedded.ts'
import { systemClock } from '../../namespace/clock.ts'
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import type { Channel } from '../../namespace/mount-table.ts'
import { Namespace } from '../../namespace/namespace.ts'
import { joinName, parsePath } from '../../namespace/path.ts'
import { systemRandom } from '../../namespace/random.ts'
import type { Tell } from '../../namespace/remote/handshake.ts'
import type { Principal } from '../../namespace/rights.ts'
import { openEngine } from '../../storage/engine/engine.ts'
import type { StoreRow } from '../../storage/engine/folder.ts'
import { startGrpcEdge } from '../grpc/edge.ts'
import { checkFolder } from '../cluster/joining.ts'
import { ClientAddresses } from '../cluster/client-addresses.ts'
import { nameOfMember } from '../cluster/cluster-file.ts'
import { ownPeer } from '../cluster/peer-list.ts'
import { raftTree } from '../cluster/raft-tree.ts'
import { folders } from '../cluster/records.ts'
import { Restores } from '../cluster/restores.ts'
import { Identity, principalNameOf } from '../identity/identity.ts'
import { Catalog } from '../svc/catalog.ts'
import { Services } from '../svc/services.ts'
import { checkListen, parseAddress } from './address.ts'
import { Backups } from './backups.ts'
import { parseCluster } from './cluster-options.ts'
import type { ClusterFlags } from './cluster-options.ts'
import { clientAddress, ClusterNews, sharedRoots } from './cluster-news.ts'
import type { Leader } from './cluster-news.ts'
import { Controls } from './controls.ts'
import { identityDir } from './defaults.ts'
import { followServices } from './follow-services.ts'
import { formCluster, sharePrincipals } from './forming.ts'
import { Homes } from './homes.ts'
import { HttpDoor } from './http-door.ts'
import { failureFields, openLogger } from './logger.ts'
import { Metrics } from './metrics.ts'
import { addressesOf, parseNinep, startNinep } from './ninep.ts'
import { NodeSession } from './node-session.ts'
import { ObservedServer } from './observed.ts'
import { SharedSessions } from './shared-sessions.ts'
import type { SharedParts } from './shared-sessions.ts'
import { readPeerToken, Sources } from './sources.ts'
import { restorableStore } from './restorable.ts'
import { blobTree, sysTree } from './sys-tree.ts'
import { openTracing } from './tracing.ts'

export interface NodeOptions {
  /** Folder of the node's data, absolute; made when missing. */
  readonly data: string
  /** `HOST:PORT`; port 0 picks one. Beyond loopback only with TLS. */
  readonly http: string
  readonly grpc: string
  /** Where 9P is served, `HOST:PORT`; nowhere by default. */
  readonly ninep?: string | undefined
  /** Path of a Unix socket for 9P, made with mode 0600; who may open it is the owner. */
  readonly ninepUnix?: string | undefined
  /** What 9P over TCP asks of a client: a token (default), or nothing, which makes every local program the owner. */
  readonly ninepAuth?: 'token' | 'none' | undefined
  /** Name below /n. Default `local`. */
  readonly name?: string | undefined
  /** File of the owner's token. Default `DATA/identity/token`. */
  readonly tokenFile?: string | undefined
  /** Principal that owns a new folder. Default the user's name. */
  readonly owner?: string | undefined
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer } | undefined
  readonly corsOrigins?: readonly string[] | undefined
  readonly logLevel?: string | undefined
  readonly logFile?: string | undefined
  /** Be a node of a cluster, under the name given there. */
  readonly cluster?: ClusterFlags | undefined
  /** What a node of a cluster waits for while it starts; each time it changes. */
  readonly waiting?: ((text: string) => void) | undefined
  /** Ends the start of a node of a cluster, which may wait for others for long. */
  readonly signal?: AbortSignal | undefined
}

export interface RunningNode {
  /** What it listens on, `HOST:PORT`. */
  readonly http: string
  readonly grpc: string
  /** Where 9P is served, when asked for: `HOST:PORT`, and the absolute path of a socket. */
  readonly ninep: string | undefined
  readonly ninepUnix: string | undefined
  readonly isTls: boolean
  /** Absolute paths. */
  readonly tokenFile: string
  readonly data: string
  readonly owner: Principal
  /** Of a node of a cluster: its id, this member's, and where it listens for the others. */
  readonly cluster: { readonly id: string; readonly member: string; readonly address: string } | undefined
  /**
   * Settles when the node can do all that clients ask: a member that comes back lets them in before its cluster has a leader, for what it can
   * answer alone. @throws NineError as startNode
   */
  readonly ready: Promise<void>
  /** Resolves when the node cannot go on: its cluster has removed it, or its folder is an old copy. It is to be closed then. */
  readonly ended: Promise<NineError>
  /** Take no new work, finish what is under way, save. */
  close(): Promise<void>
}

const grace_ms = 5_000
/** Without which of its stores a node is not ready. */
const ownStores = ['data', 'usr', 'sys'] as const
/** For what the node itself asks. */
const own_ms = 10_000
/** Handles of HTTP requests belong to it; those of unary calls to the next; sessions count from 1. */
const httpSession = -1
const unarySession = -2
const { version } = createRequire(import.meta.url)('ninefold/package.json') as { version: string }

/**
 * Start a node. When it cannot start, what was begun is taken down again.
 * @throws NineError `invalid` (addresses, folder), `unavailable` (folder or address in use), and as openEngine
 */
export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const httpAddress = parseAddress(options.http, '--http')
  const grpcAddress = parseAddress(options.grpc, '--grpc')
  for (const [address, what] of [[httpAddress, '--http'], [grpcAddress, '--grpc']] as const) checkListen(address, what, options.tls !== undefined) // prettier-ignore
  const ninepAddresses = parseNinep(options)
  const flags = options.cluster === undefined ? undefined : parseCluster(options.cluster)
  const closers: (() => Promise<void> | void)[] = []
  const closeAll = async (): Promise<void> => {
    const failures: unknown[] = []
    for (const close of closers.splice(0).reverse()) {
      try {
        await close()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  }
  try {
    const logger = openLogger(options.logLevel ?? 'warn', options.logFile)
    closers.push(() => logger.flush())
    const warn = (error: unknown): void => logger.warn({ err: error }, 'clean-up failed')
    const name = flags?.name ?? options.name ?? 'local'
    const dir = identityDir(options.data)
    const ownerName = (await Identity.ownerNameOf(dir)) ?? principalNameOf(options.owner ?? userInfo().username)
    const isTokenShared = (flags?.peers.length ?? 1) > 1
    const openIdentity = (): Promise<Identity> => Identity.open({ dir, tokenFile: options.tokenFile, isTokenShared, ownerName })
    const metrics = new Metrics()
    const http = await HttpDoor.open({
      ...httpAddress,
      tls: options.tls,
      session: httpSession,
      metrics: () => metrics.text(),
      observe: ({ method, status, seconds }) => metrics.request(method, status, seconds),
      corsOrigins: options.corsOrigins ?? [],
      report: (error) => logger.error({ err: error }, 'a request failed'),
    })
    closers.push(() => http.close(0))
    const waiting = (text: string): void => {
      http.waiting = text
      options.waiting?.(text)
    }
    if (flags === undefined) checkFolder(options.data, undefined)
    const { data: folder, signal } = options
    const formed =
      flags === undefined ? undefined : await formCluster(flags, { data: folder, version, logger, openIdentity, waiting, signal })
    if (formed !== undefined) closers.push(() => formed.cluster.peer.close())
    const engine = await openEngine({ dir: options.data, owner: ownerName, logger, member: formed?.cluster.engineMember })
    closers.push(() => engine.close())
    const identity = formed?.identity ?? (await openIdentity())
    const { owner } = identity
    const cluster = formed?.cluster
    let opened: { readonly ready: Promise<void> } | undefined
    if (cluster !== undefined) {
      closers.push(() => cluster.close())
      opened = await cluster.open(engine, signal)
    }
    const tracing = await openTracing(process.env)
    if (tracing !== undefined) closers.push(() => tracing.close())

    const storeFor = async (store: string, storeOwner: string): Promise<FileServer> =>
      cluster !== undefined
        ? cluster.storeFor(store, storeOwner)
        : (engine.stores().find((found) => found.name === store) ?? engine.createStore(store, storeOwner))
    const data = await storeFor('data', owner.name)
    const usr = await storeFor('usr', owner.name)
    const sys = await storeFor('sys', owner.name)
    if (cluster !== undefined) {
      closers.push(() => identity.close())
      await sharePrincipals(cluster, identity, engine, (ms) => contextFor(owner, ms ?? own_ms), logger)
    }
    const registry = new EmbeddedRegistry(systemClock)
    closers.push(() => registry.close())
    const catalog = new Catalog(sys, () => contextFor(owner))
    const services = new Services({
      registry,
      catalog,
      storeFor: (service, serviceOwner) => storeFor(`svc.${service}`, serviceOwner),
      owner,
      node: name,
      instanceName: () => systemRandom.id(),
      warn,
    })
    closers.push(() => services.close())
    await services.load((service, error) => logger.warn({ service, err: error }, 'a record of a service is damaged and left out'))
    if (cluster !== undefined) {
      closers.push(followServices(catalog, services, (error) => cluster.retried('services of other nodes could not be followed', error)))
    }

    const sessions = new Map<number, NodeSession>()
    let lastSession = 0
    const upSince = new Date(systemClock.now() / 1000).toISOString()
    const backups = new Backups(engine)
    const restores = new Restores({
      sys,
      owner,
      chunks: engine.blobs,
      store: (store) => restorableStore(engine, store),
      peers: cluster === undefined ? undefined : { member: cluster.member, request: (...asked) => cluster.peer.request(...asked) },
      id: () => systemRandom.id(),
      clock: engine.clock,
      warn,
    })
    restores.start()
    closers.push(() => restores.close())
    const template = await composeRoot(contextFor(owner), name, {
      data,
      usr,
      svc: services.server,
      blob: blobTree(engine.blobs, owner),
      raft: raftTree({
        owner,
        name,
        version,
        operations: cluster?.operations,
        stores: () => engine.status().stores,
        failure: () => engine.status().failure,
        save: () => engine.save(),
        defrag: (progress) => engine.defrag(progress),
        backup: (store, call) => backups.stream(store, call),
        restores,
      }),
      sys: sysTree({ version, name, engine, services, identity, metrics, backups, upSince, sessions: () => sessions.size }),
      'sys/restore': { server: sys, path: folders.uploads },
    })
    const homes = new Homes(usr, owner, name)
    const endSessionsOf = (principal: string): void => {
      const reason = new NineError({ kind: 'unauthenticated', op: 'node.session', message: `the token of ${principal} has ended` })
      for (const session of [...sessions.values()]) if (session.principal.name === principal) void session.end(reason).catch(warn)
      shared.end(principal, reason)
      grpc.endSessionsOf(principal, reason)
    }
    const controls = new Controls(identity, engine)

    const addresses = new ClientAddresses({
      sys,
      context: () => contextFor(owner, own_ms),
      warn: (error) => cluster?.retried('addresses for clients could not be told or heard', error),
    })
    closers.push(() => addresses.close())
    const rowOf = (store: string): StoreRow => engine.rows().find((row) => row.name === store)!
    const leaderOf = (store: string): Leader => {
      const replica = engine.member?.replica(rowOf(store).group)
      return { name: nameOfMember(replica?.standing.leaderAtHand ?? ''), term: replica?.group.term ?? 0 }
    }
    const roots = sharedRoots({ data, usr }, leaderOf)
    const news = cluster === undefined ? undefined : new ClusterNews(roots, () => addresses.all)
    closers.push(() => news?.close())

    const sourcesOf = (principal: Principal): Sources => {
      const read = async (path: string): Promise<Uint8Array> => (await usr.read(contextFor(principal), parsePath(path))).bytes
      return new Sources(
        services,
        (address) => readPeerToken(read, `/${principal.name}`, address),
        principal.name,
        principal.name !== owner.name,
      )
    }
    const openSession = async (principal: Principal, id: number, { sources, ended }: SharedParts): Promise<NodeSession> => {
      await homes.prepare(principal)
      const namespace = template.fork()
      const context = contextFor(principal)
      const session = new NodeSession({
        namespace,
        server: new ObservedServer(namespace, metrics, tracing, ended.signal),
        principal,
        services,
        homes,
        controls,
        news,
        sources,
        ended,
        onClose: () => void sessions.delete(id),
      })
      // The token may have ended since it was seen; from here on whoever ends it finds the session.
      if (!identity.isCurrent(principal)) {
        throw new NineError({ kind: 'unauthenticated', op: 'node.session', message: `the token of ${principal.name} has ended` })
      }
      sessions.set(id, session)
      await session.begin(context, await homes.saved(principal))
      return session
    }

    const shared = new SharedSessions({
      saved: async (principal) => {
        await homes.prepare(principal)
        return homes.saved(principal)
      },
      parts: (principal) => ({ sources: sourcesOf(principal), ended: new AbortController() }),
      open: (principal, parts) => openSession(principal, ++lastSession, parts),
      warn,
    })
    closers.push(() => shared.close())

    let state: 'starting' | 'ready' | 'ending' = 'starting'
    metrics.gauge({ name: 'nine_sessions', help: 'Sessions open.', read: () => sessions.size })
    metrics.gauge({ name: 'nine_services', help: 'Services known.', read: () => services.count })
    const troubled = (): number => engine.status().stores.filter(({ trouble }) => trouble !== undefined).length
    const troubledHelp = 'Stores that this node cannot save, or cannot keep whole, for now: see trouble in their status.'
    metrics.gauge({ name: 'nine_stores_troubled', help: troubledHelp, read: troubled })
    metrics.gauge({ name: 'nine_disk_free_bytes', help: 'Room that is left for the data folder.', read: () => freeBytes(options.data) })
    metrics.gauge({ name: 'nine_wal_bytes', help: 'Bytes of the write-ahead log.', read: () => engine.status().wal.bytes })
    if (engine.member !== undefined) {
      const { member } = engine
      const help = {
        nine_raft_stores_led: 'Stores of the cluster that this node leads.',
        nine_raft_stores_leaderless: 'Stores without a known leader.',
        nine_raft_apply_behind: 'Entries agreed on and not applied here, of all stores.',
        nine_raft_terms: 'Terms of all stores, added up: each election adds at least one.',
      }
      metrics.gauges(help, () => {
        const { led, leaderless, behind, terms } = member.standing()
        return {
          nine_raft_stores_led: led,
          nine_raft_stores_leaderless: leaderless,
          nine_raft_apply_behind: behind,
          nine_raft_terms: terms,
        }
      })
    }
    metrics.gauge({ name: 'nine_proposals_waiting', help: 'Changes waiting for the log.', read: () => engine.status().waiting })

    const edges: { close(graceMs: number): Promise<void> }[] = []
    closers.push(async () => void (await Promise.all(edges.map((edge) => edge.close(grace_ms)))))
    const authenticate = (token: string | undefined): Principal => identity.authenticate(token)
    const namespaceOf = async (principal: Principal): Promise<FileServer> => (await shared.of(principal)).server
    edges.push(http)
    const grpc = await startGrpcEdge({
      ...grpcAddress,
      tls: options.tls,
      clock: engine.clock,
      name,
      cluster: cluster?.id ?? rowOf('data').id,
      authenticate,
      namespaceOf,
      session: unarySession,
      openSession: async (principal) => {
        const id = ++lastSession
        const session = await openSession(principal, id, { sources: sourcesOf(principal), ended: new AbortController() })
        const follow = (tell: Tell): void => session.follow(tell)
        return { server: session.server, control: session, session: id, follow, close: () => void session.close().catch(warn) }
      },
      log: ({ event, peer, error }) => logger.info({ peer, ...failureFields(error) }, `session ${event}`),
    })
    edges.push(grpc)
    identity.onEnded = endSessionsOf
    if (flags !== undefined) addresses.start({ name, address: clientAddress(grpc.address, ownPeer(flags.peers, name).address) })
    const ninep = await startNinep(ninepAddresses, options, {
      owner,
      authenticate,
      namespaceOf,
      nextSession: () => ++lastSession,
      clock: engine.clock,
      log: ({ peer, error }) => logger.info({ peer, ...failureFields(error) }, '9p connection cut'),
    })
    if (ninep !== undefined) edges.push(ninep)
    /** Without paths of this machine: whoever reaches the port may ask. */
    const failure = (): string | undefined =>
      engine.status().failure?.replaceAll(options.data, 'DATA') ??
      (state === 'starting' ? http.waiting : state === 'ending' ? 'the node is shutting down' : cluster?.trouble(ownStores))
    const isReady = (): boolean => state === 'ready' && engine.status().isWritable && cluster?.trouble(ownStores) === undefined
    http.serving = { authenticate, namespaceOf, isReady, failure }
    closers.push(async () => {
      state = 'ending'
      await cluster?.handOver()
    })
    const ready = (opened?.ready ?? Promise.resolve()).then(() => {
      if (state === 'ending') return
      state = 'ready'
      logger.info({ http: http.address, grpc: grpc.address, data: options.data }, 'up')
    })
    ready.catch(() => undefined)
    return {
      http: http.address,
      grpc: grpc.address,
      ...addressesOf(ninep),
      isTls: options.tls !== undefined,
      tokenFile: identity.tokenFile,
      data: options.data,
      owner,
      cluster: cluster === undefined ? undefined : { id: cluster.id, member: cluster.member, address: cluster.peer.address },
      ready,
      ended: cluster?.ended ?? new Promise(() => undefined),
      close: closeAll,
    }
  } catch (error) {
    await closeAll()
    throw error
  }
}

/** The tree every session begins with. The node's own tree stands in it once more, without /n, below /n/NAME. */
async function composeRoot(context: Context, name: string, trees: Record<string, FileServer | Channel>): Promise<Namespace> {
  const own = new Namespace()
  for (const [path, server] of Object.entries(trees)) await own.mount(context, server, parsePath(`/${path}`), { source: path })
  const root = own.fork()
  await root.mount(context, own, joinName(parsePath('/n'), name), { source: name })
  return root
}

/** NaN where the system does not say. */
function freeBytes(folder: string): number {
  try {
    const { bavail, bsize } = statfsSync(folder)
    return bavail * bsize
  } catch {
    return NaN
  }
}
