/** Clients that say nothing of their birth (HTTP's keys) and clients that lie about it take nothing from the others. */
import { expect, it } from 'vitest'
import type { Context } from '../../namespace/context.ts'
import { limits } from '../../namespace/limits.ts'
import { OnceTable } from '../../namespace/once.ts'
import { ContextReader, writeContext } from '../../namespace/wire/context.ts'
import { Reader, Writer } from '../../proto/protobuf.ts'
import { Machine } from '../../storage/apply/machine.ts'
import { Driven, write, type Caller } from '../storage/apply-machine.ts'

const unborn = Number.MAX_SAFE_INTEGER

function as(id: string, born: number, seq = 1, settled = 0): Caller {
  return { client: { id, born, settled }, seq }
}

function useKeys(d: Driven, from: number, count: number): void {
  for (let i = from; i < from + count; i++) d.apply(write('/f', 'x'), as(`http:ann:${i}`, unborn))
}

it('keys that are forgotten shut out nobody, and the state can still be saved', () => {
  const d = new Driven()
  useKeys(d, 0, limits.clients_max + 10)
  expect(d.machine.clients).toBe(limits.clients_max)
  expect(d.kind(write('/f', 'y'), as('session', d.machine.time + 1))).toBe('mutation')
  expect(d.kind(write('/f', 'y'), as('http:ann:new', unborn))).toBe('mutation')
  const saved = [...d.machine.exportChanged()]
  d.machine = new Machine({ owner: 'root' })
  d.machine.import(saved)
  expect(d.kind(write('/f', 'y'), as('later', d.machine.time + 1))).toBe('mutation')
})

it('keys make room for each other, not at the cost of sessions', () => {
  const d = new Driven()
  expect(d.kind(write('/f', 'y'), as('session', 1))).toBe('mutation')
  useKeys(d, 0, 2 * limits.clients_max)
  expect(d.machine.clients).toBe(limits.clients_max)
  expect(d.kind(write('/f', 'y'), as('session', 1, 2))).toBe('mutation')
})

it('the key of a principal is nobody else’s client, also after a restart', () => {
  const d = new Driven()
  d.do({ op: 'setRights', target: { path: write('/', '').target.path }, rights: [{ who: '*', rights: ['read', 'write', 'create'] }] })
  expect(d.kind(write('/f', 'x'), { ...as('http:ann:k', 1, 1, 0), actor: 'eve' })).toBe('mutation')
  const first = d.apply(write('/f', 'y'), { ...as('http:ann:k', unborn), actor: 'ann' })
  expect(first).toMatchObject({ kind: 'mutation' })
  expect(d.kind(write('/f', 'x'), { ...as('http:ann:k', 1, 3, 2), actor: 'eve' })).toBe('mutation')
  const saved = [...d.machine.exportChanged()]
  d.machine = new Machine({ owner: 'root' })
  d.machine.import(saved)
  expect(d.apply(write('/f', 'y'), { ...as('http:ann:k', unborn), actor: 'ann' })).toEqual(first)
})

it('an answer kept in memory is told to the principal that asked alone', () => {
  const table = new OnceTable()
  const of = (name: string): Context => ({
    principal: { name, groups: [] },
    deadline: Infinity,
    client: { id: 'http:ann:k', born: unborn, settled: 0 },
    seq: 1,
    digest: 'same',
  })
  expect(table.run(of('ann'), 'test.act', '', () => 'secret of ann')).toBe('secret of ann')
  expect(table.run(of('eve'), 'test.act', '', () => 'of eve')).toBe('of eve')
  expect(table.run(of('ann'), 'test.act', '', () => 'again')).toBe('secret of ann')
})

it('a session may not name a client without a birth, or one born far in the future; clocks of nodes may differ', () => {
  const now = 5_000_000
  const source = {
    principal: { name: 'eve', groups: [] },
    session: 1,
    client: undefined,
    signal: new AbortController().signal,
    clock: { now: () => now, monotonic: () => 0 },
    believesPrincipal: false,
  }
  const take = (born: number): unknown => {
    const writer = new Writer()
    const context: Context = { principal: source.principal, deadline: Infinity }
    const client = { id: 'http:ann:k', born, settled: 0 }
    writeContext(writer, context, { now: 0, client, seq: 1, settled: 0, target: 0, namesPrincipal: false })
    const reader = new Reader()
    const bytes = writer.takeOne()
    reader.reset(bytes, 0, bytes.length)
    expect(reader.next()).toBeGreaterThan(0)
    const contexts = new ContextReader(source)
    contexts.read(reader)
    return contexts.take().client
  }
  const hour = 60 * 60 * 1_000_000
  expect(() => take(unborn)).toThrow(/born in the future/)
  expect(() => take(now + 25 * hour)).toThrow(/born in the future/)
  expect(take(now + hour)).toMatchObject({ id: 'http:ann:k', born: now + hour })
})
