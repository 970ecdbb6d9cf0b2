/** Histories known to be good and known to be bad, each named for what it shows. Times are numbers; Infinity was never answered. */
import { describe, expect, it } from 'vitest'
import { check } from './check.ts'
import type { At, Match, Operation, Request, Result, Step, StepResult } from './history.ts'

let lastId = 0

function op(start: number, end: number, request: Request, result?: Result): Operation {
  return { id: ++lastId, client: `c${lastId}`, request, result, start, end: result === undefined ? Infinity : end }
}
const write = (start: number, end: number, value: string, at?: At, match?: Match): Operation =>
  op(start, end, { do: 'write', key: 'x', value, match }, end === Infinity ? undefined : { was: 'done', at })
const append = (start: number, end: number, value: string): Operation =>
  op(start, end, { do: 'append', key: 'x', value }, end === Infinity ? undefined : { was: 'done' })
const read = (start: number, end: number, value: string | undefined, at?: At): Operation =>
  op(start, end, { do: 'read', key: 'x' }, value === undefined ? { was: 'missing' } : { was: 'read', value, at })
const remove = (start: number, end: number): Operation =>
  op(start, end, { do: 'delete', key: 'x' }, end === Infinity ? undefined : { was: 'done' })
const refused = (start: number, end: number, value: string, match: Match): Operation =>
  op(start, end, { do: 'write', key: 'x', value, match }, { was: 'refused', kind: 'conflict' })
const v = (version: number, life = 7): At => ({ life, version })

function txn(start: number, end: number, steps: Step[], results?: StepResult[], conditions: { key: string; is: Match }[] = []): Operation {
  const request: Request = { do: 'txn', if: conditions, then: steps, else: [] }
  return op(start, end, request, results === undefined ? undefined : { was: 'branch', branch: 'then', results })
}
const put = (key: string, value: string): Step => ({ do: 'write', key, value })
const get = (key: string): Step => ({ do: 'read', key })
const shows = (value: string): StepResult => ({ was: 'read', value })
const done: StepResult = { was: 'done' }

const rename = (start: number, end: number, key: string, to: string, at?: At, replace = false): Operation =>
  op(start, end, { do: 'rename', key, to, replace }, end === Infinity ? undefined : { was: 'done', at })
const at = (start: number, end: number, key: string, value: string | undefined, is?: At): Operation =>
  op(start, end, { do: 'read', key }, value === undefined ? { was: 'missing' } : { was: 'read', value, at: is })

const verdictOf = (operations: Operation[]): string => check({ operations, watches: [] }).verdict

const good: Record<string, () => Operation[]> = {
  'nothing at all': () => [],
  'one after the other': () => [read(1, 2, undefined), write(3, 4, 'a'), read(5, 6, 'a'), remove(7, 8), read(9, 10, undefined)],
  'a read during a write shows the old or the new': () => [write(1, 2, 'a'), write(3, 9, 'b'), read(4, 5, 'a'), read(6, 7, 'b')],
  'writes at once, in either order': () => [write(1, 5, 'a'), write(2, 6, 'b'), read(7, 8, 'a'), read(9, 10, 'a')],
  'an unanswered write that took effect late': () => [
    write(1, 2, 'a'),
    write(3, Infinity, 'b'),
    read(4, 5, 'a'),
    read(6, 7, 'a'),
    read(8, 9, 'b'),
  ],
  'an unanswered write that never took effect': () => [write(1, 2, 'a'), write(3, Infinity, 'b'), read(4, 50, 'a')],
  'an unanswered write over a later one': () => [write(1, Infinity, 'a'), write(2, 3, 'b'), read(4, 5, 'b'), read(6, 7, 'a')],
  'unanswered appends, some done': () => [
    append(1, Infinity, 'a'),
    append(2, Infinity, 'b'),
    append(3, 4, 'c'),
    read(5, 6, 'bc'),
    read(7, 8, 'bca'),
  ],
  'compare and set, one of two': () => [
    write(1, 2, 'a', v(1)),
    write(3, 6, 'b', v(2), v(1)),
    refused(3, 7, 'c', v(1)),
    read(8, 9, 'b', v(2)),
  ],
  'an unanswered compare and set that won': () => [
    write(1, 2, 'a', v(1)),
    write(3, Infinity, 'b', undefined, v(1)),
    refused(4, 5, 'c', v(1)),
    read(6, 7, 'b', v(2)),
  ],
  'made by an unanswered write, then found': () => [
    write(1, Infinity, 'a'),
    refused(2, 3, 'b', 'none'),
    read(4, 5, 'a', v(1)),
    write(6, 7, 'c', v(2), v(1)),
  ],
  'a transaction read whole': () => [
    txn(1, 8, [put('x', '1'), put('y', '1')], [done, done]),
    op(2, 3, { do: 'read', key: 'x' }, { was: 'missing' }),
    txn(4, 9, [get('x'), get('y')], [shows('1'), shows('1')]),
  ],
  'a file that is renamed, with its life and version': () => [
    write(1, 2, 'a', v(1)),
    write(3, 4, 'b', v(2)),
    rename(5, 8, 'x', 'y', v(2)),
    at(6, 7, 'x', 'b', v(2)),
    at(9, 10, 'y', 'b', v(2)),
    at(11, 12, 'x', undefined),
    op(13, 14, { do: 'append', key: 'y', value: 'c' }, { was: 'done', at: v(3) }),
  ],
  'an unanswered rename of what an unanswered write made': () => [
    write(1, Infinity, 'a'),
    rename(2, Infinity, 'x', 'y'),
    at(3, 4, 'x', undefined),
    at(5, 6, 'y', 'a', v(1)),
  ],
  'a rename that is refused while something is there': () => [
    write(1, 2, 'a'),
    op(3, 9, { do: 'write', key: 'y', value: 'b' }, { was: 'done' }),
    op(4, 5, { do: 'rename', key: 'x', to: 'y', replace: false }, { was: 'refused', kind: 'exists' }),
    rename(10, 11, 'x', 'y', undefined, true),
    at(12, 13, 'y', 'a'),
  ],
}

const bad: Record<string, () => Operation[]> = {
  'a stale read': () => [write(1, 2, 'a'), write(3, 4, 'b'), read(5, 6, 'a')],
  'a read of what was never written': () => [write(1, 2, 'a'), read(3, 4, 'z')],
  'a read of the future': () => [read(1, 2, 'a'), write(3, 4, 'a')],
  'new, then old': () => [write(1, 2, 'a'), write(3, 20, 'b'), read(4, 5, 'b'), read(6, 7, 'a')],
  'new for one, then old for another, of an unanswered write': () => [
    write(1, 2, 'a'),
    write(3, Infinity, 'b'),
    read(4, 5, 'b'),
    read(6, 7, 'a'),
  ],
  'two readers that see two orders': () => [write(1, 20, 'a'), write(2, 21, 'b'), read(3, 4, 'a'), read(5, 6, 'b'), read(7, 8, 'a')],
  'a lost update': () => [write(1, 2, 'a', v(1)), write(3, 6, 'b', v(2), v(1)), write(4, 7, 'c', v(3)), read(8, 9, 'b', v(2))],
  'both win one compare and set': () => [write(1, 2, 'a', v(1)), write(3, 6, 'b', v(2), v(1)), write(4, 7, 'c', v(2), v(1))],
  'both make one file': () => [write(1, 5, 'a', v(1), 'none'), write(2, 6, 'b', v(1, 8), 'none')],
  'a refused compare and set that had every right': () => [write(1, 2, 'a', v(1)), refused(3, 4, 'b', v(1)), read(5, 6, 'a', v(1))],
  'an acknowledged write that is lost': () => [write(1, 2, 'a'), read(3, 4, undefined)],
  'an append that was done twice': () => [append(1, 2, 'a'), read(3, 4, 'aa')],
  'an append that was done again by a retry, later': () => [append(1, 2, 'a'), append(3, 4, 'b'), read(5, 6, 'aba')],
  'an append that was refused and shows': () => [append(1, 2, 'a'), read(3, 4, 'ab')],
  'an unanswered append, done twice': () => [append(1, Infinity, 'a'), append(2, 3, 'b'), read(4, 5, 'aba')],
  'a write answered before, over one answered after': () => [
    write(1, 2, 'a'),
    write(3, 4, 'b'),
    write(5, Infinity, 'c'),
    read(6, 7, 'c'),
    read(8, 9, 'b'),
  ],
  'a removed file that comes back': () => [write(1, 2, 'a'), remove(3, 4), read(5, 6, undefined), read(7, 8, 'a')],
  'one file removed twice': () => [write(1, 2, 'a'), remove(3, 7), remove(4, 8)],
  'a file that is another and claims to be the same': () => [write(1, 2, 'a', v(1)), remove(3, 4), write(5, 6, 'b', v(2))],
  'one version with two values': () => [write(1, 9, 'a', v(1)), write(2, 9, 'b', v(2)), read(3, 9, 'a', v(2))],
  'a version that is skipped': () => [write(1, 2, 'a', v(1)), write(3, 4, 'b', v(3))],
  'a transaction that is split': () => [
    txn(1, 2, [put('x', '1'), put('y', '1')], [done, done]),
    txn(3, 9, [put('x', '2'), put('y', '2')], [done, done]),
    txn(4, 5, [get('x'), get('y')], [shows('2'), shows('1')]),
  ],
  'a transaction that is seen by one file before the other': () => [
    txn(1, 2, [put('x', '1'), put('y', '1')], [done, done]),
    txn(3, 20, [put('x', '2'), put('y', '2')], [done, done]),
    op(4, 5, { do: 'read', key: 'x' }, shows('2')),
    op(6, 7, { do: 'read', key: 'y' }, shows('1')),
  ],
  'a transaction whose condition did not hold': () => [
    txn(1, 2, [put('x', '1')], [done]),
    txn(3, 4, [put('y', '2')], [done], [{ key: 'x', is: 'none' }]),
  ],
  'an unanswered transaction, half done': () => [
    txn(1, 2, [put('x', '1'), put('y', '1')], [done, done]),
    txn(3, Infinity, [put('x', '2'), put('y', '2')]),
    txn(4, 5, [get('x'), get('y')], [shows('2'), shows('1')]),
  ],
  'two transactions that both found the other undone (write skew)': () => [
    txn(1, 5, [put('x', '1')], [done], [{ key: 'y', is: 'none' }]),
    txn(2, 6, [put('y', '1')], [done], [{ key: 'x', is: 'none' }]),
  ],
}

const badRenames: Record<string, () => Operation[]> = {
  'a renamed file that is at both places': () => [write(1, 2, 'a'), rename(3, 4, 'x', 'y'), at(5, 6, 'y', 'a'), at(7, 8, 'x', 'a')],
  'a renamed file that is nowhere': () => [write(1, 2, 'a'), rename(3, 9, 'x', 'y'), at(4, 5, 'x', undefined), at(6, 7, 'y', undefined)],
  'a rename that brings an older value': () => [write(1, 2, 'a'), write(3, 4, 'b'), rename(5, 6, 'x', 'y'), at(7, 8, 'y', 'a')],
  'a rename that makes another version': () => [write(1, 2, 'a', v(1)), rename(3, 4, 'x', 'y', v(2))],
  'a rename over what is there': () => [
    write(1, 2, 'a'),
    op(3, 4, { do: 'write', key: 'y', value: 'b' }, { was: 'done' }),
    rename(5, 6, 'x', 'y'),
  ],
  'one file renamed to two places': () => [write(1, 2, 'a'), rename(3, 8, 'x', 'y'), rename(4, 9, 'x', 'z')],
  'an unanswered rename, half done': () => [write(1, 2, 'a'), rename(3, Infinity, 'x', 'y'), at(4, 5, 'y', 'a'), at(6, 7, 'x', 'a')],
  'a rename refused for what is not there': () => [
    write(1, 2, 'a'),
    op(3, 4, { do: 'rename', key: 'x', to: 'y', replace: false }, { was: 'refused', kind: 'exists' }),
    at(5, 6, 'y', undefined),
  ],
}

describe('taken', () => {
  for (const [name, history] of Object.entries(good)) it(name, () => expect(verdictOf(history())).toBe('ok'))
})

describe('refused', () => {
  for (const [name, history] of Object.entries({ ...bad, ...badRenames })) it(name, () => expect(verdictOf(history())).toBe('violation'))
})

it('says what is wrong, and no more than that', () => {
  lastId = 0
  const noise = Array.from({ length: 40 }, (_, index) => [
    write(index * 10 + 1, index * 10 + 4, `n${index}`),
    read(index * 10 + 5, index * 10 + 8, `n${index}`),
  ])
  const bug = [write(500, 503, 'old'), write(504, 506, 'new'), read(508, 509, 'old')]
  const after = [write(600, 603, 'later'), read(604, 605, 'later')]
  const { problems } = check({ operations: [...noise.flat(), ...bug, ...after], watches: [] })
  expect(problems).toMatchInlineSnapshot(`
    [
      "no order explains these 85 operations on x; of them

      #69 c69  [-]                                   write x "n34"  => done
      #71 c71      [-]                               write x "n35"  => done
      #73 c73          [-]                           write x "n36"  => done
      #75 c75              [-]                       write x "n37"  => done
      #77 c77                  [--]                  write x "n38"  => done
      #79 c79                       [-]              write x "n39"  => done
      #81 c81                           [-]          write x "old"  => done
      #82 c82                               [-]      write x "new"  => done
      #83 c83                                   [-]  read x  => "old"
      (and 76 others)

    An order that fits ends with #69 #71 #73 #75 #77 #79 #81 #82 and leaves x: "new";
    then one of these has to come, and none can: #83",
    ]
  `)
})

it('gives up within its limits, and says so', () => {
  // Unanswered appends of one key: no version to go by, and no order of them gives what is read.
  const operations = Array.from({ length: 30 }, (_, index) => append(index + 1, Infinity, String.fromCharCode(97 + (index % 26))))
  operations.push(read(100, 101, 'zyxwvutsrqponmlkjihgfedcba-'))
  const began = performance.now()
  const report = check({ operations, watches: [] }, { limits: { configurations_max: 20_000, ms_max: 2_000 } })
  expect(report.verdict).toBe('unknown')
  expect(report.problems[0]).toContain('20000 configurations')
  expect(performance.now() - began).toBeLessThan(5_000)
})
