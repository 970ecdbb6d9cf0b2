/**
 * Rows of `fallen`: what was taken away, as keys; their values are checksums of these, for a flipped bit could name a node that lives on.
 * Those of folders from before have one byte instead, and are taken as they are.
 */
import type { Fallen } from './overlay.ts'
import { asBuffer, checkRow, checksum_bytes, fallenOfKey, rowKey, sealRow, type Rows, type RowKey } from './rows.ts'

/** Bytes of a value from before they had checksums. */
export const bare_fallen_bytes = 1

export function fallenKey(group: number, { since, ino, parent, name }: Fallen): RowKey {
  return rowKey(group, since, ino, name, parent)
}

export function putFallen(rows: Rows, group: number, fallen: Fallen): void {
  const key = fallenKey(group, fallen)
  const value = Buffer.allocUnsafeSlow(checksum_bytes)
  sealRow(key, value, 0, 0)
  rows.put(key, value)
}

/** @throws NineError `corrupt` */
export function readFallen(key: Uint8Array, value: Uint8Array): Fallen {
  const fallen = fallenOfKey(key)
  if (value.length !== bare_fallen_bytes) checkRow(key, asBuffer(value), `what was taken away at revision ${fallen.since}`)
  return fallen
}
