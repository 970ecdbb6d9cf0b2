/**
 * What a folder holds when a log is opened: its segments, where it ends, and whether anything in it is damaged.
 *
 * R1 The end is the first place without an intact frame. It is only accepted when nothing written later is behind it, in
 *    its segment or the next ones, since a frame is written only after the one before it was durable; otherwise a record
 *    that may have been acknowledged is damaged, and the log is refused as `corrupt`.
 * R2 Every frame names the first segment that was needed when it was written, and a cut is durable before its files go:
 *    a needed segment that is missing is damage, an unneeded one that is left, even a damaged one, is removed.
 * R3 Nothing is changed before everything was checked.
 */
import { join } from 'node:path'
import { NineError } from '../../namespace/errors.ts'
import type { WalFile, WalFiles } from './files.ts'
import { recordsOf } from './frame.ts'
import { SegmentReader, damaged, readSegmentHeader, segmentNumber, segmentPath, walError } from './segment.ts'

export interface SegmentInfo {
  readonly number: number
  readonly capacity: number
  /** lsn of its first record, or of the next record of the log where it has none. */
  firstLsn: number
  /** lsn of its last record, or of the last one before it. */
  lastLsn: number
}

export interface Recovered {
  readonly logId: string | undefined
  /** Needed segments up to the one in which the log ends. Empty for a new log. */
  readonly segments: SegmentInfo[]
  /** Where the next frame goes in the last of `segments`. */
  readonly end: number
  /** Behind the last byte that a torn write left there; `end` when there is nothing. */
  readonly tornTo: number
  readonly lastLsn: number
  readonly firstSegment: number
  /** Whether the last frame is a seal. */
  readonly sealed: boolean
  /** Files that are not needed: cut segments, empty ones, unfinished ones. */
  readonly unneeded: string[]
}

interface Scanned {
  readonly info: SegmentInfo
  readonly logId: string
  readonly frames: number
  readonly end: number
  readonly tornTo: number
  readonly firstSegment: number
  readonly sealed: boolean
}

/** @throws NineError `corrupt`, `unsupported`, `denied`, `internal` */
export function recover(files: WalFiles, dir: string): Recovered {
  const numbers: number[] = []
  const unneeded: string[] = []
  for (const name of files.list(dir)) {
    const number = segmentNumber(name)
    if (number !== undefined) numbers.push(number)
    else if (name.endsWith('.tmp')) unneeded.push(join(dir, name))
  }
  numbers.sort((a, b) => a - b)
  const scans: (Scanned | NineError)[] = []
  let last: Scanned | undefined
  let firstSegment = 1
  let lsn: number | undefined
  for (const number of numbers) {
    const scanned = scan(files, dir, number, lsn)
    scans.push(scanned)
    lsn = scanned instanceof NineError ? undefined : scanned.frames > 0 ? scanned.info.lastLsn + 1 : lsn
    if (!(scanned instanceof NineError) && scanned.frames > 0) {
      last = scanned
      firstSegment = scanned.firstSegment
    }
  }
  // What the last segments say of the others is not known when they cannot be read.
  for (const [i, scanned] of scans.entries()) if (scanned instanceof NineError && numbers[i]! > (last?.info.number ?? 0)) throw scanned
  // R2
  const missing = missingNumber(numbers, firstSegment)
  if (missing !== undefined) throw damaged(segmentPath(dir, missing), 0, 'this segment of the log is missing')
  const needed: Scanned[] = []
  let logId: string | undefined
  for (const [i, number] of numbers.entries()) {
    const scanned = scans[i]!
    if (number < firstSegment) {
      unneeded.push(segmentPath(dir, number))
      continue
    }
    if (scanned instanceof NineError) throw scanned
    if (logId !== undefined && scanned.logId !== logId) throw damaged(segmentPath(dir, number), 24, 'the segment belongs to another log')
    logId = scanned.logId
    const before = needed.at(-1)
    // R1: what is torn, or was left empty, has nothing behind it.
    if (before !== undefined && before.tornTo > before.end && (scanned.frames > 0 || scanned.tornTo > scanned.end)) {
      throw damaged(
        segmentPath(dir, before.info.number),
        before.end,
        `records are damaged there, and ${segmentPath(dir, number)} goes on after them`,
      )
    }
    needed.push(scanned)
  }
  return conclude(dir, needed, last, logId, firstSegment, unneeded)
}

/** The active segment is the last one with anything in it, torn or whole; empty ones after it are prepared again. */
function conclude(
  dir: string,
  needed: Scanned[],
  last: Scanned | undefined,
  logId: string | undefined,
  firstSegment: number,
  unneeded: string[],
): Recovered {
  let active = needed.findLastIndex((scanned) => scanned.frames > 0 || scanned.tornTo > scanned.end)
  if (active < 0) active = Math.min(0, needed.length - 1)
  for (const empty of needed.splice(active + 1)) unneeded.push(segmentPath(dir, empty.info.number))
  const lastLsn = last?.info.lastLsn ?? 0
  const tail = needed.at(-1)
  if (tail !== undefined && tail.frames === 0) {
    tail.info.firstLsn = lastLsn + 1
    tail.info.lastLsn = lastLsn
  }
  return {
    logId,
    segments: needed.map((scanned) => scanned.info),
    end: tail?.end ?? 0,
    tornTo: tail?.tornTo ?? 0,
    lastLsn,
    firstSegment,
    sealed: last?.sealed ?? true,
    unneeded,
  }
}

/** The first number at or after `first` that is not there although a later one is. */
function missingNumber(numbers: readonly number[], first: number): number | undefined {
  let expected = first
  for (const number of numbers) {
    if (number < expected) continue
    if (number !== expected) return expected
    expected += 1
  }
  return numbers.length > 0 && expected === first ? first : undefined
}

/** One segment, whole. `lsn`: of the first record it may hold, where that is known. Damage is returned: see R2. */
function scan(files: WalFiles, dir: string, number: number, lsn: number | undefined): Scanned | NineError {
  const path = segmentPath(dir, number)
  let file: WalFile | undefined
  try {
    file = files.open(path, 'read')
    return scanFile(file, path, number, lsn)
  } catch (error) {
    return walError(error, 'wal.open', path)
  } finally {
    file?.close()
  }
}

function scanFile(file: WalFile, path: string, number: number, lsn: number | undefined): Scanned {
  const { capacity, logId } = readSegmentHeader(file, path, number)
  const reader = new SegmentReader(file, number, capacity, true)
  const info: SegmentInfo = { number, capacity, firstLsn: lsn ?? 0, lastLsn: (lsn ?? 1) - 1 }
  let frames = 0
  let firstSegment = 0
  let sealed = false
  for (;;) {
    const expected = frames > 0 ? info.lastLsn + 1 : lsn
    const found = reader.next(expected)
    const end = reader.position
    if (found.kind === 'frame') {
      const { header, bytes } = found
      if (recordsOf(header, bytes) === undefined) throw damaged(path, end, 'a frame before this place does not consist of records')
      if (frames === 0) info.firstLsn = header.lsn
      info.lastLsn = header.lsn + header.count - 1
      firstSegment = header.firstSegment
      sealed = header.count === 0
      frames += 1
      continue
    }
    // R1
    const behind = found.kind === 'torn' ? found.to : end
    const { to, frameAt } = reader.remains(behind, expected ?? 0)
    if (found.kind === 'damaged') throw damaged(path, end, found.what)
    if (frameAt !== undefined) throw damaged(path, end, `records are damaged there, and others follow at byte ${frameAt}`)
    return { info, logId, frames, end, tornTo: to ?? behind, firstSegment, sealed }
  }
}
