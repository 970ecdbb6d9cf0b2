/**
 * Leases as they are in a store's state: who has them, their time to live and their files. Their clocks run elsewhere.
 *
 * L1 A lease made for a ttl belongs to its one file and ends when the file leaves it.
 * L2 Changes belong to the entry being applied until `commit`; `rollback` takes them back.
 * L3 A lease has at most limits.lease_files_max files. Those that were unlinked with a directory above them are counted
 *    out when room is needed.
 */
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Ino, TreeView } from '../model.ts'
import { ByteReader } from './byte-reader.ts'
import type { ByteWriter } from './byte-writer.ts'
import { DirtyKeys } from './dirty.ts'
import { pathOf } from './walk.ts'

interface Lease {
  readonly id: string
  readonly ttlMs: number
  readonly owner: string
  /** Made for one file by a ttl. L1 */
  readonly isOfFile: boolean
  readonly inos: Set<Ino>
}

export interface LeaseInfo {
  readonly id: string
  readonly ttlMs: number
  /** Principal it was granted to. */
  readonly owner: string
  readonly files: number
}

/** A lease that began, or (`ttlMs` undefined) ended. */
export interface LeaseChange {
  readonly lease: string
  readonly ttlMs: number | undefined
}

type Undo =
  | { readonly kind: 'granted'; readonly lease: Lease }
  | { readonly kind: 'ended'; readonly lease: Lease }
  | { readonly kind: 'attached'; readonly lease: Lease; readonly ino: Ino }
  | { readonly kind: 'detached'; readonly lease: Lease; readonly ino: Ino }

const noChanges: readonly LeaseChange[] = []
const noInos: readonly Ino[] = []

export class LeaseTable {
  #leases = new Map<string, Lease>()
  readonly #dirty = new DirtyKeys()
  #journal: Undo[] = []

  get size(): number {
    return this.#leases.size
  }

  /** Principal that a lease was granted to; undefined when there is no such lease. */
  ownerOf(lease: string): string | undefined {
    return this.#leases.get(lease)?.owner
  }

  list(): LeaseInfo[] {
    return [...this.#leases.values()].map(({ id, ttlMs, owner, inos }) => ({ id, ttlMs, owner, files: inos.size }))
  }

  /** Files of a lease, the oldest first; some may have been unlinked. */
  filesOf(lease: string): readonly Ino[] {
    const found = this.#leases.get(lease)
    return found === undefined ? noInos : [...found.inos].sort((a, b) => a - b)
  }

  /** @throws NineError `invalid` (ttl, name), `exists`, `overloaded` (limits.leases_max) */
  grant(id: string, ttlMs: number, owner: string, isOfFile: boolean, op: string): void {
    const { lease_ttl_ms_min: min, lease_ttl_ms_max: max, leases_max: most } = limits
    if (!(Number.isSafeInteger(ttlMs) && ttlMs >= min && ttlMs <= max)) {
      throw new NineError({ kind: 'invalid', op, message: `a ttl is a whole number of milliseconds from ${min} to ${max}` })
    }
    if (id === '' || id.length > limits.attribute_bytes_max)
      throw new NineError({ kind: 'invalid', op, message: 'a lease has a short name' })
    if (this.#leases.has(id)) throw new NineError({ kind: 'exists', op, message: `there is a lease ${id}` })
    if (this.#leases.size >= most) throw new NineError({ kind: 'overloaded', op, message: `a store keeps at most ${most} leases` })
    const lease: Lease = { id, ttlMs, owner, isOfFile, inos: new Set() }
    this.#leases.set(id, lease)
    this.#journal.push({ kind: 'granted', lease })
  }

  /** A file ends with this lease from now on. @throws NineError `not_found`, `too_large` (L3) */
  attach(id: string, ino: Ino, view: TreeView, op: string): void {
    const lease = this.#leases.get(id)
    if (lease === undefined) throw new NineError({ kind: 'not_found', op, message: `there is no lease ${id}` })
    if (lease.inos.has(ino)) return
    if (lease.inos.size >= limits.lease_files_max) this.#countOut(lease, view)
    if (lease.inos.size >= limits.lease_files_max) {
      throw new NineError({ kind: 'too_large', op, message: `a lease has at most ${limits.lease_files_max} files` })
    }
    lease.inos.add(ino)
    this.#journal.push({ kind: 'attached', lease, ino })
  }

  detach(id: string, ino: Ino): void {
    const lease = this.#leases.get(id)
    if (lease === undefined || !lease.inos.delete(ino)) return
    this.#journal.push({ kind: 'detached', lease, ino })
    if (lease.isOfFile && lease.inos.size === 0) this.end(id) // L1
  }

  /** Forget a lease; its files are the caller's to remove. */
  end(id: string): void {
    const lease = this.#leases.get(id)
    if (lease === undefined) return
    this.#leases.delete(id)
    this.#journal.push({ kind: 'ended', lease })
  }

  /** L3 */
  #countOut(lease: Lease, view: TreeView): void {
    for (const ino of this.filesOf(lease.id)) {
      const node = view.node(ino)
      if (node !== undefined && pathOf(view, node) !== undefined) continue
      lease.inos.delete(ino)
      this.#journal.push({ kind: 'detached', lease, ino })
    }
  }

  /** What began and ended since the last commit. L2 */
  commit(): readonly LeaseChange[] {
    if (this.#journal.length === 0) return noChanges
    const changes: LeaseChange[] = []
    for (const { kind, lease } of this.#journal) {
      this.#dirty.add(lease.id)
      if (kind === 'granted') changes.push({ lease: lease.id, ttlMs: lease.ttlMs })
      else if (kind === 'ended') changes.push({ lease: lease.id, ttlMs: undefined })
    }
    this.#journal = []
    return changes
  }

  /** L2 */
  rollback(): void {
    while (this.#journal.length > 0) {
      const undo = this.#journal.pop()!
      if (undo.kind === 'granted') this.#leases.delete(undo.lease.id)
      else if (undo.kind === 'ended') this.#leases.set(undo.lease.id, undo.lease)
      else if (undo.kind === 'attached') undo.lease.inos.delete(undo.ino)
      else undo.lease.inos.add(undo.ino)
    }
  }

  *exportChanged(writer: ByteWriter): Iterable<[string, Uint8Array | undefined]> {
    for (const id of this.#dirty.begin()) {
      const lease = this.#leases.get(id)
      yield [id, lease === undefined ? undefined : encodeLease(writer, lease)]
    }
  }

  exportSaved(): void {
    this.#dirty.saved()
  }

  /** Take over the leases of another table, which is done for: all of them are saved. */
  adopt(other: LeaseTable): void {
    this.#leases = other.#leases
    this.#dirty.clear()
  }

  /** @throws NineError `corrupt` */
  import(id: string, bytes: Uint8Array): void {
    this.#leases.set(id, decodeLease(id, bytes))
  }
}

function encodeLease(writer: ByteWriter, lease: Lease): Uint8Array {
  writer.reset()
  writer.byte(1)
  writer.count(lease.ttlMs)
  writer.text(lease.owner)
  writer.byte(lease.isOfFile ? 1 : 0)
  writer.count(lease.inos.size)
  for (const ino of [...lease.inos].sort((a, b) => a - b)) writer.count(ino)
  return writer.copy()
}

function decodeLease(id: string, bytes: Uint8Array): Lease {
  const reader = new ByteReader(bytes, `lease ${id}`)
  if (reader.byte() !== 1) throw reader.corrupt('its format is not known')
  const ttlMs = reader.count()
  const owner = reader.text()
  const isOfFile = reader.byte() === 1
  const inos = new Set<Ino>()
  for (let left = reader.countOfItems(); left > 0; left--) inos.add(reader.count())
  reader.end()
  return { id, ttlMs, owner, isOfFile, inos }
}
