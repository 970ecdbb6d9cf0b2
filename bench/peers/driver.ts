/**
 * A program that drives a cluster and is told what to do: one JSON object a line each way. `peers/cluster` (Go) is one for etcd and
 * NATS, `cluster-client.ts` one for our own nodes; so all are asked the same.
 */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { isOnPath } from './etcd.ts'

export interface Command {
  /**
   * `aim`: connect to the leader. `fill`: put every key. `put`, `get` (linearizable), `staleGet`: for `seconds` with `inFlight` under way.
   * `watch`: from put to event. `probe`: until a put is acknowledged. `leader`: its number. `settled`: until all nodes have everything.
   */
  readonly do: 'aim' | 'fill' | 'put' | 'get' | 'staleGet' | 'watch' | 'probe' | 'leader' | 'settled'
  readonly inFlight?: number
  readonly seconds?: number
}

export interface Figures {
  readonly perSecond?: number
  readonly medianMicros?: number
  readonly p99Micros?: number
  /** Of the driver itself. */
  readonly cpuSeconds?: number
  readonly leader?: number
  readonly error?: string
}

const patience_ms = 5_000

export class Driver {
  readonly #child: ChildProcess
  readonly #waiting: ((figures: Figures) => void)[] = []
  #end: string | undefined

  /** @throws Error when it cannot begin */
  static async start(command: string, args: readonly string[]): Promise<Driver> {
    const driver = new Driver(command, args)
    try {
      await driver.#answer()
      return driver
    } catch (error) {
      await driver.stop()
      throw error
    }
  }

  private constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#waiting.shift()?.(JSON.parse(line) as Figures))
    const ended = (why: string): void => {
      this.#end = why
      for (const waiting of this.#waiting.splice(0)) waiting({ error: why })
    }
    this.#child.once('error', (error) => ended(error.message))
    this.#child.once('close', (status) => ended(`the driver ended with ${status}`))
    this.#child.stdin!.on('error', () => undefined)
  }

  get pid(): number {
    return this.#child.pid!
  }

  async ask(command: Command): Promise<Figures> {
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`)
    return this.#answer(command.do)
  }

  async stop(): Promise<void> {
    if (this.#end !== undefined) return
    const closed = new Promise((resolve) => this.#child.once('close', resolve))
    // Both end with their input.
    this.#child.stdin!.end()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), patience_ms)
    await closed
    clearTimeout(timer)
  }

  async #answer(what = 'start'): Promise<Figures> {
    const figures = await new Promise<Figures>((resolve) => {
      if (this.#end === undefined) this.#waiting.push(resolve)
      else resolve({ error: this.#end })
    })
    if (figures.error !== undefined) throw new Error(`${what}: ${figures.error}`)
    return figures
  }
}

/** The Go driver, built once into the user's cache; undefined when it cannot be. */
export function buildGoDriver(): string | undefined {
  if (!isOnPath('go')) return undefined
  const target = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'ninefold', 'clusterbench')
  const built = spawnSync('go', ['build', '-o', target, '.'], { cwd: join(import.meta.dirname, 'cluster'), stdio: 'ignore' })
  return built.status === 0 ? target : undefined
}
