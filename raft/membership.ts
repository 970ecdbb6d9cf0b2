/**
 * Changing who is a member. Thesis sections 4.2.1 (catching up as a learner), 4.2.2 (removing the leader), 4.3 (joint consensus).
 * Every change of the voters goes through a joint configuration, that of one server too: it is the one way, and it is left by itself.
 *
 * M1 A configuration is in force from the moment it is in the log, on each node, and until it is cut from it.
 * M2 One change at a time: the next begins when the configuration in force is committed, not joint, and the leader has committed
 *    an entry of its own term (Ongaro's correction of 2015 of single-server changes, kept here for all).
 * M3 When a joint configuration is committed, its leader appends the one that leaves it.
 * M4 A learner becomes a voter only when it is close behind.
 * M5 A leader that is not a voter of the committed configuration hands over and steps down.
 */
import { append, currentConfigurationIndex, lastIndex } from './log.ts'
import type { Configuration, MembershipChange, NodeId, Refusal } from './model.ts'
import { send } from './outbox.ts'
import { noteTaken } from './proposals.ts'
import { isJoint } from './quorum.ts'
import { becomeFollower, configurationOf } from './state.ts'
import type { Raft } from './state.ts'

export function change(raft: Raft, ref: number, changes: readonly MembershipChange[]): void {
  const target = raft.leading === null ? 'not_leader' : targetOf(raft, changes)
  const refused = typeof target === 'string' ? target : null
  const first = lastIndex(raft.log) + 1
  if (typeof target !== 'string') appendConfiguration(raft, target)
  raft.out.answers.push({ ref, taken: refused === null ? 1 : 0, first, term: raft.term, refused })
}

/** Leader: go on with a change that was begun, by whomever. */
export function settleMembership(raft: Raft): void {
  const { leading, log } = raft
  const configuration = configurationOf(raft)
  if (currentConfigurationIndex(log) > raft.commit || raft.commit < leading!.opening) return
  if (isJoint(configuration)) {
    const learners = [...configuration.learners, ...configuration.demoted]
    appendConfiguration(raft, { voters: configuration.voters, outgoing: [], learners, demoted: [] }) // M3
    return
  }
  if (configuration.voters.includes(raft.options.id)) return
  const heir = mostCaughtUp(raft, configuration.voters) // M5
  if (heir !== null) send(raft, { kind: 'timeout_now', from: raft.options.id, to: heir, term: raft.term })
  becomeFollower(raft, raft.term, null)
}

function targetOf(raft: Raft, changes: readonly MembershipChange[]): Configuration | Refusal {
  const { log, leading, options } = raft
  const before = configurationOf(raft)
  if (leading!.transfer !== null) return 'transferring'
  if (currentConfigurationIndex(log) > raft.commit || isJoint(before)) return 'change_pending' // M2
  if (raft.commit < leading!.opening) return 'not_ready' // M2
  const voters = new Set(before.voters)
  const learners = new Set(before.learners)
  const demoted = new Set<NodeId>()
  if (new Set(changes.map(({ id }) => id)).size < changes.length) return 'invalid' // twice the same node
  for (const { do: what, id } of changes) {
    const known = voters.has(id) || learners.has(id)
    if (what === 'add_learner' ? known : !known) return 'invalid'
    if (what === 'add_learner') learners.add(id)
    else if (what === 'remove') {
      voters.delete(id)
      learners.delete(id)
    } else if (what === 'demote') {
      if (!voters.delete(id)) return 'invalid'
      demoted.add(id)
    } else {
      if (!learners.delete(id)) return 'invalid'
      const peer = leading!.peers.get(id)
      const close = peer?.state === 'replicate' && peer.match + options.promotion_lag_entries_max >= lastIndex(log)
      if (!close) return 'learner_behind' // M4
      voters.add(id)
    }
  }
  if (changes.length === 0 || voters.size === 0) return 'invalid'
  const same = voters.size === before.voters.length && before.voters.every((id) => voters.has(id))
  return { voters: [...voters], outgoing: same ? [] : before.voters, learners: [...learners], demoted: [...demoted] }
}

function appendConfiguration(raft: Raft, configuration: Configuration): void {
  const index = lastIndex(raft.log) + 1
  append(raft.log, { index, term: raft.term, data: null, configuration }) // M1
  noteTaken(raft, index, index)
}

function mostCaughtUp(raft: Raft, voters: readonly NodeId[]): NodeId | null {
  let best: NodeId | null = null
  let match = -1
  for (const id of voters) {
    const peer = raft.leading!.peers.get(id)
    if (peer !== undefined && peer.match > match) [best, match] = [id, peer.match]
  }
  return best
}
