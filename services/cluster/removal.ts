/** Who was away while it was removed from its cluster has nobody to tell it: when it knows no leader, it asks. */
import { limits } from '../../namespace/limits.ts'
import { ask, whoAnswer, whoVerb } from './calls.ts'
import type { Caller } from './calls.ts'
import { pause } from './founding.ts'
import type { Peer } from './peer-list.ts'
import type { GroupControl } from './ports.ts'

export interface RemovalParts {
  readonly name: string
  readonly member: string
  readonly cluster: string
  readonly caller: Caller
  /** Of the store sys. */
  readonly group: GroupControl
  /** All nodes that may know, itself perhaps among them, and some twice. */
  peers(): readonly Peer[]
  /** Called with the name of who says so. */
  removed(by: string): void
}

/** Looks until it was removed or the signal aborts. */
export async function watchRemoval(parts: RemovalParts, signal: AbortSignal): Promise<void> {
  const { group, member, name, cluster, caller } = parts
  let wasLed = true
  while (!signal.aborted) {
    await pause(limits.cluster_removed_ask_ms, signal)
    const isLed = group.leader !== null
    const peers = isLed || wasLed ? [] : new Map(parts.peers().map((peer) => [peer.address, peer])).values()
    wasLed = isLed
    for (const peer of peers) {
      if (peer.name === name || signal.aborted) continue
      try {
        const { folder, isRemoved } = await ask(caller, peer, whoVerb, { name, member }, whoAnswer, limits.cluster_ask_ms_max)
        if (isRemoved && folder.kind === 'member' && folder.cluster === cluster) return parts.removed(peer.name)
      } catch {
        // Another may know; else the next round asks again.
      }
    }
  }
}
