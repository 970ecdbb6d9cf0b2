/**
 * How a group's configuration follows the members of the cluster: one step at a time, as a function of the two. Whoever leads the group
 * takes the next step, so a change goes on where another leader left it.
 *
 * P1 A member comes as a learner and becomes a voter only when it has caught up.
 * P2 The new life of a node takes the place of the old one in one change: the group never has fewer voters meanwhile.
 * P3 While a change is under way nothing else begins.
 * P4 The last voter stays.
 */
import type { Configuration, MembershipChange, NodeId } from '../../raft/index.ts'

export type Role = 'voter' | 'learner'

export interface Wanted {
  readonly id: NodeId
  /** The node it is a life of. */
  readonly name: string
  readonly role: Role
}

/** What to try now, each as one change, until one is taken; none when the configuration is as wanted or changing. */
export function stepsTo(wanted: readonly Wanted[], configuration: Configuration, nameOf: (id: NodeId) => string): MembershipChange[][] {
  if (configuration.outgoing.length > 0) return [] // P3
  const voters = new Set(configuration.voters)
  const learners = new Set(configuration.learners)
  const byId = new Map(wanted.map((one) => [one.id, one]))
  const obsolete = [...voters, ...learners].filter((id) => !byId.has(id))
  const steps: MembershipChange[][] = []
  for (const { id, name, role } of wanted) {
    if (role !== 'voter' || !learners.has(id)) continue
    const olds = obsolete.filter((old) => nameOf(old) === name)
    steps.push([{ do: 'promote', id }, ...olds.map((old): MembershipChange => ({ do: 'remove', id: old }))]) // P2
  }
  const missing = wanted.filter(({ id }) => !voters.has(id) && !learners.has(id))
  if (missing.length > 0) steps.push(missing.map(({ id }) => ({ do: 'add_learner', id }))) // P1
  const successors = new Set(wanted.filter(({ id, role }) => role === 'voter' && !voters.has(id)).map(({ name }) => name))
  for (const id of obsolete) {
    const isReplaced = voters.has(id) && successors.has(nameOf(id))
    const isLast = voters.size === 1 && voters.has(id)
    if (!isReplaced && !isLast) steps.push([{ do: 'remove', id }]) // P2, P4
  }
  for (const { id, role } of wanted) if (role === 'learner' && voters.has(id) && voters.size > 1) steps.push([{ do: 'demote', id }])
  return steps
}
