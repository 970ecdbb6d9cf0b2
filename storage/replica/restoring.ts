/**
 * Restoring a store of a cluster while it serves: an entry of its group's log that puts the state of a backup in the place of what there
 * is. So all nodes do it at the same place among the changes, whoever crashes or is away when, and nobody votes anew.
 *
 * R1 The backup's chunks are on a majority's disks before the entry is proposed, and named by a file until every member has made the
 *    restore (services/cluster/restores.ts). Who lacks some fetches them from the others. So an entry that is committed can be made; what
 *    stands in the way, a full disk or nodes out of reach, passes, and it is tried again for as long as the node runs.
 * R2 It is the state as of the entry's index from one transaction on: a node that crashed before it makes the entry again, else not.
 * R3 The entry needs its backup. It and those before are given to nobody any more once the restore is made: who lacks them gets a snapshot.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { limits } from '../../namespace/limits.ts'
import type { BlobPins } from '../blob/pins.ts'
import type { BlobStore } from '../blob/store.ts'
import type { Lane } from '../engine/lane.ts'
import type { Entry, Outcome, RestoreCommand } from '../model.ts'
import type { LoadedSnapshot } from '../snapshot/load.ts'
import { loadBackup, replaceState, restoredOutcome } from '../snapshot/replace.ts'
import type { Environment } from '../tree/environment.ts'
import type { Place } from './place.ts'

export interface RestoringParts {
  readonly lane: Lane
  readonly place: Place
  readonly environment: () => Environment
  /** Fetches what this node lacks. */
  readonly blobs: BlobStore
  readonly pins: BlobPins
  /** The node ends. */
  readonly signal: AbortSignal
  /** Number of the last durable record of the node's log. */
  readonly logEnd: () => number
  readonly warn: (error: unknown) => void
}

/** The state is that of the entry's backup when it resolves; nothing may be applied meanwhile. Never rejects but for a fault, or when the node ends. */
export async function makeRestore(parts: RestoringParts, entry: Entry, command: RestoreCommand): Promise<Outcome> {
  const { pins, signal } = parts
  for (;;) {
    const release = pins.holdAll() // B3 of snapshot/replace.ts
    const outcome = await tryRestore(parts, entry, command).finally(release)
    if (outcome !== undefined) return outcome
    await sleep(limits.restore_again_ms, undefined, { signal }) // R1
  }
}

/** undefined: it failed, and may not the next time. */
async function tryRestore(parts: RestoringParts, entry: Entry, command: RestoreCommand): Promise<Outcome | undefined> {
  const { lane, environment, blobs, signal, warn } = parts
  let loaded: LoadedSnapshot
  try {
    loaded = await loadBackup(lane, environment(), blobs, command, signal)
  } catch (error) {
    signal.throwIfAborted()
    warn(error)
    return undefined
  }
  return take(parts, loaded, entry)
}

/** undefined: it could not be written. */
async function take(parts: RestoringParts, loaded: LoadedSnapshot, entry: Entry): Promise<Outcome | undefined> {
  const { lane, place, logEnd, warn } = parts
  const { index, term } = entry
  const replaced = (): void => {
    lane.appliedLsn = logEnd()
    place.restored(index, term)
  }
  try {
    const isMade = await replaceState(lane, loaded, entry, { rows: () => place.restoring(index, term), replaced })
    return isMade ? restoredOutcome(lane) : lane.apply(entry, logEnd())
  } catch (error) {
    warn(error)
    return undefined
  }
}
