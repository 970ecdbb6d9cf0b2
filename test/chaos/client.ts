/**
 * A client that keeps asking: reads, stale reads, writes, appends, compare-and-set, deletes, renames and transactions on a few files, some of them
 * large, each recorded with what was answered. It asks one node, or any of several.
 *
 * K1 A failure with `outcome: unknown` is an operation that stays open; with `none`, one that never was: the node's word is put to the test.
 * K2 Every value is written once in all the history, so that whoever reads it names its writer.
 * K3 An answer of another store, or of another incarnation of it, is wrong.
 * K4 A large value stands in the history as its hash.
 */
import { createHash } from 'node:crypto'
import type { Session } from '../../sdk/session.ts'
import { isNineError } from '../../namespace/errors.ts'
import type { MutationResult, ReadResult, TxnOperation, TxnOperationResult } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { parsePath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Position } from '../../namespace/position.ts'
import type { Qid } from '../../namespace/stat.ts'
import type { At, Key, Match, Recorder, Rename, Request, Result, Step, StepResult, Txn } from '../linearizability/history.ts'
import type { NodeProcess } from './node-process.ts'

export interface ClientParts {
  readonly name: string
  readonly session: Session
  /** Undefined: whichever answers. */
  readonly node: NodeProcess | undefined
  readonly recorder: Recorder
  /** In [0, 1). */
  readonly random: () => number
  /** Directory of the files. */
  readonly folder: string
  readonly keys: ChaosKeys
  /** Positions seen in this history: all of one store. */
  readonly seen: StoreSeen
}

/** Each list in pairs. */
export interface ChaosKeys {
  readonly plain: readonly Key[]
  /** Renamed to each other. */
  readonly roaming: readonly Key[]
  /** Of values that are chunks. */
  readonly large: readonly Key[]
}

const large_bytes_min = limits.inline_bytes_max + 1
const large_bytes_max = 400 * 1024
/** What of one request is waited for, milliseconds. */
export const request_ms = 4_000
const pause_ms_max = 24

export class ChaosClient {
  readonly parts: ClientParts
  /** What no node may ever answer. */
  readonly problems: string[] = []
  /** Strict requests that were answered, refusals included. */
  answered = 0
  readonly #known = new Map<Key, At>()
  #position: Position | undefined
  #count = 0
  /** Large values on their way. */ // K4
  readonly #large = new Map<string, Uint8Array>()

  constructor(parts: ClientParts) {
    this.parts = parts
  }

  /** Ask one thing after another until aborted; resolves when the last was answered, or given up. */
  async run(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      await this.ask(this.#next())
      await new Promise((resolve) => setTimeout(resolve, this.parts.random() * pause_ms_max))
    }
  }

  /** @returns what was answered; undefined: nothing is known, or it never was */
  async ask(request: Request, timeoutMs = request_ms): Promise<Result | undefined> {
    const { name, recorder, node } = this.parts
    const life = node?.life
    const begun = recorder.invoke(name, request, node === undefined ? undefined : `${name}@${node.name}.${node.life}`)
    try {
      const result = await this.#perform(request, timeoutMs)
      if (request.do !== 'stale') this.answered++
      // Which run answered is known only when there was one.
      if (node?.life === life) begun.complete(result)
      else begun.complete(result, null)
      return result
    } catch (error) {
      if (!isNineError(error)) {
        begun.unknown(String(error))
        this.problems.push(`${name} got an error that is none of ours: ${String(error)}`)
      } else if (error.outcome === 'unknown' && request.do !== 'read' && request.do !== 'stale')
        begun.unknown(`${error.kind}: ${error.message}`)
      else if ((request.do === 'read' || request.do === 'stale') && error.kind === 'not_found') {
        begun.complete({ was: 'missing' })
        return { was: 'missing' }
      } else if (error.kind === 'conflict' || error.kind === 'not_found' || (error.kind === 'exists' && request.do === 'rename')) {
        begun.complete({ was: 'refused', kind: error.kind })
        return { was: 'refused', kind: error.kind }
      } else {
        begun.never()
        // A replica may show a past in which this principal had no rights yet.
        const isOfThePast = error.kind === 'denied' && request.do === 'stale' && request.min === undefined
        if (!isOfThePast && !['unavailable', 'deadline', 'overloaded'].includes(error.kind))
          this.problems.push(`${name} got ${error.kind} from ${error.op}: ${error.message}`)
      }
      return undefined
    } finally {
      if ('value' in request) this.#large.delete(request.value)
    }
  }

  /** Of whom it asks, for people. */
  get where(): string {
    return this.parts.node?.name ?? 'any node'
  }

  /** A value that nobody else writes. */ // K2
  value(): string {
    return `${this.parts.name}.${++this.#count} `
  }

  #next(): Request {
    const { keys, random } = this.parts
    const kind = random()
    if (kind < 0.04) return this.#nextLarge(this.#pick(keys.large))
    if (kind < 0.2) return this.#nextRoaming(this.#pick(keys.roaming))
    const key = this.#pick(keys.plain)
    const dice = random()
    if (dice < 0.3) return { do: 'read', key }
    if (dice < 0.42) return this.#stale(key)
    if (dice < 0.56) return { do: 'write', key, value: this.value(), match: this.#match(key, 0.1) }
    if (dice < 0.68) return { do: 'append', key, value: this.value() }
    if (dice < 0.84) return { do: 'write', key, value: this.value(), match: this.#match(key, 1) }
    if (dice < 0.9) return { do: 'delete', key, match: this.#match(key, 0.5) }
    return this.#txn(key)
  }

  #stale(key: Key): Request {
    const [mine] = this.#position ?? []
    return { do: 'stale', key, min: mine !== undefined && this.parts.random() < 0.5 ? mine.revision : undefined }
  }

  #nextRoaming(key: Key): Request {
    const { keys, random } = this.parts
    const dice = random()
    if (dice < 0.25) return { do: 'read', key }
    if (dice < 0.32) return this.#stale(key)
    if (dice < 0.45) return { do: 'write', key, value: this.value(), match: this.#match(key, 0.5) }
    if (dice < 0.55) return { do: 'append', key, value: this.value() }
    if (dice < 0.6) return { do: 'delete', key, match: this.#match(key, 0.5) }
    const match = this.#match(key, 0.3)
    return { do: 'rename', key, to: otherOf(keys.roaming, key), replace: random() < 0.5, match: match === 'none' ? undefined : match }
  }

  /** K4 */
  #nextLarge(key: Key): Request {
    const { random } = this.parts
    const dice = random()
    if (dice < 0.35) return { do: 'read', key }
    if (dice < 0.45) return this.#stale(key)
    if (dice < 0.5) return { do: 'delete', key, match: this.#match(key, 0.5) }
    const bytes = Buffer.alloc(large_bytes_min + Math.floor(random() * (large_bytes_max - large_bytes_min)), this.value())
    const value = shownValue(bytes)
    this.#large.set(value, bytes)
    return { do: 'write', key, value, match: this.#match(key, 0.5) }
  }

  /** Over a file and its neighbour, so that pairs are parts of the history. */
  #txn(key: Key): Txn {
    const other = otherOf(this.parts.keys.plain, key)
    const match = this.#match(key, 0.4)
    const value = this.value()
    const second: Step = this.#pick([
      { do: 'write', key: other, value },
      { do: 'append', key: other, value },
      { do: 'delete', key: other },
    ] as const)
    if (this.parts.random() < 0.3) return { do: 'txn', if: [], then: [key, other].map((one) => ({ do: 'read', key: one })), else: [] }
    return {
      do: 'txn',
      if: match === undefined ? [] : [{ key, is: match }],
      then: [{ do: 'write', key, value }, second],
      else: [{ do: 'read', key }],
    }
  }

  /** What was last seen there, mostly. */
  #match(key: Key, chance: number): Match | undefined {
    return this.parts.random() < chance ? (this.#known.get(key) ?? 'none') : undefined
  }

  async #perform(request: Request, timeoutMs: number): Promise<Result> {
    const { server } = this.parts.session.client
    const context = this.parts.session.client.context({ timeoutMs })
    if (request.do === 'txn') {
      const is = request.if.map((condition) => ({ path: this.#path(condition.key), is: toMatch(condition.is) }))
      const toOperations = (steps: readonly Step[]): TxnOperation[] =>
        steps.flatMap((step) => (step.do === 'rename' ? [] : [this.#operation(step)]))
      const answer = await server.txn(context, { if: is, then: toOperations(request.then), else: toOperations(request.else) })
      const steps = request[answer.branch]
      const results = answer.results.map((one, index) => this.#stepResult(steps[index]!.key, one))
      return { was: 'branch', branch: answer.branch, results, revision: this.#revision(answer.position) }
    }
    const path = this.#path(request.key)
    const ifMatch = 'match' in request && request.match !== undefined ? toIfMatch(request.match) : undefined
    switch (request.do) {
      case 'read':
        return this.#read(request.key, await server.read(context, path))
      case 'stale': {
        const minPosition = request.min === undefined ? undefined : this.#position?.map((one) => ({ ...one, revision: request.min! }))
        return this.#read(request.key, await server.read(context, path, { consistency: 'stale', minPosition }))
      }
      case 'delete':
        return this.#changed(request.key, await server.remove(context, path, { ifMatch }), true)
      case 'rename': {
        const moved = await server.rename(context, path, this.#path(request.to), { ifMatch, replace: request.replace })
        this.#known.delete(request.key)
        return this.#changed(request.to, moved, false)
      }
      case 'write':
      case 'append': {
        const at = request.do === 'append' ? 'append' : 'replace'
        return this.#changed(
          request.key,
          await server.write(context, path, this.#large.get(request.value) ?? Buffer.from(request.value), { ifMatch, at }),
          false,
        )
      }
    }
  }

  #operation(step: Exclude<Step, Rename>): TxnOperation {
    const path = this.#path(step.key)
    if (step.do === 'read') return { op: 'read', path }
    if (step.do === 'delete') return { op: 'remove', path }
    return { op: 'write', path, bytes: Buffer.from(step.value), options: { at: step.do === 'append' ? 'append' : 'replace' } }
  }

  #read(key: Key, { bytes, stat, position }: ReadResult): Result {
    this.#known.set(key, atOf(stat.qid))
    const revision = this.#revision(position)
    if (bytes.length !== stat.size) this.problems.push(`a read of ${key} gives ${bytes.length} bytes of ${stat.size}`)
    return { was: 'read', value: shownValue(bytes), at: atOf(stat.qid), changed: stat.revision, revision }
  }

  #changed(key: Key, { qid, revision, position }: MutationResult, isGone: boolean): Result {
    this.#learn(key, qid, isGone)
    if (this.#revision(position) !== revision)
      this.problems.push(`a change of revision ${revision} is answered with position ${JSON.stringify(position)}`)
    return { was: 'done', at: atOf(qid), revision }
  }

  #stepResult(key: Key, one: TxnOperationResult): StepResult {
    if (one.op === 'mutation') {
      this.#learn(key, one.result.qid, false)
      return { was: 'done', at: atOf(one.result.qid) }
    }
    this.#learn(key, one.stat.qid, false)
    const value = one.op === 'read' ? Buffer.from(one.bytes).toString() : ''
    return { was: 'read', value, at: atOf(one.stat.qid), changed: one.stat.revision }
  }

  #learn(key: Key, qid: Qid, isGone: boolean): void {
    if (isGone) this.#known.delete(key)
    else this.#known.set(key, atOf(qid))
  }

  /** K3 */
  #revision(position: Position): number {
    const problem = this.parts.seen.problem(position)
    if (problem !== undefined) this.problems.push(problem)
    const revision = position[0]?.revision ?? 0
    if (revision >= (this.#position?.[0]?.revision ?? 0)) this.#position = position
    return revision
  }

  #path(key: Key): Path {
    return parsePath(`${this.parts.folder}/${key}`)
  }

  #pick<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.parts.random() * choices.length)]!
  }
}

/** As it stands in histories: a text, or the size and hash of a large one. */ // K4
export function shownValue(bytes: Uint8Array): string {
  if (bytes.length < large_bytes_min) return Buffer.from(bytes).toString()
  return `#${bytes.length}.${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}`
}

function otherOf(keys: readonly Key[], key: Key): Key {
  return keys[keys.indexOf(key) ^ 1]!
}

/** The one store and incarnation that all answers are of. */
export class StoreSeen {
  #id: string | undefined

  problem(position: Position): string | undefined {
    const [one] = position
    const id = one === undefined ? 'no store' : `${one.store} ${one.incarnation}`
    this.#id ??= id
    return position.length === 1 && id === this.#id ? undefined : `an answer is of ${id} (${position.length} elements), not of ${this.#id}`
  }
}

export function atOf({ path, version }: Qid): At {
  return { life: path, version }
}

function toMatch(match: Match): 'none' | 'exists' | { path: number; version: number } {
  return typeof match === 'string' ? match : { path: match.life, version: match.version }
}

function toIfMatch(match: Match): 'none' | { path: number; version: number } {
  if (match === 'exists') throw new Error('only transactions ask whether something exists')
  return match === 'none' ? match : { path: match.life, version: match.version }
}
