/** Stats as 9P tells them: Rstat's of 9P2000, Rgetattr's of 9P2000.L. */
import { untouched32 } from '../../proto/ninep/messages.ts'
import type { WireAttributes, WireQid, WireStat } from '../../proto/ninep/messages.ts'
import type { Owners } from '../../namespace/owners.ts'
import { modeOf } from '../../namespace/posix.ts'
import type { Micros, Stat } from '../../namespace/stat.ts'
import { plainQid } from './qids.ts'

/** DM bits of stat(5). */
export const modeBit = {
  directory: 0x8000_0000,
  append: 0x4000_0000,
  exclusive: 0x2000_0000,
  mount: 0x1000_0000,
  auth: 0x0800_0000,
} as const

/** Fields of Rgetattr that always hold: P9_GETATTR_BASIC, btime, gen and data version. */
const valid_all = 0x3fff
const block_bytes = 512
/** What stat(2) suggests for reads: half of the default msize of Linux. */
const blksize = 65_536

export function wireStat(stat: Stat, qid: WireQid): WireStat {
  const isDirectory = stat.kind === 'directory'
  const seconds = Math.max(0, Math.floor(stat.modifiedAt / 1e6))
  return {
    type: 0,
    dev: 0,
    qid: plainQid(qid),
    mode: ((isDirectory ? modeBit.directory : 0) | (stat.mode & 0o777)) >>> 0,
    atime: Math.min(seconds, untouched32 - 1),
    mtime: Math.min(seconds, untouched32 - 1),
    length: isDirectory ? 0 : (stat.size ?? 0),
    name: stat.name === '' ? '/' : stat.name,
    uid: stat.owner,
    gid: stat.group === '' ? stat.owner : stat.group,
    muid: stat.modifiedBy,
  }
}

export function wireAttributes(stat: Stat, qid: WireQid, owners: Owners): WireAttributes {
  const size = stat.size ?? 0
  const [mtimeSec, mtimeNsec] = timeOf(stat.modifiedAt)
  const [btimeSec, btimeNsec] = timeOf(stat.createdAt)
  return {
    valid: valid_all,
    qid,
    mode: modeOf(stat),
    uid: owners.uidOf(stat.owner),
    gid: owners.gidOf(stat.group),
    // Directories too: `find` takes two for "no subdirectories".
    nlink: 1,
    rdev: 0,
    size,
    blksize,
    blocks: Math.ceil(size / block_bytes),
    // Reading changes nothing, so there is no time of the last read.
    atimeSec: mtimeSec,
    atimeNsec: mtimeNsec,
    mtimeSec,
    mtimeNsec,
    ctimeSec: mtimeSec,
    ctimeNsec: mtimeNsec,
    btimeSec,
    btimeNsec,
    gen: stat.createdRevision,
    dataVersion: stat.version,
  }
}

/** Whole seconds and nanoseconds; times before 1970, which 9P cannot carry, are 1970. */
function timeOf(micros: Micros): [number, number] {
  const at = Math.max(0, micros)
  const seconds = Math.floor(at / 1e6)
  return [seconds, Math.round(at - seconds * 1e6) * 1000]
}

/** @returns microseconds; Infinity or NaN never: both parts are bounded by the wire */
export function microsOf(seconds: number, nanoseconds: number): Micros {
  return seconds * 1e6 + Math.floor(nanoseconds / 1000)
}
