/**
 * One scenario on running nodes: clients and watchers at every node, clients that know all nodes, as the owner and as another principal, lockers,
 * faults, healing, a last look, and the check of all that was answered.
 *
 * R1 Once all is healed, a write through each node succeeds within `heal_ms_max`.
 * R2 What failed can be looked at: the seed, the history and the nodes' logs are kept, and where they are is said.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { allRights } from '../../namespace/rights.ts'
import { connect } from '../../sdk/connect.ts'
import type { Session } from '../../sdk/session.ts'
import { check } from '../linearizability/check.ts'
import { Recorder, toLines } from '../linearizability/history.ts'
import type { History, Key } from '../linearizability/history.ts'
import { randomOf } from '../raft/simulation.ts'
import { ChaosClient, StoreSeen, request_ms } from './client.ts'
import type { ChaosKeys } from './client.ts'
import { ChaosCluster } from './cluster.ts'
import { ChaosLocker } from './locker.ts'
import type { NodeProcess } from './node-process.ts'
import type { Chaos, Scenario } from './scenarios.ts'
import { ChaosWatcher } from './watcher.ts'

export interface Played {
  readonly scenario: string
  readonly operations: number
  readonly unknown: number
  readonly events: number
  /** How often watches went on at another node. */
  readonly moves: number
  /** Locks taken. */
  readonly locks: number
  /** From healing to the last node's first write. */
  readonly healedMs: number
}

const heal_ms_max = 10_000
const progress_ms_max = 20_000
/** Over all nodes, and at least at each. */
const clients_min = 6
const clients_a_node_min = 2
/** Of each client that knows all nodes, so that a side that goes on is known to serve it. */
const answers_wandering = 2
const keys: ChaosKeys = {
  plain: Array.from({ length: 8 }, (_, index) => `k${index}`),
  roaming: ['r0', 'r1'],
  large: ['l0', 'l1'],
}
const locks: readonly Key[] = ['lock0', 'lock1']
/** A principal beside the owner. */
const other = 'ann'

export class ChaosRun {
  readonly cluster: ChaosCluster
  readonly #folder: string
  /** One a node. */
  readonly #sessions: readonly Session[]
  /** With all nodes. */
  readonly #wandering: readonly Session[]
  #count = 0
  #isKept = false

  private constructor(cluster: ChaosCluster, folder: string, sessions: readonly Session[], wandering: readonly Session[]) {
    this.cluster = cluster
    this.#folder = folder
    this.#sessions = sessions
    this.#wandering = wandering
  }

  static async start(size: number): Promise<ChaosRun> {
    const folder = await mkdtemp(join(tmpdir(), 'ninefold-chaos-'))
    const cluster = await ChaosCluster.start(folder, size)
    const sessions: Session[] = []
    const wandering: Session[] = []
    try {
      for (const node of cluster.nodes)
        sessions.push(await connect({ address: node.setup.grpc, token: cluster.token, clientName: node.name }))
      const { token } = (await sessions[0]!.control('token.create', { name: other })) as { token: string }
      const addresses = cluster.nodes.map(({ setup }) => setup.grpc)
      wandering.push(await connect({ addresses, token: cluster.token, clientName: 'leader' }))
      wandering.push(await connect({ addresses, token, route: 'any', clientName: 'any' }))
    } catch (error) {
      await cluster.close()
      throw error
    }
    return new ChaosRun(cluster, folder, sessions, wandering)
  }

  /** @throws Error with everything that is wrong, the seed, and where the history and the logs are */
  async play(scenario: Scenario, seed: number): Promise<Played> {
    const recorder = new Recorder()
    try {
      return await this.#play(scenario, seed, recorder)
    } catch (error) {
      this.#isKept = true // R2
      // What comes after it is not to fail for it.
      await this.cluster.heal().catch(() => undefined)
      const file = join(this.#folder, `history-${this.#count}.jsonl`)
      await writeFile(file, toLines(recorder.end()))
      const again = `NINE_CHAOS_SEED=${seed}, history ${file}, logs beside it`
      throw new Error(`${scenario.name} on ${this.cluster.nodes.length} nodes (${again}): ${(error as Error).message}`, { cause: error })
    }
  }

  async close(): Promise<void> {
    await this.cluster.close()
    await Promise.all([...this.#sessions, ...this.#wandering].map((session) => session.close()))
    if (!this.#isKept) await rm(this.#folder, { recursive: true, force: true })
  }

  async #play(scenario: Scenario, seed: number, recorder: Recorder): Promise<Played> {
    const random = randomOf(seed)
    const folder = `/data/chaos-${++this.#count}`
    const first = this.#sessions[0]!.client
    await first.mkdir(folder, { timeoutMs: heal_ms_max })
    const { position } = await first.setRights(folder, [{ who: other, rights: allRights }], { timeoutMs: heal_ms_max })
    const lockFolder = `${folder}-locks`
    await first.mkdir(lockFolder, { timeoutMs: heal_ms_max })
    await first.setRights(lockFolder, [{ who: other, rights: allRights }], { timeoutMs: heal_ms_max })
    const seen = new StoreSeen()
    const each = Math.max(clients_a_node_min, Math.ceil(clients_min / this.cluster.nodes.length))
    const clients = this.cluster.nodes.flatMap((node, at) =>
      Array.from({ length: each }, (_, index) => {
        const name = `${node.name}${'abcdefgh'[index]!}`
        return new ChaosClient({
          name,
          session: this.#sessions[at]!,
          node,
          recorder,
          random: randomOf(seed + 100 * at + index + 1),
          folder,
          keys,
          seen,
        })
      }),
    )
    for (const [index, session] of this.#wandering.entries()) {
      const own = randomOf(seed + 2000 + index)
      clients.push(new ChaosClient({ name: `all${index}`, session, node: undefined, recorder, random: own, folder, keys, seen }))
    }
    const lockers = [this.#sessions[0]!, this.#sessions.at(-1)!, ...this.#wandering].map(
      (session, index) => new ChaosLocker(`lock${index}`, session, recorder, randomOf(seed + 3000 + index), lockFolder, locks),
    )
    const watchers = ['w1', 'w2'].map(
      (name, index) => new ChaosWatcher(name, this.#sessions, recorder, randomOf(seed + 1000 + index), folder, position),
    )
    const stopClients = new AbortController()
    const stopWatchers = new AbortController()
    const asking = Promise.all([...clients, ...lockers].map((client) => client.run(stopClients.signal)))
    const watching = Promise.all(watchers.map((watcher) => watcher.run(stopWatchers.signal)))
    // Told where they are awaited.
    for (const one of [asking, watching]) one.catch(() => undefined)
    try {
      await scenario.run(this.#chaos(random, clients))
      const healedMs = await this.#heal(clients)
      stopClients.abort()
      await asking
      const { final, revision } = await this.#lastLook(clients)
      await this.#awaitWatchers(watchers, revision)
      stopWatchers.abort()
      await watching
      const history = recorder.end()
      judge(history, final, [
        ...this.cluster.failures,
        ...clients.flatMap(({ problems }) => problems),
        ...lockers.flatMap(({ problems }) => problems),
        ...watchers.flatMap(({ problems }) => problems),
      ])
      const { operations } = history
      return {
        scenario: scenario.name,
        operations: operations.length,
        unknown: operations.filter(({ result }) => result === undefined).length,
        events: watchers.reduce((sum, { story }) => sum + story.told.length, 0),
        moves: watchers.reduce((sum, { moves }) => sum + moves, 0),
        locks: lockers.reduce((sum, { taken }) => sum + taken, 0),
        healedMs,
      }
    } finally {
      stopClients.abort()
      stopWatchers.abort()
      await Promise.allSettled([asking, watching])
    }
  }

  #chaos(random: () => number, clients: readonly ChaosClient[]): Chaos {
    const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)]!
    return {
      cluster: this.cluster,
      random,
      fault: pick(['blackhole', 'stall', 'refuse']),
      pick,
      hold: (ms) => new Promise((resolve) => setTimeout(resolve, ms * (1 + random() / 2))),
      progress: (nodes, answers) => progress(clients, nodes, answers),
      leader: () => this.#leader(),
      homeOfAny: () => this.#homeOfAny(),
      transfer: (node) => this.#transfer(node),
    }
  }

  /** Who says so in the newest term. @throws Error when nobody does for long */
  async #leader(): Promise<NodeProcess> {
    const until = performance.now() + heal_ms_max
    while (performance.now() < until) {
      const texts = await Promise.all(
        this.#sessions.map(({ client }) => client.readText('/raft/data/status', { timeoutMs: 1_000 }).catch(() => undefined)),
      )
      const said = texts.map((text) => (text === undefined ? undefined : (JSON.parse(text) as { role: string; term: number })))
      const leaders = said.flatMap((status, index) =>
        status?.role === 'leader' ? [{ term: status.term, node: this.cluster.nodes[index]! }] : [],
      )
      const newest = leaders.sort((a, b) => b.term - a.term)[0]
      if (newest !== undefined) return newest.node
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    throw new Error(`nobody led within ${heal_ms_max} ms`)
  }

  #homeOfAny(): NodeProcess {
    const home = this.#wandering
      .at(-1)!
      .status()
      .nodes.find(({ isHome }) => isHome)
    return this.cluster.node(home!.node!)
  }

  /** As an operator asks for it, at whichever node answers. */
  async #transfer({ name }: NodeProcess): Promise<void> {
    await this.#wandering[0]!.client.write('/raft/data/ctl', `transfer ${name}`, { timeoutMs: heal_ms_max })
  }

  /** R1 @returns milliseconds it took */
  async #heal(clients: readonly ChaosClient[]): Promise<number> {
    await this.cluster.heal()
    await this.cluster.ready(this.cluster.nodes)
    const began = performance.now()
    await Promise.all(
      clients.map(async (client) => {
        for (;;) {
          const result = await client.ask({ do: 'append', key: keys.plain[0]!, value: client.value() }, heal_ms_max)
          const ms = Math.round(performance.now() - began)
          if (result?.was === 'done' && ms <= heal_ms_max) return
          if (ms > heal_ms_max) throw new Error(`no write through ${client.where} succeeded within ${heal_ms_max} ms after all was healed`)
          await new Promise((resolve) => setTimeout(resolve, 50))
        }
      }),
    )
    return Math.round(performance.now() - began)
  }

  /** Strict reads of every file through every node: all the same, as nobody changes anything any more. */
  async #lastLook(clients: readonly ChaosClient[]): Promise<{ final: Map<Key, string>; revision: number }> {
    const final = new Map<Key, string>()
    let revision = 0
    for (const client of clients) {
      for (const key of [...keys.plain, ...keys.roaming, ...keys.large]) {
        const result = await client.ask({ do: 'read', key }, heal_ms_max)
        if (result === undefined) throw new Error(`a last read through ${client.where} failed`)
        if (result.was === 'read') final.set(key, result.value)
        revision = Math.max(revision, result.revision ?? 0)
      }
    }
    return { final, revision }
  }

  async #awaitWatchers(watchers: readonly ChaosWatcher[], revision: number): Promise<void> {
    const signal = AbortSignal.timeout(heal_ms_max)
    for (const watcher of watchers) {
      if (await watcher.reached(revision, signal)) continue
      const { name, upTo } = watcher.story
      throw new Error([`the watch ${name} saw up to ${upTo} of ${revision} within ${heal_ms_max} ms`, ...watcher.problems].join('\n'))
    }
  }
}

/** @throws Error when these nodes did not answer so often in time */
async function progress(clients: readonly ChaosClient[], nodes: readonly NodeProcess[], answers: number): Promise<void> {
  const own = clients.filter(({ parts }) => parts.node !== undefined && nodes.includes(parts.node))
  const wandering = clients.filter(({ parts }) => parts.node === undefined)
  const wanted = new Map(wandering.map((client) => [client, client.answered + answers_wandering]))
  const count = (): number => own.reduce((sum, { answered }) => sum + answered, 0)
  const first = count()
  const until = performance.now() + progress_ms_max
  const silent = (): ChaosClient[] => wandering.filter((client) => client.answered < wanted.get(client)!)
  while (count() - first < answers || silent().length > 0) {
    if (performance.now() > until) {
      const names = nodes.map(({ name }) => name).join(', ')
      const who = silent().map(({ parts }) => `${parts.name} (${JSON.stringify(parts.session.status())})`).join(', ') // prettier-ignore
      const left = who === '' ? '' : `; clients of all nodes that were not answered: ${who}`
      throw new Error(`${names} answered ${count() - first} requests within ${progress_ms_max} ms, not ${answers}${left}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** @throws Error with all that is wrong */
function judge(history: History, final: ReadonlyMap<Key, string>, problems: readonly string[]): void {
  const report = check(history, { final })
  if (report.verdict === 'ok' && problems.length === 0) return
  throw new Error([`the history is ${report.verdict}`, ...report.problems, ...problems.slice(0, 20)].join('\n\n'))
}

/** Longest that one scenario may take beside its own holding, for the test's time. */
export const scenario_ms_max = 180_000 + 2 * request_ms
