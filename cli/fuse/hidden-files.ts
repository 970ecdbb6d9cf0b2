/**
 * Open files that lost their name.
 *
 * libfuse 2 has no operation on a file without a path, so it renames what is removed while it is open to `.fuse_hidden…`, and does the same
 * to an open file that a rename is about to replace, just before that rename. Our handles follow their file without a name, so no
 * such name ever reaches the node:
 *
 * U1 A removed file is removed at the node, and what is open of it goes on by its handle.
 * U2 A file that is replaced is replaced at the node by the rename itself, in one change. Which of both it is shows only in what
 *    follows, so a removal waits limits.fuse_unlink_ms for a rename; whatever could tell the difference through this mount waits as long,
 *    and never sees the name missing in between.
 * U3 Only the file that was removed is: not another one that took its name meanwhile. A server without versions (9P) is looked at just
 *    before; what it refuses shows only afterwards, since it tells no rights either.
 */
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { baseName, isWithin, parentPath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'

interface Removal {
  readonly identity: number
  timer: NodeJS.Timeout | undefined
  done: Promise<void> | undefined
  /** Resolves when it is done, or no longer needed. */
  readonly over: Promise<void>
  readonly end: () => void
}

/** As libfuse 2 makes them: a node's number and a count, in hexadecimal. */
const hidden_name = /^\.fuse_hidden[0-9a-f]{16}$/

export function isHiddenName(path: Path): boolean {
  return hidden_name.test(baseName(path))
}

export class HiddenFiles {
  readonly #server: FileServer
  readonly #context: () => Context
  readonly #onFailure: (path: Path, error: unknown) => void
  readonly #removals = new Map<Path, Removal>()

  /** @param onFailure of a removal that was answered before it failed */
  constructor(server: FileServer, context: () => Context, onFailure: (path: Path, error: unknown) => void) {
    this.#server = server
    this.#context = context
    this.#onFailure = onFailure
  }

  /** The open file at `path` is to go. @throws NineError `denied` when it may not, `not_found` */
  async hide(path: Path): Promise<void> {
    const context = this.#context()
    const rights = this.#server.getRights(context, path).catch((error: unknown) => {
      if (isNineError(error, 'unsupported')) return undefined
      throw error
    })
    const [{ stat }, known] = await Promise.all([this.#server.stat(context, path), rights])
    if (known?.mine.includes('remove') === false)
      throw new NineError({ kind: 'denied', op: 'fuse.unlink', path, message: `${path} may not be removed` })
    let end = (): void => undefined
    const over = new Promise<void>((resolve) => (end = resolve))
    const removal: Removal = { identity: stat.qid.path, timer: undefined, done: undefined, over, end }
    removal.timer = setTimeout(() => void this.#begin(path, removal), limits.fuse_unlink_ms) // U2
    this.#removals.set(path, removal)
  }

  /** A rename is about to replace `path`: its removal is no longer needed, unless it has begun. */ // U2
  async replaced(path: Path): Promise<void> {
    const removal = this.#removals.get(path)
    if (removal === undefined) return
    if (removal.done !== undefined) return removal.done
    clearTimeout(removal.timer)
    this.#removals.delete(path)
    removal.end()
  }

  /** Removals that whoever looks at `path`, or lists it, could miss are done, or were no removals. */ // U2
  async settled(path: Path): Promise<void> {
    if (this.#removals.size === 0) return
    const ours = [...this.#removals].filter(([removed]) => removed === path || parentPath(removed) === path)
    await Promise.all(ours.map(([, removal]) => removal.over))
  }

  /** Those at and below `path` are done, now. */
  async settledBelow(path: Path): Promise<void> {
    const ours = [...this.#removals].filter(([removed]) => isWithin(removed, path))
    await Promise.all(ours.map(([removed, removal]) => this.#begin(removed, removal)))
  }

  #begin(path: Path, removal: Removal): Promise<void> {
    clearTimeout(removal.timer)
    removal.done ??= this.#remove(path, removal.identity)
      .catch((error: unknown) => this.#onFailure(path, error))
      .finally(() => {
        if (this.#removals.get(path) === removal) this.#removals.delete(path)
        removal.end()
      })
    return removal.done
  }

  /** U3 */
  async #remove(path: Path, identity: number): Promise<void> {
    const context = this.#context()
    for (let hasVersions = true; ;) {
      try {
        const { stat } = await this.#server.stat(context, path)
        if (stat.qid.path !== identity) return
        await this.#server.remove(context, path, hasVersions ? { ifMatch: { path: identity, version: stat.version } } : {})
        return
      } catch (error) {
        if (isNineError(error, 'not_found')) return
        if (hasVersions && isNineError(error, 'unsupported')) hasVersions = false
        // Somebody wrote to it between the two.
        else if (!isNineError(error, 'conflict')) throw error
      }
    }
  }
}
