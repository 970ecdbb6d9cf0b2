/**
 * Files that were removed while handles of this node have them open. Nobody else can reach them and they end with their last handle, so
 * what is written to them stays here and is no change of the store.
 *
 * It could not be one: each replica takes the records of a removed file away in its own time, so what a command does to one would
 * depend on where it is applied (D1 of apply/change.ts).
 *
 * N1 `put` is for files that are unlinked, which is for good; `forget` comes with the last close.
 */
import { pathOf } from '../apply/walk.ts'
import type { BlobPins, PinHold } from '../blob/pins.ts'
import { isInline, type BuiltValue } from '../blob/value-builder.ts'
import { NineError } from '../../namespace/errors.ts'
import { limits } from '../../namespace/limits.ts'
import type { Principal } from '../../namespace/rights.ts'
import type { Micros } from '../../namespace/stat.ts'
import { noContent, type Content, type Ino, type NodeRecord, type StoredMutation, type TreeView } from '../model.ts'
import { qidOf, sizeOf } from './answers.ts'

interface Unlinked {
  readonly node: NodeRecord
  readonly hold: PinHold | undefined
}

export class UnlinkedFiles {
  readonly #pins: BlobPins
  readonly #files = new Map<Ino, Unlinked>()
  /** Inline bytes of all of them. */
  #bytes = 0

  constructor(pins: BlobPins) {
    this.#pins = pins
  }

  /** The file as this node's handles see it, where they have changed it since it was unlinked. */
  get(ino: Ino): NodeRecord | undefined {
    return this.#files.size === 0 ? undefined : this.#files.get(ino)?.node
  }

  /**
   * A new value for a file, whose chunks are pinned at this moment. N1
   * @throws NineError `overloaded` past limits.handles_staged_bytes_max
   */
  put(node: NodeRecord, built: BuiltValue, principal: Principal, time: Micros): StoredMutation {
    const bytes = isInline(built) ? built.inline.length : 0
    if (this.#bytes + bytes > limits.handles_staged_bytes_max) {
      const message = 'too much is held of files that were removed while they were open: close some'
      throw new NineError({ kind: 'overloaded', op: 'store.syncHandle', message })
    }
    const hold = isInline(built) ? undefined : this.#pins.holdTree(built)
    this.forget(node.ino)
    const changed = { ...node, version: node.version + 1, modifiedBy: principal.name, modifiedAt: time, content: contentOf(built) }
    this.#files.set(node.ino, { node: changed, hold })
    this.#bytes += bytes
    return { qid: qidOf(changed), revision: node.revision, created: false, size: sizeOf(changed) }
  }

  clear(): void {
    for (const ino of [...this.#files.keys()]) this.forget(ino)
  }

  forget(ino: Ino): void {
    const known = this.#files.get(ino)
    if (known === undefined) return
    this.#files.delete(ino)
    known.hold?.release()
    if (known.hold === undefined) this.#bytes -= sizeOf(known.node)
  }
}

/** Whether no path leads to the node any more. */
export function isUnlinked(view: TreeView, node: NodeRecord): boolean {
  return pathOf(view, node) === undefined
}

function contentOf(built: BuiltValue): Content {
  if (!isInline(built)) return { kind: 'blob', blob: built }
  return built.inline.length === 0 ? noContent : { kind: 'inline', bytes: built.inline }
}
