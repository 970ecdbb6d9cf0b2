/** Finding entries of a table: by path, and in order for listings. */
import type { Context } from '../context.ts'
import { NineError } from '../errors.ts'
import { limits } from '../limits.ts'
import { compareNames, joinName, parseName, pathComponents, rootPath } from '../path.ts'
import type { Path } from '../path.ts'
import { directory, entryOf, isGenerated } from './entries.ts'
import type { DirectoryEntry, Entry, Table } from './entries.ts'
import { run } from './run.ts'

export interface Found {
  readonly entry: Entry
  readonly path: Path
  readonly params: readonly string[]
}

export type FoundDirectory = Found & { readonly entry: DirectoryEntry }

/** @throws NineError `not_found`, `not_directory`, and what a lookup throws; with `path` */
export async function findEntry(context: Context, table: Table, path: Path, verb: string): Promise<Found> {
  let found: Found = { entry: directory(table), path: rootPath, params: [] }
  for (const name of pathComponents(path)) {
    if (!isDirectory(found)) {
      throw new NineError({ kind: 'not_directory', op: `serve.${verb}`, path, message: `${found.path} is no directory` })
    }
    const child = childOf(context, found, name, verb)
    const next = child instanceof Promise ? await child.catch((error: NineError) => Promise.reject(error.at(path))) : child
    if (next === undefined) {
      throw new NineError({ kind: 'not_found', op: `serve.${verb}`, path, message: `there is no ${joinName(found.path, name)}` })
    }
    found = next
  }
  return found
}

export function isDirectory(found: Found): found is FoundDirectory {
  return found.entry.kind === 'directory'
}

/**
 * The children of a directory by name, in order, after `after`, or from it when `inclusive`. Generated names that are no
 * names of files are left out.
 * @throws NineError `too_large`, and what the function throws
 */
export async function childrenOf(
  context: Context,
  found: FoundDirectory,
  after: string,
  inclusive: boolean,
  verb: string,
): Promise<string[]> {
  const { children } = found.entry
  const names = isGenerated(children)
    ? await run(context, verb, found, async (call) => takeNames(await children.list(call), found.path, verb))
    : Object.keys(children)
  const wanted = names.filter((name) => isName(name) && (inclusive ? compareNames(name, after) >= 0 : compareNames(name, after) > 0))
  return [...new Set(wanted)].sort(compareNames)
}

function takeNames(given: Iterable<string>, path: Path, verb: string): string[] {
  const names: string[] = []
  for (const name of given) {
    if (names.length >= limits.served_names_max) {
      const message = `a generated directory has at most ${limits.served_names_max} names`
      throw new NineError({ kind: 'too_large', op: `serve.${verb}`, path, message })
    }
    names.push(name)
  }
  return names
}

/** At once for a fixed table; a promise where a function is asked. */
export function childOf(
  context: Context,
  found: FoundDirectory,
  name: string,
  verb: string,
): Found | undefined | Promise<Found | undefined> {
  const { children } = found.entry
  const path = joinName(found.path, name)
  if (!isGenerated(children)) {
    const child = Object.hasOwn(children, name) ? children[name] : undefined
    return child === undefined ? undefined : { entry: entryOf(child), path, params: found.params }
  }
  return lookup(context, found, children, { path, params: [...found.params, name] }, name, verb)
}

async function lookup(
  context: Context,
  found: Found,
  children: Extract<DirectoryEntry['children'], { lookup: unknown }>,
  place: { readonly path: Path; readonly params: readonly string[] },
  name: string,
  verb: string,
): Promise<Found | undefined> {
  const child = await run(context, verb, { path: place.path, params: found.params }, (call) => children.lookup(call, name))
  return child === undefined ? undefined : { entry: entryOf(child), ...place }
}

function isName(name: string): boolean {
  try {
    return parseName(name) === name
  } catch {
    return false
  }
}

/** @throws NineError `invalid` for a name in a fixed table that no path can lead to */
export function checkTable(table: Table, at: Path = rootPath): void {
  for (const [name, child] of Object.entries(table)) {
    parseName(name, 'serve.table')
    const entry = entryOf(child)
    if (entry.kind === 'directory' && !isGenerated(entry.children)) checkTable(entry.children, joinName(at, name))
  }
}
