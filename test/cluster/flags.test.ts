/** What nine up says to flags, folders and peers that do not fit together. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { TestCluster } from './nodes.ts'

let cluster: TestCluster

afterEach(async () => cluster.end())

/** What a node that cannot start says; its folder is new. */
async function refusal(...flags: string[]): Promise<string> {
  const { code, stderr } = await cluster.start('wrong', flags).ended
  expect(code).not.toBe(0)
  return stderr
}

describe('nine up with --node and --peers', () => {
  it('refuses flags that cannot be right', async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    const peers = 'n1=127.0.0.1:7001,n2=127.0.0.1:7002,n3=127.0.0.1:7003'
    expect(await refusal('--node', 'n4', '--peers', peers)).toMatch(/--peers does not name this node, n4: it names n1, n2, n3/)
    expect(await refusal('--node', 'n1')).toMatch(/--node and --peers go together/)
    expect(await refusal('--peers', peers)).toMatch(/--node and --peers go together/)
    expect(await refusal('--node', 'n1', '--peers', `${peers},n1=127.0.0.1:7004`)).toMatch(/the name n1 twice/)
    expect(await refusal('--node', 'n1', '--peers', `${peers},n4=127.0.0.1:7001`)).toMatch(/the address 127.0.0.1:7001 twice/)
    expect(await refusal('--node', 'n1', '--peers', 'n1=127.0.0.1:70000')).toMatch(/127.0.0.1:70000 has no port/)
    expect(await refusal('--node', 'n1', '--peers', 'n1=127.0.0.1:0')).toMatch(/127.0.0.1:0 has no port/)
    expect(await refusal('--node', 'n1', '--peers', 'n1')).toMatch(/NAME=HOST:PORT/)
    expect(await refusal('--node', 'N 1', '--peers', 'N 1=127.0.0.1:7001')).toMatch(/the name of a node is/)
    expect(await refusal('--node', 'n1', '--peers', 'n1=10.0.0.1:7001')).toMatch(/10.0.0.1 is not loopback.*--peer-tls-ca/)
    expect(await refusal('--node', 'n1', '--peers', peers, '--peer-tls-ca', 'x')).toMatch(
      /--peer-tls-ca, --peer-tls-cert and --peer-tls-key go together/,
    )
    const via = (list: string) => refusal('--node', 'n1', '--peers', peers, '--peer-via', list)
    expect(await via('n4=127.0.0.1:7001')).toMatch(/--peer-via names n4, which is not among --peers: n1, n2, n3/)
    expect(await via('n1=127.0.0.1:7001')).toMatch(/--peer-via names this node, n1/)
    expect(await via('n2=127.0.0.1:7001,n2=127.0.0.1:7002')).toMatch(/--peer-via has the name n2 twice/)
    expect(await via('n2=127.0.0.1:0')).toMatch(/127.0.0.1:0 has no port/)
    expect(await via('n2=10.0.0.1:7002')).toMatch(/10.0.0.1 is not loopback.*--peer-tls-ca/)
    expect(await refusal('--peer-via', 'n2=127.0.0.1:7002')).toMatch(/--node and --peers go together/)
    const many = Array.from({ length: 16 }, (_, i) => `n${i + 1}=127.0.0.1:${7001 + i}`).join(',')
    expect(await refusal('--node', 'n1', '--peers', many)).toMatch(/at most 15 nodes, not 16/)
  })

  it('is a cluster of one with one peer, warns of an even number, and keeps its folder to itself', async () => {
    cluster = await TestCluster.make(['n1'])
    await cluster.up('n1')
    await cluster.ok('n1', 'write', '/data/x', '1')
    const { id } = cluster.ready('n1').cluster
    await cluster.kill('n1', 'SIGTERM')
    const alone = await cluster.start('n1', ['--token-file', cluster.tokenFile]).ended
    expect(alone.stderr).toMatch(new RegExp(`belongs to n1 of cluster ${id}: start it with --node n1 --peers n1=127`))
    const other = ['--node', 'n2', '--peers', `${cluster.peers},n2=127.0.0.1:7002`, '--token-file', cluster.tokenFile]
    const { stderr } = await cluster.start('n1', other).ended
    expect(stderr).toMatch(/warning: 2 nodes go on without 0 of them, as 1 would/)
    expect(stderr).toMatch(/belongs to n1 of cluster .*, not to n2/)
    await cluster.start('n1').ready
    expect(await cluster.ok('n1', 'cat', '/data/x')).toBe('1')
  })

  it('founds with the folder of a node that was alone, whose files are there afterwards', async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    await cluster.start('n2', ['--token-file', cluster.tokenFile]).ready
    await cluster.ok('n2', 'write', '-p', '/data/before/x', 'kept')
    await cluster.kill('n2', 'SIGTERM')
    await cluster.up('n1', 'n2', 'n3')
    for (const name of ['n1', 'n2', 'n3']) expect(await cluster.ok(name, 'cat', '/data/before/x')).toBe('kept')
  })

  it('refuses two folders with data, other owners and other lists of peers', async () => {
    cluster = await TestCluster.make(['n1', 'n2'])
    for (const name of ['n1', 'n2']) {
      await cluster.start(name, ['--token-file', cluster.tokenFile]).ready
      await cluster.kill(name, 'SIGTERM')
    }
    // Each of two that do not fit says so, whichever asked the other first.
    const both = async (flags: readonly string[]): Promise<string[]> => {
      const ended = [cluster.start('n1').ended, cluster.start('n2', flags).ended]
      const found = await Promise.all(ended)
      for (const { code } of found) expect(code).toBe(exitCodeOf('invalid'))
      for (const name of ['n1', 'n2']) cluster.lose(name)
      return found.map(({ stderr }) => stderr)
    }
    const flags = ['--node', 'n2', '--peers', cluster.peers, '--token-file', cluster.tokenFile]
    for (const said of await both(flags)) expect(said).toMatch(/have data of their own/)

    const owners = await both([...flags, '--owner', 'somebody-else'])
    expect(owners[0]).toMatch(/n2 belongs to somebody-else, n1 to /)
    expect(owners[1]).toMatch(/n1 belongs to .*, n2 to somebody-else/)
    const lists = await both(['--node', 'n2', '--peers', `${cluster.peers},n3=127.0.0.1:7003`, '--token-file', cluster.tokenFile])
    expect(lists[0]).toMatch(/--peers of n2 differs from that of n1: n3=127.0.0.1:7003 is in it, and not here/)
    expect(lists[1]).toMatch(/--peers of n1 differs from that of n2: n3=127.0.0.1:7003 is not in it/)
  })

  it('does not make the token file that several nodes have', async () => {
    cluster = await TestCluster.make(['n1', 'n2'])
    const mistyped = join(cluster.folder, 'mistyped.token')
    for (const [file, flags] of [
      [mistyped, ['--token-file', mistyped]],
      [join(cluster.data('n1'), 'identity', 'token'), []],
    ] as const) {
      const { code, stderr } = await cluster.start('n1', ['--node', 'n1', '--peers', cluster.peers, ...flags]).ended
      expect(stderr).toMatch(`there is no ${file}: the nodes of a cluster have one token file`)
      expect(stderr).toMatch('--token-file')
      expect(code).toBe(exitCodeOf('not_found'))
      expect(existsSync(file)).toBe(false)
    }
    await cluster.up('n1', 'n2')
  })

  it('waits on beside one with another token file, which ends when most do not take it, and forms once that is put right', async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    const token = join(cluster.folder, 'other.token')
    writeFileSync(token, 'another-token-of-a-cluster', { mode: 0o600 })
    const nodes = [cluster.start('n1'), cluster.start('n3', ['--node', 'n3', '--peers', cluster.peers, '--token-file', token])]
    for (const node of nodes) await node.says(/waiting for .*n[13] \(.*\): it has another secret than this node: .* wrong --token-file/)
    nodes.push(cluster.start('n2'))
    const { code, stderr } = await nodes[1]!.ended
    expect(stderr).toMatch(/most of the nodes do not take this one: n1 \(.*--token-file; n2 \(.*--token-file/)
    expect(code).toBe(exitCodeOf('unauthenticated'))
    await Promise.all([cluster.start('n3').ready, nodes[0]!.ready, nodes[2]!.ready])
  })

  it('does not take a node of another cluster, nor joins two', async () => {
    cluster = await TestCluster.make(['n1'])
    await cluster.up('n1')
    const { id } = cluster.ready('n1').cluster
    const place = `127.0.0.1:${(await cluster.place('n2')).split(':')[1]}`
    const alone = ['--node', 'n2', '--peers', `n2=${place}`, '--token-file', cluster.tokenFile]
    const other = (await cluster.start('n2', alone).ready).cluster.id
    const third = await cluster.place('n3')
    const { stderr } = await cluster.start('n3').ended
    expect(stderr).toMatch(new RegExp(`n1 belongs to cluster ${id} and n2 to cluster ${other}`))
    await cluster.kill('n2', 'SIGTERM')
    expect((await cluster.start('n2').ended).stderr).toMatch(
      new RegExp(`this folder belongs to cluster ${other}, but n1 .* belongs to cluster ${id}`),
    )
    expect(third).not.toBe(place)
  })
})
