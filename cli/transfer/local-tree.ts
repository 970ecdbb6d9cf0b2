/**
 * A folder of this machine as a stream of entries in the order in which a recursive list gives them: pre-order, names by
 * code point. Symbolic links are entries, never followed. Constant memory but for the names of the folders on the way.
 */
import type { Stats } from 'node:fs'
import { lstat, readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { NineError } from '../../namespace/errors.ts'
import { compareNames } from '../../namespace/path.ts'
import type { Micros } from '../../namespace/stat.ts'

export interface TreeEntry {
  /** Relative, '/'-separated, never empty. */
  readonly path: string
  readonly kind: 'file' | 'directory' | 'symlink'
  readonly size: number
  /** Permission bits. */
  readonly mode: number
  readonly modifiedAt: Micros
  readonly target?: string | undefined
}

/** Something that cannot be carried: its path as far as it can be shown, and why. */
export interface Unfit {
  readonly path: string
  readonly why: string
}

/** @param found what stands at `dir`  @throws NineError `not_found`, `not_directory` */
export async function localFolder(found: Promise<Stats>, dir: string): Promise<Stats> {
  const op = 'cli.transfer'
  const stat = await found.catch((cause: unknown) => {
    throw new NineError({ kind: 'not_found', op, path: dir, message: `no such folder: ${dir}`, cause })
  })
  if (!stat.isDirectory()) throw new NineError({ kind: 'not_directory', op, path: dir, message: `${dir} is no folder` })
  return stat
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export async function* localTree(root: string, onUnfit: (unfit: Unfit) => void, below = ''): AsyncGenerator<TreeEntry, void> {
  const folder = below === '' ? root : join(root, below)
  const names: string[] = []
  for (const raw of await readdir(folder, { encoding: 'buffer' })) {
    const name = decoded(raw)
    if (name === undefined) onUnfit({ path: join(below, raw.toString('latin1')), why: 'its name is not UTF-8' })
    else names.push(name)
  }
  names.sort(compareNames)
  for (const name of names) {
    const path = below === '' ? name : `${below}/${name}`
    const entry = await localEntry(root, path, onUnfit)
    if (entry === undefined) continue
    yield entry
    if (entry.kind === 'directory') yield* localTree(root, onUnfit, path)
  }
}

/** One entry, or undefined when it cannot be carried, which is told. */
async function localEntry(root: string, path: string, onUnfit: (unfit: Unfit) => void): Promise<TreeEntry | undefined> {
  const full = join(root, path)
  const stat = await lstat(full, { bigint: true })
  const kind = stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : undefined
  if (kind === undefined) {
    onUnfit({ path, why: 'it is neither a file, a directory nor a symbolic link' })
    return undefined
  }
  const target = kind === 'symlink' ? decoded(await readlink(full, { encoding: 'buffer' })) : undefined
  if (kind === 'symlink' && target === undefined) {
    onUnfit({ path, why: 'its target is not UTF-8' })
    return undefined
  }
  const modifiedAt = carriedTime(stat.mtimeNs / 1000n)
  if (modifiedAt !== stat.mtimeNs / 1000n)
    onUnfit({ path, why: `its time, which no stat of the namespace can hold, for ${dayOf(modifiedAt)}` })
  return {
    path,
    kind,
    size: kind === 'directory' ? 0 : Number(stat.size),
    mode: Number(stat.mode) & 0o7777,
    modifiedAt: Number(modifiedAt),
    target,
  }
}

function decoded(raw: Uint8Array): string | undefined {
  try {
    return utf8.decode(raw)
  } catch {
    return undefined
  }
}

/** Times are microseconds from 1970 that a number holds exactly: up to the year 2255. */
function carriedTime(micros: bigint): bigint {
  const last = BigInt(Number.MAX_SAFE_INTEGER)
  return micros < 0n ? 0n : micros > last ? last : micros
}

function dayOf(micros: bigint): string {
  return new Date(Number(micros / 1000n)).toISOString().slice(0, 10)
}

/** Order of relative paths in a pre-order walk: component by component. */
export function compareTreePaths(a: string, b: string): number {
  const left = a.split('/')
  const right = b.split('/')
  for (let i = 0; i < left.length && i < right.length; i++) {
    const order = compareNames(left[i]!, right[i]!)
    if (order !== 0) return order
  }
  return left.length - right.length
}
