/**
 * Watches against the history they were part of: each change once, in order, none left out, none made up, over every connection.
 *
 * W1 Places (revision, ordinal) only grow.
 * W2 Every change that was answered is told, at its revision, unless it is outside of what the watcher saw.
 * W3 Everything that is told was asked for before: by an operation answered with that revision, or by one that was not answered,
 *    each for one revision, and then all of it.
 * W4 Versions of a file leave nothing out: each is one more than that told before it, and a new file begins at 1.
 * W5 Watchers agree on every revision.
 * W6 What a watcher that saw all was told adds up to what reads show at the end.
 */
import { keysOf, stepsTaken } from './history.ts'
import type { History, Key, Operation, Step, Told, WatchStory } from './history.ts'
import { printTimeline } from './print.ts'

/** @param final what reads show after the last change; keys that are not there are missing */
export function checkWatches(history: History, final?: ReadonlyMap<Key, string>): string[] {
  const problems: string[] = []
  const byRevision = new Map<number, string>()
  for (const watch of history.watches) {
    problems.push(
      ...checkOrder(watch),
      ...checkVersions(watch),
      ...checkTold(watch, history.operations),
      ...checkAsked(watch, history.operations),
    )
    for (const [revision, text] of textsOf(watch)) {
      const known = byRevision.get(revision)
      if (known === undefined) byRevision.set(revision, text)
      else if (known !== text) problems.push(`watchers were told two things of revision ${revision}: ${known} and ${text} (${watch.name})`) // W5
    }
    if (final !== undefined && watch.isWhole) problems.push(...checkFinal(watch, final))
  }
  return problems
}

/** W1 */
function checkOrder({ name, from, told }: WatchStory): string[] {
  return told.flatMap((event, index) => {
    const before = told[index - 1]
    if (event.revision < from) return [`watch ${name} from ${from} was told of ${print(event)}`]
    const isAfter =
      before === undefined || event.revision > before.revision || (event.revision === before.revision && event.ordinal > before.ordinal)
    return isAfter ? [] : [`watch ${name} was told of ${print(event)} after ${print(before)}`]
  })
}

/** W4 */
function checkVersions({ name, isWhole, told }: WatchStory): string[] {
  const last = new Map<Key, Told>()
  return told.flatMap((event) => {
    const before = last.get(event.key)
    if (event.type === 'rename') return movedWrongly(name, isWhole, event, last)
    last.set(event.key, event)
    if (before === undefined && !isWhole) return []
    const isThere = before !== undefined && before.type !== 'remove'
    const { life, version } = event.at
    const fits =
      event.type === 'create'
        ? !isThere && version === 1 && before?.at.life !== life
        : isThere && before.at.life === life && version === before.at.version + (event.type === 'change' ? 1 : 0)
    return fits ? [] : [`watch ${name} was told of ${print(event)} ${before === undefined ? 'first' : `after ${print(before)}`}`]
  })
}

/** W4: the file that was there is elsewhere now, as it was. What it replaced was told of before. */
function movedWrongly(name: string, isWhole: boolean, event: Told, last: Map<Key, Told>): string[] {
  const source = last.get(event.from!)
  const target = last.get(event.key)
  last.set(event.from!, { ...event, type: 'remove', key: event.from! })
  last.set(event.key, event)
  const isThere = source === undefined ? !isWhole : source.type !== 'remove' && sameAt(source, event.at)
  const isFree = target === undefined || target.type === 'remove'
  return isThere && isFree ? [] : [`watch ${name} was told of ${print(event)} after ${source === undefined ? 'nothing' : print(source)}`]
}

/** W2 */
function checkTold({ name, from, upTo, told }: WatchStory, operations: readonly Operation[]): string[] {
  // Of two events of one revision at one place the later one is what is there then.
  const places = new Map(told.map((event) => [`${event.revision} ${event.key}`, event]))
  return operations.flatMap((operation) => {
    const revision = operation.result?.revision
    if (revision === undefined || revision < from || revision > upTo) return []
    return stepsTaken(operation).flatMap(({ step, result }) => {
      if (step.do === 'read' || result?.was !== 'done') return []
      const event = places.get(`${revision} ${step.do === 'rename' ? step.to : step.key}`)
      if (event === undefined) return [`watch ${name} was not told of\n${printTimeline([operation])}`]
      const isSame = fits(event, step) && (result.at === undefined || sameAt(event, result.at))
      return isSame ? [] : [`watch ${name} was told ${print(event)} of\n${printTimeline([operation])}`]
    })
  })
}

/** W3 */
function checkAsked(watch: WatchStory, operations: readonly Operation[]): string[] {
  const answered = new Map<number, Operation[]>()
  const open = new Map<Key, Operation[]>()
  for (const operation of operations) {
    const revision = operation.result?.revision
    // Answered, but not with a revision: it may be any.
    if (revision === undefined) for (const key of keysOf(operation.request)) open.set(key, [...(open.get(key) ?? []), operation])
    else if (stepsTaken(operation).some(({ step }) => step.do !== 'read'))
      answered.set(revision, [...(answered.get(revision) ?? []), operation])
  }
  const problems: string[] = []
  const spent = new Set<Operation>()
  for (const [revision, events] of groupsOf(watch)) {
    const known = answered.get(revision)
    if (known !== undefined) {
      if (known.length > 1) problems.push(`two changes were answered with revision ${revision}:\n${printTimeline(known)}`)
      const asked = known.flatMap((operation) => stepsTaken(operation))
      for (const event of events) {
        if (!asked.some(({ step }) => fits(event, step) || isReplaced(event, step)))
          problems.push(`watch ${watch.name} was told of ${print(event)}, which no change of that revision made`)
        if (known.every(({ start }) => start > event.tick))
          problems.push(`watch ${watch.name} was told of ${print(event)} before it was asked for`)
      }
      continue
    }
    const maker = open
      .get(events[0]!.key)
      ?.find((operation) => !spent.has(operation) && operation.start < events[0]!.tick && makes(operation, events))
    if (maker === undefined)
      problems.push(`watch ${watch.name} was told of ${events.map(print).join(', ')}, which nobody asked for (any more)`)
    else spent.add(maker)
  }
  return problems
}

/** Whether one branch of an unanswered operation makes exactly these changes. */
function makes({ request, result }: Operation, events: readonly Told[]): boolean {
  if (request.do === 'stale' || request.do === 'read' || result?.was === 'refused') return false
  const branches = request.do === 'txn' ? [request.then, request.else] : [[request]]
  return branches.some((steps) => {
    const changes = steps.filter(({ do: verb }) => verb !== 'read')
    const own = events.filter((event) => !changes.some((step) => isReplaced(event, step)))
    return changes.length === own.length && changes.every((step) => events.some((event) => fits(event, step)))
  })
}

/** What a rename took the place of. */
function isReplaced(event: Told, step: Step): boolean {
  return event.type === 'remove' && step.do === 'rename' && step.replace && event.key === step.to
}

/** Whether this step may have been told so. */
function fits(event: Told, step: Step): boolean {
  if (step.do === 'rename') {
    const isOther = typeof step.match === 'object' && !sameAt(event, step.match)
    return event.type === 'rename' && event.key === step.to && event.from === step.key && !isOther
  }
  if (step.do === 'read' || event.type === 'rename' || event.key !== step.key) return false
  if (typeof step.match === 'object') {
    const before = event.type === 'remove' ? event.at.version : event.at.version - 1
    if (event.at.life !== step.match.life || before !== step.match.version) return false
  }
  if (step.do === 'delete') return event.type === 'remove'
  if (event.type === 'remove' || (step.match === 'none' && event.type !== 'create')) return false
  if (event.value === undefined) return true
  return step.do === 'write' ? event.value === step.value : event.value.endsWith(step.value)
}

/** W6 */
function checkFinal(watch: WatchStory, final: ReadonlyMap<Key, string>): string[] {
  const state = new Map<Key, Told>()
  for (const event of watch.told) {
    if (event.type === 'remove') state.delete(event.key)
    else state.set(event.key, event.type === 'rename' ? { ...event, value: event.value ?? state.get(event.from!)?.value } : event)
    if (event.type === 'rename') state.delete(event.from!)
  }
  const keys = new Set([...state.keys(), ...final.keys()])
  return [...keys].flatMap((key) => {
    const event = state.get(key)
    const value = final.get(key)
    const isSame = event === undefined ? value === undefined : value !== undefined && (event.value === undefined || event.value === value)
    return isSame
      ? []
      : [`watch ${watch.name} ends with ${event === undefined ? `no ${key}` : print(event)}; a read shows ${value ?? 'nothing'}`]
  })
}

function groupsOf({ told }: WatchStory): Map<number, Told[]> {
  const groups = new Map<number, Told[]>()
  for (const event of told) groups.set(event.revision, [...(groups.get(event.revision) ?? []), event])
  return groups
}

function textsOf(watch: WatchStory): [number, string][] {
  return [...groupsOf(watch)].map(([revision, events]) => [
    revision,
    JSON.stringify(events.map(({ type, key, from, at, value, ordinal }) => [ordinal, type, key, from, at.life, at.version, value])),
  ])
}

function sameAt(event: Told, at: Told['at']): boolean {
  return event.at.life === at.life && event.at.version === at.version
}

function print({ type, key, from, revision, ordinal, at, value }: Told): string {
  const shown = value === undefined ? '' : ` ${JSON.stringify(value.slice(-40))}`
  return `${type} ${from === undefined ? '' : `${from} to `}${key}${shown} (file ${at.life} v${at.version}) at ${revision}.${ordinal}`
}
