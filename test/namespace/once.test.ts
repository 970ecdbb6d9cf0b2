/** Answers kept for retries: what is kept, what is forgotten, and that nothing happens twice. */
import { describe, expect, it } from 'vitest'
import { contextFor, type Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { OnceTable } from '../../namespace/once.ts'

const base = contextFor({ name: 'owner', groups: [] })

function as(id: string, seq: number, more: { born?: number; settled?: number; digest?: string } = {}): Context {
  return { ...base, client: { id, born: more.born ?? 1, settled: more.settled ?? 0 }, seq, digest: more.digest }
}

function kindOf(act: () => unknown): string {
  try {
    act()
    return 'fine'
  } catch (error) {
    return error instanceof NineError ? `${error.kind} ${error.outcome}` : 'other'
  }
}

describe('OnceTable', () => {
  it('acts every time without a client', () => {
    const table = new OnceTable()
    let count = 0
    for (let i = 0; i < 3; i++) table.run(base, 'test.act', '', () => ++count)
    expect(count).toBe(3)
  })

  it('keeps errors, but not those that changed nothing and may go away', () => {
    const table = new OnceTable()
    let count = 0
    const fail = (kind: 'exists' | 'overloaded', outcome?: 'unknown') => (): never => {
      count++
      throw new NineError({ kind, op: 'test.act', message: 'no', outcome })
    }
    for (let i = 0; i < 3; i++) expect(kindOf(() => table.run(as('a', 1), 'test.act', '', fail('exists')))).toBe('exists none')
    expect(count).toBe(1)
    for (let i = 0; i < 3; i++) expect(kindOf(() => table.run(as('a', 2), 'test.act', '', fail('overloaded')))).toBe('overloaded none')
    expect(count).toBe(4)
    for (let i = 0; i < 3; i++) {
      expect(kindOf(() => table.run(as('a', 3), 'test.act', '', fail('overloaded', 'unknown')))).toBe('overloaded unknown')
    }
    expect(count).toBe(5)
  })

  it('a retry while the first still runs shares its answer', async () => {
    const table = new OnceTable()
    let count = 0
    let finish!: (value: number) => void
    const act = (): Promise<number> => {
      count++
      return new Promise((resolve) => (finish = resolve))
    }
    const both = [table.run(as('a', 1), 'test.act', '', act), table.run(as('a', 1), 'test.act', '', act)]
    finish(7)
    expect(await Promise.all(both)).toEqual([7, 7])
    expect(count).toBe(1)
  })

  it('a bad number is invalid', () => {
    const table = new OnceTable()
    for (const seq of [0, -1, 0.5, Number.NaN]) expect(kindOf(() => table.run(as('a', seq), 'test.act', '', () => 1))).toBe('invalid none')
  })

  it('a client has a bounded number of answers it has not settled', () => {
    const table = new OnceTable()
    for (let seq = 1; seq <= limits.client_results_max; seq++) table.run(as('a', seq), 'test.act', '', () => seq)
    const next = limits.client_results_max + 1
    expect(kindOf(() => table.run(as('a', next), 'test.act', '', () => 1))).toBe('overloaded none')
    expect(kindOf(() => table.run(as('a', next, { settled: 1 }), 'test.act', '', () => 1))).toBe('fine')
    expect(kindOf(() => table.run(as('a', 1, { settled: 1 }), 'test.act', '', () => 1))).toBe('compacted unknown')
  })

  it('forgets the client idle longest, and never acts for it again', () => {
    const table = new OnceTable()
    let acted = 0
    for (let i = 0; i <= limits.clients_max; i++) table.run(as(`c${i}`, 1, { born: 100 + i }), 'test.act', '', () => ++acted)
    expect(kindOf(() => table.run(as('c0', 1, { born: 100 }), 'test.act', '', () => ++acted))).toBe('compacted unknown')
    expect(kindOf(() => table.run(as('c0', 2, { born: 100 }), 'test.act', '', () => ++acted))).toBe('compacted unknown')
    expect(acted).toBe(limits.clients_max + 1)
    expect(kindOf(() => table.run(as('young', 1, { born: 100_000 }), 'test.act', '', () => 1))).toBe('fine')
    expect(table.run(as(`c${limits.clients_max}`, 1), 'test.act', '', () => -1)).toBe(limits.clients_max + 1)
  })

  it('a key without a birth may be used anew once forgotten, and forgets nobody else', () => {
    const table = new OnceTable()
    const never = Number.MAX_SAFE_INTEGER
    for (let i = 0; i <= limits.clients_max; i++) table.run(as(`http:${i}`, 1, { born: never }), 'test.act', '', () => i)
    expect(kindOf(() => table.run(as('http:0', 1, { born: never }), 'test.act', '', () => 1))).toBe('fine')
    expect(kindOf(() => table.run(as('other', 1, { born: 5 }), 'test.act', '', () => 1))).toBe('fine')
  })
})
