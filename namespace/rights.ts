/**
 * Rights: what a principal may do below a directory.
 *
 * A rights record stands on a directory. The record nearest to a path, walking up, decides alone: a directory with a
 * record of its own shuts out what its ancestors grant (Upspin's Access files work the same way). A store without any
 * record belongs to its owner. The store's owner always holds every right, so that no record can lock a store for good.
 */
export type Right = 'read' | 'write' | 'list' | 'create' | 'remove' | 'admin'

/** In the order of their bits. */
export const allRights: readonly Right[] = ['read', 'write', 'list', 'create', 'remove', 'admin']

export interface RightsEntry {
  /** A principal's name, `group:NAME`, or `*` for every authenticated principal. */
  readonly who: string
  readonly rights: readonly Right[]
}

export type RightsRecord = readonly RightsEntry[]

export interface Principal {
  /** `[a-z0-9][a-z0-9._@-]{0,63}` */
  readonly name: string
  readonly groups: readonly string[]
}

/** Set of rights as bits, by position in `allRights`. */
export type RightsMask = number

export const everyRight: RightsMask = (1 << allRights.length) - 1

export function rightBit(right: Right): RightsMask {
  return 1 << allRights.indexOf(right)
}

/** What `record` grants to `principal`: the union of all its entries that name them. */
export function grantedBy(record: RightsRecord, principal: Principal): RightsMask {
  let mask = 0
  for (const entry of record) {
    const isNamed =
      entry.who === '*' ||
      entry.who === principal.name ||
      (entry.who.startsWith('group:') && principal.groups.includes(entry.who.slice('group:'.length)))
    if (isNamed) for (const right of entry.rights) mask |= rightBit(right)
  }
  return mask
}
