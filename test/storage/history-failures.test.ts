/** History on a disk that fails: what was not made durable is never taken for durable, and nothing else stops. */
import fs from 'node:fs'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, rmdirSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { openEngine } from '../../storage/engine/engine.ts'
import { History, openHistory } from '../../storage/history/history.ts'
import { inline, record, revisionOf } from './tree-model.ts'

const real = { fdatasync: fs.fdatasync, closeSync: fs.closeSync }
let dir: string
const histories: History[] = []

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'nine-history-'))
})

afterEach(async () => {
  Object.assign(fs, real)
  syncBuiltinESMExports()
  vi.restoreAllMocks()
  for (const history of histories.splice(0)) await history.close()
  rmSync(dir, { recursive: true, force: true })
})

function open(revision: number, segmentBytes = 2000): History {
  const history = openHistory({ dir, revision, segmentBytes })
  histories.push(history)
  return history
}

function append(history: History, count: number): void {
  for (let left = count; left > 0; left--) {
    const since = history.last + 1
    const after = record({ ino: 2, since, name: 'f', content: inline('x'.repeat(500)) })
    history.append(revisionOf(since, [{ kind: 'node', after, before: undefined }]))
  }
}

/** The system's calls as they are now, in place of those of node:fs. */
function patch(calls: { fdatasync: (fd: number, done: (error: Error | null) => void) => void; closeSync?: (fd: number) => void }): void {
  Object.assign(fs, calls)
  syncBuiltinESMExports()
}

it('a sync that failed once never succeeds: the system may have dropped what it could not write', async () => {
  const history = open(0)
  append(history, 2)
  let failures = 0
  patch({
    fdatasync: (fd, done) => {
      if (failures++ === 0) done(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
      else real.fdatasync(fd, done)
    },
  })
  await expect(history.sync()).rejects.toMatchObject({ kind: 'internal', message: expect.stringContaining('EIO') as string })
  await expect(history.sync()).rejects.toMatchObject({ kind: 'internal', message: expect.stringContaining('EIO') as string })
  append(history, 1)
  expect(history.read(1, 10)).toHaveLength(3)
  await history.close()
  // The tree has stayed where it was: opening goes on from there.
  expect(open(0).last).toBe(0)
})

it('a file is not closed while it is being synced', async () => {
  const history = open(0)
  append(history, 4)
  let syncing: number | undefined
  let release = (): void => undefined
  let started = (): void => undefined
  const isSyncing = new Promise<void>((resolve) => (started = resolve))
  const closedMeanwhile: number[] = []
  patch({
    fdatasync: (fd, done) => {
      if (syncing !== undefined) return real.fdatasync(fd, done)
      syncing = fd
      release = () => real.fdatasync(fd, done)
      started()
    },
    closeSync: (fd) => {
      if (fd === syncing) closedMeanwhile.push(fd)
      real.closeSync(fd)
    },
  })
  const synced = history.sync()
  await isSyncing
  append(history, 3)
  // The background writes, and seals, what it may.
  for (let i = 0; i < 50; i++) await stat(dir)
  expect(closedMeanwhile).toEqual([])
  release()
  await synced
  await history.sync()
  expect(closedMeanwhile).toHaveLength(1)
})

it('goes on in the segment it has while no other can be made', async () => {
  const history = open(0)
  append(history, 4)
  const obstacles = ['5', '6', '7'].map((first) => join(dir, `${first.padStart(16, '0')}.history`))
  for (const obstacle of obstacles) mkdirSync(obstacle)
  append(history, 3)
  expect(history.last).toBe(7)
  for (const obstacle of obstacles) rmdirSync(obstacle)
  append(history, 1)
  await history.sync()
  expect(readdirSync(dir).filter((name) => name.endsWith('.history'))).toEqual(['0000000000000001.history', '0000000000000008.history'])
  expect(history.read(1, 100).map(({ revision }) => revision)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
})

it('a segment that cannot be removed is kept', async () => {
  const history = open(0)
  append(history, 12)
  await history.sync()
  history.saved(12)
  const path = join(dir, '0000000000000001.history')
  rmSync(path)
  mkdirSync(path)
  await expect(history.compact({ bytesMax: 0, olderThan: 0 })).rejects.toThrow()
  expect(history.floor).toBe(0)
})

it('a store whose change could not be finished is not saved: its folder opens again, with that change', async () => {
  const owner = { principal: { name: 'owner', groups: [] }, deadline: Infinity }
  const data = join(dir, 'data')
  const engine = await openEngine({ dir: data, owner: 'owner' })
  const store = await engine.createStore('data')
  await store.write(owner, parsePath('/before'), Buffer.from('1'))
  vi.spyOn(History.prototype, 'append').mockImplementationOnce(() => {
    throw new Error('EMFILE: too many open files')
  })
  await expect(store.write(owner, parsePath('/half'), Buffer.from('2'))).rejects.toMatchObject({ kind: 'internal', outcome: 'unknown' })
  await expect(store.write(owner, parsePath('/after'), Buffer.from('3'))).rejects.toMatchObject({ kind: 'unavailable' })
  await engine.save() // It is passed over, and the log keeps what it needs.
  await engine.close()
  const again = await openEngine({ dir: data, owner: 'owner' })
  try {
    for (const name of ['before', 'half']) {
      expect((await again.store('data').read(owner, parsePath(`/${name}`))).bytes).toHaveLength(1)
    }
    await again.store('data').write(owner, parsePath('/after'), Buffer.from('3'))
  } finally {
    await again.close()
  }
})
