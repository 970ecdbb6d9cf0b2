/**
 * Snapshots from one member to another, as requests on Bulk: `snapshot.begin` (what it is → how much of it is durable there),
 * `snapshot.part` (offset, checksum, bytes → nothing, when taken), `snapshot.end` (→ nothing, when the driver there has the message).
 *
 * S1 A transfer whose connection broke goes on behind what the receiver has durable of the same id.
 * S2 The message that is given to the receiver's driver has the meta of what was sent, and comes when all of it is durable there.
 * S3 Transfers at once are bounded on both sides; a sender waits in turn, a receiver refuses.
 * S4 A receiver has at most one transfer of a group, the newest: an older one is closed before its sink is opened.
 */
import { crc32c } from '@node-rs/crc32'
import { NineError, toNineError } from '../../namespace/errors.ts'
import { bytesKey, Reader, varintKey, WireError, Writer } from '../../proto/protobuf.ts'
import type { GroupId } from '../../raft/driver/ports.ts'
import type { Install, NodeId } from '../../raft/model.ts'
import type { Ask } from './chunks.ts'
import type { Own } from './own.ts'
import type { Snapshots, SnapshotSink, SnapshotSource, Transfer } from './ports.ts'
import { decodeMeta, encodeMeta } from './snapshot-meta.ts'

const part_bytes = 256 * 1024

interface Sending {
  readonly group: GroupId
  readonly peer: NodeId
  readonly bytes: number
  sentBytes: number
}

/** The sender's side. */
export class SnapshotSender {
  readonly sending = new Set<Sending>()
  readonly #own: Own
  readonly #ask: Ask
  readonly #snapshots: Snapshots
  readonly #fault: (peer: NodeId, error: unknown) => void
  readonly #turns: (() => void)[] = []
  #running = 0
  #isClosed = false

  constructor(own: Own, ask: Ask, snapshots: Snapshots, fault: (peer: NodeId, error: unknown) => void) {
    this.#own = own
    this.#ask = ask
    this.#snapshots = snapshots
    this.#fault = fault
  }

  /** Never rejects. */
  async send(group: GroupId, message: Install): Promise<boolean> {
    if (this.#running < this.#own.limits.peer_transfers_max) this.#running++
    else await new Promise<void>((resolve) => this.#turns.push(resolve)) // S3
    try {
      if (this.#isClosed) return false
      const source = await this.#snapshots.open(group, message)
      try {
        return await this.#transfer(group, message, source)
      } finally {
        await source.close()
      }
    } catch (error) {
      this.#fault(message.to, error)
      return false
    } finally {
      const next = this.#turns.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }

  close(): void {
    this.#isClosed = true
  }

  /** S1 */
  async #transfer(group: GroupId, message: Install, source: SnapshotSource): Promise<boolean> {
    const progress: Sending = { group, peer: message.to, bytes: source.size, sentBytes: 0 }
    this.sending.add(progress)
    try {
      let best = -1
      for (let attempt = 0; !this.#isClosed; attempt++) {
        try {
          await this.#attempt(group, message, source, progress)
          return true
        } catch (error) {
          if (!(error instanceof NineError) || !error.retryable) throw error
          if (progress.sentBytes > best) attempt = 0
          best = Math.max(best, progress.sentBytes)
          if (attempt >= this.#own.limits.peer_transfer_attempts_max) throw error
          await this.#pause(attempt)
        }
      }
      return false
    } finally {
      this.sending.delete(progress)
    }
  }

  async #attempt(group: GroupId, message: Install, source: SnapshotSource, progress: Sending): Promise<void> {
    const { to, term } = message
    const begin = encodeBegin({ group, term, id: source.id, meta: source.meta, size: source.size })
    const answer = new Reader(Buffer.from(await this.#ask(to, 'snapshot.begin', begin)))
    let number = 0
    let offset = 0
    for (let key = answer.next(); key !== 0; key = answer.next()) {
      if (key === varintKey(1)) number = answer.uint()
      else if (key === varintKey(2)) offset = answer.uint()
      else answer.skip(key)
    }
    if (offset > source.size) throw new NineError({ kind: 'invalid', op: 'peer.snapshot', message: `${to} has more than there is` })
    progress.sentBytes = offset
    let failure: NineError | undefined
    const under = new Set<Promise<void>>()
    while (offset < source.size && failure === undefined) {
      const bytes = await source.read(offset, Math.min(part_bytes, source.size - offset))
      if (bytes.length === 0)
        throw new NineError({ kind: 'corrupt', op: 'peer.snapshot', message: `the snapshot of group ${group} ends early` })
      const part: Promise<void> = this.#ask(to, 'snapshot.part', encodePart(number, offset, bytes)).then(
        () => {
          progress.sentBytes += bytes.length
          under.delete(part)
        },
        (error: unknown) => {
          failure ??= toNineError(error, 'peer.snapshot')
          under.delete(part)
        },
      )
      under.add(part)
      offset += bytes.length
      while (under.size >= this.#own.limits.peer_bulk_window) await Promise.race(under)
    }
    await Promise.all(under)
    if (failure !== undefined) throw failure
    const end = new Writer()
    end.optionalUint(1, number)
    await this.#ask(to, 'snapshot.end', end.takeOne()) // S2
  }

  #pause(attempt: number): Promise<void> {
    const { peer_backoff_ms_min, peer_backoff_ms_max } = this.#own.limits
    const ms = Math.min(peer_backoff_ms_max, peer_backoff_ms_min * 2 ** (attempt + 1)) * (0.5 + this.#own.random() / 2)
    return new Promise((resolve) => setTimeout(resolve, ms))
  }
}

interface Begin extends Transfer {
  readonly group: GroupId
  /** Of the sender, for the message. */
  readonly term: number
}

interface Receiving extends Begin {
  readonly from: NodeId
  /** The stream that it came on. */
  readonly stream: object
  readonly number: number
  readonly sink: SnapshotSink
  offset: number
  /** Writes are made one at a time; a failure stays. */
  last: Promise<void>
  isOver: boolean
}

/** The receiver's side. */
export class SnapshotReceiver {
  readonly #own: Own
  readonly #snapshots: Snapshots
  readonly #install: (from: NodeId, group: GroupId, message: Install) => void
  readonly #receiving = new Map<number, Receiving>()
  /** Begins of one group are made one after the other. S4 */
  readonly #begins = new Map<GroupId, Promise<unknown>>()
  #lastNumber = 0

  constructor(own: Own, snapshots: Snapshots, install: (from: NodeId, group: GroupId, message: Install) => void) {
    this.#own = own
    this.#snapshots = snapshots
    this.#install = install
  }

  /** @param stream tells the requests of one stream from those of others. @throws NineError, WireError */
  async serve(stream: object, from: NodeId, verb: string, body: Buffer): Promise<Uint8Array> {
    if (verb === 'snapshot.begin') return this.#begin(stream, from, decodeBegin(body))
    const { number, offset, crc, bytes } = decodePart(body)
    const receiving = this.#receiving.get(number)
    if (receiving?.stream !== stream) throw gone()
    if (verb === 'snapshot.part') await this.#part(receiving, offset, crc, bytes)
    else await this.#end(receiving)
    return nothing
  }

  /** The stream ended: so did its transfers. */
  ended(stream: object): void {
    for (const receiving of this.#receiving.values()) if (receiving.stream === stream) void this.#close(receiving)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#receiving.values()].map((receiving) => this.#close(receiving)))
  }

  async #begin(stream: object, from: NodeId, begin: Begin): Promise<Uint8Array> {
    const before = this.#begins.get(begin.group) ?? Promise.resolve()
    const mine = before.then(() => this.#open(stream, from, begin))
    const settled = mine.then(
      () => undefined,
      () => undefined,
    )
    this.#begins.set(begin.group, settled)
    try {
      const { number, sink } = await mine
      const writer = new Writer()
      writer.optionalUint(1, number)
      writer.optionalUint(2, sink.offset)
      return writer.takeOne()
    } finally {
      if (this.#begins.get(begin.group) === settled) this.#begins.delete(begin.group)
    }
  }

  async #open(stream: object, from: NodeId, begin: Begin): Promise<Receiving> {
    for (const old of this.#receiving.values()) if (old.group === begin.group) await this.#close(old) // S4
    if (this.#receiving.size >= this.#own.limits.peer_transfers_max) {
      throw new NineError({ kind: 'overloaded', op: 'peer.snapshot', message: `${this.#own.member} receives as many snapshots as it may` })
    }
    const number = ++this.#lastNumber
    const { id, meta, size } = begin
    const sink = await this.#snapshots.receive(begin.group, { id, meta, size }, from)
    const receiving: Receiving = { ...begin, from, stream, number, sink, offset: sink.offset, last: Promise.resolve(), isOver: false }
    this.#receiving.set(number, receiving)
    return receiving
  }

  #part(receiving: Receiving, offset: number, crc: number, bytes: Buffer): Promise<void> {
    if (offset !== receiving.offset || offset + bytes.length > receiving.size) {
      throw new NineError({ kind: 'invalid', op: 'peer.snapshot', message: `bytes come at ${offset}, expected at ${receiving.offset}` })
    }
    if (crc32c(bytes) !== crc) {
      throw new NineError({
        kind: 'corrupt',
        op: 'peer.snapshot',
        message: `bytes at ${offset} were damaged on their way`,
        retryable: true,
      })
    }
    receiving.offset += bytes.length
    const write = receiving.last.then(() => {
      if (receiving.isOver) throw gone()
      return receiving.sink.write(bytes)
    })
    receiving.last = write
    write.catch(() => this.#close(receiving))
    return write
  }

  async #end(receiving: Receiving): Promise<void> {
    await receiving.last
    if (receiving.offset !== receiving.size) {
      throw new NineError({ kind: 'invalid', op: 'peer.snapshot', message: `${receiving.offset} of ${receiving.size} bytes came` })
    }
    if (receiving.isOver) throw gone()
    receiving.isOver = true
    this.#receiving.delete(receiving.number)
    await receiving.sink.finish()
    const { from, group, term, meta } = receiving
    this.#install(from, group, { kind: 'install', from, to: this.#own.member, term, meta }) // S2
  }

  async #close(receiving: Receiving): Promise<void> {
    if (receiving.isOver) return
    receiving.isOver = true
    await receiving.last.catch(() => undefined)
    await receiving.sink.close().catch(() => undefined)
    this.#receiving.delete(receiving.number)
  }
}

const nothing = new Uint8Array(0)

function gone(): NineError {
  return new NineError({ kind: 'unavailable', op: 'peer.snapshot', message: 'this transfer is over' })
}

function encodeBegin({ group, term, id, meta, size }: Begin): Uint8Array {
  const writer = new Writer()
  writer.optionalUint(1, group)
  writer.optionalUint(2, term)
  writer.string(3, id)
  writer.optionalUint(4, size)
  writer.bytes(5, encodeMeta(meta))
  return writer.takeOne()
}

/** @throws WireError */
function decodeBegin(body: Buffer): Begin {
  const reader = new Reader(body)
  const begin = { group: 0, term: 0, id: '', size: 0 }
  let meta: Buffer | undefined
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === varintKey(1)) begin.group = reader.uint()
    else if (key === varintKey(2)) begin.term = reader.uint()
    else if (key === bytesKey(3)) begin.id = reader.string()
    else if (key === varintKey(4)) begin.size = reader.uint()
    else if (key === bytesKey(5)) meta = reader.bytes()
    else reader.skip(key)
  }
  if (meta === undefined || begin.id === '') throw new WireError('a snapshot has no name')
  return { ...begin, meta: decodeMeta(meta) }
}

function encodePart(number: number, offset: number, bytes: Uint8Array): Uint8Array {
  const writer = new Writer()
  writer.optionalUint(1, number)
  writer.optionalUint(2, offset)
  writer.optionalUint(3, crc32c(bytes))
  writer.bytes(4, bytes)
  return writer.takeOne()
}

/** @throws WireError */
function decodePart(body: Buffer): { readonly number: number; readonly offset: number; readonly crc: number; readonly bytes: Buffer } {
  const reader = new Reader(body)
  const part = { number: 0, offset: 0, crc: 0 }
  let bytes: Buffer = Buffer.alloc(0)
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === varintKey(1)) part.number = reader.uint()
    else if (key === varintKey(2)) part.offset = reader.uint()
    else if (key === varintKey(3)) part.crc = reader.uint()
    else if (key === bytesKey(4)) bytes = reader.bytes()
    else reader.skip(key)
  }
  return { ...part, bytes }
}
