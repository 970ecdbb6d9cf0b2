/** The limits of peers: those of namespace/limits.ts, or what a test gives to see one reached in its own time. */
import { limitsOf } from '../../namespace/limits.ts'

const names = [
  'peer_packet_bytes',
  'peer_message_bytes_max',
  'peer_send_bytes_max',
  'peer_requests_max',
  'peer_serving_bytes_max',
  'peer_tick_ms',
  'peer_ping_ms',
  'peer_silent_ms_max',
  'peer_dial_ms',
  'peer_backoff_ms_min',
  'peer_backoff_ms_max',
  'peer_connections_max',
  'peer_handshakes_max',
  'peer_transfers_max',
  'peer_bulk_window',
  'peer_bulk_idle_ms',
  'peer_unused_ms',
  'peer_transfer_attempts_max',
  'peer_transfer_wait_ms',
  'request_ms_default',
] as const

export type PeerLimits = { readonly [name in (typeof names)[number]]: number }

export function peerLimits(changes: Partial<PeerLimits> = {}): PeerLimits {
  return limitsOf(names, changes)
}
