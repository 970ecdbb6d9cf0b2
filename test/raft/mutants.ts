/**
 * Deliberate bugs: edits of the core's text, each of which the transcripts or the simulation must find. `from` occurs exactly once in
 * `file`; when the core's text changes, its mutant is to be changed with it.
 */
export interface Mutant {
  readonly name: string
  readonly file: string
  readonly from: string
  readonly to: string
  /** Which simulation has to find it; default: the core's, and the transcripts. */
  readonly child?: string
}

export const mutants: readonly Mutant[] = [
  {
    name: 'commits entries of earlier terms by counting (figure 8)',
    file: 'replication.ts',
    from: 'if (reached <= raft.commit || termAt(log, reached) !== raft.term) return',
    to: 'if (reached <= raft.commit) return',
  },
  {
    name: 'votes twice in a term',
    file: 'election.ts',
    from: 'const free = raft.vote === message.from || (raft.vote === null && raft.leader === null)',
    to: 'const free = true',
  },
  {
    name: 'a vote leaves before it is on disk',
    file: 'outbox.ts',
    from: 'release(raft, hardIsDirty(raft) ? raft.out.ticket + 1 : raft.out.hardTicket, message)',
    to: 'release(raft, 0, message)',
  },
  {
    name: 'a promise of entries leaves before they are on disk',
    file: 'outbox.ts',
    from: 'release(raft, isDirty(raft) ? raft.out.ticket + 1 : raft.out.ticket, message)',
    to: 'release(raft, hardIsDirty(raft) ? raft.out.ticket + 1 : raft.out.hardTicket, message)',
  },
  {
    name: 'votes for a log that is shorter',
    file: 'log.ts',
    from: '(otherLastTerm === term && otherLastIndex >= lastIndex(log))',
    to: 'otherLastTerm === term',
  },
  {
    name: 'votes for a log whose last term is older, if it is longer',
    file: 'log.ts',
    from: 'return otherLastTerm > term || (otherLastTerm === term && otherLastIndex >= lastIndex(log))',
    to: 'return otherLastTerm > term || otherLastIndex >= lastIndex(log)',
  },
  {
    name: 'takes an append without looking at the entry before it',
    file: 'follower.ts',
    from: 'if (prevIndex > raft.commit && termAt(log, prevIndex) !== message.prevTerm) {',
    to: 'if (prevIndex > lastIndex(log)) {',
  },
  {
    name: 'keeps conflicting entries of its own',
    file: 'follower.ts',
    from: 'while (at < entries.length && termAt(log, prevIndex + 1 + at) === entries[at]!.term) at++',
    to: 'while (at < entries.length && termAt(log, prevIndex + 1 + at) >= 0) at++',
  },
  {
    name: 'a heartbeat tells of commits that the follower may not have',
    file: 'replication.ts',
    from: "const commit = Math.min(raft.commit, peer.match)\n    send(raft, { kind: 'heartbeat'",
    to: "const commit = raft.commit\n    send(raft, { kind: 'heartbeat'",
  },
  {
    name: 'the leader counts itself for what is not on its disk',
    file: 'replication.ts',
    from: 'id === raft.options.id ? raft.out.durable :',
    to: 'id === raft.options.id ? lastIndex(log) :',
  },
  {
    name: 'in a joint configuration the old majority is not asked',
    file: 'quorum.ts',
    from: 'return Math.min(incoming, majorityValue(configuration.outgoing, valueOf))',
    to: 'return incoming',
  },
  {
    name: 'in a joint configuration one majority elects',
    file: 'quorum.ts',
    from: "return incoming === 'won' && outgoing === 'won' ? 'won' : 'open'",
    to: "return incoming === 'won' || outgoing === 'won' ? 'won' : 'open'",
  },
  {
    name: 'a change of members begins before an entry of the term is committed',
    file: 'membership.ts',
    from: "if (raft.commit < leading!.opening) return 'not_ready'",
    to: '',
  },
  {
    name: 'a change of members begins before the last is over',
    file: 'membership.ts',
    from: "if (currentConfigurationIndex(log) > raft.commit || isJoint(before)) return 'change_pending'",
    to: '',
  },
  {
    name: 'a configuration that was cut from the log stays in force',
    file: 'log.ts',
    from: 'while (log.configurations.length > 1 && currentConfigurationIndex(log) >= index) log.configurations.pop()',
    to: '',
  },
  {
    name: 'the joint configuration is not left',
    file: 'membership.ts',
    from: 'if (isJoint(configuration)) {',
    to: 'if (isJoint(configuration) && raft.term < 0) {',
  },
  {
    name: 'a learner that is far behind is promoted',
    file: 'membership.ts',
    from: "if (!close) return 'learner_behind'",
    to: '',
  },
  {
    name: 'reads are answered without asking a quorum',
    file: 'reads.ts',
    from: 'leading.reads[done]!.round <= confirmed; done++)',
    to: 'leading.reads[done]!.round > 0; done++)',
  },
  {
    name: 'a new leader answers reads at its old commit index',
    file: 'reads.ts',
    from: 'if (leading.reads.length === 0 || raft.commit < leading.opening) return // X1',
    to: 'if (leading.reads.length === 0) return\n  for (const read of leading.reads) if (read.index < 0) read.index = raft.commit',
  },
  {
    name: 'reads take a round of heartbeats that left before they began',
    file: 'reads.ts',
    from: 'leading.roundWanted = false\n    leading.round++',
    to: 'leading.roundWanted = false\n    leading.round = Math.max(1, leading.round)',
  },
  {
    name: 'a read is served before its index is applied',
    file: 'reads.ts',
    from: 'if (read.index > raft.applied) return true',
    to: 'if (read.index > raft.commit) return true',
  },
  {
    name: 'an answer to a read of an earlier life is taken',
    file: 'reads.ts',
    from: 'if (message.incarnation === raft.options.incarnation) confirm(raft, message.read, message.index)',
    to: 'confirm(raft, message.read, message.index)',
  },
  {
    name: 'a snapshot older than the log takes its place',
    file: 'follower.ts',
    from: 'if (meta.index <= raft.commit) return sendAfterLog(raft, { ...reply, match: raft.commit })',
    to: '',
  },
  {
    name: 'after a cut the old writes still count as durable',
    file: 'outbox.ts',
    from: 'for (const write of out.writes) write.last = Math.min(write.last, index - 1)',
    to: '',
  },
  {
    name: 'a write that was cut is not written again',
    file: 'outbox.ts',
    from: 'out.handed = Math.min(out.handed, index - 1)\n',
    to: '',
  },
  {
    name: 'a leader without a quorum goes on',
    file: 'election.ts',
    from: 'if (heard === 0) return becomeFollower(raft, raft.term, null) // E4',
    to: '',
  },
  {
    name: 'no pre-vote',
    file: 'election.ts',
    from: 'if (maySeekOffice(raft)) preCampaign(raft)',
    to: 'if (maySeekOffice(raft)) campaign(raft, false)',
  },
  {
    name: 'votes against a leader that was just heard from',
    file: 'election.ts',
    from: "return raft.role === 'leader' || raft.election.loyal > 0",
    to: 'return false',
  },
  {
    name: 'a transfer does not wait until the target has everything',
    file: 'transfer.ts',
    from: '} else if (peer.match === lastIndex(raft.log)) {',
    to: '} else if (peer.match >= 0 || lastIndex(raft.log) < 0) {',
  },
  {
    name: 'a transfer that failed is never given up',
    file: 'transfer.ts',
    from: 'if (transfer !== null && ++transfer.elapsed >= raft.options.election_ticks) raft.leading!.transfer = null',
    to: '',
  },
  {
    name: 'the window has no bound',
    file: 'progress.ts',
    from: 'return inflight.lasts.length - inflight.head < options.inflight_appends_max && inflight.bytes < options.inflight_bytes_max',
    to: 'return inflight.bytes >= 0 || options.inflight_appends_max === 0',
  },
  {
    name: 'uncommitted bytes have no bound',
    file: 'proposals.ts',
    from: 'if (leading.uncommittedBytes > 0 && leading.uncommittedBytes + bytes > options.uncommitted_bytes_max) {',
    to: 'if (bytes > 1e9 + options.uncommitted_bytes_max) {',
  },
  {
    name: 'uncommitted bytes are never given back',
    file: 'proposals.ts',
    from: 'raft.leading!.uncommittedBytes -= bytes',
    to: 'void bytes',
  },
  {
    name: 'a cut proposal is called lost for ever at once',
    file: 'proposals.ts',
    from: 'const end = Math.min(open.last, raft.commit)',
    to: 'const end = Math.min(open.last, raft.leading === null ? raft.log.base.index + raft.log.entries.length : raft.commit)',
  },
  {
    name: 'a lost append is never noticed when the window ends in what is compacted',
    file: 'replication.ts',
    from: "else if (peer.state === 'replicate' && peer.next - 1 < raft.log.base.index) toProbe(peer, peer.match + 1)",
    to: "else if (peer.state === 'replicate' && peer.next - 1 < raft.log.base.index) return",
  },
  {
    name: 'a failed snapshot is not sent again',
    file: 'replication.ts',
    from: 'toProbe(peer, ok ? peer.snapshotIndex + 1 : peer.match + 1)\n',
    to: 'if (!ok) return\n  toProbe(peer, peer.snapshotIndex + 1)\n',
  },
  {
    name: 'a leader that is no member stays',
    file: 'membership.ts',
    from: 'if (configuration.voters.includes(raft.options.id)) return',
    to: 'if (raft.term >= 0) return',
  },
  {
    name: 'a lease runs from when it was confirmed',
    file: 'lease.ts',
    from: 'lease.until = lease.rounds.shift()!.at + raft.options.lease_ticks',
    to: 'lease.rounds.shift()\n    lease.until = lease.now + raft.options.lease_ticks',
  },
  {
    name: 'a lease goes on while another was told to campaign',
    file: 'lease.ts',
    from: 'return lease.now < lease.until && !lease.broken',
    to: 'return lease.now < lease.until',
  },
  {
    name: 'who restarts forgets that it answered a lease',
    file: 'state.ts',
    from: 'loyal: options.lease_ticks > 0 ? options.election_ticks : 0',
    to: 'loyal: 0',
  },
  {
    name: 'a newer term makes forget that a lease was answered',
    file: 'state.ts',
    from: 'if (leader === null && raft.options.lease_ticks === 0) raft.election.loyal = 0',
    to: 'if (leader === null) raft.election.loyal = 0',
  },
]
