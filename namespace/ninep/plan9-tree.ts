/**
 * 9P2000: Plan 9's own protocol (section 5 of its manual).
 *
 * Y1 It has no links, moves nothing to another directory, replaces nothing by a rename and knows times in seconds.
 * Y2 A create of what exists fails (open(5)); a wstat that changes nothing asks for durability (stat(5)).
 */
import { untouched16, untouched32, untouched64 } from '../../proto/ninep/messages.ts'
import type { WireQid, WireStat } from '../../proto/ninep/messages.ts'
import { decodeStats } from '../../proto/ninep/records.ts'
import { isNineError } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Stat } from '../stat.ts'
import { io_overhead_bytes } from './connection.ts'
import { isDirectory } from './operation.ts'
import { checkListing, qidOf } from './tree.ts'
import type { Listed, OpenMode, Tree, TreeChanges } from './tree.ts'

/** Bits of Topen and Tcreate. */
const openBits = { read: 0, write: 1, readWrite: 2, truncate: 0x10 } as const
/** DMDIR: a directory. */
const directoryBit = 0x8000_0000

const untouchedQid: WireQid = { type: 0xff, version: untouched32, path: untouched64 }
const untouched: WireStat = {
  type: untouched16,
  dev: untouched32,
  qid: untouchedQid,
  mode: untouched32,
  atime: untouched32,
  mtime: untouched32,
  length: untouched64,
  name: '',
  uid: '',
  gid: '',
  muid: '',
}

export const plan9Tree: Tree = {
  canAppend: false,
  canReplace: false,
  canMove: false,

  async stat(o, fid, name) {
    return statOf((await o.ask({ type: 'Tstat', fid: fid.number }, 'Rstat', { uses: [fid] })).stat, name)
  },

  async open(o, fid, mode) {
    const body = { type: 'Topen', fid: fid.number, mode: bitsOf(mode) } as const
    const fids = { uses: [fid] }
    const { iounit } = mode.truncate === true ? await o.change(body, 'Ropen', fids) : await o.ask(body, 'Ropen', fids)
    return iounit
  },

  async create(o, directory, name, permissions, mode) {
    const body = { type: 'Tcreate', fid: directory.number, name, perm: permissions & 0o777, mode: bitsOf(mode) } as const // Y2
    return o.change(body, 'Rcreate', { uses: [directory] })
  },

  async mkdir(o, parent, name, permissions) {
    const perm = (directoryBit | (permissions & 0o777)) >>> 0
    await o.change({ type: 'Tcreate', fid: parent.number, name, perm, mode: openBits.read }, 'Rcreate', { uses: [parent] })
  },

  symlink(o) {
    return Promise.reject(o.error('unsupported', '9P2000 has no symbolic links'))
  },

  readlink(o) {
    return Promise.reject(o.error('unsupported', '9P2000 has no symbolic links'))
  },

  async names(o, directory) {
    const iounit = await plan9Tree.open(o, directory, { read: true, write: false })
    const room = o.connection.msize - io_overhead_bytes
    const count = iounit === 0 ? room : Math.min(iounit, room)
    const listed: Listed[] = []
    for (let offset = 0; ;) {
      const { data } = await o.ask({ type: 'Tread', fid: directory.number, offset, count }, 'Rread', { uses: [directory] })
      if (data.length === 0) return listed
      for (const stat of decodeStats(data as Buffer)) listed.push({ name: stat.name, qid: stat.qid, stat: statOf(stat, stat.name) })
      offset += data.length
      checkListing(o, listed.length, offset)
    }
  },

  async remove(o, _parent, _name, { fid }) {
    await o.change({ type: 'Tremove', fid: fid.number }, 'Rremove', { ends: fid })
  },

  async rename(o, { file }, to) {
    await o.change({ type: 'Twstat', fid: file.fid.number, stat: { ...untouched, name: to.name } }, 'Rwstat', { uses: [file.fid] })
  },

  async change(o, { fid, qid }, changes) {
    await o.change({ type: 'Twstat', fid: fid.number, stat: statWith(changes, qid) }, 'Rwstat', { uses: [fid] })
  },

  async sync(o, fid) {
    try {
      await o.ask({ type: 'Twstat', fid: fid.number, stat: untouched }, 'Rwstat', { uses: [fid] }) // Y2
    } catch (error) {
      // Servers may also see nothing to do in it, or not allow a wstat at all.
      if (!isNineError(error) || error.kind === 'unavailable' || error.kind === 'deadline' || error.kind === 'no_space') throw error
    }
  },
}

function bitsOf({ read, write, truncate }: OpenMode): number {
  const access = write ? (read ? openBits.readWrite : openBits.write) : openBits.read
  return access | (truncate === true ? openBits.truncate : 0)
}

function statWith({ mode, owner, group, modifiedAt, size }: TreeChanges, qid: WireQid): WireStat {
  return {
    ...untouched,
    mode: mode === undefined ? untouched32 : ((isDirectory(qid) ? directoryBit : 0) | (mode & 0o777)) >>> 0,
    mtime: modifiedAt === undefined ? untouched32 : Math.floor(modifiedAt / 1e6),
    length: size ?? untouched64,
    uid: owner ?? '',
    gid: group ?? '',
  }
}

function statOf(stat: WireStat, name: string): Stat {
  const isDir = isDirectory(stat.qid)
  return {
    name,
    kind: isDir ? 'directory' : 'file',
    qid: qidOf(stat.qid),
    size: isDir ? 0 : stat.length,
    version: stat.qid.version,
    revision: 0,
    createdRevision: 0,
    mode: stat.mode & 0o777,
    owner: userOf(stat.uid),
    group: userOf(stat.gid),
    modifiedBy: userOf(stat.muid),
    createdAt: 0,
    modifiedAt: stat.mtime * 1e6,
  }
}

/** What is longer than any name of a user is none: listings are kept. */
function userOf(text: string): string {
  return text.length > limits.attribute_bytes_max ? '' : text
}
