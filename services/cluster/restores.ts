/**
 * Restoring a store while its nodes serve: from a backup that was written to a file of `/sys/restore`, by one entry of the store's group.
 *
 *   /cluster/uploads/<name>               of the store sys: a backup as it came; seen as /sys/restore/<name>
 *   /cluster/restores/<store>/<id>        one that is being restored; gone when no node needs it any more
 *
 * The file brings the backup's chunks to a majority's disks before it is there, and names them until it is removed.
 *
 * A1 All of a backup is loaded on the node that is asked, and given up, before it is claimed: what a restore would stumble over for good is
 *    told here. Until the entry is agreed on nothing of the store changes.
 * A2 Who claims a backup moves its file, so of several who restore it one does; its id is never given again. Who is asked for it again goes
 *    on with it: the entry is made once (apply/restores.ts).
 * A3 The file stays until every member has made the restore and gives nobody the entry any more, who would need it. A member that is away
 *    for long keeps it: it may have the entry already. So it does where the outcome is not known, and before many are kept no more are taken.
 * A4 What nobody goes on with, since the node that did has ended, is given up by an entry as well, and its file removed; from then on it
 *    cannot be made. So is what was uploaded and never claimed, by its age.
 */
import type { Clock } from '../../namespace/clock.ts'
import { contextFor, type Context } from '../../namespace/context.ts'
import { isNineError, NineError, type ErrorKind } from '../../namespace/errors.ts'
import { failpoint } from '../../namespace/failpoint.ts'
import type { FileServer, ListResult } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName, parseName } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Micros } from '../../namespace/stat.ts'
import { membersOf } from '../../raft/index.ts'
import type { GroupStatus } from '../../raft/index.ts'
import type { KnownRestore } from '../../storage/apply/restores.ts'
import { chunkCount, depthFor, type ChunkSource } from '../../storage/blob/chunk-tree.ts'
import type { Outcome, RestoreCommand } from '../../storage/model.ts'
import { BlockReader } from '../../storage/snapshot/block-reader.ts'
import type { SnapshotHeader } from '../../storage/snapshot/format.ts'
import { ValueSource } from '../../storage/snapshot/value-source.ts'
import { nameOfMember } from './cluster-file.ts'
import { pause } from './founding.ts'
import { folders } from './records.ts'

/** A store, and its group where the node belongs to a cluster. */
export interface RestorableStore {
  readonly id: string
  readonly owner: string
  /** What this node has made, or seen given up. */
  restores(): readonly KnownRestore[]
  /** Read a backup as a restore does, its chunks too, and give it up. @returns the last time in it @throws NineError, the signal's reason */
  tryBackup(backup: Backup, name: string, signal: AbortSignal): Promise<Micros>
  restore(context: Context, command: RestoreCommand): Promise<Outcome>
  /** undefined: the node is alone. */
  group(): GroupStatus | undefined
}

export interface RestorePeers {
  /** This node's id among the members. */
  readonly member: string
  request(to: string, group: number, verb: string, body: Uint8Array, options: { readonly deadline: number }): Promise<Uint8Array>
}

export interface RestoreParts {
  readonly sys: FileServer
  readonly owner: Principal
  readonly chunks: ChunkSource
  /** @throws NineError `not_found` */
  readonly store: (name: string) => RestorableStore
  /** undefined: the node is alone. */
  readonly peers: RestorePeers | undefined
  readonly id: () => string
  readonly clock: Clock
  readonly warn: (error: unknown) => void
}

export interface RestoreOptions {
  /** Also of a store with another identity: of another cluster. */
  readonly force?: boolean | undefined
}

export interface RestoreRow {
  readonly id: string
  readonly state: 'made' | 'given up' | 'under way'
  /** Of the entry that made it, or gave it up. */
  readonly index?: number
  /** Its backup is kept yet, for members that may need it. */
  readonly isKept: boolean
}

/** What members ask each other. */
export const restoreVerbs = { able: 'raft.restores', status: 'raft.status' } as const

type Backup = NonNullable<RestoreCommand['backup']>

/** A backup on its way into a store. */
interface Claimed {
  readonly path: Path
  readonly id: string
  /** The last in it; undefined: it was claimed before. */
  readonly time?: Micros
}

const op = 'cluster.restore'
const own_ms = 10_000

export class Restores {
  readonly #parts: RestoreParts
  readonly #stop = new AbortController()
  /** Under way on this node, by store and name. */
  readonly #running = new Map<string, Promise<void>>()
  /** Backups that are being loaded to see whether they can be. */
  readonly #trying = new Set<Promise<Micros>>()
  /** Since when a backup has been seen that nobody here goes on with, monotonic milliseconds. */
  readonly #idleSince = new Map<string, number>()
  #sweeping: Promise<void> | undefined

  constructor(parts: RestoreParts) {
    this.#parts = parts
  }

  /** Take away what is not needed any more, from now on. */
  start(): void {
    this.#sweeping ??= this.#sweep()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#sweeping
    await Promise.allSettled(this.#trying)
  }

  /**
   * Make `store` what the backup of this name says. Resolves when it is made; when the context's time is over it goes on, and who asks again
   * waits for the same.
   * @throws NineError `not_found` (store, backup), `corrupt`, `invalid` (no backup; of another store; store sys), `unsupported` (a member of an
   *   older release), `conflict` (given up), `overloaded` (many backups
   *   are kept for members that are away), `unavailable`, `deadline`
   */
  async restore(context: Context, store: string, name: string, options: RestoreOptions = {}): Promise<void> {
    checkRestorable(store)
    parseName(name, op)
    const key = `${store}/${name}`
    let running = this.#running.get(key)
    if (running === undefined) {
      running = this.#run(this.#parts.store(store), store, name, options).finally(() => this.#running.delete(key))
      running.catch(() => undefined)
      this.#running.set(key, running)
    }
    await inTime(running, context, `store ${store} is being restored`)
  }

  /** Of a store, the oldest first: those that this node has made or seen given up, and those under way. @throws NineError `not_found` */
  async list(store: string): Promise<RestoreRow[]> {
    const restorable = this.#parts.store(store)
    const kept = await this.#namesIn(joinName(folders.restores, store), 'stale')
    const known = restorable.restores()
    return [
      ...known.map(({ id, index, isDone }): RestoreRow => ({ id, state: isDone ? 'made' : 'given up', index, isKept: kept.includes(id) })),
      ...kept.filter((id) => !known.some((one) => one.id === id)).map((id): RestoreRow => ({ id, state: 'under way', isKept: true })),
    ]
  }

  async #run(restorable: RestorableStore, store: string, name: string, options: RestoreOptions): Promise<void> {
    const claimed = await this.#claim(restorable, store, name, options)
    if (claimed === undefined) return // Made before.
    const backup = await this.#backupAt(claimed.path)
    if (backup === undefined) throw missing(name)
    const time = claimed.time ?? (await this.#try(restorable, backup, name))
    const context: Context = {
      principal: { name: restorable.owner, groups: [] },
      deadline: performance.now() + limits.restore_made_ms_max,
      signal: this.#stop.signal,
      time, // Times of a store never go back: this change is later than all in the backup.
    }
    const outcome = await restorable.restore(context, {
      op: 'restore',
      id: claimed.id,
      incarnation: this.#parts.id(),
      endsHandles: true,
      backup,
    })
    failpoint('restore.made')
    if (outcome.kind !== 'error') return
    // A3: of any other error it may have been made, or be yet; then the sweep sees to it.
    if (refusals.has(outcome.error.kind)) await this.#remove(claimed.path)
    throw new NineError({ ...outcome.error, op })
  }

  /** A1, A2; undefined: it was restored already. */
  async #claim(restorable: RestorableStore, store: string, name: string, options: RestoreOptions): Promise<Claimed | undefined> {
    const { sys } = this.#parts
    for (;;) {
      const known = await this.#claimedAs(store, name)
      if (known !== undefined) return known
      const uploaded = joinName(folders.uploads, name)
      const stat = await this.#statOf(uploaded)
      if (stat === undefined) {
        const before = restorable.restores().findLast(({ id }) => nameOf(id) === name)
        if (before?.isDone === true) return undefined
        throw missing(name)
      }
      const backup = await this.#backupAt(uploaded)
      if (backup === undefined) continue
      checkBackup(await this.#headerOf(backup, name), store, restorable.id, options)
      await this.#checkMembers(restorable)
      await this.#checkKept(restorable, store)
      const time = await this.#try(restorable, backup, name)
      this.#checkTime(time)
      failpoint('restore.checked')
      const id = `${name}.${stat.path}`
      const path = joinName(joinName(folders.restores, store), id)
      try {
        await sys.rename(this.#context(), uploaded, path, { parents: true, ifMatch: stat })
      } catch (error) {
        if (!isNineError(error, 'not_found') && !isNineError(error, 'conflict')) throw error
        continue // Another was faster, or the file is another now.
      }
      failpoint('restore.claimed')
      return { path, id, time }
    }
  }

  /** A restore is later than all that is in its backup, and no change may be far ahead of the clock: each member would have to load it to see that. */
  #checkTime(time: Micros): void {
    const ahead_ms = (time - this.#parts.clock.now()) / 1000
    if (ahead_ms <= limits.clock_ahead_ms_max) return
    const when = `${Math.ceil(ahead_ms / 1000)} s ahead of this node's clock`
    fail('invalid', `the clock of the store in this backup is ${when}: restore it when that time has come, or into a new folder`)
  }

  /**
   * A member that cannot make the entry would stop. Who cannot be asked is away; it is taken to come back with a release that can, since
   * all are to be of one before a restore (README.md). One that does not fails at the entry, until it is started with the others' release.
   */
  async #checkMembers(restorable: RestorableStore): Promise<void> {
    const { peers } = this.#parts
    const status = restorable.group()
    if (peers === undefined || status === undefined) return
    await Promise.all(
      [...membersOf(status.configuration)].map(async (id) => {
        if (id === peers.member) return
        try {
          await peers.request(id, 0, restoreVerbs.able, nothing, { deadline: performance.now() + limits.cluster_ask_ms_max })
        } catch (error) {
          if (!isNineError(error, 'unsupported')) return
          fail('unsupported', `${nameOfMember(id)} is of a release that cannot do this: bring it to the one of this node first`)
        }
      }),
    )
  }

  /**
   * A3: what members made is known of so many restores only. So the first whose backup is kept stays among them: half is for those that are
   * asked for at the same time.
   */
  async #checkKept(restorable: RestorableStore, store: string): Promise<void> {
    const kept = await this.#namesIn(joinName(folders.restores, store))
    const known = restorable.restores()
    const first = known.findIndex(({ id }) => kept.includes(id))
    const unknown = kept.filter((id) => !known.some((one) => one.id === id)).length
    if ((first < 0 ? 0 : known.length - first) + unknown < limits.restores_known_max / 2) return
    const message = `${kept.length} backups of earlier restores are kept for members that have not made them: start these, or take them out of the cluster`
    throw new NineError({ kind: 'overloaded', op, message })
  }

  #headerOf(backup: Backup, name: string): Promise<SnapshotHeader> {
    return new BlockReader(new ValueSource(this.#parts.chunks, backup, name)).begin()
  }

  /** A1 */
  async #try(restorable: RestorableStore, backup: Backup, name: string): Promise<Micros> {
    const trying = restorable.tryBackup(backup, name, this.#stop.signal)
    this.#trying.add(trying)
    return trying.finally(() => this.#trying.delete(trying))
  }

  // Files

  async #claimedAs(store: string, name: string): Promise<Claimed | undefined> {
    const folder = joinName(folders.restores, store)
    for (const id of await this.#namesIn(folder)) if (nameOf(id) === name) return { path: joinName(folder, id), id }
    return undefined
  }

  async #statOf(path: Path): Promise<{ readonly path: number; readonly version: number } | undefined> {
    try {
      const { stat } = await this.#parts.sys.stat(this.#context(), path)
      return { path: stat.qid.path, version: stat.version }
    } catch (error) {
      if (isNineError(error, 'not_found')) return undefined
      throw error
    }
  }

  async #backupAt(path: Path): Promise<Backup | undefined> {
    const { sys } = this.#parts
    try {
      const { stat } = await sys.stat(this.#context(), path)
      const { blob, size } = stat
      if (blob !== undefined && size !== undefined) {
        return { kind: 'blob', blob: { root: Buffer.from(blob, 'hex'), depth: depthFor(chunkCount(size)), size } }
      }
      const { bytes } = await sys.read(this.#context(), path)
      return { kind: 'inline', bytes }
    } catch (error) {
      if (isNineError(error, 'not_found')) return undefined
      throw error
    }
  }

  async #namesIn(folder: Path, consistency?: 'stale'): Promise<string[]> {
    const names: string[] = []
    let page: ListResult | undefined
    try {
      do {
        page = await this.#parts.sys.list(this.#context(), folder, { cursor: page?.next, consistency })
        for (const { name } of page.entries) names.push(name)
      } while (page.next !== undefined)
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error
    }
    return names
  }

  async #remove(path: Path): Promise<void> {
    try {
      await this.#parts.sys.remove(this.#context(), path)
    } catch (error) {
      if (!isNineError(error, 'not_found')) throw error
    }
  }

  // Upkeep, by whoever leads the store sys

  async #sweep(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      await pause(limits.restore_sweep_ms, signal)
      if (signal.aborted || !this.#isSweeper()) continue
      await this.#attempt(async () => {
        for (const store of await this.#namesIn(folders.restores, 'stale')) await this.#attempt(() => this.#settleAll(store))
      })
      await this.#attempt(async () => {
        for (const name of await this.#namesIn(folders.uploads, 'stale')) await this.#forgetOld(name)
      })
    }
  }

  /** What fails is told, and tried again in the next round: it holds up nothing else. */
  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#parts.warn(error)
    }
  }

  async #settleAll(store: string): Promise<void> {
    for (const id of await this.#namesIn(joinName(folders.restores, store), 'stale')) await this.#settle(store, id)
  }

  #isSweeper(): boolean {
    const { peers, store } = this.#parts
    return peers === undefined || store('sys').group()?.role === 'leader'
  }

  /** A3, A4 */
  async #settle(store: string, id: string): Promise<void> {
    const path = joinName(joinName(folders.restores, store), id)
    const restorable = this.#parts.store(store)
    const known = restorable.restores().find((restore) => restore.id === id)
    if (known !== undefined) {
      if (known.isDone && !(await this.#isMadeByAll(restorable, known.index))) return
      this.#idleSince.delete(id)
      await this.#remove(path)
      return
    }
    const isRunning = this.#running.has(`${store}/${nameOf(id)}`)
    const now = this.#parts.clock.monotonic()
    const since = isRunning ? now : (this.#idleSince.get(id) ?? now)
    this.#idleSince.set(id, since)
    if (now - since < limits.restore_idle_ms_max) return
    this.#idleSince.delete(id)
    if (this.#parts.peers === undefined) return this.#remove(path)
    const context = { ...this.#context(), principal: { name: restorable.owner, groups: [] } }
    await restorable.restore(context, { op: 'restore', id, incarnation: '', backup: undefined })
  }

  /** A3 */
  async #isMadeByAll(restorable: RestorableStore, index: number): Promise<boolean> {
    const { peers } = this.#parts
    const own = restorable.group()
    if (peers === undefined || own === undefined) return true
    const deadline = performance.now() + limits.cluster_ask_ms_max
    const made = await Promise.all(
      [...membersOf(own.configuration)].map(async (id) => {
        if (id === peers.member) return isPast(own, index)
        try {
          const answer = await peers.request(id, own.group, restoreVerbs.status, nothing, { deadline })
          return isPast(JSON.parse(Buffer.from(answer).toString()) as GroupStatus, index)
        } catch {
          return false // It is away, or does not have the store yet.
        }
      }),
    )
    return made.every((isMade) => isMade)
  }

  /** A4 */
  async #forgetOld(name: string): Promise<void> {
    const path = joinName(folders.uploads, name)
    const { stat } = await this.#parts.sys.stat(this.#context(), path)
    if (this.#parts.clock.now() - stat.modifiedAt > limits.restore_upload_ms_max * 1_000) await this.#remove(path)
  }

  #context(): Context {
    return { ...contextFor(this.#parts.owner, own_ms), signal: this.#stop.signal }
  }
}

/** Whether the store can be restored while it serves. @throws NineError `invalid` */
export function checkRestorable(store: string): void {
  if (store !== 'sys') return
  fail(
    'invalid',
    'the store sys knows the members and stores of the cluster, which would be those of the backup: it is restored into a new folder, by a node that is not running (nine raft restore --data)',
  )
}

/** Whether a file that begins so is a backup of this store. @param id of the store @throws NineError `invalid` */
export function checkBackup(header: SnapshotHeader, store: string, id: string, { force = false }: RestoreOptions): void {
  if (!header.isBackup) fail('invalid', 'this is no backup: the chunks of large values are not in it')
  if (header.store === id || force) return
  fail(
    'invalid',
    `this is a backup of a store ${header.name} with another identity (${header.store}) than ${store} has (${id}): --force takes it all the same`,
  )
}

const nothing = new Uint8Array(0)
/** What a restore is answered that was not made, and never will be. */
const refusals: ReadonlySet<ErrorKind> = new Set(['conflict', 'denied', 'invalid'])

/** As which the backup of an id was uploaded. */
function nameOf(id: string): string {
  return id.slice(0, id.lastIndexOf('.'))
}

/** Whether a member has applied the entry, and gives it to nobody any more. */
function isPast({ applied, first }: GroupStatus, index: number): boolean {
  return applied >= index && first > index
}

function missing(name: string): NineError {
  return new NineError({ kind: 'not_found', op, message: `there is no backup /sys/restore/${name}` })
}

function fail(kind: 'invalid' | 'unsupported', message: string): never {
  throw new NineError({ kind, op, message })
}

/** What takes longer goes on. */
async function inTime(work: Promise<void>, { deadline, signal }: Context, what: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  let stop = (): void => undefined
  const late = new Promise<never>((_resolve, reject) => {
    stop = () => reject(new NineError({ kind: 'deadline', op, message: what, outcome: 'unknown' }))
    const left = Math.max(0, Math.min(deadline - performance.now(), limits.restore_made_ms_max))
    timer = setTimeout(stop, left)
    signal?.addEventListener('abort', stop)
  })
  try {
    await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', stop)
  }
}
