/** The path parser against a plain model, on thousands of texts and bytes; and the vocabulary beside it. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { errorKinds, errorTable, isNineError, NineError, toNineError } from '../../namespace/errors.ts'
import { formatTime, parseTime } from '../../namespace/json.ts'
import { limits } from '../../namespace/limits.ts'
import {
  baseName,
  compareNames,
  isWithin,
  joinName,
  joinPath,
  parentPath,
  parseName,
  parsePath,
  parsePathBytes,
  pathComponents,
  relativePath,
} from '../../namespace/path.ts'
import { compareInStore, decodePosition, encodePosition, mergePositions } from '../../namespace/position.ts'

const runs = { numRuns: 5_000 }

/** Pieces that paths are made of, the dangerous ones often. */
const piece = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('/', '/', '//', '.', '..', '/../', '/./', '', '\0', 'a', 'b.c', '...', '-', ' ') },
  { weight: 2, arbitrary: fc.string({ unit: 'grapheme', maxLength: 8 }) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 8 }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('\ud800', '\udfff', '😀', 'é', 'x'.repeat(255), 'x'.repeat(256), 'é'.repeat(128), 'y/'.repeat(520)),
  },
)
const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''))

/** What parsePath must say, a path or a kind of error, written as plainly as possible. */
function model(input: string): string {
  if (!input.startsWith('/')) return 'invalid'
  if (Buffer.byteLength(input) > 1024) return 'name_too_long'
  if (input.includes('\0') || Buffer.from(input).toString() !== input) return 'invalid'
  const kept: string[] = []
  for (const name of input.split('/')) {
    if (name === '' || name === '.') continue
    if (name === '..') kept.pop()
    else if (Buffer.byteLength(name) > 255) return 'name_too_long'
    else kept.push(name)
  }
  return `/${kept.join('/')}`
}

function outcome(parse: () => string): string {
  try {
    return parse()
  } catch (error) {
    if (!isNineError(error)) throw error
    return error.kind
  }
}

describe('parsePath', () => {
  it('agrees with the model on any text', () => {
    fc.assert(
      fc.property(text, (input) => {
        expect(outcome(() => parsePath(input))).toBe(model(input))
      }),
      runs,
    )
  })

  it('leaves nothing to normalise, and never leaves the root', () => {
    fc.assert(
      fc.property(text, (input) => {
        const path = outcome(() => parsePath(`/${input}`))
        if (!path.startsWith('/')) return
        expect(parsePath(path)).toBe(path)
        expect(path === '/' || !/\/(\.{0,2})(\/|$)/.test(path)).toBe(true)
        for (const name of pathComponents(parsePath(path))) expect(parseName(name)).toBe(name)
      }),
      runs,
    )
  })

  it('takes any bytes, and refuses what is not UTF-8', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const input = Buffer.concat([Buffer.from('/'), bytes])
        const isUtf8 = Buffer.from(input.toString()).equals(input)
        expect(outcome(() => parsePathBytes(input))).toBe(isUtf8 ? model(input.toString()) : 'invalid')
      }),
      runs,
    )
  })

  it('holds its limits to the byte', () => {
    expect(parsePath(`/${'x'.repeat(255)}`)).toHaveLength(256)
    expect(outcome(() => parsePath(`/${'x'.repeat(256)}`))).toBe('name_too_long')
    const longest = `/${'a/'.repeat(511)}b`
    expect(longest).toHaveLength(limits.path_bytes_max)
    expect(parsePath(longest)).toBe(longest)
    expect(outcome(() => parsePath(`${longest}c`))).toBe('name_too_long')
    expect(outcome(() => parsePath(`/${'/'.repeat(2000)}`))).toBe('name_too_long')
  })
})

describe('names and paths', () => {
  it('taking apart and putting together are inverse', () => {
    fc.assert(
      fc.property(text, text, (first, second) => {
        const [a, b] = [outcome(() => parsePath(`/${first}`)), outcome(() => parsePath(`/${second}`))]
        if (!a.startsWith('/') || !b.startsWith('/')) return
        const [base, below] = [parsePath(a), parsePath(b)]
        const joined = joinPath(base, below)
        expect(isWithin(joined, base)).toBe(true)
        expect(relativePath(joined, base)).toBe(below)
        if (below !== '/') expect(joinName(parentPath(below), baseName(below))).toBe(below)
      }),
      runs,
    )
  })

  it('is within whole components only', () => {
    expect(isWithin(parsePath('/ab'), parsePath('/a'))).toBe(false)
    expect(isWithin(parsePath('/a/b'), parsePath('/a'))).toBe(true)
    expect(isWithin(parsePath('/a'), parsePath('/a'))).toBe(true)
  })

  it('orders names as their UTF-8 bytes', () => {
    const name = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 6 }), fc.constantFrom('\uffee', '😀', '\ue000', 'z', ''))
    fc.assert(
      fc.property(name, name, (a, b) => {
        expect(Math.sign(compareNames(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)))
      }),
      runs,
    )
  })
})

describe('errors', () => {
  it('every kind has one row, and the table is as the contract says', () => {
    const rows = errorKinds.map((kind) => `${kind} ${errorTable[kind].http} ${errorTable[kind].grpc} ${errorTable[kind].errnoName}`)
    expect(rows).toEqual([
      'not_found 404 5 ENOENT',
      'exists 409 6 EEXIST',
      'not_directory 409 9 ENOTDIR',
      'is_directory 409 9 EISDIR',
      'not_empty 409 9 ENOTEMPTY',
      'conflict 412 10 EAGAIN',
      'denied 403 7 EACCES',
      'unauthenticated 401 16 EPERM',
      'invalid 400 3 EINVAL',
      'name_too_long 400 3 ENAMETOOLONG',
      'too_large 413 11 EFBIG',
      'no_space 507 8 ENOSPC',
      'overloaded 429 8 EBUSY',
      'unavailable 503 14 EHOSTUNREACH',
      'deadline 504 4 ETIMEDOUT',
      'compacted 410 11 ESTALE',
      'cross_store 409 9 EXDEV',
      'read_only 403 7 EROFS',
      'loop 508 9 ELOOP',
      'unsupported 501 12 EOPNOTSUPP',
      'corrupt 500 15 EIO',
      'internal 500 13 EIO',
    ])
  })

  it('survives a structured clone of its fields', () => {
    const error = new NineError({ kind: 'conflict', op: 'store.write', path: '/a', message: 'm', outcome: 'unknown', resume: 'r' })
    expect(new NineError(structuredClone(error.fields))).toEqual(error)
  })

  it('keeps what it is, and takes aborts for deadlines and anything else for internal', () => {
    const error = new NineError({ kind: 'exists', op: 'a.b', message: '' })
    expect(toNineError(error, 'x.y')).toBe(error)
    expect(toNineError(new DOMException('', 'AbortError'), 'x.y').kind).toBe('deadline')
    expect(toNineError('text', 'x.y', '/p')).toMatchObject({ kind: 'internal', op: 'x.y', path: '/p', message: 'text' })
  })
})

describe('positions', () => {
  const element = fc.record({
    store: fc.constantFrom('a', 'b', 'c'),
    incarnation: fc.constantFrom('1', '2'),
    revision: fc.nat(),
    ordinal: fc.nat(),
  })
  const position = fc.uniqueArray(element, { selector: (one) => one.store, maxLength: 3 })

  it('are what they were after a trip through their text', () => {
    fc.assert(
      fc.property(position, (one) => {
        expect(decodePosition(encodePosition(one))).toEqual(one)
      }),
      runs,
    )
  })

  it('refuse any other text', () => {
    fc.assert(
      fc.property(fc.string(), (one) => {
        const kind = outcome(() => encodePosition(decodePosition(one)))
        expect(kind === 'invalid' || decodePosition(kind).length >= 0).toBe(true)
      }),
      runs,
    )
  })

  it('merge to the later of both in every store', () => {
    fc.assert(
      fc.property(position, position, (a, b) => {
        const merged = mergePositions(a, b)
        for (const one of [...a, ...b]) {
          const found = merged.find((candidate) => candidate.store === one.store)!
          if (found.incarnation === one.incarnation) expect(compareInStore(found, one)).toBeGreaterThanOrEqual(0)
        }
        expect(merged.length).toBe(new Set([...a, ...b].map((one) => one.store)).size)
      }),
      runs,
    )
  })
})

describe('times', () => {
  it('are RFC 3339 to the microsecond and back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 8_000_000_000_000_000 }), (time) => {
        expect(parseTime(formatTime(time), 'test')).toBe(time)
      }),
      runs,
    )
    expect(parseTime('2026-01-31T12:00:00.1+02:00', 'test')).toBe(Date.UTC(2026, 0, 31, 10, 0, 0, 100) * 1000)
    for (const bad of ['', 'now', '2026-01-31', '2026-13-31T00:00:00Z', '2026-01-31T00:00:00']) {
      expect(outcome(() => String(parseTime(bad, 'test')))).toBe('invalid')
    }
  })
})
