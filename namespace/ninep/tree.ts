/**
 * What the file server needs of a dialect: the same verbs over fids, in 9P2000.L (linux-tree.ts) and in 9P2000 (plan9-tree.ts).
 */
import type { WireQid } from '../../proto/ninep/messages.ts'
import type { Qid, Stat } from '../stat.ts'
import { qidType } from '../stat.ts'
import { limits } from '../limits.ts'
import type { Fid } from './fids.ts'
import type { Operation, Walked } from './operation.ts'

export interface OpenMode {
  readonly read: boolean
  readonly write: boolean
  readonly truncate?: boolean
  /** Every write goes to the end as it then is; 9P2000 has that for append-only files alone. */
  readonly append?: boolean
}

/** A name of a directory; with its stat where the dialect gives it along. */
export interface Listed {
  readonly name: string
  readonly qid: WireQid
  readonly stat: Stat | undefined
}

/** Changes of a file's stat that 9P can carry. */
export interface TreeChanges {
  readonly mode?: number | undefined
  readonly owner?: string | undefined
  readonly group?: string | undefined
  /** Microseconds. */
  readonly modifiedAt?: number | undefined
  readonly size?: number | undefined
}

export interface Tree {
  /** Whether a file opened to append is one that every write goes to the end of. */
  readonly canAppend: boolean
  /** Whether a rename replaces what it may replace in one step. */
  readonly canReplace: boolean
  /** Whether a rename moves to another directory. */
  readonly canMove: boolean
  stat(o: Operation, fid: Fid, name: string): Promise<Stat>
  /** Open the file of a fid that was walked to. @returns the most bytes of one read or write, 0 where msize alone bounds it */
  open(o: Operation, fid: Fid, mode: OpenMode): Promise<number>
  /** Make a file that must not exist; the fid of its directory becomes the open file. @returns its iounit as open */
  create(
    o: Operation,
    directory: Fid,
    name: string,
    permissions: number,
    mode: OpenMode,
  ): Promise<{ readonly qid: WireQid; readonly iounit: number }>
  /** Make a directory that must not exist. The fid of its parent is of no more use. */
  mkdir(o: Operation, parent: Fid, name: string, permissions: number): Promise<void>
  symlink(o: Operation, parent: Fid, name: string, target: string): Promise<void>
  readlink(o: Operation, fid: Fid): Promise<string>
  /** All names of the directory of a fid that was walked to, in the server's order. Opens the fid. */
  names(o: Operation, directory: Fid): Promise<Listed[]>
  /** Remove a file or an empty directory. Its fid is of no more use. */
  remove(o: Operation, parent: Fid, name: string, file: Walked): Promise<void>
  /** Move: what is at the new name and may be replaced is. */
  rename(o: Operation, from: { parent: Fid; name: string; file: Walked }, to: { parent: Fid; name: string }): Promise<void>
  change(o: Operation, file: Walked, changes: TreeChanges): Promise<void>
  /** Wait until what was written to an open fid is durable, as far as the server can tell. */
  sync(o: Operation, fid: Fid): Promise<void>
}

/** A directory of so many names, listed in so many bytes, is still one. @throws NineError `too_large` */
export function checkListing(o: Operation, names: number, bytes: number): void {
  if (names > limits.ninep_client_names_max) throw o.error('too_large', `a directory has more than ${limits.ninep_client_names_max} names`)
  if (bytes > limits.ninep_client_listing_bytes_max) {
    throw o.error('too_large', `a directory is listed in more than ${limits.ninep_client_listing_bytes_max} bytes`)
  }
}

/** The bits of a qid's type that the contract knows. */
export function qidOf({ type, version, path }: WireQid): Qid {
  return { type: type & (qidType.directory | qidType.append | qidType.exclusive | qidType.symlink), version, path }
}
