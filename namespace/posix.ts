/**
 * How stats, kinds and flags look to Linux: what 9P2000.L, mounts and our 9P client have in common.
 * Sources: inode(7), open(2), getdents(2).
 */
import type { OpenFlags } from './file-server.ts'
import type { FileKind, Stat } from './stat.ts'

/** File types in st_mode. */
export const fileType = { mask: 0o170000, directory: 0o040000, regular: 0o100000, symlink: 0o120000 } as const

/** Flags of open(2) on Linux; the lowest two bits are the access mode. */
export const openFlag = {
  accessMask: 0o3,
  readOnly: 0o0,
  writeOnly: 0o1,
  readWrite: 0o2,
  create: 0o100,
  exclusive: 0o200,
  truncate: 0o1000,
  append: 0o2000,
  directory: 0o200000,
  noFollow: 0o400000,
} as const

/** What is no directory and no link looks like a regular file: its kind shows in how it reads. */
export function fileTypeOf(kind: FileKind): number {
  return kind === 'directory' ? fileType.directory : kind === 'symlink' ? fileType.symlink : fileType.regular
}

/** st_mode: type and permission bits. */
export function modeOf(stat: Stat): number {
  return fileTypeOf(stat.kind) | stat.mode
}

/** d_type of getdents(2). */
export function direntTypeOf(kind: FileKind): number {
  return fileTypeOf(kind) >> 12
}

/** The kind that a mode of another system stands for; undefined for devices, sockets and pipes. */
export function kindOfMode(mode: number): FileKind | undefined {
  switch (mode & fileType.mask) {
    case fileType.directory:
      return 'directory'
    case fileType.symlink:
      return 'symlink'
    case fileType.regular:
      return 'file'
    default:
      return undefined
  }
}

/** What open(2)'s flags ask of a FileServer, in shared mode; append is the caller's to keep. */
export function openFlagsOf(flags: number): OpenFlags {
  const access = flags & openFlag.accessMask
  return {
    mode: 'shared',
    read: access !== openFlag.writeOnly,
    write: access === openFlag.writeOnly || access === openFlag.readWrite,
    truncate: (flags & openFlag.truncate) !== 0 && access !== openFlag.readOnly,
  }
}
