/** What our nodes say of the group behind /data: who leads it, and how far each is. */
import type { Session } from '../sdk/session.ts'

/** Of the file `status`; see services/cluster/raft-tree.ts. */
export interface GroupState {
  readonly role: string
  readonly term: number
  readonly leader: string | null
  readonly applied: number
}

export async function stateOf({ client }: Session): Promise<GroupState> {
  return JSON.parse(await client.readText('/raft/data/status')) as GroupState
}

/** @returns the number of the node that leads. @throws Error when none does */
export async function leaderOf(sessions: readonly Session[]): Promise<number> {
  const states = await Promise.all(sessions.map(stateOf))
  let found = -1
  for (const [node, { role, term }] of states.entries()) {
    // One that was cut off may believe that it still leads.
    if (role === 'leader' && (found === -1 || term > states[found]!.term)) found = node
  }
  if (found === -1) throw new Error('no node leads')
  return found
}
