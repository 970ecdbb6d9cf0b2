/**
 * One watch out of several: the events of all members as they come, each member's in its own order.
 *
 * V1 Memory is bounded by one batch a member: the next is asked for when the one before was taken. Members queue and end
 *    with `overloaded` themselves.
 * V2 A batch's position says for every member where to go on, so a watch that resumes misses nothing. Where two members
 *    are of one store the earlier of their positions is told, so that events of the other may come again. An event's
 *    position has the event's own store first.
 * V3 The end of one member ends the watch: its failure is told with a `resume` for all of them.
 * V4 return() ends a next() that waits, and every member.
 */
import { isNineError, NineError, toNineError } from '../errors.ts'
import type { WatchBatch, WatchEvent } from '../file-server.ts'
import { compareInStore, decodePosition, encodePosition, positionOf } from '../position.ts'
import type { Position, StorePosition } from '../position.ts'

export interface WatchMember {
  /** Where the member goes on when it has told nothing yet: the next wanted position. Empty: it keeps no history. */
  readonly position: Position
  readonly batches: AsyncIterable<WatchBatch>
}

/** @throws (from next) NineError as the members, with a resume for all of them */
export function mergeWatches(members: readonly WatchMember[]): AsyncIterableIterator<WatchBatch> {
  return new MergedWatch(members)
}

class MergedWatch implements AsyncIterableIterator<WatchBatch> {
  readonly #iterators: AsyncIterator<WatchBatch>[]
  readonly #positions: Position[]
  /** Batches that came and were not taken yet, by member. */ // V1
  readonly #arrived: { readonly member: number; readonly batch: WatchBatch }[] = []
  #end: { readonly error: NineError | undefined } | undefined
  #waiting: (() => void)[] = []

  constructor(members: readonly WatchMember[]) {
    this.#positions = members.map((member) => member.position)
    this.#iterators = members.map((member) => member.batches[Symbol.asyncIterator]())
    for (let i = 0; i < members.length; i++) this.#ask(i)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<WatchBatch>> {
    for (;;) {
      const arrived = this.#arrived.shift()
      if (arrived !== undefined) {
        const value = this.#merge(arrived.member, arrived.batch)
        if (this.#end === undefined) this.#ask(arrived.member)
        return { done: false, value }
      }
      if (this.#end !== undefined) {
        const { error } = this.#end
        this.#end = { error: undefined }
        if (error !== undefined) throw error
        return { done: true, value: undefined }
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }

  async return(): Promise<IteratorResult<WatchBatch>> {
    this.#arrived.length = 0
    this.#finish(undefined)
    this.#end = { error: undefined }
    return { done: true, value: undefined }
  }

  #ask(member: number): void {
    this.#iterators[member]!.next().then(
      (result) => {
        if (this.#end !== undefined) return
        if (result.done === true) return this.#finish(undefined)
        this.#arrived.push({ member, batch: result.value })
        this.#wake()
      },
      (error: unknown) => this.#finish(this.#withResume(member, error)),
    )
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  /** V3, V4 */
  #finish(error: NineError | undefined): void {
    if (this.#end === undefined) {
      this.#end = { error }
      // A member that cannot be ended properly has nobody to tell.
      for (const iterator of this.#iterators) iterator.return?.().catch(() => undefined)
    }
    this.#wake()
  }

  #merge(member: number, batch: WatchBatch): WatchBatch {
    const events = batch.events.map((event): WatchEvent => ({ ...event, position: this.#ownFirst(member, event.position) }))
    this.#positions[member] = batch.position
    return { events, position: this.#vector(member, batch.position) }
  }

  /** The event's own position, and behind it where to go on with the others. */ // V2
  #ownFirst(member: number, position: Position): Position {
    const others = this.#vector(member, position).filter(({ store }) => positionOf(position, store) === undefined)
    return [...position, ...others]
  }

  /** The positions of all members, with `position` in the place of one's. */ // V2
  #vector(member: number, position: Position): Position {
    const elements = new Map<string, StorePosition>()
    for (let i = 0; i < this.#positions.length; i++) {
      for (const element of i === member ? position : this.#positions[i]!) {
        const known = elements.get(element.store)
        if (known === undefined || compareInStore(element, known) < 0) elements.set(element.store, element)
      }
    }
    return [...elements.values()].sort((a, b) => (a.store < b.store ? -1 : 1))
  }

  #withResume(member: number, error: unknown): NineError {
    const failure = toNineError(error, 'namespace.watch')
    if (!isNineError(failure) || failure.resume === undefined) return failure
    const resume = encodePosition(this.#vector(member, decodePosition(failure.resume)))
    return new NineError({ ...failure.fields, resume, cause: failure })
  }
}
