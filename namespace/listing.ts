/**
 * Listings of a namespace: of a channel with mounts below it, and of a union. Where neither is, the server's own answer
 * and cursor are passed through.
 *
 * S1 A mount point is listed under the mount's name with the stat of what is mounted; what it covers is not shown.
 * S2 Missing directories on the way to a mount are shown (mount-table M4) with the stat of directoryStat. So are they
 *    where a file has come to stand in the way: mounts cover it.
 * S3 A plain listing shows a mount whose server fails as a directory; a recursive one fails, for it would leave out files.
 * S4 A member of a union, or a directory above a mount, that does not exist is empty; when all are, `not_found`.
 */
import { hasName, walkUnions } from './choose.ts'
import { checkDeadline } from './context.ts'
import type { Context } from './context.ts'
import { isNineError, NineError } from './errors.ts'
import type { ListOptions, ListResult, ReadOptions } from './file-server.ts'
import type { Channel, Head, MountNode, MountTable } from './mount-table.ts'
import { baseName, joinPath } from './path.ts'
import type { Path } from './path.ts'
import { mergePositions, noPosition } from './position.ts'
import type { Position } from './position.ts'
import { qidType } from './stat.ts'
import type { Stat } from './stat.ts'
import { compareRelative, mergePages, topOf } from './union/merge-pages.ts'
import type { PageSource } from './union/merge-pages.ts'
import { channelsOf, findLoop, outerError } from './walk.ts'
import type { Walked } from './walk.ts'

/** What one listing needs on its way down. */
interface Listing {
  readonly table: MountTable
  readonly context: Context
  readonly options: ListOptions
}

/** @throws NineError as FileServer.list, `loop` when recursive and the tree has no end */
export function listWalked(
  table: MountTable,
  context: Context,
  path: Path,
  walked: Walked,
  options: ListOptions = {},
): Promise<ListResult> {
  if (walked.union === undefined && walked.node === undefined) {
    const listed = walked.server.list(context, walked.path, options)
    return walked.reject === undefined ? listed : listed.catch(walked.reject)
  }
  return listOverMounts(table, context, path, walked, options)
}

async function listOverMounts(table: MountTable, context: Context, path: Path, walked: Walked, options: ListOptions): Promise<ListResult> {
  if (walked.union !== undefined && !walked.isMountPoint) {
    const chosen = await walkUnions(table, context, path, walked, 'existing', options)
    return listWalked(table, context, path, chosen, options)
  }
  if (options.recursive === true) findLoop(table, channelsOf(walked), path)
  const listing = { table, context, options }
  try {
    if (walked.union !== undefined) return await listUnion(listing, walked.union, path)
    return await listChannel(listing, walked, path)
  } catch (error) {
    throw isNineError(error) && error.path === '' ? error.at(path) : error
  }
}

/** `outer`: the caller's path of the channel. Failures are told under it. */
async function listChannel(listing: Listing, channel: Channel, outer: Path): Promise<ListResult> {
  const node = listing.table.nodeAt(channel.server, channel.path)
  if (node === undefined || node.children.size === 0) return listServer(listing.context, channel, outer, listing.options)
  const { cursor, limit, maxBytes } = listing.options
  const sources = [uncoveredSource(listing, channel, node, outer), mountsSource(listing, node, outer)]
  return mergePages(sources, { cursor, limit, maxBytes, shallow: false })
}

async function listServer(context: Context, channel: Channel, outer: Path, options: ListOptions): Promise<ListResult> {
  try {
    return await channel.server.list(context, channel.path, options)
  } catch (error) {
    throw outerError(error, outer, channel.path)
  }
}

/** What the server has itself, without what mounts cover. */
function uncoveredSource(listing: Listing, channel: Channel, node: MountNode, outer: Path): PageSource {
  return {
    async page(cursor, limit) {
      checkDeadline(listing.context, 'namespace.list', outer)
      const page = await listServer(listing.context, channel, outer, { ...listing.options, cursor, limit }).catch(emptyIfCovered)
      return {
        ...page,
        entries: page.entries.filter(
          (entry) => !isCovered(node, entry.name) && (entry.kind === 'directory' || !isOnTheWay(node, entry.name)),
        ),
      } // S1
    },
  }
}

function emptyIfCovered(error: unknown): ListResult {
  if (isNoDirectory(error)) return { entries: [], position: noPosition } // S2
  throw error
}

/** Whether a failure says that there is no directory, of a path that mounts make one. */
export function isNoDirectory(error: unknown): boolean {
  return isNineError(error, 'not_found') || isNineError(error, 'not_directory')
}

function emptyIfMissing(error: unknown): ListResult {
  if (isNineError(error, 'not_found')) return { entries: [], position: noPosition } // S4
  throw error
}

/** Whether `relative`, a path below the node, is a directory on the way to a mount. */
function isOnTheWay(node: MountNode, relative: string): boolean {
  let at: MountNode | undefined = node
  for (const name of relative.split('/')) at = at?.children.get(name)
  return at !== undefined
}

/** Whether a mount stands on or above `relative`, a path below the node. */
export function isCovered(node: MountNode, relative: string): boolean {
  let at: MountNode | undefined = node
  for (let start = 0; at !== undefined;) {
    const slash = relative.indexOf('/', start)
    at = at.children.get(slash < 0 ? relative.slice(start) : relative.slice(start, slash))
    if (at?.head !== undefined) return true
    if (slash < 0) return false
    start = slash + 1
  }
  return false
}

/** A name of the table below a channel: a mount point, or a directory on the way to one. */
interface MountName {
  readonly relative: string
  readonly head: Head | undefined
}

/** The names the table has below the channel and, when recursive, what is mounted there. */
function mountsSource(listing: Listing, node: MountNode, outer: Path): PageSource {
  const { recursive = false } = listing.options
  const names: MountName[] = []
  collectNames(node, '', recursive, names)
  names.sort((a, b) => compareRelative(a.relative, b.relative))
  return {
    async page(cursor, limit) {
      const start = decodePlace(cursor)
      let entries: Stat[] = []
      let position = noPosition
      for (const name of names) {
        const order = start === undefined ? 1 : compareRelative(name.relative, start.relative)
        if (order < 0 || (order === 0 && start?.isDone === true)) continue
        const path = joinPath(outer, `/${name.relative}` as Path)
        if (order > 0 && isWanted(name.relative, listing.options)) entries.push(await statOfName(listing, name, path))
        if (entries.length >= limit) return pageUpTo(entries, position, { relative: name.relative, isDone: !canDescend(name, recursive) })
        if (!canDescend(name, recursive) || !canHold(name.relative, listing.options)) continue
        const inner = order === 0 ? start?.inner : undefined
        const page = await listMounted(listing, name, path, inner, limit - entries.length)
        entries = entries.concat(page.entries)
        position = mergePositions(position, page.position)
        if (page.next !== undefined) return pageUpTo(entries, position, { relative: name.relative, isDone: false, inner: page.next })
        if (entries.length >= limit) return pageUpTo(entries, position, { relative: name.relative, isDone: true })
      }
      return { entries, position }
    },
  }
}

function canDescend(name: MountName, recursive: boolean): name is { relative: string; head: Head } {
  return recursive && name.head !== undefined
}

function collectNames(node: MountNode, prefix: string, recursive: boolean, names: MountName[]): void {
  for (const [name, child] of node.children) {
    names.push({ relative: prefix + name, head: child.head })
    if (recursive && child.head === undefined) collectNames(child, `${prefix}${name}/`, recursive, names)
  }
}

/** Whether `after` and `prefix` let the name itself through. */
function isWanted(relative: string, { after = '', prefix = '' }: ListOptions): boolean {
  return relative.startsWith(prefix) && (after === '' || compareRelative(relative, after) > 0)
}

/** Whether they let through anything below it. */
function canHold(relative: string, { after = '', prefix = '' }: ListOptions): boolean {
  const below = `${relative}/`
  return (
    (below.startsWith(prefix) || prefix.startsWith(below)) &&
    (after.startsWith(below) || after === '' || compareRelative(relative, after) >= 0)
  )
}

async function statOfName(listing: Listing, name: MountName, path: Path): Promise<Stat> {
  if (name.head !== undefined) {
    try {
      return { ...(await statHead(listing, name.head, path)), name: name.relative }
    } catch (error) {
      if (listing.options.recursive === true) throw outerError(error, path, name.head.members[0]!.path)
    }
  }
  return directoryStat(path, name.relative) // S2, S3: where the server has the directory, its own entry comes first
}

async function statHead(listing: Listing, head: Head, path: Path): Promise<Stat> {
  let missing: unknown
  for (const member of head.members) {
    const isAbove = (listing.table.nodeAt(member.server, member.path)?.children.size ?? 0) > 0
    try {
      const { stat } = await member.server.stat(listing.context, member.path, readOptionsOf(listing.options))
      return isAbove && stat.kind !== 'directory' ? directoryStat(path, baseName(path)) : stat
    } catch (error) {
      if (isAbove && isNoDirectory(error)) return directoryStat(path, baseName(path))
      if (!isNineError(error, 'not_found')) throw error
      missing = error
    }
  }
  throw missing
}

function readOptionsOf({ consistency, minPosition, at }: ListOptions): ReadOptions {
  return { consistency, minPosition, at }
}

/** A recursive page of what is mounted at `name`. What is no directory has none. */
async function listMounted(
  listing: Listing,
  name: { relative: string; head: Head },
  outer: Path,
  cursor: string | undefined,
  limit: number,
): Promise<ListResult> {
  checkDeadline(listing.context, 'namespace.list', outer)
  const { after = '', prefix = '' } = listing.options
  const below = `${name.relative}/`
  const options = {
    ...listing.options,
    cursor,
    limit,
    after: after.startsWith(below) ? after.slice(below.length) : undefined,
    prefix: prefix.startsWith(below) ? prefix.slice(below.length) : undefined,
  }
  const inner = { ...listing, options }
  const { members } = name.head
  try {
    const page = members.length > 1 ? await listUnion(inner, name.head, outer) : await listChannel(inner, members[0]!, outer)
    return { ...page, entries: page.entries.map((entry) => ({ ...entry, name: below + entry.name })) }
  } catch (error) {
    if (members.length === 1 && isNineError(error, 'not_directory') && error.path === outer) return { entries: [], position: noPosition }
    throw error
  }
}

/** Members merged in order, the first wins. */
async function listUnion(listing: Listing, head: Head, outer: Path): Promise<ListResult> {
  const { cursor, limit, maxBytes, recursive, after = '', prefix = '' } = listing.options
  const missing = new Set<Channel>()
  const sources = head.members.map((member): PageSource => ({
    async page(memberCursor, memberLimit) {
      checkDeadline(listing.context, 'namespace.list', outer)
      const options = { ...listing.options, cursor: memberCursor, limit: memberLimit }
      return listChannel({ ...listing, options }, member, outer).catch((error: unknown) => {
        if (isNineError(error, 'not_found')) missing.add(member)
        return emptyIfMissing(error)
      })
    },
  }))
  const start = prefix.includes('/') ? prefix : after
  const top = recursive === true && start !== '' && cursor === undefined ? await ownerOf(listing, head, topOf(start), outer) : undefined
  const page = await mergePages(sources, { cursor, limit, maxBytes, shallow: recursive === true, top })
  if (missing.size < head.members.length) return page
  throw new NineError({ kind: 'not_found', op: 'namespace.list', path: outer, message: 'no member of the union is there' })
}

async function ownerOf(listing: Listing, head: Head, name: string, outer: Path): Promise<{ name: string; source: number } | undefined> {
  for (const [source, member] of head.members.entries()) {
    if (await hasName(listing.table, listing.context, member, name, outer, readOptionsOf(listing.options))) return { name, source }
  }
  return undefined
}

/** Where mountsSource goes on: inside of a name that was shown, or after all of it. */
interface Place {
  readonly relative: string
  readonly isDone: boolean
  readonly inner?: string | undefined
}

function pageUpTo(entries: readonly Stat[], position: Position, place: Place): ListResult {
  return { entries, next: JSON.stringify([place.relative, place.isDone, place.inner]), position }
}

function decodePlace(cursor: string | undefined): Place | undefined {
  if (cursor === undefined) return undefined
  try {
    const [relative, isDone, inner] = JSON.parse(cursor) as [unknown, unknown, unknown]
    if (typeof relative !== 'string' || typeof isDone !== 'boolean') throw new TypeError('no place')
    return { relative, isDone, inner: typeof inner === 'string' ? inner : undefined }
  } catch (cause) {
    throw new NineError({ kind: 'invalid', op: 'namespace.list', message: 'the cursor is not of this listing', cause })
  }
}

/** The stat of a directory that only the mount table knows. Its qid is made of its path. */
export function directoryStat(path: Path, name: string): Stat {
  let hash = 0xcbf29ce4
  for (let i = 0; i < path.length; i++) hash = Math.imul(hash ^ path.charCodeAt(i), 0x01000193)
  const qid = { type: qidType.directory, path: hash >>> 0, version: 0 }
  const times = { createdAt: 0, modifiedAt: 0 }
  const owner = { owner: '', group: '', modifiedBy: '' }
  return { name, kind: 'directory', qid, size: 0, version: 0, revision: 0, createdRevision: 0, mode: 0o555, ...owner, ...times }
}
