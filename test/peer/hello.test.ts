/** Who is let in, and what is spoken then: functions of two hellos. */
import { describe, expect, it } from 'vitest'
import { Writer } from '../../proto/protobuf.ts'
import { commonVersion, decodeHello, encodeHello, isProof, proofOf, refusalOf } from '../../services/peer/hello.ts'
import type { Hello } from '../../services/peer/hello.ts'

const hello: Hello = {
  versions: { min: 2, max: 3 },
  features: ['a', 'something of a later release'],
  cluster: 'c1',
  from: 'n1.a',
  to: 'n2.b',
  address: '127.0.0.1:9590',
  nonce: Buffer.alloc(32, 7),
}
const self = { member: 'n2.b', cluster: 'c1', versions: { min: 2, max: 3 } }

describe('the hello of peers', () => {
  it('speaks the highest version that both do', () => {
    expect(commonVersion({ min: 1, max: 2 }, { min: 2, max: 3 })).toBe(2)
    expect(commonVersion({ min: 1, max: 5 }, { min: 2, max: 3 })).toBe(3)
    expect(commonVersion({ min: 1, max: 1 }, { min: 2, max: 3 })).toBe(undefined)
    expect(commonVersion({ min: 4, max: 5 }, { min: 2, max: 3 })).toBe(undefined)
  })

  it('is the same after the wire, whatever a later release adds to it', () => {
    const later = new Writer()
    later.string(99, 'a field of a later release')
    later.uint(100, 5)
    expect(decodeHello(Buffer.concat([encodeHello(hello), later.takeOne()]))).toEqual(hello)
  })

  it('lacks nothing, or is no hello', () => {
    for (const missing of [{ from: '' }, { nonce: Buffer.alloc(16) }, { versions: { min: 3, max: 2 } }]) {
      expect(() => decodeHello(encodeHello({ ...hello, ...missing }))).toThrow(/lacks/)
    }
  })

  it('takes its own, and refuses others by name', () => {
    expect(refusalOf(hello, self)).toBe(undefined)
    const cases: [Partial<Hello>, Partial<typeof self>, RegExp][] = [
      [{ cluster: 'c2' }, {}, /n1\.a is of cluster c2, n2\.b of cluster c1/],
      [{ cluster: '' }, {}, /n1\.a is of cluster \(none\), n2\.b of cluster c1/],
      [{}, { cluster: '' }, /n2\.b is starting; n1\.a is in cluster c1/],
      [{ to: 'n2.old' }, {}, /n1\.a means n2\.old, but n2\.b is here/],
      [{ from: 'n2.b' }, {}, /dialled itself/],
      [{ versions: { min: 4, max: 4 } }, {}, /n1\.a speaks versions 4 only, n2\.b 2 to 3/],
    ]
    for (const [theirs, ours, text] of cases) expect(refusalOf({ ...hello, ...theirs }, { ...self, ...ours })).toMatch(text)
  })

  it('proves knowledge of the secret for this hello, this side and this call only', () => {
    const [said, welcome] = [Buffer.from('hello'), Buffer.from('welcome')]
    const proof = proofOf('secret', 'dialler', '/call', said, welcome)
    expect(isProof(proofOf('secret', 'dialler', '/call', said, welcome), proof)).toBe(true)
    for (const other of [
      proofOf('Secret', 'dialler', '/call', said, welcome),
      proofOf('secret', 'listener', '/call', said, welcome),
      proofOf('secret', 'dialler', '/other', said, welcome),
      proofOf('secret', 'dialler', '/call', Buffer.from('hellow'), Buffer.from('elcome')),
      Buffer.alloc(0),
      undefined,
    ]) {
      expect(isProof(other, proof)).toBe(false)
    }
  })
})
