/**
 * Kills nodes of a running cluster at failpoints: each life of the victim is started with the point at which it ends.
 *
 * K1 A node is where it is to fail (leading, following, without a disk) before its failpoint counts.
 * K2 A point that is not passed is a failure of the test, not one that is left out.
 * K3 No disk is lost before all nodes are voters of everything: two lost disks of three would be too many, and rightly so.
 */
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Client } from '../../sdk/client-api.ts'
import type { ChaosCluster } from '../chaos/cluster.ts'
import type { NodeProcess } from '../chaos/node-process.ts'
import type { Step } from './steps.ts'
import type { LargeValues } from './large-values.ts'

/** So that checkpoints, cuts and snapshots, which are rare, happen all the time. */
export const oftenFailpoints = 'checkpoint.ms=value(500);segment.bytes=value(65536);kept.entries=value(100)'

export interface KillerParts {
  readonly cluster: ChaosCluster
  /** As its owner, at a node. */
  readonly clientOf: (node: NodeProcess) => Client
  readonly leader: () => Promise<NodeProcess>
  readonly values: LargeValues
}

const pass_ms_max = 30_000
export const allStores = ['data', 'usr', 'sys']

export class Killer {
  /** What was done, and how long it took. */
  readonly done: string[] = []
  readonly #parts: KillerParts

  constructor(parts: KillerParts) {
    this.#parts = parts
  }

  /** Kill the victim at each step, the `times`-th time it passes: one life a step. Ends with all nodes running. */
  async play(victim: NodeProcess, steps: readonly { readonly step: Step; readonly times: number }[]): Promise<void> {
    const { cluster } = this.#parts
    for (const { step, times } of steps) {
      const began = performance.now()
      // K3
      if (step.role === 'joiner' || step.cause === 'another joins') {
        if (!victim.isRunning) startWith(victim, oftenFailpoints)
        await this.#settled()
      }
      await victim.kill()
      if (step.role === 'joiner') await victim.wipe()
      const counting = join(victim.setup.folder, 'counting')
      await rm(counting, { force: true })
      startWith(victim, `${oftenFailpoints};${step.point}=kill@${times}`, counting)
      if (step.role !== 'joiner') {
        await cluster.ready([victim])
        await this.#place(victim, step)
      }
      await writeFile(counting, '')
      const stop = new AbortController()
      const causing = this.#cause(victim, step, stop.signal).catch((error: unknown) => error)
      try {
        await this.#ended(victim, step, times)
      } finally {
        stop.abort()
      }
      await causing
      this.done.push(`${victim.name} ${step.role} ${step.point}@${times}: ${Math.round(performance.now() - began)} ms`)
    }
    startWith(victim, oftenFailpoints)
    await cluster.ready(cluster.nodes)
  }

  /** K1 */
  async #place(victim: NodeProcess, { role, cause }: Step): Promise<void> {
    if (role === 'any') return
    const mayLead = role === 'leader'
    for (;;) {
      const leader = await this.#parts.leader()
      if ((leader === victim) === mayLead) return
      await this.#transfer(victim, mayLead ? victim : this.#another(victim, leader)).catch(() => undefined)
      if (cause === 'start') return
    }
  }

  async #cause(victim: NodeProcess, { cause }: Step, stop: AbortSignal): Promise<void> {
    const { values, clientOf, leader } = this.#parts
    while (!stop.aborted) {
      if (cause === 'values') await values.write(clientOf(victim), stop)
      else if (cause === 'values elsewhere') await values.write(clientOf(this.#another(victim)), stop)
      else if (cause === 'save' || cause === 'defrag')
        await clientOf(victim)
          .write('/raft/data/ctl', cause === 'save' ? 'snapshot' : 'defrag', { timeoutMs: 5_000 })
          .catch(() => undefined)
      else if (cause === 'lead') await this.#transfer(victim, victim).catch(() => undefined)
      else if (cause === 'another leads')
        await this.#transfer(this.#another(victim), this.#another(victim, await leader())).catch(() => undefined)
      else if (cause === 'another joins') return this.#rejoin(this.#another(victim), stop)
      else return
      await pause(20)
    }
  }

  /** It loses its disk, and joins again. */
  async #rejoin(node: NodeProcess, stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      await node.kill()
      await node.wipe()
      startWith(node, oftenFailpoints)
      // Once the victim has failed nothing of it is waited for here.
      await Promise.race([this.#settled().catch(() => undefined), aborted(stop)])
    }
  }

  /** All nodes serve, and vote in every group. K3 */
  async #settled(): Promise<void> {
    const { cluster, clientOf } = this.#parts
    await cluster.ready(cluster.nodes)
    const end = performance.now() + pass_ms_max
    for (const node of cluster.nodes) {
      for (const store of allStores) {
        while (!(await isWhole(clientOf(node), store, cluster.nodes.length))) {
          if (performance.now() > end) throw new Error(`store ${store} is not whole at ${node.name} after ${pass_ms_max} ms`)
          await pause(20)
        }
      }
    }
  }

  async #transfer(at: NodeProcess, to: NodeProcess): Promise<void> {
    await this.#parts.clientOf(at).write('/raft/data/ctl', `transfer ${to.name}`, { timeoutMs: 3_000 })
  }

  #another(than: NodeProcess, nor?: NodeProcess): NodeProcess {
    return this.#parts.cluster.nodes.find((node) => node !== than && node !== nor)!
  }

  /** K2 */
  async #ended(victim: NodeProcess, step: Step, times: number): Promise<void> {
    const began = performance.now()
    while (victim.isRunning) {
      if (performance.now() - began > pass_ms_max)
        throw new Error(
          `${victim.name} (${step.role}) did not pass ${step.point} ${times} times within ${pass_ms_max} ms\n${victim.logEnd()}`,
        )
      await pause(5)
    }
    const said = victim.failures.splice(0)
    if (said.length !== 1 || !said[0]!.includes('SIGKILL')) throw new Error(`at ${step.point} ${victim.name} ended: ${said.join('; ')}`)
  }
}

/** Start a node with these failpoints; its environment is this process's at that moment. */
export function startWith(node: NodeProcess, failpoints: string | undefined, countingWhile?: string): void {
  const before = [process.env['NINE_FAILPOINTS'], process.env['NINE_FAILPOINTS_WHILE']]
  setEnvironment(failpoints, countingWhile)
  node.start()
  setEnvironment(before[0], before[1])
}

export function setEnvironment(failpoints: string | undefined, countingWhile?: string): void {
  if (failpoints === undefined) delete process.env['NINE_FAILPOINTS']
  else process.env['NINE_FAILPOINTS'] = failpoints
  if (countingWhile === undefined) delete process.env['NINE_FAILPOINTS_WHILE']
  else process.env['NINE_FAILPOINTS_WHILE'] = countingWhile
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Whether so many nodes vote in the group of a store, and no change of that is under way, as this node knows it. */
export async function isWhole(client: Client, store: string, nodes: number): Promise<boolean> {
  const text = await client.readText(`/raft/${store}/status`, { timeoutMs: 2_000 }).catch(() => undefined)
  if (text === undefined) return false
  const { configuration } = JSON.parse(text) as { configuration: Record<'voters' | 'outgoing' | 'learners', string[]> }
  return configuration.voters.length === nodes && configuration.outgoing.length === 0 && configuration.learners.length === 0
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
