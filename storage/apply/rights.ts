/**
 * What a principal may do at a place of one state of a store's tree. One rule for apply and for reads.
 *
 * R1 The record nearest to a node, walking up from the node itself, decides alone. Without any, only the store's owner may.
 * R2 The store's owner may everything, whatever records say.
 * R3 A node that was unlinked is still judged by what it hung below, for as long as that is kept.
 */
import type { Path } from '../../namespace/path.ts'
import { everyRight, grantedBy, rightBit, type Principal, type RightsMask, type RightsRecord } from '../../namespace/rights.ts'
import { rootIno, type Ino, type NodeRecord, type TreeView } from '../model.ts'
import { deepestNode, pathOf } from './walk.ts'

export const readBit = rightBit('read')
export const writeBit = rightBit('write')
export const listBit = rightBit('list')
export const createBit = rightBit('create')
export const removeBit = rightBit('remove')
export const adminBit = rightBit('admin')
/** Either lets its holder see that something exists. */
export const seeBits = readBit | listBit

export interface RightsAt {
  readonly mask: RightsMask
  /** undefined: no record on the way up, the store's owner alone. */
  readonly record: RightsRecord | undefined
  /** Directory the record stands on; the root where there is none. */
  readonly on: Path
}

/**
 * The rights of `principal` at a path, or at a node by number. Where nothing exists: those at the deepest directory
 * on the way, which a new file would inherit.
 */
export function rightsAt(view: TreeView, at: Path | Ino, principal: Principal, owner: string): RightsAt {
  const node = typeof at === 'number' ? view.node(at) : deepestNode(view, at).node
  const decides = node === undefined ? undefined : decidingNode(view, node)
  const record = decides?.rights
  const mask = principal.name === owner ? everyRight : record === undefined ? 0 : grantedBy(record, principal)
  const on = decides === undefined ? undefined : pathOf(view, decides)
  return { mask, record, on: on ?? ('/' as Path) }
}

/** As rightsAt, for a node in hand and without looking for more than the mask: nothing is read for the owner. */
export function maskAt(view: TreeView, node: NodeRecord, principal: Principal, owner: string): RightsMask {
  if (principal.name === owner) return everyRight // R2
  const record = decidingNode(view, node)?.rights
  return record === undefined ? 0 : grantedBy(record, principal)
}

/** The directory whose record decides at `node`. R1, R3 */
export function decidingNode(view: TreeView, node: NodeRecord): NodeRecord | undefined {
  let at: NodeRecord | undefined = node
  while (at !== undefined) {
    if (at.rights !== undefined) return at
    if (at.ino === rootIno) return undefined
    at = view.node(at.parent)
  }
  return undefined
}
