/**
 * What shared handles have written and the store not yet published: a layer of byte ranges over a file's value.
 *
 * Y1 Over a value of S bytes the result has max(min(S, cut), extend) bytes; no range reaches past `extend`.
 * Y2 Ranges are in order and neither overlap nor touch.
 */
import type { Principal } from '../../namespace/rights.ts'

interface Range {
  readonly offset: number
  /** The first `length` bytes count; the rest is room to grow. */
  buffer: Uint8Array
  length: number
}

/** What a range costs besides its bytes. */
const range_bytes = 64

export class Layer {
  /** Who wrote it: changes of two principals are never one. */
  readonly principal: Principal
  cut = Infinity
  extend = 0
  readonly ranges: Range[] = []
  #bytes = 0

  constructor(principal: Principal) {
    this.principal = principal
  }

  /** Memory it holds. */
  get bytes(): number {
    return this.#bytes
  }

  get isEmpty(): boolean {
    return this.cut === Infinity && this.extend === 0
  }

  /** Y1 */
  sizeOver(size: number): number {
    return Math.max(Math.min(size, this.cut), this.extend)
  }

  write(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length
    this.extend = Math.max(this.extend, end)
    const ranges = this.ranges
    const first = this.#firstReaching(offset)
    let after = first
    while (after < ranges.length && ranges[after]!.offset <= end) after++
    const head = ranges[first]
    if (after === first + 1 && head !== undefined && head.offset <= offset) {
      put(head, offset - head.offset, bytes, (grown) => (this.#bytes += grown))
      return
    }
    const tail = ranges[after - 1]
    const start = after > first ? Math.min(offset, head!.offset) : offset
    const stop = after > first ? Math.max(end, tail!.offset + tail!.length) : end
    const buffer = new Uint8Array(stop - start)
    for (const range of ranges.slice(first, after)) buffer.set(range.buffer.subarray(0, range.length), range.offset - start)
    buffer.set(bytes, offset - start)
    for (const gone of ranges.splice(first, after - first, { offset: start, buffer, length: buffer.length })) {
      this.#bytes -= gone.buffer.length + range_bytes
    }
    this.#bytes += buffer.length + range_bytes
  }

  /** `size` now is the size of the value under this layer and those below it. */
  truncate(size: number, now: number): void {
    this.cut = Math.min(this.cut, size)
    this.extend = size > now ? size : Math.min(this.extend, size)
    const ranges = this.ranges
    while (ranges.length > 0) {
      const last = ranges[ranges.length - 1]!
      if (last.offset + last.length <= size) break
      if (last.offset < size) {
        last.length = size - last.offset
        break
      }
      this.#bytes -= last.buffer.length + range_bytes
      ranges.pop()
    }
  }

  /** Copy what lies in `out`, which begins at `from` in the value. */
  copyInto(out: Uint8Array, from: number): void {
    const end = from + out.length
    for (let i = this.#firstReaching(from); i < this.ranges.length; i++) {
      const range = this.ranges[i]!
      if (range.offset >= end) break
      const start = Math.max(from, range.offset)
      const stop = Math.min(end, range.offset + range.length)
      if (stop > start) out.set(range.buffer.subarray(start - range.offset, stop - range.offset), start - from)
    }
  }

  /** Index of the first range that ends at or after `offset`. */
  #firstReaching(offset: number): number {
    let low = 0
    let high = this.ranges.length
    while (low < high) {
      const middle = (low + high) >> 1
      const range = this.ranges[middle]!
      if (range.offset + range.length < offset) low = middle + 1
      else high = middle
    }
    return low
  }
}

function put(range: Range, at: number, bytes: Uint8Array, grew: (bytes: number) => void): void {
  const end = at + bytes.length
  if (end > range.buffer.length) {
    const larger = new Uint8Array(Math.max(end, 2 * range.buffer.length))
    larger.set(range.buffer.subarray(0, range.length))
    grew(larger.length - range.buffer.length)
    range.buffer = larger
  }
  range.buffer.set(bytes, at)
  range.length = Math.max(range.length, end)
}

/** Size of a value of `size` bytes under all layers, the lowest first. */
export function sizeUnder(layers: readonly Layer[], size: number): number {
  for (const layer of layers) size = layer.sizeOver(size)
  return size
}

/** Lay all layers over `out`, in which the bytes of the value below stand from `from` on. */
export function overlay(layers: readonly Layer[], out: Uint8Array, from: number): void {
  for (const layer of layers) {
    if (layer.cut < from + out.length) out.fill(0, Math.max(0, layer.cut - from))
    layer.copyInto(out, from)
  }
}
