/**
 * Pages of a table's directory. A page goes on behind the last name of the one before; what functions list may have changed
 * in between, because such a server keeps no revisions.
 */
import type { Context } from '../context.ts'
import { NineError } from '../errors.ts'
import type { ListOptions } from '../file-server.ts'
import { limits } from '../limits.ts'
import type { Stat } from '../stat.ts'
import { childOf, childrenOf, isDirectory } from './walk-table.ts'
import type { Found, FoundDirectory } from './walk-table.ts'

/** What an entry of a page costs besides its name. */
const entry_bytes = 128

/** @throws NineError `invalid`, and what the functions throw */
export async function listTable(
  context: Context,
  directory: FoundDirectory,
  options: ListOptions,
  statOf: (child: Found, name: string) => Stat,
): Promise<{ readonly entries: Stat[]; readonly next: string | undefined }> {
  const limit = bounded(options.limit, limits.list_page_entries_default, limits.list_page_entries_max, directory)
  const maxBytes = bounded(options.maxBytes, limits.list_page_bytes_max, limits.list_page_bytes_max, directory)
  const recursive = options.recursive === true
  const after = options.cursor ?? options.after ?? ''
  const walk = below(context, directory, '', recursive ? after.split('/') : [after], options.prefix ?? '', recursive)
  const entries: Stat[] = []
  let bytes = 0
  for await (const { child, name } of walk) {
    const size = entry_bytes + 3 * name.length
    if (entries.length === limit || (bytes + size > maxBytes && entries.length > 0)) return { entries, next: entries.at(-1)!.name }
    entries.push(statOf(child, name))
    bytes += size
  }
  return { entries, next: undefined }
}

async function* below(
  context: Context,
  directory: FoundDirectory,
  above: string,
  behind: readonly string[],
  prefix: string,
  recursive: boolean,
): AsyncGenerator<{ child: Found; name: string }, void> {
  // A directory that makes itself again below itself ends where paths end.
  if (Buffer.byteLength(directory.path) + 2 > limits.path_bytes_max) return
  const [first = '', ...rest] = behind
  for (const own of await childrenOf(context, directory, first, recursive && first !== '', 'list')) {
    const name = above + own
    const isMatch = name.startsWith(prefix)
    if (!isMatch && !(recursive && prefix.startsWith(`${name}/`))) continue
    const child = await childOf(context, directory, own, 'list')
    if (child === undefined) continue
    // What was listed last is entered again: what hangs below it comes next.
    const isBegun = recursive && own === first
    if (isMatch && !isBegun) yield { child, name }
    if (recursive && isDirectory(child)) yield* below(context, child, `${name}/`, isBegun ? rest : [], prefix, true)
  }
}

function bounded(asked: number | undefined, byDefault: number, max: number, { path }: Found): number {
  if (asked === undefined) return byDefault
  if (Number.isSafeInteger(asked) && asked > 0) return Math.min(asked, max)
  throw new NineError({ kind: 'invalid', op: 'serve.list', path, message: 'limit and maxBytes are whole numbers from 1' })
}
