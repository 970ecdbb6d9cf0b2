/**
 * Watches: every applied revision goes to the watchers of its paths, each with a bounded queue of its own.
 *
 * W1 A watcher sees every event it may see at or after its position, in order, once: it reads history until there is
 *    none left unread, and in that same turn of the event loop joins the live watchers.
 * W2 A queue that is full ends its watch with `overloaded`: what was queued is still delivered, and `resume` names the
 *    first event that was not.
 * W3 Rights are checked as they are when an event is delivered: by the records above the node, wherever it was moved.
 */
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { WatchBatch, WatchEvent, WatchOptions } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { isWithin, parentPath, type Path } from '../../namespace/path.ts'
import { encodePosition } from '../../namespace/position.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { NodeRecord, Revision, StoreEvent } from '../model.ts'
import { statOf, type Positions } from './answers.ts'

/** What watches need of their store. */
export interface WatchSource {
  readonly positions: Positions
  /** Newest applied revision. */
  revision(): number
  /** Oldest revision whose events history still has. */
  firstKept(): number
  /** Revisions from `from` on, in order, at most `max`; fewer only at the end. */
  readHistory(from: number, max: number): Revision[] | Promise<Revision[]>
  /** Whether the principal may see the node, which may be removed, and its bytes. */
  maySee(principal: Principal, node: NodeRecord): boolean
  mayRead(principal: Principal, node: NodeRecord): boolean
}

/** Revisions read from history at a time. */
const history_read_revisions = 256
/** What an event costs in a queue besides its bytes. */
const event_bytes = 512
const op = 'store.watch'

export class WatchHub {
  readonly source: WatchSource
  /** Live watchers by path. */
  readonly #direct = new Map<string, Set<Watcher>>()
  readonly #recursive = new Map<string, Set<Watcher>>()
  readonly #all = new Set<Watcher>()
  #started = 0
  #stamp = 0
  #progress: NodeJS.Timeout | undefined

  constructor(source: WatchSource) {
    this.source = source
  }

  get watchers(): number {
    return this.#started
  }

  /**
   * Positions are checked now, events flow once the iteration starts: nothing between is lost, history has it.
   * @throws NineError at the first next(): `compacted`, `overloaded`
   */
  watch(context: Context, path: Path, options: WatchOptions): AsyncIterable<WatchBatch> {
    const now = this.source.revision() + 1
    return { [Symbol.asyncIterator]: () => this.#start(context, path, options, now) }
  }

  #start(context: Context, path: Path, options: WatchOptions, now: number): AsyncIterator<WatchBatch> {
    const watcher = new Watcher(this, context, path, options)
    try {
      if (this.#started >= limits.watches_max) {
        throw new NineError({ kind: 'overloaded', op, path, message: `this node serves at most ${limits.watches_max} watches` })
      }
      const from = options.from
      if (from === undefined) watcher.revision = now
      else if (typeof from === 'number') watcher.revision = from
      else {
        const element = this.source.positions.own(from, this.source.revision(), op, path)
        watcher.revision = element.revision
        watcher.ordinal = element.ordinal
      }
      if (!Number.isSafeInteger(watcher.revision) || watcher.revision < 0 || watcher.revision > this.source.revision() + 1) {
        const message = `revision ${watcher.revision} is not one of this store, which is at ${this.source.revision()}`
        throw new NineError({ kind: 'invalid', op, path, message })
      }
      watcher.revision = Math.max(1, watcher.revision)
    } catch (error) {
      watcher.end(error as NineError)
      return watcher
    }
    this.#started++
    watcher.isStarted = true
    this.#progress ??= setInterval(() => this.#tellProgress(), limits.watch_progress_ms).unref()
    return watcher
  }

  /** Deliver what a revision did. Called in order, each revision once. */
  publish(revision: Revision): void {
    if (this.#all.size === 0) return
    let ordinal = 0
    for (const event of revision.events) {
      this.#stamp++
      const forms = new EventForms(this.source, revision, event, ordinal++)
      this.#deliver(event.path, event.subtree, forms)
      if (event.from !== undefined) this.#deliver(event.from, event.subtree, forms)
    }
  }

  #deliver(path: Path, subtree: boolean, forms: EventForms): void {
    this.#offerAll(this.#direct.get(path), forms)
    if (path !== '/') this.#offerAll(this.#direct.get(parentPath(path)), forms)
    for (let at = path; ; at = parentPath(at)) {
      this.#offerAll(this.#recursive.get(at), forms)
      if (at === '/') break
    }
    // What went or came with a whole tree concerns those who watch below it.
    if (subtree) for (const watcher of this.#all) if (isWithin(watcher.path, path)) this.#offer(watcher, forms)
  }

  #offerAll(watchers: Set<Watcher> | undefined, forms: EventForms): void {
    if (watchers !== undefined) for (const watcher of watchers) this.#offer(watcher, forms)
  }

  #offer(watcher: Watcher, forms: EventForms): void {
    // A rename reaches a watcher by both of its paths: once is enough.
    if (watcher.stamp === this.#stamp) return
    watcher.stamp = this.#stamp
    watcher.offer(forms)
  }

  join(watcher: Watcher): void {
    this.#all.add(watcher)
    const index = watcher.isRecursive ? this.#recursive : this.#direct
    const known = index.get(watcher.path)
    if (known === undefined) index.set(watcher.path, new Set([watcher]))
    else known.add(watcher)
  }

  leave(watcher: Watcher): void {
    if (watcher.isStarted) {
      watcher.isStarted = false
      if (--this.#started === 0) {
        clearInterval(this.#progress)
        this.#progress = undefined
      }
    }
    if (!this.#all.delete(watcher)) return
    const index = watcher.isRecursive ? this.#recursive : this.#direct
    const known = index.get(watcher.path)
    known?.delete(watcher)
    if (known?.size === 0) index.delete(watcher.path)
  }

  #tellProgress(): void {
    for (const watcher of this.#all) watcher.tellProgress()
  }

  /** End every watch: the store closes. */
  close(): void {
    for (const watcher of [...this.#all]) {
      watcher.end(new NineError({ kind: 'unavailable', op, path: watcher.path, message: 'the store has been closed', resume: watcher.resume() }))
    }
    clearInterval(this.#progress)
  }
}

/** One event in the few forms that watchers ask for; each is made once, however many watch. */
export class EventForms {
  readonly event: StoreEvent
  readonly revision: number
  readonly ordinal: number
  readonly bytes: number
  readonly #source: WatchSource
  readonly #of: Revision
  readonly #made: (WatchEvent | undefined)[] = [undefined, undefined, undefined, undefined]

  constructor(source: WatchSource, of: Revision, event: StoreEvent, ordinal: number) {
    this.#source = source
    this.#of = of
    this.event = event
    this.revision = of.revision
    this.ordinal = ordinal
    this.bytes = event.node.content.kind === 'inline' ? event.node.content.bytes.length : 0
  }

  form(withBytes: boolean, withPrevious: boolean): WatchEvent {
    const index = (withBytes ? 1 : 0) + (withPrevious ? 2 : 0)
    return (this.#made[index] ??= this.#make(withBytes, withPrevious))
  }

  #make(withBytes: boolean, withPrevious: boolean): WatchEvent {
    const { event } = this
    const { content } = event.node
    const hasBytes = withBytes && event.type !== 'remove' && event.node.kind === 'file' && content.kind !== 'blob'
    return {
      type: event.type,
      path: event.path,
      from: event.from,
      subtree: event.subtree,
      stat: statOf(event.node),
      previous: withPrevious && event.previous !== undefined ? statOf(event.previous) : undefined,
      bytes: hasBytes ? (content.kind === 'inline' ? content.bytes : new Uint8Array(0)) : undefined,
      actor: this.#of.actor,
      time: this.#of.time,
      cause: this.#of.cause,
      position: this.#source.positions.exactly(this.revision, this.ordinal),
    }
  }
}

/** One watch: reads history until it is level with the store, then takes what the hub offers. */
export class Watcher implements AsyncIterableIterator<WatchBatch> {
  readonly path: Path
  readonly isRecursive: boolean
  /** Next wanted place, as far as delivered or queued. */
  revision = 0
  ordinal = 0
  stamp = 0
  isStarted = false
  readonly #hub: WatchHub
  readonly #principal: Principal
  readonly #withBytes: boolean
  readonly #withPrevious: boolean
  readonly #signal: AbortSignal | undefined
  #isLive = false
  #queue: WatchEvent[] = []
  #queueBytes = 0
  /** Set when the queue was full: the place of the first event that did not fit. */
  #lost: { revision: number; ordinal: number } | undefined
  #waiting: ((result: IteratorResult<WatchBatch> | Promise<never>) => void) | undefined
  #ended: NineError | 'done' | undefined

  constructor(hub: WatchHub, context: Context, path: Path, options: WatchOptions) {
    this.#hub = hub
    this.path = path
    this.#principal = context.principal
    this.isRecursive = options.recursive === true
    this.#withBytes = options.statsOnly !== true
    this.#withPrevious = options.previous === true
    this.#signal = context.signal
    if (this.#signal?.aborted === true) this.#ended = 'done'
    else this.#signal?.addEventListener('abort', this.#stop)
  }

  readonly #stop = (): void => this.end('done');

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<WatchBatch>> {
    while (!this.#isLive && this.#ended === undefined) {
      const batch = await this.#readHistory()
      if (batch !== undefined) return { done: false, value: batch }
    }
    if (this.#queue.length > 0 && this.#ended !== 'done') return { done: false, value: this.#take() }
    if (this.#ended === 'done') return { done: true, value: undefined }
    if (this.#ended !== undefined) {
      const error = this.#ended
      this.#ended = 'done'
      throw error
    }
    return new Promise((resolve) => (this.#waiting = resolve))
  }

  async return(): Promise<IteratorResult<WatchBatch>> {
    this.end('done')
    return { done: true, value: undefined }
  }

  /** End the watch: what is queued is still delivered before an error, not after return() or the signal. */
  end(how: NineError | 'done'): void {
    this.#hub.leave(this)
    this.#signal?.removeEventListener('abort', this.#stop)
    if (this.#ended === 'done') return
    this.#ended ??= how
    if (how === 'done') {
      this.#ended = 'done'
      this.#queue = []
    }
    const waiting = this.#waiting
    if (waiting === undefined) return
    this.#waiting = undefined
    if (how === 'done') waiting({ done: true, value: undefined })
    else {
      this.#ended = 'done'
      waiting(Promise.reject(how))
    }
  }

  /** Where to go on after all that was queued. */
  resume(): string {
    const { revision, ordinal } = this.#lost ?? this.#level()
    return encodePosition(this.#hub.source.positions.exactly(revision, ordinal))
  }

  offer(forms: EventForms): void {
    if (this.#lost !== undefined) return
    const event = this.#seen(forms)
    if (event === undefined) return
    const bytes = event_bytes + (event.bytes === undefined ? 0 : forms.bytes)
    const isFull = this.#queue.length >= limits.watch_queue_events_max || this.#queueBytes + bytes > limits.watch_queue_bytes_max
    if (isFull && this.#queue.length > 0) {
      // W2
      this.#lost = { revision: forms.revision, ordinal: forms.ordinal }
      const message = `the watch is ${this.#queue.length} events behind: read faster, or watch less`
      this.end(new NineError({ kind: 'overloaded', op, path: this.path, message, resume: this.resume() }))
      return
    }
    this.#queue.push(event)
    this.#queueBytes += bytes
    // Events of one revision are offered in one turn: whoever waits is woken after it, with all of them.
    if (this.#waiting !== undefined && this.#queue.length === 1) queueMicrotask(this.#wake)
  }

  readonly #wake = (): void => {
    const waiting = this.#waiting
    if (waiting === undefined || this.#queue.length === 0) return
    this.#waiting = undefined
    waiting({ done: false, value: this.#take() })
  }

  tellProgress(): void {
    const waiting = this.#waiting
    if (waiting === undefined || this.#queue.length > 0) return
    this.#waiting = undefined
    waiting({ done: false, value: this.#take() })
  }

  #take(): WatchBatch {
    const events = this.#queue
    this.#queue = []
    this.#queueBytes = 0
    const { revision, ordinal } = this.#lost ?? this.#level()
    this.revision = revision
    this.ordinal = ordinal
    return { events, position: this.#hub.source.positions.exactly(revision, ordinal) }
  }

  #level(): { revision: number; ordinal: number } {
    return this.#isLive ? { revision: this.#hub.source.revision() + 1, ordinal: 0 } : this
  }

  /** W1: a batch from history, or undefined when nothing in it was for this watch or it is level and now live. */
  async #readHistory(): Promise<WatchBatch | undefined> {
    const { source } = this.#hub
    if (this.revision > source.revision()) {
      this.#isLive = true
      this.#hub.join(this)
      return undefined
    }
    try {
      if (this.revision < source.firstKept()) {
        const message = `revision ${this.revision} is no longer kept; the oldest is ${source.firstKept()}`
        const resume = encodePosition(source.positions.exactly(source.firstKept(), 0))
        throw new NineError({ kind: 'compacted', op, path: this.path, message, resume })
      }
      const revisions = await source.readHistory(this.revision, history_read_revisions)
      const events: WatchEvent[] = []
      for (const revision of revisions) {
        revision.events.forEach((event, ordinal) => {
          if (revision.revision === this.revision && ordinal < this.ordinal) return
          if (!this.#concerns(event)) return
          const seen = this.#seen(new EventForms(source, revision, event, ordinal))
          if (seen !== undefined) events.push(seen)
        })
      }
      const last = revisions.at(-1)
      if (last === undefined) throw new NineError({ kind: 'internal', op, path: this.path, message: 'history ends before the store does' })
      this.revision = last.revision + 1
      this.ordinal = 0
      return events.length === 0 ? undefined : { events, position: source.positions.exactly(this.revision, 0) }
    } catch (error) {
      this.end(error as NineError)
      return undefined
    }
  }

  #concerns(event: StoreEvent): boolean {
    return this.#concernsPath(event.path, event.subtree) || (event.from !== undefined && this.#concernsPath(event.from, event.subtree))
  }

  #concernsPath(path: Path, subtree: boolean): boolean {
    if (subtree && isWithin(this.path, path)) return true
    if (this.isRecursive) return isWithin(path, this.path)
    return path === this.path || (path !== '/' && parentPath(path) === this.path)
  }

  /** W3: the event as this principal may see it. A move out of sight is a removal, one into sight a creation. */
  #seen(forms: EventForms): WatchEvent | undefined {
    const { source } = this.#hub
    const { event } = forms
    const seesNow = source.maySee(this.#principal, event.node)
    const { from, previous } = event
    if (from === undefined || previous === undefined) {
      if (!seesNow) return undefined
      return forms.form(this.#withBytes && source.mayRead(this.#principal, event.node), this.#withPrevious)
    }
    const sawBefore = source.maySee(this.#principal, previous)
    if (!seesNow && !sawBefore) return undefined
    const whole = forms.form(this.#withBytes && seesNow && source.mayRead(this.#principal, event.node), this.#withPrevious)
    if (seesNow && sawBefore) return whole
    if (seesNow) return { ...whole, type: 'create', from: undefined, previous: undefined }
    return { ...whole, type: 'remove', path: from, from: undefined, stat: statOf(previous), bytes: undefined }
  }
}
