/** Opens the log of groups over a real folder or a disk of a test, and makes what it is given. */
import { expect } from 'vitest'
import type { Entry, HardState, Persist, SnapshotMeta, Ticket } from '../../raft/model.ts'
import { GroupLog, type GroupLogOptions } from '../../storage/wal/group-log.ts'
import type { AloneEntry, GroupCheckpoint, RecoveredGroup } from '../../storage/wal/group-recovery.ts'
import type { SimDisk } from './disk.ts'
import { NineError, toNineError } from '../../namespace/errors.ts'
import { openWal, type Wal, type WalOptions } from '../../storage/wal/wal.ts'

export const noneAlone: AloneEntry = () => {
  throw new Error('there is no entry of an alone node')
}

export const configuration = { voters: ['n1.a', 'n2.b'], outgoing: [], learners: [], demoted: [] }

export function command(index: number, term: number, text = `${index}.${term}`): Entry {
  return { index, term, data: Buffer.from(text), configuration: null }
}

export function commands(from: number, to: number, term: number): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, i) => command(from + i, term))
}

export interface Parts {
  readonly hard?: HardState
  readonly install?: SnapshotMeta
  readonly entries?: readonly Entry[]
}

export function persist({ hard, install, entries }: Parts): Persist {
  return { ticket: 0 as Ticket, hard: hard ?? null, install: install ?? null, entries: entries ?? [] }
}

export interface Opened {
  readonly log: GroupLog
  readonly wal: Wal
  readonly groups: Map<number, RecoveredGroup>
  readonly write: (group: number, parts: Parts) => Promise<void>
}

export interface OpenedOptions extends GroupLogOptions {
  readonly checkpoints?: ReadonlyMap<number, GroupCheckpoint>
  readonly aloneEntry?: AloneEntry
  readonly keptMax?: number
}

export async function open(walOptions: WalOptions, options: OpenedOptions = {}): Promise<Opened> {
  const log = new GroupLog(options)
  const wal = await openWal({ sealMs: Infinity, ...walOptions, onDurable: log.durable, onFailed: log.failed })
  try {
    const groups = log.recover(wal, options.checkpoints ?? new Map(), options.aloneEntry ?? noneAlone, options.keptMax)
    const write = (group: number, parts: Parts): Promise<void> =>
      new Promise((resolve, reject) =>
        log.write(group, persist(parts), (error) => (error === undefined ? resolve() : reject(toNineError(error, 'test.write')))),
      )
    return { log, wal, groups, write }
  } catch (error) {
    await wal.close()
    throw error
  }
}

export function texts({ entries }: RecoveredGroup): string[] {
  return entries.map(({ data }) => (data === null ? '' : Buffer.from(data).toString()))
}

/** On a disk of a test, in small segments. */
export function onDisk(disk: SimDisk, options: OpenedOptions = {}, queueBytes?: number): Promise<Opened> {
  return open({ dir: '/log', files: disk, segmentBytes: 4096, queueBytes }, options)
}

export async function failureOf(promise: Promise<unknown>): Promise<NineError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(NineError)
  return error as NineError
}
