/**
 * What a store of files does, one operation after another: the specification that histories are held against. Files are
 * registers with a life and a version; a transaction looks at many and changes all or nothing.
 *
 * M1 A change of a file makes its version one more; a file that is made again has another life and version 1.
 * M2 The life of a file that an unanswered write made is guessed: one of those that answers tell of and nobody claims to have
 *    begun, each once, or one that nobody was ever told of (-1).
 * M3 Where a history tells nothing of lives and versions, states do not carry them: two writes of one value leave one state.
 * M4 A version that an answer claims for another operation, or shows with another value, is not reached: it is one change.
 * M5 A rename takes a file to another key as it is, life and version. Where there are any, lives are guessed for all keys alike, and what a
 *    read shows at one key is claimed by none.
 */
import { keysOf, roamingKeys, stepsTaken } from './history.ts'
import type { At, Key, Match, Operation, RefusalKind, Rename, Request, Step, StepResult, Txn } from './history.ts'

interface Register {
  /** undefined: no file. */
  readonly value: string | undefined
  readonly life: number
  readonly version: number
  /** Guesses that were used up. */ // M2
  readonly spent: readonly number[]
}

/** One number a key, in the order the keys came: the register there, by its number. */
export type State = readonly number[]

interface Claim {
  /** The change that left this version, where its answer said so. */
  by: number | undefined
  value: string | undefined
}

export class Registers {
  readonly initial: State
  readonly #index: ReadonlyMap<Key, number>
  readonly #tracksVersions: boolean
  /** Registers by number, and their numbers. */
  readonly #known: Register[] = []
  readonly #numbers = new Map<string, number>()
  readonly #claims = new Map<string, Claim>()
  /** Lives by key that are told of and that no answer says who began. */
  readonly #guesses = new Map<Key, Set<number>>()
  readonly #hasRenames: boolean

  constructor(operations: readonly Operation[]) {
    const keys = new Set(operations.flatMap(({ request }) => keysOf(request)))
    this.#hasRenames = roamingKeys(operations).size > 0
    this.#index = new Map([...keys].map((key, index) => [key, index]))
    this.#tracksVersions = operations.some(({ request, result }) => matchesOf(request).length > 0 || tellsVersions({ request, result }))
    const nothing = this.#number({ value: undefined, life: -1, version: 0, spent: [] })
    this.initial = [...keys].map(() => nothing)
    if (this.#tracksVersions) this.#learn(operations)
  }

  /** The states that `operation` may leave, answered as it was; none when it cannot have happened here. */
  step(state: State, { id, request, result }: Operation): State[] {
    if (request.do === 'stale') return result === undefined ? [] : [state]
    if (request.do === 'txn') return this.#txn(state, id, request, result)
    if (result === undefined) return this.#steps([state], id, [request], undefined)
    if (result.was === 'branch') return []
    if (result.was === 'refused') return this.#isRefused(state, request, result.kind) ? [state] : []
    return this.#steps([state], id, [request], [result])
  }

  describe(state: State): string {
    const rows = [...this.#index].map(([key, index]) => {
      const { value, life, version } = this.#known[state[index]!]!
      if (value === undefined) return `${key}: no file`
      return `${key}: ${JSON.stringify(value)}${this.#tracksVersions ? ` (file ${life < 0 ? '?' : life}, version ${version})` : ''}`
    })
    return rows.join('; ')
  }

  #txn(state: State, id: number, request: Txn, result: Operation['result']): State[] {
    const branch = request.if.every(({ key, is }) => isMet(this.#at(state, key), is)) ? 'then' : 'else'
    if (result === undefined) return this.#steps([state], id, request[branch], undefined)
    // Refused: some operation of the branch failed, and so all of it.
    if (result.was === 'refused') return this.#steps([state], undefined, request[branch], undefined).length === 0 ? [state] : []
    return result.was === 'branch' && result.branch === branch ? this.#steps([state], id, request[branch], result.results) : []
  }

  /** One after the other, each answered as told; one that fails fails all. @param id undefined: whatever is claimed (M4) */
  #steps(states: State[], id: number | undefined, steps: readonly Step[], results: readonly StepResult[] | undefined): State[] {
    let current = states
    for (const [index, step] of steps.entries()) current = current.flatMap((state) => this.#step(state, id, step, results?.[index]))
    return current
  }

  #step(state: State, id: number | undefined, step: Step, result: StepResult | undefined): State[] {
    const before = this.#at(state, step.key)
    if (step.do === 'read') return isShown(before, result) ? [state] : []
    if (result !== undefined && result.was !== 'done') return []
    if (step.match !== undefined && !isMet(before, step.match)) return []
    const told = result?.at
    if (step.do === 'rename') return this.#rename(state, step, before, told)
    if (step.do === 'delete') {
      if (before.value === undefined || (told !== undefined && !isMet(before, told))) return []
      return [this.#put(state, step.key, { value: undefined, life: -1, version: 0, spent: before.spent })]
    }
    const value = step.do === 'append' ? (before.value ?? '') + step.value : step.value
    if (!this.#tracksVersions) return [this.#put(state, step.key, { ...before, value })] // M3
    const version = before.value === undefined ? 1 : before.version + 1 // M1
    if (told !== undefined && told.version !== version) return []
    return this.#livesAfter(step.key, before, told)
      .filter((life) => this.#isFree(step.key, { life, version }, id, value))
      .map((life) => this.#put(state, step.key, this.#written(step.key, before, value, life, version)))
  }

  /** M5 */
  #rename(state: State, { key, to, replace }: Rename, before: Register, told: At | undefined): State[] {
    const target = this.#at(state, to)
    if (before.value === undefined || (told !== undefined && !isMet(before, told)) || (!replace && target.value !== undefined)) return []
    const left = this.#put(state, key, { value: undefined, life: -1, version: 0, spent: before.spent })
    return [this.#put(left, to, { ...before, spent: target.spent })]
  }

  #isRefused(state: State, step: Step, kind: RefusalKind): boolean {
    const register = this.#at(state, step.key)
    if (step.do !== 'rename') return isRefused(register, step, kind)
    if (register.value === undefined) return kind === 'not_found'
    if (step.match !== undefined && !isMet(register, step.match)) return kind === 'conflict'
    return kind === 'exists' && !step.replace && this.#at(state, step.to).value !== undefined
  }

  #livesAfter(key: Key, before: Register, told: At | undefined): readonly number[] {
    if (before.value !== undefined) return told === undefined || told.life === before.life ? [before.life] : []
    if (told !== undefined) return [told.life]
    return [...[...(this.#guesses.get(this.#guessKey(key)) ?? [])].filter((life) => !before.spent.includes(life)), -1] // M2
  }

  #written(key: Key, before: Register, value: string, life: number, version: number): Register {
    const isGuess = before.value === undefined && this.#guesses.get(this.#guessKey(key))?.has(life) === true
    return { value, life, version, spent: isGuess ? [...before.spent, life].sort((a, b) => a - b) : before.spent }
  }

  /** M5 */
  #guessKey(key: Key): Key {
    return this.#hasRenames ? '' : key
  }

  /** M4 */
  #isFree(key: Key, at: At, id: number | undefined, value: string): boolean {
    const claim = id === undefined ? undefined : this.#claims.get(claimKey(key, at))
    if (claim === undefined) return true
    return (claim.by === undefined || claim.by === id) && (claim.value === undefined || claim.value === value)
  }

  #at(state: State, key: Key): Register {
    return this.#known[state[this.#index.get(key)!]!]!
  }

  #put(state: State, key: Key, register: Register): State {
    const index = this.#index.get(key)!
    const number = this.#number(register)
    return state[index] === number ? state : state.with(index, number)
  }

  #number(register: Register): number {
    const { value, life, version, spent } = register
    const text = `${life} ${version} ${spent.join(' ')}${value === undefined ? '' : `=${value}`}`
    let number = this.#numbers.get(text)
    if (number === undefined) {
      number = this.#known.push(register) - 1
      this.#numbers.set(text, number)
    }
    return number
  }

  /** What requests and answers say of lives and versions. */
  #learn(operations: readonly Operation[]): void {
    const begun = new Set<string>()
    const beginning = (key: Key, life: number): string => claimKey(this.#guessKey(key), { life, version: 1 })
    const mentioned: { key: Key; at: At }[] = []
    for (const operation of operations) {
      mentioned.push(...matchesOf(operation.request))
      for (const { step, result } of stepsTaken(operation)) {
        if (result === undefined || result.was === 'missing' || result.at === undefined) continue
        mentioned.push({ key: step.key, at: result.at })
        if (step.do === 'delete' || step.do === 'rename') continue
        const key = claimKey(step.key, result.at)
        const claim: Claim = this.#claims.get(key) ?? { by: undefined, value: undefined }
        if (result.was !== 'read') {
          claim.by = operation.id
          if (result.at.version === 1) begun.add(beginning(step.key, result.at.life))
        } else if (!this.#hasRenames) claim.value = result.value
        this.#claims.set(key, claim)
      }
    }
    for (const { key, at } of mentioned) {
      if (begun.has(beginning(key, at.life))) continue
      const lives = this.#guesses.get(this.#guessKey(key)) ?? new Set()
      this.#guesses.set(this.#guessKey(key), lives.add(at.life))
    }
  }
}

function isMet(register: Register, is: Match): boolean {
  if (is === 'none') return register.value === undefined
  if (register.value === undefined) return false
  return is === 'exists' || (register.life === is.life && register.version === is.version)
}

function isShown(register: Register, result: StepResult | undefined): boolean {
  if (result === undefined) return register.value !== undefined
  if (result.was === 'missing') return register.value === undefined
  return result.was === 'read' && register.value === result.value && (result.at === undefined || isMet(register, result.at))
}

function isRefused(register: Register, step: Exclude<Step, Rename>, kind: RefusalKind): boolean {
  if (step.do === 'read' || kind === 'exists') return false
  const isUnmet = step.match !== undefined && !isMet(register, step.match)
  if (kind === 'conflict') return isUnmet
  return register.value === undefined && (step.do === 'delete' || isUnmet)
}

function claimKey(key: Key, { life, version }: At): string {
  return `${life} ${version} ${key}`
}

function tellsVersions({ request, result }: Pick<Operation, 'request' | 'result'>): boolean {
  const results = result === undefined ? [] : result.was === 'branch' ? result.results : [result]
  return request.do !== 'stale' && results.some((one) => 'at' in one && one.at !== undefined)
}

/** Lives and versions that a request names. */
function matchesOf(request: Request): { key: Key; at: At }[] {
  if (request.do === 'stale') return []
  const steps = request.do === 'txn' ? [...request.then, ...request.else] : [request]
  const named = steps.map((step) => ({ key: step.key, at: 'match' in step ? step.match : undefined }))
  if (request.do === 'txn') named.push(...request.if.map(({ key, is }) => ({ key, at: is })))
  return named.filter((row): row is { key: Key; at: At } => typeof row.at === 'object')
}
