/**
 * One entry being applied: the open transaction, who asks, and what has happened so far.
 *
 * H1 A check that fails throws a NineError; whatever was changed before it is rolled back with the transaction.
 * H2 A failed walk tells what is there only to who may see (`read` or `list`) the deepest place on the way that exists;
 *    everyone else is told `denied`, whether or not anything exists. The same holds for who lacks the right itself.
 * D1 What is unlinked is not there, by whatever it is named: how long its records are kept differs between replicas, and an outcome
 *    must not.
 */
import { NineError, type ErrorKind } from '../../namespace/errors.ts'
import type { IfMatch } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import type { Path } from '../../namespace/path.ts'
import type { Principal, RightsMask } from '../../namespace/rights.ts'
import { rootIno, type Entry, type Ino, type NodeRecord, type StoreEvent, type Target, type TreeTransaction } from '../model.ts'
import type { LeaseTable } from './leases.ts'
import { maskAt, seeBits } from './rights.ts'
import { deepestNode, pathOf, placeOf } from './walk.ts'

/** A node that a mutation acts on, and its path now. */
export interface Found {
  readonly node: NodeRecord
  readonly path: Path
}

export class Change {
  readonly tree: TreeTransaction
  readonly entry: Entry
  readonly leases: LeaseTable
  readonly owner: string
  readonly isOwner: boolean
  /** Of the state: what a file's number is of. */
  readonly restoredAt: number | undefined
  events: StoreEvent[] = []
  /** Whether a record or an entry of the tree was changed. */
  isChanged = false
  #principal: Principal | undefined

  constructor(tree: TreeTransaction, entry: Entry, leases: LeaseTable, owner: string, restoredAt?: number) {
    this.tree = tree
    this.entry = entry
    this.leases = leases
    this.owner = owner
    this.isOwner = entry.actor === owner
    this.restoredAt = restoredAt
  }

  get principal(): Principal {
    return (this.#principal ??= { name: this.entry.actor, groups: this.entry.groups })
  }

  get revision(): number {
    return this.tree.revision
  }

  /** The revision that shows what there is when this asks: revisions are dense. */
  get shownRevision(): number {
    return this.isChanged ? this.tree.revision : this.tree.revision - 1
  }

  put(node: NodeRecord): void {
    this.isChanged = true
    this.tree.put(node)
  }

  unlink(parent: Ino, name: string): void {
    this.isChanged = true
    this.tree.unlink(parent, name)
  }

  emit(
    type: StoreEvent['type'],
    path: Path,
    from: Path | undefined,
    subtree: boolean,
    node: NodeRecord,
    previous: NodeRecord | undefined,
  ): void {
    const event = { type, path, from, subtree, node, previous }
    // Most entries have one, and an array that grows takes room for many.
    if (this.events.length === 0) this.events = [event]
    else this.events.push(event)
  }

  /** @throws NineError `denied` unless the actor holds all of `bits` at `node`. H2 */
  need(node: NodeRecord, bits: RightsMask, op: string, path: Path): void {
    if (this.isOwner) return
    if ((maskAt(this.tree, node, this.principal, this.owner) & bits) !== bits) throw denied(op, path)
  }

  /** Like `need`, for any one of `bits`. */
  needAny(node: NodeRecord, bits: RightsMask, op: string, path: Path): void {
    if (this.isOwner) return
    if ((maskAt(this.tree, node, this.principal, this.owner) & bits) === 0) throw denied(op, path)
  }

  /**
   * Whether the actor may be told that `node` exists: who sees it, or could make it if it did not.
   * @throws NineError `denied`
   */
  needToSee(node: NodeRecord, bitsAtParent: RightsMask, op: string, path: Path): void {
    if (this.isOwner || (maskAt(this.tree, node, this.principal, this.owner) & seeBits) !== 0) return
    this.need(node.ino === rootIno ? node : this.node(node.parent, op), bitsAtParent, op, path)
  }

  /** What a mutation acts on. @throws NineError `not_found`, `not_directory`, `denied` */
  find(target: Target, op: string): Found {
    if (target.ino !== undefined) return this.#findNumber(target, target.ino, op)
    const place = placeOf(this.tree, target.path)
    const node = place?.ino === undefined ? undefined : this.tree.node(place.ino)
    if (node === undefined) throw this.missing(target.path, op)
    return { node, path: target.path }
  }

  #findNumber(target: Target, ino: Ino, op: string): Found {
    if (target.restoredAt !== this.restoredAt) {
      throw refusal('compacted', op, target.path, 'the store has been restored since this handle was opened: open it again') // E4 of restores.ts
    }
    const node = this.tree.node(ino)
    const path = node === undefined ? undefined : pathOf(this.tree, node)
    if (node !== undefined && path !== undefined) return { node, path } // D1
    throw new NineError({ kind: 'not_found', op, path: target.path, message: `${target.path} was removed` })
  }

  /** Why nothing is at `path`. H2 */
  missing(path: Path, op: string): NineError {
    const { node, path: at } = deepestNode(this.tree, path)
    if (node === undefined) return new NineError({ kind: 'corrupt', op, path, message: 'the store has no root' })
    if (!this.isOwner && (maskAt(this.tree, node, this.principal, this.owner) & seeBits) === 0) return denied(op, path)
    if (node.kind === 'directory') return new NineError({ kind: 'not_found', op, path, message: `${path} does not exist` })
    return new NineError({ kind: 'not_directory', op, path, message: `${at} is a ${node.kind}, not a directory` })
  }

  node(ino: Ino, op: string): NodeRecord {
    const node = this.tree.node(ino)
    if (node !== undefined) return node
    throw new NineError({ kind: 'corrupt', op, message: `the tree names node ${ino}, which it does not have` })
  }
}

export function denied(op: string, path: Path): NineError {
  return new NineError({ kind: 'denied', op, path, message: `this is not allowed at ${path}` })
}

export function refusal(kind: ErrorKind, op: string, path: Path, message: string): NineError {
  return new NineError({ kind, op, path, message })
}

export function matches(node: NodeRecord | undefined, is: IfMatch): boolean {
  if (is === 'none' || node === undefined) return is === 'none' && node === undefined
  return is.path === node.ino && is.version === node.version
}

/** @throws NineError `conflict` unless `node` is the life and version that was asked for */
export function checkMatch(node: NodeRecord, ifMatch: IfMatch | undefined, op: string, path: Path): void {
  if (ifMatch === undefined || matches(node, ifMatch)) return
  const message =
    ifMatch === 'none'
      ? `${path} exists`
      : ifMatch.path === node.ino
        ? `${path} is at version ${node.version}, not ${ifMatch.version}`
        : `${path} is another file than the one that was meant`
  throw refusal('conflict', op, path, message)
}

/** @throws NineError `is_directory`, `invalid` unless `node` is a file */
export function checkFile(node: NodeRecord, op: string, path: Path): void {
  if (node.kind === 'file') return
  if (node.kind === 'directory') throw refusal('is_directory', op, path, `${path} is a directory`)
  throw refusal('invalid', op, path, `${path} is a symbolic link, which has no content of its own`)
}

export interface Attributes {
  readonly mode?: number | undefined
  readonly modifiedAt?: number | undefined
  readonly contentType?: string | undefined
  readonly owner?: string | undefined
  readonly group?: string | undefined
}

/** @throws NineError `invalid` */
export function checkAttributes(attributes: Attributes, op: string, path: Path): void {
  const { mode, modifiedAt } = attributes
  if (mode !== undefined && !(Number.isInteger(mode) && mode >= 0 && mode <= 0o7777)) {
    throw refusal('invalid', op, path, 'a mode is a number from 0 to 0o7777')
  }
  if (modifiedAt !== undefined && !(Number.isSafeInteger(modifiedAt) && modifiedAt >= 0)) {
    throw refusal('invalid', op, path, 'a time is a whole number of microseconds since 1970')
  }
  checkText(attributes.contentType, op, path)
  checkText(attributes.owner, op, path)
  checkText(attributes.group, op, path)
}

function checkText(text: string | undefined, op: string, path: Path): void {
  if (text === undefined) return
  if (text.length <= limits.attribute_bytes_max && Buffer.byteLength(text) <= limits.attribute_bytes_max && !text.includes('\0')) return
  throw refusal('invalid', op, path, `an attribute has at most ${limits.attribute_bytes_max} bytes, without NUL`)
}

/** @throws NineError `invalid` */
export function checkNotRoot(ino: Ino, op: string, path: Path): void {
  if (ino === rootIno) throw refusal('invalid', op, path, 'the root of a store stays where it is')
}
