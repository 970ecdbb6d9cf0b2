/**
 * 9P2000.L: a Linux server's files as they are (https://github.com/chaos/diod/blob/master/protocol.md).
 *
 * X1 Removal and rename name the file in its directory (Tunlinkat, Trenameat); a server that does not know these is asked by fid
 *    (Tremove, Trename).
 */
import { decodeDirents } from '../../proto/ninep/records.ts'
import { noUid } from '../../proto/ninep/messages.ts'
import type { WireAttributes } from '../../proto/ninep/messages.ts'
import { isNineError } from '../errors.ts'
import { kindOfMode, openFlag } from '../posix.ts'
import { qidTypeOf } from '../stat.ts'
import type { FileKind, Stat } from '../stat.ts'
import { io_overhead_bytes } from './connection.ts'
import { isDirectory } from './operation.ts'
import type { Operation } from './operation.ts'
import { checkListing, qidOf } from './tree.ts'
import type { Listed, OpenMode, Tree, TreeChanges } from './tree.ts'

/** Bits of Tgetattr: everything of stat(2), and the time of birth. */
const getattr_basic = 0x7ff
const getattr_btime = 0x800

/** Bits of Tsetattr. */
const setattr = { mode: 0x1, uid: 0x2, gid: 0x4, size: 0x8, mtime: 0x20, mtimeSet: 0x100 } as const

/** Flag of Tunlinkat: a directory. */
const removeDirectory = 0x200

export const linuxTree: Tree = {
  canAppend: true,
  canReplace: true,
  canMove: true,

  async stat(o, fid, name) {
    const { attributes } = await o.ask({ type: 'Tgetattr', fid: fid.number, mask: getattr_basic | getattr_btime }, 'Rgetattr', {
      uses: [fid],
    })
    const stat = statOf(attributes, name)
    if (stat.kind !== 'symlink') return stat
    const target = await linuxTree.readlink(o, fid)
    return { ...stat, size: Buffer.byteLength(target), target }
  },

  async open(o, fid, mode) {
    const body = { type: 'Tlopen', fid: fid.number, flags: flagsOf(mode) | openFlag.noFollow } as const
    const fids = { uses: [fid] }
    const { iounit } = mode.truncate === true ? await o.change(body, 'Rlopen', fids) : await o.ask(body, 'Rlopen', fids)
    return iounit
  },

  async create(o, directory, name, permissions, mode) {
    const flags = flagsOf(mode) | openFlag.create | openFlag.exclusive
    const body = { type: 'Tlcreate', fid: directory.number, name, flags, mode: permissions, gid: noUid } as const
    return o.change(body, 'Rlcreate', { uses: [directory] })
  },

  async mkdir(o, parent, name, mode) {
    await o.change({ type: 'Tmkdir', dirFid: parent.number, name, mode, gid: noUid }, 'Rmkdir', { uses: [parent] })
  },

  async symlink(o, parent, name, target) {
    await o.change({ type: 'Tsymlink', dirFid: parent.number, name, target, gid: noUid }, 'Rsymlink', { uses: [parent] })
  },

  async readlink(o, fid) {
    return (await o.ask({ type: 'Treadlink', fid: fid.number }, 'Rreadlink', { uses: [fid] })).target
  },

  async names(o, directory) {
    const iounit = await linuxTree.open(o, directory, { read: true, write: false })
    const room = o.connection.msize - io_overhead_bytes
    const count = iounit === 0 ? room : Math.min(iounit, room)
    const listed: Listed[] = []
    let bytes = 0
    for (let offset = 0n; ;) {
      const { data } = await o.ask({ type: 'Treaddir', fid: directory.number, offset, count }, 'Rreaddir', { uses: [directory] })
      const entries = decodeDirents(data as Buffer)
      const last = entries.at(-1)
      if (last === undefined) return listed
      for (const { name, qid } of entries) listed.push({ name, qid, stat: undefined })
      checkListing(o, listed.length, (bytes += data.length))
      offset = last.offset
    }
  },

  async remove(o, parent, name, { fid, qid }) {
    const flags = isDirectory(qid) ? removeDirectory : 0
    try {
      await o.change({ type: 'Tunlinkat', dirFid: parent.number, name, flags }, 'Runlinkat', { uses: [parent] })
    } catch (error) {
      if (!isNineError(error, 'unsupported')) throw error
      await o.change({ type: 'Tremove', fid: fid.number }, 'Rremove', { ends: fid }) // X1
    }
  },

  async rename(o, { parent, name, file }, to) {
    const uses = [parent, to.parent]
    const body = { type: 'Trenameat', oldDirFid: parent.number, oldName: name, newDirFid: to.parent.number, newName: to.name } as const
    try {
      await o.change(body, 'Rrenameat', { uses })
    } catch (error) {
      if (!isNineError(error, 'unsupported')) throw error
      const byFid = { type: 'Trename', fid: file.fid.number, dirFid: to.parent.number, name: to.name } as const // X1
      await o.change(byFid, 'Rrename', { uses: [file.fid, to.parent] })
    }
  },

  async change(o, { fid }, changes) {
    const uid = idOf(o, changes.owner, 'owner')
    const gid = idOf(o, changes.group, 'group')
    const { mode = 0, size = 0, modifiedAt = 0 } = changes
    const mtimeSec = Math.floor(modifiedAt / 1e6)
    const body = {
      type: 'Tsetattr',
      fid: fid.number,
      valid: validOf(changes),
      mode,
      uid: uid ?? noUid,
      gid: gid ?? noUid,
      size,
      atimeSec: 0,
      atimeNsec: 0,
      mtimeSec,
      mtimeNsec: (modifiedAt - mtimeSec * 1e6) * 1000,
    } as const
    await o.change(body, 'Rsetattr', { uses: [fid] })
  },

  async sync(o, fid) {
    try {
      await o.ask({ type: 'Tfsync', fid: fid.number, datasync: 0 }, 'Rfsync', { uses: [fid] })
    } catch (error) {
      if (!isNineError(error, 'unsupported')) throw error
    }
  },
}

function flagsOf({ read, write, truncate, append }: OpenMode): number {
  const access = write ? (read ? openFlag.readWrite : openFlag.writeOnly) : openFlag.readOnly
  return access | (truncate === true ? openFlag.truncate : 0) | (append === true ? openFlag.append : 0)
}

function validOf({ mode, owner, group, size, modifiedAt }: TreeChanges): number {
  return (
    (mode === undefined ? 0 : setattr.mode) |
    (owner === undefined ? 0 : setattr.uid) |
    (group === undefined ? 0 : setattr.gid) |
    (size === undefined ? 0 : setattr.size) |
    (modifiedAt === undefined ? 0 : setattr.mtime | setattr.mtimeSet)
  )
}

/** @throws NineError `unsupported` */
function idOf(o: Operation, text: string | undefined, what: string): number | undefined {
  if (text === undefined) return undefined
  const id = Number(text)
  if (/^\d{1,10}$/.test(text) && id < noUid) return id
  throw o.error('unsupported', `this 9P server knows an ${what} as a number, not as ${JSON.stringify(text)}`)
}

function statOf(attributes: WireAttributes, name: string): Stat {
  const kind: FileKind = kindOfMode(attributes.mode) ?? 'file'
  const { qid, valid } = attributes
  return {
    name,
    kind,
    // The type of the qid is the server's word; the mode is what Linux goes by.
    qid: { ...qidOf(qid), type: qidTypeOf(kind) },
    size: kind === 'directory' ? 0 : attributes.size,
    version: qid.version,
    revision: 0,
    createdRevision: 0,
    mode: attributes.mode & 0o7777,
    owner: attributes.uid === noUid ? '' : String(attributes.uid),
    group: attributes.gid === noUid ? '' : String(attributes.gid),
    modifiedBy: '',
    createdAt: (valid & getattr_btime) === 0 ? 0 : microsOf(attributes.btimeSec, attributes.btimeNsec),
    modifiedAt: microsOf(attributes.mtimeSec, attributes.mtimeNsec),
  }
}

/** A time past what a number holds exactly is no time. */
function microsOf(seconds: number, nanoseconds: number): number {
  const micros = seconds * 1e6 + Math.floor(nanoseconds / 1000)
  return Number.isSafeInteger(micros) ? micros : 0
}
