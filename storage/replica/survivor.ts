/**
 * A member that goes on as the first of a new cluster, because the others of its old one are lost: what its log and its checkpoints say of
 * who votes no longer holds.
 *
 * S1 All of its log is kept, also what it never learned to be agreed on: what was acknowledged may be among it.
 * S2 The configurations in its log are taken for nothing, each time it is opened so; once its stores are saved, nobody is given these
 *    entries again, so that it may be opened like any other.
 */
import type { Configuration, Entry, NodeId } from '../../raft/index.ts'

export function lone(id: NodeId): Configuration {
  return { voters: [id], outgoing: [], learners: [], demoted: [] }
}

/** S2 */
export function withoutConfigurations(entries: readonly Entry[]): Entry[] {
  return entries.map((entry) => (entry.configuration === null ? entry : { ...entry, configuration: null }))
}
