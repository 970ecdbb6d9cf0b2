/**
 * Taking away what no kept revision shows any more.
 *
 * Every entry that was taken away or replaced left a row in `fallen`, ordered by revision. Once history has passed it,
 * its tomb goes, and the node that lost its name by it goes with all below, unless the oldest kept state still shows it
 * under a name (it was moved: the row of its last name takes it away). A directory passes its children on as fallen rows
 * of their own, so each step is small and survives a crash.
 *
 * K1 A step is made and queued in one turn, and never while a checkpoint is being written: what it finds in the database
 *    is what is there when its puts are run.
 */
import { rootIno, type Ino, type NodeRecord, type TreeView } from '../model.ts'
import { fallenKey, putFallen, readFallen } from './fallen.ts'
import type { Fallen } from './overlay.ts'
import { decodeEntry, nameOfKey, rowKey, type RowKey, type Tables } from './rows.ts'

export interface CollectParts {
  readonly tables: Tables
  readonly group: number
  readonly floor: number
  /** The state at `floor`, the oldest that is shown. */
  readonly atFloor: TreeView
  /** A checkpoint is being written. */
  isFlushing(): boolean
  /** Stays for now. */
  isHeld(ino: Ino): boolean
  node(ino: Ino): NodeRecord | undefined
  forgetNode(ino: Ino): void
  forgetEntry(parent: Ino, name: string): void
  write(puts: () => void): Promise<void>
}

/** Rows of one transaction. */
const step_rows = 512

/** Resolves to the number of changes made; 0: nothing is left to do now. @throws NineError as Environment.write; what was done before stays done */
export async function collectFallen(parts: CollectParts, rowsMax: number): Promise<number> {
  let changes = 0
  let rows = 0
  let after: RowKey | Uint8Array = rowKey(parts.group)
  while (rows < rowsMax && !parts.isFlushing()) {
    const step: Step = new Step(parts, after) // K1
    if (step.rows === 0) break
    if (step.puts.length > 0) await parts.write(() => step.run())
    changes += step.puts.length
    rows += step.rows
    after = step.next
  }
  return changes
}

class Step {
  rows = 0
  next: RowKey | Uint8Array
  readonly puts: (() => void)[] = []
  readonly #parts: CollectParts

  constructor(parts: CollectParts, after: RowKey | Uint8Array) {
    this.#parts = parts
    this.next = after
    const { tables, group, floor } = parts
    const end = rowKey(group, floor + 1)
    for (const { key, value } of tables.fallen.getRange({ start: after, end, limit: step_rows, exclusiveStart: true })) {
      this.rows++
      if (!this.#clear(readFallen(key, value))) {
        // A large directory takes several steps: come back to it.
        break
      }
      this.next = key
      if (this.rows >= step_rows) break
    }
  }

  run(): void {
    for (const put of this.puts) put()
  }

  /** Whether the row is done with (or has to wait). */
  #clear(fallen: Fallen): boolean {
    const { tables, group } = this.#parts
    const { since, ino, parent, name } = fallen
    if (ino !== 0 && this.#parts.isHeld(ino)) return true
    if (ino !== 0 && !this.#clearNode(since, ino)) return false
    const key = rowKey(group, parent, -1, name)
    const tomb = tables.tombs.getBinary(key)
    if (tomb !== undefined && decodeEntry(key, tomb, parent, name).since === since) this.puts.push(() => tables.tombs.remove(key))
    this.puts.push(() => tables.fallen.remove(fallenKey(group, fallen)))
    return true
  }

  #clearNode(since: number, ino: Ino): boolean {
    const { tables, group, atFloor } = this.#parts
    const node = this.#parts.node(ino)
    if (node === undefined || ino === rootIno) return true
    // A name that was lost for good never comes back: what has none at the floor has none after it.
    const then = atFloor.node(ino)
    if (then !== undefined && atFloor.child(then.parent, then.name) === ino) return true
    if (node.kind === 'directory' && !this.#passOn(since, ino)) return false
    this.puts.push(() => {
      tables.nodes.remove(rowKey(group, ino))
      tables.contents.remove(rowKey(group, ino, node.since))
      this.#parts.forgetNode(ino)
    })
    return true
  }

  /** Make the children of a directory fallen. Whether all are. */
  #passOn(since: number, parent: Ino): boolean {
    const { tables, group } = this.#parts
    let children = 0
    const range = { start: rowKey(group, parent), end: rowKey(group, parent + 1), limit: step_rows }
    for (const { key, value } of tables.entries.getRange(range)) {
      const name = nameOfKey(key)
      const { ino } = decodeEntry(key, value, parent, name)
      const child = { since, ino, parent, name }
      children++
      this.puts.push(() => {
        tables.entries.remove(rowKey(group, parent, -1, name))
        this.#parts.forgetEntry(parent, name)
        putFallen(tables.fallen, group, child)
      })
    }
    this.rows += children
    return children < step_rows
  }
}
