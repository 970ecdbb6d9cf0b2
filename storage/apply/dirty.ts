/**
 * Which keys of a table have changed since a checkpoint that is known to be safe.
 *
 * Y1 A key leaves only when an export that held its latest change was said to be saved: a checkpoint that fails loses none.
 */
export class DirtyKeys {
  #generation = 1
  readonly #changed = new Map<string, number>()

  /** Number to compare with, so that a value that is changed again and again is noted once an export. */
  get generation(): number {
    return this.#generation
  }

  add(key: string): void {
    this.#changed.set(key, this.#generation)
  }

  /** All keys to export now; what changes from here on belongs to the next export. */
  begin(): readonly string[] {
    this.#generation++
    return [...this.#changed.keys()]
  }

  /** The last export is on disk. Y1 */
  saved(): void {
    for (const [key, generation] of this.#changed) if (generation < this.#generation) this.#changed.delete(key)
  }

  clear(): void {
    this.#changed.clear()
  }
}
