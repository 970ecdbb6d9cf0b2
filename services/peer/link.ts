/**
 * The way to one member: one connection at a time, made again when it breaks.
 *
 * K1 Nothing is dialled before something is to be sent; from then on the link is kept up until it is closed. That of a member
 *    that left is closed by its owner when it is down and nothing is sent for limits.peer_unused_ms (`isUnused`).
 * K2 The first attempt after a connection that held is made at once, further ones wait twice as long each, up to a bound, with jitter. A
 *    connection that did not hold counts as an attempt.
 * K3 Requests wait for the attempt under way and no longer: when it fails they have not happened.
 */
import { NineError } from '../../namespace/errors.ts'
import type { GroupId, PeerItem } from '../../raft/driver/ports.ts'
import type { NodeId } from '../../raft/model.ts'
import { Outgoing } from './outgoing.ts'
import type { CallKind, Own } from './own.ts'
import type { PeerStatus, RequestOptions } from './ports.ts'

export interface LinkEvents {
  opened(link: Link): void
  /** A connection broke that was open, or an attempt failed. */
  ended(link: Link, wasOpen: boolean, error: NineError, isNobody: boolean): void
  /** An item that can never go, given by this node. */
  fault(link: Link, error: NineError): void
}

/** A connection that lived this long held. */
const held_ms = 1_000

export class Link {
  readonly member: NodeId
  readonly kind: CallKind
  droppedItems = 0
  connects = 0
  lastError = ''
  readonly #own: Own
  readonly #addressOf: (member: NodeId) => string | undefined
  readonly #events: LinkEvents
  #connection: Outgoing | undefined
  #timer: NodeJS.Timeout | undefined
  #failures = 0
  #openedAt = 0
  #usedAt: number
  /** Something was sent since the last tick. */
  #isUsed = false
  #isClosed = false
  /** Requests that wait for the attempt under way; called with the reason when it failed. */
  #waiting: ((error: NineError | undefined) => void)[] = []

  constructor(own: Own, member: NodeId, kind: CallKind, addressOf: (member: NodeId) => string | undefined, events: LinkEvents) {
    this.#own = own
    this.member = member
    this.kind = kind
    this.#addressOf = addressOf
    this.#events = events
    this.#usedAt = own.clock.monotonic()
  }

  get state(): PeerStatus['state'] {
    if (this.#connection !== undefined) return this.#connection.isOpen ? 'open' : 'dialling'
    return this.#timer === undefined ? 'idle' : 'waiting'
  }

  get version(): number {
    return this.#connection?.version ?? 0
  }

  get waitingBytes(): number {
    return this.#connection?.waitingBytes ?? 0
  }

  send(item: PeerItem): void {
    this.#isUsed = true
    const connection = this.#connection
    if (connection === undefined) this.wake()
    try {
      if (connection?.send(item) !== true) this.droppedItems++
    } catch (error) {
      this.droppedItems++
      this.#events.fault(this, error as NineError)
    }
  }

  /** What was given leaves now. */
  flush(): void {
    this.#connection?.flush()
  }

  async request(group: GroupId, verb: string, body: Uint8Array, options: RequestOptions): Promise<Uint8Array> {
    this.#usedAt = this.#own.clock.monotonic()
    if (this.#connection === undefined) this.wake()
    if (this.state === 'dialling') await this.#attempt(options.signal)
    if (this.#connection?.isOpen !== true) throw this.#unreachable()
    return this.#connection.request(group, verb, body, options)
  }

  /** Dial, unless that was just tried. */
  wake(): void {
    if (this.#connection === undefined && this.#timer === undefined && !this.#isClosed) this.#dial()
  }

  /** The member is known to be there: do not wait for the next attempt's time. */
  hurry(): void {
    if (this.#timer === undefined) return
    clearTimeout(this.#timer)
    this.#dial()
  }

  /** Every limits.peer_tick_ms. */
  tick(now: number): void {
    if (this.#isUsed) this.#usedAt = now
    this.#isUsed = false
    this.#connection?.tick(now)
  }

  /** It is down, and nobody sent or asked anything lately. */
  isUnused(now: number): boolean {
    const isUp = this.#connection?.isOpen === true
    return !isUp && !this.#isUsed && this.#waiting.length === 0 && now - this.#usedAt > this.#own.limits.peer_unused_ms
  }

  /** Nobody asked anything of it lately, and nothing is under way. */
  isIdle(now: number): boolean {
    return (this.#connection?.requests ?? 0) === 0 && this.#waiting.length === 0 && now - this.#usedAt > this.#own.limits.peer_bulk_idle_ms
  }

  close(message: string): void {
    if (this.#isClosed) return
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#connection?.end(new NineError({ kind: 'unavailable', op: 'peer.connect', message }))
  }

  #dial(): void {
    this.#timer = undefined
    const address = this.#addressOf(this.member)
    if (address === undefined) {
      this.lastError = 'its address is not known'
      return this.#later()
    }
    let isOpen = false
    this.#connection = new Outgoing(this.#own, address, this.member, this.kind, {
      opened: () => {
        isOpen = true
        this.#openedAt = this.#own.clock.monotonic()
        this.connects++
        this.#tellWaiting(undefined)
        this.#events.opened(this)
      },
      ended: (error, isNobody) => this.#ended(isOpen, error, isNobody),
    })
  }

  #ended(wasOpen: boolean, error: NineError, isNobody: boolean): void {
    this.#connection = undefined
    this.lastError = error.message
    if (wasOpen && this.#own.clock.monotonic() - this.#openedAt >= held_ms) this.#failures = 0
    if (!this.#isClosed) this.#later()
    this.#tellWaiting(error)
    this.#events.ended(this, wasOpen, error, isNobody)
  }

  /** K2 */
  #later(): void {
    const { peer_backoff_ms_min, peer_backoff_ms_max } = this.#own.limits
    const failures = this.#failures++
    const isFirst = failures === 0 && this.connects > 0
    const ms = isFirst ? 0 : Math.min(peer_backoff_ms_max, peer_backoff_ms_min * 2 ** Math.min(failures - 1, 16))
    this.#timer = setTimeout(() => this.#dial(), ms * (0.5 + this.#own.random() / 2))
    this.#timer.unref()
  }

  /** K3 */
  #attempt(signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting.length >= this.#own.limits.peer_requests_max) {
      const message = `too much waits for ${this.member}`
      return Promise.reject(new NineError({ kind: 'overloaded', op: 'peer.request', message }))
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(new NineError({ kind: 'deadline', op: 'peer.request', message: 'the request was cancelled' }))
      if (signal?.aborted === true) return onAbort()
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push((error) => {
        signal?.removeEventListener('abort', onAbort)
        if (error === undefined) resolve()
        else reject(this.#unreachable(error))
      })
    })
  }

  #tellWaiting(error: NineError | undefined): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const tell of waiting) tell(error)
  }

  #unreachable(cause?: NineError): NineError {
    const why = this.lastError === '' ? 'not connected' : this.lastError
    return new NineError({ kind: 'unavailable', op: 'peer.request', message: `${this.member} cannot be reached: ${why}`, cause })
  }
}
