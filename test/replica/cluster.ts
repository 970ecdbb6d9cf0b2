/**
 * A cluster of engines in one process: everything is real but the network, which is a table of who hears whom. Messages of a turn
 * arrive in the next one, in order.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Clock } from '../../namespace/clock.ts'
import { NineError } from '../../namespace/errors.ts'
import type { Install, PeerItem } from '../../raft/index.ts'
import type { ChunkHash } from '../../storage/blob/store.ts'
import { openEngine, type Engine, type EngineOptions } from '../../storage/engine/engine.ts'
import type { StoreRow } from '../../storage/engine/folder.ts'
import type { Peers, RequestOptions } from '../../storage/replica/peers.ts'
import type { WalFiles } from '../../storage/wal/files.ts'
import type { Store } from '../../storage/store/store.ts'

export interface ClusterOptions {
  readonly names?: readonly string[]
  readonly tickMs?: number
  readonly keptEntriesMax?: number
  readonly transferKeptBytesMax?: number
  readonly behindBytesMax?: number
  readonly tuning?: EngineOptions['tuning']
  /** A node's own clock; the system's where undefined. */
  readonly clock?: (id: string) => Clock | undefined
  /** The disk below a node's log; the real one where undefined. */
  readonly walFiles?: (id: string) => WalFiles | undefined
}

export class LocalNode {
  readonly id: string
  readonly dir: string
  engine: Engine | undefined
  life = 0

  constructor(id: string, dir: string) {
    this.id = id
    this.dir = dir
  }

  get store(): Store {
    return this.engine!.store('data')
  }
}

export class LocalCluster {
  readonly nodes = new Map<string, LocalNode>()
  readonly row: StoreRow
  /** Snapshots that were brought to a node, and why others were not. */
  snapshots = 0
  readonly snapshotFailures: unknown[] = []
  /** Nodes that get no chunks. */
  readonly chunkless = new Set<string>()
  readonly #options: ClusterOptions
  readonly #dir: string
  /** `from>to` of links that carry nothing. */
  readonly #cut = new Set<string>()

  constructor(dir: string, options: ClusterOptions) {
    this.#dir = dir
    this.#options = options
    const voters = options.names ?? ['n1', 'n2', 'n3']
    this.row = { group: 1, name: 'data', id: 'store', incarnation: 'first', owner: 'glenda', voters }
    for (const id of voters) this.nodes.set(id, new LocalNode(id, join(dir, id)))
  }

  node(id: string): LocalNode {
    return this.nodes.get(id)!
  }

  async start(id: string): Promise<LocalNode> {
    const node = this.node(id)
    node.life += 1
    const { tuning, keptEntriesMax, transferKeptBytesMax, behindBytesMax, tickMs = 20 } = this.#options
    const member = { id, life: node.life, peers: this.#peersOf(id), tickMs, keptEntriesMax, transferKeptBytesMax, behindBytesMax }
    const [clock, walFiles] = [this.#options.clock?.(id), this.#options.walFiles?.(id)]
    node.engine = await openEngine({ dir: node.dir, owner: 'glenda', member, tuning, clock, walFiles })
    await node.engine.openStore(this.row)
    return node
  }

  async stop(id: string): Promise<void> {
    const { engine } = this.node(id)
    this.node(id).engine = undefined
    await engine?.close()
  }

  /** A new member with an empty folder, which is in no configuration yet. */
  add(id: string): LocalNode {
    const node = new LocalNode(id, join(this.#dir, id))
    this.nodes.set(id, node)
    return node
  }

  cut(from: string, to: string): void {
    this.#cut.add(`${from}>${to}`)
  }

  isolate(id: string): void {
    for (const other of this.nodes.keys()) {
      if (other === id) continue
      this.cut(id, other)
      this.cut(other, id)
    }
  }

  heal(): void {
    this.#cut.clear()
  }

  /** The node that leads, once one does; `besides`: not this one, which may believe that it still leads. */
  async leader(besides?: string): Promise<LocalNode> {
    for (;;) {
      for (const node of this.nodes.values()) {
        if (node.id !== besides && (node.engine?.member?.replica(1)?.term ?? 0) > 0) return node
      }
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  async close(): Promise<void> {
    for (const id of this.nodes.keys()) await this.stop(id)
    await rm(this.#dir, { recursive: true, force: true })
  }

  #hears(from: string, to: string): Engine | undefined {
    return this.#cut.has(`${from}>${to}`) ? undefined : this.nodes.get(to)?.engine
  }

  #peersOf(self: string): Peers {
    const unreachable = (to: string, outcome: 'none' | 'unknown'): NineError =>
      new NineError({ kind: 'unavailable', op: 'peer.request', message: `${to} cannot be reached`, outcome })
    return {
      isReachable: (to: string): boolean => this.#hears(self, to) !== undefined && this.#hears(to, self) !== undefined,
      send: (to: string, item: PeerItem): void => {
        setImmediate(() => this.#hears(self, to)?.member?.inbound.receive(self, item))
      },
      sendSnapshot: (group: number, message: Install): Promise<boolean> => this.#sendSnapshot(self, group, message),
      request: async (to: string, group: number, verb: string, body: Uint8Array, options?: RequestOptions): Promise<Uint8Array> => {
        await new Promise((resolve) => setImmediate(resolve))
        const engine = this.#hears(self, to)
        if (engine?.member === undefined) throw unreachable(to, 'none')
        const answer = await engine.member.answer(group, verb, body, options?.deadline ?? Infinity)
        await new Promise((resolve) => setImmediate(resolve))
        if (this.#hears(to, self) === undefined) throw unreachable(to, 'unknown')
        return answer
      },
      pushChunks: async (to: string, chunks: readonly { readonly hash: ChunkHash }[]): Promise<void> => {
        const engine = this.#hears(self, to)
        if (engine === undefined) throw unreachable(to, 'none')
        for (const { hash } of chunks) await engine.blobs.put(await this.node(self).engine!.member!.chunks.get(hash), hash)
      },
      fetchChunk: async (hash: ChunkHash, members: readonly string[]): Promise<Uint8Array> => {
        if (this.chunkless.has(self)) throw unreachable(members.join(', '), 'none')
        let isNowhere = members.length > 0
        for (const to of members) {
          const engine = this.#hears(self, to)
          isNowhere &&= engine !== undefined
          if (engine !== undefined && (await engine.blobs.has(hash))) return engine.member!.chunks.get(hash)
        }
        if (isNowhere) throw new NineError({ kind: 'not_found', op: 'peer.chunk', message: 'no peer has it' })
        throw unreachable(members.join(', '), 'none')
      },
    }
  }

  async #sendSnapshot(self: string, group: number, message: Install): Promise<boolean> {
    const from = this.node(self).engine
    try {
      const source = await from!.member!.transfers.open(group, message)
      try {
        const sink = await this.#hears(self, message.to)!.member!.transfers.receive(group, source)
        for (;;) {
          const bytes = await source.read(sink.offset, 100_000)
          if (bytes.length === 0) break
          await sink.write(bytes)
        }
        await sink.finish()
      } finally {
        await source.close()
      }
      this.snapshots++
      this.#hears(self, message.to)?.member?.inbound.receive(self, { kind: 'raft', group, message: { ...message, meta: source.meta } })
      return true
    } catch (error) {
      this.snapshotFailures.push(error)
      return false
    }
  }
}

export async function startCluster(options: ClusterOptions = {}): Promise<LocalCluster> {
  const cluster = new LocalCluster(await mkdtemp(join(tmpdir(), 'nine-replica-')), options)
  for (const id of cluster.nodes.keys()) await cluster.start(id)
  return cluster
}
