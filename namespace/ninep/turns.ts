/** Things that must not happen at once, one after the other by key. */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>()

  /** Run `act` when all that was given for `key` before is over. */
  run<T>(key: string, act: () => Promise<T>): Promise<T> {
    const turn = (this.#last.get(key) ?? Promise.resolve()).then(act, act)
    this.#last.set(key, turn)
    const done = (): void => {
      if (this.#last.get(key) === turn) this.#last.delete(key)
    }
    turn.then(done, done)
    return turn
  }
}

/** Do it to all, at most `atOnce` at a time; the first failure is thrown when none is under way any more. */
export async function forAll<T>(items: readonly T[], atOnce: number, act: (item: T, index: number) => Promise<void>): Promise<void> {
  let next = 0
  let failure: { readonly error: unknown } | undefined
  const worker = async (): Promise<void> => {
    while (next < items.length && failure === undefined) {
      const index = next++
      try {
        await act(items[index]!, index)
      } catch (error) {
        failure ??= { error }
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker))
  if (failure !== undefined) throw failure.error
}
