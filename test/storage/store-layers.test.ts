/** Layers of shared handles against a plain buffer. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { limits } from '../../namespace/limits.ts'
import { Layer, overlay, sizeUnder } from '../../storage/store/layers.ts'

const principal = { name: 'ann', groups: [] }

type Step =
  { kind: 'write'; offset: number; bytes: Uint8Array } | { kind: 'truncate'; size: number } | { kind: 'layer' } | { kind: 'publish' }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      offset: fc.nat(40),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 12 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), size: fc.nat(50) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'layer' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'publish' as const }) },
)

/** What a file holds, the slow and obvious way. */
class PlainFile {
  bytes: number[]
  constructor(bytes: Uint8Array) {
    this.bytes = [...bytes]
  }
  write(offset: number, bytes: Uint8Array): void {
    while (this.bytes.length < offset) this.bytes.push(0)
    bytes.forEach((byte, i) => (this.bytes[offset + i] = byte))
  }
  truncate(size: number): void {
    while (this.bytes.length < size) this.bytes.push(0)
    this.bytes.length = size
  }
}

/** A layer published the way SharedFile does it: cut, ranges, extension. */
function publish(layer: Layer, base: Uint8Array): Uint8Array {
  const file = new PlainFile(base)
  const size = layer.sizeOver(base.length)
  if (layer.cut < base.length) file.truncate(layer.cut)
  for (const range of layer.ranges) file.write(range.offset, range.buffer.subarray(0, range.length))
  if (size > file.bytes.length) file.truncate(size)
  return Uint8Array.from(file.bytes)
}

function shown(layers: readonly Layer[], base: Uint8Array, from: number, length: number): Uint8Array {
  const size = sizeUnder(layers, base.length)
  const out = new Uint8Array(Math.max(0, Math.min(size, from + length) - from))
  out.set(base.subarray(from, from + out.length))
  overlay(layers, out, from)
  return out
}

it('layers over a value show what writes and truncations in that order leave', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 30 }),
      fc.array(step, { maxLength: 30 }),
      fc.nat(40),
      fc.nat(40),
      (start, steps, from, length) => {
        const model = new PlainFile(start)
        let base: Uint8Array = start
        const layers = [new Layer(principal)]
        for (const one of steps) {
          const layer = layers[layers.length - 1]!
          if (one.kind === 'write') {
            layer.write(one.offset, one.bytes)
            model.write(one.offset, one.bytes)
          } else if (one.kind === 'truncate') {
            const now = sizeUnder(layers, base.length)
            if (one.size !== now) layer.truncate(one.size, now)
            model.truncate(one.size)
          } else if (one.kind === 'layer') {
            layers.push(new Layer(principal))
          } else {
            base = publish(layers.shift()!, base)
            if (layers.length === 0) layers.push(new Layer(principal))
          }
          expect(sizeUnder(layers, base.length)).toBe(model.bytes.length)
          expect([...shown(layers, base, 0, 1000)]).toEqual(model.bytes)
          expect([...shown(layers, base, from, length)]).toEqual(model.bytes.slice(from, from + length))
          const part = layers.map((whole) => whole.between(from, from + length))
          expect([...shown(part, base, from, length)]).toEqual(model.bytes.slice(from, from + length))
          for (const { ranges } of layers) {
            for (let i = 1; i < ranges.length; i++) expect(ranges[i]!.offset).toBeGreaterThan(ranges[i - 1]!.offset + ranges[i - 1]!.length)
          }
        }
      },
    ),
    { numRuns: 2000 },
  )
})

it('a layer is full by what it holds, not by its room to grow, and by how many ranges it has', () => {
  const layer = new Layer(principal)
  const piece = new Uint8Array(65_512)
  let written = 0
  while (!layer.isFull) written += (layer.write(written, piece), piece.length)
  expect(written).toBeGreaterThanOrEqual(limits.handle_layer_bytes_max - piece.length)
  expect(layer.bytes).toBeLessThan(limits.handle_layer_bytes_max + 2 * piece.length)
  const sparse = new Layer(principal)
  for (let i = 0; i < 65_536; i++) sparse.write(2 * i, piece.subarray(0, 1))
  expect(sparse.isFull).toBe(true)
  layer.truncate(0, written)
  expect([layer.isFull, layer.bytes]).toEqual([false, 0])
})
