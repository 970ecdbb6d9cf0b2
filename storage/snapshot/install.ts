/**
 * Putting a loaded snapshot in the place of a lane's state: the tree's rows and history, the state machine, and how far the lane has come.
 *
 * The lane's tree and machine stay the same objects; what they show is the new state. Views and iterators over them go on in it.
 */
import type { Machine } from '../apply/machine.ts'
import type { Tree } from '../tree/tree.ts'
import type { LoadedSnapshot, TakeOptions } from './load.ts'

/** What is needed of a lane (engine/lane.ts). */
export interface InstallLane {
  readonly machine: Machine
  readonly tree: Tree
  appliedIndex: number
  nextIndex: number
  revision: number
  /** Runs `install` while nothing of the lane is saved. */
  replace(install: () => Promise<void>): Promise<void>
}

/**
 * `options.taken` is called in the turn in which all of the lane is where the snapshot is.
 * Nothing may be applied to the lane until this resolves; then it is where the snapshot is, durably. What its store has to be told (watchers,
 * leases, its own revision) is the caller's.
 * @throws NineError as LoadedSnapshot.take: then the lane is as it was
 */
export async function installSnapshot(lane: InstallLane, loaded: LoadedSnapshot, options: TakeOptions = {}): Promise<void> {
  await lane.replace(async () => {
    const taken = (): void => {
      lane.machine.adopt(loaded.machine)
      lane.appliedIndex = options.index ?? loaded.header.index
      lane.nextIndex = lane.appliedIndex + 1
      lane.revision = loaded.header.revision
      options.taken?.()
    }
    await loaded.take({ ...options, taken })
  })
}
