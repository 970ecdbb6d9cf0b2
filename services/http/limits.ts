/** The limits an edge works with: those of namespace/limits.ts, or what a test gives to see one reached in its own time. */
import { limitsOf } from '../../namespace/limits.ts'

const names = [
  'handshake_ms',
  'connections_max',
  'session_stalled_ms',
  'request_ms_default',
  'http_body_bytes_max',
  'http_body_memory_bytes_max',
  'http_bodies_memory_bytes_max',
  'http_body_stalled_ms',
  'http_drain_bytes_max',
  'http_drain_ms',
  'http_header_bytes_max',
  'http_headers_max',
  'http_idle_ms',
  'http_json_bytes_max',
  'http_part_bytes',
  'http_watch_refusal_ms',
  'idempotency_keys_max',
  'idempotency_bytes_max',
] as const

export type HttpLimits = { readonly [name in (typeof names)[number]]: number }

export function httpLimits(changes: Partial<HttpLimits> = {}): HttpLimits {
  return limitsOf(names, changes)
}
