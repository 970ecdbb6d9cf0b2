/** Operations that both dialects have: walk, read, write, clunk, remove. walk(5), read(5), clunk(5), remove(5). */
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { FileKind } from '../../namespace/stat.ts'
import type { AnswerBody, WireQid } from '../../proto/ninep/messages.ts'
import { encodeStat } from '../../proto/ninep/records.ts'
import { wireStat } from './attributes.ts'
import { writeAuth } from './attach.ts'
import { refusal } from './failures.ts'
import { Fid } from './fids.ts'
import type { Opened, OpenFile, Reservation } from './fids.ts'
import { plainQid } from './qids.ts'
import { isSlowKind } from './session.ts'
import type { Call, Operation, Session } from './session.ts'

const empty = new Uint8Array(0)

interface Place {
  readonly path: Path
  readonly kind: FileKind
  readonly identity: number
}

export const walk: Operation<'Twalk'> = (session, { fid: id, newFid, names }, call) => {
  const fid = session.fids.get(id)
  // walk(5) wants a fid that is not open; diod's tools walk from an open directory, which harms nobody.
  if (newFid === id) session.checkClosed(fid)
  const reservation = newFid === id ? undefined : session.fids.reserve(newFid)
  if (names.length === 0) {
    if (reservation !== undefined) session.fids.add(new Fid(newFid, fid.root, fid.path, fid.kind, fid.identity), reservation)
    return { type: 'Rwalk', qids: [] }
  }
  return walkNames(session, fid, reservation, names, call)
}

/** @param reservation undefined to move `fid` itself */
async function walkNames(
  session: Session,
  fid: Fid,
  reservation: Reservation | undefined,
  names: readonly string[],
  call: Call,
): Promise<AnswerBody> {
  const qids: WireQid[] = []
  if (reservation !== undefined) call.onDrop = () => session.fids.cancel(reservation)
  let place: Place = fid
  try {
    for (const name of names) {
      const qid = await step(session, fid, place, name, (next) => (place = next))
      qids.push(session.dialect === '9P2000' ? plainQid(qid) : qid)
    }
  } catch (error) {
    if (reservation !== undefined) session.fids.cancel(reservation)
    // The first name that cannot be walked is an error; a later one ends the walk before it, and newFid is not made.
    if (qids.length === 0) throw error
    return { type: 'Rwalk', qids }
  }
  if (reservation !== undefined) {
    session.fids.add(new Fid(reservation.id, fid.root, place.path, place.kind, place.identity), reservation)
  } else if (!call.isDropped) {
    session.checkClosed(fid)
    Object.assign(fid, place)
  }
  return { type: 'Rwalk', qids }
}

async function step(session: Session, { root, id }: Fid, from: Place, name: string, arrived: (place: Place) => void): Promise<WireQid> {
  if (from.kind !== 'directory') throw refusal('not_directory', `fid ${id} leads to no directory`, from.path)
  // walk(5) has no name for the directory itself; clients of 9P2000.L use one.
  const path = name === '..' ? session.parentOf(root, from.path) : name === '.' ? from.path : session.childOf(from.path, name)
  const { stat, position } = await root.server.stat(session.context(root), path)
  const qid = session.shared.qids.of(stat, path, position)
  arrived({ path, kind: stat.kind, identity: qid.path })
  return qid
}

export const read: Operation<'Tread'> = (session, { fid: id, offset, count }, call) => {
  if (session.fids.getAuth(id) !== undefined) return { type: 'Rread', data: empty }
  const fid = session.fids.get(id)
  const { opened, root } = fid
  const length = Math.min(count, session.readBytesMax)
  if (opened?.type === 'directory') {
    call.answerBytes = length
    if (session.dialect === '9P2000.L') throw refusal('is_directory', 'a directory is read by Treaddir', fid.path)
    return readDirectory(session, fid, opened, offset, length)
  }
  checkOffset(offset)
  if (opened?.type === 'bytes') return { type: 'Rread', data: opened.bytes.subarray(offset, offset + length) }
  if (opened?.type !== 'file' || !opened.isReadable) throw refusal('invalid', `fid ${id} is not open for reading`, fid.path)
  if (!opened.isSlow) {
    // Past the end of the largest file there is nothing, which is no failure.
    if (offset >= limits.file_bytes_max) return { type: 'Rread', data: empty }
    call.answerBytes = length
    return session.pending(fid, root.server.readHandle(session.context(root), opened.handle, offset, length)).then(readAnswer)
  }
  const context = session.patient(root, call.signal)
  return session.pending(fid, root.server.readHandle(context, opened.handle, offset, length), () => call.abort()).then(readAnswer)
}

function readAnswer({ bytes }: { readonly bytes: Uint8Array }): AnswerBody {
  return { type: 'Rread', data: bytes }
}

/** Whole stats, as many as fit. read(5) */
function readDirectory(
  session: Session,
  fid: Fid,
  { stream }: Extract<Opened, { type: 'directory' }>,
  offset: number,
  length: number,
): Promise<AnswerBody> {
  return stream.inTurn(async () => {
    stream.seekBytes(offset)
    const parts: Buffer[] = []
    let bytes = 0
    let isTooSmall = false
    await stream.fill(session.context(fid.root), fid.path, length, ({ stat, qid }) => {
      const encoded = encodeStat(wireStat(stat, qid))
      if (bytes + encoded.length > length) {
        isTooSmall = bytes === 0
        return false
      }
      parts.push(encoded)
      bytes += encoded.length
      return true
    })
    if (isTooSmall) throw refusal('invalid', `the next entry has more than ${length} bytes`, fid.path)
    stream.moved(bytes)
    return { type: 'Rread', data: Buffer.concat(parts) }
  })
}

export const write: Operation<'Twrite'> = (session, { fid: id, offset, data }, call) => {
  const auth = session.fids.getAuth(id)
  if (auth !== undefined) return writeAuth(auth, data)
  const fid = session.fids.get(id)
  const { opened, root } = fid
  checkOffset(offset)
  if (opened?.type === 'attribute') {
    if (offset + data.length > opened.value.length) throw refusal('invalid', `${opened.name} has ${opened.value.length} bytes`, fid.path)
    data.copy(opened.value, offset)
    opened.written = Math.max(opened.written, offset + data.length)
    return { type: 'Rwrite', count: data.length }
  }
  if (opened?.type !== 'file' || !opened.isWritable) throw refusal('invalid', `fid ${id} is not open for writing`, fid.path)
  const context = opened.isSlow ? session.patient(root, call.signal) : session.context(root)
  const written = root.server.writeHandle(context, opened.handle, data, opened.isAppending ? 'append' : offset)
  return session.pending(fid, written).then(({ written: count }) => ({ type: 'Rwrite', count }))
}

export const clunk: Operation<'Tclunk'> = (session, { fid: id }) => {
  if (session.fids.deleteAuth(id)) return { type: 'Rclunk' }
  const fid = session.fids.get(id)
  return session.clunk(fid).then(() => ({ type: 'Rclunk' }))
}

/** The fid is gone whether or not the file could be removed; its number is free from now on, as after a clunk. */
export const remove: Operation<'Tremove'> = (session, { fid: id }) => {
  if (session.fids.deleteAuth(id)) throw refusal('denied', 'an authentication is not removed')
  const fid = session.fids.get(id)
  session.fids.delete(fid)
  return session.leaving(removeFile(session, fid))
}

async function removeFile(session: Session, fid: Fid): Promise<AnswerBody> {
  const { root, path } = fid
  const context = session.context(root)
  fid.isRemovedOnClose = false
  try {
    await session.checkPath(fid, context)
    await root.server.remove(context, path)
  } catch (error) {
    await session.clunk(fid)
    throw error
  }
  // What was written to a removed file needs no keeping, so nobody is told that it could not be kept.
  await session.clunk(fid).catch(() => undefined)
  return { type: 'Rremove' }
}

/** What {@link openFile} opened, for a fid to take. */
export interface OpenedPlace {
  readonly kind: FileKind
  readonly qid: WireQid
  readonly opened: OpenFile
}

/** A handle of the file at a place, checked to be the one that was walked to; `identity` is undefined for one that may be new. */
export async function openFile(
  session: Session,
  { root, path, kind, identity }: Pick<Fid, 'root' | 'path' | 'kind'> & { readonly identity: number | undefined },
  flags: Parameters<FileServer['open']>[2],
  isAppending: boolean,
  call: Call,
): Promise<OpenedPlace> {
  const context = session.context(root, isSlowKind(kind) ? call.signal : undefined)
  const { handle, stat, position } = await root.server.open(context, path, flags)
  const qid = session.shared.qids.of(stat, path, position)
  if (identity !== undefined && qid.path !== identity) {
    await root.server.closeHandle(session.context(root), handle)
    throw refusal('not_found', 'another file stands there now', path)
  }
  const opened: OpenFile = {
    type: 'file',
    handle,
    isReadable: flags.read === true || flags.write !== true,
    isWritable: flags.write === true,
    isAppending,
    isSlow: isSlowKind(stat.kind),
  }
  return { kind: stat.kind, qid, opened }
}

/** The fid, which was the directory's, is the new file's, wherever the directory is by now. */
export function becomeMade(fid: Fid, name: string, { kind, qid, opened }: OpenedPlace): void {
  Object.assign(fid, { path: joinName(fid.path, name), kind, identity: qid.path, opened })
}

/** @throws NineError `invalid` for one past 2^53 - 1, which the wire can carry and no file has */
export function checkOffset(offset: number): void {
  if (!Number.isSafeInteger(offset)) throw refusal('invalid', 'that offset is past the end of any file')
}
