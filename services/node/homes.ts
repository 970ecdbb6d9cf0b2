/**
 * /usr: one directory a principal, its own, with its saved namespace file in it.
 *
 * U1 A home appears with the rights of its principal, whatever happens while it is made: it is made under a name that no principal
 *    has and no other node uses, and moved. Of two nodes that make it at once, one moves it in place. One that was removed is made again.
 * U2 Nothing that stands where the namespace file belongs keeps its principal out: what is no file is told, and left alone.
 * U3 Nor do nodes that are out of reach: where the newest state cannot be had in time, this node's own copy is what counts, so that
 *    whoever asks what is wrong with a cluster can be answered by what is left of it.
 */
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { ErrorKind } from '../../namespace/errors.ts'
import type { FileServer, IfMatch, ReadOptions } from '../../namespace/file-server.ts'
import { parseNamespaceFile, printNamespaceFile } from '../../namespace/namespace-file.ts'
import { joinName, rootPath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { allRights } from '../../namespace/rights.ts'
import type { Principal } from '../../namespace/rights.ts'

const saves_max = 5

/** So long a session waits for the other nodes before it begins with what this one has, and so long later ones do not wait again. */
const newest_ms = 1_000
const unreached_ms = 2_000

/** The text of a namespace file and the version it is. */
export interface SavedNamespace {
  readonly text: string
  /** Equal for equal texts; for caches. */
  readonly version: string
  /** Why there is no text, where what stands in the file's place cannot be read. */
  readonly problem?: string | undefined
}

export class Homes {
  readonly #store: FileServer
  readonly #owner: Principal
  readonly #node: string
  /** Homes that are being made, by principal. */
  readonly #making = new Map<string, Promise<void>>()
  /** Until then, on the monotonic clock in ms, this node's copy is read at once. */ // U3
  #unreachedUntil = 0

  /**
   * @param store mounted at /usr
   * @param node name of this one of the nodes that share the store
   */
  constructor(store: FileServer, owner: Principal, node: string) {
    this.#store = store
    this.#owner = owner
    this.#node = node
  }

  /** The home of a principal is there, and its own. */
  async prepare(principal: Principal): Promise<void> {
    const { name } = principal
    try {
      await this.#reached((context, options) => this.#store.stat(context, joinName(rootPath, name), options))
      return
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error
    }
    let making = this.#making.get(name)
    if (making === undefined) {
      making = this.#make(principal).finally(() => this.#making.delete(name))
      this.#making.set(name, making)
    }
    return making
  }

  /** The principal's namespace file; empty when there is none. */
  async saved(principal: Principal): Promise<SavedNamespace> {
    try {
      const found = await this.#reached((context, options) => this.#read(context, fileOf(principal), options))
      return { text: found?.text ?? '', version: found === undefined ? 'none' : `${found.path}.${found.version}` }
    } catch (error) {
      if (!isNineError(error) || !misplacedKinds.includes(error.kind)) throw error
      return { text: '', version: error.kind, problem: `the namespace file is none: ${error.message}` } // U2
    }
  }

  /**
   * Add a line to the file; an unmount takes away the lines of what it undoes instead.
   * @throws NineError `invalid` for no such line, `conflict` when others keep changing the file
   */
  async save(principal: Principal, line: string): Promise<void> {
    const [added] = parseNamespaceFile(line)
    if (added === undefined) throw new NineError({ kind: 'invalid', op: 'node.save', message: 'no line of a namespace file' })
    const context = contextFor(principal)
    const path = fileOf(principal)
    for (let attempt = 1; ; attempt++) {
      const found = await this.#read(context, path)
      const lines = parseNamespaceFile(found?.text ?? '')
      const kept = added.verb === 'unmount' ? lines.filter((known) => known.at !== added.at) : lines
      const text = printNamespaceFile(added.verb === 'unmount' && kept.length < lines.length ? kept : [...lines, added])
      const ifMatch: IfMatch = found ?? 'none'
      try {
        await this.#store.write(context, path, Buffer.from(text), { ifMatch })
        return
      } catch (error) {
        if (!isNineError(error, 'conflict') || attempt === saves_max) throw error
      }
    }
  }

  /** The newest state, or, where the other nodes are out of reach, that of this one. */ // U3
  async #reached<T>(read: (context: Context, options: ReadOptions) => Promise<T>): Promise<T> {
    if (performance.now() >= this.#unreachedUntil) {
      try {
        return await read(contextFor(this.#owner, newest_ms), {})
      } catch (error) {
        if (!isNineError(error) || !unreachedKinds.includes(error.kind)) throw error
        this.#unreachedUntil = performance.now() + unreached_ms
      }
    }
    return read(contextFor(this.#owner), { consistency: 'stale' })
  }

  async #read(
    context: Context,
    path: Path,
    options: ReadOptions = {},
  ): Promise<{ text: string; path: number; version: number } | undefined> {
    try {
      const { bytes, stat } = await this.#store.read(context, path, options)
      return { text: Buffer.from(bytes).toString(), path: stat.qid.path, version: stat.version }
    } catch (error) {
      if (isNineError(error, 'not_found')) return undefined
      throw error
    }
  }

  /** U1 */
  async #make(principal: Principal): Promise<void> {
    const context = contextFor(this.#owner)
    const home = joinName(rootPath, principal.name)
    const unfinished = joinName(rootPath, `.${principal.name}.${this.#node}`)
    await this.#store.remove(context, unfinished, { recursive: true }).catch(unlessMissing)
    await this.#store.mkdir(context, unfinished, { mode: 0o700 })
    await this.#store.setRights(context, unfinished, [{ who: principal.name, rights: allRights }])
    try {
      await this.#store.rename(context, unfinished, home)
    } catch (error) {
      if (!isNineError(error, 'exists')) throw error
      await this.#store.remove(context, unfinished, { recursive: true })
    }
  }
}

/** What stands in a file's place and is none: a directory, a link, or a home that is a file. */
const misplacedKinds: readonly ErrorKind[] = ['is_directory', 'not_directory', 'invalid']

const unreachedKinds: readonly ErrorKind[] = ['deadline', 'unavailable']

function unlessMissing(error: unknown): void {
  if (!isNineError(error, 'not_found')) throw error
}

function fileOf(principal: Principal): Path {
  return joinName(joinName(rootPath, principal.name), 'namespace')
}
