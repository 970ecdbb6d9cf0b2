/** Wall clocks of nodes that are an hour wrong, either way, and jump: what stores say of times stays in order, leases run, clients are known. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { systemClock, type Clock } from '../../namespace/clock.ts'
import { contextFor, type Context } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { systemRandom } from '../../namespace/random.ts'
import type { Micros } from '../../namespace/stat.ts'
import { openEngine, type Engine } from '../../storage/engine/engine.ts'
import { startCluster, type LocalCluster, type LocalNode } from '../replica/cluster.ts'

const hour_micros = 3_600_000_000
const glenda = { name: 'glenda', groups: [] }
const path = parsePath('/file')

/** The system's, but its wall time is off; how time passes is not. */
class WrongClock implements Clock {
  offset: Micros = 0
  /** Milliseconds that passed besides. */
  passed = 0

  now(): Micros {
    return systemClock.now() + this.offset + this.passed * 1000
  }

  monotonic(): number {
    return systemClock.monotonic() + this.passed
  }
}

let cluster: LocalCluster
let isOpen = false
const clocks = new Map<string, WrongClock>()
afterEach(async () => {
  if (isOpen) await cluster.close()
  isOpen = false
})

async function start(offsets: Readonly<Record<string, Micros>> = {}): Promise<void> {
  clocks.clear()
  for (const id of ['n1', 'n2', 'n3']) {
    const clock = new WrongClock()
    clock.offset = offsets[id] ?? 0
    clocks.set(id, clock)
  }
  cluster = await startCluster({ clock: (id) => clocks.get(id) })
  isOpen = true
}

/** Leads from when it resolves. */
async function lead(id: string): Promise<LocalNode> {
  for (;;) {
    const leader = await cluster.leader()
    if (leader.id === id) return leader
    await leader
      .engine!.member!.replica(1)!
      .group.transfer(id)
      .catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function timesOf(node: LocalNode): Promise<Micros[]> {
  const { entries } = await node.store.list(contextFor(glenda), parsePath('/'))
  const stats = entries.filter(({ name }) => name.startsWith('t'))
  return stats.sort((a, b) => a.revision - b.revision).map(({ modifiedAt }) => modifiedAt)
}

it('a leader an hour ahead is followed by one an hour behind: writes go on, what a cause has seen is not refused, times grow', async () => {
  await start({ n1: hour_micros, n2: -hour_micros })
  let written = 0
  let seen: Micros = 0
  for (const id of ['n1', 'n2', 'n3', 'n1', 'n2']) {
    const leader = await lead(id)
    for (const node of cluster.nodes.values()) {
      for (let i = 0; i < 3; i++) {
        const file = parsePath(`/t${written++}`)
        // As a program does that follows a watch of this very store, and one that has seen nothing.
        const context: Context = i === 0 ? contextFor(glenda) : { ...contextFor(glenda), time: seen }
        await node.store.write(context, file, Buffer.from('x'))
        const { stat } = await leader.store.stat(contextFor(glenda), file)
        expect(stat.modifiedAt).toBeGreaterThan(seen)
        seen = stat.modifiedAt
      }
    }
  }
  for (const node of cluster.nodes.values()) {
    const times = await timesOf(node)
    expect(times).toHaveLength(written)
    expect(times).toEqual([...times].sort((a, b) => a - b))
  }
})

it('what was seen in a store whose leader is an hour ahead is no reason to refuse a change of another whose leader is not', async () => {
  await start({ n1: hour_micros })
  const row = { ...cluster.row, group: 2, name: 'other', id: 'other', voters: ['n3'] }
  const other = await cluster.node('n3').engine!.openStore(row)
  const first = await lead('n1')
  const { position } = await first.store.write(contextFor(glenda), path, Buffer.from('x'))
  const { stat } = await cluster.node('n3').store.stat(contextFor(glenda), path, { minPosition: position })
  expect(stat.modifiedAt).toBeGreaterThan(systemClock.now() + hour_micros / 2)
  await other.write({ ...contextFor(glenda), time: stat.modifiedAt }, path, Buffer.from('y'))
  expect((await other.stat(contextFor(glenda), path)).stat.modifiedAt).toBeGreaterThan(stat.modifiedAt)
})

it('alone, too: a clock that went back by an hour refuses nobody who has seen what another store told before', async () => {
  const clock = new WrongClock()
  const dir = await mkdtemp(join(tmpdir(), 'nine-clock-'))
  const engine = await openEngine({ dir, owner: 'glenda', clock })
  try {
    const [one, other] = [await engine.createStore('one'), await engine.createStore('other')]
    await one.write(contextFor(glenda), path, Buffer.from('x'))
    const seen = (await one.stat(contextFor(glenda), path)).stat.modifiedAt
    clock.offset = -hour_micros
    await other.write({ ...contextFor(glenda), time: seen }, path, Buffer.from('y'))
    expect((await other.stat(contextFor(glenda), path)).stat.modifiedAt).toBeGreaterThan(seen)
  } finally {
    await engine.close()
    await rm(dir, { recursive: true })
  }
})

it.each([hour_micros, -hour_micros])(
  'a clock that jumps by %i µs below the leader ends no lease early and keeps none alive',
  async (jump) => {
    await start()
    const leader = await cluster.leader()
    const kept = await leader.store.grantLease(contextFor(glenda), 60_000)
    const short = await leader.store.grantLease(contextFor(glenda), 400)
    const [keptFile, shortFile] = [parsePath('/kept'), parsePath('/short')]
    await leader.store.create(contextFor(glenda), keptFile, { lease: kept.lease })
    await leader.store.create(contextFor(glenda), shortFile, { lease: short.lease })
    for (const clock of clocks.values()) clock.offset = jump
    const began = performance.now()
    const isThere = (file: typeof path): Promise<boolean> =>
      leader.store.stat(contextFor(glenda), file).then(
        () => true,
        () => false,
      )
    while (await isThere(shortFile)) await new Promise((resolve) => setTimeout(resolve, 20))
    const lasted = performance.now() - began
    expect(lasted).toBeLessThan(10_000)
    expect(await isThere(keptFile)).toBe(true)
    expect(await leader.store.renewLease(contextFor(glenda), kept.lease)).toMatchObject({ ttlMs: 60_000 })
  },
)

it('a client is known, and its retries are answered as before, whatever the clocks of the nodes that it goes through', async () => {
  await start({ n1: hour_micros, n2: -hour_micros })
  for (const [at, born] of [...cluster.nodes.values()].map((node, i) => [i, node.engine!.clock.now()] as const)) {
    const client = { id: `client${at}`, born, settled: 0 }
    const file = parsePath(`/of${at}`)
    let seq = 0
    for (const id of ['n1', 'n2', 'n3', 'n2', 'n1']) {
      const leader = await lead(id)
      seq++
      const answers = new Set<number>()
      for (const node of [leader, ...cluster.nodes.values()]) {
        const { revision } = await node.store.write({ ...contextFor(glenda), client, seq }, file, Buffer.from(`${seq}`), { at: 'append' })
        answers.add(revision)
      }
      expect(answers.size).toBe(1)
    }
    expect(Buffer.from((await cluster.node('n2').store.read(contextFor(glenda), file)).bytes).toString()).toBe('12345')
  }
})

it('reading as of a time shows what stood then by the times that the store told, though clocks jumped between', async () => {
  await start()
  const told: { time: Micros; value: string }[] = []
  for (const [i, jump] of [0, hour_micros, -hour_micros, 0, hour_micros].entries()) {
    for (const clock of clocks.values()) clock.offset = jump
    const leader = await lead(['n1', 'n2', 'n3'][i % 3]!)
    await leader.store.write(contextFor(glenda), path, Buffer.from(`v${i}`))
    told.push({ time: (await leader.store.stat(contextFor(glenda), path)).stat.modifiedAt, value: `v${i}` })
  }
  for (const node of cluster.nodes.values()) {
    await node.store.read(contextFor(glenda), path)
    for (const { time, value } of told) {
      expect(Buffer.from((await node.store.read(contextFor(glenda), path, { at: time })).bytes).toString()).toBe(value)
    }
    const between = await node.store.read(contextFor(glenda), path, { at: told[1]!.time - 1 })
    expect(Buffer.from(between.bytes).toString()).toBe('v0')
  }
})

it('clients that are forgotten make no new one a stranger, though they were born by a clock an hour ahead', async () => {
  await start()
  const leader = await cluster.leader()
  const born = systemClock.now() + hour_micros
  const early = Array.from({ length: 20 }, (_, i) => ({ id: `early${i}`, born, settled: 0 }))
  const context = (client: { id: string; born: Micros; settled: number }): Context => ({ ...contextFor(glenda), client, seq: 1 })
  for (const client of early) await leader.store.write(context(client), path, Buffer.from('x'))
  // So many others come that the early ones are forgotten.
  const write = (i: number): Promise<unknown> =>
    leader.store.write(context({ id: `o${i}`, born: leader.engine!.clock.now(), settled: 0 }), path, Buffer.from('y'))
  const room = limits.clients_max - 500
  for (let i = 0; i < room; i += 500) await Promise.all(Array.from({ length: 500 }, (_, j) => write(i + j)))
  // From here on one after the other: who was born before somebody was forgotten, and has written nothing yet, is in doubt.
  for (let i = 0; i < 600; i++) await write(room + i)
  const newcomer = { id: systemRandom.id(), born: leader.engine!.clock.now(), settled: 0 }
  await leader.store.write(context(newcomer), path, Buffer.from('z'))
})

it.each([hour_micros, -hour_micros])(
  'a clock that jumps by %i µs, also over a restart, collects no chunk that may yet be named, and keeps none for ever',
  async (jump) => {
    const clock = new WrongClock()
    const dir = await mkdtemp(join(tmpdir(), 'nine-clock-'))
    const open = (): Promise<Engine> => openEngine({ dir, owner: 'glenda', clock })
    let engine = await open()
    try {
      // As one that another node has brought, and whose change is under way.
      const [hash, touched] = [await engine.blobs.put(Buffer.from('a chunk')), await engine.blobs.put(Buffer.from('another'))]
      clock.offset += jump
      expect((await engine.collect()).deleted).toBe(0)
      await engine.close()
      clock.offset += jump
      engine = await open()
      expect((await engine.collect()).deleted).toBe(0)
      clock.passed += limits.blob_grace_ms / 2
      expect(await engine.blobs.touch(touched)).toBe(true)
      clock.offset -= jump
      clock.passed += limits.blob_grace_ms / 2 + 1
      expect((await engine.collect()).deleted).toBe(1)
      expect([await engine.blobs.has(hash), await engine.blobs.has(touched)]).toEqual([false, true])
      clock.passed += limits.blob_grace_ms / 2 + 1
      expect((await engine.collect()).deleted).toBe(1)
    } finally {
      await engine.close()
      await rm(dir, { recursive: true })
    }
  },
)
