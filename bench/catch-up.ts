/**
 * How fast a node with an empty disk catches up, and what it costs: 1,000,000 values of 256 B, then 64 of 8 MiB.
 * `npx tsx bench/catch-up.ts [KEYS] [LARGE VALUES]`: 0 leaves one out.
 */
import { measureCatchUp } from './cluster-recovery.ts'
import type { CatchUpFigures } from './cluster-recovery.ts'

const large_bytes = 8 * 1024 * 1024
const keys = Number(process.argv[2] ?? 1_000_000)
const large = Number(process.argv[3] ?? 64)

if (keys > 0) print(`${keys} values of 256 B`, await measureCatchUp({ keys }))
if (large > 0) print(`${large} values of 8 MiB`, await measureCatchUp({ keys: large, largeBytes: large_bytes }))

function print(what: string, figures: CatchUpFigures): void {
  const { bytes, seconds, megabytesPerSecond, readySeconds, ownCpuSeconds, leaderCpuSeconds, otherCpuSeconds } = figures
  const cpu = [ownCpuSeconds, leaderCpuSeconds, otherCpuSeconds].map((value) => ((value / bytes) * 1e9).toFixed(1)).join(', ')
  console.log(
    `catch-up of an empty node, ${what}: ${seconds.toFixed(2)} s, ${megabytesPerSecond.toFixed(1)} MB/s; ready after ${readySeconds.toFixed(2)} s;` +
      ` cpu seconds a GB, of itself, of who leads, of the third: ${cpu}`,
  )
}
