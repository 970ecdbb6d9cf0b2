/** Backups of a cluster's stores, and a new cluster from them. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { connect } from '../../sdk/connect.ts'
import { runNine } from '../e2e/run-nine.ts'
import { TestCluster } from './nodes.ts'

const clusters: TestCluster[] = []

afterEach(async () => {
  for (const cluster of clusters.splice(0)) await cluster.end()
})

async function three(): Promise<TestCluster> {
  const cluster = await TestCluster.make(['n1', 'n2', 'n3'])
  clusters.push(cluster)
  return cluster
}

describe('stores of a cluster', () => {
  it('are backed up at any node, and restored into a folder that founds another cluster', { timeout: 240_000 }, async () => {
    const old = await three()
    await old.up('n1', 'n2', 'n3')
    await old.ok('n1', 'write', '-p', '/data/team/plan', 'first')
    await old.ok('n2', 'write', '/data/team/plan', 'second')
    await old.ok('n1', 'rights', '/data/team', 'ann=read,list')
    const annFile = join(old.folder, 'ann.token')
    writeFileSync(annFile, await old.ok('n2', 'token', 'create', 'ann'), { mode: 0o600 })
    const files = join(old.folder, 'files')
    mkdirSync(files)
    writeFileSync(join(files, 'large'), Buffer.alloc(1_500_000, 'a large value '))
    await old.ok('n3', 'import', files, '/data/files')
    await old.ok('n1', 'raft', 'transfer', 'n1')
    const at = (store: string): string => join(old.folder, `${store}.backup`)
    // At followers: what anybody was told is in it.
    const { position } = await withClient(old, 'n1', (client) => client.write('/data/last', 'acknowledged elsewhere'))
    await old.ok('n2', 'backup', 'data', at('data'))
    await old.ok('n3', 'raft', 'snapshot', '--store', 'usr', at('usr'))
    await old.ok('n3', 'raft', 'snapshot', '--store', 'sys', at('sys'))
    expect((await old.nine('n2', 'raft', 'snapshot', at('data'))).code).toBe(exitCodeOf('exists'))
    const whole = await old.ok('n3', 'tree', '--json', '/data')
    for (const name of ['n1', 'n2', 'n3']) await old.kill(name, 'SIGTERM')

    const refused = await runNine(['restore', at('data'), '--data', old.data('n1'), '--force'])
    expect(refused.code).toBe(exitCodeOf('invalid'))
    expect(refused.stderr).toMatch(/restore into a new folder \(--data\)/)
    expect(refused.stderr).not.toMatch(/nine raft restore/)

    const made = await three()
    for (const store of ['data', 'usr', 'sys']) {
      const { code, stderr } = await runNine(['raft', 'restore', at(store), '--data', made.data('n2')])
      expect(stderr).toBe('')
      expect(code).toBe(0)
    }
    await made.up('n1', 'n2', 'n3')
    expect(made.ready('n1').cluster.id).not.toBe(old.ready('n1').cluster.id)
    for (const name of ['n1', 'n2', 'n3']) {
      expect(withoutTimes(await made.ok(name, 'tree', '--json', '/data'))).toEqual(withoutTimes(whole))
      expect(await made.ok(name, 'cat', '/data/team/plan')).toBe('second')
      expect(await made.ok(name, 'cat', '/data/last')).toBe('acknowledged elsewhere')
      expect(Buffer.byteLength(await made.ok(name, 'cat', '/data/files/large'))).toBe(1_500_000)
      expect(await made.ok(name, 'rights', '/data/team')).toContain('ann')
      expect(await made.ok(name, '--token-file', annFile, 'cat', '/data/team/plan')).toBe('second')
    }
    // Nobody of the cluster before is a member of this one.
    for (const store of ['data', 'usr', 'sys']) {
      const rows = await made.members('n3', store)
      expect(rows.map(({ node, member }) => `${node} ${member}`)).toEqual(
        ['n1', 'n2', 'n3'].map((name) => `${name} ${made.ready(name).cluster.member}`),
      )
    }
    await made.ok('n3', 'write', '/data/team/plan', 'third')
    await made.kill('n2')
    expect(await made.ok('n1', 'cat', '/data/team/plan')).toBe('third')
    // Positions from before are of another incarnation.
    await expect(
      withClient(made, 'n3', async (client) => {
        for await (const batch of client.watch('/data', { from: position })) return batch
        return undefined
      }),
    ).rejects.toMatchObject({ kind: 'compacted' })
    for (const name of ['n1', 'n3']) expect((await readdir(join(made.data(name), 'snapshots'))).filter((file) => file.startsWith('out-'))).toEqual([]) // prettier-ignore
    expect((await stat(at('data'))).mode & 0o777).toBe(0o600)
  })
})

async function withClient<T>(
  cluster: TestCluster,
  name: string,
  run: (client: Awaited<ReturnType<typeof connect>>['client']) => Promise<T>,
): Promise<T> {
  const session = await connect({ address: cluster.ready(name).grpc, tokenFile: cluster.tokenFile })
  try {
    return await run(session.client)
  } finally {
    await session.close()
  }
}

/** Rows of `tree`: same files, sizes and versions. */
function withoutTimes(text: string): unknown[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const { path, name, kind, size, version } = JSON.parse(line) as Record<string, unknown>
      return { path, name, kind, size, version }
    })
}
