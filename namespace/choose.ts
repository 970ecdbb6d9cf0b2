/**
 * Which member of a union a path goes on in: the first that has the next name. Unions are shallow: what is below that
 * name is looked for in that member alone.
 *
 * C1 Only `not_found` falls through to the next member. One that cannot be reached may have the name: its failure is
 *    the answer. One that does not let the caller know is taken to have it: it answers for itself, by what it lets him
 *    do below.
 * C2 A name in no member is made in the first member bound with create; without one: `read_only`.
 * C3 A name that leads to a mount below a member is there without asking the member.
 */
import type { Context } from './context.ts'
import { isNineError, NineError } from './errors.ts'
import type { ReadOptions } from './file-server.ts'
import { nextSlash } from './mount-table.ts'
import type { Channel, Head, Member, MountTable } from './mount-table.ts'
import { joinName, parentPath } from './path.ts'
import type { Path } from './path.ts'
import { outerError, walkFrom } from './walk.ts'
import type { Walked } from './walk.ts'

/**
 * What is to be done at the path: `make` its last name if need be, `makeParents` names before it too; `cover` it by a
 * mount, there or not.
 */
export type Intent = 'existing' | 'make' | 'makeParents' | 'cover'

export interface ChooseOptions extends ReadOptions {
  /** A channel being renamed: a new name goes into the member it stands in, where that is of this union. */
  readonly near?: Channel | undefined
}

/** Walk on through unions until the path is a channel. @throws NineError as the member, `not_found`, `read_only` */
export async function chooseMembers(
  table: MountTable,
  context: Context,
  path: Path,
  walked: Walked,
  intent: Intent,
  options?: ChooseOptions,
): Promise<Walked> {
  const place = await walkUnions(table, context, path, walked, intent, options)
  if (place.union === undefined) return place
  return walkFrom(table, await firstPresent(table, context, place.outer, place.union, options), path, place.at)
}

/** The same, but a path that ends at a union stays there. */
export async function walkUnions(
  table: MountTable,
  context: Context,
  path: Path,
  walked: Walked,
  intent: Intent,
  options?: ChooseOptions,
): Promise<Walked> {
  while (walked.union !== undefined && !walked.isMountPoint) {
    const member = await chooseMember(table, context, path, walked, walked.union, intent, options)
    walked = walkFrom(table, member, path, walked.at, intent === 'cover')
  }
  return walked
}

async function chooseMember(
  table: MountTable,
  context: Context,
  path: Path,
  walked: Walked,
  head: Head,
  intent: Intent,
  options: ChooseOptions | undefined,
): Promise<Member> {
  const next = nextSlash(path, walked.at)
  const name = path.slice(walked.at + 1, next)
  for (const member of head.members) {
    if (await hasName(table, context, member, name, walked.outer, options)) return member // C1
  }
  if (intent === 'cover') return head.members[0]!
  if (intent === 'existing' || (intent === 'make' && next < path.length)) {
    throw new NineError({ kind: 'not_found', op: 'namespace.walk', path, message: 'no member of the union has it' })
  }
  const creator = memberOf(head, options?.near) ?? head.members.find((member) => member.create)
  if (creator !== undefined) return creator // C2
  throw new NineError({ kind: 'read_only', op: 'namespace.walk', path, message: 'no member of the union was bound with create' })
}

/** The member in which `channel` stands. */
function memberOf(head: Head, channel: Channel | undefined): Member | undefined {
  if (channel === undefined) return undefined
  const directory = parentPath(channel.path)
  return head.members.find((member) => member.server === channel.server && member.path === directory)
}

/** The union's own directory is its first member's that is there. */
async function firstPresent(table: MountTable, context: Context, outer: Path, head: Head, options?: ReadOptions): Promise<Member> {
  for (const member of head.members) {
    if (table.nodeAt(member.server, member.path)?.children.size || member === head.members.at(-1)) return member
    if (await isThere(context, member, outer, member.path, options)) return member
  }
  return head.members[0]!
}

/** Whether `name` is in `member`, a directory that the caller knows as `outer`. */
export async function hasName(
  table: MountTable,
  context: Context,
  member: Channel,
  name: string,
  outer: Path,
  options?: ReadOptions,
): Promise<boolean> {
  if (table.nodeAt(member.server, member.path)?.children.has(name) === true) return true // C3
  return isThere(context, { server: member.server, path: joinName(member.path, name) }, outer, member.path, options)
}

async function isThere(context: Context, channel: Channel, outer: Path, inner: Path, options?: ReadOptions): Promise<boolean> {
  try {
    await channel.server.stat(context, channel.path, options)
    return true
  } catch (error) {
    if (isNineError(error, 'not_found')) return false
    if (isNineError(error, 'denied')) return true // C1
    throw outerError(error, outer, inner)
  }
}
