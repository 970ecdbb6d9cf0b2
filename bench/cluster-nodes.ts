/** A cluster of our own nodes, each a process of the built command, on loopback. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { connect } from '../sdk/connect.ts'
import type { Session } from '../sdk/session.ts'
import { ClusterProcesses } from './peers/cluster-process.ts'
import type { Subject } from './peers/cluster-process.ts'
import { Driver } from './peers/driver.ts'
import { freePort } from './peers/etcd.ts'
import { readyOf } from './node.ts'

const patience_ms = 120_000
const nine = join(import.meta.dirname, '..', 'dist', 'cli', 'nine.js')
const clientProgram = join(import.meta.dirname, 'cluster-client.ts')

export class OwnCluster implements Subject {
  readonly name = 'ninefold'
  readonly processes: ClusterProcesses
  readonly size: number
  driver!: Driver
  readonly #tokenFile: string
  readonly #addresses: readonly string[]

  /**
   * @param size nodes; 1 is a node alone
   * @throws Error with what the nodes said last when they do not come up
   */
  static async start(size = 3): Promise<OwnCluster> {
    const ports: { grpc: string; peer: string }[] = []
    for (let node = 0; node < size; node++) ports.push({ grpc: await freeAddress(), peer: await freeAddress() })
    const cluster = new OwnCluster(ports)
    try {
      for (let node = 0; node < size; node++) cluster.begin(node)
      for (let node = 0; node < size; node++) await cluster.ready(node)
      const tsx = ['--import', 'tsx', clientProgram]
      // NINE_BENCH_CLIENT_ARGS=--cpu-prof shows where the client's time goes.
      cluster.driver = await Driver.start(process.execPath, [
        ...wordsOf('NINE_BENCH_CLIENT_ARGS'),
        ...tsx,
        cluster.#tokenFile,
        ...cluster.#addresses,
      ])
      await cluster.driver.ask({ do: 'settled' })
      return cluster
    } catch (error) {
      const words = cluster.processes.lastWords()
      await cluster.stop()
      throw new Error(`${(error as Error).message}\n${words}`, { cause: error })
    }
  }

  private constructor(ports: readonly { readonly grpc: string; readonly peer: string }[]) {
    const peers = ports.map(({ peer }, node) => `n${node}=${peer}`).join(',')
    this.size = ports.length
    this.#addresses = ports.map(({ grpc }) => grpc)
    this.processes = new ClusterProcesses('ninefold', (node, folder) => {
      const own = ['--data', dataOf(folder, node), '--ready-file', readyFile(folder, node), '--token-file', join(folder, 'token')]
      const edges = ['--http', '127.0.0.1:0', '--grpc', ports[node]!.grpc]
      const cluster = ports.length === 1 ? [] : ['--node', `n${node}`, '--peers', peers]
      return { command: process.execPath, args: [...wordsOf('NINE_BENCH_NODE_ARGS'), nine, 'up', ...own, ...edges, ...cluster] }
    })
    this.#tokenFile = join(this.processes.folder, 'token')
    writeFileSync(this.#tokenFile, randomBytes(32).toString('hex'), { mode: 0o600 })
  }

  /** Start a node's process. */
  begin(node: number): void {
    mkdirSync(join(this.processes.folder, `n${node}`), { recursive: true })
    rmSync(readyFile(this.processes.folder, node), { force: true })
    this.processes.start(node)
  }

  /** Resolves when the node serves. @throws Error when its process ends instead */
  async ready(node: number): Promise<void> {
    const file = readyFile(this.processes.folder, node)
    const ended = this.processes.ended(node).then((how) => {
      if (!existsSync(file)) throw new Error(`node n${node} ended with ${how}`)
    })
    const timer = new AbortController()
    const late = setTimeout(patience_ms, undefined, { signal: timer.signal }).then(() => {
      throw new Error(`node n${node} does not serve after ${patience_ms / 1000} s\n${this.processes.lastWords()}`)
    })
    try {
      await Promise.race([readyOf(file), ended, late])
    } finally {
      timer.abort()
    }
  }

  async restart(node: number): Promise<void> {
    this.begin(node)
    await this.ready(node)
  }

  /** The disk of a node that is not running is lost. */
  loseDisk(node: number): void {
    rmSync(dataOf(this.processes.folder, node), { recursive: true })
  }

  connect(node: number): Promise<Session> {
    return connect({ address: this.#addresses[node], tokenFile: this.#tokenFile, timeoutMs: 60_000 })
  }

  async stop(): Promise<void> {
    await (this.driver as Driver | undefined)?.stop()
    await this.processes.stop()
  }
}

function dataOf(folder: string, node: number): string {
  return join(folder, `n${node}`, 'data')
}

function readyFile(folder: string, node: number): string {
  return join(folder, `n${node}`, 'ready.json')
}

async function freeAddress(): Promise<string> {
  return `127.0.0.1:${await freePort()}`
}

function wordsOf(variable: string): string[] {
  return process.env[variable]?.split(' ') ?? []
}
