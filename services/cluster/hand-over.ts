/**
 * Before a node ends: others lead what it leads, so that nobody waits out an election.
 *
 * W1 Only who could lead is asked to, and for no longer than it could: a node that cannot be reached, or is ending itself, is not waited
 *    for. The last one of a cluster ends at once.
 */
import { limits } from '../../namespace/limits.ts'
import { heirsOf } from '../../raft/index.ts'
import { pause } from './founding.ts'
import type { GroupControl } from './ports.ts'

/** The other members, as this node finds them. */
export interface Heirs {
  isReachable(member: string): boolean
  /** Whether it says that it is not ending itself. */
  isStaying(member: string, signal: AbortSignal): Promise<boolean>
}

/** What they said, once for all groups. */
type Asked = Map<string, Promise<boolean>>

const look_ms = 20

/** Hands over what these groups lead on this node; ends after limits.cluster_hand_over_ms_max whatever became of it. */
export async function handOver(groups: readonly GroupControl[], heirs: Heirs): Promise<void> {
  const over = new AbortController()
  const late = AbortSignal.any([over.signal, AbortSignal.timeout(limits.cluster_hand_over_ms_max)])
  const asked: Asked = new Map()
  try {
    await Promise.race([
      Promise.all(groups.map((group) => handOverGroup(group, heirs, asked, late))),
      pause(limits.cluster_hand_over_ms_max, late),
    ])
  } finally {
    // A timer that nobody waits for any more would keep the process.
    over.abort()
  }
}

/** Until another leads, or nobody else could. */
async function handOverGroup(group: GroupControl, heirs: Heirs, asked: Asked, late: AbortSignal): Promise<void> {
  while (group.isLeader && !late.aborted) {
    const heir = await firstStaying(heirsOf(group.status()), heirs, asked, late)
    if (heir === undefined || !group.isLeader) return
    const failed = async (): Promise<void> => {
      asked.delete(heir)
      await pause(look_ms, late)
    }
    await Promise.race([group.transfer(heir).catch(failed), lost(heir, heirs, late)])
  }
}

/** W1 */
async function firstStaying(members: readonly string[], heirs: Heirs, asked: Asked, signal: AbortSignal): Promise<string | undefined> {
  for (const member of members) {
    if (!heirs.isReachable(member)) continue
    if (!asked.has(member)) asked.set(member, heirs.isStaying(member, signal))
    if (await asked.get(member)) return member
  }
  return undefined
}

async function lost(heir: string, heirs: Heirs, late: AbortSignal): Promise<void> {
  while (heirs.isReachable(heir) && !late.aborted) await pause(look_ms, late)
}
