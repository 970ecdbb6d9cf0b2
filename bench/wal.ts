/**
 * Durable records a second through the log, beside a plain file on the same disk.
 * `npx tsx bench/wal.ts [FOLDER]`: the folder decides which disk; default: the system's temporary folder.
 */
import { closeSync, fdatasync, fdatasyncSync, mkdtempSync, openSync, rmSync, write, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Persist, Ticket } from '../raft/model.ts'
import { GroupLog } from '../storage/wal/group-log.ts'
import { openWal, type Wal } from '../storage/wal/wal.ts'

const record = Buffer.alloc(300, 7)
const round_ms = 2000
const dir = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'nine-bench-wal-'))

interface Row {
  readonly name: string
  readonly rate: number
  readonly p50: number
  readonly p99: number
  readonly note: string
}

function print({ name, rate, p50, p99, note }: Row): void {
  const us = (ms: number): string => `${(ms * 1000).toFixed(0)} us`.padStart(9)
  console.log(`${name.padEnd(52)} ${rate.toFixed(0).padStart(9)}/s  p50 ${us(p50)}  p99 ${us(p99)}  ${note}`)
}

/** `inFlight` callers, each giving its next record when the last one is durable. */
async function measure(name: string, inFlight: number, put: (done: () => void) => void, note: () => string): Promise<void> {
  const times: number[] = []
  const started = performance.now()
  const until = started + round_ms
  await new Promise<void>((resolve) => {
    let running = inFlight
    const next = (): void => {
      const from = performance.now()
      if (from >= until) {
        if (--running === 0) resolve()
        return
      }
      put(() => {
        times.push(performance.now() - from)
        next()
      })
    }
    for (let i = 0; i < inFlight; i++) next()
  })
  const ms = performance.now() - started
  times.sort((a, b) => a - b)
  print({
    name,
    rate: (times.length / ms) * 1000,
    p50: times[times.length >> 1]!,
    p99: times[Math.floor(times.length * 0.99)]!,
    note: note(),
  })
}

async function plainFile(): Promise<void> {
  const fd = openSync(join(dir, 'plain'), 'w')
  const zeros = Buffer.alloc(1024 * 1024)
  const size = 32 * zeros.length
  for (let at = 0; at < size; at += zeros.length) writeSync(fd, zeros, 0, zeros.length, at)
  fdatasyncSync(fd)
  let at = 0
  const place = (bytes: number): number => {
    if (at + bytes > size) at = 0
    at += bytes
    return at - bytes
  }
  await measure(
    'file of zeros, write + fdatasync, 1 in flight',
    1,
    (done) => write(fd, record, 0, record.length, place(record.length), () => fdatasync(fd, done)),
    () => '',
  )
  const group = Buffer.concat(Array.from({ length: 200 }, () => record))
  let groups = 0
  const waiting: (() => void)[] = []
  let busy = false
  const flush = (): void => {
    if (waiting.length === 0) {
      busy = false
      return
    }
    busy = true
    const dones = waiting.splice(0)
    groups += 1
    const bytes = dones.length * record.length
    write(fd, group, 0, bytes, place(bytes), () =>
      fdatasync(fd, () => {
        for (const done of dones) done()
        flush()
      }),
    )
  }
  await measure(
    'file of zeros, grouped write + fdatasync, 200 in flight',
    200,
    (done) => {
      waiting.push(done)
      if (!busy) {
        busy = true
        setImmediate(flush)
      }
    },
    () => `${groups} syncs`,
  )
  closeSync(fd)
}

/** The callback way, as a store uses it: one `onDurable` a frame, the giver keeps who waits. */
async function ours(): Promise<void> {
  const waiting: (() => void)[] = []
  let first = 1
  let head = 0
  const opening = performance.now()
  const wal: Wal = await openWal({
    dir: join(dir, 'log'),
    onDurable: (lsn) => {
      while (first <= lsn) {
        waiting[head]!()
        head += 1
        first += 1
      }
      if (head > 1000) {
        waiting.splice(0, head)
        head = 0
      }
    },
  })
  console.log(`new log opened in ${(performance.now() - opening).toFixed(1)} ms`)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  for (const inFlight of [1, 2, 8, 50, 200, 1000]) {
    const before = wal.report
    delay.reset()
    delay.enable()
    await measure(
      `log, ${inFlight} in flight`,
      inFlight,
      (done) => {
        waiting.push(done)
        wal.enqueue(record)
      },
      () => {
        delay.disable()
        const { records, frames, blockingFrames } = wal.report
        const each = (records - before.records) / (frames - before.frames)
        const late = `loop late at most ${(delay.max / 1e6).toFixed(1)} ms`
        return `${each.toFixed(1)} records a sync, ${blockingFrames - before.blockingFrames} blocking, ${late}`
      },
    )
    await wal.cut(wal.durableLsn)
  }
  const n = 1_000_000
  const started = performance.now()
  const cpu = process.cpuUsage()
  for (let left = n; left > 0;) {
    for (let i = 0; i < 500 && left > 0; i++, left--) {
      waiting.push(() => undefined)
      wal.enqueue(record)
    }
    while (wal.queuedBytes > 8e6) await new Promise(setImmediate)
  }
  waiting.push(() => undefined)
  await wal.append([record])
  const ms = performance.now() - started
  const { user, system } = process.cpuUsage(cpu)
  console.log(`log, a flood of ${n}: ${((n / ms) * 1000).toFixed(0)}/s, ${((user + system) / n).toFixed(2)} us of processor a record`)
  const { segments, bytes, recycledSegments } = wal.report
  console.log(`${segments} segments, ${(bytes / 2 ** 20).toFixed(0)} MiB, ${recycledSegments} used again`)
  await wal.close()
  const reopening = performance.now()
  const again = await openWal({ dir: join(dir, 'log') })
  const opened = performance.now()
  let count = 0
  for (const _ of again.replay(again.firstLsn)) count += 1
  const read = performance.now()
  console.log(`opened again in ${(opened - reopening).toFixed(0)} ms, ${count} records replayed in ${(read - opened).toFixed(0)} ms`)
  await again.close()
}

/** The same through the log of groups: one entry of one group each time. */
async function ofGroups(): Promise<void> {
  const folder = join(dir, 'groups')
  const log = new GroupLog()
  const wal = await openWal({ dir: folder, onDurable: log.durable, onFailed: log.failed })
  const aloneEntry = (): never => {
    throw new Error('nobody was alone')
  }
  log.recover(wal, new Map(), aloneEntry)
  const next = (() => {
    let index = 0
    return (): Persist => {
      index += 1
      return { ticket: index as Ticket, hard: null, install: null, entries: [{ index, term: 1, data: record, configuration: null }] }
    }
  })()
  for (const inFlight of [1, 200]) {
    const before = wal.report
    await measure(
      `log of groups, ${inFlight} in flight`,
      inFlight,
      (done) => log.write(1, next(), done),
      () => {
        const { records, frames, blockingFrames } = wal.report
        const each = (records - before.records) / (frames - before.frames)
        return `${each.toFixed(1)} records a sync, ${blockingFrames - before.blockingFrames} blocking`
      },
    )
  }
  const n = 1_000_000
  const cpu = process.cpuUsage()
  for (let left = n; left > 0;) {
    for (let i = 0; i < 500; i++, left--) log.write(1, next(), () => undefined)
    while (wal.queuedBytes > 8e6) await new Promise(setImmediate)
  }
  await new Promise((resolve) => log.write(1, next(), resolve))
  const { user, system } = process.cpuUsage(cpu)
  const last = wal.lastLsn
  console.log(`log of groups, a flood of ${n}: ${((user + system) / n).toFixed(2)} us of processor a record`)
  await wal.close()
  for (const appliedIndex of [last, last - 100_000]) {
    const again = new GroupLog()
    const reopened = await openWal({ dir: folder, onDurable: again.durable, onFailed: again.failed })
    const started = performance.now()
    const used = process.cpuUsage()
    const checkpoint = { appliedIndex, hard: { term: 0, vote: null }, hardLsn: 0 }
    again.recover(reopened, new Map([[1, checkpoint]]), aloneEntry)
    const reading = process.cpuUsage(used)
    const ms = performance.now() - started
    console.log(
      `groups recovered in ${ms.toFixed(0)} ms (${((reading.user + reading.system) / 1000).toFixed(0)} of processor): ` +
        `${last} entries, ${last - appliedIndex} of them not in the checkpoint`,
    )
    await reopened.close()
  }
}

try {
  await plainFile()
  await ours()
  await ofGroups()
} finally {
  rmSync(dir, { recursive: true, force: true })
}
