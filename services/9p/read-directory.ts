/** Treaddir of 9P2000.L. */
import { direntTypeOf } from '../../namespace/posix.ts'
import { DirentWriter } from '../../proto/ninep/records.ts'
import { refusal } from './failures.ts'
import type { Fid } from './fids.ts'
import type { Operation, Session } from './session.ts'

/** Cookies of `.` and `..`; those of entries come after them. */
const dots = 2

export const readdir: Operation<'Treaddir'> = (session, { fid: id, offset, count }, call) => {
  const fid = session.fids.get(id)
  const { opened } = fid
  if (opened?.type !== 'directory') throw refusal('not_directory', `fid ${id} is no open directory`, fid.path)
  const { stream } = opened
  const length = Math.min(count, session.readBytesMax)
  call.answerBytes = length
  return stream.inTurn(async () => {
    const writer = new DirentWriter(length)
    const from = offset > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(offset)
    const isRoom = from >= dots || (await addDots(session, fid, writer, from))
    let isEmpty = from >= dots
    if (isRoom) {
      stream.seek(Math.max(0, from - dots))
      await stream.fill(session.context(fid.root), fid.path, length, ({ stat, qid }, cookie) => {
        const isAdded = writer.add({ qid, offset: BigInt(cookie + dots), type: direntTypeOf(stat.kind), name: stat.name })
        if (isAdded) isEmpty = false
        else if (isEmpty) throw refusal('invalid', `the next entry has more than ${count} bytes`, fid.path)
        return isAdded
      })
    }
    return { type: 'Rreaddir', data: writer.bytes() }
  })
}

/** Whether both fitted. */
async function addDots(session: Session, fid: Fid, writer: DirentWriter, from: number): Promise<boolean> {
  const context = session.context(fid.root)
  for (const [index, name] of ['.', '..'].entries()) {
    if (index < from) continue
    const path = index === 0 ? fid.path : session.parentOf(fid.root, fid.path)
    const { stat, position } = await fid.root.server.stat(context, path)
    const qid = session.shared.qids.of(stat, path, position)
    if (writer.add({ qid, offset: BigInt(index + 1), type: direntTypeOf('directory'), name })) continue
    if (index === from) throw refusal('invalid', 'that is too little room for an entry', fid.path)
    return false
  }
  return true
}
