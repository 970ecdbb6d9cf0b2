/** Snapshots that are sent while they are written, and loaded while they are received: cut, resumed, damaged, replaced, given up. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { parsePath } from '../../namespace/path.ts'
import type { SnapshotMeta } from '../../raft/index.ts'
import type { OutgoingSource } from '../../storage/replica/sending.ts'
import { startCluster, type LocalCluster, type LocalNode } from './cluster.ts'

const glenda = { name: 'glenda', groups: [] }
const values = 40
const value_bytes = 100_000

let cluster: LocalCluster
let leader: LocalNode
let apart: LocalNode

beforeEach(async () => {
  cluster = await startCluster()
  leader = await cluster.leader()
  apart = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
  await leader.store.write(contextFor(glenda), parsePath('/old'), Buffer.from('old'))
  while (!(await has(apart, '/old'))) await turn()
  cluster.isolate(apart.id)
  for (let i = 0; i < values; i++) await leader.store.write(contextFor(glenda), parsePath(`/f${i}`), Buffer.alloc(value_bytes, i))
  await leader.engine!.save()
})
afterEach(() => cluster.close())

const turn = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve))
const filesOf = (node: LocalNode): string[] => readdirSync(join(node.dir, 'snapshots'))
const transfersOf = (node: LocalNode) => node.engine!.member!.transfers

async function has(node: LocalNode, path: string): Promise<boolean> {
  const context = { ...contextFor(glenda), consistency: 'stale' as const }
  return node.store.read(context, parsePath(path), { consistency: 'stale' }).then(
    () => true,
    () => false,
  )
}

function open(index = 1): Promise<OutgoingSource> {
  const meta = { index, term: 1, configuration: { voters: [], outgoing: [], learners: [], demoted: [] } }
  return transfersOf(leader).open(1, { kind: 'install', from: leader.id, to: apart.id, term: 1, meta })
}

type Sink = Awaited<ReturnType<ReturnType<typeof transfersOf>['receive']>>

/** Bring bytes up to about `until`, by default all of them. */
async function bring(source: OutgoingSource, sink: Sink, until = Infinity): Promise<void> {
  while (sink.offset < until) {
    const bytes = await source.read(sink.offset, 64 * 1024)
    if (bytes.length === 0) return
    await sink.write(bytes)
  }
}

/** As the driver does it when it was told: what the store shows then is all of the new state. */
async function installed(meta: SnapshotMeta): Promise<void> {
  const { store } = apart
  cluster.heal()
  apart.engine!.member!.inbound.receive(leader.id, {
    kind: 'raft',
    group: 1,
    message: { kind: 'install', from: leader.id, to: apart.id, term: leader.engine!.member!.replica(1)!.term, meta },
  })
  for (let i = 0; i < values; i++) {
    const { bytes } = await store.read(contextFor(glenda), parsePath(`/f${i}`))
    expect(bytes.length === value_bytes && bytes.every((byte) => byte === i)).toBe(true)
  }
}

describe('a snapshot on its way', () => {
  it('is sent before all of it is written, and its file goes with the last who reads it', async () => {
    const first = await open()
    const early = first.size
    const second = await open()
    expect(second.id).toBe(first.id)
    let size = 0
    for (let bytes = await second.read(0, 64 * 1024); bytes.length > 0; bytes = await second.read(size, 64 * 1024)) size += bytes.length
    expect(early).toBeLessThan(size / 2)
    await second.close()
    expect(filesOf(leader)).toHaveLength(1)
    expect((await first.read(0, 1000)).length).toBe(1000)
    await first.close()
    expect(filesOf(leader)).toEqual([])
  })

  it('is written no further when nobody reads it any more', async () => {
    const source = await open()
    await source.close()
    expect(source.size).toBeLessThan(values * value_bytes)
    expect(filesOf(leader)).toEqual([])
    const again = await open()
    expect(again.id).not.toBe(source.id)
    await again.close()
  })

  it('is written no further when the node ends, and who reads it is told', async () => {
    const source = await open()
    await cluster.stop(leader.id)
    // Each value is there as it is and in history.
    expect(source.size).toBeLessThan(2 * values * value_bytes)
    await expect(source.read(source.size, 1000)).rejects.toMatchObject({ kind: 'unavailable' })
    await source.close()
    expect(filesOf(leader)).toEqual([])
  })

  it('keeps no log behind it when it is too old, and no newer one can be made', async () => {
    const source = await open()
    const transfers = transfersOf(leader)
    expect(transfers.sendingFrom(1)).toBe(source.meta.index)
    let end!: () => void
    const replacing = leader.engine!.member!.replica(1)!.lane.replace(() => new Promise((resolve) => (end = resolve)))
    while (end === undefined) await turn()
    const failure = await open(source.meta.index + 1).catch((error: unknown) => error)
    const keptFrom = transfers.sendingFrom(1)
    end()
    await replacing
    await source.close()
    expect(failure).toMatchObject({ kind: 'unavailable' })
    expect(keptFrom).toBe(Infinity)
  })

  it('is loaded while it comes, shows nothing of itself, and goes on behind what is there when it was cut', async () => {
    const source = await open()
    const { id, meta } = source
    const sink = await transfersOf(apart).receive(1, source)
    await bring(source, sink, 2_000_000)
    // More than its bytes: the blocks that were loaded.
    while (sink.progress < sink.offset + 5) await turn()
    expect([await has(apart, '/old'), await has(apart, '/f0')]).toEqual([true, false])
    const filling = (): string | undefined => apart.engine!.member!.filling(1)
    expect(filling()).toMatch(/^[12]\.\d MiB received so far$/)
    Object.assign(sink, { total: 2 * sink.offset })
    expect(filling()).toMatch(/^([12]\.\d) MiB of [2-4]\.\d MiB received \((50|49)%\)$/)
    await sink.close()
    const next = await transfersOf(apart).receive(1, { id, meta })
    expect(next.offset).toBe(sink.offset)
    await expect(sink.write(Buffer.alloc(1))).rejects.toMatchObject({ kind: 'unavailable' })
    await bring(source, next)
    expect(await has(apart, '/f0')).toBe(false)
    await next.finish()
    // Asked for again, as after a lost answer.
    const last = await transfersOf(apart).receive(1, { id, meta })
    expect(last.offset).toBe(next.offset)
    await last.finish()
    await source.close()
    await installed(meta)
    expect(filling()).toBeUndefined()
  })

  it('goes on behind what is on the disk when the node was closed meanwhile', async () => {
    const source = await open()
    const sink = await transfersOf(apart).receive(1, source)
    await bring(source, sink, 2_000_000)
    await cluster.stop(apart.id)
    expect(filesOf(apart)).toEqual([`in-1-${source.id}.part`])
    await cluster.start(apart.id)
    const next = await transfersOf(apart).receive(1, source)
    expect(next.offset).toBe(sink.offset)
    await bring(source, next)
    await next.finish()
    await source.close()
    await installed(source.meta)
  })

  it('makes room for another', async () => {
    const source = await open()
    const sink = await transfersOf(apart).receive(1, source)
    await bring(source, sink, 2_000_000)
    await source.close()
    await leader.store.write(contextFor(glenda), parsePath('/newer'), Buffer.from('newer'))
    const newer = await open()
    const other = await transfersOf(apart).receive(1, newer)
    expect(other.offset).toBe(0)
    expect(filesOf(apart)).toEqual([`in-1-${newer.id}.part`])
    await expect(sink.write(Buffer.alloc(1))).rejects.toMatchObject({ kind: 'unavailable' })
    await expect(sink.finish()).rejects.toMatchObject({ kind: 'unavailable' })
    await bring(newer, other)
    await other.finish()
    await newer.close()
    await installed(newer.meta)
  })

  it.each([
    { what: 'damaged on the way', harm: (bytes: Uint8Array) => (bytes[bytes.length >> 1]! ^= 1) },
    { what: 'of another place', harm: (bytes: Uint8Array) => bytes.reverse() },
  ])('that is $what is known before its end, and leaves nothing', async ({ harm }) => {
    const source = await open()
    const sink = await transfersOf(apart).receive(1, source)
    await bring(source, sink, 1_000_000)
    const bytes = await source.read(sink.offset, 64 * 1024)
    harm(bytes)
    await sink.write(bytes)
    await expect(
      (async () => {
        for (;;) {
          await sink.write(await source.read(sink.offset, 64 * 1024))
          await turn()
        }
      })(),
    ).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(sink.finish()).rejects.toThrow()
    while (filesOf(apart).length > 0) await turn()
    expect([await has(apart, '/old'), await has(apart, '/f0')]).toEqual([true, false])
    const next = await transfersOf(apart).receive(1, source)
    expect(next.offset).toBe(0)
    await bring(source, next)
    await next.finish()
    await source.close()
    await installed(source.meta)
  })

  it('that ends early is refused, and leaves nothing', async () => {
    const source = await open()
    const sink = await transfersOf(apart).receive(1, source)
    await bring(source, sink, 3_000_000)
    await expect(sink.finish()).rejects.toMatchObject({ kind: 'corrupt' })
    expect(filesOf(apart)).toEqual([])
    await source.close()
  })

  it('that this store has no use for any more is let go', async () => {
    const source = await open()
    const sink = await transfersOf(apart).receive(1, source)
    await bring(source, sink, 2_000_000)
    await sink.close()
    cluster.heal()
    await apart.store.write(contextFor(glenda), parsePath('/last'), Buffer.from('last'))
    await apart.engine!.save()
    while (filesOf(apart).length > 0) await turn()
    const late = await transfersOf(apart).receive(1, source)
    await bring(source, late)
    await late.finish()
    expect(filesOf(apart)).toEqual([])
    await source.close()
  })

  it('of which nothing more came after the node was closed goes when the store is further', async () => {
    const source = await open()
    const sink = await transfersOf(apart).receive(1, source)
    await bring(source, sink, 2_000_000)
    await source.close()
    await cluster.stop(apart.id)
    await cluster.start(apart.id)
    expect(filesOf(apart)).toHaveLength(1)
    cluster.heal()
    await apart.store.write(contextFor(glenda), parsePath('/last'), Buffer.from('last'))
    await apart.engine!.save()
    while (filesOf(apart).length > 0) await turn()
  })
})
