/**
 * connectRemote: what a program holds of a node, or of a cluster through its nodes: its namespace as a FileServer, session control, and
 * the services it offers there.
 *
 * N1 What makes the session what it is (its binds and mounts, the services it offers) is done again on every new connection, in
 *    the order it was first done, before anything else is asked.
 * N2 A client of several nodes is at home at one, and goes to another when that one is lost, leaves or cannot serve: see nodes.ts.
 */
import { systemClock } from '../clock.ts'
import type { Clock } from '../clock.ts'
import { contextFor } from '../context.ts'
import { isNineError, NineError } from '../errors.ts'
import type { FileServer } from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Principal } from '../rights.ts'
import {
  bindRequest,
  controlRequest,
  deregisterRequest,
  entriesRequest,
  forkRequest,
  mountRequest,
  registerRequest,
  unmountRequest,
} from '../wire/control.ts'
import type { BindRequest, RegisterRequest, UnmountRequest } from '../wire/control.ts'
import type { Messages } from '../wire/operation.ts'
import { dial, parseAddress } from './dial.ts'
import type { DialTls } from './dial.ts'
import { beginSession } from './handshake.ts'
import { Link } from './link.ts'
import { MonotonicCaller } from './monotonic.ts'
import { Nodes } from './nodes.ts'
import type { NodesStatus } from './nodes.ts'
import type { Patience, SessionPeer } from './peer.ts'
import { RemoteFileServer } from './remote-file-server.ts'

export interface ConnectOptions {
  /** `HOST:PORT` of the node's gRPC address, or of several nodes of one cluster. */
  readonly address: string | readonly string[]
  /** Of several: whether changes and linearizable reads go to the node that leads (default), or all to the one at hand. */
  readonly route?: 'leader' | 'any' | undefined
  /** Of several: the home is the first in this order that answers. Default: any. */
  readonly isInOrder?: boolean | undefined
  /** Of several: a stale read shows at least what this client has changed and been shown before. Default: what its node has. */
  readonly isMonotonic?: boolean | undefined
  /** What has a deadline waits until then for a node that is lost; else, and where this is not set, for limits.reconnect_ms_max. */
  readonly isPatient?: boolean | undefined
  /** Bearer token, or where to get it on each connection. */
  readonly token?: string | (() => string | Promise<string>) | undefined
  readonly tls?: DialTls | undefined
  /** Milliseconds that a node may take to open a connection, and then a session. Default limits.handshake_ms. */
  readonly openMs?: number | undefined
  /** How frames travel; default `tcp`. */
  readonly transport?: 'tcp' | 'grpc' | undefined
  /** For the node's logs; default `ninefold`. */
  readonly name?: string | undefined
  readonly clock?: Clock | undefined
  /** From 0 to 1, for the time between attempts. */
  readonly random?: (() => number) | undefined
}

export interface ServiceOffer {
  readonly service: string
  /** Default: the node chooses one. */
  readonly instance?: string | undefined
  readonly names: readonly string[]
  /** Text of the service's namespace file; default none. */
  readonly namespace?: string | undefined
}

/** A service that is offered until it is withdrawn, the client is closed or its process ends. */
export interface Offer {
  readonly instance: string
  withdraw(): Promise<void>
}

export interface RemoteSession {
  /** The session's namespace at the node. */
  readonly server: FileServer
  /** Who the node says we are. */
  readonly principal: Principal
  /** What the node calls itself. */
  readonly node: string
  /** Its connections. */
  status(): NodesStatus
  bind(request: BindRequest): Promise<void>
  mount(request: BindRequest): Promise<void>
  unmount(request: UnmountRequest): Promise<void>
  /** Lines of a namespace file that make the session's table again. */
  entries(): Promise<readonly string[]>
  /** Make the table this session's alone. */
  fork(): Promise<void>
  /** Serve `server` at /svc/SERVICE through this session: no port is opened. */
  offer(offer: ServiceOffer, server: FileServer): Promise<Offer>
  /** Anything else a node offers, by name. */
  control(name: string, body: Uint8Array): Promise<Uint8Array>
  close(): Promise<void>
}

/**
 * @throws NineError `unavailable`, `unauthenticated`; `invalid` for an address that is none, none at all, one that is given twice, and
 *   nodes of two clusters
 */
export async function connectRemote(options: ConnectOptions): Promise<RemoteSession> {
  const session = new LinkedSession(options)
  await session.connect()
  return session
}

/** What is done again on a new connection. */
interface Step {
  /** Where it stands in the table, for steps that replace each other. */
  readonly at: string | undefined
  redo(peer: SessionPeer): Promise<void>
}

const patience: Patience = { pingMs: limits.nodes_ping_ms, silentMs: limits.nodes_silent_ms_max }

class LinkedSession implements RemoteSession {
  readonly server: FileServer
  readonly #link: Link
  readonly #nodes: Nodes
  readonly #isChecked: boolean
  /** What is being opened when the client is closed is given up. */
  readonly #closing = new AbortController()
  #steps: Step[] = []
  readonly #targets = new Set<number>()
  #lastTarget = 0

  constructor(options: ConnectOptions) {
    const clock = options.clock ?? systemClock
    const random = options.random ?? Math.random
    const addresses = addressesOf(options.address)
    const isMany = addresses.length > 1
    const isFollowing = isMany && options.route !== 'any'
    const nodes = new Nodes({
      clock,
      random,
      addresses,
      isFollowing,
      isInOrder: options.isInOrder === true,
      begin: async (address, client, events) => {
        const token = typeof options.token === 'function' ? await options.token() : (options.token ?? '')
        const { openMs } = options
        const { signal } = this.#closing
        const stream = await dial({ address, tls: options.tls, transport: options.transport, token, openMs, signal })
        const { onGoaway, onClosed, onCluster } = events
        const several = isMany ? { onCluster, patience } : {}
        const name = options.name ?? 'ninefold'
        const giveUp = (): void => void stream.destroy()
        signal.addEventListener('abort', giveUp)
        return beginSession(stream, { clock, token, name, client, ...several, onGoaway, onClosed, handshakeMs: openMs })
          .catch((error: unknown) => {
            throw isNineError(error, 'deadline') ? silent(address, error) : error
          })
          .finally(() => signal.removeEventListener('abort', giveUp))
      },
    })
    this.#nodes = nodes
    this.#isChecked = isFollowing
    this.#link = new Link({
      clock,
      random,
      open: (events) => nodes.openHome(events),
      restore: async (peer) => {
        for (const step of this.#steps) await step.redo(peer) // N1
      },
      isPatient: options.isPatient,
      router: isMany ? nodes : undefined,
    })
    this.server = new RemoteFileServer(isMany && options.isMonotonic === true ? new MonotonicCaller(this.#link, nodes) : this.#link)
  }

  async connect(): Promise<void> {
    try {
      await this.#link.connect()
      this.#nodes.start()
      if (this.#isChecked) await this.#nodes.check(limits.nodes_check_ms)
    } catch (error) {
      await this.close()
      throw error
    }
  }

  status(): NodesStatus {
    return this.#nodes.status
  }

  get principal(): Principal {
    return this.#link.welcome.principal
  }

  get node(): string {
    return this.#link.welcome.name
  }

  bind(request: BindRequest): Promise<void> {
    return this.#tableStep(bindRequest, request, request.path)
  }

  mount(request: BindRequest): Promise<void> {
    return this.#tableStep(mountRequest, request, request.path)
  }

  async unmount(request: UnmountRequest): Promise<void> {
    await this.#ask(unmountRequest, request)
    if (request.source === undefined) this.#steps = this.#steps.filter((step) => step.at !== request.path)
    this.#remember(unmountRequest, request, request.path)
  }

  entries(): Promise<readonly string[]> {
    return this.#ask(entriesRequest, undefined)
  }

  fork(): Promise<void> {
    return this.#tableStep(forkRequest, undefined, undefined)
  }

  control(name: string, body: Uint8Array): Promise<Uint8Array> {
    return this.#ask(controlRequest, { name, body })
  }

  async offer(offer: ServiceOffer, server: FileServer): Promise<Offer> {
    const target = ++this.#lastTarget
    this.#targets.add(target)
    const request: RegisterRequest = {
      service: offer.service,
      instance: offer.instance,
      names: offer.names,
      namespace: offer.namespace ?? '',
      target,
    }
    const first = this.#link.peer
    if (first === undefined) throw new NineError({ kind: 'unavailable', op: 'remote.offer', message: 'there is no connection' })
    const instance = await this.#register(first, request, server)
    const named = { ...request, instance }
    const step: Step = {
      at: undefined,
      redo: async (peer) => {
        await this.#register(peer, named, server)
      },
    }
    this.#steps.push(step)
    return {
      instance,
      withdraw: async () => {
        if (!this.#steps.includes(step)) return
        this.#steps = this.#steps.filter((one) => one !== step)
        const { peer } = this.#link
        peer?.withdraw(target)
        await peer?.call(deregisterRequest, contextFor(this.principal), { service: offer.service, instance }, noExtra)
      },
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#link.close()
    this.#nodes.close()
  }

  async #register(peer: SessionPeer, request: RegisterRequest, server: FileServer): Promise<string> {
    // Before the node hears of it: its first request may come with the answer.
    peer.offer(request.target, server)
    return peer.call(registerRequest, contextFor({ name: '', groups: [] }), request, noExtra)
  }

  async #tableStep<Args>(messages: Messages<Args, void>, args: Args, at: string | undefined): Promise<void> {
    if (this.#steps.length >= 2 * limits.mounts_max) {
      throw new NineError({ kind: 'too_large', op: `remote.${messages.name}`, message: 'too many changes of the namespace' })
    }
    await this.#ask(messages, args)
    this.#remember(messages, args, at)
  }

  #remember<Args>(messages: Messages<Args, void>, args: Args, at: string | undefined): void {
    this.#steps.push({ at, redo: (peer) => peer.call(messages, contextFor({ name: '', groups: [] }), args, noExtra) })
  }

  #ask<Args, Result>(messages: Messages<Args, Result>, args: Args): Promise<Result> {
    return this.#link.call(messages, contextFor(this.principal), args)
  }
}

const noExtra = { seq: 0, settled: 0, client: undefined, target: 0 }

/** @throws NineError `invalid` */
function addressesOf(given: string | readonly string[]): readonly string[] {
  const addresses = typeof given === 'string' ? [given] : given
  const op = 'remote.connect'
  if (addresses.length === 0) throw new NineError({ kind: 'invalid', op, message: 'no address of a node is given' })
  if (addresses.length > limits.cluster_nodes_max) {
    throw new NineError({
      kind: 'invalid',
      op,
      message: `${addresses.length} addresses are given: a cluster has at most ${limits.cluster_nodes_max} nodes`,
    })
  }
  for (const [index, address] of addresses.entries()) {
    parseAddress(address)
    if (addresses.indexOf(address) !== index) throw new NineError({ kind: 'invalid', op, message: `${address} is given twice` })
  }
  return addresses
}

/** It took the connection and said nothing. */
function silent(address: string, cause: NineError): NineError {
  return new NineError({ ...cause.fields, message: `${address} took the connection, and opened no session in time`, cause })
}
