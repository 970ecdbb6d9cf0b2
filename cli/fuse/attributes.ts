/** Stats as FUSE tells them, and what Ninefold knows beyond stat(2) as extended attributes (xattr(7)). */
import { NineError } from '../../namespace/errors.ts'
import type { Stat } from '../../namespace/stat.ts'
import { limits } from '../../namespace/limits.ts'
import type { Owners } from '../../namespace/owners.ts'
import { contentTypeAttribute, ownAttribute, ownAttributePrefix } from '../../namespace/own-attributes.ts'
import { modeOf } from '../../namespace/posix.ts'
import { ErrnoError } from './errno.ts'

/** What stat(2) shows. Times in milliseconds, which is as fine as the binding tells them. */
export interface FuseStat {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  /** What of it takes room: nothing where the size is not known. */
  readonly usedBytes: number
  readonly nlink: number
  readonly mtimeMs: number
}

/**
 * Size of a file of which only a read can tell: the most it can be. The kernel reads nothing past a file's size, and takes a
 * shorter answer for its end.
 */
export const unknown_size_bytes = limits.served_value_bytes_max

/** @param nlink 0 for a file that is open and removed; directories too have 1, which `find` takes for "unknown" */
export function fuseStat(stat: Stat, owners: Owners, nlink = 1): FuseStat {
  return {
    mode: modeOf(stat),
    uid: owners.uidOf(stat.owner),
    gid: owners.gidOf(stat.group),
    size: stat.size ?? unknown_size_bytes,
    usedBytes: stat.size ?? 0,
    nlink,
    mtimeMs: Math.max(0, Math.floor(stat.modifiedAt / 1000)),
  }
}

/** Whether a name can have a value at all. The kernel asks for `security.capability` before every write. */
export function isOwnAttribute(name: string): boolean {
  return name.startsWith(ownAttributePrefix)
}

/** @throws ErrnoError `ENODATA` */
export function attributeOf(stat: Stat, name: string): Buffer {
  const value = ownAttribute(stat, name)
  if (value === undefined) throw new ErrnoError('ENODATA')
  return Buffer.from(value)
}

/** The content type is all that can be set: programs that copy the others with a file (mv, cp -a) pass over this in silence. @throws ErrnoError `EOPNOTSUPP` */
export function checkSettable(name: string): void {
  if (name !== contentTypeAttribute) throw new ErrnoError('EOPNOTSUPP')
}

/** @throws NineError `invalid` (no UTF-8) */
export function contentTypeOf(value: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(value)
  } catch (cause) {
    throw new NineError({ kind: 'invalid', op: 'fuse.setxattr', message: 'a content type is text', cause })
  }
}
