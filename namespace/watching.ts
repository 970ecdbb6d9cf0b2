/**
 * Watches of a namespace: of a channel, of the mounts below it when recursive, and of unions. A watch keeps to the table
 * as it was when it began.
 *
 * N1 Events carry the caller's paths. A rename that crosses the edge of what the caller sees is told as what he sees of
 *    it: a create, or a remove.
 * N2 What a mount covers, and names of a union that an earlier member has, are not told.
 * N3 A plain watch of a directory does not follow the roots of mounts below it; a recursive one follows all of them.
 * N4 A watch of one server without `from` begins when it is called; one of several when each has told its position.
 */
import { hasName } from './choose.ts'
import type { Context } from './context.ts'
import { isNineError, NineError, toNineError } from './errors.ts'
import type { FileServer, WatchBatch, WatchEvent, WatchOptions } from './file-server.ts'
import { limits } from './limits.ts'
import { isCovered } from './listing.ts'
import type { Channel, Head, MountNode, MountTable } from './mount-table.ts'
import { baseName, isWithin, joinPath, relativePath } from './path.ts'
import type { Path } from './path.ts'
import { positionOf } from './position.ts'
import type { Position } from './position.ts'
import { topOf } from './union/merge-pages.ts'
import { mergeWatches } from './union/merge-watch.ts'
import type { WatchMember } from './union/merge-watch.ts'
import { channelsOf, findLoop, mountsBelow, outerError, toOuter, walkFrom } from './walk.ts'
import type { Walked } from './walk.ts'

/** One tree that a watch follows. */
interface Leaf {
  readonly server: FileServer
  /** What is watched: the server's path and the caller's. */
  readonly path: Path
  readonly outer: Path
  /** The last crossing (as in Walked): translates all paths of the server. */
  readonly base: { readonly outer: Path; readonly inner: Path }
  readonly node: MountNode | undefined
  /** Unions on the way: members before `index` hide the names they have. */
  readonly guards: readonly Guard[]
}

interface Guard {
  readonly head: Head
  readonly index: number
  /** The caller's path of the union. */
  readonly outer: Path
}

/** @throws (from next) NineError as FileServer.watch; `loop` and `too_large` when recursive; `invalid` for a revision over several servers */
export function watchWalked(
  table: MountTable,
  context: Context,
  path: Path,
  walked: Walked,
  options: WatchOptions = {},
): AsyncIterable<WatchBatch> {
  if (walked.union === undefined && walked.node === undefined && walked.outer === walked.inner && walked.name === undefined) {
    return walked.server.watch(context, walked.path, options)
  }
  const { recursive = false } = options
  if (recursive) findLoop(table, channelsOf(walked), path)
  const leaves: Leaf[] = []
  addWalked(leaves, table, walked, path, [], recursive)
  const only = leaves[0]!
  if (leaves.length > 1) return new LateWatch(() => watchAll(table, context, leaves, path, options))
  return new MappedWatch(only.server.watch(context, only.path, options), table, context, only)
}

function addWalked(leaves: Leaf[], table: MountTable, walked: Walked, path: Path, guards: readonly Guard[], recursive: boolean): void {
  if (walked.union === undefined) {
    const base = { outer: walked.outer, inner: walked.inner }
    return addChannel(leaves, table, walked, path, base, guards, recursive)
  }
  const outer = walked.outer
  for (const [index, member] of walked.union.members.entries()) {
    const inner = index === 0 ? guards : [...guards, { head: walked.union, index, outer }]
    addWalked(leaves, table, walkFrom(table, member, path, walked.at), path, inner, recursive)
  }
}

function addChannel(
  leaves: Leaf[],
  table: MountTable,
  channel: Channel,
  outer: Path,
  base: Leaf['base'],
  guards: readonly Guard[],
  recursive: boolean,
): void {
  if (leaves.length >= limits.watch_members_max) {
    const message = `one watch follows at most ${limits.watch_members_max} trees`
    throw new NineError({ kind: 'too_large', op: 'namespace.watch', path: outer, message })
  }
  const node = table.nodeAt(channel.server, channel.path)
  leaves.push({ server: channel.server, path: channel.path, outer, base, node, guards })
  if (!recursive || node === undefined) return
  for (const { relative, head } of mountsBelow(node)) {
    const mount = joinPath(outer, `/${relative}` as Path)
    for (const [index, member] of head.members.entries()) {
      const inner = index === 0 ? guards : [...guards, { head, index, outer: mount }]
      addChannel(leaves, table, member, mount, { outer: mount, inner: member.path }, inner, recursive)
    }
  }
}

async function watchAll(
  table: MountTable,
  context: Context,
  leaves: readonly Leaf[],
  path: Path,
  options: WatchOptions,
): Promise<AsyncIterableIterator<WatchBatch>> {
  if (typeof options.from === 'number') {
    const message = 'a revision names a point of one store, and several serve this path: give a position'
    throw new NineError({ kind: 'invalid', op: 'namespace.watch', path, message })
  }
  const now = await Promise.all(leaves.map((leaf) => positionOfLeaf(context, leaf)))
  const members = leaves.map((leaf, i): WatchMember => {
    const from = startOf(now[i]!, options.from as Position | undefined, now)
    const batches = new MappedWatch(leaf.server.watch(context, leaf.path, { ...options, from }), table, context, leaf)
    return { position: from ?? [], batches }
  })
  return mergeWatches(members)
}

/**
 * Where a member begins that stands at `now`: where `from` says. A server without history begins now; so does one that
 * `from` does not name, unless it names a store that is not here, in whose place this one may have come: then the server
 * is given `from` as it is, and answers `compacted`.
 */
function startOf(now: Position, from: Position | undefined, all: readonly Position[]): Position | undefined {
  if (now.length === 0) return undefined
  const next = now.map((element) => ({ ...element, revision: element.revision + 1, ordinal: 0 }))
  if (from === undefined) return next
  if (now.some((element) => positionOf(from, element.store) !== undefined))
    return from.filter(({ store }) => positionOf(now, store) !== undefined)
  const isForeign = from.length === 0 || from.some(({ store }) => all.every((position) => positionOf(position, store) === undefined))
  return isForeign ? from : next
}

async function positionOfLeaf(context: Context, leaf: Leaf): Promise<Position> {
  try {
    return (await leaf.server.stat(context, leaf.path)).position
  } catch (error) {
    if (!isNineError(error, 'not_found')) throw outerError(error, leaf.outer, leaf.path)
  }
  try {
    return (await leaf.server.stat(context, '/' as Path)).position
  } catch (error) {
    throw outerError(error, leaf.outer, '/' as Path)
  }
}

/** A server's batches as the caller sees them. */
class MappedWatch implements AsyncIterableIterator<WatchBatch> {
  readonly #iterator: AsyncIterator<WatchBatch>
  readonly #table: MountTable
  readonly #context: Context
  readonly #leaf: Leaf

  constructor(batches: AsyncIterable<WatchBatch>, table: MountTable, context: Context, leaf: Leaf) {
    this.#iterator = batches[Symbol.asyncIterator]()
    this.#table = table
    this.#context = context
    this.#leaf = leaf
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<WatchBatch>> {
    const { outer, inner } = this.#leaf.base
    let result: IteratorResult<WatchBatch>
    try {
      result = await this.#iterator.next()
    } catch (error) {
      throw outerError(error, outer, inner)
    }
    if (result.done === true) return result
    const events: WatchEvent[] = []
    for (const event of result.value.events) {
      const seen = await this.#seen(event)
      if (seen !== undefined) events.push(seen)
    }
    return { done: false, value: { events, position: result.value.position } }
  }

  async return(): Promise<IteratorResult<WatchBatch>> {
    await this.#iterator.return?.()
    return { done: true, value: undefined }
  }

  /** The event under the caller's paths; undefined when he sees nothing of it. */ // N1
  async #seen(event: WatchEvent): Promise<WatchEvent | undefined> {
    const path = await this.#visible(event.path)
    const from = event.from === undefined ? undefined : await this.#visible(event.from)
    if (path !== undefined) {
      const type = event.type === 'rename' && from === undefined ? 'create' : event.type
      return { ...event, type, path, from, stat: named(event.stat, path), previous: event.previous && named(event.previous, from ?? path) }
    }
    if (from === undefined) return undefined
    return { ...event, type: 'remove', path: from, from: undefined, stat: named(event.stat, from) }
  }

  /** The caller's path of what stands at the server's `path`, when it is not hidden. */ // N2
  async #visible(path: Path): Promise<Path | undefined> {
    const { base, node, guards } = this.#leaf
    // What happens to a directory above the mounted one happens to the mount.
    const outer = toOuter(path, base.outer, base.inner) ?? (isWithin(base.inner, path) ? base.outer : undefined)
    if (outer === undefined) return undefined
    if (node !== undefined && isWithin(path, this.#leaf.path) && path !== this.#leaf.path) {
      if (isCovered(node, relativePath(path, this.#leaf.path).slice(1))) return undefined
    }
    for (const { head, index, outer: union } of guards) {
      if (!isWithin(outer, union) || outer === union) continue
      const name = topOf(relativePath(outer, union).slice(1))
      for (const member of head.members.slice(0, index)) {
        if (await hasName(this.#table, this.#context, member, name, union)) return undefined
      }
    }
    return outer
  }
}

function named<S extends { readonly name: string }>(stat: S, path: Path): S {
  const name = baseName(path)
  return stat.name === name ? stat : { ...stat, name }
}

/** An iteration that has something to wait for before it begins. It begins to wait at once. */
class LateWatch implements AsyncIterableIterator<WatchBatch> {
  readonly #started: Promise<AsyncIterator<WatchBatch>>

  constructor(start: () => Promise<AsyncIterator<WatchBatch>>) {
    this.#started = start()
    // Told by the first next(); until then nobody has asked.
    this.#started.catch(() => undefined)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<WatchBatch>> {
    return (await this.#started).next()
  }

  async return(): Promise<IteratorResult<WatchBatch>> {
    await this.#started.then((iterator) => iterator.return?.()).catch(() => undefined)
    return { done: true, value: undefined }
  }
}

/** A watch that fails at its first next(). */
export function failingWatch(error: unknown): AsyncIterable<WatchBatch> {
  return new LateWatch(() => Promise.reject(toNineError(error, 'namespace.watch')))
}
