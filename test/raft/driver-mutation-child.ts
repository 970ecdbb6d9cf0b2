/** As mutation-child.ts, for bugs of the driver: goes through the simulation of whole nodes. */
import { simulateDrivers } from './driver-simulation.ts'

const seeds = Number(process.argv[2])
const found: string[] = []
try {
  for (let seed = 1; seed <= seeds; seed++) await simulateDrivers(seed)
} catch (error) {
  found.push((error as Error).message)
}
console.log(JSON.stringify(found))
process.exitCode = found.length > 0 ? 1 : 0
