/**
 * Shortcuts back through the many records of one file or entry inside a segment, so that finding its state at an old
 * revision takes a number of steps logarithmic in how often it changed.
 *
 * A change that brings a thing's count of changes to or past a multiple of 8^n names, besides the change before it, the last one in this
 * segment that did so; of several n the largest counts (a skip list whose levels follow from the count). A file's count is its version, so
 * seven of eight of its changes need not be noted. Shortcuts are optional: those of a segment that was opened again begin anew.
 */
export class Chains {
  /** Of a thing: the last revision that came past a multiple of 8, of 64, and so on. */
  readonly #levels = new Map<number | string, number[]>()
  /** Entries have no version. */
  readonly #changes = new Map<string, number>()

  /** Note that a node changed at `since`, from version `was` to `is`. Gives an earlier revision that changed it, or 0. */
  ofNode(ino: number, since: number, was: number, is: number): number {
    return Math.floor(was / 8) === Math.floor(is / 8) ? 0 : this.#jump(ino, since, was, is)
  }

  /** Note that an entry changed at `since`. Gives an earlier revision that changed it, or 0. */
  ofEntry(parent: number, name: string, since: number): number {
    const key = `${parent}/${name}`
    const was = this.#changes.get(key) ?? 0
    this.#changes.set(key, was + 1)
    return (was + 1) % 8 !== 0 ? 0 : this.#jump(key, since, was, was + 1)
  }

  #jump(key: number | string, since: number, was: number, is: number): number {
    let levels = this.#levels.get(key)
    if (levels === undefined) this.#levels.set(key, (levels = []))
    let jump = 0
    for (let level = 0, step = 8; Math.floor(was / step) !== Math.floor(is / step); level++, step *= 8) {
      jump = levels[level] ?? jump
      levels[level] = since
    }
    return jump
  }
}
