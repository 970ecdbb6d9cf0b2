/** Runs `flush` after all that the turn of the event loop brings in which it became due, once. */
export class TurnEnd {
  readonly #flush: () => void
  #isDue = false

  constructor(flush: () => void) {
    this.#flush = flush
  }

  due(): void {
    if (this.#isDue) return
    this.#isDue = true
    setImmediate(this.#run)
  }

  readonly #run = (): void => {
    this.#isDue = false
    this.#flush()
  }
}
