/**
 * The names that one directory has in memory, kept in compareNames order: adding one costs a search and a short move,
 * going through them from any name costs nothing more.
 *
 * Names stand in blocks of at most `block_names_max`, in order within and between blocks.
 */
import { compareNames } from '../../namespace/path.ts'

const block_names_max = 512
const surrogate = /[\ud800-\udfff]/

export class SortedNames {
  #blocks: string[][] = [[]]
  /** No name has a code point above U+FFFF: then the order of strings is the order of names. */
  #isPlain = true

  /** Add a name that is not there. */
  add(name: string): void {
    if (this.#isPlain && surrogate.test(name)) this.#isPlain = false
    const blocks = this.#blocks
    const last = blocks[blocks.length - 1]!
    // Names that come in order, as in an import, go to the end.
    const isLast = last.length === 0 || this.#isBefore(last[last.length - 1]!, name)
    const index = isLast ? blocks.length - 1 : this.#blockOf(name)
    const block = blocks[index]!
    if (isLast) block.push(name)
    else block.splice(this.#firstAfter(block, name), 0, name)
    if (block.length <= block_names_max) return
    // At the end, leave the full block behind; elsewhere, split in the middle.
    blocks.splice(index + 1, 0, block.splice(isLast ? block_names_max : block_names_max >> 1))
  }

  delete(name: string): void {
    const index = this.#blockOf(name)
    const block = this.#blocks[index]!
    const at = block.indexOf(name)
    if (at < 0) return
    block.splice(at, 1)
    if (block.length === 0 && this.#blocks.length > 1) this.#blocks.splice(index, 1)
  }

  /** Names after `name`, one a call. */
  cursor(name: string): NameCursor {
    if (name === '') return new NameCursor(this.#blocks, 0, 0)
    if (this.#isPlain && surrogate.test(name)) this.#isPlain = false
    const index = this.#blockOf(name)
    return new NameCursor(this.#blocks, index, this.#firstAfter(this.#blocks[index]!, name))
  }

  #isBefore(a: string, b: string): boolean {
    return this.#isPlain ? a < b : compareNames(a, b) < 0
  }

  /** The last block that begins at or before `name`, or the first. */
  #blockOf(name: string): number {
    const blocks = this.#blocks
    let low = 0
    let high = blocks.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      const first = blocks[middle]![0]!
      if (this.#isBefore(name, first)) high = middle - 1
      else low = middle
    }
    return low
  }

  #firstAfter(block: readonly string[], name: string): number {
    let low = 0
    let high = block.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#isBefore(name, block[middle]!)) high = middle
      else low = middle + 1
    }
    return low
  }
}

/** Valid until the next add or delete. */
export class NameCursor {
  readonly #blocks: readonly (readonly string[])[]
  #block: number
  #at: number

  constructor(blocks: readonly (readonly string[])[], block: number, at: number) {
    this.#blocks = blocks
    this.#block = block
    this.#at = at
  }

  next(): string | undefined {
    for (;;) {
      const block = this.#blocks[this.#block]
      if (block === undefined) return undefined
      const name = block[this.#at++]
      if (name !== undefined) return name
      this.#block++
      this.#at = 0
    }
  }
}
