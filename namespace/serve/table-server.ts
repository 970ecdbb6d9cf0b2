/**
 * A file server made of a plain table of functions. What its entries do not say is `read_only` (changes of the tree) or
 * `unsupported` (leases, rights, transactions, the past): such a server keeps nothing.
 *
 * T1 Qids are made from paths: the same name is the same file for as long as the server lives. Versions are 0: unversioned.
 * T2 A watch is silent: what a function gives is known only when it is asked. It ends with its signal.
 * T3 A line to a ctl file and a new value of a file take effect once for a client and number, like every mutation.
 * T4 A handle belongs to the principal and session that opened it.
 */
import { checkDeadline } from '../context.ts'
import type { Context } from '../context.ts'
import { silence } from '../empty-server.ts'
import { isNineError, NineError } from '../errors.ts'
import type { ErrorKind } from '../errors.ts'
import type {
  FileServer,
  HandleId,
  HandleReadResult,
  HandleWriteResult,
  IfMatch,
  ListOptions,
  ListResult,
  MutationResult,
  OpenFlags,
  OpenResult,
  ReadOptions,
  ReadRangeOptions,
  ReadResult,
  RightsResult,
  StatChanges,
  StatResult,
  WatchBatch,
  WriteOptions,
} from '../file-server.ts'
import { limits } from '../limits.ts'
import { OnceTable } from '../once.ts'
import { baseName, parentPath, rootPath } from '../path.ts'
import type { Path } from '../path.ts'
import { noPosition } from '../position.ts'
import { qidTypeOf } from '../stat.ts'
import type { Micros, Stat } from '../stat.ts'
import { systemClock } from '../clock.ts'
import type { Entry, Table } from './entries.ts'
import { listTable } from './list-table.ts'
import { OpenEntry } from './open-entry.ts'
import { run } from './run.ts'
import { Commands, valueOf } from './values.ts'
import { checkTable, findEntry, isDirectory } from './walk-table.ts'
import type { Found } from './walk-table.ts'

const modes: Record<Entry['kind'], number> = { computed: 0o444, file: 0o444, ctl: 0o644, call: 0o666, stream: 0o444, directory: 0o555 }
const nouns: Record<Entry['kind'], string> = {
  computed: 'a computed file',
  file: 'a file for reading',
  ctl: 'a control file',
  call: 'a call file',
  stream: 'a stream',
  directory: 'a directory',
}

export interface ServedTable extends FileServer {
  /** A connection has ended: its handles go, and the iterations of its streams. */
  closeSession(session: number): void
  /** End all handles. */
  close(): void
}

/**
 * Make a file server of a table. @param since shown as the time of all its files; default now
 * @throws NineError `invalid` for a name that is no name of a file
 */
export function serveTable(table: Table, since: Micros = systemClock.now()): ServedTable {
  checkTable(table)
  return new TableServer(table, since)
}

class TableServer implements ServedTable {
  readonly #table: Table
  readonly #since: Micros
  readonly #once = new OnceTable()
  readonly #open = new Map<HandleId, OpenEntry>()
  readonly #ofSession = new Map<number, number>()
  #next: HandleId = 1

  constructor(table: Table, since: Micros) {
    this.#table = table
    this.#since = since
  }

  closeSession(session: number): void {
    for (const [handle, opened] of this.#open) if (opened.session === session) this.#forget(handle, opened)
  }

  close(): void {
    for (const [handle, opened] of this.#open) this.#forget(handle, opened)
  }

  async stat(context: Context, path: Path, options?: ReadOptions): Promise<StatResult> {
    checkNow(context, 'stat', path, options)
    return { stat: this.#statOf(await findEntry(context, this.#table, path, 'stat'), baseName(path)), position: noPosition }
  }

  async list(context: Context, path: Path, options: ListOptions = {}): Promise<ListResult> {
    checkNow(context, 'list', path, options)
    const found = await findEntry(context, this.#table, path, 'list')
    if (!isDirectory(found)) throw failure('not_directory', 'list', path, 'a file has no children')
    const { entries, next } = await listTable(context, found, options, (child, name) => this.#statOf(child, name))
    return { entries, next, position: noPosition }
  }

  async read(context: Context, path: Path, options: ReadRangeOptions = {}): Promise<ReadResult> {
    checkNow(context, 'read', path, options)
    const { offset = 0, length = limits.read_bytes_max } = options
    if (!(Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0)) {
      throw failure('invalid', 'read', path, 'offset and length are whole numbers from 0')
    }
    const found = await findEntry(context, this.#table, path, 'read')
    if (isDirectory(found)) throw failure('is_directory', 'read', path, 'it is a directory')
    if (found.entry.kind === 'call') throw failure('invalid', 'read', path, 'write a request and read the answer on one open handle')
    const stat = this.#statOf(found, baseName(path))
    if (found.entry.kind === 'stream') return { bytes: await this.#nextRecord(context, found, length), stat, position: noPosition }
    const value = await valueOf(context, found, noBytes)
    const bytes = value.subarray(offset, offset + Math.min(length, limits.read_bytes_max))
    return { bytes, stat: { ...stat, size: value.length }, position: noPosition }
  }

  /** Without a handle a read is an iteration of its own: it waits for the next record and ends there. */
  async #nextRecord(context: Context, found: Found, length: number): Promise<Uint8Array> {
    const opened = await run(context, 'read', found, () => new OpenEntry(context, found, { read: true }))
    try {
      return (await opened.read(context, 0, length)).bytes
    } finally {
      opened.close()
    }
  }

  async write(context: Context, path: Path, bytes: Uint8Array, options: WriteOptions = {}): Promise<MutationResult> {
    const verb = 'write'
    checkDeadline(context, 'serve.write', path)
    if (bytes.length > limits.write_bytes_max)
      throw failure('too_large', verb, path, `at most ${limits.write_bytes_max} bytes are taken here`)
    const isLeased = options.lease !== undefined || options.ttlMs !== undefined
    if (isLeased) throw failure('unsupported', verb, path, 'files of a service have no leases')
    return this.#once.run(context, 'serve.write', path, async () => {
      const found = await this.#findOrMake(context, path, verb)
      const { entry } = found
      if (entry.kind === 'call') throw failure('invalid', verb, path, 'write a request and read the answer on one open handle')
      if (!isWritable(entry))
        throw failure(isDirectory(found) ? 'is_directory' : 'read_only', verb, path, `${nouns[entry.kind]} takes no writes`)
      checkMatch(found, options.ifMatch, verb)
      if (entry.kind === 'ctl') {
        await new Commands(found, entry).take(context, bytes, true)
        return this.#changed(found, 0)
      }
      const opened = new OpenEntry(context, found, { write: true, truncate: (options.at ?? 'replace') === 'replace' })
      const { size } = await opened.write(context, bytes, typeof options.at === 'number' || options.at === 'append' ? options.at : 0)
      await opened.sync(context)
      return this.#changed(found, size)
    })
  }

  create = (context: Context, path: Path) => this.#refuseNew(context, path, 'create')
  mkdir = (context: Context, path: Path) => this.#refuseNew(context, path, 'mkdir')
  symlink = (context: Context, path: Path) => this.#refuseNew(context, path, 'symlink')
  remove = (context: Context, path: Path) => this.#refuseChange(context, path, 'remove')
  rename = (context: Context, from: Path) => this.#refuseChange(context, from, 'rename')

  async readlink(context: Context, path: Path): Promise<never> {
    await findEntry(context, this.#table, path, 'readlink')
    throw failure('invalid', 'readlink', path, 'it is no symbolic link')
  }

  /** A shell's `echo add 5 > ctl` truncates first: that much is allowed where writes are. */
  async setStat(context: Context, path: Path, changes: StatChanges): Promise<MutationResult> {
    const found = await findEntry(context, this.#table, path, 'setStat')
    const { size, ...others } = changes
    const isOnlySize = size !== undefined && Object.values(others).every((value) => value === undefined)
    if (!isOnlySize || !isWritable(found.entry)) throw failure('read_only', 'setStat', path, 'a service decides what its files are')
    return this.#changed(found, 0)
  }

  txn = () => refuse('unsupported', 'txn', rootPath)

  watch(context: Context): AsyncIterable<WatchBatch> {
    return silence(context.signal) // T2
  }

  grantLease = () => refuse('unsupported', 'grantLease', rootPath)
  renewLease = () => refuse('not_found', 'renewLease', rootPath)
  revokeLease = () => refuse('not_found', 'revokeLease', rootPath)
  lock = (_context: Context, path: Path) => refuse('unsupported', 'lock', path)

  async open(context: Context, path: Path, flags: OpenFlags): Promise<OpenResult> {
    checkDeadline(context, 'serve.open', path)
    const found = await (flags.create === true ? this.#findOrMake(context, path, 'open') : findEntry(context, this.#table, path, 'open'))
    if (flags.create === true && flags.exclusive === true) throw failure('exists', 'open', path, 'it exists')
    if (isDirectory(found)) throw failure('is_directory', 'open', path, 'it is a directory')
    if (flags.write === true && !isWritable(found.entry))
      throw failure('read_only', 'open', path, `${nouns[found.entry.kind]} takes no writes`)
    checkMatch(found, flags.ifMatch, 'open')
    const session = context.session ?? 0
    const ofSession = this.#ofSession.get(session) ?? 0
    if (this.#open.size >= limits.handles_max || ofSession >= limits.session_handles_max) {
      throw failure('overloaded', 'open', path, 'too many files are open: close some')
    }
    const opened = await run(context, 'open', found, () => new OpenEntry(context, found, flags))
    const handle = this.#next++
    this.#open.set(handle, opened)
    this.#ofSession.set(session, ofSession + 1)
    return { handle, stat: this.#statOf(found, baseName(path)), position: noPosition }
  }

  async readHandle(context: Context, handle: HandleId, offset: number, length: number): Promise<HandleReadResult> {
    const opened = this.#handle(context, handle, 'readHandle')
    const isReader = opened.flags.read === true || opened.flags.write !== true
    if (!isReader) throw failure('invalid', 'readHandle', opened.found.path, 'this handle was not opened for reading')
    return opened.read(context, offset, length)
  }

  async writeHandle(context: Context, handle: HandleId, bytes: Uint8Array, offset: number | 'append'): Promise<HandleWriteResult> {
    return this.#once.run(context, 'serve.writeHandle', '', () =>
      this.#writer(context, handle, 'writeHandle').write(context, bytes, offset),
    )
  }

  async truncateHandle(context: Context, handle: HandleId, size: number): Promise<void> {
    return this.#once.run(context, 'serve.truncateHandle', '', () =>
      this.#writer(context, handle, 'truncateHandle').truncate(context, size),
    )
  }

  async statHandle(context: Context, handle: HandleId): Promise<StatResult> {
    const { found } = this.#handle(context, handle, 'statHandle')
    return { stat: this.#statOf(found, baseName(found.path)), position: noPosition }
  }

  async syncHandle(context: Context, handle: HandleId): Promise<MutationResult> {
    return this.#once.run(context, 'serve.syncHandle', '', async () => {
      const opened = this.#handle(context, handle, 'syncHandle')
      await opened.sync(context)
      return this.#changed(opened.found, 0)
    })
  }

  async closeHandle(context: Context, handle: HandleId, options?: { readonly discard?: boolean }): Promise<MutationResult> {
    return this.#once.run(context, 'serve.closeHandle', '', async () => {
      const opened = this.#handle(context, handle, 'closeHandle')
      try {
        if (options?.discard !== true) await opened.sync(context)
      } finally {
        this.#forget(handle, opened)
      }
      return this.#changed(opened.found, 0)
    })
  }

  /** What a caller may do with the functions is theirs to decide; the table itself lets everyone look. */
  async getRights(context: Context, path: Path): Promise<RightsResult> {
    const { entry } = await findEntry(context, this.#table, path, 'getRights')
    return { record: undefined, on: rootPath, mine: isWritable(entry) ? ['read', 'write', 'list'] : ['read', 'list'], position: noPosition }
  }

  setRights = (_context: Context, path: Path) => refuse('unsupported', 'setRights', path)

  #statOf({ entry, path }: Found, name: string): Stat {
    const kind = entry.kind
    const mode = entry.kind === 'file' && entry.write !== undefined ? 0o644 : modes[kind]
    return {
      name,
      // A file whose value a function gives has no size before it is read, which is what `computed` says.
      kind: entry.kind === 'file' && entry.size === undefined ? 'computed' : kind,
      qid: { type: qidTypeOf(kind), path: pathNumber(path), version: 0 },
      size: entry.kind === 'file' ? entry.size?.() : kind === 'directory' ? 0 : undefined,
      version: 0,
      revision: 0,
      createdRevision: 0,
      mode,
      owner: '',
      group: '',
      modifiedBy: '',
      createdAt: this.#since,
      modifiedAt: this.#since,
    }
  }

  #changed(found: Found, size: number): MutationResult {
    return { qid: { type: 0, path: pathNumber(found.path), version: 0 }, revision: 0, created: false, size, position: noPosition }
  }

  /** T4 */
  #handle(context: Context, handle: HandleId, verb: string): OpenEntry {
    const opened = this.#open.get(handle)
    const isTheirs = opened?.session === (context.session ?? 0) && opened.principal === context.principal.name
    if (opened === undefined || !isTheirs) throw failure('invalid', verb, '', `${handle} is no open handle`)
    return opened
  }

  #writer(context: Context, handle: HandleId, verb: string): OpenEntry {
    const opened = this.#handle(context, handle, verb)
    if (opened.flags.write !== true) throw failure('invalid', verb, opened.found.path, 'this handle was not opened for writing')
    return opened
  }

  #forget(handle: HandleId, opened: OpenEntry): void {
    if (!this.#open.delete(handle)) return
    const left = this.#ofSession.get(opened.session)! - 1
    if (left > 0) this.#ofSession.set(opened.session, left)
    else this.#ofSession.delete(opened.session)
    opened.close()
  }

  async #refuseNew(context: Context, path: Path, verb: string): Promise<never> {
    await this.#findOrMake(context, path, verb)
    throw failure('exists', verb, path, 'it exists')
  }

  /** A missing file cannot be made here; below what is no directory there is none to be made. */
  async #findOrMake(context: Context, path: Path, verb: string): Promise<Found> {
    try {
      return await findEntry(context, this.#table, path, verb)
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error
      await findEntry(context, this.#table, parentPath(path), verb).catch((missing: unknown) => {
        throw isNineError(missing, 'not_found') ? error : missing
      })
      throw new NineError({
        kind: 'read_only',
        op: error.op,
        path: error.path,
        message: 'a service decides what its files are',
        cause: error,
      })
    }
  }

  async #refuseChange(context: Context, path: Path, verb: string): Promise<never> {
    await findEntry(context, this.#table, path, verb)
    throw failure('read_only', verb, path, 'a service decides what its files are')
  }
}

const noBytes = new Uint8Array(0)

/** Only the present is here to be read. */
function checkNow(context: Context, verb: string, path: Path, options: ReadOptions | undefined): void {
  checkDeadline(context, `serve.${verb}`, path)
  if (options?.at !== undefined) throw failure('unsupported', verb, path, 'a service of functions keeps no past')
}

/** An entry is always there, unversioned. */
function checkMatch(found: Found, ifMatch: IfMatch | undefined, verb: string): void {
  if (ifMatch === undefined) return
  if (ifMatch !== 'none' && ifMatch.path === pathNumber(found.path) && ifMatch.version === 0) return
  throw failure('conflict', verb, found.path, 'it is another file')
}

function isWritable(entry: Entry): boolean {
  return entry.kind === 'ctl' || entry.kind === 'call' || (entry.kind === 'file' && entry.write !== undefined)
}

function failure(kind: ErrorKind, verb: string, path: string, message: string): NineError {
  return new NineError({ kind, op: `serve.${verb}`, path, message })
}

function refuse(kind: ErrorKind, verb: string, path: Path): Promise<never> {
  return Promise.reject(failure(kind, verb, path, 'a service of functions has none'))
}

/** 52 bits of two FNV-1a hashes of the path (http://www.isthe.com/chongo/tech/comp/fnv/). */ // T1
function pathNumber(path: string): number {
  let a = 0x811c9dc5
  let b = 0x01000193
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i)
    a = Math.imul(a ^ code, 0x01000193)
    b = Math.imul(b ^ (code + 0x9e37), 0x01000193)
  }
  return (a >>> 0) * 0x10_0000 + (b >>> 12)
}
