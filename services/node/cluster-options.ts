/** A node's flags as a member of a cluster, checked before anything is begun. */
import { NineError } from '../../namespace/errors.ts'
import { checkNodeName, ownPeer, parsePeers, parseVia } from '../cluster/peer-list.ts'
import type { Peer } from '../cluster/peer-list.ts'
import type { PeerTls } from '../peer/ports.ts'
import { isLoopback, parseAddress } from './address.ts'
import type { ListenAddress } from './address.ts'

export interface ClusterFlags {
  /** This node's name among the peers. */
  readonly node: string
  /** `n1=HOST:PORT,n2=HOST:PORT,...`: all nodes that found the cluster, this one among them. */
  readonly peers: string
  /** Where to listen for peers, `HOST:PORT`; default: this node's address among them. */
  readonly listen?: string | undefined
  /** `n2=HOST:PORT,...`: other ways to peers than their address among them. */
  readonly via?: string | undefined
  /** PEM. Beyond loopback it has to be there. */
  readonly tls?: PeerTls | undefined
}

export interface ParsedCluster {
  readonly name: string
  readonly peers: readonly Peer[]
  readonly listen: ListenAddress
  /** By address of a peer: where to connect instead. */
  readonly via: ReadonlyMap<string, string>
  readonly tls: PeerTls | undefined
}

/** @throws NineError `invalid` */
export function parseCluster({ node, peers: text, listen: listenText, via: viaText, tls }: ClusterFlags): ParsedCluster {
  checkNodeName(node, '--node')
  const peers = parsePeers(text)
  const own = ownPeer(peers, node)
  const listen = parseAddress(listenText ?? own.address, listenText === undefined ? '--peers' : '--peer-listen')
  if (listen.port === 0) throw invalid('--peer-listen needs a port that the other nodes know, not 0')
  const via = parseVia(viaText, peers, node)
  const hosts = [...peers.map(({ address }) => address), ...via.values()].map((address) => parseAddress(address, '--peers').host)
  const beyond = [listen.host, ...hosts].find((host) => !isLoopback(host))
  if (beyond !== undefined && tls === undefined) {
    throw invalid(
      `${beyond} is not loopback: nodes that reach each other there need TLS (--peer-tls-ca, --peer-tls-cert and --peer-tls-key)`,
    )
  }
  return { name: node, peers, listen, via, tls }
}

/** What is allowed, and is rarely what was meant. */
export function clusterWarnings(text: string): string[] {
  const { length } = parsePeers(text)
  if (length % 2 === 1) return []
  const lost = Math.floor((length - 1) / 2)
  return [`${length} nodes go on without ${lost} of them, as ${length - 1} would: an odd number is better`]
}

function invalid(message: string): NineError {
  return new NineError({ kind: 'invalid', op: 'node.cluster', message })
}
