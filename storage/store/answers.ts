/** What a store's records look like from outside: Stats, positions, errors. */
import { NineError, type NineErrorFields } from '../../namespace/errors.ts'
import type { OpenFlags } from '../../namespace/file-server.ts'
import type { Position, StorePosition } from '../../namespace/position.ts'
import { encodePosition } from '../../namespace/position.ts'
import { qidTypeOf, type Micros, type Qid, type Stat } from '../../namespace/stat.ts'
import { contentSize, type NodeRecord } from '../model.ts'

/** Makes the positions of one store; one object serves all answers that show the same revision. */
export class Positions {
  readonly store: string
  #incarnation: string
  #latest: Position

  constructor(store: string, incarnation: string) {
    this.store = store
    this.#incarnation = incarnation
    this.#latest = this.exactly(0, 0)
  }

  get incarnation(): string {
    return this.#incarnation
  }

  /** The store has become another. */
  restored(incarnation: string): void {
    this.#incarnation = incarnation
    this.#latest = this.exactly(0, 0)
  }

  /** After every change up to `revision`. */
  at(revision: number): Position {
    const latest = this.#latest
    if (latest[0]!.revision === revision) return latest
    return (this.#latest = this.exactly(revision, 0))
  }

  exactly(revision: number, ordinal: number): Position {
    const element: StorePosition = { store: this.store, incarnation: this.incarnation, revision, ordinal }
    return [element]
  }

  /**
   * The element of `position` that is of this store.
   * @throws NineError `compacted` when it has none, or one of another incarnation (restored over); resume tells `now`
   */
  own(position: Position, now: number, op: string, path: string): StorePosition {
    let foreign = 'the position is of another store'
    for (const element of position) {
      if (element.store !== this.store) continue
      if (element.incarnation === this.incarnation) return element
      foreign = 'the store has been restored since this position'
    }
    throw new NineError({ kind: 'compacted', op, path, message: foreign, resume: encodePosition(this.at(now)) })
  }
}

export function qidOf(node: NodeRecord): Qid {
  return { type: qidTypeOf(node.kind), path: node.ino, version: node.version }
}

/** Bytes of the value: of the target for a symlink, 0 for a directory. */
export function sizeOf(node: NodeRecord): number {
  return contentSize(node.content)
}

export function statOf(node: NodeRecord, name: string = node.name): Stat {
  const content = node.content
  return {
    name,
    kind: node.kind,
    qid: { type: qidTypeOf(node.kind), path: node.ino, version: node.version },
    size: contentSize(content),
    version: node.version,
    revision: node.revision,
    createdRevision: node.createdRevision,
    mode: node.mode,
    owner: node.owner,
    group: node.group,
    modifiedBy: node.modifiedBy,
    createdAt: node.createdAt,
    modifiedAt: node.modifiedAt,
    contentType: node.contentType,
    blob: content.kind === 'blob' ? Buffer.from(content.blob.root).toString('hex') : undefined,
    lease: node.lease,
    target: node.kind === 'symlink' ? targetOf(node) : undefined,
  }
}

/** Of a file that is made when its handle is published: it has no number yet. */
export function unmadeStat(name: string, flags: OpenFlags, owner: string, now: Micros, size: number): Stat {
  return {
    name,
    kind: 'file',
    qid: { type: qidTypeOf('file'), path: 0, version: 0 },
    size,
    version: 0,
    revision: 0,
    createdRevision: 0,
    mode: flags.permissions ?? 0o644,
    owner,
    group: '',
    modifiedBy: owner,
    createdAt: now,
    modifiedAt: flags.modifiedAt ?? now,
    contentType: flags.contentType,
    blob: undefined,
    lease: undefined,
    target: undefined,
  }
}

/** Target of a symlink. */
export function targetOf(node: NodeRecord): string {
  return node.content.kind === 'inline' ? Buffer.from(node.content.bytes).toString() : ''
}

/** An error that apply answered, under the op and path that the caller used. */
export function answeredError(fields: NineErrorFields, op: string, path: string): NineError {
  return new NineError({ ...fields, op, path })
}
