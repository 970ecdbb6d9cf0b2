/** A cluster of real nodes, each a process, and sessions with all of them. */
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from '../../sdk/connect.ts'
import type { ConnectOptions } from '../../sdk/connect.ts'
import type { Session } from '../../sdk/session.ts'
import { NodeProcess } from '../chaos/node-process.ts'
import { freePorts } from '../faults/free-ports.ts'

const start_ms_max = 60_000

export class Processes {
  readonly nodes: readonly NodeProcess[]
  readonly token: string
  readonly #folder: string
  readonly #sessions: Session[] = []

  private constructor(folder: string, nodes: readonly NodeProcess[], token: string) {
    this.#folder = folder
    this.nodes = nodes
    this.token = token
  }

  /** @param size 1: a node alone, without peers */
  static async start(size: number, token = randomBytes(24).toString('base64url')): Promise<Processes> {
    const folder = await mkdtemp(join(tmpdir(), 'ninefold-clients-'))
    const tokenFile = join(folder, 'token')
    await writeFile(tokenFile, token, { mode: 0o600 })
    const ports = await freePorts(2 * size)
    const names = Array.from({ length: size }, (_, index) => `n${index + 1}`)
    const peers = names.map((name, index) => `${name}=127.0.0.1:${ports[index]!}`).join(',')
    const nodes: NodeProcess[] = []
    for (const [index, name] of names.entries()) {
      const own = join(folder, name)
      await mkdir(own)
      const grpc = `127.0.0.1:${ports[size + index]!}`
      nodes.push(new NodeProcess({ name, folder: own, grpc, tokenFile, peers: size === 1 ? undefined : peers }))
    }
    const started = new Processes(folder, nodes, token)
    try {
      for (const node of nodes) node.start()
      await Promise.all(nodes.map((node) => node.ready(start_ms_max)))
    } catch (error) {
      await started.close()
      throw error
    }
    return started
  }

  get addresses(): string[] {
    return this.nodes.map(({ setup }) => setup.grpc)
  }

  node(name: string): NodeProcess {
    return this.nodes.find((node) => node.name === name)!
  }

  /** With all nodes, unless `options` say otherwise. Ends with the cluster. */
  async connect(options: ConnectOptions = {}): Promise<Session> {
    const session = await connect({ addresses: this.addresses, token: this.token, ...options })
    this.#sessions.push(session)
    return session
  }

  async start(node: NodeProcess): Promise<void> {
    node.start()
    await node.ready(start_ms_max)
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) await session.close()
    await Promise.all(this.nodes.map((node) => node.kill()))
    await rm(this.#folder, { recursive: true, force: true })
  }
}

/** Resolves when `holds` does, looked at again and again. @throws Error with `what` after `ms` */
export async function until(what: string, ms: number, holds: () => boolean | Promise<boolean>): Promise<number> {
  const began = performance.now()
  while (!(await holds())) {
    if (performance.now() - began > ms) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return performance.now() - began
}

/** Name of the node that the session knows to lead /data. */
export function leaderOf(session: Session): string | undefined {
  return session.status().nodes.find(({ leads }) => leads.includes('/data'))?.node
}
