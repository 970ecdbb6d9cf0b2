/**
 * The 9P edge: any 9P client reads and writes any tree, over TCP and a Unix socket.
 *
 * E1 A connection says Tversion within limits.handshake_ms. After that it may be idle for as long as it likes, as mounts are.
 * E2 Connections are bounded; those past the bound are closed at once.
 * E3 A Unix socket is its owner's alone (mode 0600), from the moment it exists.
 */
import { chmod, lstat, stat, unlink } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { dirname } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { systemClock } from '../../namespace/clock.ts'
import type { Clock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Statfs } from '../../proto/ninep/messages.ts'
import type { AttachOptions } from './attach.ts'
import { ByteLocks } from './byte-locks.ts'
import { Connection } from './connection.ts'
import { ninepLimits } from './limits.ts'
import type { NinepLimits } from './limits.ts'
import { Qids } from './qids.ts'
import { Session } from './session.ts'

export type NinepAddress = { readonly host: string; readonly port: number } | { readonly socket: string }

/** One address to listen on. */
export interface NinepListener {
  readonly address: NinepAddress
  /** For TCP. */
  readonly tls?: { readonly key: Buffer; readonly cert: Buffer } | undefined
  /** Whoever connects acts as this principal without a token: for a Unix socket, and where the node was told so. */
  readonly trusted?: Principal | undefined
}

export interface NinepEdgeOptions extends AttachOptions {
  readonly listeners: readonly NinepListener[]
  /** A number for a new connection's handles: see Context.session. */
  nextSession(): number
  space(): Promise<Statfs>
  readonly clock?: Clock | undefined
  /** Other limits than those of namespace/limits.ts. */
  readonly limits?: Partial<NinepLimits> | undefined
  /** Told of connections that were cut. */
  log?(event: { readonly peer: string; readonly error: NineError }): void
}

export interface NinepEdge {
  /** `HOST:PORT`, or the path of a socket, in the order of the listeners. */
  readonly addresses: readonly string[]
  readonly connections: number
  /** Byte-range locks that clients have. */
  readonly locks: number
  /** Take no new requests, answer those under way for at most `graceMs`, then cut. What was written is published. */
  close(graceMs: number): Promise<void>
}

/** @throws NineError `unavailable` when an address cannot be had, `invalid` or `not_found` for the path of a socket */
export async function startNinepEdge(options: NinepEdgeOptions): Promise<NinepEdge> {
  const edge = new Edge(options)
  try {
    for (const listener of options.listeners) await edge.listen(listener)
  } catch (error) {
    await edge.close(0)
    throw error
  }
  return edge
}

const tick_ms = 1_000
/** The system's, less the NUL at its end: sun_path of sockaddr_un. */
const socket_path_bytes_max = process.platform === 'linux' ? 107 : 103

class Edge implements NinepEdge {
  readonly addresses: string[] = []
  readonly #options: NinepEdgeOptions
  readonly #clock: Clock
  readonly #servers: Server[] = []
  readonly #qids = new Qids()
  readonly #limits: NinepLimits
  readonly #locks: ByteLocks
  readonly #connections = new Map<Connection, { readonly since: number; readonly over: Promise<void> }>()
  readonly #timer: NodeJS.Timeout

  constructor(options: NinepEdgeOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#limits = ninepLimits(options.limits)
    this.#locks = new ByteLocks(this.#limits.ninep_locks_max)
    this.#timer = setInterval(() => this.#tick(), tick_ms)
    this.#timer.unref()
  }

  get connections(): number {
    return this.#connections.size
  }

  get locks(): number {
    return this.#locks.size
  }

  async listen({ address, tls, trusted }: NinepListener): Promise<void> {
    const onSocket = (socket: Socket): void => this.#connected(socket, trusted)
    // Half-open: a client may end its side and still wait for answers.
    const settings = { noDelay: true, keepAlive: true, allowHalfOpen: true }
    const server: Server =
      tls === undefined
        ? createServer(settings, onSocket)
        : createTlsServer({ ...settings, ...tls, handshakeTimeout: this.#limits.handshake_ms }, onSocket)
    server.maxConnections = this.#limits.connections_max // E2
    this.#servers.push(server) // Before it listens: what fails after that is closed too.
    if ('socket' in address) {
      await listenOnSocket(server, address.socket)
      this.addresses.push(address.socket)
    } else {
      await listenOn(server, { ...address, backlog: 1024 }, `${address.host}:${address.port}`)
      const bound = server.address() as AddressInfo
      this.addresses.push(`${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`)
    }
    // A connection that cannot be taken (no more file descriptors) is that client's failure alone.
    server.on('error', () => undefined)
  }

  async close(graceMs: number): Promise<void> {
    clearInterval(this.#timer)
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())))
    const over = [...this.#connections.values()].map((entry) => entry.over)
    for (const connection of this.#connections.keys()) connection.drain()
    const cut = setTimeout(() => {
      for (const connection of this.#connections.keys()) connection.end()
    }, graceMs)
    await Promise.all([...closed, ...over])
    clearTimeout(cut)
  }

  #connected(socket: Socket, trusted: Principal | undefined): void {
    const { address, port } = { address: socket.remoteAddress ?? 'unix', port: socket.remotePort ?? 0 }
    // E2: over all listeners.
    if (this.#connections.size >= this.#limits.connections_max) return void socket.destroy()
    const shared = {
      qids: this.#qids,
      locks: this.#locks,
      attach: this.#options,
      limits: this.#limits,
      space: () => this.#options.space(),
    }
    const session = new Session(shared, this.#options.nextSession(), trusted)
    let ended: () => void
    const over = new Promise<void>((resolve) => (ended = resolve))
    const connection: Connection = new Connection(socket, session, {
      clock: this.#clock,
      onClosed: (error) => {
        this.#connections.delete(connection)
        if (error !== undefined) this.#options.log?.({ peer: `${address}:${port}`, error })
        ended()
      },
    })
    this.#connections.set(connection, { since: this.#clock.monotonic(), over })
  }

  #tick(): void {
    const now = this.#clock.monotonic()
    for (const [connection, { since }] of this.#connections) {
      connection.tick(now)
      // E1
      if (!connection.isVersioned && now - since > this.#limits.handshake_ms) connection.end()
    }
  }
}

/** E3: by the umask, since a mode set afterwards would come too late for whoever is quick. Node binds a path before listen() returns. */
async function listenOnSocket(server: Server, path: string): Promise<void> {
  await checkSocketPath(path)
  await removeStaleSocket(path)
  const mask = process.umask(0o177)
  const listening = listenOn(server, { path }, path)
  process.umask(mask)
  await listening
  await chmod(path, 0o600)
}

/** What listen() would cut short without a word, or call a lack of permission. @throws NineError `invalid` (too long), `not_found` (no folder) */
async function checkSocketPath(path: string): Promise<void> {
  const op = '9p.listen'
  if (Buffer.byteLength(path) > socket_path_bytes_max) {
    const message = `the path of a Unix socket has at most ${socket_path_bytes_max} bytes: ${path}`
    throw new NineError({ kind: 'invalid', op, message })
  }
  const folder = await stat(dirname(path)).catch((error: NodeJS.ErrnoException) => error)
  if (!('code' in folder) || folder.code !== 'ENOENT') return
  throw new NineError({ kind: 'not_found', op, message: `cannot listen on ${path}: there is no folder ${dirname(path)}`, cause: folder })
}

function listenOn(server: Server, where: { path: string } | { host: string; port: number; backlog: number }, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException): void => {
      const why = cause.code === 'EADDRINUSE' ? 'another program listens there' : cause.message
      reject(new NineError({ kind: 'unavailable', op: '9p.listen', message: `cannot listen on ${what}: ${why}`, cause }))
    }
    server.once('error', onError)
    server.listen(where, () => {
      server.off('error', onError)
      resolve()
    })
  })
}

/** A socket that a node which was killed left behind; one that somebody listens on stays. @throws NineError `unavailable` */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined) return
  if (!found.isSocket()) throw new NineError({ kind: 'unavailable', op: '9p.listen', message: `${path} exists and is no socket` })
  const isLive = await new Promise<boolean>((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => (probe.destroy(), resolve(true)))
    probe.once('error', () => resolve(false))
  })
  if (isLive)
    throw new NineError({ kind: 'unavailable', op: '9p.listen', message: `cannot listen on ${path}: another program listens there` })
  await unlink(path)
}
