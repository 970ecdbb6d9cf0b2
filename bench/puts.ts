/**
 * Puts on our own nodes, and what one of them costs: time, CPU by process, system calls, context switches. Short windows; of each figure
 * the median, and of CPU the lower quartile as well, which tells more when something else runs on the machine.
 *
 *     npx tsx bench/puts.ts [--windows N] [--in-flight N,N] [--nodes N] [--warm-up SECONDS]
 *
 * NINE_BENCH_NODE_ARGS and NINE_BENCH_CLIENT_ARGS give further arguments of Node's, as to cluster.ts.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { OwnCluster } from './cluster-nodes.ts'

/** Of all threads of a process since it began. */
interface Used {
  readonly cpuMicros: number
  /** Of it, in the kernel; in steps of 10 ms. */
  readonly systemMicros: number
  /** How often a thread waited, and how often one was made to. */
  readonly waits: number
  readonly lost: number
  /** System calls that read, and that write. */
  readonly reads: number
  readonly writes: number
}

interface Window {
  readonly perSecond: number
  readonly medianMicros: number
  /** Of one put, by process. */
  readonly used: ReadonlyMap<string, Used>
}

const window_s = 0.5

const { values } = parseArgs({
  options: {
    windows: { type: 'string', default: '12' },
    'in-flight': { type: 'string', default: '1,200' },
    nodes: { type: 'string', default: '3' },
    'warm-up': { type: 'string', default: '5' },
  },
})

function usedBy(pid: number): Used {
  let cpuMicros = 0
  let waits = 0
  let lost = 0
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      cpuMicros += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]) / 1000
      const status = readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8')
      waits += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1])
      lost += Number(/^nonvoluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1])
    } catch {
      // The thread has ended.
    }
  }
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '')
  const io = readFileSync(`/proc/${pid}/io`, 'utf8')
  const calls = (name: string): number => Number(new RegExp(`^${name}: (\\d+)`, 'm').exec(io)?.[1])
  return { cpuMicros, systemMicros: Number(stat.split(' ')[12]) * 10_000, waits, lost, reads: calls('syscr'), writes: calls('syscw') }
}

async function measure(cluster: OwnCluster, pids: ReadonlyMap<string, number>, inFlight: number): Promise<Window> {
  const before = new Map([...pids].map(([name, pid]) => [name, usedBy(pid)]))
  const { perSecond, medianMicros } = await cluster.driver.ask({ do: 'put', inFlight, seconds: window_s })
  const puts = perSecond! * window_s
  const used = new Map<string, Used>()
  for (const [name, pid] of pids) {
    const was = before.get(name)!
    const is = usedBy(pid)
    const each = Object.fromEntries(Object.keys(is).map((key) => [key, (is[key as keyof Used] - was[key as keyof Used]) / puts]))
    used.set(name, each as unknown as Used)
  }
  return { perSecond: perSecond!, medianMicros: medianMicros!, used }
}

async function roles(cluster: OwnCluster): Promise<Map<string, number>> {
  const { processes, driver } = cluster
  await driver.ask({ do: 'aim' })
  const leader = (await driver.ask({ do: 'leader' })).leader!
  const pids = new Map([['client', driver.pid]])
  for (let node = 0; node < cluster.size; node++) pids.set(node === leader ? 'leader' : `follower ${node}`, processes.pid(node))
  return pids
}

function quantile(numbers: readonly number[], at: number): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(at * (numbers.length - 1))]!
}

function print(inFlight: number, windows: readonly Window[]): void {
  const rates = windows.map(({ perSecond }) => perSecond)
  const micros = quantile(windows.map(({ medianMicros }) => medianMicros), 0.5) // prettier-ignore
  const rate = (at: number): string => Math.round(quantile(rates, at)).toLocaleString('en')
  console.log(`${inFlight} in flight: ${rate(0.5)}/s (best ${rate(1)}), median ${Math.round(micros)} µs`)
  console.log(['', 'CPU µs', 'lowest ¼', 'system', 'waits', 'lost', 'reads', 'writes'].map(cell).join(''))
  const totals = windows.map(({ used }) => [...used.values()].reduce((sum, { cpuMicros }) => sum + cpuMicros, 0))
  for (const name of windows[0]!.used.keys()) {
    const of = (key: keyof Used, at = 0.5): number =>
      quantile(
        windows.map(({ used }) => used.get(name)![key]),
        at,
      )
    const cpu = [of('cpuMicros').toFixed(1), of('cpuMicros', 0.25).toFixed(1), of('systemMicros').toFixed(1)]
    const counts = [of('waits'), of('lost'), of('reads'), of('writes')].map((count) => count.toFixed(2))
    console.log([name, ...cpu, ...counts].map(cell).join(''))
  }
  console.log(['all', quantile(totals, 0.5).toFixed(1), quantile(totals, 0.25).toFixed(1)].map(cell).join(''))
}

function cell(text: string, at: number): string {
  return at === 0 ? text.padEnd(12) : text.padStart(10)
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
const cluster = await OwnCluster.start(Number(values.nodes))
await cluster.driver.ask({ do: 'aim' })
await cluster.driver.ask({ do: 'fill' })
const kinds = values['in-flight'].split(',').map(Number)
for (const inFlight of kinds) await cluster.driver.ask({ do: 'put', inFlight, seconds: Number(values['warm-up']) })
for (const inFlight of kinds) {
  const pids = await roles(cluster)
  if (process.env['NINE_BENCH_SHOW_PIDS'] !== undefined) console.log('PIDS', [...pids].flat().join(' '))
  const windows: Window[] = []
  for (let window = 0; window < Number(values.windows); window++) windows.push(await measure(cluster, pids, inFlight))
  print(inFlight, windows)
}
await cluster.stop()
process.exit()
