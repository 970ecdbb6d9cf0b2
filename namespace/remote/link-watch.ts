/**
 * A watch that goes on over connections: after a loss it starts again at the first position that has not been read.
 *
 * T1 A batch that was read is not read again, and none is left out: the position of the last one is where the next watch begins.
 * T2 Lost before the first batch of a watch from "now", which comes at once: where now was is not known, so the watch ends with
 *    `unavailable`.
 */
import type { Context } from '../context.ts'
import { isNineError, NineError } from '../errors.ts'
import type { WatchBatch, WatchOptions } from '../file-server.ts'
import { encodePosition } from '../position.ts'
import type { WatchArgs } from '../wire/watch.ts'
import { isOfLeaving } from './link.ts'
import type { Link } from './link.ts'
import type { WatchReceiver } from './watch-receiver.ts'

const done: IteratorResult<WatchBatch> = { done: true, value: undefined }

export class LinkWatch implements AsyncIterableIterator<WatchBatch> {
  readonly #link: Link
  readonly #context: Context
  readonly #args: WatchArgs
  #from: WatchOptions['from']
  #receiver: WatchReceiver | undefined
  /** The first start, begun when the watch was asked for. */
  #starting: Promise<WatchReceiver> | undefined
  #isEnded = false
  #wake: (() => void) | undefined

  constructor(link: Link, context: Context, args: WatchArgs) {
    this.#link = link
    this.#context = context
    this.#args = args
    this.#from = args.options?.from
    this.#starting = this.#start()
    // Told by next(), if anybody asks.
    this.#starting.catch(() => undefined)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<WatchBatch>> {
    for (;;) {
      if (this.#isEnded) return done
      try {
        this.#starting ??= this.#receiver === undefined ? this.#start() : undefined
        if (this.#starting !== undefined) await this.#starting
        this.#starting = undefined
        if (this.#isEnded || this.#receiver === undefined) return done
        const next = await this.#receiver.next()
        if (next.done === true) this.#isEnded = true
        else this.#from = next.value.position // T1
        return next
      } catch (error) {
        if (this.#isEnded) return done
        const isLost = this.#receiver?.isLost === true || (isNineError(error) && isOfLeaving(error))
        this.#receiver = undefined
        this.#starting = undefined
        if (isLost && this.#from !== undefined) continue
        this.#isEnded = true
        throw this.#withResume(error)
      }
    }
  }

  return(): Promise<IteratorResult<WatchBatch>> {
    this.#isEnded = true
    this.#wake?.()
    void this.#receiver?.return()
    return Promise.resolve(done)
  }

  #start(): Promise<WatchReceiver> {
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(new Error('ended'))
      this.#wake = stop
      this.#context.signal?.addEventListener('abort', stop, { once: true })
      this.#link.whenReady((peer, error) => {
        this.#context.signal?.removeEventListener('abort', stop)
        if (this.#isEnded || this.#context.signal?.aborted === true) {
          this.#isEnded = true
          return stop()
        }
        if (peer === undefined) return reject(error ?? new Error('no connection'))
        const options = { ...this.#args.options, from: this.#from }
        this.#receiver = peer.watch(this.#context, { ...this.#args, options }, { seq: 0, settled: 0, client: undefined, target: 0 })
        resolve(this.#receiver)
      })
    })
  }

  #withResume(error: unknown): unknown {
    if (!(error instanceof NineError) || error.resume !== undefined || this.#from === undefined || typeof this.#from === 'number')
      return error
    return new NineError({ ...error.fields, path: this.#args.path, resume: encodePosition(this.#from), cause: error })
  }
}
