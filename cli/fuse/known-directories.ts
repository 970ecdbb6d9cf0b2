/**
 * Directories seen lately. The kernel asks for every directory of a path each time it is used, and a directory here does not change when its
 * children do, so its stat may be limits.fuse_directory_ms old. Files are never remembered.
 */
import { limits } from '../../namespace/limits.ts'
import { isWithin } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Stat } from '../../namespace/stat.ts'

export class KnownDirectories {
  readonly #seen = new Map<Path, { readonly stat: Stat; readonly until: number }>()

  get(path: Path): Stat | undefined {
    const known = this.#seen.get(path)
    if (known === undefined) return undefined
    if (known.until > performance.now()) return known.stat
    this.#seen.delete(path)
    return undefined
  }

  saw(path: Path, stat: Stat): void {
    if (stat.kind !== 'directory') return
    if (this.#seen.size >= limits.fuse_directories_max) this.#seen.clear()
    this.#seen.set(path, { stat, until: performance.now() + limits.fuse_directory_ms })
  }

  /** Something at or below `path` is changed through this mount. */
  forget(path: Path): void {
    for (const seen of this.#seen.keys()) if (isWithin(seen, path)) this.#seen.delete(seen)
  }
}
