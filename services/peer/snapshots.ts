/**
 * Snapshots from one member to another, as requests on Bulk: `snapshot.begin` (what it is → how much of it is there),
 * `snapshot.part` (offset, checksum, bytes, size once it is known → nothing, when taken), `snapshot.end` (size → whether the driver there has
 * the message, and how far it is; asked again until it has). Parts are sent while the snapshot is still written.
 *
 * S1 A transfer whose connection broke goes on behind what the receiver has of the same id.
 * S2 The message that is given to the receiver's driver has the meta of what was sent, and comes when all of it is durable there.
 * S3 Transfers at once are bounded on both sides; a sender waits in turn, a receiver refuses.
 * S4 A receiver has at most one transfer of a group, the newest: an older one is closed before its sink is opened.
 * S5 What is done behind the last byte may take any time, as long as the receiver gets on with it: it answers every
 *    limits.peer_transfer_wait_ms, and only after limits.request_ms_default without progress it is given up.
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
  /** There are so far. */
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
    const progress = {
      group,
      peer: message.to,
      get bytes() {
        return source.size
      },
      sentBytes: 0,
    }
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
    const begun = decodeNumbers(await this.#ask(to, 'snapshot.begin', encodeBegin({ group, term, id: source.id, meta: source.meta })))
    const [number] = begun
    let [, offset] = begun
    if (offset > source.size) throw new NineError({ kind: 'invalid', op: 'peer.snapshot', message: `${to} has more than there is` })
    progress.sentBytes = offset
    let failure: NineError | undefined
    const under = new Set<Promise<void>>()
    while (failure === undefined) {
      const bytes = await source.read(offset, part_bytes)
      if (bytes.length === 0) break
      const part: Promise<void> = this.#ask(
        to,
        'snapshot.part',
        encodePart(number, offset, bytes, source.isWhole === true ? source.size : 0),
      ).then(
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
    await this.#end(to, number, offset)
  }

  /** S2, S5 */
  async #end(to: NodeId, number: number, size: number): Promise<void> {
    const { clock, limits } = this.#own
    let furthest = -1
    for (let movedAt = clock.monotonic(); !this.#isClosed;) {
      const [isTaken, progress] = decodeNumbers(await this.#ask(to, 'snapshot.end', encodeNumbers(number, size)))
      if (isTaken !== 0) return
      const now = clock.monotonic()
      if (progress > furthest) movedAt = now
      furthest = Math.max(furthest, progress)
      if (now - movedAt < limits.request_ms_default) continue
      const message = `${to} has the snapshot and does not get on with it for ${Math.round(now - movedAt)} ms`
      throw new NineError({ kind: 'deadline', op: 'peer.snapshot', message })
    }
    throw new NineError({ kind: 'unavailable', op: 'peer.snapshot', message: 'the node is closing' })
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
  /** All of it came: resolves when the driver has the message. */
  finishing: Promise<void> | undefined
  /** Its sink takes no more. */
  isOver: boolean
  isDone: boolean
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
    if (verb === 'snapshot.end') {
      const [number, size] = decodeNumbers(body)
      return this.#end(this.#known(stream, number), size)
    }
    const { number, offset, crc, total, bytes } = decodePart(body)
    const receiving = this.#known(stream, number)
    if (total > 0) receiving.sink.total = total
    await this.#part(receiving, offset, crc, bytes)
    return nothing
  }

  /** The stream ended: so did its transfers. */
  ended(stream: object): void {
    for (const receiving of this.#receiving.values()) if (receiving.stream === stream) void this.#close(receiving)
  }

  #known(stream: object, number: number): Receiving {
    const receiving = this.#receiving.get(number)
    if (receiving?.stream !== stream) throw gone()
    return receiving
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
      return encodeNumbers(number, sink.offset)
    } finally {
      if (this.#begins.get(begin.group) === settled) this.#begins.delete(begin.group)
    }
  }

  async #open(stream: object, from: NodeId, begin: Begin): Promise<Receiving> {
    for (const old of this.#receiving.values()) if (old.group === begin.group) await this.#close(old) // S4
    let underWay = 0
    for (const { isDone } of this.#receiving.values()) if (!isDone) underWay++
    if (underWay >= this.#own.limits.peer_transfers_max) {
      throw new NineError({ kind: 'overloaded', op: 'peer.snapshot', message: `${this.#own.member} receives as many snapshots as it may` })
    }
    const number = ++this.#lastNumber
    const { id, meta } = begin
    const sink = await this.#snapshots.receive(begin.group, { id, meta }, from)
    const state = { offset: sink.offset, last: Promise.resolve(), finishing: undefined, isOver: false, isDone: false }
    const receiving: Receiving = { ...begin, from, stream, number, sink, ...state }
    this.#receiving.set(number, receiving)
    return receiving
  }

  #part(receiving: Receiving, offset: number, crc: number, bytes: Buffer): Promise<void> {
    if (offset !== receiving.offset || receiving.finishing !== undefined) {
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

  /** S5 */
  async #end(receiving: Receiving, size: number): Promise<Uint8Array> {
    if (receiving.offset !== size) {
      throw new NineError({ kind: 'invalid', op: 'peer.snapshot', message: `${receiving.offset} of ${size} bytes came` })
    }
    receiving.finishing ??= this.#finish(receiving)
    // Told to who asks.
    receiving.finishing.catch(() => undefined)
    const isTaken = await within(receiving.finishing, this.#own.limits.peer_transfer_wait_ms).catch((error: unknown) => {
      this.#receiving.delete(receiving.number)
      throw error
    })
    if (isTaken) this.#receiving.delete(receiving.number)
    return encodeNumbers(isTaken ? 1 : 0, receiving.sink.progress)
  }

  async #finish(receiving: Receiving): Promise<void> {
    try {
      await receiving.last
      if (receiving.isOver) throw gone()
      receiving.isOver = true
      await receiving.sink.finish()
      const { from, group, term, meta } = receiving
      this.#install(from, group, { kind: 'install', from, to: this.#own.member, term, meta }) // S2
    } finally {
      receiving.isDone = true
    }
  }

  /** What is being finished goes on. */
  async #close(receiving: Receiving): Promise<void> {
    if (receiving.finishing !== undefined) this.#receiving.delete(receiving.number)
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

/** Whether it resolves within this time. @throws why not */
async function within(promise: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>((resolve) => (timer = setTimeout(resolve, ms, false)))
  try {
    return await Promise.race([promise.then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}

/** Two numbers are all that most of it says. */
function encodeNumbers(first: number, second: number): Uint8Array {
  const writer = new Writer()
  writer.optionalUint(1, first)
  writer.optionalUint(2, second)
  return writer.takeOne()
}

/** @throws WireError */
function decodeNumbers(body: Uint8Array): readonly [number, number] {
  const reader = new Reader(Buffer.from(body.buffer, body.byteOffset, body.length))
  let first = 0
  let second = 0
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === varintKey(1)) first = reader.uint()
    else if (key === varintKey(2)) second = reader.uint()
    else reader.skip(key)
  }
  return [first, second]
}

function encodeBegin({ group, term, id, meta }: Begin): Uint8Array {
  const writer = new Writer()
  writer.optionalUint(1, group)
  writer.optionalUint(2, term)
  writer.string(3, id)
  writer.bytes(4, encodeMeta(meta))
  return writer.takeOne()
}

/** @throws WireError */
function decodeBegin(body: Buffer): Begin {
  const reader = new Reader(body)
  const begin = { group: 0, term: 0, id: '' }
  let meta: Buffer | undefined
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === varintKey(1)) begin.group = reader.uint()
    else if (key === varintKey(2)) begin.term = reader.uint()
    else if (key === bytesKey(3)) begin.id = reader.string()
    else if (key === bytesKey(4)) meta = reader.bytes()
    else reader.skip(key)
  }
  if (meta === undefined || begin.id === '') throw new WireError('a snapshot has no name')
  return { ...begin, meta: decodeMeta(meta) }
}

function encodePart(number: number, offset: number, bytes: Uint8Array, total: number): Uint8Array {
  const writer = new Writer()
  writer.optionalUint(1, number)
  writer.optionalUint(2, offset)
  writer.optionalUint(3, crc32c(bytes))
  writer.bytes(4, bytes)
  writer.optionalUint(5, total)
  return writer.takeOne()
}

interface Part {
  readonly number: number
  readonly offset: number
  readonly crc: number
  /** 0: not known yet. */
  readonly total: number
  readonly bytes: Buffer
}

/** @throws WireError */
function decodePart(body: Buffer): Part {
  const reader = new Reader(body)
  const part = { number: 0, offset: 0, crc: 0, total: 0 }
  let bytes: Buffer = Buffer.alloc(0)
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key === varintKey(1)) part.number = reader.uint()
    else if (key === varintKey(2)) part.offset = reader.uint()
    else if (key === varintKey(3)) part.crc = reader.uint()
    else if (key === bytesKey(4)) bytes = reader.bytes()
    else if (key === varintKey(5)) part.total = reader.uint()
    else reader.skip(key)
  }
  return { ...part, bytes }
}
