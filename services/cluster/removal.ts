/**
 * Of a node that is removed from its cluster: when it ends. It hears of it by the record in the store sys; who was away meanwhile has
 * nobody to tell it: when it knows no leader, it asks.
 *
 * Q1 The record is the beginning: until the groups have let the node go they may need its vote for that very change, and it may lead
 *    them. So it goes on until no group of its own has it, or another node says that it is recorded and none of that one's has it.
 */
import { limits } from '../../namespace/limits.ts'
import { membersOf } from '../../raft/index.ts'
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
  /** Of all stores of this node. */
  groups(): readonly GroupControl[]
  /** Whether it heard of its own removal. */
  isRecorded(): boolean
  /** All nodes that may know, itself perhaps among them, and some twice. */
  peers(): readonly Peer[]
  /** Called with the name of who says so, and the member that has its place, if it knows of one. */
  removed(by: string, successor?: string): void
  /** Called with each look: others may have gone for good meanwhile, too. */
  looked(): void
}

/** Looks until it was removed or the signal aborts. */
export async function watchRemoval(parts: RemovalParts, signal: AbortSignal): Promise<void> {
  const { group, member, name, cluster, caller } = parts
  let wasLed = true
  while (!signal.aborted) {
    await pause(parts.isRecorded() ? limits.cluster_reconcile_ms : limits.cluster_removed_ask_ms, signal)
    parts.looked()
    const isRecorded = parts.isRecorded()
    if (isRecorded && !isInAny(parts.groups(), member)) return parts.removed('the cluster') // Q1
    const isLed = group.leader !== null
    const asks = isRecorded || !(isLed || wasLed)
    const peers = asks ? new Map(parts.peers().map((peer) => [peer.address, peer])).values() : []
    wasLed = isLed
    for (const peer of peers) {
      if (peer.name === name || signal.aborted) continue
      try {
        const { folder, isRemoved, successor } = await ask(caller, peer, whoVerb, { name, member }, whoAnswer, limits.cluster_ask_ms_max)
        if (isRemoved && folder.kind === 'member' && folder.cluster === cluster) return parts.removed(peer.name, successor)
      } catch {
        // Another may know; else the next round asks again.
      }
    }
  }
}

/** Whether one of these groups has the member, be it on its way out. */
export function isInAny(groups: readonly GroupControl[], member: string): boolean {
  return groups.some((group) => membersOf(group.status().configuration).has(member))
}
