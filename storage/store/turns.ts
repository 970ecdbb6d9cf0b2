/**
 * Fairness of answers that need no waiting. A caller that reads in a loop is resumed within the same turn of the event
 * loop each time; without this, nothing else, not even the log, would get a turn while it goes on.
 *
 * U1 At most `answers_per_turn` answers in one turn; whoever comes after them waits for the next.
 */
const answers_per_turn = 1024

export class Turns {
  #answers = 0
  #next: Promise<void> | undefined

  /** Whether the caller has to await `next()` before it answers. U1 */
  isOver(): boolean {
    if (this.#answers === 0) this.#begin()
    return ++this.#answers > answers_per_turn
  }

  next(): Promise<void> {
    return this.#next!
  }

  #begin(): void {
    this.#next = new Promise((resolve) => {
      setImmediate(() => {
        this.#answers = 0
        resolve()
      })
    })
  }
}
