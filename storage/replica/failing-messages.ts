/** What passes between members, with failpoints on either side. Heartbeats, which never end, pass none. Only while failpoints are on. */
import { failpoint } from '../../namespace/failpoint.ts'
import type { Failpoint } from '../../namespace/failpoint.ts'
import type { Inbound, PeerItem } from '../../raft/index.ts'
import type { Transport } from '../../raft/driver/ports.ts'

const quiet: ReadonlySet<string> = new Set(['heartbeat', 'heartbeat_reply', 'read', 'read_reply', 'stale'])

const received: ReadonlyMap<string, Failpoint> = new Map([
  ['append', 'receive.append'],
  ['accepted', 'receive.accepted'],
  ['vote', 'receive.vote'],
  ['vote_reply', 'receive.vote_reply'],
])

export function failingTransport(transport: Transport): Transport {
  return {
    send(to, item) {
      const isQuiet = item.kind !== 'raft' || quiet.has(item.message.kind)
      if (!isQuiet) failpoint('send.before')
      transport.send(to, item)
      if (!isQuiet) failpoint('send.after')
    },
    flush: () => transport.flush?.(),
    sendSnapshot: (group, message) => transport.sendSnapshot(group, message),
  }
}

export function failingInbound(inbound: Inbound): Inbound {
  return {
    receive(from, item: PeerItem) {
      const point = item.kind === 'raft' ? received.get(item.message.kind) : undefined
      if (point !== undefined) failpoint(point)
      inbound.receive(from, item)
    },
    peerLost: (peer, gone) => inbound.peerLost(peer, gone),
  }
}
