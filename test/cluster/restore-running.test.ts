/** A store of a cluster of processes is put back from a backup while the cluster serves. NINE_CHAOS_FULL=1: nodes are killed at all points of it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { isNineError } from '../../namespace/errors.ts'
import { connect } from '../../sdk/connect.ts'
import { ofRestores } from '../failpoints/steps.ts'
import { until } from './processes.ts'
import { TestCluster } from './nodes.ts'

const clusters: TestCluster[] = []

afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.end()
})

const names = ['n1', 'n2', 'n3']
const isFull = process.env['NINE_CHAOS_FULL'] === '1'

async function three(): Promise<TestCluster> {
  const cluster = await TestCluster.make(names)
  clusters.push(cluster)
  await cluster.up(...names)
  return cluster
}

type Client = Awaited<ReturnType<typeof connect>>['client']

async function withClient<T>(cluster: TestCluster, name: string, run: (client: Client) => Promise<T>): Promise<T> {
  const session = await connect({ address: cluster.ready(name).grpc, tokenFile: cluster.tokenFile })
  try {
    return await run(session.client)
  } finally {
    await session.close()
  }
}

interface RestoreRow {
  readonly state: string
  readonly isKept: boolean
}

async function restoresAt(cluster: TestCluster, name: string): Promise<RestoreRow[]> {
  const text = await cluster.ok(name, 'cat', '/raft/data/restores')
  return text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as RestoreRow) // prettier-ignore
}

/** Nothing is kept of any backup. */
async function isClean(cluster: TestCluster, name = 'n1'): Promise<boolean> {
  const { stdout } = await cluster.nine(name, 'ls', '/sys/restore')
  return stdout === '' && (await restoresAt(cluster, name)).every(({ state, isKept }) => state !== 'under way' && !isKept)
}

async function filesOf(cluster: TestCluster, name: string): Promise<Record<string, string>> {
  return withClient(cluster, name, async (client) => {
    const found: Record<string, string> = {}
    for await (const { name: file, size } of client.list('/data'))
      found[file] = (size ?? 0) > 1_000 ? `${size} bytes` : await client.readText(`/data/${file}`)
    return found
  })
}

/** A backup of /data with a small file, a large one, and one that is removed afterwards. */
async function prepared(cluster: TestCluster): Promise<string> {
  const file = join(cluster.folder, 'data.backup')
  const large = Buffer.alloc(1_500_000, 'a large value ')
  await cluster.ok('n1', 'write', '/data/plan', 'first')
  await cluster.ok('n1', 'write', '/data/removed', 'x')
  await cluster.ok('n2', 'cp', '/data/plan', '/data/copy')
  await withClient(cluster, 'n3', (client) => client.write('/data/large', large))
  await cluster.ok('n2', 'raft', 'snapshot', file)
  await cluster.ok('n1', 'write', '/data/plan', 'second')
  await cluster.ok('n1', 'write', '/data/since', 'x')
  await cluster.ok('n1', 'rm', '/data/removed')
  await cluster.ok('n1', 'rm', '/data/large')
  return file
}

const before = { plan: 'first', removed: 'x', copy: 'first', large: '1500000 bytes' }
const after = { plan: 'second', copy: 'first', since: 'x' }

/** Where a process is killed, and whether that of the node that is asked or all; by default those that take least. */
const killed = [
  ...ofRestores.map((point) => [point, 'asked'] as const),
  ['restore.load', 'all'] as const,
  ['restore.taken', 'all'] as const,
].filter(([point, who]) => isFull || (who === 'asked' && ['restore.checked', 'restore.claimed', 'restore.take'].includes(point)))

describe('a store of a running cluster', () => {
  it('becomes what a backup says at every node, for clients that write and watch meanwhile too', { timeout: 240_000 }, async () => {
    const cluster = await three()
    const file = await prepared(cluster)
    const session = await connect({ addresses: names.map((name) => cluster.ready(name).grpc), tokenFile: cluster.tokenFile })
    const { client } = session
    const ended = (async () => {
      for await (const batch of client.watch('/data')) void batch
    })()
    ended.catch(() => undefined)
    const position = (await client.write('/data/since', 'y')).position
    let isStopped = false
    const written = new Set<number>()
    const writing = (async () => {
      for (let i = 0; !isStopped; i++) {
        try {
          await client.write('/data/counter', String(i))
          written.add(i)
        } catch (error) {
          if (!isNineError(error) || !(error.kind === 'unavailable' || error.kind === 'deadline')) throw error
        }
      }
    })()
    const asked = await cluster.nine('n2', 'raft', 'restore', file)
    expect(asked.code).toBe(exitCodeOf('invalid'))
    expect(asked.stderr).toContain('--yes')
    const told = JSON.parse(await cluster.ok('n3', 'raft', 'restore', file, '--yes', '--json')) as { store: string; incarnation: string }
    expect(told.store).toBe('data')
    const writtenBefore = written.size
    await until('writes go on', 20_000, () => written.size > writtenBefore + 10)
    isStopped = true
    await writing
    for (const name of names) {
      const { counter, ...others } = await filesOf(cluster, name)
      expect(others).toEqual(before)
      expect(Number(counter)).toBe(Math.max(...written))
      expect(JSON.parse(await cluster.ok(name, 'cat', '/sys/stores/data'))).toMatchObject({ incarnation: told.incarnation })
    }
    await expect(ended).rejects.toMatchObject({ kind: 'compacted' })
    await expect(client.readText('/data/plan', { minPosition: position })).rejects.toMatchObject({ kind: 'compacted' })
    await session.close()
    await until('nothing is left of the backup', 20_000, () => isClean(cluster))
    // It stays so.
    for (const name of names) await cluster.kill(name)
    await cluster.up(...names)
    for (const name of names) expect(await filesOf(cluster, name)).toMatchObject(before)
  })

  it('is restored on a node that was down meanwhile, when it is back', { timeout: 240_000 }, async () => {
    const cluster = await three()
    const file = await prepared(cluster)
    await cluster.kill('n3')
    await cluster.ok('n1', 'raft', 'restore', file, '--yes')
    await cluster.ok('n2', 'write', '/data/later', 'y')
    // For a member that may need it, the backup is kept.
    expect(await restoresAt(cluster, 'n1')).toMatchObject([{ state: 'made', isKept: true }])
    await cluster.up('n3')
    for (const name of names) expect(await filesOf(cluster, name)).toEqual({ ...before, later: 'y' })
    await until('nothing is left of the backup', 20_000, () => isClean(cluster))
  })

  it('is as it was where the backup is damaged, none, of another cluster, or for the store sys', { timeout: 240_000 }, async () => {
    const cluster = await three()
    const file = await prepared(cluster)
    const bytes = readFileSync(file)
    const damaged = join(cluster.folder, 'damaged.backup')
    writeFileSync(
      damaged,
      bytes.map((byte, at) => (at === bytes.length - 1_000 ? byte ^ 1 : byte)),
    )
    expect((await cluster.nine('n1', 'raft', 'restore', damaged, '--yes')).code).toBe(exitCodeOf('corrupt'))
    // One that came some other way, past the check at home.
    const restoreAt = (name: string, text: Uint8Array): Promise<unknown> =>
      withClient(cluster, 'n2', async (client) => {
        await client.write(`/sys/restore/${name}`, text, { parents: true })
        await client.write('/raft/data/ctl', `restore ${name}\n`)
      })
    await expect(restoreAt('cut', bytes.subarray(0, bytes.length - 10))).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(restoreAt('flipped', readFileSync(damaged))).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(restoreAt('empty', new Uint8Array(0))).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(withClient(cluster, 'n1', (client) => client.write('/raft/data/ctl', 'restore nothing\n'))).rejects.toMatchObject({
      kind: 'not_found',
    })
    const usr = join(cluster.folder, 'usr.backup')
    await cluster.ok('n1', 'backup', 'usr', usr)
    const other = await cluster.nine('n1', 'raft', 'restore', usr, '--yes')
    expect(other.code).toBe(exitCodeOf('invalid'))
    expect(other.stderr).toContain('--force')
    // That shows in its first bytes: nothing else was read, and nothing was sent.
    writeFileSync(usr, readFileSync(usr).subarray(0, -10))
    expect((await cluster.nine('n1', 'raft', 'restore', usr, '--yes')).code).toBe(exitCodeOf('invalid'))
    expect((await cluster.nine('n1', 'raft', 'restore', usr, '--yes', '--store', 'sys')).code).toBe(exitCodeOf('invalid'))
    const sys = await cluster.nine('n1', 'raft', 'restore', file, '--yes', '--store', 'sys')
    expect(sys.code).toBe(exitCodeOf('invalid'))
    expect(sys.stderr).toContain('--data')
    expect((await cluster.nine('n1', 'raft', 'restore', file, '--yes', '--store', 'nope')).code).toBe(exitCodeOf('not_found'))
    expect((await cluster.nine('n1', 'raft', 'transfer', 'n2', '--store', 'nope')).code).toBe(exitCodeOf('not_found'))
    expect((await cluster.nine('n1', 'raft', 'defrag', '--store', 'nope')).code).toBe(exitCodeOf('not_found'))
    for (const name of names) expect(await filesOf(cluster, name)).toEqual(after)
    expect(await restoresAt(cluster, 'n1')).toEqual([])
  })

  it.each(killed)('is the old or the new at all nodes where the process is killed at %s (%s)', { timeout: 240_000 }, async (point, who) => {
    const cluster = await three()
    const file = await prepared(cluster)
    const victims = who === 'all' ? names : ['n1']
    for (const name of victims) {
      await cluster.kill(name, 'SIGTERM')
      process.env['NINE_FAILPOINTS'] = `${point}=kill`
      const { ready } = cluster.start(name)
      delete process.env['NINE_FAILPOINTS']
      await ready
    }
    const asked = cluster.nine('n1', 'raft', 'restore', file, '--yes', '--timeout', '8s')
    await Promise.race(victims.map((name) => cluster.node(name).ended))
    await asked
    // The last may not hear that it is agreed on: it is alone then.
    for (const name of victims) await (who === 'all' ? cluster.kill(name) : cluster.node(name).ended)
    await cluster.up(...victims)
    const states = await Promise.all(names.map((name) => filesOf(cluster, name)))
    for (const state of states) expect(state).toEqual(states[0])
    expect([before, after]).toContainEqual(states[0])
    if (point === 'restore.checked') expect(states[0]).toEqual(after)
    if (point !== 'restore.checked' && point !== 'restore.claimed') expect(states[0]).toEqual(before)
    for (const name of names) await cluster.ok(name, 'write', `/data/by-${name}`, 'y')
    // A restore that was not made can be asked for anew.
    await cluster.ok('n2', 'raft', 'restore', file, '--yes')
    for (const name of names) expect(await filesOf(cluster, name)).toEqual(before)
  })
})

describe('a node alone', () => {
  it('restores a store while it serves, too', { timeout: 120_000 }, async () => {
    const cluster = await TestCluster.make(['n1'])
    clusters.push(cluster)
    await cluster.start('n1', ['--token-file', cluster.tokenFile]).ready
    const file = join(cluster.folder, 'data.backup')
    const large = Buffer.alloc(1_500_000, 'a large value ')
    await withClient(cluster, 'n1', (client) => client.write('/data/large', large))
    await cluster.ok('n1', 'write', '/data/plan', 'first')
    await cluster.ok('n1', 'backup', 'data', file)
    await cluster.ok('n1', 'write', '/data/plan', 'second')
    const { position } = await withClient(cluster, 'n1', (client) => client.write('/data/since', 'x'))
    await cluster.ok('n1', 'raft', 'restore', file, '--yes')
    const all = { plan: 'first', large: '1500000 bytes' }
    expect(await filesOf(cluster, 'n1')).toEqual(all)
    await expect(withClient(cluster, 'n1', (client) => client.readText('/data/plan', { minPosition: position }))).rejects.toMatchObject({
      kind: 'compacted',
    })
    await cluster.ok('n1', 'write', '/data/later', 'y')
    await until('nothing is left of the backup', 20_000, () => isClean(cluster))
    await cluster.kill('n1')
    await cluster.start('n1', ['--token-file', cluster.tokenFile]).ready
    expect(await filesOf(cluster, 'n1')).toEqual({ ...all, later: 'y' })
  })
})
