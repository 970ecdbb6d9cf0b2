import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isNineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { aloneEntry, decodeData, decodeEntry, encodeData, encodeEntry } from '../../storage/apply/entry.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Command, Entry, TreeCommand } from '../../storage/model.ts'
import { someCommand } from './apply-commands.ts'
import { entryOf, write } from './apply-machine.ts'

const count = fc.maxSafeNat()
const text = fc.string({ unit: 'binary', maxLength: 80 })

const someEntry: fc.Arbitrary<Entry> = fc.record({
  group: count,
  term: count,
  index: count,
  time: count,
  actor: text,
  groups: fc.array(text, { maxLength: 3 }),
  client: fc.option(fc.record({ id: text, born: count, settled: count }), { nil: undefined }),
  seq: fc.option(count, { nil: undefined }),
  digest: fc.option(text, { nil: undefined }),
  cause: fc.option(text, { nil: undefined }),
  trace: fc.option(text, { nil: undefined }),
  command: someCommand,
})

/** The same in one form: what is absent, undefined or false means one thing; bytes as hex. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  const fields = Object.entries(value).filter(([, field]) => field !== undefined && field !== false)
  return Object.fromEntries(fields.map(([key, field]) => [key, plain(field)]))
}

describe('binary form of entries', () => {
  it('is none of a change that the log could not take, alone or in a group', () => {
    const sized = (bytes: number): Entry => entryOf(1, write('/f', 'x'.repeat(bytes)))
    const head = encodeEntry(sized(limits.entry_bytes_max - 1024)).length - (limits.entry_bytes_max - 1024)
    expect(encodeEntry(sized(limits.entry_bytes_max - head))).toHaveLength(limits.entry_bytes_max)
    for (const encode of [encodeEntry, encodeData]) {
      expect(() => encode(sized(limits.entry_bytes_max + 1))).toThrow(expect.objectContaining({ kind: 'too_large' }))
      expect(encode(sized(1)).length).toBeLessThan(100)
    }
  })

  it('gives back what was encoded', () => {
    fc.assert(
      fc.property(someEntry, (entry) => {
        expect(plain(decodeEntry(new Uint8Array(encodeEntry(entry))))).toEqual(plain(entry))
      }),
      { numRuns: 2000 },
    )
  })

  it('gives each of several, read one after the other, its own actor and client', () => {
    const names = ['ann', 'ann', 'an', 'anna', 'änn', 'änn', 'aNn', '', 'a'.repeat(127), 'a'.repeat(128), 'ann']
    const entries = names.map((actor, i) => ({
      ...entryOf(i + 1, write('/f', 'x'), { actor }),
      client: { id: actor, born: i, settled: i },
      seq: 1,
    }))
    const records = entries.map((entry) => new Uint8Array(encodeEntry(entry)))
    const read = records.map((record) => decodeEntry(record))
    expect(read.map(({ actor, client }) => [actor, client])).toEqual(entries.map(({ actor, client }) => [actor, client]))
    // One that ends within a name that came before is cut short all the same.
    decodeEntry(records[0]!)
    for (let end = 1; end < records[1]!.length; end++) expect(() => decodeEntry(records[1]!.subarray(0, end))).toThrow()
  })

  it('gives back what restores and commands of files of restored stores are', () => {
    const kept = { op: 'restore', id: 'r.1', incarnation: 'second' } as const
    const blob = { root: new Uint8Array(32).fill(7), depth: 1, size: 300_000 }
    const target = { path: parsePath('/file'), ino: 5, restoredAt: 70_000 }
    const since: TreeCommand = { op: 'write', target, content: { kind: 'splice', offset: 3, bytes: new Uint8Array(2) } }
    const commands: Command[] = [
      { ...kept, backup: undefined },
      ...[undefined, true].flatMap((endsHandles) => [
        { ...kept, endsHandles, backup: { kind: 'inline' as const, bytes: new Uint8Array(9) } },
        { ...kept, endsHandles, backup: { kind: 'blob' as const, blob } },
      ]),
      since,
      { op: 'txn', if: [], then: [since, { op: 'setStat', target, size: 9 }], else: [] },
    ]
    for (const command of commands) {
      const entry = { ...entryOf(1, write('/file', 'x')), command }
      expect(plain(decodeEntry(new Uint8Array(encodeEntry(entry))))).toEqual(plain(entry))
    }
  })

  it("is the same in the log of a group, and an alone node's record becomes it", () => {
    fc.assert(
      fc.property(someEntry, (entry) => {
        const { group, term, index } = entry
        const data = encodeData(entry)
        expect(plain(decodeData(data, group, term, index))).toEqual(plain(entry))
        expect(plain(aloneEntry(new Uint8Array(encodeEntry(entry))))).toEqual(plain({ group, term, index, data }))
      }),
      { numRuns: 1000 },
    )
  })

  it('data that was given out stands, whatever is encoded after it, also where that fails', () => {
    const huge = entryOf(1, { ...write('/huge', ''), content: { kind: 'append', bytes: new Uint8Array(3 * 1024 * 1024).fill(7) } })
    const given = []
    for (let i = 0; i < 1000; i++) {
      const entry = i === 500 ? huge : entryOf(1 + i, write(`/file-${i}`, 'x'.repeat(i)))
      const data = encodeData(entry)
      given.push([entry, data, Buffer.from(data)] as const)
      if (i % 100 === 0) expect(() => encodeData(entryOf(1, write('/f', 'x'.repeat(200)), { actor: '\ud800' }))).toThrow()
    }
    for (const [entry, data, copy] of given) {
      expect(copy.equals(data)).toBe(true)
      expect(decodeData(data, entry.group, entry.term, entry.index).index).toBe(entry.index)
    }
    const shared = new Set(given.map(([, data]) => data.buffer))
    expect(shared.size).toBeLessThan(50)
  })

  it('carries the longest texts and values', () => {
    const long = `/${'x'.repeat(255)}/${'é'.repeat(127)}`
    const value = new Uint8Array(1024 * 1024).fill(9)
    const entry = entryOf(1, { ...write(long, ''), content: { kind: 'append', bytes: value } }, { actor: 'ü'.repeat(4000) })
    expect(plain(decodeEntry(new Uint8Array(encodeEntry(entry))))).toEqual(plain(entry))
    // The large buffer is given up, and the next entry is whole.
    const small = entryOf(2, write('/a', 'b'))
    expect(plain(decodeEntry(encodeEntry(small)))).toEqual(plain(small))
  })

  it('answers random bytes with corrupt, or with an entry', () => {
    const check = (bytes: Uint8Array): void => {
      try {
        decodeEntry(bytes)
      } catch (error) {
        expect(isNineError(error, 'corrupt')).toBe(true)
      }
    }
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), check), { numRuns: 5000 })
    fc.assert(
      fc.property(someEntry, fc.nat(), fc.nat({ max: 255 }), (entry, at, byte) => {
        const bytes = new Uint8Array(encodeEntry(entry))
        bytes[at % bytes.length] = byte
        check(bytes)
      }),
      { numRuns: 3000 },
    )
  })

  it('refuses every entry that was cut short or is followed by something', () => {
    const bytes = new Uint8Array(encodeEntry(entryOf(7, write('/a/b', 'value', { ttl: { lease: 't', ttlMs: 500 } }), { groups: ['g'] })))
    for (let length = 0; length < bytes.length; length++) expect(() => decodeEntry(bytes.subarray(0, length))).toThrow(/damaged/)
    expect(() => decodeEntry(new Uint8Array([...bytes, 0]))).toThrow(/something follows/)
  })

  it('refuses a claim of more than there is without taking memory for it', () => {
    const bytes = new Uint8Array(encodeEntry(entryOf(1, { op: 'txn', if: [], then: [], else: [] })))
    const claimed = new Uint8Array([...bytes.subarray(0, bytes.length - 3), 0xff, 0xff, 0xff, 0xff, 0x0f])
    expect(() => decodeEntry(claimed)).toThrow(/cut short/)
  })

  it('refuses what would not come back as it was', () => {
    expect(() => encodeEntry(entryOf(1, write('/a', 'b', { contentType: '\ud800' })))).toThrow(/well-formed/)
    expect(() => encodeEntry({ ...entryOf(1, write('/a', 'b')), seq: -1 })).toThrow(/count/)
    expect(() => encodeEntry({ ...entryOf(1, write('/a', 'b')), seq: 1.5 })).toThrow(/count/)
  })
})
