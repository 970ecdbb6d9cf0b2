/**
 * Stale reads that never go back: each shows at least the latest position that this client has been answered with, so that what it
 * changed and what it has been shown stays there, whichever node answers.
 */
import type { Context } from '../context.ts'
import type { ReadOptions, WatchBatch } from '../file-server.ts'
import type { Path } from '../path.ts'
import { mergePositions } from '../position.ts'
import type { Position } from '../position.ts'
import type { Messages } from '../wire/operation.ts'
import type { WatchArgs } from '../wire/watch.ts'
import type { Caller } from './remote-file-server.ts'
import { isStale, routeKind } from './routing.ts'

/** Part of Nodes. */
export interface Shared {
  /** Where the store stands that all paths of a request are in; undefined: not in one that all nodes have. */
  sharedRoot(messages: Messages<unknown, unknown>, args: unknown): Path | undefined
}

interface Answer {
  readonly position?: Position
}

export class MonotonicCaller implements Caller {
  readonly #caller: Caller
  readonly #shared: Shared
  /** The latest of each store. */
  readonly #seen = new Map<Path, Position>()

  constructor(caller: Caller, shared: Shared) {
    this.#caller = caller
    this.#shared = shared
  }

  async call<Args, Result>(messages: Messages<Args, Result>, context: Context, args: Args): Promise<Result> {
    const opaque = messages as Messages<unknown, unknown>
    const root = this.#shared.sharedRoot(opaque, args)
    if (root === undefined) return this.#caller.call(messages, context, args)
    const isRead = routeKind(messages.type) === 'read' && isStale(args)
    const result = await this.#caller.call(messages, context, isRead ? this.#after(root, args) : args)
    const { position } = result as Answer
    if (position !== undefined && !isOfPast(args)) this.#seen.set(root, mergePositions(this.#seen.get(root) ?? [], position))
    return result
  }

  watch(context: Context, args: WatchArgs): AsyncIterable<WatchBatch> {
    return this.#caller.watch(context, args)
  }

  #after<Args>(root: Path, args: Args): Args {
    const { options } = args as { readonly options?: ReadOptions }
    const minPosition = mergePositions(this.#seen.get(root) ?? [], options?.minPosition ?? [])
    return minPosition.length === 0 ? args : { ...args, options: { ...options, minPosition } }
  }
}

/** What is shown of the past is older than what was seen. */
function isOfPast(args: unknown): boolean {
  return (args as { readonly options?: ReadOptions }).options?.at !== undefined
}
