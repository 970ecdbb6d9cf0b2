/** A store of a cluster that is restored while it serves: everywhere at the same place among its changes, or not at all. */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { contextFor, type Context } from '../../namespace/context.ts'
import { isNineError } from '../../namespace/errors.ts'
import { parsePath } from '../../namespace/path.ts'
import { chunkCount, depthFor } from '../../storage/blob/chunk-tree.ts'
import type { Outcome, RestoreCommand } from '../../storage/model.ts'
import { writeBackupFile } from '../../storage/snapshot/backup.ts'
import type { Store } from '../../storage/store/store.ts'
import { startCluster, type LocalCluster, type LocalNode } from './cluster.ts'

let cluster: LocalCluster
beforeEach(async () => {
  cluster = await startCluster({ keptEntriesMax: 1_000 })
})
afterEach(() => cluster.close())

const glenda = { name: 'glenda', groups: [] }
const at = parsePath
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()
const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

function valueOf(seed: number, length = 700_000): Buffer {
  const value = Buffer.alloc(length)
  for (let i = 0; i + 4 <= value.length; i += 4) value.writeUInt32LE(Math.imul(i + seed, 2654435761) >>> 0, i)
  return value
}

/** A store that lends its chunks: backups are files of it. */
async function shelves(): Promise<void> {
  for (const node of cluster.nodes.values()) if (node.engine !== undefined) await shelf(node)
}

function shelf(node: LocalNode): Promise<Store> {
  return node.engine!.openStore({ ...cluster.row, group: 2, name: 'sys', id: 'sys' })
}

async function writeAll(store: Store, path: string, bytes: Buffer): Promise<void> {
  const { handle } = await store.open(contextFor(glenda), at(path), { write: true, create: true, truncate: true })
  for (let from = 0; from < bytes.length; from += 1_000_000) {
    await store.writeHandle(contextFor(glenda), handle, bytes.subarray(from, from + 1_000_000), from)
  }
  await store.closeHandle(contextFor(glenda), handle)
}

/** The store as of now, as the backup that a command names. */
async function backup(node: LocalNode, name: string): Promise<NonNullable<RestoreCommand['backup']>> {
  await shelves()
  const path = join(node.dir, '..', `${name}.backup`)
  await node.store.stat(contextFor(glenda), at('/'))
  await writeBackupFile(await node.engine!.backupParts('data'), path)
  const bytes = readFileSync(path)
  const sys = node.engine!.store('sys')
  await writeAll(sys, `/${name}`, bytes)
  const { stat } = await sys.stat(contextFor(glenda), at(`/${name}`))
  if (stat.blob === undefined) return { kind: 'inline', bytes }
  return { kind: 'blob', blob: { root: Buffer.from(stat.blob, 'hex'), depth: depthFor(chunkCount(bytes.length)), size: bytes.length } }
}

function restore(
  node: LocalNode,
  fields: Omit<RestoreCommand, 'op' | 'incarnation'>,
  context: Context = contextFor(glenda),
): Promise<Outcome> {
  const command = { op: 'restore', incarnation: `after ${fields.id}`, ...fields } as const
  return node.engine!.member!.replica(1)!.propose(context, 'test.restore', '', command)
}

async function read(node: LocalNode, path: string): Promise<string> {
  try {
    return text((await node.store.read(contextFor(glenda), at(path))).bytes)
  } catch (error) {
    if (isNineError(error, 'not_found')) return 'none'
    throw error
  }
}

const everywhere = (path: string): Promise<string[]> => Promise.all([...cluster.nodes.values()].map((node) => read(node, path)))
const same = (value: string): string[] => [...cluster.nodes].map(() => value)

async function followerOf(leader: LocalNode): Promise<LocalNode> {
  return [...cluster.nodes.values()].find(({ id, engine }) => id !== leader.id && engine !== undefined)!
}

/** As a full disk does: no state can be begun beside the one that a store has, until the returned function is called. */
function noSlots({ dir }: LocalNode): () => void {
  const files = Array.from({ length: 200 }, (_, i) => join(dir, 'history', String(first_slot + i)))
  const taken = files.filter((file) => !existsSync(file))
  for (const file of taken) writeFileSync(file, '')
  return () => taken.forEach((file) => rmSync(file))
}

const first_slot = 2 ** 31

describe('a restore', () => {
  it('is made everywhere at once: what was there is there again, what came since is gone, and the store goes on', async () => {
    const leader = await cluster.leader()
    const follower = await followerOf(leader)
    const large = valueOf(1)
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('first'))
    await leader.store.write(contextFor(glenda), at('/large'), large)
    await leader.store.write(contextFor(glenda), at('/removed'), Buffer.from('x'))
    const saved = await backup(leader, 'b')
    expect(saved.kind).toBe('blob')
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('second'))
    await leader.store.write(contextFor(glenda), at('/since'), Buffer.from('x'))
    await leader.store.remove(contextFor(glenda), at('/removed'))
    await leader.store.remove(contextFor(glenda), at('/large'))
    expect(await restore(follower, { id: 'one', backup: saved })).toMatchObject({ kind: 'txn' })
    for (const [path, value] of [
      ['/kept', 'first'],
      ['/since', 'none'],
      ['/removed', 'x'],
    ] as const) {
      expect(await everywhere(path)).toEqual(same(value))
    }
    for (const { store } of cluster.nodes.values()) {
      expect(hash((await store.read(contextFor(glenda), at('/large'))).bytes)).toBe(hash(large))
      expect(store.incarnation).toBe('after one')
    }
    const { qid } = await leader.store.write(contextFor(glenda), at('/new'), Buffer.from('y'))
    const { qid: other } = await follower.store.write(contextFor(glenda), at('/newer'), Buffer.from('y'))
    expect(other.path).toBeGreaterThan(qid.path)
    expect(await everywhere('/new')).toEqual(same('y'))
    // Made once, whoever asks again; and the state is not put back a second time.
    expect(await restore(leader, { id: 'one', backup: saved })).toMatchObject({ kind: 'txn' })
    expect(await everywhere('/new')).toEqual(same('y'))
    expect(await restore(leader, { id: 'one', backup: undefined })).toMatchObject({ kind: 'error', error: { kind: 'conflict' } })
  })

  it('ends what is of the state before: positions, watches, waits, lists, handles of files that are gone', async () => {
    const leader = await cluster.leader()
    const follower = await followerOf(leader)
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('first'))
    const saved = await backup(leader, 'b')
    const { position } = await leader.store.write(contextFor(glenda), at('/since'), Buffer.from('x'))
    const context = { ...contextFor(glenda, Infinity), signal: new AbortController().signal }
    const watches = [leader, follower].map(({ store }) => store.watch(context, at('/'), { recursive: true })[Symbol.asyncIterator]())
    for (const watch of watches) await watch.next()
    const ends = watches.map((watch) => watch.next())
    const unread = follower.store.watch(context, at('/'), { from: position })[Symbol.asyncIterator]()
    const later = [{ ...position[0]!, revision: position[0]!.revision + 50 }]
    const waiting = follower.store.read(contextFor(glenda), at('/kept'), { minPosition: later })
    const { handle } = await follower.store.open(contextFor(glenda), at('/since'), { read: true })
    await Promise.allSettled([restore(leader, { id: 'one', backup: saved }), ...ends, waiting])
    for (const end of ends) await expect(end).rejects.toMatchObject({ kind: 'compacted' })
    await expect(waiting).rejects.toMatchObject({ kind: 'compacted' })
    await expect(unread.next()).rejects.toMatchObject({ kind: 'compacted' })
    for (const { store } of cluster.nodes.values()) {
      await expect(store.read(contextFor(glenda), at('/kept'), { minPosition: position })).rejects.toMatchObject({ kind: 'compacted' })
      await expect(store.read(contextFor(glenda), at('/kept'), { at: position })).rejects.toMatchObject({ kind: 'compacted' })
    }
    await expect(follower.store.readHandle(contextFor(glenda), handle, 0, 10)).rejects.toMatchObject({ kind: 'compacted' })
    const watch = follower.store.watch(context, at('/'), { recursive: true })[Symbol.asyncIterator]()
    await watch.next()
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('again'))
    expect((await watch.next()).value).toMatchObject({ events: [{ path: '/kept', type: 'change' }] })
    await watch.return?.()
  })

  it('refuses what acts on a file by a number of before, also where it was proposed before the restore was made', async () => {
    const leader = await cluster.leader()
    const follower = await followerOf(leader)
    await leader.store.write(contextFor(glenda), at('/secret'), Buffer.from('secret'))
    const { stat } = await leader.store.stat(contextFor(glenda), at('/secret'))
    const saved = await backup(leader, 'b')
    const write = (node: LocalNode, restoredAt?: number): Promise<Outcome> => {
      const target = { path: at('/public'), ino: stat.qid.path, restoredAt }
      const content = { kind: 'replace', bytes: Buffer.from('public') } as const
      return node.engine!.member!.replica(1)!.propose(contextFor(glenda), 'test.write', '/public', { op: 'write', target, content })
    }
    await restore(leader, { id: 'lenient', backup: saved })
    expect(await write(leader)).toMatchObject({ kind: 'mutation' }) // As older logs do.
    const made = restore(leader, { id: 'one', endsHandles: true, backup: saved })
    const outcomes = await Promise.all([write(leader), write(follower), made])
    const refused = { kind: 'error', error: { kind: 'compacted' } }
    expect(outcomes).toMatchObject([refused, refused, { kind: 'txn' }])
    expect(await everywhere('/secret')).toEqual(same('secret'))
    const { handle } = await follower.store.open(contextFor(glenda), at('/secret'), { read: true, write: true })
    await follower.store.writeHandle(contextFor(glenda), handle, Buffer.from('S'), 0)
    await follower.store.closeHandle(contextFor(glenda), handle)
    expect(await everywhere('/secret')).toEqual(same('Secret'))
    for (const id of [...cluster.nodes.keys()]) {
      await cluster.stop(id)
      await cluster.start(id)
    }
    expect(await write(await cluster.leader())).toMatchObject(refused)
    const { restoredAt } = (await cluster.leader()).engine!.member!.replica(1)!.lane.machine
    expect(await write(await cluster.leader(), restoredAt)).toMatchObject({ kind: 'mutation' })
  })

  it('does nothing twice: what a client asks again has an unknown outcome, and what it asks anew is done', async () => {
    const leader = await cluster.leader()
    await leader.store.write(contextFor(glenda), at('/count'), Buffer.from(''))
    const saved = await backup(leader, 'b')
    const client = { id: 'c', born: leader.engine!.clock.now(), settled: 0 }
    const append = (seq: number): Promise<unknown> =>
      leader.store.write({ ...contextFor(glenda), client, seq }, at('/count'), Buffer.from('x'), { at: 'append' })
    await append(1)
    await append(2)
    await restore(leader, { id: 'one', backup: saved })
    expect(await everywhere('/count')).toEqual(same(''))
    await expect(append(2)).rejects.toMatchObject({ outcome: 'unknown' })
    expect(await everywhere('/count')).toEqual(same(''))
    await append(3)
    expect(await everywhere('/count')).toEqual(same('x'))
    for (const id of [...cluster.nodes.keys()]) {
      await cluster.stop(id)
      await cluster.start(id)
    }
    await expect(append(2)).rejects.toMatchObject({ outcome: 'unknown' })
    expect(await everywhere('/count')).toEqual(same('x'))
  })

  it('takes the leases and locks of the backup, with whole times', async () => {
    const leader = await cluster.leader()
    const { lease } = await leader.store.grantLease(contextFor(glenda), 60_000)
    await leader.store.create(contextFor(glenda), at('/held'), { lease })
    const saved = await backup(leader, 'b')
    await leader.store.revokeLease(contextFor(glenda), lease)
    const { lease: later } = await leader.store.grantLease(contextFor(glenda), 60_000)
    await restore(leader, { id: 'one', backup: saved })
    const { store } = await cluster.leader()
    expect(await store.renewLease(contextFor(glenda), lease)).toMatchObject({ ttlMs: 60_000 })
    await expect(store.renewLease(contextFor(glenda), later)).rejects.toMatchObject({ kind: 'not_found' })
    await store.revokeLease(contextFor(glenda), lease)
    expect(await everywhere('/held')).toEqual(same('none'))
  })

  it('stays made when its nodes start anew, and is not made again', async () => {
    const leader = await cluster.leader()
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('first'))
    const saved = await backup(leader, 'b')
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('second'))
    await restore(leader, { id: 'one', backup: saved })
    await leader.store.write(contextFor(glenda), at('/after'), Buffer.from('1'))
    for (const id of [...cluster.nodes.keys()]) await cluster.stop(id)
    for (const id of [...cluster.nodes.keys()]) await cluster.start(id)
    expect(await everywhere('/kept')).toEqual(same('first'))
    expect(await everywhere('/after')).toEqual(same('1'))
    for (const node of cluster.nodes.values()) {
      expect(node.store.incarnation).toBe('after one')
      const { index } = node.engine!.member!.replica(1)!.lane.machine.restores.find('one')!
      // Nobody is given the entry, which needs its backup.
      expect(node.engine!.member!.replica(1)!.group.status().first).toBeGreaterThan(index)
    }
    await (await cluster.leader()).store.write(contextFor(glenda), at('/after'), Buffer.from('2'))
    expect(await everywhere('/after')).toEqual(same('2'))
  })

  it('comes to a node that was away as a snapshot, and to a new one, when its backup is gone', async () => {
    const leader = await cluster.leader()
    const away = await followerOf(leader)
    const large = valueOf(2)
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('first'))
    await leader.store.write(contextFor(glenda), at('/large'), large)
    const saved = await backup(leader, 'b')
    await cluster.stop(away.id)
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('second'))
    await leader.store.write(contextFor(glenda), at('/large'), valueOf(3))
    await restore(leader, { id: 'one', backup: saved })
    await leader.store.write(contextFor(glenda), at('/after'), Buffer.from('1'))
    await leader.engine!.store('sys').remove(contextFor(glenda), at('/b'))
    await cluster.start(away.id)
    expect(await everywhere('/kept')).toEqual(same('first'))
    expect(await everywhere('/after')).toEqual(same('1'))
    expect(hash((await away.store.read(contextFor(glenda), at('/large'))).bytes)).toBe(hash(large))
    expect(away.store.incarnation).toBe('after one')
    expect(cluster.snapshots).toBe(1)
  })

  it('waits on a node that lacks its backup until it can have it; the others go on meanwhile', async () => {
    const leader = await cluster.leader()
    const lacking = await followerOf(leader)
    await leader.store.write(contextFor(glenda), at('/large'), valueOf(4))
    const saved = await backup(leader, 'b')
    await lacking.engine!.store('sys').stat(contextFor(glenda), at('/b'))
    cluster.chunkless.add(lacking.id)
    for await (const { hash: chunk } of lacking.engine!.member!.chunks.list()) await lacking.engine!.member!.chunks.delete(chunk)
    await leader.store.write(contextFor(glenda), at('/since'), Buffer.from('x'))
    await restore(leader, { id: 'one', backup: saved })
    await leader.store.write(contextFor(glenda), at('/after'), Buffer.from('1'))
    // It does not show the old state as the newest.
    await expect(lacking.store.stat(contextFor(glenda, 300), at('/since'))).rejects.toMatchObject({ kind: 'deadline' })
    cluster.chunkless.clear()
    expect(await everywhere('/since')).toEqual(same('none'))
    expect(await everywhere('/after')).toEqual(same('1'))
  })

  it('that its leader cannot make is made by the others, one of whom leads instead; it is told of, and made when it can be', async () => {
    const leader = await cluster.leader()
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('first'))
    const saved = await backup(leader, 'b')
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('second'))
    const release = noSlots(leader)
    const asked = restore(leader, { id: 'one', backup: saved }, contextFor(glenda, Infinity))
    const other = await cluster.leader(leader.id)
    await other.store.write(contextFor(glenda), at('/after'), Buffer.from('1'))
    expect(await read(other, '/kept')).toBe('first')
    expect(other.store.incarnation).toBe('after one')
    expect(leader.store.incarnation).toBe('first')
    expect(leader.engine!.status().stores[0]!.trouble).toContain('could not be restored from the backup one')
    release()
    expect(await asked).toMatchObject({ kind: 'txn' })
    expect(await everywhere('/kept')).toEqual(same('first'))
    expect(await everywhere('/after')).toEqual(same('1'))
    expect(leader.engine!.status().stores[0]!.trouble).toBe(undefined)
  })

  it('that only one of three can make is made there, and that one comes to lead', async () => {
    const leader = await cluster.leader()
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('first'))
    const saved = await backup(leader, 'b')
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('second'))
    const others = [...cluster.nodes.values()].filter(({ id }) => id !== leader.id)
    // The leader asks the first of equals first.
    const able = others.at(-1)!
    const releases = [leader, others[0]!].map(noSlots)
    const asked = restore(leader, { id: 'one', backup: saved }, contextFor(glenda, Infinity))
    expect((await cluster.leader(leader.id)).id).toBe(able.id)
    await able.store.write(contextFor(glenda), at('/after'), Buffer.from('1'))
    expect(await read(able, '/kept')).toBe('first')
    for (const release of releases) release()
    await asked
    expect(await everywhere('/kept')).toEqual(same('first'))
    expect(await everywhere('/after')).toEqual(same('1'))
  })

  it('that is given up is never made; one of two comes after the other; strangers may not', async () => {
    const leader = await cluster.leader()
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('first'))
    const first = await backup(leader, 'b1')
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('second'))
    const second = await backup(leader, 'b2')
    await leader.store.write(contextFor(glenda), at('/kept'), Buffer.from('third'))
    expect(await restore(leader, { id: 'lost', backup: undefined })).toMatchObject({ kind: 'txn' })
    expect(await restore(leader, { id: 'lost', backup: first })).toMatchObject({ kind: 'error', error: { kind: 'conflict' } })
    const ann = { principal: { name: 'ann', groups: [] }, deadline: Infinity }
    expect(await restore(leader, { id: 'hers', backup: first }, ann)).toMatchObject({ kind: 'error', error: { kind: 'denied' } })
    expect(await everywhere('/kept')).toEqual(same('third'))
    await Promise.all([restore(leader, { id: 'one', backup: first }), restore(leader, { id: 'two', backup: second })])
    expect(await everywhere('/kept')).toEqual(same('second'))
    for (const { store } of cluster.nodes.values()) expect(store.incarnation).toBe('after two')
  })
})
