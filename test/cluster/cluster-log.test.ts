/** What a node's log says of its cluster: one line a fact, no stacks for what networks do, bounded whatever peers do. */
import { describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { ClusterLog } from '../../services/cluster/cluster-log.ts'
import { Leadership } from '../../services/cluster/leadership.ts'
import type { ClusterStores, Standing } from '../../services/cluster/ports.ts'
import type { PeerEvent } from '../../services/peer/ports.ts'

const minute_ms = 60_000
const refused = new NineError({ kind: 'unavailable', op: 'peer.connect', message: 'connect ECONNREFUSED' })

function logOf(): { log: ClusterLog; lines: [string, object, string][]; pass: (ms: number) => void; now: () => number } {
  let at = 1_000
  const lines: [string, object, string][] = []
  const at_ = (level: string) => (fields: object, message: string) => void lines.push([level, fields, message])
  const log = new ClusterLog({ info: at_('info'), warn: at_('warn'), error: at_('error') }, () => at)
  return { log, lines, pass: (ms) => (at += ms), now: () => at }
}

describe('a peer', () => {
  it('that is lost is said once until it is back, whatever becomes of the attempts to reach it', () => {
    const { log, lines, pass } = logOf()
    log.peer({ event: 'connected', peer: 'n2.b' })
    log.peer({ event: 'lost', peer: 'n2.b', error: new NineError({ kind: 'unavailable', op: 'peer', message: 'nothing came' }) })
    log.peer({ event: 'unreachable', peer: 'n2.b', error: refused })
    pass(2 * limits.raft_leaderless_ms_max)
    log.flush()
    log.peer({ event: 'connected', peer: 'n2.b' })
    expect(lines).toEqual([
      ['info', { peer: 'n2.b' }, 'a peer is connected'],
      ['warn', { peer: 'n2.b', reason: 'nothing came' }, 'a peer was lost'],
      ['info', { peer: 'n2.b', afterMs: 2 * limits.raft_leaderless_ms_max }, 'a peer is connected'],
    ])
  })

  it('that was never reached needs eyes when that lasts, at once when time does not mend it', () => {
    const { log, lines, pass } = logOf()
    log.peer({ event: 'unreachable', peer: 'n2.b', error: refused })
    log.flush()
    pass(limits.raft_leaderless_ms_max + 1)
    log.flush()
    log.flush()
    log.peer({ event: 'unreachable', peer: 'n3.c', error: new NineError({ kind: 'denied', op: 'peer', message: 'of another cluster' }) })
    expect(lines.map(([level, fields]) => [level, (fields as { peer: string }).peer])).toEqual([
      ['info', 'n2.b'],
      ['warn', 'n2.b'],
      ['warn', 'n3.c'],
    ])
  })

  it('that comes and goes gets few lines, and one for the rest', () => {
    const { log, lines, pass } = logOf()
    for (let turn = 0; turn < 500; turn++) {
      log.peer({ event: 'lost', peer: 'n2.b', error: refused })
      log.peer({ event: 'connected', peer: 'n2.b' })
      pass(100)
      log.flush()
    }
    pass(minute_ms)
    log.flush()
    expect(lines.length).toBe(7)
    expect(lines.at(-1)).toEqual(['warn', { peer: 'n2.b', left: 994, seconds: 60 }, expect.stringContaining('left out')])
    log.peer({ event: 'lost', peer: 'n2.b', error: refused })
    expect(lines.length).toBe(8)
  })

  it('or a stranger, however many, is bounded', () => {
    const { log, lines } = logOf()
    for (let host = 0; host < 5_000; host++) {
      const event: PeerEvent = { event: 'garbage', peer: `10.0.${host >> 8}.${host & 255}`, error: refused }
      log.peer(event)
    }
    expect(lines.length).toBeLessThan(300)
    expect(lines[0]).toEqual(['warn', { peer: '10.0.0.0', reason: 'connect ECONNREFUSED' }, expect.any(String)])
  })
})

describe('a failure that is tried again', () => {
  it('is said once while it stays the same, with a stack only where it should not happen', () => {
    const { log, lines, pass } = logOf()
    for (let turn = 0; turn < 10; turn++) log.retried('upkeep failed', refused)
    pass(11 * minute_ms)
    log.retried('upkeep failed', refused)
    const bug = new TypeError('no such function')
    log.retried('upkeep failed', bug)
    expect(lines).toEqual([
      ['info', { reason: 'connect ECONNREFUSED' }, 'upkeep failed and will be tried again'],
      ['info', { reason: 'connect ECONNREFUSED' }, 'upkeep failed and will be tried again'],
      ['warn', { err: bug }, 'upkeep failed and will be tried again'],
    ])
  })
})

describe('the leaders of stores', () => {
  it('are told with the names of the stores; the loss of one when it lasts longer than an election, and its end', () => {
    const { log, lines, pass, now } = logOf()
    const names = Array.from({ length: 12 }, (_, i) => `s${String(i).padStart(2, '0')}`)
    let leader: string | null = 'n1.a'
    let since = Infinity
    const reach = '1 of 3 members is reachable (n1, n3 are not)'
    const standing = (name: string): Standing => ({
      leader,
      leaderAtHand: since === Infinity ? leader : null,
      isLeaderless: now() - since > limits.raft_leaderless_ms_max,
      reach: () => reach,
      leaderlessness: () => `store ${name} has no leader: ${reach}`,
    })
    const stores = { names: () => names, hasStore: (name: string) => names.includes(name), standing } as unknown as ClusterStores
    const leadership = new Leadership({ stores, log })
    const lead = (id: string | null): void => {
      leader = id
      since = id === null ? now() : Infinity
      leadership.look()
    }
    const few = { stores: names.slice(0, 10), more: 2 }
    lead('n1.a')
    leadership.look()
    expect(lines.splice(0)).toEqual([['info', { ...few, leader: 'n1' }, 'stores have a leader']])
    lead(null)
    pass(limits.raft_leaderless_ms_max)
    leadership.look()
    expect(leadership.trouble(['s00', 's01'])).toBe(undefined)
    lead('n1.a')
    expect(lines).toEqual([]) // An election that the same node won.
    lead(null)
    pass(limits.raft_leaderless_ms_max + 1)
    leadership.look()
    leadership.look()
    expect(leadership.trouble(['s00', 's01'])).toBe('store s00 has no leader: 1 of 3 members is reachable (n1, n3 are not)')
    leader = 'n2.b' // It is heard and does not hear.
    leadership.look()
    lead('n3.c')
    expect(leadership.trouble(['s00'])).toBe(undefined)
    expect(lines).toEqual([
      ['warn', { ...few, reason: reach }, expect.stringContaining('stores have no leader')],
      ['info', { ...few, leader: 'n3' }, 'stores have a leader again'],
    ])
  })
})
