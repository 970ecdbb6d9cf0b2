/**
 * Drives our own nodes through the SDK, asked as the Go driver of the peers is (peers/driver.ts): one JSON object a line each way.
 *
 *     tsx bench/cluster-client.ts TOKEN_FILE HOST:PORT...
 */
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { contextFor } from '../namespace/context.ts'
import type { Context } from '../namespace/context.ts'
import type { FileServer } from '../namespace/file-server.ts'
import { joinName, parsePath } from '../namespace/path.ts'
import type { Path } from '../namespace/path.ts'
import { connect } from '../sdk/connect.ts'
import type { Session } from '../sdk/session.ts'
import { leaderOf, stateOf } from './cluster-state.ts'
import type { Command, Figures } from './peers/driver.ts'
import { putsToWatch } from './put-to-watch.ts'

// As of the Go driver.
const keys = 10_000
const patience_ms = 60_000
const probe_every_ms = 20
const value = Buffer.alloc(256, 'abcdefghijklmnopqrstuvwxyz')
const directory = parsePath('/data/bench')
const paths = Array.from({ length: keys }, (_, i) => joinName(directory, `key-${i}`))
const watched = joinName(directory, 'watched')
const probed = joinName(directory, 'probe')

type Operation = (server: FileServer, context: Context, path: Path) => Promise<unknown>

const operations: Partial<Record<Command['do'], Operation>> = {
  put: (server, context, path) => server.write(context, path, value),
  get: (server, context, path) => server.read(context, path),
  staleGet: (server, context, path) => server.read(context, path, { consistency: 'stale' }),
}

class Client {
  readonly #tokenFile: string
  readonly #addresses: readonly string[]
  /** One to each node, for questions and probes. */
  readonly #sessions: Session[] = []
  /** To the leader: what is measured. */
  #aimed: Session | undefined

  constructor(tokenFile: string, addresses: readonly string[]) {
    this.#tokenFile = tokenFile
    this.#addresses = addresses
  }

  async open(): Promise<void> {
    for (const address of this.#addresses) this.#sessions.push(await this.#connect(address))
    await until(() => this.#sessions[0]!.client.mkdir(directory, { parents: true }).catch(ignoreExists))
  }

  async perform({ do: what, inFlight = 1, seconds = 1 }: Command): Promise<Figures> {
    const operation = operations[what]
    if (operation !== undefined) return timed(this.#aimed!, inFlight, seconds, operation)
    switch (what) {
      case 'aim':
        await this.#aimed?.close()
        this.#aimed = await this.#connect(this.#addresses[await until(() => leaderOf(this.#sessions))]!)
        return {}
      case 'fill':
        await fill(this.#aimed!)
        return {}
      case 'watch':
        return watchLatency(this.#aimed!, seconds)
      case 'probe':
        await this.#probe()
        return {}
      case 'leader':
        return { leader: await leaderOf(this.#sessions) }
      case 'settled':
        await until(() => this.#settled())
        return {}
      default:
        throw new Error(`no command ${what}`)
    }
  }

  #connect(address: string): Promise<Session> {
    return until(() => connect({ address, tokenFile: this.#tokenFile, timeoutMs: patience_ms }))
  }

  /** Begins a put every 20 ms, through one node after the other; done when the first is acknowledged. */
  async #probe(): Promise<void> {
    let isDone = false
    let last: unknown
    const put = (session: Session): Promise<void> =>
      session.client.write(probed, 'x').then(
        () => void (isDone = true),
        (error) => void (last = error),
      )
    const end = performance.now() + patience_ms
    for (let i = 0; !isDone && performance.now() < end; i++) {
      const attempt = put(this.#sessions[i % this.#sessions.length]!)
      await Promise.race([attempt, setTimeout(probe_every_ms)])
    }
    if (!isDone) throw new Error(`no put was acknowledged; last: ${String(last)}`)
  }

  /** Every node has what the leader has, and answers. */
  async #settled(): Promise<void> {
    const states = await Promise.all(this.#sessions.map(stateOf))
    const [first] = states
    for (const { leader, applied } of states) {
      if (leader === null || leader !== first!.leader) throw new Error('the nodes follow different leaders')
      if (applied !== first!.applied) throw new Error('a node is behind')
    }
    // What each answers is what was acknowledged last.
    for (const session of this.#sessions) await session.client.stat(directory)
  }
}

async function timed({ client }: Session, inFlight: number, seconds: number, operation: Operation): Promise<Figures> {
  const { server, principal } = client
  const context = contextFor(principal, Infinity)
  const micros: number[] = []
  const cpu = process.cpuUsage()
  const begun = performance.now()
  const end = begun + seconds * 1000
  const worker = async (first: number): Promise<void> => {
    for (let i = first, from = performance.now(); from < end; i++) {
      await operation(server, context, paths[i % keys]!)
      const now = performance.now()
      micros.push((now - from) * 1000)
      from = now
    }
  }
  await Promise.all(Array.from({ length: inFlight }, (_, i) => worker(Math.floor((i * keys) / inFlight))))
  const took = (performance.now() - begun) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return { perSecond: micros.length / took, ...quantiles(micros), cpuSeconds: (user + system) / 1e6 }
}

function quantiles(micros: readonly number[]): { medianMicros: number; p99Micros: number } {
  const sorted = Float64Array.from(micros).sort()
  return { medianMicros: sorted[sorted.length >> 1]!, p99Micros: sorted[Math.floor(sorted.length * 0.99)]! }
}

async function fill({ client }: Session): Promise<void> {
  const context = contextFor(client.principal, Infinity)
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < keys) await client.server.write(context, paths[next++]!, value)
  }
  await Promise.all(Array.from({ length: 200 }, worker))
}

/** From the put until its event is here, one after the other. */
async function watchLatency(session: Session, seconds: number): Promise<Figures> {
  let end: number | undefined
  return quantiles(
    await putsToWatch(
      session,
      contextFor(session.client.principal, Infinity),
      watched,
      () => performance.now() < (end ??= performance.now() + seconds * 1000),
    ),
  )
}

/** Repeats what a cluster can do only when all of it is there. */
async function until<T>(attempt: () => Promise<T>): Promise<T> {
  for (const end = performance.now() + patience_ms; ;) {
    try {
      return await attempt()
    } catch (error) {
      if (performance.now() > end) throw error
      await setTimeout(probe_every_ms)
    }
  }
}

function ignoreExists(error: unknown): void {
  if ((error as { kind?: string }).kind !== 'exists') throw error
}

const [tokenFile, ...addresses] = process.argv.slice(2)
const client = new Client(tokenFile!, addresses)
const say = (figures: Figures): void => void process.stdout.write(`${JSON.stringify(figures)}\n`)
const failed = (error: unknown): Figures => ({ error: error instanceof Error ? error.message : String(error) })
say(await client.open().then(() => ({}), failed))
for await (const line of createInterface({ input: process.stdin })) {
  say(await client.perform(JSON.parse(line) as Command).catch(failed))
}
process.exit()
