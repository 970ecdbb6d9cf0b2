/** Stale reads, revisions and watches: what is taken, and each rule broken once. */
import { describe, expect, it } from 'vitest'
import { check } from './check.ts'
import type { At, History, Operation, Request, Result, Told } from './history.ts'
import { Recorder } from './history.ts'

const v = (version: number, life = 7): At => ({ life, version })
let lastId = 0
function op(start: number, end: number, request: Request, result?: Result, session?: string): Operation {
  return { id: ++lastId, client: 'c', session, request, result, start, end: result === undefined ? Infinity : end }
}
const write = (start: number, end: number, value: string, revision: number, at: At, key = 'x'): Operation =>
  op(start, end, { do: 'write', key, value }, { was: 'done', at, revision })
const lost = (start: number, value: string): Operation => op(start, Infinity, { do: 'write', key: 'x', value })
const stale = (
  start: number,
  end: number,
  value: string | undefined,
  revision: number,
  rest: { changed?: number; at?: At; min?: number; session?: string } = {},
): Operation => {
  const { changed, at, min, session } = rest
  const result: Result = value === undefined ? { was: 'missing', revision } : { was: 'read', value, at, changed, revision }
  return op(start, end, { do: 'stale', key: 'x', min }, result, session)
}
const told = (revision: number, value: string, at: At, tick: number, rest: Partial<Told> = {}): Told => ({
  type: at.version === 1 ? 'create' : 'change',
  key: 'x',
  revision,
  ordinal: 0,
  at,
  value,
  tick,
  ...rest,
})

const base = (): Operation[] => [
  write(1, 2, 'a', 1, v(1)),
  write(3, 4, 'b', 2, v(2)),
  write(5, 6, 'y', 3, v(1, 8), 'y'),
  write(7, 8, 'c', 4, v(3)),
]
const story = (): Told[] => [told(1, 'a', v(1), 2), told(2, 'b', v(2), 4), told(3, 'y', v(1, 8), 6, { key: 'y' }), told(4, 'c', v(3), 8)]
const final = new Map([
  ['x', 'c'],
  ['y', 'y'],
])

function problemsOf(operations: Operation[], events: Told[] = [], upTo = events.at(-1)?.revision ?? 0): string {
  const watches = events.length === 0 ? [] : [{ name: 'w', from: 1, isWhole: true, upTo, told: events }]
  return check({ operations, watches }, { final: events.length === 0 ? undefined : final }).problems.join('\n')
}

describe('stale reads', () => {
  it('may show the past', () => {
    const reads = [
      stale(9, 10, 'a', 1, { changed: 1, at: v(1), session: 's' }),
      stale(11, 12, 'b', 3, { changed: 2, at: v(2), session: 's', min: 2 }),
      stale(13, 14, 'b', 2, { session: 't' }),
      stale(15, 16, undefined, 0),
    ]
    expect(problemsOf([...base(), ...reads])).toBe('')
  })

  const wrong: [string, Operation[], string][] = [
    ['a mixture of two pasts', [stale(9, 10, 'a', 3, { changed: 1 })], 'by then #'],
    ['nothing where something was', [stale(9, 10, undefined, 2)], 'is missing'],
    ['a value newer than its revision', [stale(9, 10, 'c', 3, { changed: 4 })], 'newer than the revision'],
    ['a past that goes back', [stale(9, 10, 'b', 3, { session: 's' }), stale(11, 12, 'b', 2, { session: 's' })], 'go back'],
    ['less than was asked for', [stale(9, 10, 'b', 2, { min: 3 })], 'less than was asked for'],
    ['what was not asked for yet', [stale(3, 4, 'b', 4, { changed: 2 })], 'not yet asked for'],
    ['what nobody wrote', [stale(9, 10, 'z', 2)], 'nobody had written'],
    ['one version with two values', [stale(9, 10, 'z', 2, { changed: 2, at: v(2) })], 'told in two ways'],
    ['one version at two revisions', [stale(9, 10, 'b', 3, { changed: 3, at: v(2) })], 'is of revision 2'],
  ]
  for (const [name, reads, problem] of wrong) it(`not ${name}`, () => expect(problemsOf([...base(), ...reads])).toContain(problem))
})

describe('strict answers', () => {
  it('never show an older revision than an answer before them, of any file', () => {
    const read = op(9, 10, { do: 'read', key: 'y' }, { was: 'read', value: 'y', revision: 3 })
    expect(problemsOf([...base(), read])).toContain('older state')
  })

  it('give changes revisions in the order of real time', () => {
    expect(problemsOf([...base(), write(9, 10, 'z', 3, v(1, 9), 'z')])).toContain('older state')
  })

  it('never give a file another name', () => {
    expect(problemsOf([...base(), write(9, 10, 'z', 5, v(1, 8), 'z')])).toContain('file 8 is y')
  })
})

describe('watches', () => {
  it('tell all, also of writes that were not answered, in batches as they come', () => {
    expect(problemsOf(base(), story())).toBe('')
    const operations = [...base().slice(0, 3), lost(3, 'c'), lost(4, 'never')]
    expect(problemsOf(operations, story())).toBe('')
  })

  const wrong: [string, () => Told[], string][] = [
    ['a change left out', () => story().filter(({ revision }) => revision !== 2), 'was not told of'],
    ['a change told twice', () => [...story().slice(0, 2), ...story().slice(1)], 'after change x "b"'],
    ['changes out of order', () => story().sort((a, b) => (a.revision === 2 ? 1 : b.revision === 2 ? -1 : 0)), 'was told of change x "b"'],
    ['a change made up', () => [...story(), told(5, 'z', v(4), 9)], 'nobody asked for'],
    ['another value', () => story().map((event) => (event.revision === 2 ? { ...event, value: 'z' } : event)), 'told in two ways'],
    ['another end than reads show', () => [...story(), told(5, 'c', v(3), 9, { type: 'remove' })], 'a read shows c'],
  ]
  for (const [name, events, problem] of wrong) it(`not ${name}`, () => expect(problemsOf(base(), events())).toContain(problem))

  it('not a gap where nobody was answered', () => {
    const operations = [...base().filter(({ result }) => result?.revision !== 2), lost(3, 'b')]
    expect(problemsOf(operations, story())).toBe('')
    expect(
      problemsOf(
        operations,
        story().filter(({ revision }) => revision !== 2),
      ),
    ).toContain('was told of change x "c" (file 7 v3)')
  })

  it('not one unanswered write twice', () => {
    const again = [...story(), told(5, 'd', v(4), 9), told(6, 'd', v(5), 10)]
    expect(problemsOf([...base(), lost(7, 'd')], again)).toContain('nobody asked for (any more)')
  })

  it('not a change before it was asked for', () => {
    const early = story().map((event) => (event.revision === 4 ? { ...event, tick: 6 } : event))
    expect(problemsOf(base(), early)).toContain('before it was asked for')
  })

  it('not half of a transaction', () => {
    const both: Request = {
      do: 'txn',
      if: [],
      then: [
        { do: 'write', key: 'x', value: 'd' },
        { do: 'write', key: 'y', value: 'd' },
      ],
      else: [],
    }
    const half = [...story(), told(5, 'd', v(4), 12)]
    expect(problemsOf([...base(), op(9, Infinity, both)], half)).toContain('nobody asked for')
  })

  const moving = (): Operation[] => [
    ...base(),
    op(9, 10, { do: 'rename', key: 'x', to: 'y', replace: true }, { was: 'done', at: v(3), revision: 5 }),
    op(11, 12, { do: 'append', key: 'y', value: 'd' }, { was: 'done', at: v(4), revision: 6 }),
  ]
  const moved = (): Told[] => [
    ...story(),
    told(5, '', v(1, 8), 10, { type: 'remove', key: 'y', value: undefined }),
    told(5, '', v(3), 10, { type: 'rename', key: 'y', from: 'x', ordinal: 1, value: undefined }),
    told(6, 'cd', v(4), 12, { key: 'y', type: 'change' }),
  ]
  const problemsOfMove = (events: Told[]): string =>
    check({ operations: moving(), watches: [{ name: 'w', from: 1, isWhole: true, upTo: 6, told: events }] }, { final: new Map([['y', 'cd']]) })
      .problems.join('\n') // prettier-ignore

  it('tell of a rename, and of what it took the place of', () => expect(problemsOfMove(moved())).toBe(''))

  const wrongMoves: [string, Told[], string][] = [
    ['a rename left out', moved().filter(({ type }) => type !== 'rename'), 'was told remove y'],
    [
      'a rename from where nothing is',
      moved().map((event) => (event.from === undefined ? event : { ...event, from: 'z' })),
      'after nothing',
    ],
    ['a rename over what is there', moved().filter(({ type }) => type !== 'remove'), 'after change x "c"'],
    ['a rename of another version', moved().map((event) => (event.type === 'rename' ? { ...event, at: v(2) } : event)), 'was told'],
  ]
  for (const [name, events, problem] of wrongMoves) it(`not ${name}`, () => expect(problemsOfMove(events)).toContain(problem))

  it('agree with each other', () => {
    const operations = base()
    const other = story().map((event) => ({ ...event, ordinal: event.ordinal + 1 }))
    const history: History = {
      operations,
      watches: [
        { name: 'one', from: 1, isWhole: true, upTo: 4, told: story() },
        { name: 'two', from: 1, isWhole: true, upTo: 4, told: other },
      ],
    }
    expect(check(history).problems.join('\n')).toContain('two things of revision 1')
  })
})

it('the recorder keeps what was not answered open, and leaves out what did not happen', () => {
  const recorder = new Recorder()
  const first = recorder.invoke('a', { do: 'write', key: 'x', value: '1' })
  const second = recorder.invoke('b', { do: 'write', key: 'x', value: '2' })
  const third = recorder.invoke('c', { do: 'write', key: 'x', value: '3' })
  recorder.invoke('d', { do: 'write', key: 'x', value: '4' })
  first.complete({ was: 'done' })
  second.never()
  third.unknown('the connection was lost')
  expect(() => first.never()).toThrow('ended twice')
  const { operations } = recorder.end()
  expect(operations.map(({ client, start, end, note }) => ({ client, start, end, note }))).toEqual([
    { client: 'a', start: 1, end: 5, note: undefined },
    { client: 'c', start: 3, end: Infinity, note: 'the connection was lost' },
    { client: 'd', start: 4, end: Infinity, note: 'not answered when the history ended' },
  ])
})
