/** Before a node ends: others lead what it leads, so that nobody waits out an election. */
import { limits } from '../../namespace/limits.ts'
import { heirsOf } from '../../raft/index.ts'
import { pause } from './founding.ts'
import type { GroupControl } from './ports.ts'

const again_ms = 50

/** Hands over what these groups lead on this node; ends after limits.cluster_hand_over_ms_max whatever became of it. */
export async function handOver(groups: readonly GroupControl[]): Promise<void> {
  const over = new AbortController()
  const late = AbortSignal.any([over.signal, AbortSignal.timeout(limits.cluster_hand_over_ms_max)])
  try {
    await Promise.race([Promise.all(groups.map((group) => handOverGroup(group, late))), pause(limits.cluster_hand_over_ms_max, late)])
  } finally {
    // A timer that nobody waits for any more would keep the process.
    over.abort()
  }
}

/** Until another leads, or nobody else could. */
async function handOverGroup(group: GroupControl, late: AbortSignal): Promise<void> {
  while (group.isLeader && !late.aborted) {
    const [heir] = heirsOf(group.status())
    if (heir === undefined) return
    try {
      await group.transfer(heir)
    } catch {
      await pause(again_ms, late)
    }
  }
}
