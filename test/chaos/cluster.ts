/**
 * Nodes as processes, and the network between them: every node reaches every other through a proxy of its own, so that each
 * direction between each two can fail alone.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { startProxy } from '../faults/proxy.ts'
import { freePorts } from '../faults/free-ports.ts'
import type { FaultProxy } from '../faults/proxy.ts'
import { NodeProcess } from './node-process.ts'

/** How a link fails: nothing arrives, nothing is taken, or connections are refused. */
export type LinkFault = 'blackhole' | 'stall' | 'refuse'

/** How soon one starts is no promise of this folder: an empty one fetches all large values first. */
const start_ms_max = 120_000

export class ChaosCluster {
  readonly nodes: readonly NodeProcess[]
  readonly token: string
  /** By the names of who dials and who is dialled: `n1>n2`. */
  readonly #links: ReadonlyMap<string, FaultProxy>

  private constructor(nodes: readonly NodeProcess[], token: string, links: ReadonlyMap<string, FaultProxy>) {
    this.nodes = nodes
    this.token = token
    this.#links = links
  }

  /** @param size 1: a node alone, without peers */
  static async start(folder: string, size: number): Promise<ChaosCluster> {
    const token = randomBytes(24).toString('base64url')
    const tokenFile = join(folder, 'token')
    await writeFile(tokenFile, token, { mode: 0o600 })
    const names = Array.from({ length: size }, (_, index) => `n${index + 1}`)
    const ports = await freePorts(2 * size)
    const listen = new Map(names.map((name, index) => [name, `127.0.0.1:${ports[index]!}`]))
    const links = new Map<string, FaultProxy>()
    for (const from of names) for (const to of names) if (from !== to) links.set(`${from}>${to}`, await startProxy(listen.get(to)!))
    const nodes: NodeProcess[] = []
    const peers = names.map((name) => `${name}=${listen.get(name)!}`).join(',')
    for (const [index, name] of names.entries()) {
      const own = join(folder, name)
      await mkdir(own)
      const grpc = `127.0.0.1:${ports[size + index]!}`
      const others = names.filter((other) => other !== name)
      const via = others.map((other) => `${other}=${links.get(`${name}>${other}`)!.address}`).join(',')
      nodes.push(new NodeProcess({ name, folder: own, grpc, tokenFile, ...(size > 1 && { peers, via }) }))
    }
    const made = new ChaosCluster(nodes, token, links)
    try {
      for (const node of nodes) node.start()
      await made.ready(nodes)
      return made
    } catch (error) {
      await made.close()
      throw error
    }
  }

  get failures(): string[] {
    return this.nodes.flatMap((node) => node.failures.splice(0))
  }

  node(name: string): NodeProcess {
    const node = this.nodes.find((one) => one.name === name)
    if (node === undefined) throw new Error(`there is no node ${name}`)
    return node
  }

  async ready(nodes: readonly NodeProcess[]): Promise<void> {
    await Promise.all(nodes.map((node) => node.ready(start_ms_max)))
  }

  /** What `from` sends to `to` does not arrive; the other direction is another link. */
  async fail(from: NodeProcess, to: NodeProcess, fault: LinkFault): Promise<void> {
    const link = this.#links.get(`${from.name}>${to.name}`)!
    if (fault === 'blackhole') link.blackhole()
    else if (fault === 'stall') link.stall('both')
    else await link.refuse()
  }

  /** Nothing passes between nodes that share no group. */
  async partition(groups: readonly (readonly NodeProcess[])[], fault: LinkFault): Promise<void> {
    for (const from of this.nodes) {
      for (const to of this.nodes) {
        if (from !== to && !groups.some((group) => group.includes(from) && group.includes(to))) await this.fail(from, to, fault)
      }
    }
  }

  /** Cut every connection between nodes once; they may dial again. */
  cutAll(): void {
    for (const link of this.#links.values()) link.cut()
  }

  delayAll(ms: number): void {
    for (const link of this.#links.values()) link.delay(ms, 'both')
  }

  /** The network is whole, and every node runs. */
  async heal(): Promise<void> {
    for (const link of this.#links.values()) await link.resume()
    for (const node of this.nodes) {
      if (node.isPaused) node.resume()
      if (!node.isRunning) node.start()
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()))
    await Promise.all([...this.#links.values()].map((link) => link.close()))
  }
}
