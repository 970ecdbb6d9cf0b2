/** Transactions. */
import { expect } from 'vitest'
import type { TxnOperation, TxnRequest, TxnResult } from '../../../namespace/file-server.ts'
import { limits } from '../../../namespace/limits.ts'
import { bytesOf, fails, group, matchOf, textOf, type Group, type Tools } from './tools.ts'

function txn(t: Tools, request: Partial<TxnRequest>): Promise<TxnResult> {
  return t.server.txn(t.context, { if: [], then: [], else: [], ...request })
}

function write(t: Tools, name: string, text: string): TxnOperation {
  return { op: 'write', path: t.at(name), bytes: bytesOf(text) }
}

export const txnGroups: readonly Group[] = [
  group('txn', {
    'operations happen at one revision': async (t) => {
      await t.put('old', 'x')
      const result = await txn(t, {
        then: [
          { op: 'mkdir', path: t.at('d') },
          write(t, 'd/f', 'one'),
          { op: 'create', path: t.at('d/empty') },
          { op: 'symlink', path: t.at('d/l'), target: 'f' },
          { op: 'rename', path: t.at('old'), to: t.at('d/new') },
          { op: 'setStat', path: t.at('d/f'), changes: { mode: 0o600 } },
          { op: 'remove', path: t.at('d/empty') },
        ],
      })
      expect(result.branch).toBe('then')
      expect(result.results.map((each) => each.op)).toEqual(Array.from({ length: 7 }, () => 'mutation'))
      const revisions = new Set(result.results.map((each) => (each.op === 'mutation' ? each.result.revision : -1)))
      expect(revisions.size).toBe(1)
      expect(await t.names('d')).toEqual(['f', 'l', 'new'])
      expect(await t.stat('d/f')).toMatchObject({ mode: 0o600, revision: [...revisions][0] })
    },
    'reads in it see what it did before': async (t) => {
      await t.put('f', 'before')
      const { results } = await txn(t, {
        then: [{ op: 'read', path: t.at('f') }, write(t, 'f', 'after'), { op: 'read', path: t.at('f') }, { op: 'stat', path: t.at('f') }],
      })
      const [first, , second, stat] = results
      expect(first?.op === 'read' && textOf(first.bytes)).toBe('before')
      expect(second?.op === 'read' && textOf(second.bytes)).toBe('after')
      expect(stat?.op === 'stat' && stat.stat.version).toBe(2)
    },
    'conditions choose the branch': async (t) => {
      const f = await t.put('f', 'x')
      const branch = async (...conditions: TxnRequest['if']): Promise<string> =>
        (await txn(t, { if: conditions, then: [{ op: 'stat', path: t.at() }], else: [{ op: 'stat', path: t.at() }] })).branch
      expect(await branch()).toBe('then')
      expect(await branch({ path: t.at('f'), is: 'exists' })).toBe('then')
      expect(await branch({ path: t.at('f'), is: 'none' })).toBe('else')
      expect(await branch({ path: t.at('g'), is: 'exists' })).toBe('else')
      expect(await branch({ path: t.at('g'), is: 'none' })).toBe('then')
      expect(await branch({ path: t.at('g/below'), is: 'none' })).toBe('then')
      expect(await branch({ path: t.at('f'), is: matchOf(f) })).toBe('then')
      await t.put('f', 'y')
      expect(await branch({ path: t.at('f'), is: matchOf(f) })).toBe('else')
      expect(await branch({ path: t.at('f'), is: 'exists' }, { path: t.at('f'), is: 'none' })).toBe('else')
    },
    'only the branch taken happens': async (t) => {
      await txn(t, { if: [{ path: t.at('none'), is: 'exists' }], then: [write(t, 'then', 'x')], else: [write(t, 'else', 'x')] })
      expect(await t.names()).toEqual(['else'])
    },
    'one failure undoes everything': async (t) => {
      await t.put('f', 'kept')
      await t.put('d/g', 'kept', { parents: true })
      const before = await t.stat('f')
      const listed = (await t.server.list(t.context, t.at(), { recursive: true })).entries
      const error = await fails(
        txn(t, {
          then: [
            write(t, 'f', 'changed'),
            write(t, 'new', 'x'),
            { op: 'rename', path: t.at('d'), to: t.at('moved') },
            { op: 'remove', path: t.at('moved'), options: { recursive: true } },
            { op: 'mkdir', path: t.at('d') },
            { op: 'remove', path: t.at('none') },
          ],
        }),
        'not_found',
        t.at('none'),
      )
      expect(error.outcome).toBe('none')
      expect(await t.stat('f')).toEqual(before)
      expect((await t.server.list(t.context, t.at(), { recursive: true })).entries).toEqual(listed)
      expect(await t.text('d/g')).toBe('kept')
      // What was moved and moved back is known by its old path.
      await t.put('d/g', 'changed')
      await t.put('d/new', 'x')
      expect(await t.names('d')).toEqual(['g', 'new'])
    },
    'a failure leaves events at their old paths': async (t) => {
      await t.put('d/g', 'kept', { parents: true })
      await t.server.mkdir(t.context, t.at('to'))
      const then = [
        { op: 'rename', path: t.at('d'), to: t.at('to/moved') },
        { op: 'remove', path: t.at('none') },
      ] as const
      await fails(txn(t, { then }), 'not_found')
      const watch = await t.watch('', { recursive: true })
      await t.put('d/g', 'changed')
      expect((await watch.event()).path).toBe(t.at('d/g'))
      await watch.close()
    },
    'ifMatch in an operation': async (t) => {
      const f = await t.put('f', '1')
      await t.put('f', '2')
      const operation: TxnOperation = { op: 'write', path: t.at('f'), bytes: bytesOf('3'), options: { ifMatch: matchOf(f) } }
      await fails(txn(t, { then: [write(t, 'g', 'x'), operation] }), 'conflict', t.at('f'))
      expect(await t.names()).toEqual(['f'])
    },
    'a transaction is one step for others': async (t) => {
      await txn(t, { then: [write(t, 'a', '0'), write(t, 'b', '0')] })
      const moves = Array.from({ length: 20 }, (_, i) => txn(t, { then: [write(t, 'a', `${i}`), write(t, 'b', `${i}`)] }))
      const looks = Array.from({ length: 20 }, async () => {
        const { results } = await txn(t, {
          then: [
            { op: 'read', path: t.at('a') },
            { op: 'read', path: t.at('b') },
          ],
        })
        const [a, b] = results.map((each) => (each.op === 'read' ? textOf(each.bytes) : ''))
        expect(a).toBe(b)
      })
      await Promise.all([...moves, ...looks])
    },
    '1,024 operations, and one more': async (t) => {
      const operations = (count: number): TxnOperation[] => Array.from({ length: count }, (_, i) => write(t, `f${i}`, ''))
      await txn(t, { then: operations(limits.txn_operations_max) })
      expect((await t.server.list(t.context, t.at(), { limit: 2000 })).entries.length).toBe(limits.txn_operations_max)
      await fails(txn(t, { then: operations(limits.txn_operations_max + 1) }), 'too_large')
    },
    'more than 4 MiB is too_large': async (t) => {
      const half = new Uint8Array(limits.txn_bytes_max / 2)
      const big = (name: string): TxnOperation => ({ op: 'write', path: t.at(name), bytes: half })
      await txn(t, { then: [big('a'), big('b')] })
      await fails(txn(t, { then: [big('c'), big('d'), write(t, 'e', 'x')] }), 'too_large')
      expect(await t.names()).toEqual(['a', 'b'])
    },
    'an empty transaction': async (t) => {
      expect(await txn(t, {})).toMatchObject({ branch: 'then', results: [] })
    },
  }),
]
