/** A new cluster from the one node that is left, when the majority is lost for good. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { runNine } from '../e2e/run-nine.ts'
import { TestCluster } from './nodes.ts'

let cluster: TestCluster
afterEach(() => cluster.end())

it(
  'the node that is left begins a new cluster with what it has, which the others join with empty folders',
  { timeout: 240_000 },
  async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    await cluster.up('n1', 'n2', 'n3')
    await cluster.ok('n1', 'write', '-p', '/data/team/plan', 'kept')
    const ann = join(cluster.folder, 'ann.token')
    writeFileSync(ann, await cluster.ok('n2', 'token', 'create', 'ann'), { mode: 0o600 })
    const before = cluster.ready('n2').cluster
    for (const name of ['n1', 'n3']) await cluster.kill(name)
    for (const name of ['n1', 'n3']) cluster.lose(name)

    const dir = cluster.data('n2')
    const open = await runNine(['raft', 'recover', '--data', dir, '--force'])
    expect(open.code).toBe(exitCodeOf('unavailable'))
    await cluster.kill('n2')
    const asked = await runNine(['raft', 'recover', '--data', dir])
    expect(asked.code).toBe(exitCodeOf('invalid'))
    expect(asked.stderr).toMatch(/add --force/)
    const empty = join(cluster.folder, 'empty')
    mkdirSync(empty)
    const none = await runNine(['raft', 'recover', '--data', empty, '--force'])
    expect(none.code).toBe(exitCodeOf('invalid'))
    expect(none.stderr).toMatch(/is not the folder of a node of a cluster/)

    const done = await runNine(['raft', 'recover', '--data', dir, '--force', '--json'])
    expect(done.stderr).toBe('')
    const told = JSON.parse(done.stdout) as { cluster: string; member: string; before: string; stores: string[] }
    expect(told).toMatchObject({ node: 'n2', before: before.id, stores: expect.arrayContaining(['data', 'usr', 'sys']) as unknown })
    expect(told.cluster).not.toBe(before.id)

    await cluster.up('n1', 'n2', 'n3')
    expect(cluster.ready('n2').cluster).toMatchObject({ id: told.cluster, member: told.member })
    for (const name of ['n1', 'n2', 'n3']) {
      expect(cluster.ready(name).cluster.id).toBe(told.cluster)
      expect(await cluster.ok(name, 'cat', '/data/team/plan')).toBe('kept')
      expect((await runNine(['ls', '/usr/ann'], { env: { NINE_ADDR: cluster.ready(name).grpc, NINE_TOKEN_FILE: ann } })).code).toBe(0)
    }
    for (const store of ['data', 'usr', 'sys']) {
      const rows = await cluster.members('n1', store)
      expect(rows.map(({ member, role }) => `${member} ${role}`)).toEqual(
        ['n1', 'n2', 'n3'].map((name) => `${cluster.ready(name).cluster.member} voter`),
      )
    }
    await cluster.kill('n2')
    await cluster.ok('n3', 'write', '/data/team/plan', 'goes on')
    await cluster.up('n2')
    expect(await cluster.ok('n2', 'cat', '/data/team/plan')).toBe('goes on')
  },
)
