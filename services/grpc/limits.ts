/** The limits an edge works with: those of namespace/limits.ts, or what a test gives to see one reached in its own time. */
import { limitsOf } from '../../namespace/limits.ts'

const names = ['handshake_ms', 'connections_max'] as const

export type GrpcLimits = { readonly [name in (typeof names)[number]]: number }

export function grpcLimits(changes: Partial<GrpcLimits> = {}): GrpcLimits {
  return limitsOf(names, changes)
}
