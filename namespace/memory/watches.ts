/**
 * Watches of a memory server.
 *
 * W1 A watcher reads kept history until there is none left unread, and in that same turn joins the live watchers: it sees
 *    every event from its position on, in order, once.
 * W2 Rights are asked as they are when an event is delivered. A move out of sight is a removal, one into sight a creation.
 * W3 The first batch comes at once, without events when there are none yet: from it on a watcher knows where to go on.
 */
import type { Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type { WatchBatch, WatchEvent, WatchOptions } from '../file-server.ts'
import { limits } from '../limits.ts'
import { baseName, type Path } from '../path.ts'
import { encodePosition, noPosition, positionOf, type Position } from '../position.ts'
import type { Principal } from '../rights.ts'
import { concerns } from '../watch-filter.ts'
import { WatchQueue } from '../watch-queue.ts'
import type { History, MemoryEvent, Revision } from './history.ts'
import { readBit, rightsAt, seeBits, statOf, type Node } from './tree.ts'

const op = 'memory.watch'
/** Events of history given in one batch, about. */
const history_batch_events = 1024

export interface WatchSource {
  readonly history: History
  readonly owner: string
  /** Position of an event, or the next wanted one. */
  position(revision: number, ordinal: number): Position
}

export class Watches {
  readonly #source: WatchSource
  readonly #live = new Set<Watcher>()
  #started = 0
  #progress: NodeJS.Timeout | undefined

  constructor(source: WatchSource) {
    this.#source = source
  }

  /** Events flow once the iteration starts, from where the store was at this call. What is refused shows at the first next(). */
  watch(context: Context, path: Path, options: WatchOptions): AsyncIterable<WatchBatch> {
    const now = this.#source.history.revision + 1
    return { [Symbol.asyncIterator]: () => this.#start(context, path, options, now) }
  }

  publish(revision: Revision): void {
    for (const watcher of this.#live) watcher.take(revision)
  }

  close(): void {
    for (const watcher of this.#live) {
      watcher.queue.fail(new NineError({ kind: 'unavailable', op, path: watcher.path, message: 'the server has been closed' }))
    }
    clearInterval(this.#progress)
  }

  #start(context: Context, path: Path, options: WatchOptions, now: number): AsyncIterator<WatchBatch> {
    let from: { revision: number; ordinal: number }
    try {
      from = this.#from(options.from, now, path)
      if (this.#started >= limits.watches_max) {
        throw new NineError({ kind: 'overloaded', op, path, message: `a server serves at most ${limits.watches_max} watches` })
      }
    } catch (error) {
      const refused = new WatchQueue({ op, path, position: noPosition })
      refused.fail(error as NineError)
      return refused
    }
    this.#started++
    this.#progress ??= setInterval(() => this.#tellProgress(), limits.watch_progress_ms).unref()
    const watcher: Watcher = new Watcher(this.#source, context, path, options, from, {
      join: () => this.#live.add(watcher),
      leave: () => this.#leave(watcher),
    })
    return watcher
  }

  #leave(watcher: Watcher): void {
    this.#live.delete(watcher)
    if (--this.#started > 0) return
    clearInterval(this.#progress)
    this.#progress = undefined
  }

  /** @throws NineError `invalid`, `compacted` for a position of another store */
  #from(from: Position | number | undefined, now: number, path: Path): { revision: number; ordinal: number } {
    if (from === undefined) return { revision: now, ordinal: 0 }
    const { history } = this.#source
    const here = this.#source.position(history.revision, 0)
    const own = typeof from === 'number' ? { revision: from, ordinal: 0 } : positionOf(from, here[0]!.store)
    if (own === undefined || ('incarnation' in own && own.incarnation !== here[0]!.incarnation)) {
      throw new NineError({ kind: 'compacted', op, path, message: 'the position is of another store', resume: encodePosition(here) })
    }
    if (!Number.isSafeInteger(own.revision) || own.revision < 0 || own.revision > history.revision + 1) {
      throw new NineError({
        kind: 'invalid',
        op,
        path,
        message: `${own.revision} is no revision of this store, which is at ${history.revision}`,
      })
    }
    return { revision: Math.max(1, own.revision), ordinal: own.ordinal }
  }

  #tellProgress(): void {
    for (const watcher of this.#live) watcher.tellProgress()
  }
}

interface Membership {
  join(): void
  leave(): void
}

class Watcher implements AsyncIterableIterator<WatchBatch> {
  readonly path: Path
  readonly queue: WatchQueue
  readonly #source: WatchSource
  readonly #principal: Principal
  readonly #options: WatchOptions
  readonly #membership: Membership
  #isLive = false
  /** Whether a batch was given. */
  #hasTold = false
  /** Next unread revision of history, and the first wanted event of it. */
  #revision: number
  #ordinal: number

  constructor(
    source: WatchSource,
    context: Context,
    path: Path,
    options: WatchOptions,
    from: { revision: number; ordinal: number },
    membership: Membership,
  ) {
    this.#source = source
    this.path = path
    this.#principal = context.principal
    this.#options = options
    this.#membership = membership
    this.#revision = from.revision
    this.#ordinal = from.ordinal
    const position = source.position(from.revision, from.ordinal)
    let isMade = false
    this.queue = new WatchQueue({ op, path, position, signal: context.signal, onEnd: () => isMade && membership.leave() })
    isMade = true
    if (this.queue.isEnded) queueMicrotask(() => membership.leave())
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<WatchBatch>> {
    while (!this.#isLive && !this.queue.isEnded) {
      const batch = this.#readHistory()
      if (batch === undefined) continue
      this.#hasTold = true
      return { done: false, value: batch }
    }
    if (this.#hasTold || this.queue.isEnded) return this.queue.next()
    this.#hasTold = true
    return { done: false, value: { events: [], position: this.#source.position(this.#revision, 0) } } // W3
  }

  return(): Promise<IteratorResult<WatchBatch>> {
    return this.queue.return()
  }

  /** A revision that was just done. */
  take(revision: Revision): void {
    this.queue.push(this.#eventsOf(revision), this.#source.position(revision.revision + 1, 0))
  }

  tellProgress(): void {
    this.queue.progress(this.#source.position(this.#source.history.revision + 1, 0))
  }

  /** W1 */
  #readHistory(): WatchBatch | undefined {
    const { history } = this.#source
    if (this.#revision > history.revision) {
      this.#isLive = true
      this.#membership.join()
      return undefined
    }
    if (this.#revision < history.firstKept) {
      const message = `revision ${this.#revision} is no longer kept; the oldest is ${history.firstKept}`
      const resume = encodePosition(this.#source.position(history.firstKept, 0))
      this.queue.fail(new NineError({ kind: 'compacted', op, path: this.path, message, resume }))
      return undefined
    }
    const events: WatchEvent[] = []
    while (this.#revision <= history.revision && events.length < history_batch_events) {
      events.push(...this.#eventsOf(history.get(this.#revision)!))
      this.#revision++
      this.#ordinal = 0
    }
    if (events.length === 0) return undefined
    return { events, position: this.#source.position(this.#revision, 0) }
  }

  #eventsOf(revision: Revision): WatchEvent[] {
    const events: WatchEvent[] = []
    for (const [ordinal, event] of revision.events.entries()) {
      if (ordinal < this.#ordinal || !concerns(event, this.path, this.#options.recursive === true)) continue
      const seen = this.#seen(revision, event, ordinal)
      if (seen !== undefined) events.push(seen)
    }
    return events
  }

  /** W2 */
  #seen(revision: Revision, event: MemoryEvent, ordinal: number): WatchEvent | undefined {
    const { node, state, previous, from, fromParent } = event
    const mask = this.#mask(node)
    const seesNow = (mask & seeBits) !== 0
    // A node with a record of its own is seen by that, wherever it is.
    const sawBefore = fromParent === undefined || node.head.rights !== undefined ? seesNow : (this.#mask(fromParent) & seeBits) !== 0
    if (!seesNow && !sawBefore) return undefined
    const isOut = !seesNow
    const isIn = !sawBefore
    const hasBytes =
      this.#options.statsOnly !== true &&
      event.type !== 'remove' &&
      !isOut &&
      node.kind === 'file' &&
      state.bytes.length <= limits.inline_bytes_max &&
      (mask & readBit) !== 0
    const path = isOut ? from! : event.path
    return {
      type: isOut ? 'remove' : isIn ? 'create' : event.type,
      path,
      from: isOut || isIn ? undefined : from,
      subtree: event.subtree,
      stat: statOf(node, state, baseName(path)),
      previous:
        this.#options.previous === true && previous !== undefined && !isIn && !isOut
          ? statOf(node, previous, baseName(from ?? path))
          : undefined,
      bytes: hasBytes ? state.bytes : undefined,
      actor: revision.actor,
      time: revision.time,
      cause: revision.cause,
      position: this.#source.position(revision.revision, ordinal),
    }
  }

  #mask(node: Node): number {
    return rightsAt(node, this.#principal, this.#source.owner)
  }
}
