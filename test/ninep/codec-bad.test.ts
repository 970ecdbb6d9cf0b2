/** The 9P codec on bytes that are no messages: a WireError and nothing else, whatever is cut, added, claimed or changed. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeAnswer, decodeRequest, tagOf, UnknownMessage } from '../../proto/ninep/decode.ts'
import { messageType, type Dialect } from '../../proto/ninep/messages.ts'
import { decodeDirents, decodeStats, encodeStat } from '../../proto/ninep/records.ts'
import { WireError } from '../../proto/protobuf.ts'
import { anyAnswer, anyRequest, encode, seed } from './arbitraries.ts'
import { answers, requests, stat } from './golden.ts'

const dialects: readonly Dialect[] = ['9P2000', '9P2000.L']

interface Sample {
  readonly name: string
  readonly dialect: Dialect
  readonly bytes: Buffer
  readonly decode: (message: Buffer, dialect: Dialect) => object
}

const samples: readonly Sample[] = [
  ...requests.flatMap(([spokenIn, message, hex]) => spokenIn.map((dialect) => sample(message.type, dialect, hex, decodeRequest))),
  ...answers.flatMap(([spokenIn, message, hex]) => spokenIn.map((dialect) => sample(message.type, dialect, hex, decodeAnswer))),
]

function sample(name: string, dialect: Dialect, hex: string, decode: Sample['decode']): Sample {
  return { name, dialect, bytes: Buffer.from(hex.replaceAll(' ', ''), 'hex'), decode }
}

/** What decoding throws; undefined where the bytes are a message. */
function failureOf(run: () => unknown): Error | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    return error as Error
  }
}

function resized(message: Buffer): Buffer {
  const copy = Buffer.from(message)
  if (copy.length >= 4) copy.writeUInt32LE(copy.length, 0)
  return copy
}

/** Messages that are still one when their last four bytes are missing, or when four follow. */
function takesFour(name: string, dialect: Dialect): boolean {
  return name === 'Tfsync' || (dialect === '9P2000' && (name === 'Tauth' || name === 'Tattach'))
}

describe('a 9P message', () => {
  it('cut at any byte is malformed, whether its size tells so or not', () => {
    let cuts = 0
    for (const { name, dialect, bytes, decode } of samples) {
      for (let length = 0; length < bytes.length; length++) {
        const cut = bytes.subarray(0, length)
        expect(
          failureOf(() => decode(cut, dialect)),
          `${name} cut to ${length}`,
        ).toBeInstanceOf(WireError)
        if (name === 'Tfsync' && length === bytes.length - 4) continue
        expect(
          failureOf(() => decode(resized(cut), dialect)),
          `${name} cut to ${length}`,
        ).toBeInstanceOf(WireError)
        cuts++
      }
    }
    expect(cuts).toBeGreaterThan(1_500)
  })

  it('with bytes behind its last field is malformed', () => {
    for (const { name, dialect, bytes, decode } of samples) {
      for (const extra of [1, 2, 3, 4, 5, 100]) {
        const longer = Buffer.concat([bytes, Buffer.alloc(extra)])
        expect(
          failureOf(() => decode(longer, dialect)),
          name,
        ).toBeInstanceOf(WireError)
        if (extra === 4 && takesFour(name, dialect) && name !== 'Tfsync') continue
        expect(
          failureOf(() => decode(resized(longer), dialect)),
          `${name} and ${extra} bytes`,
        ).toBeInstanceOf(WireError)
      }
    }
  })

  it('is not read past its end where it stands in a larger chunk', () => {
    for (const { name, dialect, bytes, decode } of samples) {
      const chunk = Buffer.concat([Buffer.alloc(5, 0xaa), bytes, Buffer.alloc(300, 0)])
      for (let length = 0; length < bytes.length; length++) {
        const cut = resized(bytes.subarray(0, length))
        cut.copy(chunk, 5)
        if (name === 'Tfsync' && length === bytes.length - 4) continue
        expect(
          failureOf(() => decode(chunk.subarray(5, 5 + length), dialect)),
          name,
        ).toBeInstanceOf(WireError)
        bytes.copy(chunk, 5)
      }
    }
  })

  it('whose counts lie is malformed, and nothing is allocated for them', () => {
    const lies = [
      '6e 0b0a 04030201 05000000 ffff 0100 61', // Twalk of 65,535 names
      '6e 0b0a 04030201 05000000 0200 0100 61', // of two, with one
      '6e 0b0a 04030201 05000000 0100 ffff 61', // whose name has 65,535 bytes
      `6e 0b0a 04030201 05000000 1100 ${'0100 61'.repeat(17)}`, // of 17 names, all there
      '76 0b0a 04030201 0000000000000000 ffffffff 61', // Twrite of 4 GiB
      '76 0b0a 04030201 0000000000000000 02000000 61',
      '76 0b0a 04030201 0000000000000000 00000000 61',
      '7e 0b0a 04030201 3100 3000', // Twstat
    ]
    const before = process.memoryUsage().arrayBuffers
    for (const hex of lies) {
      const message = resized(Buffer.from(`00000000${hex.replaceAll(' ', '')}`, 'hex'))
      expect(
        failureOf(() => decodeRequest(message, '9P2000')),
        hex,
      ).toBeInstanceOf(WireError)
    }
    const answersThatLie = ['75 0b0a ffffffff 61', '75 0b0a 7fffffff', `6f 0b0a 1100 ${'00'.repeat(13 * 17)}`, '6f 0b0a ffff']
    for (const hex of answersThatLie) {
      const message = resized(Buffer.from(`00000000${hex.replaceAll(' ', '')}`, 'hex'))
      expect(
        failureOf(() => decodeAnswer(message, '9P2000')),
        hex,
      ).toBeInstanceOf(WireError)
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024)
  })

  it('whose stat has two sizes that differ is malformed', () => {
    const rows = samples.filter(({ name, bytes }) => (name === 'Twstat' || name === 'Rstat') && bytes.length > 60)
    expect(rows.length).toBe(3)
    for (const { name, bytes, dialect, decode } of rows) {
      const at = name === 'Twstat' ? 11 : 7
      for (const place of [at, at + 2]) {
        for (const difference of [-1, 1, 2]) {
          const wrong = Buffer.from(bytes)
          wrong.writeUInt16LE(wrong.readUInt16LE(place) + difference, place)
          expect(failureOf(() => decode(wrong, dialect))).toBeInstanceOf(WireError)
        }
      }
    }
  })

  it('whose stat has bytes behind its last text is malformed, and so is a directory of such', () => {
    const longer = Buffer.concat([encodeStat(stat), encodeStat(stat)])
    longer.writeUInt16LE(longer.length - 2, 0)
    expect(failureOf(() => decodeStats(longer))).toBeInstanceOf(WireError)
    const message = resized(Buffer.concat([Buffer.from([0, 0, 0, 0, 125, 1, 0, longer.length, 0]), longer]))
    expect(failureOf(() => decodeAnswer(message, '9P2000'))).toBeInstanceOf(WireError)
  })

  it('whose text is not UTF-8 or has a NUL is malformed', () => {
    for (const hex of ['ff', 'c0af', 'eda080', 'f4908080', 'c3', '6100', '00']) {
      const bytes = hex.length / 2
      const message = resized(Buffer.from(`000000006e0b0a04030201050000000100${bytes.toString(16).padStart(2, '0')}00${hex}`, 'hex'))
      expect(
        failureOf(() => decodeRequest(message, '9P2000')),
        hex,
      ).toBeInstanceOf(WireError)
      const answer = resized(Buffer.from(`00000000170b0a${bytes.toString(16).padStart(2, '0')}00${hex}`, 'hex'))
      expect(
        failureOf(() => decodeAnswer(answer, '9P2000.L')),
        hex,
      ).toBeInstanceOf(WireError)
    }
  })

  it('of a type that the dialect does not have is told apart, with its tag', () => {
    const known = { requests: new Set<string>(), answers: new Set<string>() }
    for (const [spokenIn, { type }] of requests) for (const dialect of spokenIn) known.requests.add(`${dialect} ${type}`)
    for (const [spokenIn, { type }] of answers) for (const dialect of spokenIn) known.answers.add(`${dialect} ${type}`)
    const names = new Map<number, string>(Object.entries(messageType).map(([name, number]) => [number, name]))
    for (const dialect of dialects) {
      for (let number = 0; number < 256; number++) {
        const message = Buffer.from([7, 0, 0, 0, number, 0x0b, 0x0a])
        const request = failureOf(() => decodeRequest(message, dialect))
        const answer = failureOf(() => decodeAnswer(message, dialect))
        const requestKnown = known.requests.has(`${dialect} ${names.get(number)}`)
        const answerKnown = known.answers.has(`${dialect} ${names.get(number - 1)?.replace('T', 'R')}`)
        expect(request instanceof UnknownMessage, `${dialect} request ${number}`).toBe(!requestKnown)
        expect(answer instanceof UnknownMessage, `${dialect} answer ${number}`).toBe(!answerKnown)
        if (request instanceof UnknownMessage) expect(request).toMatchObject({ name: 'WireError', kind: 'invalid', messageType: number })
        expect(tagOf(message)).toBe(0x0a0b)
      }
    }
    expect(() => tagOf(Buffer.alloc(6))).toThrow(WireError)
  })
})

describe(`any bytes, NINE_TEST_SEED=${seed}`, () => {
  const change = fc.record({
    at: fc.nat(),
    byte: fc.oneof(fc.nat({ max: 255 }), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
    length: fc.nat(),
  })

  it.each(dialects)('that were a message of %s are one, or a WireError', (dialect) => {
    const anyMessage = fc.oneof(anyRequest[dialect], anyAnswer[dialect])
    let survived = 0
    fc.assert(
      fc.property(anyMessage, fc.array(change, { minLength: 1, maxLength: 6 }), fc.boolean(), (message, changes, keepsSize) => {
        let bytes = encode(message, dialect)
        for (const { at, byte, length } of changes) {
          bytes[at % bytes.length] = byte
          if (length % 8 === 0) bytes = Buffer.concat([bytes, Buffer.alloc(length % 50, byte)])
          if (length % 8 === 1) bytes = Buffer.from(bytes.subarray(0, Math.max(1, length % bytes.length)))
        }
        if (keepsSize) bytes = resized(bytes)
        for (const decode of [decodeRequest, decodeAnswer]) {
          for (const as of dialects) {
            const failure = failureOf(() => decode(bytes, as))
            if (failure === undefined) survived++
            else if (!(failure instanceof WireError)) throw failure
          }
        }
      }),
      { numRuns: 5_000, seed },
    )
    expect(survived).toBeGreaterThan(100)
  })

  it('that are a message again after a change are written as they were read', () => {
    fc.assert(
      fc.property(fc.constantFrom(...samples), fc.array(change, { minLength: 1, maxLength: 3 }), ({ bytes, dialect, decode }, changes) => {
        const changed = Buffer.from(bytes)
        for (const { at, byte } of changes) changed[7 + (at % Math.max(1, bytes.length - 7))] = byte
        let message
        try {
          message = decode(changed, dialect)
        } catch (error) {
          if (error instanceof WireError) return
          throw error
        }
        // Written and read once more, it is the same: what does not survive is only what reading folds (numbers past 2^53).
        expect(decode(encode(message as never, dialect), dialect)).toEqual(message)
      }),
      { numRuns: 5_000, seed },
    )
  })

  it('in directory reads are whole records, or a WireError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(change, { maxLength: 4 }), (noise, changes) => {
        const stats = Buffer.concat([encodeStat(stat), encodeStat(stat)])
        for (const { at, byte } of changes) stats[at % stats.length] = byte
        for (const bytes of [Buffer.from(noise), stats, stats.subarray(0, noise.length % stats.length)]) {
          for (const decode of [decodeStats, decodeDirents]) {
            const failure = failureOf(() => decode(bytes))
            if (failure !== undefined && !(failure instanceof WireError)) throw failure
          }
        }
      }),
      { numRuns: 3_000, seed },
    )
    const whole = encodeStat(stat)
    for (let length = 1; length < whole.length; length++) {
      expect(failureOf(() => decodeStats(whole.subarray(0, length)))).toBeInstanceOf(WireError)
    }
  })
})
