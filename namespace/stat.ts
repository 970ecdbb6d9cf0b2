/** What is known of a file: its kind, identity, size, versions and metadata. Plain data, structured-cloneable. */

/**
 * `file` bytes · `directory` named children · `symlink` a text nobody below the client follows · `computed` a read runs
 * code · `ctl` takes command lines · `call` is a write and then a read on one open handle · `stream` a read waits for
 * the next record.
 */
export type FileKind = 'file' | 'directory' | 'symlink' | 'computed' | 'ctl' | 'call' | 'stream'

/** In the order of their numbers on the wire and on disk; new kinds go at the end. */
export const fileKinds: readonly FileKind[] = ['file', 'directory', 'symlink', 'computed', 'ctl', 'call', 'stream']

/**
 * Identity of a file's life in its server (intro(5) of Plan 9). `path` is never reused, so a file removed and made again
 * has another; `version` counts changes of the content and metadata from 1, 0 where unversioned.
 */
export interface Qid {
  /** Plan 9's QT bits: 0x80 directory, 0x40 append-only, 0x20 exclusive, 0x02 symlink, 0x00 plain file. */
  readonly type: number
  readonly path: number
  readonly version: number
}

export const qidType = { directory: 0x80, append: 0x40, exclusive: 0x20, symlink: 0x02, file: 0x00 } as const

/** Time as whole microseconds since the Unix epoch. A safe integer until the year 2255. */
export type Micros = number

export interface Stat {
  /** Last component of the path it was found at; '' for a root. In a recursive list: the path relative to the listed directory. */
  readonly name: string
  readonly kind: FileKind
  readonly qid: Qid
  /** Bytes; undefined where only a read can tell. Number of bytes of the target for a symlink, 0 for a directory. */
  readonly size: number | undefined
  /** Same number as `qid.version`. */
  readonly version: number
  /** Revision of its store that last changed it, and that created it (also the fencing token of a lock). 0 where unversioned. */
  readonly revision: number
  readonly createdRevision: number
  /** Permission bits 0o0000-0o7777. Metadata only: rights decide access. */
  readonly mode: number
  readonly owner: string
  readonly group: string
  readonly modifiedBy: string
  readonly createdAt: Micros
  readonly modifiedAt: Micros
  readonly contentType?: string | undefined
  /** Root of the chunk tree of a large value: hex SHA-256. */
  readonly blob?: string | undefined
  /** The lease that this file ends with. */
  readonly lease?: string | undefined
  /** Target of a symlink. */
  readonly target?: string | undefined
}

/** The qid type bits of a kind. */
export function qidTypeOf(kind: FileKind): number {
  return kind === 'directory' ? qidType.directory : kind === 'symlink' ? qidType.symlink : qidType.file
}
