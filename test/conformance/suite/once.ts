/** Exactly once: by client and number. */
import { expect } from 'vitest'
import type { Context } from '../../../namespace/context.ts'
import type { FileServer } from '../../../namespace/file-server.ts'
import { bytesOf, fails, group, type Group, type Tools } from './tools.ts'

let clients = 0

/** Contexts of one client: of its mutation `seq`, with all up to `settled` settled. */
function client(t: Tools): (seq: number, more?: { digest?: string; settled?: number }) => Context {
  const id = `suite-client-${t.at()}-${++clients}`
  const born = Date.now() * 1000
  return (seq, { digest, settled = 0 } = {}) => ({ ...t.context, client: { id, born, settled }, seq, digest })
}

export const onceGroups: readonly Group[] = [
  group('exactly once', {
    'a retried append appends once': async (t) => {
      const as = client(t)
      const append = (): ReturnType<FileServer['write']> => t.server.write(as(1), t.at('f'), bytesOf('x'), { at: 'append' })
      const first = await append()
      const again = await append()
      expect(again).toEqual(first)
      expect(await t.text('f')).toBe('x')
      expect((await t.stat('f')).version).toBe(1)
      await t.server.write(as(2), t.at('f'), bytesOf('y'), { at: 'append' })
      expect(await t.text('f')).toBe('xy')
    },
    'a retry gets the first answer after others have written': async (t) => {
      const as = client(t)
      const first = await t.server.write(as(1), t.at('f'), bytesOf('mine'))
      await t.put('f', 'theirs')
      expect(await t.server.write(as(1), t.at('f'), bytesOf('mine'))).toEqual(first)
      expect(await t.text('f')).toBe('theirs')
    },
    'a retry gets the first error': async (t) => {
      const as = client(t)
      await t.put('f', 'x')
      const create = (): Promise<unknown> => t.server.create(as(1), t.at('f'))
      const first = await fails(create(), 'exists', t.at('f'))
      await t.server.remove(t.context, t.at('f'))
      const again = await fails(create(), 'exists', t.at('f'))
      expect(again.message).toBe(first.message)
      expect(await t.names()).toEqual([])
    },
    'every mutation is once': async (t) => {
      const as = client(t)
      const { server } = t
      let seq = 0
      const twice = async (run: (context: Context) => Promise<unknown>): Promise<void> => {
        seq++
        const first = await run(as(seq))
        expect(await run(as(seq))).toEqual(first)
      }
      await twice((context) => server.create(context, t.at('f')))
      await twice((context) => server.mkdir(context, t.at('d')))
      await twice((context) => server.symlink(context, t.at('l'), 'f'))
      await twice((context) => server.setStat(context, t.at('f'), { mode: 0o600 }))
      await twice((context) => server.rename(context, t.at('f'), t.at('g')))
      await twice((context) => server.remove(context, t.at('l')))
      const then = [{ op: 'write', path: t.at('t'), bytes: bytesOf('t'), options: { at: 'append' } }] as const
      await twice((context) => server.txn(context, { if: [], then, else: [] }))
      expect(await t.names()).toEqual(['d', 'g', 't'])
      expect(await t.stat('g')).toMatchObject({ version: 2 })
      expect(await t.text('t')).toBe('t')
    },
    'retries at the same time act once': async (t) => {
      const as = client(t)
      const tries = Array.from({ length: 10 }, () => t.server.write(as(1), t.at('f'), bytesOf('x'), { at: 'append' }))
      const answers = await Promise.all(tries)
      for (const answer of answers) expect(answer).toEqual(answers[0])
      expect(await t.text('f')).toBe('x')
    },
    'the same number for another request is invalid': async (t) => {
      const as = client(t)
      await t.server.write(as(1, { digest: 'one' }), t.at('f'), bytesOf('one'))
      await fails(t.server.write(as(1, { digest: 'two' }), t.at('f'), bytesOf('two')), 'invalid')
      expect(await t.text('f')).toBe('one')
      await t.server.write(as(1, { digest: 'one' }), t.at('f'), bytesOf('one'))
      expect((await t.stat('f')).version).toBe(1)
    },
    'clients are told apart': async (t) => {
      const [a, b] = [client(t), client(t)]
      await t.server.write(a(1), t.at('f'), bytesOf('a'), { at: 'append' })
      await t.server.write(b(1), t.at('f'), bytesOf('b'), { at: 'append' })
      expect(await t.text('f')).toBe('ab')
    },
    'what was settled is never done again': async (t) => {
      const as = client(t)
      for (let seq = 1; seq <= 5; seq++) {
        await t.server.write(as(seq, { settled: seq - 1 }), t.at('f'), bytesOf('x'), { at: 'append' })
      }
      const error = await t.server.write(as(2, { settled: 4 }), t.at('f'), bytesOf('x'), { at: 'append' }).then(
        () => undefined,
        (reason: unknown) => reason,
      )
      expect(error).toMatchObject({ outcome: 'unknown' })
      expect(await t.text('f')).toBe('xxxxx')
    },
    'a client that was settled far ahead goes on': async (t) => {
      const as = client(t)
      await t.server.write(as(1_000_000, { settled: 999_999 }), t.at('f'), bytesOf('x'))
      await t.server.write(as(1_000_001, { settled: 1_000_000 }), t.at('f'), bytesOf('y'))
      expect(await t.text('f')).toBe('y')
    },
  }),
]
