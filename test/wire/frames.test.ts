/** The frame codec: bytes as documented, any cut, any garbage. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FrameReader, FrameWriter, frameType } from '../../proto/frames.ts'
import { Reader, WireError, Writer } from '../../proto/protobuf.ts'

interface Frame {
  readonly type: number
  readonly tag: number
  readonly payload: Uint8Array
}

const max = 1024 * 1024

function encode(frames: readonly Frame[]): Buffer {
  const writer = new FrameWriter()
  for (const { type, tag, payload } of frames) {
    writer.beginFrame(type, tag)
    writer.lastBytes(1, payload)
    writer.endFrame()
  }
  return Buffer.concat(writer.take())
}

function decode(reader: FrameReader): Frame[] {
  const frames: Frame[] = []
  while (reader.next()) {
    const fields = new Reader(reader.buffer, reader.start, reader.end)
    let payload: Uint8Array = new Uint8Array(0)
    if (fields.next() !== 0) payload = Uint8Array.from(fields.bytes())
    frames.push({ type: reader.type, tag: reader.tag, payload })
  }
  return frames
}

const aFrame = fc.record({
  type: fc.integer({ min: 0, max: 255 }),
  tag: fc.integer({ min: 0, max: 0xffff_ffff }),
  payload: fc.oneof(
    { weight: 5, arbitrary: fc.uint8Array({ maxLength: 300 }) },
    { weight: 1, arbitrary: fc.integer({ min: 16_000, max: 200_000 }).map((length) => new Uint8Array(length).fill(length)) },
  ),
})

describe('frames', () => {
  it('are the bytes that the documentation shows', () => {
    const writer = new FrameWriter()
    writer.bare(frameType.ping, 0)
    writer.beginFrame(frameType.credit, 0x01020304)
    writer.uint(1, 300)
    writer.endFrame()
    writer.beginFrame(frameType.renewLease, 7)
    writer.string(2, 'abc')
    writer.endFrame()
    expect(Buffer.concat(writer.take()).toString('hex')).toBe(
      ['05000000' + '03' + '00000000', '08000000' + '08' + '04030201' + '08ac02', '0a000000' + '1e' + '07000000' + '1203616263'].join(''),
    )
  })

  it('come out as they went in, however the bytes are cut', () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 40 })
    fc.assert(
      fc.property(fc.array(aFrame, { maxLength: 20 }), cuts, (frames, sizes) => {
        const bytes = encode(frames)
        const reader = new FrameReader(max)
        const seen: Frame[] = []
        let at = 0
        for (let index = 0; at < bytes.length; index++) {
          // Single bytes for short streams; long ones would take minutes that way.
          const size = Math.max(sizes[index % sizes.length]!, Math.ceil(bytes.length / 2_000))
          reader.push(Buffer.from(bytes.subarray(at, at + size)))
          at += size
          seen.push(...decode(reader))
        }
        expect(seen.length).toBe(frames.length)
        for (const [index, { type, tag, payload }] of frames.entries()) {
          expect([seen[index]!.type, seen[index]!.tag]).toEqual([type, tag])
          expect(Buffer.compare(seen[index]!.payload, payload)).toBe(0)
        }
      }),
      { numRuns: 1_000 },
    )
  })

  it('are found again when chunks pile up before they are read', () => {
    const frames = Array.from({ length: 50 }, (_, tag) => ({ type: 1, tag, payload: new Uint8Array(tag * 10) }))
    const reader = new FrameReader(max)
    for (const byte of encode(frames)) reader.push(Buffer.of(byte))
    expect(decode(reader).map(({ tag, payload }) => [tag, payload.length])).toEqual(frames.map(({ tag, payload }) => [tag, payload.length]))
  })

  it('random bytes give frames or a WireError, and nothing past the limit is kept', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 10 }), (chunks) => {
        const reader = new FrameReader(4096)
        try {
          for (const chunk of chunks) {
            reader.push(Buffer.from(chunk))
            while (reader.next()) expect(reader.end - reader.start).toBeLessThanOrEqual(4096)
          }
        } catch (error) {
          expect(error).toBeInstanceOf(WireError)
        }
      }),
      { numRuns: 5_000 },
    )
  })

  it('a frame that claims 2 GiB is too large as soon as its length is read', () => {
    for (const cut of [4, 2, 1]) {
      const reader = new FrameReader(max)
      const claim = Buffer.from([0xff, 0xff, 0xff, 0x7f])
      const before = process.memoryUsage().arrayBuffers
      reader.push(claim.subarray(0, cut))
      const rest = claim.subarray(cut)
      if (rest.length > 0) {
        expect(reader.next()).toBe(false)
        reader.push(rest)
      }
      expect(() => reader.next()).toThrow(expect.objectContaining({ kind: 'too_large' }) as Error)
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024)
    }
  })

  it('a frame shorter than its header is invalid', () => {
    const reader = new FrameReader(max)
    reader.push(Buffer.from([4, 0, 0, 0, 1, 1, 1, 1]))
    expect(() => reader.next()).toThrow(expect.objectContaining({ kind: 'invalid' }) as Error)
  })

  it('a large frame that comes slowly holds a few times what came, not what it claims', () => {
    const reader = new FrameReader(8 * 1024 * 1024)
    const head = Buffer.alloc(9)
    head.writeUInt32LE(8 * 1024 * 1024 - 9, 0)
    const before = process.memoryUsage().arrayBuffers
    reader.push(head)
    expect(reader.next()).toBe(false)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024)
  })
})

describe('protobuf', () => {
  it('integers survive, and only 0 to 2^53 - 1 are written', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const writer = new Writer()
        writer.optionalUint(1, value)
        writer.optionalFixed(2, value)
        const reader = new Reader(writer.takeOne())
        reader.next()
        expect(reader.uint()).toBe(value)
        reader.next()
        expect(reader.fixed()).toBe(value)
      }),
      { numRuns: 2_000 },
    )
    for (const value of [-1, 1.5, NaN, Infinity, 2 ** 53]) {
      expect(() => new Writer().optionalUint(1, value)).toThrow(WireError)
      expect(() => new Writer().optionalFixed(1, value)).toThrow(WireError)
    }
  })

  it('an integer past 2^53 - 1 is refused', () => {
    expect(() => new Reader(Buffer.from('ffffffffffffffffff01', 'hex')).uint()).toThrow(WireError)
    expect(() => new Reader(Buffer.from('ffffffffffffffff', 'hex')).fixed()).toThrow(WireError)
  })

  it('texts survive, malformed UTF-8 is refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => {
        const writer = new Writer()
        writer.optionalString(1, text)
        const reader = new Reader(writer.takeOne())
        reader.next()
        expect(reader.string()).toBe(text)
      }),
      { numRuns: 2_000 },
    )
    expect(() => new Reader(Buffer.from('02c328', 'hex')).string()).toThrow(WireError)
  })

  it('nested messages of any size keep their bounds', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 70_000 }), fc.integer({ min: 0, max: 300 }), (long, short) => {
        const writer = new Writer()
        const outer = writer.begin(1)
        const inner = writer.begin(2)
        writer.optionalBytes(3, new Uint8Array(long))
        writer.end(inner)
        writer.optionalBytes(4, new Uint8Array(short))
        writer.end(outer)
        writer.optionalUint(5, 1)
        const reader = new Reader(writer.takeOne())
        reader.next()
        const end = reader.enter()
        reader.next()
        const innerEnd = reader.enter()
        reader.next()
        expect(reader.bytes().length).toBe(long)
        reader.leave(innerEnd)
        reader.next()
        expect(reader.bytes().length).toBe(short)
        reader.leave(end)
        reader.next()
        expect(reader.uint()).toBe(1)
        expect(reader.next()).toBe(0)
      }),
      { numRuns: 300 },
    )
  })

  it('a field longer than its message is refused', () => {
    expect(() => new Reader(Buffer.from([5, 1])).bytes()).toThrow(WireError)
  })
})
