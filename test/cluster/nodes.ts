/** Clusters of real processes: each node on a folder of its own and on ports of this machine. */
import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runNine, temporaryFolder } from '../e2e/run-nine.ts'
import { Up } from '../e2e/up.ts'
import type { Finished } from '../e2e/up.ts'
import { freePort } from '../faults/free-ports.ts'

export interface Ready {
  readonly http: string
  readonly grpc: string
  readonly pid: number
  readonly cluster: { readonly id: string; readonly member: string }
}

export type TestNode = Up<Ready>

export class TestCluster {
  readonly folder: string
  readonly tokenFile: string
  /** By name: address of the peer listener. */
  readonly addresses = new Map<string, string>()
  readonly #nodes = new Map<string, TestNode>()

  static async make(names: readonly string[]): Promise<TestCluster> {
    const cluster = new TestCluster(await temporaryFolder())
    for (const name of names) await cluster.place(name)
    return cluster
  }

  private constructor(folder: string) {
    this.folder = folder
    this.tokenFile = join(folder, 'cluster.token')
    writeFileSync(this.tokenFile, randomBytes(24).toString('base64url'), { mode: 0o600 })
  }

  /** An address for the peers of a node. */
  async place(name: string): Promise<string> {
    const address = `127.0.0.1:${await freePort()}`
    this.addresses.set(name, address)
    return address
  }

  get peers(): string {
    return [...this.addresses].map(([name, address]) => `${name}=${address}`).join(',')
  }

  data(name: string): string {
    return join(this.folder, name)
  }

  node(name: string): TestNode {
    return this.#nodes.get(name)!
  }

  /** @param flags instead of those of a node of this cluster */
  start(name: string, flags: readonly string[] = ['--node', name, '--peers', this.peers, '--token-file', this.tokenFile]): TestNode {
    const readyFile = join(this.folder, `${name}.ready`)
    rmSync(readyFile, { force: true })
    const before = this.#nodes.get(name)
    const addresses = before === undefined ? ['--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0'] : this.#places.get(name)
    const node: TestNode = new Up(['--data', this.data(name), ...(addresses ?? []), ...flags], readyFile)
    node.ready.then(
      (found) => {
        this.#places.set(name, ['--http', found.http, '--grpc', found.grpc])
        this.#ready.set(name, found)
      },
      () => undefined,
    )
    this.#nodes.set(name, node)
    return node
  }

  readonly #places = new Map<string, string[]>()
  readonly #ready = new Map<string, Ready>()

  /** Start these and wait until all serve. */
  async up(...names: string[]): Promise<void> {
    await Promise.all(names.map((name) => this.start(name).ready))
  }

  ready(name: string): Ready {
    return this.#ready.get(name)!
  }

  async kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<Finished> {
    const { process: child, ended } = this.node(name)
    child.kill(signal)
    return ended
  }

  /** Its disk is lost. */
  lose(name: string): void {
    rmSync(this.data(name), { recursive: true, force: true })
  }

  nine(name: string, ...args: string[]): Promise<Finished> {
    return runNine(args, { env: { NINE_ADDR: this.ready(name).grpc, NINE_TOKEN_FILE: this.tokenFile } })
  }

  /** `nine` that must succeed; its standard output. */
  async ok(name: string, ...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.nine(name, ...args)
    if (code !== 0) throw new Error(`nine ${args.join(' ')} at ${name} exited with ${code}: ${stderr}`)
    return stdout
  }

  async members(name: string, store = 'data'): Promise<{ node: string; member?: string; role: string; isLeader: boolean }[]> {
    const text = await this.ok(name, 'raft', 'members', '--json', '--store', store)
    return text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as never) // prettier-ignore
  }

  async leader(name: string, store = 'data'): Promise<string> {
    return (await this.members(name, store)).find(({ isLeader }) => isLeader)!.node
  }

  async end(): Promise<void> {
    for (const { process: child, ended } of this.#nodes.values()) {
      child.kill('SIGKILL')
      await ended
    }
    rmSync(this.folder, { recursive: true, force: true })
  }
}
