/** Keys of rows, each once, as bytes: a few tens of bytes more than the key itself. */
import { NineError } from '../../namespace/errors.ts'
import { encodeRowKey, type RowKey } from './rows.ts'

export class KeySet {
  readonly #max: number
  readonly #keys = new Set<string>()
  /** More came than there is room for: what it holds is of no use. */
  isFull = false

  constructor(max: number) {
    this.#max = max
  }

  get size(): number {
    return this.#keys.size
  }

  add(key: RowKey | Uint8Array): void {
    if (this.isFull) return
    this.#keys.add(encodeRowKey(key).toString('latin1'))
    if (this.#keys.size <= this.#max) return
    this.isFull = true
    this.#keys.clear()
  }

  /** Everything so far, which it forgets. @throws NineError `overloaded`: isFull */
  take(): Buffer[] {
    if (this.isFull) {
      const message = `more than ${this.#max} rows were changed meanwhile: try again when less is written`
      throw new NineError({ kind: 'overloaded', op: 'tree.compact', message })
    }
    const keys = Array.from(this.#keys, (key) => Buffer.from(key, 'latin1'))
    this.#keys.clear()
    return keys
  }
}
