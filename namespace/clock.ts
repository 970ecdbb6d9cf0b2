/** The port through which time is read, so that tests and simulations can give their own. */
import type { Micros } from './stat.ts'

export interface Clock {
  /** Wall time, microseconds since the Unix epoch. May jump. */
  now(): Micros
  /** Milliseconds from an arbitrary start, never going back. */
  monotonic(): number
}

export const systemClock: Clock = {
  now: () => Math.round((performance.timeOrigin + performance.now()) * 1000),
  monotonic: () => performance.now(),
}
