/**
 * Going through rows one after the other without making anything of each: a quarter of what a range of LMDB's binding costs, which copies
 * every key and value into memory of their own.
 *
 * R1 A table is opened a second time, with a decoder that is shown where the binding has put the value, and keys that go into one buffer.
 */
import type { RootDatabase } from 'lmdb'
import { rowKeyEncoder, type RangeOptions } from './rows.ts'

/** The row that is looked at, good until `found` returns: key[0, keyBytes) and value[0, valueBytes). */
export interface ScannedRow {
  readonly key: Buffer
  readonly keyBytes: number
  readonly value: Uint8Array
  readonly valueBytes: number
}

const key_bytes_max = 2048

export class RowScan {
  readonly #row: { key: Buffer; keyBytes: number; value: Uint8Array; valueBytes: number } = {
    key: Buffer.alloc(key_bytes_max),
    keyBytes: 0,
    value: Buffer.alloc(0),
    valueBytes: 0,
  }
  readonly #rows: { getRange(options: RangeOptions): Iterable<unknown> }

  constructor(root: RootDatabase, name: string) {
    const row = this.#row
    // R1
    const keyEncoder = {
      writeKey: rowKeyEncoder.writeKey,
      readKey: (source: Uint8Array, start: number, end: number): null => {
        for (let i = start; i < end; i++) row.key[i - start] = source[i]!
        row.keyBytes = end - start
        return null
      },
    }
    const encoder = {
      encode: (): never => {
        throw new Error('nothing is put through a scan')
      },
      decode: (value: Uint8Array, bytes: number): null => {
        row.value = value
        row.valueBytes = bytes
        return null
      },
    }
    this.#rows = root.openDB(name, { encoder, keyEncoder, cache: false } as never) as never
  }

  /**
   * Calls `found` with each row of a range until it returns false. Within it nothing else may be read from the database.
   * @returns rows looked at. @throws as LMDB
   */
  run(options: RangeOptions, found: (row: ScannedRow) => boolean): number {
    let count = 0
    for (const _ of this.#rows.getRange(options)) {
      count++
      if (!found(this.#row)) break
    }
    return count
  }
}
