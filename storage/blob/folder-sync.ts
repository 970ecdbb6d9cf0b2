/**
 * fsync of folders, shared: everyone who changed an entry since the last round is served by the next one.
 *
 * S1 A call is answered by an fsync that began after the call.
 * S2 A folder is `settled` once an fsync of it succeeded since opening and none failed after: then every entry in it that
 *    was not made by a call still waiting is on stable storage.
 */
import { close, fsync, open } from 'node:fs'
import { promisify } from 'node:util'

const openFolder = promisify(open)
const syncFolder = promisify(fsync)
const closeFolder = promisify(close)

export class FolderSync {
  readonly #descriptors = new Map<string, number>()
  readonly #settled = new Set<string>()
  #waiting = new Map<string, Waiter[]>()
  #running: Promise<void> | undefined

  /** Answers when every change made in `folder` before this call is on stable storage. Rejects with the system's error. */
  sync(folder: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiters = this.#waiting.get(folder)
      if (waiters === undefined) this.#waiting.set(folder, [{ resolve, reject }])
      else waiters.push({ resolve, reject })
      this.#running ??= this.#run()
    })
  }

  settled(folder: string): boolean {
    return this.#settled.has(folder)
  }

  async close(): Promise<void> {
    await this.#running
    const descriptors = [...this.#descriptors.values()]
    this.#descriptors.clear()
    await Promise.all(descriptors.map((descriptor) => closeFolder(descriptor)))
  }

  async #run(): Promise<void> {
    // The first round starts in the next microtask, so that callers of one turn share it.
    await Promise.resolve()
    while (this.#waiting.size > 0) {
      const round = this.#waiting
      this.#waiting = new Map() // S1
      await Promise.all(Array.from(round, ([folder, waiters]) => this.#serve(folder, waiters)))
    }
    this.#running = undefined
  }

  async #serve(folder: string, waiters: Waiter[]): Promise<void> {
    try {
      let descriptor = this.#descriptors.get(folder)
      if (descriptor === undefined) {
        descriptor = await openFolder(folder, 'r')
        this.#descriptors.set(folder, descriptor)
      }
      await syncFolder(descriptor)
      this.#settled.add(folder)
      for (const waiter of waiters) waiter.resolve()
    } catch (error) {
      this.#settled.delete(folder) // S2
      for (const waiter of waiters) waiter.reject(error)
    }
  }
}

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}
