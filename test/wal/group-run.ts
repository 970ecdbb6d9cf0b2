/**
 * The log of groups under random histories, beside a model: of each group every state that its records lead to, one by one. What is
 * recovered must be one of those states, at or behind the one that was acknowledged.
 */
import { expect } from 'vitest'
import type { Entry, HardState, Persist, SnapshotMeta, Ticket } from '../../raft/model.ts'
import { GroupLog } from '../../storage/wal/group-log.ts'
import type { GroupCheckpoint, RecoveredGroup } from '../../storage/wal/group-recovery.ts'
import { openWal, type Wal } from '../../storage/wal/wal.ts'
import { SimDisk } from './disk.ts'

/** A small generator of numbers in [0, 1) from a seed, so that a crash replays exactly. */
export function chance(seed: number): () => number {
  let state = seed | 1
  return () => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d)
    state = Math.imul(state ^ (state >>> 12), 0x297a2d39) ^ (state >>> 15)
    state = (state + 0x9e3779b9) | 0
    return ((state >>> 8) & 0xffff) / 0x10000
  }
}

const configuration = { voters: ['n1.a', 'n2.b'], outgoing: ['n1.a'], learners: ['n3.c'], demoted: [] }

/** What a group's records say, in one value that is never changed. */
interface State {
  readonly hard: HardState
  readonly install: SnapshotMeta | null
  /** By index, without a gap at the end. */
  readonly entries: readonly Entry[]
}

class GroupModel {
  /** After each record. */
  states: State[] = [{ hard: { term: 0, vote: null }, install: null, entries: [] }]
  acknowledged = 0
  checkpoint: GroupCheckpoint = { appliedIndex: 0, hard: { term: 0, vote: null }, hardLsn: 0 }
  applied = 0

  get now(): State {
    return this.states.at(-1)!
  }

  get last(): number {
    return this.now.entries.at(-1)?.index ?? this.now.install?.index ?? 0
  }

  add({ hard, install, entries }: Persist): void {
    if (hard !== null) this.states.push({ ...this.now, hard })
    if (install !== null) this.states.push({ ...this.now, install, entries: [] })
    for (const entry of entries) {
      const kept = this.now.entries.filter(({ index }) => index < entry.index)
      this.states.push({ ...this.now, entries: [...kept, entry] })
    }
  }

  /** As recovery is to show it over the checkpoint. */
  view({ hard, install, entries }: State): string {
    const pending = install !== null && install.index > this.checkpoint.appliedIndex ? install : null
    const floor = Math.max(this.checkpoint.appliedIndex, pending?.index ?? 0)
    return show(
      hard,
      pending,
      entries.filter(({ index }) => index > floor),
    )
  }
}

function show(hard: HardState, install: SnapshotMeta | null, entries: readonly Entry[]): string {
  const list = entries.map(({ index, term, data, configuration: ids }) => {
    return `${index}.${term}:${ids !== null ? JSON.stringify(ids) : data === null ? 'opening' : Buffer.from(data).toString('latin1')}`
  })
  return `${hard.term}/${hard.vote} ${install === null ? '-' : JSON.stringify(install)} ${list.join(' ')}`
}

export type Step =
  | {
      readonly kind: 'term' | 'append' | 'conflict' | 'install' | 'apply' | 'save' | 'rewrite'
      readonly group: number
      readonly seed: number
    }
  | { readonly kind: 'checkpoint' | 'cut' | 'release' | 'close' | 'retry' }
  | { readonly kind: 'crash'; readonly seed: number }
  | { readonly kind: 'fault'; readonly code: 'EIO' | 'ENOSPC'; readonly sectors: number }

export class Run {
  readonly disk = new SimDisk()
  log!: GroupLog
  wal!: Wal
  readonly groups = [new GroupModel(), new GroupModel(), new GroupModel()]
  /** What happened, so that a test of the test can tell that it does something. */
  readonly seen = { cuts: 0, rewrites: 0, retries: 0, refused: 0, kept: 0 }
  #ticks = 0
  #retry: (() => void) | undefined
  #serial = 0
  #expected: number[] = []

  async open(): Promise<void> {
    this.disk.hold = false
    this.#retry = undefined
    this.#expected = []
    this.log = new GroupLog({
      after: (_ms, turn) => {
        this.#retry = turn
        return () => (this.#retry = undefined)
      },
    })
    this.wal = await openWal({
      dir: '/log',
      files: this.disk,
      segmentBytes: 2048,
      queueBytes: 3000,
      sealMs: Infinity,
      clock: { now: () => 0, monotonic: () => (this.#ticks += 1000) },
      onDurable: this.log.durable,
      onFailed: this.log.failed,
    })
    const checkpoints = new Map(this.groups.map(({ checkpoint }, i) => [i + 1, checkpoint]))
    const keptMax = this.#serial % 2 === 0 ? 0 : 3
    const recovered = this.log.recover(
      this.wal,
      checkpoints,
      () => {
        throw new Error('there is no entry of an alone node')
      },
      keptMax,
    )
    for (const [i, group] of this.groups.entries()) this.#check(group, recovered.get(i + 1)!, keptMax)
    this.disk.hold = true
  }

  /** The state is one of the possible ones, and goes on from there. */
  #check(group: GroupModel, { hard, install, entries, lsns }: RecoveredGroup, keptMax: number): void {
    expect(lsns.length).toBe(entries.length)
    const floor = Math.max(group.checkpoint.appliedIndex, install?.index ?? 0)
    const above = entries.filter(({ index }) => index > floor)
    const view = show(hard, install, above)
    const possible = group.states.slice(group.acknowledged)
    const at = possible.findLastIndex((state) => group.view(state) === view)
    if (at < 0) {
      throw new Error(`recovered ${view}\n${possible.map((state) => `possible ${group.view(state)}`).join('\n')}`)
    }
    const state = possible[at]!
    // Those that were kept below are the log's, too, and end where the others begin.
    const below = entries.slice(0, entries.length - above.length)
    expect(below.length).toBeLessThanOrEqual(keptMax)
    expect(below.map(({ index }) => index)).toEqual(below.map((_, i) => floor - below.length + 1 + i))
    for (const { index, term } of below) expect(state.entries.find((entry) => entry.index === index)?.term).toBe(term)
    this.seen.kept += below.length
    group.states = [state]
    group.acknowledged = 0
    group.applied = floor
  }

  #write(number: number, parts: Partial<Persist>): void {
    const group = this.groups[number - 1]!
    const persist: Persist = { ticket: 0 as Ticket, hard: null, install: null, entries: [], ...parts }
    group.add(persist)
    const states = group.states
    const to = states.length - 1
    const serial = (this.#serial += 1)
    const log = this.log
    let within = true
    this.#expected.push(serial)
    log.write(number, persist, (error) => {
      expect(within).toBe(false)
      if (log === this.log) expect(this.#expected.shift()).toBe(serial)
      if (error === undefined) {
        if (group.states === states) group.acknowledged = to
      } else this.seen.refused += 1
    })
    within = false
  }

  step(step: Step): Promise<void> | void {
    switch (step.kind) {
      case 'release':
        this.disk.release()
        return
      case 'retry': {
        const retry = this.#retry
        this.#retry = undefined
        if (retry !== undefined) this.seen.retries += 1
        retry?.()
        return
      }
      case 'fault':
        this.disk.faults.push({ op: 'writeDurable', code: step.code, sectors: step.sectors })
        return
      case 'checkpoint':
        for (const group of [1, 2, 3]) {
          this.#change('apply', group, chance(group))
          this.#change('save', group, chance(group))
        }
        return this.step({ kind: 'cut' })
      case 'cut': {
        const { wal } = this
        const first = wal.firstLsn
        const count = (): void => void (this.seen.cuts += wal.firstLsn > first ? 1 : 0)
        wal.cut(this.log.firstNeeded() - 1).then(count, () => undefined)
        return
      }
      case 'crash': {
        const random = chance(step.seed)
        this.disk.crash(() => random() < 0.5)
        return this.open()
      }
      case 'close':
        return this.#close().then(() => this.open())
      default:
        this.#change(step.kind, step.group, chance(step.seed))
    }
  }

  #change(kind: string, number: number, random: () => number): void {
    const group = this.groups[number - 1]!
    const { now } = group
    const text = (): Buffer => Buffer.alloc(Math.floor(random() ** 3 * 900), `${(this.#serial += 1)},`)
    const nextTerm = (): HardState => ({ term: now.hard.term + 1, vote: random() < 0.5 ? null : 'n1.a' })
    const entriesFrom = (first: number, term: number): Entry[] =>
      Array.from({ length: 1 + Math.floor(random() * 4) }, (_, i) => {
        const index = first + i
        const type = random()
        if (type < 0.1) return { index, term, data: null, configuration: null }
        if (type < 0.2) return { index, term, data: null, configuration }
        return { index, term, data: text(), configuration: null }
      })
    switch (kind) {
      case 'term': {
        const { term, vote } = now.hard
        const hard = vote === null && random() < 0.5 ? { term, vote: 'n2.b' } : nextTerm()
        return this.#write(number, { hard })
      }
      case 'append': {
        const hard = now.hard.term === 0 ? nextTerm() : null
        return this.#write(number, { hard, entries: entriesFrom(group.last + 1, hard?.term ?? now.hard.term) })
      }
      case 'conflict': {
        // Of an entry that is not committed: no store has applied it.
        const committed = Math.max(group.applied, now.install?.index ?? 0)
        const first = committed + 1 + Math.floor(random() * (group.last - committed))
        if (first > group.last) return
        const hard = nextTerm()
        return this.#write(number, { hard, entries: entriesFrom(first, hard.term) })
      }
      case 'install': {
        const term = Math.max(1, now.hard.term)
        const hard = now.hard.term < term ? { term, vote: null } : null
        // Past what is committed; what is there behind it was another leader's.
        const committed = Math.max(group.applied, now.install?.index ?? 0)
        const index = committed + 1 + Math.floor(random() * (group.last - committed + 3))
        const entries = random() < 0.5 ? entriesFrom(index + 1, term) : []
        return this.#write(number, { hard, install: { index, term, configuration }, entries })
      }
      case 'apply': {
        const { install, entries } = group.states[group.acknowledged]!
        const last = entries.at(-1)?.index ?? install?.index ?? 0
        // What may still be dropped by a write under way was never committed.
        const kept = group.states.slice(group.acknowledged).map((state) => state.entries)
        let to = Math.max(group.applied, install?.index ?? 0)
        const same = (index: number): boolean => {
          const entry = entries.find((one) => one.index === index)
          return entry !== undefined && kept.every((list) => list.includes(entry))
        }
        while (to < last && same(to + 1) && random() < 0.95) to++
        group.applied = Math.max(group.applied, to)
        return
      }
      case 'save': {
        const { hard, lsn } = this.log.hardStateOf(number)
        group.checkpoint = { appliedIndex: group.applied, hard, hardLsn: lsn }
        this.log.saved(number, { appliedIndex: group.applied, hardLsn: lsn })
        return
      }
      case 'rewrite': {
        const laggard = this.log.laggards(0).find((one) => one.group === number)
        if (laggard === undefined) return
        const to = random() < 0.5 ? Infinity : laggard.from + random() * (laggard.to - laggard.from)
        const entries = now.entries.filter(({ index }) => index >= laggard.from && index <= to)
        this.seen.rewrites += 1
        this.log.rewrite(number, entries).catch(() => undefined)
      }
    }
  }

  async #close(): Promise<void> {
    this.log.stop()
    let closed = false
    const closing = this.wal.close().finally(() => (closed = true))
    while (!closed) {
      this.disk.release()
      await new Promise(setImmediate)
    }
    await closing
    this.disk.faults.length = 0
  }
}

export async function settled(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise(setImmediate)
}
