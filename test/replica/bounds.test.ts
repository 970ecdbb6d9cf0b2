/** What clients and slow receivers can make a member hold, and how far they can move its time. */
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../namespace/clock.ts'
import { contextFor } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { LocalCluster, startCluster } from './cluster.ts'

const path = parsePath('/a')
const context = contextFor({ name: 'glenda', groups: [] }, 600_000)

let cluster: LocalCluster
afterEach(() => cluster.close())

describe('the time that a client has seen', () => {
  it('moves the store ahead of the clock once, not further with each request', async () => {
    cluster = await startCluster({ names: ['n1'] })
    const { store, engine } = await cluster.leader()
    const { machine } = engine!.member!.replica(1)!.lane
    const ahead = limits.clock_ahead_ms_max * 1000
    await store.write({ ...context, time: systemClock.now() + ahead - 1_000_000 }, path, Buffer.from('1'))
    const further = store.write({ ...context, time: machine.time + ahead - 1_000_000 }, path, Buffer.from('2'))
    await expect(further).rejects.toMatchObject({ kind: 'invalid' })
    // What the store itself told is taken for ever.
    const told = machine.time
    await store.write({ ...context, time: told }, path, Buffer.from('3'))
    expect(machine.time).toBe(told + 1)
  })
})

describe('changes that wait for a leader', () => {
  it('are taken up to their bytes; the rest is refused, surely not done', async () => {
    cluster = new LocalCluster(await mkdtemp(join(tmpdir(), 'nine-replica-')), {})
    const { store, engine } = await cluster.start('n1')
    const value = Buffer.alloc(limits.inline_bytes_max)
    const most = limits.proposal_bytes_max / value.length
    const refused: Promise<unknown>[] = []
    for (let i = 0; i < most + 10; i++) refused.push(store.write(context, parsePath(`/f${i}`), value).catch((error: unknown) => error))
    const { waiting } = engine!.member!.replica(1)!
    expect(waiting).toBeGreaterThan(most - 10)
    expect(waiting).toBeLessThanOrEqual(most)
    for (const error of refused.slice(waiting)) expect(await error).toMatchObject({ kind: 'overloaded', outcome: 'none' })
    await engine!.close()
    await Promise.all(refused)
  })
})

describe('the log behind a snapshot that is being sent', () => {
  it('is kept in memory up to a bound in bytes', async () => {
    cluster = await startCluster({ names: ['n1'], transferKeptBytesMax: 20_000_000, keptEntriesMax: 10 })
    const { id, store, engine } = await cluster.leader()
    const { group } = engine!.member!.replica(1)!
    const kept = (): number => group.entries(group.status().first, group.status().last).length
    const fill = async (): Promise<void> => {
      for (let i = 0; i < 150; i++) await store.write(context, path, Buffer.alloc(100_000, i))
      await engine!.save()
      await store.write(context, path, Buffer.from('a turn later'))
    }
    await fill()
    expect(kept()).toBeLessThan(20)
    const { term, snapshot, configuration } = group.status()
    const meta = { index: snapshot, term, configuration }
    const source = await engine!.member!.transfers.open(1, { kind: 'install', from: id, to: 'n9', term, meta })
    await fill()
    expect(kept()).toBeGreaterThan(100)
    await fill()
    expect(kept()).toBeLessThan(20)
    await source.close()
  })
})
