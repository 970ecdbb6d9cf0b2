/** Snapshots that were received: what becomes of them until one is a store's state, and of the store meanwhile. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import type { SnapshotMeta } from '../../raft/index.ts'
import { Place } from '../../storage/replica/place.ts'
import { startCluster, type LocalCluster, type LocalNode } from './cluster.ts'

let cluster: LocalCluster | undefined
afterEach(async () => {
  await cluster?.close()
  cluster = undefined
})

const glenda = { name: 'glenda', groups: [] }

async function fill(node: LocalNode, from: number, to: number): Promise<void> {
  for (let i = from; i < to; i++) await node.store.write(contextFor(glenda), parsePath(`/f${i}`), Buffer.from(`${i}`))
}

/** The newest state of one node as a snapshot on the disk of another. */
async function bring(from: LocalNode, to: LocalNode): Promise<SnapshotMeta> {
  await from.engine!.save()
  const meta = { index: 1, term: 1, configuration: { voters: [], outgoing: [], learners: [], demoted: [] } }
  const source = await from.engine!.member!.transfers.open(1, { kind: 'install', from: from.id, to: to.id, term: 1, meta })
  const sink = await to.engine!.member!.transfers.receive(1, source)
  for (;;) {
    const bytes = await source.read(sink.offset, 100_000)
    if (bytes.length === 0) break
    await sink.write(bytes)
  }
  await sink.finish()
  await source.close()
  return source.meta
}

/** The leader, and a node that hears of nothing. */
async function startApart(): Promise<{ leader: LocalNode; apart: LocalNode }> {
  cluster = await startCluster()
  const leader = await cluster.leader()
  const apart = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
  cluster.isolate(apart.id)
  await fill(leader, 0, 10)
  return { leader, apart }
}

function install(node: LocalNode, meta: SnapshotMeta): Promise<void> {
  const { member } = node.engine!
  const place = new Place(0, ['n1'])
  return member!.transfers.install(member!.replica(1)!.lane, meta, () => place.replacing(meta))
}

const filesOf = (node: LocalNode): string[] => readdirSync(join(node.dir, 'snapshots'))

describe('a snapshot that was told of', () => {
  it('can be installed though a newer one was received since', async () => {
    const { leader, apart } = await startApart()
    const first = await bring(leader, apart)
    await fill(leader, 10, 20)
    const second = await bring(leader, apart)
    expect(second.index).toBeGreaterThan(first.index)
    await install(apart, first)
    expect(apart.engine!.member!.replica(1)!.lane.appliedIndex).toBe(first.index)
    await install(apart, second)
    expect(apart.engine!.member!.replica(1)!.lane.appliedIndex).toBe(second.index)
    expect(filesOf(apart)).toEqual([])
  })

  it('stays when it cannot be loaded', async () => {
    const { leader, apart } = await startApart()
    const first = await bring(leader, apart)
    await fill(leader, 10, 12)
    await bring(leader, apart)
    const path = join(apart.dir, 'snapshots', `in-1-${first.index}-${first.term}.snap`)
    const bytes = readFileSync(path)
    writeFileSync(path, bytes.subarray(0, bytes.length - 1))
    await expect(install(apart, first)).rejects.toMatchObject({ kind: 'corrupt' })
    expect(readFileSync(path)).toHaveLength(bytes.length - 1)
    writeFileSync(path, bytes)
    await install(apart, first)
  })

  it('is of no use any more to a store that is further', async () => {
    const { leader, apart } = await startApart()
    await bring(leader, apart)
    expect(filesOf(apart)).toHaveLength(1)
    cluster!.heal()
    await apart.store.write(contextFor(glenda), parsePath('/last'), Buffer.from('last'))
    await apart.engine!.save()
    while (filesOf(apart).length > 0) await new Promise((resolve) => setImmediate(resolve))
  })

  it('and of which nobody was told goes when the folder is opened', async () => {
    const { leader, apart } = await startApart()
    await bring(leader, apart)
    writeFileSync(join(apart.dir, 'snapshots', 'out-1-7.snap'), 'half')
    await cluster!.stop(apart.id)
    await cluster!.start(apart.id)
    expect(filesOf(apart)).toEqual([])
  })
})

describe('while a snapshot takes the place of a store', () => {
  it('nothing of the store is saved', async () => {
    const { leader, apart } = await startApart()
    const meta = await bring(leader, apart)
    const { lane } = apart.engine!.member!.replica(1)!
    let isOver = false
    const installed = install(apart, meta).finally(() => (isOver = true))
    while (!isOver) {
      lane.firstUnsaved = 1 // As after a vote.
      await Promise.all([apart.engine!.backupParts('data'), apart.engine!.save(), new Promise((resolve) => setImmediate(resolve))])
    }
    await installed
    expect([lane.appliedIndex, lane.tree.appliedIndex]).toEqual([meta.index, meta.index])
  })

  it('the folder is closed behind it', async () => {
    const { leader, apart } = await startApart()
    const meta = await bring(leader, apart)
    const installed = install(apart, meta)
    await new Promise((resolve) => setImmediate(resolve))
    apart.engine!.member!.replica(1)!.lane.firstUnsaved = 1 // As after a vote.
    await cluster!.stop(apart.id)
    await installed
    await cluster!.start(apart.id)
    expect(apart.engine!.member!.replica(1)!.lane.appliedIndex).toBe(meta.index)
  })
})

describe('the place of a store in its log', () => {
  it('has the newest hard state when a snapshot becomes its checkpoint, and says no newer one is saved', () => {
    const place = new Place(3, ['n1'])
    const saved: [string, number, number][] = []
    let hardState = { hard: { term: 1, vote: 'n1' }, lsn: 5 }
    place.parts = {
      hardState: () => hardState,
      saved: (index, lsn) => saved.push(['saved', index, lsn]),
      installed: (index, lsn) => saved.push(['installed', index, lsn]),
    }
    const meta = { index: 9, term: 2, configuration: { voters: ['n1', 'n2'], outgoing: [], learners: [], demoted: [] } }
    place.export() // of a checkpoint that is under way
    hardState = { hard: { term: 2, vote: 'n2' }, lsn: 7 }
    const rows = place.replacing(meta)
    place.saved(3)
    expect(place.term).toBe(1)
    hardState = { hard: { term: 3, vote: 'n3' }, lsn: 8 }
    const [[, bytes] = ['', Buffer.from('{}')]] = [...rows]
    place.installed(meta)
    expect(JSON.parse(Buffer.from(bytes).toString())).toMatchObject({ term: 2, hard: { term: 3, vote: 'n3' }, hardLsn: 8 })
    expect(place.meta(9)).toEqual(meta)
    expect(saved).toEqual([
      ['saved', 3, 5],
      ['installed', 9, 8],
    ])
  })
})
