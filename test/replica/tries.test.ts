/** Commands that are given to a leader more than once, or at the same time by several, and what each is told. */
import { describe, expect, it } from 'vitest'
import { contextFor, type Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Group, Status } from '../../raft/index.ts'
import { decodeData } from '../../storage/apply/entry.ts'
import type { Lane } from '../../storage/engine/lane.ts'
import type { Command, Outcome } from '../../storage/model.ts'
import { OwnClient } from '../../storage/replica/own-client.ts'
import type { PendingCommand } from '../../storage/replica/pending.ts'
import { Place } from '../../storage/replica/place.ts'
import { Replica } from '../../storage/replica/replica.ts'
import { Tries } from '../../storage/store/tries.ts'

const clock = { now: () => 5, monotonic: () => 0 }
const nodeClock = { now: () => 3, monotonic: () => 0 }
const noRandom = { id: () => 'random', fraction: () => 0 } as never
const command: Command = { op: 'create', target: { path: parsePath('/f') } }
const configuration = { voters: ['n1', 'n2', 'n3'], outgoing: [], learners: [], demoted: [] }

/** A replica at n1 whose leader, and whose state machine, are the test's. */
class Bench {
  readonly replica: Replica
  readonly asked: {
    readonly data: Uint8Array
    readonly resolve: (answer: Uint8Array) => void
    readonly reject: (error: unknown) => void
  }[] = []
  readonly proposed: PendingCommand[] = []
  outcome: Outcome = { kind: 'needs_chunks' }
  #index = 0

  constructor() {
    const lane = {
      group: 1,
      name: 'data',
      machine: { nextTime: (now: number, seen = 0) => Math.max(now, seen) + 2, takes: () => false },
      pass: () => undefined,
      apply: () => this.outcome,
    } as unknown as Lane
    const peers = {
      isReachable: () => true,
      request: (_to: string, _group: number, _verb: string, data: Uint8Array) =>
        new Promise<Uint8Array>((resolve, reject) => this.asked.push({ data, resolve, reject })),
    } as never
    this.replica = new Replica({
      self: 'n1',
      lane,
      clock,
      nodeClock,
      peers,
      ownClient: new OwnClient(clock, noRandom),
      blobs: undefined as never,
      place: new Place(0, ['n1']),
      logEnd: () => 0,
      install: () => Promise.resolve(),
      restore: () => Promise.resolve(this.outcome),
      progressed: () => undefined,
      ended: () => undefined,
    })
    const group = { propose: (_: Uint8Array, pending: PendingCommand) => this.proposed.push(pending) }
    this.replica.attach(group as unknown as Group<PendingCommand>)
  }

  elected(term: number, leader = 'n1'): void {
    this.replica.changed({ role: leader === 'n1' ? 'leader' : 'follower', term, leader, configuration } as unknown as Status)
  }

  led(leader: string, term: number): void {
    this.elected(term, leader)
    if (leader === 'n1') void this.replica.apply({ index: ++this.#index, term, data: null, configuration: null }, undefined)
  }

  /** What was given to the leader at the how many-th time is agreed on. */
  agreed(at: number): void {
    void this.replica.apply({ index: ++this.#index, term: 1, data: this.asked[at]!.data, configuration: null }, undefined)
  }
}

function by(name: string, digest: string): Context {
  return { ...contextFor({ name, groups: [] }), client: { id: 'c', born: 1, settled: 0 }, seq: 4, digest }
}

describe('the same number at once', () => {
  it('of another request, or another principal, does not get the answer', async () => {
    const bench = new Bench()
    bench.led('n2', 1)
    const mine = bench.replica.propose(by('alice', 'a'), 'store.create', '/f', command)
    const other = bench.replica.propose(by('alice', 'b'), 'store.create', '/f', command)
    const stranger = bench.replica.propose(by('bob', 'a'), 'store.create', '/f', command)
    const again = bench.replica.propose(by('alice', 'a'), 'store.create', '/f', command)
    let answered = 0
    for (const promise of [mine, other, stranger, again]) void promise.then(() => answered++)
    bench.agreed(0)
    await Promise.all([mine, again])
    expect(answered).toBe(2)
    bench.outcome = { kind: 'error', error: { kind: 'invalid', op: 'apply.once', message: 'was another request' } }
    bench.agreed(1)
    await expect(other).resolves.toEqual(bench.outcome)
    expect(answered).toBe(3)
    bench.agreed(2)
    await expect(stranger).resolves.toEqual(bench.outcome)
  })
})

describe('the time of a command', () => {
  it('is that of the node, and after every change of its stores only for who has seen one', () => {
    const bench = new Bench()
    bench.led('n1', 1)
    void bench.replica.propose(contextFor({ name: 'alice', groups: [] }), 'store.create', '/f', command)
    void bench.replica.propose({ ...contextFor({ name: 'alice', groups: [] }), time: 4 }, 'store.create', '/f', command)
    expect(bench.proposed.map(({ entry }) => entry.time)).toEqual([5, 7])
  })
})

describe('what was given to two leaders', () => {
  it('and refused by the store for now, may yet happen: the first that comes is not the last', async () => {
    const bench = new Bench()
    bench.led('n2', 1)
    const granted = bench.replica.propose(contextFor({ name: 'alice', groups: [] }), 'store.grant', '', command)
    bench.asked[0]!.reject(new NineError({ kind: 'unavailable', op: 'peer.request', message: 'lost', outcome: 'unknown' }))
    await new Promise((resolve) => setImmediate(resolve))
    bench.led('n3', 2)
    expect(bench.asked).toHaveLength(2)
    expect(decodeData(bench.asked[1]!.data, 1, 0, 0).seq).toBe(decodeData(bench.asked[0]!.data, 1, 0, 0).seq)
    bench.outcome = { kind: 'error', error: { kind: 'overloaded', op: 'apply.lease', message: 'too many leases' } }
    bench.agreed(0)
    await expect(granted).resolves.toMatchObject({ kind: 'error', error: { kind: 'overloaded', outcome: 'unknown' } })
  })

  it('given to one, its refusal is as the store said it', async () => {
    const bench = new Bench()
    bench.led('n2', 1)
    const granted = bench.replica.propose(contextFor({ name: 'alice', groups: [] }), 'store.grant', '', command)
    bench.outcome = { kind: 'error', error: { kind: 'overloaded', op: 'apply.lease', message: 'too many leases' } }
    bench.agreed(0)
    await expect(granted).resolves.toBe(bench.outcome)
  })
})

describe('a change that is tried until its outcome is known', () => {
  const change = (bench: Bench, tries: Tries): Promise<Outcome> =>
    bench.replica.propose(contextFor({ name: 'alice', groups: [] }), 'store.write', '/f', command, undefined, tries)
  const sent = (bench: Bench, at: number): unknown => {
    const { client, seq } = decodeData(bench.asked[at]!.data, 1, 0, 0)
    return { id: client!.id, seq }
  }

  it('is one, under one number, which is settled when no further try comes', async () => {
    const bench = new Bench()
    bench.led('n2', 1)
    const tries = new Tries()
    const first = change(bench, tries)
    bench.asked[0]!.reject(new NineError({ kind: 'internal', op: 'peer.request', message: 'lost', outcome: 'unknown' }))
    await expect(first).rejects.toMatchObject({ outcome: 'unknown' })
    expect(tries.isOut).toBe(true)
    // Others go on beside it.
    const other = change(bench, new Tries())
    const second = change(bench, tries)
    expect(sent(bench, 2)).toEqual(sent(bench, 0))
    expect(sent(bench, 1)).not.toEqual(sent(bench, 0))
    bench.agreed(1)
    bench.outcome = { kind: 'needs_chunks' }
    bench.agreed(2)
    await Promise.all([other, second])
    // What may have happened is not made another change by what answers for this try alone.
    const third = change(bench, tries)
    expect(sent(bench, 3)).toEqual(sent(bench, 0))
    bench.agreed(3)
    await third
    expect(tries.own!.lane.settled).toBe(0)
    tries.end()
    expect(tries.own!.lane.settled).toBe(1)
  })

  it('has an unknown outcome where the store has forgotten it', async () => {
    const bench = new Bench()
    bench.led('n2', 1)
    const tries = new Tries()
    const first = change(bench, tries)
    bench.asked[0]!.reject(new NineError({ kind: 'internal', op: 'peer.request', message: 'lost', outcome: 'unknown' }))
    await expect(first).rejects.toMatchObject({ outcome: 'unknown' })
    const again = change(bench, tries)
    bench.outcome = {
      kind: 'error',
      error: { kind: 'unavailable', op: 'apply.once', message: 'not known', retryable: false, outcome: 'unknown' },
    }
    bench.agreed(1)
    await expect(again).resolves.toBe(bench.outcome)
    expect(bench.asked).toHaveLength(2)
  })

  it('of which nothing can have happened is as if it had not been tried', async () => {
    const bench = new Bench()
    bench.led('n2', 1)
    const tries = new Tries()
    const first = change(bench, tries)
    bench.agreed(0) // It needs chunks.
    await first
    expect(tries.isOut).toBe(false)
    const second = change(bench, tries)
    tries.end() // Nobody waits for it any more.
    expect(tries.own!.lane.settled).toBe(0)
    bench.agreed(1)
    await second
    expect(tries.own!.lane.settled).toBe(1)
  })
})

describe('a leader that takes nothing', () => {
  it('takes nothing of others either', async () => {
    const bench = new Bench()
    bench.led('n2', 1)
    void bench.replica.propose(contextFor({ name: 'alice', groups: [] }), 'store.create', '/f', command).catch(() => undefined)
    const { data } = bench.asked[0]!
    bench.led('n1', 2)
    bench.proposed.length = 0
    bench.replica.refuse(new NineError({ kind: 'no_space', op: 'tree.write', message: 'the disk is full' }))
    await expect(bench.replica.proposeFor(data, 10)).rejects.toMatchObject({ kind: 'no_space', outcome: 'none' })
    expect(bench.proposed).toEqual([])
  })
})

describe('a leader that did not apply the entry that opens its term yet', () => {
  /** What n2 was given, and now, by another node, this one. */
  function givenToNew(bench: Bench): Promise<void> {
    bench.led('n2', 1)
    void bench.replica.propose(contextFor({ name: 'alice', groups: [] }), 'store.create', '/f', command).catch(() => undefined)
    const { data } = bench.asked[0]!
    bench.elected(2)
    bench.proposed.length = 0
    return bench.replica.proposeFor(data, 10_000)
  }

  it('keeps what others ask until then: they need not ask again', () => {
    const bench = new Bench()
    void givenToNew(bench)
    expect(bench.proposed).toEqual([])
    bench.led('n1', 2)
    expect(bench.proposed.filter(({ isForOther }) => isForOther)).toHaveLength(1)
  })

  it('refuses it when another leads first', async () => {
    const bench = new Bench()
    const asked = givenToNew(bench)
    bench.led('n3', 3)
    await expect(asked).rejects.toMatchObject({ kind: 'unavailable', outcome: 'none' })
  })
})

describe('a leader that answers nonsense', () => {
  it('to a renewal: it is told as a fault of that node', async () => {
    const bench = new Bench()
    bench.led('n2', 1)
    const renewed = bench.replica.renewLease(contextFor({ name: 'alice', groups: [] }), 'lease')
    bench.asked[0]!.resolve(Buffer.from('{nonsense'))
    await expect(renewed).rejects.toMatchObject({ kind: 'internal', op: 'store.renewLease' })
  })
})
