/** An open file of a Client. It follows its file through rename and unlink until it is closed. */
import type { HandleId, HandleReadResult, HandleWriteResult, MutationResult } from '../namespace/file-server.ts'
import type { Stat } from '../namespace/stat.ts'
import type { Client, RequestOptions } from './client-api.ts'

export class FileHandle implements AsyncDisposable {
  readonly #client: Client
  readonly #handle: HandleId
  #isOpen = true
  /** As it was when opened; stat() tells the present. */
  readonly opened: Stat

  constructor(client: Client, handle: HandleId, opened: Stat) {
    this.#client = client
    this.#handle = handle
    this.opened = opened
  }

  /** At most `length` bytes at `offset`; on a stream the next record, waiting for it. */
  readAt(offset: number, length: number, options?: RequestOptions): Promise<HandleReadResult> {
    return this.#client.server.readHandle(this.#client.context(options), this.#handle, offset, length)
  }

  /** Staged when it answers; sync or close publish it. */
  writeAt(offset: number | 'append', bytes: Uint8Array, options?: RequestOptions): Promise<HandleWriteResult> {
    return this.#client.server.writeHandle(this.#client.context(options), this.#handle, bytes, offset)
  }

  truncate(size: number, options?: RequestOptions): Promise<void> {
    return this.#client.server.truncateHandle(this.#client.context(options), this.#handle, size)
  }

  async stat(options?: RequestOptions): Promise<Stat> {
    return (await this.#client.server.statHandle(this.#client.context(options), this.#handle)).stat
  }

  /** Publish what is staged; durable when it answers. @throws NineError `conflict` when `ifMatch` no longer holds */
  sync(options?: RequestOptions): Promise<MutationResult> {
    return this.#client.server.syncHandle(this.#client.context(options), this.#handle)
  }

  /** Publish and forget. */
  close(options?: RequestOptions): Promise<MutationResult> {
    this.#isOpen = false
    return this.#client.server.closeHandle(this.#client.context(options), this.#handle)
  }

  /** Drop what is staged and forget; never fails, so that it can stand in a finally. */
  async discard(): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    try {
      // Also for a client whose signal has aborted.
      await this.#client.server.closeHandle({ ...this.#client.context(), signal: undefined }, this.#handle, { discard: true })
    } catch {
      // The handle went with its connection or its server: it is gone, which is what was asked.
    }
  }

  /** `await using`: what was not closed is dropped. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.discard()
  }
}
