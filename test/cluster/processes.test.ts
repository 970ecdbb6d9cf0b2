/** Clusters of real processes: forming, losing nodes and disks, operators' commands, rolling restarts. */
import { renameSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { computed } from '../../namespace/serve/entries.ts'
import { connect } from '../../sdk/connect.ts'
import { defineService } from '../../sdk/service.ts'
import { serve } from '../../sdk/serve.ts'
import { TestCluster } from './nodes.ts'

let cluster: TestCluster

afterEach(async () => cluster.end())

async function three(): Promise<void> {
  cluster = await TestCluster.make(['n1', 'n2', 'n3'])
  await cluster.up('n1', 'n2', 'n3')
}

describe('a cluster of three nodes', () => {
  it('forms only when all were heard, says what it waits for, and is not ready before', async () => {
    cluster = await TestCluster.make(['n1', 'n2', 'n3'])
    const http = `127.0.0.1:${(await cluster.place('unused')).split(':')[1]}`
    cluster.addresses.delete('unused')
    const flags = ['--node', 'n1', '--peers', cluster.peers, '--token-file', cluster.tokenFile, '--http', http, '--grpc', '127.0.0.1:0']
    const first = cluster.start('n1', flags)
    const second = cluster.start('n2')
    await first.says(new RegExp(`waiting for n3 \\(${cluster.addresses.get('n3')}\\): .*ECONNREFUSED`))
    expect((await fetch(`http://${http}/readyz`)).status).toBe(503)
    expect((await fetch(`http://${http}/healthz`)).status).toBe(200)
    const early = await fetch(`http://${http}/v1/fs/data`, { headers: { authorization: 'Bearer anything' } })
    expect(early.status).toBe(503)
    expect(await early.text()).toMatch(/waiting for n3/)
    const third = cluster.start('n3')
    const all = await Promise.all([first.ready, second.ready, third.ready])
    expect(new Set(all.map(({ cluster: { id } }) => id)).size).toBe(1)
    expect((await fetch(`http://${http}/readyz`)).status).toBe(200)
  })

  it('shows on every node what was written on one, and goes on without its leader', async () => {
    await three()
    await cluster.ok('n2', 'write', '/data/greeting', 'hello')
    for (const name of ['n1', 'n2', 'n3']) expect(await cluster.ok(name, 'cat', '/data/greeting')).toBe('hello')
    const leader = await cluster.leader('n1')
    const [other, last] = ['n1', 'n2', 'n3'].filter((name) => name !== leader) as [string, string]
    await cluster.kill(leader)
    await cluster.ok(other, 'write', '/data/greeting', 'still here')
    expect(await cluster.ok(last, 'cat', '/data/greeting')).toBe('still here')
    await cluster.start(leader).ready
    expect(await cluster.ok(leader, 'cat', '/data/greeting')).toBe('still here')
  })

  it('takes a node back whose disk was lost, as a new member in the place of the old', async () => {
    await three()
    await cluster.ok('n1', 'write', '/data/kept', 'yes')
    const { member: before } = cluster.ready('n2').cluster
    await cluster.kill('n2')
    const kept = `${cluster.data('n2')}.before`
    renameSync(cluster.data('n2'), kept)
    const { cluster: after } = await cluster.start('n2').ready
    expect(after.id).toBe(cluster.ready('n1').cluster.id)
    expect(after.member).not.toBe(before)
    expect(await cluster.ok('n2', 'cat', '/data/kept')).toBe('yes')
    for (const store of ['data', 'usr', 'sys']) {
      const rows = await untilSettled(store)
      expect(rows.map(({ node, role }) => `${node} ${role}`)).toEqual(['n1 voter', 'n2 voter', 'n3 voter'])
      expect(rows[1]!.member).toBe(after.member)
    }
    // The folder from before is of nobody any more, and says whose place it had.
    await cluster.kill('n2')
    cluster.lose('n2')
    renameSync(kept, cluster.data('n2'))
    const { stderr } = await cluster.start('n2').ended
    expect(stderr).toMatch(new RegExp(`${before} was replaced by ${after.member} in cluster ${after.id}, says n[13]: start n2 with`))
  })

  it('whose founder lost its disk takes it back, and is not founded anew', async () => {
    await three()
    const { id } = cluster.ready('n1').cluster
    await cluster.ok('n3', 'write', '/data/kept', 'yes')
    await cluster.kill('n1')
    cluster.lose('n1')
    expect((await cluster.start('n1').ready).cluster.id).toBe(id)
    expect(await cluster.ok('n1', 'cat', '/data/kept')).toBe('yes')
  })

  it('grows by nine raft add and shrinks by nine raft remove, and who was removed ends', async () => {
    await three()
    const address = await cluster.place('n4')
    const newcomer = cluster.start('n4')
    expect((await newcomer.ended).stderr).toMatch(new RegExp(`nine raft add n4=${address}`))
    await cluster.ok('n2', 'raft', 'add', `n4=${address}`)
    await cluster.start('n4').ready
    expect((await untilSettled('data')).map(({ node }) => node)).toEqual(['n1', 'n2', 'n3', 'n4'])
    await cluster.ok('n4', 'write', '/data/from-four', 'here')
    await cluster.ok('n1', 'raft', 'remove', 'n2')
    const { code, stderr } = await cluster.node('n2').ended
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/was removed from cluster/)
    expect((await untilSettled('data')).map(({ node }) => node)).toEqual(['n1', 'n3', 'n4'])
    // It stays out, whatever it says of itself, until somebody lets it in.
    expect((await cluster.start('n2').ended).stderr).toMatch(/was removed from cluster/)
    cluster.lose('n2')
    expect((await cluster.start('n2').ended).stderr).toMatch(/nine raft add n2=/)
  })

  it('shrinks to one node, also when the one that goes leads all', async () => {
    await three()
    for (const store of ['data', 'usr', 'sys']) await cluster.ok('n1', 'raft', 'transfer', 'n3', '--store', store)
    for (const name of ['n1', 'n3']) {
      await cluster.ok('n2', 'raft', 'remove', name, '--force')
      expect((await cluster.node(name).ended).stderr).toMatch(/was removed from cluster/)
    }
    for (const store of ['data', 'usr', 'sys']) {
      expect((await cluster.members('n2', store)).map(({ node, role, isLeader }) => `${node} ${role} ${isLeader}`)).toEqual([
        'n2 voter true',
      ])
    }
    await cluster.ok('n2', 'write', '/data/alone', 'goes on')
    await cluster.ok('n2', 'token', 'create', 'ann')
  })

  it('refuses a removal after which it could not go on', async () => {
    await three()
    await cluster.kill('n3')
    await untilUnreached('n1', 'n3')
    const { code, stderr } = await cluster.nine('n1', 'raft', 'remove', 'n2')
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/without n2 .* n3 cannot be reached: --force/)
    await cluster.ok('n1', 'raft', 'remove', 'n3')
    expect((await untilSettled('data')).map(({ node }) => node)).toEqual(['n1', 'n2'])
  })

  it('hands leadership to the node that is asked for, from any node', async () => {
    await three()
    for (const [through, to] of [
      ['n1', 'n3'],
      ['n1', 'n2'],
      ['n2', 'n2'],
      ['n3', 'n1'],
    ] as const) {
      // prettier-ignore
      await cluster.ok(through, 'raft', 'transfer', to)
      expect(await cluster.leader('n2')).toBe(to)
    }
    const { stderr } = await cluster.nine('n1', 'raft', 'transfer', 'n9')
    expect(stderr).toMatch(/n9 is no voter of store data/)
  })

  it('shows a service at every node: its stored files, and that its process is elsewhere', async () => {
    await three()
    const first = await notes('n1')
    await first.client.write('/store/kept', 'stored')
    expect(await cluster.ok('n1', 'cat', '/svc/notes/now')).toBe('computed')
    for (const name of ['n2', 'n3']) {
      await untilShown(name, '/svc/notes/kept')
      expect(await cluster.ok(name, 'cat', '/svc/notes/kept')).toBe('stored')
      await untilListed(name, '/svc/notes', 'now')
      expect((await cluster.nine(name, 'cat', '/svc/notes/now')).stderr).toContain(
        `no process of service notes is connected to node ${name}`,
      )
    }
    await first.close()
    // A process of it at another node finds the same store, and serves there.
    const second = await notes('n2')
    expect(await second.client.readText('/store/kept')).toBe('stored')
    expect(await cluster.ok('n2', 'cat', '/svc/notes/now')).toBe('computed')
    await second.close()
  })

  it('is restarted node by node while clients write through each, and no request fails', async () => {
    await three()
    const names = ['n1', 'n2', 'n3']
    const stop = new AbortController()
    // Each at home at another node. With that one alone it would be a question of how fast a process starts here.
    const addresses = names.map((name) => cluster.ready(name).grpc)
    const sessions = await Promise.all(
      names.map((_, i) =>
        connect({ addresses: [...addresses.slice(i), ...addresses.slice(0, i)], prefer: 'given', tokenFile: cluster.tokenFile }),
      ),
    )
    const writers = names.map(async (name, i) => {
      const session = sessions[i]!
      let count = 0
      while (!stop.signal.aborted) await session.client.write(`/data/count-${name}`, String(++count))
      await session.close()
      return count
    })
    const failed = Promise.all(writers).then(() => undefined)
    const restarted = (async () => {
      for (const name of names) {
        expect((await cluster.kill(name, 'SIGTERM')).code).toBe(0)
        await cluster.start(name).ready
      }
    })()
    await Promise.race([restarted, failed])
    await restarted
    stop.abort()
    const counts = await Promise.all(writers)
    for (const [i, name] of names.entries()) {
      expect(counts[i]).toBeGreaterThan(10)
      const stat = JSON.parse(await cluster.ok('n1', 'stat', '--json', `/data/count-${name}`)) as { version: number }
      // Each took effect once.
      expect(stat.version).toBe(counts[i])
    }
  })
})

/** A process of the service `notes`, connected to a node. */
function notes(name: string): ReturnType<typeof serve> {
  const definition = defineService('notes', { now: computed(() => 'computed') }, { store: true })
  return serve(definition, { address: cluster.ready(name).grpc, tokenFile: cluster.tokenFile })
}

async function untilListed(name: string, path: string, child: string): Promise<void> {
  while (!(await cluster.ok(name, 'ls', '-1', path)).split('\n').includes(child));
}

async function untilShown(name: string, path: string): Promise<void> {
  while ((await cluster.nine(name, 'stat', path)).code !== 0);
}

/** The members of a store once no change is under way: who leads looks again each quarter of a second. */
async function untilSettled(store: string): Promise<Awaited<ReturnType<TestCluster['members']>>> {
  for (;;) {
    const rows = await cluster.members('n1', store)
    if (rows.every(({ role }) => role === 'voter')) return rows
  }
}

async function untilUnreached(name: string, other: string): Promise<void> {
  for (;;) {
    const rows = (await cluster.members(name)) as { node: string; version?: string }[]
    if (rows.find(({ node }) => node === other)?.version === undefined) return
  }
}
