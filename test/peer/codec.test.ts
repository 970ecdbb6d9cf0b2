/** Items come out of a packet as they went in, and nothing else comes out of anything else. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bytesKey, Reader, WireError } from '../../proto/protobuf.ts'
import type { PeerItem, PeerMessage } from '../../raft/driver/ports.ts'
import type { Entry } from '../../raft/model.ts'
import { itemKind, PacketWriter } from '../../services/peer/codec.ts'
import { readItems } from '../../services/peer/decode.ts'

const from = 'n1.a'
const to = 'n2.b'

type Seen = PeerItem | { readonly request: [number, number, number, string, string] } | { readonly answer: [number, string] }

/** All that a packet holds, as gRPC carries it. @throws WireError */
function decode(packet: Buffer): Seen[] {
  const seen: Seen[] = []
  const reader = new Reader(packet, 5)
  for (let key = reader.next(); key !== 0; key = reader.next()) {
    if (key !== bytesKey(4)) throw new WireError('not items')
    const outer = reader.enter()
    readItems(reader, from, to, {
      item: (item) => seen.push(item),
      request: (id, group, timeLeft, verb, body) => seen.push({ request: [id, group, timeLeft, verb, body.toString('hex')] }),
      answer: (id, body) => seen.push({ answer: [id, body.toString('hex')] }),
      failure: (id, body) => seen.push({ answer: [id, body.toString('hex')] }),
    })
    reader.leave(outer)
  }
  return seen
}

const count = fc.oneof(fc.nat(300), fc.maxSafeNat(), fc.nat(2 ** 32 - 1))
const ids = fc.array(fc.string({ unit: 'binary', maxLength: 20 }), { maxLength: 5 })
const configuration = fc.record({ voters: ids, outgoing: ids, learners: ids, demoted: ids })
const bytes = fc.uint8Array({ maxLength: 300 })

interface Slot {
  readonly back: number
  readonly data: Uint8Array | null
  readonly configuration: Entry['configuration']
}
const slot: fc.Arbitrary<Slot> = fc.record({
  back: fc.nat(3),
  data: fc.option(bytes),
  configuration: fc.constant(null),
})
const slots = fc.array(
  fc.oneof(
    slot,
    configuration.map((made): Slot => ({ back: 0, data: null, configuration: made })),
  ),
  { maxLength: 10 },
)
const append = fc
  .record({ term: fc.integer({ min: 3, max: 2 ** 53 - 1 }), prevIndex: fc.nat(2 ** 52), prevTerm: count, commit: count, slots })
  .map(({ slots: made, ...fields }): PeerMessage => ({
    kind: 'append',
    from,
    to,
    ...fields,
    entries: made.map(({ back, ...rest }, i) => ({ index: fields.prevIndex + 1 + i, term: fields.term - back, ...rest })),
  }))
const others = fc
  .record({ term: count, a: count, b: count, c: count, is: fc.boolean() })
  .chain(({ term, a, b, c, is }): fc.Arbitrary<PeerMessage> => {
    const head = { from, to, term }
    return fc.constantFrom<PeerMessage>(
      { ...head, kind: 'pre_vote', lastIndex: a, lastTerm: b },
      { ...head, kind: 'vote', lastIndex: a, lastTerm: b, transfer: is },
      { ...head, kind: 'pre_vote_reply', granted: is },
      { ...head, kind: 'vote_reply', granted: is },
      { ...head, kind: 'accepted', match: a },
      { ...head, kind: 'rejected', prevIndex: a, hintIndex: b, hintTerm: c },
      { ...head, kind: 'heartbeat', commit: a, round: b },
      { ...head, kind: 'heartbeat_reply', round: a },
      { ...head, kind: 'commit', commit: a },
      { ...head, kind: 'timeout_now' },
      { ...head, kind: 'read', incarnation: a, read: b },
      { ...head, kind: 'read_reply', incarnation: a, read: b, index: c },
      { ...head, kind: 'stale' },
    )
  })
const anItem: fc.Arbitrary<PeerItem> = fc.oneof(
  fc.tuple(count, fc.oneof(append, others)).map(([group, message]): PeerItem => ({ kind: 'raft', group, message })),
  fc.record({ kind: fc.constant('quiesce' as const), group: count, life: count, term: count, index: count }),
  fc.record({ kind: fc.constant('awake' as const), group: count }),
  fc.record({ kind: fc.constant('beat' as const), life: count }),
)

/** With bytes as plain arrays, so that views equal what they are views of. */
function plain(item: unknown): unknown {
  if (item instanceof Uint8Array) return Array.from(item)
  if (Array.isArray(item)) return item.map(plain)
  if (typeof item !== 'object' || item === null) return item
  return Object.fromEntries(Object.entries(item).map(([name, field]) => [name, plain(field)]))
}

describe('packets of peers', () => {
  it('give back every kind of item', () => {
    fc.assert(
      fc.property(fc.array(anItem, { minLength: 1, maxLength: 12 }), (items) => {
        const writer = new PacketWriter()
        for (const item of items) writer.item(item)
        const length = writer.length
        const packet = writer.take()
        expect(packet.length).toBe(length)
        expect(packet.readUInt32BE(1)).toBe(packet.length - 5)
        expect(plain(decode(packet))).toEqual(plain(items))
      }),
      { numRuns: 500 },
    )
  })

  it('give back requests and answers, one packet after the other', () => {
    const writer = new PacketWriter()
    for (let round = 0; round < 3; round++) {
      writer.request(round + 1, 7, 250, 'propose', Buffer.alloc(50_000, round))
      writer.answer(itemKind.answer, 9, Buffer.from('yes'))
      writer.answer(itemKind.failure, 10, Buffer.from('no'))
      const body = Buffer.alloc(50_000, round).toString('hex')
      const hexOf = (text: string): string => Buffer.from(text).toString('hex')
      expect(decode(writer.take())).toEqual([
        { request: [round + 1, 7, 250, 'propose', body] },
        { answer: [9, hexOf('yes')] },
        { answer: [10, hexOf('no')] },
      ])
    }
  })

  it('leave out what cannot be carried, and keep what was there', () => {
    const writer = new PacketWriter()
    writer.item({ kind: 'beat', life: 1 })
    const before = writer.length
    expect(() => writer.item({ kind: 'beat', life: -1 })).toThrow(expect.objectContaining({ kind: 'invalid' }) as Error)
    expect(() => writer.item({ kind: 'quiesce', group: 1, life: 2, term: 2, index: 0.5 })).toThrow()
    const gap: PeerMessage = {
      kind: 'append',
      from,
      to,
      term: 1,
      prevIndex: 4,
      prevTerm: 1,
      commit: 0,
      entries: [{ index: 6, term: 1, data: null, configuration: null }],
    }
    expect(() => writer.item({ kind: 'raft', group: 1, message: gap })).toThrow()
    expect(writer.length).toBe(before)
    expect(decode(writer.take())).toEqual([{ kind: 'beat', life: 1 }])
    expect(() => writer.item({ kind: 'beat', life: NaN })).toThrow()
    expect(writer.length).toBe(0)
  })

  it('an append that goes to several peers is the same for each, whatever stands around it, and another one is another', () => {
    const entries = [1, 2, 3].map((index) => ({ index, term: 1, data: Buffer.alloc(300, index), configuration: null }))
    const append = (fields: object): PeerItem => {
      const message: PeerMessage = { kind: 'append', from, to, term: 1, prevIndex: 0, prevTerm: 0, commit: 0, entries, ...fields }
      return { kind: 'raft', group: 1, message }
    }
    const first = new PacketWriter()
    const second = new PacketWriter()
    const beat: PeerItem = { kind: 'beat', life: 7 }
    second.item(beat)
    for (const writer of [first, second]) writer.item(append({}))
    for (const writer of [first, second]) writer.item(beat)
    expect(decode(first.take())).toEqual([append({}), beat])
    expect(decode(second.take())).toEqual([beat, append({}), beat])
    const others = [append({ commit: 3 }), append({ prevTerm: 1 }), append({ term: 2 }), { ...append({}), group: 2 } as PeerItem]
    for (const other of others) for (const writer of [first, second]) writer.item(other)
    expect(decode(first.take())).toEqual(others)
    expect(decode(second.take())).toEqual(others)
  })

  it('an append that was taken back, and written over, is not copied', () => {
    const entries = [{ index: 1, term: 1, data: Buffer.alloc(300, 1), configuration: null }]
    const message: PeerMessage = { kind: 'append', from, to, term: 1, prevIndex: 0, prevTerm: 0, commit: 0, entries }
    const first = new PacketWriter()
    first.item({ kind: 'beat', life: 1 })
    const before = first.length
    first.item({ kind: 'raft', group: 1, message })
    first.backTo(before)
    for (let life = 0; life < 200; life++) first.item({ kind: 'beat', life })
    const second = new PacketWriter()
    second.item({ kind: 'raft', group: 1, message })
    expect(decode(second.take())).toEqual([{ kind: 'raft', group: 1, message }])
  })

  it('bytes that were taken are not touched again', () => {
    const writer = new PacketWriter()
    const packets: [Buffer, string][] = []
    for (let life = 0; life < 5_000; life++) {
      writer.item({ kind: 'beat', life })
      const packet = writer.take()
      packets.push([packet, packet.toString('hex')])
    }
    for (const [packet, was] of packets) expect(packet.toString('hex')).toBe(was)
  })

  it('any bytes give items or a WireError', () => {
    const damaged = fc.tuple(
      fc.array(anItem, { minLength: 1, maxLength: 4 }),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }),
      fc.nat(),
    )
    fc.assert(
      fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 200 })), (made) => {
        let packet: Buffer
        if (made instanceof Uint8Array) {
          packet = Buffer.concat([Buffer.alloc(5), Buffer.of(0x22, made.length % 128), made.subarray(0, made.length % 128)])
        } else {
          const [items, changes, cut] = made
          const writer = new PacketWriter()
          for (const item of items) writer.item(item)
          packet = Buffer.from(writer.take())
          for (const [at, byte] of changes) packet[5 + (at % (packet.length - 5))] = byte
          packet = packet.subarray(0, 5 + (cut % packet.length))
        }
        try {
          decode(packet)
        } catch (error) {
          expect(error).toBeInstanceOf(WireError)
        }
      }),
      { numRuns: 3_000 },
    )
  })

  it('a list that claims more than there is allocates nothing', () => {
    // append of group 1, term 1, prevIndex 0, prevTerm 0, commit 0, then 2^40 entries
    const items = Buffer.from([1, 1, 1, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20])
    const packet = Buffer.concat([Buffer.alloc(5), Buffer.of(0x22, items.length), items])
    expect(() => decode(packet)).toThrow(/longer than its packet/)
  })
})
