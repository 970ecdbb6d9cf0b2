/**
 * The static peers of a cluster: who they are by name, and where their peer listeners are. The order is part of the list: of nodes
 * that are all empty, the first founds the cluster.
 */
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'

export interface Peer {
  readonly name: string
  /** `HOST:PORT` of its peer listener, as the others reach it. */
  readonly address: string
}

const namePattern = /^[a-z0-9][a-z0-9-]{0,31}$/

/** `n1=HOST:PORT,n2=HOST:PORT,...`. @throws NineError `invalid`: names or addresses that are none, or that stand there twice; too many */
export function parsePeers(text: string): Peer[] {
  const peers = text.split(',').map((part) => parsePeer(part, '--peers'))
  for (const key of ['name', 'address'] as const) {
    const seen = new Set<string>()
    for (const peer of peers) {
      if (seen.has(peer[key])) throw invalid(`--peers has the ${key} ${peer[key]} twice`)
      seen.add(peer[key])
    }
  }
  if (peers.length > limits.cluster_nodes_max) throw invalid(`a cluster has at most ${limits.cluster_nodes_max} nodes, not ${peers.length}`)
  return peers
}

/**
 * `NAME=HOST:PORT,...`: how this node reaches peers other than at the address that all agree on.
 * @returns by that address. @throws NineError `invalid`: a name that is no peer's, is this node's or stands there twice, an address that is none
 */
export function parseVia(text: string | undefined, peers: readonly Peer[], self: string): Map<string, string> {
  const via = new Map<string, string>()
  for (const { name, address } of text === undefined ? [] : text.split(',').map((part) => parsePeer(part, '--peer-via'))) {
    const peer = peers.find((known) => known.name === name)
    if (peer === undefined)
      throw invalid(`--peer-via names ${name}, which is not among --peers: ${peers.map((known) => known.name).join(', ')}`)
    if (name === self) throw invalid(`--peer-via names this node, ${name}: it says how others are reached`)
    if (via.has(peer.address)) throw invalid(`--peer-via has the name ${name} twice`)
    via.set(peer.address, address)
  }
  return via
}

/** `NAME=HOST:PORT`. @param what names the text in messages. @throws NineError `invalid` */
export function parsePeer(text: string, what: string): Peer {
  const match = /^([^=]*)=(.*)$/s.exec(text.trim())
  if (match === null) throw invalid(`${what} is made of NAME=HOST:PORT, like n1=10.0.0.1:9582, not ${JSON.stringify(text)}`)
  const [, name, address] = match
  checkNodeName(name!, what)
  checkPeerAddress(address!, what)
  return { name: name!, address: address! }
}

/** @throws NineError `invalid` */
export function checkNodeName(name: string, what: string): void {
  if (namePattern.test(name)) return
  throw invalid(`${what}: the name of a node is 1 to 32 of a-z 0-9 - and starts with a letter or digit, not ${JSON.stringify(name)}`)
}

/** @throws NineError `invalid` */
function checkPeerAddress(address: string, what: string): void {
  const match = /^(?:\[[0-9a-fA-F:.]+\]|[^:[\]\s]+):(\d{1,5})$/.exec(address)
  const port = Number(match?.[1])
  if (match === null) throw invalid(`${what}: an address is HOST:PORT, like 10.0.0.1:9582, not ${JSON.stringify(address)}`)
  if (port === 0 || port > 65_535) throw invalid(`${what}: ${address} has no port that others could reach: 1 to 65535`)
}

/** The peer of this name. @throws NineError `invalid` when the list lacks it */
export function ownPeer(peers: readonly Peer[], name: string): Peer {
  const own = peers.find((peer) => peer.name === name)
  if (own !== undefined) return own
  throw invalid(`--peers does not name this node, ${name}: it names ${peers.map((peer) => peer.name).join(', ')}`)
}

export function printPeers(peers: readonly Peer[]): string {
  return peers.map(({ name, address }) => `${name}=${address}`).join(',')
}

/** How two lists differ, in words; undefined for equal ones. */
export function differenceOf(ours: readonly Peer[], theirs: readonly Peer[]): string | undefined {
  for (const { name, address } of ours) {
    const other = theirs.find((peer) => peer.name === name)
    if (other === undefined) return `${name}=${address} is not in it`
    if (other.address !== address) return `${name} is at ${other.address} there, at ${address} here`
  }
  const extra = theirs.find((peer) => !ours.some(({ name }) => name === peer.name))
  if (extra !== undefined) return `${extra.name}=${extra.address} is in it, and not here`
  const isReordered = ours.some(({ name }, i) => theirs[i]?.name !== name)
  return isReordered ? `its order is ${theirs.map((peer) => peer.name).join(', ')}` : undefined
}

function invalid(message: string): NineError {
  return new NineError({ kind: 'invalid', op: 'cluster.peers', message })
}
