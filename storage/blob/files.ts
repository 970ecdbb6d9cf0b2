/**
 * BlobStore in a folder: one file a chunk, `<first two digits>/<hash>`, and `tmp/` for chunks being written.
 *
 * One level of 256 folders, made at open: an entry needs one fsync of one folder that exists already. With a second
 * level nearly every chunk would make a folder of its own, which measured a quarter to a half slower, and a million chunks
 * are 4,000 entries a folder here.
 *
 * D1 A chunk's file has its final name only after its bytes were fdatasynced; the put answers after its folder was fsynced.
 * D2 At most one put or delete of one hash is under way: a second put joins the first, a put waits for the delete before
 *    it, a delete that meets a put does nothing.
 * D3 When a folder could not be synced for another reason than space, what the system still remembers of it is unknown:
 *    the store takes no more puts until it is opened anew.
 * D4 One process has the folder; whoever opens it sees to that (a node locks its data folder).
 * D5 How long a chunk has been idle does not depend on the wall clock, which may jump. Times of files are those of a clock that begins with the
 *    wall's when the folder is opened and runs evenly (`#time`); what lies there from before counts from then.
 */
import * as fs from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { systemClock, type Clock } from '../../namespace/clock.ts'
import { NineError, textOf, type ErrorKind } from '../../namespace/errors.ts'
import { failpoint, failpointLater } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import type { Micros } from '../../namespace/stat.ts'
import { ChunkCache } from './chunk-cache.ts'
import { FolderSync } from './folder-sync.ts'
import { Slots } from './slots.ts'
import { hashChunk, isChunkHash, type BlobStats, type BlobStore, type ChunkHash, type ChunkInfo } from './store.ts'

export interface FileBlobOptions {
  /** Made when missing. */
  readonly folder: string
  readonly clock?: Clock | undefined
  /** Default limits.blob_cache_bytes_max. */
  readonly cacheBytesMax?: number | undefined
}

/** Open the folder: chunks half written by a process that died are removed. @throws NineError as put */
export async function openFileBlobs(options: FileBlobOptions): Promise<BlobStore> {
  const { folder } = options
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const present = new Set(await readdir(folder))
    for (const name of folderNames) if (!present.has(name)) await mkdir(join(folder, name), { mode: 0o700 })
    await rm(join(folder, 'tmp'), { recursive: true, force: true })
    await mkdir(join(folder, 'tmp'), { mode: 0o700 })
    const opening = new FolderSync()
    await Promise.all([opening.sync(folder), opening.sync(dirname(folder))])
    await opening.close()
  } catch (error) {
    throw systemFailure(error, 'blob.open', `cannot open the blob folder ${folder}`)
  }
  return new FileBlobs(options)
}

const folderNames = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'))

class FileBlobs implements BlobStore {
  readonly #folder: string
  readonly #clock: Clock
  readonly #cache: ChunkCache
  readonly #folders = new FolderSync()
  readonly #writing = new Slots(limits.blob_puts_max)
  readonly #reading = new Slots(limits.blob_gets_max)
  readonly #puts = new Map<ChunkHash, Promise<ChunkHash>>()
  readonly #gets = new Map<ChunkHash, Promise<Uint8Array>>()
  readonly #deletes = new Map<ChunkHash, Promise<boolean>>()
  readonly #counts = { puts: 0, reused: 0, bytesWritten: 0, gets: 0, cached: 0, deletes: 0, corrupt: 0 }
  readonly #openedAt: { readonly wall: Micros; readonly monotonic: number }
  #temps = 0
  /** Why no more puts are taken. D3 */
  #refusal: NineError | undefined

  constructor(options: FileBlobOptions) {
    this.#folder = options.folder
    this.#clock = options.clock ?? systemClock
    this.#openedAt = { wall: this.#clock.now(), monotonic: this.#clock.monotonic() }
    this.#cache = new ChunkCache(options.cacheBytesMax ?? limits.blob_cache_bytes_max)
  }

  put(bytes: Uint8Array, hash: ChunkHash = hashChunk(bytes)): Promise<ChunkHash> {
    const joined = this.#puts.get(hash)
    if (joined !== undefined) return joined // D2
    const put = this.#put(bytes, hash).finally(() => this.#puts.delete(hash))
    this.#puts.set(hash, put)
    return put
  }

  get(hash: ChunkHash): Promise<Uint8Array> {
    const cached = this.#cache.get(hash)
    if (cached !== undefined) {
      this.#counts.cached++
      return Promise.resolve(cached)
    }
    const joined = this.#gets.get(hash)
    if (joined !== undefined) return joined
    const get = this.#get(hash).finally(() => this.#gets.delete(hash))
    this.#gets.set(hash, get)
    return get
  }

  async has(hash: ChunkHash): Promise<boolean> {
    try {
      await statFile(this.#path(hash))
      return true
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false
      throw systemFailure(error, 'blob.has', `cannot look for chunk ${hash}`)
    }
  }

  async touch(hash: ChunkHash): Promise<boolean> {
    if (this.#refusal !== undefined) return false // D3
    const put = this.#puts.get(hash)
    if (put !== undefined)
      return put.then(
        () => true,
        () => false,
      )
    await this.#deletes.get(hash)
    try {
      const now = this.#time() / 1e6
      await setTimesOf(this.#path(hash), now, now)
      return true
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false
      throw systemFailure(error, 'blob.touch', `cannot look for chunk ${hash}`)
    }
  }

  delete(hash: ChunkHash): Promise<boolean> {
    const joined = this.#deletes.get(hash)
    if (joined !== undefined) return joined
    if (this.#puts.has(hash)) return Promise.resolve(false) // D2
    const deletion = this.#delete(hash).finally(() => this.#deletes.delete(hash))
    this.#deletes.set(hash, deletion)
    return deletion
  }

  async *list(): AsyncIterable<ChunkInfo> {
    for (const name of folderNames) {
      const folder = join(this.#folder, name)
      const hashes = (await readdir(folder)).filter(isChunkHash)
      for (let start = 0; start < hashes.length; start += stats_at_once) {
        const found = await Promise.all(hashes.slice(start, start + stats_at_once).map((hash) => this.#info(hash)))
        for (const info of found) if (info !== undefined) yield info
      }
    }
  }

  stats(): BlobStats {
    return { ...this.#counts, fetched: 0, cacheBytes: this.#cache.bytes, pending: this.#puts.size }
  }

  async close(): Promise<void> {
    this.#refusal ??= new NineError({ kind: 'unavailable', op: 'blob.put', message: 'the blob store is closed' })
    await Promise.allSettled([...this.#puts.values(), ...this.#gets.values(), ...this.#deletes.values()])
    await this.#folders.close()
  }

  async #put(bytes: Uint8Array, hash: ChunkHash): Promise<ChunkHash> {
    if (bytes.length === 0 || bytes.length > limits.chunk_bytes) {
      const message = `a chunk has 1 to ${limits.chunk_bytes} bytes, not ${bytes.length}`
      throw new NineError({ kind: 'invalid', op: 'blob.put', message })
    }
    await this.#deletes.get(hash) // D2
    await this.#writing.enter()
    const folder = join(this.#folder, hash.slice(0, 2))
    try {
      if (this.#refusal !== undefined) throw this.#refusal
      this.#counts.puts++
      if (await this.#reuse(bytes, hash)) {
        this.#counts.reused++
        if (this.#folders.settled(folder)) return hash
      } else {
        await this.#write(bytes, hash)
      }
    } catch (error) {
      throw systemFailure(error, 'blob.put', `cannot write chunk ${hash}`)
    } finally {
      this.#writing.leave()
    }
    try {
      await this.#folders.sync(folder) // D1
      failpoint('chunk.done')
    } catch (error) {
      const failure = systemFailure(error, 'blob.put', `cannot make chunk ${hash} durable`)
      if (failure.kind !== 'no_space') this.#refusal ??= brokenFolder(folder, failure) // D3
      throw failure
    }
    return hash
  }

  /** Whether the very bytes are in place. Their time becomes now, so that collection gives them their grace again. */
  async #reuse(bytes: Uint8Array, hash: ChunkHash): Promise<boolean> {
    let file: number
    try {
      file = await openFile(this.#path(hash), 'r')
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false
      throw error
    }
    try {
      if ((await statOpen(file)).size !== bytes.length) return false
      const there = Buffer.allocUnsafe(bytes.length)
      if (!(await readFully(file, there)) || there.compare(bytes) !== 0) return false
      const now = this.#time() / 1e6
      await setTimes(file, now, now)
      return true
    } catch (error) {
      if (codeOf(error) === 'EIO') return false // unreadable: written anew
      throw error
    } finally {
      await closeFile(file)
    }
  }

  async #write(bytes: Uint8Array, hash: ChunkHash): Promise<void> {
    const temp = join(this.#folder, 'tmp', String(++this.#temps))
    const file = await openFile(temp, 'wx', 0o600)
    try {
      try {
        await failpointLater('chunk.write')
        await writeFully(file, bytes)
        const now = this.#time() / 1e6
        fs.futimesSync(file, now, now)
        await syncFile(file)
      } finally {
        fs.closeSync(file)
      }
      failpoint('chunk.synced')
      await renameFile(temp, this.#path(hash)) // D1
      failpoint('chunk.renamed')
    } catch (error) {
      await removeFile(temp).catch(() => undefined) // else the next open does
      throw error
    }
    this.#counts.bytesWritten += bytes.length
  }

  async #get(hash: ChunkHash): Promise<Uint8Array> {
    await this.#reading.enter()
    try {
      const bytes = await this.#read(hash)
      this.#counts.gets++
      if (!this.#deletes.has(hash)) this.#cache.set(hash, bytes)
      return bytes
    } catch (error) {
      const failure = systemFailure(error, 'blob.get', `cannot read chunk ${hash}`)
      if (failure.kind === 'corrupt') this.#counts.corrupt++
      throw failure
    } finally {
      this.#reading.leave()
    }
  }

  async #read(hash: ChunkHash): Promise<Uint8Array> {
    let file: number
    try {
      file = await openFile(this.#path(hash), 'r')
    } catch (error) {
      if (codeOf(error) === 'ENOENT') throw damaged(hash, 'is missing', error)
      throw error
    }
    // What an open file says of itself, and its closing, touch no disk: a turn of the thread pool would take longer.
    try {
      const { size } = fs.fstatSync(file)
      if (size === 0 || size > limits.chunk_bytes) throw damaged(hash, `has ${size} bytes`)
      const bytes = Buffer.allocUnsafeSlow(size)
      if (!(await readFully(file, bytes))) throw damaged(hash, 'is cut short')
      if (hashChunk(bytes) !== hash) throw damaged(hash, 'does not hash to its name')
      return new Uint8Array(bytes.buffer, bytes.byteOffset, size)
    } finally {
      fs.closeSync(file)
    }
  }

  /** Not synced: a chunk that comes back after a crash is collected again. */
  async #delete(hash: ChunkHash): Promise<boolean> {
    this.#cache.delete(hash)
    try {
      await removeFile(this.#path(hash))
      this.#counts.deletes++
      return true
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false
      throw systemFailure(error, 'blob.delete', `cannot remove chunk ${hash}`)
    } finally {
      this.#cache.delete(hash)
    }
  }

  async #info(hash: ChunkHash): Promise<ChunkInfo | undefined> {
    try {
      const { size, mtimeMs } = await statFile(this.#path(hash))
      return { hash, bytes: size, idle_ms: this.#idle(mtimeMs) }
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined
      throw systemFailure(error, 'blob.list', `cannot look at chunk ${hash}`)
    }
  }

  /** D5 */
  #time(): Micros {
    return this.#openedAt.wall + (this.#clock.monotonic() - this.#openedAt.monotonic) * 1000
  }

  /** A time that is yet to come is one of another life, when the clock was ahead. D5 */
  #idle(modified_ms: number): number {
    const since_open = this.#clock.monotonic() - this.#openedAt.monotonic
    const idle = this.#time() / 1000 - modified_ms
    return idle < -foreign_ms ? since_open : Math.min(Math.max(idle, 0), since_open)
  }

  #path(hash: ChunkHash): string {
    return `${this.#folder}/${hash.slice(0, 2)}/${hash}`
  }
}

const stats_at_once = 16
/** Times of files are not exact. */
const foreign_ms = 10

const openFile = promisify(fs.open)
const closeFile = promisify(fs.close)
const syncFile = promisify(fs.fdatasync)
const renameFile = promisify(fs.rename)
const removeFile = promisify(fs.unlink)
const statFile = promisify(fs.stat)
const statOpen = promisify(fs.fstat)
const setTimes = promisify(fs.futimes)
const setTimesOf = promisify(fs.utimes)
const readSome = promisify(fs.read)
const writeSome = promisify(fs.write)

async function writeFully(file: number, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const { bytesWritten } = await writeSome(file, bytes, at, bytes.length - at, at)
    at += bytesWritten
  }
}

/** False when the file ends before the buffer is full. */
async function readFully(file: number, into: Uint8Array): Promise<boolean> {
  for (let at = 0; at < into.length;) {
    const { bytesRead } = await readSome(file, into, at, into.length - at, at)
    if (bytesRead === 0) return false
    at += bytesRead
  }
  return true
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}

function damaged(hash: ChunkHash, what: string, cause?: unknown): NineError {
  return new NineError({ kind: 'corrupt', op: 'blob.get', message: `chunk ${hash} ${what}`, cause })
}

function brokenFolder(folder: string, cause: NineError): NineError {
  const message = `the folder ${folder} could not be synced: check the disk, then open the store anew`
  return new NineError({ kind: 'unavailable', op: 'blob.put', message, cause })
}

const kindOfCode = new Map<string, ErrorKind>([
  ['ENOSPC', 'no_space'],
  ['EDQUOT', 'no_space'],
  ['EROFS', 'read_only'],
  ['EACCES', 'denied'],
  ['EPERM', 'denied'],
  ['EMFILE', 'overloaded'],
  ['ENFILE', 'overloaded'],
  ['EIO', 'corrupt'],
])

function systemFailure(error: unknown, op: string, message: string): NineError {
  if (error instanceof NineError) return error
  const kind = kindOfCode.get(codeOf(error) ?? '') ?? 'internal'
  return new NineError({ kind, op, message: `${message}: ${textOf(error)}`, cause: error })
}
