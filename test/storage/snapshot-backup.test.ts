/** Backups: a store of a running engine to one file and back into a folder, large values included. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Engine } from '../../storage/engine/engine.ts'
import { readStores } from '../../storage/engine/folder.ts'
import { streamBackup, writeBackup, writeBackupFile } from '../../storage/snapshot/backup.ts'
import { restoreBackup } from '../../storage/snapshot/restore.ts'
import { snapshotChunks, verifySnapshot } from '../../storage/snapshot/verify.ts'
import { hashChunk, hashToBytes } from '../../storage/blob/store.ts'
import type { Store } from '../../storage/store/store.ts'
import { put, write } from './apply-machine.ts'
import { testEngines } from './engines.ts'
import { Driven, identityOf, removeFolders } from './snapshot-lanes.ts'

const owner: Context = { principal: { name: 'owner', groups: [] }, deadline: Infinity }
const of = parsePath

const { inFolder, open } = testEngines()
const tuning = { blobGraceMs: 0 }

/** Bytes that differ by seed, in no repeated chunk. */
function bytesOf(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let i = 0, x = seed + 1; i + 4 <= length; i += 4) bytes.writeUInt32LE((x = (Math.imul(x, 1664525) + 1013904223) >>> 0), i)
  return bytes
}

async function writeLarge(store: Store, path: string, bytes: Buffer): Promise<void> {
  const { handle } = await store.open(owner, of(path), { write: true, create: true, truncate: true })
  const step = 1024 * 1024
  for (let at = 0; at < bytes.length; at += step) await store.writeHandle(owner, handle, bytes.subarray(at, at + step), at)
  await store.closeHandle(owner, handle)
}

async function readWhole(store: Store, path: string): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for (let offset = 0; ;) {
    const { bytes } = await store.read(owner, of(path), { offset })
    parts.push(bytes)
    offset += bytes.length
    if (bytes.length === 0) return Buffer.concat(parts)
  }
}

/** A store with small and large values, two of them in the past only. */
async function filled(): Promise<{ engine: Engine; store: Store; large: Buffer }> {
  const engine = await open({ tuning })
  const store = await engine.createStore('data')
  const large = bytesOf(1, 3_000_000)
  await writeLarge(store, '/large', large)
  await writeLarge(store, '/overwritten', bytesOf(2, 700_000))
  await writeLarge(store, '/overwritten', bytesOf(3, 500_000))
  await writeLarge(store, '/removed', bytesOf(4, 600_000))
  await store.remove(owner, of('/removed'))
  await store.write({ ...owner, client: { id: 'c', born: 1, settled: 0 }, seq: 1 }, of('/small'), Buffer.from('once'), { at: 'append' })
  return { engine, store, large }
}

describe('a backup', () => {
  it('is restored whole into an empty folder: values, past, answers to clients; under a new incarnation', { timeout: 60_000 }, async () => {
    const { engine, store, large } = await filled()
    const { revision } = store
    const path = inFolder('data.backup')
    const written = await writeBackupFile(await engine.backupParts('data'), path)
    expect(written.header).toMatchObject({ name: 'data', store: store.id, incarnation: store.incarnation, revision, isBackup: true })
    expect(await verifySnapshot(path)).toEqual(written)
    const dir = inFolder('restored')
    const { row } = await restoreBackup(path, { dir })
    expect(row).toMatchObject({ name: 'data', id: store.id, owner: 'owner' })
    expect(row.incarnation).not.toBe(store.incarnation)
    const restored = await open({ dir, tuning })
    const again = restored.store('data')
    expect(again.revision).toBe(revision)
    expect((await readWhole(again, '/large')).equals(large)).toBe(true)
    expect((await readWhole(again, '/overwritten')).equals(bytesOf(3, 500_000))).toBe(true)
    // All of the past that was kept, its large values too: nothing that is named is missing.
    const before = await open({ dir: inFolder('none'), tuning })
    await before.close()
    const collected = await restored.collect()
    expect(collected.deleted).toBe(0)
    const counted = await engine.collect()
    expect(collected.kept).toBe(counted.kept)
    // A retry from before the backup is answered, not done again.
    await again.write({ ...owner, client: { id: 'c', born: 1, settled: 0 }, seq: 1 }, of('/small'), Buffer.from('once'), { at: 'append' })
    expect((await readWhole(again, '/small')).toString()).toBe('once')
    // Numbers of files made since are not those of files that were made and lost.
    const made = await again.write(owner, of('/new'), Buffer.from('new'))
    expect(made.qid.path).toBeGreaterThan(2 ** 30)
  })

  it(
    'holds the store as of its beginning, and everything it needs, whatever is written, removed and collected meanwhile',
    { timeout: 60_000 },
    async () => {
      const { engine, store, large } = await filled()
      const parts = await engine.backupParts('data')
      const path = inFolder('busy.backup')
      const out: Uint8Array[] = []
      let round = 0
      for await (const bytes of streamBackup(parts, { spool: inFolder('spool') })) {
        out.push(bytes)
        if (round++ > 10) continue
        if (round === 1) await store.remove(owner, of('/large'))
        await store.write(owner, of(`/more${round}`), bytesOf(round, 100_000))
        await engine.save()
        await engine.collect()
      }
      expect(existsSync(inFolder('spool'))).toBe(false)
      writeFileSync(path, Buffer.concat(out))
      expect((await verifySnapshot(path)).chunks).toBeGreaterThan(20)
      const dir = inFolder('restored')
      await restoreBackup(path, { dir })
      const again = (await open({ dir, tuning })).store('data')
      expect((await readWhole(again, '/large')).equals(large)).toBe(true)
      await expect(again.stat(owner, of('/more1'))).rejects.toMatchObject({ kind: 'not_found' })
    },
  )

  it('holds history until the last chunk is written', async () => {
    const driven = await Driven.open()
    const chunk = bytesOf(5, 200_000)
    const blob = { root: hashToBytes(hashChunk(chunk)), depth: 0, size: chunk.length }
    driven.apply(put('/large', { kind: 'blob', blob, base: undefined }))
    for (let i = 0; i < 60; i++) driven.apply(write('/small', `${i}`.repeat(40)))
    await driven.lane.save()
    const { tree } = driven.lane
    const compact = (): Promise<number> => tree.history.compact({ bytesMax: 0, olderThan: 0 })
    const blobs = {
      get: async () => {
        expect(await compact()).toBe(0)
        return chunk
      },
    }
    const { chunks } = await writeBackupFile({ tree, blobs, identity: identityOf(1) }, inFolder('b'))
    expect(chunks).toBe(1)
    expect(await compact()).toBeGreaterThan(0)
    await removeFolders()
  })

  it('ends where its reader ends, and leaves no file', async () => {
    const { engine } = await filled()
    for await (const bytes of streamBackup(await engine.backupParts('data'), { spool: inFolder('spool') })) {
      expect(bytes.length).toBeGreaterThan(0)
      break
    }
    expect(readdirSync(inFolder())).toEqual(['data'])
    await expect(engine.backupParts('none')).rejects.toMatchObject({ kind: 'not_found' })
  })

  it('names every chunk that its values need, each once', async () => {
    const { engine } = await filled()
    const path = inFolder('b')
    const { chunks } = await writeBackupFile(await engine.backupParts('data'), path)
    const needed = new Set<string>()
    for await (const hash of snapshotChunks(path, engine.blobs)) needed.add(hash)
    expect(needed.size).toBe(chunks)
    const listed = new Set<string>()
    for await (const { hash } of engine.blobs.list()) listed.add(hash)
    expect([...listed].sort()).toEqual([...needed].sort())
  })

  it('fails with `corrupt` where a chunk is missing, and leaves no file', async () => {
    const { engine } = await filled()
    const path = inFolder('b')
    const parts = await engine.backupParts('data')
    const blobs = { get: (hash: string) => (hash.endsWith('0') ? Promise.reject(new Error('gone')) : parts.blobs.get(hash as never)) }
    const failing = { ...parts, blobs: blobs as typeof parts.blobs }
    await expect(writeBackupFile(failing, path)).rejects.toMatchObject({ message: expect.stringContaining('gone') as string })
    expect(readdirSync(inFolder())).toEqual(['data'])
  })
})

describe('restoring', () => {
  it(
    'replaces a store with changes only by force; then positions from before are compacted, and the log of before is not applied',
    { timeout: 60_000 },
    async () => {
      const { engine, store } = await filled()
      const path = inFolder('b')
      await writeBackupFile(await engine.backupParts('data'), path)
      const written = await store.write(owner, of('/after'), Buffer.from('after the backup'))
      const other = await engine.createStore('other')
      await other.write(owner, of('/x'), Buffer.from('x'))
      await expect(restoreBackup(path, { dir: engine.dir })).rejects.toMatchObject({ kind: 'unavailable' })
      await engine.close()
      await expect(restoreBackup(path, { dir: engine.dir })).rejects.toMatchObject({ kind: 'exists' })
      await restoreBackup(path, { dir: engine.dir, force: true })
      const again = await open({ tuning })
      const restored = again.store('data')
      await expect(restored.stat(owner, of('/after'))).rejects.toMatchObject({ kind: 'not_found' })
      await expect(restored.stat(owner, of('/small'), { minPosition: written.position })).rejects.toMatchObject({ kind: 'compacted' })
      expect((await again.store('other').read(owner, of('/x'))).bytes.length).toBe(1)
      await restored.write(owner, of('/goes on'), Buffer.from('on'))
      await again.close()
      const last = (await open({ tuning })).store('data')
      expect((await readWhole(last, '/goes on')).toString()).toBe('on')
    },
  )

  it('puts a store beside the one it was made from, under another name and id', { timeout: 60_000 }, async () => {
    const { engine } = await filled()
    const path = inFolder('b')
    await writeBackupFile(await engine.backupParts('data'), path)
    await engine.close()
    await restoreBackup(path, { dir: engine.dir, name: 'copy' })
    const rows = readStores(engine.dir)
    expect(rows.map(({ name }) => name)).toEqual(['data', 'copy'])
    expect(new Set(rows.map(({ id }) => id)).size).toBe(2)
    const again = await open({ tuning })
    expect((await readWhole(again.store('copy'), '/overwritten')).equals(await readWhole(again.store('data'), '/overwritten'))).toBe(true)
  })

  it('touches nothing when the file is damaged anywhere, is no backup, or the folder is of a cluster', { timeout: 60_000 }, async () => {
    const { engine } = await filled()
    const path = inFolder('b')
    await writeBackupFile(await engine.backupParts('data'), path)
    const bytes = readFileSync(path)
    const bad = inFolder('bad')
    const dir = inFolder('restored')
    for (let at = 3; at < bytes.length; at += 120_001) {
      const damaged = Buffer.from(bytes)
      damaged[at]! ^= 0x10
      writeFileSync(bad, damaged)
      await expect(restoreBackup(bad, { dir }), `byte ${at}`).rejects.toMatchObject({ kind: 'corrupt' })
      writeFileSync(bad, bytes.subarray(0, at))
      await expect(restoreBackup(bad, { dir }), `cut at ${at}`).rejects.toMatchObject({ kind: 'corrupt' })
    }
    // A backup whose chunks were left off ends like a snapshot, and is none of either.
    expect(existsSync(dir)).toBe(false)
    writeFileSync(join(engine.dir, 'cluster.json'), '{}')
    await expect(restoreBackup(path, { dir: engine.dir })).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining('cluster') as string,
    })
    const parts: Uint8Array[] = []
    await writeBackup(await engine.backupParts('data'), { write: async (part) => void parts.push(new Uint8Array(part)) })
    expect(Buffer.concat(parts).length).toBe(bytes.length)
  })
})
