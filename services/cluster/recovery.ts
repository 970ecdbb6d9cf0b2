/**
 * When the majority of a cluster is lost for good: the folder of a member that is left begins a new cluster with what it has.
 *
 * V1 From the moment it is asked for, the folder belongs to the new cluster under a new member id: it can never again speak in the old one,
 *    whose log it may continue in another way. The old one's other members are refused by their cluster id.
 * V2 Its stores are made the founder's when the node starts (Cluster.open): all of its log, and no configuration but its own.
 */
import { NineError } from '../../namespace/errors.ts'
import type { Random } from '../../namespace/random.ts'
import { prepareFolder, readStores, writeStores } from '../../storage/engine/folder.ts'
import { lockFolder } from '../../storage/engine/lock.ts'
import { newClusterId, newMemberId, readClusterFile, writeClusterFile } from './cluster-file.ts'
import type { ClusterFile } from './cluster-file.ts'

export interface Recovered {
  readonly before: ClusterFile
  readonly file: ClusterFile
  readonly stores: readonly string[]
}

/**
 * Make a member's folder the beginning of a new cluster. Durable when it resolves; the stores are changed when the node starts.
 * @param isSure false: only look at what would be done
 * @throws NineError `invalid` (no folder of a member, or of one that holds no stores yet), `unavailable` (a node has it open), as readClusterFile
 */
export async function recoverFolder(dir: string, random: Random, isSure: boolean): Promise<Recovered> {
  if (readClusterFile(dir) === undefined) throw invalid(`${dir} is not the folder of a node of a cluster`)
  prepareFolder(dir)
  const lock = await lockFolder(dir)
  try {
    const before = readClusterFile(dir)!
    if (before.stage === 'joining') throw invalid(`${dir} holds no stores yet: it was about to join cluster ${before.cluster}`)
    const { name, peers } = before
    const file: ClusterFile = {
      format: 1,
      cluster: newClusterId(random),
      member: newMemberId(name, random),
      name,
      stage: 'recovering',
      peers,
    }
    if (isSure) writeClusterFile(dir, file) // V1
    return { before, file, stores: readStores(dir).map((row) => row.name) }
  } finally {
    await lock.release()
  }
}

/** V2. As often as the node starts before it has founded: what others were told may not be in it, so its stores are other incarnations. */
export function makeRecovered(dir: string, { member }: ClusterFile, random: Random): void {
  writeStores(
    dir,
    readStores(dir).map((row) => ({ ...row, incarnation: random.id(), voters: [member] })),
  )
}

function invalid(message: string): NineError {
  return new NineError({ kind: 'invalid', op: 'cluster.recover', message })
}
