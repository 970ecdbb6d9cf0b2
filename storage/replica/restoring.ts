/**
 * Restoring a store of a cluster while it serves: an entry of its group's log that puts the state of a backup in the place of what there
 * is. So all nodes do it at the same place among the changes, whoever crashes or is away when, and nobody votes anew.
 *
 * R1 The backup's chunks are on a majority's disks before the entry is proposed, and named by a file until every member has made the
 *    restore (services/cluster/restores.ts). Who lacks some fetches them from the others. So an entry that is committed can be made; what
 *    stands in the way, a full disk or nodes out of reach, passes, and it is tried again for as long as the node runs. Meanwhile the lane
 *    tells of it, and the node does not lead the group as long as another can (M3 of member.ts).
 *    A backup that can never be loaded was refused before; one that this node's release cannot read yet waits for a later one.
 *    Not so for a survivor (survivor.ts): what it lacks is lost with the others, so it goes on without a restore whose backup is not all there.
 * R2 It is the state as of the entry's index from one transaction on: a node that crashed before it makes the entry again, else not.
 * R3 The entry needs its backup. It and those before are given to nobody any more once the restore is made: who lacks them gets a snapshot.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { NineError, type ErrorKind } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { BlobPins } from '../blob/pins.ts'
import type { BlobStore } from '../blob/store.ts'
import { folderError } from '../engine/folder.ts'
import type { Lane } from '../engine/lane.ts'
import type { Entry, Outcome, RestoreCommand } from '../model.ts'
import { loadBackup, replaceState, restoredOutcome } from '../snapshot/replace.ts'
import type { Environment } from '../tree/environment.ts'
import type { Place } from './place.ts'

export interface RestoringParts {
  /** The node's folder. */
  readonly dir: string
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
  /** It could not be made, and is tried again: told each time. */
  readonly failed: () => void
  readonly warn: (error: unknown) => void
  /** Nobody else is left. */
  readonly isSurvivor: boolean
  /** For the node's log. */
  readonly note: (text: string) => void
}

/** The state is that of the entry's backup when it resolves; nothing may be applied meanwhile. Never rejects but for a fault, or when the node ends. */
export async function makeRestore(parts: RestoringParts, entry: Entry, command: RestoreCommand): Promise<Outcome> {
  const { lane, logEnd, signal } = parts
  for (;;) {
    const isMade = await tryRestore(parts, entry, command)
    if (isMade !== undefined) return isMade ? restoredOutcome(lane) : lane.apply(entry, logEnd())
    await sleep(limits.restore_again_ms, undefined, { signal }) // R1
  }
}

/** Whether the state machine took it; undefined: it failed, and may not the next time. */
async function tryRestore(parts: RestoringParts, entry: Entry, command: RestoreCommand): Promise<boolean | undefined> {
  const { dir, lane, place, environment, blobs, pins, signal, logEnd, failed, warn } = parts
  const { index, term } = entry
  const replaced = (): void => {
    lane.appliedLsn = logEnd()
    place.restored(index, term)
  }
  const release = pins.holdAll() // B3 of snapshot/replace.ts
  try {
    const loaded = await loadBackup(lane, environment(), blobs, command, signal)
    const isMade = await replaceState(lane, loaded, entry, { rows: () => place.restoring(index, term), replaced })
    lane.trouble = undefined
    return isMade
  } catch (error) {
    signal.throwIfAborted()
    const { kind, message: why } = folderError(error, dir)
    if (parts.isSurvivor && lost.has(kind)) {
      parts.note(`store ${lane.name} goes on without the restore ${command.id}, whose backup nobody has any more: ${why}`)
      return false
    }
    const message = `store ${lane.name} could not be restored from the backup ${command.id}: ${why}`
    lane.trouble = message
    failed()
    warn(new NineError({ kind, op: 'replica.restore', message: `${message}. Again in ${limits.restore_again_ms} ms`, cause: error }))
    return undefined
  } finally {
    release()
  }
}

/** What reading a backup fails with where some of it is nowhere. */
const lost: ReadonlySet<ErrorKind> = new Set(['corrupt', 'not_found', 'unavailable'])
