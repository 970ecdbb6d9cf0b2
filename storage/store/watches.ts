/**
 * Watches: every applied revision goes to the watchers of its paths, each with a bounded queue of its own.
 *
 * W1 A watcher sees every event it may see at or after its position, in order, once: it reads history until there is
 *    none left unread, and in that same turn of the event loop joins the live watchers.
 * W2 A queue that is full ends its watch with `overloaded`: what was queued is still delivered, and `resume` names the
 *    first event that was not.
 * W3 Rights are checked as they are when an event is delivered: by the records above the node, wherever it was moved.
 * W4 The first batch comes at once, without events when there are none yet: from it on a watcher knows where to go on.
 * W5 On a replica a watch without `from` begins behind all that was acknowledged anywhere when it was asked for, and one from a
 *    revision that is not here yet waits for it if the cluster has it.
 * W6 When a snapshot took the place of the state, live watchers read history again from where they were. When the store was restored,
 *    every watch that began before ends with `compacted`.
 */
import type { Context } from '../../namespace/context.ts'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { NineError, toNineError } from '../../namespace/errors.ts'
import type { WatchBatch, WatchEvent, WatchOptions } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { isWithin, parentPath, type Path } from '../../namespace/path.ts'
import { encodePosition, type Position } from '../../namespace/position.ts'
import type { Principal } from '../../namespace/rights.ts'
import { concerns } from '../../namespace/watch-filter.ts'
import { WatchQueue } from '../../namespace/watch-queue.ts'
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
  readHistory(from: number, max: number): readonly Revision[]
  /** Resolves when the state here is the newest there was when it was called; undefined: it always is. */
  current(context: Context, op: string, path: string): Promise<void> | undefined
  /** Whether the principal may see the node, which may be removed, and its bytes. */
  maySee(principal: Principal, node: NodeRecord): boolean
  mayRead(principal: Principal, node: NodeRecord): boolean
}

/** Revisions read from history at a time. */
const history_read_revisions = 256
const op = 'store.watch'

export class WatchHub {
  readonly source: WatchSource
  /** Live watchers by path. */
  readonly #direct = new Map<string, Set<Watcher>>()
  readonly #recursive = new Map<string, Set<Watcher>>()
  readonly #all = new Set<Watcher>()
  #started = 0
  #stamp = 0
  /** Position after the revision being delivered. */
  #next: Position = []
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
    const current = this.#isHere(options.from) ? undefined : this.source.current(context, op, path) // W5
    // Told by the first next(); until then nobody has asked.
    current?.catch(ignore)
    return { [Symbol.asyncIterator]: () => this.#start(context, path, options, now, current) }
  }

  /** Whether a watch from there needs to know of nothing that is not here. */
  #isHere(from: WatchOptions['from']): boolean {
    if (from === undefined) return false
    const { store, incarnation } = this.source.positions
    const revision = typeof from === 'number' ? from : from.find((at) => at.store === store && at.incarnation === incarnation)?.revision
    return revision === undefined || revision <= this.source.revision() + 1
  }

  #start(context: Context, path: Path, options: WatchOptions, now: number, current: Promise<void> | undefined): AsyncIterator<WatchBatch> {
    const watcher = new Watcher(this, context, path, options)
    try {
      if (this.#started >= limits.watches_max) {
        throw new NineError({ kind: 'overloaded', op, path, message: `this node serves at most ${limits.watches_max} watches` })
      }
      if (current === undefined) this.#place(watcher, options.from ?? now)
      else watcher.placed = current.then(() => this.#place(watcher, options.from ?? this.source.revision() + 1))
      watcher.placed?.catch(ignore)
    } catch (error) {
      watcher.fail(toNineError(error, op, path))
      return watcher
    }
    this.#started++
    watcher.isStarted = true
    this.#progress ??= setInterval(() => this.#tellProgress(), limits.watch_progress_ms).unref()
    return watcher
  }

  /** @throws NineError `compacted`, `invalid` */
  #place(watcher: Watcher, from: Position | number): void {
    const { path } = watcher
    const now = this.source.revision()
    let revision: number
    if (typeof from === 'number') revision = from
    else {
      const element = this.source.positions.own(from, now, op, path)
      revision = element.revision
      watcher.ordinal = element.ordinal
    }
    if (!Number.isSafeInteger(revision) || revision < 0 || revision > now + 1) {
      const message = `revision ${revision} is not one of this store, which is at ${now}`
      throw new NineError({ kind: 'invalid', op, path, message })
    }
    watcher.revision = Math.max(1, revision)
    watcher.incarnation = this.source.positions.incarnation
  }

  /** Deliver what a revision did. Called in order, each revision once. */
  publish(revision: Revision): void {
    if (this.#all.size === 0) return
    let ordinal = 0
    this.#next = this.source.positions.exactly(revision.revision + 1, 0)
    for (const event of revision.events) {
      this.#stamp++
      const forms = new EventForms(this.source, revision, event, ordinal++)
      this.#deliver(event.path, event.subtree, forms)
      if (event.from !== undefined) this.#deliver(event.from, event.subtree, forms)
    }
  }

  /** Finds by index whom `concerns` of namespace/watch-filter.ts names. */
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
    watcher.offer(forms, this.#next)
  }

  join(watcher: Watcher): void {
    this.#all.add(watcher)
    const index = watcher.isRecursive ? this.#recursive : this.#direct
    const known = index.get(watcher.path)
    if (known === undefined) index.set(watcher.path, new Set([watcher]))
    else known.add(watcher)
  }

  /** A snapshot took the place of the state, of which watchers have seen everything before revision `next`. W6 */
  replaced(next: number): void {
    for (const watcher of [...this.#all]) {
      this.#part(watcher)
      watcher.fallBehind(next)
    }
  }

  leave(watcher: Watcher): void {
    if (watcher.isStarted) {
      watcher.isStarted = false
      if (--this.#started === 0) {
        clearInterval(this.#progress)
        this.#progress = undefined
      }
    }
    this.#part(watcher)
  }

  /** The opposite of join. */
  #part(watcher: Watcher): void {
    if (!this.#all.delete(watcher)) return
    const index = watcher.isRecursive ? this.#recursive : this.#direct
    const known = index.get(watcher.path)
    known?.delete(watcher)
    if (known?.size === 0) index.delete(watcher.path)
  }

  #tellProgress(): void {
    const position = this.source.positions.exactly(this.source.revision() + 1, 0)
    for (const watcher of this.#all) watcher.tellProgress(position)
  }

  /** End every watch: the store closes. */
  close(): void {
    for (const watcher of [...this.#all]) {
      const { path } = watcher
      watcher.fail(new NineError({ kind: 'unavailable', op, path, message: 'the store has been closed', resume: watcher.resume() }))
    }
    clearInterval(this.#progress)
  }
}

/** One event in the few forms that watchers ask for; each is made once, however many watch. */
export class EventForms {
  readonly event: StoreEvent
  readonly revision: number
  readonly ordinal: number
  readonly #source: WatchSource
  readonly #of: Revision
  readonly #made: (WatchEvent | undefined)[] = [undefined, undefined, undefined, undefined]

  constructor(source: WatchSource, of: Revision, event: StoreEvent, ordinal: number) {
    this.#source = source
    this.#of = of
    this.event = event
    this.revision = of.revision
    this.ordinal = ordinal
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
  /** Revision and ordinal of the first event not read from history yet. */
  revision = 0
  ordinal = 0
  /** Of the store in which these count. */
  incarnation = ''
  stamp = 0
  isStarted = false
  /** When `revision` is known; undefined: it is. */
  placed: Promise<void> | undefined
  readonly #hub: WatchHub
  readonly #principal: Principal
  readonly #withBytes: boolean
  readonly #withPrevious: boolean
  readonly #queue: WatchQueue
  #isLive = false
  /** Whether a batch was given before it was live. */
  #hasTold = false
  /** Calls of next() while the watch is not live, one after the other. */
  #turn: Promise<unknown> = Promise.resolve()
  #tellEnd: (() => void) | undefined

  constructor(hub: WatchHub, context: Context, path: Path, options: WatchOptions) {
    this.#hub = hub
    this.path = path
    this.#principal = context.principal
    this.isRecursive = options.recursive === true
    this.#withBytes = options.statsOnly !== true
    this.#withPrevious = options.previous === true
    const position = hub.source.positions.exactly(hub.source.revision() + 1, 0)
    this.#queue = new WatchQueue({ op, path, position, signal: context.signal, onEnd: () => this.#end() })
  }

  #end(): void {
    this.#hub.leave(this)
    this.#tellEnd?.()
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<WatchBatch>> {
    if (this.#isLive || this.#queue.isEnded) return this.#queue.next()
    const turn = this.#turn.then(() => this.#next())
    this.#turn = turn.catch(ignore)
    return turn.then(({ given }) => given)
  }

  return(): Promise<IteratorResult<WatchBatch>> {
    return this.#queue.return()
  }

  /** End the watch; what waits is still delivered. */
  fail(error: NineError): void {
    this.#queue.fail(error)
  }

  /** Where to go on after all that was offered. */
  resume(): string {
    return encodePosition(this.#isLive ? this.#queue.position : this.#hub.source.positions.exactly(this.revision, this.ordinal))
  }

  /** W2. `next`: the position after the event's revision. */
  offer(forms: EventForms, next: Position): void {
    const event = this.#seen(forms)
    if (event !== undefined) this.#queue.push([event], next)
  }

  tellProgress(position: Position): void {
    this.#queue.progress(position)
  }

  /** No longer live: everything before revision `next` was offered to it. W6 */
  fallBehind(next: number): void {
    this.#isLive = false
    this.#hasTold = true
    this.revision = next
    this.ordinal = 0
    const turn = this.#turn.then(() => this.#feed())
    this.#turn = turn.catch(ignore)
  }

  /** Who waits in the queue since the watch was live gets what history has; who comes later reads it himself. */
  async #feed(): Promise<void> {
    while (this.#queue.readers > 0) {
      const batch = await this.#catchUp()
      if (batch === undefined) return
      this.#queue.push(batch.events, batch.position)
      // Readers are woken behind this turn.
      await nextTurn()
    }
  }

  /** In a box: who is live waits in the queue, and the turn ends before that does. W6 takes the next one. */
  async #next(): Promise<{ readonly given: IteratorResult<WatchBatch> | Promise<IteratorResult<WatchBatch>> }> {
    if (this.placed !== undefined) await this.#waitForPlace(this.placed)
    const value = this.#queue.isEmpty ? await this.#catchUp() : undefined
    return { given: value === undefined ? this.#queue.next() : { done: false, value } }
  }

  /** W5; also ends when the watch does. */
  async #waitForPlace(placed: Promise<void>): Promise<void> {
    const ended = new Promise<void>((resolve) => (this.#tellEnd = resolve))
    try {
      if (!this.#queue.isEnded) await Promise.race([placed, ended])
    } catch (error) {
      this.fail(toNineError(error, op, this.path))
    }
    this.placed = undefined
  }

  /** W1: the next batch that history has; undefined once the watch is live, or has ended. */
  async #catchUp(): Promise<WatchBatch | undefined> {
    const { source } = this.#hub
    while (!this.#isLive && !this.#queue.isEnded) {
      if (this.revision > source.revision() && this.incarnation === source.positions.incarnation) {
        this.#isLive = true
        const position = source.positions.exactly(this.revision, 0)
        this.#queue.progress(position)
        this.#hub.join(this)
        return this.#hasTold ? undefined : { events: [], position } // W4
      }
      try {
        const events = this.#readHistory()
        if (events.length > 0) {
          this.#hasTold = true
          return { events, position: source.positions.exactly(this.revision, this.ordinal) }
        }
        // Nothing in all of these was for this watch: others have their turn before the next ones.
        await nextTurn()
      } catch (error) {
        this.fail(toNineError(error, op, this.path))
      }
    }
    return undefined
  }

  #readHistory(): WatchEvent[] {
    const { source } = this.#hub
    const { incarnation, revision, ordinal } = this
    const { store } = source.positions
    source.positions.own([{ store, incarnation, revision, ordinal }], source.revision(), op, this.path)
    if (this.revision < source.firstKept()) {
      const message = `revision ${this.revision} is no longer kept; the oldest is ${source.firstKept()}`
      const resume = encodePosition(source.positions.exactly(source.firstKept(), 0))
      throw new NineError({ kind: 'compacted', op, path: this.path, message, resume })
    }
    const revisions = source.readHistory(this.revision, history_read_revisions)
    const events: WatchEvent[] = []
    for (const revision of revisions) {
      for (const [ordinal, event] of revision.events.entries()) {
        if (revision.revision === this.revision && ordinal < this.ordinal) continue
        if (!concerns(event, this.path, this.isRecursive)) continue
        const seen = this.#seen(new EventForms(source, revision, event, ordinal))
        if (seen !== undefined) events.push(seen)
      }
    }
    const last = revisions[revisions.length - 1]
    if (last === undefined) throw new NineError({ kind: 'internal', op, path: this.path, message: 'history ends before the store does' })
    this.revision = last.revision + 1
    this.ordinal = 0
    return events
  }

  /** W3: the event as this principal may see it. A move out of sight is a removal, one into sight a creation. */
  #seen(forms: EventForms): WatchEvent | undefined {
    const { source } = this.#hub
    const { event } = forms
    const seesNow = source.maySee(this.#principal, event.node)
    const { from, previous } = event
    const mayRead = this.#withBytes && seesNow && source.mayRead(this.#principal, event.node)
    if (from === undefined || previous === undefined) return seesNow ? forms.form(mayRead, this.#withPrevious) : undefined
    const sawBefore = source.maySee(this.#principal, previous)
    if (!seesNow && !sawBefore) return undefined
    const whole = forms.form(mayRead, this.#withPrevious)
    if (seesNow && sawBefore) return whole
    if (seesNow) return { ...whole, type: 'create', from: undefined, previous: undefined }
    return { ...whole, type: 'remove', path: from, from: undefined, stat: statOf(previous) }
  }
}

function ignore(): void {
  // Whoever asks next is told.
}
