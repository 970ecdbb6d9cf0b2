/**
 * What a namespace gave out and has to find again: handles and leases, each with the server that has it.
 *
 * R1 A handle's number is the namespace's own; it keeps its server through changes of the table, as an open file does.
 * R2 A lease keeps the id its server gave it, so that stats and events name it as the caller knows it. Ids are unique
 *    over stores. One that this namespace did not give (another session of the same client did) is asked for at every
 *    server that is mounted.
 * R3 Both tables are bounded: handles by refusing more, leases by forgetting the oldest route (R2 finds it again).
 */
import { isNineError, NineError, toNineError } from './errors.ts'
import type { FileServer, HandleId } from './file-server.ts'
import { limits } from './limits.ts'
import type { Walked } from './walk.ts'

export interface OpenHandle {
  readonly server: FileServer
  readonly handle: HandleId
  readonly walked: Walked
  readonly isShared: boolean
}

export class Handles {
  readonly #open = new Map<HandleId, OpenHandle>()
  #last = 0

  /** @throws NineError `overloaded` at limits.handles_max */
  checkRoom(path: string): void {
    if (this.#open.size < limits.handles_max) return
    throw new NineError({ kind: 'overloaded', op: 'namespace.open', path, message: `more than ${limits.handles_max} open handles` })
  }

  add(open: OpenHandle): HandleId {
    this.#open.set(++this.#last, open)
    return this.#last
  }

  get(handle: HandleId): OpenHandle | undefined {
    return this.#open.get(handle)
  }

  delete(handle: HandleId): void {
    this.#open.delete(handle)
  }

  /** All of them, no longer held. */
  takeAll(): OpenHandle[] {
    const all = [...this.#open.values()]
    this.#open.clear()
    return all
  }
}

export function unknownHandle(handle: HandleId): Promise<never> {
  const message = `handle ${handle} is not open`
  return Promise.reject(new NineError({ kind: 'not_found', op: 'namespace.handle', message }))
}

export class Leases {
  readonly #servers = new Map<string, FileServer>()

  note(lease: string, server: FileServer): void {
    this.#servers.delete(lease)
    this.#servers.set(lease, server)
    if (this.#servers.size > limits.leases_max) this.#servers.delete(this.#servers.keys().next().value!)
  }

  forget(lease: string): void {
    this.#servers.delete(lease)
  }

  /** Do `ask` at the server that has `lease`, of those mounted. @throws NineError `not_found` when none has it */
  async route<R>(lease: string, mounted: readonly FileServer[], ask: (server: FileServer) => Promise<R>): Promise<R> {
    const known = this.#servers.get(lease)
    if (known !== undefined) return ask(known)
    let failure: NineError | undefined
    for (const server of mounted) {
      try {
        const result = await ask(server)
        this.note(lease, server)
        return result
      } catch (error) {
        // A server that cannot be reached may be the one that has it: that is told when no other has.
        if (!isNineError(error, 'not_found') && !isNineError(error, 'unsupported')) failure = toNineError(error, 'namespace.lease')
      }
    }
    throw failure ?? new NineError({ kind: 'not_found', op: 'namespace.lease', message: 'there is no such lease, or it has ended' })
  }
}
