/**
 * One row for each message of both dialects: the message, and its bytes as the manuals lay them out. Not made by our codec: sections
 * attach, clunk, error, flush, open, read, remove, stat, version and walk of the Plan 9 manual's section 5 for 9P2000; diod's
 * protocol.md and the packet formats of net/9p of Linux for 9P2000.L. A blank separates fields: size, type, tag, then what follows.
 */
import {
  noFid,
  noUid,
  untouched16,
  untouched32,
  untouched64,
  type Answer,
  type Dialect,
  type Request,
  type WireAttributes,
  type WireLock,
  type WireStat,
} from '../../proto/ninep/messages.ts'

const plan9: readonly Dialect[] = ['9P2000']
const linux: readonly Dialect[] = ['9P2000.L']
const both: readonly Dialect[] = ['9P2000', '9P2000.L']
const tag = 0x0a0b
const offset = 0x1f_0203_0405_0607
const qid = { type: 0x80, version: 0x11121314, path: 0x1f_2223_2425_2627 }
const lock: WireLock = { type: 1, start: offset, length: 9, procId: 7, clientId: 'hc' }

export const stat: WireStat = {
  type: 0x0102,
  dev: 0x03040506,
  qid,
  mode: 0x800001ed,
  atime: 10,
  mtime: 11,
  length: offset,
  name: 'n',
  uid: 'uu',
  gid: 'g',
  muid: 'é',
}
export const statHex =
  '3500 0201 06050403 80 14131211 2726252423221f00 ed010080 0a000000 0b000000 0706050403021f00 0100 6e 0200 7575 0100 67 0200 c3a9'

const untouched: WireStat = {
  type: untouched16,
  dev: untouched32,
  qid: { type: 0xff, version: untouched32, path: untouched64 },
  mode: untouched32,
  atime: untouched32,
  mtime: untouched32,
  length: untouched64,
  name: '',
  uid: '',
  gid: '',
  muid: '',
}

const attributes: WireAttributes = {
  valid: 0x7ff,
  qid,
  mode: 1,
  uid: 2,
  gid: 3,
  nlink: 4,
  rdev: 5,
  size: 6,
  blksize: 7,
  blocks: 8,
  atimeSec: 9,
  atimeNsec: 10,
  mtimeSec: 11,
  mtimeNsec: 12,
  ctimeSec: 13,
  ctimeNsec: 14,
  btimeSec: 15,
  btimeNsec: 16,
  gen: 17,
  dataVersion: 18,
}

export type Row<Message> = readonly [dialects: readonly Dialect[], message: Message, hex: string]

export const requests: readonly Row<Request>[] = [
  [both, { tag: 0xffff, type: 'Tversion', msize: 0x2000, version: '9P2000' }, '13000000 64 ffff 00200000 0600 395032303030'],
  [plan9, { tag, type: 'Tauth', afid: 0x01020304, uname: 'u', aname: 'ab', nUname: noUid }, '12000000 66 0b0a 04030201 0100 75 0200 6162'],
  [
    linux,
    { tag, type: 'Tauth', afid: 0x01020304, uname: 'u', aname: 'ab', nUname: 1000 },
    '16000000 66 0b0a 04030201 0100 75 0200 6162 e8030000',
  ],
  [
    plan9,
    { tag, type: 'Tattach', fid: 0x01020304, afid: noFid, uname: 'u', aname: '', nUname: noUid },
    '14000000 68 0b0a 04030201 ffffffff 0100 75 0000',
  ],
  [
    linux,
    { tag, type: 'Tattach', fid: 0x01020304, afid: 5, uname: '', aname: '/x', nUname: 1000 },
    '19000000 68 0b0a 04030201 05000000 0000 0200 2f78 e8030000',
  ],
  [both, { tag, type: 'Tflush', oldTag: 0x0102 }, '09000000 6c 0b0a 0201'],
  [both, { tag, type: 'Twalk', fid: 0x01020304, newFid: 5, names: [] }, '11000000 6e 0b0a 04030201 05000000 0000'],
  [
    both,
    { tag, type: 'Twalk', fid: 0x01020304, newFid: 5, names: ['usr', '..', 'é'] },
    '1e000000 6e 0b0a 04030201 05000000 0300 0300 757372 0200 2e2e 0200 c3a9',
  ],
  [both, { tag, type: 'Tread', fid: 0x01020304, offset, count: 0x10 }, '17000000 74 0b0a 04030201 0706050403021f00 10000000'],
  [
    both,
    { tag, type: 'Twrite', fid: 0x01020304, offset, data: Buffer.from('xyz') },
    '1a000000 76 0b0a 04030201 0706050403021f00 03000000 78797a',
  ],
  [both, { tag, type: 'Tclunk', fid: 0x01020304 }, '0b000000 78 0b0a 04030201'],
  [both, { tag, type: 'Tremove', fid: 0x01020304 }, '0b000000 7a 0b0a 04030201'],
  [plan9, { tag, type: 'Topen', fid: 0x01020304, mode: 0x52 }, '0c000000 70 0b0a 04030201 52'],
  [plan9, { tag, type: 'Tcreate', fid: 0x01020304, name: 'n', perm: 0x800001ed, mode: 1 }, '13000000 72 0b0a 04030201 0100 6e ed010080 01'],
  [plan9, { tag, type: 'Tstat', fid: 0x01020304 }, '0b000000 7c 0b0a 04030201'],
  [
    plan9,
    { tag, type: 'Twstat', fid: 0x01020304, stat },
    '44000000 7e 0b0a 04030201 3700 3500 0201 06050403 80 14131211 2726252423221f00 ed010080 0a000000 0b000000 0706050403021f00 0100 6e 0200 7575 0100 67 0200 c3a9',
  ],
  [
    plan9,
    { tag, type: 'Twstat', fid: 0x01020304, stat: untouched },
    '3e000000 7e 0b0a 04030201 3100 2f00 ffff ffffffff ff ffffffff ffffffffffffffff ffffffff ffffffff ffffffff ffffffffffffffff 0000 0000 0000 0000',
  ],
  [linux, { tag, type: 'Tstatfs', fid: 0x01020304 }, '0b000000 08 0b0a 04030201'],
  [linux, { tag, type: 'Tlopen', fid: 0x01020304, flags: 0x8001 }, '0f000000 0c 0b0a 04030201 01800000'],
  [
    linux,
    { tag, type: 'Tlcreate', fid: 0x01020304, name: 'n', flags: 0x8241, mode: 0x81a4, gid: 500 },
    '1a000000 0e 0b0a 04030201 0100 6e 41820000 a4810000 f4010000',
  ],
  [
    linux,
    { tag, type: 'Tsymlink', dirFid: 0x01020304, name: 'n', target: '/t', gid: 500 },
    '16000000 10 0b0a 04030201 0100 6e 0200 2f74 f4010000',
  ],
  [
    linux,
    { tag, type: 'Tmknod', dirFid: 0x01020304, name: 'n', mode: 0x21b6, major: 1, minor: 3, gid: 500 },
    '1e000000 12 0b0a 04030201 0100 6e b6210000 01000000 03000000 f4010000',
  ],
  [linux, { tag, type: 'Trename', fid: 0x01020304, dirFid: 5, name: 'n' }, '12000000 14 0b0a 04030201 05000000 0100 6e'],
  [linux, { tag, type: 'Treadlink', fid: 0x01020304 }, '0b000000 16 0b0a 04030201'],
  [linux, { tag, type: 'Tgetattr', fid: 0x01020304, mask: 0x3fff }, '13000000 18 0b0a 04030201 ff3f000000000000'],
  [
    linux,
    {
      tag,
      type: 'Tsetattr',
      fid: 0x01020304,
      valid: 0x1ff,
      mode: 0x81a4,
      uid: 1,
      gid: 2,
      size: offset,
      atimeSec: 3,
      atimeNsec: 4,
      mtimeSec: 5,
      mtimeNsec: 6,
    },
    '43000000 1a 0b0a 04030201 ff010000 a4810000 01000000 02000000 0706050403021f00 0300000000000000 0400000000000000 0500000000000000 0600000000000000',
  ],
  [linux, { tag, type: 'Txattrwalk', fid: 0x01020304, newFid: 5, name: 'user.a' }, '17000000 1e 0b0a 04030201 05000000 0600 757365722e61'],
  [
    linux,
    { tag, type: 'Txattrcreate', fid: 0x01020304, name: 'user.a', size: offset, flags: 2 },
    '1f000000 20 0b0a 04030201 0600 757365722e61 0706050403021f00 02000000',
  ],
  [
    linux,
    { tag, type: 'Treaddir', fid: 0x01020304, offset: 0xf1f2f3f4f5f6f7f8n, count: 0x10 },
    '17000000 28 0b0a 04030201 f8f7f6f5f4f3f2f1 10000000',
  ],
  [linux, { tag, type: 'Tfsync', fid: 0x01020304, datasync: 1 }, '0f000000 32 0b0a 04030201 01000000'],
  [
    linux,
    { tag, type: 'Tlock', fid: 0x01020304, flags: 3, lock },
    '28000000 34 0b0a 04030201 01 03000000 0706050403021f00 0900000000000000 07000000 0200 6863',
  ],
  [
    linux,
    { tag, type: 'Tgetlock', fid: 0x01020304, lock },
    '24000000 36 0b0a 04030201 01 0706050403021f00 0900000000000000 07000000 0200 6863',
  ],
  [linux, { tag, type: 'Tlink', dirFid: 0x01020304, fid: 5, name: 'n' }, '12000000 46 0b0a 04030201 05000000 0100 6e'],
  [
    linux,
    { tag, type: 'Tmkdir', dirFid: 0x01020304, name: 'n', mode: 0x1ed, gid: 500 },
    '16000000 48 0b0a 04030201 0100 6e ed010000 f4010000',
  ],
  [
    linux,
    { tag, type: 'Trenameat', oldDirFid: 0x01020304, oldName: 'o', newDirFid: 5, newName: 'nn' },
    '16000000 4a 0b0a 04030201 0100 6f 05000000 0200 6e6e',
  ],
  [linux, { tag, type: 'Tunlinkat', dirFid: 0x01020304, name: 'n', flags: 0x200 }, '12000000 4c 0b0a 04030201 0100 6e 00020000'],
]

export const answers: readonly Row<Answer>[] = [
  [both, { tag: 0xffff, type: 'Rversion', msize: 0x2000, version: '9P2000.L' }, '15000000 65 ffff 00200000 0800 3950323030302e4c'],
  [both, { tag, type: 'Rauth', qid }, '14000000 67 0b0a 80 14131211 2726252423221f00'],
  [both, { tag, type: 'Rattach', qid }, '14000000 69 0b0a 80 14131211 2726252423221f00'],
  [both, { tag, type: 'Rflush' }, '07000000 6d 0b0a'],
  [both, { tag, type: 'Rwalk', qids: [] }, '09000000 6f 0b0a 0000'],
  [
    both,
    { tag, type: 'Rwalk', qids: [qid, { type: 0, version: 1, path: 2 }] },
    '23000000 6f 0b0a 0200 80 14131211 2726252423221f00 00 01000000 0200000000000000',
  ],
  [both, { tag, type: 'Rread', data: Buffer.from('xyz') }, '0e000000 75 0b0a 03000000 78797a'],
  [both, { tag, type: 'Rread', data: Buffer.alloc(0) }, '0b000000 75 0b0a 00000000'],
  [both, { tag, type: 'Rwrite', count: 0x10 }, '0b000000 77 0b0a 10000000'],
  [both, { tag, type: 'Rclunk' }, '07000000 79 0b0a'],
  [both, { tag, type: 'Rremove' }, '07000000 7b 0b0a'],
  [plan9, { tag, type: 'Rerror', ename: 'no' }, '0b000000 6b 0b0a 0200 6e6f'],
  [plan9, { tag, type: 'Ropen', qid, iounit: 0x2000 }, '18000000 71 0b0a 80 14131211 2726252423221f00 00200000'],
  [plan9, { tag, type: 'Rcreate', qid, iounit: 0x2000 }, '18000000 73 0b0a 80 14131211 2726252423221f00 00200000'],
  [
    plan9,
    { tag, type: 'Rstat', stat },
    '40000000 7d 0b0a 3700 3500 0201 06050403 80 14131211 2726252423221f00 ed010080 0a000000 0b000000 0706050403021f00 0100 6e 0200 7575 0100 67 0200 c3a9',
  ],
  [plan9, { tag, type: 'Rwstat' }, '07000000 7f 0b0a'],
  [linux, { tag, type: 'Rlerror', errno: 2 }, '0b000000 07 0b0a 02000000'],
  [
    linux,
    {
      tag,
      type: 'Rstatfs',
      statfs: { type: 0x01021997, bsize: 2, blocks: 3, bfree: 4, bavail: 5, files: 6, ffree: 7, fsid: 8, namelen: 255 },
    },
    '43000000 09 0b0a 97190201 02000000 0300000000000000 0400000000000000 0500000000000000 0600000000000000 0700000000000000 0800000000000000 ff000000',
  ],
  [linux, { tag, type: 'Rlopen', qid, iounit: 0x2000 }, '18000000 0d 0b0a 80 14131211 2726252423221f00 00200000'],
  [linux, { tag, type: 'Rlcreate', qid, iounit: 0x2000 }, '18000000 0f 0b0a 80 14131211 2726252423221f00 00200000'],
  [linux, { tag, type: 'Rsymlink', qid }, '14000000 11 0b0a 80 14131211 2726252423221f00'],
  [linux, { tag, type: 'Rmknod', qid }, '14000000 13 0b0a 80 14131211 2726252423221f00'],
  [linux, { tag, type: 'Rrename' }, '07000000 15 0b0a'],
  [linux, { tag, type: 'Rreadlink', target: '../t' }, '0d000000 17 0b0a 0400 2e2e2f74'],
  [
    linux,
    { tag, type: 'Rgetattr', attributes },
    'a0000000 19 0b0a ff07000000000000 80 14131211 2726252423221f00 01000000 02000000 03000000 0400000000000000 0500000000000000 0600000000000000 0700000000000000 0800000000000000 0900000000000000 0a00000000000000 0b00000000000000 0c00000000000000 0d00000000000000 0e00000000000000 0f00000000000000 1000000000000000 1100000000000000 1200000000000000',
  ],
  [linux, { tag, type: 'Rsetattr' }, '07000000 1b 0b0a'],
  [linux, { tag, type: 'Rxattrwalk', size: offset }, '0f000000 1f 0b0a 0706050403021f00'],
  [linux, { tag, type: 'Rxattrcreate' }, '07000000 21 0b0a'],
  [linux, { tag, type: 'Rreaddir', data: Buffer.from('xyz') }, '0e000000 29 0b0a 03000000 78797a'],
  [linux, { tag, type: 'Rfsync' }, '07000000 33 0b0a'],
  [linux, { tag, type: 'Rlock', status: 1 }, '08000000 35 0b0a 01'],
  [linux, { tag, type: 'Rgetlock', lock }, '20000000 37 0b0a 01 0706050403021f00 0900000000000000 07000000 0200 6863'],
  [linux, { tag, type: 'Rlink' }, '07000000 47 0b0a'],
  [linux, { tag, type: 'Rmkdir', qid }, '14000000 49 0b0a 80 14131211 2726252423221f00'],
  [linux, { tag, type: 'Rrenameat' }, '07000000 4b 0b0a'],
  [linux, { tag, type: 'Runlinkat' }, '07000000 4d 0b0a'],
]
