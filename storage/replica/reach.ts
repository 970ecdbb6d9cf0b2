/** Which members of a store a node reaches, in words for its operators. */
import type { Configuration } from '../../raft/index.ts'

/** @param isReachable true of this node itself */
export function reachText({ voters, outgoing }: Configuration, isReachable: (id: string) => boolean): string {
  const members = [...new Set([...voters, ...outgoing])]
  const silent = members.filter((id) => !isReachable(id)).map(nameOf)
  const reached = members.length - silent.length
  const count = `${reached} of ${members.length} ${members.length === 1 ? 'member' : 'members'} ${reached === 1 ? 'is' : 'are'} reachable`
  return silent.length === 0 ? count : `${count} (${silent.join(', ')} ${silent.length === 1 ? 'is' : 'are'} not)`
}

/** Of the node: a member id is `NAME.SUFFIX`. */
function nameOf(id: string): string {
  return id.replace(/\.[^.]*$/, '')
}
