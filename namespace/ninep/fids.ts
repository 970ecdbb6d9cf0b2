/**
 * The numbers by which one connection holds files at a 9P server.
 *
 * F1 Whoever makes a fid releases it, on every path; it is clunked when nothing that names it is under way any more, and only if the
 *    server may know it. Its number is used again when the server has answered the clunk.
 * F2 A request that names a fid counts as under way until its answer, or that of its Tflush, is here: a fid that a cancelled walk may
 *    have made is clunked like any other.
 * F3 A fid that is clunked is named by no further request: its number may be another file's by then. Who waited in turn while it was
 *    released fails.
 */
import { NineError } from '../errors.ts'
import { limits } from '../limits.ts'

export class Fid {
  readonly number: number
  /** Whether the server may know it. */
  isKnown = false
  readonly #fids: Fids
  #underWay = 0
  #isReleased = false
  #isGone = false

  constructor(number: number, fids: Fids) {
    this.number = number
    this.#fids = fids
  }

  /** F3 @throws NineError `invalid` */
  checkHeld(): void {
    if (this.#isGone) throw new NineError({ kind: 'invalid', op: 'ninep.call', message: 'the file was closed meanwhile' })
  }

  /** A request that names it is sent. */
  begin(): void {
    this.#underWay++
  }

  /** That request is over. */
  end(): void {
    this.#underWay--
    this.#settle()
  }

  /** The holder needs it no more. Does not wait for the server. */
  release(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    this.#settle()
  }

  #settle(): void {
    if (!this.#isReleased || this.#underWay > 0) return
    this.#isGone = true
    if (this.isKnown) this.#fids.clunk(this)
    else this.#fids.forget(this)
  }
}

export class Fids {
  readonly #clunk: (fid: Fid) => void
  readonly #held = new Set<Fid>()
  readonly #free: number[] = []
  #next = 0

  /** @param clunk asks the server to forget it, and ends it when answered */
  constructor(clunk: (fid: Fid) => void) {
    this.#clunk = clunk
  }

  /** Fids that are held, or whose clunk was not answered yet. */
  get size(): number {
    return this.#held.size
  }

  /** @throws NineError `overloaded` */
  make(): Fid {
    if (this.#held.size >= limits.ninep_client_fids_max) {
      throw new NineError({
        kind: 'overloaded',
        op: 'ninep.call',
        message: `at most ${limits.ninep_client_fids_max} files of a server are held`,
      })
    }
    const fid = new Fid(this.#free.pop() ?? this.#next++, this)
    this.#held.add(fid)
    return fid
  }

  clunk(fid: Fid): void {
    if (this.#held.has(fid)) this.#clunk(fid)
  }

  /** The server does not know its number any more. */
  forget(fid: Fid): void {
    if (this.#held.delete(fid)) this.#free.push(fid.number)
  }
}
