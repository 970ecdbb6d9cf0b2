/** Disks that fail below a node of a cluster. */
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import { SimDisk } from '../wal/disk.ts'
import { startCluster, type LocalCluster, type LocalNode } from './cluster.ts'

let cluster: LocalCluster
afterEach(() => cluster.close())

const glenda = { name: 'glenda', groups: [] }
const path = parsePath('/file')
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()

async function startOnDisks(): Promise<{ disks: Map<string, SimDisk>; leader: LocalNode }> {
  const disks = new Map(['n1', 'n2', 'n3'].map((id) => [id, new SimDisk()]))
  cluster = await startCluster({ walFiles: (id) => disks.get(id) })
  const leader = await cluster.leader()
  await leader.store.write(contextFor(glenda), path, Buffer.from('first'))
  return { disks, leader }
}

describe('an I/O error below the log', () => {
  it('ends the leader, which acknowledges nothing more, and another takes over', async () => {
    const { disks, leader } = await startOnDisks()
    const disk = disks.get(leader.id)!
    disk.faults.push({ op: 'writeDurable', code: 'EIO' }, { op: 'write', code: 'EIO' })
    const lost = leader.store.write(contextFor(glenda), path, Buffer.from('second'))
    await expect(lost).rejects.toMatchObject({ kind: 'unavailable', outcome: 'unknown' })
    expect(leader.engine!.status().isWritable).toBe(false)
    await expect(leader.store.read(contextFor(glenda), path)).rejects.toMatchObject({ kind: 'unavailable' })
    const next = await cluster.leader(leader.id)
    await next.store.write(contextFor(glenda), path, Buffer.from('third'))
    expect(text((await next.store.read(contextFor(glenda), path)).bytes)).toBe('third')
  })

  it('ends a follower, and the others go on without it', async () => {
    const { disks, leader } = await startOnDisks()
    const follower = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
    disks.get(follower.id)!.faults.push({ op: 'writeDurable', code: 'EIO' }, { op: 'write', code: 'EIO' })
    for (let i = 0; i < 5; i++) await leader.store.write(contextFor(glenda), path, Buffer.from(`${i}`))
    await expect(follower.store.read(contextFor(glenda), path)).rejects.toMatchObject({ kind: 'unavailable' })
    expect(text((await leader.store.read(contextFor(glenda), path)).bytes)).toBe('4')
  })
})

describe('a disk that has stopped writing', () => {
  it('below the leader: another takes over, and what was asked for is done once it writes again', async () => {
    const { disks, leader } = await startOnDisks()
    const disk = disks.get(leader.id)!
    disk.hold = true
    const late = leader.store.write(contextFor(glenda), parsePath('/late'), Buffer.from('late'))
    const next = await cluster.leader(leader.id)
    await next.store.write(contextFor(glenda), path, Buffer.from('second'))
    expect(text((await next.store.read(contextFor(glenda), parsePath('/late'))).bytes)).toBe('late')
    disk.hold = false
    while (disk.release());
    await late
    expect(text((await leader.store.read(contextFor(glenda), path)).bytes)).toBe('second')
  })
})

describe('a full disk', () => {
  it('of the leader: another takes over, and all goes on', async () => {
    const { disks, leader } = await startOnDisks()
    disks.get(leader.id)!.room = 0
    const value = Buffer.alloc(100 * 1024, 1)
    let handedOver = false
    for (let i = 0; !handedOver; i++) {
      await leader.store.write(contextFor(glenda, 500), parsePath(`/big${i}`), value).catch((error: unknown) => {
        // What the others agreed on since is not answered where it cannot be written.
        expect(['no_space', 'deadline']).toContain((error as { kind: string }).kind)
      })
      handedOver = (leader.engine!.member!.replica(1)!.leader ?? leader.id) !== leader.id
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const next = await cluster.leader(leader.id)
    await next.store.write(contextFor(glenda), path, Buffer.from('room'))
    expect(text((await next.store.read(contextFor(glenda), path)).bytes)).toBe('room')
    disks.get(leader.id)!.room = Infinity
    expect(text((await leader.store.read(contextFor(glenda), path)).bytes)).toBe('room')
  })

  it('of all: what is asked for is refused, reads go on, and all goes on when there is room', async () => {
    const { disks, leader } = await startOnDisks()
    for (const disk of disks.values()) disk.room = 0
    const value = Buffer.alloc(100 * 1024, 1)
    const outcomes = new Set<string>()
    for (let i = 0; i < 40; i++) {
      await leader.store.write(contextFor(glenda, 500), parsePath(`/big${i}`), value).catch((error: unknown) => {
        outcomes.add((error as { kind: string }).kind)
      })
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect([...outcomes].every((kind) => kind === 'no_space' || kind === 'deadline')).toBe(true)
    expect(outcomes).toContain('no_space')
    for (const disk of disks.values()) disk.room = Infinity
    let done = false
    while (!done) {
      await leader.store.write(contextFor(glenda, 2_000), path, Buffer.from('room')).then(
        () => (done = true),
        (error: unknown) => expect(['no_space', 'deadline']).toContain((error as { kind: string }).kind),
      )
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    expect(text((await leader.store.read(contextFor(glenda), path)).bytes)).toBe('room')
  })
})

describe('a store that fails on one node', () => {
  it('ends there, and the others of that node are saved and take changes as before', async () => {
    cluster = await startCluster({ tuning: { overlayBytesMax: 64 * 1024 } })
    for (const { engine } of cluster.nodes.values()) await engine!.openStore({ ...cluster.row, group: 2, name: 'other', id: 'other' })
    const leader = await cluster.leader()
    const failing = [...cluster.nodes.values()].find((node) => node !== leader)!
    const { machine } = failing.engine!.member!.replica(1)!.lane
    const failed = new Promise<void>((resolve) => {
      machine.apply = () => {
        resolve()
        throw new Error('a row is damaged')
      }
    })
    await leader.store.write(contextFor(glenda), path, Buffer.from('second'))
    await failed
    // Several times what memory there is for changes that are not saved.
    const other = failing.engine!.store('other')
    for (let i = 0; i < 100; i++) await other.write(contextFor(glenda), path, Buffer.alloc(4_000, i))
    await failing.engine!.save()
    expect(failing.engine!.status().stores.map(({ trouble }) => trouble)).toEqual([expect.stringContaining('a row is damaged'), undefined])
    const { lane } = failing.engine!.member!.replica(2)!
    expect(lane.isSaved).toBe(true)
    expect((await other.read(contextFor(glenda), path)).bytes).toEqual(Buffer.alloc(4_000, 99))
  })
})
