/**
 * Items as bytes: what one turn of the event loop gives one peer is one packet, written straight into one buffer.
 *
 * A packet is `PeerPacket { bytes items = 4 }` of proto/nine/v1/peer.proto behind the five bytes of a gRPC message. The items in it
 * are a kind (one byte) and its fields, one behind the other; numbers are varints, texts and bytes have their length in front.
 * Sender and receiver of Raft's messages are those of the connection and are not written.
 *
 * C1 What could not be written whole is not in the packet: an item that fails leaves what was there before.
 * C2 Bytes that `take` handed out are not touched again.
 * C3 The data of entries is copied once, into the packet.
 * C4 An append that goes to several peers is encoded once: for the others its bytes are copied, as long as they stand.
 */
import type { GroupId, PeerItem, PeerMessage } from '../../raft/driver/ports.ts'
import type { Append, Configuration, Entry } from '../../raft/model.ts'
import { NineError } from '../../namespace/errors.ts'

/** First byte of an item. */
export const itemKind = {
  append: 1,
  accepted: 2,
  rejected: 3,
  heartbeat: 4,
  heartbeatReply: 5,
  commit: 6,
  preVote: 7,
  vote: 8,
  preVoteReply: 9,
  voteReply: 10,
  timeoutNow: 11,
  read: 12,
  readReply: 13,
  stale: 14,
  quiesce: 32,
  awake: 33,
  beat: 34,
  request: 48,
  answer: 49,
  failure: 50,
} as const

/** What follows the term of an entry: nothing, data, a configuration. */
export const entryHas = { nothing: 0, data: 1, configuration: 2 } as const

/** gRPC's prefix, the key of the field, and its length in four bytes whatever it is. */
const header_bytes = 10
const items_key = 0x22
const slab_bytes = 64 * 1024

/** The append that was encoded last, by any writer. C4 */
interface Encoded {
  readonly group: GroupId
  readonly message: Append
  readonly bytes: Buffer
}
let encoded: Encoded | undefined
/** Larger ones are not kept. */
const encoded_bytes_max = 1024 * 1024

export class PacketWriter {
  #buffer: Buffer = noBytes
  #start = 0
  #at = 0

  /** Bytes of the packet being written; 0 when nothing is in it. */
  get length(): number {
    return this.#at - this.#start
  }

  /** The packet, ready for the stream. */
  take(): Buffer {
    const { length } = this
    const packet = this.#buffer.subarray(this.#start, this.#at)
    packet[0] = 0
    packet.writeUInt32BE(length - 5, 1)
    packet[5] = items_key
    const rest = length - header_bytes
    packet[6] = (rest & 0x7f) | 0x80
    packet[7] = ((rest >>> 7) & 0x7f) | 0x80
    packet[8] = ((rest >>> 14) & 0x7f) | 0x80
    packet[9] = (rest >>> 21) & 0x7f
    this.#start = this.#at // C2
    return packet
  }

  /** Drop what was written since the packet had this length. */
  backTo(length: number): void {
    this.#undo(this.#start + length)
  }

  /** @throws NineError `invalid` for a number or text that cannot be carried */
  item(item: PeerItem): void {
    const begun = this.#begin()
    try {
      if (item.kind === 'raft') this.#message(item.group, item.message)
      else if (item.kind === 'beat') this.#kind(itemKind.beat, item.life)
      else if (item.kind === 'awake') this.#kind(itemKind.awake, item.group)
      else {
        this.#kind(itemKind.quiesce, item.group)
        this.#count(item.life)
        this.#count(item.term)
        this.#count(item.index)
      }
    } catch (error) {
      this.#undo(begun) // C1
      throw error
    }
  }

  /** @param timeLeft milliseconds, 0 for any number of them. @throws NineError `invalid` */
  request(id: number, group: GroupId, timeLeft: number, verb: string, body: Uint8Array): void {
    const begun = this.#begin()
    try {
      this.#kind(itemKind.request, id)
      this.#count(group)
      this.#count(timeLeft)
      this.#text(verb)
      this.#bytes(body)
    } catch (error) {
      this.#undo(begun) // C1
      throw error
    }
  }

  /** The answer to a request, or `failure` with an encoded error. */
  answer(kind: typeof itemKind.answer | typeof itemKind.failure, id: number, body: Uint8Array): void {
    this.#begin()
    this.#kind(kind, id)
    this.#bytes(body)
  }

  /** @returns where to go back to when the item cannot be written */
  #begin(): number {
    const begun = this.#at
    if (begun !== this.#start) return begun
    this.#ensure(header_bytes)
    this.#at += header_bytes
    return this.#start
  }

  #message(group: GroupId, message: PeerMessage): void {
    const { term } = message
    switch (message.kind) {
      case 'append':
        return this.#append(group, message)
      case 'accepted':
        this.#raft(itemKind.accepted, group, term)
        return this.#count(message.match)
      case 'heartbeat':
        this.#raft(itemKind.heartbeat, group, term)
        this.#count(message.commit)
        return this.#count(message.round)
      case 'heartbeat_reply':
        this.#raft(itemKind.heartbeatReply, group, term)
        return this.#count(message.round)
      case 'commit':
        this.#raft(itemKind.commit, group, term)
        return this.#count(message.commit)
      case 'rejected':
        this.#raft(itemKind.rejected, group, term)
        this.#count(message.prevIndex)
        this.#count(message.hintIndex)
        return this.#count(message.hintTerm)
      case 'pre_vote':
      case 'vote':
        this.#raft(message.kind === 'vote' ? itemKind.vote : itemKind.preVote, group, term)
        this.#count(message.lastIndex)
        this.#count(message.lastTerm)
        if (message.kind === 'vote') this.#count(message.transfer ? 1 : 0)
        return
      case 'pre_vote_reply':
      case 'vote_reply':
        this.#raft(message.kind === 'vote_reply' ? itemKind.voteReply : itemKind.preVoteReply, group, term)
        return this.#count(message.granted ? 1 : 0)
      case 'timeout_now':
        return this.#raft(itemKind.timeoutNow, group, term)
      case 'stale':
        return this.#raft(itemKind.stale, group, term)
      case 'read':
      case 'read_reply':
        this.#raft(message.kind === 'read' ? itemKind.read : itemKind.readReply, group, term)
        this.#count(message.incarnation)
        this.#count(message.read)
        if (message.kind === 'read_reply') this.#count(message.index)
        return
    }
  }

  #append(group: GroupId, message: Append): void {
    if (encoded !== undefined && isSame(encoded, group, message)) return this.#copy(encoded.bytes)
    const begun = this.length
    this.#encodeAppend(group, message)
    const bytes = this.#buffer.subarray(this.#start + begun, this.#at)
    if (message.entries.length > 0) encoded = bytes.length > encoded_bytes_max ? undefined : { group, message, bytes }
  }

  #encodeAppend(group: GroupId, { term, prevIndex, prevTerm, commit, entries }: Append): void {
    this.#raft(itemKind.append, group, term)
    this.#count(prevIndex)
    this.#count(prevTerm)
    this.#count(commit)
    this.#count(entries.length)
    let index = prevIndex
    for (const entry of entries) {
      if (entry.index !== ++index) throw invalid(`entry ${entry.index} stands where ${index} belongs`)
      this.#entry(term, entry)
    }
  }

  #entry(term: number, { term: own, data, configuration }: Entry): void {
    this.#count(term - own)
    if (data !== null) {
      this.#ensure(1)
      this.#buffer[this.#at++] = entryHas.data
      return this.#bytes(data)
    }
    this.#ensure(1)
    this.#buffer[this.#at++] = configuration === null ? entryHas.nothing : entryHas.configuration
    if (configuration !== null) this.#configuration(configuration)
  }

  #configuration({ voters, outgoing, learners, demoted }: Configuration): void {
    for (const ids of [voters, outgoing, learners, demoted]) {
      this.#count(ids.length)
      for (const id of ids) this.#text(id)
    }
  }

  #raft(kind: number, group: GroupId, term: number): void {
    this.#kind(kind, group)
    this.#count(term)
  }

  #kind(kind: number, first: number): void {
    this.#ensure(1)
    this.#buffer[this.#at++] = kind
    this.#count(first)
  }

  /** A whole number from 0 to 2^53 - 1: seven bits a byte, the lowest first. */
  #count(value: number): void {
    if (!(Number.isSafeInteger(value) && value >= 0)) throw invalid(`${value} is not a count`)
    this.#ensure(8)
    const buffer = this.#buffer
    let at = this.#at
    let rest = value
    while (rest > 0x7fff_ffff) {
      buffer[at++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    while (rest > 0x7f) {
      buffer[at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    buffer[at++] = rest
    this.#at = at
  }

  #text(value: string): void {
    const size = Buffer.byteLength(value)
    this.#count(size)
    this.#ensure(size)
    this.#at += this.#buffer.write(value, this.#at, size, 'utf8')
  }

  #bytes(value: Uint8Array): void {
    this.#count(value.length)
    this.#ensure(value.length)
    this.#buffer.set(value, this.#at) // C3
    this.#at += value.length
  }

  #copy(bytes: Buffer): void {
    this.#ensure(bytes.length)
    this.#buffer.set(bytes, this.#at)
    this.#at += bytes.length
  }

  /** What was written from here on is written over. */
  #undo(at: number): void {
    this.#at = at
    encoded = undefined // C4
  }

  #ensure(bytes: number): void {
    if (this.#at + bytes > this.#buffer.length) this.#grow(bytes)
  }

  /** Go on in a fresh buffer, taking the unfinished packet along. */
  #grow(bytes: number): void {
    const begun = this.#at - this.#start
    const larger = Buffer.allocUnsafeSlow(Math.max(slab_bytes, 2 * (begun + bytes)))
    this.#buffer.copy(larger, 0, this.#start, this.#at)
    this.#buffer = larger
    this.#start = 0
    this.#at = begun
  }
}

const noBytes = Buffer.alloc(0)

/** The core gives all peers that need the same entries one array of them, and never changes it. */
function isSame({ group, message }: Encoded, otherGroup: GroupId, other: Append): boolean {
  if (other.entries !== message.entries || group !== otherGroup) return false
  return (
    other.prevIndex === message.prevIndex &&
    other.prevTerm === message.prevTerm &&
    other.term === message.term &&
    other.commit === message.commit
  )
}

function invalid(message: string): NineError {
  return new NineError({ kind: 'invalid', op: 'peer.send', message })
}
