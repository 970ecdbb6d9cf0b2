/**
 * A file that is read while it is written: a snapshot on its way to other nodes, or from one.
 *
 * W1 A reader gets what was written, in order, and waits where the writer is; the end is told only after `end`, a failure as soon as it is
 *    known, even where there are bytes left to read.
 * W2 Writing waits for stable storage only when more than limits.snapshot_unsynced_bytes are not there: the disk works meanwhile.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { limits } from '../../namespace/limits.ts'
import type { SnapshotSource } from './block-reader.ts'
import type { SnapshotTarget } from './block-writer.ts'
import { fileError } from './files.ts'

export interface GrowingOptions {
  /** Whether it is to be on stable storage when `end` resolves. Default true. */
  readonly isDurable?: boolean | undefined
}

export class GrowingFile implements SnapshotTarget {
  readonly path: string
  readonly #file: FileHandle
  readonly #isDurable: boolean
  #length: number
  #isEnded = false
  #failure: Error | undefined
  /** Readers that wait for more. */
  #waiting: (() => void)[] = []
  #unsynced = 0
  #syncing: Promise<void> | undefined
  #closing: Promise<void> | undefined

  /** Make the file, or go on behind what is there. @throws NineError `no_space`, `denied`, `read_only`, `internal` */
  static async open(path: string, { isDurable = true }: GrowingOptions = {}): Promise<GrowingFile> {
    try {
      const file = await open(path, 'a+', 0o600)
      return new GrowingFile(path, file, (await file.stat()).size, isDurable)
    } catch (error) {
      throw fileError(error, op, path)
    }
  }

  private constructor(path: string, file: FileHandle, length: number, isDurable: boolean) {
    this.path = path
    this.#file = file
    this.#length = length
    this.#isDurable = isDurable
  }

  /** Bytes that can be read. */
  get length(): number {
    return this.#length
  }

  /** Whether nothing more comes. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  /** One at a time. @throws NineError `no_space`, `internal`; the reason of `fail` */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    try {
      for (let done = 0; done < bytes.length;) {
        const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done)
        done += bytesWritten
        this.#length += bytesWritten
      }
    } catch (error) {
      throw this.fail(fileError(error, op, this.path))
    }
    this.#wake()
    if (!this.#isDurable) return
    this.#unsynced += bytes.length
    if (this.#unsynced < limits.snapshot_unsynced_bytes) return
    // W2: what was written before is there when this has resolved, what is written from now on is for the next.
    await this.#syncing
    this.#unsynced = 0
    this.#syncing = this.#sync()
    // Told when it is waited for.
    this.#syncing.catch(() => undefined)
  }

  /** Nothing more comes. On stable storage when it resolves. @throws NineError as write */
  async end(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    this.#isEnded = true
    this.#wake()
    if (!this.#isDurable) return
    await this.#syncing
    await this.#sync()
  }

  /** Writer and readers get this from now on. @returns the first reason */
  fail(error: Error): Error {
    this.#failure ??= error
    this.#wake()
    return this.#failure
  }

  /** Fills `into` from `offset` on with what is there; 0: it ends at `offset`. W1 @throws NineError `internal`; the reason of `fail` */
  async read(into: Uint8Array, offset: number): Promise<number> {
    while (offset >= this.#length && !this.#isEnded && this.#failure === undefined) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    if (this.#failure !== undefined) throw this.#failure
    const bytes = Math.min(into.length, this.#length - offset)
    try {
      for (let done = 0; done < bytes;) {
        const { bytesRead } = await this.#file.read(into, done, bytes - done, offset + done)
        if (bytesRead === 0) throw new Error('it has become shorter')
        done += bytesRead
      }
    } catch (error) {
      throw fileError(error, op, this.path)
    }
    return bytes
  }

  /** As a source that follows the writer to the end. */
  follow(): SnapshotSource {
    return new Following(this)
  }

  /** Readers and the writer have to be done. */
  close(): Promise<void> {
    this.#closing ??= (this.#syncing ?? Promise.resolve()).catch(() => undefined).then(() => this.#file.close())
    return this.#closing
  }

  async #sync(): Promise<void> {
    try {
      await this.#file.datasync()
    } catch (error) {
      throw this.fail(fileError(error, op, this.path))
    }
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const resolve of waiting) resolve()
  }
}

const op = 'snapshot.file'
/** Read at a time. */
const buffer_bytes = 1024 * 1024

class Following implements SnapshotSource {
  readonly path: string
  readonly #file: GrowingFile
  readonly #buffer = Buffer.allocUnsafeSlow(buffer_bytes)
  #at = 0
  #from = 0
  #end = 0

  constructor(file: GrowingFile) {
    this.path = file.path
    this.#file = file
  }

  async read(into: Uint8Array): Promise<number> {
    let done = 0
    while (done < into.length) {
      if (this.#from === this.#end) {
        this.#end = await this.#file.read(this.#buffer, this.#at)
        this.#from = 0
        this.#at += this.#end
        if (this.#end === 0) break
      }
      const bytes = Math.min(into.length - done, this.#end - this.#from)
      into.set(this.#buffer.subarray(this.#from, this.#from + bytes), done)
      this.#from += bytes
      done += bytes
    }
    return done
  }
}
