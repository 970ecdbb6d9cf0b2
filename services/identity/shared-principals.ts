/**
 * Principals of a cluster beside its owner: records of its store `sys`, /identity/principals/<name> {groups, tokenSha256}. The store
 * belongs to the owner and stands in nobody's namespace.
 *
 * P1 A change is agreed on by a majority before it is answered; its outcome is `unknown` where that is not known.
 * P2 This node follows its own copy of them without asking anybody, so it knows them without a majority too: as they were when it
 *    heard of the others last.
 * P3 What it had when it started may be old; that nobody has a token is said by a node only when it has heard of the others since, and
 *    hears of them.
 * P4 What is seen of a principal never goes back, unless the store was restored: what is loaded is this node's newest state, loads and what
 *    a watch tells come one after the other, and what it tells of before the state that was loaded is left out.
 */
import { z } from 'zod'
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer, WatchBatch, WatchEvent } from '../../namespace/file-server.ts'
import { baseName, joinName, parentPath, parsePath, rootPath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Position } from '../../namespace/position.ts'
import { pause } from '../cluster/founding.ts'
import { principalRecord } from './records.ts'
import type { PrincipalRecord } from './records.ts'

export interface SharedPrincipalsParts {
  /** The store, as this node has it. */
  readonly sys: FileServer
  /** As the node itself. */
  readonly context: (timeoutMs?: number) => Context
  /** Whether this node hears of who leads the store. */
  readonly isLed: () => boolean
  /** Told of failures that are tried again, and of records that are left out. */
  readonly warn: (error: unknown) => void
}

/** What is heard of them. */
export interface Heard {
  /** All there are. */
  loaded(all: readonly PrincipalRecord[]): void
  /** One changed; undefined: it is gone. */
  changed(name: string, record: PrincipalRecord | undefined): void
}

const folder = parsePath('/identity/principals')
const stored = z.object({ groups: principalRecord.shape.groups, tokenSha256: principalRecord.shape.tokenSha256 })
const follow_again_ms = 200
/** So long a node that starts waits for what the others know, before it goes on with what it has. */
const newest_ms = 1_000
/** Records written in one transaction. */
const batch_max = 500

export class SharedPrincipals {
  readonly #parts: SharedPrincipalsParts
  readonly #stop = new AbortController()
  #heard: Heard | undefined
  #running: Promise<unknown> | undefined
  /** What is known here was all there was, at one time since it started. */ // P3
  #isNew = false
  /** All changes up to and with this revision were heard of. */
  #seen = 0
  readonly #waiting = new Set<() => void>()
  /** Ends with the last load or batch that was begun. */ // P4
  #turn: Promise<unknown> = Promise.resolve()

  constructor(parts: SharedPrincipalsParts) {
    this.#parts = parts
  }

  /**
   * What the founder of a cluster had alone is the cluster's. May be done again; what a restored store has of others stays.
   * @throws NineError
   */
  static async bring(sys: FileServer, context: () => Context, principals: readonly PrincipalRecord[]): Promise<void> {
    for (let first = 0; first < principals.length; first += batch_max) {
      const some = principals.slice(first, first + batch_max)
      await sys.txn(context(), {
        if: [],
        then: some.map((one) => ({ op: 'write', path: pathOf(one.name), bytes: encode(one), options: { parents: true } })),
        else: [],
      })
    }
  }

  /** Whether what is not known here is not there. */ // P3
  get isCurrent(): boolean {
    return this.#isNew && this.#parts.isLed()
  }

  /** Load them, as new as can be had in time, and follow them until `close`. @throws NineError where not even this node's own can be read */
  async open(heard: Heard): Promise<void> {
    this.#heard = heard
    const isNewest = await this.#isNewest()
    const position = await this.#load() // P2
    this.#isNew = isNewest
    this.#running = Promise.all([this.#follow(position), isNewest ? undefined : this.#catchUp()])
  }

  /** P1 @returns the revision that made it */
  async put(record: PrincipalRecord): Promise<number> {
    const { sys, context } = this.#parts
    return (await sys.write(context(), pathOf(record.name), encode(record), { parents: true })).revision
  }

  /** P1 @returns the revision that removed it @throws NineError `not_found` */
  async remove(name: string): Promise<number> {
    const { sys, context } = this.#parts
    return (await sys.remove(context(), pathOf(name))).revision
  }

  /** Whether all up to `revision` was heard of here, within `ms`. */
  heardOf(revision: number, ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer)
        this.#waiting.delete(look)
        resolve(this.#seen >= revision)
      }
      const look = (): void => void ((this.#seen >= revision || this.#stop.signal.aborted) && end())
      const timer = setTimeout(end, Math.max(0, ms))
      this.#waiting.add(look)
      look()
    })
  }

  async close(): Promise<void> {
    this.#stop.abort()
    this.#wake()
    await this.#running
  }

  /** Whether this node's state is, by now, the newest there was. */
  async #isNewest(): Promise<boolean> {
    const { sys, context } = this.#parts
    try {
      await sys.stat({ ...context(newest_ms), signal: this.#stop.signal }, rootPath)
      return true
    } catch (error) {
      if (!isNineError(error) || !error.retryable) throw error
      return false
    }
  }

  /** P3 */
  async #catchUp(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted && !this.#isNew) {
      await pause(follow_again_ms, signal)
      try {
        if (signal.aborted || !(await this.#isNewest())) continue
        await this.#inTurn(() => this.#load())
        this.#isNew = true
      } catch (error) {
        if (!signal.aborted) this.#parts.warn(error)
      }
    }
  }

  /** P4 */
  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(run)
    this.#turn = done.catch(() => undefined)
    return done
  }

  async #follow(from: Position | undefined): Promise<void> {
    const { signal } = this.#stop
    const { sys, context, warn } = this.#parts
    let next = from
    while (!signal.aborted) {
      try {
        const lasting: Context = { ...context(), deadline: Infinity, signal }
        next ??= await this.#inTurn(() => this.#load())
        for await (const batch of sys.watch(lasting, folder, { from: next, recursive: true })) {
          await this.#inTurn(() => this.#hear(batch))
          next = batch.position
        }
      } catch (error) {
        if (!signal.aborted) warn(error)
        // Where to go on is not known any more: the state tells.
        next = undefined
      }
      await pause(follow_again_ms, signal)
    }
  }

  async #hear({ events, position }: WatchBatch): Promise<void> {
    for (const event of events) {
      if (event.position[0]!.revision <= this.#seen) continue // P4
      if (isOfOne(event)) this.#heard!.changed(baseName(event.path), event.type === 'remove' ? undefined : await this.#recordOf(event))
      else if (event.subtree || event.type === 'rename') await this.#load()
    }
    this.#reached(position[0]!.revision - 1)
  }

  /** As this node has them. Gives where a watch goes on. */
  async #load(): Promise<Position> {
    const { sys, context } = this.#parts
    const all: PrincipalRecord[] = []
    let cursor: string | undefined
    let shown: Position
    try {
      do {
        const page = await sys.list(context(), folder, { consistency: 'stale', cursor })
        shown = page.position
        for (const { name } of page.entries) {
          const path = joinName(folder, name)
          const { bytes } = await sys.read(context(), path, { at: page.position })
          const record = this.#decode(name, bytes)
          if (record !== undefined) all.push(record)
        }
        cursor = page.next
      } while (cursor !== undefined)
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error
      // Nobody has made one yet.
      shown = (await sys.stat(context(), rootPath, { consistency: 'stale' })).position
      if (await this.#isThere()) return this.#load()
    }
    this.#heard!.loaded(all)
    const { revision } = shown[0]!
    this.#seen = revision
    this.#wake()
    return shown.map((one) => ({ ...one, revision: revision + 1, ordinal: 0 }))
  }

  async #isThere(): Promise<boolean> {
    const { sys, context } = this.#parts
    return sys.stat(context(), folder, { consistency: 'stale' }).then(
      () => true,
      (error: unknown) => {
        if (isNineError(error, 'not_found')) return false
        throw error
      },
    )
  }

  async #recordOf({ path, bytes }: WatchEvent): Promise<PrincipalRecord | undefined> {
    const { sys, context } = this.#parts
    const name = baseName(path)
    if (bytes !== undefined) return this.#decode(name, bytes)
    try {
      return this.#decode(name, (await sys.read(context(), path, { consistency: 'stale' })).bytes)
    } catch (error) {
      if (isNineError(error, 'not_found')) return undefined
      throw error
    }
  }

  /** What is no record gives nobody a way in. */
  #decode(name: string, bytes: Uint8Array): PrincipalRecord | undefined {
    try {
      return principalRecord.parse({ ...stored.parse(JSON.parse(Buffer.from(bytes).toString())), name })
    } catch (cause) {
      const message = `the record of principal ${JSON.stringify(name)} in the store sys is damaged: its token is not taken; make a new one`
      this.#parts.warn(new NineError({ kind: 'corrupt', op: 'identity.records', message, cause }))
      return undefined
    }
  }

  #reached(revision: number): void {
    if (revision <= this.#seen) return
    this.#seen = revision
    this.#wake()
  }

  #wake(): void {
    for (const look of [...this.#waiting]) look()
  }
}

function isOfOne({ path, subtree, type, stat }: WatchEvent): boolean {
  return !subtree && type !== 'rename' && parentPath(path) === folder && stat.kind === 'file'
}

function pathOf(name: string): Path {
  return joinName(folder, name)
}

function encode({ groups, tokenSha256 }: PrincipalRecord): Uint8Array {
  return Buffer.from(JSON.stringify({ groups, tokenSha256 }))
}
