/**
 * The port through which the log reaches the disk, and its implementation over node:fs. Tests put failing, slow and
 * crashing disks in its place.
 *
 * D1 When `writeDurable` or `writeDurableSync` succeeds, the bytes are on stable storage; when it fails, nothing is known
 *    about any of them (fsync(2), "Error handling": a failed write-back may be reported once and its pages dropped).
 * D2 A write that is interrupted leaves each sector of 512 bytes either as it was or as it was to be.
 */
import {
  close,
  closeSync,
  constants,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsync,
  mkdirSync,
  open,
  openSync,
  readSync,
  readdirSync,
} from 'node:fs'
import { rename, unlink, write, writeSync } from 'node:fs'
import { promisify } from 'node:util'
import { failpoint, failpointIsOn, failpointLater, hasFailpoints } from '../../namespace/failpoint.ts'

export interface WalFile {
  readonly size: number
  /** Read into all of `into` from `position`; the number of bytes there were. */
  read(into: Uint8Array, position: number): number
  /** Not durable before `sync`. */
  write(bytes: Uint8Array, position: number): Promise<void>
  sync(): Promise<void>
  /** Write and make durable, off the event loop. `bytes` must not change until `done`. */
  writeDurable(bytes: Uint8Array, position: number, done: (error: Error | null) => void): void
  writeDurableSync(bytes: Uint8Array, position: number): void
  close(): void
}

/** `create`: empty, for plain writes; `edit`: existing, for plain writes; `log`: existing, for durable writes. */
export type OpenMode = 'create' | 'edit' | 'log' | 'read'

export interface WalFiles {
  makeDir(dir: string): void
  list(dir: string): string[]
  open(path: string, mode: OpenMode): WalFile
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  /** Make names that were made, moved or removed in `dir` durable. */
  syncDir(dir: string): Promise<void>
}

export const nodeFiles: WalFiles = {
  makeDir: (dir) => void mkdirSync(dir, { recursive: true, mode: 0o700 }),
  list: (dir) => readdirSync(dir),
  open: (path, mode) => new NodeFile(openSync(path, openFlags[mode], 0o600)),
  rename: promisify(rename),
  unlink: promisify(unlink),
  syncDir: async (dir) => {
    const fd = await promisify(open)(dir, 'r')
    try {
      await promisify(fsync)(fd)
    } finally {
      await promisify(close)(fd)
    }
  },
}

/**
 * On Linux a write to an O_DSYNC descriptor is the write and its fdatasync in one system call (open(2)), so a durable
 * write is one trip to the thread pool instead of two: 6,600-6,950/s against 5,750-6,000/s for 300 B one at a time,
 * and 9,000-9,700/s against 7,900-8,200/s in the blocking forms (ext4, files full of zeros). Elsewhere O_DSYNC is
 * missing or does not reach the platter; there fdatasync follows the write.
 */
const durableByFlag = process.platform === 'linux'

const sector_bytes = 512

const openFlags: Record<OpenMode, number> = {
  create: constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC,
  edit: constants.O_RDWR,
  log: constants.O_RDWR | (durableByFlag ? constants.O_DSYNC : 0),
  read: constants.O_RDONLY,
}

class NodeFile implements WalFile {
  readonly #fd: number

  constructor(fd: number) {
    this.#fd = fd
  }

  get size(): number {
    return fstatSync(this.#fd).size
  }

  read(into: Uint8Array, position: number): number {
    let at = 0
    while (at < into.length) {
      const n = readSync(this.#fd, into, at, into.length - at, position + at)
      if (n === 0) break
      at += n
    }
    return at
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    if (hasFailpoints) await failpointLater('wal.fill')
    return new Promise((resolve, reject) => {
      this.#writeFrom(bytes, 0, position, (error) => (error === null ? resolve() : reject(error)))
    })
  }

  sync(): Promise<void> {
    return promisify(fdatasync)(this.#fd)
  }

  writeDurable(bytes: Uint8Array, position: number, done: (error: Error | null) => void): void {
    if (hasFailpoints) this.#writeAmongFailpoints(bytes, position).then(() => done(null), done)
    else this.#writeDurable(bytes, position, done)
  }

  #writeDurable(bytes: Uint8Array, position: number, done: (error: Error | null) => void): void {
    if (durableByFlag) return this.#writeFrom(bytes, 0, position, done)
    this.#writeFrom(bytes, 0, position, (error) => (error === null ? fdatasync(this.#fd, done) : done(error)))
  }

  writeDurableSync(bytes: Uint8Array, position: number): void {
    failpoint('wal.write')
    for (let at = 0; at < bytes.length;) at += writeSync(this.#fd, bytes, at, bytes.length - at, position + at)
    if (!durableByFlag) fdatasyncSync(this.#fd)
    failpoint('wal.sync')
  }

  close(): void {
    closeSync(this.#fd)
  }

  async #writeAmongFailpoints(bytes: Uint8Array, position: number): Promise<void> {
    const write = (part: Uint8Array): Promise<void> =>
      new Promise((resolve, reject) => this.#writeDurable(part, position, (error) => (error === null ? resolve() : reject(error))))
    await failpointLater('wal.write')
    if (failpointIsOn('wal.write.half')) {
      // D2
      const half = Math.floor((position + bytes.length / 2) / sector_bytes) * sector_bytes - position
      await write(bytes.subarray(0, Math.max(0, half)))
      await failpointLater('wal.write.half')
    }
    await write(bytes)
    await failpointLater('wal.sync')
  }

  /** A disk that is nearly full, or a signal, can make one write(2) take less than all. */
  #writeFrom(bytes: Uint8Array, at: number, position: number, done: (error: Error | null) => void): void {
    write(this.#fd, bytes, at, bytes.length - at, position + at, (error, written) => {
      if (error !== null) done(error)
      else if (at + written < bytes.length) this.#writeFrom(bytes, at + written, position, done)
      else done(null)
    })
  }
}
