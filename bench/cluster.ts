/**
 * Three of our nodes beside three of etcd and of NATS (JetStream KV with three replicas) in one run on one machine: the same keys, the
 * same 256 B values, the same time for each, in rounds that ask one after the other. What counts is the ratio within a round.
 * Exported for bench/all.ts; alone: npx tsx bench/cluster.ts [--smoke] [--json]
 */
import { OwnCluster } from './cluster-nodes.ts'
import { measureRecovery } from './cluster-recovery.ts'
import type { RecoveryFigures, RecoverySizes } from './cluster-recovery.ts'
import type { Subject } from './peers/cluster-process.ts'
import type { Command, Figures } from './peers/driver.ts'
import { startEtcdCluster } from './peers/etcd-cluster.ts'
import { startNatsCluster } from './peers/nats-cluster.ts'

export interface ClusterSizes extends RecoverySizes {
  readonly rounds: number
  /** Of each measurement. */
  readonly seconds: number
  /** Leaders killed of each cluster. */
  readonly kills: number
  readonly hasPeers: boolean
}

export interface ClusterReport {
  readonly rows: readonly ClusterRow[]
  /** Undefined when it failed; a note says why, and the process ends with 1. */
  readonly recovery: RecoveryFigures | undefined
  /** Peers that were left out, and measurements that failed, with why. */
  readonly notes: readonly string[]
}

export interface ClusterRow {
  readonly what: string
  readonly unit: '/s' | ' µs' | ' s'
  /** By round. */
  readonly figures: Readonly<Record<string, readonly number[]>>
  /** Seconds of a core that the servers and the driver took for one operation, in microseconds; medians. */
  readonly cpuMicros: Readonly<Record<string, number>>
  readonly goal?: string
}

export const fullClusterSizes: ClusterSizes = {
  rounds: 5,
  seconds: 2,
  kills: 5,
  hasPeers: true,
  keys: 1_000_000,
  groups: 1_000,
  idleSeconds: 10,
}
export const smokeClusterSizes: ClusterSizes = {
  rounds: 1,
  seconds: 0.2,
  kills: 1,
  hasPeers: false,
  keys: 20_000,
  groups: 10,
  idleSeconds: 1,
}

interface Step {
  readonly what: string
  readonly command: Command
  readonly goal?: string
  /** Subjects that cannot do it. */
  readonly without?: string
}

const steps: readonly Step[] = [
  { what: 'puts, one at a time', command: { do: 'put', inFlight: 1 }, goal: '≥ 1.2×' },
  { what: 'puts, 200 in flight', command: { do: 'put', inFlight: 200 }, goal: '≥ 4×' },
  { what: 'linearizable reads, one at a time', command: { do: 'get', inFlight: 1 }, without: 'nats', goal: '≥ 1.5×' },
  { what: 'linearizable reads, 200 in flight', command: { do: 'get', inFlight: 200 }, without: 'nats', goal: '≥ 6×' },
  { what: 'stale reads, one at a time', command: { do: 'staleGet', inFlight: 1 } },
  { what: 'stale reads, 200 in flight', command: { do: 'staleGet', inFlight: 200 } },
  { what: 'put to watch, median', command: { do: 'watch' }, goal: '≤ 1×' },
]

/** @throws Error when our own cluster does not do what it is asked */
export async function runCluster(sizes: ClusterSizes): Promise<ClusterReport> {
  const notes: string[] = []
  const rows: ClusterRow[] = []
  const subjects: Subject[] = []
  try {
    subjects.push(await OwnCluster.start())
    if (sizes.hasPeers) {
      for (const start of [startEtcdCluster, startNatsCluster]) {
        const started = await start()
        if (typeof started === 'string') notes.push(`${start === startEtcdCluster ? 'etcd' : 'nats'}: left out, ${started}`)
        else subjects.push(started)
      }
    }
    await prepare(subjects)
    rows.push(...(await measureSteps(subjects, sizes, notes)))
    rows.push(await measureKills(subjects, sizes, notes))
  } finally {
    for (const subject of subjects) await subject.stop()
  }
  const recovery = await measureRecovery(sizes).catch((error: Error) => {
    // What was measured before is worth telling.
    process.exitCode = 1
    notes.push(`recovery: ${error.message}`)
    return undefined
  })
  return { rows, recovery, notes }
}

async function prepare(subjects: readonly Subject[]): Promise<void> {
  for (const { driver } of subjects) {
    await driver.ask({ do: 'aim' })
    await driver.ask({ do: 'fill' })
  }
}

async function measureSteps(subjects: readonly Subject[], sizes: ClusterSizes, notes: string[]): Promise<ClusterRow[]> {
  const rows = steps.map(({ what, command, goal }) => {
    const unit = command.do === 'watch' ? (' µs' as const) : ('/s' as const)
    return { what, unit, goal, figures: namedLists(subjects), cpu: namedLists(subjects) }
  })
  // The first round warms all of them up and does not count.
  for (let round = -1; round < sizes.rounds; round++) {
    // Leadership may have moved.
    for (const { driver } of subjects) await driver.ask({ do: 'aim' })
    for (const [at, { what, command, without }] of steps.entries()) {
      // Each begins in turn, so that none is always first.
      for (let i = 0; i < subjects.length; i++) {
        const subject = subjects[(round + 1 + i) % subjects.length]!
        if (subject.name === without) continue
        const cpu = subject.processes.cpuSeconds()
        const found = await attempt(subject, () => subject.driver.ask({ ...command, seconds: sizes.seconds }), what, notes)
        if (found === undefined || round < 0) continue
        const used = subject.processes.cpuSeconds() - cpu + (found.cpuSeconds ?? 0)
        rows[at]!.figures[subject.name]!.push(found.perSecond ?? found.medianMicros!)
        if (found.perSecond !== undefined) rows[at]!.cpu[subject.name]!.push((used / (found.perSecond * sizes.seconds)) * 1e6)
      }
    }
  }
  return rows.map(({ cpu, ...row }) => ({ ...row, cpuMicros: mapValues(cpu, median) }))
}

/** From the kill of the leader's process to the first acknowledgement of a put begun after it. */
async function measureKills(subjects: readonly Subject[], sizes: ClusterSizes, notes: string[]): Promise<ClusterRow> {
  const figures = namedLists(subjects)
  const what = 'leader killed to next acknowledged put'
  for (let round = 0; round < sizes.kills; round++) {
    for (const subject of subjects) {
      const { driver, processes } = subject
      await attempt(
        subject,
        async () => {
          const leader = (await driver.ask({ do: 'leader' })).leader!
          const begun = performance.now()
          await processes.end(leader)
          await driver.ask({ do: 'probe' })
          figures[subject.name]!.push((performance.now() - begun) / 1000)
          subject.begin(leader)
          return driver.ask({ do: 'settled' })
        },
        what,
        notes,
      )
    }
  }
  return { what, unit: ' s', figures, cpuMicros: {}, goal: '≤ 1.5 s' }
}

/** What fails of a peer is left out and said; what fails of ours fails the run. */
async function attempt(subject: Subject, act: () => Promise<Figures>, what: string, notes: string[]): Promise<Figures | undefined> {
  try {
    return await act()
  } catch (cause) {
    const message = `${subject.name}: ${what}: ${(cause as Error).message}`
    if (subject instanceof OwnCluster) throw new Error(`${message}\n${subject.processes.lastWords()}`, { cause })
    if (!notes.includes(message)) notes.push(message)
    return undefined
  }
}

export function printCluster({ rows, recovery, notes }: ClusterReport): void {
  console.log('\nthree nodes of each; medians of rounds, ± half the span from least to most (≤ the most); ratios to etcd within a round')
  print(['', 'ninefold', '', 'etcd', '', 'ratio', 'goal', 'nats', ''])
  for (const row of rows) {
    const { ninefold = [], etcd = [], nats = [] } = row.figures
    const isTime = row.unit !== '/s'
    const ratios = ninefold.map((own, round) => own / (etcd[round] ?? NaN)).filter((ratio) => !Number.isNaN(ratio))
    const ratio = ratios.length === 0 || row.unit === ' s' ? '' : `${median(ratios).toFixed(2)}×`
    const spreads = (list: readonly number[]): string => (isTime && row.unit === ' s' ? mostOf(list) : spreadOf(list))
    print([
      row.what,
      amount(ninefold, row.unit),
      spreads(ninefold),
      amount(etcd, row.unit),
      spreads(etcd),
      ratio,
      row.goal ?? '',
      amount(nats, row.unit),
      spreads(nats),
    ])
  }
  console.log('CPU of servers and driver together, µs an operation:')
  for (const { what, cpuMicros } of rows) {
    const known = Object.entries(cpuMicros).filter(([, micros]) => !Number.isNaN(micros))
    if (known.length > 0) console.log(`  ${what.padEnd(40)} ${known.map(([name, micros]) => `${name} ${micros.toFixed(0)}`).join(', ')}`)
  }
  if (recovery !== undefined) printRecovery(recovery)
  for (const note of notes) console.log(note)
}

function printRecovery(recovery: RecoveryFigures): void {
  const { keys, restartReadySeconds, restartReadSeconds, catchUp } = recovery
  const number = keys.toLocaleString('en')
  console.log(
    `restart of a node with ${number} keys: ready in ${restartReadySeconds.toFixed(2)} s, reads in ${restartReadSeconds.toFixed(2)} s`,
  )
  console.log(`  goal ≤ 5 s with 1,000,000`)
  console.log(
    `catch-up of an empty node, ${number} keys: ${catchUp.seconds.toFixed(2)} s, ${catchUp.megabytesPerSecond.toFixed(1)} MB/s (goal ≥ 50)`,
  )
  const percent = recovery.idlePercent.map((value) => value.toFixed(1)).join(', ')
  const mebibytes = recovery.idleMebibytes.map((value) => value.toFixed(0)).join(', ')
  console.log(`${recovery.groups} idle groups: ${percent} % of a core (goal ≤ 5), ${mebibytes} MiB a node (goal ≤ 200)`)
}

function namedLists(subjects: readonly Subject[]): Record<string, number[]> {
  return Object.fromEntries(subjects.map(({ name }) => [name, []]))
}

function mapValues(lists: Record<string, number[]>, of: (list: readonly number[]) => number): Record<string, number> {
  return Object.fromEntries(Object.entries(lists).map(([name, list]) => [name, of(list)]))
}

/** NaN of nothing. */
function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN
}

function amount(values: readonly number[], unit: string): string {
  if (values.length === 0) return '-'
  const value = median(values)
  return `${value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(value < 10 ? 2 : 1)}${unit}`
}

function spreadOf(values: readonly number[]): string {
  if (values.length < 2) return ''
  return `±${(((Math.max(...values) - Math.min(...values)) / 2 / median(values)) * 100).toFixed(0)}%`
}

function mostOf(values: readonly number[]): string {
  return values.length === 0 ? '' : `≤${Math.max(...values).toFixed(2)}`
}

function print(cells: readonly string[]): void {
  const widths = [40, 12, 7, 12, 7, 8, 8, 12, 7]
  console.log(cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(' '))
}

if (process.argv[1] === import.meta.filename) {
  // An end by exit() takes the processes and folders along.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
  const report = await runCluster(process.argv.includes('--smoke') ? smokeClusterSizes : fullClusterSizes)
  if (process.argv.includes('--json')) console.log(JSON.stringify(report))
  else printCluster(report)
  process.exit()
}
