/**
 * The results of one client, by seq. Clients number upwards, settle in order and retry seldom, so this is a list that
 * grows at its end and shrinks at its start; a seq out of order is put in its place.
 *
 * K1 `#list` from `#head` on is in the order of seq, without gaps in the list.
 */
import type { Outcome } from '../model.ts'

export interface Kept {
  readonly seq: number
  readonly outcome: Outcome
  readonly digest: string | undefined
  readonly actor: string
  /** About what it takes in memory. */
  readonly bytes: number
}

export class KeptResults {
  #list: (Kept | undefined)[] = []
  #head = 0
  #bytes = 0

  get size(): number {
    return this.#list.length - this.#head
  }

  /** About what all of them take in memory. */
  get bytes(): number {
    return this.#bytes
  }

  get(seq: number): Kept | undefined {
    const last = this.#list[this.#list.length - 1]
    if (last === undefined || seq > last.seq) return undefined
    const found = this.#list[this.#firstFrom(seq)]
    return found?.seq === seq ? found : undefined
  }

  /** For a seq that has none. */
  add(kept: Kept): void {
    this.#bytes += kept.bytes
    const list = this.#list
    const last = list[list.length - 1]
    if (last === undefined || kept.seq > last.seq) list.push(kept)
    else list.splice(this.#firstFrom(kept.seq), 0, kept) // K1
  }

  /** Forget all up to `seq`. */
  settle(seq: number): void {
    const list = this.#list
    let head = this.#head
    for (; head < list.length; head++) {
      const kept = list[head]!
      if (kept.seq > seq) break
      this.#bytes -= kept.bytes
      list[head] = undefined
    }
    if (head === list.length) {
      this.#list = []
      head = 0
    } else if (head > 64 && 2 * head > list.length) {
      this.#list = list.slice(head)
      head = 0
    }
    this.#head = head
  }

  *values(): Iterable<Kept> {
    for (let i = this.#head; i < this.#list.length; i++) yield this.#list[i]!
  }

  #firstFrom(seq: number): number {
    let low = this.#head
    let high = this.#list.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#list[middle]!.seq < seq) low = middle + 1
      else high = middle
    }
    return low
  }
}
