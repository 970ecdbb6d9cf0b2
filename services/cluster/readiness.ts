/**
 * When a node of a cluster may let clients in: most of the named nodes hold its stores. When it is ready: its stores are led, too, and it votes
 * on them where it is to. So no disk is counted on that has not got everything yet: with all nodes ready, any one of them may be lost.
 */
import type { PeerService } from '../peer/ports.ts'
import { nameOfMember } from './cluster-file.ts'
import { pause } from './founding.ts'
import type { Peer } from './peer-list.ts'
import type { ClusterStores } from './ports.ts'
import type { RosterView } from './roster-view.ts'

export interface ReadinessParts {
  readonly member: string
  readonly stores: ClusterStores
  /** Those that have to be ready. */
  readonly names: readonly string[]
  readonly view: RosterView
  readonly peer: PeerService
  /** The nodes that belong to the cluster, or may, as far as this node knows; itself among them. */
  readonly peers: () => readonly Peer[]
  /** What is being waited for; each time it changes. */
  readonly waiting: (text: string) => void
}

const look_ms = 50
/** What is over by itself that soon is not worth a line. */
const quiet_ms = 1_000
/** How often it is said how far it is. */
const progress_ms = 10_000

interface Unready {
  readonly why: string
  readonly progress?: string | undefined
}

/**
 * Resolves once a member that comes back may let clients in, or the signal aborts. What its log holds of the cluster is not applied before a
 * leader says how far it is agreed on: until then the nodes that it was started with count.
 */
export async function awaitOpen(parts: ReadinessParts, signal: AbortSignal): Promise<void> {
  const { view, peers } = parts
  const known = (): readonly string[] => (view.members.names.size > 0 ? votersOf(view) : peers().map(({ name }) => name))
  while (notOpen(parts, known()) !== undefined && !signal.aborted) await pause(look_ms, signal)
}

/** Resolves once the node is ready, or the signal aborts. */
export async function awaitReady(parts: ReadinessParts, signal: AbortSignal): Promise<void> {
  const began = performance.now()
  let said = { why: '', text: '', at: began }
  for (let unready = notReady(parts); unready !== undefined && !signal.aborted; unready = notReady(parts)) {
    const { why, progress } = unready
    const now = performance.now()
    const text = progress === undefined ? why : `${why}: ${progress}`
    const isDue = why === said.why ? now - said.at >= progress_ms : now - began > quiet_ms
    if (isDue && text !== said.text) parts.waiting((said = { why, text, at: now }).text)
    await pause(look_ms, signal)
  }
}

/** Why the node is not ready yet. */
function notReady(parts: ReadinessParts): Unready | undefined {
  const { member, stores, names, peer, peers } = parts
  const leaderless = names.find((name) => stores.standing(name).leader === null)
  if (leaderless !== undefined) return { why: `waiting for a leader of ${leaderless}: ${reachable(member, peers(), peer)}` }
  const voters = votersOf(parts.view)
  const why = notOpen(parts, voters)
  return why === undefined ? notVoting(parts, voters) : { why }
}

function notVoting({ member, stores, names }: ReadinessParts, voters: readonly string[]): Unready | undefined {
  if (!voters.includes(nameOfMember(member))) return undefined
  const filling = names.find((name) => !stores.group(name).status().configuration.voters.includes(member))
  return filling === undefined
    ? undefined
    : { why: `waiting until it has all of ${filling}, to vote on it`, progress: stores.filling(filling) }
}

/** Why the node may not let clients in yet, whoever leads. */
function notOpen({ member, stores, names }: ReadinessParts, voters: readonly string[]): string | undefined {
  const needed = Math.floor(voters.length / 2) + 1
  for (const name of names) {
    const { configuration } = stores.group(name).status()
    if (![...configuration.voters, ...configuration.learners].includes(member)) return `waiting to be taken in by the leader of ${name}`
    if (voters.length === 0) return 'waiting for what the cluster knows of its members'
    const holding = configuration.voters.filter((id) => voters.includes(nameOfMember(id)))
    if (holding.length >= needed) continue
    const missing = voters.filter((voter) => !holding.some((id) => nameOfMember(id) === voter))
    return `waiting for ${missing.join(', ')} to join: ${holding.length} of ${voters.length} nodes hold ${name}`
  }
  return undefined
}

/** Names of the nodes that are to vote. */
function votersOf({ members }: RosterView): string[] {
  return [...members.names].filter(([, { value }]) => value.role === 'voter').map(([name]) => name)
}

/** Each other node by its name, and what is known of the way to it. Of several lives of one the open connection tells, else the last. */
function reachable(member: string, peers: readonly Peer[], service: PeerService): string {
  const self = nameOfMember(member)
  const ways = service.status().peers
  const lines = [...new Map(peers.map((peer) => [peer.name, peer.address]))].flatMap(([name, address]) => {
    if (name === self) return []
    const own = ways.filter((way) => nameOfMember(way.member) === name)
    const way = own.find(({ state }) => state === 'open') ?? own.at(-1)
    if (way?.state === 'open') return [`${name} is connected`]
    return [`${name} (${address}): ${way?.lastError || 'not connected yet'}`]
  })
  return lines.join('; ') || 'there is no other node'
}
