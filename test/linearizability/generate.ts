/**
 * Histories that are linearizable because they were made so: a plan is carried out one operation after the other on a small store,
 * and each operation is then stretched to begin before its moment and end after it. Some lose their answer; some of those never happen.
 */
import fc from 'fast-check'
import type { At, History, Key, Match, Operation, RefusalKind, Request, Result, Step, StepResult, Told } from './history.ts'

/** Numbers are taken modulo what there is to choose from, so that any plan can be carried out, and shrunk. */
export interface Planned {
  readonly do: 'read' | 'write' | 'append' | 'delete' | 'txn' | 'stale' | 'rename'
  readonly key: number
  readonly other: number
  /** 0: no condition; 1: what is there now; 2: what once was; 3: none. */
  readonly match: number
  /** How long before and after its moment it was under way. */
  readonly lead: number
  readonly lag: number
  /** 0: lost, and done; 1: lost, and never done; else answered. */
  readonly fate: number
}

export interface PlanOptions {
  readonly operations_max: number
  readonly keys: number
  /** Answers tell lives, versions and revisions. */
  readonly isTold: boolean
  readonly verbs?: readonly Planned['do'][]
  /** Of how many operations one loses its answer. */
  readonly lossOneIn?: number
  readonly span?: number
}

export function plans({ operations_max, keys, verbs, lossOneIn = 8, span = 4 }: PlanOptions): fc.Arbitrary<Planned[]> {
  const planned = fc.record({
    do: fc.constantFrom(...(verbs ?? (['read', 'read', 'write', 'append', 'delete', 'txn'] as const))),
    key: fc.nat(keys - 1),
    other: fc.nat(keys - 1),
    match: fc.nat(3),
    lead: fc.nat(span * 10),
    lag: fc.nat(span * 10),
    fate: fc.nat(lossOneIn * 2),
  })
  return fc.array(planned, { minLength: 1, maxLength: operations_max })
}

interface File {
  readonly value: string
  readonly at: At
  readonly changed: number
}

type Files = ReadonlyMap<Key, File>

interface Moment {
  readonly request: Request
  readonly result: Result | undefined
  readonly from: number
  readonly to: number
}

/** The history of a plan, with the story of a watch that saw all of it. */
export function carryOut(plan: readonly Planned[], { isTold }: Pick<PlanOptions, 'isTold'>): History {
  const store = new SmallStore()
  const moments: Moment[] = []
  const tellings: { at: number; told: Omit<Told, 'tick'> }[] = []
  for (const [index, planned] of plan.entries()) {
    const now = (index + 1) * 10
    const request = store.requestOf(planned, index)
    const span = { from: now - planned.lead, to: now + planned.lag }
    if (planned.fate === 1) {
      moments.push({ request, result: undefined, ...span })
      continue
    }
    const { result, told } = store.perform(request)
    for (const event of told) tellings.push({ at: now, told: event })
    moments.push({ request, result: planned.fate === 0 ? undefined : isTold ? result : withoutVersions(result), ...span })
  }
  return numbered(moments, tellings, store.revision)
}

/** Times become numbers; what ends when another begins overlaps with it. */
function numbered(moments: readonly Moment[], tellings: readonly { at: number; told: Omit<Told, 'tick'> }[], upTo: number): History {
  const times = [
    ...moments.flatMap(({ from, to }, index) => [
      { at: from, rank: 0, index, what: 'start' },
      { at: to, rank: 2, index, what: 'end' },
    ]),
    ...tellings.map(({ at }, index) => ({ at, rank: 1, index, what: 'told' })),
  ].sort((a, b) => a.at - b.at || a.rank - b.rank)
  const ticks = new Map(times.map(({ what, index }, tick) => [`${what} ${index}`, tick + 1]))
  const free: number[] = []
  const operations = moments.map(({ request, result }, index): Operation => {
    const start = ticks.get(`start ${index}`)!
    const end = result === undefined ? Infinity : ticks.get(`end ${index}`)!
    const column = free.findIndex((until) => until < start)
    const client = column < 0 ? free.length : column
    free[client] = end
    return { id: index + 1, client: `c${client + 1}`, request, start, end, result }
  })
  const told = tellings.map(({ told: event }, index) => ({ ...event, tick: ticks.get(`told ${index}`)! }))
  return { operations, watches: [{ name: 'all', from: 1, isWhole: true, upTo, told }] }
}

class SmallStore {
  revision = 0
  #files: Files = new Map()
  readonly #seen: { key: Key; at: At }[] = []
  #lives = 0

  requestOf({ do: verb, key: number, other, match, lead }: Planned, index: number): Request {
    const key = `k${number}`
    const value = `v${index}`
    if (verb === 'stale') return { do: 'stale', key }
    if (verb === 'read') return { do: 'read', key }
    if (verb === 'delete') return { do: 'delete', key, match: this.#match(key, match, index) }
    if (verb === 'rename') {
      const to = other === number ? `${key}b` : `k${other}`
      return { do: 'rename', key, to, replace: lead % 2 === 0, match: this.#match(key, match, index) }
    }
    if (verb !== 'txn') return { do: verb, key, value, match: this.#match(key, match, index) }
    const second = `k${other}`
    const condition = this.#match(key, match, index)
    const then: Step[] = [{ do: 'write', key, value }]
    if (second !== key) then.push(lead % 2 === 0 ? { do: 'append', key: second, value } : { do: 'delete', key: second })
    return { do: 'txn', if: condition === undefined ? [] : [{ key, is: condition }], then, else: [{ do: 'read', key }] }
  }

  perform(request: Request): { result: Result; told: Omit<Told, 'tick'>[] } {
    if (request.do === 'stale') return { result: { ...this.#read(this.#files, request.key), revision: this.revision }, told: [] }
    const holds = request.do !== 'txn' || request.if.every(({ key, is }) => isMet(this.#files.get(key), is))
    const steps = request.do === 'txn' ? (holds ? request.then : request.else) : [request]
    const files = new Map(this.#files)
    const told: Omit<Told, 'tick'>[] = []
    const results: StepResult[] = []
    const lives = this.#lives
    for (const step of steps) {
      const result = this.#step(files, step, told)
      if (typeof result === 'string') {
        this.#lives = lives
        return { result: { was: 'refused', kind: result }, told: [] }
      }
      results.push(result)
    }
    this.#files = files
    if (told.length > 0) this.revision++
    for (const { key, at } of told) this.#seen.push({ key, at })
    const result: Result = request.do === 'txn' ? { was: 'branch', branch: holds ? 'then' : 'else', results } : results[0]!
    return { result: { ...result, revision: this.revision }, told }
  }

  #step(files: Map<Key, File>, step: Step, told: Omit<Told, 'tick'>[]): StepResult | RefusalKind {
    const { key } = step
    const file = files.get(key)
    const revision = this.revision + 1
    if (step.do === 'read') return this.#read(files, key)
    if ((step.do === 'delete' || step.do === 'rename') && file === undefined) return 'not_found'
    if (step.match !== undefined && !isMet(file, step.match)) return 'conflict'
    const ordinal = told.length
    if (step.do === 'delete') {
      files.delete(key)
      told.push({ type: 'remove', key, revision, ordinal, at: file!.at })
      return { was: 'done', at: file!.at }
    }
    if (step.do === 'rename') {
      const there = files.get(step.to)
      if (there !== undefined && !step.replace) return 'exists'
      if (there !== undefined) told.push({ type: 'remove', key: step.to, revision, ordinal, at: there.at })
      files.delete(key)
      files.set(step.to, file!)
      told.push({ type: 'rename', key: step.to, from: key, revision, ordinal: told.length, at: file!.at, value: file!.value })
      return { was: 'done', at: file!.at }
    }
    const value = step.do === 'append' ? (file?.value ?? '') + step.value : step.value
    const at = file === undefined ? { life: ++this.#lives, version: 1 } : { life: file.at.life, version: file.at.version + 1 }
    files.set(key, { value, at, changed: revision })
    told.push({ type: file === undefined ? 'create' : 'change', key, revision, ordinal, at, value })
    return { was: 'done', at }
  }

  #read(files: Files, key: Key): StepResult {
    const file = files.get(key)
    return file === undefined ? { was: 'missing' } : { was: 'read', value: file.value, at: file.at, changed: file.changed }
  }

  #match(key: Key, how: number, index: number): Match | undefined {
    const once = this.#seen.filter((row) => row.key === key)
    if (how === 1) return this.#files.get(key)?.at ?? 'none'
    if (how === 2) return once[index % Math.max(1, once.length)]?.at
    return how === 3 ? 'none' : undefined
  }
}

function isMet(file: File | undefined, is: Match): boolean {
  if (is === 'none') return file === undefined
  return file !== undefined && (is === 'exists' || (file.at.life === is.life && file.at.version === is.version))
}

function withoutVersions(result: Result): Result {
  const bare = (one: StepResult): StepResult => (one.was === 'read' ? { was: 'read', value: one.value } : { was: one.was })
  if (result.was === 'refused') return { was: 'refused', kind: result.kind }
  return result.was === 'branch' ? { was: 'branch', branch: result.branch, results: result.results.map(bare) } : bare(result)
}
