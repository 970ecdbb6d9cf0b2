/** How soon after a leader's process was killed the next put is acknowledged, on three of our nodes alone: `npx tsx bench/takeover.ts [KILLS]`. */
import { OwnCluster } from './cluster-nodes.ts'

const kills = Number(process.argv[2] ?? 20)
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
const cluster = await OwnCluster.start()
await cluster.driver.ask({ do: 'aim' })
await cluster.driver.ask({ do: 'fill' })
const seconds: number[] = []
for (let kill = 0; kill < kills; kill++) {
  const leader = (await cluster.driver.ask({ do: 'leader' })).leader!
  const begun = performance.now()
  await cluster.processes.end(leader)
  await cluster.driver.ask({ do: 'probe' })
  seconds.push((performance.now() - begun) / 1000)
  cluster.begin(leader)
  await cluster.driver.ask({ do: 'settled' })
}
await cluster.stop()
const sorted = seconds.toSorted((a, b) => a - b)
const figures = sorted.map((value) => value.toFixed(2)).join(' ')
console.log(`leader killed to next acknowledged put, ${kills} kills: median ${sorted[kills >> 1]!.toFixed(2)} s (${figures})`)
process.exit()
