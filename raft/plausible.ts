/**
 * Whether a member could have sent this message, of this node's term, to a node in this state. What none could have sent comes of a
 * defect elsewhere (a codec, a node that lost its disk and kept its id): it is dropped, and the group goes on, where an assertion would end it.
 *
 * V1 No message from outside makes an assertion of the core fail. Its own form (whole numbers, entries in order) is the driver's to check.
 */
import { lastIndex, termAt } from './log.ts'
import type { Append, Message, NodeId } from './model.ts'
import type { Raft } from './state.ts'

export function isPlausible(raft: Raft, message: Message): boolean {
  switch (message.kind) {
    case 'append':
      return mayLead(raft, message.from) && mayFollowCommitted(raft, message)
    case 'heartbeat':
    case 'commit':
      return mayLead(raft, message.from) && message.commit <= lastIndex(raft.log)
    case 'install':
      return mayLead(raft, message.from)
    case 'accepted':
      return raft.leading === null || message.match <= lastIndex(raft.log)
    case 'heartbeat_reply':
      return raft.leading === null || message.round <= raft.leading.round
    case 'vote_reply':
      // Its requests leave when its own vote is durable. A vote before is for a former life that had its id.
      return !message.granted || raft.role !== 'candidate' || (raft.out.hard.term === raft.term && raft.out.hardTicket <= raft.out.done)
    default:
      return true
  }
}

/** Election safety: one leader a term. */
function mayLead(raft: Raft, from: NodeId): boolean {
  return raft.role !== 'leader' && (raft.leader === null || raft.leader === from)
}

/** Terms never fall, over the end of what is committed here too. */
function mayFollowCommitted(raft: Raft, { prevIndex, entries }: Append): boolean {
  if (prevIndex > raft.commit) return true
  const next = entries[raft.commit - prevIndex]
  return next === undefined || next.term >= termAt(raft.log, raft.commit)
}
