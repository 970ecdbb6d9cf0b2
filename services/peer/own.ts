/** What every connection of a node knows of the node itself. */
import type { NodeId } from '../../raft/model.ts'
import type { VersionRange } from './hello.ts'
import type { PeerLimits } from './limits.ts'
import type { PeerTls } from './ports.ts'

export interface Own {
  readonly member: NodeId
  /** Changes once, from '' to the cluster's id. */
  cluster: string
  /** Where others reach this node; known once it listens. */
  address: string
  readonly secret: string | undefined
  readonly tls: PeerTls | undefined
  /** Where to connect instead of an address that all nodes agree on; what a certificate has to name stays that. */
  readonly via: ReadonlyMap<string, string>
  readonly versions: VersionRange
  readonly features: readonly string[]
  readonly limits: PeerLimits
  readonly clock: { monotonic(): number }
  random(): number
}

export const callPath = {
  items: '/nine.v1.Peer/Items',
  bulk: '/nine.v1.Peer/Bulk',
  call: '/nine.v1.Peer/Call',
} as const

export type CallKind = keyof typeof callPath

/** Settings of HTTP/2 on both sides: windows that a full message fits in, so that no message waits for a round trip within it. */
/** Where an operator names whom nodes trust. */
export const peerAuthority = '--peer-tls-ca'
export const windowBytes = 4 * 1024 * 1024
export const http2Settings = { enablePush: false, initialWindowSize: windowBytes }
/** Of node:http2, in MiB: what one connection holds. */
export const sessionMemory = 64
