/** What the log shows of each group after crashes, failures, cuts and rewrites in any order, against a model. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { recoverGroups } from '../../storage/wal/group-recovery.ts'
import { encodeGroupEntry, encodeInstall } from '../../storage/wal/group-records.ts'
import { openWal } from '../../storage/wal/wal.ts'
import { Run, settled, type Step } from './group-run.ts'

const changing = (kind: 'term' | 'append' | 'conflict' | 'install' | 'apply' | 'save' | 'rewrite'): fc.Arbitrary<Step> =>
  fc.record({ kind: fc.constant(kind), group: fc.integer({ min: 1, max: 3 }), seed: fc.integer() })

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: changing('append') },
  { weight: 4, arbitrary: changing('term') },
  { weight: 4, arbitrary: changing('conflict') },
  { weight: 1, arbitrary: changing('install') },
  { weight: 8, arbitrary: changing('apply') },
  { weight: 6, arbitrary: changing('save') },
  { weight: 3, arbitrary: changing('rewrite') },
  { weight: 18, arbitrary: fc.record({ kind: fc.constant('release' as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('checkpoint' as const) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('cut' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('retry' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('crash' as const), seed: fc.integer() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('fault' as const),
      code: fc.constantFrom('EIO', 'ENOSPC', 'ENOSPC', 'ENOSPC'),
      sectors: fc.nat(6),
    }),
  },
)

describe('the log of groups after a crash', () => {
  it('shows of each group a state that was written, no older than what was acknowledged', async () => {
    const seen: Record<string, number> = {}
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 40, maxLength: 160 }), async (steps) => {
        const run = new Run()
        await run.open()
        for (const next of [...steps, { kind: 'crash', seed: steps.length } as const]) {
          await run.step(next)
          await settled()
        }
        for (const [name, count] of Object.entries(run.seen)) seen[name] = (seen[name] ?? 0) + count
      }),
      { numRuns: 400 },
    )
    expect(seen).toMatchObject({
      cuts: expect.toSatisfy((n: number) => n > 100) as number,
      rewrites: expect.toSatisfy((n: number) => n > 100) as number,
      retries: expect.toSatisfy((n: number) => n > 20) as number,
      refused: expect.toSatisfy((n: number) => n > 100) as number,
      kept: expect.toSatisfy((n: number) => n > 10) as number,
    })
  }, 120_000)
})

describe('an install that was written again, behind entries that are kept for nobody', () => {
  const configuration = { voters: ['n1'], outgoing: [], learners: [], demoted: [] }
  const entryRecord = (index: number, again: boolean): Uint8Array =>
    Uint8Array.from(encodeGroupEntry(1, { index, term: 2, data: Buffer.from(`${index}`), configuration: null }, again))
  const installRecord = (index: number, again: boolean): Uint8Array =>
    Uint8Array.from(encodeInstall(1, { index, term: 2, configuration }, again))
  const span = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

  // Kept are 50 behind the state. The log was cut behind the install's own record.
  it.each([0, 70, 100])('leaves each entry at its place: %i forgotten', async (forgotten) => {
    const dir = await mkdtemp(join(tmpdir(), 'nine-again-'))
    const wal = await openWal({ dir })
    try {
      const behind = span(111, 300)
      await wal.append([...behind.map((i) => entryRecord(i, false)), installRecord(110, true), ...behind.map((i) => entryRecord(i, true))])
      const checkpoint = { appliedIndex: 100, hard: { term: 2, vote: null }, hardLsn: 0, forgotten }
      const noneAlone = (): never => expect.unreachable()
      const { entries, lsns, install } = recoverGroups(wal, new Map([[1, checkpoint]]), noneAlone, 50).get(1)!
      expect(install).toEqual({ index: 110, term: 2, configuration })
      expect(entries.map(({ index }) => index)).toEqual(behind)
      expect(entries.map(({ data }) => Buffer.from(data!).toString())).toEqual(behind.map(String))
      expect(lsns).toEqual(behind.map((index) => index + 81))
    } finally {
      await wal.close()
      await rm(dir, { recursive: true })
    }
  })
})
