/** /usr: one directory a principal, its own, with its saved namespace file in it. */
import { contextFor } from '../../namespace/context.ts'
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer, IfMatch } from '../../namespace/file-server.ts'
import { parseNamespaceFile, printNamespaceFile } from '../../namespace/namespace-file.ts'
import { joinName, rootPath } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import { allRights } from '../../namespace/rights.ts'
import type { Principal } from '../../namespace/rights.ts'

const saves_max = 5

/** The text of a namespace file and the version it is. */
export interface SavedNamespace {
  readonly text: string
  /** Equal for equal texts; for caches. */
  readonly version: string
}

export class Homes {
  readonly #store: FileServer
  readonly #owner: Principal
  readonly #made = new Map<string, Promise<void>>()

  /** @param store mounted at /usr */
  constructor(store: FileServer, owner: Principal) {
    this.#store = store
    this.#owner = owner
  }

  /** The home of a principal is there, and its own. */
  prepare(principal: Principal): Promise<void> {
    let made = this.#made.get(principal.name)
    if (made === undefined) {
      made = this.#make(principal).catch((error: unknown) => {
        this.#made.delete(principal.name)
        throw error
      })
      this.#made.set(principal.name, made)
    }
    return made
  }

  /** The principal's namespace file; empty when there is none. */
  async saved(principal: Principal): Promise<SavedNamespace> {
    const found = await this.#read(contextFor(this.#owner), fileOf(principal))
    return { text: found?.text ?? '', version: found === undefined ? 'none' : `${found.path}.${found.version}` }
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

  async #read(context: Context, path: Path): Promise<{ text: string; path: number; version: number } | undefined> {
    try {
      const { bytes, stat } = await this.#store.read(context, path)
      return { text: Buffer.from(bytes).toString(), path: stat.qid.path, version: stat.version }
    } catch (error) {
      if (isNineError(error, 'not_found')) return undefined
      throw error
    }
  }

  async #make(principal: Principal): Promise<void> {
    const context = contextFor(this.#owner)
    const home = joinName(rootPath, principal.name)
    try {
      await this.#store.mkdir(context, home, { mode: 0o700 })
    } catch (error) {
      if (!isNineError(error, 'exists')) throw error
      return
    }
    await this.#store.setRights(context, home, [{ who: principal.name, rights: allRights }])
  }
}

function fileOf(principal: Principal): Path {
  return joinName(joinName(rootPath, principal.name), 'namespace')
}
