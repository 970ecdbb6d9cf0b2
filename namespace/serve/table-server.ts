/**
 * A file server made of a plain table of functions. What its entries do not say is `read_only` (changes of the tree) or
 * `unsupported` (leases, rights, transactions, the past): such a server keeps nothing.
 *
 * T1 Qids are made from paths: the same name is the same file for as long as the server lives. Versions are 0: unversioned.
 * T2 A watch is silent: what a function gives is known only when it is asked. It ends with its signal.
 */
import { checkDeadline } from '../context.ts'
import type { Context } from '../context.ts'
import { silence } from '../empty-server.ts'
import { NineError } from '../errors.ts'
import type { ErrorKind } from '../errors.ts'
import type {
  FileServer,
  HandleId,
  HandleReadResult,
  HandleWriteResult,
  ListOptions,
  ListResult,
  MutationResult,
  OpenFlags,
  OpenResult,
  ReadRangeOptions,
  ReadResult,
  RightsResult,
  StatChanges,
  StatResult,
  WatchBatch,
} from '../file-server.ts'
import { limits } from '../limits.ts'
import { baseName, rootPath } from '../path.ts'
import type { Path } from '../path.ts'
import { noPosition } from '../position.ts'
import { qidTypeOf } from '../stat.ts'
import type { Micros, Stat } from '../stat.ts'
import { systemClock } from '../clock.ts'
import type { DirectoryEntry, Entry, Table } from './entries.ts'
import { OpenEntry, runLines, valueOf } from './open-entry.ts'
import { callOf, runFor } from './run.ts'
import { childOf, childrenOf, findEntry } from './walk-table.ts'
import type { Found } from './walk-table.ts'

const modes: Record<Entry['kind'], number> = { computed: 0o444, file: 0o444, ctl: 0o644, call: 0o666, stream: 0o444, directory: 0o555 }

/** Make a file server of a table. @param since shown as the time of all its files; default now */
export function serveTable(table: Table, since: Micros = systemClock.now()): FileServer {
  return new TableServer(table, since)
}

class TableServer implements FileServer {
  readonly #table: Table
  readonly #since: Micros
  readonly #open = new Map<HandleId, OpenEntry>()
  #next: HandleId = 1

  constructor(table: Table, since: Micros) {
    this.#table = table
    this.#since = since
  }

  async stat(context: Context, path: Path): Promise<StatResult> {
    checkDeadline(context, 'serve.stat', path)
    return { stat: this.#statOf(await findEntry(context, this.#table, path, 'stat'), baseName(path)), position: noPosition }
  }

  async list(context: Context, path: Path, options: ListOptions = {}): Promise<ListResult> {
    checkDeadline(context, 'serve.list', path)
    const found = await findEntry(context, this.#table, path, 'list')
    if (!isDirectory(found)) throw failure('not_directory', 'list', path, 'a file has no children')
    const limit = Math.min(Math.max(1, options.limit ?? limits.list_page_entries_default), limits.list_page_entries_max)
    const bytes_max = Math.min(options.maxBytes ?? limits.list_page_bytes_max, limits.list_page_bytes_max)
    const entries: Stat[] = []
    let bytes = 0
    for await (const { child, name } of this.#below(
      context,
      found,
      '',
      (options.cursor ?? options.after ?? '').split('/'),
      options.recursive === true,
    )) {
      if (options.prefix !== undefined && !name.startsWith(options.prefix)) continue
      if (entries.length >= limit || bytes >= bytes_max) return { entries, next: entries.at(-1)!.name, position: noPosition }
      entries.push(this.#statOf(child, name))
      bytes += name.length + entry_bytes
    }
    return { entries, position: noPosition }
  }

  async read(context: Context, path: Path, { offset = 0, length = limits.read_bytes_max }: ReadRangeOptions = {}): Promise<ReadResult> {
    checkDeadline(context, 'serve.read', path)
    const found = await findEntry(context, this.#table, path, 'read')
    if (isDirectory(found)) throw failure('is_directory', 'read', path, 'it is a directory')
    if (found.entry.kind === 'call') throw failure('invalid', 'read', path, 'write a request and read the answer on one open handle')
    const stat = this.#statOf(found, baseName(path))
    if (found.entry.kind === 'stream') {
      const opened = new OpenEntry(context, found)
      try {
        return { bytes: (await opened.read(context, 0, length)).bytes, stat, position: noPosition }
      } finally {
        opened.close()
      }
    }
    const value = await valueOf(context, found, new Uint8Array())
    return { bytes: value.subarray(offset, offset + Math.min(length, limits.read_bytes_max)), stat, position: noPosition }
  }

  async write(context: Context, path: Path, bytes: Uint8Array): Promise<MutationResult> {
    checkDeadline(context, 'serve.write', path)
    const found = await findEntry(context, this.#table, path, 'write').catch(asReadOnly)
    const { entry } = found
    if (entry.kind === 'ctl') await runLines(context, found, entry, `${Buffer.from(bytes).toString()}\n`)
    else if (entry.kind === 'file' && entry.write !== undefined) {
      const { write } = entry
      const call = callOf(context, path, found.params)
      await runFor('write', path, call.signal, () => write(call, bytes))
    } else if (entry.kind === 'call') throw failure('invalid', 'write', path, 'write a request and read the answer on one open handle')
    else throw failure(entry.kind === 'directory' ? 'is_directory' : 'read_only', 'write', path, `a ${entry.kind} takes no writes`)
    return this.#changed(found, bytes.length)
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
    const found = await findEntry(context, this.#table, path, 'open').catch((error: unknown) => {
      throw flags.create === true ? readOnlyOf(error) : error
    })
    if (flags.exclusive === true) throw failure('exists', 'open', path, 'it exists')
    if (isDirectory(found)) throw failure('is_directory', 'open', path, 'it is a directory')
    if (flags.write === true && !isWritable(found.entry)) throw failure('read_only', 'open', path, `a ${found.entry.kind} takes no writes`)
    if (this.#open.size >= limits.handles_max)
      throw failure('overloaded', 'open', path, `at most ${limits.handles_max} handles are open at once`)
    const handle = this.#next++
    this.#open.set(handle, new OpenEntry(context, found))
    return { handle, stat: this.#statOf(found, baseName(path)), position: noPosition }
  }

  async readHandle(context: Context, handle: HandleId, offset: number, length: number): Promise<HandleReadResult> {
    return this.#handle(handle, 'readHandle').read(context, offset, Math.min(length, limits.read_bytes_max))
  }

  async writeHandle(context: Context, handle: HandleId, bytes: Uint8Array, offset: number | 'append'): Promise<HandleWriteResult> {
    const opened = this.#handle(handle, 'writeHandle')
    if (!isWritable(opened.found.entry)) throw failure('read_only', 'writeHandle', opened.found.path, 'it takes no writes')
    return opened.write(context, bytes, offset)
  }

  async truncateHandle(_context: Context, handle: HandleId, size: number): Promise<void> {
    await this.#handle(handle, 'truncateHandle').truncate(size)
  }

  async statHandle(_context: Context, handle: HandleId): Promise<StatResult> {
    const { found } = this.#handle(handle, 'statHandle')
    return { stat: this.#statOf(found, baseName(found.path)), position: noPosition }
  }

  async syncHandle(context: Context, handle: HandleId): Promise<MutationResult> {
    const opened = this.#handle(handle, 'syncHandle')
    await opened.sync(context)
    return this.#changed(opened.found, 0)
  }

  async closeHandle(context: Context, handle: HandleId, options?: { readonly discard?: boolean }): Promise<MutationResult> {
    const opened = this.#handle(handle, 'closeHandle')
    this.#open.delete(handle)
    try {
      if (options?.discard !== true) await opened.sync(context)
    } finally {
      opened.close()
    }
    return this.#changed(opened.found, 0)
  }

  /** What a caller may do with the functions is theirs to decide; the table itself lets everyone look. */
  async getRights(context: Context, path: Path): Promise<RightsResult> {
    const { entry } = await findEntry(context, this.#table, path, 'getRights')
    return { record: undefined, on: rootPath, mine: isWritable(entry) ? ['read', 'write', 'list'] : ['read', 'list'], position: noPosition }
  }

  setRights = (_context: Context, path: Path) => refuse('unsupported', 'setRights', path)

  async *#below(
    context: Context,
    found: Found & { entry: DirectoryEntry },
    prefix: string,
    after: readonly string[],
    isRecursive: boolean,
  ): AsyncGenerator<{ child: Found; name: string }, void> {
    const [first = '', ...rest] = after
    // Where a page goes on inside of `first`, that directory itself was shown already.
    const resumed = isRecursive && first !== '' ? await childOf(context, found, first, 'list') : undefined
    if (resumed !== undefined && isDirectory(resumed)) yield* this.#below(context, resumed, `${prefix}${first}/`, rest, true)
    for (const name of await childrenOf(context, found, first, 'list')) {
      const child = await childOf(context, found, name, 'list')
      if (child === undefined) continue
      yield { child, name: prefix + name }
      if (isRecursive && isDirectory(child)) yield* this.#below(context, child, `${prefix}${name}/`, [], true)
    }
  }

  #statOf({ entry, path }: Found, name: string): Stat {
    const kind = entry.kind
    const mode = entry.kind === 'file' && entry.write !== undefined ? 0o644 : modes[kind]
    return {
      name,
      // A file whose value a function gives has no size before it is read, which is what `computed` says.
      kind: kind === 'file' ? 'computed' : kind,
      qid: { type: qidTypeOf(kind), path: pathNumber(path), version: 0 },
      size: kind === 'directory' ? 0 : undefined,
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

  #handle(handle: HandleId, verb: string): OpenEntry {
    const opened = this.#open.get(handle)
    if (opened === undefined) throw failure('not_found', verb, '', 'no such handle is open')
    return opened
  }

  async #refuseNew(context: Context, path: Path, verb: string): Promise<never> {
    await findEntry(context, this.#table, path, verb).catch(asReadOnly)
    throw failure('exists', verb, path, 'it exists')
  }

  async #refuseChange(context: Context, path: Path, verb: string): Promise<never> {
    await findEntry(context, this.#table, path, verb)
    throw failure('read_only', verb, path, 'a service decides what its files are')
  }
}

/** What an entry of a page costs besides its name. */
const entry_bytes = 96

function isDirectory(found: Found): found is Found & { entry: DirectoryEntry } {
  return found.entry.kind === 'directory'
}

function isWritable(entry: Entry): boolean {
  return entry.kind === 'ctl' || entry.kind === 'call' || (entry.kind === 'file' && entry.write !== undefined)
}

/** A missing file cannot be made here. */
function asReadOnly(error: unknown): never {
  throw readOnlyOf(error)
}

function readOnlyOf(error: unknown): unknown {
  return error instanceof NineError && error.kind === 'not_found'
    ? new NineError({ kind: 'read_only', op: error.op, path: error.path, message: 'a service decides what its files are', cause: error })
    : error
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
