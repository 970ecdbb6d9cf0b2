/**
 * Our 9P server beside diod in one run, each in a process of its own, both driven by one client process (ninep-driver.ts) with the same
 * messages in turn: files in sequence, small operations, a large directory. A write is timed with the fsync at its end.
 * Exported for bench/all.ts; alone: npx tsx bench/ninep.ts [--smoke] [--json]
 */
import { fork, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Figures, Job, NinepSizes, Place } from './ninep-driver.ts'
import { readyOf } from './node.ts'
import { startDiod } from './peers/diod.ts'

export interface NinepRow {
  readonly what: string
  readonly unit: string
  readonly ninefold: number
  readonly diod: number
  /** Least ratio to diod that the project aims for. */
  readonly goal?: number
}

export const fullNinepSizes: NinepSizes = { bulkBytes: 2 ** 30, operations: 40_000, entries: 100_000, rounds: 3 }
export const smokeNinepSizes: NinepSizes = { bulkBytes: 2 ** 24, operations: 2_000, entries: 2_000, rounds: 1 }

const memory = '/dev/shm'

/** @returns the rows, or why there are none */
export async function runNinep(sizes: NinepSizes): Promise<readonly NinepRow[] | string> {
  const folders = [{ name: 'disk', at: tmpdir() }]
  if (existsSync(memory)) folders.push({ name: 'memory', at: memory })
  const rows: NinepRow[] = []
  for (const { name, at } of folders) {
    const found = await atFolder(at, name, sizes, rows)
    if (found !== undefined) return found
  }
  return rows
}

async function atFolder(at: string, name: string, sizes: NinepSizes, rows: NinepRow[]): Promise<string | undefined> {
  const folder = mkdtempSync(join(at, 'nine-bench-9p-'))
  const theirs = join(folder, 'diod')
  mkdirSync(theirs)
  try {
    const diod = await startDiod(theirs)
    if (typeof diod === 'string') return diod
    const node = await startNode(folder)
    try {
      const places = [
        { address: node.address, aname: '/data' },
        { address: diod.address, aname: theirs },
      ]
      if (name === 'disk') await small(places, sizes, rows)
      for (const msize of [65_536, 1_048_576]) {
        const figures = await drive({ kind: 'bulk', places, sizes, msize })
        const [own, other] = figures['msize']!
        const agreed = own === other ? kibi(own!) : `${kibi(own!)}, diod ${kibi(other!)}`
        for (const way of ['read', 'write']) {
          const size = kibi(sizes.bulkBytes)
          const [ninefold, diod] = figures[way] as [number, number]
          rows.push({ what: `${way} ${size}, msize ${agreed}, ${name}`, unit: 'MiB/s', ninefold, diod, goal: 0.6 })
        }
      }
    } finally {
      await node.stop()
      await diod.stop()
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
  return undefined
}

async function small(places: readonly Place[], sizes: NinepSizes, rows: NinepRow[]): Promise<void> {
  const figures = await drive({ kind: 'small', places, sizes })
  const add = (what: string, key: string, goal?: number): void => {
    const [ninefold, diod] = figures[key] as [number, number]
    rows.push({ what, unit: '/s', ninefold, diod, ...(goal === undefined ? {} : { goal }) })
  }
  add('walk of two names and clunk, one at a time', 'walk 1')
  add('walk of two names and clunk, 64 outstanding', 'walk 64', 1)
  add('getattr, one at a time', 'getattr 1')
  add('getattr, 64 outstanding', 'getattr 64', 1)
  add(`readdir of ${sizes.entries.toLocaleString('en')} entries, entries`, 'readdir')
  add('files made, 64 outstanding (ours durably)', 'make')
}

function drive(job: Job): Promise<Figures> {
  const child = fork(join(import.meta.dirname, 'ninep-driver.ts'))
  return new Promise((resolve, reject) => {
    child.once('message', (figures) => resolve(figures as Figures))
    child.once('exit', (code) => reject(new Error(`the driver ended with ${code}`)))
    child.send(job)
  })
}

async function startNode(folder: string): Promise<{ readonly address: string; stop(): Promise<void> }> {
  const readyFile = join(folder, 'ready.json')
  const nine = join(import.meta.dirname, '..', 'dist', 'cli', 'nine.js')
  const addresses = ['--http', '127.0.0.1:0', '--grpc', '127.0.0.1:0', '--9p', '127.0.0.1:0', '--9p-auth', 'none']
  const args = ['up', '--data', join(folder, 'data'), ...addresses, '--ready-file', readyFile]
  const profile = process.env['NINE_BENCH_NODE_ARGS']?.split(' ') ?? []
  const node = spawn(process.execPath, [...profile, nine, ...args], { stdio: ['ignore', 'ignore', 'ignore'] })
  const { '9p': address } = await readyOf(readyFile)
  return {
    address: address!,
    stop: async () => {
      node.kill('SIGTERM')
      await new Promise((resolve) => node.once('exit', resolve))
    },
  }
}

function kibi(bytes: number): string {
  if (bytes >= 2 ** 30) return `${bytes / 2 ** 30} GiB`
  return bytes >= 2 ** 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 1024} KiB`
}

/** For people: a line a row, or why there is none. */
export function printNinep(rows: readonly NinepRow[] | string): void {
  if (typeof rows === 'string') return console.log(`9P beside diod: skipped, ${rows}`)
  const line = (cells: readonly string[]): void =>
    console.log(cells.map((cell, i) => (i === 0 ? cell.padEnd(58) : cell.padStart(14))).join(' '))
  line(['9P', 'ninefold', 'diod', 'ratio', 'goal'])
  for (const { what, unit, ninefold, diod, goal } of rows) {
    const [own, other] = [ninefold, diod].map((value) => `${Math.round(value).toLocaleString('en')} ${unit}`)
    line([what, own!, other!, `${(ninefold / diod).toFixed(2)}×`, goal === undefined ? '' : `≥ ${goal}×`])
  }
}

if (process.argv[1] === import.meta.filename) {
  const rows = await runNinep(process.argv.includes('--smoke') ? smokeNinepSizes : fullNinepSizes)
  if (process.argv.includes('--json')) console.log(JSON.stringify(rows))
  else printNinep(rows)
}
