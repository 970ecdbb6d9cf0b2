/** The port through which randomness is read, so that tests and simulations can give their own. */
import { randomBytes } from 'node:crypto'

export interface Random {
  /** A name nobody else has: 16 random bytes as 26 or fewer characters of `[a-z0-9]`. */
  id(): string
  /** In [0, 1). */
  fraction(): number
}

export const systemRandom: Random = {
  id: () => BigInt(`0x${randomBytes(16).toString('hex')}`).toString(36),
  fraction: () => Math.random(),
}
