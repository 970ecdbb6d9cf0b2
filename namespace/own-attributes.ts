/** What Ninefold knows of a file beyond stat(2), as extended attributes (xattr(7)): `user.nine.*`. */
import type { Stat } from './stat.ts'

export const ownAttributePrefix = 'user.nine.'
/** The only one that can be set. */
export const contentTypeAttribute = `${ownAttributePrefix}contentType`

const readers: Readonly<Record<string, (stat: Stat) => string | undefined>> = {
  [`${ownAttributePrefix}version`]: (stat) => String(stat.version),
  [`${ownAttributePrefix}revision`]: (stat) => String(stat.revision),
  [`${ownAttributePrefix}modifiedBy`]: (stat) => stat.modifiedBy,
  [contentTypeAttribute]: (stat) => stat.contentType,
}

/** undefined where there is no attribute of this name, or this file has none. */
export function ownAttribute(stat: Stat, name: string): string | undefined {
  return Object.hasOwn(readers, name) ? readers[name]!(stat) : undefined
}

/** Those that this file has. */
export function ownAttributeNames(stat: Stat): string[] {
  return Object.keys(readers).filter((name) => readers[name]!(stat) !== undefined)
}
