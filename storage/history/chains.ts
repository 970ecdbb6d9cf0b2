/**
 * Shortcuts back through the many records of one file or entry inside a segment, so that finding its state at an old
 * revision takes a number of steps logarithmic in how often it changed.
 *
 * The k-th change of a thing names, besides the one before it, the change 8^n before it, where 8^n is the largest power
 * of eight that divides k (a skip list whose levels follow from the count). Shortcuts are optional: those of a segment
 * that was opened again begin anew.
 */
export class Chains {
  readonly #things = new Map<number | string, Chain>()

  /** Number of things that changed more than once. */
  get size(): number {
    return this.#things.size
  }

  /** Note that `key` changed at `since`, after `before`. Gives an earlier revision that changed it, or 0. */
  jump(key: number | string, since: number, before: number): number {
    let chain = this.#things.get(key)
    if (chain === undefined) this.#things.set(key, (chain = { first: before, count: 0, levels: undefined }))
    let count = ++chain.count
    if (count % 8 !== 0) return 0
    const levels = (chain.levels ??= [])
    let level = 0
    let jump = 0
    for (; count % 8 === 0; count /= 8, level++) {
      jump = levels[level] ?? chain.first
      levels[level] = since
    }
    return jump
  }
}

interface Chain {
  readonly first: number
  count: number
  levels: number[] | undefined
}
