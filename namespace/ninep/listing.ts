/**
 * Listings of a 9P server's directories.
 *
 * S1 A server lists in its own order, so a directory's names are read as a whole and sorted; they are kept for the pages that follow.
 * S2 What is kept is bounded, over all listings: a page whose names are no longer kept reads them again and goes on after the last name
 *    that was shown. So does a page that is asked for twice.
 * S3 Stats are those of the moment a page is made: what was removed since its name was read is left out.
 */
import { isNineError, NineError } from '../errors.ts'
import type { ListOptions } from '../file-server.ts'
import { limits } from '../limits.ts'
import { compareNames } from '../path.ts'
import type { Stat } from '../stat.ts'
import { isName } from './changes.ts'
import { pageLimit } from './checks.ts'
import { isDirectory } from './operation.ts'
import type { Operation, Walked } from './operation.ts'
import type { Listed, Tree } from './tree.ts'

export interface Page {
  readonly entries: Stat[]
  readonly next: string | undefined
}

/** What a Stat takes encoded, besides its texts. */
const stat_bytes = 128
/** Entries of a page that are asked for at once. */
const stats_max = 64

/** Names of the directories of one listing, by their path below it. */
type Snapshot = Map<string, readonly Listed[]>

interface Cursor {
  readonly snapshot: number
  readonly path: string
  readonly after: string
}

/** A name of a listing, in order, with its stat as of now: undefined where it is gone. */
interface Found {
  readonly relative: string
  readonly stat: Promise<Stat | undefined>
}

/** How far a directory is into the listing. */
interface Descent {
  /** Its path below the listed directory, with a slash behind; '' for that one. */
  readonly above: string
  /** The parts of the path that was shown last, seen from here. */
  readonly behind: readonly string[]
  readonly prefix: string
  readonly recursive: boolean
}

export class Listings {
  /** By cursor and directory. */
  readonly #snapshots = new Map<string, Snapshot>()
  #names = 0
  #next = 1

  async page(o: Operation, tree: Tree, options: ListOptions): Promise<Page> {
    const { limit: asked, maxBytes: bytes, recursive = false, prefix = '' } = options
    const limit = pageLimit(o, asked, limits.list_page_entries_default, limits.list_page_entries_max)
    const bytes_max = pageLimit(o, bytes, limits.list_page_bytes_max, limits.list_page_bytes_max)
    const cursor = options.cursor === undefined ? undefined : decodeCursor(o, options.cursor)
    const id = cursor === undefined ? this.#next++ : cursor.snapshot
    const after = cursor?.after ?? options.after ?? ''
    const key = `${id} ${o.path}`
    const descent = { above: '', behind: recursive ? after.split('/') : [after], prefix, recursive }
    return o.with(o.walk(), async (directory) => {
      const below = this.#below(o, tree, key, directory, descent)
      try {
        return await this.#collect(o, below, { key, id, limit, bytes_max })
      } finally {
        await below.return(undefined)
      }
    })
  }

  async #collect(
    o: Operation,
    below: AsyncGenerator<Found>,
    page: { key: string; id: number; limit: number; bytes_max: number },
  ): Promise<Page> {
    const { key, id, limit, bytes_max } = page
    const entries: Stat[] = []
    let size = 0
    for (let isDone = false; !isDone;) {
      const batch: Found[] = []
      // One more than fits tells whether there is another page.
      const room = Math.max(1, Math.min(stats_max, limit + 1 - entries.length, Math.floor((bytes_max - size) / stat_bytes) + 1))
      while (batch.length < room && !isDone) {
        const found = await below.next()
        if (found.done === true) isDone = true
        else batch.push(found.value)
      }
      for (const { stat: asked } of batch) {
        const stat = await asked
        if (stat === undefined) continue // S3
        const { name, target = '', owner, group, modifiedBy } = stat
        const more = stat_bytes + 3 * (name.length + target.length) + owner.length + group.length + modifiedBy.length
        if (entries.length === limit || (size + more > bytes_max && entries.length > 0)) {
          return { entries, next: encodeCursor({ snapshot: id, path: o.path, after: entries.at(-1)!.name }) }
        }
        entries.push(stat)
        size += more
      }
    }
    this.#forget(key)
    return { entries, next: undefined }
  }

  /** Names behind `behind`, in pre-order. */
  async *#below(o: Operation, tree: Tree, key: string, directory: Walked, descent: Descent): AsyncGenerator<Found> {
    const { above, behind, prefix, recursive } = descent
    const [first = '', ...rest] = behind
    const slash = recursive ? prefix.indexOf('/') : -1
    const isInside = slash >= 0
    const start = isInside ? prefix.slice(0, slash) : prefix
    for (const listed of await this.#namesOf(o, tree, key, above, directory)) {
      const { name } = listed
      const order = compareNames(name, first)
      const isBegun = recursive && first !== '' && order === 0
      if (first !== '' && order <= 0 && !isBegun) continue
      if (isInside ? name !== start : !name.startsWith(start)) continue
      const relative = above + name
      if (!isInside && !isBegun) yield { relative, stat: statOf(o, tree, directory, listed, relative) }
      if (!recursive || !isDirectory(listed.qid)) continue
      if (Buffer.byteLength(relative) > limits.path_bytes_max) throw o.error('loop', 'the directories of the server have no end')
      const inner = await ifThere(o.walkFrom(directory.fid, directory.qid, [name]))
      if (inner === undefined) continue // S3
      try {
        const innerPrefix = isInside ? prefix.slice(slash + 1) : ''
        yield* this.#below(o, tree, key, inner, { above: `${relative}/`, behind: isBegun ? rest : [], prefix: innerPrefix, recursive })
      } finally {
        inner.fid.release()
      }
    }
  }

  /** S1, S2 */
  async #namesOf(o: Operation, tree: Tree, key: string, above: string, directory: Walked): Promise<readonly Listed[]> {
    const known = this.#snapshots.get(key)?.get(above)
    if (known !== undefined) return known
    if (!isDirectory(directory.qid)) {
      if (above === '') throw o.error('not_directory', 'it is no directory')
      return [] // S3
    }
    const reading = o.with(o.walkFrom(directory.fid, directory.qid, []), ({ fid }) => tree.names(o, fid))
    const listed = (await (above === '' ? reading : ifThere(reading))) ?? []
    const sorted = listed
      .filter(({ name }) => isName(name))
      .sort((a, b) => compareNames(a.name, b.name))
      .filter(({ name }, index, all) => name !== all[index - 1]?.name)
    this.#keep(key, above, sorted)
    return sorted
  }

  #keep(key: string, above: string, listed: readonly Listed[]): void {
    const snapshot: Snapshot = this.#snapshots.get(key) ?? new Map<string, readonly Listed[]>()
    this.#snapshots.delete(key)
    this.#snapshots.set(key, snapshot)
    this.#names += listed.length - (snapshot.get(above)?.length ?? 0)
    snapshot.set(above, listed)
    for (const oldest of this.#snapshots.keys()) {
      if (this.#names <= limits.ninep_client_names_kept_max && this.#snapshots.size <= limits.ninep_client_listings_max) return
      this.#forget(oldest)
    }
  }

  #forget(key: string): void {
    const snapshot = this.#snapshots.get(key)
    if (snapshot === undefined) return
    for (const listed of snapshot.values()) this.#names -= listed.length
    this.#snapshots.delete(key)
  }
}

/** S3 */
function statOf(o: Operation, tree: Tree, directory: Walked, listed: Listed, relative: string): Promise<Stat | undefined> {
  if (listed.stat !== undefined) return Promise.resolve({ ...listed.stat, name: relative })
  const asked = o.with(o.walkFrom(directory.fid, directory.qid, [listed.name]), ({ fid }) => tree.stat(o, fid, relative))
  const stat = ifThere(asked)
  // Whoever waits for it is told; the page may have failed before.
  stat.catch(() => undefined)
  return stat
}

/** What is gone, or no directory any more, is undefined. S3 */
async function ifThere<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked
  } catch (error) {
    if (isNineError(error, 'not_found') || isNineError(error, 'not_directory')) return undefined
    throw error
  }
}

function encodeCursor({ snapshot, path, after }: Cursor): string {
  return Buffer.from(JSON.stringify([snapshot, path, after])).toString('base64url')
}

/** @throws NineError `invalid` for what encodeCursor did not make for this directory */
function decodeCursor(o: Operation, text: string): Cursor {
  try {
    const [snapshot, path, after] = JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown[]
    if (Number.isSafeInteger(snapshot) && path === o.path && typeof after === 'string') {
      return { snapshot: snapshot as number, path: o.path, after }
    }
  } catch {
    // Answered below, like every other text that is no cursor.
  }
  throw new NineError({ kind: 'invalid', op: o.op, path: o.path, message: 'this is no cursor of this list' })
}
