/**
 * Putting the state of a backup in the place of a lane's while its store serves, by an entry (apply/restores.ts).
 *
 * B1 Nothing of the lane changes before all of the backup was read, its hash held, and its chunks are on stable storage. Then one
 *    transaction makes it the lane's state, as of the entry: whatever crashes when, the lane has the one or the other.
 * B2 The clients stay the store's own, and so do its numbers of files: none is given twice.
 * B3 Whoever calls these keeps every chunk of the node from before loadBackup until replaceState has ended (N4 of blob/pins.ts): no state
 *    names those of the backup before.
 */
import type { Micros } from '../../namespace/stat.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { isClientKey } from '../apply/clients.ts'
import { restoresKey } from '../apply/restores.ts'
import type { ChunkSource } from '../blob/chunk-tree.ts'
import type { BlobStore } from '../blob/store.ts'
import type { Lane } from '../engine/lane.ts'
import type { Entry, Outcome, RestoreCommand } from '../model.ts'
import type { Environment } from '../tree/environment.ts'
import { loadSnapshot, type LoadedSnapshot } from './load.ts'
import { putChunks } from './restore.ts'
import { ValueSource } from './value-source.ts'

type Backup = NonNullable<RestoreCommand['backup']>

/** Load the backup beside the lane's state. @throws NineError as loadSnapshot, and for its chunks; the signal's reason */
export function loadBackup(
  lane: Lane,
  environment: Environment,
  blobs: BlobStore,
  { id, backup }: RestoreCommand,
  signal?: AbortSignal,
): Promise<LoadedSnapshot> {
  failpoint('restore.load')
  return load(lane, environment, new ValueSource(blobs, backup!, `backup ${id}`), blobs, signal)
}

/**
 * As loadBackup, and give it up: whether an entry that names it could be made here. @returns the last time in it: the entry's must be later
 * @throws NineError as loadBackup, but for its chunks `corrupt` only
 */
export async function tryBackup(
  lane: Lane,
  environment: Environment,
  chunks: ChunkSource,
  { name, backup }: { readonly name: string; readonly backup: Backup },
  signal?: AbortSignal,
): Promise<Micros> {
  const loaded = await load(lane, environment, new ValueSource(chunks, backup, `backup ${name}`), nowhere, signal)
  await loaded.drop()
  return loaded.machine.time
}

async function load(
  { group, machine }: Lane,
  environment: Environment,
  source: ValueSource,
  into: Pick<BlobStore, 'put'>,
  signal?: AbortSignal,
): Promise<LoadedSnapshot> {
  const loaded = await loadSnapshot(environment, source, { group, owner: machine.owner, isLeftOut, signal })
  try {
    await putChunks(source.path, loaded.reader, into, signal)
    return loaded
  } catch (error) {
    await loaded.drop()
    throw error
  }
}

const nowhere: Pick<BlobStore, 'put'> = { put: (_bytes, hash) => Promise.resolve(hash!) }

/** B2 */
function isLeftOut(key: string): boolean {
  return isClientKey(key) || key === restoresKey
}

export interface ReplaceOptions {
  /** Rows of the checkpoint, about this node; asked for when all else is ready. */
  readonly rows: () => Iterable<readonly [string, Uint8Array]>
  /** Called in the turn in which the lane has become the backup. */
  readonly replaced: () => void
}

/**
 * Make it the lane's state; nothing may be applied meanwhile. False: the state machine does not take it, and the lane is as it was.
 * @throws NineError as LoadedSnapshot.take: then, too, and `loaded` is given up
 */
export async function replaceState(lane: Lane, loaded: LoadedSnapshot, entry: Entry, options: ReplaceOptions): Promise<boolean> {
  const { machine, header } = loaded
  const { index } = entry
  if (!machine.replaces(lane.machine, entry)) {
    await loaded.drop()
    return false
  }
  failpoint('restore.take')
  try {
    await lane.replace(async () => {
      const meta = [...machine.exportChanged(), ...options.rows()]
      const taken = (): void => {
        machine.exportSaved()
        lane.machine.adopt(machine)
        lane.appliedIndex = index
        lane.nextIndex = index + 1
        lane.revision = header.revision
        options.replaced()
        lane.store?.replaced(lane.tree, lane.machine.leases, lane.revision, lane.machine.incarnation)
      }
      await loaded.take({ meta, index, nextIno: Math.max(lane.tree.nextIno, loaded.nextIno), taken })
    })
  } catch (error) {
    await loaded.drop()
    throw error
  }
  failpoint('restore.taken')
  return true
}

/** What who asked for it is answered. */
export function restoredOutcome({ revision }: Lane): Outcome {
  return { kind: 'txn', result: { branch: 'then', results: [], revision } }
}
