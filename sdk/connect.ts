/** connect(): a session with a node, or with a cluster through its nodes, found as the `nine` command finds it. */
import { readFile } from 'node:fs/promises'
import { NineError } from '../namespace/errors.ts'
import type { FileServer } from '../namespace/file-server.ts'
import { limits } from '../namespace/limits.ts'
import { parsePath } from '../namespace/path.ts'
import { connectRemote } from '../namespace/remote/connect.ts'
import type { Offer, RemoteSession, ServiceOffer } from '../namespace/remote/connect.ts'
import { defaultAddresses, defaultTokenFile } from '../services/node/defaults.ts'
import type { NodesStatus } from '../namespace/remote/nodes.ts'
import { Client } from './client-api.ts'
import type { MountOptions, NamespaceControl, NamespaceEntry, Session } from './session.ts'

export interface ConnectOptions {
  /** gRPC address of the node, `HOST:PORT`, or of several with commas between. Default NINE_ADDR, else 127.0.0.1:9581. */
  readonly address?: string | undefined
  /** The same of several nodes of one cluster; instead of `address`. */
  readonly addresses?: readonly string[] | undefined
  /**
   * Of several nodes: `leader` (default) sends changes and linearizable reads of what all nodes have to the node that leads, and follows it;
   * `any` sends all to the node at hand, which asks the leader.
   */
  readonly route?: 'leader' | 'any' | undefined
  /** Of several nodes: which one is the home. `any` (default) of those that answer, or the first in `given` order. */
  readonly prefer?: 'any' | 'given' | undefined
  /** Of several nodes: stale reads never show less than this session has changed and been shown. Default false. */
  readonly monotonic?: boolean | undefined
  /** Bearer token. Default the text of `tokenFile`. */
  readonly token?: string | undefined
  /** Default NINE_TOKEN_FILE, else that of the node in the default folder. */
  readonly tokenFile?: string | undefined
  /** For a node with TLS: certificates it may be signed by (PEM), beside the well-known ones. */
  readonly tls?: { readonly ca?: string | Buffer | undefined } | undefined
  /** How frames travel: the session's own framing (default), or a gRPC stream where only gRPC gets through. */
  readonly transport?: 'tcp' | 'grpc' | undefined
  /** Of requests that name none, milliseconds. Default 60,000. */
  readonly timeoutMs?: number | undefined
  /** For the node's logs. */
  readonly clientName?: string | undefined
}

/**
 * Connect to a node, or to several nodes of one cluster. The connection is made again when it breaks, with any node that answers.
 * @throws NineError `unavailable` when no node answers, `unauthenticated` for a token that is missing or wrong, `invalid` for addresses
 *   that are none, are given twice, or are of nodes of two clusters
 */
export async function connect(options: ConnectOptions = {}): Promise<Session> {
  return new ConnectedSession(await openRemote(options), options.timeoutMs)
}

export async function openRemote(options: ConnectOptions): Promise<RemoteSession> {
  const token = options.token ?? (await readToken(options.tokenFile ?? process.env['NINE_TOKEN_FILE'] ?? defaultTokenFile()))
  return connectRemote({
    address: options.addresses ?? listOf(options.address ?? process.env['NINE_ADDR'] ?? defaultAddresses.grpc),
    route: options.route,
    isInOrder: options.prefer === 'given',
    isMonotonic: options.monotonic,
    isPatient: true,
    openMs: Math.min(options.timeoutMs ?? Infinity, limits.handshake_ms),
    token,
    tls: options.tls,
    transport: options.transport,
    name: options.clientName,
  })
}

export class ConnectedSession implements Session {
  readonly client: Client
  readonly namespace: NamespaceControl
  readonly #remote: RemoteSession

  constructor(remote: RemoteSession, timeoutMs?: number) {
    this.#remote = remote
    this.client = new Client(remote.server, remote.principal, timeoutMs)
    this.namespace = new RemoteNamespaceControl(remote)
  }

  readonly control = async (name: string, value: unknown): Promise<unknown> => {
    const answer = await this.#remote.control(name, Buffer.from(JSON.stringify(value ?? null)))
    return answer.length === 0 ? undefined : (JSON.parse(Buffer.from(answer).toString()) as unknown)
  }

  offer(offer: ServiceOffer, server: FileServer): Promise<Offer> {
    return this.#remote.offer(offer, server)
  }

  readonly status = (): NodesStatus => this.#remote.status()

  readonly close = (): Promise<void> => this.#remote.close()
}

class RemoteNamespaceControl implements NamespaceControl {
  readonly #remote: RemoteSession

  constructor(remote: RemoteSession) {
    this.#remote = remote
  }

  async bind(source: string, path: string, options?: MountOptions): Promise<void> {
    return this.#remote.bind(requestOf(parsePath(source), path, options))
  }

  async mount(source: string, path: string, options?: MountOptions): Promise<void> {
    return this.#remote.mount(requestOf(source, path, options))
  }

  async unmount(path: string, source?: string): Promise<void> {
    return this.#remote.unmount({ path: parsePath(path), source })
  }

  async entries(): Promise<readonly NamespaceEntry[]> {
    return (await this.#remote.entries()).map((text) => ({ text }))
  }

  async save(line: string): Promise<void> {
    await this.#remote.control('namespace.save', Buffer.from(JSON.stringify({ line })))
  }
}

function requestOf(source: string, path: string, { order = 'replace', create = false }: MountOptions = {}) {
  return { source, path: parsePath(path), order, create }
}

/** `A,B,C` */
function listOf(text: string): string[] {
  return text.split(',').map((address) => address.trim())
}

async function readToken(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (cause as Error).message
    const hint = 'start a node with `nine up`, or name its token with --token-file or NINE_TOKEN_FILE'
    throw new NineError({
      kind: 'unauthenticated',
      op: 'client.connect',
      message: `cannot read the token file ${file}: ${why}; ${hint}`,
      cause,
    })
  }
}
