/** When a node of a cluster may serve: its groups are led, and most of the named nodes hold them. */
import type { PeerService } from '../peer/ports.ts'
import { nameOfMember } from './cluster-file.ts'
import { pause } from './founding.ts'
import type { ClusterStores } from './ports.ts'
import type { RosterView } from './roster-view.ts'

export interface ReadinessParts {
  readonly member: string
  readonly stores: ClusterStores
  /** Those that have to be ready. */
  readonly names: readonly string[]
  readonly view: RosterView
  readonly peer: PeerService
  /** What is being waited for; each time it changes. */
  readonly waiting: (text: string) => void
}

const look_ms = 50
/** What is over by itself that soon is not worth a line. */
const quiet_ms = 1_000

/** Resolves once the node may serve, or the signal aborts. */
export async function awaitReady(parts: ReadinessParts, signal: AbortSignal): Promise<void> {
  const began = performance.now()
  let said = ''
  for (let reason = notReady(parts); reason !== undefined && !signal.aborted; reason = notReady(parts)) {
    if (reason !== said && performance.now() - began > quiet_ms) parts.waiting((said = reason))
    await pause(look_ms, signal)
  }
}

/** Why the node may not serve yet. */
export function notReady({ member, stores, names, view, peer }: ReadinessParts): string | undefined {
  const voters = [...view.members.names].filter(([, { value }]) => value.role === 'voter').map(([name]) => name)
  const needed = Math.floor(voters.length / 2) + 1
  for (const name of names) {
    const group = stores.group(name)
    if (group.leader === null) return `waiting for a leader: ${reachable(peer)}`
    const { configuration } = group.status()
    if (![...configuration.voters, ...configuration.learners].includes(member)) return `waiting to be taken in by the leader of ${name}`
    if (voters.length === 0) return 'waiting for what the cluster knows of its members'
    const holding = configuration.voters.filter((id) => voters.includes(nameOfMember(id)))
    if (holding.length >= needed) continue
    const missing = voters.filter((voter) => !holding.some((id) => nameOfMember(id) === voter))
    return `waiting for ${missing.join(', ')} to join: ${holding.length} of ${voters.length} nodes hold ${name}`
  }
  return undefined
}

function reachable(peer: PeerService): string {
  const lines = peer
    .status()
    .peers.map(({ member, state, lastError }) => `${nameOfMember(member)} ${state === 'open' ? 'is connected' : lastError || state}`)
  return lines.join('; ') || 'no other node was reached'
}
