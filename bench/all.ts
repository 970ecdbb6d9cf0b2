/**
 * The node, and a cluster of three, beside their peers in one run: rates, latencies and their ratios, and which goals they meet.
 * Absolute numbers of shared machines are noise; quote the ratios.  npm run bench [-- --smoke | --json]
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fullClusterSizes, printCluster, runCluster, smokeClusterSizes } from './cluster.ts'
import { fullNinepSizes, printNinep, runNinep, smokeNinepSizes } from './ninep.ts'
import { fullSizes, runNode, smokeSizes } from './node.ts'
import type { NodeRates } from './node.ts'
import { runEtcd } from './peers/etcd.ts'
import type { PeerRates } from './peers/etcd.ts'
import { runRedis } from './peers/redis.ts'

const isSmoke = process.argv.includes('--smoke')
const sizes = isSmoke ? smokeSizes : fullSizes
// The smoke run shows that everything runs; peers would only cost its time.
const skipped = 'left out of a smoke run'
const etcd = isSmoke ? skipped : await runEtcd(20_000)
const redis = isSmoke ? skipped : await runRedis(50_000)
const node = await runNode(sizes)
const ninep = await runNinep(isSmoke ? smokeNinepSizes : fullNinepSizes)
const cluster = await runCluster(isSmoke ? smokeClusterSizes : fullClusterSizes)

interface Row {
  readonly what: string
  readonly key: keyof NodeRates
  readonly unit: string
  /** Least ratio to etcd that the project aims for; for latencies, the most. */
  readonly goal?: number
  readonly isLatency?: boolean
}

const rows: readonly Row[] = [
  { what: 'durable 256 B writes, one at a time', key: 'putsOnePerSecond', unit: '/s', goal: 1.2 },
  { what: 'durable 256 B writes, 200 in flight', key: 'putsManyPerSecond', unit: '/s', goal: 4 },
  { what: 'reads of 256 B, one at a time', key: 'getsOnePerSecond', unit: '/s' },
  { what: 'reads of 256 B, 200 in flight', key: 'getsManyPerSecond', unit: '/s', goal: 8 },
  { what: 'put to watch, median', key: 'putToWatchMedianMicros', unit: ' µs', goal: 1, isLatency: true },
  { what: `fan-out to ${sizes.watchers} watchers, events`, key: 'fanOutEventsPerSecond', unit: '/s' },
  { what: `first page of ${sizes.listEntries.toLocaleString('en')} entries`, key: 'listFirstPageMillis', unit: ' ms' },
  { what: 'import of a real tree, entries', key: 'importEntriesPerSecond', unit: '/s' },
  { what: 'idle node, resident', key: 'idleMebibytes', unit: ' MiB' },
]

if (process.argv.includes('--json')) console.log(JSON.stringify({ node, etcd, redis, ninep, cluster }))
else {
  print(['', 'ninefold', 'etcd', 'ratio', 'goal', 'redis', 'ratio'])
  for (const row of rows) {
    const ours = node[row.key] as number
    print([row.what, amount(ours, row.unit), ...beside(etcd, row, ours), goalText(row), ...beside(redis, row, ours)])
  }
  const memory = Object.entries(node.mebibytesAfter).map(([step, mebibytes]) => `${step} ${Math.round(mebibytes)}`)
  console.log(`resident MiB after: ${memory.join(', ')}`)
  for (const [name, peer] of Object.entries({ etcd, redis })) if (typeof peer === 'string') console.log(`${name}: skipped, ${peer}`)
  printNinep(ninep)
  printCluster(cluster)
}

// In process, so in a process of its own.
if (!process.argv.includes('--json')) {
  const mounts = join(import.meta.dirname, 'mounts.ts')
  spawnSync(process.execPath, ['--import', 'tsx', mounts, isSmoke ? '5000' : '400000'], { stdio: 'inherit' })
}

function beside(peer: PeerRates | string, row: Row, ours: number): [string, string] {
  const theirs = typeof peer === 'string' ? undefined : (peer as unknown as Record<string, number | undefined>)[row.key]
  return theirs === undefined ? ['-', '-'] : [amount(theirs, row.unit), `${(ours / theirs).toFixed(2)}×`]
}

function goalText({ goal, isLatency }: Row): string {
  return goal === undefined ? '' : `${isLatency === true ? '≤' : '≥'} ${goal}×`
}

function amount(value: number, unit: string): string {
  return `${value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(1)}${unit}`
}

function print(cells: readonly string[]): void {
  const widths = [42, 14, 12, 8, 7, 12, 8]
  console.log(cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(' '))
}
