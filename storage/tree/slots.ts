/**
 * Slots: the number under which the rows and the history of a group stand. At first it is the group's own; a state that
 * replaces the group's as a whole is loaded under a slot of its own, beside what it will replace, and takes its place in one
 * transaction.
 *
 * O1 A slot that is not the one of its group is listed under `drop/` as long as it may hold a row or a file: what an interrupted
 *    load or removal left is taken away after the next opening.
 * O2 A number is given once in the life of a database, so nothing of one state is ever read as another's.
 *
 * Rows, in `meta` under the group 0, which no store has: `slot/GROUP` and `drop/SLOT`, the slot as u48; `next`, the next to give.
 */
import { asBuffer, checkRow, checksum_bytes, readU48, rowKey, sealRow, writeU48, type RowKey, type Tables } from './rows.ts'

const own_group = 0
const first_slot = 2 ** 31
const slots_end = 2 ** 32 - 1
const slotPrefix = 'slot/'
const dropPrefix = 'drop/'
const nextText = 'next'
const group_bytes = 4
const number_bytes = 6
const rows_max = 1_000_000

export class Slots {
  readonly #tables: Tables
  readonly #slots = new Map<number, number>()
  readonly #dropped = new Set<number>()
  #next = first_slot

  /** @throws NineError `corrupt` */
  constructor(tables: Tables) {
    this.#tables = tables
    for (const { key, value } of tables.meta.getRange({ start: rowKey(own_group), end: rowKey(own_group + 1), limit: rows_max })) {
      const text = asBuffer(key).toString('utf8', group_bytes)
      const number = readU48(checkRow(key, value, `the state "${text}" of the tree`), 0)
      if (text.startsWith(slotPrefix)) this.#slots.set(Number(text.slice(slotPrefix.length)), number)
      else if (text.startsWith(dropPrefix)) this.#dropped.add(number)
      else if (text === nextText) this.#next = number
    }
  }

  of(group: number): number {
    return this.#slots.get(group) ?? group
  }

  /** Slots whose rows and files are to go. O1 */
  get dropped(): readonly number[] {
    return [...this.#dropped]
  }

  /** A new slot, which is one to drop until it is taken: `run` has to be made durable before anything is put there. O1, O2 */
  begin(): { readonly slot: number; readonly run: () => void } {
    const slot = this.#next++
    if (slot >= slots_end) throw new Error('the database has no slots left')
    this.#dropped.add(slot)
    return {
      slot,
      run: () => {
        this.#put(nextText, this.#next)
        this.#put(dropPrefix + slot, slot)
      },
    }
  }

  /** Makes `slot` the one of `group` when `run` is durable; then call `done`. */
  take(group: number, slot: number): { readonly run: () => void; readonly done: () => void } {
    const old = this.of(group)
    return {
      run: () => {
        this.#put(slotPrefix + group, slot)
        this.#put(dropPrefix + old, old)
        this.#tables.meta.remove(keyOf(dropPrefix + slot))
      },
      done: () => {
        this.#slots.set(group, slot)
        this.#dropped.add(old)
        this.#dropped.delete(slot)
      },
    }
  }

  /** Nothing is left of the slot. */
  forget(slot: number): { readonly run: () => void; readonly done: () => void } {
    return { run: () => this.#tables.meta.remove(keyOf(dropPrefix + slot)), done: () => void this.#dropped.delete(slot) }
  }

  #put(text: string, number: number): void {
    const key = keyOf(text)
    const value = Buffer.allocUnsafeSlow(number_bytes + checksum_bytes)
    writeU48(number, value, 0)
    sealRow(key, value, 0, number_bytes)
    this.#tables.meta.put(key, value)
  }
}

function keyOf(text: string): RowKey {
  return rowKey(own_group, -1, -1, text)
}
