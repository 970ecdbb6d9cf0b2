/** Large values, each written once: what was acknowledged has to be there afterwards, whole; what was surely not done must not. */
import { isNineError } from '../../namespace/errors.ts'
import type { Client } from '../../sdk/client-api.ts'

const value_bytes = 600 * 1024

export class LargeValues {
  readonly #folder: string
  readonly #acknowledged = new Set<number>()
  readonly #never = new Set<number>()
  #count = 0

  constructor(folder: string) {
    this.#folder = folder
  }

  async write(client: Client, stop: AbortSignal): Promise<void> {
    const n = ++this.#count
    try {
      await client.write(`${this.#folder}/v${n}`, bytesOf(n), { timeoutMs: 10_000, parents: true, signal: stop })
      this.#acknowledged.add(n)
    } catch (error) {
      if (!isNineError(error)) throw error
      if (error.outcome === 'none') this.#never.add(n)
    }
  }

  /** @returns what is wrong, as seen through this client */
  async problems(client: Client): Promise<string[]> {
    const problems: string[] = []
    for (let n = 1; n <= this.#count; n++) {
      const bytes = await client.read(`${this.#folder}/v${n}`, { timeoutMs: 20_000 }).catch((error: unknown) => {
        if (isNineError(error, 'not_found')) return undefined
        throw error
      })
      if (bytes === undefined && this.#acknowledged.has(n)) problems.push(`large value ${n} was acknowledged and is lost`)
      if (bytes !== undefined && this.#never.has(n)) problems.push(`large value ${n} was said not to be written and is there`)
      if (bytes !== undefined && !Buffer.from(bytes).equals(bytesOf(n))) problems.push(`large value ${n} is not as written`)
    }
    return problems
  }

  get acknowledged(): number {
    return this.#acknowledged.size
  }
}

function bytesOf(n: number): Buffer {
  const bytes = Buffer.alloc(value_bytes)
  for (let at = 0; at < value_bytes; at += 4) bytes.writeUInt32LE((n * 2_654_435_761 + at * 40_503) >>> 0, at)
  return bytes
}
