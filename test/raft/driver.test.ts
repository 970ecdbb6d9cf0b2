/** The driver by itself, over a disk, network and clock that do what the test says. */
import { describe, expect, it } from 'vitest'
import type { PeerItem } from '../../raft/index.ts'
import type { Brought } from '../../raft/driver/ports.ts'
import { Pending } from '../../raft/driver/pending.ts'
import { optionsOfTests } from './cluster.ts'
import { Machine, Nodes, configuration, data, ids, message } from './driver-nodes.ts'

describe('a driver', () => {
  it('makes one write and one answer in order of the proposals of a turn', () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n1')
    const { group, told } = nodes.machine('n1')
    const before = nodes.writes
    for (const text of ['a', 'b', 'c']) group.propose(data(text), text)
    nodes.run()
    expect(told).toEqual(['a', 'b', 'c'])
    expect(nodes.writes - before).toBe(3) // one a node
    for (const id of ids)
      expect(nodes.machine(id).entries.map((entry) => Buffer.from(entry.data ?? []).toString())).toEqual(['', 'a', 'b', 'c'])
  })

  it('refuses proposals where it does not lead, and those past the bound', () => {
    const nodes = new Nodes({ options: { ...optionsOfTests, uncommitted_bytes_max: 10 } })
    nodes.open(1)
    nodes.elect('n1')
    nodes.machine('n2').group.propose(data('x'), 'x')
    for (const text of ['12345678', 'abcdefgh']) nodes.machine('n1').group.propose(data(text), text)
    expect(nodes.machine('n2').told).toEqual([])
    nodes.run()
    expect(nodes.machine('n2').told).toEqual(['x: not_leader'])
    expect(nodes.machine('n1').told).toEqual(['abcdefgh: overloaded', '12345678'])
  })

  it('lets the reads of a turn share one round of heartbeats', async () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n1')
    const { group } = nodes.machine('n1')
    const reads = [group.read(), group.read(), group.read()]
    const rounds: PeerItem[] = []
    const send = nodes.sent.push.bind(nodes.sent)
    nodes.sent.push = (...items) => {
      rounds.push(...items.map(({ item }) => item).filter((item) => item.kind === 'raft' && item.message.kind === 'heartbeat'))
      return send(...items)
    }
    nodes.run()
    await Promise.all(reads)
    expect(rounds).toHaveLength(2)
  })

  it('refuses reads that nobody can answer', async () => {
    const nodes = new Nodes()
    nodes.open(1)
    const read = nodes.machine('n1').group.read()
    nodes.run()
    await expect(read).rejects.toMatchObject({ reason: 'not_leader' })
    nodes.drivers.get('n1')!.stop()
    await expect(nodes.machine('n1').group.read()).rejects.toMatchObject({ reason: 'stopped' })
  })

  it('applies no more in a turn than it may, and waits for a busy machine', () => {
    const nodes = new Nodes({ apply_entries_max: 2 })
    nodes.open(1)
    nodes.open(2)
    nodes.elect('n1')
    const first = nodes.machine('n1', 1)
    const second = nodes.machine('n1', 2)
    const perTurn = new Map<number, number>()
    first.onApply = second.onApply = () => void perTurn.set(nodes.turns, (perTurn.get(nodes.turns) ?? 0) + 1)
    for (let count = 0; count < 10; count++) for (const { group } of [first, second]) group.propose(data('x'), `${count}`)
    nodes.run()
    expect(Math.max(...perTurn.values())).toBe(2)
    expect(first.told).toHaveLength(10)
    expect(second.told).toHaveLength(10)
    first.isBusy = true
    first.group.propose(data('y'), 'y')
    nodes.run()
    expect(first.told).not.toContain('y')
    first.isBusy = false
    first.group.resume()
    nodes.run()
    expect(first.told).toContain('y')
  })

  it('does a change when its joint configuration was left, and a transfer when the other leads', async () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n1')
    const { group } = nodes.machine('n1')
    const change = group.change([{ do: 'demote', id: 'n3' }])
    const again = group.change([{ do: 'remove', id: 'n3' }])
    nodes.run()
    await change
    await expect(again).rejects.toMatchObject({ reason: 'change_pending' })
    expect(group.status().configuration).toEqual({ voters: ['n1', 'n2'], outgoing: [], learners: ['n3'], demoted: [] })
    const transfer = group.transfer('n2')
    nodes.run()
    await transfer
    expect(nodes.machine('n2').group.isLeader).toBe(true)
    const late = group.transfer('n2')
    nodes.run()
    await expect(late).rejects.toMatchObject({ reason: 'not_leader' })
  })

  it('keeps of the log behind a checkpoint only so much', () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n1')
    const { group } = nodes.machine('n1')
    for (let count = 0; count < 50; count++) group.propose(data('x'), 'x')
    nodes.run()
    group.checkpointed(40)
    nodes.run()
    expect(group.status()).toMatchObject({ snapshot: 40, first: 31, last: 51 })
  })
})

describe('faults', () => {
  it('a failed write ends all groups: nothing is acknowledged or sent any more', async () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.open(2)
    nodes.elect('n1')
    const { group, told } = nodes.machine('n1')
    nodes.failDisk = new Error('EIO')
    group.propose(data('x'), 'x')
    const read = nodes.machine('n1', 2).group.read()
    nodes.run(['n2', 'n3'])
    await expect(read).rejects.toMatchObject({ reason: 'stopped' })
    expect(told).toEqual(['x: unknown'])
    for (const group of [1, 2]) expect(nodes.machine('n1', group).error).toBe(nodes.failDisk)
    nodes.drivers.get('n1')!.tick()
    group.propose(data('y'), 'y')
    nodes.run(['n2', 'n3'])
    expect(told).toEqual(['x: unknown', 'y: not_leader'])
    expect(nodes.sent).toEqual([])
  })

  it('a write that cannot be ends its group only', async () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.open(2)
    nodes.elect('n1')
    nodes.failDisk = new Error('a gap')
    nodes.impossible = 1
    nodes.machine('n1', 1).group.propose(data('x'), 'x')
    nodes.machine('n1', 2).group.propose(data('y'), 'y')
    nodes.run(['n2', 'n3'])
    expect(nodes.machine('n1', 1).error).toBe(nodes.failDisk)
    expect(nodes.machine('n1', 1).told).toEqual(['x: unknown'])
    expect(nodes.machine('n1', 2).error).toBeNull()
    nodes.run()
    expect(nodes.machine('n1', 2).group.isRunning).toBe(true)
    expect(nodes.machine('n1', 2).told).not.toContain('y: unknown')
  })

  it('a fault of one state machine ends its group only, and its peers find another leader', () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.open(2)
    nodes.elect('n1')
    const first = nodes.machine('n1', 1)
    const second = nodes.machine('n1', 2)
    const fault = new Error('the machine is broken')
    first.onApply = () => {
      throw fault
    }
    first.group.propose(data('x'), 'x')
    first.group.propose(data('y'), 'y')
    nodes.run()
    expect(first.error).toBe(fault)
    expect(first.told).toEqual(['x', 'y: unknown'])
    expect(second.error).toBe(null)
    second.group.propose(data('z'), 'z')
    nodes.run()
    expect(second.told).toEqual(['z'])
    nodes.tickAll(60)
    expect([nodes.machine('n2', 1).group.isReady, nodes.machine('n3', 1).group.isReady]).toContain(true)
    expect(second.group.isLeader).toBe(true)
  })

  it.each<[string, PeerItem | Brought]>([
    ['of another sender', message({ kind: 'stale', from: 'n3' })],
    ['for another node', message({ kind: 'stale', to: 'n3' })],
    ['a term that is no number', message({ kind: 'stale', term: NaN })],
    ['a term too large to count on', message({ kind: 'vote', term: 2 ** 53, lastIndex: 1, lastTerm: 1, transfer: false })],
    ['a negative index', message({ kind: 'accepted', match: -1 })],
    ['a fraction', message({ kind: 'commit', commit: 1.5 })],
    [
      'entries with a gap',
      message({ kind: 'append', prevIndex: 1, prevTerm: 1, commit: 1, entries: [{ index: 3, term: 1, data: null, configuration: null }] }),
    ],
    [
      'entries whose terms fall',
      message({ kind: 'append', prevIndex: 1, prevTerm: 1, commit: 1, entries: [{ index: 2, term: 0, data: null, configuration: null }] }),
    ],
    [
      'a configuration without voters',
      message({ kind: 'install', meta: { index: 9, term: 1, configuration: { ...configuration, voters: [] } } }),
    ],
    ['a kind that is none', { kind: 'nonsense', group: 1 } as unknown as PeerItem],
    ['a message of a kind that is none', message({ kind: 'nonsense' as 'stale' })],
    ['another leader of the term', message({ kind: 'heartbeat', commit: 0, round: 0 })],
    ['a match past the end of the log', message({ kind: 'accepted', match: 1000 })],
    ['an answer to a round that was never asked', message({ kind: 'heartbeat_reply', round: 1000 })],
  ])('drops and reports nonsense of a peer: %s', (_what, item) => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n1')
    nodes.drivers.get('n1')!.receive('n2', item)
    nodes.run()
    expect(nodes.dropped).toHaveLength(1)
    expect(nodes.machine('n1').error).toBe(null)
    expect(nodes.machine('n1').group.isReady).toBe(true)
  })

  it('drops what a follower cannot have been sent', () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n2')
    const driver = nodes.drivers.get('n1')!
    driver.receive('n2', message({ kind: 'heartbeat', commit: 1000, round: 0 }))
    driver.receive('n2', message({ kind: 'commit', commit: 1000 }))
    driver.receive(
      'n2',
      message({
        kind: 'append',
        term: 2,
        prevIndex: 0,
        prevTerm: 0,
        commit: 0,
        entries: [1, 2].map((index) => ({ index, term: 0, data: null, configuration: null })),
      }),
    )
    nodes.run()
    expect(nodes.dropped).toHaveLength(3)
    expect(nodes.machine('n1').error).toBe(null)
  })

  it('ends where what it acknowledged is lost, told by the leader again and again', () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n2')
    for (const text of ['a', 'b', 'c']) nodes.machine('n2').group.propose(data(text), text)
    nodes.run()
    nodes.tickAll(2)
    const { last } = nodes.machine('n1').group.status()
    expect(last).toBe(4)
    // Its disk is put back to when it was empty.
    const driver = nodes.drivers.get('n1')!
    driver.remove(1)
    const machine = new Machine()
    const snapshot = { index: 0, term: 0, configuration }
    machine.group = driver.open(1, { hard: { term: 1, vote: 'n2' }, snapshot, entries: [], applied: 0 }, machine)
    nodes.tickAll(30)
    expect(machine.error).toMatchObject({ name: 'LogOlder', leader: 'n2', last: 0, acknowledged: last })
    expect(machine.group.isRunning).toBe(false)
    expect(nodes.machine('n2').error).toBe(null)
    expect(nodes.machine('n3').error).toBe(null)
  })

  it('goes on where a leader says between what it can say', () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n2')
    for (let at = 0; at < 30; at++) {
      nodes.drivers.get('n1')!.receive('n2', message({ kind: 'heartbeat', commit: 1000, round: 0 }))
      nodes.tickAll(5)
    }
    expect(nodes.dropped.length).toBeGreaterThan(20)
    expect(nodes.machine('n1').error).toBe(null)
  })

  it('drops votes for a candidate that has not asked for any yet: they are for a node that had its id before', () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.holdDisk = true
    nodes.tick('n1', 16)
    expect(nodes.machine('n1').group.status().role).toBe('candidate')
    for (const from of ['n2', 'n3']) nodes.drivers.get('n1')!.receive(from, message({ kind: 'vote_reply', from, granted: true }))
    nodes.run()
    expect(nodes.dropped).toHaveLength(2)
    expect(nodes.machine('n1').error).toBe(null)
    nodes.holdDisk = false
    nodes.run()
    expect(nodes.machine('n1').group.isReady).toBe(true)
  })
})

describe('rest', () => {
  const groups = Array.from({ length: 1000 }, (_, at) => at + 1)

  function resting(count = groups.length): Nodes {
    const nodes = new Nodes()
    for (const group of groups.slice(0, count)) nodes.open(group)
    nodes.elect('n1')
    nodes.tickAll(20)
    for (const { group } of nodes.machines.values()) expect(group.status().isResting).toBe(true)
    return nodes
  }

  it('1,000 idle groups cost nothing in a tick but a beat to each neighbour', () => {
    const nodes = resting()
    const { turns } = nodes
    const begun = process.cpuUsage()
    let items = 0
    for (let ticks = 0; ticks < 1000; ticks++) {
      for (const driver of nodes.drivers.values()) driver.tick()
      items += nodes.sent.length
      nodes.run()
    }
    const { user, system } = process.cpuUsage(begun)
    const ms = (user + system) / 1000 / 3000
    console.log(`driver: a tick of a node with 1,000 resting groups takes ${(ms * 1000).toFixed(1)} µs of CPU`)
    expect(nodes.turns).toBe(turns)
    expect(items).toBe((4 * 1000) / optionsOfTests.heartbeat_ticks) // leader to two followers, and they to it
    expect(ms).toBeLessThan(0.1) // 1,000 awake groups take some ms
  })

  it('a proposal wakes a group, and it rests again', () => {
    const nodes = resting(3)
    const { group, told } = nodes.machine('n1', 2)
    group.propose(data('x'), 'x')
    nodes.run()
    expect(told).toEqual(['x'])
    expect(group.status().isResting).toBe(false)
    expect(nodes.machine('n2', 2).group.status().isResting).toBe(false)
    expect(nodes.machine('n1', 1).group.status().isResting).toBe(true)
    nodes.tickAll(20)
    for (const id of ids) expect(nodes.machine(id, 2).group.status().isResting).toBe(true)
  })

  it('a read on a resting group asks a quorum', async () => {
    const nodes = resting(1)
    const { group } = nodes.machine('n1')
    const read = group.read()
    let isServed = false
    void read.then(() => (isServed = true))
    nodes.run(['n1'])
    await Promise.resolve()
    expect(isServed).toBe(false)
    nodes.tick('n1', 2)
    await read
  })

  it('a leader that is cut off wakes and steps down; the others find another', () => {
    const nodes = resting(1)
    nodes.tickAll(60, ['n1'])
    expect(nodes.machine('n1').group.isLeader).toBe(false)
    expect([nodes.machine('n2').group.isReady, nodes.machine('n3').group.isReady]).toContain(true)
  })

  it.each([
    { what: 'all know it', order: ['n2', 'n3'], isHeardBetween: false },
    { what: 'one knows it first, and is refused until the other does', order: ['n2', 'n3'], isHeardBetween: true },
    { what: 'the other one knows it first', order: ['n3', 'n2'], isHeardBetween: true },
  ])('when the leader has ended another leads without a tick: $what', ({ order, isHeardBetween }) => {
    const nodes = resting(20)
    for (const id of order) {
      nodes.drivers.get(id)!.peerLost('n1', true)
      if (isHeardBetween) nodes.run(['n1'])
    }
    nodes.run(['n1'])
    for (const group of groups.slice(0, 20)) {
      expect([nodes.machine('n2', group).group.isReady, nodes.machine('n3', group).group.isReady]).toContain(true)
    }
  })

  it('a leader that comes back in another life is found out by its beat', () => {
    const nodes = resting(1)
    nodes.drivers.get('n2')!.receive('n1', { kind: 'beat', life: 1 })
    expect(nodes.machine('n2').group.status().isResting).toBe(true)
    nodes.drivers.get('n2')!.receive('n1', { kind: 'beat', life: 2 })
    nodes.run(['n1'])
    expect(nodes.machine('n2').group.status()).toMatchObject({ isResting: false, leader: null })
  })

  it("a group that is removed from its leader's node wakes the others", () => {
    const nodes = resting(2)
    nodes.drivers.get('n1')!.remove(1)
    nodes.run()
    expect(nodes.machine('n2', 1).group.status().isResting).toBe(false)
    expect(nodes.machine('n2', 2).group.status().isResting).toBe(true)
    nodes.tickAll(60)
    expect([nodes.machine('n2', 1).group.isReady, nodes.machine('n3', 1).group.isReady]).toContain(true)
  })
})

describe('pending proposals', () => {
  it('are found by index and term, each once', () => {
    const pending = new Pending<string>()
    pending.add(1, 5, ['a', 'b', 'c'], 3)
    pending.add(3, 5, ['x', 'y'], 2)
    expect(pending.take(5, 2)).toBe(undefined)
    expect(pending.take(5, 3)).toBe('x')
    expect(pending.take(5, 3)).toBe(undefined)
    const lost: string[] = []
    pending.lose(1, 5, 6, (proposal) => lost.push(proposal))
    expect(lost).toEqual(['a', 'b'])
    expect(pending.take(6, 3)).toBe('y')
    pending.clear((proposal) => lost.push(proposal))
    expect(lost).toEqual(['a', 'b', 'c'])
  })

  it('a snapshot ends those that it goes past', () => {
    const pending = new Pending<string>()
    pending.add(1, 5, ['a', 'b', 'c'], 3)
    const lost: string[] = []
    pending.loseThrough(6, (proposal) => lost.push(proposal))
    expect(lost).toEqual(['a', 'b'])
    expect(pending.take(7, 1)).toBe('c')
  })
})
