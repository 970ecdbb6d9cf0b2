/** Nodes in this process, each on a folder of its own and on ports the system picks, and sessions with them. */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import type { ErrorKind } from '../../namespace/errors.ts'
import { connect } from '../../sdk/connect.ts'
import type { ConnectOptions } from '../../sdk/connect.ts'
import { serve } from '../../sdk/serve.ts'
import type { ServeOptions, ServingSession } from '../../sdk/serve.ts'
import type { ServiceDefinition } from '../../sdk/service.ts'
import type { Session } from '../../sdk/session.ts'
import { startNode } from '../../services/node/node.ts'
import type { NodeOptions, RunningNode } from '../../services/node/node.ts'

/** A node that can be restarted; sessions and services begun through it end with it. */
export class TestNode {
  readonly folder: string
  readonly data: string
  readonly #open: { close(): Promise<void> }[] = []
  #node: RunningNode | undefined

  private constructor(folder: string) {
    this.folder = folder
    this.data = join(folder, 'data')
  }

  static async start(options: Partial<NodeOptions> = {}): Promise<TestNode> {
    const started = new TestNode(await mkdtemp(join(tmpdir(), 'ninefold-node-')))
    await started.start(options)
    return started
  }

  get node(): RunningNode {
    if (this.#node === undefined) throw new Error('the node is down')
    return this.#node
  }

  get token(): string {
    return readFileSync(this.node.tokenFile, 'utf8').trim()
  }

  async start(options: Partial<NodeOptions> = {}): Promise<void> {
    const ports = { http: '127.0.0.1:0', grpc: '127.0.0.1:0' }
    this.#node = await startNode({ data: this.data, owner: 'owner', logLevel: 'silent', ...ports, ...options })
  }

  /** Stop the node; with `start` on the same addresses, sessions find it again. */
  async stop(): Promise<{ http: string; grpc: string }> {
    const { http, grpc } = this.node
    const node = this.node
    this.#node = undefined
    await node.close()
    return { http, grpc }
  }

  async connect(options: ConnectOptions = {}): Promise<Session> {
    const session = await connect({ address: this.node.grpc, token: this.token, ...options })
    this.#open.push(session)
    return session
  }

  /** A session as another principal, which is made. */
  async connectAs(name: string): Promise<Session> {
    return this.connect({ token: await this.tokenFor(name) })
  }

  async tokenFor(name: string): Promise<string> {
    const owner = await this.connect()
    const { token } = (await owner.control('token.create', { name })) as { token: string }
    await owner.close()
    return token
  }

  async serve(definition: ServiceDefinition, options: ServeOptions = {}): Promise<ServingSession> {
    const session = await serve(definition, { address: this.node.grpc, token: this.token, ...options })
    this.#open.push(session)
    return session
  }

  /** A request over HTTP with the owner's token. */
  fetch(path: string, init: RequestInit & { readonly token?: string } = {}): Promise<Response> {
    const { token = this.token, ...rest } = init
    return fetch(`http://${this.node.http}${path}`, { ...rest, headers: { authorization: `Bearer ${token}`, ...(rest.headers as object) } })
  }

  async close(): Promise<void> {
    for (const session of this.#open.splice(0)) await session.close()
    await this.#node?.close()
    this.#node = undefined
    await rm(this.folder, { recursive: true, force: true })
  }
}

/** The error that `promise` fails with, of that kind. */
export async function failure(promise: Promise<unknown>, kind: ErrorKind): Promise<NineError> {
  const error: unknown = await promise.then(
    (value) => new Error(`did not fail but gave ${JSON.stringify(value)}`),
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof NineError)) throw error
  expect(error.kind, error.message).toBe(kind)
  return error
}

/** Look until `probe` gives something; what is waited for comes from another process or a timer of the node. */
export async function eventually<T>(probe: () => Promise<T | undefined>, ms = 15_000): Promise<T> {
  const until = performance.now() + ms
  for (;;) {
    const found = await probe()
    if (found !== undefined) return found
    if (performance.now() > until) throw new Error('what was waited for did not come')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Text of a path, or the kind of the failure. */
export async function textOrKind(session: Session, path: string): Promise<string> {
  try {
    return await session.client.readText(path)
  } catch (error) {
    if (error instanceof NineError) return error.kind
    throw error
  }
}
