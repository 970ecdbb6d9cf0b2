/**
 * A look at LMDB's file before LMDB maps it: a file that is none, or is cut short, would end the process.
 *
 * Layout of LMDB 0.9.90 (the one in the binding): pages 0 and 1 are meta pages, a header of 24 bytes and then u32 magic,
 * u32 version, u64 address, u64 size of the map, two databases of 48 bytes (the first begins with the u32 size of a page),
 * u64 last page, u64 transaction. The meta page with the later transaction counts.
 */
import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readSync } from 'node:fs'
import { NineError } from '../../namespace/errors.ts'

const magic = 0xbeefc0de
const meta_at = 24
const page_size_at = meta_at + 24
const last_page_at = meta_at + 120
const transaction_at = meta_at + 128
const meta_bytes = transaction_at + 8

/**
 * Pages missing at the end are put back as zeros: LMDB may never have written the last ones, and where they did hold
 * something, reading it is an error rather than a fault of the memory map.
 * @throws NineError `corrupt`
 */
export function checkDatabaseFile(path: string): void {
  if (!existsSync(path)) return
  const fd = openSync(path, 'r+')
  try {
    const { size } = fstatSync(fd)
    if (size === 0) return
    const first = readMetaPage(fd, 0)
    const pageSize = first?.readUInt32LE(page_size_at) ?? 0
    const second = pageSize >= 512 && pageSize <= 65536 ? readMetaPage(fd, pageSize) : undefined
    if (first === undefined || second === undefined) {
      const message = `${path} is damaged: it does not begin as a database. Restore the data folder from a backup`
      throw new NineError({ kind: 'corrupt', op: 'tree.open', path, message })
    }
    const meta = first.readBigUInt64LE(transaction_at) > second.readBigUInt64LE(transaction_at) ? first : second
    const needed = (Number(meta.readBigUInt64LE(last_page_at)) + 1) * pageSize
    if (Number.isSafeInteger(needed) && size < needed) ftruncateSync(fd, needed)
  } finally {
    closeSync(fd)
  }
}

function readMetaPage(fd: number, at: number): Buffer | undefined {
  const page = Buffer.alloc(meta_bytes)
  return readSync(fd, page, 0, meta_bytes, at) === meta_bytes && page.readUInt32LE(meta_at) === magic ? page : undefined
}
