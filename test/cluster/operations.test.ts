/** What an operator asks of a cluster when not all is well: learners, nodes that are down, no quorum. */
import { afterEach, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { TestCluster } from './nodes.ts'

let cluster: TestCluster

afterEach(async () => cluster.end())

async function three(): Promise<void> {
  cluster = await TestCluster.make(['n1', 'n2', 'n3'])
  await cluster.up('n1', 'n2', 'n3')
}

async function seconds(run: Promise<unknown>): Promise<number> {
  const began = performance.now()
  await run
  return (performance.now() - began) / 1000
}

describe('operators of a cluster', () => {
  it('add a learner, which serves and does not vote, and promote it', async () => {
    await three()
    await cluster.ok('n1', 'write', '/data/x', '1')
    const address = await cluster.place('n4')
    const added = await cluster.ok('n1', 'raft', 'add', '--learner', `n4=${address}`)
    expect(added).toBe(`n4 may join as a learner, at ${address}: start it with an empty folder\n`)
    await cluster.start('n4').ready
    expect(await cluster.ok('n4', 'cat', '/data/x')).toBe('1')
    await cluster.ok('n4', 'write', '/data/x', '2')
    expect(await cluster.ok('n1', 'cat', '/data/x')).toBe('2')
    const roleOf = async (store: string): Promise<string> => (await cluster.members('n2', store)).find(({ node }) => node === 'n4')!.role
    expect(await roleOf('data')).toBe('learner')
    const { code, stderr } = await cluster.nine('n1', 'raft', 'transfer', 'n4')
    expect(stderr).toMatch(/n4 is no voter of store data/)
    expect(code).toBe(exitCodeOf('invalid'))
    expect(await cluster.ok('n2', 'raft', 'promote', 'n4')).toBe('n4 votes in the groups of all stores\n')
    for (const store of ['data', 'usr', 'sys']) expect(await roleOf(store)).toBe('voter')
    // It does already.
    expect(JSON.parse(await cluster.ok('n3', 'raft', 'promote', 'n4', '--json'))).toEqual({ node: 'n4', role: 'voter' })
    const unknown = await cluster.nine('n1', 'raft', 'promote', 'n9')
    expect(unknown.code).toBe(exitCodeOf('not_found'))
    expect(unknown.stderr).toMatch(/no node "n9" belongs to this cluster: there are n1, n2, n3, n4/)
    for (const name of ['n1', 'n4']) expect(await cluster.ok(name, 'raft', 'defrag')).toMatch(/^the database of this node took .*\n$/)
    const sizes = { before: expect.any(Number) as number, after: expect.any(Number) as number }
    expect(JSON.parse(await cluster.ok('n4', 'raft', 'defrag', '--json'))).toEqual(sizes)
    expect(await cluster.ok('n4', 'raft', 'snapshot')).toMatch(/^n4 has saved store data up to entry \d+ or later\n$/)
    const saved = JSON.parse(await cluster.ok('n4', 'raft', 'snapshot', '--json', '--store', 'usr')) as object
    expect(saved).toEqual({ store: 'usr', node: 'n4', applied: expect.any(Number) as number })
    expect(await cluster.ok('n1', 'raft', 'transfer', 'n4')).toBe('n4 leads store data\n')
    expect(JSON.parse(await cluster.ok('n1', 'raft', 'transfer', 'n2', '--json'))).toEqual({ store: 'data', leader: 'n2' })
    expect(await cluster.ok('n4', 'cat', '/data/x')).toBe('2')
    expect(JSON.parse(await cluster.ok('n1', 'raft', 'remove', 'n4', '--json'))).toEqual({ node: 'n4', role: null })
  })

  it('remove a node through one that has had no word for the others yet: they are asked before it is said that they cannot be reached', async () => {
    await three()
    const { leader } = await statusOf('n1')
    const [through] = ['n1', 'n2', 'n3'].filter((name) => !leader!.startsWith(name))
    await cluster.ok(through!, 'raft', 'remove', leader!.split('.')[0]!)
    expect(await cluster.members(through!)).toHaveLength(2)
  })

  it('are told at once when the node that is to lead is down, and the store is served meanwhile', async () => {
    await three()
    await cluster.ok('n1', 'raft', 'transfer', 'n1')
    await cluster.kill('n3')
    const took = await seconds(
      (async () => {
        for (const through of ['n1', 'n2']) {
          const { code, stderr } = await cluster.nine(through, 'raft', 'transfer', 'n3')
          expect(stderr).toMatch(/n1, which leads store data, does not hear n3/)
          expect(code).toBe(exitCodeOf('unavailable'))
        }
      })(),
    )
    expect(took).toBeLessThan(25)
    await cluster.ok('n2', 'write', '/data/x', 'goes on')
  })

  it('are answered without a quorum: status says that nobody leads, changes end with an error, all goes on once it is back', async () => {
    await three()
    await cluster.ok('n1', 'write', '/data/x', 'before')
    for (const name of ['n1', 'n2', 'n3']) expect(await statusOf(name)).toMatchObject({ node: name, isReady: true })
    expect(await cluster.ok('n2', 'raft', 'status')).toMatch(/ready +yes/)
    await cluster.kill('n2')
    await cluster.kill('n3')
    while ((await statusOf('n1')).leader !== null);
    expect(await cluster.ok('n1', 'raft', 'status')).toMatch(/leader +none/)
    expect((await statusOf('n1')).isReady).toBe(false)
    const members = await cluster.ok('n1', 'raft', 'members')
    expect(members).toMatch(/^store data has no leader; HEARD is what n1 hears\nNODE +ROLE +HEARD/)
    expect(members.match(/^n\d.* voter +(yes|no) /gm)?.map((row) => row.trim().replace(/ +/g, ' '))).toEqual([
      'n1 * voter yes',
      'n2 voter no',
      'n3 voter no',
    ])
    for (const [command, kinds] of [
      [
        ['remove', 'n2'],
        ['unavailable', 'deadline'],
      ],
      [
        ['remove', 'n2', '--force'],
        ['unavailable', 'deadline'],
      ],
      [['transfer', 'n2'], ['unavailable']],
      [
        ['promote', 'n2'],
        ['unavailable', 'deadline'],
      ],
    ] as const) {
      const { code, stderr } = await cluster.nine('n1', 'raft', ...command)
      expect(kinds.map(exitCodeOf), stderr).toContain(code)
      expect(stderr).toMatch(/leader|quorum|cannot be reached|most/)
    }
    await cluster.start('n2').ready
    expect(await cluster.ok('n1', 'cat', '/data/x')).toBe('before')
    await cluster.ok('n1', 'write', '/data/x', 'after')
    // What came to nothing did so for good.
    expect((await cluster.members('n2')).map(({ node }) => node)).toContain('n2')
  })
})

async function statusOf(name: string): Promise<{ leader: string | null; isReady: boolean }> {
  return JSON.parse(await cluster.ok(name, 'raft', 'status', '--json')) as { leader: string | null; isReady: boolean }
}
