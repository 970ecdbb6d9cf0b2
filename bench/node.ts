/**
 * A whole node in a process of its own, driven over one Session by this process: what a program beside it gets.
 * Exported for bench/all.ts; alone: npx tsx bench/node.ts [--smoke]
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, watch, existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { importTree } from '../cli/transfer/import.ts'
import { silentProgress } from '../cli/transfer/progress.ts'
import { contextFor } from '../namespace/context.ts'
import type { Context } from '../namespace/context.ts'
import { joinName, parsePath } from '../namespace/path.ts'
import { connect } from '../sdk/connect.ts'
import type { Session } from '../sdk/session.ts'
import type { PeerRates } from './peers/etcd.ts'
import { putsToWatch } from './put-to-watch.ts'

export interface NodeRates extends PeerRates {
  readonly listFirstPageMillis: number
  readonly listEntries: number
  readonly importEntriesPerSecond: number
  readonly idleMebibytes: number
  /** Resident memory of the node after each step, MiB. */
  readonly mebibytesAfter: Readonly<Record<string, number>>
}

export interface BenchSizes {
  /** Operations with many in flight; a tenth of it one at a time. */
  readonly operations: number
  readonly listEntries: number
  readonly watchers: number
  /** Folder whose import is timed. */
  readonly importFolder: string
}

/** What `nine up` writes when it serves. */
interface NodeReady {
  readonly grpc: string
  readonly '9p'?: string
  readonly tokenFile: string
  readonly pid: number
}

const modules = join(import.meta.dirname, '..', 'node_modules')

export const fullSizes: BenchSizes = { operations: 100_000, listEntries: 1_000_000, watchers: 1_000, importFolder: modules }
export const smokeSizes: BenchSizes = { operations: 2_000, listEntries: 2_000, watchers: 50, importFolder: join(modules, 'commander') }

const value = Buffer.alloc(256, 'abcdefghijklmnopqrstuvwxyz')
const keys = 10_000
const directory = parsePath('/data/bench')

export async function runNode(sizes: BenchSizes): Promise<NodeRates> {
  const folder = mkdtempSync(join(tmpdir(), 'nine-bench-node-'))
  const readyFile = join(folder, 'ready.json')
  const nine = join(import.meta.dirname, '..', 'dist', 'cli', 'nine.js')
  const args = ['up', '--data', join(folder, 'data'), '--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0', '--ready-file', readyFile]
  const node = spawn(process.execPath, [nine, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
  try {
    const { grpc, tokenFile, pid } = await readyOf(readyFile)
    const idleMebibytes = residentMebibytes(pid)
    const session = await connect({ address: grpc, tokenFile, timeoutMs: Infinity })
    const rates = await measure(session, sizes, () => residentMebibytes(pid))
    await session.close()
    return { ...rates, idleMebibytes }
  } finally {
    node.kill('SIGTERM')
    await new Promise((resolve) => node.once('exit', resolve))
    rmSync(folder, { recursive: true })
  }
}

async function measure(session: Session, sizes: BenchSizes, resident: () => number): Promise<Omit<NodeRates, 'idleMebibytes'>> {
  const mebibytesAfter: Record<string, number> = {}
  const { server, principal } = session.client
  const context = contextFor(principal, Infinity)
  await session.client.mkdir(directory)
  const paths = Array.from({ length: keys }, (_, i) => joinName(directory, `key-${i}`))
  const put = (i: number): Promise<unknown> => server.write(context, paths[i % keys]!, value)
  const get = (i: number): Promise<unknown> => server.read(context, paths[i % keys]!)
  const few = Math.max(100, sizes.operations / 10)
  await run(Math.max(few, keys), 200, put)
  const putsOnePerSecond = await run(few, 1, put)
  const putsManyPerSecond = await run(sizes.operations, 200, put)
  mebibytesAfter['writes'] = resident()
  await run(few, 200, get)
  const getsOnePerSecond = await run(few, 1, get)
  const getsManyPerSecond = await run(sizes.operations * 2, 200, get)
  mebibytesAfter['reads'] = resident()
  const putToWatchMedianMicros = await watchLatency(session, context, Math.min(1000, few))
  const fanOutEventsPerSecond = await fanOut(session, context, sizes.watchers, 20)
  mebibytesAfter['watches'] = resident()
  const importEntriesPerSecond = await importRate(session, sizes.importFolder)
  mebibytesAfter['import'] = resident()
  const listFirstPageMillis = await firstPage(session, context, sizes.listEntries)
  mebibytesAfter[`${sizes.listEntries.toLocaleString('en')} entries`] = resident()
  return {
    putsOnePerSecond,
    putsManyPerSecond,
    getsOnePerSecond,
    getsManyPerSecond,
    putToWatchMedianMicros,
    fanOutEventsPerSecond,
    listFirstPageMillis,
    listEntries: sizes.listEntries,
    importEntriesPerSecond,
    mebibytesAfter,
  }
}

/** `n` operations with `inFlight` under way at any time; operations a second. */
async function run(n: number, inFlight: number, operation: (i: number) => Promise<unknown>): Promise<number> {
  let next = 0
  const begun = performance.now()
  const worker = async (): Promise<void> => {
    while (next < n) await operation(next++)
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  return n / ((performance.now() - begun) / 1000)
}

/** From the put until the event is here, median microseconds. */
async function watchLatency(session: Session, context: Context, n: number): Promise<number> {
  const micros = await putsToWatch(session, context, joinName(directory, 'watched'), (done) => done < n)
  return micros.sort((a, b) => a - b)[micros.length >> 1]!
}

/** Events a second that reach `watchers` watches of one file over one session. */
async function fanOut({ client }: Session, context: Context, watchers: number, rounds: number): Promise<number> {
  const path = joinName(directory, 'fanout')
  await client.write(path, 'x')
  const all = Array.from({ length: watchers }, () => client.server.watch(context, path, { statsOnly: true })[Symbol.asyncIterator]())
  await Promise.all(all.map((events) => events.next()))
  const begun = performance.now()
  const seen = all.map(async (events) => {
    for (let count = 0; count < rounds;) {
      const step = await events.next()
      if (step.done === true) throw new Error('a watch ended')
      count += step.value.events.length
    }
  })
  for (let i = 0; i < rounds; i++) await client.server.write(context, path, Buffer.from('x'))
  await Promise.all(seen)
  const seconds = (performance.now() - begun) / 1000
  for (const events of all) await events.return?.()
  return (watchers * rounds) / seconds
}

/** Entries a second of a folder brought in, as `nine import` does it. */
async function importRate({ client }: Session, folder: string): Promise<number> {
  const report = await importTree(client, folder, '/data/imported', { inFlight: 64, removeExtra: false, progress: silentProgress })
  return (report.files + report.directories + report.symlinks) / report.seconds
}

/** First page of 1,000 of a directory of `entries`, median of 9, milliseconds. */
async function firstPage({ client }: Session, context: Context, entries: number): Promise<number> {
  const big = parsePath('/data/big')
  await client.mkdir(big)
  const batch = 500
  await run(Math.ceil(entries / batch), 8, (i) => {
    const then = Array.from({ length: Math.min(batch, entries - i * batch) }, (_, j) => ({
      op: 'create' as const,
      path: joinName(big, `entry-${i * batch + j}`),
    }))
    return client.server.txn(context, { if: [], then, else: [] })
  })
  const millis: number[] = []
  for (let i = 0; i < 9; i++) {
    const begun = performance.now()
    await client.server.list(context, big, { limit: 1000 })
    millis.push(performance.now() - begun)
  }
  return millis.sort((a, b) => a - b)[4]!
}

function residentMebibytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(match?.[1]) / 1024
}

export function readyOf(file: string): Promise<NodeReady> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!existsSync(file)) return
      watcher.close()
      resolve(JSON.parse(readFileSync(file, 'utf8')) as NodeReady)
    }
    // What keeps this process is the node's own, which may end instead.
    const watcher = watch(join(file, '..'), { persistent: false }, look)
    look()
  })
}

if (process.argv[1] === import.meta.filename) console.log(await runNode(process.argv.includes('--smoke') ? smokeSizes : fullSizes))
