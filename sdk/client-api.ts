/**
 * What a program works with after connect(): the namespace of its session, with bytes, text and streams in place of
 * frames and pages. Every method answers with plain data or throws a NineError.
 *
 * C1 Paths are parsed here, once; a relative path is `invalid`.
 * C2 Values larger than one write go through an atomic handle, so that readers see the old or the new value whole.
 * C3 A value that takes many reads is read at the position of the first, so that all of it is one version.
 */
import { contextFor } from '../namespace/context.ts'
import type { Context } from '../namespace/context.ts'
import { isNineError, NineError } from '../namespace/errors.ts'
import type {
  CreateOptions,
  FileServer,
  ListOptions,
  MutationResult,
  OpenFlags,
  ReadOptions,
  ReadResult,
  RemoveOptions,
  RenameOptions,
  RightsResult,
  StatChanges,
  TxnCondition,
  TxnOperation,
  TxnResult,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from '../namespace/file-server.ts'
import { limits } from '../namespace/limits.ts'
import { isWithin, joinName, parsePath } from '../namespace/path.ts'
import type { Path } from '../namespace/path.ts'
import type { Position } from '../namespace/position.ts'
import type { Principal, RightsRecord } from '../namespace/rights.ts'
import type { Stat } from '../namespace/stat.ts'
import { FileHandle } from './file-handle.ts'
import { Lease, Lock } from './lease.ts'

/** Limits of one request. */
export interface RequestOptions {
  /** Milliseconds until the request fails with `deadline`. Default that of connect(), 60 s; streams and watches have none. */
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Why this is done: kept in the history of what it changes. At most 255 bytes. */
  readonly cause?: string | undefined
}

export type Data = string | Uint8Array

export class Client {
  /** The session's namespace itself, for whoever needs the contract of FileServer. */
  readonly server: FileServer
  readonly principal: Principal
  readonly #timeoutMs: number
  readonly #signal: AbortSignal | undefined
  readonly #isStale: boolean

  /**
   * @param timeoutMs of requests that name none, milliseconds
   * @param signal ends every request when it aborts
   * @param isStale reads that name no consistency are stale
   */
  constructor(
    server: FileServer,
    principal: Principal,
    timeoutMs: number = limits.request_ms_default,
    signal?: AbortSignal,
    isStale = false,
  ) {
    this.server = server
    this.principal = principal
    this.#timeoutMs = timeoutMs
    this.#signal = signal
    this.#isStale = isStale
  }

  /** The same client, whose requests all end with `deadline` when `signal` aborts. */
  until(signal: AbortSignal): Client {
    return new Client(this.server, this.principal, this.#timeoutMs, both(this.#signal, signal), this.#isStale)
  }

  /** The same client, whose reads show what the node that answers has: they need no majority, and may be behind. */
  stale(): Client {
    return new Client(this.server, this.principal, this.#timeoutMs, this.#signal, true)
  }

  /** @throws NineError `not_found`, `denied` */
  async stat(path: string, options?: ReadOptions & RequestOptions): Promise<Stat> {
    return (await this.server.stat(this.context(options), parsePath(path), this.#reading(options))).stat
  }

  async exists(path: string, options?: ReadOptions & RequestOptions): Promise<boolean> {
    try {
      await this.stat(path, options)
      return true
    } catch (error) {
      if (isNineError(error, 'not_found') || isNineError(error, 'not_directory')) return false
      throw error
    }
  }

  /**
   * The whole value in memory, as one version; for large values use readStream.
   * @throws NineError `conflict` when it changed during every attempt and its server keeps no past
   */
  async read(path: string, options?: ReadOptions & RequestOptions): Promise<Uint8Array> {
    const parsed = parsePath(path)
    const first = await this.server.read(this.context(options), parsed, this.#reading(options))
    if (isWhole(first, 0)) return first.bytes
    for (let attempt = 1; ; attempt++) {
      try {
        const parts: Uint8Array[] = []
        for await (const part of this.#parts(parsed, 0, options)) parts.push(part)
        return Buffer.concat(parts)
      } catch (error) {
        if (!(error instanceof TornError) || attempt === reads_max) throw error
      }
    }
  }

  async readText(path: string, options?: ReadOptions & RequestOptions): Promise<string> {
    return Buffer.from(await this.read(path, options)).toString('utf8')
  }

  /**
   * Bytes as they come: a value part by part, all of the version it had at the start; or the records of a stream until it ends.
   * @throws NineError `conflict` when the value changed meanwhile and its server keeps no past
   */
  async *readStream(path: string, options?: RequestOptions & { readonly offset?: number }): AsyncGenerator<Uint8Array, void> {
    // Opening asks the leader.
    if (this.#isStale && (await this.stat(path, options)).kind === 'file') {
      return yield* this.#parts(parsePath(path), options?.offset ?? 0, options)
    }
    const handle = await this.open(path, { read: true }, options)
    try {
      if (handle.opened.kind === 'file') return yield* this.#parts(parsePath(path), options?.offset ?? 0, options)
      let offset = options?.offset ?? 0
      for (;;) {
        const { bytes, end } = await handle.readAt(offset, limits.read_bytes_max, { timeoutMs: Infinity, ...options })
        if (bytes.length > 0) yield bytes
        offset += bytes.length
        if (end) return
      }
    } finally {
      await handle.discard()
    }
  }

  /** The parts of one version of a value: the later ones are read from the past, where the server keeps it. */ // C3
  async *#parts(path: Path, start: number, options?: ReadOptions & RequestOptions): AsyncGenerator<Uint8Array, void> {
    const first = await this.server.read(this.context(options), path, { ...this.#reading(options), offset: start })
    let part = first
    let offset = start
    for (;;) {
      if (part.bytes.length > 0) yield part.bytes
      if (isWhole(part, offset)) return
      offset += part.bytes.length
      part = await this.#partAt(path, offset, first, options)
      if (part.stat.qid.path !== first.stat.qid.path || part.stat.version !== first.stat.version) throw new TornError(path)
      if (part.bytes.length === 0) return
    }
  }

  async #partAt(path: Path, offset: number, first: ReadResult, options?: ReadOptions & RequestOptions): Promise<ReadResult> {
    const at = options?.at ?? (first.position.length > 0 ? first.position : undefined)
    try {
      return await this.server.read(this.context(options), path, { ...this.#reading(options), offset, at })
    } catch (error) {
      if (options?.at !== undefined || !(isNineError(error, 'compacted') || isNineError(error, 'unsupported'))) throw error
      return this.server.read(this.context(options), path, { ...this.#reading(options), offset })
    }
  }

  /** Replace a value (or append, or write at an offset). Makes the file; with `parents`, its directories. */
  async write(path: string, data: Data, options?: WriteOptions & RequestOptions): Promise<MutationResult> {
    const bytes = bytesOf(data)
    const parsed = parsePath(path)
    if (bytes.length <= limits.write_bytes_max) return this.server.write(this.context(options), parsed, bytes, options)
    if (options?.at === 'append' || typeof options?.at === 'number') {
      const message = `one write at a place is at most ${limits.write_bytes_max} bytes; open a handle for more`
      throw new NineError({ kind: 'too_large', op: 'client.write', path, message })
    }
    return this.writeStream(path, [bytes], options)
  }

  async append(path: string, data: Data, options?: WriteOptions & RequestOptions): Promise<MutationResult> {
    return this.write(path, data, { ...options, at: 'append' })
  }

  /** Replace a value by what `source` yields, as one change at the end; nothing is changed when it fails. */
  async writeStream(
    path: string,
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    options?: CreateOptions & RequestOptions & { readonly onProgress?: (bytes: number) => void },
  ): Promise<MutationResult> {
    const { ifMatch, parents, lease, ttlMs, contentType, mode, modifiedAt } = options ?? {}
    const flags: OpenFlags = {
      write: true,
      create: true,
      truncate: true,
      ifMatch,
      parents,
      lease,
      ttlMs,
      contentType,
      permissions: mode,
      modifiedAt,
    }
    const handle = await this.open(path, flags, options)
    try {
      let offset = 0
      for await (const part of source) {
        for (let start = 0; start < part.length; start += limits.write_bytes_max) {
          const piece = part.subarray(start, start + limits.write_bytes_max)
          await handle.writeAt(offset, piece, options)
          offset += piece.length
          options?.onProgress?.(offset)
        }
      }
    } catch (error) {
      await handle.discard()
      throw error
    }
    return handle.close(options)
  }

  async create(path: string, options?: CreateOptions & RequestOptions): Promise<MutationResult> {
    return this.server.create(this.context(options), parsePath(path), options)
  }

  async mkdir(path: string, options?: CreateOptions & RequestOptions): Promise<MutationResult> {
    return this.server.mkdir(this.context(options), parsePath(path), options)
  }

  async symlink(path: string, target: string, options?: CreateOptions & RequestOptions): Promise<MutationResult> {
    return this.server.symlink(this.context(options), parsePath(path), target, options)
  }

  async readlink(path: string, options?: ReadOptions & RequestOptions): Promise<string> {
    return (await this.server.readlink(this.context(options), parsePath(path), this.#reading(options))).target
  }

  async remove(path: string, options?: RemoveOptions & RequestOptions): Promise<MutationResult> {
    return this.server.remove(this.context(options), parsePath(path), options)
  }

  async rename(from: string, to: string, options?: RenameOptions & RequestOptions): Promise<MutationResult> {
    return this.server.rename(this.context(options), parsePath(from), parsePath(to), options)
  }

  async setStat(path: string, changes: StatChanges, options?: RequestOptions): Promise<MutationResult> {
    return this.server.setStat(this.context(options), parsePath(path), changes)
  }

  /** Entries one by one, page after page at one revision; `name` is the relative path in a recursive list. */
  async *list(path: string, options?: ListOptions & RequestOptions): AsyncGenerator<Stat, Position> {
    const parsed = parsePath(path)
    let cursor: string | undefined
    let left = options?.limit ?? Infinity
    for (;;) {
      const limit = Math.min(left, limits.list_page_entries_max)
      const page = await this.server.list(this.context(options), parsed, { ...this.#reading(options), limit, cursor })
      yield* page.entries
      left -= page.entries.length
      if (page.next === undefined || left <= 0) return page.position
      cursor = page.next
    }
  }

  /** All of a list at once, with the position to watch from so that nothing is missed. */
  async listAll(path: string, options?: ListOptions & RequestOptions): Promise<{ entries: Stat[]; position: Position }> {
    const entries: Stat[] = []
    const pages = this.list(path, options)
    for (;;) {
      const step = await pages.next()
      if (step.done === true) return { entries, position: step.value }
      entries.push(step.value)
    }
  }

  /** Events in order until the caller stops, the signal aborts, or it ends with `compacted` or `overloaded`. */
  async *watch(path: string, options?: WatchOptions & RequestOptions): AsyncGenerator<WatchEvent, void> {
    for await (const batch of this.server.watch(this.context({ timeoutMs: Infinity, ...options }), parsePath(path), options)) {
      yield* batch.events
    }
  }

  async txn(
    request: { readonly if?: readonly TxnCondition[]; readonly then: readonly TxnOperation[]; readonly else?: readonly TxnOperation[] },
    options?: RequestOptions,
  ): Promise<TxnResult> {
    return this.server.txn(this.context(options), { if: request.if ?? [], then: request.then, else: request.else ?? [] })
  }

  /** Write a request to a call file and read its answer. */
  async call(path: string, request: Data, options?: RequestOptions): Promise<Uint8Array> {
    const handle = await this.open(path, { read: true, write: true }, options)
    try {
      await handle.writeAt(0, bytesOf(request), options)
      const parts: Uint8Array[] = []
      let offset = 0
      for (;;) {
        const { bytes, end } = await handle.readAt(offset, limits.read_bytes_max, options)
        parts.push(bytes)
        offset += bytes.length
        if (end) return Buffer.concat(parts)
      }
    } finally {
      await handle.discard()
    }
  }

  async open(path: string, flags: OpenFlags, options?: RequestOptions): Promise<FileHandle> {
    const { handle, stat } = await this.server.open(this.context(options), parsePath(path), flags)
    return new FileHandle(this, handle, stat)
  }

  /** A lease that renews itself until it is ended; files bound to it are removed when it ends or this process does. */
  async lease(ttlMs: number, options?: RequestOptions & { readonly path?: string }): Promise<Lease> {
    return Lease.grant(this, ttlMs, options)
  }

  /** Take the advisory lock `path`, waiting in turn. */
  async lock(path: string, options?: RequestOptions & { readonly ttlMs?: number }): Promise<Lock> {
    return Lock.take(this, parsePath(path), options)
  }

  async rights(path: string, options?: RequestOptions): Promise<RightsResult> {
    return this.server.getRights(this.context(options), parsePath(path))
  }

  async setRights(path: string, record: RightsRecord | undefined, options?: RequestOptions): Promise<MutationResult> {
    return this.server.setRights(this.context(options), parsePath(path), record)
  }

  /** Copy a file or, with `recursive`, a tree, inside or between stores; modes, times and content types are kept. */
  async copy(from: string, to: string, options?: RequestOptions & { readonly recursive?: boolean }): Promise<void> {
    const source = parsePath(from)
    const target = parsePath(to)
    if (isWithin(target, source)) {
      throw new NineError({ kind: 'invalid', op: 'client.copy', path: from, message: `${to} is ${from} itself or inside it` })
    }
    const stat = await this.stat(from, options)
    const fields = { mode: stat.mode, modifiedAt: stat.modifiedAt, contentType: stat.contentType }
    if (stat.kind === 'symlink') {
      await this.symlink(to, await this.readlink(from, options), { ...fields, ...options })
    } else if (stat.kind !== 'directory') {
      await this.writeStream(to, this.readStream(from, options), { ...fields, ...options })
    } else if (options?.recursive !== true) {
      throw new NineError({ kind: 'is_directory', op: 'client.copy', path: from, message: 'a directory is copied with recursive' })
    } else {
      await this.mkdir(to, { ...fields, ...options })
      for await (const child of this.list(from, { signal: options.signal, timeoutMs: options.timeoutMs })) {
        await this.copy(joinName(source, child.name), joinName(target, child.name), options)
      }
    }
  }

  #reading<O extends ReadOptions>(options: O | undefined): O | ReadOptions | undefined {
    return this.#isStale ? { consistency: 'stale', ...options } : options
  }

  /** A Context for one request of this client. */
  context(options?: RequestOptions): Context {
    const signal = both(this.#signal, options?.signal)
    return { ...contextFor(this.principal, options?.timeoutMs ?? this.#timeoutMs), signal, cause: options?.cause }
  }
}

function both(one: AbortSignal | undefined, other: AbortSignal | undefined): AbortSignal | undefined {
  if (one === undefined || other === undefined || one === other) return one ?? other
  return AbortSignal.any([one, other])
}

function bytesOf(data: Data): Uint8Array {
  return typeof data === 'string' ? Buffer.from(data, 'utf8') : data
}

const reads_max = 5

class TornError extends NineError {
  constructor(path: Path) {
    super({ kind: 'conflict', op: 'client.read', path, message: 'the file was changed while it was read', retryable: true })
  }
}

/** Whether nothing follows a part: values that are computed come whole with one read. */
function isWhole({ bytes, stat }: ReadResult, offset: number): boolean {
  return stat.kind !== 'file' || offset + bytes.length >= (stat.size ?? 0)
}
