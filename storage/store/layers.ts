/**
 * What shared handles have written and the store not yet published: a layer of byte ranges over a file's value.
 *
 * Y1 Over a value of S bytes the result has max(min(S, cut), extend) bytes; no range reaches past `extend`.
 * Y2 Ranges are in order and neither overlap nor touch.
 */
import { limits } from '../../namespace/limits.ts'
import type { Principal } from '../../namespace/rights.ts'
import { Tries } from './tries.ts'

interface Range {
  readonly offset: number
  /** The first `length` bytes count; the rest is room to grow. */
  buffer: Uint8Array
  length: number
}

/** What a range costs besides its bytes. */
const range_bytes = 64
/** What a range counts towards a full layer: 65,536 of them fill one. */
const full_range_bytes = limits.handle_layer_bytes_max / 65_536

export class Layer {
  /** Who wrote it: changes of two principals are never one. */
  readonly principal: Principal
  /** To publish it. */
  readonly tries = new Tries()
  cut = Infinity
  extend = 0
  readonly ranges: Range[] = []
  #bytes = 0
  #written = 0

  constructor(principal: Principal) {
    this.principal = principal
  }

  /** Memory it holds. */
  get bytes(): number {
    return this.#bytes
  }

  /** Whether it is time to publish it: what its ranges hold, without their room to grow, or how many they are. */
  get isFull(): boolean {
    return this.#written + this.ranges.length * full_range_bytes >= limits.handle_layer_bytes_max
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
      const { length } = head
      this.#bytes += put(head, offset - head.offset, bytes)
      this.#written += head.length - length
      return
    }
    const tail = ranges[after - 1]
    const start = after > first ? Math.min(offset, head!.offset) : offset
    const stop = after > first ? Math.max(end, tail!.offset + tail!.length) : end
    // Y2: what these ranges and the new bytes cover has no gap, so all of it is written.
    const buffer = Buffer.allocUnsafeSlow(stop - start)
    for (const range of ranges.slice(first, after)) buffer.set(range.buffer.subarray(0, range.length), range.offset - start)
    buffer.set(bytes, offset - start)
    for (const gone of ranges.splice(first, after - first, { offset: start, buffer, length: buffer.length })) {
      this.#bytes -= gone.buffer.length + range_bytes
      this.#written -= gone.length
    }
    this.#bytes += buffer.length + range_bytes
    this.#written += buffer.length
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
        this.#written -= last.offset + last.length - size
        last.length = size - last.offset
        break
      }
      this.#bytes -= last.buffer.length + range_bytes
      this.#written -= last.length
      ranges.pop()
    }
  }

  /** What it does to the bytes from `from` to `end`, as it is now. */
  between(from: number, end: number): Layer {
    const copy = new Layer(this.principal)
    for (let i = this.#firstReaching(from); i < this.ranges.length; i++) {
      const range = this.ranges[i]!
      const start = Math.max(from, range.offset)
      const stop = Math.min(end, range.offset + range.length)
      if (range.offset >= end) break
      if (stop > start) copy.write(start, range.buffer.subarray(start - range.offset, stop - range.offset))
    }
    copy.cut = this.cut
    copy.extend = this.extend
    return copy
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

/** @returns bytes of memory it grew by */
function put(range: Range, at: number, bytes: Uint8Array): number {
  const end = at + bytes.length
  const before = range.buffer
  if (end > before.length) {
    range.buffer = Buffer.allocUnsafeSlow(Math.max(end, grownLength(before.length)))
    range.buffer.set(before.subarray(0, range.length))
  }
  range.buffer.set(bytes, at)
  range.length = Math.max(range.length, end)
  return range.buffer.length - before.length
}

/** Twice as long, up to what a layer holds before it is published: room past that would hardly be used. */
function grownLength(length: number): number {
  const max = limits.handle_layer_bytes_max
  return length < max ? Math.min(2 * length, max) : length + max / 4
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
