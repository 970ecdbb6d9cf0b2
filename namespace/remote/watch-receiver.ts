/**
 * The reading end of a watch that comes over a session.
 *
 * V1 What waits to be read is at most the credit given plus one batch: more credit goes out as batches are read.
 */
import type { NineError } from '../errors.ts'
import type { WatchBatch } from '../file-server.ts'

interface Waiter {
  readonly resolve: (result: IteratorResult<WatchBatch>) => void
  readonly reject: (error: NineError) => void
}

const done: IteratorResult<WatchBatch> = { done: true, value: undefined }

export class WatchReceiver implements AsyncIterableIterator<WatchBatch> {
  /** Called with bytes that have been read, in steps worth a frame. */
  readonly #giveCredit: (bytes: number) => void
  readonly #stop: () => void
  readonly #creditStep: number
  readonly #waiting: { readonly batch: WatchBatch; readonly bytes: number }[] = []
  readonly #waiters: Waiter[] = []
  /** Whether it ended because its session did. */
  isLost = false
  #read = 0
  #isEnded = false
  #error: NineError | undefined

  constructor(credit: number, giveCredit: (bytes: number) => void, stop: () => void) {
    this.#creditStep = credit / 4
    this.#giveCredit = giveCredit
    this.#stop = stop
  }

  push(batch: WatchBatch, bytes: number): void {
    if (this.#isEnded) return
    const waiter = this.#waiters.shift()
    if (waiter === undefined) {
      this.#waiting.push({ batch, bytes })
    } else {
      this.#wasRead(bytes)
      waiter.resolve({ done: false, value: batch })
    }
  }

  /** No more comes; with an error, that is told after what waits. */
  finish(error: NineError | undefined, isLost = false): void {
    if (this.#isEnded) return
    this.isLost = isLost
    this.#isEnded = true
    this.#error = error
    for (const waiter of this.#waiters.splice(0)) {
      if (this.#error === undefined) waiter.resolve(done)
      else waiter.reject(this.#error)
      this.#error = undefined
    }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<WatchBatch>> {
    const first = this.#waiting.shift()
    if (first !== undefined) {
      this.#wasRead(first.bytes)
      return Promise.resolve({ done: false, value: first.batch })
    }
    if (this.#error !== undefined) {
      const error = this.#error
      this.#error = undefined
      return Promise.reject(error)
    }
    if (this.#isEnded) return Promise.resolve(done)
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  return(): Promise<IteratorResult<WatchBatch>> {
    if (!this.#isEnded) this.#stop()
    this.#waiting.length = 0
    this.#error = undefined
    this.finish(undefined)
    return Promise.resolve(done)
  }

  /** V1 */
  #wasRead(bytes: number): void {
    this.#read += bytes
    if (this.#isEnded || this.#read < this.#creditStep) return
    this.#giveCredit(this.#read)
    this.#read = 0
  }
}
