/**
 * Lists of a memory server: pages of a directory, or of a whole tree in pre-order, as of one revision.
 *
 * L1 The cursor carries the revision, so the next page shows the same state, whatever happened between.
 * L2 What the principal may not see is not in the page, and what they may not list is not entered.
 */
import { NineError } from '../errors.ts'
import type { ListOptions } from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Principal } from '../rights.ts'
import type { Stat } from '../stat.ts'
import { listBit, nodeAt, rightsAt, seeBits, statOf, stateAt, type Node } from './tree.ts'

export interface Cursor {
  readonly revision: number
  readonly after: string
}

/** What a Stat takes encoded, besides its texts. */
const stat_bytes = 128

/** One page below `directory` as of `revision`, after the name or relative path `after`. */
export function listPage(
  directory: Node,
  revision: number,
  principal: Principal,
  owner: string,
  options: ListOptions,
  after: string,
): { readonly entries: Stat[]; readonly next: string | undefined } {
  const limit = bounded(options.limit, limits.list_page_entries_default, limits.list_page_entries_max, 'limit')
  const maxBytes = bounded(options.maxBytes, limits.list_page_bytes_max, limits.list_page_bytes_max, 'maxBytes')
  const prefix = options.prefix ?? ''
  const behind = options.recursive === true ? after.split('/') : [after]
  const entries: Stat[] = []
  let bytes = 0
  for (const { node, name } of walk(directory, '', behind, prefix, options.recursive === true)) {
    const state = stateAt(node, revision)!
    const size = stat_bytes + 3 * name.length + state.owner.length + state.group.length
    if (entries.length === limit || (bytes + size > maxBytes && entries.length > 0)) return { entries, next: entries.at(-1)!.name }
    entries.push(statOf(node, state, name))
    bytes += size
  }
  return { entries, next: undefined }

  /** In order, from behind `behind`: the rest of the path that was listed last, seen from this directory. */
  function* walk(
    at: Node,
    above: string,
    behindHere: readonly string[],
    wanted: string,
    recursive: boolean,
  ): Generator<{ node: Node; name: string }> {
    const slots = at.children!.ordered()
    const [first = '', ...rest] = behindHere
    const slash = recursive ? wanted.indexOf('/') : -1
    const isInside = slash >= 0
    const start = isInside ? wanted.slice(0, slash) : wanted
    // What was listed last is entered again when recursive: what hangs below it comes next.
    let index = at.children!.indexAfter(first, recursive)
    if (start !== '') index = Math.max(index, at.children!.indexAfter(start, true))
    for (; index < slots.length; index++) {
      const slot = slots[index]!
      if (isInside ? slot.name !== start : !slot.name.startsWith(start)) return
      const node = slot.isGone ? undefined : nodeAt(slot, revision)
      if (node === undefined) continue
      const mask = rightsAt(node, principal, owner)
      if ((mask & seeBits) === 0) continue // L2
      const name = above + slot.name
      const isBegun = recursive && slot.name === first
      if (!isInside && !isBegun) yield { node, name }
      if (!recursive || node.kind !== 'directory' || (mask & listBit) === 0) continue
      yield* walk(node, `${name}/`, isBegun ? rest : [], isInside ? wanted.slice(slash + 1) : '', true)
    }
  }
}

export function encodeCursor(cursor: Cursor): string {
  return Buffer.from(JSON.stringify([cursor.revision, cursor.after])).toString('base64url')
}

/** @throws NineError `invalid` for what encodeCursor did not make */
export function decodeCursor(text: string, op: string, path: string): Cursor {
  try {
    const [revision, after] = JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown[]
    if (Number.isSafeInteger(revision) && typeof after === 'string') return { revision: revision as number, after }
  } catch {
    // Answered below, like every other text that is no cursor.
  }
  throw new NineError({ kind: 'invalid', op, path, message: 'this is no cursor of a list' })
}

function bounded(asked: number | undefined, byDefault: number, max: number, what: string): number {
  if (asked === undefined) return byDefault
  if (Number.isSafeInteger(asked) && asked > 0) return Math.min(asked, max)
  throw new NineError({ kind: 'invalid', op: 'memory.list', message: `${what} is a whole number from 1` })
}
