/**
 * Restoring a backup into a data folder that no node has open.
 *
 * A restored store begins a new incarnation: positions from before are answered `compacted`, never taken for others. It keeps its id, its
 * history and what its clients were answered. Its files made from now on get numbers far above those the backup knows, so that none that
 * was made and lost after the backup is taken for another.
 *
 * Q1 The backup is read to its end, and every hash in it held, before the folder is touched.
 * Q2 A store that has changes of its own is replaced only by `force`; until the last step it is as it was.
 * Q3 The list of stores has the new incarnation before the state is swapped in: a crash between leaves the old state (an empty store where
 *    there was none), and running it again is right.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock, type Clock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import { systemRandom, type Random } from '../../namespace/random.ts'
import { restoresKey } from '../apply/restores.ts'
import { openFileBlobs } from '../blob/files.ts'
import type { BlobStore } from '../blob/store.ts'
import { openEngine } from '../engine/engine.ts'
import { readStores, writeStores, type StoreRow } from '../engine/folder.ts'
import { lockFolder } from '../engine/lock.ts'
import { openEnvironment, type Environment } from '../tree/environment.ts'
import type { BlockReader } from './block-reader.ts'
import { openSource } from './files.ts'
import { damagedSnapshot, type SnapshotHeader } from './format.ts'
import { loadSnapshot, type LoadedSnapshot } from './load.ts'
import { chunkOf, verifySnapshot } from './verify.ts'
import { isLocalRow } from './write.ts'

export interface RestoreOptions {
  /** The data folder; made when it is missing. */
  readonly dir: string
  /** Default: the name the store had. */
  readonly name?: string | undefined
  /** Replace a store that has changes of its own. */
  readonly force?: boolean | undefined
  readonly clock?: Clock | undefined
  readonly random?: Random | undefined
  readonly signal?: AbortSignal | undefined
  /** Bytes read so far; the file is read twice. */
  readonly progress?: ((bytes: number) => void) | undefined
}

export interface RestoredStore {
  readonly header: SnapshotHeader
  readonly row: StoreRow
  readonly chunks: number
}

/**
 * Make a store of a data folder what the backup says.
 * @throws NineError `corrupt`, `unsupported`, `not_found` (the file), `invalid` (no backup; the folder belongs to a cluster), `exists` (Q2),
 *   `unavailable` (another process has the folder), `no_space`, `denied`, as openEngine
 */
export async function restoreBackup(path: string, options: RestoreOptions): Promise<RestoredStore> {
  const { dir, clock = systemClock, random = systemRandom, signal, progress } = options
  const verified = await verifySnapshot(path, { signal, progress }) // Q1
  const { header } = verified
  if (!header.isBackup) {
    throw new NineError({ kind: 'invalid', op, path, message: `${path} is no backup: the chunks of large values are not in it` })
  }
  if (existsSync(join(dir, 'cluster.json'))) {
    const message = `${dir} belongs to a member of a cluster, which has its stores on other nodes too: restore into a new folder (--data), which a node started with --node and --peers founds a new cluster with, the others having empty folders`
    throw new NineError({ kind: 'invalid', op, path: dir, message })
  }
  const name = options.name ?? header.name
  await prepare(name, header, options)
  const lock = await lockFolder(dir)
  const closers: (() => Promise<void>)[] = [() => lock.release()]
  try {
    const blobs = await openFileBlobs({ folder: join(dir, 'blobs'), clock })
    closers.push(() => blobs.close())
    const environment = await openEnvironment({ dir: join(dir, 'tree'), historyDir: join(dir, 'history') })
    closers.push(() => environment.close())
    const row = readStores(dir).find((known) => known.name === name)!
    const { loaded, chunks } = await load(path, environment, blobs, row, {
      ...options,
      progress: (bytes) => progress?.(verified.bytes + bytes),
    })
    const restored = await take(dir, environment, loaded, row, random)
    return { header, row: restored, chunks }
  } finally {
    for (const close of closers.reverse()) await close()
  }
}

/** A folder in good order that has a store of this name, all of it saved. */
async function prepare(name: string, header: SnapshotHeader, { dir, force = false, clock, random }: RestoreOptions): Promise<void> {
  const engine = await openEngine({ dir, owner: header.owner, clock, random })
  try {
    if (!engine.hasStore(name)) await engine.createStore(name, header.owner)
    const known = engine.status().stores.find((store) => store.name === name)
    if (known !== undefined && known.revision > 0 && !force) {
      const message = `${dir} has a store ${name} already, at revision ${known.revision}: --force replaces it`
      throw new NineError({ kind: 'exists', op, path: dir, message })
    }
  } finally {
    await engine.close()
  }
}

const op = 'snapshot.restore'
/** Numbers of files left out, for those made after the backup. */
const inos_skipped = 2 ** 30
const puts_max = 8

async function load(
  path: string,
  environment: Environment,
  blobs: BlobStore,
  { group, owner }: StoreRow,
  { signal, progress }: RestoreOptions,
): Promise<{ loaded: LoadedSnapshot; chunks: number }> {
  const source = await openSource(path)
  try {
    const loaded = await loadSnapshot(environment, source, { group, owner, signal, progress })
    try {
      return { loaded, chunks: await putChunks(path, loaded.reader, blobs, signal, progress) }
    } catch (error) {
      await loaded.drop()
      throw error
    }
  } finally {
    await source.close()
  }
}

/** The chunks of a backup, from behind its state to its end; on stable storage when it resolves. @throws NineError `corrupt`, as BlobStore.put */
export async function putChunks(
  path: string,
  reader: BlockReader,
  blobs: Pick<BlobStore, 'put'>,
  signal?: AbortSignal,
  progress?: (bytes: number) => void,
): Promise<number> {
  let chunks = 0
  const puts: Promise<unknown>[] = []
  try {
    for (;;) {
      const block = await reader.next()
      signal?.throwIfAborted()
      progress?.(reader.bytes)
      if (block.type === 'chunksEnd') break
      if (block.type !== 'chunk') throw damagedSnapshot(path, `block ${block.number} is out of place`)
      const { hash, bytes } = chunkOf(block, path)
      const put = blobs.put(bytes, hash)
      // Told when it is waited for.
      put.catch(() => undefined)
      puts.push(put)
      chunks++
      if (puts.length >= puts_max) await puts.shift()
    }
    await reader.finish()
    await Promise.all(puts)
    return chunks
  } finally {
    await Promise.allSettled(puts)
  }
}

/** Q3 */
async function take(dir: string, environment: Environment, loaded: LoadedSnapshot, row: StoreRow, random: Random): Promise<StoreRow> {
  const { group, name } = row
  const before = await environment.tree(group, { owner: row.owner })
  const { appliedIndex, meta } = before.meta()
  const rows = readStores(dir)
  const { store, owner } = loaded.header
  const id = rows.some((known) => known.id === store && known.name !== name) ? row.id : store
  const restored: StoreRow = { group, name, id, incarnation: random.id(), owner }
  writeStores(
    dir,
    rows.map((known) => (known.name === name ? restored : known)),
  )
  await loaded.take({
    // What stands in the log of this folder is of the state before.
    index: Math.max(appliedIndex, loaded.header.index),
    nextIno: Math.max(before.nextIno, loaded.nextIno + inos_skipped),
    // Its incarnation is that of the list from now on.
    meta: [[restoresKey, undefined], ...meta.filter(([key]) => isLocalRow(key))],
  })
  return restored
}
