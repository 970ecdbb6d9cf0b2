/**
 * Is there an order of these operations that respects real time and that the specification answers as they were answered?
 * Wing & Gong, "Testing and verifying concurrent objects" (1993), with the memoised configurations and just-in-time choice of
 * Lowe, "Testing for linearizability" (2017).
 *
 * S1 An operation may come next when no other that is left ended before it began.
 * S2 What is answered here and leaves the state as it is goes next without a choice: having gone takes nothing from the others.
 * S3 A configuration (answered operations left, state) is not tried again with the same or more of the unanswered ones used up.
 * S4 Past `configurations_max` or `ms_max` the verdict is `unknown`; it never hangs.
 */
import { stepsTaken } from './history.ts'
import type { Operation } from './history.ts'
import { Registers } from './registers.ts'
import type { State } from './registers.ts'

export interface SearchLimits {
  readonly configurations_max: number
  readonly ms_max: number
}

export type Found =
  | { readonly verdict: 'ok'; readonly order: readonly Operation[] }
  | {
      readonly verdict: 'violation'
      /** The longest order that was found, the state it leaves, and what had to come next and cannot. */
      readonly order: readonly Operation[]
      readonly state: string
      readonly stuck: readonly Operation[]
    }
  | { readonly verdict: 'unknown'; readonly why: string }

export function search(operations: readonly Operation[], limits: SearchLimits): Found {
  return new Search(operations, limits).run()
}

interface Frame {
  /** Operations ordered on the way into this frame, to be taken back. */
  readonly ordered: number
  readonly state: State
  readonly used: bigint
  /** What may come next: the answered, then, asked for only when they have failed, the unanswered. */
  choices: { readonly index: number; readonly state: State }[]
  next: number
  hasUnanswered: boolean
}

class Search {
  readonly #limits: SearchLimits
  readonly #model: Registers
  /** Answered ones by beginning, linked: `#next[i]` is the one after i that is left; n is the head and the end. */
  readonly #answered: readonly Operation[]
  /** Whether they leave another state, by their answers. */
  readonly #changes: readonly boolean[]
  readonly #next: number[]
  readonly #previous: number[]
  readonly #unanswered: readonly Operation[]
  /** Indices in order; of unanswered ones n + 1 + index. */
  readonly #order: number[] = []
  readonly #tried = new Map<string, bigint[]>()
  #configurations = 0
  #best: { order: readonly Operation[]; state: State; stuck: readonly Operation[] } | undefined
  #bestCount = -1

  constructor(operations: readonly Operation[], limits: SearchLimits) {
    this.#limits = limits
    this.#model = new Registers(operations)
    const byStart = operations.toSorted((a, b) => a.start - b.start)
    this.#answered = byStart.filter(({ result }) => result !== undefined)
    this.#changes = this.#answered.map((operation) => stepsTaken(operation).some(({ step }) => step.do !== 'read'))
    this.#unanswered = byStart.filter(({ result }) => result === undefined)
    const n = this.#answered.length
    this.#next = Array.from({ length: n + 1 }, (_, index) => (index + 1) % (n + 1))
    this.#previous = Array.from({ length: n + 1 }, (_, index) => (index + n) % (n + 1))
  }

  run(): Found {
    const until = performance.now() + this.#limits.ms_max
    const stack: Frame[] = [this.#enter(this.#model.initial, 0n, 0)]
    for (;;) {
      if (this.#isDone()) return { verdict: 'ok', order: this.#orderNow() }
      const frame = stack.at(-1)
      if (frame === undefined) return this.#refuted()
      if (frame.next === frame.choices.length && !frame.hasUnanswered) {
        frame.hasUnanswered = true
        frame.choices = this.#unansweredChoices(frame)
        frame.next = 0
      }
      const choice = frame.choices[frame.next++]
      if (choice === undefined) {
        this.#note(frame)
        this.#takeBack(frame.ordered)
        stack.pop()
        continue
      }
      if (++this.#configurations > this.#limits.configurations_max) return tooMany(`${this.#limits.configurations_max} configurations`)
      if (this.#configurations % 256 === 0 && performance.now() > until) return tooMany(`${this.#limits.ms_max} ms`) // S4
      this.#take(choice.index)
      const extra = choice.index - this.#answered.length - 1
      stack.push(this.#enter(choice.state, extra < 0 ? frame.used : frame.used | (1n << BigInt(extra)), 1))
    }
  }

  /** @param ordered operations ordered by the choice that led here */
  #enter(state: State, used: bigint, ordered: number): Frame {
    const taken = ordered + this.#takeQuiet(state)
    const open = this.#open()
    const isKnown = this.#isKnown(`${open.join(' ')}|${state.join(' ')}`, used)
    return { ordered: taken, state, used, choices: isKnown ? [] : this.#answeredChoices(open, state), next: 0, hasUnanswered: isKnown }
  }

  /** S2 @returns how many went */
  #takeQuiet(state: State): number {
    let count = 0
    for (let isMore = true; isMore;) {
      isMore = false
      for (const index of this.#open()) {
        const left = this.#model.step(state, this.#answered[index]!)
        if (left.length !== 1 || left[0] !== state) continue
        this.#take(index)
        count++
        isMore = true
      }
    }
    return count
  }

  /** Answered ones that may come next. With the first end among them they tell all that are left. */ // S1
  #open(): number[] {
    const end = this.#answered.length
    const open: number[] = []
    let ends = Infinity
    for (let index = this.#next[end]!; index !== end; index = this.#next[index]!) {
      const operation = this.#answered[index]!
      if (operation.start > ends) break
      ends = Math.min(ends, operation.end)
      open.push(index)
    }
    return open
  }

  #answeredChoices(open: readonly number[], state: State): Frame['choices'] {
    const choices: Frame['choices'] = []
    for (const index of open) {
      // The others would have gone.
      if (!this.#changes[index]!) continue
      for (const left of this.#model.step(state, this.#answered[index]!)) choices.push({ index, state: left })
    }
    // The order that the store itself tells is the most likely.
    return choices.sort((a, b) => hintOf(this.#answered[a.index]!) - hintOf(this.#answered[b.index]!))
  }

  #unansweredChoices({ state, used }: Frame): Frame['choices'] {
    const first = this.#answered.length
    let ends = Infinity
    for (const index of this.#open()) ends = Math.min(ends, this.#answered[index]!.end)
    const choices: Frame['choices'] = []
    for (const [extra, operation] of this.#unanswered.entries()) {
      if (operation.start > ends) break
      if ((used >> BigInt(extra)) & 1n) continue
      for (const left of this.#model.step(state, operation)) if (left !== state) choices.push({ index: first + 1 + extra, state: left })
    }
    return choices
  }

  /** S3 */
  #isKnown(key: string, used: bigint): boolean {
    const tried = this.#tried.get(key)
    if (tried === undefined) {
      this.#tried.set(key, [used])
      return false
    }
    if (tried.some((fewer) => (fewer & ~used) === 0n)) return true
    tried.push(used)
    return false
  }

  #take(index: number): void {
    this.#order.push(index)
    if (index > this.#answered.length) return
    this.#next[this.#previous[index]!] = this.#next[index]!
    this.#previous[this.#next[index]!] = this.#previous[index]!
  }

  #takeBack(count: number): void {
    for (let left = count; left > 0; left--) {
      const index = this.#order.pop()!
      if (index > this.#answered.length) continue
      this.#next[this.#previous[index]!] = index
      this.#previous[this.#next[index]!] = index
    }
  }

  #isDone(): boolean {
    return this.#next[this.#answered.length] === this.#answered.length
  }

  #note(frame: Frame): void {
    const count = this.#order.reduce((sum, index) => sum + (index < this.#answered.length ? 1 : 0), 0)
    if (count <= this.#bestCount) return
    this.#bestCount = count
    this.#best = { order: this.#orderNow(), state: frame.state, stuck: this.#open().map((index) => this.#answered[index]!) }
  }

  #orderNow(): Operation[] {
    const n = this.#answered.length
    return this.#order.map((index) => (index < n ? this.#answered[index]! : this.#unanswered[index - n - 1]!))
  }

  #refuted(): Found {
    const { order, state, stuck } = this.#best!
    return { verdict: 'violation', order, state: this.#model.describe(state), stuck }
  }
}

function hintOf({ result, end }: Operation): number {
  return result?.revision === undefined ? end + 1e12 : result.revision
}

function tooMany(what: string): Found {
  return { verdict: 'unknown', why: `no order was found within ${what}, and none ruled out` }
}
