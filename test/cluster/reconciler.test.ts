/** Who takes voters out of a group, and when it waits; and two operators who take nodes out of a cluster of processes at once. */
import { afterEach, describe, expect, it } from 'vitest'
import { exitCodeOf } from '../../cli/exit-codes.ts'
import type { Configuration, GroupStatus, MembershipChange } from '../../raft/index.ts'
import type { GroupControl } from '../../services/cluster/ports.ts'
import { Reconciler } from '../../services/cluster/reconciler.ts'
import { TestCluster } from './nodes.ts'

/** A group that n1 leads, in which these are heard; what is asked of it is done at once. */
class OneGroup {
  readonly taken: string[] = []
  readonly noted: string[] = []
  readonly heard: Set<string>
  /** Who lacks chunks of large values. */
  readonly lacking = new Set<string>()
  voters: string[]
  readonly reconciler: Reconciler

  constructor(voters: string[], heard: string[], members: string[], forced: string[] = []) {
    this.voters = voters
    this.heard = new Set(heard)
    const control = {
      id: 1,
      term: 1,
      isReady: true,
      status: () => this.#status(),
      change: (changes: MembershipChange[]) => this.#change(changes),
    }
    this.reconciler = new Reconciler({
      sys: 2,
      member: 'n1.a',
      groups: () => [control as unknown as GroupControl],
      generation: () => 1,
      wanted: async () => ({
        members: members.map((id) => ({ id, name: id.slice(0, 2), role: 'voter' as const })),
        forced: new Set(forced),
      }),
      isFilled: async (_group, id) => !this.lacking.has(id),
      note: (_group, changes, error) =>
        this.noted.push(error === undefined ? textOf(changes) : `${textOf(changes)}: ${(error as Error).message}`),
    })
  }

  /** So many looks, each after the one before is done. */
  async look(times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      await this.reconciler.look()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  #status(): GroupStatus {
    const configuration: Configuration = { voters: this.voters, outgoing: [], learners: [], demoted: [] }
    const peers = this.voters.map((id) => ({ id, match: 1, state: 'replicate', isActive: this.heard.has(id) }))
    return { configuration, peers, term: 1 } as unknown as GroupStatus
  }

  async #change(changes: readonly MembershipChange[]): Promise<void> {
    this.taken.push(textOf(changes))
    this.voters = this.voters.filter((id) => !changes.some((change) => change.do === 'remove' && change.id === id))
  }
}

function textOf(changes: readonly MembershipChange[]): string {
  return changes.map((change) => `${change.do} ${change.id}`).join(', ')
}

describe('a voter is taken out of a group', () => {
  it('where most of those that stay are heard', async () => {
    const group = new OneGroup(['n1.a', 'n2.a', 'n3.a'], ['n2.a'], ['n1.a', 'n2.a'])
    await group.look(2)
    expect(group.taken).toEqual(['remove n3.a'])
  })

  it('not where they are not, which is told once, until they are back', async () => {
    const group = new OneGroup(['n1.a', 'n2.a', 'n3.a'], ['n2.a'], ['n1.a', 'n3.a'])
    await group.look(20)
    expect(group.taken).toEqual([])
    expect(group.noted).toEqual(['remove n2.a: it has 2 voters and needs 2 of them, but n3 cannot be reached: it waits for them'])
    expect(group.reconciler.waiting(1)).toMatch(/n3 cannot be reached/)
    group.heard.add('n3.a')
    await group.look(2)
    expect(group.taken).toEqual(['remove n2.a'])
    expect(group.reconciler.waiting(1)).toBeUndefined()
  })

  it('after others whose going leaves most that stay among the heard', async () => {
    const group = new OneGroup(['n1.a', 'n2.a', 'n3.a'], ['n2.a'], ['n1.a'])
    await group.look(1)
    expect(group.taken).toEqual(['remove n3.a'])
    await group.look(2)
    expect(group.taken).toEqual(['remove n3.a', 'remove n2.a'])
  })

  it('not while most of those that stay lack large values, unless it is not heard', async () => {
    const group = new OneGroup(['n1.a', 'n2.a', 'n3.a'], ['n2.a', 'n3.a'], ['n1.a', 'n3.a'])
    group.lacking.add('n3.a')
    await group.look(5)
    expect(group.taken).toEqual([])
    expect(group.reconciler.waiting(1)).toBe('most of n1, n3 have not fetched all large values yet')
    group.lacking.clear()
    await group.look(2)
    expect(group.taken).toEqual(['remove n2.a'])
    const silent = new OneGroup(['n1.a', 'n2.a', 'n3.a'], ['n3.a'], ['n1.a', 'n3.a'])
    silent.lacking.add('n3.a')
    await silent.look(2)
    expect(silent.taken).toEqual(['remove n2.a'])
  })

  it('at once by force', async () => {
    const group = new OneGroup(['n1.a', 'n2.a', 'n3.a'], ['n2.a'], ['n1.a', 'n3.a'], ['n2.a'])
    await group.look(1)
    expect(group.taken).toEqual(['remove n2.a'])
  })
})

describe('operators of a cluster', () => {
  let cluster: TestCluster
  afterEach(async () => cluster.end())

  it('take out a node that leads a store, and not the one that says who is a member', async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    await cluster.up('n1', 'n2', 'n3')
    const [leader, heir] = await Promise.all([cluster.leader('n1', 'sys'), cluster.leader('n1')])
    const gone = leader === heir ? ['n1', 'n2', 'n3'].find((name) => name !== leader)! : heir
    const stays = ['n1', 'n2', 'n3'].find((name) => name !== gone)!
    if (gone !== heir) await cluster.ok(stays, 'raft', 'transfer', gone)
    await cluster.ok(stays, 'raft', 'remove', gone)
    expect((await cluster.node(gone).ended).code).not.toBeNull()
    for (const store of ['data', 'usr', 'sys']) {
      expect((await cluster.members(stays, store)).map(({ node }) => node).sort()).toEqual(
        ['n1', 'n2', 'n3'].filter((name) => name !== gone),
      )
    }
    await cluster.ok(stays, 'write', '/data/x', 'goes on')
  })

  it('take out the node that says who is a member, where another leads a store', async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    await cluster.up('n1', 'n2', 'n3')
    await cluster.ok('n2', 'raft', 'transfer', 'n1', '--store', 'sys')
    await cluster.ok('n2', 'raft', 'transfer', 'n2')
    await cluster.ok('n2', 'raft', 'remove', 'n1')
    expect((await cluster.node('n1').ended).code).not.toBeNull()
    await cluster.ok('n3', 'write', '/data/x', 'goes on')
  })

  it('take two nodes out at once where one may go: one of them is refused, and the cluster goes on', async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3', 'n4'])
    await cluster.up('n1', 'n2', 'n3', 'n4')
    await cluster.ok('n1', 'raft', 'transfer', 'n3')
    await cluster.kill('n4')
    const both = await Promise.all(['n1', 'n2'].map((name) => cluster.nine('n3', 'raft', 'remove', name)))
    expect(both.map(({ code }) => code).sort(), both.map(({ stderr }) => stderr).join('')).toEqual([0, exitCodeOf('invalid')])
    expect(both.map(({ stderr }) => stderr).join('')).toMatch(/without n[12] it has 2 voters and needs 2 of them, but n4 cannot be reached/)
    await cluster.ok('n3', 'write', '/data/x', 'goes on')
  })
})
