/**
 * What a 9P server says went wrong, as kinds of ours: numbers of Linux's errno in 9P2000.L, texts in 9P2000.
 *
 * F1 Numbers are the table of errors.ts read backwards; those it does not have, and those that Linux uses for something else, stand here.
 * F2 Texts are those of Plan 9's servers, of u9fs and its kind (which send strerror(3)), and of Linux v9fs's own table. A text that is not
 *    known is `internal` and kept as the message.
 */
import { errorKinds, errorTable } from '../errors.ts'
import type { ErrorKind } from '../errors.ts'

/** What an errno of Linux says. */
export function kindOfErrno(errno: number): ErrorKind {
  return kinds.get(errno) ?? 'internal'
}

/** What the text of an Rerror says. */
export function kindOfText(text: string): ErrorKind {
  const plain = text.trim().toLowerCase()
  const known = texts.get(plain)
  if (known !== undefined) return known
  // Plan 9's kernel puts the file's name before or behind: "'x' file does not exist", "permission denied: x".
  for (const [part, kind] of texts) if (part.length >= longEnough && plain.includes(part)) return kind
  return 'internal'
}

/** Name of an errno for messages. */
export function nameOfErrno(errno: number): string {
  const kind = errorKinds.find((each) => errorTable[each].errno === errno)
  return kind === undefined ? `errno ${errno}` : `${errorTable[kind].errnoName} (errno ${errno})`
}

/** A shorter text is only taken as a whole. */
const longEnough = 10

/** F1: what the table does not have, or has for its own purpose. */
const otherNumbers: readonly (readonly [number, ErrorKind])[] = [
  [1, 'denied'], // EPERM: the table has it for who is not known at all
  [4, 'deadline'], // EINTR: flushed
  [5, 'internal'], // EIO
  [6, 'not_found'], // ENXIO
  [9, 'invalid'], // EBADF
  [12, 'overloaded'], // ENOMEM
  [19, 'not_found'], // ENODEV
  [23, 'overloaded'], // ENFILE
  [24, 'overloaded'], // EMFILE
  [25, 'unsupported'], // ENOTTY
  [26, 'conflict'], // ETXTBSY
  [31, 'too_large'], // EMLINK
  [32, 'unavailable'], // EPIPE
  [34, 'invalid'], // ERANGE
  [38, 'unsupported'], // ENOSYS
  [61, 'not_found'], // ENODATA
  [75, 'too_large'], // EOVERFLOW
  [84, 'invalid'], // EILSEQ
  [92, 'unsupported'], // ENOPROTOOPT
  [103, 'unavailable'], // ECONNABORTED
  [104, 'unavailable'], // ECONNRESET
  [107, 'unavailable'], // ENOTCONN
  [108, 'unavailable'], // ESHUTDOWN
  [111, 'unavailable'], // ECONNREFUSED
  [116, 'not_found'], // ESTALE: a file that was removed under its server; we ask for no past
  [122, 'no_space'], // EDQUOT
  [123, 'no_space'], // ENOMEDIUM
  [127, 'unauthenticated'], // EKEYEXPIRED
  [128, 'unauthenticated'], // EKEYREVOKED
  [129, 'unauthenticated'], // EKEYREJECTED
]

const kinds = new Map<number, ErrorKind>([...errorKinds.map((kind) => [errorTable[kind].errno, kind] as const), ...otherNumbers])

const texts = new Map<string, ErrorKind>([
  // Plan 9 and its descendants
  ['file does not exist', 'not_found'],
  ['file not found', 'not_found'],
  ['directory entry not found', 'not_found'],
  ['file already exists', 'exists'],
  ['file exists', 'exists'],
  ['not a directory', 'not_directory'],
  ['is a directory', 'is_directory'],
  ['file is a directory', 'is_directory'],
  ['directory is not empty', 'not_empty'],
  ['directory not empty', 'not_empty'],
  ['permission denied', 'denied'],
  ['access permission denied', 'denied'],
  ['wstat prohibited', 'denied'],
  ['only owner can change group in wstat', 'denied'],
  ['not owner', 'denied'],
  ['authentication failed', 'unauthenticated'],
  ['unknown user', 'unauthenticated'],
  ['user not known', 'unauthenticated'],
  ['bad attach specifier', 'not_found'],
  ['unknown group', 'invalid'],
  ['bad offset in directory read', 'invalid'],
  ['bad use of fid', 'invalid'],
  ['fid unknown or out of range', 'invalid'],
  ['unknown fid', 'invalid'],
  ['bad fid', 'invalid'],
  ["wstat can't convert between files and directories", 'invalid'],
  ['negative i/o offset', 'invalid'],
  ['i/o count too large', 'too_large'],
  ['file too big', 'too_large'],
  ['file system is full', 'no_space'],
  ['no free blocks', 'no_space'],
  ['file system read only', 'read_only'],
  ['file is read only', 'read_only'],
  ['exclusive lock', 'overloaded'],
  ['exclusive use file already open', 'overloaded'],
  ['file in use', 'overloaded'],
  ['file has been removed', 'not_found'],
  ['illegal name', 'invalid'],
  ['illegal mode', 'invalid'],
  ['bad character in file name', 'invalid'],
  ['file name too long', 'name_too_long'],
  ['i/o on hungup channel', 'unavailable'],
  ['hungup', 'unavailable'],
  ['connection closed', 'unavailable'],
  ['interrupted', 'deadline'],
  ['too many open files', 'overloaded'],
  ['out of memory', 'overloaded'],
  ['illegal operation', 'unsupported'],
  ['not implemented', 'unsupported'],
  ['unsupported', 'unsupported'],
  ['bad 9p2000 message', 'internal'],
  ['corrupted directory entry', 'corrupt'],
  ['corrupted file entry', 'corrupt'],
  // strerror(3): u9fs, and servers written with it
  ['no such file or directory', 'not_found'],
  ['no such device or address', 'not_found'],
  ['stale file handle', 'not_found'],
  ['operation not permitted', 'denied'],
  ['invalid argument', 'invalid'],
  ['bad file descriptor', 'invalid'],
  ['invalid or incomplete multibyte or wide character', 'invalid'],
  ['file too large', 'too_large'],
  ['value too large for defined data type', 'too_large'],
  ['no space left on device', 'no_space'],
  ['disk quota exceeded', 'no_space'],
  ['read-only file system', 'read_only'],
  ['invalid cross-device link', 'cross_store'],
  ['too many levels of symbolic links', 'loop'],
  ['device or resource busy', 'overloaded'],
  ['too many open files in system', 'overloaded'],
  ['cannot allocate memory', 'overloaded'],
  ['resource temporarily unavailable', 'conflict'],
  ['text file busy', 'conflict'],
  ['operation not supported', 'unsupported'],
  ['function not implemented', 'unsupported'],
  ['inappropriate ioctl for device', 'unsupported'],
  ['connection timed out', 'deadline'],
  ['interrupted system call', 'deadline'],
  ['no route to host', 'unavailable'],
  ['connection reset by peer', 'unavailable'],
  ['connection refused', 'unavailable'],
  ['transport endpoint is not connected', 'unavailable'],
  ['broken pipe', 'unavailable'],
  ['input/output error', 'internal'],
  ['i/o error', 'internal'],
])
