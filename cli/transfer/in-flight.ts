/** A bounded number of jobs at once, whose first failure stops the taking of more. */

export class InFlight {
  readonly #max: number
  readonly #running = new Set<Promise<void>>()
  #failure: { readonly error: unknown } | undefined

  constructor(max: number) {
    this.#max = max
  }

  /** Start a job, waiting for a place. @throws the first failure of any job before */
  async add(job: () => Promise<void>): Promise<void> {
    while (this.#running.size >= this.#max) await Promise.race(this.#running)
    if (this.#failure !== undefined) throw this.#failure.error
    const running = job()
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => this.#running.delete(running))
    this.#running.add(running)
  }

  /** Wait for all. @throws the first failure */
  async settle(): Promise<void> {
    await Promise.all(this.#running)
    if (this.#failure !== undefined) throw this.#failure.error
  }
}
