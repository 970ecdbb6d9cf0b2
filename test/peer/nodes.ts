/** Peer services for tests: real listeners on loopback, with what they were told kept to look at. */
import { createHash } from 'node:crypto'
import { NineError } from '../../namespace/errors.ts'
import { startPeer } from '../../services/peer/service.ts'
import type { Caller, PeerEvent, PeerOptions, PeerService, SnapshotSink, SnapshotSource, Transfer } from '../../services/peer/ports.ts'
import type { Brought, GroupId, PeerItem } from '../../raft/driver/ports.ts'
import type { NodeId } from '../../raft/model.ts'
import type { ChunkHash } from '../../storage/blob/store.ts'

export interface Received {
  readonly from: NodeId
  readonly item: PeerItem | Brought
}

export interface TestNode {
  readonly id: NodeId
  readonly peer: PeerService
  readonly received: Received[]
  readonly lost: { readonly peer: NodeId; readonly gone: boolean }[]
  readonly events: PeerEvent[]
  readonly chunks: Map<string, Uint8Array>
  /** Where this node dials each member. */
  readonly addresses: Map<NodeId, string>
  /** Resolves when `isTrue`, looked at after everything that this node is told. */
  until(isTrue: () => boolean): Promise<void>
  close(): Promise<void>
}

export interface NodeChanges extends Partial<Omit<PeerOptions, 'self'>> {
  onAsk?(from: NodeId, group: GroupId, verb: string, body: Uint8Array): Promise<Uint8Array>
  onCalled?(from: Caller, verb: string, body: Uint8Array): Promise<Uint8Array>
}

const live = new Set<TestNode>()

export async function closeNodes(): Promise<void> {
  await Promise.all([...live].map((node) => node.close()))
}

export async function startNode(id: NodeId, changes: NodeChanges = {}): Promise<TestNode> {
  const received: Received[] = []
  const lost: { peer: NodeId; gone: boolean }[] = []
  const events: PeerEvent[] = []
  const chunks = new Map<string, Uint8Array>()
  const addresses = new Map<NodeId, string>()
  const watchers = new Set<() => void>()
  const changed = (): void => watchers.forEach((look) => look())
  const peer = await startPeer({
    listen: { host: '127.0.0.1', port: 0 },
    secret: 'a secret of the cluster',
    cluster: 'c1',
    addressOf: (member) => addresses.get(member),
    inbound: {
      receive: (from, item) => {
        received.push({ from, item })
        changed()
      },
      peerLost: (whom, gone) => {
        lost.push({ peer: whom, gone })
        changed()
      },
    },
    onRequest: async (from, group, verb, body) => (changes.onAsk === undefined ? body : changes.onAsk(from, group, verb, body)),
    onCall: async (from, verb, body) => (changes.onCalled === undefined ? body : changes.onCalled(from, verb, body)),
    snapshots: { open: () => Promise.reject(new Error('no snapshots')), receive: () => Promise.reject(new Error('no snapshots')) },
    chunks: {
      get: async (hash) => {
        const bytes = chunks.get(hash)
        if (bytes === undefined) throw new NineError({ kind: 'corrupt', op: 'test.get', message: 'no such chunk' })
        return bytes
      },
      put: async (bytes, hash) => {
        chunks.set(hash, Uint8Array.from(bytes))
        return hash
      },
      touch: async (hash) => chunks.has(hash),
    },
    log: (event) => {
      events.push(event)
      changed()
    },
    ...changes,
    self: id,
  })
  const node: TestNode = {
    id,
    peer,
    received,
    lost,
    events,
    chunks,
    addresses,
    until: (isTrue) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (!isTrue()) return
          watchers.delete(look)
          resolve()
        }
        watchers.add(look)
        look()
      }),
    close: async () => {
      live.delete(node)
      await peer.close()
    },
  }
  live.add(node)
  return node
}

/** Let them know where to dial each other. */
export function introduce(...nodes: TestNode[]): void {
  for (const node of nodes) for (const other of nodes) if (other !== node) node.addresses.set(other.id, other.peer.address)
}

/** Ask until there is an answer, which opens the connection. */
export async function connected(from: TestNode, to: TestNode): Promise<void> {
  await from.peer.request(to.id, 0, 'hello', Buffer.from('x'))
}

export function hashOf(bytes: Uint8Array): ChunkHash {
  return createHash('sha256').update(bytes).digest('hex') as ChunkHash
}

export type { SnapshotSink, SnapshotSource, Transfer }
