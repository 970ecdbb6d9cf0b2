/** Which events concern a watch, by path. One rule for every server that keeps events. */
import { isWithin, parentPath, type Path } from './path.ts'

/** What the rule needs of an event: see WatchEvent. */
export interface EventPlace {
  readonly path: Path
  readonly from?: Path | undefined
  readonly subtree: boolean
}

/**
 * Whether a watch of `watched` sees `event`: at the path itself, at a direct child (any descendant when recursive), at
 * either end of a rename, and whatever takes away or brings the whole tree that the watched path stands in.
 */
export function concerns(event: EventPlace, watched: Path, recursive: boolean): boolean {
  return (
    concernsPlace(event.path, event.subtree, watched, recursive) ||
    (event.from !== undefined && concernsPlace(event.from, event.subtree, watched, recursive))
  )
}

function concernsPlace(path: Path, subtree: boolean, watched: Path, recursive: boolean): boolean {
  if (path === watched) return true
  if (subtree && isWithin(watched, path)) return true
  if (recursive) return isWithin(path, watched)
  return parentPath(path) === watched && path !== '/'
}
