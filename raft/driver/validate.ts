/**
 * The form of what peers send: whole numbers, entries in order, the sender and receiver that the connection says. What passes may be
 * given to the core, which looks at the rest against its own state (raft/plausible.ts).
 */
import type { Configuration, Entry, Message, NodeId, SnapshotMeta } from '../model.ts'
import type { Brought, PeerItem } from './ports.ts'

/** Terms and indexes are below this, so that counting on from one stays exact. */
const number_max = 2 ** 52

/** What is wrong with it, or null. */
export function faultOfItem(item: PeerItem | Brought, from: NodeId, to: NodeId): string | null {
  switch (item.kind) {
    case 'raft':
      return isCount(item.group) ? faultOfMessage(item.message, from, to) : 'group'
    case 'quiesce':
      return isCount(item.group) && isCount(item.term) && isCount(item.index) && isCount(item.life) ? null : 'quiesce'
    case 'awake':
      return isCount(item.group) ? null : 'group'
    case 'beat':
      return isCount(item.life) ? null : 'life'
    default:
      return 'kind of item'
  }
}

function faultOfMessage(message: Message, from: NodeId, to: NodeId): string | null {
  if (message.from !== from) return 'from'
  if (message.to !== to || from === to) return 'to'
  if (!isCount(message.term)) return 'term'
  switch (message.kind) {
    case 'pre_vote':
    case 'vote':
      return isPlace(message.lastIndex, message.lastTerm, message.term) ? null : 'last entry'
    case 'pre_vote_reply':
    case 'vote_reply':
      return typeof message.granted === 'boolean' ? null : 'granted'
    case 'append':
      if (!isPlace(message.prevIndex, message.prevTerm, message.term)) return 'previous entry'
      return isCount(message.commit) ? faultOfEntries(message.entries, message.prevIndex, message.prevTerm, message.term) : 'commit'
    case 'accepted':
      return isCount(message.match) ? null : 'match'
    case 'rejected':
      return isCount(message.prevIndex) && isCount(message.hintIndex) && isTermOrNone(message.hintTerm) ? null : 'hint'
    case 'heartbeat':
      return isCount(message.commit) && isCount(message.round) ? null : 'heartbeat'
    case 'heartbeat_reply':
      return isCount(message.round) ? null : 'round'
    case 'commit':
      return isCount(message.commit) ? null : 'commit'
    case 'install':
      return faultOfMeta(message.meta, message.term)
    case 'read':
      return isCount(message.incarnation) && isCount(message.read) ? null : 'read'
    case 'read_reply':
      return isCount(message.incarnation) && isCount(message.read) && isCount(message.index) ? null : 'read'
    case 'timeout_now':
    case 'stale':
      return null
    default:
      return 'kind of message'
  }
}

function faultOfEntries(entries: readonly Entry[], prevIndex: number, prevTerm: number, term: number): string | null {
  let index = prevIndex
  let before = prevTerm
  for (const entry of entries) {
    if (entry.index !== ++index || !isCount(entry.index)) return 'index of an entry'
    if (!isCount(entry.term) || entry.term < before || entry.term > term) return 'term of an entry'
    if (entry.data !== null && !(entry.data instanceof Uint8Array)) return 'data of an entry'
    if (entry.configuration !== null && (entry.data !== null || !isConfiguration(entry.configuration))) return 'configuration of an entry'
    before = entry.term
  }
  return null
}

function faultOfMeta(meta: SnapshotMeta, term: number): string | null {
  if (!isPlace(meta.index, meta.term, term)) return 'index of a snapshot'
  return isConfiguration(meta.configuration) ? null : 'configuration of a snapshot'
}

/** Each list names a node once, and somebody votes. */
function isConfiguration({ voters, outgoing, learners, demoted }: Configuration): boolean {
  return voters.length > 0 && [voters, outgoing, learners, demoted].every(isListOfNodes)
}

function isListOfNodes(ids: readonly NodeId[]): boolean {
  return Array.isArray(ids) && new Set(ids).size === ids.length && ids.every((id) => typeof id === 'string' && id !== '')
}

function isPlace(index: number, entryTerm: number, term: number): boolean {
  return isCount(index) && isCount(entryTerm) && entryTerm <= term
}

function isTermOrNone(term: number): boolean {
  return term === -1 || isCount(term)
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value < number_max
}
