/**
 * What waits for one watcher: a bounded queue of events that is read as batches.
 *
 * Q1 Events come out in the order they were pushed, each once; what waits is given as one batch.
 * Q2 A full queue ends the watch with `overloaded`: what waits is still delivered, and `resume` names the first event
 *    that did not fit, so going on from there misses nothing.
 * Q3 return() and the signal end it at once and drop what waits. The owner hears of every end, once.
 */
import { NineError } from './errors.ts'
import type { WatchBatch, WatchEvent } from './file-server.ts'
import { limits } from './limits.ts'
import { encodePosition, positionOf, type Position } from './position.ts'

export interface WatchQueueOptions {
  /** Boundary named in errors, `folder.verb`. */
  readonly op: string
  /** The watched path, as given. */
  readonly path: string
  /** The next wanted position at the start. */
  readonly position: Position
  readonly signal?: AbortSignal | undefined
  /** Called once, when nothing more will be taken: forget the watcher. */
  readonly onEnd?: (() => void) | undefined
  /** Default: limits.watch_queue_events_max and watch_queue_bytes_max. */
  readonly eventsMax?: number | undefined
  readonly bytesMax?: number | undefined
}

/** What an event takes in a queue besides its bytes. */
const event_bytes = 512

interface Waiter {
  readonly resolve: (result: IteratorResult<WatchBatch>) => void
  readonly reject: (error: NineError) => void
}

const done: IteratorResult<WatchBatch> = { done: true, value: undefined }

export class WatchQueue implements AsyncIterableIterator<WatchBatch> {
  readonly #options: WatchQueueOptions
  readonly #eventsMax: number
  readonly #bytesMax: number
  readonly #waiters: Waiter[] = []
  #events: WatchEvent[] = []
  #bytes = 0
  /** The next wanted position after all that was pushed. */
  #position: Position
  #isEnded = false
  /** Told to the reader after what waits. */
  #error: NineError | undefined
  #isWakeDue = false

  constructor(options: WatchQueueOptions) {
    this.#options = options
    this.#eventsMax = options.eventsMax ?? limits.watch_queue_events_max
    this.#bytesMax = options.bytesMax ?? limits.watch_queue_bytes_max
    this.#position = options.position
    if (options.signal?.aborted === true) this.#stop()
    else options.signal?.addEventListener('abort', this.#stop, { once: true })
  }

  /** Whether nothing more is taken. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  /** Whether nothing waits to be read. */
  get isEmpty(): boolean {
    return this.#events.length === 0
  }

  /** Calls of next() that wait. */
  get readers(): number {
    return this.#waiters.length
  }

  /** Where a reader would go on after everything pushed so far. */
  get position(): Position {
    return this.#position
  }

  /** Append events; `next` is the position wanted after them. Returns false once the watch has ended. */
  push(events: readonly WatchEvent[], next: Position): boolean {
    if (this.#isEnded) return false
    for (const event of events) {
      const bytes = event_bytes + (event.bytes?.length ?? 0)
      // One event always fits, however large.
      const isFull = this.#events.length > 0 && (this.#events.length >= this.#eventsMax || this.#bytes + bytes > this.#bytesMax)
      if (isFull) {
        this.#overflow(event) // Q2
        return false
      }
      this.#events.push(event)
      this.#bytes += bytes
    }
    this.#position = next
    if (events.length > 0) this.#wakeSoon()
    return true
  }

  /** Everything before `position` has been seen: told at once when somebody waits and nothing else is there to tell. */
  progress(position: Position): void {
    if (this.#isEnded) return
    this.#position = position
    if (this.#events.length === 0) this.#waiters.shift()?.resolve({ done: false, value: { events: [], position } })
  }

  /** End with an error, after what waits has been read. */
  fail(error: NineError): void {
    if (this.#isEnded) return
    this.#error = error
    this.#end()
    this.#wake()
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<WatchBatch>> {
    if (this.#events.length > 0) return Promise.resolve({ done: false, value: this.#take() })
    if (this.#error !== undefined) {
      const error = this.#error
      this.#error = undefined
      return Promise.reject(error)
    }
    if (this.#isEnded) return Promise.resolve(done)
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  return(): Promise<IteratorResult<WatchBatch>> {
    this.#stop()
    return Promise.resolve(done)
  }

  /** Q3 */
  readonly #stop = (): void => {
    this.#events = []
    this.#bytes = 0
    this.#error = undefined
    this.#end()
    this.#wake()
  }

  #end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#options.signal?.removeEventListener('abort', this.#stop)
    this.#options.onEnd?.()
  }

  #overflow(first: WatchEvent): void {
    const { op, path } = this.#options
    this.#position = movedTo(this.#position, first.position)
    const message = `the watch is ${this.#events.length} events behind: read faster, or watch less`
    this.fail(new NineError({ kind: 'overloaded', op, path, message, resume: encodePosition(this.#position) }))
  }

  /** Pushes of one turn make one batch: whoever waits is woken after it. */
  #wakeSoon(): void {
    if (this.#waiters.length === 0 || this.#isWakeDue) return
    this.#isWakeDue = true
    queueMicrotask(this.#wake)
  }

  readonly #wake = (): void => {
    this.#isWakeDue = false
    if (this.#events.length > 0) this.#waiters.shift()?.resolve({ done: false, value: this.#take() })
    if (!this.#isEnded || this.#events.length > 0) return
    for (const waiter of this.#waiters.splice(0)) {
      const error = this.#error
      this.#error = undefined
      if (error === undefined) waiter.resolve(done)
      else waiter.reject(error)
    }
  }

  #take(): WatchBatch {
    const events = this.#events
    this.#events = []
    this.#bytes = 0
    return { events, position: this.#position }
  }
}

/** `position` with the elements of `to` in place of those of the same stores. */
function movedTo(position: Position, to: Position): Position {
  return [...position.filter((element) => positionOf(to, element.store) === undefined), ...to].sort((x, y) => (x.store < y.store ? -1 : 1))
}
