/** A node whose folder was put back to an earlier time, as with the image of a disk. */
import { cpSync, renameSync } from 'node:fs'
import { afterEach, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import { TestCluster } from './nodes.ts'

let cluster: TestCluster
afterEach(() => cluster.end())

it(
  'a node that has forgotten what it acknowledged ends and says what to do; the others go on, and it may come back empty',
  { timeout: 120_000 },
  async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    await cluster.up('n1', 'n2', 'n3')
    const leader = await cluster.leader('n1')
    const name = ['n1', 'n2', 'n3'].find((one) => one !== leader)!
    await cluster.kill(name, 'SIGTERM')
    const copy = `${cluster.data(name)}.copy`
    cpSync(cluster.data(name), copy, { recursive: true })
    await cluster.up(name)
    for (let value = 1; value <= 5; value++) await cluster.ok(name, 'write', '/data/a', `${value}`)
    await cluster.kill(name, 'SIGTERM')
    cluster.lose(name)
    renameSync(copy, cluster.data(name))

    const { code, stderr } = await cluster.start(name).ended
    expect(stderr).toMatch(
      /this folder is older than what this node has acknowledged: its log of store \w+ ends at \d+, and n\d\.\w+ knows \d+ of it; start the node with an empty folder/,
    )
    expect(code).toBe(exitCodeOf('corrupt'))
    expect(await cluster.ok(leader, 'cat', '/data/a')).toBe('5')

    cluster.lose(name)
    await cluster.up(name)
    expect(await cluster.ok(name, 'cat', '/data/a')).toBe('5')
  },
)
