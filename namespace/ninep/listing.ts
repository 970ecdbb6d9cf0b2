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
import { compareNames, joinPath } from '../path.ts'
import type { Path } from '../path.ts'
import type { Stat } from '../stat.ts'
import { isName } from './changes.ts'
import { pageLimit } from './checks.ts'
import { isDirectory } from './operation.ts'
import type { Operation } from './operation.ts'
import type { Listed, Tree } from './tree.ts'
import { forAll } from './turns.ts'

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

/** A name of a listing, in order, with the directory it stands in. */
interface Found {
  readonly relative: string
  readonly listed: Listed
}

export class Listings {
  /** By cursor and directory. */
  readonly #snapshots = new Map<string, Snapshot>()
  #names = 0
  #next = 1

  /** Names that are kept. */
  get names(): number {
    return this.#names
  }

  async page(o: Operation, tree: Tree, options: ListOptions): Promise<Page> {
    const { limit: asked, maxBytes: bytes, recursive = false, prefix = '' } = options
    const limit = pageLimit(o, asked, limits.list_page_entries_default, limits.list_page_entries_max)
    const bytes_max = pageLimit(o, bytes, limits.list_page_bytes_max, limits.list_page_bytes_max)
    const cursor = options.cursor === undefined ? undefined : decodeCursor(o, options.cursor)
    const id = cursor === undefined ? this.#next++ : cursor.snapshot
    const after = cursor?.after ?? options.after ?? ''
    const key = `${id} ${o.path}`
    const below = this.#below(o, tree, key, recursive ? after.split('/') : [after], prefix, recursive)
    const entries: Stat[] = []
    let size = 0
    for (let isDone = false; !isDone;) {
      const batch: Found[] = []
      // One more than fits tells whether there is another page.
      const room = Math.min(stats_max, limit + 1 - entries.length, Math.floor((bytes_max - size) / stat_bytes) + 1)
      while (batch.length < room && !isDone) {
        const found = await below.next()
        if (found.done === true) isDone = true
        else batch.push(found.value)
      }
      for (const stat of await this.#stats(o, tree, batch)) {
        const more = stat_bytes + 3 * stat.name.length + stat.owner.length + stat.group.length
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

  /** Names behind `behind`, the parts of the path that was shown last, in pre-order. */
  async *#below(
    o: Operation,
    tree: Tree,
    key: string,
    behind: readonly string[],
    prefix: string,
    recursive: boolean,
    above = '',
  ): AsyncGenerator<Found> {
    const [first = '', ...rest] = behind
    const slash = recursive ? prefix.indexOf('/') : -1
    const isInside = slash >= 0
    const start = isInside ? prefix.slice(0, slash) : prefix
    for (const listed of await this.#namesOf(o, tree, key, above)) {
      const { name } = listed
      const order = compareNames(name, first)
      const isBegun = recursive && first !== '' && order === 0
      if (first !== '' && order <= 0 && !isBegun) continue
      if (isInside ? name !== start : !name.startsWith(start)) continue
      const relative = above + name
      if (!isInside && !isBegun) yield { relative, listed }
      if (!recursive || !isDirectory(listed.qid)) continue
      if (Buffer.byteLength(relative) > limits.path_bytes_max) throw o.error('loop', 'the directories of the server have no end')
      yield* this.#below(o, tree, key, isBegun ? rest : [], isInside ? prefix.slice(slash + 1) : '', true, `${relative}/`)
    }
  }

  /** S1, S2 */
  async #namesOf(o: Operation, tree: Tree, key: string, above: string): Promise<readonly Listed[]> {
    const known = this.#snapshots.get(key)?.get(above)
    if (known !== undefined) return known
    const path = above === '' ? o.path : joinPath(o.path, `/${above.slice(0, -1)}` as Path)
    let listed: readonly Listed[]
    try {
      listed = await o.with(o.walk(path), async ({ fid, qid }) => {
        if (!isDirectory(qid)) throw o.error('not_directory', 'it is no directory')
        return tree.names(o, fid)
      })
    } catch (error) {
      if (above === '' || !(isNineError(error, 'not_found') || isNineError(error, 'not_directory'))) throw error
      listed = [] // S3
    }
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

  /** S3 */
  async #stats(o: Operation, tree: Tree, batch: readonly Found[]): Promise<Stat[]> {
    const stats = new Array<Stat | undefined>(batch.length)
    await forAll(batch, stats_max, async ({ relative, listed }, index) => {
      if (listed.stat !== undefined) {
        stats[index] = { ...listed.stat, name: relative }
        return
      }
      try {
        stats[index] = await o.with(o.walk(joinPath(o.path, `/${relative}` as Path)), ({ fid }) => tree.stat(o, fid, relative))
      } catch (error) {
        if (!isNineError(error, 'not_found') && !isNineError(error, 'not_directory')) throw error
      }
    })
    return stats.filter((stat) => stat !== undefined)
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
