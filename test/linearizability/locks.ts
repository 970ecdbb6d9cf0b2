/**
 * Locks: what their takers were told, against each other. A taker surely has a lock from when it was told so until it let go, or until
 * its lease may be over: `until` of its story. What it may have had without being told is not looked at.
 *
 * K1 Nobody else surely has it meanwhile: a lock whose lease lives is not given to another.
 * K2 Tokens grow: who asked after another had it gets a higher one; no two takings have one token, unless under one lease.
 * K3 Whoever looks meanwhile finds it there, under that lease and with that token.
 */
import type { Key, LockStory } from './history.ts'

/** @returns what is wrong, for people; none: nothing is */
export function checkLocks(stories: readonly LockStory[]): string[] {
  const byKey = new Map<Key, LockStory[]>()
  for (const story of stories) byKey.set(story.key, [...(byKey.get(story.key) ?? []), story])
  return [...byKey.values()].flatMap((own) => [...checkHolders(own), ...checkTokens(own), ...own.flatMap(checkLooks)])
}

/** K1 */
function checkHolders(stories: readonly LockStory[]): string[] {
  const problems: string[] = []
  let last: LockStory | undefined
  for (const story of stories.toSorted((a, b) => a.had - b.had)) {
    if (story.until <= story.had) continue
    if (last !== undefined && story.had < last.until && story.lease !== last.lease) {
      problems.push(`two have ${story.key} at once:\n${print(last)}\n${print(story)}`)
    }
    if (last === undefined || story.until > last.until) last = story
  }
  return problems
}

/** K2 */
function checkTokens(stories: readonly LockStory[]): string[] {
  const problems: string[] = []
  const byToken = new Map<number, LockStory>()
  for (const story of stories) {
    const known = byToken.get(story.token)
    if (known !== undefined && known.lease !== story.lease)
      problems.push(`two have one token of ${story.key}:\n${print(known)}\n${print(story)}`)
    byToken.set(story.token, story)
  }
  const byEnd = stories.toSorted((a, b) => a.had - b.had)
  let highest: LockStory | undefined
  let ended = 0
  for (const story of stories.toSorted((a, b) => a.asked - b.asked)) {
    for (; byEnd[ended] !== undefined && byEnd[ended]!.had < story.asked; ended++) {
      if (highest === undefined || byEnd[ended]!.token > highest.token) highest = byEnd[ended]
    }
    if (highest !== undefined && highest.lease !== story.lease && story.token <= highest.token) {
      problems.push(`a later taking of ${story.key} has no higher token:\n${print(highest)}\n${print(story)}`)
    }
  }
  return problems
}

/** K3 */
function checkLooks(story: LockStory): string[] {
  return story.looks
    .filter(({ from, to, lease, token }) => from > story.had && to < story.until && (lease !== story.lease || token !== story.token))
    .map(({ from, to, lease, token }) => {
      const found = lease === null ? 'nothing' : `lease ${lease}, token ${token}`
      return `who has ${story.key} found ${found} there between ${Math.round(from)} and ${Math.round(to)} ms:\n${print(story)}`
    })
}

function print({ client, lease, token, asked, had, until }: LockStory): string {
  const [from, at, to] = [asked, had, until].map((ms) => Math.round(ms))
  return `  ${client} asked at ${from} ms, has it from ${at} to ${to} ms, lease ${lease}, token ${token}`
}
