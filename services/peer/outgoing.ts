/**
 * An open connection that this node made: items and requests out, answers back.
 *
 * O1 All that is given in one turn of the event loop leaves as one message, sooner when it grows past limits.peer_packet_bytes or who
 *    gives it says that this was all.
 * O2 What waits is bounded: past it items are dropped and requests refused.
 * O3 A request ends once: with its answer, its deadline, its signal, or the connection. When it may have left, its outcome is unknown.
 * O4 A connection on which nothing comes is asked whether it lives (HTTP/2's ping, which waits behind nothing), and is over when it does
 *    not say so. Ticks are counted, not time: a process that was stopped hears what came meanwhile before it judges.
 */
import { setMaxListeners } from 'node:events'
import { WireError, Reader, bytesKey } from '../../proto/protobuf.ts'
import { NineError } from '../../namespace/errors.ts'
import { readError } from '../../namespace/wire/fields.ts'
import type { GroupId, PeerItem } from '../../raft/driver/ports.ts'
import type { NodeId } from '../../raft/model.ts'
import { PacketWriter } from './codec.ts'
import { readItems } from './decode.ts'
import type { ItemSink } from './decode.ts'
import { Dial } from './dial.ts'
import type { Welcome } from './hello.ts'
import type { CallKind, Own } from './own.ts'
import { TurnEnd } from './turn-end.ts'
import type { RequestOptions } from './ports.ts'

export interface OutgoingEvents {
  opened(): void
  /** Once; never within the constructor. `isNobody`: nobody listens there. */
  ended(error: NineError, isNobody: boolean): void
}

interface Pending {
  readonly resolve: (body: Uint8Array) => void
  readonly reject: (error: NineError) => void
  readonly deadline: number
  readonly signal: AbortSignal | undefined
  readonly onAbort: (() => void) | undefined
}

export class Outgoing {
  readonly #own: Own
  readonly #to: NodeId
  readonly #dial: Dial
  readonly #writer = new PacketWriter()
  readonly #turnEnd = new TurnEnd(() => this.flush())
  readonly #reader = new Reader()
  readonly #pending = new Map<number, Pending>()
  readonly #events: OutgoingEvents
  readonly #sink: ItemSink = {
    item: refuseItem,
    request: refuseItem,
    answer: (id, body) => this.#settle(id, undefined, body),
    failure: (id, error) => this.#settle(id, readError(new Reader(error))),
  }
  #welcome: Welcome | undefined
  #lastId = 0
  /** Requests up to this one were given to the connection. */
  #sentId = 0
  #isEnded = false
  #bytesSeen = 0
  #silentTicks = 0

  constructor(own: Own, address: string, to: NodeId, kind: CallKind, events: OutgoingEvents) {
    this.#own = own
    this.#to = to
    this.#events = events
    this.#dial = new Dial(own, address, to, kind, {
      opened: (welcome) => {
        this.#welcome = welcome
        events.opened()
      },
      packet: (buffer, start, end) => this.#packet(buffer, start, end),
      ended: (error, isNobody) => this.#ended(error, isNobody),
    })
  }

  get isOpen(): boolean {
    return this.#welcome !== undefined && !this.#isEnded
  }

  get version(): number {
    return this.isOpen ? this.#welcome!.version : 0
  }

  get waitingBytes(): number {
    return this.isOpen ? this.#dial.stream.waitingBytes + this.#writer.length : 0
  }

  /** Requests without an answer. */
  get requests(): number {
    return this.#pending.size
  }

  /** @returns whether it was taken. @throws NineError `invalid`, `too_large`: it can never go */
  send(item: PeerItem): boolean {
    if (!this.isOpen || this.waitingBytes > this.#own.limits.peer_send_bytes_max) return false // O2
    this.#write(item)
    this.#written()
    return true
  }

  request(group: GroupId, verb: string, body: Uint8Array, options: RequestOptions): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const { limits, clock } = this.#own
      const refusal = this.#refusal(body, options.signal)
      if (refusal !== undefined) return reject(refusal)
      const now = clock.monotonic()
      const deadline = options.deadline ?? now + limits.request_ms_default
      if (deadline <= now) return reject(failure('deadline', 'the deadline of the request has passed'))
      const id = ++this.#lastId
      const { signal } = options
      const onAbort =
        signal === undefined ? undefined : () => this.#settle(id, failure('deadline', 'the request was cancelled', this.#outcomeOf(id)))
      this.#writer.request(id, group, deadline === Infinity ? 0 : Math.ceil(deadline - now), verb, body)
      this.#pending.set(id, { resolve, reject, deadline, signal, onAbort })
      if (onAbort !== undefined) {
        // Many requests may be of one cause: their number is bounded already.
        setMaxListeners(0, signal!)
        signal!.addEventListener('abort', onAbort, { once: true })
      }
      this.#written()
    })
  }

  /** O1 */
  flush(): void {
    if (this.#writer.length === 0 || !this.isOpen) return
    this.#sentId = this.#lastId
    this.#dial.stream.write(this.#writer.take())
  }

  /** Every limits.peer_tick_ms. */
  tick(now: number): void {
    if (!this.isOpen) return
    for (const [id, { deadline }] of this.#pending) {
      if (deadline <= now) this.#settle(id, failure('deadline', `${this.#to} did not answer in time`, this.#outcomeOf(id)))
    }
    const { peer_ping_ms, peer_silent_ms_max, peer_tick_ms } = this.#own.limits
    const { bytesRead } = this.#dial
    if (bytesRead !== this.#bytesSeen) {
      this.#bytesSeen = bytesRead
      this.#silentTicks = 0
      return
    }
    const silent_ms = ++this.#silentTicks * peer_tick_ms // O4
    if (silent_ms >= peer_silent_ms_max) {
      this.end(new NineError({ kind: 'unavailable', op: 'peer.connect', message: `peer ${this.#to}: nothing came for ${silent_ms} ms` }))
    } else if (silent_ms % peer_ping_ms < peer_tick_ms && silent_ms >= peer_ping_ms) {
      this.#dial.ping()
    }
  }

  end(error: NineError): void {
    this.#dial.end(error)
  }

  #packet(buffer: Buffer, start: number, end: number): void {
    const reader = this.#reader.reset(buffer, start, end)
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      if (key !== bytesKey(4)) {
        reader.skip(key)
        continue
      }
      const outer = reader.enter()
      readItems(reader, this.#to, this.#own.member, this.#sink)
      reader.leave(outer)
    }
  }

  /** An item that makes the message too large goes into one of its own; entries that do not fit together are sent apart. */
  #write(item: PeerItem): void {
    const before = this.#writer.length
    this.#writer.item(item)
    const max = this.#own.limits.peer_message_bytes_max
    if (this.#writer.length <= max) return
    this.#writer.backTo(before)
    if (before > 0) {
      this.flush()
      return this.#write(item)
    }
    const [first, second] = halvesOf(item) ?? []
    if (first === undefined || second === undefined) throw failure('too_large', `an item is larger than ${max} bytes`)
    this.#write(first)
    this.#write(second)
  }

  #refusal(body: Uint8Array, signal: AbortSignal | undefined): NineError | undefined {
    const { limits } = this.#own
    if (signal?.aborted === true) return failure('deadline', 'the request was cancelled')
    if (!this.isOpen) return failure('unavailable', `${this.#to} is not connected`)
    if (body.length > limits.peer_message_bytes_max - request_overhead_bytes) {
      return failure('too_large', `a request of ${body.length} bytes is larger than a message may be`)
    }
    if (this.#writer.length + body.length > limits.peer_message_bytes_max - request_overhead_bytes) this.flush()
    if (this.#pending.size >= limits.peer_requests_max || this.waitingBytes > limits.peer_send_bytes_max) {
      return failure('overloaded', `too much waits for ${this.#to}`) // O2
    }
    return undefined
  }

  /** O1 */
  #written(): void {
    if (this.#writer.length > this.#own.limits.peer_packet_bytes) return this.flush()
    this.#turnEnd.due()
  }

  #outcomeOf(id: number): 'none' | 'unknown' {
    return id <= this.#sentId ? 'unknown' : 'none'
  }

  /** O3 */
  #settle(id: number, error: NineError | undefined, body?: Buffer): void {
    const pending = this.#pending.get(id)
    if (pending === undefined) return
    this.#pending.delete(id)
    if (pending.onAbort !== undefined) pending.signal!.removeEventListener('abort', pending.onAbort)
    if (error === undefined) pending.resolve(body!)
    else pending.reject(error)
  }

  #ended(error: NineError, isNobody: boolean): void {
    if (this.#isEnded) return
    this.#isEnded = true
    for (const id of [...this.#pending.keys()]) {
      this.#settle(id, new NineError({ ...error.fields, kind: 'unavailable', outcome: this.#outcomeOf(id), cause: error }))
    }
    this.#events.ended(error, isNobody)
  }
}

function refuseItem(): void {
  throw new WireError('what belongs on a call came as an answer to one')
}

/** Of the item's other fields, with room to spare. */
const request_overhead_bytes = 512

/** An append as two that say the same. */
function halvesOf(item: PeerItem): [PeerItem, PeerItem] | undefined {
  if (item.kind !== 'raft' || item.message.kind !== 'append') return undefined
  const { message } = item
  const middle = message.entries.length >> 1
  if (middle === 0) return undefined
  const last = message.entries[middle - 1]!
  const first = { ...message, entries: message.entries.slice(0, middle) }
  const second = { ...message, prevIndex: last.index, prevTerm: last.term, entries: message.entries.slice(middle) }
  return [
    { ...item, message: first },
    { ...item, message: second },
  ]
}

function failure(
  kind: 'unavailable' | 'overloaded' | 'too_large' | 'deadline',
  message: string,
  outcome: 'none' | 'unknown' = 'none',
): NineError {
  return new NineError({ kind, op: 'peer.request', message, outcome })
}
