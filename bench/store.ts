/**
 * The store in process, without a wire: durable writes, reads, a directory of a million, memory.
 *
 *   npx tsx bench/store.ts [--seconds 5] [--entries 1000000] [--dir DIR]
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Context } from '../namespace/context.ts'
import { parsePath, type Path } from '../namespace/path.ts'
import { openEngine } from '../storage/engine/engine.ts'
import type { Store } from '../storage/store/store.ts'

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '5' }, entries: { type: 'string', default: '1000000' }, dir: { type: 'string' } },
})
const milliseconds = Number(values.seconds) * 1000
const entries = Number(values.entries)
const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }
const value = Buffer.alloc(256, 'x')
const paths = Array.from({ length: 10_000 }, (_, i) => parsePath(`/kv/k${i}`))

function report(what: string, result: string): void {
  console.log(`${what.padEnd(52)} ${result}`)
}

/** Run `work` from `inFlight` loops for the time; operations a second, and main-thread CPU of one. */
async function rate(what: string, inFlight: number, work: (i: number) => Promise<unknown>): Promise<void> {
  const until = performance.now() + milliseconds
  const cpu = process.cpuUsage()
  const started = performance.now()
  let done = 0
  const loop = async (): Promise<void> => {
    while (performance.now() < until) await work(done++)
  }
  await Promise.all(Array.from({ length: inFlight }, loop))
  const seconds = (performance.now() - started) / 1000
  const used = process.cpuUsage(cpu)
  const perOp = (used.user + used.system) / done
  report(what, `${Math.round(done / seconds).toLocaleString('en')}/s   ${perOp.toFixed(1)} µs CPU each (all threads)`)
}

function pathOf(i: number): Path {
  return paths[i % paths.length]!
}

function memory(what: string): void {
  const { rss, heapUsed, external } = process.memoryUsage()
  const mib = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`
  report(what, `resident ${mib(rss)}, heap ${mib(heapUsed)}, external ${mib(external)}`)
}

async function million(store: Store): Promise<void> {
  const started = performance.now()
  await store.mkdir(owner, parsePath('/million'))
  let next = 0
  const loop = async (): Promise<void> => {
    while (next < entries) {
      const then = []
      for (let k = 0; k < 500 && next < entries; k++) {
        then.push({ op: 'create' as const, path: parsePath(`/million/f${String(next++).padStart(7, '0')}`) })
      }
      await store.txn(owner, { if: [], then, else: [] })
    }
  }
  await Promise.all(Array.from({ length: 4 }, loop))
  report(
    `${entries.toLocaleString('en')} files in one directory, 500 a transaction`,
    `${((performance.now() - started) / 1000).toFixed(1)} s`,
  )
}

async function page(what: string, store: Store, cursor?: string): Promise<string | undefined> {
  const started = performance.now()
  const result = await store.list(owner, parsePath('/million'), { cursor })
  report(what, `${(performance.now() - started).toFixed(2)} ms for ${result.entries.length} entries`)
  return result.next
}

const dir = values.dir ?? mkdtempSync(join(tmpdir(), 'nine-bench-'))
memory('before')
let engine = await openEngine({ dir, owner: 'owner' })
let store = engine.hasStore('data') ? engine.store('data') : await engine.createStore('data')
memory('opened')
await store.write(owner, pathOf(0), value, { parents: true })
await rate('durable 256 B writes, 1 in flight', 1, (i) => store.write(owner, pathOf(i), value))
await rate('durable 256 B writes, 200 in flight', 200, (i) => store.write(owner, pathOf(i), value))
let seq = 0
const client = { id: 'bench', born: 1, settled: 0 }
await rate('the same with client and seq', 200, (i) => {
  seq++
  return store.write({ ...owner, client: { ...client, settled: Math.max(0, seq - 400) }, seq }, pathOf(i), value)
})
memory('after writes')
await rate('reads, 1 at a time', 1, (i) => store.read(owner, pathOf(i)))
await rate('stats, 1 at a time', 1, (i) => store.stat(owner, pathOf(i)))
const started = performance.now()
await engine.save()
report('save and cut the log', `${(performance.now() - started).toFixed(0)} ms`)
await rate('reads from the saved tree', 1, (i) => store.read(owner, pathOf(i)))
if (entries > 0) {
  await million(store)
  memory('after them')
  await page('first page', store)
  const cursor = await page('first page again', store)
  await page('second page', store, cursor)
  const closing = performance.now()
  await engine.close()
  report('close', `${(performance.now() - closing).toFixed(0)} ms`)
  const opening = performance.now()
  engine = await openEngine({ dir, owner: 'owner' })
  store = engine.store('data')
  report('open', `${(performance.now() - opening).toFixed(0)} ms, ${engine.status().replayed} entries replayed`)
  await page('first page after open', store)
  memory('after open')
}
await engine.close()
if (values.dir === undefined) rmSync(dir, { recursive: true, force: true })
