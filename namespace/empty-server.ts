/**
 * A file server with nothing in it: the root of a namespace that is made of mounts alone. Nothing can be made in it.
 */
import { NineError } from './errors.ts'
import type { ErrorKind } from './errors.ts'
import type { FileServer, WatchBatch } from './file-server.ts'
import { directoryStat } from './listing.ts'
import { rootPath } from './path.ts'
import type { Path } from './path.ts'
import { noPosition } from './position.ts'

/** The one empty server; it has no state. */
export function emptyServer(): FileServer {
  return empty
}

const rootStat = directoryStat(rootPath, '')

const empty: FileServer = {
  stat: (_context, path) => (path === '/' ? Promise.resolve({ stat: rootStat, position: noPosition }) : missing('stat', path)),
  list: (_context, path) => (path === '/' ? Promise.resolve({ entries: [], position: noPosition }) : missing('list', path)),
  read: (_context, path) => (path === '/' ? refuse('is_directory', 'read', path) : missing('read', path)),
  readlink: (_context, path) => (path === '/' ? refuse('invalid', 'readlink', path) : missing('readlink', path)),
  write: (_context, path) => refuse(path === '/' ? 'is_directory' : 'read_only', 'write', path),
  create: (_context, path) => refuse(path === '/' ? 'exists' : 'read_only', 'create', path),
  mkdir: (_context, path) => refuse(path === '/' ? 'exists' : 'read_only', 'mkdir', path),
  symlink: (_context, path) => refuse(path === '/' ? 'exists' : 'read_only', 'symlink', path),
  remove: (_context, path) => (path === '/' ? refuse('invalid', 'remove', path) : missing('remove', path)),
  rename: (_context, path) => (path === '/' ? refuse('invalid', 'rename', path) : missing('rename', path)),
  setStat: (_context, path) => (path === '/' ? refuse('read_only', 'setStat', path) : missing('setStat', path)),
  txn: () => refuse('read_only', 'txn', '/'),
  watch: (context) => silence(context.signal),
  grantLease: () => refuse('unsupported', 'grantLease', '/'),
  renewLease: () => refuse('not_found', 'renewLease', ''),
  revokeLease: () => refuse('not_found', 'revokeLease', ''),
  lock: (_context, path) => refuse('read_only', 'lock', path),
  open: (_context, path, flags) =>
    path === '/' ? refuse('is_directory', 'open', path) : flags.create === true ? refuse('read_only', 'open', path) : missing('open', path),
  readHandle: () => refuse('not_found', 'readHandle', ''),
  writeHandle: () => refuse('not_found', 'writeHandle', ''),
  truncateHandle: () => refuse('not_found', 'truncateHandle', ''),
  statHandle: () => refuse('not_found', 'statHandle', ''),
  syncHandle: () => refuse('not_found', 'syncHandle', ''),
  closeHandle: () => refuse('not_found', 'closeHandle', ''),
  getRights: (_context, path) =>
    path === '/'
      ? Promise.resolve({ record: undefined, on: rootPath, mine: ['read', 'list'] as const, position: noPosition })
      : missing('getRights', path),
  setRights: (_context, path) => refuse('read_only', 'setRights', path),
}

function missing(verb: string, path: Path): Promise<never> {
  return refuse('not_found', verb, path)
}

function refuse(kind: ErrorKind, verb: string, path: string): Promise<never> {
  const message = kind === 'not_found' ? 'there is no such file' : 'this directory holds mounts only'
  return Promise.reject(new NineError({ kind, op: `namespace.${verb}`, path, message }))
}

/** A watch to which nothing ever happens, until it is told to end. */
export function silence(signal: AbortSignal | undefined): AsyncIterableIterator<WatchBatch> {
  let end: (result: IteratorResult<WatchBatch>) => void
  const ended = new Promise<IteratorResult<WatchBatch>>((resolve) => (end = resolve))
  const finish = (): void => end({ done: true, value: undefined })
  if (signal?.aborted === true) finish()
  else signal?.addEventListener('abort', finish, { once: true })
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    next: () => ended,
    return: () => {
      signal?.removeEventListener('abort', finish)
      finish()
      return ended
    },
  }
}
