/** The one member that is left of three goes on as the first of a new cluster. */
import { cpSync } from 'node:fs'
import { afterEach, expect, it } from 'vitest'
import { contextFor } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import { openEngine, type Engine } from '../../storage/engine/engine.ts'
import { readStores, writeStores } from '../../storage/engine/folder.ts'
import type { Peers } from '../../storage/replica/peers.ts'
import { Machine } from '../../storage/apply/machine.ts'
import { Restores, restoresKey } from '../../storage/apply/restores.ts'
import { startCluster, type LocalCluster } from './cluster.ts'

let cluster: LocalCluster
let engine: Engine | undefined
afterEach(async () => {
  await engine?.close()
  engine = undefined
  await cluster.close()
})

const context = contextFor({ name: 'glenda', groups: [] }, 30_000)
const at = (name: string) => parsePath(`/${name}`)
const gone = (): never => {
  throw new NineError({ kind: 'unavailable', op: 'test.peers', message: 'nobody is left' })
}
const nobody: Peers = {
  isReachable: () => false,
  send: () => undefined,
  sendSnapshot: () => Promise.resolve(false),
  request: gone,
  pushChunks: gone,
  fetchChunk: gone,
}

async function open(dir: string, isSurvivor: boolean): Promise<Engine> {
  engine = await openEngine({ dir, owner: 'glenda', member: { id: 'n1.new', life: 1, peers: nobody, tickMs: 20, isSurvivor } })
  return engine
}

async function read(name: string): Promise<string> {
  return Buffer.from((await engine!.store('data').read(context, at(name))).bytes).toString()
}

it('keeps all of its log, changes alone from then on, and needs to be told so once', async () => {
  cluster = await startCluster()
  const leader = await cluster.leader()
  const [left, other] = [...cluster.nodes.values()].filter(({ id }) => id !== leader.id) as [typeof leader, typeof leader]
  const { position } = await leader.store.write(context, at('old'), Buffer.from('agreed on'))
  await left.store.read(context, at('old'))
  // It reaches the log of the one that will be left, which never learns what became of it.
  cluster.isolate(other.id)
  cluster.cut(left.id, leader.id)
  const logged = left.engine!.member!.replica(1)!.group.status().last
  const lost = leader.store.write(context, at('last'), Buffer.from('in the log'))
  // So that the log has something to say of who votes.
  const change = leader.engine!.member!.replica(1)!.group.change([{ do: 'add_learner', id: 'n4' }])
  for (const promise of [lost, change]) promise.catch(() => undefined)
  while (left.engine!.member!.replica(1)!.group.status().last < logged + 2) await new Promise((resolve) => setImmediate(resolve))
  for (const { id } of [leader, other, left]) await cluster.stop(id)

  const [row] = readStores(left.dir)
  writeStores(left.dir, [{ ...row!, voters: ['n1.new'], incarnation: 'second' }])
  await open(left.dir, true)
  // One that began before the log was applied is under way.
  const begun = [engine!.save()]
  await engine!.member!.outlive(() => begun.pop() ?? engine!.save())
  const asDurable = `${left.dir}-killed`
  cpSync(left.dir, asDurable, { recursive: true })
  expect(await read('old')).toBe('agreed on')
  expect(await read('last')).toBe('in the log')
  await engine!.store('data').write(context, at('new'), Buffer.from('alone'))
  // Stores that are made from now on are those of all.
  await engine!.openStore({ ...row!, group: 7, name: 'svc.later', voters: ['n1.new', 'n2.new', 'n3.new'] })
  expect(engine!.member!.replica(7)!.group.status()).toMatchObject({
    role: 'follower',
    configuration: { voters: ['n1.new', 'n2.new', 'n3.new'] },
  })
  await engine!.close()

  await open(asDurable, false)
  expect(await read('last')).toBe('in the log')
  expect(engine!.member!.replica(1)!.group.status()).toMatchObject({ role: 'leader', configuration: { voters: ['n1.new'] } })
  expect(engine!.member!.replica(1)!.group.status().first).toBeGreaterThan(logged)
  await engine!.close()

  await open(left.dir, false)
  expect(await read('last')).toBe('in the log')
  expect(await read('new')).toBe('alone')
  // Nobody is given what the log says of the members before.
  expect(engine!.member!.replica(1)!.group.status().first).toBeGreaterThan(logged)
  await engine!.store('data').write(context, at('newer'), Buffer.from('alone again'))
  expect(engine!.member!.replica(1)!.group.status().configuration.voters).toEqual(['n1.new'])
  // What others were told may not be in it.
  await expect(engine!.store('data').watch(context, at('/'), { from: position })[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    kind: 'compacted',
  })
})

it('goes on without a restore whose backup is lost with the others, however long looking for it takes', { timeout: 60_000 }, async () => {
  cluster = await startCluster()
  const leader = await cluster.leader()
  const left = [...cluster.nodes.values()].find(({ id }) => id !== leader.id)!
  await leader.store.write(context, at('old'), Buffer.from('kept'))
  const logged = left.engine!.member!.replica(1)!.group.status().last
  const backup = { kind: 'blob', blob: { root: Buffer.alloc(32, 7), depth: 0, size: 1000 } } as const
  const command = { op: 'restore', id: 'lost.1', incarnation: 'x', backup } as const
  leader
    .engine!.member!.replica(1)!
    .propose(context, 'test', '', command)
    .catch(() => undefined)
  while (left.engine!.member!.replica(1)!.group.status().last === logged) await new Promise((resolve) => setImmediate(resolve))
  for (const { id } of cluster.nodes.values()) await cluster.stop(id)
  const [row] = readStores(left.dir)
  writeStores(left.dir, [{ ...row!, voters: ['n1.new'], incarnation: 'second' }])

  const late = new Promise<void>((resolve) => setTimeout(resolve, limits.replica_collect_wait_ms + 1_000))
  const lines: string[] = []
  const log = (_fields: object, text: string): void => void lines.push(text)
  engine = await openEngine({
    dir: left.dir,
    owner: 'glenda',
    member: { id: 'n1.new', life: 1, peers: { ...nobody, fetchChunk: () => late.then(gone) }, tickMs: 20, isSurvivor: true },
    logger: { info: log, warn: log, error: log },
  })
  await expect(engine.member!.outlive(() => engine!.save(), AbortSignal.abort())).rejects.toMatchObject({ kind: 'deadline' })
  await engine.member!.outlive(() => engine!.save())
  expect(await read('old')).toBe('kept')
  await engine.store('data').write(context, at('new'), Buffer.from('alone'))
  expect(lines.filter((line) => line.includes('goes on without the restore lost.1'))).toHaveLength(1)
})

it('is another incarnation, also of a store that was restored before', () => {
  const machine = new Machine({ owner: 'glenda' })
  machine.renew('first')
  expect(machine.incarnation).toBeUndefined()
  machine.import([[restoresKey, new Restores('second').encode()]])
  machine.renew('third')
  expect(machine.incarnation).toBe('third')
})
