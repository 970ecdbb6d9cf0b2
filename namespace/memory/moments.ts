/** From positions and times to revisions of one memory server, and who waits for a revision that is still to come. */
import { checkDeadline, type Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type { ReadOptions } from '../file-server.ts'
import { encodePosition, positionOf, type Position, type StorePosition } from '../position.ts'
import type { History } from './history.ts'
import { newest } from './tree.ts'

export class Moments {
  readonly #history: History
  readonly #store: string
  readonly #incarnation: string
  #latest: Position
  readonly #waiting = new Set<() => void>()

  constructor(history: History, store: string, incarnation: string) {
    this.#history = history
    this.#store = store
    this.#incarnation = incarnation
    this.#latest = this.position(0, 0)
  }

  position(revision: number, ordinal: number): Position {
    const element: StorePosition = { store: this.#store, incarnation: this.#incarnation, revision, ordinal }
    return [element]
  }

  /** The position that a read as of `revision` shows; one object for all that show the newest. */
  shown(revision: number): Position {
    if (revision !== newest) return this.position(revision, 0)
    if (this.#latest[0]!.revision !== this.#history.revision) this.#latest = this.position(this.#history.revision, 0)
    return this.#latest
  }

  /** There is a new revision. */
  advance(): void {
    for (const wake of this.#waiting) wake()
  }

  /**
   * The revision that a read with these options shows.
   * @throws NineError `compacted`, `invalid`, `deadline`
   */
  async revisionFor(context: Context, options: ReadOptions, op: string, path: string): Promise<number> {
    if (options.minPosition !== undefined) {
      // Positions of other stores are not ours to wait for.
      const wanted = positionOf(options.minPosition, this.#store)
      if (wanted !== undefined) await this.#until(this.#own(options.minPosition, op, path), context, op, path)
    }
    const { at } = options
    if (at === undefined) return newest
    if (typeof at !== 'number') return this.past(this.#own(at, op, path), op, path)
    if (!Number.isFinite(at)) throw new NineError({ kind: 'invalid', op, path, message: `${at} is no time` })
    const revision = this.#history.revisionAt(at)
    return this.past(revision ?? -1, op, path)
  }

  /** @throws NineError `compacted` when `revision` is no longer kept, `invalid` when it is still to come */
  past(revision: number, op: string, path: string): number {
    if (revision > this.#history.revision) {
      throw new NineError({ kind: 'invalid', op, path, message: `revision ${revision} is still to come` })
    }
    if (revision >= this.#history.firstKept - 1) return revision
    const resume = encodePosition(this.position(this.#history.firstKept, 0))
    throw new NineError({ kind: 'compacted', op, path, message: 'the past is no longer kept that far back', resume })
  }

  #own(position: Position, op: string, path: string): number {
    const element = positionOf(position, this.#store)
    if (element?.incarnation === this.#incarnation) return element.revision
    const resume = encodePosition(this.shown(newest))
    throw new NineError({ kind: 'compacted', op, path, message: 'the position is of another store', resume })
  }

  async #until(revision: number, context: Context, op: string, path: string): Promise<void> {
    while (this.#history.revision < revision) {
      checkDeadline(context, op, path)
      await new Promise<void>((resolve) => {
        const left = context.deadline - performance.now()
        const timer = left === Infinity ? undefined : setTimeout(wake, Math.min(Math.max(1, Math.ceil(left)), 2 ** 31 - 1))
        const waiting = this.#waiting
        function wake(): void {
          clearTimeout(timer)
          waiting.delete(wake)
          context.signal?.removeEventListener('abort', wake)
          resolve()
        }
        waiting.add(wake)
        context.signal?.addEventListener('abort', wake)
      })
    }
  }
}
