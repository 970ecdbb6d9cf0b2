/** What the log shows of each group after crashes, failures, cuts and rewrites in any order, against a model. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
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
