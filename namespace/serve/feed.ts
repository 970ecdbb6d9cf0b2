/**
 * A feed: records that come when they come, for any number of readers. What a service that is told things (rather than asked)
 * gives to `stream`.
 *
 * F1 A reader sees every record from its start on, in order. One that is too slow to take them ends with `overloaded`,
 *    after what waited for it; nobody else is held up by it.
 */
import { NineError } from '../errors.ts'
import { limits } from '../limits.ts'

export class Feed<T> {
  readonly #readers = new Set<FeedReader<T>>()
  readonly #waitingMax: number
  #isEnded = false

  /** @param waitingMax records that may wait for one reader */
  constructor(waitingMax: number = limits.feed_records_max) {
    this.#waitingMax = waitingMax
  }

  /** Readers right now. */
  get readers(): number {
    return this.#readers.size
  }

  /** Give a record to everyone who reads. Nobody reading: it is gone. */
  publish(record: T): void {
    for (const reader of this.#readers) reader.offer(record)
  }

  /** No more records: readers end when they have read what waits. */
  end(): void {
    this.#isEnded = true
    for (const reader of [...this.#readers]) reader.finish(undefined)
  }

  /** Records from now on, until the reader returns or the signal aborts. */
  read(signal?: AbortSignal): AsyncIterableIterator<T> {
    const reader = new FeedReader<T>(this.#waitingMax, (gone) => this.#readers.delete(gone), signal)
    if (this.#isEnded) reader.finish(undefined)
    else if (signal?.aborted !== true) this.#readers.add(reader)
    return reader
  }
}

class FeedReader<T> implements AsyncIterableIterator<T> {
  readonly #waitingMax: number
  readonly #onGone: (reader: FeedReader<T>) => void
  readonly #signal: AbortSignal | undefined
  #records: T[] = []
  #waiters: ((step: IteratorResult<T>) => void)[] = []
  #isFinished = false
  #error: NineError | undefined

  constructor(waitingMax: number, onGone: (reader: FeedReader<T>) => void, signal: AbortSignal | undefined) {
    this.#waitingMax = waitingMax
    this.#onGone = onGone
    this.#signal = signal
    if (signal?.aborted === true) this.#isFinished = true
    else signal?.addEventListener('abort', this.#drop, { once: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  offer(record: T): void {
    const waiter = this.#waiters.shift()
    if (waiter !== undefined) waiter({ done: false, value: record })
    else if (this.#records.length < this.#waitingMax) this.#records.push(record)
    else {
      const message = `the reader is ${this.#records.length} records behind`
      this.finish(new NineError({ kind: 'overloaded', op: 'serve.read', message })) // F1
    }
  }

  finish(error: NineError | undefined): void {
    if (this.#isFinished) return
    this.#isFinished = true
    this.#error = error
    this.#signal?.removeEventListener('abort', this.#drop)
    this.#onGone(this)
    for (const wake of this.#waiters.splice(0)) wake({ done: true, value: undefined })
  }

  async next(): Promise<IteratorResult<T>> {
    if (this.#records.length > 0) return { done: false, value: this.#records.shift()! }
    const error = this.#error
    this.#error = undefined
    if (error !== undefined) throw error
    if (this.#isFinished) return { done: true, value: undefined }
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  async return(): Promise<IteratorResult<T>> {
    this.#drop()
    return { done: true, value: undefined }
  }

  readonly #drop = (): void => {
    this.#records = []
    this.finish(undefined)
  }
}
