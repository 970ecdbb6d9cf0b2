import { bytesOf, entryAt } from '../log.ts'
import type { Log } from '../log.ts'

/**
 * Up to where the log may be compacted when a snapshot as of `index` can be sent: of what the snapshot holds, the newest entries stay for
 * members that are a little behind, at most so many and so many bytes of them.
 */
export function compactable(log: Log, index: number, entries_max: number, bytes_max: number): number {
  let bytes = 0
  let kept = 0
  let at = index
  while (at > log.base.index && kept < entries_max) {
    bytes += bytesOf(entryAt(log, at))
    if (bytes > bytes_max) break
    kept++
    at--
  }
  return at
}
