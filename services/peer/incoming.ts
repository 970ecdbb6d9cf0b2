/**
 * A stream that another node opened: its hello, then its items and requests, and our answers.
 *
 * I1 Until its proof was right a stream may say no more than a hello, and has limits.peer_dial_ms for it.
 * I2 Items are given on in order, and none after `close`: whoever opens a newer connection of the same member closes this one first.
 * I3 Requests being served, their bytes, and bytes of answers that wait are bounded: past any of them requests are refused. The stream is
 *    always read, so that no heartbeat waits behind a request.
 * I4 What cannot be read, or a node's part that throws, ends the stream; nothing escapes into the event loop.
 */
import { randomBytes } from 'node:crypto'
import type { ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { NineError, toNineError, textOf } from '../../namespace/errors.ts'
import { writeError } from '../../namespace/wire/fields.ts'
import { bytesKey, Reader, WireError, Writer } from '../../proto/protobuf.ts'
import type { GroupId, PeerItem } from '../../raft/driver/ports.ts'
import { itemKind, PacketWriter } from './codec.ts'
import { readItems } from './decode.ts'
import type { ItemSink } from './decode.ts'
import { GrpcStream, grpcStatus, withPrefix } from './grpc-stream.ts'
import {
  commonVersion,
  decodeHello,
  decodeOpening,
  encodeOpening,
  encodeWelcome,
  isProof,
  nonce_bytes,
  proofOf,
  refusalOf,
  versionRefusal,
} from './hello.ts'
import type { Hello } from './hello.ts'
import { callPath } from './own.ts'
import type { CallKind, Own } from './own.ts'
import { TurnEnd } from './turn-end.ts'

export interface IncomingEvents {
  /** The hello is over. */
  opened(incoming: Incoming): void
  item(incoming: Incoming, item: PeerItem): void
  /** @param deadline on the monotonic clock, or Infinity */
  request(incoming: Incoming, group: GroupId, verb: string, body: Buffer, deadline: number): Promise<Uint8Array>
  /** Once. `refused`: its hello; `garbage`: what it said cannot be read; `fault`: a part of this node failed. */
  ended(incoming: Incoming, why: 'ended' | 'refused' | 'garbage' | 'fault', error: NineError): void
}

const handshake_bytes_max = 16 * 1024

export class Incoming {
  readonly kind: CallKind
  /** Of the dialler; empty until its hello was read. */
  hello: Hello | undefined
  isOpen = false
  readonly #own: Own
  readonly #events: IncomingEvents
  readonly #stream: GrpcStream
  readonly #where: string
  readonly #writer = new PacketWriter()
  readonly #turnEnd = new TurnEnd(() => this.#flush())
  readonly #reader = new Reader()
  readonly #expected: { proof: Buffer | undefined } = { proof: undefined }
  readonly #sink: ItemSink
  readonly #bytesRead: () => number
  #bytesSeen = 0
  #silentTicks = 0
  #isEnded = false
  #serving = 0
  #servingBytes = 0

  constructor(own: Own, kind: CallKind, stream: ServerHttp2Stream, socket: Socket, where: string, events: IncomingEvents) {
    this.#own = own
    this.kind = kind
    this.#events = events
    this.#where = where
    this.#bytesRead = () => socket.bytesRead
    this.#sink = {
      item: (item) => this.#item(item),
      request: (id, group, timeLeft, verb, body) => this.#request(id, group, timeLeft, verb, body),
      answer: refuseAnswer,
      failure: refuseAnswer,
    }
    this.#stream = new GrpcStream(
      stream,
      {
        message: (buffer, start, end) => this.#message(buffer, start, end),
        ended: (code, message) => this.#end(code === grpcStatus.invalid ? 'garbage' : 'ended', message),
      },
      handshake_bytes_max, // I1
    )
  }

  /** Who is there: its member id, or where it comes from. */
  get peer(): string {
    return this.isOpen ? this.hello!.from : this.#where
  }

  /** I2 */
  close(message: string, code: number = grpcStatus.unavailable): void {
    this.#stream.end(code, message)
  }

  /** Every limits.peer_tick_ms, once it is open: the dialler asks for a sign of life sooner than this gives it up. */
  tick(): void {
    const bytes = this.#bytesRead()
    if (bytes !== this.#bytesSeen) {
      this.#bytesSeen = bytes
      this.#silentTicks = 0
      return
    }
    const { peer_silent_ms_max, peer_tick_ms } = this.#own.limits
    const silent_ms = ++this.#silentTicks * peer_tick_ms
    if (silent_ms >= peer_silent_ms_max) this.close(`nothing came for ${silent_ms} ms`)
  }

  #message(buffer: Buffer, start: number, end: number): void {
    if (this.#isEnded) return
    try {
      if (this.isOpen) this.#packet(buffer, start, end)
      else this.#opening(buffer, start, end)
    } catch (error) {
      const isWire = error instanceof WireError
      this.#end(isWire ? 'garbage' : 'fault', textOf(error), error) // I4
      this.#stream.end(isWire ? grpcStatus.invalid : grpcStatus.unavailable, isWire ? error.message : 'the node has a fault')
    }
  }

  #opening(buffer: Buffer, start: number, end: number): void {
    const { hello, proof } = decodeOpening(buffer, start, end)
    if (this.hello === undefined) {
      if (hello === undefined) throw new WireError('the first message is no hello')
      return this.#greet(hello)
    }
    const { secret } = this.#own
    if (secret !== undefined && !isProof(proof, this.#expected.proof!)) {
      return this.#refuse(grpcStatus.unauthenticated, `${this.hello.from} at ${this.#where} does not know the secret of this cluster`)
    }
    this.isOpen = true
    this.#stream.messageBytesMax = this.#own.limits.peer_message_bytes_max
    this.#events.opened(this)
  }

  #greet(bytes: Buffer): void {
    const hello = decodeHello(bytes)
    const { member, cluster, versions, features, secret } = this.#own
    const refusal = this.kind === 'call' ? versionRefusal(hello, this.#own) : refusalOf(hello, this.#own)
    if (refusal !== undefined) {
      // Who is starting has nothing against the other.
      const isEarly = this.kind !== 'call' && cluster === '' && versionRefusal(hello, this.#own) === undefined
      return isEarly ? this.#refuse(grpcStatus.unavailable, refusal, 'ended') : this.#refuse(grpcStatus.precondition, refusal)
    }
    this.hello = hello
    const version = commonVersion(hello.versions, versions)!
    const welcome = encodeWelcome({ version, features, cluster, member, nonce: randomBytes(nonce_bytes) })
    const path = callPath[this.kind]
    const proof = secret === undefined ? undefined : proofOf(secret, 'listener', path, bytes, welcome)
    this.#expected.proof = secret === undefined ? undefined : proofOf(secret, 'dialler', path, bytes, welcome)
    this.#stream.answer()
    this.#stream.write(withPrefix(encodeOpening({ welcome, proof })))
  }

  #refuse(code: number, message: string, why: 'refused' | 'ended' = 'refused'): void {
    this.#end(why, message)
    this.#stream.end(code, message)
  }

  #packet(buffer: Buffer, start: number, end: number): void {
    const reader = this.#reader.reset(buffer, start, end)
    for (let key = reader.next(); key !== 0 && !this.#isEnded; key = reader.next()) {
      if (key !== bytesKey(4)) {
        reader.skip(key)
        continue
      }
      const outer = reader.enter()
      readItems(reader, this.hello!.from, this.#own.member, this.#sink)
      reader.leave(outer)
    }
  }

  #item(item: PeerItem): void {
    if (this.kind !== 'items') throw new WireError(`an item of Raft came on a ${this.kind} call`)
    if (!this.#isEnded) this.#events.item(this, item) // I2
  }

  #request(id: number, group: GroupId, timeLeft: number, verb: string, body: Buffer): void {
    if (this.#isEnded) return
    const { limits, clock } = this.#own
    if (this.#serving >= limits.peer_requests_max || this.#servingBytes > limits.peer_serving_bytes_max) {
      // I3
      return this.#fail(
        id,
        new NineError({ kind: 'overloaded', op: 'peer.request', message: `${this.#own.member} serves as many requests as it may` }),
      )
    }
    this.#serving++
    this.#servingBytes += body.length
    const deadline = timeLeft === 0 ? Infinity : clock.monotonic() + timeLeft
    this.#events.request(this, group, verb, body, deadline).then(
      (answer) => this.#served(id, body.length, answer, undefined),
      (error: unknown) => this.#served(id, body.length, undefined, toNineError(error, `peer.${verb}`)),
    )
  }

  #served(id: number, bytes: number, answer: Uint8Array | undefined, error: NineError | undefined): void {
    this.#serving--
    this.#servingBytes -= bytes
    if (this.#isEnded) return
    const { peer_message_bytes_max, peer_send_bytes_max } = this.#own.limits
    const room = peer_message_bytes_max - answer_overhead_bytes
    if (error !== undefined) this.#fail(id, error)
    else if (answer!.length > room) this.#fail(id, unanswered('too_large', `an answer of ${answer!.length} bytes fits no message`))
    else if (this.#stream.waitingBytes > peer_send_bytes_max)
      this.#fail(id, unanswered('overloaded', 'too many answers wait')) // I3
    else {
      if (this.#writer.length + answer!.length > room) this.#flush()
      this.#writer.answer(itemKind.answer, id, answer!)
      this.#written()
    }
  }

  #fail(id: number, error: NineError): void {
    const writer = new Writer()
    writeError(writer, error)
    this.#writer.answer(itemKind.failure, id, writer.takeOne())
    this.#written()
  }

  #written(): void {
    if (this.#writer.length > this.#own.limits.peer_packet_bytes) return this.#flush()
    this.#turnEnd.due()
  }

  #flush(): void {
    if (this.#writer.length === 0 || this.#isEnded) return
    this.#stream.write(this.#writer.take())
  }

  #end(why: 'ended' | 'refused' | 'garbage' | 'fault', message: string, cause?: unknown): void {
    if (this.#isEnded) return
    this.#isEnded = true
    const kind = why === 'refused' ? 'denied' : why === 'garbage' ? 'invalid' : why === 'fault' ? 'internal' : 'unavailable'
    this.#events.ended(this, why, new NineError({ kind, op: 'peer.serve', message, cause }))
  }
}

/** Of the item's other fields, with room to spare. */
const answer_overhead_bytes = 512

/** What was asked for was done, but its answer cannot be given. */
function unanswered(kind: 'too_large' | 'overloaded', message: string): NineError {
  return new NineError({ kind, op: 'peer.request', message, outcome: 'unknown' })
}

function refuseAnswer(): void {
  throw new WireError('an answer came on a call that asks')
}
