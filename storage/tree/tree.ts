/**
 * Tree: the versioned tree of one store. Changes are applied in memory and trail into LMDB in large transactions.
 *
 * Levels, the upper hides the lower: the active generation (changes since the last checkpoint began), the flushing one
 * (being written by it), the cache, LMDB.
 *
 * R1 `newest` is synchronous and shows every committed change at once.
 * R2 What a checkpoint made durable is one revision's state with its applied index and meta, whatever crashes when.
 * R3 A checkpoint that fails loses nothing: its generation goes back below the active one, its meta waits for the next.
 * R4 History is on stable storage up to a revision before the tree is at it.
 */
import { NineError } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import { limits } from '../../namespace/limits.ts'
import type { Micros } from '../../namespace/stat.ts'
import { openHistory, type History } from '../history/history.ts'
import { noContent, rootIno, type BlobRef, type DirectoryEntry, type Ino, type NodeRecord, type TreeView } from '../model.ts'
import { ByteReader, DamagedBytes } from './bytes.ts'
import { collectFallen } from './collect.ts'
import type { Reading } from './database.ts'
import type { Environment } from './environment.ts'
import { encodeFlush } from './flush.ts'
import { LookupCache } from './lookup-cache.ts'
import { MergedEntries, OverlaySource, RowSource, type EntrySource } from './merge.ts'
import { readMeta, readTreeMeta, type OpenedMeta, type TreeMeta } from './meta.ts'
import { namingNodes } from './naming-nodes.ts'
import { NewestView } from './newest.ts'
import { Generation } from './overlay.ts'
import { nodeAt, PastView, type PresentState } from './past.ts'
import { decodeNode, type ContentSource } from './record.ts'
import { checkRow, damagedRow, decodeEntry, rowKey, type RowKey, type Tables } from './rows.ts'
import { Transaction, type TransactionTree } from './transaction.ts'

export interface TreeOptions {
  /** Owner of the root directory when the tree is new. */
  readonly owner: string
  /** Time the root gets then; default 0, so that every node that makes the store makes the same one. */
  readonly createdAt?: Micros | undefined
  readonly historySegmentBytes?: number | undefined
  /** Values larger than this stand in rows of their own; for tests. */
  readonly apartOver?: number | undefined
  readonly cacheItemsMax?: number | undefined
  /** Nodes that stay although nothing names them any more: those with open handles. */
  readonly isHeld?: ((ino: Ino) => boolean) | undefined
}

export interface CheckpointState {
  readonly appliedIndex: number
  readonly revision: number
  /** What changed of the state machine's own state; undefined takes a key away. */
  readonly meta: Iterable<readonly [string, Uint8Array | undefined]>
}

export interface TreeReading extends Reading {
  readonly slot: number
}

/** A state that a tree can go over to without anything that may fail. */
export interface NextState {
  readonly slot: number
  readonly tree: TreeMeta
  readonly hasTombs: boolean
  readonly history: History
}

/** Use Environment.tree. @throws NineError `corrupt` */
export function openTree(environment: Environment, group: number, options: TreeOptions): Tree {
  const slot = environment.slotOf(group)
  const opened = readMeta(environment.tables, slot)
  const { revision } = opened.tree
  const history = openHistory({ dir: environment.historyDirOf(slot), revision, segmentBytes: options.historySegmentBytes })
  return new Tree(environment, group, history, opened, options)
}

/** Values over this stand in rows of their own, so that listings do not read them. */
const apart_over_bytes = 512
const meta_key_bytes_max = 1024
/** Rows read from a directory at a time. */
const range_rows_max = 256

export class Tree implements TransactionTree, PresentState, ContentSource {
  readonly group: number
  readonly newest: TreeView
  readonly apartOver: number
  active = new Generation()
  nextIno: number
  readonly #environment: Environment
  readonly #tables: Tables
  readonly #isHeld: (ino: Ino) => boolean
  readonly #historySegmentBytes: number | undefined
  readonly #cache: LookupCache
  /** Number under which its rows stand: slots.ts. */
  #slot: number
  #history: History
  /** Snapshots being written. */
  #holds = 0
  #flushing: Generation | undefined
  /** Nodes from this number on are in the active generation only. */
  #firstActiveIno: number
  #opened: OpenedMeta | undefined
  #saved: TreeMeta
  #revision: number
  #transaction: Transaction | undefined
  #pendingMeta = new Map<string, Uint8Array | undefined>()
  /** Whether LMDB may hold tombs. */
  #mayHaveTombs: boolean
  readonly #nodeKey: RowKey
  readonly #entryKey: RowKey

  /** Use Environment.tree. */
  constructor(environment: Environment, group: number, history: History, opened: OpenedMeta, options: TreeOptions) {
    this.group = group
    this.#slot = environment.slotOf(group)
    this.#history = history
    this.#historySegmentBytes = options.historySegmentBytes
    this.apartOver = options.apartOver ?? apart_over_bytes
    this.nextIno = opened.tree.nextIno
    this.#environment = environment
    this.#tables = environment.tables
    this.#isHeld = options.isHeld ?? (() => false)
    this.#cache = new LookupCache(options.cacheItemsMax ?? limits.tree_cache_items_max)
    this.#firstActiveIno = opened.isNew ? rootIno : opened.tree.nextIno
    this.#opened = opened
    this.#saved = opened.tree
    this.#revision = opened.tree.revision
    this.#mayHaveTombs = opened.hasTombs
    this.#nodeKey = rowKey(this.#slot, 0)
    this.#entryKey = rowKey(this.#slot, 0)
    this.newest = new NewestView(this)
    if (opened.isNew) this.active.putNode(newRoot(options), undefined)
  }

  get history(): History {
    return this.#history
  }

  /** Revision of the last commit, or of the last checkpoint when nothing was applied since opening. */
  get revision(): number {
    return this.#revision
  }

  /** Index of the last entry that a checkpoint holds. */
  get appliedIndex(): number {
    return this.#saved.appliedIndex
  }

  /** Memory held by changes that are not in LMDB, and by history that is not in its files. */
  get overlayBytes(): number {
    return this.active.bytes + (this.#flushing?.bytes ?? 0) + this.history.pendingBytes
  }

  /** What the last checkpoint before opening held. Asked for once, at open: it is not kept. */
  meta(): { readonly appliedIndex: number; readonly revision: number; readonly meta: readonly (readonly [string, Uint8Array])[] } {
    const meta = this.#opened?.meta ?? []
    this.#opened = undefined
    const { appliedIndex, revision } = this.#saved
    return { appliedIndex, revision, meta }
  }

  /** Open the newest state for the changes of one entry, which become `revision`. One at a time. */
  begin(revision: number): Transaction {
    if (this.#transaction?.isOpen === true) throw internal('tree.begin', 'a transaction is open')
    if (revision !== this.#revision + 1) throw internal('tree.begin', `revision ${revision} cannot follow ${this.#revision}`)
    return (this.#transaction = new Transaction(this, revision))
  }

  /** The state at a revision. @throws NineError `compacted` below history.floor, `invalid` above the newest */
  at(revision: number): TreeView {
    if (revision === this.#revision) return new PastView(this, revision)
    if (revision > this.#revision || !Number.isSafeInteger(revision)) {
      throw new NineError({
        kind: 'invalid',
        op: 'tree.at',
        message: `the store is at revision ${this.#revision}, ${revision} was asked for`,
      })
    }
    const { floor } = this.history
    if (revision < floor) {
      throw new NineError({ kind: 'compacted', op: 'tree.at', message: `revision ${revision} is no longer kept; the oldest is ${floor}` })
    }
    return new PastView(this, revision)
  }

  /**
   * Make everything applied so far durable, with `state`. Changes go on meanwhile. Resolves when it is on stable storage:
   * then the log may be cut. One at a time. R2-R4
   * @throws NineError `no_space`, `unavailable` (closed), `internal`
   */
  async checkpoint(state: CheckpointState): Promise<void> {
    if (this.#flushing !== undefined) throw internal('tree.checkpoint', 'a checkpoint is under way')
    if (this.#transaction?.isOpen === true) throw internal('tree.checkpoint', 'a transaction is open')
    const frozen = this.active
    const meta: TreeMeta = { appliedIndex: state.appliedIndex, revision: state.revision, nextIno: this.nextIno }
    for (const [key, value] of state.meta) {
      // A put that LMDB refuses in the middle of a batch would leave half of it.
      if (Buffer.byteLength(key) > meta_key_bytes_max) throw internal('tree.checkpoint', `the key ${key.slice(0, 100)} is too long`)
      this.#pendingMeta.set(key, value)
    }
    const pending = this.#pendingMeta
    this.#pendingMeta = new Map()
    this.#flushing = frozen
    this.active = new Generation()
    const firstActiveIno = this.#firstActiveIno
    this.#firstActiveIno = this.nextIno
    try {
      await this.history.sync() // R4
      failpoint('checkpoint.synced')
      const flush = await encodeFlush(this.#tables, this.#slot, frozen, meta, pending, this.apartOver)
      if (flush.hasTombs) this.#mayHaveTombs = true
      await this.#environment.write(flush.run)
    } catch (error) {
      // R3
      this.active.mergeOlder(frozen)
      this.#flushing = undefined
      this.#firstActiveIno = firstActiveIno
      for (const [key, value] of pending) if (!this.#pendingMeta.has(key)) this.#pendingMeta.set(key, value)
      throw error
    }
    this.#saved = meta
    this.#flushing = undefined
    this.#cache.adopt(frozen, this.active)
    this.history.saved(meta.revision)
  }

  /**
   * Take away what no kept revision shows: tombs, and nodes below entries whose removal is not after history.floor.
   * Looks at no more than about `rowsMax` rows. Resolves to the number of changes made; 0: nothing is left to do now.
   */
  async collect(rowsMax: number): Promise<number> {
    if (this.#holds > 0) return 0
    const floor = Math.min(this.history.floor, this.#saved.revision)
    const slot = this.#slot
    return collectFallen(
      {
        tables: this.#tables,
        group: slot,
        floor,
        atFloor: new PastView(this, floor),
        isFlushing: () => this.#flushing !== undefined || this.#holds > 0 || this.#slot !== slot,
        isHeld: (ino) => this.#isHeld(ino) || this.active.nodes.has(ino),
        node: (ino) => this.newestNode(ino),
        forgetNode: (ino) => this.#cache.forgetNode(ino),
        forgetEntry: (parent, name) => this.#cache.forgetEntry(parent, name),
        write: (puts) => this.#environment.write(puts),
      },
      rowsMax,
    )
  }

  /**
   * Every large value of a node that is there, or that a kept revision shows, or that is not collected yet. History comes
   * last: a value that is replaced meanwhile moves from the newest state into it, and is found in one or the other.
   * @throws NineError `unavailable` where another state took the place of this one meanwhile
   */
  *blobRefs(): Iterable<BlobRef> {
    const slot = this.#slot
    for (const generation of [this.active, this.#flushing]) {
      if (generation === undefined) continue
      for (const { content } of [...generation.nodes.values()]) if (content.kind === 'blob') yield content.blob
    }
    const nodes = namingNodes(this.#environment, slot, (key, value) => this.#decode(key, value, 'a node'))
    for (const { content } of nodes) {
      this.#checkSlot(slot)
      if (content.kind === 'blob') yield content.blob
    }
    this.#checkSlot(slot)
    for (const blob of this.history.blobRefs()) {
      yield blob
      this.#checkSlot(slot)
    }
  }

  /**
   * Until the returned function is called nothing is forgotten: neither history, nor what only history shows, nor large values of
   * either. For whoever copies the state while changes go on.
   */
  hold(): () => void {
    this.#holds++
    const release = this.#history.hold()
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      this.#holds--
      release()
    }
  }

  /** Rows as of the last checkpoint, for a copy of them. `done()` ends it. */
  reading(): TreeReading {
    return { slot: this.#slot, ...this.#environment.reading() }
  }

  /** A tree that was never saved has no rows: make them, where it has no revision yet. */
  async ensureSaved(): Promise<void> {
    const isSaved = this.#tables.meta.getBinary(rowKey(this.#slot)) !== undefined
    if (!isSaved && this.#revision === 0 && this.#flushing === undefined) await this.checkpoint({ appliedIndex: 0, revision: 0, meta: [] })
  }

  /** Number under which its rows stand. */
  get slot(): number {
    return this.#slot
  }

  /**
   * Open what another slot holds, all of it on stable storage, to go over to it (Environment.take). Nothing may be applied or saved until then.
   * `meta`: its row, where that is yet to be put. @throws NineError `corrupt`, `denied`, `no_space`, `internal`
   */
  prepare(slot: number, meta: TreeMeta | undefined): NextState {
    if (this.#flushing !== undefined || this.#transaction?.isOpen === true) throw internal('tree.prepare', 'the tree is being changed')
    const { tree, hasTombs } = readTreeMeta(this.#tables, slot)
    const dir = this.#environment.historyDirOf(slot)
    const history = openHistory({ dir, revision: tree.revision, segmentBytes: this.#historySegmentBytes })
    return { slot, tree: meta ?? tree, hasTombs, history }
  }

  /** Begin anew with that state, which is the group's by now. Views made before show it. @returns the history to close */
  adopt({ slot, tree, hasTombs, history }: NextState): History {
    const before = this.#history
    this.#slot = slot
    this.#nodeKey.group = slot
    this.#entryKey.group = slot
    this.#history = history
    this.active = new Generation()
    this.nextIno = tree.nextIno
    this.#firstActiveIno = tree.nextIno
    this.#saved = tree
    this.#revision = tree.revision
    this.#mayHaveTombs = hasTombs
    this.#pendingMeta = new Map()
    this.#opened = undefined
    this.#cache.clear()
    return before
  }

  newestNode(ino: Ino): NodeRecord | undefined {
    return this.active.nodes.get(ino) ?? this.nodeBelow(ino)
  }

  /** Tombs included. */
  newestEntry(parent: Ino, name: string): DirectoryEntry | undefined {
    return this.active.entry(parent, name) ?? this.entryBelow(parent, name)
  }

  /** The entry, or a tomb where memory has one; tombs in LMDB are not looked for. */
  liveEntry(parent: Ino, name: string): DirectoryEntry | undefined {
    return this.active.entry(parent, name) ?? this.#liveBelow(parent, name)
  }

  nodeBelow(ino: Ino): NodeRecord | undefined {
    if (ino >= this.#firstActiveIno) return undefined
    const known = this.#flushing?.nodes.get(ino) ?? this.#cache.node(ino)
    if (known !== undefined) return known
    const key = this.#nodeKey
    key.a = ino
    const value = this.#tables.nodes.getBinary(key)
    if (value === undefined) return undefined
    const node = this.#decode(key, value, `node ${ino}`)
    this.#cache.addNode(node)
    return node
  }

  entryBelow(parent: Ino, name: string): DirectoryEntry | undefined {
    const live = this.#liveBelow(parent, name)
    if (live !== undefined || !this.#mayHaveTombs || parent >= this.#firstActiveIno) return live
    const key = this.#keyOf(parent, name)
    const value = this.#tables.tombs.getBinary(key)
    return value === undefined ? undefined : decodeEntry(key, value, parent, name)
  }

  entriesAndTombs(parent: Ino, after: string, limit: number): MergedEntries {
    return this.#entries(parent, after, limit, this.#mayHaveTombs)
  }

  entriesOnly(parent: Ino, after: string, limit: number): MergedEntries {
    return this.#entries(parent, after, limit, false)
  }

  forgetNode(ino: Ino): void {
    this.#cache.forgetNode(ino)
  }

  forgetEntry(parent: Ino, name: string): void {
    this.#cache.forgetEntry(parent, name)
  }

  /** A transaction of this tree has been committed with changes. */
  advance(revision: number): void {
    this.#revision = revision
  }

  /** The value of a record read earlier: from its row, or from history when the file has changed since. */
  contentOf(ino: Ino, since: number): Uint8Array {
    const key = rowKey(this.#slot, ino, since)
    const value = this.#tables.contents.getBinary(key)
    if (value !== undefined) return checkRow(key, value, `the value of node ${ino}`)
    const newest = this.newestNode(ino)
    if (newest === undefined || newest.since === since) throw damagedRow(`the value of node ${ino}`)
    const then =
      newest.since <= this.history.floor ? undefined : nodeAt(this.history, ino, newest.since, Math.max(since, this.history.floor))
    if (then?.since === since && then.content.kind === 'inline') return then.content.bytes
    const message = `node ${ino} has changed, and its value at revision ${since} is no longer kept`
    throw new NineError({ kind: 'compacted', op: 'tree.read', message })
  }

  #checkSlot(slot: number): void {
    if (slot === this.#slot) return
    throw new NineError({
      kind: 'unavailable',
      op: 'tree.values',
      message: 'another state took the place of the one that was looked through',
    })
  }

  #liveBelow(parent: Ino, name: string): DirectoryEntry | undefined {
    if (parent >= this.#firstActiveIno) return undefined
    const known = this.#flushing?.entry(parent, name) ?? this.#cache.entry(parent, name)
    if (known !== undefined) return known
    const key = this.#keyOf(parent, name)
    const value = this.#tables.entries.getBinary(key)
    if (value === undefined) return undefined
    const entry = decodeEntry(key, value, parent, name)
    this.#cache.addEntry(entry)
    return entry
  }

  #keyOf(parent: Ino, name: string): RowKey {
    const key = this.#entryKey
    key.a = parent
    key.text = name
    return key
  }

  #entries(parent: Ino, after: string, limit: number, withTombs: boolean): MergedEntries {
    const sources: EntrySource[] = []
    for (const generation of [this.active, this.#flushing]) {
      const directory = generation?.directories.get(parent)
      if (directory !== undefined) sources.push(new OverlaySource(directory, after))
    }
    if (parent < this.#firstActiveIno) {
      const rows = Math.max(1, Math.min(limit, range_rows_max))
      sources.push(new RowSource(this.#tables.entries, this.#slot, parent, after, rows))
      if (withTombs) sources.push(new RowSource(this.#tables.tombs, this.#slot, parent, after, rows))
    }
    return new MergedEntries(sources)
  }

  #decode(key: RowKey | Uint8Array, value: Buffer, what: string): NodeRecord {
    const record = checkRow(key, value, what)
    try {
      const reader = new ByteReader(record)
      const node = decodeNode(reader, this)
      reader.finish()
      return node
    } catch (error) {
      throw error instanceof DamagedBytes ? damagedRow(what, error) : error
    }
  }
}

function newRoot(options: TreeOptions): NodeRecord {
  const createdAt = options.createdAt ?? 0
  return {
    ino: rootIno,
    since: 0,
    kind: 'directory',
    parent: rootIno,
    name: '',
    version: 1,
    revision: 0,
    createdRevision: 0,
    mode: 0o755,
    owner: options.owner,
    group: options.owner,
    modifiedBy: options.owner,
    createdAt,
    modifiedAt: createdAt,
    contentType: undefined,
    lease: undefined,
    rights: undefined,
    content: noContent,
  }
}

function internal(op: string, message: string): NineError {
  return new NineError({ kind: 'internal', op, message })
}
