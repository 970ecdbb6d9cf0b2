/** The records of groups: what encodes decodes to the same; whatever else the bytes are, they are refused and nothing worse. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isNineError } from '../../namespace/errors.ts'
import { decodeGroupRecord, encodeGroupEntry, encodeHard, encodeInstall, type GroupRecord } from '../../storage/wal/group-records.ts'

const count = fc.oneof(fc.nat(200), fc.maxSafeNat())
const id = fc.string({ minLength: 1, maxLength: 60, unit: 'grapheme' })
const ids = fc.array(id, { maxLength: 5 })
const configuration = fc.record({ voters: ids, outgoing: ids, learners: ids, demoted: ids })
const payload = fc.oneof(
  fc.constant({ data: null, configuration: null }),
  fc.uint8Array({ maxLength: 300 }).map((data) => ({ data: Buffer.from(data), configuration: null })),
  configuration.map((one) => ({ data: null, configuration: one })),
)
const record: fc.Arbitrary<GroupRecord> = fc.oneof(
  fc.record({
    kind: fc.constant('entry' as const),
    group: count,
    again: fc.boolean(),
    entry: fc
      .tuple(
        count.map((n) => Math.max(1, n)),
        count,
        payload,
      )
      .map(([index, term, rest]) => ({ index, term, ...rest })),
  }),
  fc.record({ kind: fc.constant('hard' as const), group: count, hard: fc.record({ term: count, vote: fc.option(id) }) }),
  fc.record({
    kind: fc.constant('install' as const),
    group: count,
    again: fc.boolean(),
    meta: fc.record({ index: count, term: count, configuration }),
  }),
)

function encode(value: GroupRecord): Buffer {
  if (value.kind === 'entry') return Buffer.from(encodeGroupEntry(value.group, value.entry, value.again))
  if (value.kind === 'hard') return Buffer.from(encodeHard(value.group, value.hard))
  return Buffer.from(encodeInstall(value.group, value.meta, value.again))
}

describe('records of groups', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(record, (value) => {
        expect(decodeGroupRecord(encode(value))).toEqual(value)
      }),
      { numRuns: 2000 },
    )
  })

  it('cut short, longer, or with any byte changed: corrupt or another record, never anything else', () => {
    fc.assert(
      fc.property(record, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, place, flip) => {
        const bytes = encode(value)
        expect(() => decodeGroupRecord(bytes.subarray(0, place % bytes.length))).toThrow(/damaged/)
        expect(() => decodeGroupRecord(Buffer.concat([bytes, Buffer.of(0)]))).toThrow(/something follows/)
        bytes[place % bytes.length]! ^= flip
        try {
          decodeGroupRecord(bytes)
        } catch (error) {
          expect(isNineError(error, 'corrupt')).toBe(true)
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('keep their form: these bytes are in the logs of today', () => {
    const entry = { index: 300, term: 2, data: Buffer.from('ab'), configuration: null }
    const one = { voters: ['a'], outgoing: [], learners: ['b'], demoted: [] }
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
    expect(hex(encodeGroupEntry(7, entry, false))).toBe('020702ac0200026162')
    expect(hex(encodeGroupEntry(7, { ...entry, data: null }, false))).toBe('020702ac0201')
    expect(hex(encodeGroupEntry(7, { ...entry, data: null, configuration: one }, true))).toBe('020702ac0206010161000101' + '6200')
    expect(hex(encodeHard(7, { term: 5, vote: 'n1' }))).toBe('030705026e31')
    expect(hex(encodeHard(7, { term: 5, vote: null }))).toBe('03070500')
    expect(hex(encodeInstall(7, { index: 9, term: 5, configuration: one }, false))).toBe('040700090501016100010162' + '00')
  })
})
