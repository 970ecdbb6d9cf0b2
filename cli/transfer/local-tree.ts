/**
 * A folder of this machine as a stream of entries in the order in which a recursive list gives them: pre-order, names by
 * code point. Symbolic links are entries, never followed. Constant memory but for the names of the folders on the way.
 */
import { lstat, readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
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

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export async function* localTree(root: string, onUnfit: (unfit: Unfit) => void, below = ''): AsyncGenerator<TreeEntry, void> {
  const folder = below === '' ? root : join(root, below)
  const names: string[] = []
  for (const raw of await readdir(folder, { encoding: 'buffer' })) {
    try {
      names.push(utf8.decode(raw))
    } catch {
      onUnfit({ path: join(below, raw.toString('latin1')), why: 'its name is not UTF-8' })
    }
  }
  names.sort(compareNames)
  for (const name of names) {
    const path = below === '' ? name : `${below}/${name}`
    const entry = await localEntry(root, path)
    if (entry === undefined) onUnfit({ path, why: 'it is neither a file, a directory nor a symbolic link' })
    else {
      yield entry
      if (entry.kind === 'directory') yield* localTree(root, onUnfit, path)
    }
  }
}

/** One entry, or undefined for sockets, pipes and devices. */
async function localEntry(root: string, path: string): Promise<TreeEntry | undefined> {
  const full = join(root, path)
  const stat = await lstat(full, { bigint: true })
  const kind = stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : undefined
  if (kind === undefined) return undefined
  return {
    path,
    kind,
    size: kind === 'directory' ? 0 : Number(stat.size),
    mode: Number(stat.mode) & 0o7777,
    modifiedAt: Number(stat.mtimeNs / 1000n),
    target: kind === 'symlink' ? await readlink(full) : undefined,
  }
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
