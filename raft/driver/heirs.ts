/** Who could lead a group in place of its leader. */
import type { NodeId } from '../model.ts'
import type { GroupStatus } from './group.ts'

/** The voters, as the leader knows them, that are up and take what it sends; who is furthest comes first. */
export function heirsOf({ configuration, peers }: Pick<GroupStatus, 'configuration' | 'peers'>): NodeId[] {
  return peers
    .filter(({ id, isActive, state }) => isActive && state === 'replicate' && configuration.voters.includes(id))
    .sort((a, b) => b.match - a.match)
    .map(({ id }) => id)
}
