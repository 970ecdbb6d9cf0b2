/**
 * One node as a process of its own, which can be killed, paused and started again on the same ports and folder.
 *
 * N1 Whatever becomes of the test, no process that it started is left: each is killed at the latest when this process exits.
 * N2 A process that ends without being asked to is a failure, with what it said last.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, readFileSync, watch } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'

/** The compiled command; NINE_CHAOS_COMMAND names another build. */
const command = process.env['NINE_CHAOS_COMMAND'] ?? join(import.meta.dirname, '..', '..', 'dist', 'cli', 'nine.js')

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

const live = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of live) child.kill('SIGKILL') // N1
})

export class NodeProcess {
  readonly setup: NodeSetup
  /** Counts its runs, and each time it was paused: what one run answers never goes back. */
  life = 0
  isPaused = false
  /** What it is told of its peers from its next start on, as --peers has it; undefined: it is alone. */
  peers: string | undefined
  /** What went wrong with it by itself. */ // N2
  readonly failures: string[] = []
  #child: ChildProcess | undefined
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
    return this.#child !== undefined
  }

  get dataFolder(): string {
    return join(this.setup.folder, 'data')
  }

  /** Start the process; it serves once `ready` resolves. */
  start(): void {
    if (this.#child !== undefined) throw new Error(`${this.name} runs already`)
    const { name, folder, grpc, tokenFile, via } = this.setup
    this.life++
    this.#isAsked = false
    const args = ['up', '--data', this.dataFolder, '--grpc', grpc, '--http', '127.0.0.1:0', '--token-file', tokenFile]
    args.push('--owner', 'chaos', '--ready-file', this.#readyFile(), '--log-file', join(folder, 'node.log'), '--log-level', 'info')
    if (this.peers !== undefined) args.push('--node', name, '--peers', this.peers)
    if (this.peers !== undefined && via !== undefined) args.push('--peer-via', via)
    const child = spawn(process.execPath, [command, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.on('data', (part: Buffer) => (said = (said + part.toString()).slice(-4000)))
    live.add(child)
    this.#child = child
    this.#ended = new Promise((resolve) => {
      child.once('close', (code, signal) => {
        live.delete(child)
        if (this.#child === child) this.#child = undefined
        this.isPaused = false
        if (!this.#isAsked) this.failures.push(`${name} ended by itself with ${signal ?? code}: ${said}`)
        resolve()
      })
    })
  }

  /** Resolves when it serves. @throws Error when it ends, or does not serve within `ms_max` */
  async ready(ms_max: number): Promise<void> {
    const file = this.#readyFile()
    const { life } = this
    await new Promise<void>((resolve, reject) => {
      const done = (error?: Error): void => {
        watcher.close()
        clearTimeout(timer)
        if (error === undefined) resolve()
        else reject(error)
      }
      // The file appears by rename, so one look after each change of the folder is enough.
      const look = (): void => void (existsSync(file) && done())
      const watcher = watch(this.setup.folder, look)
      const timer = setTimeout(() => done(new Error(`${this.name} does not serve after ${ms_max} ms\n${this.logEnd()}`)), ms_max)
      void this.#ended.then(
        () => this.life === life && done(new Error(`${this.name} ended before it served: ${this.failures.at(-1) ?? ''}`)),
      )
      look()
    })
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** As an operator does. @throws Error when it is still there after `ms_max` */
  async stop(ms_max = 15_000): Promise<void> {
    const timer = setTimeout(() => {
      this.failures.push(`${this.name} did not stop within ${ms_max} ms of SIGTERM`)
      this.#child?.kill('SIGKILL')
    }, ms_max)
    await this.#end('SIGTERM')
    clearTimeout(timer)
  }

  pause(): void {
    if (this.#child?.kill('SIGSTOP') === true) this.isPaused = true
  }

  resume(): void {
    if (this.#child?.kill('SIGCONT') === true) this.isPaused = false
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
    this.#child?.kill(signal)
    await this.#ended
  }

  #readyFile(): string {
    return join(this.setup.folder, `ready-${this.life}.json`)
  }
}
