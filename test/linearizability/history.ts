/**
 * Histories: what clients asked of a store, when, and what they were told. The recorder is the one clock of a history: each
 * beginning and end of an operation gets the next number, so that "before" is certain whatever the machine's clocks do.
 *
 * H1 An operation that failed and did not happen (`outcome: none`, for a reason that says nothing of the state) is not part of a history.
 * H2 One whose outcome is unknown stays open for ever: it may take effect at any later time, or never.
 */
import { createWriteStream, readFileSync } from 'node:fs'
import type { WriteStream } from 'node:fs'

export type Key = string

/** Which file, and how many changes it has seen: qid.path and qid.version. */
export interface At {
  readonly life: number
  readonly version: number
}

/** `none`: nothing is there. `exists`: something is. At: that life and version. */
export type Match = 'none' | 'exists' | At

export type Step =
  | { readonly do: 'read'; readonly key: Key }
  | { readonly do: 'write' | 'append'; readonly key: Key; readonly value: string; readonly match?: Match }
  | { readonly do: 'delete'; readonly key: Key; readonly match?: Match }
  | Rename

/** What is at `key` goes to `to`, as the same file; `replace`: what is there goes. */
export interface Rename {
  readonly do: 'rename'
  readonly key: Key
  readonly to: Key
  readonly replace: boolean
  readonly match?: Match
}

export interface Txn {
  readonly do: 'txn'
  readonly if: readonly { readonly key: Key; readonly is: Match }[]
  readonly then: readonly Step[]
  readonly else: readonly Step[]
}

/** A read that any replica may answer from what it has, at least as new as revision `min`. */
export interface StaleRead {
  readonly do: 'stale'
  readonly key: Key
  readonly min?: number
}

export type Request = Step | Txn | StaleRead

/** `missing`: there was nothing to read. `at`: of the file read; after a write or rename; of the file removed as it last was. */
export type StepResult =
  | { readonly was: 'read'; readonly value: string; readonly at?: At; readonly changed?: number }
  | { readonly was: 'missing' }
  | { readonly was: 'done'; readonly at?: At }

/** `revision`: of the position the answer shows; of a change, the one that it made. */
export type RefusalKind = 'conflict' | 'not_found' | 'exists'

export type Result =
  | (StepResult & { readonly revision?: number })
  | { readonly was: 'refused'; readonly kind: RefusalKind; readonly revision?: number }
  | { readonly was: 'branch'; readonly branch: 'then' | 'else'; readonly results: readonly StepResult[]; readonly revision?: number }

export interface Operation {
  readonly id: number
  readonly client: string
  /** Which replica was asked, and which run of it: what a stale read shows never goes back within one. */
  readonly session?: string
  readonly request: Request
  /** Number of its beginning, and of its end: Infinity while nothing is known of it. */ // H2
  readonly start: number
  readonly end: number
  readonly result?: Result
  /** Milliseconds since the history began, for people. */
  readonly startMs?: number
  readonly endMs?: number
  /** Why nothing is known. */
  readonly note?: string
}

/** A change as a watch tells it. */
export interface Told {
  readonly type: 'create' | 'change' | 'remove' | 'rename'
  /** Of a rename, where it went; `from`, where it was. */
  readonly key: Key
  readonly from?: Key
  readonly revision: number
  readonly ordinal: number
  readonly at: At
  readonly value?: string
  /** Number of its arrival among the beginnings and ends of the operations. */
  readonly tick: number
}

/** One taking of a lock, by whoever was told that it has it. Times are milliseconds of one monotonic clock. */
export interface LockStory {
  readonly key: Key
  readonly client: string
  readonly lease: string
  readonly token: number
  /** When it was asked for, and when it was had. */
  readonly asked: number
  readonly had: number
  /** Until when nobody else may have it: it was let go then, or its lease lasted so long since the last renewal that was answered was sent. */
  until: number
  /** What its file was found to be meanwhile: under which lease, and which token; null: there is none. */
  readonly looks: { readonly from: number; readonly to: number; readonly lease: string | null; readonly token: number }[]
}

/** One watcher's story, over all its connections. */
export interface WatchStory {
  readonly name: string
  /** Revision it began at, and whether nothing had been there before: it then tells all there is. */
  readonly from: number
  readonly isWhole: boolean
  /** It saw everything up to and with this revision. */
  upTo: number
  readonly told: Told[]
}

export interface History {
  readonly operations: Operation[]
  readonly watches: WatchStory[]
  readonly locks?: LockStory[]
}

/** What becomes of an operation that was begun. One of them is called, once. */
export interface Begun {
  /** @param session null: it is not known any more which run of a replica answered */
  complete(result: Result, session?: null): void
  /** H2 */
  unknown(note: string): void
  /** H1 */
  never(): void
}

export class Recorder {
  readonly history: History & { readonly locks: LockStory[] } = { operations: [], watches: [], locks: [] }
  readonly #began = performance.now()
  readonly #open = new Map<number, Operation>()
  readonly #file: WriteStream | undefined
  #tick = 0
  #lastId = 0

  /** @param file a line of JSON for each operation that ended, as it ends */
  constructor(file?: string) {
    this.#file = file === undefined ? undefined : createWriteStream(file)
  }

  /** Number of the next event. */
  tick(): number {
    return ++this.#tick
  }

  invoke(client: string, request: Request, session?: string): Begun {
    const begun: Operation = { id: ++this.#lastId, client, session, request, start: this.tick(), end: Infinity, startMs: this.#now() }
    this.#open.set(begun.id, begun)
    const close = (rest: Partial<Operation>): void => {
      if (!this.#open.delete(begun.id)) throw new Error(`operation ${begun.id} ended twice`)
      this.#add({ ...begun, ...rest })
    }
    return {
      complete: (result, of) => close({ result, end: this.tick(), endMs: this.#now(), ...(of === null ? { session: undefined } : {}) }),
      unknown: (note) => close({ note, endMs: this.#now() }),
      never: () => {
        if (!this.#open.delete(begun.id)) throw new Error(`operation ${begun.id} ended twice`)
      },
    }
  }

  watch(name: string, from: number, isWhole: boolean): WatchStory {
    const story: WatchStory = { name, from, isWhole, upTo: from - 1, told: [] }
    this.history.watches.push(story)
    return story
  }

  /** Milliseconds since the history began. */
  clock(): number {
    return performance.now() - this.#began
  }

  lock(taken: Omit<LockStory, 'looks'>): LockStory {
    const story: LockStory = { ...taken, looks: [] }
    this.history.locks.push(story)
    return story
  }

  /** The whole history; what is still under way is of unknown outcome. */
  end(): History {
    for (const operation of this.#open.values()) this.#add({ ...operation, note: 'not answered when the history ended' })
    this.#open.clear()
    for (const story of this.history.watches) this.#file?.write(`${JSON.stringify({ watch: story })}\n`)
    for (const story of this.history.locks) this.#file?.write(`${JSON.stringify({ lock: story })}\n`)
    this.#file?.end()
    return this.history
  }

  #add(operation: Operation): void {
    this.history.operations.push(operation)
    this.#file?.write(`${lineOf(operation)}\n`)
  }

  #now(): number {
    return Math.round(performance.now() - this.#began)
  }
}

/** One line a watch or operation; an end that is missing is Infinity. */
export function toLines(history: History): string {
  const watches = history.watches.map((watch) => JSON.stringify({ watch }))
  const locks = (history.locks ?? []).map((lock) => JSON.stringify({ lock }))
  return [...history.operations.map(lineOf), ...watches, ...locks].join('\n')
}

export function fromLines(text: string): History {
  const operations: Operation[] = []
  const watches: WatchStory[] = []
  const locks: LockStory[] = []
  for (const line of text.split('\n')) {
    if (line === '') continue
    const row = JSON.parse(line) as { watch?: WatchStory; lock?: LockStory } & Operation
    if (row.watch !== undefined) watches.push(row.watch)
    else if (row.lock !== undefined) locks.push(row.lock)
    else operations.push({ ...row, end: row.end ?? Infinity })
  }
  return { operations, watches, ...(locks.length > 0 ? { locks } : {}) }
}

export function loadHistory(file: string): History {
  return fromLines(readFileSync(file, 'utf8'))
}

/** Keys that an operation looks at or changes. */
export function keysOf(request: Request): readonly Key[] {
  if (request.do === 'rename') return [request.key, request.to]
  if (request.do !== 'txn') return [request.key]
  const steps = [...request.then, ...request.else].flatMap((step) => keysOf(step))
  return [...new Set([...request.if.map(({ key }) => key), ...steps])]
}

/** Keys between which files are renamed: what is told of a life or version there is not of one key. */
export function roamingKeys(operations: readonly Operation[]): ReadonlySet<Key> {
  const stepsOf = ({ request }: Operation): readonly (Request | Step)[] =>
    request.do === 'txn' ? [...request.then, ...request.else] : [request]
  return new Set(operations.flatMap((operation) => stepsOf(operation).flatMap((step) => (step.do === 'rename' ? [step.key, step.to] : []))))
}

/** Steps that were taken, with what each answered where that is known; none when nothing was done. */
export function stepsTaken({ request, result }: Operation): readonly { readonly step: Step; readonly result: StepResult | undefined }[] {
  if (request.do === 'stale' || result?.was === 'refused') return []
  if (request.do !== 'txn') return [{ step: request, result: result === undefined || result.was === 'branch' ? undefined : result }]
  if (result?.was !== 'branch') return []
  return request[result.branch].map((step, index) => ({ step, result: result.results[index] }))
}

/** JSON has no Infinity: it is left as null. */
function lineOf(operation: Operation): string {
  return JSON.stringify(operation)
}
