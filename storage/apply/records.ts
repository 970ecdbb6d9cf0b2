/**
 * New records of nodes from what they were.
 *
 * D1 A version counts the changes of a node's content and metadata from 1; a rename is none, nor is a change of children.
 * D2 Every literal here has the same keys in the same order, so that all records share one shape.
 * D3 A value is copied when it becomes a record's: the bytes of a command belong to whoever gave it.
 */
import type { StatChanges } from '../../namespace/file-server.ts'
import type { RightsRecord } from '../../namespace/rights.ts'
import { qidTypeOf } from '../../namespace/stat.ts'
import {
  contentSize,
  noContent,
  type Content,
  type CreateFields,
  type Entry,
  type Ino,
  type NodeRecord,
  type StoredMutation,
} from '../model.ts'

/** Permission bits of what is made without any. */
const defaultMode = { file: 0o644, directory: 0o755, symlink: 0o777 } as const

export interface NewNode {
  readonly ino: Ino
  readonly kind: NodeRecord['kind']
  readonly parent: Ino
  readonly name: string
  readonly lease: string | undefined
  readonly content: Content
}

export function madeNode(made: NewNode, fields: CreateFields, entry: Entry, revision: number): NodeRecord {
  return {
    ino: made.ino,
    since: revision,
    kind: made.kind,
    parent: made.parent,
    name: made.name,
    version: 1,
    revision,
    createdRevision: revision,
    mode: fields.mode ?? defaultMode[made.kind],
    owner: entry.actor,
    group: '',
    modifiedBy: entry.actor,
    createdAt: entry.time,
    modifiedAt: fields.modifiedAt ?? entry.time,
    contentType: fields.contentType,
    lease: made.lease,
    rights: undefined,
    content: made.content,
  }
}

export function writtenNode(
  node: NodeRecord,
  content: Content,
  lease: string | undefined,
  fields: CreateFields,
  entry: Entry,
  revision: number,
): NodeRecord {
  return {
    ino: node.ino,
    since: revision,
    kind: node.kind,
    parent: node.parent,
    name: node.name,
    version: node.version + 1,
    revision,
    createdRevision: node.createdRevision,
    mode: fields.mode ?? node.mode,
    owner: node.owner,
    group: node.group,
    modifiedBy: entry.actor,
    createdAt: node.createdAt,
    modifiedAt: fields.modifiedAt ?? entry.time,
    contentType: fields.contentType ?? node.contentType,
    lease,
    rights: node.rights,
    content,
  }
}

/** `modifiedAt` is that of the content: it moves when it is given or the size changes, as on Unix. */
export function restattedNode(
  node: NodeRecord,
  changes: Omit<StatChanges, 'size'>,
  content: Content,
  entry: Entry,
  revision: number,
): NodeRecord {
  return {
    ino: node.ino,
    since: revision,
    kind: node.kind,
    parent: node.parent,
    name: node.name,
    version: node.version + 1,
    revision,
    createdRevision: node.createdRevision,
    mode: changes.mode ?? node.mode,
    owner: changes.owner ?? node.owner,
    group: changes.group ?? node.group,
    modifiedBy: entry.actor,
    createdAt: node.createdAt,
    modifiedAt: changes.modifiedAt ?? (content === node.content ? node.modifiedAt : entry.time),
    contentType: changes.contentType ?? node.contentType,
    lease: node.lease,
    rights: node.rights,
    content,
  }
}

export function guardedNode(node: NodeRecord, rights: RightsRecord | undefined, entry: Entry, revision: number): NodeRecord {
  return {
    ino: node.ino,
    since: revision,
    kind: node.kind,
    parent: node.parent,
    name: node.name,
    version: node.version + 1,
    revision,
    createdRevision: node.createdRevision,
    mode: node.mode,
    owner: node.owner,
    group: node.group,
    modifiedBy: entry.actor,
    createdAt: node.createdAt,
    modifiedAt: node.modifiedAt,
    contentType: node.contentType,
    lease: node.lease,
    rights,
    content: node.content,
  }
}

/** D1: neither version nor revision. */
export function movedNode(node: NodeRecord, parent: Ino, name: string, revision: number): NodeRecord {
  return {
    ino: node.ino,
    since: revision,
    kind: node.kind,
    parent,
    name,
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
    lease: node.lease,
    rights: node.rights,
    content: node.content,
  }
}

/** The bytes as a record's own. Small ones share slabs of Node's buffer pool. D3 */
export function inlineContent(bytes: Uint8Array): Content {
  if (bytes.length === 0) return noContent
  const own = Buffer.allocUnsafe(bytes.length)
  own.set(bytes)
  return { kind: 'inline', bytes: own }
}

/** What a change of `node` answers; `revision` is the one at which it became visible. */
export function mutationOf(node: NodeRecord, revision: number, created: boolean): StoredMutation {
  return { qid: { type: qidTypeOf(node.kind), path: node.ino, version: node.version }, revision, created, size: contentSize(node.content) }
}
