/** The log of the groups of a node: what is written comes back, in which order it is done, what a full or failing disk does. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import type { Entry, HardState, Persist, SnapshotMeta, Ticket } from '../../raft/model.ts'
import { GroupLog, type GroupLogOptions } from '../../storage/wal/group-log.ts'
import type { AloneEntry, GroupCheckpoint, RecoveredGroup } from '../../storage/wal/group-recovery.ts'
import { openWal, type Wal, type WalOptions } from '../../storage/wal/wal.ts'

const noneAlone: AloneEntry = () => {
  throw new Error('there is no entry of an alone node')
}

const command = (index: number, term: number, text = `${index}.${term}`): Entry => ({
  index,
  term,
  data: Buffer.from(text),
  configuration: null,
})
const commands = (from: number, to: number, term: number): Entry[] =>
  Array.from({ length: to - from + 1 }, (_, i) => command(from + i, term))

function persist(parts: { hard?: HardState; install?: SnapshotMeta; entries?: readonly Entry[] }): Persist {
  return { ticket: 0 as Ticket, hard: parts.hard ?? null, install: parts.install ?? null, entries: parts.entries ?? [] }
}

interface Opened {
  readonly log: GroupLog
  readonly wal: Wal
  readonly groups: Map<number, RecoveredGroup>
  write(group: number, parts: Parameters<typeof persist>[0]): Promise<void>
}

async function open(
  options: WalOptions,
  checkpoints = new Map<number, GroupCheckpoint>(),
  logOptions: GroupLogOptions = {},
): Promise<Opened> {
  const log = new GroupLog(logOptions)
  const wal = await openWal({ sealMs: Infinity, ...options, onDurable: log.durable, onFailed: log.failed })
  const groups = log.recover(wal, checkpoints, noneAlone)
  return {
    log,
    wal,
    groups,
    write: (group, parts) =>
      new Promise((resolve, reject) =>
        log.write(group, persist(parts), (error) => (error === undefined ? resolve() : reject(error as NineError))),
      ),
  }
}

let root = ''
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'nine-groups-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))
let folders = 0
const fresh = (): string => join(root, `log-${(folders += 1)}`)

const texts = (group: RecoveredGroup): string[] => group.entries.map(({ data }) => (data === null ? '' : Buffer.from(data).toString()))

describe('the log of groups', () => {
  it('gives back hard state and entries of each group', async () => {
    const dir = fresh()
    const first = await open({ dir })
    await Promise.all([
      first.write(1, { hard: { term: 3, vote: 'n1.a' }, entries: commands(1, 3, 3) }),
      first.write(2, { hard: { term: 1, vote: null } }),
      first.write(1, { entries: commands(3, 4, 4) }),
    ])
    expect(first.wal.report.frames).toBe(1)
    expect(first.log.hardStateOf(1)).toEqual({ hard: { term: 3, vote: 'n1.a' }, lsn: 1 })
    await first.wal.close()
    const { groups, wal } = await open({ dir })
    expect(groups.get(1)!.hard).toEqual({ term: 3, vote: 'n1.a' })
    expect(texts(groups.get(1)!)).toEqual(['1.3', '2.3', '3.4', '4.4'])
    expect(groups.get(2)).toMatchObject({ hard: { term: 1, vote: null }, entries: [] })
    await wal.close()
  })
})
