/** Which request is served by what, in each dialect. */
import type { AnswerBody, Dialect, Request } from '../../proto/ninep/messages.ts'
import { attach, auth } from './attach.ts'
import * as classic from './classic.ts'
import { clunk, read, remove, walk, write } from './common.ts'
import * as linux from './linux.ts'
import { readdir } from './read-directory.ts'
import type { Call, Operation, Session } from './session.ts'

type Table = { readonly [T in Request['type']]?: Operation<T> }
/** The same, for a caller who took the entry of the request's own type. */
type OpaqueTable = {
  readonly [T in Request['type']]?: (session: Session, request: Request, call: Call) => AnswerBody | Promise<AnswerBody>
}

const common = { Tauth: auth, Tattach: attach, Twalk: walk, Tread: read, Twrite: write, Tclunk: clunk, Tremove: remove } satisfies Table

const ofDialect = {
  '9P2000': { ...common, Topen: classic.open, Tcreate: classic.create, Tstat: classic.stat, Twstat: classic.wstat } satisfies Table,
  '9P2000.L': {
    ...common,
    Tstatfs: linux.statfs,
    Tlopen: linux.lopen,
    Tlcreate: linux.lcreate,
    Tsymlink: linux.symlink,
    Tmknod: linux.mknod,
    Trename: linux.rename,
    Treadlink: linux.readlink,
    Tgetattr: linux.getattr,
    Tsetattr: linux.setattr,
    Txattrwalk: linux.xattrwalk,
    Txattrcreate: linux.xattrcreate,
    Treaddir: readdir,
    Tfsync: linux.fsync,
    Tlock: linux.lock,
    Tgetlock: linux.getlock,
    Tlink: linux.link,
    Tmkdir: linux.mkdir,
    Trenameat: linux.renameat,
    Tunlinkat: linux.unlinkat,
  } satisfies Table,
}

export function operationsOf(dialect: Dialect): OpaqueTable {
  return ofDialect[dialect] as OpaqueTable
}
