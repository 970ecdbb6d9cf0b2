/**
 * The handles that one session opened.
 *
 * G1 A handle of another session is not found here, whatever its number.
 * G2 What changes a handle begins when the change before it has finished; reads wait for changes, not for each other.
 * G3 close with discard waits for nothing, so that a read that never ends can be given up.
 */
import type { Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type { FileServer, HandleId } from '../file-server.ts'
import { limits } from '../limits.ts'

interface OpenHandle {
  readonly isShared: boolean
  /** The last change, while it is under way. */
  change: Promise<unknown> | undefined
}

export class SessionHandles {
  readonly #byServer = new Map<FileServer, Map<HandleId, OpenHandle>>()
  #count = 0
  #isClosed = false

  /** @throws NineError `overloaded` */
  checkRoom(path: string): void {
    if (this.#count < limits.session_handles_max) return
    const message = `a session has at most ${limits.session_handles_max} open handles`
    throw new NineError({ kind: 'overloaded', op: 'session.open', path, message })
  }

  /** `context` is used to close it at once when the session ended meanwhile. */
  add(server: FileServer, handle: HandleId, isShared: boolean, context: Context): void {
    if (this.#isClosed) return letGo(server, context, handle, isShared)
    const ofServer = this.#byServer.get(server) ?? new Map<HandleId, OpenHandle>()
    this.#byServer.set(server, ofServer)
    if (!ofServer.has(handle)) this.#count++
    ofServer.set(handle, { isShared, change: undefined })
  }

  /** G2 */
  inTurn<Result>(server: FileServer, handle: HandleId, isReading: boolean, act: () => Promise<Result>): Promise<Result> {
    const open = this.#byServer.get(server)?.get(handle)
    if (open === undefined) return notOpen(handle)
    const before = open.change
    const result = before === undefined ? act() : before.then(act, act)
    if (isReading) return result
    open.change = result
    const done = (): void => {
      if (open.change === result) open.change = undefined
    }
    result.then(done, done)
    return result
  }

  close<Result>(server: FileServer, handle: HandleId, isDiscarded: boolean, act: () => Promise<Result>): Promise<Result> {
    const ofServer = this.#byServer.get(server)
    const open = ofServer?.get(handle)
    if (ofServer === undefined || open === undefined) return notOpen(handle)
    ofServer.delete(handle)
    this.#count--
    if (ofServer.size === 0) this.#byServer.delete(server)
    return isDiscarded || open.change === undefined ? act() : open.change.then(act, act) // G3
  }

  /** Let go of all: atomic ones are dropped, shared ones published. */
  closeAll(context: Context): void {
    this.#isClosed = true
    const unbound = { ...context, signal: undefined, client: undefined, seq: undefined }
    for (const [server, ofServer] of this.#byServer) {
      for (const [handle, { isShared }] of ofServer) letGo(server, unbound, handle, isShared)
    }
    this.#byServer.clear()
    this.#count = 0
  }
}

function letGo(server: FileServer, context: Context, handle: HandleId, isShared: boolean): void {
  // Nobody is left to tell: what could not be published is lost with the connection, as its owner has to expect.
  void server.closeHandle({ ...context, signal: undefined }, handle, { discard: !isShared }).catch(() => undefined)
}

function notOpen(handle: HandleId): Promise<never> {
  return Promise.reject(new NineError({ kind: 'not_found', op: 'session.handle', message: `handle ${handle} is not open` }))
}
