/**
 * The nodes of a slot's rows that name large values. A state of the database is held for some rows at a time only, for what is overwritten
 * while it is takes room in the file.
 */
import type { NodeRecord } from '../model.ts'
import type { Environment } from './environment.ts'
import { namesBlob } from './record.ts'
import { rowKey } from './rows.ts'

/** Nodes looked at between two looks at the database's state. */
const scan_rows = 512

export function* namingNodes(
  environment: Environment,
  slot: number,
  decode: (key: Uint8Array, value: Buffer) => NodeRecord,
): Iterable<NodeRecord> {
  const end = rowKey(slot + 1)
  for (let last: Uint8Array | undefined, isMore = true; isMore;) {
    const found: NodeRecord[] = []
    let left = scan_rows
    isMore = false
    const reading = environment.reading()
    try {
      const range = { start: last ?? rowKey(slot), end, exclusiveStart: last !== undefined }
      reading.scan('nodes', range, ({ key, keyBytes, value, valueBytes }) => {
        isMore = --left === 0
        if (!isMore && !namesBlob(value, 0)) return true
        const rowKeyBytes = Buffer.from(key.subarray(0, keyBytes))
        if (isMore) last = rowKeyBytes
        if (namesBlob(value, 0)) found.push(decode(rowKeyBytes, Buffer.from(value.subarray(0, valueBytes))))
        return !isMore
      })
    } finally {
      reading.done()
    }
    yield* found
  }
}
