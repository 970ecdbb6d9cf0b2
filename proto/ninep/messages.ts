/**
 * The messages of 9P2000 and 9P2000.L as plain data: what decode.ts reads from bytes and encode.ts writes to them.
 *
 * Sources: Plan 9 manual section 5 (intro, attach, flush, walk, open, read, stat, remove, clunk, version) and the protocol page
 * of diod (https://github.com/chaos/diod/blob/master/protocol.md) for 9P2000.L.
 *
 * Numbers: u8, u16 and u32 are exact. A u64 is a number and exact up to 2^53 - 1; a larger one is approximate, which tells its
 * reader that it is out of range, and all ones are {@link untouched64}. Cookies of readdir are opaque, so they are bigint.
 * Masks of getattr are the low 32 bits: no other has a meaning, and bit operations of a number past 2^53 have none.
 * A qid's path above 2^53 - 1 is folded to 53 bits when read (see foldPath in fields.ts).
 */

/** What a connection speaks once Tversion has been answered. */
export type Dialect = '9P2000' | '9P2000.L'

/** Numbers of requests; the answer's is one more. */
export const messageType = {
  Tlerror: 6,
  Tstatfs: 8,
  Tlopen: 12,
  Tlcreate: 14,
  Tsymlink: 16,
  Tmknod: 18,
  Trename: 20,
  Treadlink: 22,
  Tgetattr: 24,
  Tsetattr: 26,
  Txattrwalk: 30,
  Txattrcreate: 32,
  Treaddir: 40,
  Tfsync: 50,
  Tlock: 52,
  Tgetlock: 54,
  Tlink: 70,
  Tmkdir: 72,
  Trenameat: 74,
  Tunlinkat: 76,
  Tversion: 100,
  Tauth: 102,
  Tattach: 104,
  Terror: 106,
  Tflush: 108,
  Twalk: 110,
  Topen: 112,
  Tcreate: 114,
  Tread: 116,
  Twrite: 118,
  Tclunk: 120,
  Tremove: 122,
  Tstat: 124,
  Twstat: 126,
} as const

/** Tag of Tversion. */
export const noTag = 0xffff
/** No afid in Tattach; no fid. */
export const noFid = 0xffff_ffff
/** n_uname that names nobody; a uid or gid that is not known or not to be changed. */
export const noUid = 0xffff_ffff
/** A u64 whose bits are all ones ("don't touch" in wstat), as it is read; written as all ones. */
export const untouched64 = 2 ** 64
/** A u32 and a u16 whose bits are all ones. */
export const untouched32 = 0xffff_ffff
export const untouched16 = 0xffff
/** Names of one Twalk at most: MAXWELEM. */
export const walk_names_max = 16
/** size[4] type[1] tag[2]. */
export const header_bytes = 7
/** Bytes of Rread and Rreaddir that are not data: header and count[4]. */
export const read_overhead_bytes = 11
/** Bytes of Twrite that are not data: header, fid[4], offset[8], count[4]. */
export const write_overhead_bytes = 23

export interface WireQid {
  /** QT bits. */
  readonly type: number
  readonly version: number
  readonly path: number
}

/** The stat of 9P2000 (stat(5)). In Twstat, all-ones numbers and empty texts say "don't touch". */
export interface WireStat {
  readonly type: number
  readonly dev: number
  readonly qid: WireQid
  /** DM bits and permission bits. */
  readonly mode: number
  /** Seconds since the epoch. */
  readonly atime: number
  readonly mtime: number
  readonly length: number
  readonly name: string
  readonly uid: string
  readonly gid: string
  readonly muid: string
}

/** What Rgetattr gives; `valid` says which fields hold. Seconds and nanoseconds. */
export interface WireAttributes {
  readonly valid: number
  readonly qid: WireQid
  /** File type and permission bits, as st_mode of Linux. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly nlink: number
  readonly rdev: number
  readonly size: number
  readonly blksize: number
  readonly blocks: number
  readonly atimeSec: number
  readonly atimeNsec: number
  readonly mtimeSec: number
  readonly mtimeNsec: number
  readonly ctimeSec: number
  readonly ctimeNsec: number
  readonly btimeSec: number
  readonly btimeNsec: number
  readonly gen: number
  readonly dataVersion: number
}

export interface WireLock {
  /** 0 read, 1 write, 2 unlock. */
  readonly type: number
  readonly start: number
  /** 0: to the end of the file, however it grows. */
  readonly length: number
  readonly procId: number
  readonly clientId: string
}

/** An entry of Rreaddir. `offset`: the cookie to go on after it. `type`: d_type of getdents(2). */
export interface WireDirent {
  readonly qid: WireQid
  readonly offset: bigint
  readonly type: number
  readonly name: string
}

/** What Rstatfs gives, as statfs(2). */
export interface Statfs {
  readonly type: number
  readonly bsize: number
  readonly blocks: number
  readonly bfree: number
  readonly bavail: number
  readonly files: number
  readonly ffree: number
  readonly fsid: number
  readonly namelen: number
}

/** Requests, each with its tag. */
export type Request = { readonly tag: number } & RequestBody

export type RequestBody =
  // Both dialects
  | { readonly type: 'Tversion'; readonly msize: number; readonly version: string }
  /** `nUname` is {@link noUid} where the message has none: 9P2000. */
  | { readonly type: 'Tauth'; readonly afid: number; readonly uname: string; readonly aname: string; readonly nUname: number }
  | {
      readonly type: 'Tattach'
      readonly fid: number
      readonly afid: number
      readonly uname: string
      readonly aname: string
      readonly nUname: number
    }
  | { readonly type: 'Tflush'; readonly oldTag: number }
  | { readonly type: 'Twalk'; readonly fid: number; readonly newFid: number; readonly names: readonly string[] }
  | { readonly type: 'Tread'; readonly fid: number; readonly offset: number; readonly count: number }
  /** `data` is a view of the message's bytes. */
  | { readonly type: 'Twrite'; readonly fid: number; readonly offset: number; readonly data: Buffer }
  | { readonly type: 'Tclunk'; readonly fid: number }
  | { readonly type: 'Tremove'; readonly fid: number }
  // 9P2000 only
  | { readonly type: 'Topen'; readonly fid: number; readonly mode: number }
  | { readonly type: 'Tcreate'; readonly fid: number; readonly name: string; readonly perm: number; readonly mode: number }
  | { readonly type: 'Tstat'; readonly fid: number }
  | { readonly type: 'Twstat'; readonly fid: number; readonly stat: WireStat }
  // 9P2000.L only
  | { readonly type: 'Tstatfs'; readonly fid: number }
  | { readonly type: 'Tlopen'; readonly fid: number; readonly flags: number }
  | {
      readonly type: 'Tlcreate'
      readonly fid: number
      readonly name: string
      readonly flags: number
      readonly mode: number
      readonly gid: number
    }
  | { readonly type: 'Tsymlink'; readonly dirFid: number; readonly name: string; readonly target: string; readonly gid: number }
  | {
      readonly type: 'Tmknod'
      readonly dirFid: number
      readonly name: string
      readonly mode: number
      readonly major: number
      readonly minor: number
      readonly gid: number
    }
  | { readonly type: 'Trename'; readonly fid: number; readonly dirFid: number; readonly name: string }
  | { readonly type: 'Treadlink'; readonly fid: number }
  | { readonly type: 'Tgetattr'; readonly fid: number; readonly mask: number }
  | {
      readonly type: 'Tsetattr'
      readonly fid: number
      readonly valid: number
      readonly mode: number
      readonly uid: number
      readonly gid: number
      readonly size: number
      readonly atimeSec: number
      readonly atimeNsec: number
      readonly mtimeSec: number
      readonly mtimeNsec: number
    }
  | { readonly type: 'Txattrwalk'; readonly fid: number; readonly newFid: number; readonly name: string }
  | { readonly type: 'Txattrcreate'; readonly fid: number; readonly name: string; readonly size: number; readonly flags: number }
  | { readonly type: 'Treaddir'; readonly fid: number; readonly offset: bigint; readonly count: number }
  /** `datasync` is 0 where the message has none: older clients. */
  | { readonly type: 'Tfsync'; readonly fid: number; readonly datasync: number }
  | { readonly type: 'Tlock'; readonly fid: number; readonly flags: number; readonly lock: WireLock }
  | { readonly type: 'Tgetlock'; readonly fid: number; readonly lock: WireLock }
  | { readonly type: 'Tlink'; readonly dirFid: number; readonly fid: number; readonly name: string }
  | { readonly type: 'Tmkdir'; readonly dirFid: number; readonly name: string; readonly mode: number; readonly gid: number }
  | {
      readonly type: 'Trenameat'
      readonly oldDirFid: number
      readonly oldName: string
      readonly newDirFid: number
      readonly newName: string
    }
  | { readonly type: 'Tunlinkat'; readonly dirFid: number; readonly name: string; readonly flags: number }

/** Answers, each with the tag of its request. */
export type Answer = { readonly tag: number } & AnswerBody

export type AnswerBody =
  // Both dialects
  | { readonly type: 'Rversion'; readonly msize: number; readonly version: string }
  | { readonly type: 'Rauth'; readonly qid: WireQid }
  | { readonly type: 'Rattach'; readonly qid: WireQid }
  | { readonly type: 'Rwalk'; readonly qids: readonly WireQid[] }
  /** `data` is not copied when it is large: it must not change until it is sent. */
  | { readonly type: 'Rread'; readonly data: Uint8Array }
  | { readonly type: 'Rwrite'; readonly count: number }
  | { readonly type: 'Rflush' | 'Rclunk' | 'Rremove' }
  // 9P2000 only
  | { readonly type: 'Rerror'; readonly ename: string }
  | { readonly type: 'Ropen' | 'Rcreate'; readonly qid: WireQid; readonly iounit: number }
  | { readonly type: 'Rstat'; readonly stat: WireStat }
  | { readonly type: 'Rwstat' }
  // 9P2000.L only
  | { readonly type: 'Rlerror'; readonly errno: number }
  | { readonly type: 'Rstatfs'; readonly statfs: Statfs }
  | { readonly type: 'Rlopen' | 'Rlcreate'; readonly qid: WireQid; readonly iounit: number }
  | { readonly type: 'Rsymlink' | 'Rmknod' | 'Rmkdir'; readonly qid: WireQid }
  | { readonly type: 'Rreadlink'; readonly target: string }
  | { readonly type: 'Rgetattr'; readonly attributes: WireAttributes }
  | { readonly type: 'Rxattrwalk'; readonly size: number }
  /** `data`: entries as DirentWriter in records.ts writes them. */
  | { readonly type: 'Rreaddir'; readonly data: Uint8Array }
  /** 0 success, 1 blocked, 2 error, 3 grace. */
  | { readonly type: 'Rlock'; readonly status: number }
  | { readonly type: 'Rgetlock'; readonly lock: WireLock }
  | { readonly type: 'Rrename' | 'Rsetattr' | 'Rxattrcreate' | 'Rfsync' | 'Rlink' | 'Rrenameat' | 'Runlinkat' }
