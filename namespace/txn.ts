/**
 * Transactions through a namespace: every path is walked, all must lead to one server, and the server gets the request
 * under its own paths.
 *
 * T1 Nothing is asked of the server unless every path leads to it: else `cross_store`.
 * T2 Failures are told under the caller's path that the server's path stands for.
 */
import type { Intent } from './choose.ts'
import type { Context } from './context.ts'
import { isNineError, NineError } from './errors.ts'
import type { FileServer, TxnOperation, TxnOperationResult, TxnRequest, TxnResult } from './file-server.ts'
import { limits } from './limits.ts'
import type { Channel } from './mount-table.ts'
import type { Path } from './path.ts'
import { outerError } from './walk.ts'
import type { Walked } from './walk.ts'

export interface Located {
  readonly walked: Walked
  /** A mount point, or a directory above one. */
  readonly isPinned: boolean
}

export type Locate = (path: Path, intent: Intent, near?: Channel) => Promise<Located>

/** @throws NineError as FileServer.txn; `cross_store`; `conflict` for the removal of a mount point */
export async function runTxn(context: Context, request: TxnRequest, locate: Locate): Promise<TxnResult> {
  const count = request.if.length + request.then.length + request.else.length
  if (count > limits.txn_operations_max * 3) {
    const message = `a transaction has at most ${limits.txn_operations_max} operations`
    throw new NineError({ kind: 'too_large', op: 'namespace.txn', message })
  }
  const paths = new OnePlace(locate)
  const conditions = []
  // A condition may be about a file that is not there, in the place where it would be made.
  for (const condition of request.if) conditions.push({ ...condition, path: await paths.serverPath(condition.path, 'makeParents') })
  const inner = { if: conditions, then: await paths.translate(request.then), else: await paths.translate(request.else) }
  const server = paths.server
  if (server === undefined) return { branch: 'then', results: [], position: [] }
  try {
    const result = await server.txn(context, inner)
    const operations = result.branch === 'then' ? request.then : request.else
    return { ...result, results: result.results.map((answer, i) => paths.named(answer, operations[i])) }
  } catch (error) {
    throw paths.outer(error)
  }
}

/** The paths of one transaction, as the caller and as the one server know them. */
class OnePlace {
  readonly #locate: Locate
  readonly #located = new Map<Path, Walked>()
  readonly #outers = new Map<string, Path>()
  server: FileServer | undefined

  constructor(locate: Locate) {
    this.#locate = locate
  }

  async serverPath(path: Path, intent: Intent, near?: Channel, isMoved = false): Promise<Path> {
    const { walked, isPinned } = await this.#locate(path, intent, near)
    if (isMoved && isPinned) {
      const message = 'it is a mount point, or one is below it: unmount first'
      throw new NineError({ kind: 'conflict', op: 'namespace.txn', path, message })
    }
    if (this.server !== undefined && this.server !== walked.server) {
      throw new NineError({ kind: 'cross_store', op: 'namespace.txn', path, message: 'a transaction is of one server' }) // T1
    }
    this.server = walked.server
    this.#located.set(path, walked)
    this.#outers.set(walked.path, path)
    return walked.path
  }

  async translate(operations: readonly TxnOperation[]): Promise<TxnOperation[]> {
    const translated: TxnOperation[] = []
    for (const operation of operations) translated.push(await this.#translateOne(operation))
    return translated
  }

  async #translateOne(operation: TxnOperation): Promise<TxnOperation> {
    // What an earlier operation makes is not there yet when the paths are walked: a missing name is left to the server.
    const isMoved = operation.op === 'remove' || operation.op === 'rename'
    const path = await this.serverPath(operation.path, 'makeParents', undefined, isMoved)
    if (operation.op !== 'rename') return { ...operation, path }
    const near = { server: this.server!, path }
    return { ...operation, path, to: await this.serverPath(operation.to, 'makeParents', near, true) }
  }

  named(answer: TxnOperationResult, operation: TxnOperation | undefined): TxnOperationResult {
    const name = operation === undefined ? undefined : this.#located.get(operation.path)?.name
    return name === undefined || answer.op === 'mutation' ? answer : { ...answer, stat: { ...answer.stat, name } }
  }

  /** T2 */
  outer(error: unknown): unknown {
    if (!isNineError(error)) return error
    const known = this.#outers.get(error.path)
    if (known !== undefined) return error.at(known)
    const first = this.#located.values().next().value
    return first === undefined ? error : outerError(error, first.outer, first.inner)
  }
}
