/** The 9P codec: the bytes of the manuals, and every message of both dialects back as it went in. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeAnswer, decodeRequest, tagOf } from '../../proto/ninep/decode.ts'
import { MessageWriter } from '../../proto/ninep/encode.ts'
import { messageType, noUid, untouched64, type Answer, type Dialect, type Request } from '../../proto/ninep/messages.ts'
import { decodeDirents, decodeStats, DirentWriter, encodedStatBytes, encodeStat, foldPath } from '../../proto/ninep/records.ts'
import { WireError } from '../../proto/protobuf.ts'
import { anyAnswer, anyDirent, anyRequest, anyStat, encode, seed } from './arbitraries.ts'
import { answers, requests, stat, statHex } from './golden.ts'

const dialects: readonly Dialect[] = ['9P2000', '9P2000.L']

function fromHex(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(' ', ''), 'hex')
}

describe('9P messages are the bytes of the manuals', () => {
  for (const [spokenIn, message, hex] of requests) {
    it.each(spokenIn)(`${message.type}: ${hex.slice(0, 60)}, %s`, (dialect) => {
      expect(encode(message, dialect).toString('hex')).toBe(hex.replaceAll(' ', ''))
      expect(decodeRequest(fromHex(hex), dialect)).toEqual(message)
      expect(tagOf(fromHex(hex))).toBe(message.tag)
    })
  }

  for (const [spokenIn, message, hex] of answers) {
    it.each(spokenIn)(`${message.type}: ${hex.slice(0, 60)}, %s`, (dialect) => {
      expect(encode(message, dialect).toString('hex')).toBe(hex.replaceAll(' ', ''))
      expect(decodeAnswer(fromHex(hex), dialect)).toEqual(message)
    })
  }

  it('of each type, in both directions', () => {
    const never = ['Tlerror', 'Terror']
    const names = Object.keys(messageType)
    expect(new Set(requests.map(([, { type }]) => type))).toEqual(new Set(names.filter((name) => !never.includes(name))))
    expect(new Set(answers.map(([, { type }]) => type))).toEqual(new Set(names.map((name) => `R${name.slice(1)}`)))
  })

  it('and so are the entries of directories', () => {
    // The first two entries of a listing that the page of diod shows from a real server.
    const listing = fromHex(
      '80 00000000 ac1f2c0000000000 0100000000000000 04 0100 2e' + '80 00000000 ffff250000000000 2658ea0000000000 04 0200 2e2e',
    )
    const entries = [
      { qid: { type: 0x80, version: 0, path: 0x2c1fac }, offset: 1n, type: 4, name: '.' },
      { qid: { type: 0x80, version: 0, path: 0x25ffff }, offset: 0xea5826n, type: 4, name: '..' },
    ]
    expect(decodeDirents(listing)).toEqual(entries)
    const writer = new DirentWriter(listing.length)
    expect(entries.map((entry) => writer.add(entry))).toEqual([true, true])
    expect(writer.bytes().equals(listing)).toBe(true)

    expect(encodeStat(stat).equals(fromHex(statHex))).toBe(true)
    expect(decodeStats(fromHex(statHex + statHex))).toEqual([stat, stat])
  })

  it('of clients that leave a field out, or have one more', () => {
    expect(decodeRequest(fromHex('0b000000 32 0b0a 04030201'), '9P2000.L')).toMatchObject({ type: 'Tfsync', datasync: 0 })
    const auth = '16000000 66 0b0a 04030201 0100 75 0200 6162 e8030000'
    expect(decodeRequest(fromHex(auth), '9P2000')).toMatchObject({ type: 'Tauth', aname: 'ab', nUname: 1000 })
    const attach = '19000000 68 0b0a 04030201 ffffffff 0100 75 0100 61 e8030000'
    expect(decodeRequest(fromHex(attach), '9P2000')).toMatchObject({ type: 'Tattach', aname: 'a', nUname: 1000 })
    expect(decodeRequest(fromHex('15000000 68 0b0a 04030201 ffffffff 0100 75 0100 61'), '9P2000')).toMatchObject({ nUname: noUid })
    for (const extra of ['ff', 'ffff', 'ffffff', 'ffffffffff']) {
      const size = (0x15 + extra.length / 2).toString(16)
      const message = fromHex(`${size}000000 68 0b0a 04030201 ffffffff 0100 75 0100 61 ${extra}`)
      expect(() => decodeRequest(message, '9P2000')).toThrow(WireError)
    }
  })
})

describe(`9P messages come back as they went in, NINE_TEST_SEED=${seed}`, () => {
  it.each(dialects)('requests of %s', (dialect) => {
    fc.assert(
      fc.property(anyRequest[dialect], (message) => {
        expect(decodeRequest(encode(message, dialect), dialect)).toEqual(message)
      }),
      { numRuns: 2_000, seed },
    )
  })

  it.each(dialects)('answers of %s', (dialect) => {
    fc.assert(
      fc.property(anyAnswer[dialect], (message) => {
        expect(decodeAnswer(encode(message, dialect), dialect)).toEqual(message)
      }),
      { numRuns: 2_000, seed },
    )
  })

  it('stats and directory entries', () => {
    fc.assert(
      fc.property(fc.array(anyStat), fc.array(anyDirent), (stats, entries) => {
        for (const each of stats) expect(encodeStat(each).length).toBe(encodedStatBytes(each))
        expect(decodeStats(Buffer.concat(stats.map(encodeStat)))).toEqual(stats)
        const writer = new DirentWriter(1024 * 1024)
        for (const entry of entries) expect(writer.add(entry)).toBe(true)
        expect(decodeDirents(writer.bytes())).toEqual(entries)
      }),
      { numRuns: 200, seed },
    )
  })

  it('written one behind the other, taken at any time, and never touched after that', () => {
    const anyBatch = fc.array(fc.tuple(fc.oneof(anyRequest['9P2000.L'], anyAnswer['9P2000.L']), fc.boolean()), { maxLength: 60 })
    fc.assert(
      fc.property(anyBatch, (batch) => {
        const writers = [new MessageWriter('9P2000.L'), new MessageWriter('9P2000.L')] as const
        const taken: Buffer[] = []
        const copies: Buffer[] = []
        let waiting = 0
        for (const [index, [message, takes]] of batch.entries()) {
          writers[0].write(message)
          writers[1].write({ tag: index, type: 'Tclunk', fid: index })
          waiting += encode(message, '9P2000.L').length
          expect(writers[0].length).toBe(waiting)
          if (!takes) continue
          for (const part of writers[0].take()) {
            taken.push(part)
            copies.push(Buffer.from(part))
          }
          writers[1].take()
          waiting = 0
        }
        taken.push(...writers[0].take())
        expect(writers[0].length).toBe(0)
        for (const [index, copy] of copies.entries()) expect(taken[index]!.equals(copy)).toBe(true)
        const whole = Buffer.concat(batch.map(([message]) => encode(message, '9P2000.L')))
        expect(Buffer.concat(taken).equals(whole)).toBe(true)
      }),
      { numRuns: 200, seed },
    )
  })
})

describe('a 9P writer', () => {
  it('puts long data out from where it is, short data as a copy', () => {
    for (const type of ['Rread', 'Rreaddir', 'Twrite'] as const) {
      const long = Buffer.alloc(8 * 1024, 1)
      const short = Buffer.alloc(8 * 1024 - 1, 2)
      const writer = new MessageWriter('9P2000.L')
      for (const data of [short, long]) {
        writer.write(type === 'Twrite' ? { tag: 1, type, fid: 1, offset: 0, data } : { tag: 1, type, data })
      }
      const parts = writer.take()
      expect(parts.map((part) => part.buffer === long.buffer && part.byteOffset === long.byteOffset)).toEqual([false, true])
    }
  })

  it('leaves nothing of a message whose values cannot be carried', () => {
    const writer = new MessageWriter('9P2000.L')
    const wrong: [Request | Answer, 'invalid' | 'too_large'][] = [
      [{ tag: 1, type: 'Tversion', msize: 1, version: 'x'.repeat(65_536) }, 'too_large'],
      [{ tag: 1, type: 'Twalk', fid: 1, newFid: 2, names: ['a', 'é'.repeat(32_768)] }, 'too_large'],
      [{ tag: 1, type: 'Twalk', fid: 1, newFid: 2, names: new Array<string>(17).fill('a') }, 'invalid'],
      [{ tag: 1, type: 'Twalk', fid: 1, newFid: 2, names: ['a', 'a\0b'] }, 'invalid'],
      [{ tag: 1, type: 'Rreadlink', target: `${'x'.repeat(200)}\0` }, 'invalid'],
      [{ tag: 0x1_0000, type: 'Tclunk', fid: 1 }, 'invalid'],
      [{ tag: 1, type: 'Tclunk', fid: -1 }, 'invalid'],
      [{ tag: 1, type: 'Tclunk', fid: 2 ** 32 }, 'invalid'],
      [{ tag: 1, type: 'Tread', fid: 1, offset: -1, count: 1 }, 'invalid'],
      [{ tag: 1, type: 'Tread', fid: 1, offset: 1.5, count: 1 }, 'invalid'],
      [{ tag: 1, type: 'Tread', fid: 1, offset: Number.NaN, count: 1 }, 'invalid'],
      [{ tag: 1, type: 'Twrite', fid: 1, offset: 2 ** 65, data: Buffer.alloc(20_000) }, 'invalid'],
      [{ tag: 1, type: 'Treaddir', fid: 1, offset: -1n, count: 1 }, 'invalid'],
      [{ tag: 1, type: 'Rlock', status: 256 }, 'invalid'],
      [{ tag: 1, type: 'Rerror', ename: 'of the other dialect' }, 'invalid'],
      [{ tag: 1, type: 'Tstat', fid: 1 }, 'invalid'],
    ]
    for (const [message, kind] of wrong) {
      writer.write({ tag: 2, type: 'Tclunk', fid: 3 })
      expect(() => writer.write(message)).toThrow(expect.objectContaining({ name: 'WireError', kind }))
      expect(writer.length).toBe(11)
      writer.write({ tag: 2, type: 'Tclunk', fid: 3 })
      expect(Buffer.concat(writer.take()).toString('hex')).toBe(('0b000000' + '78' + '0200' + '03000000').repeat(2))
    }
    writer.dialect = '9P2000'
    const large = { ...stat, name: 'x'.repeat(40_000), uid: 'y'.repeat(40_000) }
    expect(() => writer.write({ tag: 1, type: 'Rstat', stat: large })).toThrow(expect.objectContaining({ kind: 'too_large' }))
    expect(writer.length).toBe(0)
  })

  it('carries texts of 65,535 bytes', () => {
    const target = `${'é'.repeat(32_767)}x`
    expect(decodeAnswer(encode({ tag: 1, type: 'Rreadlink', target }, '9P2000.L'), '9P2000.L')).toMatchObject({ target })
  })
})

describe('directory entries', () => {
  it('go in whole or not at all, as many as fit in the count', () => {
    const entry = { qid: { type: 0, version: 0, path: 1 }, offset: 7n, type: 8, name: 'abc' } // 27 bytes
    for (const [count, fit] of [
      [0, 0],
      [26, 0],
      [27, 1],
      [53, 1],
      [54, 2],
    ] as const) {
      const writer = new DirentWriter(count)
      let added = 0
      while (writer.add(entry)) added++
      expect(added).toBe(fit)
      expect(decodeDirents(writer.bytes())).toEqual(new Array(fit).fill(entry))
    }
    const writer = new DirentWriter(200)
    expect(writer.add(entry)).toBe(true)
    expect(() => writer.add({ ...entry, name: 'a\0b' })).toThrow(WireError)
    expect(() => writer.add({ ...entry, offset: 2n ** 64n })).toThrow(WireError)
    expect(decodeDirents(writer.bytes())).toEqual([entry])
  })

  it('of 1 MiB fill the count but for less than one entry', () => {
    const writer = new DirentWriter(1024 * 1024)
    let added = 0
    while (writer.add({ qid: { type: 0, version: 0, path: added }, offset: BigInt(added + 1), type: 8, name: `file-${added}` })) added++
    expect(1024 * 1024 - writer.bytes().length).toBeLessThan(24 + 10)
    expect(decodeDirents(writer.bytes()).map(({ name }) => name)).toEqual(Array.from({ length: added }, (_, index) => `file-${index}`))
  })

  it('whose names are no text have none, and the others are read', () => {
    const listing = fromHex(
      '00 00000000 0100000000000000 0100000000000000 08 0200 61ff' +
        '00 00000000 0200000000000000 0200000000000000 08 0300 610062' +
        '00 00000000 0300000000000000 0300000000000000 08 0100 61',
    )
    expect(decodeDirents(listing).map(({ name, offset }) => [name, offset])).toEqual([
      ['', 1n],
      ['', 2n],
      ['a', 3n],
    ])
    const stats = fromHex(statHex.replace('0100 6e', '0100 ff'))
    expect(decodeStats(stats)).toEqual([{ ...stat, name: '' }])
  })
})

describe('numbers past 2^53', () => {
  it('of a qid are folded: small paths stay, all paths of two servers do not meet', () => {
    expect(foldPath(5, 0)).toBe(5)
    expect(foldPath(0xffff_ffff, 0x1f_ffff)).toBe(2 ** 53 - 1)
    const seen = new Set<number>()
    for (let device = 0; device < 100; device++) {
      for (let inode = 0; inode < 1_000; inode++) seen.add(foldPath(inode, 0x8000_0000 + device * 0x100_0000))
    }
    expect(seen.size).toBe(100_000)
    expect([...seen].every((path) => path >= 2 ** 52 && Number.isSafeInteger(path))).toBe(true)
  })

  it('of other fields are never mistaken for "untouched", and masks are their low half', () => {
    const read = '17000000 74 0b0a 04030201 OFFSET 10000000'
    const offsetOf = (hex: string): unknown => (decodeRequest(fromHex(read.replace('OFFSET', hex)), '9P2000') as { offset: number }).offset
    expect(offsetOf('ffffffffffffffff')).toBe(untouched64)
    expect(offsetOf('feffffffffffffff')).toBe(2 ** 64 - 2048)
    expect(offsetOf('0000000000000080')).toBe(2 ** 63)
    expect(offsetOf('0000000000002000')).toBe(2 ** 53)
    const getattr = fromHex('13000000 18 0b0a 04030201 ffffffffffffffff')
    expect(decodeRequest(getattr, '9P2000.L')).toMatchObject({ mask: 0xffff_ffff })
  })
})
