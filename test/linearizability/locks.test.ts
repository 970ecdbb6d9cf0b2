/** Locks: what is taken, and each rule broken once. */
import { describe, expect, it } from 'vitest'
import { check } from './check.ts'
import type { LockStory } from './history.ts'
import { fromLines, toLines } from './history.ts'

function taking(client: string, token: number, asked: number, had: number, until: number, rest: Partial<LockStory> = {}): LockStory {
  return { key: 'lock', client, lease: `of ${client} ${token}`, token, asked, had, until, looks: [], ...rest }
}

const problemsOf = (locks: LockStory[]): string => check({ operations: [], watches: [], locks }).problems.join('\n')

describe('taken', () => {
  const right: Record<string, LockStory[]> = {
    'one after the other': [taking('a', 3, 0, 1, 5), taking('b', 7, 2, 6, 9), taking('a', 8, 9, 10, 12)],
    'two locks at once': [taking('a', 3, 0, 1, 5), taking('b', 4, 0, 1, 5, { key: 'other' })],
    'one whose holder could not be sure of it any more': [taking('a', 3, 0, 1, 5), taking('b', 7, 2, 5.1, 9)],
    'an answer that came when the lease was over': [taking('a', 3, 0, 30, 10), taking('b', 7, 12, 14, 40)],
    'the same one told twice': [taking('a', 3, 0, 1, 5, { lease: 'l' }), taking('a', 3, 2, 3, 5, { lease: 'l' })],
    'tokens of takings at once in either order': [taking('a', 9, 0, 20, 25), taking('b', 3, 1, 2, 10)],
    'what its holder finds': [taking('a', 3, 0, 1, 9, { looks: [{ from: 2, to: 3, lease: 'of a 3', token: 3 }] })],
    'what is found when it may be over': [taking('a', 3, 0, 1, 9, { looks: [{ from: 8, to: 10, lease: null, token: 0 }] })],
  }
  for (const [name, locks] of Object.entries(right)) it(name, () => expect(problemsOf(locks)).toBe(''))
})

describe('refused', () => {
  const wrong: [string, LockStory[], string][] = [
    ['two holders at once', [taking('a', 3, 0, 1, 5), taking('b', 7, 2, 4, 9)], 'two have lock at once'],
    ['one inside the other', [taking('a', 3, 0, 1, 50), taking('b', 7, 2, 4, 9), taking('c', 8, 20, 21, 22)], 'c asked at 20 ms'],
    ['a token that does not grow', [taking('a', 7, 0, 1, 5), taking('b', 3, 6, 8, 9)], 'no higher token'],
    ['one token for two', [taking('a', 3, 0, 1, 5), taking('b', 3, 0, 6, 9)], 'one token'],
    ['a lock stolen', [taking('a', 3, 0, 1, 9, { looks: [{ from: 2, to: 3, lease: 'of b 4', token: 4 }] })], 'found lease of b 4'],
    ['a lock that is gone', [taking('a', 3, 0, 1, 9, { looks: [{ from: 2, to: 3, lease: null, token: 0 }] })], 'found nothing'],
  ]
  for (const [name, locks, problem] of wrong) it(name, () => expect(problemsOf(locks)).toContain(problem))
})

it('they are kept with a history', () => {
  const locks = [taking('a', 3, 0, 1, 5)]
  expect(fromLines(toLines({ operations: [], watches: [], locks }))).toEqual({ operations: [], watches: [], locks })
})
