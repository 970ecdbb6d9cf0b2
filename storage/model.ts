/**
 * What a store is made of, as plain data: records of the tree, commands, changes and events, and the views over them.
 * Every part of storage/ meets the others here.
 *
 * The tree: a node is a file's life, known by its number (`ino`, the qid's path). A directory entry (parent ino, name)
 * names a node; a node has exactly one entry while it is reachable, and knows it (`parent`, `name`), so moving a
 * tree is one entry and one node, whatever its size. Removing a tree takes away its entry only; what hung below it is
 * unreachable at once and collected when history no longer shows it.
 *
 * The past: every record knows the revision it stands `since`. The history keeps, for every revision, the records it
 * put in place and which revision's record each of them superseded, so a record as of revision R is found by following
 * `since` backwards. A directory entry that is taken away stays as a tombstone (`ino` 0) until history forgets it.
 */
import type { ClientIdentity } from '../namespace/context.ts'
import type { NineErrorFields } from '../namespace/errors.ts'
import type { IfMatch, MutationResult } from '../namespace/file-server.ts'
import type { Path } from '../namespace/path.ts'
import type { RightsRecord } from '../namespace/rights.ts'
import type { FileKind, Micros } from '../namespace/stat.ts'

export type Ino = number
export const rootIno: Ino = 1

/** Reference to a large value: the tree of its chunks in the blob store. */
export interface BlobRef {
  /** SHA-256 of the root: of the only chunk when depth is 0, else of the index chunk at the top. 32 bytes. */
  readonly root: Uint8Array
  /** Levels of index chunks above the data chunks. */
  readonly depth: number
  readonly size: number
}

export type Content =
  | { readonly kind: 'none' }
  /** `size`: number of bytes where it is known without them. A record read from disk fetches `bytes` when it is asked for them. */
  | { readonly kind: 'inline'; readonly bytes: Uint8Array; readonly size?: number }
  | { readonly kind: 'blob'; readonly blob: BlobRef }

export const noContent: Content = { kind: 'none' }

/** Bytes of a value, without fetching them. */
export function contentSize(content: Content): number {
  if (content.kind === 'none') return 0
  return content.kind === 'blob' ? content.blob.size : (content.size ?? content.bytes.length)
}

/** One state of one node. Immutable: a change makes a new record. */
export interface NodeRecord {
  readonly ino: Ino
  /** Revision that put this record in place (also a rename, which changes neither version nor revision). */
  readonly since: number
  readonly kind: Extract<FileKind, 'file' | 'directory' | 'symlink'>
  readonly parent: Ino
  readonly name: string
  readonly version: number
  readonly revision: number
  readonly createdRevision: number
  readonly mode: number
  readonly owner: string
  readonly group: string
  readonly modifiedBy: string
  readonly createdAt: Micros
  readonly modifiedAt: Micros
  readonly contentType: string | undefined
  readonly lease: string | undefined
  readonly rights: RightsRecord | undefined
  /** Inline bytes of a file, or the target of a symlink as UTF-8; a blob; nothing for directories and empty files. */
  readonly content: Content
}

export interface DirectoryEntry {
  readonly parent: Ino
  readonly name: string
  /** 0: taken away at `since`. */
  readonly ino: Ino
  readonly since: number
}

/** One state of a store's tree. Synchronous: it is memory or a memory map. */
export interface TreeView {
  node(ino: Ino): NodeRecord | undefined
  /** The node that (parent, name) names in this state. */
  child(parent: Ino, name: string): Ino | undefined
  /** Entries of a directory after the name `after` ('' for all), in compareNames order, at most `limit`. No tombstones. */
  children(parent: Ino, after: string, limit: number): DirectoryEntry[]
}

/**
 * The newest state, open for the changes of one entry. Changes are seen by its own reads at once and by others after
 * `commit`; `rollback` drops them all. The implementation notes what each record superseded, for history.
 */
export interface TreeTransaction extends TreeView {
  /** Revision the changes get; also their `since`. */
  readonly revision: number
  /** A number never given before in this store. */
  nextIno(): Ino
  put(node: NodeRecord): void
  link(parent: Ino, name: string, ino: Ino): void
  /** Leaves a tombstone. */
  unlink(parent: Ino, name: string): void
}

/** What one revision did to one node or entry, for history and for reads of the past. */
export type Image =
  | { readonly kind: 'node'; readonly after: NodeRecord; readonly before: NodeRecord | undefined }
  | { readonly kind: 'entry'; readonly after: DirectoryEntry; readonly before: DirectoryEntry | undefined }

/** Who proposed a command, when and why. `time` is the store's hybrid logical clock: unique and growing. */
export interface Entry {
  readonly group: number
  readonly term: number
  readonly index: number
  readonly time: Micros
  readonly actor: string
  readonly groups: readonly string[]
  readonly client: ClientIdentity | undefined
  readonly seq: number | undefined
  readonly digest: string | undefined
  readonly cause: string | undefined
  readonly trace: string | undefined
  readonly command: Command
}

/** How a write's new value is given. Bytes over `inline_bytes_max` were made chunks before the command was proposed. */
export type WriteContent =
  /** `base` as of a blob: set where these bytes were made from the value before. */
  | { readonly kind: 'replace'; readonly bytes: Uint8Array; readonly base?: IfMatch | undefined }
  | { readonly kind: 'append'; readonly bytes: Uint8Array }
  | { readonly kind: 'splice'; readonly offset: number; readonly bytes: Uint8Array }
  /** The whole value as chunks; `base` is the file version they were made from, `needs_chunks` when it has moved on. */
  | { readonly kind: 'blob'; readonly blob: BlobRef; readonly base: IfMatch | undefined }

export interface CreateFields {
  readonly ifMatch?: IfMatch | undefined
  readonly parents?: boolean | undefined
  readonly lease?: string | undefined
  /** The lease this makes, already named by the proposer, for a ttl of its own. */
  readonly ttl?: { readonly lease: string; readonly ttlMs: number } | undefined
  readonly contentType?: string | undefined
  readonly mode?: number | undefined
  readonly modifiedAt?: Micros | undefined
}

/**
 * Where a mutation acts: a path from the root, or a node by number (handles, which follow renames; then `path` is what
 * the handle was opened as, for messages only). A node that was unlinked is `not_found`.
 */
export interface Target {
  readonly path: Path
  readonly ino?: Ino | undefined
  /** With `ino`: of the restore by which the store had that file (`restoredAt` of the state); undefined: none. */
  readonly restoredAt?: number | undefined
}

export type TreeCommand =
  | ({
      readonly op: 'write'
      readonly target: Target
      readonly content: WriteContent
      readonly mustExist?: boolean | undefined
    } & CreateFields)
  | ({ readonly op: 'create' | 'mkdir'; readonly target: Target } & CreateFields)
  | ({ readonly op: 'symlink'; readonly target: Target; readonly link: string } & CreateFields)
  | { readonly op: 'remove'; readonly target: Target; readonly ifMatch?: IfMatch | undefined; readonly recursive?: boolean | undefined }
  | {
      readonly op: 'rename'
      readonly target: Target
      readonly to: Path
      readonly ifMatch?: IfMatch | undefined
      readonly replace?: boolean | undefined
      readonly parents?: boolean | undefined
    }
  | {
      readonly op: 'setStat'
      readonly target: Target
      readonly ifMatch?: IfMatch | undefined
      readonly mode?: number | undefined
      readonly owner?: string | undefined
      readonly group?: string | undefined
      readonly modifiedAt?: Micros | undefined
      readonly contentType?: string | undefined
      /** Truncation or extension of an inline value that stays inline. */
      readonly size?: number | undefined
    }
  | { readonly op: 'setRights'; readonly target: Target; readonly rights: RightsRecord | undefined; readonly ifMatch?: IfMatch | undefined }

export type Command =
  | TreeCommand
  | {
      readonly op: 'txn'
      readonly if: readonly { readonly path: Path; readonly is: IfMatch | 'exists' }[]
      readonly then: readonly (TreeCommand | { readonly op: 'stat' | 'read'; readonly path: Path })[]
      readonly else: readonly (TreeCommand | { readonly op: 'stat' | 'read'; readonly path: Path })[]
    }
  | { readonly op: 'grantLease'; readonly lease: string; readonly ttlMs: number }
  /** Ends a lease and removes its files. `expired` when the leader's clock ended it rather than its owner. */
  | { readonly op: 'endLease'; readonly lease: string; readonly expired: boolean }
  | RestoreCommand

/**
 * The store becomes what a backup says: see apply/restores.ts. Without `backup` the restore of this id is given up, if it was not made.
 */
export interface RestoreCommand {
  readonly op: 'restore'
  /** Names this restore: it is made once, whoever asks how often. */
  readonly id: string
  /** Of the store from then on. */
  readonly incarnation: string
  /** What acts on a file by a number of before is refused from then on. Older logs have restores that do not say so. */
  readonly endsHandles?: boolean | undefined
  /** The bytes of the backup, whose chunks a majority has. */
  readonly backup: Exclude<Content, { readonly kind: 'none' }> | undefined
}

/** A MutationResult without its position, which the store adds: store, incarnation and this revision. */
export type StoredMutation = Omit<MutationResult, 'position'>

export interface StoredTxn {
  readonly branch: 'then' | 'else'
  readonly results: readonly (
    { readonly op: 'mutation'; readonly result: StoredMutation } | { readonly op: 'stat' | 'read'; readonly node: NodeRecord }
  )[]
  readonly revision: number
}

/** What a mutation answers. Kept per client and seq, so that a retry gets it again. */
export type Outcome =
  | { readonly kind: 'mutation'; readonly result: StoredMutation }
  | { readonly kind: 'txn'; readonly result: StoredTxn }
  | { readonly kind: 'lease'; readonly lease: string; readonly ttlMs: number }
  | { readonly kind: 'error'; readonly error: NineErrorFields }
  /**
   * The result would be over `inline_bytes_max`, or was made from a `base` that has moved on: nothing was changed or noted,
   * the proposer makes the value anew and proposes again under the same seq.
   */
  | { readonly kind: 'needs_chunks' }

/** An event as history keeps it: with paths as they were and whole records, so that any watcher can be served from it. */
export interface StoreEvent {
  readonly type: 'create' | 'change' | 'remove' | 'rename'
  readonly path: Path
  readonly from: Path | undefined
  readonly subtree: boolean
  readonly node: NodeRecord
  readonly previous: NodeRecord | undefined
}

/** Everything one revision did. Revisions are dense: commands that change no file get none. */
export interface Revision {
  readonly revision: number
  readonly time: Micros
  readonly actor: string
  readonly cause: string | undefined
  readonly events: readonly StoreEvent[]
  readonly images: readonly Image[]
}
