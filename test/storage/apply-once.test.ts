import { describe, expect, it } from 'vitest'
import type { ClientIdentity } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { Machine } from '../../storage/apply/machine.ts'
import { at, bytes, Driven, entryOf, make, put, remove, textOf, write, type Caller } from './apply-machine.ts'

function as(seq: number, settled = 0, id = 'c', born = 1): Caller & { readonly client: ClientIdentity } {
  return { client: { id, born, settled }, seq }
}

const append = put('/f', { kind: 'append', bytes: bytes('x') })

/** The state as a restart finds it. */
function restarted(d: Driven): void {
  const saved = new Map<string, Uint8Array | undefined>(d.machine.exportChanged())
  d.machine = new Machine({ owner: 'root' })
  d.machine.import(saved)
}

describe('exactly once', () => {
  it('answers a retry with the first answer and does nothing', () => {
    const d = new Driven()
    const first = d.apply(append, as(1))
    d.apply(append, as(2))
    expect(d.apply(append, as(1))).toEqual(first)
    expect(d.last!.revision).toBeUndefined()
    expect(d.text('/f')).toBe('xx')
    // Errors too, though they would not happen any more.
    const failed = d.apply(make('mkdir', '/f'), as(3))
    expect(failed).toMatchObject({ error: { kind: 'exists' } })
    d.do(remove('/f'))
    expect(d.apply(make('mkdir', '/f'), as(3))).toEqual(failed)
    expect(d.has('/f')).toBe(false)
    expect(d.apply(append, as(1, 0, 'another'))).toMatchObject({ kind: 'mutation' })
  })

  it('tells a client from one of the same id without a birth, and from others, in any order', () => {
    const d = new Driven()
    const unborn = Number.MAX_SAFE_INTEGER
    const callers = [as(1), as(1, 0, 'c', unborn), as(1, 0, 'b'), as(1, 0, 'c'), as(1, 0, 'b', unborn)]
    const answers = callers.map((caller) => d.apply(append, caller))
    expect(d.text('/f')).toBe('xxxx')
    expect(answers[3]).toEqual(answers[0])
    restarted(d)
    for (const [i, caller] of callers.entries()) expect(d.apply(append, caller)).toEqual(answers[i])
    expect(d.text('/f')).toBe('xxxx')
    expect(d.apply(append, as(2))).toMatchObject({ kind: 'mutation' })
  })

  it('holds for transactions and leases, over a restart as well', () => {
    const d = new Driven()
    d.do(write('/f', 'value', { contentType: 'text/plain' }))
    d.do({ op: 'setRights', target: at('/'), rights: [{ who: '*', rights: ['read', 'write'] }] })
    d.do(put('/large', { kind: 'blob', blob: { root: new Uint8Array(32).fill(5), depth: 1, size: 999_999 }, base: undefined }))
    d.do(make('mkdir', '/d'))
    const steps = ['/f', '/large', '/d', '/'].map((path) => ({ op: 'stat', path: at(path).path }) as const)
    const txn = { op: 'txn', if: [], then: [append, ...steps], else: [] } as const
    const results = [
      d.apply(txn, as(1)),
      d.apply({ op: 'grantLease', lease: 'l', ttlMs: 500 }, as(2)),
      d.apply(remove('/none/x'), { ...as(3), digest: 'abc' }),
      d.apply(write('/g', 'x'), as(5)),
      d.apply(write('/h', 'x'), as(4)),
    ]
    for (let round = 0; round < 2; round++) {
      expect(textOf(d.apply(txn, as(1)))).toBe(textOf(results[0]))
      expect(d.apply({ op: 'grantLease', lease: 'l', ttlMs: 500 }, as(2))).toEqual(results[1])
      expect(d.apply(remove('/none/x'), { ...as(3), digest: 'abc' })).toMatchObject({
        error: { kind: 'not_found', op: 'apply.remove', path: '/none/x' },
      })
      expect(d.apply(write('/g', 'x'), as(5))).toEqual(results[3])
      expect(d.apply(write('/h', 'x'), as(4))).toEqual(results[4])
      expect(d.last!.revision).toBeUndefined()
      restarted(d)
    }
  })

  it('does not keep what was not executed', () => {
    const d = new Driven()
    d.do(put('/f', { kind: 'replace', bytes: new Uint8Array(limits.inline_bytes_max) }))
    expect(d.kind(append, as(1))).toBe('needs_chunks')
    const blob = { root: new Uint8Array(32), depth: 1, size: limits.inline_bytes_max + 1 }
    expect(d.kind(put('/f', { kind: 'blob', blob, base: { path: 2, version: 1 } }), as(1))).toBe('mutation')
    expect(d.kind(append, as(1))).toBe('mutation')
  })

  it('refuses a number that was another request, or somebody else', () => {
    const d = new Driven()
    d.apply(append, { ...as(1), digest: 'a' })
    expect(d.kind(append, { ...as(1), digest: 'b' })).toBe('invalid')
    expect(d.kind(append, as(1))).toBe('invalid')
    expect(d.kind(append, { ...as(1), digest: 'a', actor: 'eve' })).toBe('invalid')
    expect(d.kind(append, { ...as(1), digest: 'a' })).toBe('mutation')
    expect(d.text('/f')).toBe('x')
  })

  it('forgets what is settled, and never executes it again', () => {
    const d = new Driven()
    for (let seq = 1; seq <= 300; seq++) d.apply(append, as(seq, Math.max(0, seq - 20)))
    const again = d.apply(append, as(280, 280))
    expect(again).toMatchObject({ error: { kind: 'unavailable', retryable: false, outcome: 'unknown' } })
    expect(d.apply(append, as(280, 0))).toEqual(again) // The watermark does not go back.
    expect(d.apply(append, as(281, 0))).toMatchObject({ kind: 'mutation', result: { revision: 281 } })
    expect(d.node('/f').version).toBe(300)
    // A watermark far ahead costs nothing.
    expect(d.kind(append, as(2 ** 52, 2 ** 52 - 1))).toBe('mutation')
    expect(d.kind(append, as(300, 0))).toBe('unavailable')
  })

  it('refuses more unsettled results than its limits', () => {
    const d = new Driven()
    for (let seq = 1; seq <= limits.client_results_max; seq++) d.apply(append, as(seq))
    const last = limits.client_results_max + 1
    expect(d.kind(append, as(last))).toBe('overloaded')
    expect(d.kind(append, as(3))).toBe('mutation') // A retry still is.
    expect(d.node('/f').version).toBe(limits.client_results_max)
    expect(d.kind(append, as(last, 1))).toBe('mutation') // And it was not kept.
    const reading = new Driven()
    reading.do(put('/f', { kind: 'replace', bytes: new Uint8Array(limits.inline_bytes_max) }))
    const read = {
      op: 'txn',
      if: [],
      then: Array.from({ length: 32 }, () => ({ op: 'read', path: at('/f').path }) as const),
      else: [],
    } as const
    const kinds = Array.from({ length: 8 }, (_, i) => reading.kind(read, as(i + 1)))
    expect(kinds).toEqual(['txn', 'txn', 'txn', 'txn', 'overloaded', 'overloaded', 'overloaded', 'overloaded'])
  })

  it('forgets the client idle longest, and answers it and its likes with unknown', () => {
    const d = new Driven()
    const n = limits.clients_max
    for (let i = 0; i < n; i++) d.apply(write('/f', 'x'), as(1, 0, `c${i}`, i === 1 ? 100_000_000 : 1))
    d.apply(write('/f', 'x'), as(2, 0, 'c0')) // no longer the idlest; c1 is, whose clock was ahead
    const usedAt = 10 * 2
    expect(d.machine.clients).toBe(n)
    const version = d.node('/f').version
    d.apply(write('/f', 'x'), as(1, 0, 'one-more', 10 * (n + 1)))
    expect(d.machine.clients).toBe(n)
    expect(d.node('/f').version).toBe(version + 1)
    expect(d.kind(write('/f', 'x'), as(1, 0, 'c0'))).toBe('mutation')
    const lost = d.apply(write('/f', 'x'), as(1, 0, 'c1', 100_000_000))
    expect(lost).toMatchObject({ error: { kind: 'unavailable', outcome: 'unknown', retryable: false } })
    expect(d.apply(write('/f', 'x'), as(1, 0, 'never-seen', usedAt))).toEqual(lost)
    expect(d.node('/f').version).toBe(version + 1)
    expect(d.kind(write('/f', 'x'), as(1, 0, 'born-later', 100_000_001))).toBe('mutation')
    restarted(d)
    expect(d.machine.clients).toBe(n)
    expect(d.apply(write('/f', 'x'), as(1, 0, 'c1', 100_000_000))).toEqual(lost)
    // The order of use is kept too: c2 went for born-later, c3 is the next.
    expect(d.kind(write('/f', 'x'), as(1, 0, 'c2', 100_000_001))).toBe('mutation')
    expect(d.machine.clients).toBe(n)
    expect(d.kind(write('/f', 'x'), as(1, 0, 'c4'))).toBe('mutation')
    expect(d.kind(write('/f', 'x'), as(1, 0, 'c3'))).toBe('unavailable')
  })

  it('refuses what is no client', () => {
    const d = new Driven()
    for (const caller of [as(0), as(-1), as(0.5), as(1, -1), as(1, 0, ''), as(1, 0, 'x'.repeat(256)), as(1, 0, 'c', NaN)]) {
      expect(d.kind(append, caller)).toBe('invalid')
    }
    expect(d.machine.clients).toBe(0)
  })
})

describe('the clock', () => {
  it('only grows, past every time that was seen', () => {
    const machine = new Machine({ owner: 'root' })
    expect(machine.nextTime(1000)).toBe(1000)
    expect(machine.nextTime(1000)).toBe(1001)
    expect(machine.nextTime(500)).toBe(1002)
    expect(machine.nextTime(1000, 5000)).toBe(5001)
    expect(machine.nextTime(1000, 2000)).toBe(5002)
    const ahead = limits.clock_ahead_ms_max * 1000
    expect(machine.nextTime(10_000, 10_000 + ahead)).toBe(10_001 + ahead)
    expect(() => machine.nextTime(20_000, 20_001 + ahead)).toThrow(/ahead/)
    expect(() => machine.nextTime(20_000, Infinity)).toThrow(/ahead/)
    // However far the stores are, the node's own clock is what it is measured against.
    const stores = 10_002 + 2 * ahead
    expect(() => machine.nextTime(stores, stores + 1, 10_000)).toThrow(/ahead/)
    expect(new Machine({ owner: 'o' }).nextTime(stores, stores, 10_000)).toBe(stores + 1)
    expect(machine.nextTime(20_000, NaN)).toBe(10_002 + ahead)
  })

  it('refuses entries that go back', () => {
    const d = new Driven()
    d.do(write('/f', 'x'))
    for (const entry of [entryOf(1, append), { ...entryOf(2, append), time: 10 }, { ...entryOf(2, append), time: NaN }]) {
      expect(() => d.machine.apply(d.tree, entry)).toThrow(/follows entry 1/)
    }
    expect(d.machine.appliedIndex).toBe(1)
    expect(d.machine.nextTime(0)).toBe(11)
    restarted(d)
    expect(d.machine).toMatchObject({ appliedIndex: 1, revision: 1, time: 10 })
    expect(d.machine.nextTime(0)).toBe(11)
  })

  it('a fault below is thrown, and leaves the state before the entry', () => {
    const d = new Driven()
    d.do(write('/f', 'x'))
    const tree = d.tree
    const broken = {
      newest: tree,
      begin: (revision: number) => {
        const open = tree.begin(revision)
        return Object.assign(open, {
          link: () => {
            throw new Error('out of luck')
          },
        })
      },
    }
    expect(() => d.machine.apply(broken, entryOf(2, write('/g', 'x', { ttl: { lease: 't', ttlMs: 500 } })))).toThrow('out of luck')
    expect(d.machine).toMatchObject({ appliedIndex: 1, revision: 1 })
    expect(d.machine.leases.size).toBe(0)
    expect(tree.isOpen).toBe(false)
  })
})

describe('export', () => {
  it('gives what changed since the last one that was saved', () => {
    const d = new Driven()
    const keys = (): string[] => [...d.machine.exportChanged()].map(([key, value]) => `${key}${value === undefined ? ' gone' : ''}`)
    d.apply(append, as(1))
    d.apply({ op: 'grantLease', lease: 'l', ttlMs: 500 })
    expect(keys()).toEqual(['clock', 'client/c', 'lease/l'])
    expect(keys()).toEqual(['clock', 'client/c', 'lease/l']) // The first was never said to be saved.
    d.apply(append, as(1, 0, 'd'))
    d.machine.exportSaved()
    expect(keys()).toEqual(['clock', 'client/d'])
    d.apply({ op: 'endLease', lease: 'l', expired: false })
    d.apply(append, as(2, 0, 'd'))
    d.machine.exportSaved()
    expect(keys()).toEqual(['clock', 'client/d', 'lease/l gone'])
    d.machine.exportSaved()
    expect(keys()).toEqual(['clock'])
  })

  it('damaged state is corrupt', () => {
    const d = new Driven()
    d.apply(append, as(1))
    d.apply({ op: 'grantLease', lease: 'l', ttlMs: 500 })
    for (const [key, value] of d.machine.exportChanged()) {
      for (const damaged of [
        value!.subarray(0, value!.length - 1),
        new Uint8Array([9, ...value!.subarray(1)]),
        new Uint8Array([...value!, 0]),
      ]) {
        expect(() => new Machine({ owner: 'root' }).import([[key, damaged]])).toThrow(/damaged/)
      }
    }
  })
})
