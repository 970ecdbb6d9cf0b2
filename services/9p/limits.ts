/** The limits an edge works with: those of namespace/limits.ts, or what a test gives to see one reached in its own time. */
import { limitsOf } from '../../namespace/limits.ts'

const names = [
  'handshake_ms',
  'connections_max',
  'session_stalled_ms',
  'ninep_auth_fids_max',
  'ninep_fids_max',
  'ninep_locks_max',
  'ninep_request_bytes_max',
  'ninep_requests_max',
  'ninep_send_bytes_max',
] as const

export type NinepLimits = { readonly [name in (typeof names)[number]]: number }

export function ninepLimits(changes: Partial<NinepLimits> = {}): NinepLimits {
  return limitsOf(names, changes)
}
