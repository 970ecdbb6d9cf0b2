/**
 * One operation of the file server at a 9P server: who asks, until when, over which connection, and what it has done so far.
 *
 * O1 A failure is told under the path and name of the operation, whatever it failed on.
 * O2 When something of the operation was changed and a later part of it fails, the outcome is `unknown`: 9P takes nothing back.
 * O3 A name is walked only through directories: links and files on the way are `not_directory`, whatever the server would make of them.
 */
import { walk_names_max } from '../../proto/ninep/messages.ts'
import type { Answer, RequestBody, WireQid } from '../../proto/ninep/messages.ts'
import { WireError } from '../../proto/protobuf.ts'
import type { Context } from '../context.ts'
import { NineError, toNineError } from '../errors.ts'
import type { ErrorKind } from '../errors.ts'
import { parentPath, pathComponents } from '../path.ts'
import type { Path } from '../path.ts'
import { qidType } from '../stat.ts'
import type { Attached } from './attach.ts'
import type { AnswerOf, Asking, NinepConnection } from './connection.ts'
import type { Fid } from './fids.ts'

/** A file that was walked to. Whoever has it releases the fid. */
export interface Walked {
  readonly fid: Fid
  readonly qid: WireQid
}

/** Fids a request uses, makes and ends. */
export type FidUse = Omit<Asking, 'context' | 'isChange'>

export class Operation {
  readonly context: Context
  readonly op: string
  readonly path: Path
  readonly attached: Attached
  #hasChanged = false

  constructor(attached: Attached, context: Context, op: string, path: Path) {
    this.attached = attached
    this.context = context
    this.op = op
    this.path = path
  }

  get connection(): NinepConnection {
    return this.attached.connection
  }

  ask<T extends Answer['type']>(body: RequestBody, expected: T, fids: FidUse): Promise<AnswerOf<T>> {
    return this.connection.ask(body, expected, { ...fids, context: this.context })
  }

  /** Ask for a change. */
  async change<T extends Answer['type']>(body: RequestBody, expected: T, fids: FidUse): Promise<AnswerOf<T>> {
    const answer = await this.connection.ask(body, expected, { ...fids, context: this.context, isChange: true })
    this.#hasChanged = true
    return answer
  }

  /** A failure of this operation. */
  error(kind: ErrorKind, message: string): NineError {
    return new NineError({ kind, op: this.op, path: this.path, message })
  }

  missing(): NineError {
    return this.error('not_found', 'there is no such file')
  }

  /** Whatever was thrown, as it is told: O1, O2. */
  failure(thrown: unknown): NineError {
    const error =
      thrown instanceof WireError
        ? this.error('internal', `what the server answers is malformed: ${thrown.message}`)
        : toNineError(thrown, this.op, this.path)
    if (!this.#hasChanged || error.outcome === 'unknown') return error.at(this.path, this.op)
    const message = `${error.message} (a part of it was done)`
    return new NineError({ ...error.fields, op: this.op, path: this.path, message, outcome: 'unknown', cause: error })
  }

  /** The file at `path`, walked to: O3. @throws NineError `not_found`, `not_directory` */
  async walk(path: Path = this.path): Promise<Walked> {
    return this.walkFrom(this.attached.root, this.attached.rootQid, pathComponents(path))
  }

  /** The directory `path` stands in. @throws NineError `not_found`, `not_directory` */
  async walkParent(path: Path = this.path): Promise<Walked> {
    const parent = await this.walk(parentPath(path))
    if (isDirectory(parent.qid)) return parent
    parent.fid.release()
    throw this.error('not_directory', `${parentPath(path)} is no directory`)
  }

  async walkFrom(start: Fid, startQid: WireQid, names: readonly string[]): Promise<Walked> {
    const fid = this.connection.fids.make()
    try {
      let qid = startQid
      let from = start
      for (let at = 0; at === 0 || at < names.length; at += walk_names_max) {
        const part = names.slice(at, at + walk_names_max)
        const { qids } = await this.#step(from, fid, part, qid)
        qid = this.#check(qids, part, qid)
        from = fid
      }
      return { fid, qid }
    } catch (error) {
      fid.release()
      throw error
    }
  }

  /** Use what is at `path` and let it go. */
  async with<W extends Walked, T>(walked: Promise<W>, use: (walked: W) => Promise<T>): Promise<T> {
    const at = await walked
    try {
      return await use(at)
    } finally {
      at.fid.release()
    }
  }

  async #step(from: Fid, fid: Fid, names: readonly string[], fromQid: WireQid): Promise<AnswerOf<'Rwalk'>> {
    if (names.length > 0 && !isDirectory(fromQid)) throw this.error('not_directory', 'the path goes through what is no directory')
    const body = { type: 'Twalk', fid: from.number, newFid: fid.number, names } as const
    const isFirst = from !== fid
    return this.ask(body, 'Rwalk', isFirst ? { uses: [from], makes: fid } : { uses: [fid] })
  }

  /** @returns the qid of the last name */
  #check(qids: readonly WireQid[], names: readonly string[], start: WireQid): WireQid {
    if (qids.length > names.length) throw this.error('internal', 'the server walked further than it was asked')
    let qid = start
    for (const [index, next] of qids.entries()) {
      qid = next
      if (index < names.length - 1 && !isDirectory(qid)) throw this.error('not_directory', `${names[index]} is no directory`)
    }
    if (qids.length < names.length) throw this.missing()
    return qid
  }
}

export function isDirectory(qid: Pick<WireQid, 'type'>): boolean {
  return (qid.type & qidType.directory) !== 0
}

export function isLink(qid: Pick<WireQid, 'type'>): boolean {
  return (qid.type & qidType.symlink) !== 0
}
