/** Operations of 9P2000.L alone, after the protocol page of diod. */
import { systemClock } from '../../namespace/clock.ts'
import type { StatChanges } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import type { Path } from '../../namespace/path.ts'
import { fileType, kindOfMode, openFlag, openFlagsOf } from '../../namespace/posix.ts'
import { noUid } from '../../proto/ninep/messages.ts'
import type { AnswerBody, Request, WireLock } from '../../proto/ninep/messages.ts'
import { microsOf, wireAttributes } from './attributes.ts'
import type { ByteLock } from './byte-locks.ts'
import { becomeMade, checkOffset, openFile } from './common.ts'
import { DirectoryStream } from './directory.ts'
import { attributeChange, readAttribute } from './extended-attributes.ts'
import { refusal } from './failures.ts'
import { Fid } from './fids.ts'
import type { Operation, Session } from './session.ts'

export const statfs: Operation<'Tstatfs'> = async (session, { fid }) => {
  session.fids.get(fid)
  return { type: 'Rstatfs', statfs: await session.shared.space() }
}

export const lopen: Operation<'Tlopen'> = (session, { fid: id, flags }, call) => {
  const fid = session.fids.get(id)
  return session.opening(fid, async () => {
    const { root, path, kind } = fid
    const asked = openFlagsOf(flags)
    if (kind === 'symlink') throw refusal('loop', 'a link is not opened: its target is', path)
    if (kind === 'directory') {
      if (asked.write === true) throw refusal('is_directory', 'a directory is opened for reading', path)
      const { qid } = await session.statOf(fid, session.context(root))
      fid.opened = { type: 'directory', stream: new DirectoryStream(root.server, session.shared.qids) }
      return { type: 'Rlopen', qid, iounit: session.iounit }
    }
    if ((flags & openFlag.directory) !== 0) throw refusal('not_directory', 'this is no directory', path)
    const { qid, opened } = await openFile(session, fid, asked, (flags & openFlag.append) !== 0, call)
    fid.opened = opened
    return { type: 'Rlopen', qid, iounit: session.iounit }
  })
}

/** The fid, which was the directory's, is the new file's, open. */
export const lcreate: Operation<'Tlcreate'> = (session, { fid: id, name, flags, mode }, call) => {
  const fid = session.fids.get(id)
  return session.opening(fid, async () => {
    const { root, path: directory, kind } = fid
    if (kind !== 'directory') throw refusal('not_directory', 'files are made in a directory', directory)
    const path = session.childOf(directory, name)
    const asked = { ...openFlagsOf(flags), create: true, exclusive: (flags & openFlag.exclusive) !== 0, permissions: mode & 0o7777 }
    const file = { root, path, kind: 'file', identity: undefined } as const
    const made = await openFile(session, file, asked, (flags & openFlag.append) !== 0, call)
    becomeMade(fid, name, made)
    return { type: 'Rlcreate', qid: made.qid, iounit: session.iounit }
  })
}

export const symlink: Operation<'Tsymlink'> = async (session, { dirFid, name, target }) => {
  const { root, path } = session.fids.get(dirFid)
  const at = session.childOf(path, name)
  const made = await root.server.symlink(session.context(root), at, target)
  return { type: 'Rsymlink', qid: session.shared.qids.of(made, at, made.position) }
}

/** Regular files only: nothing else that mknod(2) makes is kept. */
export const mknod: Operation<'Tmknod'> = async (session, { dirFid, name, mode }) => {
  const { root, path } = session.fids.get(dirFid)
  const at = session.childOf(path, name)
  const isRegular = (mode & fileType.mask) === 0 || kindOfMode(mode) === 'file'
  if (!isRegular) throw refusal('unsupported', 'devices, sockets and pipes are not kept', at)
  const made = await root.server.create(session.context(root), at, { mode: mode & 0o7777 })
  return { type: 'Rmknod', qid: session.shared.qids.of(made, at, made.position) }
}

export const mkdir: Operation<'Tmkdir'> = async (session, { dirFid, name, mode }) => {
  const { root, path } = session.fids.get(dirFid)
  const at = session.childOf(path, name)
  const made = await root.server.mkdir(session.context(root), at, { mode: mode & 0o7777 })
  return { type: 'Rmkdir', qid: session.shared.qids.of(made, at, made.position) }
}

export const link: Operation<'Tlink'> = (session, { dirFid, fid, name }) => {
  session.childOf(session.fids.get(dirFid).path, name)
  const { path } = session.fids.get(fid)
  throw refusal('unsupported', 'a file has one name: there are no hard links', path)
}

export const rename: Operation<'Trename'> = async (session, { fid: id, dirFid, name }) => {
  const fid = session.fids.get(id)
  const directory = session.fids.get(dirFid)
  if (fid.path === fid.root.path) throw refusal('denied', 'the root of a tree is not renamed from within', fid.path)
  await session.checkPath(fid, session.context(fid.root))
  await move(session, fid, fid.path, directory, session.childOf(directory.path, name))
  return { type: 'Rrename' }
}

export const renameat: Operation<'Trenameat'> = async (session, { oldDirFid, oldName, newDirFid, newName }) => {
  const from = session.fids.get(oldDirFid)
  const to = session.fids.get(newDirFid)
  await move(session, from, session.childOf(from.path, oldName), to, session.childOf(to.path, newName))
  return { type: 'Rrenameat' }
}

/** rename(2): what stands at the new path is replaced. */
async function move(session: Session, { root }: Fid, from: Path, directory: Fid, to: Path): Promise<void> {
  if (directory.root.server !== root.server) throw refusal('cross_store', 'the two are of different attaches', from)
  if (from === to) return
  await root.server.rename(session.context(root), from, to, { replace: true })
  session.fids.renamed(root.server, from, to)
}

/** AT_REMOVEDIR of unlinkat(2). */
const removeDirectory = 0x200

export const unlinkat: Operation<'Tunlinkat'> = async (session, { dirFid, name, flags }) => {
  const { root, path } = session.fids.get(dirFid)
  const at = session.childOf(path, name)
  const context = session.context(root)
  const { stat } = await root.server.stat(context, at)
  const isDirectory = stat.kind === 'directory'
  const wantsDirectory = (flags & removeDirectory) !== 0
  if (isDirectory && !wantsDirectory) throw refusal('is_directory', 'this is a directory', at)
  if (!isDirectory && wantsDirectory) throw refusal('not_directory', 'this is no directory', at)
  await root.server.remove(context, at)
  return { type: 'Runlinkat' }
}

export const readlink: Operation<'Treadlink'> = async (session, { fid: id }) => {
  const { root, path } = session.fids.get(id)
  const { target } = await root.server.readlink(session.context(root), path)
  return { type: 'Rreadlink', target }
}

export const getattr: Operation<'Tgetattr'> = async (session, { fid: id }) => {
  const fid = session.fids.get(id)
  const { stat, qid } = await session.statOf(fid, session.context(fid.root))
  return { type: 'Rgetattr', attributes: wireAttributes(stat, qid, fid.root.owners) }
}

/** Bits of Tsetattr's `valid`. */
const set = { mode: 0x1, uid: 0x2, gid: 0x4, size: 0x8, mtime: 0x20, mtimeSet: 0x100 } as const

export const setattr: Operation<'Tsetattr'> = async (session, request) => {
  const fid = session.fids.get(request.fid)
  const { root, opened } = fid
  const context = session.context(root)
  const changes = changesOf(fid, request)
  if ((request.valid & set.size) !== 0) checkOffset(request.size)
  if (changes.size !== undefined && opened?.type === 'file' && opened.isWritable) {
    await session.pending(fid, root.server.truncateHandle(context, opened.handle, changes.size))
    delete changes.size
  }
  if (Object.keys(changes).length > 0) {
    await session.checkPath(fid, context)
    // What was written comes before the times that are set: it would change them.
    if (opened?.type === 'file') await root.server.syncHandle(context, opened.handle)
    await root.server.setStat(context, fid.path, changes)
  }
  return { type: 'Rsetattr' }
}

type Changes = { -readonly [K in keyof StatChanges]: StatChanges[K] }

/** Times of the last read and of the last change of attributes are not kept apart from the last change; setting them does nothing. */
function changesOf({ root }: Fid, request: Extract<Request, { readonly type: 'Tsetattr' }>): Changes {
  const { valid } = request
  const changes: Changes = {}
  if ((valid & set.mode) !== 0) changes.mode = request.mode & 0o7777
  if ((valid & set.uid) !== 0 && request.uid !== noUid) changes.owner = root.owners.ownerOf(request.uid)
  if ((valid & set.gid) !== 0 && request.gid !== noUid) changes.group = root.owners.groupOf(request.gid)
  if ((valid & set.size) !== 0) changes.size = request.size
  if ((valid & set.mtimeSet) !== 0) changes.modifiedAt = microsOf(request.mtimeSec, request.mtimeNsec)
  else if ((valid & set.mtime) !== 0) changes.modifiedAt = systemClock.now()
  return changes
}

export const xattrwalk: Operation<'Txattrwalk'> = async (session, { fid: id, newFid, name }, call) => {
  const fid = session.fids.get(id)
  const reservation = session.fids.reserve(newFid)
  call.onDrop = () => session.fids.cancel(reservation)
  try {
    const { stat } = await session.statOf(fid, session.context(fid.root))
    const bytes = readAttribute(stat, name)
    const made = new Fid(newFid, fid.root, fid.path, 'file', fid.identity)
    made.opened = { type: 'bytes', bytes }
    session.fids.add(made, reservation)
    return { type: 'Rxattrwalk', size: bytes.length }
  } catch (error) {
    session.fids.cancel(reservation)
    throw error
  }
}

/** The value is written to the fid and set when it is clunked; one of no bytes takes the attribute away. */
export const xattrcreate: Operation<'Txattrcreate'> = (session, { fid: id, name, size }) => {
  const fid = session.fids.get(id)
  session.checkClosed(fid)
  if (size > limits.attribute_bytes_max)
    throw refusal('too_large', `an attribute has at most ${limits.attribute_bytes_max} bytes`, fid.path)
  attributeChange(name, Buffer.alloc(0))
  fid.opened = { type: 'attribute', name, value: Buffer.alloc(size), written: 0 }
  return { type: 'Rxattrcreate' }
}

/** Everything is on disk when it was answered; what is not yet is what handles wrote. */
export const fsync: Operation<'Tfsync'> = async (session, { fid: id }) => {
  const { opened, root } = session.fids.get(id)
  if (opened?.type === 'file') await root.server.syncHandle(session.context(root), opened.handle)
  return { type: 'Rfsync' }
}

const lockType = { read: 0, write: 1, unlock: 2 } as const
const lockStatus = { success: 0, blocked: 1 } as const

export const lock: Operation<'Tlock'> = (session, { fid: id, lock: asked }): AnswerBody => {
  const fid = session.fids.get(id)
  const wanted = lockOf(session, fid, asked)
  const { locks } = session.shared
  if (asked.type === lockType.unlock) locks.release(fid.identity, wanted.owner, wanted.start, wanted.end)
  else if (!locks.take(fid.identity, wanted)) return { type: 'Rlock', status: lockStatus.blocked }
  return { type: 'Rlock', status: lockStatus.success }
}

/** The lock that stands in the way, or the one asked for with type "unlock". */
export const getlock: Operation<'Tgetlock'> = (session, { fid: id, lock: asked }) => {
  const fid = session.fids.get(id)
  const found = session.shared.locks.conflict(fid.identity, lockOf(session, fid, asked))
  if (found === undefined) return { type: 'Rgetlock', lock: { ...asked, type: lockType.unlock } }
  const { type, start, end, procId, clientId } = found
  return { type: 'Rgetlock', lock: { type: lockType[type], start, length: end === Infinity ? 0 : end - start, procId, clientId } }
}

function lockOf(session: Session, fid: Fid, { type, start, length, procId, clientId }: WireLock): ByteLock {
  if (type > lockType.unlock) throw refusal('invalid', `${type} is no type of lock`, fid.path)
  if (fid.opened === undefined) throw refusal('invalid', `fid ${fid.id} is not open`, fid.path)
  if (Buffer.byteLength(clientId) > limits.attribute_bytes_max)
    throw refusal('name_too_long', 'that name of a client is too long', fid.path)
  checkOffset(start)
  // fcntl(2) says "to the end" as length 0 or as the largest offset there is.
  const end = length === 0 || start + length >= 2 ** 53 ? Infinity : start + length
  const owner = `${session.number}/${clientId}/${procId}`
  return { type: type === lockType.read ? 'read' : 'write', start, end, owner, procId, clientId, holder: fid }
}
