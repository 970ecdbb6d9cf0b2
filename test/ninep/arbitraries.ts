/** Any message of 9P2000 and 9P2000.L, for fast-check, and how the tests of the codec write one. */
import fc from 'fast-check'
import { MessageWriter } from '../../proto/ninep/encode.ts'
import { untouched64, type Answer, type Dialect, type Request, type WireQid } from '../../proto/ninep/messages.ts'

/** Seed of every property of these tests, in the names of the tests: NINE_TEST_SEED=... repeats a run. */
export const seed = Number(process.env['NINE_TEST_SEED'] ?? Date.now() % 2 ** 31)

export function encode(message: Request | Answer, dialect: Dialect): Buffer {
  const writer = new MessageWriter(dialect)
  writer.write(message)
  return Buffer.concat(writer.take())
}

const u8 = fc.integer({ min: 0, max: 0xff })
const u16 = fc.integer({ min: 0, max: 0xffff })
const u32 = fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.constantFrom(0, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff))
const u64 = fc.oneof(u32, fc.maxSafeNat(), fc.constantFrom(2 ** 53 - 1, 2 ** 63, 2 ** 64 - 2048, untouched64))
const cookie = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const text = fc.oneof(
  { weight: 20, arbitrary: fc.string({ maxLength: 20 }).map(withoutNul) },
  { weight: 10, arbitrary: fc.string({ unit: 'grapheme', maxLength: 100 }).map(withoutNul) },
  { weight: 1, arbitrary: fc.integer({ min: 120, max: 65_535 }).map((length) => 'ü'.repeat(length / 2)) },
)
const data = fc.oneof(
  { weight: 4, arbitrary: fc.uint8Array({ maxLength: 100 }) },
  { weight: 1, arbitrary: fc.integer({ min: 8000, max: 8400 }).map((length) => Buffer.alloc(length, length)) },
)
const bytes = data.map((array) => Buffer.from(array))
const qid: fc.Arbitrary<WireQid> = fc.record({ type: u8, version: u32, path: fc.oneof(u32, fc.maxSafeNat()) })
const shortText = fc.string({ maxLength: 9 }).map(withoutNul)
export const anyStat = fc.record({
  type: u16,
  dev: u32,
  qid,
  mode: u32,
  atime: u32,
  mtime: u32,
  length: u64,
  name: fc.oneof(
    shortText,
    fc.integer({ min: 1, max: 5000 }).map((length) => 'é'.repeat(length)),
  ),
  uid: shortText,
  gid: shortText,
  muid: shortText,
})
export const anyDirent = fc.record({
  qid,
  offset: cookie,
  type: u8,
  name: fc.oneof(shortText, fc.string({ unit: 'grapheme' }).map(withoutNul)),
})
const lock = fc.record({ type: u8, start: u64, length: u64, procId: u32, clientId: text })
const attributes = fc.record({
  valid: u32,
  qid,
  mode: u32,
  uid: u32,
  gid: u32,
  nlink: u64,
  rdev: u64,
  size: u64,
  blksize: u64,
  blocks: u64,
  atimeSec: u64,
  atimeNsec: u64,
  mtimeSec: u64,
  mtimeNsec: u64,
  ctimeSec: u64,
  ctimeNsec: u64,
  btimeSec: u64,
  btimeNsec: u64,
  gen: u64,
  dataVersion: u64,
})
const statfs = fc.record({
  type: u32,
  bsize: u32,
  blocks: u64,
  bfree: u64,
  bavail: u64,
  files: u64,
  ffree: u64,
  fsid: u64,
  namelen: u32,
})

function withoutNul(value: string): string {
  return value.replaceAll('\0', '')
}

function of<const Type extends string, Fields extends object>(type: Type, fields: { [Key in keyof Fields]: fc.Arbitrary<Fields[Key]> }) {
  return fc.record({ tag: u16, type: fc.constant(type), ...fields }) as fc.Arbitrary<{ tag: number; type: Type } & Fields>
}

function bare<const Type extends Answer['type']>(type: Type): fc.Arbitrary<{ tag: number; type: Type }> {
  return fc.record({ tag: u16, type: fc.constant(type) })
}

function requestsOfBoth(nUname: fc.Arbitrary<number>): fc.Arbitrary<Request>[] {
  return [
    of('Tversion', { msize: u32, version: text }),
    of('Tauth', { afid: u32, uname: text, aname: text, nUname }),
    of('Tattach', { fid: u32, afid: u32, uname: text, aname: text, nUname }),
    of('Tflush', { oldTag: u16 }),
    of('Twalk', { fid: u32, newFid: u32, names: fc.array(text, { maxLength: 16 }) }),
    of('Tread', { fid: u32, offset: u64, count: u32 }),
    of('Twrite', { fid: u32, offset: u64, data: bytes }),
    of('Tclunk', { fid: u32 }),
    of('Tremove', { fid: u32 }),
  ]
}

const answersOfBoth: fc.Arbitrary<Answer>[] = [
  of('Rversion', { msize: u32, version: text }),
  of('Rauth', { qid }),
  of('Rattach', { qid }),
  of('Rwalk', { qids: fc.array(qid, { maxLength: 16 }) }),
  of('Rread', { data: bytes }),
  of('Rwrite', { count: u32 }),
  bare('Rflush'),
  bare('Rclunk'),
  bare('Rremove'),
]

export const anyRequest: Record<Dialect, fc.Arbitrary<Request>> = {
  '9P2000': fc.oneof(
    ...requestsOfBoth(fc.constant(0xffff_ffff)),
    of('Topen', { fid: u32, mode: u8 }),
    of('Tcreate', { fid: u32, name: text, perm: u32, mode: u8 }),
    of('Tstat', { fid: u32 }),
    of('Twstat', { fid: u32, stat: anyStat }),
  ),
  '9P2000.L': fc.oneof(
    ...requestsOfBoth(u32),
    of('Tstatfs', { fid: u32 }),
    of('Tlopen', { fid: u32, flags: u32 }),
    of('Tlcreate', { fid: u32, name: text, flags: u32, mode: u32, gid: u32 }),
    of('Tsymlink', { dirFid: u32, name: text, target: text, gid: u32 }),
    of('Tmknod', { dirFid: u32, name: text, mode: u32, major: u32, minor: u32, gid: u32 }),
    of('Trename', { fid: u32, dirFid: u32, name: text }),
    of('Treadlink', { fid: u32 }),
    of('Tgetattr', { fid: u32, mask: u32 }),
    of('Tsetattr', {
      fid: u32,
      valid: u32,
      mode: u32,
      uid: u32,
      gid: u32,
      size: u64,
      atimeSec: u64,
      atimeNsec: u64,
      mtimeSec: u64,
      mtimeNsec: u64,
    }),
    of('Txattrwalk', { fid: u32, newFid: u32, name: text }),
    of('Txattrcreate', { fid: u32, name: text, size: u64, flags: u32 }),
    of('Treaddir', { fid: u32, offset: cookie, count: u32 }),
    of('Tfsync', { fid: u32, datasync: u32 }),
    of('Tlock', { fid: u32, flags: u32, lock }),
    of('Tgetlock', { fid: u32, lock }),
    of('Tlink', { dirFid: u32, fid: u32, name: text }),
    of('Tmkdir', { dirFid: u32, name: text, mode: u32, gid: u32 }),
    of('Trenameat', { oldDirFid: u32, oldName: text, newDirFid: u32, newName: text }),
    of('Tunlinkat', { dirFid: u32, name: text, flags: u32 }),
  ),
}

export const anyAnswer: Record<Dialect, fc.Arbitrary<Answer>> = {
  '9P2000': fc.oneof(
    ...answersOfBoth,
    of('Rerror', { ename: text }),
    of('Ropen', { qid, iounit: u32 }),
    of('Rcreate', { qid, iounit: u32 }),
    of('Rstat', { stat: anyStat }),
    bare('Rwstat'),
  ),
  '9P2000.L': fc.oneof(
    ...answersOfBoth,
    of('Rlerror', { errno: u32 }),
    of('Rstatfs', { statfs }),
    of('Rlopen', { qid, iounit: u32 }),
    of('Rlcreate', { qid, iounit: u32 }),
    of('Rsymlink', { qid }),
    of('Rmknod', { qid }),
    of('Rmkdir', { qid }),
    of('Rreadlink', { target: text }),
    of('Rgetattr', { attributes }),
    of('Rxattrwalk', { size: u64 }),
    of('Rreaddir', { data: bytes }),
    of('Rlock', { status: u8 }),
    of('Rgetlock', { lock }),
    ...(['Rrename', 'Rsetattr', 'Rxattrcreate', 'Rfsync', 'Rlink', 'Rrenameat', 'Runlinkat'] as const).map((type) => bare(type)),
  ),
}
