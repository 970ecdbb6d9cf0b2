/** Operations of 9P2000 alone: open, create, stat, wstat. open(5), stat(5). */
import type { StatChanges } from '../../namespace/file-server.ts'
import { joinName, parentPath } from '../../namespace/path.ts'
import type { Stat } from '../../namespace/stat.ts'
import { untouched32, untouched64 } from '../../proto/ninep/messages.ts'
import type { WireQid, WireStat } from '../../proto/ninep/messages.ts'
import { modeBit, wireStat } from './attributes.ts'
import { becomeMade, checkOffset, openFile } from './common.ts'
import { DirectoryStream } from './directory.ts'
import { refusal } from './failures.ts'
import type { Fid } from './fids.ts'
import { plainQid } from './qids.ts'
import type { Operation, Session } from './session.ts'

/** Mode of open(5): access in the lowest two bits. */
const openMode = { accessMask: 3, read: 0, write: 1, readWrite: 2, execute: 3, truncate: 0x10, removeOnClose: 0x40 } as const

function flagsOf(mode: number): { mode: 'shared'; read: boolean; write: boolean; truncate: boolean } {
  const access = mode & openMode.accessMask
  const isWriting = access === openMode.write || access === openMode.readWrite
  return { mode: 'shared', read: access !== openMode.write, write: isWriting, truncate: isWriting && (mode & openMode.truncate) !== 0 }
}

export const open: Operation<'Topen'> = (session, { fid: id, mode }, call) => {
  const fid = session.fids.get(id)
  return session.opening(fid, async () => {
    const { root, path, kind, identity } = fid
    const flags = flagsOf(mode)
    let qid = { type: 0, version: 0, path: identity }
    if (kind === 'directory') {
      if (flags.write || (mode & openMode.truncate) !== 0) throw refusal('is_directory', 'a directory is opened for reading', path)
      qid = (await session.statOf(fid, session.context(root))).qid
      fid.opened = { type: 'directory', stream: new DirectoryStream(root.server, session.shared.qids) }
    } else if (kind === 'symlink') {
      // 9P2000 knows no links: one reads as its target.
      if (flags.write) throw refusal('denied', 'a link is not written', path)
      const { target } = await root.server.readlink(session.context(root), path)
      fid.opened = { type: 'bytes', bytes: Buffer.from(target) }
    } else {
      const place = await openFile(session, fid, flags, false, call)
      qid = place.qid
      fid.opened = place.opened
    }
    fid.isRemovedOnClose = (mode & openMode.removeOnClose) !== 0
    return { type: 'Ropen', qid: plainQid(qid), iounit: session.iounit }
  })
}

/** The fid, which was the directory's, is the new file's, open. */
export const create: Operation<'Tcreate'> = (session, { fid: id, name, perm, mode }, call) => {
  const fid = session.fids.get(id)
  return session.opening(fid, async () => {
    const { root } = fid
    if (fid.kind !== 'directory') throw refusal('not_directory', 'files are made in a directory', fid.path)
    const isDirectory = (perm & modeBit.directory) !== 0
    // An appending file appends through the fid that made it; the property itself is not kept.
    const isAppending = (perm & modeBit.append) !== 0
    if ((perm & (modeBit.exclusive | modeBit.mount | modeBit.auth)) !== 0) throw refusal('unsupported', 'no such kind of file is kept')
    const context = session.context(root)
    const { stat: above } = await session.statOf(fid, context)
    const path = session.childOf(fid.path, name)
    const flags = flagsOf(mode)
    if (isDirectory) {
      if (flags.write) throw refusal('is_directory', 'a directory is opened for reading', path)
      const made = await root.server.mkdir(context, path, { mode: perm & (~0o777 | (above.mode & 0o777)) & 0o777 })
      const qid = session.shared.qids.of(made, path, made.position)
      Object.assign(fid, { path: joinName(fid.path, name), identity: qid.path })
      fid.opened = { type: 'directory', stream: new DirectoryStream(root.server, session.shared.qids) }
      fid.isRemovedOnClose = (mode & openMode.removeOnClose) !== 0
      return { type: 'Rcreate', qid, iounit: session.iounit }
    }
    const permissions = perm & (~0o666 | (above.mode & 0o666)) & 0o777
    const file = { root, path, kind: 'file', identity: undefined } as const
    const made = await openFile(session, file, { ...flags, create: true, exclusive: true, permissions }, isAppending, call)
    becomeMade(fid, name, made)
    fid.isRemovedOnClose = (mode & openMode.removeOnClose) !== 0
    return { type: 'Rcreate', qid: plainQid(made.qid), iounit: session.iounit }
  })
}

export const stat: Operation<'Tstat'> = async (session, { fid: id }) => {
  const fid = session.fids.get(id)
  const { stat, qid } = await session.statOf(fid, session.context(fid.root))
  return { type: 'Rstat', stat: shown(fid, stat, qid) }
}

/** The root of a tree is "/" whatever it is called where it stands. */
function shown({ path, root }: Fid, stat: Stat, qid: WireQid): WireStat {
  return wireStat(path === root.path ? { ...stat, name: '' } : stat, qid)
}

/** All of it happens or nothing. Nothing to change asks that the file be on disk. */
export const wstat: Operation<'Twstat'> = async (session, { fid: id, stat: wanted }) => {
  const fid = session.fids.get(id)
  const { root } = fid
  const context = session.context(root)
  const { stat, qid } = await session.statOf(fid, context)
  if (fid.opened?.type === 'file') await root.server.syncHandle(context, fid.opened.handle)
  const now = shown(fid, stat, qid)
  const changes = changesOf(wanted, now)
  const isChanged = Object.keys(changes).length > 0
  const name = wanted.name !== '' && wanted.name !== now.name ? wanted.name : undefined
  // An open fid is its handle's file, which need not be the one at its path.
  if (fid.opened?.type === 'file' && (isChanged || name !== undefined)) await session.checkPath(fid, context)
  if (name === undefined) {
    if (isChanged) await root.server.setStat(context, fid.path, changes)
    return { type: 'Rwstat' }
  }
  if (fid.path === root.path) throw refusal('denied', 'the root of a tree is not renamed from within', fid.path)
  await rename(session, fid, name, isChanged ? changes : undefined)
  return { type: 'Rwstat' }
}

async function rename(session: Session, fid: Fid, name: string, changes: StatChanges | undefined): Promise<void> {
  const { root, path: from } = fid
  const context = session.context(root)
  const to = session.childOf(parentPath(from), name)
  if (changes === undefined) await root.server.rename(context, from, to)
  else {
    const then = [{ op: 'setStat', path: from, changes } as const, { op: 'rename', path: from, to } as const]
    await root.server.txn(context, { if: [], then, else: [] })
  }
  session.fids.renamed(root.server, from, to)
}

/**
 * The last writer (muid) is whoever asks, whatever is written there: Linux writes a name.
 * @throws NineError `denied` for what a client does not set
 */
function changesOf(wanted: WireStat, now: WireStat): StatChanges {
  const fixed =
    isOr(wanted.type, 0xffff, now.type) &&
    isOr(wanted.dev, untouched32, now.dev) &&
    isOr(wanted.qid.type, 0xff, now.qid.type) &&
    isOr(wanted.qid.version, untouched32, now.qid.version) &&
    (wanted.qid.path === now.qid.path || wanted.qid.path === untouched64) &&
    isOr(wanted.uid, '', now.uid)
  if (!fixed) throw refusal('denied', 'type, device, qid and owner are not set by wstat')
  const changes: { -readonly [K in keyof StatChanges]: StatChanges[K] } = {}
  if (wanted.mode !== untouched32 && wanted.mode !== now.mode) {
    if (((wanted.mode ^ now.mode) & ~0o777) !== 0) throw refusal('unsupported', 'only permission bits are set by wstat')
    changes.mode = wanted.mode & 0o777
  }
  if (wanted.mtime !== untouched32 && wanted.mtime !== now.mtime) changes.modifiedAt = wanted.mtime * 1e6
  if (wanted.gid !== '' && wanted.gid !== now.gid) changes.group = wanted.gid
  if (wanted.length !== untouched64 && wanted.length !== now.length) {
    checkOffset(wanted.length)
    changes.size = wanted.length
  }
  return changes
}

function isOr<T>(wanted: T, untouched: T, now: T): boolean {
  return wanted === untouched || wanted === now
}
