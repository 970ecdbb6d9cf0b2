/**
 * Restoring a store of a cluster while it serves: an entry of its group's log that puts the state of a backup in the place of what there
 * is. So all nodes do it at the same place among the changes, whoever crashes or is away when, and nobody votes anew.
 *
 * R1 The backup's chunks are on a majority's disks before the entry is proposed, and named by a file until every member has made the
 *    restore (services/cluster/restores.ts). Who lacks some fetches them from the others. So an entry that is committed can be made; what
 *    stands in the way, a full disk or nodes out of reach, passes, and it is tried again for as long as the node runs.
 * R2 The backup is loaded beside the state, its own chunks are put, and one transaction swaps them, with the index of the entry: whatever
 *    crashes when, this node has the one or the other, and makes the entry again in the one case only.
 * R3 The entry needs its backup. It and those before are given to nobody any more once the restore is made: who lacks them gets a snapshot.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import { isClientKey } from '../apply/clients.ts'
import { restoresKey } from '../apply/restores.ts'
import type { BlobStore } from '../blob/store.ts'
import type { Lane } from '../engine/lane.ts'
import type { Entry, Outcome, RestoreCommand } from '../model.ts'
import { loadSnapshot, type LoadedSnapshot } from '../snapshot/load.ts'
import { putChunks } from '../snapshot/restore.ts'
import { ValueSource } from '../snapshot/value-source.ts'
import type { Environment } from '../tree/environment.ts'
import type { Place } from './place.ts'

export interface RestoringParts {
  readonly lane: Lane
  readonly place: Place
  readonly environment: () => Environment
  /** Fetches what this node lacks. */
  readonly blobs: BlobStore
  /** The node ends. */
  readonly signal: AbortSignal
  /** Number of the last durable record of the node's log. */
  readonly logEnd: () => number
  readonly warn: (error: unknown) => void
}

/** The state is that of the entry's backup when it resolves; nothing may be applied meanwhile. Never rejects but for a fault, or when the node ends. */
export async function makeRestore(parts: RestoringParts, entry: Entry, command: RestoreCommand): Promise<Outcome> {
  const { signal, warn } = parts
  for (;;) {
    let loaded: LoadedSnapshot
    try {
      loaded = await load(parts, command)
    } catch (error) {
      signal.throwIfAborted()
      warn(error)
      await sleep(limits.restore_again_ms, undefined, { signal }) // R1
      continue
    }
    const outcome = await take(parts, loaded, entry, command)
    if (outcome !== undefined) return outcome
    await sleep(limits.restore_again_ms, undefined, { signal })
  }
}

async function load({ lane, environment, blobs, signal }: RestoringParts, { id, backup }: RestoreCommand): Promise<LoadedSnapshot> {
  const source = new ValueSource(blobs, backup!, `backup ${id}`)
  failpoint('restore.load')
  const { group, machine } = lane
  const loaded = await loadSnapshot(environment(), source, { group, owner: machine.owner, isLeftOut: isOfClients, signal })
  try {
    await putChunks(source.path, loaded.reader, blobs, signal)
    return loaded
  } catch (error) {
    await loaded.drop()
    throw error
  }
}

/** The clients are those of the store, and so is its incarnation: E2 and E3 of apply/restores.ts. */
function isOfClients(key: string): boolean {
  return isClientKey(key) || key === restoresKey
}

/** R2; undefined: it could not be written. */
async function take(parts: RestoringParts, loaded: LoadedSnapshot, entry: Entry, command: RestoreCommand): Promise<Outcome | undefined> {
  const { lane, place, logEnd, warn } = parts
  const { index, term } = entry
  const { machine, header } = loaded
  if (!machine.replaces(lane.machine, entry)) {
    await loaded.drop()
    return lane.apply(entry, logEnd())
  }
  failpoint('restore.take')
  try {
    await lane.replace(async () => {
      const meta = [...machine.exportChanged(), ...place.restoring(index, term)]
      await loaded.take({ meta, index, nextIno: Math.max(lane.tree.nextIno, loaded.nextIno) })
      machine.exportSaved()
      lane.machine.adopt(machine)
      lane.appliedIndex = index
      lane.nextIndex = index + 1
      lane.revision = header.revision
      lane.appliedLsn = logEnd()
      place.restored(index, term)
      lane.store?.replaced(lane.tree, lane.machine.leases, lane.revision, command.incarnation)
    })
  } catch (error) {
    await loaded.drop()
    warn(error)
    return undefined
  }
  failpoint('restore.taken')
  return { kind: 'txn', result: { branch: 'then', results: [], revision: header.revision } }
}
