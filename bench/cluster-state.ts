/** What our nodes say of the group behind /data: who leads it, and how far each is. */
import { isNineError } from '../namespace/errors.ts'
import type { Session } from '../sdk/session.ts'

export interface GroupState {
  /** Names of nodes. */
  readonly self: string
  readonly leader: string | undefined
  readonly applied: number
}

const statusFile = '/raft/data/status'

/** A node that is alone leads itself. */
export async function stateOf({ client }: Session): Promise<GroupState> {
  try {
    return JSON.parse(await client.readText(statusFile)) as GroupState
  } catch (error) {
    if (isNineError(error) && error.kind === 'not_found') return { self: 'alone', leader: 'alone', applied: 0 }
    throw error
  }
}

/** @returns the number of the node that leads. @throws Error when none does */
export async function leaderOf(sessions: readonly Session[]): Promise<number> {
  const states = await Promise.all(sessions.map((session) => stateOf(session).catch(() => undefined)))
  const leader = states.findIndex((state) => state !== undefined && state.leader === state.self)
  if (leader === -1) throw new Error('no node leads')
  return leader
}
