/**
 * What a cluster knows of itself, as files of its `sys` store:
 *
 *   /cluster/names/<node>       {address, role}: who may be a member, and where its peer listener is
 *   /cluster/members/<id>       {name, address, joined}: the lives that are members; configurations of groups follow them
 *   /cluster/removed/<id>       {name, isForced}: lives that are members no more, so that they can be told
 *   /cluster/stores/<store>     {group, id, incarnation, owner, voters}: the stores, each a group of its own
 *   /cluster/groups/<number>    {store}: numbers that are taken
 *   /cluster/uploads, restores  backups on their way into stores: see restores.ts
 *
 * R1 A node has one member at most; a new life moves the old one to `removed` in the same change.
 * R2 A number of a group is given once.
 */
import { z } from 'zod'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName, parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'

const text = z.string().min(1).max(255)

export const nameRecord = z.object({ address: text, role: z.enum(['voter', 'learner']) })
export const memberRecord = z.object({ name: text, address: text, joined: z.number() })
/** `isForced`: groups let it go also where most of those that stay cannot be reached. */
export const removedRecord = z.object({ name: text, isForced: z.boolean().optional() })
export const storeRecord = z.object({
  group: z.int().min(1),
  id: text,
  incarnation: text,
  owner: text,
  voters: z.array(text).min(1).max(limits.cluster_nodes_max),
})

export type NameRecord = z.infer<typeof nameRecord>
export type MemberRecord = z.infer<typeof memberRecord>
export type RemovedRecord = z.infer<typeof removedRecord>
export type StoreRecord = z.infer<typeof storeRecord>

export const clusterFolder = parsePath('/cluster')
export const folders = {
  names: joinName(clusterFolder, 'names'),
  members: joinName(clusterFolder, 'members'),
  removed: joinName(clusterFolder, 'removed'),
  stores: joinName(clusterFolder, 'stores'),
  groups: joinName(clusterFolder, 'groups'),
  clients: joinName(clusterFolder, 'clients'),
  uploads: joinName(clusterFolder, 'uploads'),
  restores: joinName(clusterFolder, 'restores'),
} as const satisfies Record<string, Path>

/** What a file holds, and its state for compare-and-set. */
export interface Versioned<T> {
  readonly value: T
  readonly match: { readonly path: number; readonly version: number }
  /** Revision. */
  readonly created: number
}

/** @throws NineError `corrupt` */
export function decodeRecord<T>(shape: z.ZodType<T>, bytes: Uint8Array, path: Path): T {
  try {
    return shape.parse(JSON.parse(Buffer.from(bytes).toString()))
  } catch (cause) {
    throw new NineError({
      kind: 'corrupt',
      op: 'cluster.records',
      path,
      message: `${path} of the store sys is no record of the cluster`,
      cause,
    })
  }
}

export function encodeRecord(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value))
}
