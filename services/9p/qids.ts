/**
 * Qids that are unique over all that a node serves. A file's number is unique in its store, and a namespace shows many stores, so
 * the wire's path is the number with the store's own number above it.
 *
 * Q1 Stores are numbered as they are met, for the life of the edge; what has no store (services' tables, mount points) is told apart by
 *    the hash of where it stands.
 */
import { createHash } from 'node:crypto'
import type { WireQid } from '../../proto/ninep/messages.ts'
import type { Path } from '../../namespace/path.ts'
import type { Position } from '../../namespace/position.ts'
import { qidType } from '../../namespace/stat.ts'
import type { Stat } from '../../namespace/stat.ts'

/** Bits of a wire path that are the file's number: 2^42 files a store. The 11 above them are the store's. */
const numbers_max = 2 ** 42
const stores_max = 2 ** 11

export class Qids {
  readonly #stores = new Map<string, number>()

  /** @param path where the caller found it @param position of the answer that told the stat */
  of(stat: Pick<Stat, 'qid'>, path: Path, position: Position): WireQid {
    return { type: stat.qid.type, version: stat.qid.version >>> 0, path: this.pathOf(stat, path, position) }
  }

  pathOf(stat: Pick<Stat, 'qid'>, path: Path, position: Position): number {
    const store = position[0]
    if (store === undefined) return hash42(path) // Q1
    return this.#numberOf(store.store) * numbers_max + (stat.qid.path % numbers_max)
  }

  #numberOf(store: string): number {
    const known = this.#stores.get(store)
    if (known !== undefined) return known
    // Past the bound stores share a number: two of their files may look like one, nothing else.
    const number = (this.#stores.size % (stores_max - 1)) + 1
    if (this.#stores.size < stores_max - 1) this.#stores.set(store, number)
    return number
  }
}

function hash42(text: string): number {
  const digest = createHash('sha256').update(text).digest()
  return digest.readUIntLE(0, 6) % numbers_max
}

/** The QT bits that 9P2000 knows: it has no links. */
export function plainQid(qid: WireQid): WireQid {
  return qid.type === qidType.symlink ? { ...qid, type: qidType.file } : qid
}
