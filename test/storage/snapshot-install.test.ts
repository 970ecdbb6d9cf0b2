/** Loading snapshots: killed at every stage, damaged in every byte, cut short at every block, while writes go on. */
import { cpSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import { BlockReader, type SnapshotSource } from '../../storage/snapshot/block-reader.ts'
import { openSource } from '../../storage/snapshot/files.ts'
import { installSnapshot } from '../../storage/snapshot/install.ts'
import { verifySnapshot, verifySource } from '../../storage/snapshot/verify.ts'
import { writeSnapshot, writeSnapshotFile } from '../../storage/snapshot/write.ts'
import { rowKey, type Rows } from '../../storage/tree/rows.ts'
import { make, remove, rename, write } from './apply-machine.ts'
import { Driven, folder, identityOf, loadFile, removeFolders } from './snapshot-lanes.ts'

afterEach(removeFolders)

/** A store with a bit of everything, saved, and its snapshot. */
async function snapshotOf(files: number): Promise<{ from: Driven; path: string }> {
  const from = await Driven.open(undefined, 7)
  from.apply(make('mkdir', '/d'))
  for (let i = 0; i < files; i++) from.apply(write(`/d/f${i}`, `${i}`.repeat(i % 90)))
  from.apply({ op: 'grantLease', lease: 'l', ttlMs: 5000 })
  from.apply(write('/leased', 'x', { lease: 'l' }), { client: { id: 'c', born: 3, settled: 0 }, seq: 1 })
  from.apply(remove('/d/f1'))
  from.apply(rename('/d', '/e'))
  await from.lane.save()
  const path = join(folder(), 'snapshot')
  await writeSnapshotFile(from.lane.tree, identityOf(7), path)
  return { from, path }
}

/** A store that a snapshot is to replace. */
async function oldStore(): Promise<Driven> {
  const to = await Driven.open(undefined, 7)
  for (let i = 0; i < 30; i++) to.apply(write(`/old${i}`, 'old'))
  await to.lane.save()
  for (let i = 0; i < 3; i++) to.apply(write(`/unsaved${i}`, 'old'))
  await to.lane.save()
  return to
}

/** Where each block begins, and where the last one ends. */
async function blockStarts(path: string): Promise<number[]> {
  const source = await openSource(path)
  const reader = new BlockReader(source)
  await reader.begin()
  const starts: number[] = []
  for (let type = ''; type !== 'end';) {
    const block = await reader.next()
    starts.push(block.at)
    type = block.type
  }
  await source.close()
  return [...starts, reader.bytes]
}

function inMemory(path: string, bytes: Buffer): SnapshotSource {
  let at = 0
  return {
    path,
    read: (into) => {
      const part = bytes.subarray(at, at + into.length)
      into.set(part)
      at += part.length
      return Promise.resolve(part.length)
    },
  }
}

describe('installing', () => {
  it('leaves the old state or the new one, whenever the process is killed', { timeout: 120_000 }, async () => {
    const { from, path } = await snapshotOf(60)
    const after = from.seen()
    const to = await oldStore()
    const before = to.seen()
    // What is on the disk, whole, at each moment that it changes: what a kill leaves.
    const photos: string[] = []
    const photo = (): void => {
      const copy = folder()
      cpSync(to.dir, copy, { recursive: true })
      photos.push(copy)
    }
    for (const name of ['write', 'load'] as const) {
      const whole = to.environment[name].bind(to.environment)
      to.environment[name] = async (puts) => {
        photo()
        await whole(puts)
        photo()
      }
    }
    await installSnapshot(to.lane, await to.load(path))
    expect(to.seen()).toEqual(after)
    await to.environment.swept()
    photo()
    expect(photos.length).toBeGreaterThan(10)
    let isNew = false
    let turns = 0
    for (const copy of photos) {
      const opened = await Driven.open(copy, 7)
      const seen = opened.seen()
      if (JSON.stringify(seen) === JSON.stringify(after) && !isNew) {
        isNew = true
        turns++
      }
      expect(seen).toEqual(isNew ? after : before)
      await expectNothingElse(opened)
      // The snapshot is still good for another try.
      await installSnapshot(opened.lane, await opened.load(path))
      expect(opened.seen()).toEqual(after)
      await opened.close()
    }
    expect(turns).toBe(1)
  })

  it('leaves nothing behind when it is given up, and the numbers of what was given up are not given again', async () => {
    const { path } = await snapshotOf(20)
    const to = await oldStore()
    const before = to.seen()
    const loaded = await to.load(path)
    await loaded.drop()
    await to.environment.swept()
    expect(to.seen()).toEqual(before)
    await expectNothingElse(to)
    await to.reopen()
    const next = (await to.environment.stage(7)).slot
    expect(next).toBe(2 ** 31 + 1)
  })

  it('keeps the old state when the disk is full at the last step, and can be tried again', async () => {
    const { from, path } = await snapshotOf(20)
    const to = await oldStore()
    const before = to.seen()
    const loaded = await to.load(path)
    const whole = to.environment.write.bind(to.environment)
    to.environment.write = () => Promise.reject(new NineError({ kind: 'no_space', op: 'test', message: 'the disk is full' }))
    await expect(installSnapshot(to.lane, loaded)).rejects.toMatchObject({ kind: 'no_space' })
    expect(to.seen()).toEqual(before)
    to.environment.write = whole
    await installSnapshot(to.lane, loaded)
    expect(to.seen()).toEqual(from.seen())
  })

  it('leaves the old state, and what it shows, where the new one cannot be opened', async () => {
    const { from, path } = await snapshotOf(20)
    const to = await oldStore()
    const before = to.seen()
    const loaded = await to.load(path)
    const history = to.environment.historyDirOf(2 ** 31)
    renameSync(history, `${history}.away`)
    writeFileSync(history, '')
    await expect(installSnapshot(to.lane, loaded)).rejects.toBeInstanceOf(NineError)
    expect(to.seen()).toEqual(before)
    rmSync(history)
    renameSync(`${history}.away`, history)
    await installSnapshot(to.lane, loaded)
    expect(to.seen()).toEqual(from.seen())
    // And where it is given up instead.
    const other = await oldStore()
    const next = await other.load(path)
    rmSync(other.environment.historyDirOf(2 ** 31), { recursive: true })
    writeFileSync(other.environment.historyDirOf(2 ** 31), '')
    await expect(installSnapshot(other.lane, next)).rejects.toBeInstanceOf(NineError)
    await next.drop()
    await other.environment.swept()
    expect(other.seen()).toEqual(before)
    await expectNothingElse(other)
    await other.reopen()
    expect(other.seen()).toEqual(before)
  })

  it('shows the tree, the revision and the state machine of the snapshot from one turn on, whatever becomes of the old history', async () => {
    const { from, path } = await snapshotOf(20)
    const to = await oldStore()
    const loaded = await to.load(path)
    const seen: unknown[] = []
    const look = (what: string): unknown => seen.push([what, to.lane.tree.revision, to.lane.revision, to.lane.machine.leases.list().length])
    const { history } = to.lane.tree
    const close = history.close.bind(history)
    history.close = async () => {
      look('closing')
      await close()
      throw new Error('EIO')
    }
    await installSnapshot(to.lane, loaded, { taken: () => look('taken') })
    const { revision } = from.lane
    expect(seen).toEqual(['taken', 'closing'].map((what) => [what, revision, revision, 1]))
    expect(to.seen()).toEqual(from.seen())
  })

  it('sets rows of the node itself with the state, and takes no others over', async () => {
    const { path } = await snapshotOf(5)
    const to = await oldStore()
    await installSnapshot(to.lane, await to.load(path), { meta: [['log', Buffer.from('77')]] })
    await to.close()
    const opened = await Driven.open(to.dir, 7)
    await opened.close()
    await opened.reopen()
    const { tables } = opened.environment
    const slot = opened.environment.slotOf(7)
    const rows = [...tables.meta.getRange({ start: rowKey(slot), end: rowKey(slot + 1), limit: 100 })]
    const texts = rows.map(({ key, value }) => `${Buffer.from(key).toString('utf8', 4)} ${Buffer.from(value).toString('latin1')}`)
    expect(texts.filter((text) => text.startsWith('.log'))).toEqual([expect.stringMatching(/^\.log 77/)])
  })
})

describe('a snapshot that is not whole', () => {
  it('is refused for every byte that is not as it was written, before anything counts', { timeout: 120_000 }, async () => {
    const { path } = await snapshotOf(12)
    const bytes = readFileSync(path)
    const to = await oldStore()
    const before = to.seen()
    const bad = join(folder(), 'bad')
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Buffer.from(bytes)
      damaged[at]! ^= 1 << (at % 8)
      writeFileSync(bad, damaged)
      await expect(verifySnapshot(bad), `byte ${at}`).rejects.toMatchObject({ kind: 'corrupt', path: bad })
      if (at % 97 === 0) await expect(to.load(bad), `byte ${at}`).rejects.toMatchObject({ kind: 'corrupt', path: bad })
    }
    await to.environment.swept()
    expect(to.seen()).toEqual(before)
    await expectNothingElse(to)
  })

  it('is refused cut short at every block, and inside', async () => {
    const { path } = await snapshotOf(12)
    const bytes = readFileSync(path)
    const to = await oldStore()
    const starts = await blockStarts(path)
    expect(starts.at(-1)).toBe(bytes.length)
    await verifySource(inMemory(path, bytes))
    const bad = join(folder(), 'bad')
    for (const start of starts.slice(0, -1)) {
      for (const end of [start, start + 7, start + 17]) {
        writeFileSync(bad, bytes.subarray(0, end))
        await expect(verifySnapshot(bad)).rejects.toMatchObject({ kind: 'corrupt' })
        await expect(to.load(bad)).rejects.toMatchObject({
          kind: 'corrupt',
          message: expect.stringMatching(/it ends (before|inside) block \d+/) as string,
        })
      }
    }
    writeFileSync(bad, Buffer.concat([bytes, Buffer.from([0])]))
    await expect(verifySnapshot(bad)).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining('follows') as string })
  })

  it('is refused with blocks in another order, or one of another snapshot', async () => {
    const { path } = await snapshotOf(12)
    const other = readFileSync((await snapshotOf(12)).path)
    const bytes = readFileSync(path)
    const [, a = 0, b = 0, c = 0] = await blockStarts(path)
    const bad = join(folder(), 'bad')
    writeFileSync(bad, Buffer.concat([bytes.subarray(0, a), bytes.subarray(b, c), bytes.subarray(a, b), bytes.subarray(c)]))
    await expect(verifySnapshot(bad)).rejects.toMatchObject({ kind: 'corrupt' })
    // Its header differs in the time at least.
    const end = (await blockStarts(path)).at(-2)!
    writeFileSync(bad, Buffer.concat([other.subarray(0, a), bytes.subarray(a)]))
    expect(other.subarray(0, a).equals(bytes.subarray(0, a))).toBe(false)
    await expect(verifySnapshot(bad)).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining('hash') as string })
    expect(end).toBeGreaterThan(a)
  })

  it('says so when its format is newer, or when it is something else', async () => {
    const bad = join(folder(), 'bad')
    writeFileSync(bad, 'something else that is long enough')
    await expect(verifySnapshot(bad)).rejects.toMatchObject({
      kind: 'corrupt',
      message: expect.stringContaining('does not begin as') as string,
    })
    await expect(verifySnapshot(join(folder(), 'none'))).rejects.toMatchObject({ kind: 'not_found' })
    await expect(verifySnapshot(folder())).rejects.toMatchObject({ kind: 'is_directory' })
  })
})

describe('writing', () => {
  it('holds one revision, whatever is applied, saved, compacted and collected meanwhile', { timeout: 60_000 }, async () => {
    const { from } = await snapshotOf(200)
    const before = from.seen()
    const { revision, appliedIndex } = from.lane
    const parts: Uint8Array[] = []
    let writes = 0
    const forgotten: number[] = []
    await writeSnapshot(from.lane.tree, identityOf(7), {
      write: async (bytes) => {
        parts.push(new Uint8Array(bytes))
        for (let i = 0; i < 20; i++) from.apply(write(`/e/f${writes++ % 200}`, 'changed since'.repeat(9)))
        from.apply(remove(`/e/f${writes}`))
        await from.lane.save()
        forgotten.push(await from.lane.tree.history.compact({ bytesMax: 0, olderThan: 0 }), await from.lane.tree.collect(1000))
      },
    })
    expect(parts.length).toBeGreaterThan(5)
    // When the last two blocks are written all has been read.
    expect(forgotten.slice(0, -4).filter((count) => count > 0)).toEqual([])
    expect(forgotten.slice(-4).some((count) => count > 0)).toBe(true)
    const path = join(folder(), 'copy')
    writeFileSync(path, Buffer.concat(parts))
    const to = await Driven.open(undefined, 7)
    const loaded = await to.load(path)
    expect(loaded.header).toMatchObject({ revision, index: appliedIndex })
    await installSnapshot(to.lane, loaded)
    expect(to.seen()).toEqual(before)
  })

  it('leaves history out where it is not wanted: the past is compacted then, the newest state is whole', async () => {
    const { from } = await snapshotOf(30)
    const path = join(folder(), 'short')
    const { header } = await writeSnapshotFile(from.lane.tree, identityOf(7), path, { history: false })
    expect(header.floor).toBe(header.revision)
    const to = await oldStore()
    await installSnapshot(to.lane, await to.load(path))
    expect(to.lane.tree.history.floor).toBe(from.lane.revision)
    expect(to.lane.tree.newest.child(1, 'e')).toBe(from.lane.tree.newest.child(1, 'e'))
    expect(() => to.lane.tree.at(3)).toThrow(expect.objectContaining({ kind: 'compacted' }) as Error)
    for (const one of [from, to]) one.apply(write('/more', 'more'))
    expect(to.lane.tree.history.read(to.lane.revision, 1)[0]?.events).toHaveLength(1)
  })

  it('leaves no file, and no half of one, when it fails or is given up', async () => {
    const { from } = await snapshotOf(200)
    const dir = folder()
    const stop = new AbortController()
    const given = writeSnapshotFile(from.lane.tree, identityOf(7), join(dir, 'x'), {
      signal: stop.signal,
      progress: () => stop.abort(),
    })
    await expect(given).rejects.toMatchObject({ name: 'AbortError' })
    await expect(writeSnapshotFile(from.lane.tree, identityOf(7), join(dir, 'none', 'x'))).rejects.toMatchObject({ kind: 'not_found' })
    expect(readdirSync(dir)).toEqual([])
  })

  it('is of a store that was never saved as well', async () => {
    const from = await Driven.open(undefined, 7)
    const path = join(folder(), 'empty')
    await writeSnapshotFile(from.lane.tree, identityOf(7), path)
    expect(statSync(path).size).toBeLessThan(2000)
    const to = await oldStore()
    await installSnapshot(to.lane, await to.load(path))
    expect(to.seen()).toEqual(from.seen())
    expect((await loadFile(to.environment, path, { group: 9 })).header.revision).toBe(0)
  })

  it('ends with `corrupt` at a row that is damaged: no snapshot spreads it', async () => {
    const { from } = await snapshotOf(10)
    const { tables } = from.environment
    await from.environment.write(() => tables.nodes.put(rowKey(7, 5), Buffer.from('no record under its checksum')))
    await expect(writeSnapshotFile(from.lane.tree, identityOf(7), join(folder(), 'x'))).rejects.toMatchObject({ kind: 'corrupt' })
  })
})

/** Rows and folders of the store's own slot are all there is. */
async function expectNothingElse(driven: Driven): Promise<void> {
  const { environment } = driven
  await environment.swept()
  const slot = environment.slotOf(driven.group)
  for (const [name, rows] of Object.entries(environment.tables) as [string, Rows][]) {
    const all = rows.getKeys({ start: rowKey(1), end: rowKey(2 ** 32 - 1), limit: 100_000 })
    expect(all.filter((key) => Buffer.from(key).readUInt32BE(0) !== slot).length, name).toBe(0)
  }
  expect(readdirSync(join(driven.dir, 'history'))).toEqual([String(slot)])
}
