/**
 * What the revisions in the answers promise, beside linearizability: stale reads show a past, and never a mixture, a future or a
 * past that goes back; strict answers show revisions in the order of real time.
 *
 * P1 A read at revision R shows each file as its last change at or before R left it (where files are not renamed: see timeline.ts).
 * P2 No answer shows a change that had not been asked for when it was given.
 * P3 A read shows at least the revision that was asked for.
 * P4 Within one session with one run of a replica, revisions shown never go back.
 * P5 A strict answer shows at least what any answer before it showed; a change gets a revision above all of those.
 * P6 What a read shows, somebody wrote.
 */
import { roamingKeys } from './history.ts'
import type { History, Key, Operation, Request, Result, Step } from './history.ts'
import { printTimeline } from './print.ts'
import { Timeline } from './timeline.ts'

/** @returns what is wrong, for people; none: nothing is */
export function checkRevisions(history: History): string[] {
  const timeline = new Timeline(history)
  const problems = [...timeline.problems]
  const answered = history.operations.filter(({ result }) => result?.revision !== undefined)
  for (const operation of answered) {
    problems.push(...checkPast(operation, timeline))
    if (operation.request.do === 'stale' && operation.result!.revision! < (operation.request.min ?? 0)) {
      problems.push(`it shows less than was asked for:\n${printTimeline([operation])}`) // P3
    }
  }
  problems.push(
    ...checkMissing(history, timeline),
    ...checkFuture(answered),
    ...checkSessions(answered),
    ...checkRealTime(answered),
    ...checkWritten(history.operations),
  )
  return problems
}

/** P1 */
function checkPast(operation: Operation, timeline: Timeline): string[] {
  const { request, result } = operation
  if ((request.do !== 'stale' && request.do !== 'read') || result === undefined || timeline.roaming.has(request.key)) return []
  const last = timeline.lastAt(request.key, result.revision!)
  const wrong = (why: string): string[] => [`${why}:\n${printTimeline([operation])}`]
  if (result.was === 'missing') {
    return last === undefined || last.isRemoved === true
      ? []
      : wrong(`a file that ${last.by} put there at revision ${last.revision} is missing`)
  }
  if (result.was !== 'read' || last === undefined) return []
  if (result.changed !== undefined && result.changed > result.revision!) return wrong('the file is newer than the revision it is shown at')
  const isOther = last.isRemoved === true || (last.value !== undefined && last.value !== result.value)
  const isOlder = result.changed !== undefined && result.changed < last.revision
  return isOther || isOlder
    ? wrong(`by then ${last.by} had ${last.isRemoved === true ? 'removed' : 'changed'} it, at revision ${last.revision}`)
    : []
}

/** P1 for a file that was missing, of which no revision is told: at some time since the least that was asked for it was. */
function checkMissing({ operations }: History, timeline: Timeline): string[] {
  return operations.flatMap((operation) => {
    const { request, result, end } = operation
    if (request.do !== 'stale' || result?.was !== 'missing' || result.revision !== undefined || timeline.roaming.has(request.key)) return []
    const min = request.min ?? 0
    const last = timeline.lastAt(request.key, min)
    if (last === undefined || last.isRemoved === true) return []
    const isRemovedLater = timeline.changes.get(request.key)!.some(({ revision, isRemoved }) => revision > min && isRemoved === true)
    const mayBeRemoved = operations.some(
      (one) =>
        one.result === undefined &&
        one.start < end &&
        stepsOf(one.request).some((step) => step.do === 'delete' && step.key === request.key),
    )
    if (isRemovedLater || mayBeRemoved) return []
    return [`a file that ${last.by} put there at revision ${last.revision} is missing:\n${printTimeline([operation])}`]
  })
}

/** P2 */
function checkFuture(answered: readonly Operation[]): string[] {
  const changes = answered.filter(isChange).toSorted((a, b) => a.result!.revision! - b.result!.revision!)
  // Of the changes up to each, the one asked for last.
  const latest: Operation[] = []
  for (const change of changes) {
    const before = latest.at(-1)
    latest.push(before !== undefined && before.start > change.start ? before : change)
  }
  return answered.flatMap((operation) => {
    let low = 0
    let high = changes.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (changes[middle]!.result!.revision! <= operation.result!.revision!) low = middle + 1
      else high = middle
    }
    const newest = latest[low - 1]
    return newest === undefined || newest.start <= operation.end
      ? []
      : [`it shows a revision that takes in a change not yet asked for:\n${printTimeline([operation, newest])}`]
  })
}

/** P4 */
function checkSessions(answered: readonly Operation[]): string[] {
  const sessions = new Map<string, Operation[]>()
  for (const operation of answered) {
    if (operation.session === undefined) continue
    const list = sessions.get(operation.session) ?? []
    sessions.set(operation.session, list)
    list.push(operation)
  }
  return [...sessions.values()].flatMap((list) => neverBack(list, () => true, 'the revisions that one replica shows go back'))
}

/** P5 */
function checkRealTime(answered: readonly Operation[]): string[] {
  return neverBack(answered, ({ request }) => request.do !== 'stale', 'a strict answer shows an older state than an answer before it')
}

/** Each operation that `isHeld` shows at least what those that ended before it began showed; a change shows more. */
function neverBack(operations: readonly Operation[], isHeld: (operation: Operation) => boolean, what: string): string[] {
  const byEnd = operations.toSorted((a, b) => a.end - b.end)
  const problems: string[] = []
  let ended = 0
  let newest: Operation | undefined
  for (const operation of operations.toSorted((a, b) => a.start - b.start)) {
    for (; ended < byEnd.length && byEnd[ended]!.end < operation.start; ended++) {
      if (newest === undefined || byEnd[ended]!.result!.revision! > newest.result!.revision!) newest = byEnd[ended]
    }
    if (newest === undefined || !isHeld(operation)) continue
    const least = newest.result!.revision! + (isChange(operation) ? 1 : 0)
    if (operation.result!.revision! < least) problems.push(`${what}:\n${printTimeline([newest, operation])}`)
  }
  return problems
}

/** P6 */
function checkWritten(operations: readonly Operation[]): string[] {
  const values = new Map<string, { start: number; appends: boolean }[]>()
  const roaming = roamingKeys(operations)
  const placeOf = (key: Key): Key => (roaming.has(key) ? '*' : key)
  for (const { request, start } of operations) {
    for (const step of stepsOf(request)) {
      if (step.do !== 'write' && step.do !== 'append') continue
      const list = values.get(`${placeOf(step.key)} ${step.value}`) ?? []
      values.set(`${placeOf(step.key)} ${step.value}`, list)
      list.push({ start, appends: step.do === 'append' })
    }
  }
  const appended = new Set([...values].filter(([, list]) => list.some(({ appends }) => appends)).map(([text]) => text.split(' ')[0]!))
  return operations.flatMap((operation) => {
    const { request, result, end } = operation
    if (request.do !== 'stale' || result?.was !== 'read' || appended.has(placeOf(request.key))) return []
    const writers = values.get(`${placeOf(request.key)} ${result.value}`) ?? []
    return writers.some(({ start }) => start < end) ? [] : [`nobody had written what it shows:\n${printTimeline([operation])}`]
  })
}

function stepsOf(request: Request): readonly Step[] {
  if (request.do === 'txn') return [...request.then, ...request.else]
  return request.do === 'stale' ? [] : [request]
}

function isChange({ request, result }: Operation): boolean {
  const was = (result as Result).was
  if (was === 'done') return true
  if (was !== 'branch' || request.do !== 'txn' || result?.was !== 'branch') return false
  return request[result.branch].some((step) => step.do !== 'read')
}
