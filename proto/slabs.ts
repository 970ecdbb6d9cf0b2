/**
 * Buffers that messages are written into, one behind the other. A writer that has nothing to write gives back the end of its slab, so that an
 * idle connection holds none; the next writer goes on in it.
 */
export interface Slab {
  readonly buffer: Buffer
  /** From here to the end it is nobody's. */
  readonly at: number
}

export const slab_bytes = 64 * 1024
/** Room that the end of a slab has at least. */
export const spare_bytes_min = 4096
const spare_max = 16
const spare: Slab[] = []

/** The end of a used slab with room for `needed` bytes, or a new one of `freshBytes`. */
export function takeSlab(needed: number, freshBytes: number): Slab {
  const used = needed <= spare_bytes_min ? spare.pop() : undefined
  return used ?? { buffer: Buffer.allocUnsafeSlow(freshBytes), at: 0 }
}

export function giveBackSlab(buffer: Buffer, at: number): void {
  if (buffer.length - at >= spare_bytes_min && spare.length < spare_max) spare.push({ buffer, at })
}
