/**
 * Contexts on the wire. A deadline travels as the time that is left; a client that is the session's own is not named; the
 * principal is the session's, except where a node speaks to a service for somebody.
 *
 * X1 Hops grow by one each time a Context crosses a wire, and past the limit it is refused as `loop`.
 */
import { WireError } from '../../proto/protobuf.ts'
import type { Reader, Writer } from '../../proto/protobuf.ts'
import type { Clock } from '../clock.ts'
import type { ClientIdentity, Context } from '../context.ts'
import { NineError } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Principal } from '../rights.ts'
import type { Micros } from '../stat.ts'
import { B, F, refuseField, V } from './fields.ts'

const never = 0xffff_ffff
const text_bytes_max = 255

/** What the sender of a request adds to its Context. */
export interface Envelope {
  /** Now, on the clock of Context.deadline, milliseconds. */
  readonly now: number
  /** Whose `seq` it is, when not the session's own; with `seq` 0: no mutation. */
  readonly client: ClientIdentity | undefined
  readonly seq: number
  readonly settled: number
  /** Number of the file server at the peer. */
  readonly target: number
  /** Name the principal, for a peer that serves many through one session. */
  readonly namesPrincipal: boolean
}

/** As field 1 of the request being written. */
export function writeContext(writer: Writer, context: Context, envelope: Envelope): void {
  const begun = writer.begin(1)
  const left = context.deadline - envelope.now
  writer.uint(1, left >= never ? never : left < 1 ? 1 : Math.ceil(left))
  if (context.trace !== undefined) writer.string(2, context.trace)
  if (context.cause !== undefined) writer.string(3, context.cause)
  if (envelope.seq !== 0) {
    writer.uint(4, envelope.seq)
    writer.uint(5, envelope.settled)
    if (envelope.client !== undefined) {
      writer.string(6, envelope.client.id)
      writer.fixed(7, envelope.client.born)
    }
  }
  if (context.digest !== undefined) writer.string(8, context.digest)
  if (context.time !== undefined) writer.fixed(9, context.time)
  writer.uint(10, (context.hops ?? 0) + 1) // X1
  writer.uint(11, envelope.target)
  writer.bool(12, context.signal !== undefined)
  if (envelope.namesPrincipal) {
    writer.string(13, context.principal.name)
    for (const group of context.principal.groups) writer.optionalString(14, group)
  }
  writer.end(begun)
}

export interface ContextSource {
  readonly principal: Principal
  /** Number of the session on this side. */
  readonly session: number | undefined
  /** The session's own client; undefined where it has none. */
  readonly client: { readonly id: string; readonly born: Micros } | undefined
  /** Aborted when the session ends. */
  readonly signal: AbortSignal
  readonly clock: Clock
  /** Believe the principal that a request names. */
  readonly believesPrincipal: boolean
}

/** Reads the contexts of one session's requests. The fields beside the Context are of the request read last. */
export class ContextReader {
  /** Number of the file server that is meant. */
  target = 0
  /** There when the peer may cancel. */
  controller: AbortController | undefined
  readonly #source: ContextSource
  #client: ClientIdentity | undefined
  #context: Context | undefined

  constructor(source: ContextSource) {
    this.#source = source
  }

  /** Forget the request before. */
  begin(): void {
    this.target = 0
    this.controller = undefined
    this.#context = undefined
  }

  /** The Context of the request that was read, a default one when it carried none. */
  take(): Context {
    return this.#context ?? this.#build(0, undefined, undefined, undefined, 0, undefined, undefined, 0, this.#source.principal)
  }

  /** @throws NineError `loop` (X1), WireError */
  read(reader: Reader): void {
    let left = 0
    let trace: string | undefined
    let cause: string | undefined
    let seq = 0
    let settled = 0
    let client: string | undefined
    let born = 0
    let digest: string | undefined
    let time: number | undefined
    let hops = 0
    let isCancellable = false
    let principal: string | undefined
    let groups: string[] | undefined
    const outer = reader.enter()
    for (let key = reader.next(); key !== 0; key = reader.next()) {
      switch (key) {
        case V.f1:
          left = reader.uint()
          break
        case B.f2:
          trace = readShort(reader)
          break
        case B.f3:
          cause = readShort(reader)
          break
        case V.f4:
          seq = reader.uint()
          break
        case V.f5:
          settled = reader.uint()
          break
        case B.f6:
          client = readShort(reader)
          break
        case F.f7:
          born = reader.fixed()
          break
        case B.f8:
          digest = readShort(reader)
          break
        case F.f9:
          time = reader.fixed()
          break
        case V.f10:
          hops = reader.uint()
          break
        case V.f11:
          this.target = reader.uint()
          break
        case V.f12:
          isCancellable = reader.bool()
          break
        case B.f13:
          principal = readShort(reader)
          break
        case B.f14:
          groups ??= []
          groups.push(readShort(reader))
          if (groups.length > groups_max) throw new WireError('too many groups')
          break
        default:
          refuseField(key)
      }
    }
    reader.leave(outer)
    if (hops > limits.hops_max) {
      throw new NineError({ kind: 'loop', op: 'wire.request', message: `the request went over more than ${limits.hops_max} connections` })
    }
    if (isCancellable) this.controller = new AbortController()
    const identity =
      seq === 0
        ? undefined
        : client === undefined
          ? this.#own(settled)
          : { id: client, born: checkBirth(born, this.#source.clock), settled }
    const who =
      principal !== undefined && this.#source.believesPrincipal ? { name: principal, groups: groups ?? [] } : this.#source.principal
    this.#context = this.#build(left, trace, cause, identity, seq, digest, time, hops, who)
  }

  #build(
    left: number,
    trace: string | undefined,
    cause: string | undefined,
    client: ClientIdentity | undefined,
    seq: number,
    digest: string | undefined,
    time: number | undefined,
    hops: number,
    principal: Principal,
  ): Context {
    const { clock, signal, session } = this.#source
    const deadline = left >= never ? Infinity : clock.monotonic() + (left === 0 ? limits.request_ms_default : left)
    return {
      principal,
      deadline,
      signal: this.controller === undefined ? signal : this.controller.signal,
      trace,
      cause,
      client,
      seq: client === undefined ? undefined : seq,
      digest,
      time,
      hops,
      session,
    }
  }

  #own(settled: number): ClientIdentity | undefined {
    const own = this.#source.client
    if (own === undefined) return undefined
    if (this.#client === undefined || this.#client.settled !== settled) this.#client = { id: own.id, born: own.born, settled }
    return this.#client
  }
}

const groups_max = 64

/**
 * A client's birth, as another node's clock told it: never changed, since a store knows a client by id and birth, and a retry through
 * a node whose clock is behind would be another client's. Far ahead it would make stores doubt all others once it is forgotten.
 * @throws NineError `invalid`
 */
export function checkBirth(born: Micros, clock: Clock): Micros {
  if (born <= clock.now() + limits.client_ahead_ms_max * 1000) return born
  throw new NineError({
    kind: 'invalid',
    op: 'wire.client',
    message: 'the client was born in the future: clocks differ by more than a day',
  })
}

function readShort(reader: Reader): string {
  const text = reader.string()
  if (text.length > text_bytes_max) throw new WireError(`a text of the context is longer than ${text_bytes_max} bytes`)
  return text
}
