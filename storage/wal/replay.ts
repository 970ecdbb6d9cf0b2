/** Reading the records of a log back, in order, with one window of a segment in memory. */
import { NineError } from '../../namespace/errors.ts'
import type { WalFile, WalFiles } from './files.ts'
import { recordsOf } from './frame.ts'
import type { SegmentInfo } from './recovery.ts'
import { SegmentReader, damaged, segmentPath, walError } from './segment.ts'
import type { WalRecord } from './wal.ts'

/** Records `from` to `to`. `replays.active` counts iterations that are open: their segments must not be written over. */
export function* readRecords(
  files: WalFiles,
  dir: string,
  segments: readonly SegmentInfo[],
  from: number,
  to: number,
  replays: { active: number },
): Generator<WalRecord, void, undefined> {
  replays.active += 1
  try {
    for (const segment of [...segments]) {
      if (segment.lastLsn < from || segment.firstLsn > to) continue
      yield* readSegment(files, segmentPath(dir, segment.number), segment, from, to)
    }
  } finally {
    replays.active -= 1
  }
}

function* readSegment(
  files: WalFiles,
  path: string,
  segment: SegmentInfo,
  from: number,
  to: number,
): Generator<WalRecord, void, undefined> {
  const file = openSegment(files, path)
  try {
    const reader = new SegmentReader(file, segment.number, segment.capacity, false)
    const last = Math.min(segment.lastLsn, to)
    let lsn = segment.firstLsn
    while (lsn <= last) {
      const at = reader.position
      const found = reader.next(lsn)
      const records = found.kind === 'frame' ? recordsOf(found.header, found.bytes) : undefined
      if (records === undefined) throw damaged(path, at, `record ${lsn} cannot be read`)
      for (const bytes of records) {
        if (lsn >= from && lsn <= last) yield { lsn, bytes }
        lsn += 1
      }
    }
  } finally {
    file.close()
  }
}

function openSegment(files: WalFiles, path: string): WalFile {
  try {
    return files.open(path, 'read')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw walError(error, 'wal.replay', path)
    throw new NineError({ kind: 'compacted', op: 'wal.replay', path, message: `${path} was cut from the log while it was being read` })
  }
}
