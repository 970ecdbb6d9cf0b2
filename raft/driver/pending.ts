/**
 * What is to be told to whoever proposed an entry on this node, by the entry's index and term.
 *
 * N1 A proposal is found again only under the index and the term under which it was taken: another entry may come to stand at its index.
 * N2 Each is given out once: with its entry, or as lost.
 */

/** Proposals of one term, one an index. There are several runs only while the fate of a former leadership's is open. */
interface Run<P> {
  readonly term: number
  /** Index of `items[head]`. */
  first: number
  head: number
  items: (P | undefined)[]
}

/** Given-out places of a run that are kept before it is moved to the front. */
const spent_max = 1024

export class Pending<P> {
  #runs: Run<P>[] = []

  /** The first `count` of `proposals` were taken at `first` and after. */
  add(term: number, first: number, proposals: readonly P[], count: number): void {
    const run = this.#runFor(term, first)
    for (let at = 0; at < count; at++) run.items.push(proposals[at])
  }

  /** The entry of this index and term is about to be applied; those of one term come in order. */
  take(index: number, term: number): P | undefined {
    for (const run of this.#runs) {
      if (run.term !== term) continue // N1
      const at = run.head + index - run.first
      if (at < run.head || at >= run.items.length) continue
      const proposal = run.items[at]
      this.#spend(run, at + 1)
      return proposal // N2
    }
    return undefined
  }

  lose(term: number, first: number, last: number, ended: (proposal: P) => void): void {
    for (const run of this.#runs) if (run.term === term) endWithin(run, first, last, ended)
  }

  /** All up to `index`, of every term: a snapshot took their place. */
  loseThrough(index: number, ended: (proposal: P) => void): void {
    for (const run of this.#runs) {
      endWithin(run, run.first, index, ended)
      const spent = Math.min(run.items.length, run.head + index + 1 - run.first)
      if (spent > run.head) this.#spend(run, spent)
    }
  }

  clear(ended: (proposal: P) => void): void {
    const runs = this.#runs
    this.#runs = []
    for (const run of runs) endWithin(run, run.first, Infinity, ended)
  }

  #runFor(term: number, first: number): Run<P> {
    const last = this.#runs[this.#runs.length - 1]
    if (last?.term === term) {
      const end = last.first + last.items.length - last.head
      if (last.head === last.items.length) {
        last.first = first
        return last
      }
      // Between proposals of one leader stand only its changes of membership.
      for (let index = end; index < first; index++) last.items.push(undefined)
      return last
    }
    const run: Run<P> = { term, first, head: 0, items: [] }
    this.#runs = this.#runs.filter((other) => other.items.some((item) => item !== undefined))
    this.#runs.push(run)
    return run
  }

  #spend(run: Run<P>, head: number): void {
    run.first += head - run.head
    for (let at = run.head; at < head; at++) run.items[at] = undefined
    run.head = head
    if (head === run.items.length) {
      run.items.length = 0
      run.head = 0
    } else if (head >= spent_max && head * 2 >= run.items.length) {
      run.items.splice(0, head)
      run.head = 0
    }
  }
}

function endWithin<P>(run: Run<P>, first: number, last: number, ended: (proposal: P) => void): void {
  const end = Math.min(run.items.length, run.head + last + 1 - run.first)
  for (let at = Math.max(run.head, run.head + first - run.first); at < end; at++) {
    const proposal = run.items[at]
    run.items[at] = undefined // N2
    if (proposal !== undefined) ended(proposal)
  }
}
