/**
 * What the operations of one connection work with: its fids, its dialect, and the edge's tables.
 */
import { limits } from '../../namespace/limits.ts'
import type { Context } from '../../namespace/context.ts'
import type { StatResult } from '../../namespace/file-server.ts'
import { isWithin, joinName, parentPath, parseName } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import { header_bytes, read_overhead_bytes, write_overhead_bytes } from '../../proto/ninep/messages.ts'
import type { AnswerBody, Dialect, Request, Statfs, WireQid } from '../../proto/ninep/messages.ts'
import type { Attach } from './attach.ts'
import type { ByteLocks } from './byte-locks.ts'
import { refusal } from './failures.ts'
import { Fids, letGo } from './fids.ts'
import type { NinepLimits } from './limits.ts'
import type { Fid, Pending, Root } from './fids.ts'
import type { Qids } from './qids.ts'

/** What all connections of an edge share. */
export interface Shared {
  readonly qids: Qids
  readonly locks: ByteLocks
  readonly attach: Attach
  readonly limits: NinepLimits
  /** Room of the disk that the node keeps its data on. */
  space(): Promise<Statfs>
}

/** One request under way. */
export interface Call {
  /** Aborted by a flush. Made when it is first asked for: most requests are answered before anybody could give them up. */
  readonly signal: AbortSignal
  /** Its client has been told that nothing will come of it. */
  readonly isDropped: boolean
  /** Bytes its answer is about to take; they count towards limits.ninep_request_bytes_max. What may wait for ever takes none meanwhile. */
  answerBytes: number
  /** Called when it is dropped while it is under way. */
  onDrop: (() => void) | undefined
  /** Give it up as a flush would, and answer that it was. */
  abort(): void
}

/** Serves one type of request. It may throw, or answer at once. */
export type Operation<T extends Request['type']> = (
  session: Session,
  request: Extract<Request, { readonly type: T }>,
  call: Call,
) => AnswerBody | Promise<AnswerBody>

export class Session {
  readonly shared: Shared
  readonly fids: Fids
  dialect: Dialect = '9P2000'
  msize: number = limits.ninep_msize_max
  /** Number of this connection as a session: handles belong to it. */
  readonly number: number
  /** Who connects needs no token here: a Unix socket's mode has let them in, or the node was told so. */
  readonly trusted: Principal | undefined

  readonly #leaving = new Set<Promise<unknown>>()

  constructor(shared: Shared, number: number, trusted: Principal | undefined) {
    this.shared = shared
    this.fids = new Fids(shared.limits)
    this.number = number
    this.trusted = trusted
  }

  /** Most data one Rread or Rreaddir carries. */
  get readBytesMax(): number {
    return this.msize - read_overhead_bytes
  }

  /** What a client should read or write at once: both fit a message of its size. */
  get iounit(): number {
    return this.msize - Math.max(write_overhead_bytes, header_bytes)
  }

  context(root: Root, signal?: AbortSignal): Context {
    return { principal: root.principal, deadline: performance.now() + limits.request_ms_default, signal, session: this.number }
  }

  /** For what waits as long as a service likes. */
  patient(root: Root, signal: AbortSignal): Context {
    return { principal: root.principal, deadline: Infinity, signal, session: this.number }
  }

  /** The path of the entry `name` in `directory`. @throws NineError `invalid`, `name_too_long` */
  childOf(directory: Path, name: string): Path {
    const path = joinName(directory, parseName(name, '9p.request'))
    if (path.length * 3 > limits.path_bytes_max && Buffer.byteLength(path) > limits.path_bytes_max) {
      throw refusal('name_too_long', `a path has at most ${limits.path_bytes_max} bytes`, directory)
    }
    return path
  }

  /** `..` of what an attach gave is itself. */
  parentOf(root: Root, path: Path): Path {
    if (path === root.path) return path
    const parent = parentPath(path)
    // A fid that was renamed out of its tree, or whose tree was renamed, goes no further up either.
    return isWithin(parent, root.path) ? parent : path
  }

  /** The stat of what a fid stands for. @throws NineError `not_found` when another file stands there now */
  async statOf(fid: Fid, context: Context): Promise<StatResult & { readonly qid: WireQid }> {
    const { opened, root } = fid
    const found = opened?.type === 'file' ? await root.server.statHandle(context, opened.handle) : await root.server.stat(context, fid.path)
    const qid = this.shared.qids.of(found.stat, fid.path, found.position)
    // An open file is its handle's, whatever stands at its path now.
    if (opened?.type !== 'file' && qid.path !== fid.identity) {
      throw refusal('not_found', 'another file stands there now', fid.path)
    }
    return { ...found, qid }
  }

  /** What changes a file by its path asks first whether it is still the one. @throws NineError `not_found` */
  async checkPath(fid: Fid, context: Context): Promise<void> {
    const { stat, position } = await fid.root.server.stat(context, fid.path)
    if (this.shared.qids.pathOf(stat, fid.path, position) === fid.identity) return
    throw refusal('not_found', 'another file stands there now', fid.path)
  }

  /** Open `fid` by `work`, which nothing else does meanwhile. @throws NineError `invalid` for one that is open */
  opening<T>(fid: Fid, work: () => Promise<T>): Promise<T> {
    this.checkClosed(fid)
    fid.isOpening = true
    return this.pending(
      fid,
      work().finally(() => (fid.isOpening = false)),
    )
  }

  /** @throws NineError `invalid` */
  checkClosed(fid: Fid): void {
    if (fid.opened !== undefined || fid.isOpening) throw refusal('invalid', `fid ${fid.id} is open`, fid.path)
  }

  /** Count `work` as a request on `fid` that its clunk waits for, or gives up. */
  pending<T>(fid: Fid, work: Promise<T>, giveUp?: () => void): Promise<T> {
    const pending: Pending = { done: work, giveUp }
    const over = (): void => void fid.pending.delete(pending)
    fid.pending.add(pending)
    work.then(over, over)
    return work
  }

  /** Count `work` as what lets go of a fid: the connection is not over before. */
  leaving<T>(work: Promise<T>): Promise<T> {
    const over = (): void => void this.#leaving.delete(work)
    this.#leaving.add(work)
    work.then(over, over)
    return work
  }

  /** End a fid. What it wrote is durable when this settles. */
  clunk(fid: Fid): Promise<void> {
    return this.leaving(this.#clunk(fid))
  }

  async #clunk(fid: Fid): Promise<void> {
    this.fids.delete(fid)
    for (const { giveUp } of fid.pending) giveUp?.()
    if (fid.pending.size > 0) await Promise.allSettled([...fid.pending].map(({ done }) => done))
    const context = this.context(fid.root)
    try {
      if (fid.opened !== undefined) await letGo(fid, context, () => this.checkPath(fid, context))
    } finally {
      // Whoever has a lock next sees what was written under this one.
      this.shared.locks.releaseOf(fid)
    }
  }

  /** End all fids, those that are ending already too: a new version, or the end of the connection. Failures have nobody to be told to. */
  async clunkAll(): Promise<void> {
    for (const fid of this.fids.takeAll()) void this.clunk(fid).catch(() => undefined)
    await Promise.allSettled(this.#leaving)
  }
}

/** Whether a file of this kind may keep its reader waiting. */
export function isSlowKind(kind: Fid['kind']): boolean {
  return kind !== 'file' && kind !== 'directory' && kind !== 'symlink'
}
