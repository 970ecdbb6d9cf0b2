/** Two trees side by side: the entries of both in one order, paired by path. */
import { compareTreePaths } from './local-tree.ts'
import type { TreeEntry } from './local-tree.ts'

export interface Pair {
  readonly left: TreeEntry | undefined
  readonly right: TreeEntry | undefined
}

/** Both must be in the order of compareTreePaths. */
export async function* mergeTrees(
  left: AsyncGenerator<TreeEntry, void>,
  right: AsyncGenerator<TreeEntry, void>,
): AsyncGenerator<Pair, void> {
  try {
    let a = await left.next()
    let b = await right.next()
    while (a.done !== true || b.done !== true) {
      const order = a.done === true ? 1 : b.done === true ? -1 : compareTreePaths(a.value.path, b.value.path)
      yield { left: order <= 0 ? a.value! : undefined, right: order >= 0 ? b.value! : undefined }
      if (order <= 0) a = await left.next()
      if (order >= 0) b = await right.next()
    }
  } finally {
    await left.return()
    await right.return()
  }
}

/** What differs between two entries of one path, in words; none when they are alike. Contents are not compared. */
export function differences(a: TreeEntry, b: TreeEntry): string[] {
  if (a.kind !== b.kind) return [`${a.kind} / ${b.kind}`]
  const found: string[] = []
  if (a.kind === 'file' && a.size !== b.size) found.push(`size ${a.size} / ${b.size}`)
  if (a.target !== b.target) found.push(`target ${a.target ?? ''} / ${b.target ?? ''}`)
  // The mode of a symbolic link means nothing on Linux (symlink(7)).
  if (a.kind !== 'symlink' && a.mode !== b.mode) found.push(`mode ${a.mode.toString(8)} / ${b.mode.toString(8)}`)
  if (a.modifiedAt !== b.modifiedAt) found.push(`time ${timeText(a)} / ${timeText(b)}`)
  return found
}

function timeText({ modifiedAt }: TreeEntry): string {
  return new Date(modifiedAt / 1000).toISOString()
}
