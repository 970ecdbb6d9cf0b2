/** What is bounded in the driver, and ends: queues, storms, and what waits for an answer that nobody can give. */
import { describe, expect, it } from 'vitest'
import type { Configuration, PeerItem } from '../../raft/index.ts'
import { optionsOfTests } from './cluster.ts'
import { Nodes, data, ids, message } from './driver-nodes.ts'

const withLearner: Configuration = { voters: ['n1', 'n2'], outgoing: [], learners: ['n3'], demoted: [] }
const without: Configuration = { voters: ['n1', 'n2'], outgoing: [], learners: [], demoted: [] }

function restOf(promises: readonly Promise<unknown>[]): Promise<Record<string, number>> {
  return Promise.allSettled(promises).then((settled) => {
    const counts: Record<string, number> = {}
    for (const one of settled) {
      const key = one.status === 'fulfilled' ? 'done' : String((one.reason as { reason: string }).reason)
      counts[key] = (counts[key] ?? 0) + 1
    }
    return counts
  })
}

describe('what waits in a driver', () => {
  it('a follower that cannot apply takes no more than its bound, and catches up when it can', () => {
    const bound = 10_000
    const nodes = new Nodes({
      options: { ...optionsOfTests, uncommitted_bytes_max: bound, inflight_bytes_max: 5000, append_bytes_max: 1000 },
    })
    nodes.open(1)
    nodes.elect('n1')
    const slow = nodes.machine('n3')
    slow.isBusy = true
    const leader = nodes.machine('n1')
    for (let count = 0; count < 200; count++) {
      leader.group.propose(new Uint8Array(1000), `${count}`)
      nodes.tick('n1', 1)
    }
    expect(leader.told).toHaveLength(200) // the others go on
    expect(slow.entries).toHaveLength(1)
    const { last, role, leader: followed } = slow.group.status()
    expect(last * 1000).toBeLessThan(bound + 5000 + 2000)
    expect([role, followed]).toEqual(['follower', 'n1']) // it hears its leader, and does not disturb it
    slow.isBusy = false
    slow.group.resume()
    nodes.tickAll(30)
    expect(slow.entries.map(({ index }) => index)).toEqual(Array.from({ length: 201 }, (_, at) => at + 1))
  })

  it('reads that get no index are bounded, and end when the leader steps down', async () => {
    const nodes = new Nodes({ options: { ...optionsOfTests, reads_pending_max: 10 } })
    nodes.open(1)
    nodes.elect('n1')
    const reads: Promise<void>[] = []
    for (let turn = 0; turn < 100; turn++) {
      reads.push(nodes.machine('n1').group.read())
      nodes.run(['n2', 'n3'])
    }
    const { reads: waiting, leading } = nodes.machine('n1').raft
    expect([waiting.waiting.length, leading!.reads.length]).toEqual([10, 10])
    nodes.tick('n1', 30, ['n2', 'n3'])
    expect(await restOf(reads)).toEqual({ lost: 10, overloaded: 90 })
  })

  it('reads that wait for a busy state machine are bounded too', async () => {
    const nodes = new Nodes({ options: { ...optionsOfTests, reads_pending_max: 10 } })
    nodes.open(1)
    nodes.elect('n1')
    const { group } = nodes.machine('n1')
    nodes.machine('n1').isBusy = true
    group.propose(data('x'), 'x')
    nodes.run()
    const reads: Promise<void>[] = []
    for (let turn = 0; turn < 100; turn++) {
      reads.push(group.read())
      nodes.run()
    }
    expect(nodes.machine('n1').raft.reads.confirmed).toHaveLength(10)
    nodes.machine('n1').isBusy = false
    group.resume()
    nodes.run()
    expect(await restOf(reads)).toEqual({ done: 10, overloaded: 90 })
  })

  it('of many changes at once one is taken, and the rest are refused', async () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n1')
    const changes = Array.from({ length: 1000 }, () => nodes.machine('n1').group.change([{ do: 'demote', id: 'n3' }]))
    nodes.run()
    expect(await restOf(changes)).toEqual({ done: 1, change_pending: 999 })
  })

  it('a change ends as unknown at a leader that was removed while it was cut off', async () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n1')
    const change = nodes.machine('n1').group.change([{ do: 'remove', id: 'n3' }])
    nodes.run(['n1'])
    for (let ticks = 0; ticks < 60; ticks++) for (const id of ['n2', 'n3']) nodes.tick(id, 1, ['n1'])
    const heir = ['n2', 'n3'].find((id) => nodes.machine(id).group.isReady)!
    const removal = nodes.machine(heir).group.change([{ do: 'remove', id: 'n1' }])
    nodes.run(['n1'])
    await removal
    nodes.tickAll(200) // it asks for votes in vain
    await expect(change).rejects.toMatchObject({ reason: 'unknown' })
    expect(nodes.machine(heir).group.status().configuration.voters).toEqual(['n2', 'n3'])
  })

  it('what peers send for groups that are not here is dropped', () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n1')
    const { turns } = nodes
    for (const kind of ['raft', 'quiesce', 'awake'] as const) {
      const stale = { ...message({ kind: 'stale' }), group: 77 } as PeerItem
      const item = kind === 'raft' ? stale : ({ kind, group: 77, life: 1, term: 1, index: 1 } as PeerItem)
      for (let count = 0; count < 1000; count++) nodes.drivers.get('n1')!.receive('n2', item)
    }
    nodes.run()
    expect(nodes.turns).toBe(turns)
  })
})

describe('a snapshot that comes', () => {
  const meta = { index: 100, term: 1, configuration: { voters: ids, outgoing: [], learners: [], demoted: [] } }

  it('waits while the machine is busy, and nothing is applied before it is installed', async () => {
    const nodes = new Nodes()
    nodes.open(1)
    const machine = nodes.machine('n1')
    let finish = (): void => undefined
    machine.onInstall = () => new Promise((resolve) => (finish = resolve))
    machine.isBusy = true
    nodes.drivers.get('n1')!.receive('n2', message({ kind: 'install', meta }))
    const entries = [{ index: 101, term: 1, data: data('x'), configuration: null }]
    nodes.drivers.get('n1')!.receive('n2', message({ kind: 'append', prevIndex: 100, prevTerm: 1, entries, commit: 101 }))
    nodes.run()
    expect(machine.installs).toEqual([])
    machine.isBusy = false
    machine.group.resume()
    nodes.run()
    expect([machine.installs, machine.entries]).toEqual([[100], []])
    finish()
    await Promise.resolve()
    await Promise.resolve()
    nodes.run()
    expect(machine.entries.map(({ index }) => index)).toEqual([101])
  })

  it.each(['ends well', 'fails'])('its group is removed while it is installed, which %s: nothing more happens', async (how) => {
    const nodes = new Nodes()
    nodes.open(1)
    const machine = nodes.machine('n1')
    let settle = (): void => undefined
    machine.onInstall = () => new Promise((resolve, reject) => (settle = how === 'fails' ? () => reject(new Error('EIO')) : resolve))
    const driver = nodes.drivers.get('n1')!
    driver.receive('n2', message({ kind: 'install', meta }))
    nodes.run()
    const read = machine.group.read()
    driver.remove(1)
    settle()
    await expect(read).rejects.toMatchObject({ reason: 'stopped' })
    nodes.run()
    expect([machine.entries, machine.error, machine.group.isRunning]).toEqual([[], null, false])
  })
})

describe('storms', () => {
  const groups = Array.from({ length: 1000 }, (_, at) => at + 1)

  it('connections that are lost again and again wake 1,000 groups, and elect nobody', () => {
    const nodes = new Nodes()
    for (const group of groups) nodes.open(group)
    nodes.elect('n1')
    nodes.tickAll(20)
    const terms = groups.map((group) => nodes.machine('n2', group).group.term)
    for (let times = 0; times < 5; times++) {
      for (const id of ids)
        for (const peer of ids) if (peer !== id) for (let more = 0; more < 10; more++) nodes.drivers.get(id)!.peerLost(peer, false)
      nodes.tickAll(2)
    }
    nodes.tickAll(20)
    for (const { group } of nodes.machines.values()) expect(group.status().isResting).toBe(true)
    expect(groups.map((group) => nodes.machine('n2', group).group.term)).toEqual(terms)
  })

  it('who is no member keeps no group awake', () => {
    const nodes = new Nodes({}, without)
    nodes.open(1)
    nodes.elect('n1')
    nodes.tickAll(20)
    nodes.drivers.get('n1')!.receive('n3', { kind: 'awake', group: 1 })
    expect(nodes.machine('n1').group.status().isResting).toBe(true)
    nodes.drivers.get('n1')!.receive('n2', { kind: 'awake', group: 1 })
    expect(nodes.machine('n1').group.status().isResting).toBe(false)
  })

  it('groups that fail at the end of what a turn may apply do not keep up the others', () => {
    const nodes = new Nodes({ apply_entries_max: 1 })
    for (const group of [1, 2, 3]) nodes.open(group)
    nodes.elect('n1')
    for (const group of [1, 2]) {
      nodes.machine('n1', group).onApply = () => {
        throw new Error('the machine is broken')
      }
    }
    for (const group of [1, 2, 3]) nodes.machine('n1', group).group.propose(data('x'), 'x')
    nodes.run()
    expect(nodes.machine('n1', 3).told).toEqual(['x'])
  })

  it('a tick of 1,000 groups that are awake', () => {
    const nodes = new Nodes({ quiesce_ticks: 0 })
    for (const group of groups) nodes.open(group)
    nodes.elect('n1')
    nodes.tickAll(20)
    const begun = process.cpuUsage()
    nodes.tickAll(50)
    const { user, system } = process.cpuUsage(begun)
    const ms = (user + system) / 1000 / 150
    console.log(`driver: a tick of a node with 1,000 groups awake, and what it brings about at all: ${ms.toFixed(1)} ms of CPU`)
    expect(ms).toBeLessThan(50)
  })
})

describe('a learner that missed that its group rests', () => {
  /** Of two groups; the beats for the other one speak for this one too. */
  function resting(): Nodes {
    const nodes = new Nodes({}, withLearner)
    for (const group of [1, 2]) nodes.open(group)
    nodes.elect('n1')
    let toLose = 1
    nodes.isLost = (_from, to, item) => to === 'n3' && item.kind === 'quiesce' && item.group === 1 && toLose-- > 0
    nodes.tickAll(12)
    expect(nodes.machine('n1').group.status().isResting).toBe(true)
    expect([1, 2].map((group) => nodes.machine('n3', group).group.status().isResting)).toEqual([false, true])
    return nodes
  }

  it('wakes its leader, rests with it and can read', async () => {
    const nodes = resting()
    nodes.tickAll(60)
    expect(ids.map((id) => nodes.machine(id).group.status().isResting)).toEqual([true, true, true])
    expect(nodes.machine('n3').group.leader).toBe('n1')
    const read = nodes.machine('n3').group.read()
    nodes.tickAll(2)
    await read
  })

  it('asks again when that is lost as well', () => {
    const nodes = resting()
    let asked = 0
    nodes.isLost = (from, _to, item) => from === 'n3' && item.kind === 'awake' && asked++ < 6
    nodes.tickAll(100)
    expect(asked).toBeGreaterThan(6)
    expect(nodes.machine('n3').group.leader).toBe('n1')
  })
})
