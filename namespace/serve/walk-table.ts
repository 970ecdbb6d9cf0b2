/** Finding entries of a table: by path, and in order for listings. */
import type { Context } from '../context.ts'
import { NineError } from '../errors.ts'
import { compareNames, joinName, pathComponents, rootPath } from '../path.ts'
import type { Path } from '../path.ts'
import { directory, isGenerated } from './entries.ts'
import type { DirectoryEntry, Entry, Table } from './entries.ts'
import { callOf, runFor } from './run.ts'

export interface Found {
  readonly entry: Entry
  readonly path: Path
  readonly params: readonly string[]
}

/** @throws NineError `not_found`, `not_directory` */
export async function findEntry(context: Context, table: Table, path: Path, verb: string): Promise<Found> {
  let found: Found = { entry: directory(table), path: rootPath, params: [] }
  for (const name of pathComponents(path)) {
    if (found.entry.kind !== 'directory')
      throw new NineError({ kind: 'not_directory', op: `serve.${verb}`, path, message: `${found.path} is no directory` })
    const child = await childOf(context, found as Found & { entry: DirectoryEntry }, name, verb)
    if (child === undefined)
      throw new NineError({ kind: 'not_found', op: `serve.${verb}`, path, message: `there is no ${joinName(found.path, name)}` })
    found = child
  }
  return found
}

/** The children of a directory by name, after `after`. Generated names that are no names of files are left out. */
export async function childrenOf(
  context: Context,
  found: Found & { entry: DirectoryEntry },
  after: string,
  verb: string,
): Promise<string[]> {
  const { children } = found.entry
  const names = isGenerated(children)
    ? await runFor(verb, found.path, callOf(context, found.path, found.params).signal, async () => [
        ...(await children.list(callOf(context, found.path, found.params))),
      ])
    : Object.keys(children)
  return names.filter((name) => isName(name) && compareNames(name, after) > 0).sort(compareNames)
}

export async function childOf(
  context: Context,
  found: Found & { entry: DirectoryEntry },
  name: string,
  verb: string,
): Promise<Found | undefined> {
  const { children } = found.entry
  const path = joinName(found.path, name)
  if (!isGenerated(children)) {
    const entry = Object.hasOwn(children, name) ? children[name] : undefined
    return entry === undefined ? undefined : { entry, path, params: found.params }
  }
  const call = callOf(context, path, found.params)
  const entry = await runFor(verb, path, call.signal, () => children.lookup(call, name))
  return entry === undefined ? undefined : { entry, path, params: [...found.params, name] }
}

function isName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0') && Buffer.byteLength(name) <= 255
}
