/** Three nodes as processes, with a client at each: for tests that look at one node closely. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from '../../sdk/connect.ts'
import type { Client } from '../../sdk/client-api.ts'
import type { Session } from '../../sdk/session.ts'
import { ChaosCluster } from '../chaos/cluster.ts'
import type { NodeProcess } from '../chaos/node-process.ts'
import { allStores, isWhole, pause, startWith } from './killer.ts'

export interface RaftStatus {
  readonly term: number
  readonly role: string
  readonly leader: string | null
  readonly failure?: string
}

const look_ms_max = 30_000

export class Members {
  readonly cluster: ChaosCluster
  readonly #folder: string
  readonly #sessions = new Map<NodeProcess, Session>()

  private constructor(cluster: ChaosCluster, folder: string) {
    this.cluster = cluster
    this.#folder = folder
  }

  /** @param size 1: a node alone */
  static async start(size = 3): Promise<Members> {
    const folder = await mkdtemp(join(tmpdir(), 'ninefold-failpoints-'))
    const cluster = await ChaosCluster.start(folder, size)
    const members = new Members(cluster, folder)
    for (const node of cluster.nodes) await members.ready(node)
    return members
  }

  /** A node that was started serves, and has a client that knows of nothing before. */
  async ready(node: NodeProcess): Promise<void> {
    await this.cluster.ready([node])
    await this.#sessions.get(node)?.close()
    this.#sessions.set(node, await connect({ address: node.setup.grpc, token: this.cluster.token }))
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions.values()].map((session) => session.close()))
    await this.cluster.close()
    await rm(this.#folder, { recursive: true, force: true })
  }

  clientOf(node: NodeProcess): Client {
    return this.#sessions.get(node)!.client
  }

  others(node: NodeProcess): NodeProcess[] {
    return this.cluster.nodes.filter((one) => one !== node)
  }

  async status(node: NodeProcess): Promise<RaftStatus> {
    return JSON.parse(await this.clientOf(node).readText('/raft/data/status', { timeoutMs: 2_000 })) as RaftStatus
  }

  /** What /readyz of a node says. */
  async readyz(node: NodeProcess): Promise<{ readonly code: number; readonly text: string }> {
    const { http } = JSON.parse(await readFile(join(node.setup.folder, `ready-${node.life}.json`), 'utf8')) as { http: string }
    const response = await fetch(`http://${http}/readyz`)
    return { code: response.status, text: await response.text() }
  }

  /** All nodes vote in every group: only then may another disk be lost. */
  async whole(): Promise<void> {
    for (const node of this.cluster.nodes)
      for (const store of allStores)
        await this.until(async () => ((await isWhole(this.clientOf(node), store, this.cluster.nodes.length)) ? true : undefined))
  }

  /** Who leads, as one of these nodes knows it. */
  async leader(among: readonly NodeProcess[] = this.cluster.nodes): Promise<NodeProcess> {
    return this.until(async () => {
      for (const node of among) {
        const status = await this.status(node).catch(() => undefined)
        if (status?.role === 'leader') return node
      }
      return undefined
    })
  }

  /** Start a node anew with failpoints, which count once it leads, or follows. */
  async failing(node: NodeProcess, failpoints: string, mayLead: boolean): Promise<void> {
    await node.stop()
    await this.passes(node)
    startWith(node, failpoints, this.#counting(node))
    await this.ready(node)
    await this.until(async () => {
      const leader = await this.leader()
      if ((leader === node) === mayLead) return true
      const heir = mayLead ? node : this.others(node)[0]!
      await this.clientOf(node)
        .write('/raft/data/ctl', `transfer ${heir.name}`, { timeoutMs: 3_000 })
        .catch(() => undefined)
      return undefined
    })
    await this.fails(node)
  }

  /** Start a node with failpoints that count at once, until `passes`. */
  async startFailing(node: NodeProcess, failpoints: string): Promise<void> {
    await this.fails(node)
    startWith(node, failpoints, this.#counting(node))
  }

  /** From now on its failpoints count. */
  async fails(node: NodeProcess): Promise<void> {
    await writeFile(this.#counting(node), '')
  }

  /** From now on its failpoints are passed as if they were not there. */
  async passes(node: NodeProcess): Promise<void> {
    await rm(this.#counting(node), { force: true })
  }

  #counting(node: NodeProcess): string {
    return join(node.setup.folder, 'counting')
  }

  /** Start a node anew as it should be. */
  async mended(node: NodeProcess): Promise<void> {
    await node.kill()
    node.start()
    await this.ready(node)
  }

  async until<T>(look: () => Promise<T | undefined>): Promise<T> {
    const end = performance.now() + look_ms_max
    for (;;) {
      const found = await look()
      if (found !== undefined) return found
      if (performance.now() > end) throw new Error(`nothing of it within ${look_ms_max} ms`)
      await pause(20)
    }
  }
}
