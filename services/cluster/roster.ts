/**
 * The members of a cluster, as records of its `sys` store. Every change is one transaction conditional on what it was decided on, so
 * whoever makes it, on whichever node, none is lost.
 */
import type { Context } from '../../namespace/context.ts'
import { isNineError, NineError } from '../../namespace/errors.ts'
import type { FileServer, ListResult, TxnCondition, TxnOperation } from '../../namespace/file-server.ts'
import { limits } from '../../namespace/limits.ts'
import { joinName } from '../../namespace/path.ts'
import type { Path } from '../../namespace/path.ts'
import type { Position } from '../../namespace/position.ts'
import type { z } from 'zod'
import type { Goal } from './reconciler.ts'
import { removedMessage } from './formation.ts'
import type { Peer } from './peer-list.ts'
import type { Role, Wanted } from './plan.ts'
import { decodeRecord, encodeRecord, folders, memberRecord, nameRecord, removedRecord } from './records.ts'
import type { MemberRecord, NameRecord, RemovedRecord, Versioned } from './records.ts'

/** All of it, as of one moment. */
export interface Members {
  readonly names: ReadonlyMap<string, Versioned<NameRecord>>
  readonly members: ReadonlyMap<string, Versioned<MemberRecord>>
  /** Lives that are members no more, the oldest removal first. */
  readonly removed: ReadonlyMap<string, RemovedRecord>
}

export interface RemoveOptions {
  readonly isForced?: boolean
  readonly judge?: (members: Members) => void
}

export interface Newcomer {
  readonly name: string
  readonly member: string
  readonly address: string
}

/** Tries of one change while others change the same. */
const tries_max = 10

export class Roster {
  readonly #sys: FileServer
  /** As the node itself. */
  readonly #context: () => Context
  readonly #now: () => number

  /** @param now microseconds since the epoch */
  constructor(sys: FileServer, context: () => Context, now: () => number) {
    this.#sys = sys
    this.#context = context
    this.#now = now
  }

  /** @param isStale from this node's copy, without asking the others */
  async load(isStale = false): Promise<Members> {
    const consistency = isStale ? 'stale' : 'linearizable'
    const at = (await this.#list(folders.names, consistency))?.position
    if (at === undefined) return { names: new Map(), members: new Map(), removed: new Map() }
    const [names, members, removed] = await Promise.all([
      this.#readAll(folders.names, nameRecord, at),
      this.#readAll(folders.members, memberRecord, at),
      this.#readAll(folders.removed, removedRecord, at),
    ])
    const olderFirst = [...removed].sort(([, a], [, b]) => a.created - b.created)
    return { names, members, removed: new Map(olderFirst.map(([id, { value }]) => [id, value])) }
  }

  /**
   * The founder notes itself and who may join it; done already: fine. What a restored store holds of a cluster before goes: none of its
   * members is one of this.
   */
  async found(founder: Newcomer, peers: readonly Peer[]): Promise<void> {
    const { names, members, removed } = await this.load()
    if (members.has(founder.member)) return
    const remove = (folder: Path, known: Iterable<string>): TxnOperation[] =>
      [...known].map((name) => ({ op: 'remove', path: joinName(folder, name) }))
    const voter = (address: string): NameRecord => ({ address, role: 'voter' })
    const operations = [
      ...remove(folders.names, names.keys()),
      ...remove(folders.members, members.keys()),
      ...remove(folders.removed, removed.keys()),
      ...peers.map(({ name, address }) => put(joinName(folders.names, name), voter(address))),
      put(joinName(folders.members, founder.member), this.#recordOf(founder)),
    ]
    await this.#sys.txn(this.#context(), { if: [], then: operations, else: [] })
  }

  /**
   * Make a node's life a member, in place of the one before. Done already: fine.
   * @throws NineError `denied`: it was removed, or nobody has let a node of its name in; `conflict`
   */
  async admit(newcomer: Newcomer): Promise<void> {
    const { name, member, address } = newcomer
    const op = 'cluster.join'
    await this.#change(op, ({ names, members, removed }) => {
      if (removed.has(member)) {
        throw new NineError({ kind: 'denied', op, message: removedMessage(member, 'this cluster', livesOf(name, members)[0]) })
      }
      const known = names.get(name)
      if (known === undefined) {
        const message = `no node ${name} belongs to this cluster: let it in with nine raft add ${name}=${address}`
        throw new NineError({ kind: 'denied', op, message })
      }
      const own = members.get(member)
      if (own?.value.address === address && known.value.address === address) return undefined
      const olds = livesOf(name, members).filter((id) => id !== member)
      return {
        if: [{ path: joinName(folders.names, name), is: known.match }],
        then: [
          // Written anew even where it is the same: of two lives that join at once, one finds it changed.
          put(joinName(folders.names, name), { ...known.value, address }),
          put(joinName(folders.members, member), own === undefined ? this.#recordOf(newcomer) : { ...own.value, address }),
          ...dismissal(name, olds, removed),
        ],
      }
    })
  }

  /** Let a node of this name join. @throws NineError `exists`, `overloaded` (limits.cluster_nodes_max), `invalid` (address in use) */
  async add({ name, address }: Peer, role: Role): Promise<void> {
    const op = 'cluster.add'
    await this.#change(op, ({ names }) => {
      const known = names.get(name)
      if (known?.value.address === address && known.value.role === role) return undefined
      if (known !== undefined) {
        const message = `${name} belongs to this cluster, at ${known.value.address}: nine raft remove ${name} comes first`
        throw new NineError({ kind: 'exists', op, message })
      }
      const other = [...names].find(([, { value }]) => value.address === address)
      if (other !== undefined) throw new NineError({ kind: 'invalid', op, message: `${address} is where ${other[0]} listens` })
      if (names.size >= limits.cluster_nodes_max) {
        throw new NineError({ kind: 'overloaded', op, message: `a cluster has at most ${limits.cluster_nodes_max} nodes` })
      }
      const path = joinName(folders.names, name)
      return { if: [{ path, is: 'none' }], then: [put(path, { address, role } satisfies NameRecord)] }
    })
  }

  /**
   * The node is a member no more, and none of its name joins until it is added again. Forced where it was removed already: that is noted.
   * @param judge throws what speaks against it, by what is taken out of: of two removals at once one is judged after the other
   * @throws NineError `not_found`, what `judge` throws
   */
  async remove(name: string, { isForced = false, judge = () => undefined }: RemoveOptions = {}): Promise<void> {
    const op = 'cluster.remove'
    await this.#change(op, (loaded) => {
      const { names, members, removed } = loaded
      const before = [...removed].filter(([, record]) => record.name === name).map(([id]) => id)
      if (isForced && !names.has(name) && before.length > 0) return { if: [], then: before.map((id) => noteRemoved(id, name, true)) }
      nodeOf(names, name, op)
      judge(loaded)
      const others = [...names].map(([other, { match }]) => ({ path: joinName(folders.names, other), is: match }))
      const path = joinName(folders.names, name)
      return { if: others, then: [{ op: 'remove', path }, ...dismissal(name, livesOf(name, members), removed, isForced)] }
    })
  }

  /** @throws NineError `not_found` */
  async setRole(name: string, role: Role): Promise<void> {
    const op = 'cluster.promote'
    await this.#change(op, ({ names }) => {
      const known = nodeOf(names, name, op)
      if (known.value.role === role) return undefined
      const path = joinName(folders.names, name)
      return { if: [{ path, is: known.match }], then: [put(path, { ...known.value, role })] }
    })
  }

  #recordOf({ name, address }: Newcomer): MemberRecord {
    return { name, address, joined: this.#now() }
  }

  /** @param decide what to do with what there is; undefined: nothing */
  async #change(
    op: string,
    decide: (members: Members) => { readonly if: readonly TxnCondition[]; readonly then: readonly TxnOperation[] } | undefined,
  ): Promise<void> {
    for (let tries = 1; tries <= tries_max; tries++) {
      const decided = decide(await this.load())
      if (decided === undefined) return
      const { branch } = await this.#sys.txn(this.#context(), { ...decided, else: [] })
      if (branch === 'then') return
    }
    throw new NineError({ kind: 'conflict', op, message: 'the members of the cluster are being changed by others all the time' })
  }

  async #readAll<T>(folder: Path, shape: z.ZodType<T>, at: Position): Promise<Map<string, Versioned<T>>> {
    const found = new Map<string, Versioned<T>>()
    const { entries = [] } = (await this.#list(folder, 'stale', at)) ?? {}
    for (const { name } of entries) {
      const path = joinName(folder, name)
      const { bytes, stat } = await this.#sys.read(this.#context(), path, { at })
      const match = { path: stat.qid.path, version: stat.version }
      found.set(name, { value: decodeRecord(shape, bytes, path), match, created: stat.createdRevision })
    }
    return found
  }

  /** A folder and the moment it shows; undefined: there is none. */
  async #list(folder: Path, consistency: 'linearizable' | 'stale', at?: Position): Promise<ListResult | undefined> {
    try {
      return await this.#sys.list(this.#context(), folder, { consistency, at })
    } catch (error) {
      if (isNineError(error, 'not_found')) return undefined
      throw error
    }
  }
}

/** What the configurations of groups should become. */
export function goalOf(loaded: Members): Goal {
  const forced = [...loaded.removed].filter(([, { isForced }]) => isForced === true)
  return { members: wantedOf(loaded), forced: new Set(forced.map(([id]) => id)) }
}

/** The members that groups should have. */
export function wantedOf({ names, members }: Members): Wanted[] {
  return [...members].flatMap(([id, { value }]) => {
    const known = names.get(value.name)
    return known === undefined ? [] : [{ id, name: value.name, role: known.value.role }]
  })
}

function nodeOf(names: Members['names'], name: string, op: string): Versioned<NameRecord> {
  const known = names.get(name)
  if (known !== undefined) return known
  const message = `no node ${JSON.stringify(name)} belongs to this cluster: there are ${[...names.keys()].join(', ')}`
  throw new NineError({ kind: 'not_found', op, message })
}

function put(path: Path, value: object): TxnOperation {
  return { op: 'write', path, bytes: encodeRecord(value), options: { parents: true } }
}

/** Members that a node is: one, but for a moment none. */
export function livesOf(name: string, members: Members['members']): string[] {
  return [...members].filter(([, { value }]) => value.name === name).map(([id]) => id)
}

/** Lives of a node are members no more; beyond the limit the oldest that were removed are forgotten. */
function dismissal(name: string, lives: readonly string[], removed: Members['removed'], isForced = false): TxnOperation[] {
  const forgotten = [...removed.keys()].slice(0, Math.max(0, removed.size + lives.length - limits.cluster_removed_max))
  return [
    ...forgotten.map((id): TxnOperation => ({ op: 'remove', path: joinName(folders.removed, id) })),
    ...lives.flatMap((id): TxnOperation[] => [{ op: 'remove', path: joinName(folders.members, id) }, noteRemoved(id, name, isForced)]),
  ]
}

function noteRemoved(id: string, name: string, isForced: boolean): TxnOperation {
  return put(joinName(folders.removed, id), { name, ...(isForced ? { isForced } : {}) } satisfies RemovedRecord)
}
