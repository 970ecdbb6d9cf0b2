/** The framer of 9P: any chunks, stops and resumes, sizes that lie, and memory that follows what arrived. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MessageFramer } from '../../proto/ninep/framer.ts'
import { WireError } from '../../proto/protobuf.ts'
import { seed } from './arbitraries.ts'

/** A message of `size` bytes that are not those of the next one. */
function message(size: number, fill: number): Buffer {
  const bytes = Buffer.alloc(size, fill)
  bytes.writeUInt32LE(size, 0)
  return bytes
}

function cut(stream: Buffer, lengths: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  let at = 0
  for (let index = 0; at < stream.length; index++) {
    const length = lengths[index % lengths.length]!
    chunks.push(stream.subarray(at, at + length))
    at += length
  }
  return chunks
}

const anySizes = fc.array(
  fc.oneof({ weight: 6, arbitrary: fc.integer({ min: 7, max: 60 }) }, { weight: 1, arbitrary: fc.integer({ min: 60_000, max: 300_000 }) }),
  { maxLength: 12 },
)
const anyCuts = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 10, max: 100 }), fc.integer({ min: 10_000, max: 200_000 })),
  { minLength: 1, maxLength: 8 },
)

describe(`the framer, NINE_TEST_SEED=${seed}`, () => {
  it('gives the messages in order, however they are cut, whenever it is stopped and resumed', () => {
    fc.assert(
      fc.property(
        anySizes,
        anyCuts,
        fc.array(fc.boolean(), { minLength: 1 }),
        fc.array(fc.boolean(), { minLength: 1 }),
        (sizes, cuts, stops, resumes) => {
          const sent = sizes.map((size, index) => message(size, index + 1))
          const stream = Buffer.concat(sent)
          const framer = new MessageFramer(1024 * 1024)
          const got: Buffer[] = []
          const onMessage = (bytes: Buffer): boolean => {
            got.push(bytes)
            return stops[got.length % stops.length] !== true
          }
          let pushed = 0
          for (const [index, chunk] of cut(stream, stream.length > 20_000 ? cuts.map((length) => length * 50) : cuts).entries()) {
            const before = got.length
            const wasStopped = framer.stopped
            framer.push(chunk, onMessage)
            if (wasStopped) expect(got.length).toBe(before) // M3
            pushed += chunk.length
            expect(framer.waitingBytes).toBe(pushed - got.reduce((sum, { length }) => sum + length, 0))
            if (framer.stopped && resumes[index % resumes.length] === true) framer.resume(onMessage)
          }
          while (framer.stopped) framer.resume(onMessage)
          expect(framer.waitingBytes).toBe(0)
          expect(got.length).toBe(sent.length)
          for (const [index, bytes] of got.entries()) expect(bytes.equals(sent[index]!)).toBe(true)
        },
      ),
      { numRuns: 500, seed },
    )
  })

  it('stops in the middle of a chunk and goes on there', () => {
    const framer = new MessageFramer(100)
    const got: number[] = []
    const onMessage = ({ length }: Buffer): boolean => {
      got.push(length)
      return length !== 11 && length !== 13
    }
    framer.push(Buffer.concat([message(10, 1), message(11, 2), message(12, 3)]), onMessage)
    expect([got, framer.stopped, framer.waitingBytes]).toEqual([[10, 11], true, 12])
    framer.push(message(13, 4), onMessage)
    expect([got, framer.stopped, framer.waitingBytes]).toEqual([[10, 11], true, 25])
    framer.resume(onMessage)
    expect([got, framer.stopped, framer.waitingBytes]).toEqual([[10, 11, 12, 13], true, 0])
  })

  it('gives views of a chunk that holds messages whole, copies of those that span chunks', () => {
    const framer = new MessageFramer(1000)
    const stream = Buffer.alloc(90) // memory of its own
    Buffer.concat([message(20, 1), message(30, 2), message(40, 3)]).copy(stream)
    const got: Buffer[] = []
    const onMessage = (bytes: Buffer): void => void got.push(bytes)
    framer.push(stream.subarray(0, 60), onMessage)
    framer.push(stream.subarray(60), onMessage)
    expect(got.map((bytes) => bytes.buffer === stream.buffer)).toEqual([true, true, false])
    expect(got.map(({ byteOffset }) => byteOffset - stream.byteOffset).slice(0, 2)).toEqual([0, 20])
  })

  it.each([
    [0, 'invalid'],
    [6, 'invalid'],
    [1001, 'too_large'],
    [0x7fff_ffff, 'too_large'],
    [0x8000_0000, 'too_large'],
    [0xffff_ffff, 'too_large'],
  ])('refuses a size of %i when its four bytes are there, however they come', (size, kind) => {
    const head = Buffer.alloc(4)
    head.writeUInt32LE(size, 0)
    const refused: unknown = expect.objectContaining({ name: 'WireError', kind })
    for (let split = 0; split < 4; split++) {
      const framer = new MessageFramer(1000)
      const got: number[] = []
      const onMessage = ({ length }: Buffer): void => void got.push(length)
      framer.push(Buffer.concat([message(7, 1), head.subarray(0, split)]), onMessage)
      expect(() => framer.push(head.subarray(split), onMessage)).toThrow(refused)
      expect(got).toEqual([7])
      // And it stays refused: nothing that follows is taken for a message.
      expect(() => framer.push(message(9, 1), onMessage)).toThrow(refused)
      expect(() => framer.resume(onMessage)).toThrow(refused)
      expect(got).toEqual([7])
      expect(framer.waitingBytes).toBe(0)
    }
  })

  it('takes an msize that the receiver sets in the middle of a chunk, from the next message on', () => {
    const framer = new MessageFramer(100)
    const got: number[] = []
    const stream = Buffer.concat([message(100, 1), message(500, 2), message(50, 3), message(51, 4)])
    const run = (): void =>
      framer.push(stream, ({ length }) => {
        got.push(length)
        framer.msize = got.length === 1 ? 500 : 50
      })
    expect(run).toThrow(WireError)
    expect(got).toEqual([100, 500, 50])
  })

  it('holds memory for what arrived, not for what was claimed', () => {
    const framers = Array.from({ length: 200 }, () => new MessageFramer(1024 * 1024))
    const head = message(1024 * 1024, 1).subarray(0, 10)
    const before = process.memoryUsage().arrayBuffers
    for (const framer of framers) framer.push(Buffer.from(head), () => undefined)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(200 * 70 * 1024)
    expect(framers.every((framer) => framer.waitingBytes === 10)).toBe(true)
  })

  it('takes no more when the receiver throws, and gives each message once', () => {
    const framer = new MessageFramer(100)
    const got: number[] = []
    const stream = Buffer.concat([message(10, 1), message(11, 2), message(12, 3)])
    const failing = ({ length }: Buffer): void => {
      got.push(length)
      if (length === 11) throw new Error('receiver')
    }
    expect(() => framer.push(stream, failing)).toThrow('receiver')
    framer.resume(failing)
    expect(got).toEqual([10, 11, 12])
  })

  it('lets the receiver push and resume itself', () => {
    const framer = new MessageFramer(100)
    const got: number[] = []
    const onMessage = ({ length }: Buffer): void => {
      got.push(length)
      if (length === 10) framer.push(message(12, 3), onMessage)
    }
    framer.push(Buffer.concat([message(10, 1), message(11, 2)]), onMessage)
    expect(got).toEqual([10, 11, 12])
  })
})
