import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NineError } from '../../namespace/errors.ts'
import { Query, formatCursor, formatEtag, listStart, parseEtag, parseEtags, parseRange, parseTarget } from '../../services/http/params.ts'

const store = { store: 's', incarnation: 'i', revision: 7, ordinal: 0 }
const query = (text: string): Query => new Query(text, 'GET')

function kindOf(act: () => unknown): string {
  try {
    act()
    return 'none'
  } catch (error) {
    if (error instanceof NineError) return error.kind
    throw error
  }
}

describe('target', () => {
  it('decodes to bytes, once', () => {
    const paths = ['', '/', '/a%2Fb', '/a+b', '/%2e%2e/%2E%2e/x', '/a/../../b', '/%25', '/%C3%A4', '//a//', '/a%20b'].map(
      (rest) => parseTarget('GET', rest, '').path,
    )
    expect(paths).toEqual(['/', '/', '/a/b', '/a+b', '/x', '/b', '/%', '/ä', '/a', '/a b'])
  })

  it('refuses what is malformed by its kind', () => {
    const kinds = [
      '/%',
      '/%4',
      '/%zz',
      '/%ff',
      '/%C3',
      '/a%00b',
      '/\u0100',
      '/%ED%A0%80',
      `/${'n'.repeat(256)}`,
      `/${'p/'.repeat(513)}`,
    ].map((rest) => kindOf(() => parseTarget('GET', rest, '')))
    expect(kinds).toEqual([...Array<string>(8).fill('invalid'), 'name_too_long', 'name_too_long'])
    expect(kindOf(() => parseTarget('GET', `/${'%61'.repeat(255)}`, ''))).toBe('none')
  })

  it('never throws anything else, and gives back any path that was encoded', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string(), (rest, text) => void kindOf(() => parseTarget('GET', `/${rest}`, text))),
      { numRuns: 5000 },
    )
    const name = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
      .filter((text) => !/^\.\.?$|[/\0]/.test(text) && Buffer.byteLength(text) <= 255)
    fc.assert(
      fc.property(fc.array(name, { minLength: 1, maxLength: 4 }), (names) => {
        expect(parseTarget('GET', `/${names.map(encodeURIComponent).join('/')}`, '').path).toBe(`/${names.join('/')}`)
      }),
    )
  })
})

describe('query', () => {
  it('is strict', () => {
    for (const text of ['nope', 'list&list', 'append', 'limit=%zz', 'a=%ff']) expect(kindOf(() => query(text))).toBe('invalid')
    for (const limit of ['-1', '1.5', '1e3', '0x10', ' 1', '99999999999999999999', '']) {
      expect(kindOf(() => query(`limit=${encodeURIComponent(limit)}`).count('limit'))).toBe('invalid')
    }
    expect(query('limit=0007').count('limit')).toBe(7)
    expect(kindOf(() => query('at=2026-99-99T00:00:00Z').moment('at'))).toBe('invalid')
  })

  it('reads times to live', () => {
    const ttl = (text: string): number | undefined => new Query(`ttl=${text}`, 'PUT').ttl('ttl')
    expect(['250ms', '2s', '3m', '1h', '5'].map(ttl)).toEqual([250, 2000, 180_000, 3_600_000, 5000])
    expect(ttl('1ms')).toBe(100)
    for (const text of ['0s', '-1s', '1.5s', '1d', 's', '', '999999999999h', '25h']) expect(kindOf(() => ttl(text))).toBe('invalid')
  })

  it('tells a cursor given as after from every name', () => {
    expect(listStart(query('after=name'))).toEqual({ after: 'name' })
    const cursor = formatCursor('{"any":"text"}')
    expect(listStart(query(`after=${cursor}`))).toEqual({ cursor: '{"any":"text"}' })
    expect(listStart(query(`cursor=${encodeURIComponent(cursor)}`))).toEqual({ cursor: '{"any":"text"}' })
    for (const text of ['after=/', 'after=/a%20b', 'cursor=name', 'after=a&cursor=b'])
      expect(kindOf(() => listStart(query(text)))).toBe('invalid')
  })
})

describe('etags', () => {
  const qid = { type: 0, path: 5, version: 3 }

  it('name store, incarnation, qid and version', () => {
    const etag = parseEtag(formatEtag(store, qid)!)!
    expect([etag.path, etag.version, etag.isOf(store)]).toEqual([5, 3, true])
    expect([etag.isOf({ ...store, store: 't' }), etag.isOf({ ...store, incarnation: 'j' }), etag.isOf(undefined)]).toEqual([
      false,
      false,
      false,
    ])
    expect(formatEtag(store, { ...qid, version: 0 })).toBeUndefined()
  })

  it('of If-Match are strong ones of ours', () => {
    expect(parseEtags(undefined)).toBeUndefined()
    expect(parseEtags(' * ')).toBe('*')
    expect(parseEtags('W/"x.1.1", "foreign", "x.1.1"')).toHaveLength(1)
    for (const text of ['', 'x', '"a" "b"', '"a",', '*, "a"']) expect(kindOf(() => parseEtags(text))).toBe('invalid')
  })
})

describe('range', () => {
  it.each([
    ['bytes=0-4', 10, { start: 0, length: 5 }],
    ['bytes=3-', 10, { start: 3, length: 7 }],
    ['bytes=-4', 10, { start: 6, length: 4 }],
    ['bytes=-400', 10, { start: 0, length: 10 }],
    ['bytes=8-400', 10, { start: 8, length: 2 }],
    ['Bytes=0-99999999999999999999999', 10, { start: 0, length: 10 }],
    ['bytes=10-', 10, 'unsatisfiable'],
    ['bytes=99999999999999999999999-', 10, 'unsatisfiable'],
    ['bytes=-0', 10, 'unsatisfiable'],
    ['bytes=0-', 0, 'unsatisfiable'],
    ['bytes=4-2', 10, undefined],
    ['bytes=0-1,3-4', 10, undefined],
    ['bytes=-', 10, undefined],
    ['lines=0-1', 10, undefined],
    [undefined, 10, undefined],
  ])('%s of %d', (header, size, expected) => {
    expect(parseRange(header, size)).toEqual(expected)
  })
})
