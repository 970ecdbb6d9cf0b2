/**
 * The stores of a cluster: each is a group over all its members, under one number, id and owner on all nodes.
 *
 * S1 A store is made by one transaction that takes its name and its number, so two nodes never make two of either.
 * S2 Every node begins to serve a store when it sees its record: at its start, and from then on as records come.
 * S3 Who made a store, or asks for it, waits until this node serves it.
 */
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName, parseName } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Position } from '../../namespace/position.ts'
import { pause } from './founding.ts'
import type { ClusterStores, StoreRow } from './ports.ts'
import { decodeRecord, encodeRecord, folders, storeRecord } from './records.ts'
import type { StoreRecord } from './records.ts'

export interface StoreRegistryParts {
  readonly sys: FileServer
  /** As the node itself, for a request. */
  readonly context: () => Context
  readonly stores: ClusterStores
  /** An id nobody else has. */
  readonly id: () => string
  /** Voters that the group of a new store begins with. */
  readonly voters: () => readonly string[]
  /** Told of failures that are tried again. */
  readonly warn: (error: unknown) => void
}

/** Names and numbers taken by others meanwhile; then `conflict`. */
const tries_max = 100
const follow_again_ms = 1_000

export class StoreRegistry {
  readonly #parts: StoreRegistryParts
  readonly #stop = new AbortController()
  #following: Promise<void> | undefined
  /** Who waits for a store, by name. */
  readonly #waiting = new Map<string, Set<() => void>>()
  /** Highest number of a group seen. */
  #highest = 0

  constructor(parts: StoreRegistryParts) {
    this.#parts = parts
  }

  /**
   * Note the stores with which a cluster begins, and nothing else: a restored store may hold those of a cluster before, where its nodes
   * listened for clients, and backups that were on their way. Done already: fine.
   */
  async found(rows: readonly StoreRow[]): Promise<void> {
    for (const folder of [folders.clients, folders.uploads, folders.restores]) await this.#clear(folder)
    for (const known of await this.rows()) {
      if (!rows.some((row) => isSame(row, known))) await this.#forget(known)
    }
    for (const row of rows) {
      try {
        await this.#note(row)
      } catch (error) {
        if (!isNineError(error, 'exists')) throw error
      }
    }
  }

  /** All stores of the cluster, as of now. @throws NineError `unavailable` */
  async rows(): Promise<StoreRow[]> {
    return (await this.#load())?.rows ?? []
  }

  /** S2. Ends with `close`. */
  start(): void {
    this.#following ??= this.#follow()
  }

  /**
   * The store of this name, made for `owner` when the cluster has none; this node serves it when it answers.
   * @throws NineError `invalid` (name), `overloaded` (limits.stores_max), `unavailable`, `deadline`
   */
  async open(name: string, owner: string): Promise<FileServer> {
    const op = 'cluster.createStore'
    const { stores } = this.#parts
    if (stores.hasStore(name)) return stores.store(name)
    parseName(name, op)
    const context = this.#parts.context()
    await this.#make(context, name, owner, op)
    await this.#served(context, name, op) // S3
    return stores.store(name)
  }

  async close(): Promise<void> {
    this.#stop.abort()
    for (const waiters of this.#waiting.values()) for (const wake of waiters) wake()
    await this.#following
  }

  /** S1 */
  async #make(context: Context, name: string, owner: string, op: string): Promise<void> {
    const { stores, id } = this.#parts
    for (let tries = 1; tries <= tries_max; tries++) {
      if ([...stores.names()].length >= limits.stores_max) {
        throw new NineError({ kind: 'overloaded', op, message: `a cluster keeps at most ${limits.stores_max} stores` })
      }
      const group = 1 + Math.max(this.#highest, ...groupsOf(stores))
      const voters = [...this.#parts.voters()]
      try {
        await this.#note({ name, group, id: id(), incarnation: id(), owner, voters }, context)
        return
      } catch (error) {
        if (!isNineError(error, 'exists')) throw error
        if (await this.#isNoted(context, name)) return // Another made it.
        this.#highest = group // The number is taken.
      }
    }
    throw new NineError({ kind: 'conflict', op, message: 'others make stores all the time' })
  }

  /** @throws NineError `exists` */
  async #note({ name, ...record }: StoreRow, context = this.#parts.context()): Promise<void> {
    const stored: StoreRecord = record
    const path = joinName(folders.stores, name)
    const number = joinName(folders.groups, String(record.group))
    const { branch } = await this.#parts.sys.txn(context, {
      if: [
        { path, is: 'none' },
        { path: number, is: 'none' },
      ],
      then: [
        { op: 'write', path, bytes: encodeRecord(stored), options: { parents: true } },
        { op: 'write', path: number, bytes: encodeRecord({ store: name }), options: { parents: true } },
      ],
      else: [],
    })
    if (branch === 'then') return
    throw new NineError({ kind: 'exists', op: 'cluster.createStore', message: `there is a store ${name}, or group ${record.group}` })
  }

  async #clear(folder: Path): Promise<void> {
    const { sys, context } = this.#parts
    try {
      await sys.remove(context(), folder, { recursive: true })
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error
    }
  }

  async #forget({ name, group }: StoreRow): Promise<void> {
    const { sys, context } = this.#parts
    const paths = [joinName(folders.stores, name), joinName(folders.groups, String(group))]
    await sys.txn(context(), { if: [], then: paths.map((path) => ({ op: 'remove', path })), else: [] })
  }

  async #isNoted(context: Context, name: string): Promise<boolean> {
    try {
      await this.#parts.sys.stat(context, joinName(folders.stores, name))
      return true
    } catch (error) {
      if (isNineError(error, 'not_found')) return false
      throw error
    }
  }

  /** S3 */
  #served({ deadline, signal }: Context, name: string, op: string): Promise<void> {
    const { stores } = this.#parts
    return new Promise((resolve, reject) => {
      const waiters = this.#waiting.get(name) ?? new Set()
      this.#waiting.set(name, waiters)
      const end = (finish: () => void): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', late)
        waiters.delete(look)
        if (waiters.size === 0) this.#waiting.delete(name)
        finish()
      }
      const late = (): void => {
        const message = `store ${name} was made, but this node does not serve it yet`
        end(() => reject(new NineError({ kind: 'deadline', op, message })))
      }
      const look = (): void => {
        if (stores.hasStore(name)) end(resolve)
        else if (this.#stop.signal.aborted) late()
      }
      const timer = setTimeout(late, Math.max(0, Math.min(deadline - performance.now(), limits.request_ms_default)))
      signal?.addEventListener('abort', late)
      waiters.add(look)
      look()
    })
  }

  /** S2 */
  async #follow(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      try {
        const loaded = await this.#load('stale')
        for (const row of loaded?.rows ?? []) await this.#adopt(row)
        await this.#watch(loaded?.position)
      } catch (error) {
        if (!signal.aborted) this.#parts.warn(error)
      }
      await pause(follow_again_ms, signal)
    }
  }

  async #watch(from: Position | undefined): Promise<void> {
    const { sys, context } = this.#parts
    const lasting: Context = { ...context(), deadline: Infinity, signal: this.#stop.signal }
    for await (const { events } of sys.watch(lasting, folders.stores, { from })) {
      for (const { type, stat } of events) {
        if (type === 'remove' || stat.kind !== 'file') continue
        await this.#adopt(await this.#read(stat.name))
      }
    }
  }

  async #adopt(row: StoreRow): Promise<void> {
    this.#highest = Math.max(this.#highest, row.group)
    await this.#parts.stores.adopt(row)
    for (const look of this.#waiting.get(row.name) ?? []) look()
  }

  async #load(
    consistency: 'linearizable' | 'stale' = 'linearizable',
  ): Promise<{ readonly rows: StoreRow[]; readonly position: Position } | undefined> {
    const { sys, context } = this.#parts
    const rows: StoreRow[] = []
    let cursor: string | undefined
    try {
      for (;;) {
        const page = await sys.list(context(), folders.stores, { cursor, consistency })
        for (const { name } of page.entries) rows.push(await this.#read(name))
        cursor = page.next
        if (cursor === undefined) return { rows, position: page.position }
      }
    } catch (error) {
      if (isNineError(error, 'not_found')) return undefined
      throw error
    }
  }

  async #read(name: string): Promise<StoreRow> {
    const path = joinName(folders.stores, name)
    const { bytes } = await this.#parts.sys.read(this.#parts.context(), path, { consistency: 'stale' })
    return { ...decodeRecord(storeRecord, bytes, path), name }
  }
}

function isSame(row: StoreRow, known: StoreRow): boolean {
  return row.name === known.name && row.group === known.group && row.id === known.id && row.incarnation === known.incarnation
}

function groupsOf(stores: ClusterStores): number[] {
  return [...stores.names()].map((name) => stores.group(name).id)
}
