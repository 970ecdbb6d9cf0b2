/** The limits an edge works with: those of namespace/limits.ts, or what a test gives to see one reached in its own time. */
import { limits } from '../../namespace/limits.ts'

const names = ['handshake_ms', 'connections_max'] as const

export type GrpcLimits = { readonly [name in (typeof names)[number]]: number }

export function grpcLimits(changes: Partial<GrpcLimits> = {}): GrpcLimits {
  const own = Object.fromEntries(names.map((name) => [name, limits[name]])) as Record<(typeof names)[number], number>
  return { ...own, ...changes }
}
