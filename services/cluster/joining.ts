/**
 * Before the stores are open: find out to which cluster the folder belongs, founding one or asking to be taken in where it belongs to none.
 *
 * J1 Each step is durable before the next begins, and each may be taken again: `cluster.json` says how far the folder is.
 */
import { isNineError, NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Random } from '../../namespace/random.ts'
import { readStores, writeStores } from '../../storage/engine/folder.ts'
import { ask, joinAnswer, joinVerb, whoAnswer, whoVerb } from './calls.ts'
import type { Caller } from './calls.ts'
import { newClusterId, readClusterFile, writeClusterFile } from './cluster-file.ts'
import type { ClusterFile } from './cluster-file.ts'
import type { FolderState } from './formation.ts'
import { decide, pause } from './founding.ts'
import { printPeers } from './peer-list.ts'
import type { Peer } from './peer-list.ts'
import type { StoreRow } from './ports.ts'

export interface JoiningOptions {
  /** The data folder, locked. */
  readonly data: string
  readonly name: string
  readonly owner: string
  readonly peers: readonly Peer[]
  /** This life of the folder: of `cluster.json`, or newly made. */
  readonly member: string
  readonly address: string
  readonly random: Random
  readonly caller: Caller
  /** What is being waited for; each time it changes. */
  readonly waiting: (text: string) => void
}

export interface Joined {
  readonly file: ClusterFile
  /** Stores to begin with; none where the folder has its own. */
  readonly rows: readonly StoreRow[]
}

/** Time for one try to be taken in: the cluster writes it down. */
const join_ms_max = 10_000

/** @throws NineError what a person has to put right; `unavailable` when the signal aborts */
export async function belong(options: JoiningOptions, signal: AbortSignal): Promise<Joined> {
  const { data, name, owner, peers, member, address, caller, waiting } = options
  for (;;) {
    const own = { name, owner, peers, folder: folderState(data) }
    const askPeer = (peer: Peer) => ask(caller, peer, whoVerb, { name, member }, whoAnswer, limits.cluster_ask_ms_max)
    const next = await decide(own, { ask: askPeer, waiting, signal })
    if (next.do === 'open') return { file: readClusterFile(data)!, rows: [] }
    if (next.do === 'found') return { file: found(options), rows: [] }
    const file: ClusterFile = { format: 1, cluster: next.cluster, member, name, stage: 'joining', peers }
    writeClusterFile(data, file) // J1
    try {
      const { stores } = await ask(caller, next.through, joinVerb, { name, member, address }, joinAnswer, join_ms_max)
      return { file, rows: stores }
    } catch (error) {
      if (!isNineError(error) || !error.retryable) throw error
      waiting(`waiting for ${next.through.name} (${next.through.address}) to take this node in: ${error.message}`)
      await pause(limits.cluster_ask_again_ms, signal)
    }
  }
}

/** What a folder is, before it is opened. @throws NineError `corrupt` */
export function folderState(data: string): FolderState {
  const file = readClusterFile(data)
  if (file !== undefined) {
    const { cluster, member, stage } = file
    // To others it is a founder like any.
    return { kind: 'member', cluster, member, stage: stage === 'recovering' ? 'founding' : stage }
  }
  return { kind: readStores(data).length > 0 ? 'data' : 'empty' }
}

/** Refuse to open a member's folder as anything else. @throws NineError `invalid`, `corrupt` */
export function checkFolder(data: string, name: string | undefined): ClusterFile | undefined {
  const file = readClusterFile(data)
  if (file === undefined || file.name === name) return file
  const right = `--node ${file.name} --peers ${printPeers(file.peers)}`
  const message =
    name === undefined
      ? `${data} belongs to ${file.name} of cluster ${file.cluster}: start it with ${right}`
      : `${data} belongs to ${file.name} of cluster ${file.cluster}, not to ${name}: start it with ${right}, or give ${name} a folder of its own (--data)`
  throw new NineError({ kind: 'invalid', op: 'cluster.open', message })
}

/** The groups of a folder that was alone begin with its founder as their one voter. J1: first the file, which says that they are to. */
function found({ data, name, member, peers, random }: JoiningOptions): ClusterFile {
  const file: ClusterFile = { format: 1, cluster: newClusterId(random), member, name, stage: 'founding', peers }
  writeClusterFile(data, file)
  return file
}

/** Of a folder that founds: its stores are groups from now on. Done already: fine. */
export function makeGroups(data: string, { member }: ClusterFile): void {
  const rows = readStores(data)
  if (rows.every(({ voters }) => voters !== undefined)) return
  writeStores(
    data,
    rows.map((row) => ({ ...row, voters: row.voters ?? [member] })),
  )
}
