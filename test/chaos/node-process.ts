/**
 * One node as a process of its own, which can be killed, paused and started again on the same ports and folder.
 *
 * N1 A process that ends without being asked to is a failure, with what it said last.
 */
import { existsSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Up } from '../e2e/up.ts'

export interface NodeSetup {
  readonly name: string
  /** Folder for its data, logs and ready file. */
  readonly folder: string
  /** `HOST:PORT`, the same in all its lives, so that clients find it again. */
  readonly grpc: string
  readonly tokenFile: string
  /** Its peers, as --peers has them; undefined: it is alone. */
  readonly peers?: string | undefined
  /** How it reaches them, as --peer-via has it; undefined: at their addresses. */
  readonly via?: string | undefined
}

export class NodeProcess {
  readonly setup: NodeSetup
  /** Counts its runs, and each time it was paused: what one run answers never goes back. */
  life = 0
  isPaused = false
  /** What it is told of its peers from its next start on, as --peers has it; undefined: it is alone. */
  peers: string | undefined
  /** The build it is of from its next start on; undefined: the one that is tested. */
  command: string | undefined
  /** What went wrong with it by itself. */ // N1
  readonly failures: string[] = []
  #up: Up<unknown> | undefined
  #isRunning = false
  #ended: Promise<void> = Promise.resolve()
  #isAsked = false

  constructor(setup: NodeSetup) {
    this.setup = setup
    this.peers = setup.peers
  }

  get name(): string {
    return this.setup.name
  }

  get isRunning(): boolean {
    return this.#isRunning
  }

  get dataFolder(): string {
    return join(this.setup.folder, 'data')
  }

  /** Start the process; it serves once `ready` resolves. */
  start(): void {
    if (this.#isRunning) throw new Error(`${this.name} runs already`)
    const { name, folder, grpc, tokenFile, via } = this.setup
    this.life++
    this.#isAsked = false
    const args = ['--data', this.dataFolder, '--grpc', grpc, '--http', '127.0.0.1:0', '--token-file', tokenFile]
    args.push('--owner', 'chaos', '--log-file', join(folder, 'node.log'), '--log-level', 'info')
    if (this.peers !== undefined) args.push('--node', name, '--peers', this.peers)
    if (this.peers !== undefined && via !== undefined) args.push('--peer-via', via)
    const up = new Up(args, join(folder, `ready-${this.life}.json`), this.command)
    this.#up = up
    this.#isRunning = true
    this.#ended = up.ended.then(({ code }) => {
      this.#isRunning = false
      this.isPaused = false
      if (!this.#isAsked) this.failures.push(`${name} ended by itself with ${up.process.signalCode ?? code}: ${up.said().slice(-4000)}`)
    })
  }

  /** Resolves when it serves. @throws Error when it ends, or does not serve within `ms_max` */
  async ready(ms_max: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(
        () => reject(new Error(`${this.name} does not serve after ${ms_max} ms: ${this.#up!.said().slice(-1000)}\n${this.logEnd()}`)),
        ms_max,
      )
    })
    try {
      await Promise.race([this.#up!.ready, late])
    } finally {
      clearTimeout(timer)
    }
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** As an operator does. @throws Error when it is still there after `ms_max` */
  async stop(ms_max = 15_000): Promise<void> {
    const timer = setTimeout(() => {
      this.failures.push(`${this.name} did not stop within ${ms_max} ms of SIGTERM`)
      this.#kill('SIGKILL')
    }, ms_max)
    await this.#end('SIGTERM')
    clearTimeout(timer)
  }

  pause(): void {
    if (this.#kill('SIGSTOP')) this.isPaused = true
  }

  resume(): void {
    if (this.#kill('SIGCONT')) this.isPaused = false
  }

  /** Its disk is lost. Only while it does not run. */
  async wipe(): Promise<void> {
    if (this.isRunning) throw new Error(`${this.name} runs`)
    await rm(this.dataFolder, { recursive: true, force: true })
  }

  logEnd(): string {
    const file = join(this.setup.folder, 'node.log')
    return existsSync(file) ? readFileSync(file, 'utf8').slice(-3000) : ''
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    this.#isAsked = true
    if (this.isPaused && signal !== 'SIGKILL') this.resume()
    this.#kill(signal)
    await this.#ended
  }

  #kill(signal: NodeJS.Signals): boolean {
    return this.#isRunning && this.#up!.process.kill(signal)
  }
}
