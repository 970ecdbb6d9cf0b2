/**
 * What a node gives to its peer service, and what it gets. Files and chunks stand behind small ports, so that the service knows
 * nothing of disks.
 */
import type { NineError } from '../../namespace/errors.ts'
import type { ChunkHash } from '../../storage/blob/store.ts'
import type { GroupId, Inbound, Transport } from '../../raft/driver/ports.ts'
import type { Install, NodeId, SnapshotMeta } from '../../raft/model.ts'
import type { VersionRange } from './hello.ts'
import type { PeerLimits } from './limits.ts'

/** A snapshot to send, which may still be written. Bytes that are there do not change while it is open. */
export interface SnapshotSource {
  /** Names these very bytes: what a receiver has of this id is not sent again. */
  readonly id: string
  readonly meta: SnapshotMeta
  /** Bytes there are so far. */
  readonly size: number
  /** Whether these are all. */
  readonly isWhole?: boolean
  /** Up to `length` bytes from `offset` on, as soon as there are some; none: it ends there. */
  read(offset: number, length: number): Promise<Uint8Array>
  close(): Promise<void>
}

/** Where a snapshot's bytes go. Calls come one at a time. */
export interface SnapshotSink {
  /** Bytes of this id that are here: sending begins behind them. At most its size. */
  readonly offset: number
  /** Bytes of the whole, told once the sender knows. */
  total?: number | undefined
  /** Grows as long as something gets done with what was given, while `finish` is under way too. */
  readonly progress: number
  /** The next bytes. They must not be changed, and are the sink's to keep. */
  write(bytes: Uint8Array): Promise<void>
  /** All bytes were given: check the whole and make it durable; the driver is then told to install it. Replaces `close`. */
  finish(): Promise<void>
  /** The transfer broke; what is durable may be kept for the next try. */
  close(): Promise<void>
}

export interface Transfer {
  readonly id: string
  readonly meta: SnapshotMeta
}

export interface Snapshots {
  /** A snapshot of the group's state machine at least as new as `message.meta`. */
  open(group: GroupId, message: Install): Promise<SnapshotSource>
  receive(group: GroupId, transfer: Transfer, from: NodeId): Promise<SnapshotSink>
}

/** The node's chunks: a BlobStore is one. */
export interface Chunks {
  get(hash: ChunkHash): Promise<Uint8Array>
  /** Answers when the chunk is durable. The bytes were checked against the hash. */
  put(bytes: Uint8Array, hash: ChunkHash): Promise<ChunkHash>
  /** Whether it is there; then it is as young as if it had been put now, since a change yet to come counts on it. */
  touch(hash: ChunkHash): Promise<boolean>
}

/** Who asks on a Call. */
export interface Caller {
  readonly member: NodeId
  /** '' when it is in no cluster. */
  readonly cluster: string
  /** Where it says that it listens. */
  readonly address: string
}

export interface PeerTls {
  /** PEM: the authority that signs the certificates of all nodes; own certificate and key, good for both sides of TLS. */
  readonly ca: string | Buffer
  readonly cert: string | Buffer
  readonly key: string | Buffer
  /** Name in the peers' certificates; default: the host of their address. */
  readonly serverName?: string | undefined
}

export interface PeerEvent {
  readonly event: 'connected' | 'lost' | 'unreachable' | 'refused' | 'garbage' | 'fault'
  /** Member id where it is known, else an address. */
  readonly peer: string
  readonly error?: NineError | undefined
}

export interface PeerOptions {
  /** Port 0 picks one. Beyond loopback only with TLS. */
  readonly listen: { readonly host: string; readonly port: number }
  readonly tls?: PeerTls | undefined
  /** What all nodes of the cluster know and nobody else. Without TLS it must be there. */
  readonly secret?: string | undefined
  /** Cluster id, '' while there is none: then only `call` works, in both directions. See PeerService.enter. */
  readonly cluster: string
  readonly self: NodeId
  /** Where others reach this node; default: where it listens. */
  readonly address?: string | undefined
  /** Where this node connects instead of an address that all nodes agree on: through a proxy, say. Both are `HOST:PORT`. */
  readonly via?: ReadonlyMap<string, string> | undefined
  /** Asked anew at each attempt. */
  addressOf(member: NodeId): string | undefined
  readonly inbound: Inbound
  /**
   * A request of a member. What it throws goes to who asked as it is, if a NineError. `body` is read-only.
   * @param deadline on the monotonic clock, or Infinity
   */
  onRequest(from: NodeId, group: GroupId, verb: string, body: Uint8Array, deadline: number): Promise<Uint8Array>
  /** A request over `call`. Every node that knows the secret (or has a certificate) may ask, whatever its cluster. */
  onCall(from: Caller, verb: string, body: Uint8Array, deadline: number): Promise<Uint8Array>
  readonly snapshots: Snapshots
  readonly chunks: Chunks
  readonly features?: readonly string[] | undefined
  readonly versions?: VersionRange | undefined
  /** Default: the system's. Only its monotonic side is read. */
  readonly clock?: { monotonic(): number } | undefined
  /** In [0, 1), for the jitter of backoff. */
  random?(): number
  readonly limits?: Partial<PeerLimits> | undefined
  /** Changes worth a line in the log; the same one about the same peer comes once until something else is said of it. */
  log?(event: PeerEvent): void
}

export interface RequestOptions {
  /** On the monotonic clock; default: limits.request_ms_default from now. */
  readonly deadline?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** A chunk to push; without bytes they are read from the node's own chunks when their turn comes. */
export interface PushedChunk {
  readonly hash: ChunkHash
  readonly bytes?: Uint8Array | undefined
}

export interface PeerStatus {
  readonly member: NodeId
  readonly address: string | undefined
  /** Of our connection to it: `idle` when nobody asked for one yet. */
  readonly state: 'idle' | 'dialling' | 'open' | 'waiting'
  /** Spoken version, 0 when not open. */
  readonly version: number
  /** Whether its connection to us is open. */
  readonly isHeard: boolean
  /** Bytes that wait to be sent. */
  readonly waitingBytes: number
  /** Items that were dropped since start: no connection, or too much waited. */
  readonly droppedItems: number
  readonly connects: number
  /** Why the last attempt or connection ended. */
  readonly lastError: string
}

export interface PeersStatus {
  readonly address: string
  readonly cluster: string
  readonly member: NodeId
  readonly peers: readonly PeerStatus[]
  /** Connections there are from outside, hello over or not. */
  readonly connections: number
  /** Since start: hellos refused; connections ended for what they said; connections closed because there were too many. */
  readonly refused: number
  readonly garbage: number
  readonly crowded: number
  readonly transfers: readonly { readonly group: GroupId; readonly peer: NodeId; readonly sentBytes: number; readonly bytes: number }[]
}

export interface PeerService extends Transport {
  /** `HOST:PORT` that it listens on. */
  readonly address: string
  /** From now on a member of this cluster. */
  enter(cluster: string): void
  /**
   * Ask a member. @throws NineError what its handler threw; `unavailable` when it cannot be reached (outcome `none`) or the connection broke
   * before the answer (`unknown`); `overloaded`, `too_large` (not sent); `deadline`
   */
  request(to: NodeId, group: GroupId, verb: string, body: Uint8Array, options?: RequestOptions): Promise<Uint8Array>
  /** Ask whoever listens at `HOST:PORT`. @throws as request, and `denied`, `unauthenticated` when it does not take this node */
  call(address: string, verb: string, body: Uint8Array, options?: RequestOptions): Promise<Uint8Array>
  /** Resolves when all of them are durable at `to`; those that it has are not sent. @throws NineError `unavailable`, `deadline`, and as Chunks */
  pushChunks(to: NodeId, chunks: readonly PushedChunk[], options?: RequestOptions): Promise<void>
  /** A chunk from the first of `members` that gives the right bytes. @throws NineError `not_found` when all were asked and none has it, else `unavailable` */
  fetchChunk(hash: ChunkHash, members: readonly NodeId[], options?: RequestOptions): Promise<Uint8Array>
  /** Whether the connections in both directions are open. */
  isReachable(member: NodeId): boolean
  /** The member left: its connections are closed, and no new ones are made until something is sent to it again. */
  forget(member: NodeId): void
  status(): PeersStatus
  close(): Promise<void>
}
