/**
 * Snapshots as files.
 *
 * D1 A file has its name only when all of it is on stable storage; until then it is a `.part` beside it, of one writer alone: of two that
 *    write the same file, neither writes into what the other finished.
 */
import type { Stats } from 'node:fs'
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { NineError, isNineError, textOf } from '../../namespace/errors.ts'
import { folderError } from '../engine/folder.ts'
import type { SnapshotSource } from './block-reader.ts'
import type { SnapshotTarget } from './block-writer.ts'

/** Read from a file at a time. */
const buffer_bytes = 1024 * 1024

let parts = 0

export interface WholeOptions {
  /** False: the file is of use to this process only, and need not be on stable storage. Default true. */
  readonly isDurable?: boolean | undefined
  /** Looks at the file before it gets its name; what it throws leaves none. */
  readonly check?: ((part: string) => Promise<unknown>) | undefined
}

/** Write a file through `write`, whole or not at all. D1 @throws NineError `no_space`, `denied`, `read_only`, `internal`, and what `write` throws */
export async function writeFileWhole(
  path: string,
  write: (target: SnapshotTarget) => Promise<void>,
  { isDurable = true, check }: WholeOptions = {},
): Promise<void> {
  const part = `${path}.${process.pid}-${++parts}.part`
  let file: FileHandle | undefined
  try {
    file = await open(part, 'w', 0o600)
    await write(new FileTarget(file))
    if (isDurable) await file.datasync()
    await file.close()
    file = undefined
    await check?.(part)
    await rename(part, path)
    if (isDurable) await syncFolder(dirname(path))
  } catch (error) {
    await file?.close().catch(() => undefined)
    await rm(part, { force: true }).catch(() => undefined)
    throw fileError(error, 'snapshot.write', path)
  }
}

/** Which names a folder holds is on stable storage. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  await folder.sync().finally(() => folder.close())
}

class FileTarget implements SnapshotTarget {
  readonly #file: FileHandle
  #at = 0

  constructor(file: FileHandle) {
    this.#file = file
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#at)
      done += bytesWritten
      this.#at += bytesWritten
    }
  }
}

/** A file as a source, from `from` on. Close it. @throws NineError `not_found`, `is_directory`, `invalid` (no regular file), `denied`, `internal` */
export async function openSource(path: string, from = 0): Promise<SnapshotSource & { close(): Promise<void> }> {
  try {
    checkRegular(await stat(path), path) // Opening a pipe would wait for whoever writes to it.
    return new FileSource(path, await open(path, 'r'), from)
  } catch (error) {
    throw fileError(error, 'snapshot.read', path)
  }
}

class FileSource implements SnapshotSource {
  readonly path: string
  readonly #file: FileHandle
  readonly #buffer = Buffer.allocUnsafeSlow(buffer_bytes)
  #at: number
  #from = 0
  #end = 0

  constructor(path: string, file: FileHandle, at: number) {
    this.path = path
    this.#file = file
    this.#at = at
  }

  async read(into: Uint8Array): Promise<number> {
    let done = 0
    while (done < into.length) {
      if (this.#from === this.#end && !(await this.#fill())) break
      const bytes = Math.min(into.length - done, this.#end - this.#from)
      into.set(this.#buffer.subarray(this.#from, this.#from + bytes), done)
      this.#from += bytes
      done += bytes
    }
    return done
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  async #fill(): Promise<boolean> {
    try {
      const { bytesRead } = await this.#file.read(this.#buffer, 0, buffer_bytes, this.#at)
      this.#at += bytesRead
      this.#from = 0
      this.#end = bytesRead
      return bytesRead > 0
    } catch (error) {
      throw fileError(error, 'snapshot.read', this.path)
    }
  }
}

/** @throws NineError `is_directory`, `invalid` */
export function checkRegular(found: Stats, path: string): void {
  if (found.isFile()) return
  const op = 'snapshot.file'
  if (found.isDirectory()) throw new NineError({ kind: 'is_directory', op, path, message: `${path} is a folder, not a file` })
  throw new NineError({ kind: 'invalid', op, path, message: `${path} is not a regular file` })
}

/** A failure of the file system as what it means for this file. */
export function fileError(error: unknown, op: string, path: string): NineError {
  if (isNineError(error) || (error as Error | undefined)?.name === 'AbortError') return error as NineError
  const { code = '' } = error as NodeJS.ErrnoException
  const isMissing = code === 'ENOENT' || code === 'ENOTDIR'
  const kind = isMissing ? 'not_found' : code === 'EISDIR' ? 'is_directory' : folderError(error, path).kind
  const text = isMissing ? 'there is no such file' : textOf(error)
  return new NineError({ kind, op, path, message: `${path}: ${text}`, cause: error })
}
