/**
 * Room for garbage in the process that serves: V8 collects a small heap each time some ten MiB of buffers have passed through it, which
 * takes half of the time of bulk transfers. A heap that is small is let grow by about garbage_bytes between collections; a large one as
 * V8 thinks best. Where there are few processors, threads that help to collect the young take more of them than they save.
 */
import { availableParallelism } from 'node:os'
import { setFlagsFromString } from 'node:v8'

const garbage_bytes = 128 * 1024 * 1024
const growth_percent_max = 400
const look_ms = 10_000
const few_processors = 2

/** From now on, for this process. */
export function giveHeapRoom(): void {
  const look = (): void => setFlagsFromString(`--heap-growing-percent=${growthPercent(process.memoryUsage().heapUsed)}`)
  look()
  if (availableParallelism() <= few_processors) setFlagsFromString('--no-parallel-scavenge')
  setInterval(look, look_ms).unref()
}

/** How much a heap of so many bytes may grow before it is collected; 0: as V8 decides. */
export function growthPercent(heapBytes: number): number {
  const percent = Math.round((100 * garbage_bytes) / heapBytes)
  return percent < 100 ? 0 : Math.min(percent, growth_percent_max)
}
