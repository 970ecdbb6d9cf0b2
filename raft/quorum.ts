/**
 * Majorities over plain and joint configurations. Thesis sections 3.4, 4.2.1 (learners have no say) and 4.3 (joint consensus).
 *
 * Q1 In a joint configuration each decision needs a majority of the incoming and, separately, one of the outgoing voters.
 */
import type { Configuration, NodeId } from './model.ts'

export type Tally = 'won' | 'lost' | 'open'

/** The largest value that a quorum has reached, where `valueOf` says what a node has reached. */
export function quorumValue(configuration: Configuration, valueOf: (id: NodeId) => number): number {
  const incoming = majorityValue(configuration.voters, valueOf)
  if (configuration.outgoing.length === 0) return incoming
  return Math.min(incoming, majorityValue(configuration.outgoing, valueOf)) // Q1
}

/** How an election stands. */
export function tally(configuration: Configuration, votes: ReadonlyMap<NodeId, boolean>): Tally {
  const incoming = majorityTally(configuration.voters, votes)
  if (configuration.outgoing.length === 0) return incoming
  const outgoing = majorityTally(configuration.outgoing, votes)
  if (incoming === 'lost' || outgoing === 'lost') return 'lost'
  return incoming === 'won' && outgoing === 'won' ? 'won' : 'open' // Q1
}

export function isVoter(configuration: Configuration, id: NodeId): boolean {
  return configuration.voters.includes(id) || configuration.outgoing.includes(id)
}

export function isJoint(configuration: Configuration): boolean {
  return configuration.outgoing.length > 0
}

/** All nodes that the log goes to, each once. */
export function membersOf(configuration: Configuration): Set<NodeId> {
  return new Set([...configuration.voters, ...configuration.outgoing, ...configuration.learners, ...configuration.demoted])
}

function majorityValue(ids: readonly NodeId[], valueOf: (id: NodeId) => number): number {
  if (ids.length === 0) return 0
  const values: number[] = []
  for (const id of ids) {
    const value = valueOf(id)
    let at = values.length
    while (at > 0 && values[at - 1]! < value) at--
    values.splice(at, 0, value)
  }
  return values[Math.floor(ids.length / 2)]! // falling, so this many plus one reached it
}

function majorityTally(ids: readonly NodeId[], votes: ReadonlyMap<NodeId, boolean>): Tally {
  const needed = Math.floor(ids.length / 2) + 1
  let granted = 0
  let refused = 0
  for (const id of ids) {
    const vote = votes.get(id)
    if (vote === true) granted++
    if (vote === false) refused++
  }
  if (granted >= needed) return 'won'
  return ids.length - refused < needed ? 'lost' : 'open'
}
