/** One request of each type of a dialect that makes sense after an attach to fid 0, and what comes before it. */
import { noFid, noUid, untouched32, untouched64 } from '../../proto/ninep/messages.ts'
import type { Dialect, RequestBody } from '../../proto/ninep/messages.ts'

export interface Sample {
  readonly name: RequestBody['type']
  readonly setup: readonly RequestBody[]
  readonly request: RequestBody
}

const data = Buffer.from('content')
const lock = { type: 1, start: 0, length: 0, procId: 1, clientId: 'host' }
const stat = {
  type: 0xffff,
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
const times = { atimeSec: 0, atimeNsec: 0, mtimeSec: 0, mtimeNsec: 0 }
const toFile: RequestBody = { type: 'Twalk', fid: 0, newFid: 1, names: ['file'] }
const clone: RequestBody = { type: 'Twalk', fid: 0, newFid: 1, names: [] }

const common: RequestBody[] = [
  { type: 'Tversion', msize: 65_536, version: '9P2000' },
  { type: 'Tauth', afid: 2, uname: 'who', aname: '/', nUname: noUid },
  { type: 'Tattach', fid: 2, afid: noFid, uname: 'who', aname: '/data', nUname: noUid },
  { type: 'Tflush', oldTag: 4711 },
  { type: 'Twalk', fid: 1, newFid: 2, names: ['..', 'file'] },
  { type: 'Tread', fid: 1, offset: 0, count: 100 },
  { type: 'Twrite', fid: 1, offset: 0, data },
  { type: 'Tclunk', fid: 1 },
]

export function sampleRequests(dialect: Dialect): Sample[] {
  const open: RequestBody = dialect === '9P2000' ? { type: 'Topen', fid: 1, mode: 2 } : { type: 'Tlopen', fid: 1, flags: 2 }
  const opened = (request: RequestBody): Sample => ({ name: request.type, setup: [toFile, open], request })
  const walked = (request: RequestBody): Sample => ({ name: request.type, setup: [toFile], request })
  const inDirectory = (request: RequestBody): Sample => ({ name: request.type, setup: [clone], request })
  const both = common.map(opened)
  if (dialect === '9P2000') {
    return [
      ...both,
      walked({ type: 'Topen', fid: 1, mode: 2 }),
      inDirectory({ type: 'Tcreate', fid: 1, name: 'new', perm: 0o644, mode: 2 | 0x40 }),
      walked({ type: 'Tstat', fid: 1 }),
      walked({ type: 'Twstat', fid: 1, stat }),
      inDirectory({ type: 'Tremove', fid: 1 }),
    ]
  }
  return [
    ...both,
    walked({ type: 'Tstatfs', fid: 1 }),
    walked({ type: 'Tlopen', fid: 1, flags: 2 }),
    inDirectory({ type: 'Tlcreate', fid: 1, name: 'new', flags: 2, mode: 0o644, gid: 0 }),
    inDirectory({ type: 'Tsymlink', dirFid: 1, name: 'link', target: 'file', gid: 0 }),
    inDirectory({ type: 'Tmknod', dirFid: 1, name: 'node', mode: 0o100644, major: 0, minor: 0, gid: 0 }),
    {
      name: 'Trename',
      setup: [{ type: 'Twalk', fid: 0, newFid: 1, names: ['link'] }],
      request: { type: 'Trename', fid: 1, dirFid: 0, name: 'l2' },
    },
    { name: 'Treadlink', setup: [{ type: 'Twalk', fid: 0, newFid: 1, names: ['l2'] }], request: { type: 'Treadlink', fid: 1 } },
    walked({ type: 'Tgetattr', fid: 1, mask: 0x3fff }),
    walked({ type: 'Tsetattr', fid: 1, valid: 1, mode: 0o600, uid: noUid, gid: noUid, size: 0, ...times }),
    walked({ type: 'Txattrwalk', fid: 1, newFid: 2, name: 'user.nine.version' }),
    walked({ type: 'Txattrcreate', fid: 1, name: 'user.nine.contentType', size: 0, flags: 0 }),
    {
      name: 'Treaddir',
      setup: [clone, { type: 'Tlopen', fid: 1, flags: 0 }],
      request: { type: 'Treaddir', fid: 1, offset: 0n, count: 4096 },
    },
    opened({ type: 'Tfsync', fid: 1, datasync: 0 }),
    opened({ type: 'Tlock', fid: 1, flags: 0, lock }),
    opened({ type: 'Tgetlock', fid: 1, lock }),
    walked({ type: 'Tlink', dirFid: 0, fid: 1, name: 'hard' }),
    inDirectory({ type: 'Tmkdir', dirFid: 1, name: 'sub', mode: 0o755, gid: 0 }),
    inDirectory({ type: 'Trenameat', oldDirFid: 1, oldName: 'sub', newDirFid: 1, newName: 'sub2' }),
    inDirectory({ type: 'Tunlinkat', dirFid: 1, name: 'sub2', flags: 0x200 }),
    inDirectory({ type: 'Tremove', fid: 1 }),
  ]
}
