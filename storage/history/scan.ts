/**
 * Finding the records of a segment that has no index: from header to header, over damage to the next whole one.
 *
 * A record behind `last` is one the tree does not know: the log brings it again, so the scan ends before it. A record up
 * to `last` was on stable storage: what is not readable there is damage, and is marked, not cut.
 */
import { fstatSync, readSync } from 'node:fs'
import { damaged, decodeHeader, header_bytes, magic } from './format.ts'

const block_bytes = 1024 * 1024

export interface Scanned {
  /** Where each revision begins, from the first one on. */
  readonly offsets: readonly number[]
  /** Where the next record goes. */
  readonly end: number
  /** Revisions that name blobs. */
  readonly blobRevisions: readonly number[]
}

export function scanSegment(fd: number, first: number, last: number): Scanned {
  const { size } = fstatSync(fd)
  const window = new Window(fd, size)
  const offsets: number[] = []
  const blobRevisions: number[] = []
  let at = 0
  while (at < size && first + offsets.length <= last) {
    const revision = first + offsets.length
    const header = window.header(at)
    // A file that ends inside a record was cut short: that is not damage.
    if (at + header_bytes + (header?.bodyBytes ?? 0) > size) break
    if (header?.revision === revision) {
      offsets.push(at)
      if (header.hasBlobs) blobRevisions.push(revision)
      at += header_bytes + header.bodyBytes
      continue
    }
    const next = nextWhole(window, at + 1, revision, last)
    const reached = next?.revision ?? last + 1
    while (first + offsets.length < reached) offsets.push(damaged)
    at = next?.at ?? size
  }
  return { offsets, end: at, blobRevisions }
}

function nextWhole(window: Window, from: number, after: number, last: number): { at: number; revision: number } | undefined {
  for (let at = window.find(from); at >= 0; at = window.find(at + 1)) {
    const header = window.header(at)
    if (header !== undefined && header.revision > after && header.revision <= last) return { at, revision: header.revision }
  }
  return undefined
}

/** A block of the file in memory, moved along as it is read. */
class Window {
  readonly #fd: number
  readonly #size: number
  readonly #buffer = Buffer.allocUnsafe(block_bytes)
  #from = 0
  #length = 0

  constructor(fd: number, size: number) {
    this.#fd = fd
    this.#size = size
  }

  header(at: number): ReturnType<typeof decodeHeader> {
    if (!this.#hold(at, header_bytes)) return undefined
    return decodeHeader(this.#buffer.subarray(0, this.#length), at - this.#from)
  }

  /** Where the next header may begin, at or after `from`; -1 when nowhere. */
  find(from: number): number {
    for (let at = from; this.#hold(at, header_bytes); at = this.#from + this.#length - header_bytes + 1) {
      const found = this.#buffer.subarray(0, this.#length).indexOf(magic, at - this.#from + 12)
      if (found >= 0) return this.#from + found - 12
      if (this.#from + this.#length >= this.#size) return -1
    }
    return -1
  }

  #hold(at: number, length: number): boolean {
    if (at + length > this.#size) return false
    if (at >= this.#from && at + length <= this.#from + this.#length) return true
    this.#from = at
    this.#length = readSync(this.#fd, this.#buffer, 0, block_bytes, at)
    return this.#length >= length
  }
}
