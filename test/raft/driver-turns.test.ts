/** In which order a turn of the driver does things, and when followers hear of commits. */
import { describe, expect, it } from 'vitest'
import type { PeerItem } from '../../raft/index.ts'
import { Nodes, data, ids } from './driver-nodes.ts'

/** Nodes of which one tells what it does; its disk is as quick as the flush. */
function watched(watchedId: string): { nodes: Nodes; events: string[]; sentIn: number[]; durableIn: number[] } {
  const events: string[] = []
  const sentIn: number[] = []
  const durableIn: number[] = []
  const waiting: (() => void)[] = []
  const nodes: Nodes = new Nodes(({ id, transport }) => {
    if (id !== watchedId) return {}
    return {
      transport: {
        send: (to, item) => {
          events.push(`${item.kind === 'raft' ? item.message.kind : item.kind} to ${to}`)
          sentIn.push(nodes.turns)
          transport.send(to, item)
        },
        sendSnapshot: (group, message) => transport.sendSnapshot(group, message),
        flush: () => void events.push('they leave'),
      },
      storage: {
        write: (_group, _persist, done) => {
          events.push('write')
          waiting.push(done)
        },
        flush: (hasSent) => {
          if (waiting.length > 0) {
            events.push(hasSent ? 'durable, once they have left' : 'durable')
            durableIn.push(nodes.turns)
          }
          for (const done of waiting.splice(0)) done()
        },
      },
    }
  })
  nodes.open(1)
  nodes.machine(watchedId).onApply = (entry) => void events.push(`apply ${entry.index}`)
  return { nodes, events, sentIn, durableIn }
}

describe('a turn of a driver', () => {
  it('of a leader: what it sends leaves before it waits for its disk', () => {
    const { nodes, events } = watched('n1')
    nodes.elect('n1')
    events.length = 0
    nodes.machine('n1').group.propose(data('x'), 'x')
    nodes.run()
    expect(events.slice(0, 5)).toEqual(['write', 'append to n2', 'append to n3', 'they leave', 'durable, once they have left'])
    expect(events).toContain('apply 2')
  })

  it('of a follower: what is durable at once is answered before what was committed meanwhile is applied', () => {
    const { nodes, events, sentIn, durableIn } = watched('n2')
    nodes.elect('n1')
    const { group } = nodes.machine('n1')
    group.propose(data('x'), 'x')
    // Word of the first commit comes with the second entry alone.
    nodes.isLost = (_from, to, item) => to === 'n2' && item.kind === 'raft' && item.message.kind === 'commit'
    nodes.run()
    events.length = 0
    group.propose(data('y'), 'y')
    nodes.run()
    expect(events.slice(0, 5)).toEqual(['write', 'they leave', 'durable', 'accepted to n1', 'they leave'])
    expect(sentIn.at(-1)).toBe(durableIn.at(-1))
    expect(events.slice(5).find((event) => event !== 'they leave')).toBe('apply 2')
  })

  it('puts off applying by one turn at most, however much leaves', () => {
    const nodes = new Nodes()
    nodes.open(1)
    nodes.elect('n1')
    const { group, told } = nodes.machine('n1')
    let turns = 0
    for (let count = 0; count < 30; count++) {
      group.propose(data('x'), `${count}`)
      nodes.runOnce()
      turns++
    }
    expect(turns - told.length).toBeLessThan(8)
  })
})

describe('followers hear of a commit', () => {
  const words = (nodes: Nodes): number => nodes.told.filter(({ item }) => isWord(item)).length
  const fireTimers = (nodes: Nodes): void => {
    for (const timer of nodes.timers.splice(0)) timer()
    nodes.run()
  }
  const appliedBy = (nodes: Nodes): number[] => ids.map((id) => nodes.machine(id).group.applied)

  it('at once when there was no other before; with the next entry while there are many, and soon after the last', () => {
    const nodes = new Nodes({ commit_wait_ms: 1 })
    nodes.open(1)
    nodes.elect('n1')
    fireTimers(nodes)
    fireTimers(nodes)
    expect(nodes.timers).toEqual([])
    const { group } = nodes.machine('n1')
    const propose = (): void => {
      group.propose(data('x'), 'x')
      nodes.run()
    }
    nodes.told.length = 0
    propose()
    expect(words(nodes)).toBe(2)
    expect(appliedBy(nodes)).toEqual([2, 2, 2])
    for (let count = 0; count < 10; count++) propose()
    expect(words(nodes)).toBe(2)
    expect(appliedBy(nodes)).toEqual([12, 11, 11])
    fireTimers(nodes)
    expect(appliedBy(nodes)).toEqual([12, 11, 11])
    fireTimers(nodes)
    expect(appliedBy(nodes)).toEqual([12, 12, 12])
    expect(words(nodes)).toBe(4)
    // And no timer goes on where nothing is kept back.
    fireTimers(nodes)
    fireTimers(nodes)
    expect(nodes.timers).toEqual([])
    propose()
    expect(appliedBy(nodes)).toEqual([13, 13, 13])
  })

  it('at once when somebody there waits for it', () => {
    const nodes = new Nodes({ commit_wait_ms: 1 })
    nodes.open(1)
    nodes.elect('n1')
    const { group } = nodes.machine('n1')
    for (let count = 0; count < 3; count++) {
      group.propose(data('x'), 'x')
      nodes.run()
    }
    expect(appliedBy(nodes)).toEqual([4, 3, 3])
    group.tellCommit()
    nodes.run()
    expect(appliedBy(nodes)).toEqual([4, 4, 4])
  })

  it('with a heartbeat, and then not again; not from who leads no more', () => {
    const nodes = new Nodes({ commit_wait_ms: 1 })
    nodes.open(1)
    nodes.elect('n1')
    const { group } = nodes.machine('n1')
    const many = (): void => {
      for (let count = 0; count < 3; count++) {
        group.propose(data('x'), 'x')
        nodes.run()
      }
    }
    many()
    nodes.told.length = 0
    nodes.tick('n1', 1)
    expect(appliedBy(nodes)).toEqual([4, 4, 4])
    fireTimers(nodes)
    fireTimers(nodes)
    expect(words(nodes)).toBe(0)
    many()
    const isOther = (): boolean => nodes.machine('n2').group.isLeader || nodes.machine('n3').group.isLeader
    for (let ticks = 0; !isOther() && ticks < 100; ticks++) for (const id of ['n2', 'n3']) nodes.tick(id, 1, ['n1'])
    for (const id of ['n2', 'n3']) nodes.tick(id, 3)
    expect(nodes.machine('n1').group.isLeader).toBe(false)
    nodes.told.length = 0
    fireTimers(nodes)
    fireTimers(nodes)
    expect(nodes.told.filter(({ from, item }) => from === 'n1' && isWord(item))).toEqual([])
  })
})

function isWord(item: PeerItem): boolean {
  return item.kind === 'raft' && item.message.kind === 'commit'
}
