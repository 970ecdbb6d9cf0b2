/** Which requests may go to another node, and whom nodes are believed to be led by. */
import { describe, expect, it } from 'vitest'
import { parsePath } from '../../namespace/path.ts'
import { isReady, leaderOf, rootOf, routeKind } from '../../namespace/remote/routing.ts'
import { operations } from '../../namespace/wire/operations.ts'
import type { ClusterState } from '../../namespace/wire/session.ts'

const data = parsePath('/data')
const usr = parsePath('/usr')
const roots = [data, usr]
const at = (path: string): { path: ReturnType<typeof parsePath> } => ({ path: parsePath(path) })

function told(leader: string, term: number, path = data): ClusterState {
  return { roots: [{ path, leader, term }], nodes: [] }
}

describe('what any node can serve', () => {
  it('is every operation of the contract but those of handles, leases and locks', () => {
    const kinds = Object.fromEntries(operations.map(({ name, type }) => [name, routeKind(type)]))
    const reads = ['stat', 'list', 'read', 'readlink', 'getRights']
    const writes = ['write', 'create', 'mkdir', 'symlink', 'remove', 'rename', 'setStat', 'txn', 'setRights']
    for (const [name, kind] of Object.entries(kinds)) {
      expect([name, kind]).toEqual([name, reads.includes(name) ? 'read' : writes.includes(name) ? 'write' : undefined])
    }
  })

  it('stands at or below one shared path, in all its paths', () => {
    expect(rootOf(roots, at('/data'))).toBe(0)
    expect(rootOf(roots, at('/data/a/b'))).toBe(0)
    expect(rootOf(roots, at('/usr/ann'))).toBe(1)
    for (const path of ['/', '/database', '/svc/data', '/n/n1/data', '/sys']) expect(rootOf(roots, at(path))).toBe(-1)
    expect(rootOf(roots, { ...at('/data/a'), to: parsePath('/data/b') })).toBe(0)
    expect(rootOf(roots, { ...at('/data/a'), to: parsePath('/usr/b') })).toBe(-1)
    expect(rootOf(roots, { ...at('/sys/a'), to: parsePath('/data/b') })).toBe(-1)
    expect(rootOf([], at('/data'))).toBe(-1)
  })

  it('of a transaction stands there in each condition and operation of both branches', () => {
    const is = 'none' as const
    const read = (path: string): { op: 'read'; path: ReturnType<typeof parsePath> } => ({ op: 'read', path: parsePath(path) })
    const txn = (condition: string, then: string, or: string): number =>
      rootOf(roots, { if: [{ ...at(condition), is }], then: [read(then)], else: [read(or)] })
    expect(txn('/data/a', '/data/b', '/data/c')).toBe(0)
    expect(txn('/usr/a', '/data/b', '/data/c')).toBe(-1)
    expect(txn('/data/a', '/svc/b', '/data/c')).toBe(-1)
    expect(txn('/data/a', '/data/b', '/usr/c')).toBe(-1)
    const rename = { op: 'rename', path: parsePath('/data/a'), to: parsePath('/usr/a') }
    expect(rootOf(roots, { if: [], then: [rename], else: [] })).toBe(-1)
    expect(rootOf(roots, { if: [], then: [], else: [] })).toBe(-1)
  })
})

describe('who leads', () => {
  it('is who is named in the latest term, whoever says so and in whatever order', () => {
    const all = [told('n1', 5), told('n2', 7), told('', 9), told('n1', 5)]
    expect(leaderOf(data, all)).toBe('n2')
    expect(leaderOf(data, all.toReversed())).toBe('n2')
    expect(leaderOf(usr, all)).toBe('')
    expect(leaderOf(data, [told('', 9)])).toBe('')
    expect(leaderOf(data, [])).toBe('')
  })

  it('is known to a node that is ready, of all that it tells of', () => {
    expect(isReady(told('n1', 1))).toBe(true)
    expect(isReady({ roots: [...told('n1', 1).roots, ...told('', 1, usr).roots], nodes: [] })).toBe(false)
    expect(isReady({ roots: [], nodes: [] })).toBe(true)
  })
})
