/**
 * The directories a walk is in, from the top down, each with the time it has at the end: where names in a directory change its time
 * (trees of 9P servers), it is set again when the last of what was put into it is done. Holds as much as the tree is deep.
 */
import type { Micros } from '../../namespace/stat.ts'

export interface OpenDirectory {
  readonly path: string
  readonly modifiedAt: Micros
  /** Changes of names in it that are under way. */
  pending: number
  isChanged: boolean
  isLeft: boolean
}

export class OpenDirectories {
  readonly #stack: OpenDirectory[] = []

  /** Go on to `path`: gives the directories that are left by it, innermost first, which can be ended at once. */
  goTo(path: string): OpenDirectory[] {
    const done: OpenDirectory[] = []
    for (let top = this.#stack.at(-1); top !== undefined && !path.startsWith(`${top.path}/`); top = this.#stack.at(-1)) {
      this.#stack.pop()
      top.isLeft = true
      if (isOver(top)) done.push(top)
    }
    return done
  }

  enter(path: string, modifiedAt: Micros): void {
    this.#stack.push({ path, modifiedAt, pending: 0, isChanged: false, isLeft: false })
  }

  /** A name in the innermost directory is changed; none at the top of the walk. */
  change(): OpenDirectory | undefined {
    const top = this.#stack.at(-1)
    if (top !== undefined) top.isChanged = true
    return top
  }
}

/** Whether its time can be set: nothing is put into it any more. */
export function isOver({ isLeft, isChanged, pending }: OpenDirectory): boolean {
  return isLeft && isChanged && pending === 0
}
