/**
 * Lists: pages of one directory, or of a whole tree in pre-order, all at one revision.
 *
 * L1 The cursor of a page carries its revision: the next page shows the same state, whatever happened between.
 * L2 Memory and time of a page do not depend on the size of the directory, only on the page and the depth of the tree.
 * L3 What the principal may not see is not in the page.
 */
import { listBit, seeBits } from '../apply/rights.ts'
import type { Context } from '../../namespace/context.ts'
import { NineError } from '../../namespace/errors.ts'
import type { ListOptions } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { compareNames } from '../../namespace/path.ts'
import { grantedBy, type RightsMask } from '../../namespace/rights.ts'
import type { Stat } from '../../namespace/stat.ts'
import type { NodeRecord, TreeView } from '../model.ts'

/** Where a list goes on: encoded into `next`. */
export interface ListCursor {
  readonly incarnation: string
  readonly revision: number
  readonly after: string
}

const op = 'store.list'
/** Entries asked of a directory at a time. */
const batch_entries = 256
/** What a Stat takes encoded, besides its texts. */
const stat_bytes = 128

/** How a node is shown: with what shared handles hold of it. */
export type Show = (node: NodeRecord, name: string) => Stat

interface Frame {
  readonly ino: number
  /** Relative path of this directory with its '/', '' for the listed one. */
  readonly path: string
  after: string
  /** Whether the entry named `after` itself is still to come (where a list starts at a prefix). */
  inclusive: boolean
  readonly prefix: string
  readonly mask: RightsMask
}

/** One page below `directory`. `mask`: rights of the principal there. `after` overrides that of the options. */
export function listPage(
  view: TreeView,
  directory: NodeRecord,
  mask: RightsMask,
  context: Context,
  isOwner: boolean,
  options: ListOptions,
  after: string,
  show: Show,
): { entries: Stat[]; next: string | undefined } {
  const limit = pageLimit(options.limit, limits.list_page_entries_default, limits.list_page_entries_max, 'limit')
  const maxBytes = pageLimit(options.maxBytes, limits.list_page_bytes_max, limits.list_page_bytes_max, 'maxBytes')
  const recursive = options.recursive === true
  const stack = recursive
    ? startRecursive(view, directory, mask, context, isOwner, options.prefix ?? '', after)
    : [startFrame(directory.ino, '', mask, options.prefix ?? '', after)]
  const entries: Stat[] = []
  let bytes = 0
  while (stack.length > 0) {
    const frame = stack[stack.length - 1]!
    const wanted = Math.min(batch_entries, limit + 1 - entries.length)
    const batch = nextEntries(view, frame, wanted)
    let descended = false
    for (const { name, ino } of batch) {
      if (frame.prefix !== '' && !name.startsWith(frame.prefix)) {
        batch.length = 0
        break
      }
      frame.after = name
      const node = view.node(ino)
      if (node === undefined) continue
      const below = isOwner || node.rights === undefined ? frame.mask : grantedBy(node.rights, context.principal)
      if ((below & seeBits) === 0) continue // L3
      const size = stat_bytes + 3 * (frame.path.length + name.length) + node.owner.length + node.group.length
      if (entries.length === limit || (bytes + size > maxBytes && entries.length > 0)) {
        return { entries, next: entries[entries.length - 1]!.name }
      }
      entries.push(show(node, frame.path + name))
      bytes += size
      if (recursive && node.kind === 'directory' && (below & listBit) !== 0) {
        stack.push({ ino, path: `${frame.path}${name}/`, after: '', inclusive: false, prefix: '', mask: below })
        descended = true
        break
      }
    }
    if (!descended && batch.length < wanted) stack.pop()
  }
  return { entries, next: undefined }
}

function pageLimit(asked: number | undefined, byDefault: number, max: number, what: string): number {
  if (asked === undefined) return byDefault
  if (Number.isSafeInteger(asked) && asked > 0) return Math.min(asked, max)
  throw new NineError({ kind: 'invalid', op, message: `${what} is a whole number from 1` })
}

function nextEntries(view: TreeView, frame: Frame, wanted: number): { name: string; ino: number }[] {
  if (!frame.inclusive) return view.children(frame.ino, frame.after, wanted).slice()
  frame.inclusive = false
  const exact = view.child(frame.ino, frame.after)
  if (exact === undefined) return view.children(frame.ino, frame.after, wanted).slice()
  return [{ name: frame.after, ino: exact }, ...view.children(frame.ino, frame.after, wanted - 1)]
}

/** A directory from the later of `after` (exclusive) and `prefix` (inclusive). */
function startFrame(ino: number, path: string, mask: RightsMask, prefix: string, after: string): Frame {
  const fromPrefix = prefix !== '' && compareNames(after, prefix) < 0
  return { ino, path, after: fromPrefix ? prefix : after, inclusive: fromPrefix, prefix, mask }
}

/** The directories on the way to `after`, each set to go on behind it. `after` need not exist. */
function startRecursive(
  view: TreeView,
  directory: NodeRecord,
  mask: RightsMask,
  context: Context,
  isOwner: boolean,
  prefix: string,
  after: string,
): Frame[] {
  const slash = prefix.lastIndexOf('/')
  const base = slash < 0 ? [] : prefix.slice(0, slash).split('/')
  const namePrefix = prefix.slice(slash + 1)
  let behind = after === '' ? [] : after.split('/')
  for (const [i, name] of base.entries()) {
    const order = i < behind.length ? compareNames(behind[i]!, name) : -1
    if (order > 0) return []
    if (order < 0) {
      behind = []
      break
    }
  }
  behind = behind.slice(base.length)
  let at: { ino: number; mask: RightsMask } | undefined = { ino: directory.ino, mask }
  for (const name of base) {
    at = enter(view, at, name, context, isOwner)
    if (at === undefined) return []
  }
  let path = base.length === 0 ? '' : `${base.join('/')}/`
  const stack = [startFrame(at.ino, path, at.mask, namePrefix, behind[0] ?? '')]
  // Only what starts with the prefix is gone through: `after` outside of it opens nothing.
  if (behind[0]?.startsWith(namePrefix) !== true) return stack
  for (const [i, name] of behind.entries()) {
    at = enter(view, at, name, context, isOwner)
    if (at === undefined) break
    path += `${name}/`
    stack.push({ ino: at.ino, path, after: behind[i + 1] ?? '', inclusive: false, prefix: '', mask: at.mask })
  }
  return stack
}

function enter(
  view: TreeView,
  from: { ino: number; mask: RightsMask },
  name: string,
  context: Context,
  isOwner: boolean,
): { ino: number; mask: RightsMask } | undefined {
  const ino = view.child(from.ino, name)
  const node = ino === undefined ? undefined : view.node(ino)
  if (node?.kind !== 'directory') return undefined
  const mask = isOwner || node.rights === undefined ? from.mask : grantedBy(node.rights, context.principal)
  return (mask & listBit) === 0 ? undefined : { ino: node.ino, mask }
}

export function encodeCursor(cursor: ListCursor): string {
  return Buffer.from(JSON.stringify([cursor.incarnation, cursor.revision, cursor.after])).toString('base64url')
}

/** @throws NineError `invalid` for what encodeCursor did not make */
export function decodeCursor(text: string): ListCursor {
  try {
    const [incarnation, revision, after] = JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown[]
    if (typeof incarnation === 'string' && Number.isSafeInteger(revision) && typeof after === 'string') {
      return { incarnation, revision: revision as number, after }
    }
  } catch {
    // Answered below, like every other text that is no cursor.
  }
  throw new NineError({ kind: 'invalid', op, message: 'this is no cursor of a list' })
}
