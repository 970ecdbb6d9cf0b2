/**
 * Packets back into items, given to a sink one by one.
 *
 * D1 Any bytes give items or a WireError: nothing is allocated by a claimed count or length that the packet has no bytes for.
 * D2 The data of entries and the bodies of requests are views of the packet.
 */
import { WireError } from '../../proto/protobuf.ts'
import type { Reader } from '../../proto/protobuf.ts'
import type { GroupId, PeerItem, PeerMessage } from '../../raft/driver/ports.ts'
import type { Configuration, Entry, NodeId } from '../../raft/model.ts'
import { entryHas, itemKind } from './codec.ts'

/** Takes what a packet holds, in order. */
export interface ItemSink {
  item(item: PeerItem): void
  /** `timeLeft` in milliseconds, 0: no deadline. */
  request(id: number, group: GroupId, timeLeft: number, verb: string, body: Buffer): void
  answer(id: number, body: Buffer): void
  failure(id: number, error: Buffer): void
}

/** All items between two places of a buffer. @throws WireError */
export function readItems(reader: Reader, from: NodeId, to: NodeId, sink: ItemSink): void {
  while (reader.at < reader.end) {
    const kind = reader.uint()
    if (kind <= itemKind.stale) {
      const group = reader.uint()
      sink.item({ kind: 'raft', group, message: readMessage(reader, kind, from, to) })
    } else if (kind === itemKind.request) {
      const id = reader.uint()
      const group = reader.uint()
      const timeLeft = reader.uint()
      const verb = reader.string()
      sink.request(id, group, timeLeft, verb, reader.bytes()) // D2
    } else if (kind === itemKind.answer) {
      const id = reader.uint()
      sink.answer(id, reader.bytes())
    } else if (kind === itemKind.failure) {
      const id = reader.uint()
      sink.failure(id, reader.bytes())
    } else if (kind === itemKind.quiesce) {
      const group = reader.uint()
      const life = reader.uint()
      const term = reader.uint()
      sink.item({ kind: 'quiesce', group, life, term, index: reader.uint() })
    } else if (kind === itemKind.awake) {
      sink.item({ kind: 'awake', group: reader.uint() })
    } else if (kind === itemKind.beat) {
      sink.item({ kind: 'beat', life: reader.uint() })
    } else {
      throw new WireError(`${kind} is no kind of item`)
    }
  }
}

function readMessage(reader: Reader, kind: number, from: NodeId, to: NodeId): PeerMessage {
  const term = reader.uint()
  switch (kind) {
    case itemKind.append: {
      const prevIndex = reader.uint()
      const prevTerm = reader.uint()
      const commit = reader.uint()
      return { kind: 'append', from, to, term, prevIndex, prevTerm, commit, entries: readEntries(reader, term, prevIndex) }
    }
    case itemKind.accepted:
      return { kind: 'accepted', from, to, term, match: reader.uint() }
    case itemKind.rejected: {
      const prevIndex = reader.uint()
      const hintIndex = reader.uint()
      return { kind: 'rejected', from, to, term, prevIndex, hintIndex, hintTerm: reader.uint() }
    }
    case itemKind.heartbeat: {
      const commit = reader.uint()
      return { kind: 'heartbeat', from, to, term, commit, round: reader.uint() }
    }
    case itemKind.heartbeatReply:
      return { kind: 'heartbeat_reply', from, to, term, round: reader.uint() }
    case itemKind.commit:
      return { kind: 'commit', from, to, term, commit: reader.uint() }
    case itemKind.preVote: {
      const lastIndex = reader.uint()
      return { kind: 'pre_vote', from, to, term, lastIndex, lastTerm: reader.uint() }
    }
    case itemKind.vote: {
      const lastIndex = reader.uint()
      const lastTerm = reader.uint()
      return { kind: 'vote', from, to, term, lastIndex, lastTerm, transfer: reader.bool() }
    }
    case itemKind.preVoteReply:
      return { kind: 'pre_vote_reply', from, to, term, granted: reader.bool() }
    case itemKind.voteReply:
      return { kind: 'vote_reply', from, to, term, granted: reader.bool() }
    case itemKind.timeoutNow:
      return { kind: 'timeout_now', from, to, term }
    case itemKind.stale:
      return { kind: 'stale', from, to, term }
    case itemKind.read: {
      const incarnation = reader.uint()
      return { kind: 'read', from, to, term, incarnation, read: reader.uint() }
    }
    case itemKind.readReply: {
      const incarnation = reader.uint()
      const read = reader.uint()
      return { kind: 'read_reply', from, to, term, incarnation, read, index: reader.uint() }
    }
    default:
      throw new WireError(`${kind} is no kind of message`)
  }
}

function readEntries(reader: Reader, term: number, prevIndex: number): Entry[] {
  const count = reader.uint()
  checkCount(reader, count, 2)
  if (!Number.isSafeInteger(prevIndex + count)) throw new WireError('an index is past 2^53 - 1')
  const entries: Entry[] = new Array<Entry>(count)
  for (let i = 0; i < count; i++) {
    const back = reader.uint()
    if (back > term) throw new WireError('an entry has a term below 0')
    const has = reader.uint()
    if (has > entryHas.configuration) throw new WireError(`${has} is nothing that an entry has`)
    entries[i] = {
      index: prevIndex + 1 + i,
      term: term - back,
      data: has === entryHas.data ? reader.bytes() : null, // D2
      configuration: has === entryHas.configuration ? readConfiguration(reader) : null,
    }
  }
  return entries
}

export function readConfiguration(reader: Reader): Configuration {
  return { voters: readIds(reader), outgoing: readIds(reader), learners: readIds(reader), demoted: readIds(reader) }
}

function readIds(reader: Reader): NodeId[] {
  const count = reader.uint()
  checkCount(reader, count, 1)
  const ids: NodeId[] = []
  for (let i = 0; i < count; i++) ids.push(reader.string())
  return ids
}

/** D1 */
function checkCount(reader: Reader, count: number, bytes_min: number): void {
  if (count * bytes_min > reader.end - reader.at) throw new WireError(`a list of ${count} is longer than its packet`)
}
